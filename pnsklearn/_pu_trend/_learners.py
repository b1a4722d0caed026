"""The learners of the first stage: K runs that can be trained up to the next snapshot, and scored.

A learner has ``advance()``, which trains all runs for one snapshot period, and ``scores(X)``, the
probability of "labelled" under each run, of shape (n, K). Run k never trains on the labelled
positives of fold k.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, issparse, vstack
from scipy.special import expit
from sklearn.base import clone

from pnsklearn._pu_trend import _kernels


@dataclass(frozen=True)
class Plan:
    """How the runs are trained."""

    n_runs: int
    n_snapshots: int
    steps: int  # per snapshot
    batch_size: int  # rows of P, and as many of U, in a step
    learning_rate: float
    label_smoothing: float
    ema: float  # decay of the average of the weights, per step
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def rate(self, step):
        """Return the learning rate at a step: a cosine that ends near a fifth, as published."""
        return self.learning_rate * math.cos(7 / 16 * math.pi * step / self.n_steps)

    @property
    def n_steps(self):
        return self.steps * max(self.n_snapshots - 1, 1)


class Scaler:
    """Standard units: centred and scaled columns, or, for sparse X, rows of length about one."""

    def __init__(self, X_P, X_U):
        if issparse(X_U):
            squares = (X_P.multiply(X_P).sum() + X_U.multiply(X_U).sum()) / (
                X_P.shape[0] + X_U.shape[0]
            )
            self.center, self.scale = None, float(np.sqrt(squares)) or 1.0
            return
        X = np.concatenate([X_P, X_U])
        self.center = X.mean(axis=0, dtype=np.float64)
        scale = X.std(axis=0, dtype=np.float64)
        # A constant column has a standard deviation of rounding errors.
        noise = 10 * np.finfo(X.dtype).eps * np.abs(self.center)
        self.scale = np.where(scale > noise, scale, 1.0)

    def transform(self, X):
        if self.center is None:
            return (X * (1.0 / self.scale)).astype(np.float32)
        return ((X - self.center) / self.scale).astype(np.float32)


class Batches:
    """Batches that serve all runs: the same rows, with a weight for each run.

    U is cut once into blocks of a random order; P is drawn anew in each pass over it. If P has no
    more rows than a batch, all of P is in every batch.
    """

    def __init__(self, X_P, X_U, weight_P, weight_U, plan, rng):
        self._rng = rng
        order = rng.permutation(X_U.shape[0])
        n_blocks = max(1, round(X_U.shape[0] / plan.batch_size))
        blocks = np.array_split(order, n_blocks)
        self._U = [X_U[rows] for rows in blocks]
        # The mean weight is that of the whole sample, so that the gradients are unbiased.
        share_U = weight_U / weight_U.mean(axis=0) * (0.5 * n_blocks / X_U.shape[0])
        self._share_U = [share_U[rows] for rows in blocks]
        self._P = X_P
        self._size = min(plan.batch_size, X_P.shape[0])
        self._share_P = weight_P / weight_P.mean(axis=0) * (0.5 / self._size)
        self._n_runs = plan.n_runs
        self._step = 0
        self._left = np.arange(0)

    def _next_positives(self):
        n = self._P.shape[0]
        if self._size == n:
            return np.arange(n)
        while self._left.shape[0] < self._size:
            self._left = np.concatenate([self._left, self._rng.permutation(n)])
        rows, self._left = self._left[: self._size], self._left[self._size :]
        return rows

    def next(self):
        """Return the rows, positives first, each run's share of them, and how many are positive."""
        rows = self._next_positives()
        block = self._step % len(self._U)
        self._step += 1
        X_P, X_U = self._P[rows], self._U[block]
        X = vstack([X_P, X_U], "csr") if issparse(X_U) else np.concatenate([X_P, X_U])
        share = np.empty((X.shape[0], self._n_runs), dtype=np.float32)
        share[: rows.shape[0]] = self._share_P[rows]
        share[rows.shape[0] :] = self._share_U[block]
        return X, share, rows.shape[0]


