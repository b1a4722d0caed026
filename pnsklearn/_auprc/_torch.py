"""The average precision surrogate on torch tensors: the functions of `_kernels`, same results.

Each sweep over the sorted positives is a chain of cumulative sums: with g the gap to the next
positive and b_k the moments of a bin,

    S0_i = sum_{h >= i} b0_h,   S1_i = sum_{h >= i} (b1_h + g_h S0_{h+1}),
    S2_i = sum_{h >= i} (b2_h + 2 g_h S1_{h+1} + g_h^2 S0_{h+1}),

sums of non-negative numbers again.
"""

import warnings

import numpy as np
import torch

from pnsklearn._auprc._kernels import Surrogate


def as_array(array, device):
    """Return a NumPy array or CSR matrix as a tensor on the device."""
    if isinstance(array, np.ndarray):
        return torch.tensor(array, device=device)
    parts = (torch.tensor(part) for part in (array.indptr, array.indices, array.data))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            *parts, size=array.shape, device=device, check_invariants=False
        )


def to_numpy(array):
    """Return a tensor as a NumPy array."""
    return array.cpu().numpy()


def linear_scores(X, coef):
    """Return X @ coef in float64, a tensor."""
    return (X @ torch.as_tensor(coef).to(X)).double()


def linear_pull_back(X, slope):
    """Return X.T @ slope, a float64 NumPy array."""
    return to_numpy((X.t() @ slope.to(X.dtype)).double())


def _sum_above(x):
    return x.flip(-1).cumsum(-1).flip(-1)


def _next(x):
    """Shift by one positive, zero beyond the last."""
    return torch.nn.functional.pad(x[..., 1:], (0, 1))


def _locate(scores, sorted_scores, margins):
    """Return, per margin and sample, its bin (0 for none) and the bin's lowest positive."""
    bins = torch.stack([torch.searchsorted(sorted_scores, scores + m) for m in margins])
    nearest = (bins - 1).clamp(min=0)
    u = (scores - sorted_scores[nearest]) + margins[:, None]
    return bins, nearest, u


def _add_up(values, positive, nearest, bins, n_positives):
    """Sum values of shape (n_margins, n) into (n_margins, 2, n_positives)."""
    n_margins = bins.shape[0]
    margin = torch.arange(n_margins, device=bins.device)[:, None]
    index = (2 * margin + positive.long()) * n_positives + nearest
    out = torch.zeros(n_margins * 2 * n_positives, dtype=values.dtype, device=values.device)
    out.index_add_(0, index.ravel(), torch.where(bins > 0, values, 0.0).ravel())
    return out.reshape(n_margins, 2, n_positives)


def _gaps(sorted_scores):
    return torch.nn.functional.pad(sorted_scores.diff(), (0, 1))


def surrogate(scores, positive, weight, outer, own, margins, coefs):
    """Evaluate F; arguments and result as in `_kernels.surrogate`, tensors throughout."""
    sorted_scores, order = torch.sort(scores[positive], stable=True)
    n_positives = sorted_scores.shape[0]
    bins, nearest, u = _locate(scores, sorted_scores, margins)
    gap = _gaps(sorted_scores)
    S0 = _sum_above(_add_up(weight.expand_as(u), positive, nearest, bins, n_positives))
    b1 = _add_up(weight * u, positive, nearest, bins, n_positives)
    S1 = _sum_above(b1 + gap * _next(S0))
    b2 = _add_up(weight * u * u, positive, nearest, bins, n_positives)
    S2 = _sum_above(b2 + gap * (2 * _next(S1) + gap * _next(S0)))
    sums = torch.einsum("k,kci->ic", coefs, S2)
    slopes = torch.einsum("k,kci->ic", coefs, S1)
    N, P = sums[:, 0].clamp(min=0.0), sums[:, 1].clamp(min=0.0) + own[order]
    outer = outer[order]
    value = float(outer @ (N / (P + N)))
    return Surrogate(
        value, scores, positive, weight, margins, coefs,
        sorted_scores, order, bins, outer, P, N, slopes,
    )  # fmt: skip


def _pull_back(state, c, own_slope):
    """Gradient from the weights c_i of the sums and the positives' own terms."""
    gap = _gaps(state.sorted_scores)[:, None]
    T0 = c.cumsum(0)
    T1 = torch.nn.functional.pad((gap * T0)[:-1], (0, 0, 1, 0)).cumsum(0)
    label = state.positive.long()
    total = torch.zeros_like(state.scores)
    for a, m, b in zip(state.coefs, state.margins, state.bins, strict=True):
        nearest = (b - 1).clamp(min=0)
        u = (state.scores - state.sorted_scores[nearest]) + m
        total += torch.where(b > 0, a * (T1[nearest, label] + T0[nearest, label] * u), 0.0)
    out = 2.0 * state.weight * total
    own = torch.empty_like(own_slope)
    own[state.order] = own_slope
    out[state.positive] -= own
    return out


def gradient(state):
    """Return dF/ds, of shape (n,); see `_kernels.gradient`."""
    A2 = (state.P + state.N) ** 2
    c = torch.stack([state.outer * state.P / A2, -state.outer * state.N / A2], dim=1)
    return _pull_back(state, c, 2.0 * (c * state.D).sum(1))


def hessian_product(state, direction):
    """Return the product of the Hessian of F with `direction`; see `_kernels.hessian_product`."""
    n_positives = state.sorted_scores.shape[0]
    bins, nearest, u = _locate(state.scores, state.sorted_scores, state.margins)
    where = (state.positive, nearest, bins, n_positives)
    wh = (state.weight * direction).expand_as(u)
    S0 = _sum_above(_add_up(state.weight.expand_as(u), *where))
    H0 = _sum_above(_add_up(wh, *where))
    H1 = _sum_above(_add_up(wh * u, *where) + _gaps(state.sorted_scores) * _next(H0))
    S0, H0, H1 = (torch.einsum("k,kci->ic", state.coefs, S) for S in (S0, H0, H1))
    P, N, v = state.P[:, None], state.N[:, None], state.outer[:, None]
    h = direction[state.positive][state.order][:, None]
    d_sums, d_slopes = 2.0 * (H1 - h * state.D), H0 - h * S0
    dN, dP = d_sums[:, :1], d_sums[:, 1:]
    A, dA = P + N, dN + dP
    c = torch.hstack([v * P, -v * N]) / A**2
    dc = torch.hstack([v * (dP - 2.0 * P * dA / A), v * (-dN + 2.0 * N * dA / A)]) / A**2
    out = _pull_back(state, dc, 2.0 * (dc * state.D + c * d_slopes).sum(1))
    C, E, label = c.cumsum(0), (c * h).cumsum(0), state.positive.long()
    for a, b in zip(state.coefs, bins, strict=True):
        near = (b - 1).clamp(min=0)
        change = a * (C[near, label] * direction - E[near, label])
        out += 2.0 * state.weight * torch.where(b > 0, change, 0.0)
    return out
