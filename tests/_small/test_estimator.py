"""SMaLLClassifier as users meet it."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csc_matrix, csr_array, csr_matrix
from scipy.special import expit
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from pnsklearn import SMaLLClassifier
from tests.callbacks import Callback

FAST = SMaLLClassifier(2, 2, solver="swap", n_init=3, random_state=0)
SOLVERS = ["auto", "swap", "fista", "saddle"]


def union(seed, n=300, d=5):
    """Return X on several scales and labels of the union of two rules."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    score = np.maximum(2 * X[:, 0] - X[:, 1], 3 * X[:, 2]) - 1.5
    y = (rng.uniform(size=n) < expit(2 * score)).astype(int)
    return X * np.geomspace(0.1, 10, d) + np.arange(d), y


@pytest.fixture(scope="module")
def data():
    return union(0)


def objective(model, X, y, weight=None, center=True):
    """Return the objective of a fitted model, from its attributes in the original units."""
    weight = np.ones(len(y)) if weight is None else weight
    share = weight / weight.sum()
    positive = y == model.positive_class_
    mean = share @ X
    scale = np.sqrt(share @ (X - (mean if center else 0)) ** 2)
    top = (X @ model.coef_.T + model.intercept_).max(axis=1)
    loss = share @ np.logaddexp(0, np.where(positive, -top, top))
    return loss + np.sum((model.coef_ * scale) ** 2) / (2 * model.C * weight.sum())


class Watcher(Callback):
    """Keep what a callback sees at each iteration."""

    def __init__(self, X):
        self.X, self.models = X, []

    def on_fit_task_end(self, estimator, context, *, fitted_estimator, X, y):
        if context.task_name == "iteration":
            assert X.shape[0] == len(y)
            fitted_estimator.predict(self.X)
            self.models.append((fitted_estimator.coef_, fitted_estimator.intercept_))


# One dense rule is logistic regression


def informative(seed, n=300, d=4):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * [1, 10, 0.1, 1] + [0, 100, 1, -1]
    z = (X - [0, 100, 1, -1]) / [1, 10, 0.1, 1] @ [1.0, -1.0, 0.8, 0.6] + 0.5
    return X, (rng.uniform(size=n) < expit(z)).astype(int)


@pytest.mark.parametrize(
    "params", [{}, {"fit_intercept": False}, {"class_weight": "balanced"}, {"C": 0.03}]
)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("weighted", [False, True])
def test_one_dense_rule_is_logistic_regression(solver, params, weighted, global_random_seed):
    X, y = informative(global_random_seed)
    weight = np.ones(len(y))
    if weighted:
        weight = np.random.default_rng(global_random_seed).uniform(0.0, 3.0, len(y))
        weight[:20] = 0.0
    model = SMaLLClassifier(1, 4, solver=solver, tol=0.1, max_iter=10_000, positive_class=1)
    model.set_params(**params).fit(X, y, weight)
    logistic = LogisticRegression(solver="newton-cholesky", tol=1e-12).set_params(**params)
    if params.get("class_weight"):
        # C is relative to the sum of all weights.
        sums = np.array([weight[y == c].sum() for c in (0, 1)])
        weight = weight * (weight.sum() / 2 / sums)[y]
        logistic.set_params(class_weight=None)
    mean = weight @ X / weight.sum()
    scale = np.sqrt(weight @ (X - mean) ** 2 / weight.sum())
    if not model.fit_intercept:
        mean = 0.0
    logistic.fit((X - mean) / scale, y, weight)
    assert_allclose(model.coef_[0] * scale, logistic.coef_[0], atol=1e-4)
    expected = logistic.predict_proba((X - mean) / scale)
    assert_allclose(model.predict_proba(X), expected, atol=1e-4)
    assert_array_equal(model.support_[0], np.arange(4))


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_intercept_is_zero(solver, data):
    params = {"n_init": 1, "fit_intercept": False, "tol": 0.1, "max_iter": 10_000}
    model = clone(FAST).set_params(solver=solver, **params)
    assert_array_equal(model.fit(*data).intercept_, 0)


def test_one_rule_of_noise_is_close_to_logistic_regression(data):
    """Features that bring less than the tolerance may be left out, at no more than its cost."""
    X, y = data
    logistic = LogisticRegression(C=1.0, tol=1e-10).fit((X - X.mean(0)) / X.std(0), y)
    full = SMaLLClassifier(1, 5, positive_class=1).fit(X, y)
    dense = clone(full)
    dense.coef_ = logistic.coef_ / X.std(axis=0)
    dense.intercept_ = logistic.intercept_ - dense.coef_ @ X.mean(axis=0)
    dense.positive_class_ = 1
    assert full.objective_ <= objective(dense, X, y) * (1 + 1e-3)


