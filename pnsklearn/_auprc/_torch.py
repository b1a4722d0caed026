"""The average precision surrogate on torch tensors: the functions of `_kernels`, same results.

Each sweep over the sorted thresholds is a chain of cumulative sums: with g the gap to the next
threshold and b_k the moments of a bin,

    S0_i = sum_{h >= i} b0_h,   S1_i = sum_{h >= i} (b1_h + g_h S0_{h+1}),
    S2_i = sum_{h >= i} (b2_h + 2 g_h S1_{h+1} + g_h^2 S0_{h+1}),

sums of non-negative numbers again.
"""

import math

import torch

from pnsklearn._auprc._kernels import NOT_FINITE, Surrogate
from pnsklearn._device import as_tensor as as_array  # noqa: F401, as `_kernels` has them
from pnsklearn._device import to_numpy


def linear_scores(X, coef):
    """Return X @ coef in float64, a tensor."""
    return (X @ torch.as_tensor(coef).to(X)).double()


def linear_pull_back(X, slope):
    """Return X.T @ slope, a float64 NumPy array."""
    return to_numpy((X.t() @ slope.to(X.dtype)).double())


def _sum_above(x):
    return x.flip(-1).cumsum(-1).flip(-1)


def _next(x):
    """Shift by one threshold, zero beyond the last."""
    return torch.nn.functional.pad(x[..., 1:], (0, 1))


def _gaps(thresholds):
    return torch.nn.functional.pad(thresholds.diff(), (0, 1))


def _add_up(values, positive, bins, n_thresholds):
    """Sum values of shape (n,) per class and threshold, dropping those below every threshold."""
    index = positive.long() * n_thresholds + (bins - 1).clamp(min=0)
    out = torch.zeros(2 * n_thresholds, dtype=values.dtype, device=values.device)
    out.index_add_(0, index, torch.where(bins > 0, values, 0.0))
    return out.reshape(2, n_thresholds)


def _per_positive(sums, owner, coefs, n_positives):
    """Sum coefs * sums, of shape (2, n_thresholds), over the thresholds of each positive."""
    out = torch.zeros(n_positives, 2, dtype=sums.dtype, device=sums.device)
    return out.index_add_(0, owner, (coefs * sums).T)


def surrogate(scores, positive, weight, outer, own, margins, coefs):
    """Evaluate F; arguments and result as in `_kernels.surrogate`, tensors throughout."""
    scores = scores - scores[positive][0]
    thresholds, order = torch.sort((scores[positive][:, None] - margins).ravel(), stable=True)
    owner, coefs = order // len(margins), coefs[order % len(margins)]
    bins = torch.searchsorted(thresholds, scores)
    u = scores - thresholds[(bins - 1).clamp(min=0)]
    gap = _gaps(thresholds)
    where = (positive, bins, len(thresholds))
    S0 = _sum_above(_add_up(weight, *where))
    S1 = _sum_above(_add_up(weight * u, *where) + gap * _next(S0))
    S2 = _sum_above(_add_up(weight * u * u, *where) + gap * (2 * _next(S1) + gap * _next(S0)))
    sums = _per_positive(S2, owner, coefs, len(outer))
    slopes = _per_positive(S1, owner, coefs, len(outer))
    N, P = sums[:, 0].clamp(min=0.0), sums[:, 1].clamp(min=0.0) + own
    value = float(outer @ (N / (P + N)))
    if not math.isfinite(value):
        raise ValueError(NOT_FINITE)
    return Surrogate(
        value, scores, positive, weight, thresholds, owner, coefs, bins, outer, P, N, slopes
    )


def _pull_back(state, c, own_slope):
    """Gradient from the weights c_i of the sums and the positives' own terms."""
    T0 = (state.coefs[:, None] * c[state.owner]).cumsum(0)
    gap = _gaps(state.thresholds)[:, None]
    T1 = torch.nn.functional.pad((gap * T0)[:-1], (0, 0, 1, 0)).cumsum(0)
    label, below = state.positive.long(), (state.bins - 1).clamp(min=0)
    u = state.scores - state.thresholds[below]
    out = 2.0 * state.weight * (T1[below, label] + T0[below, label] * u)
    out = torch.where(state.bins > 0, out, 0.0)
    out[state.positive] -= own_slope
    return out


def gradient(state):
    """Return dF/ds, of shape (n,); see `_kernels.gradient`."""
    A2 = (state.P + state.N) ** 2
    c = torch.stack([state.outer * state.P / A2, -state.outer * state.N / A2], dim=1)
    return _pull_back(state, c, 2.0 * (c * state.D).sum(1))


def hessian_product(state, direction):
    """Return the product of the Hessian of F with `direction`; see `_kernels.hessian_product`."""
    below = (state.bins - 1).clamp(min=0)
    u = state.scores - state.thresholds[below]
    where = (state.positive, state.bins, len(state.thresholds))
    wh = state.weight * direction
    S0 = _sum_above(_add_up(state.weight, *where))
    H0 = _sum_above(_add_up(wh, *where))
    H1 = _sum_above(_add_up(wh * u, *where) + _gaps(state.thresholds) * _next(H0))
    S0, H0, H1 = (
        _per_positive(S, state.owner, state.coefs, len(state.outer)) for S in (S0, H0, H1)
    )
    P, N, v = state.P[:, None], state.N[:, None], state.outer[:, None]
    h = direction[state.positive][:, None]
    d_sums, d_slopes = 2.0 * (H1 - h * state.D), H0 - h * S0
    dN, dP = d_sums[:, :1], d_sums[:, 1:]
    A, dA = P + N, dN + dP
    c = torch.hstack([v * P, -v * N]) / A**2
    dc = torch.hstack([v * (dP - 2.0 * P * dA / A), v * (-dN + 2.0 * N * dA / A)]) / A**2
    out = _pull_back(state, dc, 2.0 * (dc * state.D + c * d_slopes).sum(1))
    a = state.coefs[:, None]
    C, E = (a * c[state.owner]).cumsum(0), (a * (c * h)[state.owner]).cumsum(0)
    label = state.positive.long()
    change = 2.0 * state.weight * (C[below, label] * direction - E[below, label])
    return out + torch.where(state.bins > 0, change, 0.0)
