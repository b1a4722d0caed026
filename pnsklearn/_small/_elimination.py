"""A start for one rule: fit all features, then leave out, one by one, that which costs least.

At the minimum w of F with Hessian H, leaving out feature j raises the quadratic model of F by
w_j^2 / (2 V_jj), V = H^-1, when the others move along column j of V; V of those that are left
follows by one elimination (optimal brain surgeon). So all choices cost one fit.
"""

import numpy as np
from scipy.special import expit

from pnsklearn._small._objective import Objective
from pnsklearn._typing import Array

MAX_STEPS = 20
TOL = 1e-8  # of Newton's decrement, relative to F
RIDGE = 1e-10  # relative, for equal features


def eliminated(block: Objective) -> tuple[Array, Array]:
    """Return coef, of shape (1, n_features), and intercept of the features that are left."""
    w, H = _fit(block)
    V = np.linalg.inv(H)
    left = np.ones(len(w), dtype=bool)
    for _ in range(len(w) - 1 - block.n_nonzero):
        cost = np.where(left, w**2 / np.diag(V), np.inf)
        j = 1 + cost[1:].argmin()  # the intercept stays
        column = V[:, j] / V[j, j]
        w = w - w[j] * column
        V = V - np.outer(column, V[j])
        left[j], V[j, j] = False, 1.0
    w = np.where(left, w, 0.0)
    return w[np.newaxis, 1:], w[:1] if block.fit_intercept else np.zeros(1)


def _fit(block):
    """Return the minimum of F for one rule of all features, intercept first, and its Hessian."""
    XT = block.data.XT
    A = np.vstack([np.full((1, XT.shape[1]), float(block.fit_intercept)), XT])
    ridge = np.full(len(A), block.lam)
    ridge[0] = 0.0 if block.fit_intercept else 1.0

    def value(w):
        return block.weight @ np.logaddexp(0, -block.sign * (w @ A)) + ridge @ w**2 / 2

    w, F = np.zeros(len(A)), np.log(2)
    for _ in range(MAX_STEPS):
        wrong = expit(-block.sign * (w @ A))
        gradient = A @ (-block.weight * block.sign * wrong) + ridge * w
        H = (A * (block.weight * wrong * (1 - wrong))) @ A.T
        H[np.diag_indices(len(A))] += ridge + RIDGE * np.trace(H) / len(A)
        step = np.linalg.solve(H, gradient)
        decrement, length = gradient @ step, 1.0
        if not decrement > TOL * F:
            break
        while value(w - length * step) > F - 1e-4 * length * decrement and length > 1e-3:
            length /= 2
        w = w - length * step
        F = value(w)
    return w, H
