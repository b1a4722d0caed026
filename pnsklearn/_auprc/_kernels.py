"""The average precision surrogate on the CPU: exact value, gradient and Hessian product.

Notation. With scores s, positives P sorted by score, inner weights w and outer weights v
(v sums to one over P), a loss is a sum of squared hinges

    l(d) = sum_k a_k max(0, m_k - d)^2,        d_ij = s_i - s_j,

and the objective is (Qi et al. 2021, equation 3, in a form that subtracts no near-equal numbers)

    P_i = own_i + sum_{j in P} w_j l(d_ij),    N_i = sum_{j not in P} w_j l(d_ij),
    F   = sum_{i in P} v_i N_i / (P_i + N_i)   = 1 - (surrogate average precision).

Everything is exact in O(n log n+): only the n+ positives are sorted. A sample belongs to the bin
b = #{i : s_i - s_j < m}; it adds (w, w u, w u^2), with u = m - (s_b - s_j) > 0 measured from the
nearest positive below it, to that bin, and one sweep over the bins shifts these moments from each
positive to the next:  S2 += 2 g S1 + g^2 S0,  S1 += g S0  (g = gap of neighbouring positives).
All the sums are of non-negative numbers, so nothing cancels, whatever the offset of the scores.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import issparse

from pnsklearn._jit import njit

# Cells of the look-up table per positive; positives in a cell from which on to bisect. Measured.
CELLS_PER_POSITIVE = 4
LONGEST_WALK = 8


@dataclass(frozen=True)
class Surrogate:
    """Value of the objective at some scores, and what its derivatives need."""

    value: float
    scores: object
    positive: object
    weight: object
    margins: object
    coefs: object
    sorted_scores: object
    order: object
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
def _build_table(sorted_scores):
    """Count, for each cell of an even grid over the positives' range, the positives below it."""
    n_positives = sorted_scores.shape[0]
    n_cells = CELLS_PER_POSITIVE * n_positives
    low = sorted_scores[0]
    extent = sorted_scores[-1] - low
    inverse = n_cells / extent if extent > 0 else 0.0
    if not np.isfinite(inverse):
        inverse = 0.0
    table = np.empty(n_cells + 2, dtype=np.int32)
    i = 0
    for cell in range(n_cells + 1):
        while i < n_positives and (sorted_scores[i] - low) * inverse < cell:
            i += 1
        table[cell] = i
    table[n_cells + 1] = n_positives
    return table, low, inverse


@njit
def _find_bin(padded_scores, table, low, inverse, score, margin):
    """Return #{i : s_i - score < margin}; the scores end with infinity."""
    # The cell brackets the bin up to rounding; the exact test decides.
    position = ((score + margin) - low) * inverse
    cell = int(min(max(position, 0.0), float(table.shape[0] - 2)))
    begin, end = table[cell], table[cell + 1]
    while end - begin > LONGEST_WALK:
        middle = (begin + end) // 2
        if padded_scores[middle] - score < margin:
            begin = middle + 1
        else:
            end = middle
    begin += padded_scores[begin] - score < margin  # without a branch, as it is a coin toss
    while padded_scores[begin] - score < margin:
        begin += 1
    while begin > 0 and not padded_scores[begin - 1] - score < margin:
        begin -= 1
    return begin


@njit
def _bin_moments(scores, positive, weight, padded_scores, table, low, inverse, margins, bins):
    """Sum (w, w u, w u^2) per bin, margin and class; the sums of row blocks add up.

    Bin zero takes the samples that no positive has within its margin.
    """
    n_margins = margins.shape[0]
    moments = np.zeros((n_margins, 2, padded_scores.shape[0], 3))
    for k in range(n_margins):  # outermost: the tables of one margin fit the L2 cache
        for j in range(scores.shape[0]):
            b = _find_bin(padded_scores, table, low, inverse, scores[j], margins[k])
            bins[k, j] = b
            u = (scores[j] - padded_scores[max(b - 1, 0)]) + margins[k]
            label = 1 if positive[j] else 0
            moments[k, label, b, 0] += weight[j]
            moments[k, label, b, 1] += weight[j] * u
            moments[k, label, b, 2] += weight[j] * u * u
    return moments