# Objective and budget


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("p", "k"), [(1, 1), (2, 3), (4, 2)])
def test_objective_and_budget(solver, p, k, data):
    X, y = data
    watcher = Watcher(X)
    weight = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    model = SMaLLClassifier(p, k, solver=solver, C=0.5, n_init=2, tol=0.05, random_state=0)
    model.set_callbacks(watcher).fit(X, y, weight)
    assert model.objective_ == pytest.approx(objective(model, X, y, weight), rel=1e-9)
    assert model.n_prototypes_ == len(model.coef_) == len(model.intercept_) <= p
    assert watcher.models
    for coef, intercept in (*watcher.models, (model.coef_, model.intercept_)):
        assert 1 <= len(coef) == len(intercept) <= p
        assert np.count_nonzero(coef, axis=1).max() <= k
    for support, row in zip(model.support_, model.coef_, strict=True):
        assert_array_equal(support, np.flatnonzero(row))
    # Better than the constant.
    share = weight @ y / weight.sum()
    assert model.objective_ < -share * np.log(share) - (1 - share) * np.log(1 - share)


@pytest.mark.parametrize("solver", ["auto", "fista"])
def test_orientation_is_the_better_one(solver, data):
    X, y = data
    values = [
        SMaLLClassifier(2, 2, solver=solver, positive_class=label, random_state=0).fit(X, y)
        for label in (0, 1)
    ]
    both = SMaLLClassifier(2, 2, solver=solver, random_state=0).fit(X, y)
    assert values[1].objective_ < 0.95 * values[0].objective_  # the union is class 1
    assert both.objective_ == pytest.approx(values[1].objective_, rel=1e-3)
    assert both.positive_class_ == 1
    flipped = SMaLLClassifier(2, 2, solver=solver, random_state=0).fit(X, 1 - y)
    assert flipped.positive_class_ == 0
    assert_array_equal(flipped.predict(X), 1 - both.predict(X))


# Certificate


@pytest.mark.parametrize("params", [{}, {"fit_intercept": False}, {"binarize": "quantile"}])
@pytest.mark.parametrize("p", [1, 3])
def test_certificate(params, p, data):
    X, y = data
    model = SMaLLClassifier(p, 2, n_init=3, certify=True, random_state=0, **params).fit(X, y)
    assert 0 < model.lower_bound_ <= model.objective_
    assert model.gap_ == pytest.approx(1 - model.lower_bound_ / model.objective_)
    model.set_params(certify=False).fit(X, y)
    assert not hasattr(model, "lower_bound_") and not hasattr(model, "gap_")


def test_certificate_of_a_dense_rule_is_tight(global_random_seed):
    X, y = informative(global_random_seed)
    model = SMaLLClassifier(1, 4, certify=True, tol=1e-5, max_iter=10_000).fit(X, y)
    assert 0 <= model.gap_ < 1e-4


# Weights, order, units


@pytest.mark.parametrize("params", [{}, {"binarize": "quantile"}, {"solver": "fista"}])
def test_weights_are_repetitions_and_zero_weights_drop_rows(params, global_random_seed):
    X, y = union(global_random_seed)
    weight = np.random.default_rng(global_random_seed).integers(0, 4, len(y))
    model = clone(FAST).set_params(**params)
    weighted = clone(model).fit(X, y, weight)
    rows = np.repeat(np.arange(len(y)), weight)
    repeated = clone(model).fit(X[rows], y[rows])
    assert weighted.objective_ == pytest.approx(repeated.objective_, rel=1e-6)
    assert_allclose(weighted.decision_function(X), repeated.decision_function(X), atol=1e-3)
    dropped = clone(model).fit(X[weight > 0], y[weight > 0], weight[weight > 0])
    assert_array_equal(weighted.coef_, dropped.coef_)


