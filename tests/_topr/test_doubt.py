"""What a policy is warned of: each by a log made for it, and not by the one just beside it."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_iris, make_blobs
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch

from pnsklearn import TOPRPolicy
from pnsklearn._topr._doubt import warn_of_outcomes, warn_of_value
from pnsklearn._topr._feedback import Feedback, contrasting
from pnsklearn.datasets import make_feedback, make_logged_bandit
from pnsklearn.exceptions import PolicyWarning

UNSURE = "not surely better than the log"
UNTRIED = "without one good outcome"
FEW_ROWS = "rests on an effective sample"
NO_DOUBT = "No action has both good and bad outcomes"
KINDS = UNSURE, UNTRIED, FEW_ROWS, NO_DOUBT


@pytest.fixture(scope="module")
def log():
    X, y = load_iris(return_X_y=True)
    return make_logged_bandit(StandardScaler().fit_transform(X), y, random_state=0)


def warned(call, *args, **how):
    """Return the PolicyWarnings of a call, kinds and messages; others are errors."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("always", PolicyWarning)
        call(*args, **how)
    found = {}
    for warning in caught:
        (kind,) = (kind for kind in KINDS if kind in str(warning.message))
        found[kind] = str(warning.message)
        assert warning.category is PolicyWarning
    return found


def learn(X, action, reward, propensity, weight=None, **params):
    return TOPRPolicy(**params).fit(X, action, weight, reward=reward, propensity=propensity)


def test_a_good_log_is_no_cause(log):
    assert not warned(learn, log.X, log.action, log.reward, log.propensity)


# Not better than the log


def test_rewards_that_mean_nothing(log):
    """A coin is no teacher. The message has the numbers, and what to do."""
    coin = np.random.default_rng(1).choice([-1.0, 1.0], size=150)
    policy = TOPRPolicy()
    found = warned(policy.fit, log.X, log.action, reward=coin, propensity=1 / 3)
    best = policy.selection_.best_index
    names = "value", "gain_standard_error", "calm_gain", "calm_gain_standard_error"
    value, error, calm, calm_error = (policy.selection_[name][best] for name in names)
    assert f"estimated value is {value:.3g}, that of the log {coin.mean():.3g}" in found[UNSURE]
    assert f"error of the difference {error:.2g}; with" in found[UNSURE]
    assert f"the gain is {calm:.3g} with {calm_error:.2g}." in found[UNSURE]
    assert "Log more rows, more at random, before you act on it" in found[UNSURE]


def test_the_better_action_was_rarely_logged(monkeypatch):
    """All members but importance sampling take the worse action: without it they are doubted."""
    mu, right = np.array([0.1, 0.9]), np.array([0.9, 0.6])
    rng = np.random.default_rng(0)
    action = (rng.random(2000) < mu[1]).astype(int)
    reward = np.where(rng.random(2000) < right[action], 1.0, -1.0)
    X, policy = np.zeros((2000, 1)), TOPRPolicy()
    how = {"reward": reward, "propensity": mu[action]}
    assert not warned(policy.fit, X, action, **how)
    assert (policy.bounds_, policy.predict(X[:1])) == ("is", [0])
    monkeypatch.setattr("pnsklearn._topr._selection.CANDIDATES", ("topr", "tis"))
    assert warned(policy.fit, X, action, **how).keys() == {UNSURE}
    assert policy.predict(X[:1]) == [1]


def test_rewards_of_the_contexts(log):
    """All actions are as good, and the log is as good as any policy."""
    action, reward = np.random.default_rng(0).integers(3, size=150), np.where(log.y == 0, 1.0, -1.0)
    assert warned(learn, log.X, action, reward, 1 / 3).keys() == {UNSURE}


def selection(gain, error, n_effective=100.0, late=None):
    """Return what was found of two candidates, of which the second is the best."""
    late, late_error = (gain, error) if late is None else late
    return Bunch(
        value=[0.0, 0.5], gain=[0.0, late], gain_standard_error=[9.0, late_error], best_index=1,
        calm_gain=[0.0, gain], calm_gain_standard_error=[9.0, error],
        bounds=["topr", "is"], baseline=[0.0, 0.0],
        effective_sample_size=[1.0, n_effective], logged=0.5 - gain,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("gain", "error", "unsure"),
    [(0.197, 0.1, False), (0.195, 0.1, True), (0.0, 0.0, True), (-0.3, 0.1, True), (0.1, 0, False)],
)
def test_sure_is_1_96_standard_errors_for_the_best_of_two(gain, error, unsure):
    assert warned(warn_of_value, selection(gain, error)).keys() == ({UNSURE} if unsure else set())


@pytest.mark.parametrize(("late", "unsure"), [(0.166, False), (0.163, True), (-1.0, True)])
def test_early_cuts_alone_make_nothing_sure(late, unsure):
    """Of the gain with later cuts 1.645 standard errors are asked for."""
    found = warned(warn_of_value, selection(1.0, 0.1, late=(late, 0.1)))
    assert found.keys() == ({UNSURE} if unsure else set())