@njit
def _sweep_down(sorted_scores, moments, coefs):
    """Turn moments per bin into l-sums per positive and class, (sums, half slopes)."""
    n_margins, n_positives = moments.shape[0], sorted_scores.shape[0]
    sums = np.zeros((n_positives, 2))
    slopes = np.zeros((n_positives, 2))
    for k in range(n_margins):
        for label in range(2):
            S0 = S1 = S2 = 0.0
            for i in range(n_positives - 1, -1, -1):
                if i < n_positives - 1:
                    gap = sorted_scores[i + 1] - sorted_scores[i]
                    S2 += gap * (2.0 * S1 + gap * S0)
                    S1 += gap * S0
                S0 += moments[k, label, i + 1, 0]
                S1 += moments[k, label, i + 1, 1]
                S2 += moments[k, label, i + 1, 2]
                sums[i, label] += coefs[k] * S2
                slopes[i, label] += coefs[k] * S1
    return sums, slopes


@njit
def _sweep_up(sorted_scores, c):
    """Return T0_i = sum_{h <= i} c_h and T1_i = sum_{h <= i} c_h (s_i - s_h), per class."""
    T = np.empty((sorted_scores.shape[0], 2, 2))
    for label in range(2):
        T0 = T1 = 0.0
        for i in range(sorted_scores.shape[0]):
            if i > 0:
                T1 += (sorted_scores[i] - sorted_scores[i - 1]) * T0
            T0 += c[i, label]
            T[i, label, 0] = T0
            T[i, label, 1] = T1
    return T


@njit
def _scatter(scores, positive, weight, sorted_scores, margins, coefs, bins, T):
    """Gradient as a sample j of the sums: 2 w_j sum_k a_k sum_{i < b} c_i (m_k - d_ij)."""
    out = np.empty(scores.shape[0])
    for j in range(scores.shape[0]):
        label = 1 if positive[j] else 0
        total = 0.0
        for k in range(margins.shape[0]):
            b = bins[k, j]
            if b > 0:
                u = (scores[j] - sorted_scores[b - 1]) + margins[k]
                total += coefs[k] * (T[b - 1, label, 1] + T[b - 1, label, 0] * u)
        out[j] = 2.0 * weight[j] * total
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
    """
    positive_scores = scores[positive]
    order = np.argsort(positive_scores, kind="stable")
    sorted_scores = positive_scores[order]
    table, low, inverse = _build_table(sorted_scores)
    bins = np.empty((margins.shape[0], scores.shape[0]), dtype=np.int32)
    moments = _bin_moments(
        scores,
        positive,
        weight,
        np.append(sorted_scores, np.inf),
        table,
        low,
        inverse,
        margins,
        bins,
    )
    sums, slopes = _sweep_down(sorted_scores, moments, coefs)
    # A second difference of squared hinges can leave -1e-17 where the sum is zero.
    N, P = np.maximum(sums[:, 0], 0.0), np.maximum(sums[:, 1], 0.0) + own[order]
    outer = outer[order]
    value = float(outer @ (N / (P + N)))
    return Surrogate(
        value, scores, positive, weight, margins, coefs,
        sorted_scores, order, bins, outer, P, N, slopes,
    )  # fmt: skip


def _pull_back(state, c, own_slope):
    """Gradient from the weights c_i of the sums and the positives' own terms."""
    T = _sweep_up(state.sorted_scores, c)
    out = _scatter(
        state.scores, state.positive, state.weight, state.sorted_scores,
        state.margins, state.coefs, state.bins, T,
    )  # fmt: skip
    own = np.empty_like(own_slope)
    own[state.order] = own_slope
    out[state.positive] -= own
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
def _bin_direction(scores, positive, weight, direction, sorted_scores, margins, bins):
    """Sum (w, w h, w u h) per bin, margin and class, h the direction at the sample."""
    n_margins = margins.shape[0]
    moments = np.zeros((n_margins, 2, sorted_scores.shape[0] + 1, 3))
    for k in range(n_margins):
        for j in range(scores.shape[0]):
            b = bins[k, j]
            u = (scores[j] - sorted_scores[max(b - 1, 0)]) + margins[k]
            wh = weight[j] * direction[j]
            label = 1 if positive[j] else 0
            moments[k, label, b, 0] += weight[j]
            moments[k, label, b, 1] += wh
            moments[k, label, b, 2] += wh * u
    return moments


