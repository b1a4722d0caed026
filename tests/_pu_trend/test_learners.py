"""The batches of the first stage, and learners made of networks or of `partial_fit`."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix
from scipy.special import logit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import roc_auc_score
from sklearn.naive_bayes import GaussianNB

from pnsklearn._pu_trend import _learners
from pnsklearn._pu_trend._learners import Batches, NetworkLearner, PartialFitLearner
from pnsklearn._pu_trend._presets import Plan
from pnsklearn._pu_trend._sample import Rows, Sample


def make_plan(**changes):
    plan = {
        "n_runs": 3, "n_snapshots": 3, "steps": 20, "batch_size": 32, "learning_rate": 0.05,
        "decay": 0.95,
    }  # fmt: skip
    return Plan(**(plan | changes))


def make_sample(seed, n_P=60, n_U=200, shift=3.0):
    """Return a sample of three runs, and which unlabeled rows are positive, 40 % of them."""
    rng = np.random.default_rng(seed)
    y_U = rng.uniform(size=n_U) < 0.4
    X_P, X_U = rng.standard_normal((n_P, 3)), rng.standard_normal((n_U, 3))
    X_P[:, 0] += shift
    X_U[y_U, 0] += shift
    seen_P, seen_U = np.arange(n_P)[:, None] % 3 != np.arange(3), rng.uniform(size=(n_U, 3)) < 0.5
    weight_P, weight_U = rng.uniform(0.5, 2, n_P), rng.uniform(0.5, 2, n_U)
    return Sample(Rows(X_P, weight_P, seen_P), Rows(X_U, weight_U, seen_U)), y_U


def with_X(sample, X_P, X_U):
    return Sample(replace(sample.positives, X=X_P), replace(sample.unlabeled, X=X_U))


def numbered(n_P, n_U):
    """Return the rows of both samples, with the number of the row as their single feature."""
    return np.arange(float(n_P))[:, None], 1000 + np.arange(float(n_U))[:, None]


def loss_shares(rows):
    """Return the part of each row in the loss of each run."""
    weight = rows.weight[:, None] * rows.seen
    return 0.5 * weight / weight.sum(axis=0)


def batch_rng(seed):
    return np.random.RandomState(seed)


# Batches


def test_small_samples_are_one_batch(global_random_seed):
    numbers = numbered(60, 200)
    sample = with_X(make_sample(global_random_seed)[0], *numbers)
    batches = Batches(sample, make_plan(), batch_rng(0), np.float64)
    for _ in range(3):
        X, share, target = batches.next()
        assert_array_equal(X, np.concatenate(numbers))
        assert_array_equal(target, np.repeat([0.95, 0], [60, 200]))
        # Each sample has half of the loss, and within it weighted means.
        assert_allclose(share, np.concatenate([loss_shares(rows) for rows in sample]))


@pytest.mark.parametrize(
    "n_P, n_U, batch_size", [(300, 700, 32), (40, 700, 64), (257, 257, 1000), (256, 256, 32)]
)
def test_shares_are_unbiased(n_P, n_U, batch_size, global_random_seed):
    """Over whole passes the mean share of a row is its part of the loss."""
    sample = with_X(make_sample(global_random_seed, n_P, n_U)[0], *numbered(n_P, n_U))
    rng = batch_rng(global_random_seed)
    batches = Batches(sample, make_plan(batch_size=batch_size), rng, np.float64)
    size_P = n_P if n_P <= 256 else batch_size
    n_blocks = 1 if n_U <= 256 else max(1, round(n_U / batch_size))
    n_steps = n_blocks * n_P  # whole passes over both samples
    total = np.zeros((1000 + n_U, 3))
    for _ in range(n_steps):
        X, share, target = batches.next()
        assert X.shape[0] - size_P in (n_U // n_blocks, -(-n_U // n_blocks))
        assert_array_equal(target, np.where(X[:, 0] < 1000, 0.95, 0))
        np.add.at(total, X[:, 0].astype(int), share)
    total /= n_steps
    assert_allclose(total[:n_P], loss_shares(sample.positives), rtol=1e-9)
    assert_allclose(total[1000:], loss_shares(sample.unlabeled), rtol=1e-9)


def test_positives_by_passes_in_random_order():
    ones, seen = np.ones(300), np.ones((300, 1))
    sample = Sample(*(Rows(X, ones, seen) for X in numbered(300, 300)))
    batches = Batches(sample, make_plan(), batch_rng(0), np.float64)
    rows = np.concatenate([batches.next()[0][:32, 0] for _ in range(75)]).astype(int)
    for one_pass in rows.reshape(8, 300):
        assert_array_equal(np.sort(one_pass), np.arange(300))
        assert (one_pass != np.arange(300)).any()
    assert (rows[:300] != rows[300:600]).any()


# Networks


@pytest.mark.parametrize("n_U", [200, 700])
@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_held_out_rows_have_no_influence(kind, n_U, monkeypatch):
    """With the scaling given, a held-out row can be anything."""
    sample, _ = make_sample(0, 300 if n_U > 256 else 60, n_U)
    reference = NetworkLearner(kind, sample, make_plan(), batch_rng(0)).network.scaler
    monkeypatch.setattr("pnsklearn._pu_trend._networks.Scaler", lambda X, weight: reference)
    logits = []
    for change in (None, "P", "U"):
        rows_P, rows_U = (rows.X.copy() for rows in sample)
        if change == "P":
            rows_P[~sample.positives.seen[:, 1]] = 1e3
        if change == "U":
            rows_U[~sample.unlabeled.seen[:, 1]] = -1e3
        learner = NetworkLearner(kind, with_X(sample, rows_P, rows_U), make_plan(), batch_rng(0))
        learner.advance()
        logits.append(learner.logits(sample.unlabeled.X))
    for changed in logits[1:]:
        # Blocked matrix products may round the columns of other runs into another order.
        assert_allclose(changed[:, 1], logits[0][:, 1], rtol=1e-4, atol=1e-4)
        assert np.abs(changed[:, 0] - logits[0][:, 0]).max() > 0.1


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_weights_are_repetition_of_small_samples(kind, global_random_seed):
    sample, _ = make_sample(global_random_seed, 20, 60)
    counts = [np.random.default_rng(global_random_seed).integers(1, 4, rows.n) for rows in sample]
    once = Sample(
        *(replace(r, weight=n.astype(float)) for r, n in zip(sample, counts, strict=True))
    )
    repeated = Sample(
        *(
            Rows(np.repeat(r.X, n, axis=0), np.ones(n.sum()), np.repeat(r.seen, n, axis=0))
            for r, n in zip(sample, counts, strict=True)
        )
    )
    weighted, repeated = (
        NetworkLearner(kind, given, make_plan(), batch_rng(1)) for given in (once, repeated)
    )
    X_U = sample.unlabeled.X
    for _ in range(2):
        weighted.advance()
        repeated.advance()
        assert_allclose(weighted.logits(X_U), repeated.logits(X_U), rtol=1e-8, atol=1e-9)


def test_linear_runs_reach_the_minimum():
    """Long training with a small sample is gradient descent: compare with scikit-learn's."""
    sample, _ = make_sample(0, shift=1.0)
    plan = make_plan(steps=1500, learning_rate=0.5, decay=0.0)
    learner = NetworkLearner("linear", sample, plan, batch_rng(0))
    learner.advance()
    learner.advance()
    Z = learner.network.scaler.transform(np.concatenate([rows.X for rows in sample]), np.float64)
    for k in range(3):
        # 0.95 of each positive is labeled 1. The penalty is on the intercept as well.
        share = [loss_shares(rows)[:, k] for rows in sample]
        rows = np.r_[np.arange(60), np.arange(60), 60 + np.arange(200)]
        y = np.repeat([1, 0], [60, 260])
        weight = np.concatenate([0.95 * share[0], 0.05 * share[0], share[1]])
        model = LogisticRegression(C=1 / 5e-4, fit_intercept=False, tol=1e-8, max_iter=1000)
        model.fit(np.c_[Z, np.ones(260)][rows], y, sample_weight=weight)
        assert_allclose(learner.network.average[0][:, k], model.coef_[0], atol=1e-3)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_networks_learn(kind, sparse, global_random_seed):
    sample, y_U = make_sample(global_random_seed, 60, 600)
    if sparse:
        sample = with_X(sample, *(csr_matrix(np.maximum(rows.X, 0)) for rows in sample))
    X_U = sample.unlabeled.X
    learner = NetworkLearner(kind, sample, make_plan(), batch_rng(global_random_seed))
    assert learner.logits(X_U).shape == (600, 3)
    learner.advance()
    learner.advance()
    for run in learner.logits(X_U).T:
        assert roc_auc_score(y_U, run) > 0.9


