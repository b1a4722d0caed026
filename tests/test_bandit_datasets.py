"""Logs of decisions: the probabilities are true, and splitters of feedback see its actions."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from scipy.stats import chisquare
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits, load_iris, make_classification
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    RepeatedStratifiedKFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
    check_cv,
    cross_val_predict,
    cross_val_score,
    learning_curve,
    train_test_split,
)

from pnsklearn._logged import check_feedback
from pnsklearn.datasets import make_feedback, make_logged_bandit

LOGGING = ["uniform", "good", "skewed", "bad"]


@pytest.fixture(scope="module")
def digits():
    return load_digits(return_X_y=True)


def test_feedback_holds_what_was_given():
    action = np.array(["left", "right", "left"])
    y = make_feedback(pd.Series(action), [1, 0, 2], [0.5, 0.25, 1.0])
    assert len(y) == 3
    for part, expected in zip(
        check_feedback(y), (action, [1.0, 0.0, 2.0], [0.5, 0.25, 1.0]), strict=True
    ):
        assert_array_equal(part, expected)
    again = pickle.loads(pickle.dumps(y))
    assert_array_equal(check_feedback(again[[2, 0]])[1], [2.0, 1.0])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([0, 1], [1.0], [0.5, 0.5]), "reward must have one value for each action"),
        (([0, 1], [1.0, 1.0], [0.5]), "propensity must have one value for each action"),
        (([0, 1], [1.0, np.nan], [0.5, 0.5]), "reward must be finite"),
        (([0, 1], [1.0, 1.0], [0.5, 0.0]), r"propensity must be in \(0, 1\]"),
        (([0, 1], [1.0, 1.0], "estimate"), "'propensity' parameter"),
        (([0, 1], None, [0.5, 0.5]), "'reward' parameter"),
        (([[0, 1]], [1.0], [0.5]), "1d array"),
    ],
)
def test_bad_feedback(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_feedback(*arguments)


class Reader(ClassifierMixin, BaseEstimator):
    """A classifier that insists on feedback, and counts the rewards that reach its score."""

    def fit(self, X, y):
        action, reward, _ = check_feedback(y)
        assert reward is not None
        self.classes_ = np.unique(action)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))

    def score(self, X, y):
        return check_feedback(y)[1].mean()


@pytest.fixture(scope="module")
def feedback():
    rng = np.random.default_rng(0)
    X, action = rng.normal(size=(60, 2)), rng.integers(3, size=60)
    return X, make_feedback(action, np.arange(60.0), rng.uniform(0.1, 1, size=60))


def test_tools_that_split_feedback(feedback):
    X, y = feedback
    action = y["action"]
    assert type(check_cv(5, y, classifier=True)) is StratifiedKFold
    means = [np.arange(60.0)[test].mean() for _, test in StratifiedKFold(5).split(X, action)]
    assert_allclose(cross_val_score(Reader(), X, y), means)
    assert_allclose(
        cross_val_score(Reader(), X, y, cv=KFold(5)), np.arange(60.0).reshape(5, -1).mean(axis=1)
    )
    search = GridSearchCV(Reader(), {}, cv=5).fit(X, y)
    assert search.best_score_ == pytest.approx(np.mean(means))
    assert cross_val_predict(Reader(), X, y).shape == (60,)
    assert learning_curve(Reader(), X, y)[2].shape == (5, 5)
    _, _, train, test = train_test_split(X, y, random_state=0)
    assert sorted(np.concatenate([check_feedback(part)[1] for part in (train, test)])) == list(
        range(60)
    )


@pytest.mark.parametrize(
    "splitter",
    [
        StratifiedKFold(3, shuffle=True, random_state=0),
        RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=0),
        StratifiedShuffleSplit(3, random_state=0),
        StratifiedGroupKFold(3),
    ],
    ids=lambda splitter: type(splitter).__name__,
)
def test_stratified_splitters_see_the_actions(feedback, splitter):
    X, y = feedback
    groups = np.arange(60) // 2 if isinstance(splitter, StratifiedGroupKFold) else None
    splits = list(splitter.split(X, y, groups))
    for (train, test), other in zip(splits, splitter.split(X, y["action"], groups), strict=True):
        assert_array_equal(train, other[0])
        assert_array_equal(test, other[1])


def test_stratified_split_of_feedback(feedback):
    X, y = feedback
    *_, train, test = train_test_split(X, y, stratify=y, random_state=0)
    *_, expected = train_test_split(X, y["action"], stratify=y["action"], random_state=0)
    assert_array_equal(test["action"], expected)
    assert sorted([*train["reward"], *test["reward"]]) == list(range(60))


@pytest.mark.filterwarnings("ignore:Number of classes in training fold:RuntimeWarning")
@pytest.mark.parametrize(
    "tool",
    [
        lambda X, y: cross_val_predict(Reader(), X, y, method="predict_proba"),
        lambda X, y: np.unique(y),
        lambda X, y: CalibratedClassifierCV(Reader()).fit(X, y),
        lambda X, y: BaggingClassifier(Reader()).fit(X, y),
        lambda X, y: VotingClassifier([("reader", Reader())]).fit(X, y),
        lambda X, y: StackingClassifier([("reader", Reader())]).fit(X, y),
    ],
)
def test_tools_that_need_labels_fail(feedback, tool):
    """They would take the actions alone, and lose the rewards without a word."""
    with pytest.raises(ValueError, match=r"lose the rewards.*enable_metadata_routing=True"):
        tool(*feedback)


def test_parts_of_feedback(feedback):
    _, y = feedback
    assert y.shape == (60,)
    rows = np.array([3, 1])
    for key in (rows, (rows, ...), np.isin(np.arange(60), rows), slice(1, 4, 2), 3):
        expected = np.atleast_1d(np.arange(60.0)[key])
        assert_array_equal(y[key]["reward"], expected)


@pytest.mark.parametrize("logging", LOGGING)
def test_actions_follow_the_propensities(logging, digits, global_random_seed):
    X, y = digits
    log = make_logged_bandit(X, y, logging=logging, random_state=global_random_seed)
    assert_allclose(log.proba.sum(axis=1), 1)
    column = np.searchsorted(log.classes, log.action)
    assert_array_equal(log.propensity, log.proba[np.arange(len(y)), column])
    assert_array_equal(log.reward, np.where(log.action == y, 1.0, -1.0))
    assert_array_equal(log.y, y)
    counts, expected = np.bincount(column, minlength=10), log.proba.sum(axis=0)
    # Independent draws vary by p (1 - p), no more than the chi-square statistic allows for.
    assert chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-4
    spread = np.sqrt((log.proba * (1 - log.proba)).sum() / 10)
    assert np.abs(counts - expected).max() < 6 * spread


def test_how_good_the_logging_policies_are(digits, global_random_seed):
    X, y = digits
    right, least = {}, {}
    for logging in LOGGING:
        log = make_logged_bandit(X, y, logging=logging, random_state=global_random_seed)
        right[logging] = log.proba[np.arange(len(y)), y].mean()
        least[logging] = log.proba.min()
    assert right["good"] > 0.5 > 0.15 > right["uniform"] > right["bad"]
    assert right["uniform"] == pytest.approx(0.1)
    assert min(least.values()) > 0.005


def test_skewed_does_not_look_at_x(digits):
    log = make_logged_bandit(*digits, logging="skewed", random_state=0)
    assert np.ptp(log.proba, axis=0).max() == 0
    assert_allclose(log.proba[0, 1:] / log.proba[0, :-1], 0.75)


def test_given_probabilities(global_random_seed):
    proba = np.tile([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0]], (3000, 1))
    y = np.tile(["a", "b", "c"], 2000)
    log = make_logged_bandit(np.zeros((6000, 1)), y, logging=proba, random_state=global_random_seed)
    assert_array_equal(log.proba, proba)
    assert np.all(log.action[1::2] == "c")
    first = log.action[::2]
    assert not np.any(first == "c")
    assert abs(np.mean(first == "a") - 0.7) < 4.5 * np.sqrt(0.21 / 3000)


def test_noise_and_rewards(global_random_seed):
    X, y = np.zeros((20_000, 1)), np.arange(20_000) % 2
    log = make_logged_bandit(X, y, noise=0.2, rewards=(0, 5), random_state=global_random_seed)
    assert set(log.reward) == {0.0, 5.0} and log.reward.dtype == np.float64
    flipped = (log.reward == 5) != (log.action == y)
    assert abs(flipped.mean() - 0.2) < 4.5 * np.sqrt(0.16 / 20_000)
    opposite = make_logged_bandit(X, y, noise=1.0, random_state=0)
    assert_array_equal(opposite.reward, np.where(opposite.action == y, -1.0, 1.0))


@pytest.mark.parametrize("logging", LOGGING)
def test_two_classes_containers_and_seeds(logging):
    X, y = make_classification(200, random_state=0)
    names = np.array(["no", "yes"])[y]
    log = make_logged_bandit(X, names, logging=logging, random_state=0)
    again = make_logged_bandit(
        csr_array(X), names, logging=logging, random_state=np.random.RandomState(0)
    )
    assert_array_equal(log.action, again.action)
    assert_allclose(log.propensity, again.propensity)
    assert type(again.X) is csr_array
    other = make_logged_bandit(X, names, logging=logging, random_state=1)
    assert not np.array_equal(log.action, other.action)


@pytest.mark.parametrize(
    "y, params, message",
    [
        ([0, 0, 0], {}, "only one class, 0"),
        ([0, 1], {}, "inconsistent"),
        ([0, 1, 1], {"rewards": (1.0,)}, "rewards must be two finite numbers"),
        ([0, 1, 1], {"rewards": ("bad", "good")}, "rewards must be two finite numbers"),
        ([0, 1, 1], {"noise": 1.5}, "'noise' parameter"),
        ([0, 1, 1], {"logging": "best"}, "'logging' parameter"),
        ([0, 1, 1], {"logging": np.full((3, 3), 1 / 3)}, r"logging must be of shape \(3, 2\)"),
        ([0, 1, 1], {"logging": np.full((3, 2), 0.4)}, "add up to 1"),
        ([0, 1, 1], {"logging": np.tile([1.5, -0.5], (3, 1))}, "probabilities"),
    ],
)
def test_bad_bandits(y, params, message):
    with pytest.raises(ValueError, match=message):
        make_logged_bandit(np.zeros((3, 1)), y, **params)


def test_frames_lists_and_bad_rewards():
    X, y = load_iris(return_X_y=True)
    expected = make_logged_bandit(X, y, logging="good", random_state=0)
    for form in (pd.DataFrame(X), X.tolist()):
        log = make_logged_bandit(form, y, logging="good", random_state=0)
        assert_array_equal(log.action, expected.action)
    with pytest.raises(ValueError, match="two finite numbers"):
        make_logged_bandit(X, y, rewards=(np.nan, 1.0))
