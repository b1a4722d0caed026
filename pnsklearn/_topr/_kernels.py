"""The tapered off-policy objective of a linear softmax policy on the CPU: value and gradient.

Row i has the gain R_i = weight (reward - baseline) and the log-ratio u_i = log pi(a_i | x_i) - log
mu(a_i | x_i) of the policy to the logging policy. The update of Le Roux et al. (2025), equation 7,

    grad J = sum_i R_i clip(e^u_i, a, b) grad log pi(a_i | x_i),

with bounds (a, b) that depend on the sign of R_i, is the gradient of

    J = sum_i R_i F(u_i),    F(u) = clip(e^u, a, b) + a min(u - log a, 0) + b max(u - log b, 0),

as F' = clip(e^u, a, b). For the bounds of TOPR that is R (1 + u) for gains and R e^u for losses
with u <= 0, R (1 + u) beyond. With logits z, dJ / dz_k = R F'(u) (1[k = a_i] - pi_k).

Two actions need one logit, z = z_1 - z_0. The loops go over blocks of rows that fit the cache:
a matrix product for the logits, one for the gradient, and between them two passes in place.
"""

import math

import numpy as np
from scipy.sparse import issparse

from pnsklearn._jit import njit

BLOCK_BYTES = 2**19  # of X


def as_array(array, device):
    """Return the array itself."""
    return array


def value_and_gradient(X, action, log_behavior, gain, bounds, W, b):
    """Return -J and its gradients by W and b.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n, d)
        Contexts, float64 or float32; the products are computed in its precision.
    action : ndarray of int64, shape (n,)
        The logged actions.
    log_behavior, gain : ndarray of shape (n,)
        log mu(a_i | x_i), and R_i.
    bounds : ndarray of shape (4,)
        a and b for R_i >= 0, then for R_i < 0.
    W, b : ndarray of shape (K, d) and (K,)
        Weights and biases of the logits; one row of each for two actions.

    Returns
    -------
    value : float
        -J.
    grad_W, grad_b : ndarray of shape (K, d) and (K,)
        Its gradients, in float64.
    """
    value, grad_W, grad_b = 0.0, np.zeros(W.shape), np.zeros(b.shape)
    W_T = W.T.astype(X.dtype)
    for rows in _blocks(X):
        block = X if issparse(X) else X[rows]
        Z = block @ W_T
        log = action[rows], log_behavior[rows], gain[rows], bounds
        value += _to_gradient(Z, b, *log, grad_b)
        grad_W += (block.T @ Z).T if issparse(X) else Z.T @ block
    return value, grad_W, grad_b


def _blocks(X):
    if issparse(X):
        return [slice(None)]
    n_rows = max(64, BLOCK_BYTES // (X.shape[1] * X.itemsize))
    return (slice(a, a + n_rows) for a in range(0, X.shape[0], n_rows))


def _to_gradient(Z, b, action, log_behavior, gain, bounds, grad_b):
    """Replace logits without biases by the gradient of -J by them; return -J, add to grad_b.

    NumPy takes exponentials and logarithms of arrays several times faster than a loop.
    """
    if Z.shape[1] == 1:
        return _one_logit(Z, b[0], action, log_behavior, gain, bounds, grad_b)
    Z += b
    chosen = _less_maximum(Z, action)
    E = np.exp(Z, out=Z)
    norm = _row_sums(E)
    u = chosen - np.log(norm) - log_behavior
    return _many_logits(E, norm, u, np.exp(u), action, gain, bounds, grad_b)


@njit
def _less_maximum(Z, action):
    """Subtract each row's maximum; return the logits of the logged actions after that."""
    chosen = np.empty(Z.shape[0])
    for i in range(Z.shape[0]):
        top = Z[i, 0]
        for k in range(1, Z.shape[1]):
            top = max(top, Z[i, k])
        for k in range(Z.shape[1]):
            Z[i, k] -= top
        chosen[i] = Z[i, action[i]]
    return chosen


@njit
def _row_sums(E):
    sums = np.empty(E.shape[0])
    for i in range(E.shape[0]):
        total = 0.0
        for k in range(E.shape[1]):
            total += E[i, k]
        sums[i] = total
    return sums


@njit
def _primitive(u, ratio, gain, bounds, log_bounds):
    """Return F(u) and F'(u), given ratio = exp(u)."""
    side = 0 if gain >= 0 else 2
    low, high = bounds[side], bounds[side + 1]
    if ratio < low:
        return low + low * (u - log_bounds[side]), low
    if ratio > high:
        return (high + high * (u - log_bounds[side + 1]) if high > 0 else 0.0), high
    return ratio, ratio


@njit
def _many_logits(E, norm, u, ratio, action, gain, bounds, grad_b):
    """Replace exponentials of logits by the gradient of -J by the logits; return -J."""
    log_bounds, total = np.log(bounds), 0.0
    for i in range(E.shape[0]):
        value, slope = _primitive(u[i], ratio[i], gain[i], bounds, log_bounds)
        total -= gain[i] * value
        pull = gain[i] * slope
        scale = pull / norm[i]
        for k in range(E.shape[1]):
            E[i, k] *= scale
            grad_b[k] += E[i, k]
        E[i, action[i]] -= pull
        grad_b[action[i]] -= pull
    return total


@njit
def _one_logit(Z, b, action, log_behavior, gain, bounds, grad_b):
    """The same for two actions, from the logit of the second one."""
    log_bounds, total = np.log(bounds), 0.0
    for i in range(Z.shape[0]):
        z = Z[i, 0] + b
        z = z if action[i] == 1 else -z  # of the logged action
        e = math.exp(-abs(z))
        u = min(z, 0) - math.log1p(e) - log_behavior[i]
        value, slope = _primitive(u, math.exp(u), gain[i], bounds, log_bounds)
        total -= gain[i] * value
        pull = gain[i] * slope * (e if z > 0 else 1.0) / (1 + e)  # times 1 - pi
        Z[i, 0] = -pull if action[i] == 1 else pull
        grad_b[0] += Z[i, 0]
    return total
