"""Trend scores: one number per row from its scores p_1, ..., p_T at T snapshots of a training.

With d_t = p_{t+1} - p_t and psi(x) = sign(x) log(1 + |x| + x^2 / 2):

    simple         mean_t log(1 + d_t + d_t^2 / 2)                    the authors' code
    pairwise       2 / (T (T - 1)) sum_{i < j} psi(2 (p_j - p_i))     the paper's equations 4 and 5
    slope          least-squares slope of p_t on t
    mean, last     mean of p_t, and p_T
    mann-kendall   2 / (T (T - 1)) sum_{i < j} sign(p_j - p_i)

As log(1 + d + d^2 / 2) = d - d^3 / 6 + O(d^4), the first is nearly (p_T - p_1) / (T - 1); and as
the sum of all p_j - p_i is a multiple of the slope, the second ranks nearly as the third.

X. Wang, W. Wan, C. Geng, S.-Y. Li, S. Chen, "Beyond Myopia: Learning from Positive and Unlabeled
Data through Holistic Predictive Trends", NeurIPS 2023.
"""

from copy import copy

import numpy as np
from numpy.typing import ArrayLike

from pnsklearn._typing import Array

PAIRED_TRENDS = ("pairwise", "mann-kendall")
TRENDS_OF_CHANGE = ("simple", "slope", *PAIRED_TRENDS)  # which one snapshot does not have
TRENDS = ("mean", "last", *TRENDS_OF_CHANGE)


class OnlineTrend:
    """Trend scores of snapshots that come one by one, from four numbers per row.

    Parameters
    ----------
    keep_history : bool, default=False
        Whether to keep all snapshots in float32, which the scores of `PAIRED_TRENDS` need.

    Examples
    --------
    >>> from pnsklearn._pu_trend._trend import OnlineTrend
    >>> trend = OnlineTrend()
    >>> for p in ([0.5, 0.5], [0.6, 0.4], [0.7, 0.3]):
    ...     trend.update(p)
    >>> trend.scores("mean")
    array([0.6, 0.4])
    """

    def __init__(self, keep_history: bool = False):
        self.keep_history = keep_history
        self.n_snapshots = 0
        self._history: tuple[Array, ...] = ()
        self._last = self._mean = np.zeros(())
        # Sums over snapshots: log(1 + d + d^2 / 2), and p_t times t minus the mean of t.
        self._log_sum = self._covariation = np.zeros(())

    @property
    def history(self) -> Array | None:
        """The snapshots as float32 of shape (n_snapshots, n, ...), or None if they are not kept."""
        return np.stack(self._history) if self._history else None

    def update(self, p: ArrayLike) -> None:
        """Take in the next snapshot, scores of shape (n, ...), always the same."""
        p = np.array(p, dtype=np.float64)
        n = self.n_snapshots
        # New arrays, never in place: copies share them. Rows that never change get sums of zero.
        if n == 0:
            self._mean = p
        else:
            change, excess = p - self._last, p - self._mean
            self._log_sum = self._log_sum + np.log(1 + change * (1 + 0.5 * change))
            self._covariation = self._covariation + n / 2 * excess
            self._mean = self._mean + excess / (n + 1)
        self._last = p
        if self.keep_history:
            self._history = (*self._history, p.astype(np.float32))
        self.n_snapshots += 1

    def copy(self) -> "OnlineTrend":
        """Return the present state, which further updates leave alone, without copying arrays."""
        return copy(self)

    def scores(self, kind: str) -> Array:
        """Return the trend scores of the snapshots so far, of shape (n, ...); see the top.

        After a single snapshot all but the mean and the last are 0.
        """
        if kind == "last":
            return self._last.copy()
        if kind == "mean":
            return self._mean.copy()
        n = self.n_snapshots
        if n == 1:
            return np.zeros_like(self._last)
        if kind == "simple":
            return self._log_sum / (n - 1)
        if kind == "slope":
            return self._covariation / (n * (n**2 - 1) / 12)  # sum of (t - mean of t)^2
        return _paired_scores(self._history, kind)


def psi(x):
    """Return sign(x) log(1 + |x| + x^2 / 2), an influence function of Catoni's kind."""
    size = np.abs(x)
    return np.copysign(np.log(1 + size * (1 + 0.5 * size)), x)


def _paired_scores(history, kind):
    """Return the mean over pairs of snapshots of psi(2 d) or sign(d), for differences d."""
    n = len(history)
    total = np.zeros(np.shape(history[0]))
    for j in range(1, n):
        later = np.asarray(history[j], dtype=np.float64)
        for i in range(j):
            d = later - history[i]
            total += psi(2 * d) if kind == "pairwise" else np.sign(d)
    return total / (n * (n - 1) / 2)
