"""What the estimators share: the features of a collection, and lazy predictions."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import _check_feature_names, check_is_fitted

from pnsklearn._typing import Array
from pnsklearn._validation import check_weights
from pnsklearn.dask._blocks import is_array, is_dask, read


def check_supported(estimator: Any, **words: tuple[bool, str]) -> None:
    """Raise ValueError for a parameter that is not fine; `words` say whether, and what would be."""
    for name, (is_fine, fine) in words.items():
        if not is_fine:
            raise ValueError(
                f"{type(estimator).__name__} takes {name}={fine}, got "
                f"{getattr(estimator, name)!r}; {estimator._local.__name__} takes the others, for "
                "data in memory."
            )


def check_features(estimator: Any, X: Any) -> Any:
    """Set the number and names of the features; return float32 or float64, as X will be."""
    shape: Any = getattr(X, "shape", ())
    if not is_dask(X) or len(shape) != 2:
        raise TypeError(
            f"X must be a Dask array of two axes or a Dask frame, got {type(X).__name__}; for data "
            f"in memory use {estimator._local.__name__}, or dask.array.from_array."
        )
    if not isinstance(X._meta, (np.ndarray, pd.DataFrame)):
        raise TypeError(
            "The chunks of X must be NumPy arrays, or its partitions pandas frames, got "
            f"{type(X._meta).__name__}."
        )
    if not shape[1] > 0:
        raise ValueError(
            f"X has no features, or Dask does not know how many: its shape is {shape}."
        )
    names = None if is_array(X) else pd.DataFrame(columns=X.columns)
    _check_feature_names(estimator, names, reset=True)
    estimator.n_features_in_ = shape[1]
    dtypes = [X.dtype] if is_array(X) else list(X.dtypes)
    return np.float32 if all(dtype == np.float32 for dtype in dtypes) else np.float64


def for_workers(estimator: Any) -> Any:
    """Return a bare estimator that knows the features, by whose name the blocks are checked."""
    bare = type(estimator)()
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(estimator, name):
            setattr(bare, name, getattr(estimator, name))
    return bare


class LazyMixin:
    """Predictions of Dask collections as Dask arrays, and the plain estimator."""

    _local: type  # the plain estimator's class

    def to_local(self) -> Any:
        """Return the plain estimator with the same parameters and fitted attributes.

        Returns
        -------
        estimator : AUPRCClassifier or TOPRPolicy
            It needs neither Dask nor a cluster, and can be saved and explained as any other.
        """
        check_is_fitted(self)
        local = self._local(**self.get_params(deep=False))  # type: ignore[attr-defined]
        fitted = {name: value for name, value in vars(self).items() if name.endswith("_")}
        vars(local).update(fitted)
        return local

    def _predicted(self, method: str, X: Any) -> Any:
        """Return what a method of the plain estimator says of X, lazily if X is a collection."""
        local = self.to_local()
        if not is_dask(X):
            return getattr(local, method)(X)
        if X.shape[1] != local.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting "
                f"{local.n_features_in_} features as input."
            )
        names = getattr(local, "feature_names_in_", None)
        example = np.zeros((1, local.n_features_in_))
        if names is not None:
            example = pd.DataFrame(example, columns=names)
        row = getattr(local, method)(example)
        if not is_array(X):
            return X.map_partitions(predict_block, local, method, row, meta=row[:0])
        X = X.rechunk({1: -1})
        axes = {"chunks": (X.chunks[0], row.shape[1:])} if row.ndim == 2 else {"drop_axis": 1}
        return X.map_blocks(
            predict_block, local, method, row, dtype=row.dtype, meta=row[:0], **axes
        )


def predict_block(X: Any, local: Any, method: str, row: Array) -> Array:
    """Return the predictions for a block, which may be empty; `row` is the form of one."""
    return getattr(local, method)(X) if len(X) else row[:0]


def agreement(local: Any, X: Any, y: Any, sample_weight: Any = None) -> tuple[float, float]:
    """Return the weight of the rows of a block that are predicted right, and of all."""
    if not len(X):
        return 0.0, 0.0
    weight = check_weights(sample_weight, X)
    right = accuracy_score(y, local.predict(X), sample_weight=weight, normalize=False)
    return float(right), float(weight.sum())


def accuracy(local: Any, **columns: Any) -> float:
    """Return the share of the rows that are predicted right."""
    with read(partial(agreement, local), **columns) as blocks:
        right, total = blocks.sum(tuple)
    return right / total
