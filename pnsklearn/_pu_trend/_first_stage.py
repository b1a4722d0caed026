"""First stage: K runs tell labeled positives from unlabeled rows; the scores are followed.

Each run holds out some of the positives and half of the unlabeled rows; at every snapshot a row is
scored by the runs that do not see it. The snapshots give each row a curve, and the curve a number,
its trend score.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import RandomState
from scipy.special import expit

from pnsklearn._pu_trend._presets import Plan
from pnsklearn._pu_trend._sample import Sample
from pnsklearn._pu_trend._trend import PAIRED_TRENDS, TRENDS_OF_CHANGE, OnlineTrend
from pnsklearn._typing import Array

MOST_CURVES = 2000  # of each sample, kept for the display
LARGEST_LOG_ODDS = 30.0
SMALLEST_CHANCE = 1e-12  # in the loss
DECIMALS = 12  # of a trend score: the next ones are decided by rounding


@dataclass(frozen=True)
class FirstStage:
    """The runs at the snapshot that is used last: trends of held-out scores."""

    name: str  # of the learner
    trends: list[OnlineTrend]  # of the positives and of the unlabeled rows
    last: int  # index of that snapshot
    curves: list[list[Array]]  # at each snapshot the scores of some rows of both samples
    shown: list[Array]  # these rows

    def scores(self, kind: str) -> list[Array]:
        """Return the trend scores of both samples."""
        return [np.round(trend.scores(kind), DECIMALS) for trend in self.trends]

    def quantiles(self, positive: Array) -> Array:
        """Return the 10 % quantile, mean and 90 % quantile of three groups at each snapshot.

        The groups are the held-out positives, and those of the shown unlabeled rows that are
        called positive and negative; a group without rows is NaN.
        """
        positive = positive[self.shown[1]]
        of_positives, of_unlabeled = map(np.stack, zip(*self.curves, strict=True))
        groups = of_positives, of_unlabeled[:, positive], of_unlabeled[:, ~positive]
        result = np.full((3, len(self.curves), 3), np.nan)
        for row, curves in zip(result, groups, strict=True):
            if curves.shape[1]:
                row[:, 0], row[:, 2] = np.quantile(curves, (0.1, 0.9), axis=1)
                row[:, 1] = curves.mean(axis=1)
        return result


def first_stage(
    sample: Sample, learners: dict[str, Callable], plan: Plan, rng: RandomState, *,
    trend: str, stop_early: bool, on_snapshot: Callable[[Any], bool],
) -> FirstStage:  # fmt: skip
    """Train each of the learners, and return the one that ranks the held-out positives highest.

    With `stop_early` the snapshots up to that of the smallest held-out loss are used. `trend` says
    what they are for: some trends need two snapshots, and some need all of them kept. An
    `on_snapshot` that returns True ends the training.
    """
    fewest = 2 if trend in TRENDS_OF_CHANGE else 1
    stages = []
    shown = [np.linspace(0, rows.n - 1, min(rows.n, MOST_CURVES)).astype(int) for rows in sample]
    for name, make_learner in learners.items():
        learner = make_learner(sample, plan, rng)
        trends = [OnlineTrend(keep_history=trend in PAIRED_TRENDS) for _ in sample]
        smallest, curves = np.inf, []
        for snapshot in range(plan.n_snapshots):
            learner.advance()
            scores = snapshot_scores(learner, sample)
            for online, p in zip(trends, scores, strict=True):
                online.update(p)
            curves.append([p[rows] for p, rows in zip(scores, shown, strict=True)])
            loss = held_out_loss(scores, sample)
            if loss < smallest or not stop_early or snapshot < fewest:
                smallest, last, used = loss, snapshot, [online.copy() for online in trends]
            if stopped := on_snapshot(learner):
                break
        stages.append(FirstStage(name, used, last, curves, shown))
        if stopped:
            break
    return max(stages, key=lambda stage: sample.auc(stage.scores("mean")))


def snapshot_scores(learner: Any, sample: Sample) -> list[Array]:
    """Return the held-out scores of both samples."""
    logits = [learner.logits(rows.X) for rows in sample]
    # Runs differ in level: each is moved by its own mean over U, less that of all.
    level = sample.unlabeled.mean(logits[1])
    level = level - level.mean()
    return [held_out_mean(z - level, rows.seen) for z, rows in zip(logits, sample, strict=True)]


def held_out_mean(logits: Array, seen: Array) -> Array:
    """Return for each row the mean score of the runs that hold it out, or of all if none does."""
    used = ~seen
    used[~used.any(axis=1)] = True
    scores = expit(np.clip(logits, -LARGEST_LOG_ODDS, LARGEST_LOG_ODDS))
    return np.average(scores, axis=1, weights=used)


def held_out_loss(scores: list[Array], sample: Sample) -> float:
    """Return the cross-entropy of the scores, where both samples weigh the same."""
    chances = np.maximum(scores[0], SMALLEST_CHANCE), np.maximum(1 - scores[1], SMALLEST_CHANCE)
    return -sum(float(rows.mean(np.log(p))) for p, rows in zip(chances, sample, strict=True))
