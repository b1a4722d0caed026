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

Bounds: TypeAlias = tuple[tuple[float, float], tuple[float, float]]  # of R >= 0, and of R < 0


def check_bounds(name: str, bounds: Any) -> None:
    """Raise ValueError unless `bounds` are two numbers between which a ratio can be clipped."""
    numbers = np.shape(bounds) == (2,) and all(isinstance(bound, Real) for bound in bounds)
    if not (numbers and 0 <= bounds[0] <= bounds[1] and bounds[0] < np.inf):
        raise ValueError(
            f"{name} must be two numbers (low, high) with 0 <= low <= high and a finite low, got "
            f"{bounds!r}."
        )


def log_bounds(bounds: Bounds) -> Array:
    """Return the logarithms of the bounds as `primitive` takes them."""
    values = np.array(bounds, dtype=np.float64)
    return np.where(values == 0, LOG_OF_ZERO, np.log(np.where(values == 0, 1.0, values)))


def primitive(xp: ModuleType, u: Tensor, gain: Tensor, log_bounds: Tensor) -> tuple[Tensor, Tensor]:
    """Return F(u) and F'(u) with the bounds that the sign of the gain calls for.

    `xp` is NumPy or torch. To autograd nothing here is a constant: the gradient of F is F'.
    """
    low, high = (xp.where(gain >= 0, log_bounds[0, k], log_bounds[1, k]) for k in (0, 1))
    # v moves with u inside the bounds and not outside. F' is e^v in both cases, and so on a bound
    # too, as u = 0 is for most on-policy batches, whichever of the two autograd takes.
    v = xp.clip(u, low, high)
    slope = xp.exp(v)
    return slope * (1 + u - v), slope


def get_kernels(device: str) -> ModuleType:
    """Return the module that computes linear policies on a device; see `_kernels`."""
    if device == "cpu":
        from pnsklearn._topr import _kernels

        return _kernels
    from pnsklearn._topr import _torch

    return _torch


@dataclass(frozen=True)
class Log:
    """Logged decisions; all arrays live where `kernels` computes."""

    kernels: ModuleType
    X: Matrix
    action: Tensor  # of int64
    gain: Tensor
    log_propensity: Tensor
    log_bounds: Tensor
    size: float  # sum of |R|

    @classmethod
    def make(
        cls,
        X: Matrix,
        action: Array,
        gain: Array,
        log_propensity: Array,
        *,
        bounds: Bounds,
        kernels: ModuleType,
        device: str = "cpu",
    ) -> "Log":
        """Move a log to the device."""
        arrays = (X, action, gain, log_propensity, log_bounds(bounds))
        size = float(np.abs(gain).sum())
        return cls(kernels, *(kernels.as_array(array, device) for array in arrays), size)

    def take(self, rows: Array) -> "Log":
        """Return some rows, each standing for as many as there are."""
        X, action, gain, log_propensity = (
            part[rows] for part in (self.X, self.action, self.gain, self.log_propensity)
        )
        size = self.size * (len(rows) / self.X.shape[0])
        return Log(self.kernels, X, action, gain, log_propensity, self.log_bounds, size)

    def value_and_gradient(self, W: Array, b: Array) -> tuple[float, Array, Array]:
        """Return -J of a linear policy, and its gradients by W and b."""
        rows = self.X, self.action, self.gain, self.log_propensity
        return total(_value_and_gradient, rows, self.log_bounds, self.kernels, W, b)


def _value_and_gradient(X, action, gain, log_propensity, log_bounds, kernels, W, b):
    """Return -J of a block of rows, and its gradients by W and b."""
    log_pi, softmax = kernels.forward(X, action, W, b)
    value, slope = primitive(kernels.xp, log_pi - log_propensity, gain, log_bounds)
    return -float(gain @ value), *kernels.backward(X, action, softmax, gain * slope)


@dataclass(frozen=True)
class Linear:
    """The shape of a linear policy, whose parameters are one flat array theta."""

    n_logits: int
    n_features: int
    fit_intercept: bool

    @property
    def zeros(self) -> Array:
        """The parameters of the uniform policy."""
        return np.zeros(self.n_logits * (self.n_features + self.fit_intercept))

    def unpack(self, theta: Array) -> tuple[Array, Array]:
        """Return W of shape (n_logits, n_features) and b of shape (n_logits,)."""
        W, b = np.split(theta, [self.n_logits * self.n_features])
        W = W.reshape(self.n_logits, self.n_features)
        return W, b if self.fit_intercept else np.zeros(self.n_logits)

    def pack(self, W: Array, b: Array) -> Array:
        """Return the parameters of weights and biases."""
        parts = (W, b) if self.fit_intercept else (W,)
        return np.concatenate([np.ravel(part) for part in parts]).astype(np.float64)


@dataclass(frozen=True)
class PolicyObjective:
    """The penalised objective of a linear policy on a log."""

    linear: Linear
    log: Log
    C: float
    size: float  # sum of |R| over the rows that the penalty is for, which the log may be part of

    def value_and_gradient(self, theta: Array) -> tuple[float, Array]:
        """Return the value, which is to be minimised, and its gradient, of the shape of theta."""
        W, b = self.linear.unpack(theta)
        value, grad_W, grad_b = self.log.value_and_gradient(W, b)
        strength, n = 1 / (self.C * self.size), self.log.size
        gradient = self.linear.pack(grad_W / n + strength * W, grad_b / n)
        return value / n + strength / 2 * np.sum(W**2), gradient

    def batch(self, rows: Array) -> "PolicyObjective":
        """Return the objective of some rows, each standing for as many as there are."""
        return replace(self, log=self.log.take(rows))

    def imitation(self) -> "PolicyObjective":
        """Return the convex objective that learns from gains only, whatever their ratio."""
        gain, bounds = (
            self.log.gain.clip(min=0),
            self.log.kernels.xp.zeros_like(self.log.log_bounds),
        )
        return replace(self, log=replace(self.log, gain=gain, log_bounds=bounds))
