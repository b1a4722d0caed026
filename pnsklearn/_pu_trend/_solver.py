"""Learn from positives and unlabelled rows: cross-fitted runs, trends, a split, pseudo-labels.

First stage: K runs tell labelled positives from unlabelled rows, on batches of equal halves. Each
run holds out some of the positives and half of the unlabelled rows; at every snapshot a row is
scored by the runs that do not see it. The snapshots give each row a curve, and the curve a number,
its trend score. Second stage: the share of positives in U splits the trend scores, or turns them
into probabilities, on which the final classifier is trained.
"""

import warnings
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.sparse import issparse
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score

from pnsklearn._pu_trend._learners import stack
from pnsklearn._pu_trend._scores import OnlineTrend
from pnsklearn._pu_trend._split import authors_break, natural_break, quantile_threshold
from pnsklearn.exceptions import PUTrendWarning
from pnsklearn.metrics import class_prior

# "auto" compares these; the mean stays unless another one is better by more than the margin.
AUTO_TRENDS, MARGIN = ("mean", "last", "simple", "slope"), 0.01
FEW_POSITIVES = 20  # below this the prior is not estimated
N_BOOTSTRAP = 20
# Standard deviation of the logarithm of the natural break's share; width of a normal's 90 %.
BREAK_SPREAD, WIDTH_90 = 0.3, 3.29
N_CURVES = 2000  # rows of a sample whose curves are kept for the display
# When to warn. An AUC against negatives below FAIR_AUC; or below GOOD_AUC where that against U is
# below POOR_AUC, because a prior that is too large makes the former look good.
POOR_AUC, FAIR_AUC, GOOD_AUC = 0.6, 0.7, 0.9
SMALL_SIDE = 0.01  # of a split
WIDE_INTERVAL = 0.4  # of the prior
DISAGREEMENT = 5  # factor between the prior and the share above the natural break
EXCESS = 0.05  # of an AUC over what held-out scores can reach
LARGEST_LOG_ODDS = 30.0
GRAIN = 2.0**-10  # of pseudo-labels


@dataclass(frozen=True)
class FirstStage:
    """The runs at the snapshot where they stopped: trends of held-out scores."""

    positives: OnlineTrend
    unlabeled: OnlineTrend
    stop: int  # index of the snapshot
    curves: list  # at each snapshot the scores of some rows of both samples
    shown: list  # these rows

    def scores(self, kind):
        """Return the trend scores of both samples, without the digits that rounding decides."""
        return [np.round(trend.scores(kind), 12) for trend in (self.positives, self.unlabeled)]


@dataclass(frozen=True)
class Split:
    """The trend scores, and what they say of the unlabelled rows."""

    kind: str
    positives: np.ndarray
    unlabeled: np.ndarray
    threshold: float
    share: float  # of the unlabelled rows that count as positive
    prior: float
    interval: tuple
    auc: float  # of held-out positives against unlabelled rows


def cross_fit(groups_P, groups_U, n_folds, rng):
    """Return which of 2 n_folds runs sees which row: boolean arrays of shape (n, 2 n_folds).

    A positive is held out by two runs, an unlabelled row by every other one. Rows of one group stay
    together.
    """
    n_runs = 2 * n_folds
    sees_P = np.ones((groups_P.shape[0], n_runs), dtype=bool)
    sees_U = np.ones((groups_U.shape[0], n_runs), dtype=bool)
    n_P, n_U = groups_P.max() + 1, groups_U.max() + 1
    for run in range(0, n_runs, n_folds):
        fold = rng.permutation(n_P)[groups_P] % n_folds
        sees_P[np.arange(fold.shape[0]), run + fold] = False
    for run in range(0, n_runs, 2):
        half = rng.permutation(n_U)[groups_U] % 2
        sees_U[np.arange(half.shape[0]), run + half] = False
    return sees_P, sees_U


def content_groups(X):
    """Number the rows by content: equal rows get the same number."""
    if issparse(X):
        X = X[:, np.unique(X.indices)].toarray()  # without the columns that no row has
    return np.unique(X, axis=0, return_inverse=True)[1].reshape(-1)


