"""Probabilities from scores: a weighted Platt fit."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize

from pnsklearn._jit import njit
from pnsklearn._typing import Array


@njit
def log_loss_terms(
    scores: Array, positive: Array, weight: Array, unit: tuple[float, float],
    targets: tuple[float, float], line: tuple[float, float],
) -> tuple:  # fmt: skip
    """Return the weighted log-loss of sigmoid(slope * s + intercept), its gradient and Hessian.

    `unit` is what the scores are less, and divided by; `targets` those of positives and negatives;
    `line` is slope and intercept. The terms of blocks of rows add up.
    """
    center, scale = unit
    slope, intercept = line
    loss = g0 = g1 = h00 = h01 = h11 = 0.0
    for j in range(scores.shape[0]):
        s = (scores[j] - center) / scale
        z = slope * s + intercept
        target = targets[0] if positive[j] else targets[1]
        e = np.exp(-abs(z))
        probability = 1.0 / (1.0 + e) if z >= 0 else e / (1.0 + e)
        loss += weight[j] * (np.log1p(e) + max(z, 0.0) - target * z)
        residual = weight[j] * (probability - target)
        g0 += residual * s
        g1 += residual
        curvature = weight[j] * probability * (1.0 - probability)
        h00 += curvature * s * s
        h01 += curvature * s
        h11 += curvature
    return loss, g0, g1, h00, h01, h11


def platt(scores: Array, positive: Array, weight: Array) -> tuple[float, float]:
    """Return (slope, intercept), slope > 0, that turn scores into log-odds.

    Targets are Platt's (1999), (N+ + 1) / (N+ + 2) and 1 / (N- + 2) with N the sums of weights,
    so that separable scores still get finite odds.
    """
    total = weight.sum()
    center = weight @ scores / total
    scale = np.sqrt(weight @ (scores - center) ** 2 / total)

    sums = functools.partial(log_loss_terms, scores, positive, weight)
    return platt_of_sums(sums, total, weight[positive].sum(), (center, scale))


def platt_of_sums(
    sums: Callable[..., tuple], total: float, n_positive: float, unit: tuple[float, float]
) -> tuple[float, float]:
    """Return these from the `log_loss_terms` of all rows.

    `total` and `n_positive` are weights; `unit` holds the scores' mean and standard deviation.
    """
    center, scale = unit
    high, low = (n_positive + 1) / (n_positive + 2), 1 / (total - n_positive + 2)
    prior = np.log((n_positive * high + (total - n_positive) * low) / total)
    prior -= np.log1p(-np.exp(prior))
    if not scale > 1e-12 * max(1.0, abs(center)):  # constant scores carry no information
        return 1.0, prior - center

    @functools.lru_cache(maxsize=2)  # SciPy asks for value and Hessian one after the other
    def terms(slope, intercept):
        return np.array(sums(unit, (high, low), (slope, intercept))) / total

    result = minimize(
        lambda x: (terms(*x)[0], terms(*x)[1:3]),
        x0=[1.0, prior],
        jac=True,
        hess=lambda x: terms(*x)[[3, 4, 4, 5]].reshape(2, 2),
        method="trust-exact",
        options={"gtol": 1e-10},
    )
    # A last step of Newton's, from what is known already, takes the error to that of rounding.
    g0, g1, h00, h01, h11 = terms(*result.x)[1:]
    determinant = h00 * h11 - h01**2
    if determinant > 1e-6:
        result.x -= np.array([h11 * g0 - h01 * g1, h00 * g1 - h01 * g0]) / determinant
    slope, intercept = result.x
    if slope <= 1e-3:  # no better than chance: keep the ranks, at odds close to the prior's
        slope, intercept = 1e-3, prior
    return slope / scale, intercept - slope * center / scale


def linear_attributes(theta: Array, slope: float, intercept: float, dtype: Any) -> dict[str, Array]:
    """Return weights and intercept of the log-odds, of a linear model and its Platt fit."""
    return {
        "coef_": (slope * theta).astype(dtype)[np.newaxis],
        "intercept_": np.array([intercept], dtype=dtype),
    }
