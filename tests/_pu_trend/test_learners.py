"""The batches of the first stage, and learners made of networks or of `partial_fit`."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import roc_auc_score
from sklearn.naive_bayes import GaussianNB

from pnsklearn._pu_trend import _learners
from pnsklearn._pu_trend._learners import (
    Batches,
    NetworkLearner,
    PartialFitLearner,
    fit_network,
    stack,
)
from pnsklearn._pu_trend._networks import Plan


def make_plan(**changes):
    plan = {
        "n_runs": 3, "n_snapshots": 3, "steps": 20, "batch_size": 32, "learning_rate": 0.05,
        "label_smoothing": 0.1, "ema": 0.95,
    }  # fmt: skip
    return Plan(**(plan | changes))


def samples(seed, n_P=60, n_U=200, shift=3.0):
    """Return positives, unlabelled rows (40 % positive), which are, and weights in three runs."""
    rng = np.random.default_rng(seed)
    y_U = rng.uniform(size=n_U) < 0.4
    X_P, X_U = rng.standard_normal((n_P, 3)), rng.standard_normal((n_U, 3))
    X_P[:, 0] += shift
    X_U[y_U, 0] += shift
    weight_P = rng.uniform(0.5, 2, (n_P, 1)) * (np.arange(n_P)[:, None] % 3 != np.arange(3))
    weight_U = rng.uniform(0.5, 2, (n_U, 1)) * (rng.uniform(size=(n_U, 3)) < 0.5)
    return X_P, X_U, y_U, weight_P, weight_U


def numbered(n_P, n_U):
    """Return samples whose single feature is the number of the row."""
    return np.arange(float(n_P))[:, None], 1000 + np.arange(float(n_U))[:, None]


def batch_rng(seed):
    return np.random.RandomState(seed)


# Batches


def test_small_samples_are_one_batch(global_random_seed):
    *_, weight_P, weight_U = samples(global_random_seed)
    numbers = numbered(60, 200)
    batches = Batches(*numbers, weight_P, weight_U, make_plan(), batch_rng(0), np.float64)
    for _ in range(3):
        X, share, target = batches.next()
        assert_array_equal(X, np.concatenate(numbers))
        assert_array_equal(target, np.repeat([0.95, 0], [60, 200]))
        # Each sample has half of the loss, and within it weighted means.
        assert_allclose(share[:60], 0.5 * weight_P / weight_P.sum(axis=0))
        assert_allclose(share[60:], 0.5 * weight_U / weight_U.sum(axis=0))


@pytest.mark.parametrize("n_P, n_U, batch_size", [(300, 700, 32), (40, 700, 64), (300, 300, 1000)])
def test_shares_are_unbiased(n_P, n_U, batch_size, global_random_seed):
    """Over whole passes the mean share of a row is its part of the loss."""
    *_, weight_P, weight_U = samples(global_random_seed, n_P, n_U)
    numbers = numbered(n_P, n_U)
    plan = make_plan(batch_size=batch_size)
    rng = batch_rng(global_random_seed)
    batches = Batches(*numbers, weight_P, weight_U, plan, rng, np.float64)
    size_P = n_P if n_P <= 256 else batch_size
    n_blocks = max(1, round(n_U / batch_size))
    n_steps = n_blocks * n_P  # whole passes over both samples
    total = np.zeros((1000 + n_U, 3))
    for _ in range(n_steps):
        X, share, target = batches.next()
        assert X.shape[0] - size_P in (n_U // n_blocks, -(-n_U // n_blocks))
        assert_array_equal(target, np.where(X[:, 0] < 1000, 0.95, 0))
        np.add.at(total, X[:, 0].astype(int), share)
    total /= n_steps
    assert_allclose(total[:n_P], 0.5 * weight_P / weight_P.sum(axis=0), rtol=1e-9)
    assert_allclose(total[1000:], 0.5 * weight_U / weight_U.sum(axis=0), rtol=1e-9)


def test_positives_by_passes_in_random_order():
    X_P, X_U = numbered(300, 300)
    ones = np.ones((300, 1))
    batches = Batches(X_P, X_U, ones, ones, make_plan(), batch_rng(0), np.float64)
    rows = np.concatenate([batches.next()[0][:32, 0] for _ in range(75)]).astype(int)
    for one_pass in rows.reshape(8, 300):
        assert_array_equal(np.sort(one_pass), np.arange(300))
        assert (one_pass != np.arange(300)).any()
    assert (rows[:300] != rows[300:600]).any()


def test_stack():
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(n, 2)) for n in (2, 0, 3)]
    expected = np.concatenate(parts)
    assert_array_equal(stack(*parts), expected)
    stacked = stack(*map(csr_matrix, parts))
    assert stacked.format == "csr"
    assert_array_equal(stacked.toarray(), expected)


# Networks


@pytest.mark.parametrize("n_U", [200, 700])
@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_held_out_rows_have_no_influence(kind, n_U, monkeypatch):
    """With the scaling given, a held-out row can be anything."""
    X_P, X_U, _, weight_P, weight_U = samples(0, 300 if n_U > 256 else 60, n_U)
    reference = NetworkLearner(
        kind, X_P, X_U, weight_P, weight_U, make_plan(), batch_rng(0)
    ).network.scaler
    monkeypatch.setattr("pnsklearn._pu_trend._networks.Scaler", lambda X, weight: reference)
    logits = []
    for change in (None, "P", "U"):
        rows_P, rows_U = X_P.copy(), X_U.copy()
        if change == "P":
            rows_P[weight_P[:, 1] == 0] = 1e3
        if change == "U":
            rows_U[weight_U[:, 1] == 0] = -1e3
        learner = NetworkLearner(
            kind, rows_P, rows_U, weight_P, weight_U, make_plan(), batch_rng(0)
        )
        learner.advance()
        logits.append(learner.logits(X_U))
    for changed in logits[1:]:
        # Blocked matrix products may round the columns of other runs into another order.
        assert_allclose(changed[:, 1], logits[0][:, 1], rtol=1e-4, atol=1e-4)
        assert np.abs(changed[:, 0] - logits[0][:, 0]).max() > 0.1


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_weights_are_repetition_of_small_samples(kind, global_random_seed):
    X_P, X_U, *_ = samples(global_random_seed, 20, 60)
    rng = np.random.default_rng(global_random_seed)
    counts = rng.integers(1, 4, 20), rng.integers(1, 4, 60)
    seen = np.arange(20)[:, None] % 3 != np.arange(3), rng.uniform(size=(60, 3)) < 0.5
    weights = [count[:, None] * see for count, see in zip(counts, seen, strict=True)]
    weighted = NetworkLearner(kind, X_P, X_U, *weights, make_plan(), batch_rng(1))
    rows = [np.repeat(np.arange(len(count)), count) for count in counts]
    ones = [see[row].astype(float) for see, row in zip(seen, rows, strict=True)]
    repeated = NetworkLearner(kind, X_P[rows[0]], X_U[rows[1]], *ones, make_plan(), batch_rng(1))
    for _ in range(2):
        weighted.advance()
        repeated.advance()
        assert_allclose(weighted.logits(X_U), repeated.logits(X_U), rtol=1e-8, atol=1e-9)


def test_linear_runs_reach_the_minimum():
    """Long training with a small sample is gradient descent: compare with scikit-learn's."""
    X_P, X_U, _, weight_P, weight_U = samples(0, shift=1.0)
    plan = make_plan(steps=1500, learning_rate=0.5, ema=0.0)
    learner = NetworkLearner("linear", X_P, X_U, weight_P, weight_U, plan, batch_rng(0))
    learner.advance()
    learner.advance()
    Z = learner.network.scaler.transform(np.concatenate([X_P, X_U]), np.float64)
    for k in range(3):
        # 0.95 of each positive is labelled 1. The penalty is on the intercept as well.
        share = [w[:, k] / (2 * w[:, k].sum()) for w in (weight_P, weight_U)]
        rows = np.r_[np.arange(60), np.arange(60), 60 + np.arange(200)]
        y = np.repeat([1, 0], [60, 260])
        weight = np.concatenate([0.95 * share[0], 0.05 * share[0], share[1]])
        model = LogisticRegression(C=1 / 5e-4, fit_intercept=False, tol=1e-8, max_iter=1000)
        model.fit(np.c_[Z, np.ones(260)][rows], y, sample_weight=weight)
        assert_allclose(learner.network.average[0][:, k], model.coef_[0], atol=1e-3)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_networks_learn(kind, sparse, global_random_seed):
    X_P, X_U, y_U, weight_P, weight_U = samples(global_random_seed, 60, 600)
    if sparse:
        X_P, X_U = (csr_matrix(np.maximum(X, 0)) for X in (X_P, X_U))
    rng = batch_rng(global_random_seed)
    learner = NetworkLearner(kind, X_P, X_U, weight_P, weight_U, make_plan(), rng)
    assert learner.logits(X_U).shape == (600, 3)
    learner.advance()
    learner.advance()
    for run in learner.logits(X_U).T:
        assert roc_auc_score(y_U, run) > 0.9