def held_out_scores(logits, sees, level):
    """Return for each row the mean score of the runs that hold it out, or of all if none does.

    Runs differ in level: each is moved by its own mean log-odds over U, `level` less that of all.
    """
    used = ~sees
    used[~used.any(axis=1)] = True
    scores = expit(np.clip(logits - level, -LARGEST_LOG_ODDS, LARGEST_LOG_ODDS))
    return np.average(scores, axis=1, weights=used)


def first_stage(learner, samples, plan, *, early_stopping, min_snapshots, store_history, callback):
    """Train all runs and follow the held-out scores of both samples.

    With `early_stopping` the result is that of the snapshot with the smallest held-out
    cross-entropy, both samples weighing the same. A callback that returns True ends the training.

    Parameters
    ----------
    learner : object
        See `_learners`.
    samples : list of tuple (X, weight, sees)
        The labelled positives and the unlabelled rows.
    plan : Plan
        How the runs are trained.
    early_stopping, store_history : bool
        See `PUTrendClassifier`.
    min_snapshots : int
        Fewest to use: a change needs two.
    callback : callable
        Called without arguments after each snapshot.

    Returns
    -------
    stage : FirstStage
        The result.
    """
    trends = [OnlineTrend(store_history), OnlineTrend(store_history)]
    best, kept, stop, curves = np.inf, None, 0, []
    sizes = [X.shape[0] for X, _, _ in samples]
    shown = [np.linspace(0, n - 1, min(n, N_CURVES)).astype(int) for n in sizes]
    for snapshot in range(plan.n_snapshots):
        learner.advance()
        logits = [learner.logits(X) for X, _, _ in samples]
        level = np.average(logits[1], axis=0, weights=samples[1][1])
        level = level - level.mean()
        scores = [
            held_out_scores(z, sees, level) for z, (_, _, sees) in zip(logits, samples, strict=True)
        ]
        for trend, p in zip(trends, scores, strict=True):
            trend.update(p)
        curves.append([p[rows] for p, rows in zip(scores, shown, strict=True)])
        chances = np.maximum(scores[0], 1e-12), np.maximum(1 - scores[1], 1e-12)
        loss = -sum(
            np.average(np.log(p), weights=weight)
            for p, (_, weight, _) in zip(chances, samples, strict=True)
        )
        if loss < best or not early_stopping or snapshot < min_snapshots:
            best, stop, kept = loss, snapshot, [trend.copy() for trend in trends]
        if callback():
            break
    return FirstStage(*kept, stop, curves, shown)


def choose_trend(stage, kind, weight_P, weight_U):
    """Return the kind of trend score: for "auto", the one whose held-out AUC is largest."""
    if stage.stop == 0 and kind != "last":
        return "mean"  # a single snapshot has no trend
    if kind != "auto":
        return kind

    def auc(kind):
        return held_out_auc(*stage.scores(kind), weight_P, weight_U)

    aucs = {kind: auc(kind) for kind in AUTO_TRENDS}
    best = max(aucs, key=aucs.get)
    return best if aucs[best] > aucs["mean"] + MARGIN else "mean"


def mean_auc(stage, weight_P, weight_U):
    """Return the held-out AUC of the mean of the snapshots, by which learners are compared."""
    return held_out_auc(*stage.scores("mean"), weight_P, weight_U)


def held_out_auc(scores_P, scores_U, weight_P, weight_U):
    """Return the probability that a held-out positive scores above an unlabelled row."""
    labeled = np.repeat([1, 0], [scores_P.shape[0], scores_U.shape[0]])
    weight = np.concatenate([weight_P / weight_P.sum(), weight_U / weight_U.sum()])
    scores = np.concatenate([scores_P, scores_U])
    return float(roc_auc_score(labeled, scores, sample_weight=weight))


