"""The standardised data, a few columns at a time: X itself is neither copied nor centred."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.extmath import safe_sparse_dot

from pnsklearn._typing import Array, Matrix

BLOCK_ROWS = 8192
DECILES = np.arange(1, 10) / 10


@dataclass(frozen=True)
class Data:
    """X (dense or CSC, raw), what is taken off each feature, and what it is divided by."""

    X: Matrix
    center: Array
    scale: Array

    @property
    def n_features(self) -> int:
        """The number of features."""
        return self.X.shape[1]

    def columns(self, features: Array | None = None, rows: Array | slice = slice(None)) -> Array:
        """Return the standardised features as rows: C-contiguous, (n_features, n_rows)."""
        if features is None:
            features = np.arange(self.n_features)
        part = self.X if isinstance(rows, slice) else self.X[rows]
        if issparse(part):
            columns = np.array(part[:, features].toarray().T, order="C")
        else:
            columns = np.empty((len(features), len(part)), dtype=part.dtype)
            for start in range(0, len(part), BLOCK_ROWS):  # else for a while there are two copies
                block = slice(start, start + BLOCK_ROWS)
                columns[:, block] = part[block, features].T
        columns -= self.center[features, np.newaxis]
        columns /= self.scale[features, np.newaxis]
        return columns

    def transposed(self) -> Matrix:
        """Return all standardised features as rows; a sparse X stays sparse."""
        if issparse(self.X):
            return self.X.multiply(1 / self.scale).T.tocsr().astype(self.X.dtype)
        return self.columns()

    def pull_back(self, R: Array) -> Array:
        """Return the transposed R, of shape (n_rows, m), times the standardised data."""
        products = np.asarray(safe_sparse_dot(self.X.T, R.astype(self.X.dtype))).T
        return (products - np.outer(R.sum(axis=0), self.center)) / self.scale


@dataclass(frozen=True)
class Block:
    """Some rows and features of the standardised data in memory, the features as rows of `XT`."""

    XT: Array

    def columns(self, features: Array) -> Array:
        """Return the features as rows."""
        return self.XT[features]


def standardised(X: Matrix, weight: Array, *, standardize: bool, centered: bool) -> Data:
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
        feature = np.flatnonzero(unusable)[0]
        size, remedy = ("small", "multiply") if deviation[feature] <= tiny else ("large", "divide")
        raise ValueError(
            f"Feature {feature} has values so {size} that its scale cannot be computed in "
            f"{X.dtype}. Please {remedy} it by a constant first."
        )
    scale = np.where((deviation > 0) & standardize, deviation, 1.0)
    return Data(X, (center if centered else 0 * center).astype(X.dtype), scale.astype(X.dtype))


def quantile_steps(X: Array, weight: Array) -> tuple[Array, Array]:
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


def step_values(X: Array, feature: Array, threshold: Array) -> Array:
    """Return the 0/1 values of the steps."""
    return (X[:, feature] > threshold).astype(X.dtype)
