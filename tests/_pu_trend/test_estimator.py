"""PUTrendClassifier as users meet it."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import coo_matrix, csc_matrix, csr_array, csr_matrix
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pnsklearn import PUTrendClassifier
from pnsklearn._pu_trend._trend import OnlineTrend
from pnsklearn.datasets import make_pu
from pnsklearn.exceptions import PUWarning
from pnsklearn.metrics import make_pu_scorer
from tests.callbacks import Callback

pytestmark = pytest.mark.usefixtures("few_trees")
FAST = PUTrendClassifier("linear", n_snapshots=4, final_estimator="same", random_state=0)
TEXT_SGD = SGDClassifier(loss="log_loss", alpha=0.01)
PER_ROW = ["trend_scores_", "heldout_trend_scores_", "transduction_"]


def gaussians(seed, n=800, prior=0.4, gap=3.0, n_labeled=100, scenario="single"):
    """Return X on several scales, s, and the true labels."""
    rng = np.random.default_rng(seed)
    y = (np.arange(n) < prior * n).astype(int)
    X = rng.standard_normal((n, 4))
    X[:, 0] += gap * y
    X = rng.permutation(np.c_[X * [1, 30, 1e-3, 1] + [5, 0, 0, -100], y])
    return make_pu(X[:, :-1], X[:, -1], n_labeled=n_labeled, scenario=scenario, random_state=seed)


@pytest.fixture(scope="module")
def data():
    return gaussians(0)


@pytest.fixture(scope="module")
def fitted(data):
    return clone(FAST).fit(*data[:2])


def fit_quietly(model, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PUWarning)
        return model.fit(*args)


# Accuracy


@pytest.mark.parametrize("final", [None, "same", LogisticRegression(max_iter=1000), GaussianNB()])
@pytest.mark.parametrize("estimator", ["auto", "linear", "mlp"])
def test_accuracy(estimator, final, global_random_seed):
    X, s, y = gaussians(global_random_seed, gap=3.0)
    if isinstance(final, LogisticRegression):
        final = make_pipeline(StandardScaler(), final)
    model = PUTrendClassifier(
        estimator, final_estimator=final, n_snapshots=6, random_state=global_random_seed
    )
    model.fit(X, s)
    # The best that can be had is 0.93.
    assert np.mean(model.predict(X) == y) > 0.85
    assert np.mean(model.transduction_ == y[s == 0]) > 0.82
    assert roc_auc_score(y, model.decision_function(X)) > 0.95
    assert model.class_prior_ == pytest.approx(y[s == 0].mean(), abs=0.15)
    assert model.selected_estimator_ == estimator or estimator == "auto"


@pytest.mark.parametrize(
    "estimator", [SGDClassifier(loss="log_loss"), SGDClassifier(), GaussianNB()], ids=str
)
def test_partial_fit_estimators(estimator, global_random_seed):
    X, s, y = gaussians(global_random_seed, gap=3.0)
    X = StandardScaler().fit_transform(X)
    model = PUTrendClassifier(
        estimator, n_snapshots=3, n_passes=1, n_folds=3, random_state=global_random_seed
    )
    fit_quietly(model, X, s)
    assert np.mean(model.predict(X) == y) > 0.8
    assert model.selected_estimator_ == "partial_fit" and model.selected_trend_ == "mean"
    assert not hasattr(estimator, "classes_")  # clones were trained


def test_same_final_estimator_of_partial_fit(data):
    X, s, y = data
    model = PUTrendClassifier(
        GaussianNB(), final_estimator="same", n_snapshots=3, n_passes=1, random_state=0
    )
    fit_quietly(model, X, s)
    assert isinstance(model.final_estimator_, GaussianNB)
    assert np.mean(model.predict(X) == y) > 0.8


@pytest.mark.parametrize("pseudo_labels", ["soft", "hard", "ramped"])
def test_pseudo_labels(pseudo_labels, data):
    X, s, y = data
    model = clone(FAST).set_params(pseudo_labels=pseudo_labels).fit(X, s)
    assert np.mean(model.predict(X) == y) > 0.85


@pytest.mark.parametrize("scenario", ["single", "case-control"])
@pytest.mark.parametrize("prior", [0.2, 0.6])
def test_probabilities_are_of_the_population(prior, scenario, global_random_seed):
    """Mean probability on new rows of the population is its share of positives."""
    X, s, y = gaussians(global_random_seed, 4000, prior, n_labeled=400, scenario=scenario, gap=3.0)
    X_new, _, y_new = gaussians(global_random_seed + 1, 4000, prior, n_labeled=1, gap=3.0)
    inside = y[s == 0].mean()
    for final in ("same", LogisticRegression()):
        model = PUTrendClassifier(
            "linear", final_estimator=final, scenario=scenario, class_prior=inside,
            n_snapshots=5, random_state=0,
        )  # fmt: skip
        Z = StandardScaler().fit(X)
        model.fit(Z.transform(X), s)
        p = model.predict_proba(Z.transform(X_new))[:, 1]
        assert p.mean() == pytest.approx(prior, abs=0.04)
        # And in the lower, middle and upper third.
        for third in np.array_split(np.argsort(p), 3):
            assert p[third].mean() == pytest.approx(y_new[third].mean(), abs=0.08)


def test_scenarios_differ(data):
    X, s, _ = data
    single = clone(FAST).fit(X, s)
    other = fit_quietly(clone(FAST).set_params(scenario="case-control"), X, s)
    assert_array_equal(single.trend_scores_, other.trend_scores_)
    assert single.class_prior_ == other.class_prior_
    assert single.predict_proba(X)[:, 1].mean() > other.predict_proba(X)[:, 1].mean() + 0.03


# Labels and input


@pytest.mark.parametrize("labels", [["a", "b"], [False, True], [-1, 1], [2.0, 7.0]], ids=str)
def test_labels(labels, data, fitted):
    X, s, _ = data
    labels = np.array(labels)
    model = clone(FAST).set_params(pos_label=labels.tolist()[1]).fit(X, labels[s])
    assert_array_equal(model.classes_, labels)
    assert_array_equal(model.predict(X), labels[fitted.predict(X)])
    assert_array_equal(model.transduction_, labels[fitted.transduction_])
    assert_array_equal(model.predict_proba(X), fitted.predict_proba(X))


def test_attributes(data, fitted):
    _, s, _ = data
    n_U = np.sum(s == 0)
    assert fitted.trend_scores_.shape == fitted.transduction_.shape == (n_U,)
    assert fitted.heldout_trend_scores_.shape == (100,)
    assert_array_equal(fitted.transduction_, fitted.trend_scores_ > fitted.split_threshold_)
    low, high = fitted.class_prior_interval_
    assert 0 < low <= fitted.class_prior_ <= high < 1
    assert 0.5 < fitted.heldout_auc_ < 1
    assert fitted.n_iter_ == 4 and 0 <= fitted.stop_snapshot_ < 4
    assert fitted.snapshot_quantiles_.shape == (3, 4, 3)
    low, mean, high = np.moveaxis(fitted.snapshot_quantiles_, 2, 0)
    assert (low <= mean).all() and (mean <= high).all()
    assert (mean[0, -1] > mean[2, -1]) and (mean[1, -1] > mean[2, -1])
    assert fitted.n_features_in_ == 4
    assert 0 <= fitted.doubt_ < 0.1
    assert fitted.diagnostics_[0].value == fitted.doubt_
    assert "held-out AUC" in repr(fitted.diagnostics_)


def test_responses(data, fitted):
    X, _, _ = data
    probability = fitted.predict_proba(X)
    assert_allclose(probability.sum(axis=1), 1)
    assert probability.min() >= 0
    assert_array_equal(fitted.predict(X), probability[:, 1] > 0.5)
    log_odds = fitted.decision_function(X)
    assert_allclose(1 / (1 + np.exp(-log_odds)), probability[:, 1], rtol=1e-6, atol=1e-9)
    far = fitted.decision_function(X * 1e6)
    assert np.isfinite(far).all() and np.abs(far).max() < 20.8


@pytest.mark.parametrize("convert", [csr_matrix, csr_array, csc_matrix, coo_matrix])
def test_sparse_formats(convert):
    X, s, _ = gaussians(0)
    X = np.maximum(X, 0)
    reference = clone(FAST).fit(csr_matrix(X), s)
    model = clone(FAST).fit(convert(X), s)
    assert_array_equal(model.trend_scores_, reference.trend_scores_)
    assert_array_equal(model.predict_proba(convert(X)), reference.predict_proba(csr_matrix(X)))
    # Rows may be scored in the other form.
    assert_allclose(model.predict_proba(csr_matrix(X)), model.predict_proba(convert(X)))


@pytest.mark.parametrize("final", ["same", None])
@pytest.mark.parametrize("estimator", ["auto", "linear", "mlp", TEXT_SGD])
def test_sparse_text(estimator, final, global_random_seed):
    """Word counts: sparse learns as well as dense."""
    rng = np.random.default_rng(global_random_seed)
    y = np.arange(600) < 240
    rate = np.full((600, 200), 0.05)
    rate[y, :20] += 0.35
    counts = TfidfTransformer().fit_transform(csr_matrix(rng.poisson(rate)))
    X, s, y = make_pu(counts, y, n_labeled=80, random_state=global_random_seed)
    model = PUTrendClassifier(
        estimator, final_estimator=final, n_snapshots=3, n_passes=1, n_folds=2,
        random_state=0,
    )  # fmt: skip
    sparse, dense = (fit_quietly(clone(model), Z, s) for Z in (csr_matrix(X), X.toarray()))
    accuracy = np.mean(sparse.predict(csr_matrix(X)) == y)
    assert accuracy > max(0.7, np.mean(dense.predict(X.toarray()) == y) - 0.15)
    if estimator == "auto":
        assert sparse.selected_estimator_ == "linear"


def test_float32(data, fitted):
    X, s, _ = data
    model = clone(FAST).fit(X.astype(np.float32), s)
    assert_allclose(model.trend_scores_, fitted.trend_scores_, atol=1e-4)
    assert_allclose(model.predict_proba(X.astype(np.float32)), fitted.predict_proba(X), atol=0.01)


@pytest.mark.parametrize("factor, shift", [(1e-30, 0), (1e30, 0), (1.0, 1e6)])
@pytest.mark.parametrize("final", ["same", None])
def test_units_do_not_matter(final, factor, shift, data):
    X, s, y = data
    model = clone(FAST).set_params(final_estimator=final).fit(X * factor + shift, s)
    assert np.mean(model.predict(X * factor + shift) == y) > 0.85


# Weights


def weighted_problem(seed, n_labeled=12, n=70):
    X, s, _ = gaussians(seed, n, 0.45, gap=4.0, n_labeled=n_labeled)
    return X, s, np.random.default_rng(seed).integers(1, 4, n)


@pytest.mark.parametrize("n_labeled", [12, 25])
@pytest.mark.parametrize("estimator", ["linear", "mlp"])
def test_weights_are_repetition_of_few_rows(estimator, n_labeled, global_random_seed):
    X, s, weight = weighted_problem(global_random_seed, n_labeled)
    model = PUTrendClassifier(estimator, n_snapshots=4, random_state=global_random_seed)
    weighted = fit_quietly(clone(model), X, s, weight)
    rows = np.repeat(np.arange(len(s)), weight)
    assert len(rows) <= 256
    repeated = fit_quietly(clone(model), X[rows], s[rows])
    for name, label in (("trend_scores_", 0), ("heldout_trend_scores_", 1)):
        expected = np.repeat(getattr(weighted, name), weight[s == label])
        assert_allclose(getattr(repeated, name), expected, atol=1e-9)
    assert weighted.class_prior_ == pytest.approx(repeated.class_prior_)
    assert weighted.stop_snapshot_ == repeated.stop_snapshot_
    assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-12)


@pytest.mark.parametrize("estimator", ["auto", "linear", GaussianNB()])
def test_no_weight_is_no_row(estimator, data):
    X, s, _ = data
    weight = np.random.default_rng(0).integers(0, 2, len(s)).astype(float)
    model = clone(FAST).set_params(estimator=estimator, final_estimator=None, n_folds=2)
    weighted = fit_quietly(clone(model), X, s, weight)
    fewer = fit_quietly(clone(model), X[weight > 0], s[weight > 0])
    for name in PER_ROW:
        assert_array_equal(getattr(weighted, name), getattr(fewer, name))
    assert_array_equal(weighted.predict_proba(X), fewer.predict_proba(X))


def test_weights_of_many_rows(global_random_seed):
    """Two thirds of the positives in U get a small weight: the prior falls accordingly."""
    X, s, y = gaussians(global_random_seed, 3000, 0.5, gap=4.0, n_labeled=200)
    weight = np.where((s == 0) & (y == 1), 0.2, 1.0)
    model = clone(FAST).fit(X, s, weight)
    inside = np.average(y[s == 0], weights=weight[s == 0])
    assert inside < 0.2
    assert model.class_prior_ == pytest.approx(inside, abs=0.06)
    assert clone(FAST).fit(X, s).class_prior_ > 0.35
    # Only ratios matter.
    scaled = clone(FAST).fit(X, s, 7 * weight)
    assert_allclose(scaled.trend_scores_, model.trend_scores_, atol=1e-4)


# Randomness


@pytest.mark.parametrize("estimator", ["auto", SGDClassifier(loss="log_loss")])
def test_random_state(estimator, data):
    X, s, _ = data
    model = PUTrendClassifier(estimator, n_snapshots=2, n_passes=1, n_folds=2, random_state=3)
    first, second = (fit_quietly(clone(model), X, s) for _ in range(2))
    for name in PER_ROW:
        assert_array_equal(getattr(first, name), getattr(second, name))
    assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    other = fit_quietly(clone(model).set_params(random_state=4), X, s)
    assert (first.trend_scores_ != other.trend_scores_).any()
    generator = fit_quietly(clone(model).set_params(random_state=np.random.RandomState(3)), X, s)
    assert_array_equal(generator.predict_proba(X), first.predict_proba(X))


def test_global_random_state_is_left_alone(data):
    state = np.random.get_state()[1].copy()  # noqa: NPY002, it is what must not change
    clone(FAST).fit(*data[:2])
    assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_n_jobs_does_not_matter(data):
    X, s, _ = data
    model = clone(FAST).set_params(final_estimator=None)
    probabilities = [
        clone(model).set_params(n_jobs=n_jobs).fit(X, s).predict_proba(X) for n_jobs in (None, 1, 2)
    ]
    for probability in probabilities[1:]:
        assert_allclose(probability, probabilities[0], rtol=1e-12)


# Parameters


def test_given_prior(data):
    X, s, _ = data
    model = clone(FAST).set_params(class_prior=0.2).fit(X, s)
    assert model.class_prior_ == 0.2
    assert_allclose(model.class_prior_interval_, 0.2)
    assert np.mean(model.transduction_ == 1) == pytest.approx(0.2, abs=2e-3)
    # With the 100 labeled positives it is 0.3 in the population.
    assert model.predict_proba(X)[:, 1].mean() == pytest.approx(0.3, abs=0.03)


def test_prior_within_bounds(data, fitted):
    """They narrow what the data leave open, and stand in for data where there are none."""
    X, s, _ = data
    found = fitted.class_prior_
    assert np.diff(fitted.class_prior_interval_) > 0.05
    model = clone(FAST).set_params(class_prior=(found - 0.02, found)).fit(X, s)
    low, high = model.class_prior_interval_
    assert found - 0.02 <= low < model.class_prior_ < high <= found
    wide = clone(FAST).set_params(class_prior=[0, 1]).fit(X, s)
    assert wide.class_prior_ == pytest.approx(fitted.class_prior_, abs=0.02)
    once = clone(FAST).set_params(class_prior=(0.3, 0.4), n_folds=None)
    assert fit_quietly(once, X, s).class_prior_ == pytest.approx(0.35)
    assert np.isnan(once.doubt_)


@pytest.mark.parametrize("kind", ["mean", "last", "simple", "slope", "pairwise", "mann-kendall"])
def test_trends(kind, data):
    """Of one run, whose scores a callback sees."""
    X, s, _ = data
    model = clone(FAST).set_params(trend=kind, n_folds=None)
    watcher = Watcher()
    fit_quietly(model.set_callbacks(watcher), X, s)
    assert model.selected_trend_ == kind
    history = np.array([p[:, 1] for p in watcher.probabilities[: model.stop_snapshot_ + 1]])
    trend = OnlineTrend(keep_history=True)
    for p in history:
        trend.update(p)
    for scores, label in ((model.trend_scores_, 0), (model.heldout_trend_scores_, 1)):
        assert_allclose(scores, trend.scores(kind)[s == label], atol=1e-6)


@pytest.mark.parametrize("change", [{"n_folds": None}, {"n_snapshots": 1}, {"n_passes": 0.1}])
def test_unusual_settings(change, data):
    X, s, y = data
    model = fit_quietly(clone(FAST).set_params(**change), X, s)
    assert np.mean(model.predict(X) == y) > 0.8


@pytest.mark.parametrize("batch_size", [1, 64, 10_000])
def test_batch_size(batch_size, data):
    X, s, y = data
    model = clone(FAST).set_params(batch_size=batch_size, n_snapshots=2, n_passes=1)
    assert np.mean(fit_quietly(model, X, s).predict(X) == y) > 0.8


@pytest.mark.parametrize("split", ["natural", "variance", "authors", "prior"])
def test_splits(split):
    X, s, y = gaussians(0, gap=8.0)
    model = clone(FAST).set_params(split=split).fit(X, s)
    assert np.mean(model.transduction_ == y[s == 0]) > (0.88 if split == "prior" else 0.97)


# Thresholds


@pytest.fixture(scope="module")
def overlapping():
    return gaussians(1, 2000, 0.2, gap=2.0, n_labeled=200)


@pytest.mark.parametrize("scenario", ["single", "case-control"])
def test_thresholds(scenario, overlapping):
    """F1 wants more positives than accuracy does, and a budget is kept."""
    X, s, y = overlapping
    rows = np.ones(len(s), bool) if scenario == "single" else s == 0
    models = {}
    for rule in ("proba", "f1", ("budget", 0.05), 0.7, ("recall", 0.9)):
        model = clone(FAST).set_params(threshold=rule, scenario=scenario)
        models[rule] = fit_quietly(model, X, s)
    called = {rule: model.predict(X)[rows] == 1 for rule, model in models.items()}
    found = {rule: np.sum(c & (y[rows] == 1)) for rule, c in called.items()}
    f1 = {r: 2 * found[r] / (called[r].sum() + np.sum(y[rows])) for r in called}
    assert f1["f1"] > f1["proba"] - 0.01 and models["f1"].threshold_ < 0.5
    assert 0.04 < called["budget", 0.05].mean() <= 0.05
    assert models["proba"].threshold_ == 0.5 and models[0.7].threshold_ == 0.7
    assert called["recall", 0.9].sum() > called["f1"].sum()
    for rule, model in models.items():
        assert_array_equal(called[rule], model.predict_proba(X)[rows, 1] > model.threshold_)


# Warnings


def warnings_of(model, X, s):
    """Fit, and return the texts of the warnings, which must point here."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, s)
    assert all(warning.category is PUWarning for warning in caught)
    assert {warning.filename for warning in caught} <= {__file__}
    return "\n".join(str(warning.message) for warning in caught)