class LinearLearner:
    """Logistic regressions, all in one weight matrix of shape (n_features + 1, K)."""

    def __init__(self, X_P, X_U, weight_P, weight_U, plan, rng):
        self._plan = plan
        self._scaler = Scaler(X_P, X_U)
        X_P, X_U = (_with_ones(self._scaler.transform(X)) for X in (X_P, X_U))
        self._batches = Batches(X_P, X_U, weight_P, weight_U, plan, rng)
        self._step = 0
        self._weights = np.zeros((X_U.shape[1], plan.n_runs), dtype=np.float32)
        self._velocity = np.zeros_like(self._weights)
        self._average = np.zeros_like(self._weights)

    def advance(self):
        plan = self._plan
        target = 1 - plan.label_smoothing / 2
        for _ in range(plan.steps):
            X, share, n_positive = self._batches.next()
            residual = X @ self._weights
            _kernels.residuals(residual, share, n_positive, target)
            gradient = np.ascontiguousarray(X.T @ residual)
            _nesterov(
                self._weights, gradient, self._velocity, self._average, plan, self._step
            )
            self._step += 1

    def scores(self, X):
        return expit((_with_ones(self._scaler.transform(X)) @ self._average).astype(np.float64))


class MLPLearner:
    """Networks with one hidden layer of rectified units; the first layers are one matrix."""

    WIDTH = 64

    def __init__(self, X_P, X_U, weight_P, weight_U, plan, rng):
        self._plan = plan
        self._scaler = Scaler(X_P, X_U)
        X_P, X_U = self._scaler.transform(X_P), self._scaler.transform(X_U)
        self._batches = Batches(X_P, X_U, weight_P, weight_U, plan, rng)
        self._step = 0
        n_hidden = plan.n_runs * self.WIDTH
        n_inputs = np.sqrt(X_U.multiply(X_U).sum() / X_U.shape[0] if issparse(X_U) else X_U.shape[1])
        self._parameters = [
            (rng.standard_normal((X_U.shape[1], n_hidden)) / n_inputs * np.sqrt(2)).astype(np.float32),
            np.zeros(n_hidden, dtype=np.float32),
            (rng.standard_normal((plan.n_runs, self.WIDTH + 1)) / np.sqrt(self.WIDTH)).astype(np.float32),
        ]
        self._parameters[2][:, -1] = 0
        self._velocity = [np.zeros_like(p) for p in self._parameters]
        self._average = [p.copy() for p in self._parameters]

    def advance(self):
        plan = self._plan
        target = 1 - plan.label_smoothing / 2
        first, bias, output = self._parameters
        grad_bias, grad_output = np.empty_like(bias), np.empty_like(output)
        for _ in range(plan.steps):
            X, share, n_positive = self._batches.next()
            hidden = X @ first
            residual = np.empty_like(share)
            _kernels.hidden_to_logits(hidden, bias, output, residual)
            _kernels.residuals(residual, share, n_positive, target)
            _kernels.backpropagate(hidden, residual, output, grad_bias, grad_output)
            gradients = np.ascontiguousarray(X.T @ hidden), grad_bias, grad_output
            for arrays in zip(self._parameters, gradients, self._velocity, self._average, strict=True):
                _nesterov(*arrays, plan, self._step)
            self._step += 1

    def scores(self, X):
        X = self._scaler.transform(X)
        first, bias, output = self._average
        logits = np.empty((X.shape[0], output.shape[0]), dtype=np.float32)
        for start in range(0, X.shape[0], 4096):
            rows = slice(start, start + 4096)
            _kernels.hidden_to_logits(X[rows] @ first, bias, output, logits[rows])
        return expit(logits.astype(np.float64))


def _with_ones(X):
    ones = np.ones((X.shape[0], 1), dtype=np.float32)
    return csr_matrix(_hstack(X, ones)) if issparse(X) else np.hstack([X, ones])


def _hstack(X, ones):
    from scipy.sparse import hstack

    return hstack([X, csr_matrix(ones)], "csr")


def _nesterov(parameter, gradient, velocity, average, plan, step):
    # The average forgets its start: early on it is the mean of all weights so far.
    decay = min(plan.ema, (1 + step) / (10 + step))
    _kernels.nesterov(
        parameter.reshape(-1),
        gradient.reshape(-1),
        velocity.reshape(-1),
        average.reshape(-1),
        plan.rate(step),
        plan.momentum,
        plan.weight_decay,
        decay,
    )