@pytest.mark.parametrize("n_U, dtype", [(200, np.float64), (300, np.float32)])
def test_precision(n_U, dtype):
    X_P, X_U, _, weight_P, weight_U = samples(0, 60, n_U)
    learner = NetworkLearner("linear", X_P, X_U, weight_P, weight_U, make_plan(), batch_rng(0))
    assert learner.network.parameters[0].dtype == dtype
    single = (X.astype(np.float32) for X in (X_P, X_U))
    learner = NetworkLearner("linear", *single, weight_P, weight_U, make_plan(), batch_rng(0))
    assert learner.network.parameters[0].dtype == np.float32


# partial_fit


@pytest.mark.parametrize(
    "model",
    [SGDClassifier(loss="log_loss", alpha=0.1), SGDClassifier(alpha=0.1), GaussianNB()],
    ids=str,
)
def test_partial_fit(model, global_random_seed):
    X_P, X_U, y_U, weight_P, weight_U = samples(global_random_seed)
    logits = []
    for seed in (global_random_seed, global_random_seed, global_random_seed + 1):
        learner = PartialFitLearner(
            model, X_P, X_U, weight_P, weight_U, make_plan(), batch_rng(seed)
        )
        learner.advance()
        first = learner.logits(X_U)
        learner.advance()
        logits.append(learner.logits(X_U))
        assert logits[-1].shape == (200, 3)
        assert np.abs(logits[-1] - first).max() > 0  # goes on where it was
    assert_array_equal(logits[0], logits[1])
    assert np.abs(logits[0] - logits[2]).max() > 0
    for k in range(3):
        assert roc_auc_score(y_U, logits[0][:, k]) > 0.9
    assert not vars(model).keys() & {"coef_", "theta_"}  # a clone was trained