@pytest.mark.parametrize("n_labeled, used", [(3, "3"), (1, "None")])
def test_too_few_positives_for_the_folds(n_labeled, used):
    X, s, _ = gaussians(0, n_labeled=n_labeled)
    model = clone(FAST)
    messages = warnings_of(model, X, s)
    assert f"n_folds={used} is used instead of 5" in messages
    assert f"there are {n_labeled} different labeled positives and" in messages
    assert model.predict(X).shape == s.shape


def test_equal_positives_are_one_group():
    """Equal rows on both sides of a fold would leak."""
    X, s, _ = gaussians(0, 120, n_labeled=30, gap=6.0)
    X[s == 1] = X[s == 1][np.arange(30) % 2]
    assert "2 different labeled positives" in warnings_of(clone(FAST), X, s)


def test_warns_of_noise():
    X = np.random.default_rng(0).normal(size=(400, 3))
    model = clone(FAST)
    assert "more accurate with prob" in warnings_of(model, X, np.arange(400) < 100)
    assert model.diagnostics_[0].verdict == "in doubt"


@pytest.mark.parametrize("estimator", ["auto", "linear", SGDClassifier()])
def test_warns_of_constant_features(estimator):
    model = PUTrendClassifier(estimator, n_snapshots=3, random_state=0)
    messages = warnings_of(model, np.ones((300, 2)), np.arange(300) < 50)
    assert "more accurate with probability" in messages
    assert np.isfinite(model.predict_proba(np.ones((3, 2)))).all()


