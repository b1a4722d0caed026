"""The split of trend scores of which the truth is known, and its warnings."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.special import expit

from pnsklearn._pu_trend._first_stage import FirstStage
from pnsklearn._pu_trend._sample import Rows, Sample
from pnsklearn._pu_trend._share import Share, known_share
from pnsklearn._pu_trend._split import choose_ranking, split_trends
from pnsklearn._pu_trend._trend import OnlineTrend
from pnsklearn.exceptions import PUWarning
from pnsklearn.metrics import class_prior


def make_stage(p_P, p_U):
    """Return a first stage with the given curves, of shape (n_snapshots, n)."""
    trends = OnlineTrend(True), OnlineTrend(True)
    for rows in zip(p_P, p_U, strict=True):
        for trend, p in zip(trends, rows, strict=True):
            trend.update(p)
    curves = list(zip(p_P, p_U, strict=True))
    return FirstStage("linear", trends, len(p_P) - 1, curves, [np.arange(2), np.arange(2)])


def make_sample(n_P, n_U, weight_P=None, weight_U=None, held_out=True):
    """Return a sample of which only the weights, and whether rows were held out, matter."""
    weights = [np.ones(n) if w is None else w for n, w in ((n_P, weight_P), (n_U, weight_U))]
    return Sample(*(Rows(None, w, np.ones((len(w), 1 + held_out), dtype=bool)) for w in weights))


def two_groups(seed, prior=0.3, gap=3.0, n_P=200, n_U=1000, n_snapshots=5):
    """Return a stage with scores of two normal groups in the log-odds, and U's labels."""
    rng = np.random.default_rng(seed)
    y_U = np.arange(n_U) < round(prior * n_U)
    z_P = rng.normal(gap / 2, 1, n_P)
    z_U = rng.normal(np.where(y_U, gap / 2, -gap / 2), 1)
    growth = np.linspace(0.2, 1, n_snapshots)[:, None]
    return make_stage(expit(growth * z_P), expit(growth * z_U)), y_U


def split_of(stage, trend="auto", method="auto", prior=None, **changes):
    """Split by a given share, or the estimate from the trend scores alone."""
    sample = make_sample(*(len(p) for p in stage.scores("mean")), **changes)
    ranking = choose_ranking(stage, sample, trend)
    share = None
    if prior is not None:
        share = known_share(prior, prior)
    elif sample.held_out:
        weights = {
            "weight_positive": sample.positives.weight, "weight_unlabeled": sample.unlabeled.weight,
        }  # fmt: skip
        estimate = class_prior(ranking.positives, ranking.unlabeled, **weights)
        share = Share(estimate, (0.0, 1.0), 1.0, np.array([estimate]), np.ones(1))
    return split_trends(ranking, sample, method, share)


def test_choose_ranking():
    rng = np.random.default_rng(0)
    level_P, level_U = rng.uniform(0.2, 0.8, 100), rng.uniform(0.2, 0.8, 100)

    def chosen(stage, trend="auto", held_out=True):
        return choose_ranking(stage, make_sample(100, 100, held_out=held_out), trend).trend

    # Levels overlap, and so do the ends; the changes do not.
    rising = make_stage([level_P, level_P + 0.1], [level_U, level_U - 0.1])
    assert chosen(rising) in ("simple", "slope")
    ending = make_stage([level_P] * 9 + [level_P + 0.1], [level_U[::-1]] * 9 + [level_U - 0.7])
    assert chosen(ending) in ("last", "simple", "slope")
    # Only the mean is safe without held-out positives, or without averaged weights.
    assert chosen(rising, held_out=False) == "mean"
    assert chosen(replace(rising, name="partial_fit")) == "mean"
    # Equally good ones are no reason to leave the mean.
    flat = make_stage([level_P + 0.3] * 3, [level_U] * 3)
    assert chosen(flat) == "mean"
    for trend in ("slope", "last", "pairwise"):
        assert chosen(rising, trend) == trend
    single = make_stage([level_P], [level_U])
    assert [chosen(single, trend) for trend in ("auto", "slope", "last")] == [
        "mean",
        "mean",
        "last",
    ]


@pytest.mark.parametrize("more, trend", [(0, "mean"), (1, "mean"), (2, "last")])
def test_auto_leaves_the_mean_for_a_clear_difference(more, trend):
    """With 100 pairs each swapped one changes the AUC by 0.01, the difference that is asked for."""
    u = np.linspace(0.1, 0.5, 10)
    p = np.full(10, 0.9)
    p[0] = u[4] + 0.01  # five pairs are the wrong way round
    first = p.copy()
    end = p.copy()
    first[0] = 2 * p[0] - (u[4 + more] + 0.01)
    end[0] = u[4 + more] + 0.01
    stage = make_stage([first, end], [u, u])
    assert sample_auc(stage, "last") == pytest.approx(0.95 + more / 100)
    assert sample_auc(stage, "mean") == pytest.approx(0.95)
    assert split_of(stage, "auto", "natural").ranking.trend == trend


