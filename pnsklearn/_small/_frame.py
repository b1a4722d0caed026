"""Frames as they come: categories, truth values and missing values as columns of numbers.

A frame is first *read*: a level of a category becomes its code, what is missing NaN. Then the terms
are *learned* from the training rows: a number with gaps is filled by its mean, and that it is
missing is a term as well; a category becomes conditions on groups of its levels. What has neither
is left as it is, bit by bit.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any, TypeAlias

import narwhals.stable.v2 as nw
import numpy as np
from scipy.sparse import issparse

from pnsklearn._small._data import Data
from pnsklearn._small._levels import level_sets
from pnsklearn._small._term import Term, is_missing
from pnsklearn._typing import Array, Matrix

UNKNOWN = -1.0  # the code of a level that was not in the fit
Levels: TypeAlias = list[Any] | None
TIMES = datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64


@dataclass(frozen=True)
class Columns:
    """What the columns of X hold: levels, or None for numbers; and where values are missing."""

    levels: list[Levels]
    has_missing: Array


def is_frame(X: Any) -> bool:
    """Return whether X is a frame that can be read by the names of its columns."""
    if not nw.dependencies.is_into_dataframe(X) or X.shape[1] == 0:
        return False
    return not nw.dependencies.is_pandas_dataframe(X) or X.columns.is_unique


def boolean_columns(X: Any) -> Array | None:
    """Return which columns of an array or frame are truth values; None where it does not say."""
    if is_frame(X):
        columns = nw.from_native(X, eager_only=True).iter_columns()
        return np.array([_is_boolean(column) for column in columns], dtype=bool)
    dtype = getattr(X, "dtype", None)
    return np.full(X.shape[1], True) if dtype == np.bool_ and np.ndim(X) == 2 else None


def _is_boolean(column):
    """Return whether a column holds truth values, of an own type or, with gaps, as objects."""
    if column.dtype != nw.Object:
        return column.dtype == nw.Boolean
    return {type(value) for value in column.to_list() if not is_missing(value)} == {bool}


def find_levels(X: Any) -> list[Levels] | None:
    """Return the levels of each column of a frame, None for numbers; None if all are numbers.

    Raises
    ------
    ValueError
        If a column holds dates, times or what is neither a number, text nor a category.
    """
    if not is_frame(X):
        return None
    found = [_levels(column) for column in nw.from_native(X, eager_only=True).iter_columns()]
    return found if any(levels is not None for levels in found) else None


def _levels(column):
    """Return the sorted levels of a column, or None if it holds numbers."""
    if column.dtype.is_temporal():
        raise ValueError(_refusal(column.name, column.dtype))
    if column.dtype not in (nw.String, nw.Categorical, nw.Enum, nw.Object):
        return None
    values = {value for value in _known(column) if not is_missing(value)}
    for value in values:
        if isinstance(value, TIMES):
            raise ValueError(_refusal(column.name, type(value).__name__))
    if column.dtype == nw.Object and all(isinstance(value, Number) for value in values):
        return None
    return sorted(values, key=lambda value: (str(type(value)), value))


def _known(column):
    """Return the values of a column of levels, which must be hashable."""
    values = column.to_list()
    for value in values:
        if not (isinstance(value, (str, Number, *TIMES)) or is_missing(value)):
            raise ValueError(
                f"Column {column.name!r} holds {type(value).__name__}; turn it into numbers or "
                "text, or drop it."
            )
    return values


def _refusal(name, kind):
    return (
        f"Column {name!r} holds {kind}; turn it into numbers (its age in days, its hour, its "
        "weekday), or drop it."
    )


def read(X: Any, levels: Sequence[Levels] | None) -> Any:
    """Return X with codes in the place of levels, and NaN in that of what is missing.

    A frame stays a frame, with its names; what has numbers only is returned as it is.
    """
    if not is_frame(X):
        if levels is None:
            return X
        rows = np.array(X, dtype=object, ndmin=2)
        return np.column_stack([_coded(x, known) for x, known in zip(rows.T, levels, strict=True)])
    frame = nw.from_native(X, eager_only=True)
    if levels is None:
        if not any(_has_odd_gaps(column) for column in frame.iter_columns()):
            return X
        levels = [None] * frame.shape[1]
    columns = zip(frame.iter_columns(), levels, strict=True)
    coded = {column.name: _numbers(column, known) for column, known in columns}
    return nw.from_dict(coded, backend=frame.implementation).to_native()


def _has_odd_gaps(column):
    """Return whether a column has gaps that scikit-learn's validation does not read as NaN."""
    return column.dtype not in (nw.Float64, nw.Float32) and column.null_count() > 0


