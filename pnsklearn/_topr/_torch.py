"""A linear softmax policy on torch tensors: the functions of `_kernels`.

The data are tensors; weights, biases and their gradients, which are small, are NumPy arrays.
"""

import torch

from pnsklearn._device import as_tensor as as_array  # noqa: F401, as `_kernels` has it
from pnsklearn._typing import Array, Matrix, Tensor

xp = torch


def loss(
    X: Matrix, action: Tensor, gain: Tensor, log_propensity: Tensor, log_low: Tensor,
    log_high: Tensor, W: Array, b: Array,
) -> tuple[float, Array, Array]:  # fmt: skip
    """Return -J, and its gradients by W and b; see `_kernels.loss`."""
    Z = (X @ torch.as_tensor(W.T).to(X) + torch.as_tensor(b).to(X)).double()
    if Z.shape[1] == 1:  # the logit of the first of two actions is zero
        Z = torch.nn.functional.pad(Z, (1, 0))
    log_pi, chosen = torch.log_softmax(Z, dim=1), action[:, None]
    u = log_pi.gather(1, chosen)[:, 0] - log_propensity
    terms, pull = tapered(u, gain, log_low, log_high)
    G = log_pi.exp() * pull[:, None]
    G.scatter_add_(1, chosen, -pull[:, None])
    G = G[:, -W.shape[0] :]
    grad_W = (X.t() @ G.to(X.dtype)).t().double()
    return -float(terms.sum()), grad_W.cpu().numpy(), G.sum(0).cpu().numpy()


def tapered(u: Tensor, gain: Tensor, log_low: Tensor, log_high: Tensor) -> tuple[Tensor, Tensor]:
    """Return R F(u) and R F'(u) for the gains R, F of `_objective`.

    To autograd nothing here is a constant: the gradient of F is F'.
    """
    # v moves with u inside the bounds and not outside. F' is e^v in both cases, and so on a bound
    # too, as u = 0 is for most on-policy batches, whatever autograd takes there.
    v = torch.minimum(torch.maximum(u, log_low), log_high)
    pull = gain * torch.exp(v)
    return pull * (1 + u - v), pull
