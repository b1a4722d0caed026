"""The relaxation's passes over the data on torch tensors: the functions of `_kernels`.

XT, the arrays of rows, margins and dual answers are tensors; W, b and their gradients, which are
small, are NumPy arrays.
"""

import torch

from pnsklearn._device import as_tensor as as_array  # noqa: F401, as `_kernels` has them
from pnsklearn._device import to_numpy
from pnsklearn._small._kernels import SMALLEST_REST, SMALLEST_SHARE
from pnsklearn._typing import Array, Tensor


def margins(XT: Tensor, W: Array, b: Array) -> Tensor:
    """Return the margins z, of shape (n_prototypes, n), in float64."""
    weights = torch.tensor(W).to(XT)
    # A sparse matrix can only be the left factor.
    z = (XT.t() @ weights.t()).t() if XT.layout != torch.strided else weights @ XT
    return z.double() + torch.tensor(b, device=XT.device)[:, None]


def _allowed(sign, assignment, n_prototypes):
    prototype = torch.arange(n_prototypes, device=sign.device)[:, None]
    return (sign < 0) | (assignment == prototype)


def respond(z: Tensor, sign: Tensor, weight: Tensor, assignment: Tensor, mu: float) -> tuple:
    """Return (value, slack, A); see `_kernels.respond`."""
    allowed = _allowed(sign, assignment, len(z))
    z = torch.where(allowed, z, -torch.inf)
    top = z.max(0).values
    q = torch.exp((z - top) / mu) if mu > 0 else (z == top).double()
    total = q.sum(0)
    rise = mu * torch.log(total)
    v = -sign * (top + rise)
    a = torch.sigmoid(v)
    slack = a * (rise + (q * torch.where(allowed, top - z, 0.0)).sum(0) / total)
    loss = torch.logaddexp(v, torch.zeros_like(v))
    return float(weight @ loss), float(weight @ slack), -sign * a / total * q


def pull_back(XT: Tensor, weight: Tensor, A: Tensor) -> tuple[Array, Array]:
    """Return (g, c), the gradients by W and b, NumPy arrays."""
    R = A * weight
    g = XT @ R.t().to(XT.dtype)
    return to_numpy(g.t().double().contiguous()), to_numpy(R.sum(1))


def loss_pass(
    XT: Tensor, sign: Tensor, weight: Tensor, assignment: Tensor, W: Array, b: Array, mu: float
) -> tuple:
    """Return (value, slack, g, c); see `_kernels.loss_pass`."""
    value, slack, A = respond(margins(XT, W, b), sign, weight, assignment, mu)
    return value, slack, *pull_back(XT, weight, A)


def _times_log(x, y):
    return x * torch.log(y.clamp(min=SMALLEST_SHARE))


def entropy(weight: Tensor, A: Tensor) -> float:
    """Return -sum_i s_i phi(a_i); see `_kernels.entropy`."""
    a = A.abs().sum(0).clamp(max=1.0)
    return -float(weight @ (_times_log(a, a) + _times_log(1.0 - a, 1.0 - a)))


def balance(sign: Tensor, weight: Tensor, A: Tensor) -> Tensor:
    """Shrink A, per prototype the heavier class, until every c_j is zero."""
    up, down = A @ torch.where(sign < 0, weight, 0.0), -A @ torch.where(sign > 0, weight, 0.0)
    least = torch.minimum(up, down)
    up, down = (torch.where(x > 0, least / x, 0.0)[:, None] for x in (up, down))
    return A * torch.where(sign < 0, up, down)


def entropic_step(A: Tensor, z: Tensor, sign: Tensor, assignment: Tensor, tau: float) -> Tensor:
    """Return the prox step of the dual answer; see `_kernels.entropic_step`."""
    u = A.abs().clamp(min=SMALLEST_SHARE)
    a = u.sum(0).clamp(max=1.0 - SMALLEST_REST)
    exponent = torch.log(u / a) - tau * sign * z
    exponent = torch.where(_allowed(sign, assignment, len(A)), exponent, -torch.inf)
    mean = torch.logsumexp(exponent, 0)
    answer = torch.sigmoid((mean + torch.logit(a)) / (1.0 + tau))
    return -sign * answer * torch.exp(exponent - mean)


def relative_entropy(weight: Tensor, A: Tensor, B: Tensor) -> float:
    """Return sum_i s_i D_i(A, B), D of `entropic_step`."""
    u, v = A.abs(), B.abs()
    rest_u, rest_v = ((1.0 - x.sum(0)).clamp(min=SMALLEST_REST) for x in (u, v))
    inside = (_times_log(u, u) - _times_log(u, v)).sum(0)
    return float(weight @ (inside + _times_log(rest_u, rest_u / rest_v)))
