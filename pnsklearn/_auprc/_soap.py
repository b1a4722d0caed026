"""SOAP for a linear model: the stochastic solver of Qi et al. (2021), on the CPU.

For each positive i two moving averages follow the inner sums divided by the total weight,

    u_i^c <- (1 - gamma) u_i^c + gamma * (estimate of (1/W) sum_{j in class c} w_j l(s_i - s_j)),

and the step goes along  sum_i v_i sum_j c_i^{y_j} grad l_ij  with
c_i^+ = -u_i^- / (u_i^+ + u_i^-)^2,  c_i^- = u_i^+ / (u_i^+ + u_i^-)^2  (algorithm 1).
A batch is stratified: the estimates weigh each stratum by its true share, the own pair is exact,
positives are drawn without replacement, and u starts at its first estimate (algorithm 1 as
published starts it at zero, which inflates the first step by 1 / gamma).
"""

import numpy as np

from pnsklearn._jit import njit

ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON = 0.9, 0.999, 1e-8


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
def _batch_slopes(pos_scores, neg_scores, pos_weight, neg_weight, outer, own, rows,
                  n_positives, n_negatives, total, gamma, margins, coefs, u, seen):  # fmt: skip
    """Update u for the batch's positives, return the gradient in the batch's scores."""
    n_pos, n_neg = pos_scores.shape[0], neg_scores.shape[0]
    pos_slope, neg_slope = np.zeros(n_pos), np.zeros(n_neg)
    pos_share = (n_positives - 1) / max(n_pos - 1, 1)
    neg_share = n_negatives / max(n_neg, 1)
    outer_share = n_positives / n_pos
    for a in range(n_pos):
        own_loss, _ = _loss_and_slope(0.0, margins, coefs)
        estimate_pos, estimate_neg = own_loss * pos_weight[a] + own[a], 0.0
        for b in range(n_pos):
            if b != a:
                loss, _ = _loss_and_slope(pos_scores[a] - pos_scores[b], margins, coefs)
                estimate_pos += pos_share * pos_weight[b] * loss
        for b in range(n_neg):
            loss, _ = _loss_and_slope(pos_scores[a] - neg_scores[b], margins, coefs)
            estimate_neg += neg_share * neg_weight[b] * loss
        i = rows[a]
        rate = gamma if seen[i] else 1.0
        seen[i] = True
        u[i, 0] += rate * (estimate_neg / total - u[i, 0])
        u[i, 1] += rate * (estimate_pos / total - u[i, 1])
        square = (u[i, 0] + u[i, 1]) ** 2
        factor = outer_share * outer[a] / total
        c_pos, c_neg = -factor * u[i, 0] / square, factor * u[i, 1] / square
        for b in range(n_pos):
            if b != a:
                _, slope = _loss_and_slope(pos_scores[a] - pos_scores[b], margins, coefs)
                change = c_pos * pos_share * pos_weight[b] * slope
                pos_slope[a] += change
                pos_slope[b] -= change
        for b in range(n_neg):
            _, slope = _loss_and_slope(pos_scores[a] - neg_scores[b], margins, coefs)
            change = c_neg * neg_share * neg_weight[b] * slope
            pos_slope[a] += change
            neg_slope[b] -= change
    return pos_slope, neg_slope


def soap_epochs(problem, theta, *, use_adam, gamma, batch_size, learning_rate, n_epochs, rng):
    """Yield theta after each epoch, one pass over the negatives.

    The step size falls to zero along a cosine.
    """
    X, positive, weight = problem.model.X, problem.positive, problem.weight
    pos_rows, neg_rows = np.flatnonzero(positive), np.flatnonzero(~positive)
    total = weight.sum()
    n_pos = min(len(pos_rows), max(2, batch_size // 4))
    n_neg = min(len(neg_rows), max(1, batch_size - n_pos))
    n_batches = -(-len(neg_rows) // n_neg)
    u, seen = np.zeros((len(pos_rows), 2)), np.zeros(len(pos_rows), dtype=bool)
    mean, square = np.zeros_like(theta), np.zeros_like(theta)
    theta, scale, step = theta.copy(), problem.scale, 0
    queue = np.empty(0, dtype=np.intp)
    for _ in range(n_epochs):
        negatives = rng.permutation(neg_rows)
        for batch in range(n_batches):
            if len(queue) < n_pos:
                queue = rng.permutation(len(pos_rows))
            draw, queue = queue[:n_pos], queue[n_pos:]
            neg = negatives[batch * n_neg : (batch + 1) * n_neg]
            pos = pos_rows[draw]
            X_pos, X_neg = X[pos], X[neg]
            pos_slope, neg_slope = _batch_slopes(
                X_pos @ theta, X_neg @ theta, weight[pos], weight[neg], problem.outer[draw],
                problem.own[draw], draw, len(pos_rows), len(neg_rows), total, gamma,
                problem.margins, problem.coefs, u, seen,
            )  # fmt: skip
            gradient = pos_slope @ X_pos + neg_slope @ X_neg + problem.penalty(theta)[1]
            gradient = gradient * scale  # steps are taken in theta / scale
            rate = learning_rate * 0.5 * (1 + np.cos(np.pi * step / (n_epochs * n_batches)))
            step += 1
            if use_adam:
                mean += (1 - ADAM_BETA1) * (gradient - mean)
                square += (1 - ADAM_BETA2) * (gradient**2 - square)
                gradient = (mean / (1 - ADAM_BETA1**step)) / (
                    np.sqrt(square / (1 - ADAM_BETA2**step)) + ADAM_EPSILON
                )
            theta -= rate * scale * gradient
        yield theta.copy()
