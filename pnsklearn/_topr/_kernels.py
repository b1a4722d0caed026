"""A linear softmax policy on the CPU: log-probabilities of logged actions, and the way back.

With logits z = W x + b, log pi(a | x) = z_a - log sum_k e^z_k, and for any function of it whose
derivative in row i is `pull`_i,

    d / dz_k = pull (1[k = a] - pi_k).

Two actions need one logit, z = z_1 - z_0. Exponentials and logarithms of arrays are NumPy's, which
takes them several times faster than a loop; the loops here have what NumPy would take several
passes for.
"""

import numpy as np

from pnsklearn._jit import njit
from pnsklearn._typing import Array, Matrix

xp = np


def as_array(array: Matrix, device: str) -> Matrix:
    """Return the array itself."""
    return array


def forward(X: Matrix, action: Array, W: Array, b: Array) -> tuple[Array, tuple]:
    """Return the log-probabilities of the logged actions, and what `backward` needs.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n, d)
        Contexts, float64 or float32; the products are computed in its precision.
    action : ndarray of int64, shape (n,)
        The logged actions.
    W, b : ndarray of shape (K, d) and (K,)
        Weights and biases of the logits; one row of each for two actions.

    Returns
    -------
    log_pi : ndarray of shape (n,)
        log pi(a_i | x_i), in float64.
    softmax : tuple
        For `backward`.
    """
    Z = X @ W.T.astype(X.dtype)
    if Z.shape[1] == 1:  # the logit of the first of two actions is zero
        Z = np.concatenate([np.zeros_like(Z), Z], axis=1, dtype=np.float64)
        b = np.array([0.0, *b])
    chosen = _less_maximum(Z, b, action)
    E = np.exp(Z, out=Z)
    norm = _row_sums(E)
    return chosen - np.log(norm), (E, norm, W.shape[0])


def backward(X: Matrix, action: Array, softmax: tuple, pull: Array) -> tuple[Array, Array]:
    """Return the gradients by W and b, in float64, of minus a function of the log-probabilities.

    Parameters
    ----------
    X, action
        As in `forward`.
    softmax : tuple
        What `forward` returned; its arrays are overwritten.
    pull : ndarray of shape (n,)
        Derivatives of the function by the log-probabilities of the logged actions.

    Returns
    -------
    grad_W, grad_b : ndarray of shape (K, d) and (K,)
        The gradients.
    """
    E, norm, n_logits = softmax
    grad_b = _to_gradient(E, pull / norm, pull, action)
    grad_W = E[:, -n_logits:].T.astype(X.dtype, copy=False) @ X
    return grad_W.astype(np.float64, copy=False), grad_b[-n_logits:]


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
def _to_gradient(E, scale, pull, action):
    """Replace exponentials of logits by the gradient by the logits; return its sum over rows."""
    grad_b = np.zeros(E.shape[1])
    for i in range(E.shape[0]):
        for k in range(E.shape[1]):
            E[i, k] *= scale[i]
            grad_b[k] += E[i, k]
        E[i, action[i]] -= pull[i]
        grad_b[action[i]] -= pull[i]
    return grad_b