@pytest.mark.parametrize("scenario", ["single", "case-control"])
def test_says_when_rare_positives_are_not_found(scenario, global_random_seed):
    """Far apart, 2 % are found; where negatives look like them, a failure is not silent."""
    for gap in (6.0, 0.7):
        X, s, y = gaussians(global_random_seed, 1500, 0.1, gap=gap, scenario=scenario)
        model = fit_quietly(clone(FAST).set_params(scenario=scenario), X, s)
        rows = slice(None) if scenario == "single" else s == 0
        gain = np.mean(model.predict(X[rows]) == y[rows]) - np.mean(y[rows] == 0)
        if gap == 6.0:
            assert gain > 0 and model.doubt_ < 0.05
        else:
            assert gain > -0.01 or model.doubt_ > 0.2


def test_warns_of_an_inverted_trend(data):
    """Trained for too long, the labeled positives' scores fall the most."""
    X, s, y = data
    model = clone(FAST).set_params(trend="slope", learning_rate=3.0, n_passes=40)
    model.set_params(split="authors")  # which uses all snapshots
    assert "trend 'slope' is inverted" in warnings_of(model, X, s)
    assert model.selected_trend_ == "mean"
    assert roc_auc_score(y[s == 0], model.trend_scores_) > 0.9


@pytest.mark.parametrize("n_P, n_U", [(1, 1), (1, 2), (2, 1), (2, 2), (3, 50), (50, 3)])
def test_handful_of_rows(n_P, n_U):
    X = np.random.default_rng(0).normal(size=(n_P + n_U, 2))
    s = np.arange(n_P + n_U) < n_P
    model = fit_quietly(PUTrendClassifier(random_state=0), X, s)
    probability = model.predict_proba(X)
    assert np.isfinite(probability).all()
    assert_allclose(probability.sum(axis=1), 1)


