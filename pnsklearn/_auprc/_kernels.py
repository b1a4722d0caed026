"""The average precision surrogate on the CPU: its loops over samples and over thresholds.

Notation. With scores s, positives P sorted by score, inner weights w and outer weights v
(v sums to one over P), a loss is a sum of squared hinges

    l(d) = sum_k a_k max(0, m_k - d)^2,        d_ij = s_i - s_j,

and the objective is (Qi et al. 2021, equation 3, in a form that subtracts no near-equal numbers)

    P_i = own_i + sum_{j in P} w_j l(d_ij),    N_i = sum_{j not in P} w_j l(d_ij),
    F   = sum_{i in P} v_i N_i / (P_i + N_i)   = 1 - (surrogate average precision).

Everything is exact in O(n log n+): only the thresholds tau = s_i - m_k of the n+ positives are
sorted, all margins together. A sample belongs to the bin b = #{tau < s_j}; it adds (w, w u, w u^2),
with u = s_j - tau_b > 0 its distance from the nearest threshold below, to that bin, and one sweep
over the bins shifts these moments from each threshold to the next:  S2 += 2 g S1 + g^2 S0,
S1 += g S0  (g = gap of neighbouring thresholds). These sums are of non-negative numbers, so nothing
cancels, whatever the offset of the scores.

`_objective` makes values and derivatives of these functions. Of two classes, 0 are the negatives.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse

from pnsklearn._jit import njit
from pnsklearn._typing import Array, Matrix, Tensor

# Cells of the look-up table per threshold; thresholds in a cell from which on to bisect. Measured.
CELLS_PER_THRESHOLD = 2
LONGEST_WALK = 8


class Thresholds(NamedTuple):
    """The sorted thresholds of all positives: what a block of rows must know of the others.

    `origin` is taken from all scores, `owner` is the positive and `coefs` the a_k of a threshold.
    """

    origin: Any
    values: Tensor
    owner: Tensor
    coefs: Tensor


class Block(NamedTuple):
    """Rows: their scores less the origin, classes, inner weights and bins."""

    scores: Tensor
    positive: Tensor
    weight: Tensor
    bins: Tensor


@njit(fastmath={"reassoc", "contract"})
def _dense_scores(X, coef):
    out = np.empty(X.shape[0])
    for j in range(X.shape[0]):
        total = 0.0
        for f in range(X.shape[1]):
            total += X[j, f] * coef[f]
        out[j] = total
    return out


@njit
def _sparse_scores(data, indices, indptr, coef):
    out = np.empty(indptr.shape[0] - 1)
    for j in range(out.shape[0]):
        total = 0.0
        for e in range(indptr[j], indptr[j + 1]):
            total += data[e] * coef[indices[e]]
        out[j] = total
    return out


@njit
def _dense_pull_back(X, slope):
    out = np.zeros(X.shape[1])
    for j in range(X.shape[0]):
        if slope[j] != 0.0:  # most negatives are ranked below every positive
            for f in range(X.shape[1]):
                out[f] += slope[j] * X[j, f]
    return out


@njit
def _sparse_pull_back(data, indices, indptr, slope, n_features):
    out = np.zeros(n_features)
    for j in range(slope.shape[0]):
        if slope[j] != 0.0:
            for e in range(indptr[j], indptr[j + 1]):
                out[indices[e]] += slope[j] * data[e]
    return out


def as_array(array: Matrix, device: Any) -> Matrix:
    """Return the NumPy array itself: what the CPU computes with."""
    return array


def to_numpy(tensor: Array) -> Array:
    """Return the array itself."""
    return tensor


def linear_scores(X: Matrix, coef: Array) -> Array:
    """Return X @ coef in float64; equal rows get equal scores, wherever they stand."""
    if issparse(X):
        return _sparse_scores(X.data, X.indices, X.indptr, coef)
    return _dense_scores(X, coef)


def linear_pull_back(X: Matrix, slope: Array) -> Array:
    """Return X.T @ slope in float64."""
    if issparse(X):
        return _sparse_pull_back(X.data, X.indices, X.indptr, slope, X.shape[1])
    return _dense_pull_back(X, slope)


def sum_over_ties(values: Array, weight: Array) -> Array:
    """Return, for each of the values, the summed weight of those equal to it."""
    inverse = np.unique(values, return_inverse=True)[1]
    return np.bincount(inverse, weights=weight)[inverse]


@njit
def _build_table(thresholds):
    """Count, for each cell of an even grid over the thresholds' range, the thresholds below it."""
    n_thresholds = thresholds.shape[0]
    n_cells = CELLS_PER_THRESHOLD * n_thresholds
    low = thresholds[0]
    extent = thresholds[-1] - low
    inverse = n_cells / extent
    if not np.isfinite(inverse):
        inverse = 0.0
    table = np.empty(n_cells + 2, dtype=np.int32)
    i = 0
    for cell in range(n_cells + 1):
        while i < n_thresholds and (thresholds[i] - low) * inverse < cell:
            i += 1
        table[cell] = i
    table[n_cells + 1] = n_thresholds
    return table, low, inverse


