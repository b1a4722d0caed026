"""The standardised data, a few columns at a time: X itself is neither copied nor centred."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.extmath import safe_sparse_dot

DECILES = np.arange(1, 10) / 10


@dataclass(frozen=True)
class Data:
    """X (dense or CSC, raw), what is taken off each feature, and what it is divided by."""

    X: object
    center: np.ndarray
    scale: np.ndarray

    @property
    def n_features(self):
        return self.X.shape[1]

    def columns(self, features=None, rows=slice(None)):
        """Return the standardised features as rows: C-contiguous, (n_features, n_rows)."""
        if features is None:
            features = np.arange(self.n_features)
        part = self.X[:, features] if isinstance(rows, slice) else self.X[rows][:, features]
        part = part.toarray() if issparse(part) else part
        columns = np.ascontiguousarray(part.T)
        if columns.base is not None or columns is part:
            columns = columns.copy()
        columns -= self.center[features, np.newaxis]
        columns /= self.scale[features, np.newaxis]
        return columns

    def pull_back(self, R):
        """Return R (n_rows, m) times the standardised data, of shape (m, n_features)."""
        products = np.asarray(safe_sparse_dot(self.X.T, R.astype(self.X.dtype))).T
        return (products - np.outer(R.sum(axis=0), self.center)) / self.scale


def standardised(X, weight, *, standardize, centered):
    """Return the Data of X: mean 0 and deviation 1; not centred and mean square 1 if sparse.

    A constant feature stays at its scale: once centred it is zero throughout.
    """
    total = weight.sum()
    with np.errstate(over="ignore"):
        if issparse(X):
            X = X.tocsc()
            center = np.zeros(X.shape[1])
            deviation = np.sqrt(X.multiply(X).T @ weight / total)
            constant = abs(X).max(axis=0).toarray().ravel() == 0
        else:
            center = weight @ X / total
            columns = zip(X.T, center, strict=True)
            squares = (weight @ (column - mean) ** 2 for column, mean in columns)
            deviation = np.sqrt(np.fromiter(squares, float, X.shape[1]) / total)
            constant = X.min(axis=0) == X.max(axis=0)
    deviation[constant] = 0.0  # what is left is rounding
    tiny = 100 * np.finfo(X.dtype).tiny
    unusable = ~np.isfinite(deviation) | ((deviation <= tiny) & ~constant)
    if unusable.any():
        which = np.flatnonzero(unusable)[0]
        size = "small" if deviation[which] <= tiny else "large"
        raise ValueError(
            f"Feature {which} has values so {size} that its scale is not finite in {X.dtype}; "
            f"{'multiply' if size == 'small' else 'divide'} it by a constant first."
        )
    scale = np.where((deviation > 0) & standardize, deviation, 1.0)
    return Data(X, (center if centered else 0 * center).astype(X.dtype), scale.astype(X.dtype))


def quantile_steps(X, weight):
    """Return the features and thresholds of the steps at the weighted deciles of each feature.

    A threshold is half way between two values that occur, so that rounding decides nothing.
    """
    features, thresholds = [], []
    for feature, column in enumerate(X.T):
        values = np.unique(column)
        levels = np.quantile(column, DECILES, method="inverted_cdf", weights=weight)
        below = np.unique(np.searchsorted(values, levels))
        below = below[below < len(values) - 1]
        # Halves first: the sum of two large values may overflow.
        found = values[below] / 2 + values[below + 1] / 2
        features.append(np.full(len(found), feature))
        thresholds.append(found.astype(X.dtype))
    return np.concatenate(features), np.concatenate(thresholds)


def step_values(X, feature, threshold):
    """Return the 0/1 values of the steps."""
    return (X[:, feature] > threshold).astype(X.dtype)
