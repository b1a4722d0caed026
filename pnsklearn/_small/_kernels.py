"""The relaxation's passes over the data, and its prox steps, on the CPU.

Notation. XT is the transposed data, of shape (d, n), dense (each feature contiguous) or sparse.
With margins z_ij = w_j.x_i + b_j, the smoothed margin of a row and its loss are

    f_i = mu log sum_{j allowed} exp(z_ij / mu)      (mu = 0: the largest z_ij),
    loss_i = softplus(-y_i f_i),

where a positive is allowed its assigned prototype only, a negative all of them. The row's best
dual answer is A_ij = -y_i a_i q_ij, with a_i = sigmoid(-y_i f_i) and q_i the softmax of the allowed
z_i / mu; the gradient of sum_i s_i loss_i is then g_j = sum_i s_i A_ij x_i, c_j = sum_i s_i A_ij.
"""

import math

import numpy as np
from scipy.sparse import issparse

from pnsklearn._jit import njit
from pnsklearn._series import exp_of_negative, log1p_of_fraction
from pnsklearn._typing import Array, Matrix, Tensor

# Some hundred kilobytes of X stay in the second-level cache. Measured.
BLOCK_ROWS = 512
# 1 / mu of the maximum itself: any difference becomes a large one, and none is infinite.
INVERSE_OF_NO_MU = 1e200
LARGEST_EXPONENT = 700.0  # exp(710) overflows
# A share of zero, or a sum of one, would stay so under multiplicative steps.
SMALLEST_SHARE = 1e-280
SMALLEST_REST = 1e-16


def as_array(array: Matrix, device: str) -> Tensor:
    """Return the NumPy array or sparse matrix itself: what the CPU computes with."""
    return array


def to_numpy(tensor: Tensor) -> Array:
    """Return the array itself."""
    return tensor


@njit
def _log(x):
    """Return log(x) for x in [1, 256]. It vectorises."""
    return 8.0 * log1p_of_fraction(math.sqrt(math.sqrt(math.sqrt(x))) - 1.0)


@njit(fastmath={"contract"})
def _add_margins(XT, W, used, start, z):
    """Add the margins of the rows from `start` on to z, four features at a time."""
    n_rows = z.shape[1]
    n_fours = used.shape[0] // 4 * 4
    for h in range(0, n_fours, 4):
        f0, f1, f2, f3 = used[h], used[h + 1], used[h + 2], used[h + 3]
        x0 = XT[f0, start : start + n_rows]
        x1 = XT[f1, start : start + n_rows]
        x2 = XT[f2, start : start + n_rows]
        x3 = XT[f3, start : start + n_rows]
        for j in range(z.shape[0]):
            out = z[j]
            w0, w1, w2, w3 = W[j, f0], W[j, f1], W[j, f2], W[j, f3]
            for i in range(n_rows):
                out[i] += w0 * x0[i] + w1 * x1[i] + w2 * x2[i] + w3 * x3[i]
    for f in used[n_fours:]:
        x = XT[f, start : start + n_rows]
        for j in range(z.shape[0]):
            out, w = z[j], W[j, f]
            for i in range(n_rows):
                out[i] += w * x[i]


@njit(fastmath={"reassoc", "contract"})
def _dot(a, x):
    total = 0.0
    for i in range(a.shape[0]):
        total += a[i] * x[i]
    return total


@njit(fastmath={"reassoc", "contract"})
def _add_pull_back(XT, R, start, g):
    """Add the sums of R_ij x_i over the rows from `start` on to g, four features at a time."""
    n_rows = R.shape[1]
    n_fours = XT.shape[0] // 4 * 4
    for f in range(0, n_fours, 4):
        x0 = XT[f, start : start + n_rows]
        x1 = XT[f + 1, start : start + n_rows]
        x2 = XT[f + 2, start : start + n_rows]
        x3 = XT[f + 3, start : start + n_rows]
        for j in range(R.shape[0]):
            r = R[j]
            t0 = t1 = t2 = t3 = 0.0
            for i in range(n_rows):
                t0 += r[i] * x0[i]
                t1 += r[i] * x1[i]
                t2 += r[i] * x2[i]
                t3 += r[i] * x3[i]
            g[j, f] += t0
            g[j, f + 1] += t1
            g[j, f + 2] += t2
            g[j, f + 3] += t3
    for f in range(n_fours, XT.shape[0]):
        for j in range(R.shape[0]):
            g[j, f] += _dot(R[j], XT[f, start : start + n_rows])


