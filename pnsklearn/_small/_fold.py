"""What the steps of a pipeline make of its columns: a line of one term, or a condition.

So every column that reaches the rules is ``slope * term + shift``, and the rules are linear in the
terms of the first columns.
"""

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectorMixin
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    RobustScaler,
    StandardScaler,
)

from pnsklearn._small._term import Term, is_missing

LINES = MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler


@dataclass(frozen=True)
class Line:
    """A column of a pipeline: slope * term + shift."""

    term: Term
    slope: float = 1.0
    shift: float = 0.0


def above(line: Line, threshold: float) -> Line:
    """Return the step of a column at a threshold, which is on or off."""
    if line.term.kind != "number":  # a condition is 0 or 1
        low, high = (line.slope * value + line.shift > threshold for value in (0.0, 1.0))
        return Line(line.term, float(high) - float(low), float(low))
    if line.slope <= 0:
        raise TypeError("A step of a column that was turned around cannot be folded back.")
    return Line(replace(line.term, kind="above", threshold=(threshold - line.shift) / line.slope))


def folded(step: Any, lines: list[Line]) -> list[Line]:
    """Return the columns after a fitted step.

    Raises
    ------
    TypeError
        If the step is none that is understood.
    """
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return lines
    if isinstance(step, FunctionTransformer) and step.func is None:  # "passthrough", once fitted
        return lines
    if isinstance(step, Pipeline):
        for _, inner in step.steps:
            lines = folded(inner, lines)
        return lines
    if isinstance(step, ColumnTransformer):
        found = []
        for name, inner, _ in step.transformers_:
            chosen = step._transformer_to_input_indices[name]
            if not (isinstance(inner, str) and inner == "drop") and len(chosen):
                found += folded(inner, [lines[i] for i in chosen])
        return found
    if isinstance(step, SelectorMixin):
        return [lines[i] for i in np.flatnonzero(step.get_support())]
    if isinstance(step, LINES) and not getattr(step, "clip", False):
        return _scaled(step, lines)
    if isinstance(step, SimpleImputer):
        return _imputed(step, lines)
    if isinstance(step, OneHotEncoder):
        return [line for i, line in enumerate(lines) for line in _encoded(step, i, line.term)]
    raise TypeError(
        f"{type(step).__name__} cannot be folded into rules. Scalers, SimpleImputer, "
        "OneHotEncoder, selectors of features, Pipeline and ColumnTransformer can; or read the "
        "rules of the last step alone, which are over its own columns."
    )


def _scaled(step, lines):
    step = copy.copy(step)
    vars(step).pop("feature_names_in_", None)
    ends = np.array([[0.0], [1.0]]).repeat(len(lines), axis=1)
    at_zero, at_one = np.asarray(step.transform(ends))
    return [
        Line(line.term, line.slope * (b - a), line.shift * (b - a) + a)
        for line, a, b in zip(lines, at_zero.tolist(), at_one.tolist(), strict=True)
    ]


def _imputed(step, lines):
    """Return the columns with a value for what is missing, and conditions that it is missing."""
    if not is_missing(step.missing_values):
        raise TypeError(f"What is missing must be NaN or None, not {step.missing_values!r}.")
    found = []
    for line, fill in zip(lines, step.statistics_, strict=True):
        if is_missing(fill):
            if step.keep_empty_features:
                raise TypeError("A column without any value cannot be folded into rules.")
            continue
        found.append(_filled(line, fill))
    if step.indicator_ is not None:
        missing = [lines[i].term for i in step.indicator_.features_]
        found += [Line(Term(term.column, "missing")) for term in missing]
    return found


def _filled(line, fill):
    """Return a line whose missing values count as a number or level."""
    if line.term.kind != "number" or line.term.fill is not None:
        return line
    if isinstance(fill, (int, float, np.number)):
        fill = (float(fill) - line.shift) / line.slope
    return replace(line, term=replace(line.term, fill=fill))


def read_by(model: Any, lines: list[Line]) -> list[Line]:
    """Return the columns that a SMaLLClassifier makes of those it is given, for its rules."""
    if not hasattr(model, "_terms_"):
        return lines
    found = []
    for feature, term in zip(model._term_feature_, model._terms_, strict=True):
        line = lines[feature]
        if term.kind == "number":
            line = line if term.fill is None else _filled(line, term.fill)
        elif term.kind == "in":
            levels = model._levels_[feature]
            named = tuple(None if code is None else levels[int(code)] for code in term.levels)
            line = Line(replace(line.term, kind="in", levels=named))
        elif line.term.kind == "number" and line.term.fill is None:
            line = Line(Term(line.term.column, "missing"))
        else:  # an imputer was there before
            line = Line(line.term, 0.0)
        found.append(line)
    return found


def _encoded(step, i, term):
    """Return the columns of the levels of a category."""
    levels = step.categories_[i].tolist()
    if getattr(step, "_infrequent_enabled", False) and step.infrequent_categories_[i] is not None:
        raise TypeError("OneHotEncoder with infrequent categories cannot be folded into rules.")
    dropped = None if step.drop_idx_ is None else step.drop_idx_[i]
    return [
        Line(replace(term, kind="in", levels=(None if is_missing(level) else level,)))
        for number, level in enumerate(levels)
        if number != dropped
    ]
