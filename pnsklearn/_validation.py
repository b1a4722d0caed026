"""The checks that several estimators share, and their error texts.

A fit calls them in this order: `check_X`, `refuse_huge`, `check_binary_target`, `check_weights`,
`check_weighted_classes`, and `without_weightless` last.
"""

from typing import Any

import numpy as np
from sklearn.utils import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, validate_data

from pnsklearn._typing import Array, Matrix

LARGEST = 1e100  # of what is squared or multiplied, and summed


def refuse_masked(**inputs: Any) -> None:
    """Raise ValueError if an input has masked entries, whose masks NumPy would drop silently."""
    for name, values in inputs.items():
        if np.ma.is_masked(values):
            raise ValueError(f"{name} has masked entries; fill them or drop their rows.")


def refuse_unreadable(X: Any, y: Any = None) -> None:
    """Raise a clear error for what scikit-learn's validation would misread.

    A Dask collection would be pulled into memory silently; a frame without columns fails in NumPy,
    as does a tensor that requires a gradient.
    """
    refuse_masked(X=X, y=y)
    if getattr(X, "requires_grad", False):
        raise TypeError("X is a tensor that requires a gradient; pass X.detach().")
    if type(X).__module__.partition(".")[0] in ("dask", "dask_expr"):
        raise TypeError(
            "Dask collections are not supported; call X.compute() first if it fits in memory."
        )
    shape: Any = getattr(X, "shape", ())
    if len(shape) == 2 and shape[1] == 0:
        raise ValueError(
            f"Found array with 0 feature(s) (shape={shape}) while a minimum of 1 is required."
        )


def check_X(
    estimator: Any,
    X: Any,
    y: Any = "no_validation",
    *,
    reset: bool,
    sparse: bool = True,
    deep: bool = False,
) -> Any:
    """Return X, and y if it is given, validated by scikit-learn: float64 or float32, in C order.

    `sparse` allows CSR matrices, `deep` arrays of any number of axes, for a torch module.
    """
    refuse_unreadable(X, y)
    return validate_data(
        estimator,
        X,
        y,
        reset=reset,
        accept_sparse="csr" if sparse and not deep else False,
        allow_nd=deep,
        dtype=[np.float64, np.float32],
        order="C",
    )


def without_weightless(weight: Array, *arrays: Any) -> tuple:
    """Return the weights and the arrays without the rows of weight zero, and which were kept.

    What is no array of rows, None say, is returned as it is.
    """
    kept = weight > 0
    if kept.all():
        return weight, *arrays, kept
    return weight[kept], *(a[kept] if hasattr(a, "shape") else a for a in arrays), kept


def refuse_huge(X: Matrix) -> None:
    """Raise ValueError if X, dense or CSR, has values whose squares may sum to infinity."""
    values = X if isinstance(X, np.ndarray) else X.data
    if values.size and float(np.abs(values).max()) > LARGEST:
        raise ValueError(f"X has values beyond {LARGEST:g}; rescale it.")


def check_binary_target(
    y: Array,
    needed: str = "positives and negatives",
    remedy: str = "Wrap the estimator in OneVsRestClassifier.",
) -> tuple[Array, Array]:
    """Return (classes, boolean positives) of a binary target; `classes[1]` is positive.

    Raises
    ------
    ValueError
        If `y` has one class, more than two, or is not a classification target.
    """
    check_classification_targets(y)
    classes = np.unique(y)
    if classes.shape[0] == 1:
        raise ValueError(f"y has only one class, {classes[0]}; {needed} are both needed.")
    if classes.shape[0] > 2:
        raise ValueError(
            "Only binary classification is supported. The type of the target is "
            f"{type_of_target(y)}. {remedy}"
        )
    return classes, y == classes[1]


def check_weights(sample_weight: Any, X: Matrix) -> Array:
    """Return float64 weights of shape (n_samples,), none of them negative.

    Weights below 1e-100 of the largest are nothing beside it, and become zero.

    Raises
    ------
    ValueError
        If a weight is negative, NaN or infinite, the shape is wrong, or the largest is neither
        zero nor between 1e-100 and 1e100.
    """
    refuse_masked(sample_weight=sample_weight)
    weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    largest = weight.max()
    if largest != 0 and not 1 / LARGEST <= largest <= LARGEST:
        raise ValueError(
            f"The largest sample_weight is {largest:g}; rescale the weights, so that it is between "
            f"{1 / LARGEST:g} and {LARGEST:g}."
        )
    return np.where(weight < largest / LARGEST, 0.0, weight)


def refuse_overflow(scores: Array) -> Array:
    """Return the scores of a prediction; raise ValueError if any is infinite or NaN."""
    if not np.isfinite(scores).all():
        raise ValueError("X has values so large that their scores overflow; rescale it.")
    return scores


def check_weighted_classes(positive: Array, weight: Array, negative: str = "negative") -> None:
    """Raise ValueError when a class has no row of positive weight."""
    for name, rows in (("positive", positive), (negative, ~positive)):
        if not np.any(weight[rows] > 0):
            raise ValueError(
                f"No {name} sample has a positive sample_weight; both classes need at least one."
            )


def class_weighted(class_weight: Any, classes: Array, positive: Array, weight: Array) -> Array:
    """Return the weights times those of the classes; `classes[1]` is the positive one.

    Raises
    ------
    ValueError
        If the weight of a class is not positive and finite.
    """
    if class_weight is None:
        return weight
    codes = positive.astype(int)
    factors = compute_class_weight(
        class_weight, classes=classes, y=classes[codes], sample_weight=weight
    )
    if not (np.isfinite(factors).all() and (factors > 0).all()):
        raise ValueError(
            f"class_weight must be positive and finite for both classes, got {class_weight!r}."
        )
    return weight * factors[codes]
