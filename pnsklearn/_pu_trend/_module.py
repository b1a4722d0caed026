"""A torch module as the model of both stages: cross-fitted runs, and the final classifier.

Batches are gathered from the NumPy arrays as they are needed. Everything random follows `rng`;
torch's global generators are left as they were.
"""

import contextlib
import copy
import dataclasses
import itertools

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from pnsklearn._pu_trend._learners import RAMP_EPOCHS, RAMP_POWER

# Rows per forward pass without gradients; bounds the memory for activations.
CHUNK = 1024


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
    X_P, X_U : ndarray of shape (n_P, ...) and (n_U, ...)
        The labelled positives and the unlabeled rows.
    weight_P, weight_U : ndarray of shape (n_P, K) and (n_U, K)
        Nonnegative weights in each run; zero where the run must not train on the row.
    plan : Plan
        How the runs are trained.
    rng : numpy.random.RandomState or numpy.random.Generator
        Source of everything random, the initial weights and dropout too.
    device : str, default="cpu"
        Where the modules live.
    weak_transform : callable, default=None
        Maps a training batch (tensor) to an augmented one of the same shape.
    """

    def __init__(
        self, factory, X_P, X_U, weight_P, weight_U, plan, rng, *, device="cpu",
        weak_transform=None,
    ):  # fmt: skip
        self._X_P, self._X_U = X_P, X_U
        means = weight_U.sum(axis=0) / np.count_nonzero(weight_U, axis=0)
        self._share_U = weight_U / means
        self._plan, self._rng, self._device = plan, rng, device
        self._transform = weak_transform or _unchanged
        with _seeded(rng, device):
            self._runs = [_Training(factory, plan, device) for _ in range(plan.n_runs)]
        self._batches = [
            (
                _cycle(weight_P[:, k], plan.batch_size, rng),
                _cycle(np.sign(weight_U[:, k]), plan.batch_size, rng),
            )
            for k in range(plan.n_runs)
        ]

    def advance(self):
        with _seeded(self._rng, self._device):
            for k, (run, batches) in enumerate(zip(self._runs, self._batches, strict=True)):
                run.module.train()
                for _ in range(self._plan.steps):
                    run.step(self._loss(run.module, k, *map(next, batches)))

    def logits(self, X):
        return np.stack([_logits(run.average, X, self._device) for run in self._runs], axis=1)

    def _loss(self, module, k, rows_P, rows_U):
        batch = torch.cat(
            [_tensor(self._X_P[rows_P], self._device), _tensor(self._X_U[rows_U], self._device)]
        )
        positive = np.r_[np.ones(len(rows_P)), np.zeros(len(rows_U))]
        share = np.r_[np.ones(len(rows_P)), self._share_U[rows_U, k]]
        return binary_cross_entropy_with_logits(
            _forward(module, self._transform(batch)),
            _tensor(positive * (1 - self._plan.label_smoothing / 2), self._device),
            _tensor(share, self._device),
        )


def fit_module(
    factory, X, target, weight, unlabeled, plan, rng, *, ramped=False, device="cpu",
    weak_transform=None, strong_transform=None, mask=0.9, n_epochs=50,
):  # fmt: skip
    """Train a fresh module on soft targets: the second stage.

    Parameters
    ----------
    factory : callable
        Returns a new `torch.nn.Module`, as for `ModuleLearner`.
    X : ndarray of shape (n, ...)
        All rows, two at least.
    target : ndarray of shape (n,)
        Probability of the positive class.
    weight : ndarray of shape (n,)
        Nonnegative weights in the loss, relative to their mean.
    unlabeled : ndarray of bool of shape (n,)
        The rows whose target is a pseudo-label.
    plan : Plan
        Batch size, learning rate, momentum, weight decay and averaging; its numbers of steps and
        its label smoothing belong to the first stage.
    rng : numpy.random.RandomState or numpy.random.Generator
        Source of everything random.
    ramped : bool, default=False
        Let the targets of the unlabeled rows rise from 0 over the first 25 epochs.
    device : str, default="cpu"
        Where to train.
    weak_transform, strong_transform : callable, default=None
        Map a training batch to an augmented one. All rows are trained on in the weak view. With
        both, unlabeled rows are also asked to agree between the views; see `_soft_loss`.
    mask : float, default=0.9
        Confidence in the weak view above which the views must agree.
    n_epochs : int, default=50
        Passes over the rows.

    Returns
    -------
    trained : TrainedModule
        With the averaged weights.
    """
    n_rows = X.shape[0]
    # At least two rows in a batch, which batch normalisation needs.
    n_batches = max(1, min(-(-n_rows // plan.batch_size), n_rows // 2))
    plan = dataclasses.replace(plan, n_snapshots=2, steps=n_epochs * n_batches)
    share = weight / weight.mean()
    with _seeded(rng, device):
        training = _Training(factory, plan, device)
        training.module.train()
        for epoch in range(n_epochs):
            goal = _ramped(target, unlabeled, epoch) if ramped else target
            for rows in np.array_split(rng.permutation(n_rows), n_batches):
                loss = _soft_loss(
                    training.module,
                    *(_tensor(array[rows], device) for array in (X, goal, share)),
                    torch.as_tensor(unlabeled[rows], device=device),
                    weak_transform or _unchanged,
                    strong_transform if weak_transform else None,
                    mask,
                )
                training.step(loss)
    return TrainedModule(training.average.to("cpu"), device)


class TrainedModule:
    """A trained module on the CPU, which scores on `device`."""

    def __init__(self, module, device):
        self.module, self.device = module, device

    def logits(self, X):
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
        # The average forgets its start: early on it is the mean of all weights so far.
        decay = min(self._plan.ema, (1 + self._n_steps) / (10 + self._n_steps))
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


@contextlib.contextmanager
def _seeded(rng, device):
    """Let torch draw from `rng` within the block, and restore its own generators after it."""
    seed = int(rng.choice(2**31 - 1))
    cuda = [] if device == "cpu" else [torch.device(device)]
    with torch.random.fork_rng(devices=cuda):
        # Not torch.manual_seed, which would seed every GPU.
        torch.default_generator.manual_seed(seed)
        for gpu in cuda:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


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


def _soft_loss(module, batch, target, share, unlabeled, weak, strong, mask):
    """Return the loss of the second stage on a batch.

    With z the logits of the weakly and z' of the strongly transformed rows, p = sigmoid(z), and a
    the shares of the rows (their weights over the mean),

        mean a CE(target, z) + mean_{unlabeled} a [max(p, 1 - p) > mask] CE([p > 1/2], z'),

    where no gradient flows through p. The second term (FixMatch) is only there with `strong`.
    """
    if strong is None or not unlabeled.any():
        return binary_cross_entropy_with_logits(_forward(module, weak(batch)), target, share)
    # One pass for both views, so that batch normalisation sees the same mixture in both.
    views = torch.cat([weak(batch), strong(batch[unlabeled])])
    weak_logits, strong_logits = _forward(module, views).tensor_split([batch.shape[0]])
    p = weak_logits.detach()[unlabeled].sigmoid()
    sure = torch.maximum(p, 1 - p) > mask
    agreement = binary_cross_entropy_with_logits(
        strong_logits, (p > 0.5).float(), share[unlabeled] * sure
    )
    return binary_cross_entropy_with_logits(weak_logits, target, share) + agreement


def _ramped(target, unlabeled, epoch):
    return np.where(unlabeled, target * min(1.0, epoch / RAMP_EPOCHS) ** RAMP_POWER, target)


def _logits(module, X, device):
    with torch.no_grad():
        chunks = [
            _forward(module, _tensor(X[start : start + CHUNK], device))
            for start in range(0, X.shape[0], CHUNK)
        ]
    logits = torch.cat(chunks).double().cpu().numpy()
    if not np.isfinite(logits).all():
        raise ValueError(
            "The module returned infinite logits or NaN: training has diverged. Lower the "
            "learning rate, or bring X to unit scale."
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


def _tensor(array, device):
    # A copy: torch warns of arrays that it cannot write to.
    return torch.tensor(array, dtype=torch.float32, device=device)


def _unchanged(batch):
    return batch
