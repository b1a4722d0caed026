"""The parts of PUTrendClassifier one by one: folds, first stage, split, posterior, final sample."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pnsklearn._pu_trend._scores import OnlineTrend
from scipy.sparse import csr_matrix
from scipy.special import expit
from scipy.stats import norm

from pnsklearn._pu_trend import _solver
from pnsklearn._pu_trend._networks import Plan
from pnsklearn._pu_trend._solver import (
    BREAK_SPREAD,
    WIDTH_90,
    FirstStage,
    Split,
    _compromise,
    choose_trend,
    content_groups,
    cross_fit,
    final_sample,
    first_stage,
    held_out_auc,
    held_out_scores,
    posterior,
    snapshot_quantiles,
    split_trends,
)
from pnsklearn.exceptions import PUTrendWarning

# Folds


@pytest.mark.parametrize("n_folds", [2, 3, 5])
@pytest.mark.parametrize("n_P, n_U", [(5, 2), (23, 41)])
def test_cross_fit(n_P, n_U, n_folds, global_random_seed):
    rng = np.random.RandomState(global_random_seed)
    sees_P, sees_U = cross_fit(np.arange(n_P), np.arange(n_U), n_folds, rng)
    assert sees_P.shape == (n_P, 2 * n_folds) and sees_U.shape == (n_U, 2 * n_folds)
    # A positive is held out once by the first and once by the second n_folds runs.
    assert_array_equal((~sees_P[:, :n_folds]).sum(axis=1), 1)
    assert_array_equal((~sees_P[:, n_folds:]).sum(axis=1), 1)
    assert_array_equal((~sees_U).sum(axis=1), n_folds)
    # Folds and halves are as equal as can be, so that no run is without rows.
    sizes = (~sees_P).sum(axis=0)
    assert set(sizes) <= {n_P // n_folds, -(-n_P // n_folds)}
    assert set((~sees_U).sum(axis=0)) <= {n_U // 2, -(-n_U // 2)}
    assert sees_P.any(axis=0).all() and sees_U.any(axis=0).all()


def test_cross_fit_keeps_groups_together(global_random_seed):
    rng = np.random.RandomState(global_random_seed)
    groups_P, groups_U = np.arange(40) % 7, np.arange(90) % 11
    sees_P, sees_U = cross_fit(groups_P, groups_U, 3, rng)
    for groups, sees in ((groups_P, sees_P), (groups_U, sees_U)):
        for group in np.unique(groups):
            assert len(np.unique(sees[groups == group], axis=0)) == 1
    assert_array_equal((~sees_P).sum(axis=1), 2)


@pytest.mark.parametrize("convert", [np.asarray, csr_matrix])
def test_content_groups(convert, global_random_seed):
    rng = np.random.RandomState(global_random_seed)
    distinct = np.maximum(rng.standard_normal((30, 17)), 0)
    number = rng.randint(30, size=100)
    groups = content_groups(convert(distinct[number]))
    assert groups.max() + 1 == len(np.unique(number))
    assert len(np.unique(np.stack([groups, number]), axis=1).T) == len(np.unique(number))


def test_held_out_scores(global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    logits, sees = rng.normal(size=(20, 6)), rng.uniform(size=(20, 6)) < 0.5
    sees[:2] = True  # never held out: all runs count
    level = rng.normal(size=6)
    for row, score in enumerate(held_out_scores(logits, sees, level)):
        runs = [k for k in range(6) if not sees[row, k]] or range(6)
        expected = np.mean([1 / (1 + np.exp(level[k] - logits[row, k])) for k in runs])
        assert score == pytest.approx(expected)
    extreme = held_out_scores(np.array([[-1e5], [1e5]]), np.zeros((2, 1), bool), np.zeros(1))
    assert_allclose(extreme, [0, 1], atol=1e-12)


# First stage


class Script:
    """A learner whose logits are written down: of shape (snapshots, rows, runs)."""

    def __init__(self, logits):
        self.logits_of = logits
        self.snapshot = -1

    def advance(self):
        self.snapshot += 1

    def logits(self, X):
        return self.logits_of[self.snapshot][X[:, 0].astype(int)]


def scripted(seed, n_snapshots=6, n_P=15, n_U=40, n_runs=4):
    """Return learner, samples, plan, and the held-out scores of both samples by double loops."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n_snapshots, n_P + n_U, n_runs)) * 2
    rows = np.arange(float(n_P + n_U))[:, None]
    weight = rng.uniform(0.5, 2, n_P + n_U)
    sees = rng.uniform(size=(n_P + n_U, n_runs)) < 0.5
    sees[:, 0] = False
    samples = [
        (rows[part], weight[part], sees[part]) for part in (slice(n_P), slice(n_P, n_P + n_U))
    ]
    expected = np.zeros((n_snapshots, n_P + n_U))
    for t in range(n_snapshots):
        means = [np.average(logits[t, n_P:, k], weights=weight[n_P:]) for k in range(n_runs)]
        for i in range(n_P + n_U):
            out = [k for k in range(n_runs) if not sees[i, k]]
            expected[t, i] = np.mean(
                [expit(logits[t, i, k] - means[k] + np.mean(means)) for k in out]
            )
    plan = Plan(n_runs, n_snapshots, 1, 8, 0.1, 0.1, 0.9)
    return Script(logits), samples, plan, expected[:, :n_P], expected[:, n_P:]