def _numbers(column, levels):
    """Return a column of a frame as float64."""
    if levels is None and (column.dtype.is_numeric() or column.dtype == nw.Boolean):
        return np.asarray(column.cast(nw.Float64).to_numpy(), dtype=np.float64)
    return _coded(column.to_list(), levels)


def _coded(values, levels):
    """Return numbers as float64, or the codes of levels; NaN where they are missing."""
    if levels is None:
        return np.array([np.nan if is_missing(value) else float(value) for value in values])
    codes = {level: float(code) for code, level in enumerate(levels)}
    return np.array([np.nan if is_missing(v) else codes.get(v, UNKNOWN) for v in values])


def describe(X: Matrix, levels: Sequence[Levels] | None) -> Columns | None:
    """Return the Columns of the training rows; None if there is nothing to be encoded."""
    if issparse(X):
        return None
    # A sum is NaN where an entry is: what is infinite has been refused.
    with np.errstate(over="ignore", invalid="ignore"):
        has_missing = np.isnan(X.sum(axis=0))
    if levels is None and not has_missing.any():
        return None
    for feature in np.flatnonzero(has_missing):
        has_missing[feature] = np.isnan(X[:, feature]).any()
    return Columns(list(levels or [None] * X.shape[1]), has_missing)


def told_apart(X: Array) -> Data:
    """Return Data in which no two rows are equal that differ in a level or a gap."""
    X = np.nan_to_num(X, nan=UNKNOWN)
    deviation = X.std(axis=0)
    return Data(X, X.mean(axis=0), np.where(deviation > 0, deviation, 1.0))


def learn(X: Array, positive: Array, weight: Array, columns: Columns) -> tuple[Array, list[Term]]:
    """Return the features and the terms over them that the rules may read.

    The levels of the terms are codes. `columns` are those of all training rows, X may be a part.
    """
    features, terms = [], []
    for feature, levels in enumerate(columns.levels):
        values, name = X[:, feature], str(feature)
        if levels is not None:
            sets = level_sets(values, len(levels), positive, weight)
            found = [Term(name, "in", levels=codes) for codes in sets]
        elif columns.has_missing[feature]:
            known = ~np.isnan(values)
            fill = np.average(values[known], weights=weight[known]) if known.any() else 0.0
            found = [Term(name, fill=float(X.dtype.type(fill))), Term(name, "missing")]
        else:
            found = [Term(name)]
        features += [feature] * len(found)
        terms += found
    return np.array(features, dtype=int), terms


def values(X: Array, features: Array, terms: Sequence[Term]) -> Array:
    """Return the values of the terms on rows that were read, of the type of X."""
    found = np.empty((len(X), len(terms)), dtype=X.dtype)
    for t, (feature, term) in enumerate(zip(features, terms, strict=True)):
        column = X[:, feature]
        missing = np.isnan(column)
        if term.kind == "number":
            found[:, t] = column if term.fill is None else np.where(missing, term.fill, column)
        elif term.kind == "missing":
            found[:, t] = missing
        else:
            codes = [code for code in term.levels if code is not None]
            found[:, t] = np.isin(column, codes) | (missing & (None in term.levels))
    return found