# Errors


def check_error(model, X, s, error, match, **kwargs):
    """Assert a clear error before any work, and an unchanged estimator."""
    before = vars(model).copy()
    with pytest.raises(error, match=match):
        model.fit(X, s, **kwargs)
    assert vars(model) == before


@pytest.mark.parametrize("value", [0, 1])
def test_one_class(value, data):
    X, s, _ = data
    for y in (np.full(len(s), value), np.full(1, value)):
        check_error(
            clone(FAST), X[: len(y)], y, ValueError,
            f"only one class, {value}; labeled positives and unlabeled rows are both needed",
        )  # fmt: skip


def test_wrong_data(data):
    X, s, _ = data
    check_error(clone(FAST), X, np.arange(len(s)) % 3, ValueError, "Only binary classification")
    check_error(clone(FAST), X, np.linspace(0, 1, len(s)), ValueError, "Unknown label type")
    check_error(clone(FAST), X[:-1], s, ValueError, "inconsistent numbers of samples")
    check_error(clone(FAST), X[:, 0], s, ValueError, "Expected 2D array")
    check_error(clone(FAST), X[:, :0], s, ValueError, r"0 feature\(s\)")
    check_error(clone(FAST), X[:0], s[:0], ValueError, r"0 sample\(s\)")
    check_error(clone(FAST), X, None, ValueError, "requires y to be passed")
    for bad in (np.nan, np.inf):
        wrong = X.copy()
        wrong[3, 1] = bad
        check_error(clone(FAST), wrong, s, ValueError, "contains (NaN|infinity)")
        check_error(clone(FAST), csr_matrix(wrong), s, ValueError, "contains (NaN|infinity)")
    check_error(clone(FAST), X * 1e200, s, ValueError, "rescale it")