@njit(fastmath={"contract"})
def _respond(sign, weight, assignment, mu, A):
    """Turn the margins of some rows, in A, into the best dual answer; return (value, slack).

    The slack, sum_i s_i a_i (f_i - sum_j q_ij z_ij), is what smoothing costs the dual value.
    """
    n_prototypes, n_rows = A.shape
    inverse = 1.0 / mu if mu > 0.0 else INVERSE_OF_NO_MU
    top, total = np.full(n_rows, -np.inf), np.zeros(n_rows)
    loss, slack = np.empty(n_rows), np.zeros(n_rows)
    for j in range(n_prototypes):
        z = A[j]
        for i in range(n_rows):
            allowed = sign[i] < 0.0 or assignment[i] == j
            top[i] = max(top[i], z[i] if allowed else -np.inf)
    for j in range(n_prototypes):
        z = A[j]
        for i in range(n_rows):
            allowed = sign[i] < 0.0 or assignment[i] == j
            below = min(z[i] - top[i], 0.0) if allowed else 0.0
            share = exp_of_negative(below * inverse) if allowed else 0.0
            total[i] += share
            slack[i] -= share * below
            z[i] = share
    for i in range(n_rows):
        rise = mu * _log(total[i])
        v = -sign[i] * (top[i] + rise)
        e = exp_of_negative(-abs(v))
        loss[i] = max(v, 0.0) + log1p_of_fraction(e)
        a = (1.0 if v > 0.0 else e) / (1.0 + e)
        slack[i] = a * (rise + slack[i] / total[i])
        total[i] = -sign[i] * a / total[i]
    for j in range(n_prototypes):
        z = A[j]
        for i in range(n_rows):
            z[i] *= total[i]
    return _dot(weight, loss), _dot(weight, slack)


@njit
def _fused_pass(XT, sign, weight, assignment, W, used, b, mu):
    n_prototypes = W.shape[0]
    n_features, n_rows = XT.shape
    g, c = np.zeros((n_prototypes, n_features)), np.zeros(n_prototypes)
    value = slack = 0.0
    for start in range(0, n_rows, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, n_rows)
        s = weight[start:stop]
        A = np.empty((n_prototypes, stop - start))
        for j in range(n_prototypes):
            A[j].fill(b[j])
        _add_margins(XT, W, used, start, A)
        losses, slacks = _respond(sign[start:stop], s, assignment[start:stop], mu, A)
        value += losses
        slack += slacks
        for j in range(n_prototypes):
            a = A[j]
            c[j] += _dot(s, a)
            for i in range(s.shape[0]):
                a[i] *= s[i]
        _add_pull_back(XT, A, start, g)
    return value, slack, g, c


def margins(XT: Tensor, W: Array, b: Array) -> Tensor:
    """Return the margins z, of shape (n_prototypes, n)."""
    z = np.repeat(b[:, np.newaxis], XT.shape[1], axis=1)
    if issparse(XT):
        return z + (XT.T @ W.T).T
    used = np.flatnonzero(W.any(axis=0))
    for start in range(0, XT.shape[1], BLOCK_ROWS):
        block = np.ascontiguousarray(z[:, start : start + BLOCK_ROWS])
        _add_margins(XT, W, used, start, block)
        z[:, start : start + BLOCK_ROWS] = block
    return z


def respond(z: Tensor, sign: Tensor, weight: Tensor, assignment: Tensor, mu: float) -> tuple:
    """Return (value, slack, A): the weighted loss at margins z and the best dual answer to them."""
    A = z.copy()
    return *_respond(sign, weight, assignment, mu, A), A


def pull_back(XT: Tensor, weight: Tensor, A: Tensor) -> tuple[Array, Array]:
    """Return (g, c), the gradients by W and b."""
    R = A * weight
    c = R.sum(axis=1)
    if issparse(XT):
        return np.ascontiguousarray((XT @ R.T).T), c
    g = np.zeros((len(A), XT.shape[0]))
    for start in range(0, XT.shape[1], BLOCK_ROWS):
        _add_pull_back(XT, np.ascontiguousarray(R[:, start : start + BLOCK_ROWS]), start, g)
    return g, c


def loss_pass(
    XT: Tensor, sign: Tensor, weight: Tensor, assignment: Tensor, W: Array, b: Array, mu: float
) -> tuple:
    """Return (value, slack, g, c): the weighted loss and its gradients, in one read of the data."""
    if not issparse(XT):
        used = np.flatnonzero(W.any(axis=0))
        return _fused_pass(XT, sign, weight, assignment, W, used, b, mu)
    value, slack, A = respond(margins(XT, W, b), sign, weight, assignment, mu)
    return value, slack, *pull_back(XT, weight, A)


def _times_log(x, y):
    return x * np.log(np.maximum(y, SMALLEST_SHARE))


def entropy(weight: Tensor, A: Tensor) -> float:
    """Return -sum_i s_i phi(a_i), phi(a) = a log a + (1 - a) log(1 - a), a_i = sum_j |A_ij|."""
    a = np.minimum(np.abs(A).sum(axis=0), 1.0)
    return -float(weight @ (_times_log(a, a) + _times_log(1.0 - a, 1.0 - a)))


def balance(sign: Tensor, weight: Tensor, A: Tensor) -> Tensor:
    """Shrink A, per prototype the heavier class, until every c_j = sum_i s_i A_ij is zero."""
    up, down = A @ np.where(sign < 0, weight, 0.0), -A @ np.where(sign > 0, weight, 0.0)
    least = np.minimum(up, down)
    up, down = (np.divide(least, x, out=np.zeros_like(x), where=x > 0) for x in (up, down))
    return A * np.where(sign < 0, up[:, None], down[:, None])