@pytest.mark.parametrize("n_P, n_U, dtype", [(60, 256, "d"), (60, 257, "f"), (257, 60, "f")])
def test_precision(n_P, n_U, dtype):
    sample, _ = make_sample(0, n_P, n_U)
    learner = NetworkLearner("linear", sample, make_plan(), batch_rng(0))
    assert learner.network.parameters[0].dtype == np.dtype(dtype)
    single = with_X(sample, *(rows.X.astype(np.float32) for rows in sample))
    learner = NetworkLearner("linear", single, make_plan(), batch_rng(0))
    assert learner.network.parameters[0].dtype == np.float32


# partial_fit


@pytest.mark.parametrize(
    "model",
    [SGDClassifier(loss="log_loss", alpha=0.1), SGDClassifier(alpha=0.1), GaussianNB()],
    ids=str,
)
def test_partial_fit(model, global_random_seed):
    sample, y_U = make_sample(global_random_seed)
    X_U = sample.unlabeled.X
    logits = []
    for seed in (global_random_seed, global_random_seed, global_random_seed + 1):
        learner = PartialFitLearner(model, sample, make_plan(), batch_rng(seed))
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
    unlabeled = Rows(X_U, np.where(np.arange(90) < 30, 4.0, 1.0), seen_U)
    weight_U = unlabeled.run_weight
    plan = make_plan(steps=300, batch_size=16)
    sample = Sample(Rows(X_P, np.ones(40), seen_P), unlabeled)
    learner = PartialFitLearner(Recorder(), sample, plan, batch_rng(0))
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