def test_early_cuts_that_flatter():
    """The rewards that the ridge predicts for the best actions are too high on rare clicks.

    Ratios are 40, or 0; the cube root of the number of rows is 14, the root 55.
    """
    rng = np.random.default_rng(0)
    action, X = rng.integers(40, size=3000), rng.normal(size=(3000, 10))
    clicks = (rng.random(3000) < 0.02).astype(float)
    policy = TOPRPolicy()
    found = warned(policy.fit, X, action, reward=clicks, propensity=1 / 40)
    of, best = policy.selection_, policy.selection_.best_index
    assert of.calm_gain[best] > 3 * of.calm_gain_standard_error[best]
    assert UNSURE in found


def test_the_best_of_more_needs_more():
    """The normal quantile of 1 - 0.05 / 12 is 2.638."""
    for gain, unsure in ((0.265, False), (0.263, True)):
        found = selection(gain, 0.1)
        found.calm_gain = [*found.calm_gain, *[0.0] * 10]
        assert warned(warn_of_value, found).keys() == ({UNSURE} if unsure else set())


# Few rows


@pytest.mark.parametrize(("n_effective", "few"), [(14.9, True), (15.1, False)])
def test_fifteen_rows(n_effective, few):
    found = warned(warn_of_value, selection(1.0, 0.1, n_effective))
    assert found.keys() == ({FEW_ROWS} if few else set())
    if few:
        assert "effective sample of 15 rows" in found[FEW_ROWS]
        assert "Log more rows, more at random" in found[FEW_ROWS]


@pytest.mark.parametrize(("n_rows", "few"), [(56, True), (400, False)])
def test_a_short_log(n_rows, few):
    X = np.tile([[-1.0], [1.0]], (n_rows, 1))[:n_rows]
    action = np.arange(n_rows) // 2 % 4  # each of four actions as often
    reward = np.where(action == (X[:, 0] > 0), 1.0, -1.0)
    found = warned(learn, X, action, reward, 0.25)
    assert found.keys() == ({FEW_ROWS} if few else set()) | {UNTRIED, NO_DOUBT} & found.keys()
    assert UNSURE not in found


# Actions that never went well


def checked(action, reward, n_actions=3):
    """Return a log of the actions without features."""
    n = len(action)
    columns = np.zeros((n, 1)), np.array(action), np.array(reward, float), np.ones(n), np.ones(n)
    return Feedback(*columns, np.array(["a", "b", "c"][:n_actions]), baseline=0.0)


@pytest.mark.parametrize(("share", "often"), [(0.04, False), (0.06, True)])
def test_one_row_in_twenty(share, often):
    """The action c has bad outcomes only; the policy takes it now and then."""
    log = checked([0, 0, 1, 1, 2], [1, -1, 1, -1, -1])
    policy = np.tile([0.5, 0.5 - share, share], (5, 1))
    found = warned(warn_of_outcomes, policy, log)
    assert found.keys() == ({UNTRIED} if often else set())
    if often:
        assert "6% of the rows" in found[UNTRIED]
        assert "in the log: c. Set bounds='is' or 'positives'" in found[UNTRIED]


def test_one_good_outcome_is_enough():
    policy = np.tile([0.0, 0.0, 1.0], (6, 1))
    assert not warned(warn_of_outcomes, policy, checked([0, 0, 1, 1, 2, 2], [1, -1, 1, -1, -1, 1]))


def test_where_nothing_went_well_no_action_is_singled_out():
    policy = np.tile([0.0, 0.0, 1.0], (4, 1))
    found = warned(warn_of_outcomes, policy, checked([0, 1, 2, 2], [-1, -1, -1, -1]))
    assert found.keys() == {NO_DOUBT}


@pytest.fixture(scope="module")
def many():
    """Thirty clusters, whose labels are hard to guess."""
    X, y = make_blobs(1500, n_features=10, centers=30, random_state=0)
    return StandardScaler().fit_transform(X), y


@pytest.mark.parametrize("act", ["best", "sample"])
def test_a_skewed_log_of_many_actions(many, act):
    """The bad decisions push the policy to what was hardly tried; the remedies named do not."""
    log = make_logged_bandit(*many, logging="skewed", random_state=0)
    columns = log.X, log.action, log.reward, log.propensity
    policy = TOPRPolicy(bounds="topr", act=act)
    how = {"reward": log.reward, "propensity": log.propensity}
    message = warned(policy.fit, log.X, log.action, **how)[UNTRIED]
    good = np.unique(log.action[log.reward > 0])
    lost = ~np.isin(policy.classes_, good)
    proba = policy.predict_proba(log.X)
    if act == "best":
        proba = policy.predict(log.X)[:, None] == policy.classes_
    assert message.startswith(f"{proba[:, lost].sum(axis=1).mean():.0%} of the rows")
    assert " and others. Set bounds='is' or 'positives'" in message
    for bounds in ("is", "positives"):
        assert not warned(learn, *columns, bounds=bounds, act=act)
    uniform = make_logged_bandit(*many, random_state=0)
    columns = uniform.X, uniform.action, uniform.reward, uniform.propensity
    assert not warned(learn, *columns, bounds="topr", act=act)


