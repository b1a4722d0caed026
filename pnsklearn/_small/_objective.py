"""The objective: the mean logistic loss of the largest score, and a penalty.

With z_j = w_j.x + b_j, the weights s_i of sum one and y_i = +1 for the class that is the union,

    F(W, b) = sum_i s_i log(1 + exp(-y_i max_j z_ij)) + (lam / 2) sum_j ||w_j||^2,   ||w_j||_0 <= k.

Everything here is in standardised units.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit

from pnsklearn._small._data import Block
from pnsklearn._typing import Array


@dataclass(frozen=True)
class Objective:
    """F where the class of index `union` is the union; `weight` sums to one.

    `data` is the Data of a fit, or a Block of them.
    """

    union: int
    data: Any
    sign: Array
    weight: Array
    n_prototypes: int
    n_nonzero: int
    lam: float
    fit_intercept: bool

    def margins(self, coef: Array, intercept: Array) -> Array:
        """Return z of shape (n_prototypes, n_rows)."""
        used = np.flatnonzero(coef.any(axis=0))
        return coef[:, used] @ self.data.columns(used) + intercept[:, np.newaxis]

    def value(self, coef: Array, Z: Array) -> float:
        """Return F(W, b), from the margins Z of (W, b)."""
        loss = self.weight @ np.logaddexp(0, -self.sign * Z.max(axis=0))
        return loss + self.lam / 2 * np.sum(coef**2)

    def losses(self, coef: Array, intercept: Array) -> Array:
        """Return the loss of each row."""
        return np.logaddexp(0, -self.sign * self.margins(coef, intercept).max(axis=0))

    def coef_gradient(self, coef: Array, intercept: Array) -> Array:
        """Return the gradient of F by W: what each feature would bring, to first order."""
        Z = self.margins(coef, intercept)
        wrong = expit(-self.sign * Z.max(axis=0))
        R = np.where(Z == Z.max(axis=0), -self.weight * self.sign * wrong, 0.0)
        return self.data.pull_back(R.T) + self.lam * coef

    def without_idle(self, coef: Array, intercept: Array) -> tuple[Array, Array]:
        """Return the prototypes that are the largest for some row, those that fire often first."""
        Z = self.margins(coef, intercept)
        busy = np.unique(Z.argmax(axis=0))
        order = busy[np.argsort(-((Z[busy] > 0) @ self.weight), kind="stable")]
        return coef[order], intercept[order]

    def block(self, features: Any = None, rows: Any = slice(None)) -> "Objective":
        """Return F on a Block: some features and rows, among which each class keeps its weight."""
        sign, weight = self.sign[rows], self.weight[rows].copy()
        for side in (-1, 1):
            members = sign == side
            weight[members] *= self.weight[self.sign == side].sum() / weight[members].sum()
        block = Block(self.data.columns(features, rows))
        return replace(self, data=block, sign=sign, weight=weight)
