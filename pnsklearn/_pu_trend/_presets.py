"""How models are trained, and what the published method has in place of our defaults."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pnsklearn._typing import Array

# Up to this many rows a sample is one batch: no chance in the batches, and exact weights.
LARGEST_WHOLE_BATCH = 256
FEWEST_STEPS = 20  # between snapshots
AUTO_PASSES, MOST_AUTO_STEPS = 10, 100  # over the rows in all, and between snapshots
POSITIVE_TARGET = 0.95  # of labeled positives, for a label smoothing of 0.1; others have 0
PUBLISHED_STEPS = 512  # between snapshots
PUBLISHED_DECAY = 0.999  # of the averaged weights, per step
RAMP_EPOCHS, RAMP_POWER = 25, 0.8  # of the targets of pseudo-labels

COMMON: dict[str, Any] = {
    "final_estimator": "same",
    "pseudo_labels": "ramped",
    "n_snapshots": 15,
    "n_passes": "published",
    "n_folds": None,
}
PAPER = COMMON | {"trend": "pairwise", "split": "variance"}
AUTHORS_CODE = COMMON | {"trend": "simple", "split": "authors"}


@dataclass(frozen=True)
class Plan:
    """Stochastic gradients with Nesterov's momentum, and averaged weights."""

    n_runs: int
    n_snapshots: int
    steps: int  # between snapshots
    batch_size: int  # labeled positives, and as many unlabeled rows, in a step
    learning_rate: float
    decay: float  # of the averaged weights, per step
    momentum: float = 0.9
    weight_decay: float = 5e-4
    n_epochs: int = 50  # of the second stage
    ramp: bool = False  # whether the targets of pseudo-labels rise to their value

    @property
    def n_steps(self) -> int:
        return self.steps * self.n_snapshots

    def rate(self, step: int) -> float:
        """Return the learning rate at a step: the cosine that the authors use."""
        return self.learning_rate * math.cos(7 / 16 * math.pi * step / self.n_steps)

    def decay_at(self, step: int) -> float:
        """Return the decay at a step: early on, the average is the mean of all weights so far."""
        return min(self.decay, (1 + step) / (10 + step))

    def targets(self, target: Array, unlabeled: Array, epoch: int) -> Array:
        """Return the targets of an epoch: pseudo-labels rise as min(1, epoch / 25)^0.8, or not."""
        rise = min(1.0, epoch / RAMP_EPOCHS) ** RAMP_POWER if self.ramp else 1.0
        return np.where(unlabeled, rise * target, target)


def schedule(n_passes: float | str, n_rows: int, rows_per_step: int) -> tuple[int, float]:
    """Return the steps between snapshots, and the decay of the averaged weights.

    `n_rows` is the number of unlabeled rows, and `rows_per_step` how many of them would be taken
    if each snapshot had one step.
    """
    if n_passes == "published":
        return PUBLISHED_STEPS, PUBLISHED_DECAY
    passes = AUTO_PASSES if isinstance(n_passes, str) else n_passes
    steps = max(FEWEST_STEPS, round(passes * n_rows / rows_per_step))
    if n_passes == "auto":
        steps = min(steps, MOST_AUTO_STEPS)
    return steps, 1 - 1 / (2 * steps)  # averages over about two snapshot periods
