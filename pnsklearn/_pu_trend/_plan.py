"""How models are trained: the number of steps, their sizes, and the targets of pseudo-labels."""

import math
from dataclasses import dataclass

import numpy as np

from pnsklearn._pu_trend._presets import (
    PUBLISHED_DECAY,
    PUBLISHED_STEPS,
    RAMP_EPOCHS,
    RAMP_POWER,
)
from pnsklearn._typing import Array

# Up to this many rows a sample is one batch: no chance in the batches, and exact weights.
LARGEST_WHOLE_BATCH = 256
FEWEST_STEPS = 20  # between snapshots
FINAL_EPOCHS = 50  # of the second stage
LABEL_SMOOTHING = 0.1
POSITIVE_TARGET = 1 - LABEL_SMOOTHING / 2  # of the labelled positives; unlabelled rows have 0


@dataclass(frozen=True)
class Plan:
    """Stochastic gradients with Nesterov's momentum, and averaged weights."""

    n_runs: int
    n_snapshots: int
    steps: int  # between snapshots
    batch_size: int  # labelled positives, and as many unlabelled rows, in a step
    learning_rate: float
    decay: float  # of the averaged weights, per step
    momentum: float = 0.9
    weight_decay: float = 5e-4

    @property
    def n_steps(self) -> int:
        return self.steps * self.n_snapshots

    def rate(self, step: int) -> float:
        """Return the learning rate at a step: the cosine that the authors use."""
        return self.learning_rate * math.cos(7 / 16 * math.pi * step / self.n_steps)

    def decay_at(self, step: int) -> float:
        """Return the decay at a step: early on, the average is the mean of all weights so far."""
        return min(self.decay, (1 + step) / (10 + step))


def make_plan(
    n_runs: int,
    n_unlabeled: int,
    *,
    n_snapshots: int,
    n_passes: int | str,
    batch_size: int,
    learning_rate: float,
) -> Plan:
    """Return the plan of the first stage for so many passes, or for the published schedule."""
    if isinstance(n_passes, str):
        steps, decay = PUBLISHED_STEPS, PUBLISHED_DECAY
    else:
        steps = round(n_passes * n_unlabeled / (batch_size * n_snapshots))
        steps = max(FEWEST_STEPS, steps)
        decay = 1 - 1 / (2 * steps)  # averages over about two snapshot periods
    return Plan(n_runs, n_snapshots, steps, batch_size, learning_rate, decay)


def ramped(target: Array, unlabeled: Array, epoch: int) -> Array:
    """Return the targets of an epoch: those of unlabelled rows rise as min(1, epoch / 25)^0.8."""
    return np.where(unlabeled, target * min(1.0, epoch / RAMP_EPOCHS) ** RAMP_POWER, target)
