"""Estimated propensities, baselines and checked logs against plain loops and closed forms."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from pnsklearn import TOPRPolicy
from pnsklearn._topr._feedback import Feedback, baseline_for, check_contrast, estimate_propensity


def log(seed, n=43):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    action = (X[:, 0] + rng.normal(size=n) > 0).astype(int) + (rng.random(n) < 0.2)
    return X, action, rng.uniform(0.5, 2, size=n)


def deal(action, n_folds=5):
    """Return the fold of each row, dealing the rows of one action after those of the one before."""
    fold, hand = [None] * len(action), 0
    for a in sorted(set(action)):
        for i in range(len(action)):
            if action[i] == a:
                fold[i] = hand % n_folds
                hand += 1
    return np.array(fold)


@pytest.mark.parametrize("container", [np.asarray, csr_matrix])
def test_estimated_propensities_by_loop(container, global_random_seed):
    """Each action's rows are dealt to five folds in turn; each fold is predicted by the others."""
    X, action, weight = log(global_random_seed)
    fold = deal(action)
    for a in set(action):  # so every fold has its share of every action
        assert np.ptp(np.bincount(fold[action == a], minlength=5)) <= 1
    expected = np.empty(len(X))
    for k in range(5):
        seen, held_out = fold != k, np.flatnonzero(fold == k)
        model = LogisticRegression(max_iter=1000).fit(X[seen], action[seen], weight[seen])
        proba = model.predict_proba(X[held_out])
        expected[held_out] = proba[np.arange(len(held_out)), action[held_out]]
    assert_allclose(estimate_propensity(container(X), action, weight), expected, rtol=1e-6)


def test_a_sorted_log_is_dealt_too():
    """Were the folds cut from the order of the rows, each would lack the actions of its rows."""
    action = np.repeat([0, 1, 2], 20)
    estimated = estimate_propensity(np.zeros((60, 1)), action, np.ones(60))
    assert_allclose(estimated, 1 / 3, atol=0.02)


@pytest.mark.parametrize("n", [10, 40])
def test_an_action_that_a_fold_never_saw_has_one_in_n(n):
    action = np.arange(n) % 2
    action[-1] = 2  # the only one of its kind
    estimated = estimate_propensity(np.zeros((n, 1)), action, np.ones(n))
    assert estimated[-1] == 1 / n
    assert estimated[:-1].min() > 2 / n
    far = np.where(np.arange(n) < n / 2, -1e3, 1e3)[:, None]  # nearly certain decisions
    action = (far[:, 0] > 0).astype(int)
    action[0] = 1
    assert estimate_propensity(far, action, np.ones(n)).min() >= 1 / n


def test_fewer_rows_than_folds():
    estimated = estimate_propensity(np.zeros((4, 1)), np.array([0, 0, 1, 1]), np.ones(4))
    assert estimated.shape == (4,) and ((estimated > 0) & (estimated < 1)).all()
    with pytest.raises(ValueError, match="two actions with two rows"):
        estimate_propensity(np.zeros((3, 1)), np.array([0, 0, 1]), np.ones(3))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_baseline_is_where_the_share_is(share, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    reward, weight = rng.normal(size=50), rng.uniform(0, 2, size=50)
    R = reward - baseline_for(reward, share, weight)
    assert weight @ np.maximum(R, 0) == pytest.approx(share * (weight @ np.abs(R)), rel=1e-6)


def test_gains():
    parts = np.zeros((2, 1)), np.zeros(2, int), np.array([1.0, -2.0]), np.ones(2)
    weight = np.array([2.0, 3.0])
    feedback = Feedback(*parts, weight, np.arange(2), baseline=0.5)
    assert_array_equal(feedback.advantage, [0.5, -2.5])
    assert_array_equal(feedback.gain, [1.0, -7.5])
    imitated = Feedback(*parts[:2], None, np.ones(2), weight, np.arange(2))
    assert_array_equal(imitated.advantage, [1, 1])
    assert_array_equal(imitated.gain, weight)


def test_contrast():
    check_contrast(None, None)
    check_contrast(np.array([0.0, 1.0]), 0.5)
    with pytest.warns(UserWarning, match="no negative rewards") as caught:
        check_contrast(np.array([0.0, 1.0]), 0.0)
    assert caught[0].filename == __file__
    with pytest.raises(ValueError, match="All rewards equal the baseline, 1"):
        check_contrast(np.array([1.0, 1.0]), 1.0)


def test_warnings_point_to_the_user(global_random_seed):
    X, action, _ = log(global_random_seed)
    how = {"propensity": np.full(len(X), 0.5)}
    with pytest.warns(UserWarning, match="no negative rewards") as caught:
        policy = TOPRPolicy(bounds="topr", baseline=0)
        policy.fit(X, action, reward=(action == 0) * 1.0, **how)
    assert caught[0].filename == __file__
    how["propensity"] = np.where(np.arange(len(X)) == 0, 1e-9, 1.0)
    with pytest.warns(UserWarning, match="effective sample") as caught:
        policy.score(X, action, reward=np.ones(len(X)), **how)
    assert caught[0].filename == __file__