def run_first_stage(learner, samples, plan, callback=lambda: False, **changes):
    options = {"early_stopping": True, "min_snapshots": 1, "store_history": True} | changes
    return first_stage(learner, samples, plan, callback=callback, **options)


@pytest.mark.parametrize("min_snapshots", [1, 2])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_first_stage(early_stopping, min_snapshots, global_random_seed):
    learner, samples, plan, p_P, p_U = scripted(global_random_seed)
    options = {"early_stopping": early_stopping, "min_snapshots": min_snapshots}
    stage = run_first_stage(learner, samples, plan, **options)
    losses = [
        -np.average(np.log(p_P[t]), weights=samples[0][1])
        - np.average(np.log(1 - p_U[t]), weights=samples[1][1])
        for t in range(6)
    ]
    stop = min_snapshots - 1 + np.argmin(losses[min_snapshots - 1 :]) if early_stopping else 5
    assert stage.stop == stop
    for trend, p in ((stage.positives, p_P), (stage.unlabeled, p_U)):
        assert_allclose(trend.history, p[: stop + 1], rtol=1e-6)
        assert_allclose(trend.scores("mean"), p[: stop + 1].mean(axis=0))
        assert_allclose(trend.scores("last"), p[stop])
    assert len(stage.curves) == 6
    for (curve_P, curve_U), row_P, row_U in zip(stage.curves, p_P, p_U, strict=True):
        assert_allclose(curve_P, row_P)
        assert_allclose(curve_U, row_U[stage.shown[1]])


def test_first_stage_callback_stops():
    learner, samples, plan, p_P, _ = scripted(0)
    answers = iter([False, False, True])
    stage = run_first_stage(
        learner, samples, plan, lambda: next(answers), early_stopping=False, store_history=False
    )
    assert stage.stop == learner.snapshot == 2
    assert len(stage.curves) == 3
    assert stage.positives.history is None
    assert_allclose(stage.positives.scores("mean"), p_P[:3].mean(axis=0))


def test_curves_of_a_sample_of_unlabelled_rows(monkeypatch):
    monkeypatch.setattr(_solver, "N_CURVES", 10)
    learner, samples, plan, _, p_U = scripted(0)
    stage = run_first_stage(learner, samples, plan)
    assert len(np.unique(stage.shown[1])) == 10
    assert stage.shown[1][0] == 0 and stage.shown[1][-1] == 39
    assert_allclose(stage.curves[3][1], p_U[3, stage.shown[1]])


def test_snapshot_quantiles():
    learner, samples, plan, p_P, p_U = scripted(0)
    stage = run_first_stage(learner, samples, plan)
    positive = np.arange(40) % 3 == 0
    groups = p_P, p_U[:, positive], p_U[:, ~positive]
    result = snapshot_quantiles(stage, positive)
    assert result.shape == (3, 6, 3)
    for row, group in zip(result, groups, strict=True):
        for t in range(6):
            low, high = np.quantile(group[t], [0.1, 0.9])
            assert_allclose(row[t], [low, group[t].mean(), high])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nobody = snapshot_quantiles(stage, np.zeros(40, bool))
    assert np.isnan(nobody[1]).all() and np.isfinite(nobody[[0, 2]]).all()


