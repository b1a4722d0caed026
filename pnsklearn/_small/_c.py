"""Rules over columns with gaps and levels, as C: levels are numbers, what is missing is NaN."""

from typing import Any

import numpy as np

from pnsklearn._small._export import c_comment, c_file, meaning


def to_c(card: Any) -> str:
    """Return the source of ``int small_predict(const double *x)`` of a `RuleCard`."""
    terms = [term for term, coef in zip(card.terms, card.coef.T, strict=True) if coef.any()]
    columns = list(dict.fromkeys(term.column for term in terms))
    levels: dict[str, list] = {column: [] for column in columns}
    for term in terms:
        known = [level for level in (*term.levels, term.fill) if level is not None]
        if term.kind == "in":
            levels[term.column] += [x for x in known if x not in levels[term.column]]
    header = [meaning(card), "x is one row of the columns that the rules read, NaN if missing:"]
    for number, column in enumerate(columns):
        header.append(f"    x[{number}]  {c_comment(column)}")
        for code, level in enumerate(levels[column]):
            header.append(f"        {code} for {c_comment(level)}")
        if levels[column]:
            header.append("        -1 for all others")
    scores = []
    for coef, intercept in zip(card.coef, card.intercept.tolist(), strict=True):
        score = repr(intercept)
        for t in np.flatnonzero(coef):
            term = card.terms[t]
            code = _value(term, f"x[{columns.index(term.column)}]", levels[term.column])
            score += f" {'-' if coef[t] < 0 else '+'} {abs(float(coef[t]))!r} * {code}"
        scores.append(score)
    return c_file(header, scores, card.union)


def _value(term, x, levels):
    """Return the value of a term."""
    if term.kind == "missing":
        return f"({x} != {x})"
    if term.kind == "in":
        tests = [f"{x} == {levels.index(level)}" for level in term.levels if level is not None]
        if None in term.levels or (term.fill is not None and term.fill in term.levels):
            tests.append(f"{x} != {x}")
        return f"({' || '.join(tests)})"
    if term.fill is not None:
        x = f"({x} == {x} ? {x} : {float(term.fill)!r})"
    return x if term.kind == "number" else f"({x} > {term.threshold!r})"
