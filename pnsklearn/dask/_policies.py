"""The objective of a policy on blocks of a log: one round an evaluation."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from pnsklearn._rows import total
from pnsklearn._topr import _kernels
from pnsklearn._topr._diagnostics import Ratios, diagnostic_sums
from pnsklearn._topr._doubt import outcome_sums
from pnsklearn._topr._feedback import Feedback
from pnsklearn._topr._objective import Bounds, Penalised, log_bounds
from pnsklearn._topr._selection import acting
from pnsklearn._topr._training import linear_logits, log_softmax_of
from pnsklearn._typing import Array, Matrix
from pnsklearn.dask._blocks import Blocks, aligned


class Log(NamedTuple):
    """A block of a log: what is left of it to learn from, and all of it."""

    X: Matrix
    action: Array
    gain: Array
    log_propensity: Array
    log_low: Array
    log_high: Array
    feedback: Feedback

    def __reduce__(self):
        return _arrived, (self[:-1], self.feedback)


def _arrived(columns, feedback):
    """Return a Log that came in a message."""
    return Log._make([*map(aligned, columns), feedback])


def to_learn(feedback: Feedback, baseline: float | None, bounds: Bounds) -> Log:
    """Return the Log of a block of feedback."""
    feedback = replace(feedback, baseline=baseline, bounds=bounds)
    gain = feedback.gain
    logs = np.log(feedback.propensity), *log_bounds(np, gain, bounds)
    return _arrived((feedback.X, feedback.action, gain, *logs), feedback)


def loss_of(log: Log, imitate: bool, W: Array, b: Array) -> tuple[float, Array, Array]:
    """Return -J of a block, and its gradients; `imitate` is for `Penalised.imitation`."""
    rows = log[:-1]
    if imitate:
        zeros = np.zeros_like(log.gain)
        rows = (*rows[:2], log.gain.clip(min=0), log.log_propensity, zeros, zeros)
    return total(_kernels.loss, rows, W, b)


def size_of(log: Log) -> tuple[float]:
    """Return the sum of |R|."""
    return (float(np.abs(log.gain).sum()),)


def outcomes_of(log: Log, act: str, W: Array, b: Array) -> tuple[Array]:
    """Return the sums by which outcomes are judged."""
    log_policy = log_softmax_of(linear_logits(log.X, W, b))
    return (outcome_sums(acting(log_policy, act), log.feedback),)


def diagnostics_of(log: Log, W: Array, b: Array) -> tuple[Ratios, float, float] | None:
    """Return the sums of the diagnostics; None of no rows."""
    if not len(log.gain):
        return None
    return diagnostic_sums(log_softmax_of(linear_logits(log.X, W, b)), log.feedback)


@dataclass(frozen=True)
class BlockedPolicy(Penalised):
    """The penalised objective of blocks of a log."""

    rows: Blocks
    imitates: bool = False

    def loss(self, W: Array, b: Array) -> tuple[float, Array, Array]:
        """Return -J, and its gradients by the weights and biases."""
        value: Any = self.rows.sum(loss_of, self.imitates, W, b)
        return value

    def imitation(self) -> "BlockedPolicy":
        """Return the convex objective that learns from gains only, whatever their ratio."""
        return replace(self, imitates=True)