def test_log_odds():
    X = np.array([[0.2], [1.0], [0.0]])
    probabilities = SimpleNamespace(predict_proba=lambda X: np.c_[1 - X, X])
    assert_allclose(
        _learners._log_odds(probabilities, X), [logit(0.2), logit(1 - 1e-9), logit(1e-9)]
    )
    margins = SimpleNamespace(decision_function=lambda X: 3 * X[:, 0])
    assert_allclose(_learners._log_odds(margins, X), [0.6, 3, 0])


class Recorder(ClassifierMixin, BaseEstimator):
    """Keeps the batches it is trained on."""

    def partial_fit(self, X, y, classes):
        vars(self).setdefault("batches_", []).append((X, y))
        return self

    def predict_proba(self, X):
        return np.full((X.shape[0], 2), 0.5)


def test_partial_fit_batches():
    X_P, X_U = numbered(40, 90)
    seen_P = np.arange(40)[:, None] % 3 != np.arange(3)
    seen_U = np.arange(90)[:, None] % 2 != np.arange(3) % 2
    weight_U = seen_U * np.where(np.arange(90) < 30, 4.0, 1.0)[:, None]
    plan = make_plan(steps=300, batch_size=16)
    learner = PartialFitLearner(
        Recorder(), X_P, X_U, seen_P.astype(float), weight_U, plan, batch_rng(0)
    )
    learner.advance()
    for k, model in enumerate(learner._models):
        assert len(model.batches_) == 300
        for X, y in model.batches_:
            assert_array_equal(y, np.repeat([1, 0], 16))
            assert_array_equal(X[:, 0] < 1000, y == 1)
        rows = np.concatenate([X[:, 0] for X, _ in model.batches_]).astype(int)
        drawn_P, drawn_U = rows[rows < 1000], rows[rows >= 1000] - 1000
        # Equal weights: passes. Other weights: as often as the weight says.
        allowed = np.flatnonzero(seen_P[:, k])
        for one_pass in drawn_P[: 4800 // len(allowed) * len(allowed)].reshape(-1, len(allowed)):
            assert_array_equal(np.sort(one_pass), allowed)
        share = np.bincount(drawn_U, minlength=90) / 4800
        assert_allclose(share, weight_U[:, k] / weight_U[:, k].sum(), atol=0.02)
        assert not share[weight_U[:, k] == 0].any()


# The second stage


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
    models = [
        fit_network(
            kind, X, y, weight, np.ones(300, bool), make_plan(), batch_rng(0), ramped=ramped
        )
        for ramped in (False, True)
    ]
    for model in models:
        assert model.logits(X).shape == (300, 1)
        assert np.mean((model.logits(X)[50:, 0] > 0) == y[50:]) > 0.85
    assert cross_entropy_of(models[0], X, y, weight) < 0.35
    again = fit_network(
        kind, X, y, weight, np.ones(300, bool), make_plan(), batch_rng(0), ramped=False
    )
    assert_array_equal(again.logits(X), models[0].logits(X))


def test_ramp_by_its_formula(monkeypatch):
    """Record the targets: those of unlabelled rows rise as (epoch / 25)^0.8."""
    seen = []
    step = _learners.NETWORKS["linear"].step

    def record(network, X, share, target):
        seen.append((X[:, 0].copy(), target.copy()))
        step(network, X, share, target)

    monkeypatch.setattr(_learners.NETWORKS["linear"], "step", record)
    X = np.array([[-1.0], [0.0], [1.0], [2.0]])
    unlabelled, y = np.array([False, True, True, True]), np.array([1, 1, 0.5, 0.0])
    arguments = X, y, np.ones(4), unlabelled, make_plan(batch_size=256), batch_rng(0)
    fit_network("linear", *arguments, ramped=True)
    assert len(seen) == 50  # epochs of one batch
    for epoch, (rows, target) in enumerate(seen):
        ramp = min(1, (epoch / 25) ** 0.8)
        assert_allclose(target[np.argsort(rows)], [1, ramp, 0.5 * ramp, 0], rtol=1e-6)
    seen.clear()
    fit_network("linear", *arguments, ramped=False)
    for rows, target in seen:
        assert_allclose(target[np.argsort(rows)], y)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_weights_are_repetition_in_the_second_stage(kind, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    X, y, count = rng.normal(size=(60, 2)), rng.integers(0, 2, 60), rng.integers(1, 4, 60)
    rows, unlabelled = np.repeat(np.arange(60), count), np.arange(60) > 20
    for ramped in (False, True):
        weighted = fit_network(
            kind, X, y, count.astype(float), unlabelled, make_plan(), batch_rng(0), ramped=ramped
        )
        repeated = fit_network(
            kind, X[rows], y[rows], np.ones(len(rows)), unlabelled[rows], make_plan(), batch_rng(0),
            ramped=ramped,
        )  # fmt: skip
        assert_allclose(weighted.logits(X), repeated.logits(X), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("n", [300, 1000])
def test_batches_of_the_second_stage(n, monkeypatch):
    """Beyond 256 rows each epoch is one pass, in batches whose shares are unbiased."""
    seen = []
    monkeypatch.setattr(
        _learners.NETWORKS["linear"], "step", lambda _, X, share, target: seen.append((X, share))
    )
    X, weight = np.arange(float(n))[:, None], np.random.default_rng(0).uniform(size=n)
    y, unlabelled = np.arange(n) % 2, np.ones(n, bool)
    fit_network("linear", X, y, weight, unlabelled, make_plan(), batch_rng(0), ramped=False)
    n_batches = round(n / 32)
    assert len(seen) == 50 * n_batches
    first = seen[:n_batches]
    rows = np.concatenate([rows[:, 0] for rows, _ in first])
    assert len(np.unique(rows)) == n
    shares = np.concatenate([share[:, 0] for _, share in first])[np.argsort(rows)]
    assert_allclose(shares / n_batches, weight / weight.sum(), rtol=1e-5)


def test_second_stage_reaches_soft_targets():
    """Rows given twice, with weights q and 1 - q: the fitted probability is q."""
    q = np.array([0.2, 0.7])
    X = np.repeat([[0.0], [1.0]], 2, axis=0)
    y, weight = np.array([1.0, 0, 1, 0]), np.array([0.2, 0.8, 0.7, 0.3])
    plan = make_plan(learning_rate=2.0)
    model = fit_network(
        "linear", X, y, weight, np.ones(4, bool), plan, batch_rng(0), ramped=False, n_epochs=300
    )
    assert_allclose(expit(model.logits(X[::2])[:, 0]), q, atol=0.01)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_network_that_diverges_is_not_returned(kind):
    X, y, weight = np.eye(4), np.arange(4) % 2, np.ones(4)
    plan, unlabeled = make_plan(learning_rate=1e12), np.ones(4, dtype=bool)
    with pytest.raises(ValueError, match="Training has diverged: lower the learning rate"):
        fit_network(kind, X, y, weight, unlabeled, plan, batch_rng(0), ramped=False)