def test_weights_are_repetitions_of_few_distinct_rows(global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    X, y = rng.integers(0, 3, (60, 3)).astype(float), rng.integers(0, 2, 60)
    y[X.sum(axis=1) > 3] = 1
    weight = rng.integers(0, 4, 60)
    rows = np.repeat(np.arange(60), weight)
    for model in (FAST, clone(FAST).set_params(solver="auto"), SMaLLClassifier(2, 1)):
        model = clone(model).set_params(random_state=0)
        weighted = clone(model).fit(X, y, weight)
        repeated = clone(model).fit(X[rows], y[rows])
        assert weighted.objective_ == pytest.approx(repeated.objective_, rel=1e-6)


def test_scaling_all_weights_is_scaling_C(data):
    X, y = data
    model = clone(FAST).fit(X, y, np.full(len(y), 4.0))
    expected = clone(FAST).set_params(C=4.0).fit(X, y)
    assert_allclose(model.coef_, expected.coef_, rtol=1e-9)


def test_class_weights_are_sample_weights(data):
    X, y = data
    for class_weight, weight in (
        ({0: 0.5, 1: 2.0}, np.where(y == 1, 2.0, 0.5)),
        ("balanced", np.where(y == 1, 0.5 / y.mean(), 0.5 / (1 - y.mean()))),
    ):
        model = clone(FAST).set_params(class_weight=class_weight).fit(X, y)
        expected = clone(FAST).fit(X, y, weight)
        assert_allclose(model.coef_, expected.coef_, rtol=1e-9)
    names = np.array(["no", "yes"])[y]
    model = clone(FAST).set_params(class_weight={"no": 0.5, "yes": 2.0}).fit(X, names)
    expected = clone(FAST).fit(X, y, np.where(y == 1, 2.0, 0.5))
    assert_allclose(model.coef_, expected.coef_, rtol=1e-9)


@pytest.mark.parametrize("solver", ["auto", "swap", "fista"])
def test_order_of_rows(solver, global_random_seed):
    X, y = union(global_random_seed)
    rows = np.random.default_rng(global_random_seed).permutation(len(y))
    model = clone(FAST).set_params(solver=solver)
    first, second = clone(model).fit(X, y), clone(model).fit(X[rows], y[rows])
    assert second.objective_ == pytest.approx(first.objective_, rel=1e-6)
    assert_array_equal(second.predict(X), first.predict(X))


def test_order_of_features(global_random_seed):
    X, y = union(global_random_seed, n=600)
    order = np.random.default_rng(global_random_seed).permutation(5)
    first = SMaLLClassifier(2, 2, random_state=0).fit(X, y)
    second = SMaLLClassifier(2, 2, random_state=0).fit(X[:, order], y)
    assert second.objective_ == pytest.approx(first.objective_, rel=1e-4)
    assert np.mean(second.predict(X[:, order]) == first.predict(X)) > 0.99


@pytest.mark.parametrize("solver", ["auto", "swap", "fista", "saddle"])
def test_units_of_features(solver, data):
    X, y = data
    model = clone(FAST).set_params(solver=solver, n_init=1, tol=0.1)
    first = clone(model).fit(X, y)
    for Z in (1e3 * X + 1e6, X * [1, -1, 1, -1, 1] if solver == "fista" else 1e-6 * X):
        second = clone(model).fit(Z, y)
        assert second.objective_ == pytest.approx(first.objective_, rel=1e-5)
        assert_array_equal(second.predict(Z), first.predict(X))


def test_without_standardisation(data):
    X, y = data
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    expected = clone(FAST).fit(X, y)
    model = clone(FAST).set_params(standardize=False).fit(Z, y)
    assert model.objective_ == pytest.approx(expected.objective_, rel=1e-8)
    assert_allclose(model.predict_proba(Z), expected.predict_proba(X), atol=1e-5)
    # Units matter now: a feature in tiny units is dear.
    shrunk = clone(FAST).set_params(standardize=False).fit(Z * [1e-3, 1, 1, 1, 1], y)
    assert 0 not in np.concatenate(shrunk.support_)


@pytest.mark.parametrize("solver", SOLVERS)
def test_float32(solver, data):
    X, y = data
    model = clone(FAST).set_params(solver=solver, n_init=1, tol=0.1)
    double, single = clone(model).fit(X, y), clone(model).fit(X.astype(np.float32), y)
    assert single.coef_.dtype == single.intercept_.dtype == np.float32
    probability = single.predict_proba(X.astype(np.float32))
    assert probability.dtype == np.float32
    assert single.objective_ == pytest.approx(double.objective_, rel=1e-3)
    assert_allclose(probability, double.predict_proba(X), atol=0.01)


# Labels and decisions


@pytest.mark.parametrize(
    "labels", [["no", "yes"], [-1, 1], [1, 2], [False, True], [0.0, 1.0], ["b", "a"]]
)
def test_labels(labels, data):
    X, y = data
    labels = np.array(labels)
    ordered = np.sort(labels)
    indices = np.searchsorted(ordered, labels)[y]
    model, expected = clone(FAST).fit(X, labels[y]), clone(FAST).fit(X, indices)
    assert_array_equal(model.classes_, ordered)
    assert_array_equal(model.coef_, expected.coef_)
    assert model.positive_class_ == ordered[expected.positive_class_]
    assert_array_equal(model.predict(X), ordered[expected.predict(X)])
    for label in labels:
        model = clone(FAST).set_params(positive_class=label).fit(X, labels[y])
        assert model.positive_class_ == label
        fires = (X @ model.coef_.T + model.intercept_ > 0).any(axis=1)
        assert_array_equal(model.predict(X) == label, fires)


@pytest.mark.parametrize("positive_class", ["auto", 0, 1])
def test_decisions(positive_class, data):
    X, y = data
    model = clone(FAST).set_params(positive_class=positive_class).fit(X, y)
    scores = X @ model.coef_.T + model.intercept_
    side = 1 if model.positive_class_ == 1 else -1
    log_odds = model.decision_function(X)
    assert_allclose(log_odds, side * scores.max(axis=1), atol=1e-10)
    assert_array_equal(model.predict(X), log_odds > 0)
    probability = model.predict_proba(X)
    assert_allclose(probability[:, 1], 1 / (1 + np.exp(-log_odds)), rtol=1e-12)
    assert_allclose(probability.sum(axis=1), 1, rtol=1e-15)
    rule = np.where(scores.max(axis=1) > 0, scores.argmax(axis=1), -1)
    assert_array_equal(model.apply(X), rule)
    assert -1 in rule and max(rule) >= 0
    assert model.score(X, y) > max(y.mean(), 1 - y.mean())


@pytest.mark.parametrize("union", [0, 1])
def test_ties_go_to_the_first_class(union, data):
    """As with any classifier whose decision function is exactly zero."""
    X, y = data
    model = clone(FAST).set_params(positive_class=union).fit(X, y)
    model.intercept_ = np.zeros_like(model.intercept_)
    origin = np.zeros((1, 5))
    assert model.decision_function(origin) == 0
    assert model.predict(origin) == 0
    assert model.apply(origin) == (-1 if union == 1 else 0)


@pytest.mark.parametrize("positive_class", [0, 1])
def test_coverage_and_precision(positive_class, data):
    X, y = data
    weight = np.arange(len(y)) % 3
    model = clone(FAST).set_params(positive_class=positive_class).fit(X, y, weight)
    fires = X @ model.coef_.T + model.intercept_ > 0
    for j in range(model.n_prototypes_):
        covered = weight[fires[:, j]].sum()
        right = weight[fires[:, j] & (y == positive_class)].sum()
        assert 0 < right < covered < weight.sum()
        assert model.coverage_[j] == pytest.approx(covered / weight.sum())
        assert model.precision_[j] == pytest.approx(right / covered)


# Thresholds


def test_binarized_terms_are_steps_at_deciles(data):
    X, y = data
    model = clone(FAST).set_params(binarize="quantile").fit(X, y)
    expected = []
    for column in X.T:
        values = np.sort(column)
        for tenth in range(1, 10):
            at = len(values) * tenth // 10
            expected.append((values[at - 1] + values[at]) / 2)
    assert_allclose(model.step_threshold_, expected, rtol=1e-13)
    assert_array_equal(model.step_feature_, np.repeat(np.arange(5), 9))
    assert model.coef_.shape == (model.n_prototypes_, 45)
    assert model.n_features_in_ == 5
    steps = (X[:, model.step_feature_] > model.step_threshold_).astype(float)
    top = (steps @ model.coef_.T + model.intercept_).max(axis=1)
    side = 1 if model.positive_class_ == 1 else -1
    assert_allclose(model.decision_function(X), side * top, atol=1e-12)
    assert model.objective_ == pytest.approx(objective(model, steps, y), rel=1e-9)


def test_binarized_model_ignores_monotone_transformations(data):
    X, y = data
    model = clone(FAST).set_params(binarize="quantile")
    first, second = clone(model).fit(X, y), clone(model).fit(np.exp(X / 3), y)
    assert_allclose(second.coef_, first.coef_, rtol=1e-10)
    assert_array_equal(second.predict(np.exp(X / 3)), first.predict(X))
    model.fit(X, y).set_params(binarize=None)
    del model.step_feature_, model.step_threshold_
    assert model.fit(X, y).coef_.shape[1] == 5


def test_binarized_columns_of_few_values(data):
    X, y = data
    X = np.column_stack([X, np.ones(len(y)), X[:, 0] > 0.1])
    model = clone(FAST).set_params(binarize="quantile").fit(X, y)
    assert 5 not in model.step_feature_
    assert_array_equal(model.step_threshold_[model.step_feature_ == 6], 0.5)


@pytest.mark.parametrize("params", [{}, {"binarize": "quantile"}])
@pytest.mark.parametrize("solver", SOLVERS)
def test_constant_features_give_the_prior(solver, params):
    X, y = np.ones((60, 2)), np.arange(60) < 15
    model = SMaLLClassifier(solver=solver, random_state=0, **params).fit(X, y)
    assert_allclose(model.predict_proba(X), [[0.75, 0.25]] * 60, atol=1e-3)
    assert_array_equal(model.coef_, 0)


def test_refit_forgets_thresholds(data):
    X, y = data
    model = clone(FAST).set_params(binarize="quantile").fit(X, y)
    model.set_params(binarize=None).fit(X, y)
    assert not hasattr(model, "step_threshold_") and not hasattr(model, "step_feature_")
    assert_array_equal(model.coef_, clone(FAST).fit(X, y).coef_)


# Sparse and wide data


@pytest.mark.parametrize("container", [csr_matrix, csr_array, csc_matrix])
@pytest.mark.parametrize("solver", SOLVERS)
def test_sparse_is_dense_that_is_not_centred(solver, container, data):
    X, y = data
    X = np.where(np.abs(X) > np.median(np.abs(X), axis=0), X, 0.0)
    X /= np.sqrt(np.mean(X**2, axis=0))
    model = clone(FAST).set_params(solver=solver, n_init=1, fit_intercept=False, tol=0.1)
    dense = clone(model).set_params(standardize=False).fit(X, y)
    sparse = clone(model).fit(container(X), y)
    assert_allclose(sparse.coef_, dense.coef_, atol=1e-6)
    assert_array_equal(sparse.predict(container(X)), dense.predict(X))
    assert_array_equal(sparse.predict(X), dense.predict(container(X)))


@pytest.mark.parametrize("solver", ["auto", "fista"])
def test_sparse_objective(solver, data):
    X, y = data
    X = np.where(X > np.median(X, axis=0), X, 0.0)
    model = clone(FAST).set_params(solver=solver, tol=0.05).fit(csr_array(X), y)
    assert model.objective_ == pytest.approx(objective(model, X, y, center=False), rel=1e-9)


# Extreme data


@pytest.mark.parametrize("solver", SOLVERS)
def test_more_rules_and_features_than_the_data_have(solver):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 2))
    y = np.arange(40) < 3
    X[:3] += 2.0
    model = SMaLLClassifier(8, 9, solver=solver, tol=0.1, random_state=0).fit(X, y)
    assert model.n_prototypes_ <= 8
    assert model.score(X, y) > 37 / 40
    assert model.objective_ == pytest.approx(objective(model, X, y), rel=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
def test_integers_of_any_type(solver, data):
    """Booleans have no kernel, small integers overflow, and large ones are beyond memory."""
    X, y = data[0][:40], data[1][:40]
    params = {"solver": solver, "tol": 0.1, "random_state": 0}
    fitted = SMaLLClassifier(np.uint8(2), True, n_init=True, n_jobs=10**9, **params).fit(X, y)
    expected = SMaLLClassifier(2, 1, n_init=1, **params).fit(X, y)
    assert_array_equal(fitted.coef_, expected.coef_)
    fitted = SMaLLClassifier(10**25, 10**25, n_init=1, max_iter=10**25, **params).fit(X, y)
    expected = SMaLLClassifier(40, 5, n_init=1, max_iter=10**6, **params).fit(X, y)
    assert_array_equal(fitted.coef_, expected.coef_)


@pytest.mark.parametrize("solver", SOLVERS)
def test_two_rows(solver):
    X, y = np.array([[0.0], [1.0]]), ["a", "b"]
    model = SMaLLClassifier(solver=solver, tol=0.1, random_state=0).fit(X, y)
    assert_array_equal(model.predict(X), y)


@pytest.mark.parametrize("solver", SOLVERS)
def test_one_feature_learns_an_interval(solver):
    """Outside of an interval: two rules. Inside: one class is no union of two."""
    X = np.linspace(-2, 2, 200)[:, None]
    y = (np.abs(X[:, 0]) > 1).astype(int)
    model = SMaLLClassifier(2, 1, C=10.0, solver=solver, tol=0.2, max_iter=10_000, random_state=0)
    model.fit(X, y)
    assert model.positive_class_ == 1
    assert model.score(X, y) > 0.95


def test_constant_and_repeated_columns_change_nothing(data):
    X, y = data
    expected = clone(FAST).set_params(n_nonzero=1).fit(X, y)
    padded = np.column_stack([np.full(len(y), 3.0), X, X[:, ::-1]])
    model = clone(FAST).set_params(n_nonzero=1).fit(padded, y)
    assert not model.coef_[:, 0].any()
    assert model.objective_ == pytest.approx(expected.objective_, rel=1e-6)


def test_repeated_rows_change_nothing(data):
    X, y = data
    once = clone(FAST).set_params(C=2.0).fit(X, y)
    twice = clone(FAST).set_params(C=1.0).fit(np.r_[X, X], np.r_[y, y])
    assert twice.objective_ == pytest.approx(once.objective_, rel=1e-6)
    assert_array_equal(twice.predict(X), once.predict(X))


@pytest.mark.parametrize("C", [1e-12, 1e12])
@pytest.mark.parametrize("solver", ["auto", "fista"])
def test_extreme_penalties(solver, C, data):
    X, y = data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = SMaLLClassifier(2, 2, C=C, solver=solver, max_iter=200, random_state=0).fit(X, y)
    assert np.isfinite(model.coef_).all()
    if C < 1:
        assert_allclose(model.predict_proba(X)[:, 1], y.mean(), atol=1e-3)
    else:
        assert model.score(X, y) > 0.75


# Fitting again


@pytest.mark.parametrize("solver", ["auto", "swap"])
@pytest.mark.parametrize("params", [{}, {"binarize": "quantile"}])
def test_warm_start_never_ends_above(solver, params, data):
    X, y = data
    model = SMaLLClassifier(3, 2, solver=solver, n_init=10, warm_start=True, **params)
    best = model.set_params(random_state=0).fit(X, y).objective_
    model.set_params(n_init=1, max_iter=1)
    for seed in range(1, 4):
        model.set_params(random_state=seed).fit(X, y)
        assert model.objective_ <= best * (1 + 1e-9)
        best = model.objective_


@pytest.mark.parametrize("solver", SOLVERS)
def test_warm_start_where_the_last_fit_is_of_no_use(solver, data):
    """Another number of features, fewer rules, fewer features a rule, another class."""
    X, y = data
    model = SMaLLClassifier(3, 2, solver=solver, n_init=1, tol=0.1, warm_start=True)
    model.set_params(random_state=0).fit(X, y)
    model.fit(X[:, :3], y)
    assert model.coef_.shape[1] == 3
    model.set_params(n_prototypes=1, n_nonzero=1).fit(X, y)
    assert np.count_nonzero(model.coef_) == 1
    model.set_params(n_prototypes=2, positive_class=1 - model.positive_class_).fit(X, y)
    assert model.positive_class_ == model.positive_class


@pytest.mark.parametrize("solver", ["auto", "swap", "fista"])
def test_warm_start_without_an_intercept_keeps_zero(solver, data):
    X, y = data
    model = SMaLLClassifier(1, 2, solver=solver, fit_intercept=False, warm_start=True, n_init=2)
    model.set_params(positive_class=1, tol=0.05, random_state=0).fit(X, y)
    model.set_params(n_prototypes=3).fit(X, y)
    assert_array_equal(model.intercept_, 0)


@pytest.mark.parametrize("solver", ["auto", "swap", "fista"])
def test_random_state(solver, data):
    X, y = data
    model = clone(FAST).set_params(solver=solver, max_iter=300, tol=0.01)
    first, second = clone(model).fit(X, y), clone(model).fit(X, y)
    assert_array_equal(first.coef_, second.coef_)
    threads = clone(model).set_params(n_jobs=2).fit(X, y)
    assert_array_equal(threads.coef_, first.coef_)
    state = np.random.RandomState(0)
    assert_array_equal(clone(model).set_params(random_state=state).fit(X, y).coef_, first.coef_)


# Inside scikit-learn


def test_pipeline_and_grid_search(data):
    X, y = data
    model = make_pipeline(StandardScaler(), clone(FAST).set_params(positive_class=1))
    grid = {
        "smallclassifier__n_prototypes": [1, 2],
        "smallclassifier__n_nonzero": [1, 2],
        "smallclassifier__C": [0.1, 1.0],
    }
    search = GridSearchCV(model, grid, cv=3, scoring="neg_log_loss").fit(X, y)
    assert search.best_params_["smallclassifier__n_prototypes"] == 2
    # Scores of a plain loop over the same splits, in the original units.
    for params, score in zip(
        search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
    ):
        plain = {name.partition("__")[2]: value for name, value in params.items()}
        losses = []
        for train, test in StratifiedKFold(3).split(X, y):
            fitted = clone(FAST).set_params(positive_class=1, **plain).fit(X[train], y[train])
            right = fitted.predict_proba(X[test])[np.arange(len(test)), y[test]]
            losses.append(np.mean(np.log(right)))
        assert score == pytest.approx(np.mean(losses), abs=1e-4)


def test_cross_val_score_beats_one_linear_rule(data):
    X, y = union(1, n=900)
    rules = cross_val_score(clone(FAST), X, y, cv=3).mean()
    linear = cross_val_score(LogisticRegression(), X, y, cv=3).mean()
    assert rules > linear + 0.02


def test_calibration(data):
    X, y = data
    calibrated = CalibratedClassifierCV(clone(FAST), cv=3, ensemble=False).fit(X, y)
    assert calibrated.predict_proba(X)[:, 1].mean() == pytest.approx(y.mean(), abs=0.02)


def test_one_vs_rest():
    X, y = load_iris(return_X_y=True)
    model = OneVsRestClassifier(clone(FAST)).fit(X, y)
    assert model.predict_proba(X).shape == (150, 3)
    assert model.score(X, y) > 0.93


def test_names_of_a_pipeline(data):
    pandas = pytest.importorskip("pandas")
    X, y = data
    frame = pandas.DataFrame(X, columns=list("abcde"))
    steps = PolynomialFeatures(2, include_bias=False).set_output(transform="pandas")
    model = make_pipeline(steps, clone(FAST)).fit(frame, y)
    text = model[-1].rules()
    used = {model[-1].feature_names_in_[i] for support in model[-1].support_ for i in support}
    assert all(name in text for name in used)
    assert "x0" not in text


# Bad input

X_SMALL = np.random.default_rng(0).standard_normal((60, 2))
Y_SMALL = np.arange(60) < 20


def with_value(array, value):
    array = array.astype(float)
    array.flat[3] = value
    return array


BAD_INPUT = {
    "one class": ({}, X_SMALL, Y_SMALL * 0, None, "only one class"),
    "no positive after weights": ({}, X_SMALL, Y_SMALL, 1.0 - Y_SMALL, "No positive sample"),
    "no negative after weights": ({}, X_SMALL, Y_SMALL, 1.0 * Y_SMALL, "No negative sample"),
    "class weight of zero": (
        {"class_weight": {False: 0.0, True: 1.0}}, X_SMALL, Y_SMALL, None,
        "class_weight must be positive",
    ),
    "three classes": ({}, X_SMALL, np.arange(60) % 3, None, "Only binary .* OneVsRestClassifier"),
    "continuous target": ({}, X_SMALL, X_SMALL[:, 0], None, "Unknown label type"),
    "sparse NaN": ({}, csr_array(with_value(X_SMALL, np.nan)), Y_SMALL, None, "contains NaN"),
    "infinity": ({}, with_value(X_SMALL, np.inf), Y_SMALL, None, "contains infinity"),
    "NaN in y": ({}, X_SMALL, with_value(Y_SMALL, np.nan), None, "contains NaN"),
    "one-dimensional X": ({}, X_SMALL[:, 0], Y_SMALL, None, "Expected 2D array"),
    "three-dimensional X": ({}, X_SMALL[:, :, None], Y_SMALL, None, "dim 3"),
    "two-dimensional y": ({}, X_SMALL, np.c_[Y_SMALL, Y_SMALL], None, "1d array"),
    "short y": ({}, X_SMALL, Y_SMALL[:-1], None, "inconsistent numbers of samples"),
    "no rows": ({}, X_SMALL[:0], Y_SMALL[:0], None, "0 sample"),
    "no columns": ({}, X_SMALL[:, :0], Y_SMALL, None, "0 feature"),
    "strings in X": ({}, np.full((60, 2), "a"), Y_SMALL, None, "could not convert string"),
    "complex X": ({}, X_SMALL * 1j, Y_SMALL, None, "Complex data not supported"),
    "negative weight": ({}, X_SMALL, Y_SMALL, with_value(Y_SMALL, -1), "Negative values"),
    "NaN weight": ({}, X_SMALL, Y_SMALL, with_value(Y_SMALL, np.nan), "contains NaN"),
    "infinite weight": ({}, X_SMALL, Y_SMALL, with_value(Y_SMALL, np.inf), "contains infinity"),
    "short weights": ({}, X_SMALL, Y_SMALL, np.ones(3), "sample_weight"),
    "no rules": ({"n_prototypes": 0}, X_SMALL, Y_SMALL, None, "'n_prototypes' parameter"),
    "no features": ({"n_nonzero": 0}, X_SMALL, Y_SMALL, None, "'n_nonzero' parameter"),
    "half a feature": ({"n_nonzero": 1.5}, X_SMALL, Y_SMALL, None, "'n_nonzero' parameter"),
    "C": ({"C": 0}, X_SMALL, Y_SMALL, None, "'C' parameter"),
    "NaN C": ({"C": np.nan}, X_SMALL, Y_SMALL, None, "'C' parameter"),
    "solver": ({"solver": "newton"}, X_SMALL, Y_SMALL, None, "'solver' parameter"),
    "n_init": ({"n_init": 0}, X_SMALL, Y_SMALL, None, "'n_init' parameter"),
    "binarize": ({"binarize": "deciles"}, X_SMALL, Y_SMALL, None, "'binarize' parameter"),
    "class_weight": ({"class_weight": "equal"}, X_SMALL, Y_SMALL, None, "'class_weight' param"),
    "max_iter": ({"max_iter": 0}, X_SMALL, Y_SMALL, None, "'max_iter' parameter"),
    "tol": ({"tol": 0.0}, X_SMALL, Y_SMALL, None, "'tol' parameter"),
    "n_jobs": ({"n_jobs": "all"}, X_SMALL, Y_SMALL, None, "'n_jobs' parameter"),
    "device": ({"device": "tpu"}, X_SMALL, Y_SMALL, None, "device must be"),
    "positive class": (
        {"positive_class": 2}, X_SMALL, Y_SMALL, None, r"positive_class=2 is not one of the labels",
    ),
    "word for a positive class": (
        {"positive_class": "yes"}, X_SMALL, Y_SMALL, None, "positive_class='yes' is not one of",
    ),
    "positive classes": (
        {"positive_class": [False, True]}, X_SMALL, Y_SMALL, None, "positive_class=.* is not one",
    ),
    "no positive class": (
        {"positive_class": None}, X_SMALL, Y_SMALL, None, "positive_class=None is not one of",
    ),
    "huge values": (
        {}, X_SMALL * [1, 1e200], Y_SMALL, None, "Feature 1 has values so large .* divide it",
    ),
    "huge sparse values": (
        {}, csr_array(X_SMALL * [1, 1e200]), Y_SMALL, None, "Feature 1 has values so large",
    ),
    "sparse X with binarize": (
        {"binarize": "quantile"}, csr_array(X_SMALL), Y_SMALL, None, "[Ss]parse data was passed",
    ),
}  # fmt: skip


def assert_refused(model, X, y, weight, message, errors=ValueError):
    """The error says what is wrong, and the estimator is what it was."""
    before = vars(model).copy()
    with pytest.raises(errors, match=message):
        model.fit(X, y, weight)
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[name] is before[name] for name in before)


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input(case, data):
    params, X, y, weight, message = BAD_INPUT[case]
    errors = TypeError if "sparse X" in case else ValueError
    assert_refused(clone(FAST).set_params(**params), X, y, weight, message, errors)
    fitted = clone(FAST).fit(*data).set_params(**params)
    assert_refused(fitted, X, y, weight, message, errors)