def sample_auc(stage, trend):
    scores = stage.scores(trend)
    return make_sample(*map(len, scores)).auc(scores)


@pytest.mark.parametrize("kind", ["auto", "mean", "last", "simple", "slope", "pairwise"])
def test_split_by_prior(kind, global_random_seed):
    stage, y_U = two_groups(global_random_seed)
    split = split_of(stage, kind, "prior")
    assert split.share == pytest.approx(0.3, abs=0.08)
    positive = split.ranking.unlabeled > split.threshold
    assert positive.mean() == pytest.approx(split.share, abs=2e-3)
    assert np.mean(positive == y_U) > 0.85
    assert split.ranking.auc == sample_auc(stage, split.ranking.trend)
    assert_array_equal(split.called_positive, positive)
    if kind != "auto":
        assert split.ranking.trend == kind
        assert_array_equal(split.ranking.positives, stage.scores(kind)[0])
        assert_array_equal(split.ranking.unlabeled, stage.scores(kind)[1])


@pytest.mark.parametrize("method", ["auto", "prior"])
def test_given_prior_is_used(method):
    split = split_of(two_groups(0)[0], "mean", method, 0.22, held_out=False)
    assert split.share == pytest.approx(0.22) and split.interval == pytest.approx((0.22, 0.22))
    assert (split.ranking.unlabeled > split.threshold).mean() == 0.22


@pytest.mark.parametrize("method", ["natural", "variance", "authors"])
def test_break(method):
    """With a wide gap every break finds it; the prior is then the share above."""
    stage, y_U = two_groups(0, gap=9.0)
    split = split_of(stage, "mean", method)
    assert_array_equal(split.ranking.unlabeled > split.threshold, y_U)
    assert split.share == 0.3 and np.isnan(split.interval).all()


def test_auto_split():
    """The share where there is one, else the natural break, with a warning."""
    stage, _ = two_groups(0, gap=3.0)
    natural = split_of(stage, "mean", "natural")
    for method in ("auto", "prior"):
        assert split_of(stage, "mean", method).share != natural.share
        with pytest.warns(PUWarning, match="share of positives is not estimated"):
            assert split_of(stage, "mean", method, held_out=False).threshold == natural.threshold
    assert split_of(stage, "mean", prior=0.2, held_out=False).share == pytest.approx(0.2)


def test_split_weights_are_repetition(global_random_seed):
    stage, _ = two_groups(global_random_seed, n_P=60, n_U=150)
    rng = np.random.default_rng(global_random_seed)
    weights = rng.integers(1, 4, 60), rng.integers(1, 4, 150)
    curves = [
        np.repeat(trend.history, weight, axis=1).astype(float)
        for trend, weight in zip(stage.trends, weights, strict=True)
    ]
    stage = make_stage(*(trend.history for trend in stage.trends))  # in float32 as well
    for method in ("prior", "natural", "variance"):
        repeated = split_of(make_stage(*curves), "mean", method)
        weighted = split_of(
            stage, "mean", method,
            weight_P=weights[0].astype(float), weight_U=weights[1].astype(float),
        )  # fmt: skip
        assert weighted.share == pytest.approx(repeated.share)
        assert weighted.threshold == pytest.approx(repeated.threshold)
        assert weighted.ranking.auc == pytest.approx(repeated.ranking.auc)


# Warnings


def test_warns_of_an_inverted_trend():
    stage, y_U = two_groups(0, gap=4.0)
    first_P, first_U = stage.scores("last")
    # Positives start high and fall: the mean is right, the change is upside down.
    stage = make_stage([first_P, 0.6 * first_P], [first_U, 0.9 * first_U])
    with pytest.warns(PUWarning, match="trend 'slope' is inverted.*mean of the snapshots"):
        split = split_of(stage, "slope", prior=0.3)
    assert split.ranking.trend == "mean"
    assert np.mean((split.ranking.unlabeled > split.threshold) == y_U) > 0.9
    # Without held-out positives there is nothing to judge by: the trend stays what was asked for.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert split_of(stage, "slope", prior=0.3, held_out=False).ranking.trend == "slope"
    assert not any("inverted" in str(warning.message) for warning in caught)


@pytest.mark.parametrize("n_falling, trend", [(3, "slope"), (5, "slope"), (6, "mean")])
def test_a_trend_is_inverted_below_one_half(n_falling, trend):
    """Of ten positives so many fall, the others rise, and the unlabeled rows stay."""
    change = np.where(np.arange(10) < n_falling, -0.1, 0.1)
    stage = make_stage([np.full(10, 0.6), 0.6 + change], np.full((2, 10), 0.2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert choose_ranking(stage, make_sample(10, 10), "slope").trend == trend