def entropic_step(A: Tensor, z: Tensor, sign: Tensor, assignment: Tensor, tau: float) -> Tensor:
    """Return argmax_A' tau sum_i (A'_i.z_i - phi(a'_i)) - D(A', A), row by row.

    D is the relative entropy of (u_i1, ..., u_ip, 1 - a_i), u = |A|. With q = u / a the solution is
    q'_j ~ q_j exp(tau z_j) and logit(a') = (logit(a) -+ tau z) / (1 + tau): for a negative the sign
    is plus and z the mean (1 / tau) log sum_j q_j exp(tau z_j).
    """
    allowed = (sign < 0) | (assignment == np.arange(len(A))[:, np.newaxis])
    u = np.maximum(np.abs(A), SMALLEST_SHARE)
    a = np.minimum(u.sum(axis=0), 1.0 - SMALLEST_REST)
    exponent = np.where(allowed, np.log(u / a) - tau * sign * z, -np.inf)
    top = exponent.max(axis=0)
    q = np.exp(exponent - top)
    total = q.sum(axis=0)
    logit = (top + np.log(total) + np.log(a / (1.0 - a))) / (1.0 + tau)
    return q * (-sign / (total * (1.0 + np.exp(np.minimum(-logit, LARGEST_EXPONENT)))))


def relative_entropy(weight: Tensor, A: Tensor, B: Tensor) -> float:
    """Return sum_i s_i D_i(A, B), D of `entropic_step`."""
    u, v = np.abs(A), np.abs(B)
    rest_u, rest_v = (np.maximum(1.0 - x.sum(axis=0), SMALLEST_REST) for x in (u, v))
    inside = (_times_log(u, u) - _times_log(u, v)).sum(axis=0)
    return float(weight @ (inside + _times_log(rest_u, rest_u / rest_v)))


@njit
def _clip_to_sum(scale, shift, total):
    """Return clip(scale q + shift, 0, 1) with the q that makes it sum to `total`; scale > 0.

    The sum is piecewise linear in q: bisection over its sorted breakpoints finds the piece.
    """
    n = scale.shape[0]
    points = np.empty(2 * n)
    for f in range(n):
        points[f] = -shift[f] / scale[f]
        points[n + f] = (1.0 - shift[f]) / scale[f]
    points.sort()
    low, high = 0, 2 * n - 1
    below = 0.0  # the sum at points[low]
    while high - low > 1:
        middle = (low + high) // 2
        reached = 0.0
        for f in range(n):
            reached += min(max(scale[f] * points[middle] + shift[f], 0.0), 1.0)
        if reached <= total:
            low, below = middle, reached
        else:
            high = middle
    q = points[low]
    slope = 0.0
    for f in range(n):
        if -shift[f] / scale[f] <= q < (1.0 - shift[f]) / scale[f]:
            slope += scale[f]
    if slope > 0.0:
        q += (total - below) / slope
    out = np.empty(n)
    for f in range(n):
        out[f] = min(max(scale[f] * q + shift[f], 0.0), 1.0)
    return out


def project_capped_simplex(V: Array, k: int) -> Array:
    """Return the nearest points to the rows of V with 0 <= eps <= 1 and sum(eps) <= k."""
    out = np.clip(V, 0.0, 1.0)
    for j in np.flatnonzero(out.sum(axis=1) > k):
        out[j] = _clip_to_sum(np.ones(V.shape[1]), np.ascontiguousarray(V[j]), float(k))
    return out


@njit
def k_support_shares(W, k, beta):
    """Return eps, per row w of W the argmin of sum_l w_l^2 / (eps_l + beta), sum(eps) <= k.

    That is eps_l = clip(|w_l| q - beta, 0, 1) with sum k, or one wherever w_l is not zero if these
    are k or fewer. For beta = 0 it attains the norm, (||w||_k^sp)^2 = min_eps sum_l w_l^2 / eps_l.
    """
    n_rows, n_features = W.shape
    out = np.zeros((n_rows, n_features))
    scale, used = np.empty(n_features), np.empty(n_features, dtype=np.int64)
    for j in range(n_rows):
        n_used = 0
        for f in range(n_features):
            if W[j, f] != 0.0:
                used[n_used], scale[n_used] = f, abs(W[j, f])
                n_used += 1
        shift = np.full(n_used, -beta)
        eps = np.ones(n_used) if n_used <= k else _clip_to_sum(scale[:n_used], shift, float(k))
        for h in range(n_used):
            out[j, used[h]] = eps[h]
    return out


def squared_k_support(W: Array, k: int) -> float:
    """Return the sum over the rows w of W of (||w||_k^sp)^2."""
    eps = k_support_shares(W, k, 0.0)
    return float(np.sum(W**2 / np.where(eps > 0.0, eps, 1.0)))


def prox_k_support(V: Array, k: int, beta: float) -> Array:
    """Return, per row, argmin_w ||w - v||^2 / 2 + (beta / 2) (||w||_k^sp)^2."""
    eps = k_support_shares(V, k, beta)
    return V * eps / (eps + beta)
