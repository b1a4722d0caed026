"""The learners of the first stage: K runs that can be trained up to the next snapshot, and scored.

A learner is made of the labelled positives `X_P`, the unlabelled rows `X_U`, their weights in each
run, of shape (n, K) and zero where the run holds the row out, a `Plan` and a random state. Its
``advance()`` trains all runs for one snapshot period, and ``logits(X)`` returns the log-odds of
"labelled" under each run, of shape (n, K), as if both samples had the same size.
"""

from dataclasses import replace

import numpy as np
from scipy.sparse import issparse, vstack
from scipy.special import logit
from sklearn.base import clone

from pnsklearn._pu_trend._networks import NETWORKS

# Up to this many rows a sample is one batch: no chance in the batches, and exact weights.
WHOLE = 256
SMALLEST = 1e-9  # probability
# The targets of pseudo-labelled rows rise to their value as published.
RAMP_EPOCHS, RAMP_POWER = 25, 0.8


def stack(*parts):
    """Return the rows of all parts in one array or CSR matrix."""
    return vstack(parts, "csr") if issparse(parts[0]) else np.concatenate(parts)


class Batches:
    """Batches that serve all runs: rows of both samples, with their share in each run's loss.

    Run k minimises 1/2 mean_P CE(1 - e/2, z) + 1/2 mean_U CE(0, z), weighted means over the rows
    that it sees; e is the label smoothing. U is cut once into blocks of a random order, P drawn
    anew in each pass over it.
    """

    def __init__(self, X_P, X_U, weight_P, weight_U, plan, rng, dtype):
        n_P, n_U = X_P.shape[0], X_U.shape[0]
        n_blocks = 1 if n_U <= WHOLE else max(1, round(n_U / plan.batch_size))
        order = np.arange(n_U) if n_blocks == 1 else rng.permutation(n_U)
        # The mean weight is that of the whole sample, so that the gradients are unbiased.
        share = (weight_U / weight_U.mean(axis=0) * (0.5 * n_blocks / n_U)).astype(dtype)
        blocks = np.array_split(order, n_blocks)
        self._blocks = [(X_U[rows], share[rows]) for rows in blocks]
        self._P = X_P
        self._size = n_P if n_P <= WHOLE else plan.batch_size
        self._share_P = (weight_P / weight_P.mean(axis=0) * (0.5 / self._size)).astype(dtype)
        self._target = dtype(plan.positive_target)
        self._rng = rng
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
        """Return rows, shares (rows, K) and targets (rows,)."""
        rows = self._next_positives()
        X_U, share_U = self._blocks[self._step % len(self._blocks)]
        self._step += 1
        X = stack(self._P[rows], X_U)
        share = np.vstack([self._share_P[rows], share_U])
        target = np.zeros(share.shape[0], dtype=share.dtype)
        target[: rows.shape[0]] = self._target
        return X, share, target


class NetworkLearner:
    """Linear models or networks of one hidden layer, all trained by the same matrix products."""

    def __init__(self, kind, X_P, X_U, weight_P, weight_U, plan, rng):
        whole = max(X_P.shape[0], X_U.shape[0]) <= WHOLE
        dtype = np.float64 if whole and X_U.dtype == np.float64 else np.float32
        X = stack(X_P, X_U)
        weight = np.concatenate([weight_P.max(axis=1), weight_U.max(axis=1)])
        self.network = NETWORKS[kind](X, weight, plan, rng, dtype)
        scaled = self.network.scaled(X_P), self.network.scaled(X_U)
        self._batches = Batches(*scaled, weight_P, weight_U, plan, rng, dtype)
        self._steps = plan.steps

    def advance(self):
        for _ in range(self._steps):
            self.network.step(*self._batches.next())

    def logits(self, X):
        return self.network.logits(X)


class PartialFitLearner:
    """Clones of a scikit-learn classifier with `partial_fit`, on batches of equal halves."""

    def __init__(self, estimator, X_P, X_U, weight_P, weight_U, plan, rng):
        self._samples = [(X_P, weight_P), (X_U, weight_U)]
        self._plan, self._rng = plan, rng
        self._models = [clone(estimator) for _ in range(plan.n_runs)]
        for model in self._models:
            if "random_state" in model.get_params():
                model.set_params(random_state=int(rng.randint(2**31 - 1)))

    def advance(self):
        n_rows = self._plan.steps * self._plan.batch_size
        for k, model in enumerate(self._models):
            # Rows by passes in random order; the same number of both samples, weights by drawing.
            rows = [_draw(weight[:, k], n_rows, self._rng) for _, weight in self._samples]
            for start in range(0, n_rows, self._plan.batch_size):
                batch = slice(start, start + self._plan.batch_size)
                parts = [X[r[batch]] for (X, _), r in zip(self._samples, rows, strict=True)]
                X = stack(*parts)
                y = np.repeat([1, 0], [part.shape[0] for part in parts])
                model.partial_fit(X, y, classes=np.array([0, 1]))

    def logits(self, X):
        logits = np.stack([_log_odds(model, X) for model in self._models], axis=1)
        if np.isnan(logits).any():
            raise ValueError(
                f"{type(self._models[0]).__name__} returned NaN. Scale X, drop constant features, "
                "or use another estimator."
            )
        return logits


def _log_odds(model, X):
    if hasattr(model, "predict_proba"):
        positive = model.predict_proba(X)[:, 1]
        return logit(np.clip(positive, SMALLEST, 1 - SMALLEST))
    return model.decision_function(X)


def _draw(weight, size, rng):
    """Return `size` rows: passes in random order if the weights are equal, else drawn by weight."""
    rows = np.flatnonzero(weight)
    if np.ptp(weight[rows]) > 0:
        return rng.choice(rows, size, p=weight[rows] / weight[rows].sum())
    passes = -(-size // rows.shape[0])
    return np.concatenate([rng.permutation(rows) for _ in range(passes)])[:size]


def fit_network(kind, X, y, weight, unlabeled, plan, rng, *, ramped, n_epochs=50):
    """Train one fresh network on labels 0 and 1.

    Where `ramped`, the targets of unlabelled rows are min(1, epoch / 25)^0.8 y, as published.
    """
    n = X.shape[0]
    whole = n <= WHOLE
    n_batches = max(1, round(max(n, WHOLE) / plan.batch_size))
    plan = replace(plan, n_runs=1, n_snapshots=n_epochs, steps=n_batches)
    dtype = np.float64 if whole and X.dtype == np.float64 else np.float32
    network = NETWORKS[kind](X, weight, plan, rng, dtype)
    X = network.scaled(X)
    mean_batch = n if whole else n / n_batches
    share = (weight / weight.mean() / mean_batch).astype(dtype)[:, np.newaxis]
    for epoch in range(n_epochs):
        ramp = min(1.0, epoch / RAMP_EPOCHS) ** RAMP_POWER if ramped else 1.0
        target = np.where(unlabeled, ramp * y, y).astype(dtype)
        if whole:
            for _ in range(n_batches):
                network.step(X, share, target)
        else:
            for rows in np.array_split(rng.permutation(n), n_batches):
                network.step(X[rows], share[rows], target[rows])
    network.check_finite()
    return network
