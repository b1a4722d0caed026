"""Linear models and networks of one hidden layer: K of them in one set of matrices."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import RandomState
from scipy.sparse import csr_matrix, hstack, issparse
from scipy.special import expit

from pnsklearn._pu_trend import _kernels
from pnsklearn._pu_trend._presets import Plan
from pnsklearn._typing import Array, Matrix
from pnsklearn._validation import refuse_overflow

HIDDEN_WIDTH = 64
ROWS_PER_PASS = 2048  # scored at a time, which bounds the memory


class Scaler:
    """Standard units: columns centred and scaled; or, for sparse X, rows of length about one."""

    def __init__(self, X: Matrix, weight: Array):
        if issparse(X):
            squares = X.multiply(X).sum(axis=1)
            self.center: Array | None = None
            self.scale: Array | float = (
                math.sqrt(np.average(np.asarray(squares).ravel(), weights=weight)) or 1.0
            )
        else:
            self.center = np.average(X, axis=0, weights=weight)
            scale = np.sqrt(np.average((X - self.center) ** 2, axis=0, weights=weight))
            # A constant column has a standard deviation of rounding errors.
            noise = 10 * np.finfo(X.dtype).eps * np.abs(self.center)
            self.scale = np.where(scale > noise, scale, 1.0)

    def transform(self, X: Matrix, dtype: type) -> Matrix:
        if self.center is None:
            return (X * (1 / self.scale)).astype(dtype)
        return ((X - self.center) / self.scale).astype(dtype)


class Network:
    """What both kinds share: scaled input, the update of all parameters, the averaged weights.

    Parameters
    ----------
    X : {ndarray, csr_matrix} of shape (n_samples, n_features)
        What the scaling is fitted to.
    weight : ndarray of shape (n_samples,)
        Weights of its rows.
    plan : Plan
        How to train.
    rng : numpy.random.RandomState
        Source of the initial weights.
    dtype : numpy dtype
        Precision of the training.
    """

    _initial: Callable  # what the kinds define
    _forward: Callable
    _gradients: Callable

    def __init__(self, X: Matrix, weight: Array, plan: Plan, rng: RandomState, dtype: type):
        self.plan, self.dtype = plan, dtype
        self.scaler = Scaler(X, weight)
        parameters = self._initial(X.shape[1], plan.n_runs, rng)
        self.parameters = [array.astype(dtype) for array in parameters]
        self.velocity = [np.zeros_like(array) for array in self.parameters]
        self.average = [array.copy() for array in self.parameters]
        self.n_steps = 0

    def scaled(self, X: Matrix) -> Matrix:
        """Return rows in the units of the network, which `step` takes."""
        return self.scaler.transform(X, self.dtype)

    @np.errstate(over="ignore", invalid="ignore")  # `check_finite` tells of it
    def step(self, X: Matrix, share: Array, target: Array) -> None:
        """Take one step on a batch of scaled rows; see `_kernels` for the loss."""
        plan = self.plan
        rate, decay = plan.rate(self.n_steps), plan.decay_at(self.n_steps)
        gradients = self._gradients(X, share, target)
        for arrays in zip(self.parameters, gradients, self.velocity, self.average, strict=True):
            flat = (array.reshape(-1) for array in arrays)
            _kernels.nesterov(*flat, rate, plan.momentum, plan.weight_decay, decay)
        self.n_steps += 1

    def check_finite(self) -> None:
        """Raise ValueError if training has diverged."""
        if not all(np.isfinite(array).all() for array in self.average):
            raise ValueError("The training has diverged. Lower learning_rate.")

    def logits(self, X: Matrix) -> Array:
        """Return the logits of shape (n_samples, n_runs) of the averaged weights, in float64."""
        self.check_finite()
        parts = (X[a : a + ROWS_PER_PASS] for a in range(0, X.shape[0], ROWS_PER_PASS))
        logits = [self._forward(self.scaled(part), self.average) for part in parts]
        return refuse_overflow(np.concatenate(logits).astype(np.float64))


class Linear(Network):
    """Logistic regressions: one matrix of shape (n_features + 1, n_runs)."""

    def scaled(self, X: Matrix) -> Matrix:
        X = super().scaled(X)
        ones = np.ones((X.shape[0], 1), dtype=self.dtype)
        return hstack([X, csr_matrix(ones)], "csr") if issparse(X) else np.hstack([X, ones])

    def _initial(self, n_features, n_runs, rng):
        return (np.zeros((n_features + 1, n_runs)),)

    def _forward(self, X, parameters):
        return X @ parameters[0]

    def _gradients(self, X, share, target):
        residual = self._forward(X, self.parameters)
        _kernels.residuals(residual, share, target)
        return (np.ascontiguousarray(X.T @ residual),)


class MLP(Network):
    """One hidden layer of rectified units: the first layers of all runs are one matrix."""

    def _initial(self, n_features, n_runs, rng):
        # He's initial values; a scaled sparse row has length one, a dense one sqrt(n_features).
        length = 1.0 if self.scaler.center is None else math.sqrt(n_features)
        output = rng.standard_normal((n_runs, HIDDEN_WIDTH + 1)) / math.sqrt(HIDDEN_WIDTH)
        output[:, -1] = 0
        first = rng.standard_normal((n_features, n_runs * HIDDEN_WIDTH)) * (math.sqrt(2) / length)
        return first, np.zeros(n_runs * HIDDEN_WIDTH), output

    def _forward(self, X, parameters):
        return self._hidden_and_logits(X, parameters)[1]

    def _hidden_and_logits(self, X, parameters):
        first, bias, output = parameters
        hidden = X @ first
        logits = np.empty((X.shape[0], output.shape[0]), dtype=self.dtype)
        _kernels.hidden_to_logits(hidden, bias, output, logits)
        return hidden, logits

    def _gradients(self, X, share, target):
        _, bias, output = self.parameters
        hidden, residual = self._hidden_and_logits(X, self.parameters)
        _kernels.residuals(residual, share, target)
        grad_bias, grad_output = np.empty_like(bias), np.empty_like(output)
        _kernels.backpropagate(hidden, residual, output, grad_bias, grad_output)
        return np.ascontiguousarray(X.T @ hidden), grad_bias, grad_output


NETWORKS = {"linear": Linear, "mlp": MLP}


class MeanProbability:
    """A classifier that averages the probabilities of all runs of `model`, which has `logits`."""

    def __init__(self, model: Any):
        self.model = model

    def predict_proba(self, X: Matrix) -> Array:
        """Return the probabilities of both classes, of shape (n_samples, 2)."""
        positive = expit(self.model.logits(X)).mean(axis=1)
        return np.stack([1 - positive, positive], axis=1)
