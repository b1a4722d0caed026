"""The fitted model as plain arrays: p linear rules in the original units, joined by "or".

Rule j fires where its score z_j is positive; v_t are the terms, columns of X or steps of columns:

    z_j = b_j + sum_t w_jt v_t,    v_t = x[feature_t]  or  1[x[feature_t] > threshold_t]
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import issparse

from pnsklearn._typing import Array, Matrix


def read_columns(X: Matrix, columns: Array) -> Array:
    """Return columns of a dense or sparse X as a dense float64 array, one row per column."""
    chosen = X[:, columns].toarray() if issparse(X) else X[:, columns]
    return np.ascontiguousarray(chosen.T, dtype=np.float64)


@dataclass(frozen=True)
class Rules:
    """The rules: `coef` (p, m), `intercept` (p,), `feature` (m,), `threshold` (m,) or None.

    A term is a column of X, or, where there are thresholds, 1 above its threshold and 0 up to it.
    To read, `is_condition` (m,) says which terms are on or off by their names, and `is_points`
    that weights are integers, and intercepts half an integer.
    `classes[union]` is predicted when any rule fires.
    """

    coef: Array
    intercept: Array
    feature: Array
    threshold: Array | None
    classes: Array
    union: int
    is_condition: Array | None = None
    is_points: bool = False

    def used_terms(self) -> "Rules":
        """Return the same rules without the terms that none of them reads."""
        used = np.flatnonzero(self.coef.any(axis=0))
        threshold = None if self.threshold is None else self.threshold[used]
        return replace(
            self, coef=self.coef[:, used], feature=self.feature[used], threshold=threshold
        )

    def values(self, X: Matrix) -> Array:
        """Return the values of the terms on the rows of X, of shape (m, n), float64."""
        columns = read_columns(X, self.feature)
        if self.threshold is None:
            return columns
        return (columns > self.threshold[:, None]).astype(np.float64)

    def scores(self, X: Matrix) -> Array:
        """Return z of shape (n, p), float64.

        The non-zero terms are added to the intercept one by one, in the order of the terms, each
        product and sum rounded: so the exported code gives the same bits.
        """
        rules = self.used_terms()
        scores = np.repeat(rules.intercept[:, None].astype(np.float64), X.shape[0], axis=1)
        for coef, value in zip(rules.coef.T, rules.values(X), strict=True):
            for j in np.flatnonzero(coef):
                scores[j] += coef[j] * value
        return scores.T

    def decision(self, scores: Array) -> Array:
        """Return max_j z_j, signed so that `classes[1]` is predicted where it is positive."""
        largest = scores.max(axis=1)
        return largest if self.union == 1 else -largest

    def fires(self, scores: Array) -> Array:
        """Return where each rule fires; zero counts for the class that ties are decided for."""
        return scores > 0 if self.union == 1 else scores >= 0