def test_bad_input_is_refused_before_any_work(monkeypatch):
    monkeypatch.setattr("pnsklearn._small._estimator.solve", None)
    for params, X, y, weight, message in BAD_INPUT.values():
        with pytest.raises((ValueError, TypeError), match=message):
            clone(FAST).set_params(**params).fit(X, y, weight)


def test_dask_is_refused():
    collection = type("Array", (), {"__module__": "dask.array.core"})()
    assert_refused(clone(FAST), collection, Y_SMALL, None, "Dask", TypeError)
    with pytest.raises(TypeError, match="Dask"):
        clone(FAST).fit(X_SMALL, Y_SMALL).predict(collection)


def test_empty_frame():
    pandas = pytest.importorskip("pandas")
    assert_refused(clone(FAST), pandas.DataFrame(), Y_SMALL, None, "0 (sample|feature)")


def test_without_extras(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    for params, extra in (({"device": "cuda"}, "torch"), ({"solver": "reference"}, "reference")):
        install = rf"not installed.*pip install 'pnsklearn\[{extra}\]'"
        model = clone(FAST).set_params(**params)
        # Before the data are looked at.
        assert_refused(model, X_SMALL * np.nan, Y_SMALL, None, install, ImportError)


def test_cuda_without_a_gpu(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for device in ("cuda", "cuda:1"):
        model = clone(FAST).set_params(device=device)
        assert_refused(model, X_SMALL, Y_SMALL, None, "sees 0 CUDA devices")


METHODS = {
    "predict": (X_SMALL,),
    "predict_proba": (X_SMALL,),
    "decision_function": (X_SMALL,),
    "apply": (X_SMALL,),
    "rules": (),
    "export_c": (),
    "export_sql": (),
}


@pytest.mark.parametrize("method", METHODS)
def test_methods_need_a_fit(method):
    with pytest.raises(NotFittedError):
        getattr(clone(FAST), method)(*METHODS[method])


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function", "apply"])
def test_methods_check_their_input(method, data):
    predict = getattr(clone(FAST).fit(*data), method)
    with pytest.raises(ValueError, match="2 features, but SMaLLClassifier is expecting 5"):
        predict(X_SMALL)
    with pytest.raises(ValueError, match="contains infinity"):
        predict(with_value(data[0], np.inf))


@pytest.mark.parametrize("method", ["rules", "export_c", "export_sql"])
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a"], "has 1 names; X has 5 features"),
        (list("abcdef"), "has 6 names; X has 5 features"),
        (list("abcda"), "'a' appears 2 times"),
        ([1, 2, 3, 4, 5], "must be strings; got 1"),
        ("abcde", "must be a list of strings"),
    ],
)
def test_bad_names(method, names, message, data):
    model = clone(FAST).fit(*data)
    with pytest.raises(ValueError, match=message):
        getattr(model, method)(feature_names=names)


def test_fixed_point_needs_rows(data):
    model = clone(FAST).fit(*data)
    with pytest.raises(ValueError, match="fixed_point needs X"):
        model.export_c(fixed_point=16)
    with pytest.raises(ValueError, match="2 features, but SMaLLClassifier is expecting 5"):
        model.export_c(X_SMALL, fixed_point=16)
    with pytest.raises(ValueError, match="fixed_point must be an integer from 8 to 32"):
        model.export_c(data[0], fixed_point=7)


@pytest.mark.parametrize("solver", ["fista", "saddle"])
def test_convergence_warning_names_the_remedy(solver, data):
    model = SMaLLClassifier(2, 2, solver=solver, max_iter=3, random_state=0)
    remedy = f"solver='{solver}' .* max_iter=3 .* Increase max_iter or tol, or use solver='auto'"
    with pytest.warns(ConvergenceWarning, match=remedy) as caught:
        model.fit(*data)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert np.count_nonzero(model.coef_, axis=1).max() <= 2
