"""SOAP for a linear model: the stochastic solver of Qi et al. (2021), on the CPU.

For each positive i two moving averages follow the inner sums divided by the total weight,

    u_i^c <- (1 - gamma) u_i^c + gamma * (estimate of (1/W) sum_{j in class c} w_j l(s_i - s_j)),

and the step goes along  sum_i v_i sum_j c_i^{y_j} grad l_ij  with
c_i^+ = -u_i^- / (u_i^+ + u_i^-)^2,  c_i^- = u_i^+ / (u_i^+ + u_i^-)^2  (algorithm 1).
A batch is stratified: the estimates weigh each stratum by its true share, the own pair is exact,
positives are drawn without replacement, and u starts at its first estimate (algorithm 1 as
published starts it at zero, which inflates the first step by 1 / gamma).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pnsklearn._auprc._objective import AnchoredObjective, Pairs
from pnsklearn._jit import njit
from pnsklearn._optim import Adam, half_cosine
from pnsklearn._typing import Array


class Schedule(NamedTuple):
    """How a stochastic solver goes through the rows."""

    batch_size: int
    learning_rate: float
    n_epochs: int
    rng: np.random.RandomState


class Averages(NamedTuple):
    """The estimates u, of shape (n_positives, 2), and what their updates need of all rows.

    The first column is of the negatives. `seen` marks the positives that have an estimate.
    """

    u: Array
    seen: Array
    gamma: float
    n_negatives: int
    total_weight: float


def start_averages(pairs: Pairs, gamma: float) -> Averages:
    """Return the state before the first batch."""
    n = len(pairs.own)
    u, seen = np.zeros((n, 2)), np.zeros(n, dtype=bool)
    n_negatives = len(pairs.positive) - n
    return Averages(u, seen, float(gamma), n_negatives, float(pairs.weight.sum()))


@njit
def _loss_and_slope(d, margins, coefs):
    loss = slope = 0.0
    for k in range(margins.shape[0]):
        u = margins[k] - d
        if u > 0:
            loss += coefs[k] * u * u
            slope -= 2.0 * coefs[k] * u
    return loss, slope


@njit
def batch_slopes(scores: Array, weight: Array, draw: Array, pairs: Pairs, state: Averages) -> Array:
    """Update the averages of a batch's positives, return the gradient in the batch's scores.

    The positives come first in the batch; `draw` says which of all positives they are.
    """
    u, margins, coefs, total = state.u, pairs.margins, pairs.coefs, state.total_weight
    n_rows, n_pos = scores.shape[0], draw.shape[0]
    pos_share = (u.shape[0] - 1) / max(n_pos - 1, 1)
    neg_share = state.n_negatives / max(n_rows - n_pos, 1)
    outer_share = u.shape[0] / n_pos
    out = np.zeros(n_rows)
    own_loss, _ = _loss_and_slope(0.0, margins, coefs)
    for a in range(n_pos):
        i = draw[a]
        estimate_pos, estimate_neg = own_loss * weight[a] + pairs.own[i], 0.0
        for b in range(n_rows):
            loss, _ = _loss_and_slope(scores[a] - scores[b], margins, coefs)
            if b >= n_pos:
                estimate_neg += neg_share * weight[b] * loss
            elif b != a:
                estimate_pos += pos_share * weight[b] * loss
        rate = state.gamma if state.seen[i] else 1.0
        state.seen[i] = True
        u[i, 0] += rate * (estimate_neg / total - u[i, 0])
        u[i, 1] += rate * (estimate_pos / total - u[i, 1])
        square = (u[i, 0] + u[i, 1]) ** 2
        factor = outer_share * pairs.outer_weight[i] / total
        c_pos, c_neg = -factor * u[i, 0] / square, factor * u[i, 1] / square
        for b in range(n_rows):
            if b != a:
                c, share = (c_pos, pos_share) if b < n_pos else (c_neg, neg_share)
                _, slope = _loss_and_slope(scores[a] - scores[b], margins, coefs)
                change = c * share * weight[b] * slope
                out[a] += change
                out[b] -= change
    return out


def soap_epochs(
    objective: AnchoredObjective, theta: Array, schedule: Schedule, *, use_adam: bool, gamma: float
) -> Iterator[Array]:
    """Yield theta after each epoch, one pass over the negatives; a quarter of a batch is positive.

    The step size falls to zero along a cosine. Steps are taken in theta / ||anchor||.
    """
    X, scale, rng = objective.model.X, objective.scale, schedule.rng
    pairs = objective.pairs
    pos_rows, neg_rows = np.flatnonzero(pairs.positive), np.flatnonzero(~pairs.positive)
    n_pos = min(len(pos_rows), max(2, schedule.batch_size // 4))
    n_neg = min(len(neg_rows), max(1, schedule.batch_size - n_pos))
    starts = range(0, len(neg_rows), n_neg)
    rates = half_cosine(schedule.learning_rate, schedule.n_epochs * len(starts))
    averages, adam = start_averages(pairs, gamma), Adam(len(theta))
    queue = np.empty(0, dtype=np.intp)
    for _ in range(schedule.n_epochs):
        negatives = rng.permutation(neg_rows)
        for start in starts:
            if len(queue) < n_pos:
                queue = rng.permutation(len(pos_rows))
            draw, queue = queue[:n_pos], queue[n_pos:]
            rows = np.concatenate([pos_rows[draw], negatives[start : start + n_neg]])
            batch = X[rows]
            slope = batch_slopes(batch @ theta, pairs.weight[rows], draw, pairs, averages)
            gradient = (slope @ batch + objective.penalty(theta)[1]) * scale
            rate = next(rates) * scale
            theta = adam.step(theta, gradient, rate) if use_adam else theta - rate * gradient
        yield theta
