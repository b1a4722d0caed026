"""The off-policy objective of a linear softmax policy on the CPU: its value and its gradient.

With logits z = W x + b, log pi(a | x) = z_a - log sum_k e^z_k, and row i adds R F(u) to J, where
u = log pi(a | x) - log mu(a | x) and F is that of `_objective`. Hence

    dJ / dz_k = pull (1[k = a] - pi_k),    pull = R F'(u).

Two actions need one logit, z = z_1 - z_0. The exponentials of the logits are NumPy's, which takes
those of arrays several times faster than a loop; the loops here have what NumPy would take several
passes for.
"""

import math

import numpy as np

from pnsklearn._jit import njit
from pnsklearn._typing import Array, Matrix

xp = np
LOWEST_EXPONENT = -700.0  # exp of less is denormal or zero, and slow


def as_array(array: Matrix, device: str) -> Matrix:
    """Return the array itself."""
    return array


def loss(
    X: Matrix, action: Array, gain: Array, log_propensity: Array, log_low: Array, log_high: Array,
    W: Array, b: Array,
) -> tuple[float, Array, Array]:  # fmt: skip
    """Return -J, and its gradients by W and b, in float64.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n, d)
        Contexts, float64 or float32; the products are computed in its precision.
    action : ndarray of int64, shape (n,)
        The logged actions.
    gain, log_propensity : ndarray of shape (n,)
        R_i, and log mu(a_i | x_i).
    log_low, log_high : ndarray of shape (n,)
        The logarithms of the bounds of the ratio.
    W, b : ndarray of shape (K, d) and (K,)
        Weights and biases of the logits; one row of each for two actions.

    Returns
    -------
    value : float
        -J.
    grad_W, grad_b : ndarray of shape (K, d) and (K,)
        Its gradients.
    """
    n_logits = W.shape[0]
    Z = X @ W.T.astype(X.dtype)
    if n_logits == 1:  # the logit of the first of two actions is zero
        Z = np.concatenate([np.zeros_like(Z), Z], axis=1, dtype=np.float64)
        b = np.array([0.0, *b])
    chosen = _less_maximum(Z, b, action)
    E = np.exp(Z, out=Z)
    norm = _row_sums(E)
    u = chosen - np.log(norm) - log_propensity
    value, grad_b = _to_gradient(E, norm, action, gain, u, log_low, log_high)
    grad_W = E[:, -n_logits:].T.astype(X.dtype, copy=False) @ X
    return value, grad_W.astype(np.float64, copy=False), grad_b[-n_logits:]


@njit
def _less_maximum(Z, b, action):
    """Add b and subtract each row's maximum; return the logits of the logged actions after that."""
    chosen = np.empty(Z.shape[0])
    for i in range(Z.shape[0]):
        top = -np.inf
        for k in range(Z.shape[1]):
            Z[i, k] += b[k]
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
def _to_gradient(E, norm, action, gain, u, log_low, log_high):
    """Replace exponentials of logits by the gradient of -J by the logits; return (-J, its sum)."""
    value, grad_b = 0.0, np.zeros(E.shape[1])
    for i in range(E.shape[0]):
        v = min(max(u[i], log_low[i]), log_high[i])
        pull = gain[i] * math.exp(v) if v > LOWEST_EXPONENT else 0.0
        value -= pull * (1.0 + u[i] - v)
        scale = pull / norm[i]
        for k in range(E.shape[1]):
            E[i, k] *= scale
            grad_b[k] += E[i, k]
        E[i, action[i]] -= pull
        grad_b[action[i]] -= pull
    return value, grad_b
