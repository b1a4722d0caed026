"""The average precision surrogate on torch tensors: the functions of `_kernels`, same results.

Each sweep over the sorted thresholds is a chain of cumulative sums: with g the gap to the next
threshold and b_k the moments of a bin,

    S0_i = sum_{h >= i} b0_h,   S1_i = sum_{h >= i} (b1_h + g_h S0_{h+1}),
    S2_i = sum_{h >= i} (b2_h + 2 g_h S1_{h+1} + g_h^2 S0_{h+1}),

sums of non-negative numbers again.
"""

import torch

from pnsklearn._auprc._kernels import Block, Thresholds
from pnsklearn._device import as_tensor as as_array  # noqa: F401, as `_kernels` has them
from pnsklearn._device import to_numpy
from pnsklearn._typing import Array, Tensor


def linear_scores(X: Tensor, coef: Array) -> Tensor:
    """Return X @ coef in float64, a tensor."""
    return (X @ torch.as_tensor(coef).to(X)).double()


def linear_pull_back(X: Tensor, slope: Tensor) -> Array:
    """Return X.T @ slope, a float64 NumPy array."""
    return to_numpy((X.t() @ slope.to(X.dtype)).double())


def sum_over_ties(values: Tensor, weight: Tensor) -> Tensor:
    """Return, for each of the values, the summed weight of those equal to it."""
    inverse = torch.unique(values, return_inverse=True)[1]
    return torch.zeros_like(weight).index_add_(0, inverse, weight)[inverse]


def sort_thresholds(
    scores: Tensor, margins: Tensor, coefs: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the thresholds of the positives' scores in order, their owners and their a_k."""
    values, order = torch.sort((scores[:, None] - margins).ravel(), stable=True)
    n_hinges = len(margins)
    return values, order // n_hinges, coefs[order % n_hinges]


def find_bins(scores: Tensor, thresholds: Tensor) -> Tensor:
    """Return #{tau < s_j} for each of the scores s_j."""
    return torch.searchsorted(thresholds, scores)


def bin_moments(block: Block, thresholds: Thresholds) -> Tensor:
    """Sum moments per class and bin; see `_kernels.bin_moments`."""
    scores, positive, weight, bins = block
    values = thresholds.values
    u = scores - values[(bins - 1).clamp(min=0)]
    n_bins = len(values) + 1
    index = positive.long() * n_bins + bins
    moments = torch.zeros(3, 2 * n_bins, dtype=u.dtype, device=u.device)
    for power, terms in enumerate((weight, weight * u, weight * u * u)):
        moments[power].index_add_(0, index, terms)
    return moments.T.reshape(2, n_bins, 3)


def _sum_above(x):
    return x.flip(-1).cumsum(-1).flip(-1)


def _next(x):
    """Shift by one threshold, zero beyond the last."""
    return torch.nn.functional.pad(x[..., 1:], (0, 1))


def sweep_down(thresholds: Thresholds, moments: Tensor, n_positives: int) -> Tensor:
    """Turn moments per bin into sums per positive; see `_kernels.sweep_down`."""
    gap = torch.nn.functional.pad(thresholds.values.diff(), (0, 1))
    b0, b1, b2 = moments[:, 1:].unbind(-1)
    S0 = _sum_above(b0)
    S1 = _sum_above(b1 + gap * _next(S0))
    S2 = _sum_above(b2 + gap * (2 * _next(S1) + gap * _next(S0)))
    sums = torch.zeros(3, 2, n_positives, dtype=gap.dtype, device=gap.device)
    return sums.index_add_(2, thresholds.owner, thresholds.coefs * torch.stack([S2, S1, S0]))


def sweep_up(thresholds: Thresholds, points: Tensor, c: tuple[Tensor, Tensor]) -> Tensor:
    """Sum the slopes in the sums from the lowest threshold up; see `_kernels.sweep_up`."""
    T0 = (thresholds.coefs * torch.stack(c)[:, thresholds.owner]).cumsum(1)
    T1 = torch.nn.functional.pad((points.diff() * T0[:, :-1]).cumsum(1), (1, 0))
    return torch.stack([T0, T1], dim=2)


def scatter(block: Block, values: Tensor, points: Tensor, T: Tensor) -> Tensor:
    """Return the samples' gradient as members of the sums; see `_kernels.scatter`."""
    _, positive, weight, bins = block
    below = (bins - 1).clamp(min=0)
    T0, T1 = T[positive.long(), below].unbind(1)
    out = 2.0 * weight * (T1 + T0 * (values - points[below]))
    return torch.where(bins > 0, out, 0.0)
