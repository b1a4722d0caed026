"""AUPRCStackingClassifier as an estimator: parameters, routing, prefit members, edges."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pnsklearn import AUPRCStackingClassifier
from pnsklearn.datasets import make_rare_positives
from tests.callbacks import Callback

X, Y = make_rare_positives(300, 4, prior=0.2, random_state=0)
MEMBERS = [
    ("logistic", make_pipeline(StandardScaler(), LogisticRegression())),
    ("bayes", GaussianNB()),
    ("trees", ExtraTreesClassifier(10, random_state=0)),
]


def stack(members=MEMBERS, **params):
    return AUPRCStackingClassifier(members, **{"cv": 3, **params})


def test_the_anchor_shrinks_to_the_average_by_the_number_of_positives():
    fitted = stack(alpha=np.inf).fit(X, Y)
    logistic = stack(alpha=np.inf, anchor="logistic").fit(X, Y).coef_[0]
    n_positive = Y.sum()
    trust = n_positive / (n_positive + 30)
    expected = trust * logistic / logistic.sum() + (1 - trust) / 3
    assert_allclose(fitted.coef_[0] / fitted.coef_.sum(), expected, rtol=1e-6)
    average = stack(alpha=np.inf, anchor="average").fit(X, Y).coef_[0]
    assert_allclose(average, average[0])
    assert (fitted.coef_ >= 0).all()


def test_predictions_agree_with_each_other():
    labels = np.where(Y == 1, "yes", "no")
    fitted = stack().fit(X, labels)
    assert_array_equal(fitted.classes_, ["no", "yes"])
    log_odds, probability = fitted.decision_function(X), fitted.predict_proba(X)
    assert_allclose(probability[:, 1], 1 / (1 + np.exp(-log_odds)))
    assert_array_equal(fitted.predict(X), np.where(log_odds > 0, "yes", "no"))
    Z = (fitted.transform(X) * fitted.scale_ + fitted.center_)[:, 0]
    assert_allclose(Z, fitted.named_estimators_["logistic"].decision_function(X))
    assert_allclose(fitted.transform(X) @ fitted.coef_[0] + fitted.intercept_, log_odds)
    names = [f"auprcstackingclassifier_{name}" for name, _ in MEMBERS]
    assert_array_equal(fitted.get_feature_names_out(), names)


def test_a_review_budget():
    fitted = stack(threshold=("budget", 0.1)).fit(X, Y)
    held_out = (fitted.oof_decision_function_ - fitted.center_) / fitted.scale_
    assert fitted.final_estimator_.predict(held_out).mean() == pytest.approx(0.1, abs=1e-9)
    with pytest.raises(ValueError, match="threshold must be"):
        stack(threshold=("budget", 0.0)).fit(X, Y)


def test_n_jobs_and_a_second_fit_change_nothing():
    default = AUPRCStackingClassifier(random_state=0, cv=2)
    expected = default.fit(X, Y).decision_function(X)
    assert_array_equal(default.fit(X, Y).decision_function(X), expected)
    parallel = clone(default).set_params(n_jobs=2).fit(X, Y)
    assert_array_equal(parallel.decision_function(X), expected)


def test_nested_parameters_and_dropping():
    assert "logistic__logisticregression__C" in stack().get_params()
    search = GridSearchCV(
        stack(), {"logistic__logisticregression__C": [0.1], "bayes": ["drop"]}, cv=2
    )
    best = search.fit(X, Y).best_estimator_
    assert list(best.named_estimators_) == ["logistic", "trees"]
    assert best.estimators_[0][-1].C == 0.1
    again = pickle.loads(pickle.dumps(best))
    assert_array_equal(again.predict_proba(X), best.predict_proba(X))
    assert AUPRCStackingClassifier().named_estimators == {}
    for model in (AUPRCStackingClassifier(), stack(), best):
        assert "AUPRCStackingClassifier" in model._repr_html_()


def test_callbacks_see_each_fit_by_name():
    seen = []

    class Names(Callback):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
            seen.append((context.task_name, fitted_estimator is not None))

    stack(MEMBERS[:2], cv=2).set_callbacks(Names()).fit(X, Y)
    fits = [f"{n}, split {k} of 2" for n in ("logistic", "bayes") for k in (1, 2)]
    fits += ["logistic, all rows", "bayes, all rows"]
    assert seen == [*[(name, False) for name in fits], ("fit", True)]


def test_groups_reach_the_splitter():
    groups = np.arange(300) // 5
    fitted = stack(cv=GroupKFold(3)).fit(X, Y, groups=groups)
    expected = stack(cv=list(GroupKFold(3).split(X, Y, groups))).fit(X, Y)
    assert_array_equal(fitted.decision_function(X), expected.decision_function(X))
    with pytest.raises(ValueError, match="cv=3 does not split by groups; pass a splitter"):
        stack().fit(X, Y, groups=groups)
    with config_context(enable_metadata_routing=True):
        model = stack(MEMBERS[1:2], cv=GroupKFold(3))
        model.set_params(bayes=GaussianNB().set_fit_request(sample_weight=True))
        model.set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
        weight = np.linspace(0.5, 1.5, 300)
        routed = model.fit(X, Y, sample_weight=weight, groups=groups)
        scores = cross_val_score(
            model, X, Y, cv=GroupKFold(2), params={"groups": groups, "sample_weight": weight}
        )
        default = AUPRCStackingClassifier(cv=2, random_state=0).fit(X, Y, weight)
    assert np.isfinite(scores).all()
    plain = stack(MEMBERS[1:2], cv=GroupKFold(3)).fit(X, Y, weight, groups=groups)
    assert_allclose(routed.decision_function(X), plain.decision_function(X))
    unrouted = AUPRCStackingClassifier(cv=2, random_state=0).fit(X, Y, weight)
    assert_array_equal(default.decision_function(X), unrouted.decision_function(X))


def test_members_fitted_before():
    old, new = slice(0, 150), slice(150, 300)
    members = [(name, clone(member).fit(X[old], Y[old])) for name, member in MEMBERS]
    fitted = stack(members, cv="prefit").fit(X[new], Y[new])
    assert fitted.estimators_[0] is members[0][1]
    logistic = members[0][1].decision_function(X[new])
    assert_allclose(fitted.oof_decision_function_[:, 0], logistic)
    neighbors = [("neighbors", KNeighborsClassifier().fit(X[old], Y[old])), members[0]]
    stack(neighbors, cv="prefit").fit(X[new], Y[new], np.ones(150))  # they need no weights any more
    overfit = [("nearest", KNeighborsClassifier(1).fit(X, Y)), members[0]]
    with pytest.warns(UserWarning, match="Member 'nearest' ranks the rows without an error"):
        stack(overfit, cv="prefit").fit(X, Y)
    with pytest.raises(ValueError, match="was fitted with the labels"):
        stack([("two", GaussianNB().fit(X, Y + 1))], cv="prefit").fit(X, Y)
    with pytest.raises(ValueError, match="needs estimators, which were fitted"):
        AUPRCStackingClassifier(cv="prefit").fit(X, Y)


def test_several_classes_one_against_the_rest():
    features, target = load_iris(return_X_y=True)
    model = OneVsRestClassifier(stack()).fit(features, target)
    precision = [
        average_precision_score(target == label, model.predict_proba(features)[:, label])
        for label in range(3)
    ]
    assert np.mean(precision) > 0.97
    with pytest.raises(ValueError, match="Wrap the estimator in OneVsRestClassifier"):
        stack().fit(features, target)


def test_few_positives():
    y = np.zeros(300, dtype=int)
    y[np.argsort(X[:, 0])[-2:]] = 1
    fitted = stack(MEMBERS[::2], cv=5).fit(X, y)  # two splits, and no warning
    assert np.isfinite(fitted.decision_function(X)).all()
    y[np.argmax(X[:, 0])] = 0
    with pytest.raises(ValueError, match="A class has one sample"):
        stack(MEMBERS[::2]).fit(X, y)


@pytest.mark.parametrize(
    "X, y, match",
    [
        (X, np.zeros(300), "only one class"),
        (X[:0], Y[:0], r"0 sample\(s\)"),
        (X[:10], Y, "inconsistent numbers of samples"),
        (X, np.where(Y == 1, np.nan, 0.0), "contains NaN"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(X, y, match):
    with pytest.raises(ValueError, match=match):
        stack().fit(X, y)


@pytest.mark.parametrize(
    "members, match",
    [
        ([0.1, 0.9], "must be a list of pairs"),
        ([("stack", GaussianNB())], "cannot be named 'stack'"),
        ([("a", GaussianNB()), ("a", GaussianNB())], "not unique"),
    ],
)
def test_bad_members_are_refused(members, match):
    with pytest.raises(ValueError, match=match):
        stack(members).fit(X, Y)


@pytest.mark.parametrize("anchor", [[1.0], [1.0, np.nan, 1.0], [1.0, -1.0, 1.0]])
def test_bad_anchors_are_refused(anchor):
    with pytest.raises(ValueError, match="anchor"):
        stack(anchor=anchor).fit(X, Y)
