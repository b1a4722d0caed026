"""The second stage: posterior, rows of the final classifier, and its training."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix
from scipy.special import expit
from scipy.stats import norm
from sklearn.linear_model import SGDClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pnsklearn._pu_trend._networks import NETWORKS
from pnsklearn._pu_trend._presets import Plan
from pnsklearn._pu_trend._sample import FinalRows, Rows, Sample, stack
from pnsklearn._pu_trend._second_stage import (
    default_trees,
    final_rows,
    fit_classifier,
    fit_network,
    fit_trees,
    posterior,
    scaled_to_mean,
    second_stage,
)
from pnsklearn._pu_trend._split import Ranking, Split
from pnsklearn._pu_trend._table import Table


def table_of(sample):
    """Return the rows of a sample as the final classifier gets them, shuffled beforehand."""
    X = stack(*(rows.X for rows in sample))
    order = np.random.default_rng(0).permutation(X.shape[0])
    return Table(X[np.argsort(order)], order)


def weighted(weight_P, weight_U):
    """Return a sample of which only the weights matter."""
    return Sample(Rows(None, weight_P, None), Rows(None, weight_U, None))


def densities(x, prior, gap=3.0):
    positive = norm.pdf(x, gap / 2)
    return positive, prior * positive + (1 - prior) * norm.pdf(x, -gap / 2)


def simulated_split(seed, prior, n_P=3000, n_U=8000, **changes):
    """Return a split of normal scores, and those of the unlabeled rows."""
    rng = np.random.default_rng(seed)
    y_U = rng.uniform(size=n_U) < prior
    z_P, z_U = rng.normal(1.5, 1, n_P), rng.normal(np.where(y_U, 1.5, -1.5), 1)
    ranking = Ranking("mean", z_P, z_U, 0.9)._replace(**changes)
    return Split(ranking, 0.0, prior, (prior, prior)), z_U


@pytest.mark.parametrize("prior", [0.1, 0.4, 0.8])
def test_posterior(prior, global_random_seed):
    split, z_U = simulated_split(global_random_seed, prior)
    result = posterior(split, weighted(np.ones(3000), np.ones(8000)))
    positive, unlabeled = densities(z_U, prior)
    truth = prior * positive / unlabeled
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
    result = posterior(split, weighted(np.ones(3000), weight))
    assert np.average(result, weights=weight) == pytest.approx(0.4, abs=1e-5)
    positive, unlabeled = densities(z_U[drawn], 0.4)
    assert np.abs(result - 0.4 * positive / unlabeled).mean() < 0.04

    counts = rng.integers(1, 4, len(z_U))
    whole, _ = simulated_split(global_random_seed, 0.4)
    repeated, _ = simulated_split(global_random_seed, 0.4, unlabeled=np.repeat(z_U, counts))
    assert_allclose(
        np.repeat(posterior(whole, weighted(np.ones(3000), counts.astype(float))), counts),
        posterior(repeated, weighted(np.ones(3000), np.ones(counts.sum()))),
        atol=1e-9,
    )


@pytest.mark.parametrize("prior", [1e-4, 0.9999])
def test_posterior_of_constant_scores(prior):
    split, _ = simulated_split(0, prior, positives=np.zeros(5), unlabeled=np.zeros(7))
    assert_allclose(posterior(split, weighted(np.ones(5), np.ones(7))), prior, rtol=1e-6)


@pytest.mark.parametrize("convert", [np.asarray, csr_matrix])
@pytest.mark.parametrize("scenario", ["single", "case-control"])
def test_final_rows(scenario, convert, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    X_P, X_U = np.arange(10.0)[:, None] + 1, np.arange(40.0)[:, None] + 101
    weight_P, weight_U = rng.uniform(0.5, 2, 10), rng.uniform(0.5, 2, 40)
    target = np.clip(rng.uniform(-0.3, 1.3, 40), 0, 1)
    prior = np.average(target, weights=weight_U)
    sample = Sample(Rows(convert(X_P), weight_P, None), Rows(convert(X_U), weight_U, None))
    X, y, weight, unlabeled = final_rows(sample, target, prior, scenario, table_of(sample))
    assert_array_equal(unlabeled, np.arange(len(y)) >= 10)
    X = X.toarray() if convert is csr_matrix else X
    assert_array_equal(X[:10], X_P)
    assert_array_equal(np.unique(y), [0, 1])
    # Each unlabeled row is there with its whole weight, shared by its target, up to 1 %.
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
def test_final_rows_has_both_classes(target):
    X_P, X_U = np.zeros((3, 1)), np.ones((4, 1))
    sample = Sample(Rows(X_P, np.ones(3), None), Rows(X_U, np.ones(4), None))
    table = table_of(sample)
    _, y, weight, _ = final_rows(sample, np.full(4, target), max(target, 1e-9), "single", table)
    assert set(y) == {0, 1} and (weight > 0).all()
    assert weight[y == 0].sum() == pytest.approx(4 * (1 - target), abs=1e-4)


# Networks


def make_plan(**changes):
    return Plan(**({"n_runs": 3, "n_snapshots": 3, "steps": 20, "batch_size": 32,
                    "learning_rate": 0.05, "decay": 0.95} | changes))  # fmt: skip


def fit(kind, X, target, weight=None, unlabeled=None, **changes):
    weight = np.ones(len(X)) if weight is None else weight
    unlabeled = np.ones(len(X), dtype=bool) if unlabeled is None else unlabeled
    rows = FinalRows(X, target, weight, unlabeled)
    return fit_network(kind, rows, make_plan(**changes), np.random.RandomState(0)).model


def cross_entropy_of(network, X, y, weight):
    z = network.logits(X)[:, 0]
    return np.average(np.logaddexp(0, z) - y * z, weights=weight)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_fit_network(kind, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    X = rng.standard_normal((300, 2))
    y = (X[:, 0] + 0.3 * rng.standard_normal(300) > 0).astype(float)
    weight = rng.uniform(0.5, 2, 300)
    weight[:50], y[:50] = 0, 1 - y[:50]  # wrong labels without weight
    models = [fit(kind, X, y, weight, ramp=ramp) for ramp in (False, True)]
    for model in models:
        assert model.logits(X).shape == (300, 1)
        assert np.mean((model.logits(X)[50:, 0] > 0) == y[50:]) > 0.85
    assert cross_entropy_of(models[0], X, y, weight) < 0.35
    assert_array_equal(fit(kind, X, y, weight).logits(X), models[0].logits(X))


def test_ramp_by_its_formula(monkeypatch):
    """Record the targets: those of unlabeled rows rise as (epoch / 25)^0.8."""
    seen = []
    step = NETWORKS["linear"].step

    def record(network, X, share, target):
        seen.append((X[:, 0].copy(), target.copy()))
        step(network, X, share, target)

    monkeypatch.setattr(NETWORKS["linear"], "step", record)
    X = np.array([[-1.0], [0.0], [1.0], [2.0]])
    unlabeled, y = np.array([False, True, True, True]), np.array([1, 1, 0.5, 0.0])
    fit("linear", X, y, None, unlabeled, batch_size=256, ramp=True)
    assert len(seen) == 50  # epochs of one batch
    for epoch, (rows, target) in enumerate(seen):
        ramp = min(1, (epoch / 25) ** 0.8)
        assert_allclose(target[np.argsort(rows)], [1, ramp, 0.5 * ramp, 0], rtol=1e-6)
    seen.clear()
    fit("linear", X, y, None, unlabeled, batch_size=256)
    for rows, target in seen:
        assert_allclose(target[np.argsort(rows)], y)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_weights_are_repetition_in_the_second_stage(kind, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    X, y, count = rng.normal(size=(60, 2)), rng.integers(0, 2, 60), rng.integers(1, 4, 60)
    rows, unlabeled = np.repeat(np.arange(60), count), np.arange(60) > 20
    for ramp in (False, True):
        once = fit(kind, X, y, count.astype(float), unlabeled, ramp=ramp)
        repeated = fit(kind, X[rows], y[rows], None, unlabeled[rows], ramp=ramp)
        assert_allclose(once.logits(X), repeated.logits(X), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("n", [256, 257, 1000])
def test_batches_of_the_second_stage(n, monkeypatch):
    """Beyond 256 rows each epoch is one pass, in batches whose shares are unbiased."""
    seen = []
    monkeypatch.setattr(
        NETWORKS["linear"], "step", lambda _, X, share, target: seen.append((X, share))
    )
    X, weight = np.arange(float(n))[:, None], np.random.default_rng(0).uniform(size=n)
    fit("linear", X, np.arange(n) % 2, weight)
    n_batches = round(n / 32)
    assert len(seen) == 50 * n_batches
    first = seen[: 1 if n == 256 else n_batches]
    rows = np.concatenate([rows[:, 0] for rows, _ in first])
    assert len(np.unique(rows)) == n
    shares = np.concatenate([share[:, 0] for _, share in first])[np.argsort(rows)]
    assert_allclose(shares / len(first), weight / weight.sum(), rtol=1e-5)


def test_second_stage_reaches_soft_targets():
    """Rows given twice, with weights q and 1 - q: the fitted probability is q."""
    q = np.array([0.2, 0.7])
    X = np.repeat([[0.0], [1.0]], 2, axis=0)
    y, weight = np.array([1.0, 0, 1, 0]), np.array([0.2, 0.8, 0.7, 0.3])
    model = fit("linear", X, y, weight, learning_rate=2.0, n_epochs=300)
    assert_allclose(expit(model.logits(X[::2])[:, 0]), q, atol=0.01)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_network_that_diverges_is_not_returned(kind):
    with pytest.raises(ValueError, match=r"has diverged\. Lower learning_rate"):
        fit(kind, np.eye(4), np.arange(4) % 2, learning_rate=1e12)


# The whole stage


@pytest.mark.parametrize("scenario", ["single", "case-control"])
@pytest.mark.parametrize("pseudo_labels", ["soft", "hard", "ramped"])
def test_second_stage(pseudo_labels, scenario):
    split, z_U = simulated_split(0, 0.4, 30, 70)
    sample = Sample(
        Rows(np.arange(30.0)[:, None], np.ones(30), None),
        Rows(np.arange(30.0, 100.0)[:, None], np.ones(70), None),
    )
    (rows, plan, draw), given = second_stage(
        sample, split, make_plan(), lambda *given: (given, make_plan()), table_of(sample),
        pseudo_labels=pseudo_labels, scenario=scenario, seed=5,
    )  # fmt: skip
    target = posterior(split, sample) if pseudo_labels == "soft" else (z_U > 0).astype(float)
    expected_rows = final_rows(sample, target, 0.4, scenario, table_of(sample))
    for got, expected in zip(rows, expected_rows, strict=True):
        assert_array_equal(got, expected)
    published = {"ramp": True, "decay": 0.999} if pseudo_labels == "ramped" else {}
    assert plan == replace(given, **published)
    assert draw.randint(1000) == np.random.RandomState(5).randint(1000)


def test_default_trees():
    rng = np.random.RandomState(0)
    small, large = rng.normal(size=(50, 3)), rng.normal(size=(10_001, 300))
    trees = default_trees(small, np.full(50, 2.0), None)[-1]
    assert (trees.max_features, trees.bootstrap, trees.max_samples) == (3, False, None)
    assert trees.min_weight_fraction_leaf == pytest.approx(2.9 / 100)
    # A leaf is never more than half of all.
    assert default_trees(small[:2], np.ones(2), None)[-1].min_weight_fraction_leaf == 0.5
    trees = default_trees(large, np.full(10_001, 2.0), 2)[-1]
    assert (trees.max_features, trees.bootstrap, trees.max_samples) == (17, True, 10_000)
    assert trees.min_weight_fraction_leaf == pytest.approx(2.9 / 10_000) and trees.n_jobs == 2
    assert not default_trees(large[:10_000], np.ones(10_000), None)[-1].bootstrap


def test_trees_scale_their_rows_in_place_and_no_others():
    rng = np.random.default_rng(0)
    X, target = rng.normal(5, 3, size=(60, 2)), np.arange(60) % 2
    rows = FinalRows(X.copy(), target, np.ones(60), np.ones(60, bool))
    model = fit_trees(None, rows, None, np.random.RandomState(0))
    assert abs(rows.X.mean()) < 1e-9
    before = X.copy()
    first = model.predict_proba(X)
    assert_array_equal(X, before)
    assert_array_equal(model.predict_proba(X), first)


def test_fit_classifier_seeds_and_weighs_the_steps():
    X = np.random.default_rng(0).normal(size=(40, 2))
    rows = FinalRows(X, np.arange(40) % 2, np.arange(40.0), np.ones(40, dtype=bool))
    pipeline = make_pipeline(StandardScaler(), SGDClassifier(), memory=None)
    fitted = fit_classifier(pipeline, rows, make_plan(), np.random.RandomState(3))
    seed = np.random.RandomState(3).randint(2**31 - 1)
    assert fitted[-1].random_state == seed and pipeline[-1].random_state is None
    scaler = StandardScaler().fit(X, sample_weight=rows.weight)
    assert_allclose(fitted[0].mean_, scaler.mean_)
    alone = SGDClassifier(random_state=seed)
    alone.fit(scaler.transform(X), rows.target, sample_weight=rows.weight)
    assert_allclose(fitted[-1].coef_, alone.coef_)
    # A seed of its own stays, and a model without weights is fitted without.
    kept = fit_classifier(SGDClassifier(random_state=8), rows, make_plan(), None)
    assert kept.random_state == 8
    assert fit_classifier(KNeighborsClassifier(), rows, make_plan(), None).n_samples_fit_ == 40


def test_scaled_to_mean(global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    values, weight = 0.3 * rng.exponential(size=50), rng.uniform(size=50)
    result = scaled_to_mean(values, 0.6, weight)
    assert np.average(result, weights=weight) == pytest.approx(0.6, abs=2e-6)
    below = result < 1
    assert 0 < below.mean() < 1
    assert np.ptp(result[below] / values[below]) < 1e-9  # the same factor for all
    assert_array_equal(scaled_to_mean(np.zeros(3), 0.5, np.ones(3)), 0)
