"""The checks that several estimators share, and their error texts."""

import functools

import numpy as np
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight


def unchanged_on_error(fit):
    """Decorate a method so that, when it raises, the estimator is as it was before the call."""

    @functools.wraps(fit)
    def guarded(estimator, *args, **kwargs):
        before = vars(estimator).copy()
        try:
            return fit(estimator, *args, **kwargs)
        except BaseException:  # an interrupt too must not leave a half-fitted estimator
            vars(estimator).clear()
            vars(estimator).update(before)
            raise

    return guarded


def refuse_unreadable(X):
    """Raise a clear error for what scikit-learn's validation would misread.

    A Dask collection would be pulled into memory silently; a frame without columns fails in NumPy.
    """
    if type(X).__module__.partition(".")[0] in ("dask", "dask_expr"):
        raise TypeError(
            "Dask collections are not supported; call X.compute() first if it fits in memory."
        )
    shape = getattr(X, "shape", ())
    if len(shape) == 2 and shape[1] == 0:
        raise ValueError(
            f"Found array with 0 feature(s) (shape={shape}) while a minimum of 1 is required."
        )


def check_binary_target(
    y, needed="positives and negatives", remedy="Wrap the estimator in OneVsRestClassifier."
):
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


def check_weights(sample_weight, X):
    """Return float64 weights of shape (n_samples,), none of them negative.

    Raises
    ------
    ValueError
        If a weight is negative, NaN or infinite, or the shape is wrong.
    """
    return _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)


def check_weighted_classes(positive, weight, negative="negative"):
    """Raise ValueError when a class has no row of positive weight."""
    for name, rows in (("positive", positive), (negative, ~positive)):
        if not np.any(weight[rows] > 0):
            raise ValueError(
                f"No {name} sample has a positive sample_weight; both classes need at least one."
            )
