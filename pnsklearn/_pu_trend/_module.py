"""A torch module as the model of both stages: cross-fitted runs, and the final classifier.

Batches are gathered from the NumPy arrays as they are needed. Everything random follows `rng`;
torch's global generators are left as they were.
"""

import copy
import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import torch
from numpy.random import RandomState
from torch.nn.functional import binary_cross_entropy_with_logits

from pnsklearn._modules import in_chunks, seeded, tensor_of
from pnsklearn._pu_trend._networks import MeanProbability
from pnsklearn._pu_trend._presets import POSITIVE_TARGET, Plan
from pnsklearn._pu_trend._sample import FinalRows, Sample
from pnsklearn._typing import Array

ROWS_PER_PASS = 1024  # without gradients, which bounds the memory for activations
SURE = 0.9  # the confidence above which both views of a row must agree


class ModuleLearner:
    """K torch modules; see `_learners` for what a learner is.

    With the rows' weights a, run k minimises by steps on batches of equal size from both samples

        1/2 mean_{i in P} CE(1 - e/2, z_i) + 1/2 mean_{j in U} a_j CE(0, z_j)

    over the rows that it sees, where e is the label smoothing. The weights of P are its sampling
    probabilities. Each step is one forward pass over both halves: batch normalisation must not tell
    them apart, and sees two rows at least.

    Parameters
    ----------
    factory : callable
        Returns a new `torch.nn.Module` that maps a float32 batch of shape (n, ...) to one logit
        per row, of shape (n,) or (n, 1).
    transform : callable or None
        Maps a training batch (tensor) to an augmented one of the same shape.
    device : str
        Where the modules live.
    sample : Sample
        The labeled positives and the unlabeled rows, arrays of shape (n, ...).
    plan : Plan
        How the runs are trained.
    rng : numpy.random.RandomState or numpy.random.Generator
        Source of everything random, the initial weights and dropout too.
    """

    def __init__(
        self, factory: Callable, transform: Callable | None, device: str,
        sample: Sample, plan: Plan, rng: RandomState,
    ):  # fmt: skip
        self._X = [rows.X for rows in sample]
        weight_P, weight_U = (rows.run_weight for rows in sample)
        self._share_U = weight_U / (weight_U.sum(axis=0) / np.count_nonzero(weight_U, axis=0))
        self._plan, self._rng, self._device = plan, rng, device
        self._transform = transform or _unchanged
        with seeded(rng, device):
            self._runs = [_Training(factory, plan, device) for _ in range(plan.n_runs)]
        self._batches = [
            (
                _cycle(weight_P[:, k], plan.batch_size, rng),
                _cycle(np.sign(weight_U[:, k]), plan.batch_size, rng),
            )
            for k in range(plan.n_runs)
        ]

    def advance(self) -> None:
        with seeded(self._rng, self._device):
            for k, (run, batches) in enumerate(zip(self._runs, self._batches, strict=True)):
                run.module.train()
                for _ in range(self._plan.steps):
                    run.step(self._loss(run.module, k, *map(next, batches)))

    def logits(self, X: Array) -> Array:
        return np.stack([_logits(run.average, X, self._device) for run in self._runs], axis=1)

    def _loss(self, module, k, rows_P, rows_U):
        parts = zip(self._X, (rows_P, rows_U), strict=True)
        batch = torch.cat([tensor_of(X[rows], self._device) for X, rows in parts])
        positive = np.r_[np.ones(len(rows_P)), np.zeros(len(rows_U))]
        share = np.r_[np.ones(len(rows_P)), self._share_U[rows_U, k]]
        return binary_cross_entropy_with_logits(
            _forward(module, self._transform(batch)),
            tensor_of(positive * POSITIVE_TARGET, self._device),
            tensor_of(share, self._device),
        )