def split_trends(stage, kind, method, prior, *, held_out, weight_P, weight_U, seed):
    """Split the trend scores of the unlabelled rows; warn of what cannot be trusted.

    Parameters
    ----------
    stage : FirstStage
        The first stage.
    kind, method : str
        The trend score and the split; see `PUTrendClassifier`.
    prior : float or None
        The share of positives in U, where it is known.
    held_out : bool
        Whether the positives' scores are held out: otherwise no prior can be estimated from them.
    weight_P, weight_U : ndarray
        Weights of the rows.
    seed : int
        For the prior's bootstrap interval.

    Returns
    -------
    split : Split
        The scores, the threshold and the prior.
    """
    kind = choose_trend(stage, kind, weight_P, weight_U)
    scores_P, scores_U = stage.scores(kind)
    auc = held_out_auc(scores_P, scores_U, weight_P, weight_U)
    if held_out and auc < 0.5 and kind != "mean":
        of_mean = mean_auc(stage, weight_P, weight_U)
        if of_mean > auc:
            _warn(
                f"The trend {kind!r} is inverted: held-out positives rank below the unlabelled "
                f"rows (AUC {auc:.2f}), so the mean of the snapshots is used (AUC {of_mean:.2f}). "
                "Train for less, with a lower learning_rate or fewer n_passes."
            )
            kind, auc = "mean", of_mean
            scores_P, scores_U = stage.scores(kind)

    natural = natural_break(scores_U, weight_U)
    share_above = partial(np.average, weights=weight_U)
    if method == "auto":
        estimable = held_out and weight_P.sum() >= FEW_POSITIVES
        method = "prior" if prior is not None else "both" if estimable else "natural"
        if method == "natural":
            _warn(
                f"The class prior is not estimated: that needs {FEW_POSITIVES} labelled positives "
                "that are held out of training. The natural break is used, which is unreliable. "
                "Set class_prior if it is known."
            )
    if method == "prior" and prior is None and not held_out:
        method = "natural"
    interval = (prior, prior)
    if prior is None and method in ("prior", "both"):
        estimate = class_prior(
            scores_P,
            scores_U,
            weight_positive=weight_P,
            weight_unlabeled=weight_U,
            n_bootstrap=N_BOOTSTRAP,
            random_state=seed,
        )
        prior, interval = estimate.estimate, (estimate.low, estimate.high)
    if method == "prior":
        share = prior
    elif method == "both":
        above = float(share_above(scores_U > natural))
        share = _compromise(prior, interval, above)
        if max(prior, above) > DISAGREEMENT * min(prior, above):
            _warn(
                f"The estimated prior, {prior:.2f}, and the share above the natural break, "
                f"{above:.2f}, disagree, and {share:.2f} is used. If positives are rare, set "
                "split='prior'; if the labelled ones are the easy ones, split='natural'."
            )
    else:
        if method == "authors":
            threshold = authors_break(scores_U)
        elif method == "variance":
            threshold = natural_break(scores_U, weight_U, "variance")
        else:
            threshold = natural
        share = float(share_above(scores_U > threshold))
    if method in ("prior", "both"):
        threshold = quantile_threshold(scores_U, share, weight_U)
    if prior is None:
        prior, interval = share, (np.nan, np.nan)
    split = Split(kind, scores_P, scores_U, threshold, share, prior, interval, auc)
    for message in _doubts(split, held_out, weight_U):
        _warn(message)
    return split


def _compromise(prior, interval, above):
    """Return a weighted geometric mean of the prior and of the share above the natural break.

    The weights are the inverse variances of their logarithms: of the prior by its bootstrap, of the
    break a constant.
    """
    log_prior, log_low, log_high, log_above = np.log(np.maximum((prior, *interval, above), 1e-3))
    variance = ((log_high - log_low) / WIDTH_90) ** 2
    weight = BREAK_SPREAD**2 / (BREAK_SPREAD**2 + variance)
    return float(np.exp(weight * log_prior + (1 - weight) * log_above))


