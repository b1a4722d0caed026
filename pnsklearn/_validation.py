"""The checks that several estimators share, and their error texts.

A fit calls them in this order: `check_X`, `refuse_huge`, `check_binary_target`, `check_weights`,
`check_weighted_classes`, and `without_weightless` last.
"""

import contextlib
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from scipy.sparse import issparse
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
    as does a tensor that requires a gradient; the name of a column is no column.
    """
    refuse_masked(X=X, y=y)
    if isinstance(y, str) and y != "no_validation":
        raise ValueError(
            f"y is the name {y!r}; pass the column itself, X[{y!r}], and X without it."
        )
    if getattr(X, "requires_grad", False):
        raise TypeError("X is a tensor that requires a gradient; pass X.detach().")
    if type(X).__module__.partition(".")[0] in ("dask", "dask_expr"):
        raise TypeError(
            "X is a Dask collection, which pnsklearn.dask.DaskAUPRCClassifier and DaskTOPRPolicy "
            "take; for other estimators call X.compute() first, if it fits in memory."
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
    missing: bool = False,
) -> Any:
    """Return X, and y if it is given, validated by scikit-learn: float64 or float32, in C order.

    `sparse` allows CSR matrices, `deep` arrays of any number of axes, for a torch module, and
    `missing` NaN in dense X.
    """
    refuse_unreadable(X, y)
    try:
        valid = validate_data(
            estimator,
            X,
            y,
            reset=reset,
            accept_sparse="csr" if sparse and not deep else False,
            allow_nd=deep,
            ensure_all_finite="allow-nan" if missing and not issparse(X) else True,
            dtype=[np.float64, np.float32],
            order="C",
        )
    except (TypeError, ValueError) as error:
        if remedy := _remedy(type(estimator).__name__, X, str(error)):
            raise ValueError(remedy) from error
        raise
    if isinstance(valid, tuple):
        refuse_missing_labels(valid[1])
    return valid


def _remedy(name: str, X: Any, error: str) -> str | None:
    """Return what to put in front of an estimator for an X that was refused, if that is known."""
    if "X contains NaN" in error:
        return (
            f"Input X contains NaN. Impute in front of {name}, make_pipeline(SimpleImputer(), "
            f"{name}()) say; AUPRCStackingClassifier() takes missing values as they are."
        )
    schema = {}
    with contextlib.suppress(nw.exceptions.DuplicateError):  # names that occur twice name nothing
        frame = nw.from_native(X, eager_only=True, pass_through=True)
        schema = frame.schema if isinstance(frame, nw.DataFrame) else {}
    words = [c for c, dtype in schema.items() if not (dtype.is_numeric() or dtype == nw.Boolean)]
    if any(schema[column].is_temporal() for column in words):
        return f"X has dates or times: {words}. Make numbers of them, X[{words[0]!r}].dt.month say."
    if words:
        return (
            f"X has columns that are not numbers: {words}. Encode them in front of {name}: "
            "make_pipeline(make_column_transformer((OneHotEncoder(handle_unknown='ignore'), "
            f"{words}), remainder='passthrough'), {name}())."
        )
    if error.startswith("could not convert string to float"):
        return (
            f"{error}. X has text; encode it in front of {name}: OneHotEncoder for categories, "
            "TfidfVectorizer for a list of texts."
        )
    return None


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
    if values.size and max(float(values.max()), -float(values.min())) > LARGEST:  # no copy
        raise ValueError(f"X has values beyond {LARGEST:g}; rescale it.")


def refuse_missing_labels(y: Array) -> None:
    """Raise ValueError if a label is None, which scikit-learn takes for a strange kind of label."""
    missing = [i for i, label in enumerate(y) if label is None] if y.dtype == object else []
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(y)} labels are None, the first in row {missing[0]}; drop "
            "these rows. For a PUTrendClassifier unlabeled rows are 0."
        )


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
