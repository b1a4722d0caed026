"""The objective of a linear softmax policy on torch tensors: the functions of `_kernels`.

The data are tensors; weights, biases and their gradients, which are small, are NumPy arrays.
"""

import torch

from pnsklearn._device import as_tensor as as_array  # noqa: F401, as `_kernels` has it


def value_and_gradient(X, action, log_behavior, gain, bounds, W, b):
    """Return -J and its gradients by W and b; see `_kernels.value_and_gradient`."""
    Z = (X @ torch.as_tensor(W.T).to(X) + torch.as_tensor(b).to(X)).double()
    if Z.shape[1] == 1:  # two actions
        Z = torch.nn.functional.pad(Z, (1, 0))
    log_pi = torch.log_softmax(Z, dim=1)
    u = log_pi.gather(1, action[:, None])[:, 0] - log_behavior
    value, slope = _primitive(u, gain, bounds)
    pull = gain * slope
    G = log_pi.exp() * pull[:, None]
    G.scatter_add_(1, action[:, None], -pull[:, None])
    G = G[:, -W.shape[0] :]
    grad_W = (X.t() @ G.to(X.dtype)).t().double()
    return -float(gain @ value), grad_W.cpu().numpy(), G.sum(0).cpu().numpy()


def _primitive(u, gain, bounds):
    """Return F(u) and F'(u)."""
    low, high = (torch.where(gain >= 0, bounds[k], bounds[k + 2]) for k in (0, 1))
    slope = torch.minimum(torch.maximum(torch.exp(u), low), high)
    value = slope + torch.where(low > 0, low * (u - torch.log(low)).clamp(max=0), 0.0)
    ends = (high > 0) & torch.isfinite(high)
    return value + torch.where(ends, high * (u - torch.log(high)).clamp(min=0), 0.0), slope