@njit
def _sweep_down_direction(sorted_scores, moments, coefs):
    """Return sum w, sum w h and sum w h (m - d) over the bins above each positive, per class."""
    n_margins, n_positives = moments.shape[0], sorted_scores.shape[0]
    out = np.zeros((n_positives, 2, 3))
    for k in range(n_margins):
        for label in range(2):
            S0 = H0 = H1 = 0.0
            for i in range(n_positives - 1, -1, -1):
                if i < n_positives - 1:
                    H1 += (sorted_scores[i + 1] - sorted_scores[i]) * H0
                S0 += moments[k, label, i + 1, 0]
                H0 += moments[k, label, i + 1, 1]
                H1 += moments[k, label, i + 1, 2]
                out[i, label, 0] += coefs[k] * S0
                out[i, label, 1] += coefs[k] * H0
                out[i, label, 2] += coefs[k] * H1
    return out


@njit
def _scatter_direction(positive, weight, direction, coefs, bins, C, E):
    """2 w_j sum_k a_k sum_{i < b} c_i (h_j - h_i), from C = cumsum(c) and E = cumsum(c h_i)."""
    out = np.empty(direction.shape[0])
    for j in range(direction.shape[0]):
        label = 1 if positive[j] else 0
        total = 0.0
        for k in range(coefs.shape[0]):
            b = bins[k, j]
            if b > 0:
                total += coefs[k] * (C[b - 1, label] * direction[j] - E[b - 1, label])
        out[j] = 2.0 * weight[j] * total
    return out


def hessian_product(state, direction):
    """Return the product of the Hessian of F with `direction`, both of shape (n,).

    Where a squared hinge has a kink in its slope, the one-sided second derivative is used.
    """
    sums = _sweep_down_direction(
        state.sorted_scores,
        _bin_direction(
            state.scores, state.positive, state.weight, direction,
            state.sorted_scores, state.margins, state.bins,
        ),
        state.coefs,
    )  # fmt: skip
    P, N, v = state.P[:, None], state.N[:, None], state.outer[:, None]
    h = direction[state.positive][state.order][:, None]
    # dS2 = 2 (sum w h_j u - h_i S1) and dS1 = sum w h_j - h_i S0, columns: negatives, positives.
    d_sums = 2.0 * (sums[:, :, 2] - h * state.D)
    d_slopes = sums[:, :, 1] - h * sums[:, :, 0]
    dN, dP = d_sums[:, :1], d_sums[:, 1:]
    A, dA = P + N, dN + dP
    c = np.hstack([v * P, -v * N]) / A**2
    dc = np.hstack([v * (dP - 2.0 * P * dA / A), v * (-dN + 2.0 * N * dA / A)]) / A**2
    out = _pull_back(state, dc, 2.0 * np.sum(dc * state.D + c * d_slopes, axis=1))
    return out + _scatter_direction(
        state.positive, state.weight, direction, state.coefs, state.bins,
        np.cumsum(c, axis=0), np.cumsum(c * h, axis=0),
    )  # fmt: skip