def test_wrong_weights(data):
    X, s, _ = data
    ones = np.ones(len(s))
    for weight, match in (
        (-ones, "Negative values in data passed to `sample_weight`"),
        (ones * np.nan, "contains NaN"),
        (ones[:-1], "expected"),
        (s * 1.0, "No unlabeled sample has a positive sample_weight"),
        (1.0 - s, "No positive sample has a positive sample_weight"),
    ):
        check_error(clone(FAST), X, s, ValueError, match, sample_weight=weight)


@pytest.mark.parametrize(
    "params",
    [
        {"class_prior": 0.0}, {"class_prior": 1.0}, {"class_prior": -0.5},
        {"class_prior": (0.5, 0.2)}, {"class_prior": (0.5,)}, {"class_prior": (0.1, 1.2)},
        {"pos_label": ["a"]}, {"threshold": "best"}, {"threshold": 2.0}, {"estimator": "svm"},
        {"trend": "median"}, {"split": "jenks"}, {"n_snapshots": 0}, {"n_folds": 1},
        {"n_passes": 0}, {"n_passes": "paper"}, {"learning_rate": 0.0}, {"n_passes": np.nan},
        {"batch_size": 0}, {"scenario": "pu"}, {"pseudo_labels": "no"}, {"device": None},
        {"final_estimator": "mlp"}, {"random_state": "a"}, {"transforms": 1},
    ],
    ids=str,
)  # fmt: skip
def test_parameters_out_of_range(params, data):
    [name] = params
    check_error(clone(FAST).set_params(**params), *data[:2], ValueError, f"The '{name}' parameter")


