"""The average precision surrogate on the CPU: exact value, gradient and Hessian product.

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
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import issparse

from pnsklearn._jit import njit

# Cells of the look-up table per threshold; thresholds in a cell from which on to bisect. Measured.
CELLS_PER_THRESHOLD = 2
LONGEST_WALK = 8
FARTHEST = 1e100  # of the scores and thresholds from each other
NOT_FINITE = (
    "The objective is not finite: the scores are NaN or too far apart, or the margin, the prior or "
    "the weights are extreme. Scale the features, or lower learning_rate."
)


@dataclass(frozen=True)
class Surrogate:
    """Value of the objective at some scores, and what its derivatives need.

    Thresholds are sorted; `owner` is the positive that each belongs to, `coefs` its a_k.
    """

    value: float
    scores: object
    positive: object
    weight: object
    thresholds: object
    owner: object
    coefs: object
    bins: object
    outer: object
    P: object
    N: object
    D: object


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


def as_array(array, device):
    """Return the NumPy array itself: what the CPU computes with."""
    return array


def to_numpy(array):
    """Return the array itself."""
    return array


def linear_scores(X, coef):
    """Return X @ coef in float64; equal rows get equal scores, wherever they stand."""
    if issparse(X):
        return _sparse_scores(X.data, X.indices, X.indptr, coef)
    return _dense_scores(X, coef)


def linear_pull_back(X, slope):
    """Return X.T @ slope in float64."""
    if issparse(X):
        return _sparse_pull_back(X.data, X.indices, X.indptr, slope, X.shape[1])
    return _dense_pull_back(X, slope)


@njit
def _build_table(thresholds):
    """Count, for each cell of an even grid over the thresholds' range, the thresholds below it."""
    n_thresholds = thresholds.shape[0]
    n_cells = CELLS_PER_THRESHOLD * n_thresholds
    low = thresholds[0]
    extent = thresholds[-1] - low
    inverse = n_cells / extent if extent > 0 else 0.0
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


@njit
def _bin_moments(scores, positive, weight, padded, table, low, inverse, bins):
    """Sum (w, w u, w u^2) per class and bin; the sums of row blocks add up.

    Bin zero takes the samples below every threshold.
    """
    moments = np.zeros((2, padded.shape[0], 3))
    for j in range(scores.shape[0]):
        b = _find_bin(padded, table, low, inverse, scores[j])
        bins[j] = b
        u = scores[j] - padded[max(b - 1, 0)]
        label = 1 if positive[j] else 0
        moments[label, b, 0] += weight[j]
        moments[label, b, 1] += weight[j] * u
        moments[label, b, 2] += weight[j] * u * u
    return moments


@njit
def _sweep_down(thresholds, owner, coefs, moments, n_positives):
    """Turn moments per bin into l-sums per positive and class, (sums, half slopes)."""
    sums = np.zeros((n_positives, 2))
    slopes = np.zeros((n_positives, 2))
    for label in range(2):
        S0 = S1 = S2 = 0.0
        for i in range(thresholds.shape[0] - 1, -1, -1):
            if i < thresholds.shape[0] - 1:
                gap = thresholds[i + 1] - thresholds[i]
                S2 += gap * (2.0 * S1 + gap * S0)
                S1 += gap * S0
            S0 += moments[label, i + 1, 0]
            S1 += moments[label, i + 1, 1]
            S2 += moments[label, i + 1, 2]
            sums[owner[i], label] += coefs[i] * S2
            slopes[owner[i], label] += coefs[i] * S1
    return sums, slopes


@njit
def _sweep_up(thresholds, owner, coefs, c):
    """Return T0_i = sum_{h <= i} a_h c_h and T1_i = sum_{h <= i} a_h c_h (tau_i - tau_h)."""
    T = np.empty((2, thresholds.shape[0], 2))
    for label in range(2):
        T0 = T1 = 0.0
        for i in range(thresholds.shape[0]):
            if i > 0:
                T1 += (thresholds[i] - thresholds[i - 1]) * T0
            T0 += coefs[i] * c[owner[i], label]
            T[label, i, 0] = T0
            T[label, i, 1] = T1
    return T


@njit
def _scatter(scores, positive, weight, thresholds, bins, T):
    """Gradient as a sample j of the sums: 2 w_j sum_{tau_i < s_j} a_i c_i (s_j - tau_i)."""
    out = np.zeros(scores.shape[0])
    for j in range(scores.shape[0]):
        b = bins[j] - 1
        if b >= 0:
            label = 1 if positive[j] else 0
            u = scores[j] - thresholds[b]
            out[j] = 2.0 * weight[j] * (T[label, b, 1] + T[label, b, 0] * u)
    return out


