"""Which label marks the positives, and which rows are unlabeled."""

from textwrap import shorten
from typing import Any

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils._missing import is_pandas_na, is_scalar_nan

from pnsklearn._typing import Array

# Where no doubt is possible which label is the positive one.
PLAIN_PAIRS = ((0, 1), (-1, 1))
# What people write for a label that there is not; its name is not the first that is offered.
UNLABELED = {"", "?", "na", "nan", "none", "null", "missing", "other", "unknown"}


def fill_missing(y: Any) -> tuple[Any, Any]:
    """Return labels without missing ones, and the only label that there is beside these.

    None, NaN, NaT and `pandas.NA` mean unlabeled: y becomes 1 where there is a label, and 0
    elsewhere. Where no label is missing, the labels are returned as an array, and None.

    Raises
    ------
    ValueError
        If there is no label, or there are several beside missing ones, or labels are dates, or of
        several types.
    """
    try:
        values = np.asarray(y)
    except (TypeError, ValueError):  # ragged, say: the checks of y tell
        return y, None
    column = values.ndim == 2 and values.shape[1] == 1
    if y is None or (values.ndim != 1 and not column):
        return y, None
    if values.dtype.kind in "mM":
        raise ValueError(
            "y holds dates or durations, not labels. Pass True for the rows of the labeled "
            "positives and False for all others, such as y.notna()."
        )
    if values.dtype.kind not in "fO":
        return (y if column else values), None
    values = values.reshape(-1)
    missing = (
        np.array([_is_missing(v) for v in values]) if values.dtype == object else values != values
    )
    if not missing.any():
        return (y if column else _of_one_type(values)), None
    if column:
        column_or_1d(y, warn=True)
    labels: list = []
    for label in _of_one_type(values[~missing]).tolist():
        if label not in labels:
            labels.append(label)
    if not labels:
        raise ValueError(
            "All labels of y are missing, which means unlabeled. At least one labeled positive "
            "is needed."
        )
    if len(labels) > 1:
        raise ValueError(
            f"y has missing labels, which mean unlabeled, beside {len(labels)} labels: "
            f"{', '.join(map(repr, labels[:5]))}. Beside missing labels there must be one label, "
            "that of the labeled positives."
        )
    return (~missing).astype(int), labels[0]


def _is_missing(value):
    """Return whether a label means that there is none."""
    return (
        value is None
        or is_scalar_nan(value)
        or is_pandas_na(value)
        or type(value).__name__ == "NaTType"
    )


def _of_one_type(values):
    """Return labels, of an object array as one of numbers or booleans where they are such.

    Raises
    ------
    ValueError
        If some are text and others are not.
    """
    if values.dtype != object:
        return values
    text = [isinstance(value, str) for value in values]
    if any(text) and not all(text):
        some = values[text.index(True)], values[text.index(False)]
        raise ValueError(
            f"y has labels of several types, {some[0]!r} and {some[1]!r}. Use labels of one type, "
            "or leave out those of the unlabeled rows (None)."
        )
    plain = all(isinstance(value, (bool, int, float, np.bool_, np.number)) for value in values)
    return np.array(values.tolist()) if plain else values


def filled_classes(label: Any, pos_label: Any) -> Array:
    """Return (negative, positive) where the negative label was missing: 0, or "not ...".

    Raises
    ------
    ValueError
        If `pos_label` is another label.
    """
    if pos_label is not None and pos_label != label:
        raise ValueError(f"pos_label={pos_label!r} is not a label of y, which has only {label!r}.")
    if isinstance(label, (bool, np.bool_)):
        return np.array([False, True]) if label else np.array([True, False])
    if isinstance(label, str):
        return np.array([f"not {label}", label], dtype=object)
    return np.array([0 if label != 0 else -1, label])


def positive_label(classes: Array, pos_label: Any) -> Array:
    """Return two labels, sorted before, in the order (negative or unlabeled, positive).

    Raises
    ------
    ValueError
        If `pos_label` is not among them, or None where the labels are not 0 and 1, -1 and 1, or
        False and True.
    """
    negative, positive = classes.tolist()
    if pos_label is None:
        plain = not isinstance(positive, str) and (negative, positive) in PLAIN_PAIRS
        if not plain:
            named = sorted((positive, negative), key=_means_unlabeled)
            first, second = (shorten(repr(label), 60, placeholder="...") for label in named)
            raise ValueError(
                f"Which label marks the positives, {first} or {second}? Set pos_label={first} or "
                f"pos_label={second}. Only of 0 and 1, -1 and 1, or False and True is it plain."
            )
        return classes
    if pos_label not in (negative, positive):
        raise ValueError(
            f"pos_label={pos_label!r} is not a label of y, which are {negative!r} and {positive!r}."
        )
    return classes if pos_label == positive else classes[::-1]


def _means_unlabeled(label):
    """Return whether a label is a word for having none."""
    word = str(label).casefold()
    return word in UNLABELED or word.startswith(("unlabel", "not ", "un_label"))