class NoProbability(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        return self


@pytest.mark.parametrize(
    "params, error, match",
    [
        (
            {"estimator": LogisticRegression()},
            ValueError,
            "^LogisticRegression cannot be the first-stage estimator because it has no partial_fit"
            r"\. Use estimator='auto' and pass LogisticRegression as final_estimator\.$",
        ),
        ({"estimator": KMeans()}, ValueError, r"no partial_fit\. Use estimator='auto'\.$"),
        ({"estimator": SGDClassifier}, TypeError, r"an instance, not a class.*SGDClassifier\(\)"),
        ({"estimator": MiniBatchKMeans()}, ValueError, "neither predict_proba nor decision_func"),
        (
            {"estimator": SGDClassifier(), "final_estimator": "same"},
            ValueError,
            "'same' needs an estimator with predict_proba",
        ),
        ({"final_estimator": NoProbability()}, ValueError, "The 'final_estimator' parameter"),
        (
            {"final_estimator": KNeighborsClassifier()},
            ValueError,
            "KNeighborsClassifier cannot be the final estimator because its fit takes no sample_we",
        ),
        (
            {"final_estimator": make_pipeline(StandardScaler(), KNeighborsClassifier())},
            ValueError,
            "takes no sample_weight",
        ),
        (
            {
                "final_estimator": KNeighborsClassifier(),
                "pseudo_labels": "hard",
                "scenario": "case-control",
            },
            ValueError,
            "takes no sample_weight",
        ),
        ({"final_estimator": KNeighborsClassifier}, TypeError, "an instance, not a class"),
        ({"class_prior": 0.3, "split": "natural"}, ValueError, "class_prior is not used with"),
        ({"final_estimator": None, "pseudo_labels": "ramped"}, ValueError, "needs final_estimator"),
        ({"split": "prior", "n_folds": None}, ValueError, "no positive is held out"),
        ({"threshold": ("budget", 0)}, ValueError, r"\('budget', b\)"),
        ({"device": "gpu"}, ValueError, "device must be 'cpu', 'cuda' or 'cuda:N'"),
        ({"transforms": abs}, ValueError, "need a torch module"),
        ({"transforms": (abs, abs)}, ValueError, "need a torch module"),
    ],
)
def test_settings_that_do_not_go_together(params, error, match, data):
    check_error(FAST.__class__(**(FAST.get_params() | params)), *data[:2], error, match)


@pytest.mark.parametrize("final", [None, "same", LogisticRegression()])
def test_sparse_rows_for_a_model_of_dense_ones(final, data):
    X, s, _ = data
    model = clone(FAST).set_params(final_estimator=final).fit(StandardScaler().fit_transform(X), s)
    sparse = model.predict_proba(csr_matrix(X))
    assert_array_equal(sparse, model.predict_proba(X))


@pytest.mark.parametrize("final", [None, "same"])
def test_long_indices(final, data):
    X, s = StandardScaler().fit_transform(data[0]), data[1]
    model = clone(FAST).set_params(final_estimator=final)
    expected = clone(model).fit(csr_array(X), s).predict_proba(csr_array(X))
    long = csr_array(X)
    long.indices, long.indptr = long.indices.astype(np.int64), long.indptr.astype(np.int64)
    assert_array_equal(model.fit(long, s).predict_proba(long), expected)
    assert long.indices.dtype == np.int64


def test_device_needs_a_module(data, monkeypatch):
    monkeypatch.setattr("pnsklearn._pu_trend._estimator.check_device", lambda device: None)
    model = clone(FAST).set_params(device="cuda")
    check_error(model, *data[:2], ValueError, "device='cuda' needs a torch module")


def test_diverged_training(data):
    model = clone(FAST).set_params(learning_rate=1e30)
    check_error(model, *data[:2], ValueError, "training has diverged")


def test_scores_of_nan():
    model = clone(FAST).set_params(estimator=GaussianNB())
    s = np.arange(300) < 50
    with np.errstate(all="ignore"):
        check_error(model, np.ones((300, 2)), s, ValueError, "GaussianNB returned NaN")


def test_hard_labels_for_models_without_weights(data):
    X, s, y = data
    model = clone(FAST).set_params(
        final_estimator=make_pipeline(StandardScaler(), KNeighborsClassifier()),
        pseudo_labels="hard",
    )
    assert np.mean(model.fit(X, s).predict(X) == y) > 0.85


def test_not_fitted(data):
    for method in ("predict", "predict_proba", "decision_function"):
        with pytest.raises(NotFittedError):
            getattr(clone(FAST), method)(data[0])


def test_failed_refit_keeps_the_model(data, fitted):
    X, s, _ = data
    model = clone(FAST).fit(X, s)
    before = vars(model).copy()
    with pytest.raises(ValueError, match="only one class"):
        model.fit(X[:, :2], np.ones(len(s)))
    assert vars(model).keys() == before.keys()
    assert_array_equal(model.predict_proba(X), fitted.predict_proba(X))
    with pytest.raises(ValueError, match="features"):
        model.predict(X[:, :2])


# Callbacks


class Watcher(Callback):
    """Keep what a callback sees, and stop at a snapshot."""

    def __init__(self, stop_at=None):
        self.stop_at, self.probabilities = stop_at, []

    def on_fit_task_end(self, estimator, context, *, fitted_estimator, X):
        if context.task_name == "snapshot":
            self.probabilities.append(fitted_estimator.predict_proba(X))
            return len(self.probabilities) == self.stop_at
        return False


@pytest.mark.parametrize("estimator", ["linear", "mlp", GaussianNB()])
def test_callback_per_snapshot(estimator, data):
    X, s, y = data
    model = clone(FAST).set_params(estimator=estimator, final_estimator=None, n_folds=2)
    watcher = Watcher()
    watched = fit_quietly(clone(model).set_callbacks(watcher), X, s)
    assert len(watcher.probabilities) == watched.n_iter_ == 4
    for probability in watcher.probabilities:
        assert_allclose(probability.sum(axis=1), 1)
    assert roc_auc_score(y, watcher.probabilities[-1][:, 1]) > 0.9
    plain = fit_quietly(clone(model), X, s)
    assert_array_equal(watched.predict_proba(X), plain.predict_proba(X))


@pytest.mark.parametrize("trend", ["mean", "slope"])
@pytest.mark.parametrize("stop_at", [1, 2])
def test_callback_stops(stop_at, trend, data):
    X, s, _ = data
    model = clone(FAST).set_params(split="authors", trend=trend)  # which uses all snapshots
    stopped = fit_quietly(clone(model).set_callbacks(Watcher(stop_at)), X, s)
    assert stopped.n_iter_ == stop_at and stopped.stop_snapshot_ == stop_at - 1
    whole = fit_quietly(clone(model), X, s)
    positive, expected = stopped.snapshot_quantiles_[0], whole.snapshot_quantiles_[0]
    assert_array_equal(positive, expected[:stop_at])
    assert np.isfinite(stopped.predict_proba(X)).all()


def test_auto_calls_back_for_both_models(data):
    watcher = Watcher()
    model = clone(FAST).set_params(estimator="auto").set_callbacks(watcher)
    model.fit(*data[:2])
    assert len(watcher.probabilities) == 8 and model.n_iter_ == 4


# Within scikit-learn


@pytest.mark.parametrize("name", ["lee_liu", "labeled_auc"])
def test_grid_search_without_negatives(name):
    X, s, y = gaussians(0, 500, gap=3.0)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), clone(FAST)),
        {"putrendclassifier__learning_rate": [0.01, 0.1]},
        scoring=make_pu_scorer(name),
        cv=StratifiedKFold(3),
        error_score="raise",
    )
    fit_quietly(search, X, s)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert np.mean(search.predict(X) == y) > 0.85


