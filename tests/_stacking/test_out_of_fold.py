"""Held-out log-odds, against scikit-learn's own cross-validation."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import BaggingClassifier, ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import (
    RepeatedStratifiedKFold,
    StratifiedKFold,
    TimeSeriesSplit,
    cross_val_predict,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pnsklearn import AUPRCClassifier, AUPRCStackingClassifier
from pnsklearn.datasets import make_rare_positives

X, Y = make_rare_positives(300, 4, prior=0.2, random_state=0)
PIPE = make_pipeline(StandardScaler(), LogisticRegression())
MEMBERS = [("logistic", PIPE), ("bayes", GaussianNB())]
SPLITS = list(StratifiedKFold(3, shuffle=True, random_state=0).split(X, Y))


def test_held_out_values_are_those_of_cross_val_predict():
    stack = AUPRCStackingClassifier(MEMBERS, cv=SPLITS).fit(X, Y)
    held_out = stack.oof_decision_function_
    expected = cross_val_predict(PIPE, X, Y, cv=SPLITS, method="decision_function")
    assert_allclose(held_out[:, 0], expected)
    share = cross_val_predict(GaussianNB(), X, Y, cv=SPLITS, method="predict_proba")[:, 1]
    assert_allclose(held_out[:, 1], logit((200 * share + 0.5) / 201), rtol=1e-10)
    for (name, member), column in zip(MEMBERS, held_out.T, strict=True):
        found = [average_precision_score(Y[test], column[test]) for _, test in SPLITS]
        expected = np.mean(found), np.std(found, ddof=1) / np.sqrt(3)
        assert_allclose(stack.oof_average_precision_[name], expected)
        assert_allclose(
            stack.named_estimators_[name].predict_proba(X), member.fit(X, Y).predict_proba(X)
        )


def test_the_head_is_an_auprc_classifier_of_the_standardised_values():
    stack = AUPRCStackingClassifier(MEMBERS, cv=SPLITS).fit(X, Y)
    Z = stack.oof_decision_function_
    Z = (Z - Z.mean(axis=0)) / Z.std(axis=0)
    settings = {"positive": True, "anchor": "shrunk", "cv": SPLITS}
    head = AUPRCClassifier(alpha="cv-1se", **settings).fit(Z, Y)
    assert_allclose(stack.coef_, head.coef_, rtol=1e-8)
    assert_allclose(stack.decision_function(X), head.decision_function(stack.transform(X)))
    # The stack's own precision is that of weights from the other splits.
    found = []
    for train, test in SPLITS:
        fixed = AUPRCClassifier(alpha=head.alpha_, **settings).fit(Z[train], Y[train])
        found.append(average_precision_score(Y[test], fixed.decision_function(Z[test])))
    assert_allclose(stack.oof_average_precision_["stack"][0], np.mean(found))


def test_one_member_ranks_as_it_does_alone():
    stack = AUPRCStackingClassifier(MEMBERS[:1], cv=SPLITS).fit(X, Y)
    alone = PIPE.fit(X, Y).decision_function(X)
    assert_array_equal(np.argsort(stack.decision_function(X)), np.argsort(alone))


@pytest.mark.parametrize(
    "forest",
    [
        ExtraTreesClassifier(7, random_state=0),
        make_pipeline(StandardScaler(), RandomForestClassifier(7, random_state=0)),
        BaggingClassifier(n_estimators=7, random_state=0),
    ],
)
def test_shares_of_votes_are_smoothed_by_the_number_of_votes(forest):
    stack = AUPRCStackingClassifier([("forest", forest)], cv=SPLITS).fit(X, Y)
    share = cross_val_predict(forest, X, Y, cv=SPLITS, method="predict_proba")[:, 1]
    assert_allclose(stack.oof_decision_function_[:, 0], logit((7 * share + 0.5) / 8))


def test_rows_may_be_tested_often_or_never():
    twice = RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=0)
    held_out = AUPRCStackingClassifier(MEMBERS[:1], cv=twice).fit(X, Y).oof_decision_function_
    splits = list(twice.split(X, Y))
    repeats = [
        cross_val_predict(PIPE, X, Y, cv=part, method="decision_function")
        for part in (splits[:3], splits[3:])
    ]
    assert_allclose(held_out[:, 0], np.mean(repeats, axis=0))

    stack = AUPRCStackingClassifier(MEMBERS, cv=TimeSeriesSplit(3)).fit(X, Y)
    (train, first), *_ = TimeSeriesSplit(3).split(X)
    held_out = stack.oof_decision_function_
    assert np.isnan(held_out[train]).all()
    expected = PIPE.fit(X[train], Y[train]).decision_function(X[first])
    assert_allclose(held_out[first, 0], expected)
    assert np.isfinite(stack.decision_function(X)).all()


class Weighted(ClassifierMixin, BaseEstimator):
    """A nearest mean of two, that keeps the weights it was given."""

    def fit(self, X, y, sample_weight=None):
        self.classes_, self.weight_ = np.unique(y), sample_weight
        self.slope_ = X[y == 1].mean(axis=0) - X[y == 0].mean(axis=0)
        return self

    def decision_function(self, X):
        return X @ self.slope_


def test_weights_reach_the_last_step_of_a_pipeline_and_rows_of_none_are_left_out():
    weight = np.arange(300) % 3 + 0.0
    nested = make_pipeline(StandardScaler(), make_pipeline(StandardScaler(), Weighted()))
    members = [("plain", Weighted()), ("nested", nested)]
    stack = AUPRCStackingClassifier(members, cv=3).fit(X, Y, weight)
    kept = weight > 0
    assert_array_equal(stack.estimators_[0].weight_, weight[kept])
    assert_array_equal(stack.estimators_[1][-1][-1].weight_, weight[kept])
    assert_array_equal(np.isnan(stack.oof_decision_function_[:, 0]), ~kept)
    found = [StratifiedKFold(3).split(X[kept], Y[kept])]
    train, test = next(found[0])
    slope = Weighted().fit(X[kept][train], Y[kept][train]).slope_
    assert_allclose(stack.oof_decision_function_[kept, 0][test], X[kept][test] @ slope)


def test_a_member_without_weights_is_named():
    members = [*MEMBERS, ("neighbors", make_pipeline(StandardScaler(), KNeighborsClassifier()))]
    AUPRCStackingClassifier(members, cv=2).fit(X, Y)
    with pytest.raises(ValueError, match="Member 'neighbors', KNeighborsClassifier, takes no"):
        AUPRCStackingClassifier(members, cv=2).fit(X, Y, np.ones(300))


class Failing(ClassifierMixin, BaseEstimator):
    """Raises, or returns what it is told to."""

    def __init__(self, error=None, value=0.0):
        self.error = error
        self.value = value

    def fit(self, X, y):
        if self.error is not None:
            raise self.error
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X):
        return np.full(len(X), self.value)


@pytest.mark.parametrize(
    "error, kind", [(ValueError("no"), ValueError), (KeyError("no"), RuntimeError)]
)
def test_a_member_that_fails_is_named_and_leaves_the_stack_as_it_was(error, kind):
    stack = AUPRCStackingClassifier(MEMBERS, cv=2).fit(X, Y)
    before = vars(stack).copy()
    stack.estimators = [*MEMBERS, ("broken", Failing(error))]
    with pytest.raises(kind, match=r"Member 'broken' cannot be fitted on the training rows .*no"):
        stack.fit(X, Y)
    stack.estimators = MEMBERS
    assert vars(stack) == before


def test_a_member_that_predicts_nan_or_cannot_score_is_named():
    with pytest.raises(ValueError, match="Member 'odd' predicts values that are NaN"):
        AUPRCStackingClassifier([("odd", Failing(value=np.nan))], cv=2).fit(X, Y)

    class Mute(Failing):
        decision_function = property()

    with pytest.raises(ValueError, match="Member 'mute' has neither decision_function"):
        AUPRCStackingClassifier([("mute", Mute())], cv=2).fit(X, Y)


def test_a_constant_member_is_dropped_with_a_warning():
    members = [("flat", Failing(value=3.0)), *MEMBERS]
    stack = AUPRCStackingClassifier(members, cv=2, anchor=[5.0, 1.0, 2.0], alpha=np.inf)
    with pytest.warns(UserWarning, match="Dropped members that predict a constant: flat."):
        stack.fit(X, Y)
    assert list(stack.named_estimators_) == ["logistic", "bayes"]
    assert_allclose(stack.coef_[0] / stack.coef_[0, 0], [1.0, 2.0])
    with pytest.warns(UserWarning, match="All members predict a constant"):
        flat = AUPRCStackingClassifier(members[:1], cv=2).fit(X, Y)
    assert_allclose(flat.predict_proba(X)[:, 1], Y.mean(), rtol=0.05)
