"""Cut scores in two: natural breaks, and the quantile of a known share of positives.

Every threshold has the positives strictly above it. It lies midway between two neighbouring
distinct values, out of the reach of rounding. Rows of weight zero are as if absent.
"""

import numpy as np

from pnsklearn._jit import njit
from pnsklearn._typing import Array

# The authors' code drops trends from here on before its second break.
STEEP_TREND = 0.2 / 9


def natural_break(scores: Array, weight: Array | None = None, criterion: str = "natural") -> float:
    """Return the threshold that splits scores into two groups of small spread, exactly.

    Over all cuts between distinct values it minimises SSE_l + SSE_r (Fisher's and Jenks' natural
    breaks in two classes) or SSE_l / n_l + SSE_r / n_r, where SSE are sums of squared differences
    from the group's mean and n the numbers of rows (sums of weights). The first prefers groups of
    equal size. The second prefers small groups; where groups overlap it often has two minima of
    nearly the same value, far apart, and the sample decides between them. Neither can answer "no
    split".

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Finite scores.
    weight : ndarray of shape (n,) or None, default=None
        Non-negative weights, not all zero. A weight counts as a repetition.
    criterion : {"natural", "variance"}, default="natural"
        What to minimise: the first sum or the second.

    Returns
    -------
    threshold : float
        Rows above it are the upper group. If all scores are equal, their value: no row is above.

    References
    ----------
    W. D. Fisher, "On Grouping for Maximum Homogeneity", Journal of the American Statistical
    Association 53, 1958. The second criterion: X. Wang, W. Wan, C. Geng, S.-Y. Li, S. Chen, "Beyond
    Myopia: Learning from Positive and Unlabeled Data through Holistic Predictive Trends", NeurIPS
    2023, equation 8.

    Examples
    --------
    >>> import numpy as np
    >>> from pnsklearn._pu_trend._breaks import natural_break
    >>> natural_break(np.array([0.0, 0.1, 0.2, 0.8, 1.0]))
    0.5
    """
    values, weight = _sort(scores, weight)
    return _midway(*_neighbours(values, weight, criterion))


def authors_break(scores: Array) -> float:
    """Return the threshold of the authors' code, which breaks again when few trends fall.

    Natural break (sums of squares); where the lower group reaches above zero, the break of the rows
    below 0.2 / 9 replaces it.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Finite trend scores.

    Returns
    -------
    threshold : float
        Rows above it are positive, those left out of the second break among them.
    """
    values = np.sort(np.asarray(scores, dtype=np.float64))
    lower, upper = _neighbours(values, None, "natural")
    small = values[: np.searchsorted(values, STEEP_TREND)]
    if lower > 0 and len(small) > 0:
        lower, upper = _neighbours(small, None, "natural")
    return _midway(lower, upper)


def quantile_threshold(scores: Array, fraction: float, weight: Array | None = None) -> float:
    """Return the threshold that has a share of the rows above it.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Finite scores.
    fraction : float
        The wanted share, in [0, 1]. Equal scores stay together: of the shares that can be had, from
        no row to all of them, the nearest is taken, and the smaller of two equally near.
    weight : ndarray of shape (n,) or None, default=None
        Non-negative weights, not all zero.

    Returns
    -------
    threshold : float
        Rows above it are positive.

    Examples
    --------
    >>> import numpy as np
    >>> from pnsklearn._pu_trend._breaks import quantile_threshold
    >>> quantile_threshold(np.array([1.0, 2.0, 3.0, 4.0]), 0.25)
    3.5
    """
    values, weight = _sort(scores, weight)
    edges = np.concatenate([[np.nextafter(values[0], -np.inf)], values, [np.inf]])
    n_below = np.flatnonzero(edges[:-1] < edges[1:])
    below = n_below if weight is None else np.append(0.0, np.cumsum(weight))[n_below]
    miss = np.abs(below[-1] - below - fraction * below[-1])
    cut = n_below[len(miss) - 1 - np.argmin(miss[::-1])]
    return _midway(edges[cut], edges[cut + 1])


def _sort(scores, weight):
    """Return scores, sorted, and their weights, without rows of weight zero."""
    scores = np.asarray(scores, dtype=np.float64)
    if weight is None:
        return np.sort(scores), None  # several times faster than argsort
    weight = np.asarray(weight, dtype=np.float64)
    order = np.argsort(scores)
    order = order[weight[order] > 0]
    return scores[order], weight[order]


def _neighbours(values, weight, criterion):
    """Return the two values next to the best cut, or the only value twice."""
    if values[0] == values[-1]:
        return values[0], values[0]
    centre = np.average(values, weights=weight)
    cut = (_sse_cut if criterion == "natural" else _variance_cut)(values, weight, centre)
    return values[cut], values[cut + 1]


def _midway(lower, upper):
    """Return a threshold with lower <= threshold < upper, or lower where both are equal."""
    middle = float(lower + 0.5 * (upper - lower))
    return middle if middle < upper else float(lower)


# Below, S, Q and n are the sums of w (v - c), of w (v - c)^2 and of w, left and right of a cut. The
# centre c changes no criterion, but near the mean it keeps the digits.


@njit(fastmath={"reassoc", "contract"})
def _sums(values, weight, centre):
    """Return n, S and Q of all rows."""
    n = s = q = 0.0
    for i in range(values.shape[0]):
        w = 1.0 if weight is None else weight[i]
        v = values[i] - centre
        n += w
        s += w * v
        q += w * v * v
    return n, s, q


@njit
def _sse_cut(values, weight, centre):
    """Return the last row of the lower group that minimises SSE_l + SSE_r.

    SSE = Q - S^2 / n and the Q add up to a constant, so S_l^2 / n_l + S_r^2 / n_r is largest.
    """
    n, s, _ = _sums(values, weight, centre)
    n_left = s_left = 0.0
    best, cut = -1.0, 0
    for i in range(values.shape[0] - 1):
        w = 1.0 if weight is None else weight[i]
        n_left += w
        s_left += w * (values[i] - centre)
        n_right, s_right = n - n_left, s - s_left
        if values[i] < values[i + 1] and n_right > 0:  # rounding can leave none
            gain = (s_left * s_left * n_right + s_right * s_right * n_left) / (n_left * n_right)
            if gain > best:
                best, cut = gain, i
    return cut


@njit
def _variance_cut(values, weight, centre):
    """Return the last row of the lower group that minimises SSE_l / n_l + SSE_r / n_r.

    SSE / n = Q / n - (S / n)^2.
    """
    n, s, q = _sums(values, weight, centre)
    n_left = s_left = q_left = 0.0
    best, cut = np.inf, 0
    for i in range(values.shape[0] - 1):
        w = 1.0 if weight is None else weight[i]
        v = values[i] - centre
        n_left += w
        s_left += w * v
        q_left += w * v * v
        n_right = n - n_left
        if values[i] < values[i + 1] and n_right > 0:  # rounding can leave none
            inverse = 1.0 / (n_left * n_right)
            left, right = inverse * n_right, inverse * n_left  # 1 / n_left, 1 / n_right
            mean_left, mean_right = left * s_left, right * (s - s_left)
            spread = left * q_left - mean_left**2 + right * (q - q_left) - mean_right**2
            if spread < best:
                best, cut = spread, i
    return cut
