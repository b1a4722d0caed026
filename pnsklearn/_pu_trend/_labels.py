"""Which label marks the positives, and which rows are unlabelled."""

from textwrap import shorten
from typing import Any

import numpy as np
from sklearn.utils._missing import is_pandas_na, is_scalar_nan

from pnsklearn._typing import Array

# Where no doubt is possible which label is the positive one.
PLAIN_PAIRS = ((0, 1), (-1, 1))


def fill_missing(y: Any) -> tuple[Any, Any]:
    """Return labels without missing ones, and the only label that there is beside these.

    None, NaN and `pandas.NA` mean unlabelled: y becomes 1 where there is a label, and 0 elsewhere.
    Where no label is missing, y is returned as it is, and None.

    Raises
    ------
    ValueError
        If there is no label, or there are several beside missing ones.
    """
    try:
        values = np.asarray(y)
    except (TypeError, ValueError):  # ragged, say: the checks of y tell
        return y, None
    if y is None or values.ndim != 1 or values.dtype.kind not in "fO":
        return y, None
    if values.dtype.kind == "f":
        missing = np.isnan(values)
    else:
        missing = np.array([v is None or is_scalar_nan(v) or is_pandas_na(v) for v in values], bool)
    if not missing.any():
        return y, None
    labels = list(dict.fromkeys(values[~missing].tolist()))
    if len(labels) != 1:
        raise ValueError(
            f"y has missing labels, which mean unlabelled, beside {len(labels)} labels"
            f"{': ' * bool(labels)}{', '.join(map(repr, labels[:5]))}. Beside missing labels there "
            "must be one label, that of the labelled positives."
        )
    return (~missing).astype(int), labels[0]


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
    """Return two labels, sorted before, in the order (negative or unlabelled, positive).

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
            first, second = (
                shorten(repr(label), 60, placeholder="...") for label in classes.tolist()
            )
            raise ValueError(
                f"Which label marks the positives, {first} or {second}? Set "
                f"pos_label={second} or pos_label={first}. Only of 0 and 1, -1 and 1, or False and "
                "True is it plain."
            )
        return classes
    if pos_label not in (negative, positive):
        raise ValueError(
            f"pos_label={pos_label!r} is not a label of y, which are {negative!r} and {positive!r}."
        )
    return classes if pos_label == positive else classes[::-1]