def test_mixed_scales_in_a_pipeline(data):
    X, s, y = data
    pipe = make_pipeline(StandardScaler(), clone(FAST)).fit(X, s)
    assert np.mean(pipe.predict(X) == y) > 0.85
    # The scaling within makes that of the pipeline superfluous.
    alone = clone(FAST).fit(X, s)
    assert_allclose(pipe[-1].trend_scores_, alone.trend_scores_, atol=1e-3)


# Torch


def test_torch_module(global_random_seed):
    torch = pytest.importorskip("torch")
    X, s, y = gaussians(global_random_seed, 400, gap=3.0, n_labeled=60)
    X = StandardScaler().fit_transform(X)

    def module():
        layers = torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1)
        return torch.nn.Sequential(*layers)

    model = PUTrendClassifier(
        module, n_snapshots=2, n_passes=1, n_folds=2, batch_size=128, random_state=0
    )
    first, second = (fit_quietly(clone(model), X, s) for _ in range(2))
    assert np.mean(first.predict(X) == y) > 0.85
    assert first.selected_estimator_ == "module"
    assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    # Weights of one are no weights.
    weighted = fit_quietly(clone(model), X, s, np.ones(len(s)))
    assert_array_equal(first.predict_proba(X), weighted.predict_proba(X))
    # Another second stage.
    trees = fit_quietly(clone(model).set_params(final_estimator=GaussianNB()), X, s)
    assert_array_equal(trees.trend_scores_, first.trend_scores_)
    assert np.mean(trees.predict(X) == y) > 0.85


