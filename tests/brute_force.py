"""The objective by its definition, over all pairs: what the fast code is compared with.

Everything also takes complex scores, so that a derivative is the imaginary part of a step along the
imaginary axis, exact to rounding.
"""

import numpy as np

STEP = 1e-30


def pair_loss(d, loss, margin):
    """Return l(d), each branch in closed form (the package adds up squared hinges)."""
    t, x = margin, np.real(d)
    if loss == "squared_hinge":
        return np.where(x < t, (t - d) ** 2, 0)
    middle = np.where(x < 0, 1 - (t + d) ** 2 / (2 * t**2), (t - d) ** 2 / (2 * t**2))
    return np.where(x <= -t, 1, np.where(x < t, middle, 0))


def pair_slope(d, loss, margin):
    """Return l'(d)."""
    t, x = margin, np.real(d)
    if loss == "squared_hinge":
        return np.where(x < t, -2 * (t - d), 0)
    return np.where(np.abs(x) < t, np.where(x < 0, -(t + d), -(t - d)) / t**2, 0)


def inner_sums(scores, positive, weight, own, loss, margin):
    """Return the sums over the negatives and over the positives, of shape (n_positives,)."""
    pairs = pair_loss(scores[positive][:, None] - scores, loss, margin) * weight
    return pairs[:, ~positive].sum(1), pairs[:, positive].sum(1) + own


def value(scores, positive, weight, outer, own, loss, margin):
    """Return F."""
    N, P = inner_sums(scores, positive, weight, own, loss, margin)
    return outer @ (N / (P + N))


def gradient(scores, positive, weight, outer, own, loss, margin):
    """Return dF/ds."""
    N, P = inner_sums(scores, positive, weight, own, loss, margin)
    slope = pair_slope(scores[positive][:, None] - scores, loss, margin) * weight
    slope = slope * np.where(positive, -N[:, None], P[:, None]) * (outer / (P + N) ** 2)[:, None]
    out = -slope.sum(0)
    out[positive] += slope.sum(1)
    return out


def derivative(function, x):
    """Return the gradient of a real function at x, by complex steps."""
    steps = 1j * STEP * np.eye(len(x))
    return np.array([function(x + step).imag for step in steps]) / STEP


def along(function, x, direction):
    """Return the derivative of a function at x along a direction, by a complex step."""
    return function(x + 1j * STEP * direction).imag / STEP
