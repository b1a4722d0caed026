"""The tapered off-policy objective: a value, with its gradient, for any policy and any solver.

Row i has the gain R_i = weight (reward - baseline) and the log-ratio u_i = log pi(a_i | x_i) - log
mu(a_i | x_i) of the policy to the one that logged. The update of Le Roux et al. (2025), equation 7,

    grad J = sum_i R_i clip(e^u_i, a, b) grad log pi(a_i | x_i),

with bounds (a, b) that depend on the sign of R_i, is the gradient of J = sum_i R_i F(u_i), where F
is the primitive of the clipped ratio: e^u between the bounds, and its tangents beyond,

    F(u) = e^v (1 + u - v),    v = min(max(u, log a), log b),    F'(u) = e^v.

For the bounds of TOPR that is R (1 + u) for gains, and for losses R e^u while u <= 0 and R (1 + u)
beyond. A linear policy minimises, over the weights W and biases b of its logits,

    ||W||^2 / 2 - C J(W, b),

divided by C times the sum of all |R|, which is the form whose gradient `tol` bounds. With gains of
one and the bounds [1, 1] this is multinomial logistic regression.
"""

from dataclasses import dataclass, replace
from numbers import Real
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from pnsklearn._rows import total
from pnsklearn._typing import Array, Matrix, Tensor

# log 0 is not finite, and would make 0 times infinity of F; e^-1000 is exactly zero as well.
LOG_OF_ZERO = -1000.0
# What a log has of each row.
ROWS = ("X", "action", "gain", "log_propensity", "log_low", "log_high")

Bounds: TypeAlias = tuple[tuple[float, float], tuple[float, float]]  # of R >= 0, and of R < 0


def check_bounds(name: str, bounds: Any) -> None:
    """Raise ValueError unless `bounds` are two numbers between which a ratio can be clipped."""
    numbers = np.shape(bounds) == (2,) and all(isinstance(bound, Real) for bound in bounds)
    if not (numbers and 0 <= bounds[0] <= bounds[1] and bounds[0] < np.inf):
        raise ValueError(
            f"{name} must be two numbers (low, high) with 0 <= low <= high and a finite low, got "
            f"{bounds!r}."
        )


def log_bounds(
    xp: ModuleType, gain: Tensor, bounds: Bounds, largest: float = np.inf
) -> tuple[Tensor, Tensor]:
    """Return log a and log b of each row, none above `largest`; `xp` is NumPy or torch."""
    with np.errstate(divide="ignore"):
        logs = np.clip(np.log(np.array(bounds, dtype=np.float64)), LOG_OF_ZERO, largest)
    rows = gain >= 0
    low, high = (
        xp.where(rows, xp.full_like(gain, good), xp.full_like(gain, bad)) for good, bad in logs.T
    )
    return low, high


def get_kernels(device: str) -> ModuleType:
    """Return the module that computes linear policies on a device; see `_kernels`."""
    if device == "cpu":
        from pnsklearn._topr import _kernels

        return _kernels
    from pnsklearn._topr import _torch

    return _torch


@dataclass(frozen=True)
class Linear:
    """The shape of a linear policy, whose parameters are one flat array theta."""

    n_logits: int
    n_features: int
    fit_intercept: bool
    dtype: Any = np.float64  # of the fitted weights

    @property
    def zeros(self) -> Array:
        """The parameters of the uniform policy."""
        return np.zeros(self.n_logits * (self.n_features + self.fit_intercept))

    def unpack(self, theta: Array) -> tuple[Array, Array]:
        """Return W of shape (n_logits, n_features) and b of shape (n_logits,)."""
        W, b = np.split(theta, [self.n_logits * self.n_features])
        W = W.reshape(self.n_logits, self.n_features)
        return W, b if self.fit_intercept else np.zeros(self.n_logits)

    def fitted(self, theta: Array) -> dict[str, Array]:
        """Return the fitted attributes."""
        W, b = self.unpack(theta)
        return {"coef_": W.astype(self.dtype), "intercept_": b.astype(self.dtype)}

    def pack(self, W: Array, b: Array) -> Array:
        """Return the parameters of weights and biases."""
        parts = (W, b) if self.fit_intercept else (W,)
        return np.concatenate([np.ravel(part) for part in parts]).astype(np.float64)


@dataclass(frozen=True)
class Penalised:
    """The penalised objective of a linear policy, from the `loss` of its rows."""

    linear: Linear
    C: float
    size: float  # sum of |R|
    penalty_size: float  # the same over all rows that the penalty is for, if these are a part

    def loss(self, W: Array, b: Array) -> tuple[float, Array, Array]:
        """Return -J, and its gradients by the weights and biases."""
        raise NotImplementedError

    def imitation(self) -> "Penalised":
        """Return the convex objective that learns from gains only, whatever their ratio."""
        raise NotImplementedError

    def value_and_gradient(self, theta: Array) -> tuple[float, Array]:
        """Return the value, which is to be minimised, and its gradient, of the shape of theta."""
        W, b = self.linear.unpack(theta)
        loss, grad_W, grad_b = self.loss(W, b)
        strength = 1 / (self.C * self.penalty_size)
        gradient = self.linear.pack(grad_W / self.size + strength * W, grad_b / self.size)
        return loss / self.size + strength / 2 * np.sum(W**2), gradient


@dataclass(frozen=True)
class PolicyObjective(Penalised):
    """The same of a log, which lives where `kernels` computes."""

    kernels: ModuleType
    X: Matrix
    action: Tensor  # of int64
    gain: Tensor
    log_propensity: Tensor
    log_low: Tensor  # of the ratio
    log_high: Tensor

    @classmethod
    def make(
        cls, linear: Linear, C: float, log: tuple[Matrix, Array, Array, Array], bounds: Bounds,
        device: str = "cpu",
    ) -> "PolicyObjective":  # fmt: skip
        """Move a log to the device: X, actions, gains, and logarithms of propensities."""
        kernels, size = get_kernels(device), float(np.abs(log[2]).sum())
        parts = *log, *log_bounds(np, log[2], bounds)
        tensors = (kernels.as_array(part, device) for part in parts)
        return cls(linear, C, size, size, kernels, *tensors)

    def loss(self, W: Array, b: Array) -> tuple[float, Array, Array]:
        """Return -J, and its gradients by the weights and biases."""
        rows = tuple(getattr(self, name) for name in ROWS)
        return total(self.kernels.loss, rows, W, b)

    def batch(self, rows: Array) -> "PolicyObjective":
        """Return the objective of some rows, each standing for as many as there are."""
        size = self.size * (len(rows) / self.X.shape[0])
        return replace(self, size=size, **{name: getattr(self, name)[rows] for name in ROWS})

    def imitation(self) -> "PolicyObjective":
        """Return the convex objective that learns from gains only, whatever their ratio."""
        zeros = self.kernels.xp.zeros_like(self.gain)
        return replace(self, gain=self.gain.clip(min=0), log_low=zeros, log_high=zeros)
