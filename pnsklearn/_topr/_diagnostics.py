"""What the ratios of a policy to the logging one say after a fit."""

from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np
from scipy.special import entr
from sklearn.utils import Bunch

from pnsklearn._topr._feedback import Feedback
from pnsklearn._typing import Array

SPENT_RATIO = 0.01  # below it a bad decision hardly moves the policy any more
LARGEST_LOG_RATIO = 700.0  # beyond it the ratio would overflow


class Ratios(NamedTuple):
    """Sums over the rows of a block by which log-ratios are described; those of blocks add up.

    `largest` is the largest log-ratio, and `ratio` and `square` are sums of the ratios, and of
    their squares, to that one. Of good and bad decisions: the `weight`, `gain` and `log_ratio`.
    """

    largest: float
    ratio: float
    square: float
    weight: Array
    gain: Array
    log_ratio: Array
    above: float
    spent: float

    @classmethod
    def of(cls, log_ratio: Array, gain: Array, weight: Array) -> "Ratios":
        """Return the sums of some rows, at least one."""
        signs = gain > 0, gain < 0
        # The size does not depend on the scale of the ratios, which may overflow for sequences.
        largest = log_ratio.max()
        ratio = np.exp(log_ratio - largest)
        return cls(
            largest,
            weight @ ratio,
            weight @ ratio**2,
            np.array([weight[rows].sum() for rows in signs]),
            np.array([np.abs(gain[rows]).sum() for rows in signs]),
            np.array([weight[rows] @ log_ratio[rows] for rows in signs]),
            weight[signs[1] & (log_ratio > 0)].sum(),
            weight[signs[1] & (log_ratio < np.log(SPENT_RATIO))].sum(),
        )

    def __add__(self, other):
        largest = max(self.largest, other.largest)
        pair = [found._scaled(largest) for found in (self, other)]
        return Ratios(largest, *map(add, *(found[1:] for found in pair)))

    def _scaled(self, largest):
        factor = np.exp(self.largest - largest)
        return self._replace(ratio=self.ratio * factor, square=self.square * factor**2)

    def describe(self) -> Bunch:
        """Return what they say."""
        size = self.gain.sum()
        with np.errstate(invalid="ignore"):  # a mean of no rows is NaN
            log_ratio = self.log_ratio / self.weight
            above, spent = np.array([self.above, self.spent]) / self.weight[1]
        return Bunch(
            n_positive=float(self.weight[0]),
            n_negative=float(self.weight[1]),
            effective_positive=float(self.gain[0] / size) if size > 0 else np.nan,
            effective_sample_size=float(self.ratio**2 / self.square),
            largest_ratio=float(np.exp(min(self.largest, LARGEST_LOG_RATIO))),
            negative_above=float(above),
            negative_spent=float(spent),
            positive_log_ratio=float(log_ratio[0]),
            negative_log_ratio=float(log_ratio[1]),
        )


def diagnose(log_policy: Array, feedback: Feedback) -> Bunch:
    """Return the diagnostics of a fit; see `TOPRPolicy.diagnostics_`."""
    return diagnosis_of([diagnostic_sums(log_policy, feedback)])


def diagnostic_sums(log_policy: Array, feedback: Feedback) -> tuple[Ratios, float, float]:
    """Return the Ratios of a block, the sum of the policy's entropies, and of the weights."""
    weight, rows = feedback.weight, np.arange(feedback.weight.shape[0])
    log_chosen = log_policy[rows, feedback.action].astype(np.float64)
    ratios = Ratios.of(log_chosen - np.log(feedback.propensity), feedback.gain, weight)
    return ratios, weight @ entr(np.exp(log_policy)).sum(axis=1), weight.sum()


def diagnosis_of(sums: list[tuple[Ratios, float, float]]) -> Bunch:
    """Return the diagnostics from the sums of all blocks."""
    ratios, entropy, total = (reduce(add, column) for column in zip(*sums, strict=True))
    return Bunch(**ratios.describe(), entropy=float(entropy / total))


def describe_ratios(log_ratio: Array, gain: Array, weight: Array) -> Bunch:
    """Return what the log-ratios log(pi / mu) of a log say beside its rewards."""
    return Ratios.of(log_ratio, gain, weight).describe()
