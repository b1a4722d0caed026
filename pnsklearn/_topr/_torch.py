"""A linear softmax policy on torch tensors: the functions of `_kernels`.

The data are tensors; weights, biases and their gradients, which are small, are NumPy arrays.
"""

import torch

from pnsklearn._device import as_tensor as as_array  # noqa: F401, as `_kernels` has it
from pnsklearn._typing import Array, Matrix, Tensor

xp = torch


def forward(X: Matrix, action: Tensor, W: Array, b: Array) -> tuple[Tensor, tuple]:
    """Return the log-probabilities of the logged actions, and what `backward` needs."""
    Z = (X @ torch.as_tensor(W.T).to(X) + torch.as_tensor(b).to(X)).double()
    if Z.shape[1] == 1:  # the logit of the first of two actions is zero
        Z = torch.nn.functional.pad(Z, (1, 0))
    log_pi = torch.log_softmax(Z, dim=1)
    return log_pi.gather(1, action[:, None])[:, 0], (log_pi.exp(), W.shape[0])


def backward(X: Matrix, action: Tensor, softmax: tuple, pull: Tensor) -> tuple[Array, Array]:
    """Return the gradients by W and b; see `_kernels.backward`."""
    policy, n_logits = softmax
    G = policy * pull[:, None]
    G.scatter_add_(1, action[:, None], -pull[:, None])
    G = G[:, -n_logits:]
    grad_W = (X.t() @ G.to(X.dtype)).t().double()
    return grad_W.cpu().numpy(), G.sum(0).cpu().numpy()
