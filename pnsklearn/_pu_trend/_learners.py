"""The learners of the first stage: K runs that can be trained up to the next snapshot, and scored.

A learner is made of a `Sample`, a `Plan` and a random state. Its ``advance()`` trains all runs for
one snapshot period, and ``logits(X)`` returns the log-odds of "labelled" under each run, of shape
(n, K), as if both samples had the same size.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from scipy.special import logit
from sklearn.base import clone

from pnsklearn._pu_trend._networks import NETWORKS
from pnsklearn._pu_trend._plan import LARGEST_WHOLE_BATCH, POSITIVE_TARGET, Plan
from pnsklearn._pu_trend._sample import Sample, stack
from pnsklearn._typing import Array, Matrix

SMALLEST_PROBABILITY = 1e-9


class Learner(Protocol):
    """What the first stage needs of a learner."""

    def advance(self) -> None: ...
    def logits(self, X: Matrix) -> Array: ...


def is_module_factory(estimator: Any) -> bool:
    """Return whether an estimator is a function that makes torch modules."""
    return not isinstance(estimator, str) and not hasattr(estimator, "fit")


def make_learners(
    estimator: Any, *, choice: bool, device: str, weak_transform: Callable | None
) -> dict[str, Callable[..., Learner]]:
    """Return the learners to try, by name, as functions of sample, plan and random state.

    For "auto" these are two where there is a `choice`, which needs dense and held-out rows.
    """
    if is_module_factory(estimator):
        from pnsklearn._pu_trend._module import ModuleLearner

        make = partial(ModuleLearner, estimator, device=device, weak_transform=weak_transform)
        return {"module": make}
    if not isinstance(estimator, str):
        return {"partial_fit": partial(PartialFitLearner, estimator)}
    names = [estimator]
    if estimator == "auto":
        names = ["linear", "mlp"] if choice else ["linear"]
    return {name: partial(NetworkLearner, name) for name in names}


class Batches:
    """Batches that serve all runs: rows of both samples, with their share in each run's loss.

    Run k minimises 1/2 mean_P CE(1 - e/2, z) + 1/2 mean_U CE(0, z), weighted means over the rows
    that it sees; e is the label smoothing. U is cut once into blocks of a random order, P drawn
    anew in each pass over it.
    """

    def __init__(self, sample: Sample, plan: Plan, rng: np.random.RandomState, dtype: type):
        positives, unlabeled = sample
        n_blocks = 1
        if unlabeled.n > LARGEST_WHOLE_BATCH:
            n_blocks = max(1, round(unlabeled.n / plan.batch_size))
        order = np.arange(unlabeled.n) if n_blocks == 1 else rng.permutation(unlabeled.n)
        # The mean weight is that of the whole sample, so that the gradients are unbiased.
        share = _relative(unlabeled.run_weight, 0.5 * n_blocks / unlabeled.n).astype(dtype)
        blocks = np.array_split(order, n_blocks)
        self._blocks = [(unlabeled.X[rows], share[rows]) for rows in blocks]
        self._positives = positives.X
        self._size = positives.n if positives.n <= LARGEST_WHOLE_BATCH else plan.batch_size
        self._positive_share = _relative(positives.run_weight, 0.5 / self._size).astype(dtype)
        self._rng = rng
        self._step = 0
        self._left = np.arange(0)

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


def _relative(run_weight, scale):
    """Return the weights over their mean in each run, times `scale`."""
    return run_weight / run_weight.mean(axis=0) * scale


class NetworkLearner:
    """Linear models or networks of one hidden layer, all trained by the same matrix products."""

    def __init__(self, kind: str, sample: Sample, plan: Plan, rng: np.random.RandomState):
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

    def __init__(self, estimator: Any, sample: Sample, plan: Plan, rng: np.random.RandomState):
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