# A log without doubt


def test_no_action_has_both_signs(log):
    """As if the rewards were the actions; one row of the other sign is doubt."""
    reward = np.where(log.action == 0, 1.0, -1.0)
    found = warned(learn, log.X, log.action, reward, log.propensity)
    assert found.keys() == {NO_DOUBT}
    assert "Check the rewards and the baseline, or log more rows" in found[NO_DOUBT]
    reward[np.flatnonzero(log.action == 0)[0]] = -1.0
    assert not warned(learn, log.X, log.action, reward, log.propensity)


def test_good_decisions_only_are_not_that(log):
    """They have a warning of their own."""
    with pytest.warns(UserWarning, match="no negative rewards") as caught:
        learn(log.X, log.action, np.ones(150), 1 / 3, bounds="topr", baseline=0)
    assert [warning.category for warning in caught] == [UserWarning]


# Where warnings are given


def test_without_rewards_only_the_score_warns(log):
    policy = TOPRPolicy()
    assert not warned(policy.fit, log.X, log.action)
    with pytest.warns(PolicyWarning, match="how often the policy takes the action") as caught:
        policy.score(log.X, log.action)
    assert caught[0].filename == __file__
    how = {"reward": log.reward, "propensity": log.propensity}
    assert not warned(policy.score, log.X, log.action, **how)


def test_fixed_bounds_are_not_judged(log):
    """There is no cross-fitted value."""
    coin = np.random.default_rng(1).choice([-1.0, 1.0], size=150)
    assert not warned(learn, log.X, log.action, coin, 1 / 3, bounds="topr")


def test_warnings_point_to_the_user(log):
    coin = np.random.default_rng(1).choice([-1.0, 1.0], size=150)
    y = make_feedback(log.action, coin, np.full(150, 1 / 3))
    for model in (TOPRPolicy(), GridSearchCV(TOPRPolicy(), {"C": [1.0]}, cv=2)):
        with pytest.warns(PolicyWarning) as caught:
            model.fit(log.X, y)
        assert {warning.filename for warning in caught} == {__file__}


# The baseline


@pytest.mark.parametrize(
    ("reward", "baseline"),
    [
        ([0.0, 1.0, 1.0, 1.0], 0.75),  # clicks
        ([-3.0, -1.0, -2.0, -2.0], -2.0),  # costs
        ([1.0, -1e-9, 0.0, 5.0], 0.0),
        ([0.1, 0.1, 0.1], 0.1),  # whose mean is rounded
        ([0.0, 0.0], 0.0),
        ([0.0, -1.0], -0.5),
    ],
)
def test_automatic_baselines(reward, baseline):
    assert contrasting(np.array(reward), np.ones(len(reward))) == baseline


def test_automatic_baselines_count_weights():
    assert contrasting(np.array([0.0, 1.0]), np.array([1.0, 3.0])) == 0.75


@pytest.mark.parametrize("bounds", ["cv", "topr"])
def test_clicks_and_costs(log, bounds):
    """Both have good and bad decisions without a baseline, and are the same log."""
    clicks = (log.reward > 0) * 1.0
    proba = []
    for reward in (clicks, clicks - 1):
        policy = TOPRPolicy(bounds=bounds, tol=1e-9)
        how = {"reward": reward, "propensity": log.propensity}
        assert not warned(policy.fit, log.X, log.action, **how)
        assert policy.baseline_ == pytest.approx(reward.mean())
        assert policy.diagnostics_.n_positive == clicks.sum()
        assert policy.diagnostics_.n_negative == 150 - clicks.sum()
        proba.append(policy.predict_proba(log.X))
    np.testing.assert_allclose(*proba, atol=1e-6)
    assert np.mean(policy.predict(log.X) == log.y) > 0.85


def test_a_given_baseline_is_kept_and_warned_of(log):
    clicks = (log.reward > 0) * 1.0
    for bounds in ("topr", "cv"):
        with pytest.warns(UserWarning, match="no negative rewards after the baseline, 0"):
            policy = learn(log.X, log.action, clicks, log.propensity, bounds=bounds, baseline=0)
    assert 0 in policy.selection_.baseline


def test_constant_rewards_are_refused(log):
    for constant in (0.0, 0.1, -7.0):
        with pytest.raises(ValueError, match=f"All rewards equal the baseline, {constant:g}"):
            learn(log.X, log.action, np.full(150, constant), 1 / 3)