# Split


def make_stage(p_P, p_U):
    """Return a first stage with the given curves, of shape (n_snapshots, n)."""
    trends = OnlineTrend(True), OnlineTrend(True)
    for rows in zip(p_P, p_U, strict=True):
        for trend, p in zip(trends, rows, strict=True):
            trend.update(p)
    return FirstStage(*trends, len(p_P) - 1, list(zip(p_P, p_U, strict=True)), np.arange(2))


def two_groups(seed, prior=0.3, gap=3.0, n_P=200, n_U=1000, n_snapshots=5):
    """Return a stage with scores of two normal groups in the log-odds, and U's labels."""
    rng = np.random.default_rng(seed)
    y_U = np.arange(n_U) < round(prior * n_U)
    z_P = rng.normal(gap / 2, 1, n_P)
    z_U = rng.normal(np.where(y_U, gap / 2, -gap / 2), 1)
    growth = np.linspace(0.2, 1, n_snapshots)[:, None]
    return make_stage(expit(growth * z_P), expit(growth * z_U)), y_U


def split_of(stage, kind="auto", method="auto", prior=None, **changes):
    n_P, n_U = (trend.scores("mean").shape[0] for trend in (stage.positives, stage.unlabeled))
    options = {"held_out": True, "weight_P": np.ones(n_P), "weight_U": np.ones(n_U), "seed": 0}
    return split_trends(stage, kind, method, prior, **(options | changes))


