"""The share of positives among the unlabelled rows, and the cut of their trend scores by it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pnsklearn._fitting import warn_user
from pnsklearn._pu_trend._breaks import authors_break, natural_break, quantile_threshold
from pnsklearn._pu_trend._first_stage import FirstStage
from pnsklearn._pu_trend._sample import Sample
from pnsklearn._typing import Array
from pnsklearn.exceptions import PUTrendWarning

# "auto" compares these; the mean stays unless another one ranks higher by more than the difference.
AUTO_TRENDS, CLEAR_DIFFERENCE = ("mean", "last", "simple", "slope"), 0.01
FEWEST_POSITIVES = 20  # from which a prior is estimated
N_BOOTSTRAP = 20
# Standard deviation of the logarithm of the natural break's share; width of a normal's 90 %.
BREAK_SPREAD, WIDTH_90 = 0.3, 3.29
# When to warn. An AUC against negatives below FAIR_AUC; or below GOOD_AUC where that against U is
# below POOR_AUC, because a prior that is too large makes the former look good.
POOR_AUC, FAIR_AUC, GOOD_AUC = 0.6, 0.7, 0.9
SMALLEST_SIDE = 0.01  # of a split
WIDEST_INTERVAL = 0.4  # of the prior
LARGEST_RATIO = 5  # between the prior and the share above the natural break
AUC_TOLERANCE = 0.05  # over what scores can reach that were not trained on their rows


class Ranking(NamedTuple):
    """The trend scores of both samples."""

    trend: str
    positives: Array
    unlabeled: Array
    auc: float  # of the positives against the unlabelled rows


@dataclass(frozen=True)
class Split:
    """The trend scores, and what they say of the unlabelled rows."""

    ranking: Ranking
    threshold: float
    share: float  # of the unlabelled rows that count as positive
    prior: float
    interval: tuple[float, float]

    @property
    def called_positive(self) -> Array:
        """The unlabelled rows above the threshold."""
        return self.ranking.unlabeled > self.threshold


def split_trends(
    stage: FirstStage, sample: Sample, *, trend: str, split: str, prior: float | None, seed: int
) -> Split:
    """Split the trend scores of the unlabelled rows; warn of what cannot be trusted.

    `trend`, `split` and the `prior`, where it is known, are parameters of `PUTrendClassifier`;
    `seed` is that of the prior's bootstrap interval.
    """
    ranking = choose_ranking(stage, sample, trend)
    method = choose_method(split, sample, prior)
    scores, weight = ranking.unlabeled, sample.unlabeled.weight
    if method in ("prior", "both"):
        if prior is None:
            prior, low, high = estimate_prior(ranking, sample, seed)
        else:
            low = high = prior
        share = prior
        if method == "both":
            above = sample.unlabeled.mean(scores > natural_break(scores, weight))
            share = compromise(prior, (low, high), float(above))
        threshold = quantile_threshold(scores, share, weight)
    else:
        authors = method == "authors"
        threshold = authors_break(scores) if authors else natural_break(scores, weight, method)
        prior = share = float(sample.unlabeled.mean(scores > threshold))
        low = high = np.nan
    result = Split(ranking, threshold, share, prior, (low, high))
    for doubt in doubts(result, sample):
        warn_user(doubt, PUTrendWarning)
    return result


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
                f"The trend {trend!r} is inverted: held-out positives rank below the unlabelled "
                f"rows (AUC {ranking.auc:.2f}), so the mean of the snapshots is used (AUC "
                f"{mean.auc:.2f}). Train for less, with a lower learning_rate or fewer n_passes.",
                PUTrendWarning,
            )
            return mean
    return ranking


def choose_method(method: str, sample: Sample, prior: float | None) -> str:
    """Return the method of the split; "both" is a compromise of "prior" and "natural"."""
    if prior is not None:
        return "prior" if method == "auto" else method
    if method == "prior" and sample.held_out:
        return "prior"
    if method not in ("auto", "prior"):
        return method
    if sample.held_out and sample.positives.weight.sum() >= FEWEST_POSITIVES:
        return "both"
    warn_user(
        f"The class prior is not estimated, because that needs {FEWEST_POSITIVES} labelled "
        "positives that are held out of training. The natural break is used instead, which is "
        "unreliable. Set class_prior if it is known.",
        PUTrendWarning,
    )
    return "natural"


def estimate_prior(ranking: Ranking, sample: Sample, seed: int) -> tuple[float, float, float]:
    """Return the estimated prior and the ends of its bootstrap interval."""
    from pnsklearn.metrics import class_prior

    return class_prior(
        ranking.positives,
        ranking.unlabeled,
        weight_positive=sample.positives.weight,
        weight_unlabeled=sample.unlabeled.weight,
        n_bootstrap=N_BOOTSTRAP,
        random_state=seed,
    )


def compromise(prior: float, interval: tuple[float, float], above: float) -> float:
    """Return a weighted geometric mean of the prior and of the share above the natural break.

    The weights are the inverse variances of their logarithms: of the prior by its bootstrap, of the
    break a constant.
    """
    log_prior, log_low, log_high, log_above = np.log(np.maximum((prior, *interval, above), 1e-3))
    variance = ((log_high - log_low) / WIDTH_90) ** 2
    weight = BREAK_SPREAD**2 / (BREAK_SPREAD**2 + variance)
    share = float(np.exp(weight * log_prior + (1 - weight) * log_above))
    if max(prior, above) > LARGEST_RATIO * min(prior, above):
        warn_user(
            f"The estimated prior, {prior:.2f}, and the share above the natural break, "
            f"{above:.2f}, disagree, and {share:.2f} is used. If positives are rare, set "
            "split='prior'. If the labelled positives are the easy ones, set split='natural'.",
            PUTrendWarning,
        )
    return share


def doubts(split: Split, sample: Sample) -> Iterator[str]:
    """Yield a sentence for each reason not to trust a split."""
    auc, prior, (low, high) = split.ranking.auc, split.prior, split.interval
    above = sample.unlabeled.mean(split.called_positive)
    corrected = (auc - prior / 2) / (1 - prior) if prior < 1 else 0.5
    if not sample.held_out and auc > 1 - prior / 2 + AUC_TOLERANCE:
        yield (
            f"The labelled positives rank above the unlabelled rows with probability {auc:.2f}. "
            f"With a share of positives of {prior:.2f}, no more than {1 - prior / 2:.2f} is "
            "possible, so the run has memorised its rows. Set n_folds, or train for less."
        )
    if corrected < (GOOD_AUC if auc < POOR_AUC else FAIR_AUC):
        yield (
            "The labelled positives can hardly be told from the unlabelled rows. They rank above "
            f"them with probability {auc:.2f}, which, with a share of positives of {prior:.2f}, is "
            f"an AUC of about {corrected:.2f} against negatives. Predictions may be no better than "
            "chance."
        )
    elif high - low > WIDEST_INTERVAL:
        yield (
            f"The data leave the share of positives among the unlabelled rows open: {prior:.2f}, "
            f"with a 90 % interval from {low:.2f} to {high:.2f}. Set class_prior if it is known."
        )
    if not SMALLEST_SIDE <= above <= 1 - SMALLEST_SIDE:
        yield (
            f"The split calls {100 * above:.1f} % of the unlabelled rows positive. Set class_prior "
            "if the share is known, or check that the unlabelled rows hold both classes."
        )
