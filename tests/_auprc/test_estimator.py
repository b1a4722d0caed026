"""AUPRCClassifier as users meet it."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csc_matrix, csr_array, csr_matrix
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris, make_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_validate,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_non_transformer_estimators_n_iter

from pnsklearn import AUPRCClassifier
from pnsklearn._auprc._threshold import choose_threshold
from tests import brute_force

FAST = AUPRCClassifier(alpha=0.1)
SOAP = AUPRCClassifier(alpha=0.1, solver="soap-adam", n_epochs=3, random_state=0)


@pytest.fixture(scope="module")
def noisy():
    """A problem that no linear model separates: (X, y), 12 % positives."""
    return make_classification(
        n_samples=600, n_features=8, weights=[0.88], flip_y=0.05, random_state=0
    )


# Inside scikit-learn


def test_pipeline_and_grid_search(cancer):
    X, y = cancer
    model = make_pipeline(StandardScaler(), clone(FAST))
    grid = {"auprcclassifier__alpha": [0.01, np.inf]}
    search = GridSearchCV(model, grid, scoring="average_precision", cv=3).fit(X, y)
    assert 0.9 < search.best_score_ <= 1
    # Scores of a plain loop over the same splits.
    splits = list(StratifiedKFold(3).split(X, y))
    for alpha, score in zip([0.01, np.inf], search.cv_results_["mean_test_score"], strict=True):
        expected = []
        for train, test in splits:
            scaler = StandardScaler().fit(X[train])
            fitted = AUPRCClassifier(alpha=alpha).fit(scaler.transform(X[train]), y[train])
            scores = fitted.decision_function(scaler.transform(X[test]))
            expected.append(average_precision_score(y[test], scores))
        assert score == pytest.approx(np.mean(expected), abs=1e-9)


def test_cross_validate_beside_logistic_regression(noisy):
    X, y = noisy
    means = [
        np.mean(cross_validate(model, X, y, scoring="average_precision", cv=3)["test_score"])
        for model in (AUPRCClassifier(cv=2), LogisticRegression())
    ]
    assert means[0] > means[1] - 0.02


def test_calibration_and_tuned_threshold(noisy):
    X, y = noisy
    calibrated = CalibratedClassifierCV(clone(FAST), cv=3, ensemble=False).fit(X, y)
    assert calibrated.predict_proba(X)[:, 1].mean() == pytest.approx(y.mean(), abs=0.02)
    tuned = TunedThresholdClassifierCV(clone(FAST), scoring="f1", cv=3).fit(X, y)
    assert f1_score(y, tuned.predict(X)) > f1_score(y, clone(FAST).fit(X, y).predict(X)) - 0.02


def test_one_vs_rest():
    X, y = load_iris(return_X_y=True)
    model = OneVsRestClassifier(make_pipeline(StandardScaler(), clone(FAST))).fit(X, y)
    assert model.predict_proba(X).shape == (150, 3)
    assert model.score(X, y) > 0.8
    with pytest.raises(ValueError, match="Only binary classification is supported"):
        clone(FAST).fit(X, y)


# Input


@pytest.mark.parametrize("container", [csr_matrix, csr_array, csc_matrix])
@pytest.mark.parametrize("model", [FAST, SOAP, AUPRCClassifier(cv=2)])
def test_sparse_is_dense(model, container, noisy):
    X, y = noisy
    X = np.where(np.abs(X) > 0.5, X, 0.0)
    dense, sparse = clone(model).fit(X, y), clone(model).fit(container(X), y)
    assert_allclose(sparse.coef_, dense.coef_, atol=1e-5 * np.abs(dense.coef_).max())
    assert_allclose(sparse.predict_proba(container(X)), dense.predict_proba(X), atol=1e-5)
    assert_array_equal(sparse.predict(container(X)), dense.predict(container(X)))


@pytest.mark.parametrize(
    "labels", [["no", "yes"], [-1, 1], [1, 2], [False, True], [0.0, 1.0], ["b", "a"]]
)
def test_labels(labels, noisy):
    X, y = noisy
    expected = clone(FAST).fit(X, y)
    labels = np.array(labels)
    if labels[0] > labels[1]:  # sorted order decides which one is positive
        expected = clone(FAST).fit(X, 1 - y)
    model = clone(FAST).fit(X, labels[y])
    assert_array_equal(model.classes_, np.sort(labels))
    assert_array_equal(model.coef_, expected.coef_)
    assert_array_equal(model.predict(X), np.sort(labels)[expected.predict(X)])


def test_weights_are_repetitions_and_zero_weights_drop_rows(noisy):
    X, y = noisy
    weight = np.arange(len(y)) % 3
    weighted = AUPRCClassifier(alpha=0.1, tol=1e-9).fit(X, y, weight)
    rows = np.repeat(np.arange(len(y)), weight)
    repeated = AUPRCClassifier(alpha=0.1, tol=1e-9).fit(X[rows], y[rows])
    assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-4)
    assert weighted.surrogate_ == pytest.approx(repeated.surrogate_, abs=1e-9)


CLASS_WEIGHTS = {
    "dict": ({0: 0.5, 1: 3.0}, [0.5, 3.0]),
    "one class": ({1: 4}, [1.0, 4.0]),
    "balanced": ("balanced", None),
}


def class_weights_by_hand(case, y, weight):
    """Return the weights of the rows: of "balanced", half of the whole weight for each class."""
    _, factors = CLASS_WEIGHTS[case]
    if factors is None:
        factors = [weight.sum() / 2 / weight[y == label].sum() for label in (0, 1)]
    return weight * np.array(factors)[y]


@pytest.mark.parametrize("case", CLASS_WEIGHTS)
@pytest.mark.parametrize(
    "params",
    [
        {"alpha": np.inf},
        {"alpha": 0.1, "threshold": "f1"},
        {"alpha": 0.1, "anchor": "shrunk", "positive": True, "threshold": ("budget", 0.1)},
        {"alpha": 0.1, "solver": "soap-adam", "n_epochs": 3, "random_state": 0},
    ],
)
def test_class_weights_are_sample_weights(params, case, noisy):
    X, y = noisy
    for weight in (np.ones(len(y)), np.arange(len(y)) % 4 + 0.5 * y):
        model = AUPRCClassifier(class_weight=CLASS_WEIGHTS[case][0], **params).fit(X, y, weight)
        by_hand = class_weights_by_hand(case, y, weight)
        expected = AUPRCClassifier(**params).fit(X, y, by_hand)
        assert_allclose(model.coef_, expected.coef_, rtol=1e-12)
        assert_allclose(model.intercept_, expected.intercept_, rtol=1e-12)
        assert model.threshold_ == pytest.approx(expected.threshold_, rel=1e-12)
        assert model.surrogate_ == pytest.approx(expected.surrogate_, rel=1e-12)
        plain = AUPRCClassifier(**params).fit(X, y, weight)
        assert abs(plain.surrogate_ - model.surrogate_) > 0.01


def test_class_weights_of_a_stream(noisy):
    X, y = noisy
    params = {"solver": "soap-sgd", "random_state": 0}
    labels = np.array(["no", "yes"])[y]
    model = AUPRCClassifier(class_weight={"no": 1, "yes": 5}, **params)
    expected = AUPRCClassifier(**params)
    for rows in (slice(0, 300), slice(300, 600)):
        model.partial_fit(X[rows], labels[rows])
        expected.partial_fit(X[rows], y[rows], sample_weight=1 + 4 * y[rows])
        assert_allclose(model.coef_, expected.coef_, rtol=1e-12)


def test_class_weights_do_not_change_what_splits_measure(noisy):
    """alpha is chosen by the average precision of the rows as they are."""
    X, y = noisy
    weight, factors = 1.0 + np.arange(len(y)) % 2, np.array([1.0, 20.0])
    splits = list(StratifiedKFold(3).split(X, y))
    anchor = np.ones(8)
    model = AUPRCClassifier(
        alpha="cv-1se", anchor=anchor, cv=splits, class_weight={1: 20.0}, tol=1e-9
    ).fit(X, y, weight)
    expected = []
    for train, test in splits:
        part = AUPRCClassifier(alpha=model.alpha_, anchor=anchor, tol=1e-9)
        part.fit(X[train], y[train], (weight * factors[y])[train])
        scores = part.decision_function(X[test])
        expected.append(average_precision_score(y[test], scores, sample_weight=weight[test]))
    assert_allclose(model.cv_average_precision_, expected, atol=1e-6)


@pytest.mark.parametrize(
    "class_weight, message",
    [
        ({0: 1.0, 1: 0.0}, "class_weight must be positive and finite for both classes"),
        ({0: -1.0}, "class_weight must be positive and finite for both classes"),
        ({1: np.nan}, "class_weight must be positive and finite for both classes"),
        ({1: np.inf}, "class_weight must be positive and finite for both classes"),
        ({1: 1.0, 2: 1.0}, r"classes, \[0\], are not in class_weight"),
        ({2: 1.0}, r"classes, \[0, 1\], are not in class_weight"),
        ("even", "'class_weight' parameter"),
        ([1.0, 2.0], "'class_weight' parameter"),
    ],
)
def test_bad_class_weights(class_weight, message):
    model = clone(FAST).set_params(class_weight=class_weight)
    assert_refused(model, X_SMALL, Y_SMALL.astype(int), None, message)


# Output


def test_attributes(noisy):
    X, y = noisy
    model = AUPRCClassifier(random_state=0).fit(X, y)
    assert model.coef_.shape == (1, 8)
    assert model.intercept_.shape == (1,)
    assert model.alpha_ in (np.inf, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
    log_odds = model.decision_function(X)
    assert_allclose(log_odds, X @ model.coef_[0] + model.intercept_[0], atol=1e-12)
    assert_allclose(model.predict_proba(X)[:, 1], 1 / (1 + np.exp(-log_odds)), atol=1e-12)
    assert_array_equal(model.predict(X), log_odds > 0)
    # Calibrated: the mean probability is the share of the positives, and a Platt fit of it is it.
    assert model.predict_proba(X)[:, 1].mean() == pytest.approx(y.mean(), abs=0.01)
    again = LogisticRegression(C=np.inf).fit(log_odds[:, None], y)
    assert again.coef_[0, 0] == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("loss", ["smooth", "squared_hinge"])
def test_surrogate_is_one_minus_the_objective(loss, noisy):
    """The margin is in standard deviations of the anchor's scores, here the model's own."""
    X, y = noisy
    positive, weight = y == 1, np.ones(len(y))
    model = AUPRCClassifier(loss=loss, alpha=np.inf, margin=0.7).fit(X, y)
    scores = model.decision_function(X)
    outer = np.full(positive.sum(), 1 / positive.sum())
    own = np.full(positive.sum(), 0.5 if loss == "smooth" else 0.0)
    arguments = (scores, positive, weight, outer, own, loss, 0.7 * scores.std())
    assert model.surrogate_ == pytest.approx(1 - brute_force.value(*arguments), abs=1e-9)


def test_narrow_margin_surrogate_is_average_precision(noisy):
    X, y = noisy
    model = AUPRCClassifier(alpha=np.inf, margin=1e-3).fit(X, y)
    expected = average_precision_score(y, model.decision_function(X))
    assert model.surrogate_ == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("container", [np.array, csr_matrix])
def test_huge_values_are_refused(container, noisy):
    X, y = noisy
    X = X.copy()
    X[3, 1] = -1e200
    with pytest.raises(ValueError, match=r"X has values beyond 1e\+100; rescale it"):
        AUPRCClassifier(alpha=0.1).fit(container(X), y)


@pytest.mark.parametrize("loss", ["smooth", "squared_hinge"])
def test_margin_and_alpha_beyond_reason(loss, noisy):
    model = AUPRCClassifier(loss, margin=1e300, alpha=10**25).fit(*noisy)
    expected = AUPRCClassifier(loss, margin=1e6, alpha=1e25).fit(*noisy)
    assert_array_equal(model.coef_, expected.coef_)


def test_better_surrogate_than_the_anchor(noisy):
    X, y = noisy
    values = [AUPRCClassifier(alpha=alpha).fit(X, y).surrogate_ for alpha in (np.inf, 1.0, 0.01)]
    assert values[0] < values[1] < values[2]


def test_separable_data_give_finite_probabilities():
    X = np.r_[np.random.default_rng(0).standard_normal((80, 3)), np.full((20, 3), 1e3)]
    y = np.arange(100) >= 80
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for model in (AUPRCClassifier(), FAST, AUPRCClassifier(anchor="zero", alpha=0.0)):
            probability = clone(model).fit(X, y).predict_proba(X)
            assert np.isfinite(probability).all()
            assert_allclose(probability.sum(axis=1), 1)
            assert probability[y, 1].min() > 0.5 > probability[~y, 1].max()


@pytest.mark.parametrize("model", [AUPRCClassifier(), FAST, SOAP])
def test_constant_features_give_the_prior(model):
    X, y = np.ones((60, 2)), np.arange(60) < 15
    probability = clone(model).fit(X, y).predict_proba(X)[:, 1]
    assert_allclose(probability, probability[0])
    assert probability[0] == pytest.approx(0.25, abs=0.03)


def test_features_far_from_the_origin(noisy):
    """No score is computed from differences of large sums."""
    X, y = noisy
    near = AUPRCClassifier(alpha=np.inf).fit(X, y)
    far = AUPRCClassifier(alpha=np.inf).fit(X + 1e3, y)
    assert far.surrogate_ == pytest.approx(near.surrogate_, abs=1e-3)


# Thresholds


def cuts(y, probability):
    """Return (precision, recall, F1) of calling positive from each distinct probability on."""
    said = probability >= np.unique(probability)[:, None]
    hits = (said & (y == 1)).sum(axis=1)
    precision, recall = hits / said.sum(axis=1), hits / y.sum()
    return precision, recall, 2 * hits / (said.sum(axis=1) + y.sum())


def test_threshold_f1(noisy):
    X, y = noisy
    model = AUPRCClassifier(alpha=0.1, threshold="f1").fit(X, y)
    best = cuts(y, model.predict_proba(X)[:, 1])[2].max()
    assert f1_score(y, model.predict(X)) == pytest.approx(best)


@pytest.mark.parametrize("level", [0.5, 0.8, 1.0])
def test_threshold_precision_and_recall(level, noisy):
    X, y = noisy
    precise = AUPRCClassifier(alpha=0.1, threshold=("precision", level)).fit(X, y)
    precision, recall, _ = cuts(y, precise.predict_proba(X)[:, 1])
    predicted = precise.predict(X)
    if (precision >= level).any():
        assert precision_score(y, predicted) >= level
        assert recall_score(y, predicted) == pytest.approx(recall[precision >= level].max())
    else:
        assert precision_score(y, predicted) == pytest.approx(precision.max())
    predicted = AUPRCClassifier(alpha=0.1, threshold=("recall", level)).fit(X, y).predict(X)
    assert recall_score(y, predicted) >= level
    assert precision_score(y, predicted) == pytest.approx(precision[recall >= level].max())


@pytest.mark.parametrize("share", [0.001, 0.05, 0.37, 1.0])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_threshold_budget(is_weighted, share, noisy):
    """The lowest threshold with at most a share of the weight above it, ties and all."""
    X, y = noisy
    X = np.round(X)  # equal rows, whose probabilities are equal
    weight = 1.0 + np.arange(len(y)) % 5 if is_weighted else np.ones(len(y))
    model = AUPRCClassifier(alpha=0.1, threshold=("budget", share)).fit(X, y, weight)
    probability = model.predict_proba(X)[:, 1].round(12)
    assert len(np.unique(probability)) < len(y)
    said = model.predict(X) == 1
    shares = [np.average(probability >= cut, weights=weight) for cut in np.unique(probability)]
    allowed = [s for s in shares if s <= share + 1e-12]
    assert np.average(said, weights=weight) == pytest.approx(max(allowed, default=0.0))
    if share < 1 / len(y) and not is_weighted:
        assert not said.any()
    if 0 < said.sum() < len(y):
        assert probability[said].min() > model.threshold_ > probability[~said].max()


def test_budget_of_equal_and_of_few_weights():
    """Ties stay together; sums of weights are rounded, so that ten times 0.1 is one."""
    positive = np.arange(10) < 3
    ties = np.repeat([0.9, 0.6, 0.2], [2, 5, 3])
    expected = {0.1: 0.95, 0.2: 0.75, 0.69: 0.75, 0.7: 0.4, 0.99: 0.4, 1: 0.0}
    for weight in (1.0, 0.1, 1e-60, 3e60):
        for share, threshold in expected.items():
            found = choose_threshold(("budget", share), positive, ties, np.full(10, weight))
            assert found == pytest.approx(threshold)
    alone = choose_threshold(("budget", 0.3), positive, np.linspace(0.9, 0.1, 10), np.full(10, 0.1))
    assert 0.1 + 0.1 + 0.1 > 0.3
    assert alone == pytest.approx(0.9 - 2.5 * 0.8 / 9)


@pytest.mark.parametrize("share", [0, -0.1, 1.1, np.nan, "half"])
def test_budget_out_of_its_range(share):
    model = clone(FAST).set_params(threshold=("budget", share))
    assert_refused(model, X_SMALL, Y_SMALL, None, r"threshold must be .*\('budget', b\)")


def test_threshold_number(noisy):
    X, y = noisy
    model = AUPRCClassifier(alpha=0.1, threshold=0.2).fit(X, y)
    assert model.threshold_ == 0.2
    assert_array_equal(model.predict(X), model.predict_proba(X)[:, 1] >= 0.2)
    for threshold, label in ((0.0, 1), (1.0, 0)):
        assert set(AUPRCClassifier(alpha=0.1, threshold=threshold).fit(X, y).predict(X)) == {label}


def test_threshold_with_weights(noisy):
    X, y = noisy
    weight = 1.0 + 4.0 * y * (X[:, 0] > 0)
    rule = ("precision", 0.8)
    model = AUPRCClassifier(alpha=0.1, threshold=rule).fit(X, y, weight)
    assert precision_score(y, model.predict(X), sample_weight=weight) >= 0.8


# Fitting again


@pytest.mark.parametrize("solver", ["lbfgs", "trust-ncg"])
def test_warm_start(solver, noisy):
    X, y = noisy
    model = AUPRCClassifier(alpha=0.1, solver=solver, warm_start=True).fit(X, y)
    cold, coef = model.n_iter_, model.coef_.copy()
    assert cold > 2
    model.fit(X, y)
    assert model.n_iter_ <= cold
    assert_allclose(model.coef_, coef, rtol=1e-3)


def test_partial_fit_learns_a_stream(noisy):
    X, y = noisy
    model = AUPRCClassifier(solver="soap-adam", random_state=0)
    rng, n_batches = np.random.default_rng(0), 40
    for _ in range(n_batches):
        rows = rng.choice(len(y), 200)
        model.partial_fit(X[rows], y[rows], classes=[0, 1])
    assert model.n_iter_ == n_batches
    reached = average_precision_score(y, model.decision_function(X))
    expected = average_precision_score(y, LogisticRegression().fit(X, y).decision_function(X))
    assert reached > expected - 0.05
    assert set(model.predict(X)) == {0, 1}


def test_partial_fit_is_for_soap_on_linear_models():
    assert hasattr(AUPRCClassifier(solver="soap-sgd"), "partial_fit")
    assert not hasattr(AUPRCClassifier(), "partial_fit")
    assert not hasattr(AUPRCClassifier(solver="soap-sgd", module=object()), "partial_fit")


def test_refused_batch_leaves_the_stream(noisy):
    X, y = noisy
    model = AUPRCClassifier(solver="soap-adam", random_state=0).partial_fit(X, y)
    before = vars(model).copy()
    for bad_X, bad_y in ((X, y + 1), (X[:, :3], y), (X[y == 0], y[y == 0])):
        with pytest.raises(ValueError):
            model.partial_fit(bad_X, bad_y)
        assert vars(model).keys() == before.keys()
        assert all(vars(model)[name] is before[name] for name in before)


def test_random_state(noisy):
    X, y = noisy
    coefs = [clone(SOAP).set_params(random_state=seed).fit(X, y).coef_ for seed in (0, 0, 1)]
    assert_array_equal(coefs[0], coefs[1])
    assert not np.allclose(coefs[0], coefs[2])


def test_custom_splits(noisy):
    X, y = noisy
    splits = list(StratifiedKFold(3).split(X, y))
    models = [AUPRCClassifier(cv=cv).fit(X, y) for cv in (3, StratifiedKFold(3), splits)]
    assert_array_equal(models[1].coef_, models[0].coef_)
    assert_array_equal(models[2].coef_, models[0].coef_)
    # Splits over all rows, one of them of weight zero, and one without a positive to test on.
    weight = np.ones(len(y))
    weight[0] = 0.0
    splits.append((np.arange(len(y)), np.flatnonzero(y == 0)))
    assert np.isfinite(AUPRCClassifier(cv=splits).fit(X, y, weight).coef_).all()


@pytest.mark.parametrize(
    "params",
    [{"positive": True, "anchor": "shrunk"}, {"solver": "soap-adam", "n_epochs": 2}],
)
def test_jobs_change_nothing(params, noisy):
    X, y = noisy
    one, two = (
        AUPRCClassifier(cv=3, n_jobs=n_jobs, random_state=0, **params).fit(X, y)
        for n_jobs in (None, 2)
    )
    assert_array_equal(two.coef_, one.coef_)
    assert two.alpha_ == one.alpha_
    assert_array_equal(two.cv_average_precision_, one.cv_average_precision_)
    assert one.cv_average_precision_.shape == (3,)


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
    "three classes": ({}, X_SMALL, np.arange(60) % 3, None, "Only binary classification"),
    "continuous target": ({}, X_SMALL, X_SMALL[:, 0], None, "Unknown label type"),
    "NaN": ({}, with_value(X_SMALL, np.nan), Y_SMALL, None, "contains NaN"),
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
    "solver": ({"solver": "newton"}, X_SMALL, Y_SMALL, None, "'solver' parameter"),
    "loss": ({"loss": "log"}, X_SMALL, Y_SMALL, None, "'loss' parameter"),
    "negative alpha": ({"alpha": -1.0}, X_SMALL, Y_SMALL, None, "'alpha' parameter"),
    "NaN alpha": ({"alpha": np.nan}, X_SMALL, Y_SMALL, None, "'alpha' parameter"),
    "margin": ({"margin": 0.0}, X_SMALL, Y_SMALL, None, "'margin' parameter"),
    "prior": ({"prior": 1.0}, X_SMALL, Y_SMALL, None, "'prior' parameter"),
    "gamma": ({"gamma": 0.0}, X_SMALL, Y_SMALL, None, "'gamma' parameter"),
    "max_iter": ({"max_iter": 0}, X_SMALL, Y_SMALL, None, "'max_iter' parameter"),
    "cv": ({"cv": "five"}, X_SMALL, Y_SMALL, None, "'cv' parameter"),
    "negative cv": ({"alpha": "cv", "cv": -2}, X_SMALL, Y_SMALL, None, "cv"),
    "threshold word": ({"threshold": "f2"}, X_SMALL, Y_SMALL, None, "'threshold' parameter"),
    "threshold rule": ({"threshold": ("f2", 0.5)}, X_SMALL, Y_SMALL, None, "threshold must be"),
    "threshold level": ({"threshold": ("recall", 2)}, X_SMALL, Y_SMALL, None, "threshold must be"),
    "device": ({"device": "tpu"}, X_SMALL, Y_SMALL, None, "device must be"),
    "nothing to fit": (
        {"anchor": "zero", "alpha": np.inf}, X_SMALL, Y_SMALL, None, "leaves nothing to fit",
    ),
    "no usable split": (
        {"alpha": "cv", "cv": [(np.arange(40), np.arange(40, 60))]}, X_SMALL, Y_SMALL, None,
        "cv has no split",
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
def test_bad_input(case, noisy):
    params, X, y, weight, message = BAD_INPUT[case]
    assert_refused(clone(FAST).set_params(**params), X, y, weight, message)
    fitted = clone(FAST).fit(*noisy).set_params(**params)
    assert_refused(fitted, X, y, weight, message)


def test_dask_is_refused():
    collection = type("Array", (), {"__module__": "dask.array.core"})()
    assert_refused(clone(FAST), collection, Y_SMALL, None, "Dask", TypeError)


def test_empty_frame():
    pandas = pytest.importorskip("pandas")
    assert_refused(clone(FAST), pandas.DataFrame(), Y_SMALL, None, "0 (sample|feature)")


def test_without_torch(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    install = r"not installed.*pip install 'pnsklearn\[torch\]'"
    for params in ({"module": object()}, {"device": "cuda"}):
        model = clone(FAST).set_params(**params)
        assert_refused(model, X_SMALL, Y_SMALL, None, install, ImportError)


def test_cuda_without_a_gpu(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for device in ("cuda", "cuda:1"):
        model = clone(FAST).set_params(device=device)
        assert_refused(model, X_SMALL, Y_SMALL, None, "sees 0 CUDA devices")


def test_predict_checks_its_input(noisy):
    with pytest.raises(NotFittedError):
        clone(FAST).predict(X_SMALL)
    model = clone(FAST).fit(*noisy)
    with pytest.raises(ValueError, match="2 features, but AUPRCClassifier is expecting 8"):
        model.predict(X_SMALL)


def test_few_positives_warn():
    with pytest.warns(UserWarning, match="Only 5 positive samples"):
        clone(FAST).fit(X_SMALL[15:], Y_SMALL[15:])


def test_one_positive_is_left_to_the_anchor():
    with pytest.warns(UserWarning, match="Only 1 positive"):
        model = AUPRCClassifier().fit(X_SMALL[19:], Y_SMALL[19:])
    assert model.alpha_ == np.inf
    logistic = LogisticRegression().fit(X_SMALL[19:], Y_SMALL[19:])
    cosine = model.coef_[0] @ logistic.coef_[0]
    cosine /= np.linalg.norm(model.coef_) * np.linalg.norm(logistic.coef_)
    assert cosine == pytest.approx(1.0, abs=1e-3)


def test_solved_at_the_start(noisy):
    """The start is the solution: one evaluation, and so one iteration."""
    X, y = noisy
    model = AUPRCClassifier(alpha=1e9).fit(X, y)
    assert model.n_iter_ == 1
    ranking = AUPRCClassifier(alpha=np.inf).fit(X, y)
    assert_allclose(model.decision_function(X), ranking.decision_function(X), atol=1e-4)
    check_non_transformer_estimators_n_iter("AUPRCClassifier", AUPRCClassifier(alpha=0))


def test_max_iter_warns(noisy):
    with pytest.warns(ConvergenceWarning, match="max_iter=1"):
        model = AUPRCClassifier(alpha=0.01, max_iter=1).fit(*noisy)
    assert model.n_iter_ == 1


def test_unscaled_features():
    """Features on scales from 1e-3 to 1e3 still converge to a finite model."""
    X, y = make_classification(n_samples=300, n_features=5, weights=[0.8], random_state=0)
    X = X * np.geomspace(1e-3, 1e3, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = clone(FAST).fit(X, y)
    assert average_precision_score(y, model.decision_function(X)) > 2 * y.mean()