def test_held_out_auc(global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    p, u = rng.integers(0, 8, 20), rng.integers(-2, 6, 30)
    weight_P, weight_U = rng.uniform(size=20), rng.uniform(size=30)
    total = 0.0
    for a, v in zip(p, weight_P, strict=True):
        for b, w in zip(u, weight_U, strict=True):
            total += v * w * ((a > b) + 0.5 * (a == b))
    expected = total / (weight_P.sum() * weight_U.sum())
    assert held_out_auc(p, u, weight_P, weight_U) == pytest.approx(expected)


def test_choose_trend():
    rng = np.random.default_rng(0)
    ones = np.ones(100), np.ones(100)
    level_P, level_U = rng.uniform(0.2, 0.8, 100), rng.uniform(0.2, 0.8, 100)
    # Levels overlap, and so do the ends; the changes do not.
    rising = make_stage([level_P, level_P + 0.1], [level_U, level_U - 0.1])
    assert choose_trend(rising, "auto", *ones) in ("simple", "slope")
    ending = make_stage([level_P] * 9 + [level_P + 0.1], [level_U[::-1]] * 9 + [level_U - 0.7])
    assert choose_trend(ending, "auto", *ones) in ("last", "simple", "slope")
    # Equally good ones are no reason to leave the mean.
    flat = make_stage([level_P + 0.3] * 3, [level_U] * 3)
    assert choose_trend(flat, "auto", *ones) == "mean"
    assert choose_trend(make_stage([level_P], [level_U]), "auto", *ones) == "mean"
    for kind in ("slope", "last", "pairwise"):
        assert choose_trend(flat, kind, *ones) == kind


@pytest.mark.parametrize("kind", ["auto", "mean", "last", "simple", "slope", "pairwise"])
def test_split_by_prior(kind, global_random_seed):
    stage, y_U = two_groups(global_random_seed)
    split = split_of(stage, kind, "prior")
    low, high = split.interval
    assert low <= split.prior <= high and high - low < 0.3
    assert split.prior == pytest.approx(0.3, abs=0.08)
    positive = split.unlabeled > split.threshold
    assert positive.mean() == pytest.approx(split.prior, abs=2e-3)
    assert np.mean(positive == y_U) > 0.85
    assert split.auc == held_out_auc(split.positives, split.unlabeled, np.ones(200), np.ones(1000))
    if kind != "auto":
        assert split.kind == kind
        assert_allclose(split.unlabeled, stage.unlabeled.scores(kind), atol=1e-12)
        assert_allclose(split.positives, stage.positives.scores(kind), atol=1e-12)


@pytest.mark.parametrize("method", ["auto", "prior"])
def test_given_prior_is_used(method):
    split = split_of(two_groups(0)[0], "mean", method, 0.22, held_out=False)
    assert split.prior == 0.22 and split.interval == (0.22, 0.22)
    assert (split.unlabeled > split.threshold).mean() == 0.22


@pytest.mark.parametrize("method", ["natural", "variance", "authors"])
def test_break(method):
    """With a wide gap every break finds it; the prior is then the share above."""
    stage, y_U = two_groups(0, gap=9.0)
    split = split_of(stage, "mean", method)
    assert_array_equal(split.unlabeled > split.threshold, y_U)
    assert split.prior == split.share == 0.3 and np.isnan(split.interval).all()
    given = split_of(stage, "mean", method, 0.25)
    assert given.threshold == split.threshold and given.prior == 0.25


def test_auto_split():
    """The prior if it is known, between it and the break if estimated, else the break."""

    def method_of(n_P, prior=None, **changes):
        stage, _ = two_groups(0, n_P=n_P, gap=3.0)
        share = split_of(stage, "mean", prior=prior, **changes).share
        low, high = sorted(split_of(stage, "mean", m, prior).share for m in ("prior", "natural"))
        by = {split_of(stage, "mean", m, prior).share: m for m in ("prior", "natural")}
        return by[share] if share in by else "between" if low < share < high else "outside"

    assert method_of(20) == "between"
    with pytest.warns(PUTrendWarning, match="prior is not estimated"):
        assert method_of(19) == "natural"
    assert method_of(19, prior=0.2) == "prior"
    with pytest.warns(PUTrendWarning, match="prior is not estimated"):
        assert method_of(200, held_out=False) == "natural"
    with pytest.warns(PUTrendWarning, match="prior is not estimated"):  # weights count, not rows
        assert method_of(40, weight_P=np.full(40, 0.4)) == "natural"


def test_compromise():
    """Inverse variances of the logarithms: half each where both spread alike."""
    half = BREAK_SPREAD * WIDTH_90 / 2
    interval = (0.2 * np.exp(-half), 0.2 * np.exp(half))
    assert _compromise(0.2, interval, 0.45) == pytest.approx(0.3)
    assert _compromise(0.2, (0.2, 0.2), 0.45) == pytest.approx(0.2)
    assert _compromise(0.2, (1e-3, 1.0), 0.45) == pytest.approx(0.45, rel=0.05)


def test_split_weights_are_repetition(global_random_seed):
    stage, _ = two_groups(global_random_seed, n_P=60, n_U=150)
    rng = np.random.default_rng(global_random_seed)
    weights = rng.integers(1, 4, 60), rng.integers(1, 4, 150)
    curves = [
        np.repeat(trend.history, weight, axis=1).astype(float)
        for trend, weight in zip((stage.positives, stage.unlabeled), weights, strict=True)
    ]
    stage = make_stage(stage.positives.history, stage.unlabeled.history)  # in float32 as well
    for method in ("prior", "natural", "variance"):
        repeated = split_of(make_stage(*curves), "mean", method)
        weighted = split_of(
            stage, "mean", method,
            weight_P=weights[0].astype(float), weight_U=weights[1].astype(float),
        )  # fmt: skip
        assert weighted.prior == pytest.approx(repeated.prior)
        assert weighted.threshold == pytest.approx(repeated.threshold)
        assert weighted.auc == pytest.approx(repeated.auc)


# Warnings


def test_warns_of_an_inverted_trend():
    stage, y_U = two_groups(0, gap=4.0)
    first_P, first_U = stage.positives.scores("last"), stage.unlabeled.scores("last")
    # Positives start high and fall: the mean is right, the change is upside down.
    stage = make_stage([first_P, 0.6 * first_P], [first_U, 0.9 * first_U])
    with pytest.warns(PUTrendWarning, match="trend 'slope' is inverted.*mean of the snapshots"):
        split = split_of(stage, "slope", prior=0.3)
    assert split.kind == "mean"
    assert np.mean((split.unlabeled > split.threshold) == y_U) > 0.9
    # Without held-out positives there is nothing to judge by: the trend stays what was asked for.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert split_of(stage, "slope", prior=0.3, held_out=False).kind == "slope"
    assert not any("inverted" in str(warning.message) for warning in caught)
    # Nor is the mean better where nothing can be told.
    rng = np.random.default_rng(0)
    noise = make_stage(rng.uniform(size=(3, 50)), rng.uniform(size=(3, 90)))
    with pytest.warns(PUTrendWarning, match="no better than chance"):
        split_of(noise, "mean", "natural")


def test_warns_of_an_undetermined_prior():
    rng = np.random.default_rng(0)
    # Few rows whose positives cover all of U's upper half.
    stage = make_stage([rng.uniform(0.4, 0.9, 20)], [rng.uniform(0.1, 0.8, 12)])
    with pytest.warns(PUTrendWarning, match="leave the share of positives.*Set class_prior"):
        split = split_of(stage, "mean", "prior")
    assert split.interval[1] - split.interval[0] > 0.4


def test_warns_of_hopeless_scores():
    rng = np.random.default_rng(1)
    stage = make_stage([rng.uniform(size=200)], [rng.uniform(size=900)])
    with pytest.warns(PUTrendWarning, match="can hardly be told from the unlabelled rows"):
        split_of(stage, "mean", prior=0.4)
    # A low AUC that a large share of positives explains is fine.
    stage, _ = two_groups(0, prior=0.8, gap=4.0)
    split = split_of(stage, "mean", prior=0.8)
    assert split.auc < 0.65


@pytest.mark.parametrize("prior", [1e-3, 0.999])
def test_warns_of_a_degenerate_split(prior):
    # Whether such a share is believable is another matter: scores that fit it.
    stage, _ = two_groups(0, prior=prior, gap=5.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        split = split_of(stage, "mean", prior=prior)
    messages = [str(warning.message) for warning in caught]
    assert any(f"calls {100 * prior:.1f} % of the unlabelled rows positive" in m for m in messages)
    assert split.prior == prior


def test_warns_of_constant_scores():
    stage = make_stage(np.full((3, 40), 0.5), np.full((3, 90), 0.5))
    for method in ("prior", "natural", "variance", "authors"):
        with (
            pytest.warns(PUTrendWarning, match="can hardly be told"),
            pytest.warns(PUTrendWarning, match="% of the unlabelled rows positive"),
        ):
            split = split_of(stage, "mean", method)
        assert (split.unlabeled > split.threshold).mean() in (0, 1)


def test_warns_of_memorised_rows():
    stage, _ = two_groups(0, prior=0.4, gap=3.0)
    p_U = stage.unlabeled.scores("mean")
    stage = make_stage([np.ones(50)], [p_U])
    with pytest.warns(PUTrendWarning, match=r"no more than 0\.80 is possible.*memorised"):
        split_of(stage, "mean", prior=0.4, held_out=False)


def test_good_data_do_not_warn(global_random_seed):
    for prior in (0.1, 0.5, 0.7):
        split_of(two_groups(global_random_seed, prior, n_P=500)[0])


# Posterior and final sample


def densities(x, prior, gap=3.0):
    positive = norm.pdf(x, gap / 2)
    return positive, prior * positive + (1 - prior) * norm.pdf(x, -gap / 2)


def simulated_split(seed, prior, n_P=3000, n_U=8000, **changes):
    rng = np.random.default_rng(seed)
    y_U = rng.uniform(size=n_U) < prior
    z_P, z_U = rng.normal(1.5, 1, n_P), rng.normal(np.where(y_U, 1.5, -1.5), 1)
    fields = {
        "kind": "mean", "positives": z_P, "unlabeled": z_U, "threshold": 0.0, "share": prior,
        "prior": prior, "interval": (prior, prior), "auc": 0.9,
    }  # fmt: skip
    return Split(**(fields | changes)), z_U


@pytest.mark.parametrize("prior", [0.1, 0.4, 0.8])
def test_posterior(prior, global_random_seed):
    split, z_U = simulated_split(global_random_seed, prior)
    result = posterior(split, np.ones(3000), np.ones(8000))
    positive, unlabelled = densities(z_U, prior)
    truth = prior * positive / unlabelled
    assert result.min() >= 0 and result.max() <= 1
    assert result.mean() == pytest.approx(prior, abs=1e-5)
    assert np.abs(result - truth).mean() < 0.03
    assert (np.diff(result[np.argsort(z_U)]) >= 0).all()


def test_posterior_weights(global_random_seed):
    """Rows of U may be drawn by any rule whose inverse is their weight."""
    split, z_U = simulated_split(global_random_seed, 0.4)
    rng = np.random.default_rng([global_random_seed, 1])
    chance = np.where(z_U > 0, 0.9, 0.3)
    drawn = rng.uniform(size=len(z_U)) < chance
    weight = 1 / chance[drawn]
    split, _ = simulated_split(global_random_seed, 0.4, unlabeled=z_U[drawn])
    result = posterior(split, np.ones(3000), weight)
    assert np.average(result, weights=weight) == pytest.approx(0.4, abs=1e-5)
    positive, unlabelled = densities(z_U[drawn], 0.4)
    assert np.abs(result - 0.4 * positive / unlabelled).mean() < 0.04

    counts = rng.integers(1, 4, len(z_U))
    whole, _ = simulated_split(global_random_seed, 0.4)
    repeated, _ = simulated_split(global_random_seed, 0.4, unlabeled=np.repeat(z_U, counts))
    assert_allclose(
        np.repeat(posterior(whole, np.ones(3000), counts.astype(float)), counts),
        posterior(repeated, np.ones(3000), np.ones(counts.sum())),
        atol=1e-9,
    )


@pytest.mark.parametrize("prior", [1e-4, 0.9999])
def test_posterior_of_constant_scores(prior):
    split, _ = simulated_split(0, prior, positives=np.zeros(5), unlabeled=np.zeros(7))
    assert_allclose(posterior(split, np.ones(5), np.ones(7)), prior, rtol=1e-6)


@pytest.mark.parametrize("convert", [np.asarray, csr_matrix])
@pytest.mark.parametrize("scenario", ["single", "case-control"])
def test_final_sample(scenario, convert, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    X_P, X_U = np.arange(10.0)[:, None] + 1, np.arange(40.0)[:, None] + 101
    weight_P, weight_U = rng.uniform(0.5, 2, 10), rng.uniform(0.5, 2, 40)
    target = np.clip(rng.uniform(-0.3, 1.3, 40), 0, 1)
    prior = np.average(target, weights=weight_U)
    X, y, weight = final_sample(
        convert(X_P), convert(X_U), weight_P, weight_U, target, prior, scenario
    )
    X = X.toarray() if convert is csr_matrix else X
    assert_array_equal(X[:10], X_P)
    assert_array_equal(np.unique(y), [0, 1])
    # Each unlabelled row is there with its whole weight, shared by its target, up to 1 %.
    yes, no = np.zeros(200), np.zeros(200)
    np.add.at(yes, X[y == 1, 0].astype(int), weight[y == 1])
    np.add.at(no, X[y == 0, 0].astype(int), weight[y == 0])
    scale = 1.0
    if scenario == "case-control":
        scale = prior * weight_U.sum() / (weight_P.sum() + (weight_U * target).sum())
    assert_allclose(yes[1:11], scale * weight_P, rtol=0.01)
    assert_allclose(yes[101:141], scale * weight_U * target, atol=0.03)
    assert_allclose(no[101:141], weight_U * (1 - target), atol=0.03)
    assert not no[:101].any()
    # The share of positives is the population's.
    share = weight[y == 1].sum() / weight.sum()
    n_P, n_U = weight_P.sum(), weight_U.sum()
    population = prior if scenario == "case-control" else (n_P + prior * n_U) / (n_P + n_U)
    assert share == pytest.approx(population, abs=0.01)


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_final_sample_has_both_classes(target):
    X_P, X_U = np.zeros((3, 1)), np.ones((4, 1))
    _, y, weight = final_sample(
        X_P, X_U, np.ones(3), np.ones(4), np.full(4, target), max(target, 1e-9), "single"
    )
    assert set(y) == {0, 1} and (weight > 0).all()
    assert weight[y == 0].sum() == pytest.approx(4 * (1 - target), abs=1e-4)
