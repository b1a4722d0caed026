"""The learners of the first stage: K runs that can be trained up to the next snapshot, and scored.

A learner is made of a `Sample`, a `Plan` and a random state. Its ``advance()`` trains all runs for
one snapshot period, and ``logits(X)`` returns the log-odds of "labeled" under each run, of shape
(n, K), as if both samples had the same size.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.random import RandomState
from scipy.special import logit
from sklearn.base import clone

from pnsklearn._pu_trend._networks import NETWORKS
from pnsklearn._pu_trend._presets import LARGEST_WHOLE_BATCH, POSITIVE_TARGET, Plan
from pnsklearn._pu_trend._sample import Sample, stack
from pnsklearn._typing import Array, Matrix

SMALLEST_PROBABILITY = 1e-9  # of which log-odds are taken


class Batches:
    """Batches that serve all runs: rows of both samples, with their share in each run's loss.

    Run k minimises 1/2 mean_P CE(1 - e/2, z) + 1/2 mean_U CE(0, z), weighted means over the rows
    that it sees; e is the label smoothing. U is cut once into blocks of a random order, P drawn
    anew in each pass over it.
    """

    def __init__(self, sample: Sample, plan: Plan, rng: RandomState, dtype: type):
        n_positives, n_unlabeled = (rows.n for rows in sample)
        whole = n_unlabeled <= LARGEST_WHOLE_BATCH
        n_blocks = 1 if whole else max(1, round(n_unlabeled / plan.batch_size))
        order = np.arange(n_unlabeled) if n_blocks == 1 else rng.permutation(n_unlabeled)
        self._size = n_positives if n_positives <= LARGEST_WHOLE_BATCH else plan.batch_size
        # The mean weight is that of the whole sample, so that the gradients are unbiased.
        parts = 0.5 / self._size, 0.5 * n_blocks / n_unlabeled
        self._positive_share, share = (
            (rows.run_weight / rows.run_weight.mean(axis=0) * part).astype(dtype)
            for rows, part in zip(sample, parts, strict=True)
        )
        X = sample.unlabeled.X
        self._blocks = [(X[rows], share[rows]) for rows in np.array_split(order, n_blocks)]
        self._positives = sample.positives.X
        self._rng, self._step, self._left = rng, 0, np.arange(0)

    def _next_positives(self):
        n = self._positives.shape[0]
        if self._size == n:
            return np.arange(n)
        while self._left.shape[0] < self._size:
            self._left = np.concatenate([self._left, self._rng.permutation(n)])
        rows, self._left = self._left[: self._size], self._left[self._size :]
        return rows

    def next(self) -> tuple[Matrix, Array, Array]:
        """Return rows, shares (rows, K) and targets (rows,)."""
        rows = self._next_positives()
        block, share = self._blocks[self._step % len(self._blocks)]
        self._step += 1
        share = np.vstack([self._positive_share[rows], share])
        target = np.zeros(share.shape[0], dtype=share.dtype)
        target[: rows.shape[0]] = POSITIVE_TARGET
        return stack(self._positives[rows], block), share, target


class NetworkLearner:
    """Linear models or networks of one hidden layer, all trained by the same matrix products."""

    def __init__(self, kind: str, sample: Sample, plan: Plan, rng: RandomState):
        whole = max(rows.n for rows in sample) <= LARGEST_WHOLE_BATCH
        X = stack(*(rows.X for rows in sample))
        dtype = np.float64 if whole and X.dtype == np.float64 else np.float32
        weight = np.concatenate([rows.run_weight.max(axis=1) for rows in sample])
        self.network = NETWORKS[kind](X, weight, plan, rng, dtype)
        scaled = (replace(rows, X=self.network.scaled(rows.X)) for rows in sample)
        self._batches = Batches(Sample(*scaled), plan, rng, dtype)
        self._steps = plan.steps

    def advance(self) -> None:
        for _ in range(self._steps):
            self.network.step(*self._batches.next())

    def logits(self, X: Matrix) -> Array:
        return self.network.logits(X)


class PartialFitLearner:
    """Clones of a scikit-learn classifier with `partial_fit`, on batches of equal halves."""

    def __init__(self, estimator: Any, sample: Sample, plan: Plan, rng: RandomState):
        self._samples = [(rows.X, rows.run_weight) for rows in sample]
        self._plan, self._rng = plan, rng
        self._models = [clone(estimator) for _ in range(plan.n_runs)]
        for model in self._models:
            if "random_state" in model.get_params():
                model.set_params(random_state=int(rng.randint(2**31 - 1)))

    def advance(self) -> None:
        n_rows = self._plan.steps * self._plan.batch_size
        for k, model in enumerate(self._models):
            # The same number of rows of both samples, so that these weigh the same.
            drawn = [_draw(weight[:, k], n_rows, self._rng) for _, weight in self._samples]
            for start in range(0, n_rows, self._plan.batch_size):
                batch = slice(start, start + self._plan.batch_size)
                parts = [X[r[batch]] for (X, _), r in zip(self._samples, drawn, strict=True)]
                y = np.repeat([1, 0], [part.shape[0] for part in parts])
                model.partial_fit(stack(*parts), y, classes=np.array([0, 1]))

    def logits(self, X: Matrix) -> Array:
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
        return logit(np.clip(positive, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY))
    return model.decision_function(X)


def _draw(weight, size, rng):
    """Return `size` rows: passes in random order if the weights are equal, else drawn by weight."""
    rows = np.flatnonzero(weight)
    if np.ptp(weight[rows]) > 0:
        return rng.choice(rows, size, p=weight[rows] / weight[rows].sum())
    passes = -(-size // rows.shape[0])
    return np.concatenate([rng.permutation(rows) for _ in range(passes)])[:size]