@njit
def _find_bin(padded, table, low, inverse, score):
    """Return #{tau < score}; the thresholds end with infinity."""
    # The cell brackets the bin up to rounding; the exact test decides.
    cell = int(min(max((score - low) * inverse, 0.0), float(table.shape[0] - 2)))
    begin, end = table[cell], table[cell + 1]
    while end - begin > LONGEST_WALK:
        middle = (begin + end) // 2
        if padded[middle] < score:
            begin = middle + 1
        else:
            end = middle
    begin += padded[begin] < score  # without a branch, as it is a coin toss
    while padded[begin] < score:
        begin += 1
    while begin > 0 and not padded[begin - 1] < score:
        begin -= 1
    return begin


def sort_thresholds(scores: Array, margins: Array, coefs: Array) -> tuple[Array, Array, Array]:
    """Return the thresholds of the positives' scores in order, their owners and their a_k.

    Only the scores are sorted: each margin gives a sorted list, and the lists are merged.
    """
    order = scores.argsort()
    return _merge_thresholds(scores[order], order, margins, coefs)


@njit
def _merge_thresholds(sorted_scores, order, margins, coefs):
    n_hinges, n = margins.shape[0], sorted_scores.shape[0]
    padded = np.append(sorted_scores, np.inf)
    values = np.empty(n_hinges * n)
    owner = np.empty(n_hinges * n, dtype=np.int64)
    coef = np.empty(n_hinges * n)
    taken = np.zeros(n_hinges, dtype=np.int64)
    heads = padded[0] - margins
    for i in range(n_hinges * n):
        k = 0
        for h in range(1, n_hinges):
            k = h if heads[h] < heads[k] else k  # without a branch, as it is a coin toss
        values[i], owner[i], coef[i] = heads[k], order[taken[k]], coefs[k]
        taken[k] += 1
        heads[k] = padded[taken[k]] - margins[k]
    return values, owner, coef


@njit
def find_bins(scores: Array, thresholds: Array) -> Array:
    """Return #{tau < s_j} for each of the finite scores s_j."""
    padded = np.append(thresholds, np.inf)
    table, low, inverse = _build_table(thresholds)
    bins = np.empty(scores.shape[0], dtype=np.int32)
    for j in range(scores.shape[0]):
        bins[j] = _find_bin(padded, table, low, inverse, scores[j])
    return bins


@njit
def bin_moments(block: Block, thresholds: Thresholds) -> Array:
    """Sum (w, w u, w u^2) per class and bin, of shape (2, n_thresholds + 1, 3).

    The sums of blocks add up. Bin zero takes the samples below every threshold.
    """
    scores, positive, weight, bins = block
    values = thresholds.values
    moments = np.zeros((2, values.shape[0] + 1, 3))
    for j in range(scores.shape[0]):
        b = bins[j]
        u = scores[j] - values[max(b - 1, 0)]
        label = 1 if positive[j] else 0
        moments[label, b, 0] += weight[j]
        moments[label, b, 1] += weight[j] * u
        moments[label, b, 2] += weight[j] * u * u
    return moments


@njit
def sweep_down(thresholds: Thresholds, moments: Array, n_positives: int) -> Array:
    """Turn moments per bin into sums per positive, of shape (3, 2, n_positives).

    For each class they are the sums of w_j l(d_ij), of minus half its slope in d_ij, and of half
    its curvature: sum_k a_k sum_{j: u > 0} w_j u^p with u = m_k - d_ij and p = 2, 1, 0.
    """
    _, values, owner, coefs = thresholds
    sums = np.zeros((3, 2, n_positives))
    for label in range(2):
        S0 = S1 = S2 = 0.0
        for i in range(values.shape[0] - 1, -1, -1):
            if i < values.shape[0] - 1:
                gap = values[i + 1] - values[i]
                S2 += gap * (2.0 * S1 + gap * S0)
                S1 += gap * S0
            S0 += moments[label, i + 1, 0]
            S1 += moments[label, i + 1, 1]
            S2 += moments[label, i + 1, 2]
            sums[0, label, owner[i]] += coefs[i] * S2
            sums[1, label, owner[i]] += coefs[i] * S1
            sums[2, label, owner[i]] += coefs[i] * S0
    return sums


@njit
def sweep_up(thresholds: Thresholds, points: Array, c: tuple[Array, Array]) -> Array:
    """Sum c_i, the slopes in the positives' sums, from the lowest threshold up.

    Returns T of shape (2, n_thresholds, 2) with T0_i = sum_{h <= i} a_h c_h and
    T1_i = sum_{h <= i} a_h c_h (x_i - x_h) for one point x per threshold: itself, or its derivative
    along a direction.
    """
    owner, coefs = thresholds.owner, thresholds.coefs
    T = np.empty((2, points.shape[0], 2))
    for label in range(2):
        T0 = T1 = 0.0
        for i in range(points.shape[0]):
            if i > 0:
                T1 += (points[i] - points[i - 1]) * T0
            T0 += coefs[i] * c[label][owner[i]]
            T[label, i, 0] = T0
            T[label, i, 1] = T1
    return T


@njit
def scatter(block: Block, values: Array, points: Array, T: Array) -> Array:
    """Return 2 w_j sum_{i: tau_i < s_j} a_i c_i (y_j - x_i), y one value per sample.

    With y = s and x = tau it is the gradient in the score of a sample as a member of the sums.
    """
    _, positive, weight, bins = block
    out = np.zeros(values.shape[0])
    for j in range(values.shape[0]):
        b = bins[j] - 1
        if b >= 0:
            label = 1 if positive[j] else 0
            u = values[j] - points[b]
            out[j] = 2.0 * weight[j] * (T[label, b, 1] + T[label, b, 0] * u)
    return out