def test_torch_module_of_images():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    y = np.arange(200) < 100
    X = rng.normal(size=(200, 1, 6, 6)).astype(np.float32)
    X[y, :, 2:4, 2:4] += 2
    s = np.arange(200) < 40

    def module():
        layers = torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten()
        return torch.nn.Sequential(*layers, torch.nn.Linear(64, 1))

    model = PUTrendClassifier(
        module, n_snapshots=2, n_passes=1, n_folds=2, pseudo_labels="ramped", random_state=0,
        transforms=(lambda batch: batch.flip(3), lambda batch: batch.flip(2)),
    )  # fmt: skip
    fit_quietly(model, X, s)
    assert np.mean(model.predict(X) == y) > 0.8
    with pytest.raises(TypeError, match="Sparse data was passed"):
        model.fit(csr_matrix(X.reshape(200, -1)), s)


def test_torch_errors(data):
    torch = pytest.importorskip("torch")
    X, s, _ = data
    model = clone(FAST).set_params(estimator=lambda: torch.nn.Linear(4, 2))
    check_error(model, X, s, ValueError, "one logit per row")
    for wrong in ((abs,), (abs, None), (abs, abs, abs)):
        model = clone(FAST).set_params(estimator=lambda: torch.nn.Linear(4, 1), transforms=wrong)
        check_error(model, X, s, ValueError, "transforms must be None, a function, or a tuple of")


def test_torch_missing(data, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    model = clone(FAST).set_params(estimator=lambda: None)
    check_error(model, *data[:2], ImportError, r"pip install 'pnsklearn\[torch\]'")


def test_metadata_routing_is_no_matter(data):
    X, s, _ = data
    model = PUTrendClassifier("linear", n_snapshots=4, random_state=0)
    expected = clone(model).fit(X, s).predict_proba(X)
    with config_context(enable_metadata_routing=True, transform_output="pandas"):
        assert_allclose(clone(model).fit(X, s).predict_proba(X), expected)
        fit_quietly(clone(model), csr_matrix(X), s)


def test_weights_that_sum_to_one(data):
    """They count as many rows as there are."""
    X, s, _ = data
    expected = clone(FAST).fit(X, s).predict_proba(X)
    weighted = clone(FAST).fit(X, s, np.full(len(s), 1 / len(s)))
    assert_allclose(weighted.predict_proba(X), expected, atol=0.02)


def test_many_rows_are_sampled(data, fitted, monkeypatch):
    """And what has an entry per row has it for those that were used."""
    monkeypatch.setattr("pnsklearn._pu_trend._solver.MOST_ROWS", 400)
    X, s, y = data
    model = clone(FAST).fit(X, s)
    assert len(model.rows_) == 500 and len(model.trend_scores_) == 400
    assert_array_equal(np.sort(model.rows_[s[model.rows_] == 1]), np.flatnonzero(s))
    hidden = y[model.rows_][s[model.rows_] == 0]
    assert np.mean(model.transduction_ == hidden) > 0.85
    assert np.mean(model.predict(X) == y) > 0.85
    # The unlabeled rows still stand for 700 in the population.
    assert model.predict_proba(X)[:, 1].mean() == pytest.approx(
        fitted.predict_proba(X)[:, 1].mean(), abs=0.04
    )
    assert_array_equal(fitted.rows_, np.arange(len(s)))


def test_few_positives(data):
    """The share is still estimated, less certainly, and the table says how few they are."""
    X, s, y = data
    few = s * (np.cumsum(s) <= 12)
    model = fit_quietly(clone(FAST), X, few)
    width, usual = (np.diff(m.class_prior_interval_) for m in (model, clone(FAST).fit(X, s)))
    assert width > usual
    assert model.diagnostics_[1] == ("labeled positives", 12, 20, "few")
    assert np.mean(model.predict(X) == y) > 0.75


def test_a_single_positive_is_no_sample(data):
    X, s, _ = data
    model = clone(FAST)
    messages = warnings_of(model, X, s * (np.cumsum(s) <= 1))
    assert "share of positives is not estimated" in messages
    assert np.isnan(model.class_prior_interval_).all() and np.isnan(model.doubt_)


def test_huge_column_does_not_hide_different_rows():
    rng = np.random.default_rng(0)
    X = np.column_stack([np.full(120, 1.7e18), rng.normal(size=(120, 3))])
    s = np.arange(120) < 30
    X[:30, 1:] += 2
    model = fit_quietly(clone(FAST), X, s)
    assert len(np.unique(model.heldout_trend_scores_)) > 20