def _doubts(split, held_out, weight_U):
    """Yield a sentence for each reason not to trust a split."""
    auc, prior, (low, high) = split.auc, split.prior, split.interval
    above = np.average(split.unlabeled > split.threshold, weights=weight_U)
    corrected = (auc - prior / 2) / (1 - prior) if prior < 1 else 0.5
    if not held_out and auc > 1 - prior / 2 + EXCESS:
        yield (
            f"The labelled positives rank above the unlabelled rows with probability {auc:.2f}; "
            f"with a share of positives of {prior:.2f} no more than {1 - prior / 2:.2f} is "
            "possible: the run has memorised its rows. Set n_folds, or train for less."
        )
    if corrected < (GOOD_AUC if auc < POOR_AUC else FAIR_AUC):
        yield (
            "The labelled positives can hardly be told from the unlabelled rows: they rank above "
            f"them with probability {auc:.2f}; with a share of positives of {prior:.2f} that is an "
            f"AUC of about {corrected:.2f}. Predictions may be no better than chance."
        )
    elif high - low > WIDE_INTERVAL:
        yield (
            f"The data leave the share of positives among the unlabelled rows open: {prior:.2f}, "
            f"with a 90 % interval from {low:.2f} to {high:.2f}. Set class_prior "
            "if it is known."
        )
    if not SMALL_SIDE <= above <= 1 - SMALL_SIDE:
        yield (
            f"The split calls {100 * above:.1f} % of the unlabelled rows positive. Set class_prior "
            "if the share is known, or check that U holds both classes."
        )


def _warn(message):
    warnings.warn(message, PUTrendWarning, stacklevel=6)


def posterior(split, weight_P, weight_U):
    """Return for each unlabelled row the probability that it is positive.

    By Bayes P(y = 1 | score) = min(1, share f_P / f_U), with the ratio of the scores' densities in
    both samples. The ratio is the odds of "labelled" when both weigh the same, fitted as a
    nondecreasing function of the score; then all are scaled so that their mean is the share.
    """
    scores = np.concatenate([split.positives, split.unlabeled])
    labeled = np.repeat([1.0, 0.0], [weight_P.shape[0], weight_U.shape[0]])
    weight = np.concatenate([weight_P / weight_P.sum(), weight_U / weight_U.sum()])
    model = IsotonicRegression(out_of_bounds="clip").fit(scores, labeled, sample_weight=weight)
    share = np.minimum(model.predict(split.unlabeled), 1 - 1e-9)
    ratio = share / (1 - share)
    return _scaled_to_mean(split.share * ratio, split.share, weight_U)


def _scaled_to_mean(values, mean, weight):
    """Return min(1, c values), with the c for which their weighted mean is `mean`."""
    for _ in range(100):
        values = np.minimum(values, 1.0)
        current = np.average(values, weights=weight)
        if current == 0 or abs(current - mean) <= 1e-6:
            break
        values = values * (mean / current)
    return np.minimum(values, 1.0)


def final_sample(X_P, X_U, weight_P, weight_U, target, share, scenario):
    """Return rows, labels, weights for the final classifier: a soft target becomes two rows.

    In the "single" scenario both samples together are the population. In the "case-control"
    scenario U is, and the positives of both samples are scaled to its share of positives.
    """
    # In steps of a power of two the sums of weights, and so the ties of a tree, are exact.
    target = np.round(target / GRAIN) * GRAIN
    yes, no = target > 0, target < 1
    no |= ~no.any()  # both classes are needed
    weight_yes = np.concatenate([weight_P, (weight_U * target)[yes]])
    weight_no = (weight_U * np.maximum(1 - target, 1e-6))[no]
    if scenario == "case-control":
        weight_yes = weight_yes * (share * weight_U.sum() / weight_yes.sum())
    X = stack(X_P, X_U[yes], X_U[no])
    y = np.repeat([1, 0], [weight_yes.shape[0], weight_no.shape[0]])
    return X, y, np.concatenate([weight_yes, weight_no])


def snapshot_quantiles(stage, positive):
    """Return the 10 % quantile, mean and 90 % quantile of three groups at each snapshot.

    The groups are the held-out positives and the sampled unlabelled rows that are called positive
    and negative; a group without rows is NaN.
    """
    positive = positive[stage.shown[1]]
    curves_P = np.stack([p for p, _ in stage.curves])
    curves_U = np.stack([u for _, u in stage.curves])
    groups = curves_P, curves_U[:, positive], curves_U[:, ~positive]
    result = np.full((3, len(stage.curves), 3), np.nan)
    for row, curves in zip(result, groups, strict=True):
        if curves.shape[1]:
            row[:, 0], row[:, 2] = np.quantile(curves, (0.1, 0.9), axis=1)
            row[:, 1] = curves.mean(axis=1)
    return result