def fit_module(
    factory: Callable, weak: Callable | None, strong: Callable | None, device: str,
    rows: FinalRows, plan: Plan, rng: RandomState,
) -> MeanProbability:  # fmt: skip
    """Train a fresh module on soft targets: the second stage.

    Parameters
    ----------
    factory : callable
        Returns a new `torch.nn.Module`, as for `ModuleLearner`.
    weak, strong : callable or None
        Map a training batch to an augmented one. All rows are trained on in the weak view. With
        `strong`, unlabeled rows are also asked to agree between the views; see `_soft_loss`.
    device : str
        Where to train.
    rows : FinalRows
        Two rows at least; a target may be any probability of the positive class. Weights count
        relative to their mean.
    plan : Plan
        How to train; its numbers of runs, snapshots and steps belong to the first stage.
    rng : numpy.random.RandomState or numpy.random.Generator
        Source of everything random.

    Returns
    -------
    classifier : MeanProbability
        Of a `TrainedModule` with the averaged weights.
    """
    n_rows = rows.X.shape[0]
    # At least two rows in a batch, which batch normalisation needs.
    n_batches = max(1, min(-(-n_rows // plan.batch_size), n_rows // 2))
    plan = dataclasses.replace(plan, n_snapshots=2, steps=plan.n_epochs * n_batches)
    share = rows.weight / rows.weight.mean()
    with seeded(rng, device):
        training = _Training(factory, plan, device)
        training.module.train()
        for epoch in range(plan.n_epochs):
            target = plan.targets(rows.target, rows.unlabeled, epoch)
            for batch in np.array_split(rng.permutation(n_rows), n_batches):
                loss = _soft_loss(
                    training.module,
                    tensor_of(rows.X[batch], device),
                    tensor_of(target[batch], device),
                    tensor_of(share[batch], device),
                    torch.as_tensor(rows.unlabeled[batch], device=device),
                    weak=weak or _unchanged,
                    strong=strong,
                )
                training.step(loss)
    return MeanProbability(TrainedModule(training.average.to("cpu"), device))


class TrainedModule:
    """A trained module on the CPU, which scores on `device`."""

    def __init__(self, module: torch.nn.Module, device: str):
        self.module, self.device = module, device

    def logits(self, X: Array) -> Array:
        """Return the logits in float64, of shape (n_samples, 1)."""
        # A copy: the module that is kept stays on the CPU, and in the mode its owner gave it.
        module = copy.deepcopy(self.module).to(self.device).eval()
        return _logits(module, X, self.device)[:, np.newaxis]


class _Training:
    """A module in training, its optimiser, and the running average of its weights."""

    def __init__(self, factory, plan, device):
        module = None if isinstance(factory, torch.nn.Module) else factory()
        if not isinstance(module, torch.nn.Module):
            raise TypeError(
                "The module factory must be a function or a class that returns a new "
                f"torch.nn.Module when called without arguments; got {factory!r}."
            )
        # A copy: a factory that returns the same object twice must not tie the runs together.
        self.module = copy.deepcopy(module).to(device, torch.float32)
        self.average = copy.deepcopy(self.module).eval()
        self._plan = plan
        self._n_steps = 0
        self._optimizer = torch.optim.SGD(
            [p for p in self.module.parameters() if p.requires_grad],
            lr=plan.learning_rate,
            momentum=plan.momentum,
            nesterov=plan.momentum > 0,
            weight_decay=plan.weight_decay,
        )

    def step(self, loss):
        for group in self._optimizer.param_groups:
            group["lr"] = self._plan.rate(self._n_steps)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        decay = self._plan.decay_at(self._n_steps)
        with torch.no_grad():
            for mean, value in zip(_state(self.average), _state(self.module), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - decay)
                else:
                    mean.copy_(value)  # a counter
        self._n_steps += 1


def _state(module):
    """Parameters and buffers: the statistics of batch normalisation are averaged too."""
    return itertools.chain(module.parameters(), module.buffers())


def _cycle(weight, size, rng):
    """Yield batches of `size` rows for ever: by passes in random order or, if weighted, drawn.

    Rows of zero weight are never in a batch.
    """
    rows = np.flatnonzero(weight)
    weight = weight[rows]
    if (weight != weight[0]).any():
        while True:
            yield rng.choice(rows, size, p=weight / weight.sum())
    left = rows[:0]
    while True:
        while left.shape[0] < size:
            left = np.concatenate([left, rng.permutation(rows)])
        yield left[:size]
        left = left[size:]


def _soft_loss(module, batch, target, share, unlabeled, *, weak, strong):
    """Return the loss of the second stage on a batch.

    With z the logits of the weakly and z' of the strongly transformed rows, p = sigmoid(z), and a
    the shares of the rows (their weights over the mean),

        mean a CE(target, z) + mean_{unlabeled} a [max(p, 1 - p) > 0.9] CE([p > 1/2], z'),

    where no gradient flows through p. The second term (FixMatch) is only there with `strong`.
    """
    if strong is None or not unlabeled.any():
        return binary_cross_entropy_with_logits(_forward(module, weak(batch)), target, share)
    # One pass for both views, so that batch normalisation sees the same mixture in both.
    views = torch.cat([weak(batch), strong(batch[unlabeled])])
    weak_logits, strong_logits = _forward(module, views).tensor_split([batch.shape[0]])
    p = weak_logits.detach()[unlabeled].sigmoid()
    sure = torch.maximum(p, 1 - p) > SURE
    agreement = binary_cross_entropy_with_logits(
        strong_logits, (p > 0.5).float(), share[unlabeled] * sure
    )
    return binary_cross_entropy_with_logits(weak_logits, target, share) + agreement


def _logits(module, X, device):
    with torch.no_grad():
        parts = in_chunks(lambda rows: _forward(module, tensor_of(rows, device)), X, ROWS_PER_PASS)
    logits = parts.double().cpu().numpy()
    if not np.isfinite(logits).all():
        raise ValueError(
            "The module returned infinite logits or NaN, so its training has diverged. Lower "
            "learning_rate, or bring X to unit scale."
        )
    return logits


def _forward(module, batch):
    logits = module(batch)
    n_rows = batch.shape[0]
    if logits.shape[:1] != (n_rows,) or logits.numel() != n_rows:
        raise ValueError(
            "The module must return one logit per row, of shape (n,) or (n, 1); got "
            f"{tuple(logits.shape)} for {n_rows} rows."
        )
    return logits.reshape(n_rows)


def _unchanged(batch):
    return batch
