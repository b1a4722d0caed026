"""PU scores against the true scores of the hidden labels, and against exact cases."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit
from sklearn import metrics as true_metrics
from sklearn import set_config
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, TunedThresholdClassifierCV, cross_val_score

from pnsklearn import metrics
from pnsklearn.datasets import make_pu

SCENARIOS = ["single", "case-control"]
# name: (function, the true score, takes predictions rather than scores)
SCORES = {
    "pu_precision_score": (true_metrics.precision_score, True),
    "pu_f1_score": (true_metrics.f1_score, True),
    "pu_accuracy_score": (true_metrics.accuracy_score, True),
    "pu_average_precision_score": (true_metrics.average_precision_score, False),
}
WITH_SCENARIO = [*SCORES, "lee_liu_score", "nnpu_risk"]
WITH_PRIOR = [*SCORES, "pu_roc_auc_score", "nnpu_risk"]
OF_PREDICTIONS = [name for name in SCORES if SCORES[name][1]] + ["lee_liu_score"]


class Problem:
    """Two overlapping normal classes, some positives of which are labeled."""

    def __init__(self, seed, scenario, n_positive=30_000, n_unlabeled=200_000, prior=0.3):
        rng = np.random.default_rng(seed)
        hidden = rng.uniform(size=n_unlabeled) < prior
        self.prior = hidden.mean()
        self.y = np.concatenate([np.ones(n_positive), hidden]).astype(int)
        self.s = (np.arange(self.y.shape[0]) < n_positive).astype(int)
        self.scores = rng.standard_normal(self.y.shape[0]) + 1.5 * self.y - 1.0
        self.y_pred = (self.scores > 0).astype(int)
        self.population = np.ones_like(self.y, dtype=bool) if scenario == "single" else self.s == 0

    def arguments(self, name):
        return self.s, self.y_pred if name in OF_PREDICTIONS else self.scores

    def truth(self, score, of_predictions):
        values = self.y_pred if of_predictions else self.scores
        return score(self.y[self.population], values[self.population])


def call(name, s, values, class_prior=0.3, scenario="single", **kwargs):
    if name in WITH_PRIOR:
        kwargs["class_prior"] = class_prior
    if name in WITH_SCENARIO:
        kwargs["scenario"] = scenario
    return getattr(metrics, name)(s, values, **kwargs)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("name", SCORES)
def test_true_score(name, scenario, global_random_seed):
    problem = Problem(global_random_seed, scenario)
    estimate = call(name, *problem.arguments(name), problem.prior, scenario)
    assert estimate == pytest.approx(problem.truth(*SCORES[name]), abs=0.015)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_true_score_of_the_rest(scenario, global_random_seed):
    problem = Problem(global_random_seed, scenario)
    recall = problem.truth(true_metrics.recall_score, True)
    precision = problem.truth(true_metrics.precision_score, True)
    predictions = problem.arguments("lee_liu_score")
    assert metrics.lee_liu_score(*predictions, scenario=scenario) == pytest.approx(
        precision * recall / problem.y[problem.population].mean(), rel=0.03
    )
    scores = problem.arguments("pu_roc_auc_score")
    assert metrics.pu_roc_auc_score(*scores, class_prior=problem.prior) == pytest.approx(
        problem.truth(true_metrics.roc_auc_score, False), abs=0.01
    )
    population_prior = problem.y.mean()  # a common mistake, and how wrong it is
    assert metrics.pu_roc_auc_score(*scores, class_prior=population_prior) > 0.87


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("loss", ["sigmoid", "logistic"])
def test_true_risk(loss, scenario, global_random_seed):
    problem = Problem(global_random_seed, scenario)
    rows = problem.population
    margin = np.where(problem.y == 1, problem.scores, -problem.scores)[rows]
    losses = expit(-margin) if loss == "sigmoid" else np.log1p(np.exp(-margin))
    for non_negative in (True, False):
        risk = metrics.nnpu_risk(
            *problem.arguments("nnpu_risk"),
            class_prior=problem.prior,
            loss=loss,
            scenario=scenario,
            non_negative=non_negative,
        )
        assert risk == pytest.approx(losses.mean(), abs=0.015)


def test_all_positives_labeled_is_the_usual_score(global_random_seed):
    # Prior 0 in the single scenario: U are the negatives, and nothing is estimated.
    rng = np.random.default_rng(global_random_seed)
    y = (np.arange(200) % 3 == 0).astype(int)
    scores = np.round(rng.standard_normal(200) + y, 1)  # ties
    weight = rng.integers(0, 4, 200)
    y_pred = (scores > 0.5).astype(int)
    for name, (score, of_predictions) in SCORES.items():
        values = y_pred if of_predictions else scores
        expected = score(y, values, sample_weight=weight)
        assert call(name, y, values, 0, sample_weight=weight) == pytest.approx(expected)
    auc = true_metrics.roc_auc_score(y, scores, sample_weight=weight)
    assert call("pu_roc_auc_score", y, scores, 0, sample_weight=weight) == pytest.approx(auc)
    log_loss = true_metrics.log_loss(y, expit(scores), sample_weight=weight)
    for non_negative in (True, False):
        risk = call(
            "nnpu_risk",
            y,
            scores,
            0,
            sample_weight=weight,
            loss="logistic",
            non_negative=non_negative,
        )
        assert risk == pytest.approx(log_loss)


def test_exact_shares():
    # 4 labeled, 3 found; 10 unlabeled, 4 predicted positive; 40 % of them are.
    s, y_pred = np.repeat([1, 0], [4, 10]), np.repeat([1, 0, 1, 0], [3, 1, 4, 6])
    recall, prior = 3 / 4, 0.4
    for scenario, alpha, predicted in (("single", 8 / 14, 7 / 14), ("case-control", 0.4, 0.4)):
        expected = {
            "lee_liu_score": recall**2 / predicted,
            "pu_precision_score": alpha * recall / predicted,
            "pu_f1_score": 2 * alpha * recall / (predicted + alpha),
            "pu_accuracy_score": 1 - alpha - predicted + 2 * alpha * recall,
        }
        for name, value in expected.items():
            assert call(name, s, y_pred, prior, scenario) == pytest.approx(value)


def test_accuracy_and_risk_agree(global_random_seed):
    # With scores of +-60 both losses are errors, up to e^-60 and a factor of 60.
    rng = np.random.default_rng(global_random_seed)
    s, y_pred = rng.integers(0, 2, 300), rng.integers(0, 2, 300)
    for scenario in SCENARIOS:
        accuracy = call("pu_accuracy_score", s, y_pred, 0.4, scenario)
        risk = call("nnpu_risk", s, 120 * y_pred - 60, 0.4, scenario, non_negative=False)
        assert accuracy == pytest.approx(1 - risk)


def test_clipping():
    s, y_pred, scores = [1, 1, 0, 0], [1, 1, 0, 0], [3.0, 2.0, 1.0, 0.0]
    for name in ("pu_precision_score", "pu_f1_score"):
        assert call(name, s, y_pred, 0.9) == 1
    for name in ("pu_roc_auc_score", "pu_average_precision_score"):
        assert call(name, s, scores, 0.9) == 1
    assert call("pu_roc_auc_score", s, np.negative(scores), 0.9) == 0
    assert call("pu_accuracy_score", s, [0, 0, 1, 1], 0.9, "case-control") == 0
    assert call("nnpu_risk", s, 60 * np.array([1, 1, -1, -1]), 0.9) == pytest.approx(0)
    assert call("nnpu_risk", s, 60 * np.array([1, 1, -1, -1]), 0.9, non_negative=False) < -0.4


def test_nothing_predicted_positive():
    for name in OF_PREDICTIONS:
        expected = 0.5 if name == "pu_accuracy_score" else 0
        assert call(name, [1, 0, 0, 0], [0, 0, 0, 0], 1 / 3) == pytest.approx(expected)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("name", [*WITH_PRIOR, "lee_liu_score"])
def test_weights_are_repetitions(name, scenario, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    s = (np.arange(60) < 20).astype(int)
    scores = np.round(rng.standard_normal(60) + 0.5 * s, 1)
    values = (scores > 0.3).astype(int) if name in OF_PREDICTIONS else scores
    times = np.arange(60) % 4
    weighted = call(name, s, values, 0.2, scenario, sample_weight=times)
    repeated = call(name, np.repeat(s, times), np.repeat(values, times), 0.2, scenario)
    assert weighted == pytest.approx(repeated, abs=1e-12)
    assert type(weighted) is float


@pytest.mark.parametrize(
    "labels, pos_label",
    [([-1, 1], None), ([False, True], None), (["ok", "fraud"], "fraud"), ([1, 2], 2), ([2, 1], 1)],
)
def test_labels(labels, pos_label, global_random_seed):
    problem = Problem(global_random_seed, "single", 50, 200)
    for name in [*WITH_PRIOR, "lee_liu_score"]:
        s, values = problem.arguments(name)
        expected = call(name, s, values)
        named = np.array(labels)[values] if name in OF_PREDICTIONS else values
        assert call(name, np.array(labels)[s], named, pos_label=pos_label) == expected
        if pos_label is not None:
            with pytest.raises(ValueError, match=f"Which label marks.*pos_label={pos_label!r}"):
                call(name, np.array(labels)[s], named)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA], ids=str)
def test_missing_labels_mean_unlabeled(missing, global_random_seed):
    problem = Problem(global_random_seed, "single", 50, 200)
    for label, negative in ((1, 0), ("fraud", "not fraud")):
        given = pd.Series([missing, label], dtype=object)[problem.s]
        for name in [*WITH_PRIOR, "lee_liu_score"]:
            s, values = problem.arguments(name)
            named = np.array([negative, label])[values] if name in OF_PREDICTIONS else values
            assert call(name, given, named) == call(name, s, values)


@pytest.mark.parametrize(
    "s, values, weight, message",
    [
        ([1, 1], [1, 1], None, "two values.* got 1"),
        ([0, 1, 2], [1, 1, 1], None, "two values.* got 3"),
        ([0, 1], [1, 1, 0], None, "inconsistent"),
        ([0, 1], [[1], [0]], None, r"shape \(n_samples,\)"),
        ([0, 1], [0, 1], [1, 0], "No labeled row"),
        ([0, 1], [0, 1], [0, 1], "No unlabeled row"),
        ([0, 1], [0, 1], [1, -1], "Negative values"),
    ],
)
@pytest.mark.parametrize("name", [*WITH_PRIOR, "lee_liu_score"])
def test_bad_input(name, s, values, weight, message):
    with pytest.raises(ValueError, match=message):
        call(name, s, values, sample_weight=weight)


def test_bad_predictions_and_scores():
    with pytest.raises(ValueError, match=r"two values of s_true, 0 and 1.* got 2"):
        metrics.lee_liu_score([0, 1, 0], [0, 1, 2])
    with pytest.raises(ValueError, match="NaN"):
        metrics.pu_roc_auc_score([0, 1], [0.0, np.nan], class_prior=0.1)


@pytest.mark.parametrize("name", WITH_PRIOR)
def test_bad_parameters(name):
    for prior in (1.0, -0.1):
        with pytest.raises(ValueError, match="'class_prior' parameter"):
            call(name, [0, 1], [0, 1], prior)
    if name in WITH_SCENARIO:
        with pytest.raises(ValueError, match="'scenario' parameter"):
            call(name, [0, 1], [0, 1], scenario="both")


@pytest.fixture(scope="module")
def labeled_data():
    X, y = make_classification(600, n_informative=4, class_sep=1.5, random_state=0)
    X, s, y_true = make_pu(X, y, label_frequency=0.4, random_state=0)
    return X, s, y_true, y_true[s == 0].mean()


SCORER_FUNCTIONS = {
    "lee_liu": "lee_liu_score",
    "precision": "pu_precision_score",
    "f1": "pu_f1_score",
    "accuracy": "pu_accuracy_score",
    "roc_auc": "pu_roc_auc_score",
    "average_precision": "pu_average_precision_score",
    "nnpu_risk": "nnpu_risk",
}


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("name", SCORER_FUNCTIONS)
def test_scorer(name, scenario, labeled_data):
    X, s, _, prior = labeled_data
    scorer = metrics.make_pu_scorer(name, class_prior=prior, scenario=scenario)
    model = LogisticRegression(class_weight="balanced").fit(X, s)
    function = SCORER_FUNCTIONS[name]
    values = model.predict(X) if function in OF_PREDICTIONS else model.decision_function(X)
    sign = -1 if name == "nnpu_risk" else 1
    assert scorer(model, X, s) == sign * call(function, s, values, prior, scenario)
    weight = np.arange(X.shape[0]) % 3
    assert scorer(model, X, s, sample_weight=weight) == sign * call(
        function, s, values, prior, scenario, sample_weight=weight
    )
    names = np.array(["ok", "fraud"])  # the smaller is positive
    scorer = metrics.make_pu_scorer(name, class_prior=prior, scenario=scenario, pos_label="fraud")
    named = LogisticRegression(class_weight="balanced").fit(X, names[s])
    assert scorer(named, X, names[s]) == pytest.approx(
        sign * call(function, s, values, prior, scenario)
    )
    search = GridSearchCV(
        LogisticRegression(class_weight="balanced"), {"C": [1e-4, 1.0]}, scoring=scorer
    ).fit(X, names[s])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("labels", [[0, 1], [1, 2], ["a", "b"], [False, True]], ids=str)
def test_scorers_that_scikit_learn_has(labels, labeled_data):
    X, s, _, _ = labeled_data
    y, weight = np.array(labels)[s], np.arange(X.shape[0]) % 3
    model = LogisticRegression(class_weight="balanced").fit(X, y)
    recall = np.average((model.predict(X) == labels[1])[s == 1], weights=weight[s == 1])
    auc = true_metrics.roc_auc_score(s, model.decision_function(X), sample_weight=weight)
    pos_label = None if labels[0] == 0 else labels[1]
    for name, expected in (("recall", recall), ("labeled_auc", auc)):
        scorer = metrics.make_pu_scorer(
            name, class_prior=0.3, scenario="case-control", pos_label=pos_label
        )
        assert scorer(model, X, y, sample_weight=weight) == pytest.approx(expected)


def test_lee_liu_finds_the_threshold(labeled_data):
    # U as negative makes a model that predicts too few positives; no prior is needed to see it.
    X, s, y_true, _ = labeled_data
    plain = LogisticRegression().fit(X, s)
    tuned = TunedThresholdClassifierCV(
        LogisticRegression(), scoring=metrics.make_pu_scorer("lee_liu")
    ).fit(X, s)
    assert tuned.score(X, y_true) > plain.score(X, y_true) + 0.1


def test_scorer_routes_weights(labeled_data):
    X, s, _, _ = labeled_data
    weight = np.arange(X.shape[0]) % 3 + 1.0
    set_config(enable_metadata_routing=True)
    try:
        scorer = metrics.make_pu_scorer("lee_liu").set_score_request(sample_weight=True)
        model = LogisticRegression(class_weight="balanced").set_fit_request(sample_weight=False)
        weighted = cross_val_score(model, X, s, scoring=scorer, params={"sample_weight": weight})
        plain = cross_val_score(model, X, s, scoring=metrics.make_pu_scorer("lee_liu"))
    finally:
        set_config(enable_metadata_routing=False)
    assert not np.allclose(weighted, plain)
    assert_allclose(weighted, plain, rtol=0.3)


def test_bad_scorer():
    with pytest.raises(ValueError, match=r"'f1' needs class_prior"):
        metrics.make_pu_scorer("f1")
    with pytest.raises(ValueError, match="'name' parameter"):
        metrics.make_pu_scorer("auc")
