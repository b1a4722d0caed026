"""Rules as an SQL expression, in the words of several databases.

Numbers are written so that sums are in double precision: in a decimal type they would be rounded
in another way, and where a column is a truth value it is no number.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Dialect:
    """How a database writes names, numbers, truth values and back slashes in texts."""

    quote: str
    number: str
    true: str
    false: str
    escapes: bool = False

    def name(self, text: str) -> str:
        """Return the name of a column."""
        return self.quote + text.replace(self.quote, 2 * self.quote) + self.quote

    def double(self, value: float) -> str:
        """Return a number in double precision."""
        text = repr(float(value))
        return self.number.format(text if "e" in text else f"{text}e0")

    def literal(self, value: Any) -> str:
        """Return a label or level."""
        if isinstance(value, str):
            text = value.replace("\\", "\\\\") if self.escapes else value
            return "'" + text.replace("'", "''") + "'"
        if isinstance(value, bool):
            return self.true if value else self.false
        return repr(value)


DIALECTS = {
    "sqlite": Dialect('"', "{}", "1", "0"),
    "duckdb": Dialect('"', "{}", "TRUE", "FALSE"),
    "postgresql": Dialect('"', "CAST('{}' AS DOUBLE PRECISION)", "TRUE", "FALSE"),
    "mysql": Dialect("`", "{}", "TRUE", "FALSE", escapes=True),
}


def expression(card: Any, dialect: str, booleans: set[str]) -> str:
    """Return the expression whose value is the label that the card predicts.

    Raises
    ------
    ValueError
        If the dialect is unknown.
    """
    if dialect not in DIALECTS:
        raise ValueError(f"dialect must be one of {sorted(DIALECTS)}; got {dialect!r}.")
    sql = DIALECTS[dialect]
    codes = [_value(term, sql, term.column in booleans) for term in card.terms]
    fires = []
    for coef, intercept in zip(card.coef, card.intercept, strict=True):
        score = sql.double(intercept)
        for t in np.flatnonzero(coef):
            score += f" + {sql.double(coef[t])} * {codes[t]}"
        fires.append(f"{score} {'>' if card.union == 1 else '>='} {sql.double(0.0)}")
    labels = [sql.literal(label) for label in card.classes.tolist()]
    condition = "\n    OR ".join(fires)
    return (
        f"CASE\n  WHEN {condition}\n  THEN {labels[card.union]} ELSE {labels[1 - card.union]}\nEND"
    )


def _value(term, sql, is_boolean):
    """Return the value of a term."""
    name = sql.name(term.column)
    zero, one = sql.double(0.0), sql.double(1.0)
    if term.kind == "missing":
        return f"(CASE WHEN {name} IS NULL THEN {one} ELSE {zero} END)"
    if term.kind == "in":
        known = ", ".join(sql.literal(level) for level in term.levels if level is not None)
        tests = [f"{name} IN ({known})"] if known else []
        if None in term.levels or (term.fill is not None and term.fill in term.levels):
            tests.append(f"{name} IS NULL")
        return f"(CASE WHEN {' OR '.join(tests)} THEN {one} ELSE {zero} END)"
    value = name
    if is_boolean:
        value = f"(CASE WHEN {name} THEN {one} WHEN NOT {name} THEN {zero} END)"
    if term.fill is not None:
        value = f"COALESCE({value}, {sql.double(term.fill)})"
    if term.kind == "number":
        return value
    return f"(CASE WHEN {value} > {sql.double(term.threshold)} THEN {one} ELSE {zero} END)"
