"""Probabilities from scores: a weighted Platt fit."""

import functools

import numpy as np
from scipy.optimize import minimize

from pnsklearn._jit import njit
from pnsklearn._typing import Array


@njit
def _log_loss_terms(scores, positive, weight, high, low, slope, intercept):
    """Weighted log-loss of sigmoid(slope * s + intercept), its gradient and Hessian."""
    loss = g0 = g1 = h00 = h01 = h11 = 0.0
    for j in range(scores.shape[0]):
        z = slope * scores[j] + intercept
        target = high if positive[j] else low
        e = np.exp(-abs(z))
        probability = 1.0 / (1.0 + e) if z >= 0 else e / (1.0 + e)
        loss += weight[j] * (np.log1p(e) + max(z, 0.0) - target * z)
        residual = weight[j] * (probability - target)
        g0 += residual * scores[j]
        g1 += residual
        curvature = weight[j] * probability * (1.0 - probability)
        h00 += curvature * scores[j] * scores[j]
        h01 += curvature * scores[j]
        h11 += curvature
    return loss, g0, g1, h00, h01, h11


def platt(scores: Array, positive: Array, weight: Array) -> tuple[float, float]:
    """Return (slope, intercept), slope > 0, that turn scores into log-odds.

    Targets are Platt's (1999), (N+ + 1) / (N+ + 2) and 1 / (N- + 2) with N the sums of weights,
    so that separable scores still get finite odds.
    """
    total = weight.sum()
    n_positive = weight[positive].sum()
    high, low = (n_positive + 1) / (n_positive + 2), 1 / (total - n_positive + 2)
    center = weight @ scores / total
    scale = np.sqrt(weight @ (scores - center) ** 2 / total)
    prior = np.log((n_positive * high + (total - n_positive) * low) / total)
    prior -= np.log1p(-np.exp(prior))
    if not scale > 1e-12 * max(1.0, abs(center)):  # constant scores carry no information
        return 1.0, prior - center
    standard = (scores - center) / scale

    @functools.lru_cache(maxsize=2)  # SciPy asks for value and Hessian one after the other
    def terms(slope, intercept):
        sums = _log_loss_terms(standard, positive, weight, high, low, slope, intercept)
        return np.array(sums) / total

    result = minimize(
        lambda x: (terms(*x)[0], terms(*x)[1:3]),
        x0=[1.0, prior],
        jac=True,
        hess=lambda x: terms(*x)[[3, 4, 4, 5]].reshape(2, 2),
        method="trust-exact",
        options={"gtol": 1e-10},
    )
    slope, intercept = result.x
    if slope <= 1e-3:  # no better than chance: keep the ranks, at odds close to the prior's
        slope, intercept = 1e-3, prior
    return slope / scale, intercept - slope * center / scale
