"""The cut of the unlabeled rows' trend scores, by the share of positives or by a break."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pnsklearn._fitting import warn_user
from pnsklearn._pu_trend._breaks import authors_break, natural_break, quantile_threshold
from pnsklearn._pu_trend._first_stage import FirstStage
from pnsklearn._pu_trend._sample import Sample
from pnsklearn._pu_trend._share import Share
from pnsklearn._typing import Array
from pnsklearn.exceptions import PUWarning

# "auto" compares these; the mean stays unless another one ranks higher by more than the difference.
AUTO_TRENDS, CLEAR_DIFFERENCE = ("mean", "last", "simple", "slope"), 0.01


class Ranking(NamedTuple):
    """The trend scores of both samples."""

    trend: str
    positives: Array
    unlabeled: Array
    auc: float  # of the positives against the unlabeled rows


@dataclass(frozen=True)
class Split:
    """The trend scores, and what they say of the unlabeled rows."""

    ranking: Ranking
    threshold: float
    share: float  # of the unlabeled rows that count as positive
    interval: tuple[float, float]

    @property
    def called_positive(self) -> Array:
        """The unlabeled rows above the threshold."""
        return self.ranking.unlabeled > self.threshold


def split_trends(ranking: Ranking, sample: Sample, method: str, share: Share | None) -> Split:
    """Split the trend scores of the unlabeled rows, by their share of positives or by a break.

    `method` is the parameter `split` of `PUTrendClassifier`. Without a share, "auto" and "prior"
    are the natural break.
    """
    scores, weight = ranking.unlabeled, sample.unlabeled.weight
    if method in ("auto", "prior") and share is not None:
        threshold = quantile_threshold(scores, share.estimate, weight)
        return Split(ranking, threshold, share.estimate, share.interval)
    if method in ("auto", "prior"):
        warn_user(
            "The share of positives is not estimated, because no labeled positive is held out of "
            "training. The natural break is used instead, which is unreliable. Set class_prior if "
            "it is known.",
            PUWarning,
        )
        method = "natural"
    authors = method == "authors"
    threshold = authors_break(scores) if authors else natural_break(scores, weight, method)
    above = float(sample.unlabeled.mean(scores > threshold))
    return Split(ranking, threshold, above, (np.nan, np.nan))


def choose_ranking(stage: FirstStage, sample: Sample, trend: str) -> Ranking:
    """Return the trend scores; "auto" are those that rank the held-out positives highest."""

    def rank(trend):
        scores = stage.scores(trend)
        return Ranking(trend, scores[0], scores[1], sample.auc(scores))

    if stage.last == 0 and trend != "last":
        return rank("mean")  # a single snapshot has no trend
    if trend == "auto":
        # Without averaged weights, or held-out positives to judge by, only the mean is safe.
        safe = sample.held_out and stage.name != "partial_fit"
        rankings = [rank(trend) for trend in (AUTO_TRENDS if safe else ["mean"])]
        best, mean = max(rankings, key=lambda ranking: ranking.auc), rankings[0]
        return best if best.auc > mean.auc + CLEAR_DIFFERENCE else mean
    ranking = rank(trend)
    if sample.held_out and ranking.auc < 0.5:
        mean = rank("mean")
        if mean.auc > ranking.auc:
            warn_user(
                f"The trend {trend!r} is inverted: held-out positives rank below the unlabeled "
                f"rows (AUC {ranking.auc:.2f}), so the mean of the snapshots is used (AUC "
                f"{mean.auc:.2f}). Train for less, with a lower learning_rate or fewer n_passes.",
                PUWarning,
            )
            return mean
    return ranking