def surrogate(scores, positive, weight, outer, own, margins, coefs):
    """Evaluate F.

    Parameters
    ----------
    scores : float64 array of shape (n,)
    positive : bool array of shape (n,)
        At least one is True.
    weight : float64 array of shape (n,)
        Inner weights w, positive.
    outer, own : float64 arrays of shape (n_positives,)
        Outer weights v and the constants own_i, in the order of the rows.
    margins, coefs : float64 arrays of shape (n_margins,)
        The loss.

    Returns
    -------
    Surrogate

    Raises
    ------
    ValueError
        If the value is not finite.
    """
    # A large offset would round the thresholds; taking it away is exact.
    scores = scores - scores[positive][0]
    if not np.abs(scores).max() + margins.max() <= FARTHEST:  # there is no bin for NaN
        raise ValueError(NOT_FINITE)
    thresholds = (scores[positive][:, None] - margins).ravel()
    order = np.argsort(thresholds, kind="stable")
    thresholds = thresholds[order]
    owner, coefs = order // len(margins), coefs[order % len(margins)]
    bins = np.empty(scores.shape[0], dtype=np.int32)
    moments = _bin_moments(
        scores, positive, weight, np.append(thresholds, np.inf), *_build_table(thresholds), bins
    )
    sums, slopes = _sweep_down(thresholds, owner, coefs, moments, len(outer))
    # A second difference of squared hinges can leave -1e-17 where the sum is zero.
    N, P = np.maximum(sums[:, 0], 0.0), np.maximum(sums[:, 1], 0.0) + own
    with np.errstate(invalid="ignore"):
        value = float(outer @ (N / (P + N)))
    if not np.isfinite(value):
        raise ValueError(NOT_FINITE)
    return Surrogate(
        value, scores, positive, weight, thresholds, owner, coefs, bins, outer, P, N, slopes
    )


def _pull_back(state, c, own_slope):
    """Gradient from the weights c_i of the sums and the positives' own terms."""
    T = _sweep_up(state.thresholds, state.owner, state.coefs, c)
    out = _scatter(state.scores, state.positive, state.weight, state.thresholds, state.bins, T)
    out[state.positive] -= own_slope
    return out


def gradient(state):
    """Return dF/ds, of shape (n,).

    dF/ds_j = 2 w_j sum_{i below j} c_i^{y_j} (m - d_ij) - [j in P] 2 (c_j^+ S1_j^+ + c_j^- S1_j^-)
    with c_i^+ = -v_i N_i / A_i^2,  c_i^- = v_i P_i / A_i^2,  A_i = P_i + N_i.
    """
    A2 = (state.P + state.N) ** 2
    c = np.stack([state.outer * state.P / A2, -state.outer * state.N / A2], axis=1)
    return _pull_back(state, c, 2.0 * np.sum(c * state.D, axis=1))


@njit
def _bin_direction(scores, positive, weight, direction, thresholds, bins):
    """Sum (w, w h, w u h) per class and bin, h the direction at the sample."""
    moments = np.zeros((2, thresholds.shape[0] + 1, 3))
    for j in range(scores.shape[0]):
        b = bins[j]
        u = scores[j] - thresholds[max(b - 1, 0)]
        wh = weight[j] * direction[j]
        label = 1 if positive[j] else 0
        moments[label, b, 0] += weight[j]
        moments[label, b, 1] += wh
        moments[label, b, 2] += wh * u
    return moments


@njit
def _sweep_down_direction(thresholds, owner, coefs, moments, n_positives):
    """Return the sums of w, w h and w h (m - d) above each positive's thresholds, per class."""
    out = np.zeros((n_positives, 2, 3))
    for label in range(2):
        S0 = H0 = H1 = 0.0
        for i in range(thresholds.shape[0] - 1, -1, -1):
            if i < thresholds.shape[0] - 1:
                H1 += (thresholds[i + 1] - thresholds[i]) * H0
            S0 += moments[label, i + 1, 0]
            H0 += moments[label, i + 1, 1]
            H1 += moments[label, i + 1, 2]
            out[owner[i], label, 0] += coefs[i] * S0
            out[owner[i], label, 1] += coefs[i] * H0
            out[owner[i], label, 2] += coefs[i] * H1
    return out


@njit
def _scatter_direction(positive, weight, direction, bins, C, E):
    """2 w_j sum_{tau_i < s_j} a_i c_i (h_j - h_i), from C = cumsum(a c), E = cumsum(a c h_i)."""
    out = np.zeros(direction.shape[0])
    for j in range(direction.shape[0]):
        b = bins[j] - 1
        if b >= 0:
            label = 1 if positive[j] else 0
            out[j] = 2.0 * weight[j] * (C[b, label] * direction[j] - E[b, label])
    return out


def hessian_product(state, direction):
    """Return the product of the Hessian of F with `direction`, both of shape (n,).

    Where a squared hinge has a kink in its slope, the one-sided second derivative is used.
    """
    moments = _bin_direction(
        state.scores, state.positive, state.weight, direction, state.thresholds, state.bins
    )
    sums = _sweep_down_direction(
        state.thresholds, state.owner, state.coefs, moments, len(state.outer)
    )
    P, N, v = state.P[:, None], state.N[:, None], state.outer[:, None]
    h = direction[state.positive][:, None]
    # dS2 = 2 (sum w h_j u - h_i S1) and dS1 = sum w h_j - h_i S0, columns: negatives, positives.
    d_sums = 2.0 * (sums[:, :, 2] - h * state.D)
    d_slopes = sums[:, :, 1] - h * sums[:, :, 0]
    dN, dP = d_sums[:, :1], d_sums[:, 1:]
    A, dA = P + N, dN + dP
    c = np.hstack([v * P, -v * N]) / A**2
    dc = np.hstack([v * (dP - 2.0 * P * dA / A), v * (-dN + 2.0 * N * dA / A)]) / A**2
    out = _pull_back(state, dc, 2.0 * np.sum(dc * state.D + c * d_slopes, axis=1))
    a = state.coefs[:, None]
    return out + _scatter_direction(
        state.positive,
        state.weight,
        direction,
        state.bins,
        np.cumsum(a * c[state.owner], axis=0),
        np.cumsum(a * (c * h)[state.owner], axis=0),
    )
