"""The diagnostics and evaluations of a policy, one by one by hand."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import entropy

from pnsklearn._topr._diagnostics import describe_ratios, diagnose
from pnsklearn._topr._evaluation import evaluate, score
from pnsklearn._topr._feedback import Feedback
from pnsklearn._topr._rounds import value_of_round
from pnsklearn.metrics import dr_value
from pnsklearn.metrics._off_policy import direct_rewards, widen_policy


def test_ratios_by_hand():
    log_ratio = np.log([2.0, 0.5, 3.0, 0.005, 1.0, 0.011])
    gain = np.array([2.0, 1.0, -1.0, -3.0, 0.0, -1.0])
    weight = np.array([1.0, 2.0, 1.0, 2.0, 5.0, 1.0])
    found = describe_ratios(log_ratio, gain, weight)
    assert found.n_positive == 3 and found.n_negative == 4
    assert found.effective_positive == pytest.approx(3 / 8)
    ratio = np.exp(log_ratio)
    n_effective = (weight @ ratio) ** 2 / (weight @ ratio**2)
    assert found.effective_sample_size == pytest.approx(n_effective)
    assert found.largest_ratio == pytest.approx(3)
    assert found.negative_above == pytest.approx(1 / 4)
    assert found.negative_spent == pytest.approx(2 / 4)
    assert found.positive_log_ratio == pytest.approx((np.log(2) + 2 * np.log(0.5)) / 3)
    expected = (np.log(3) + 2 * np.log(0.005) + np.log(0.011)) / 4
    assert found.negative_log_ratio == pytest.approx(expected)


def test_ratios_of_one_sign_and_huge_ones():
    found = describe_ratios(np.array([0.0, 800.0]), np.ones(2), np.ones(2))
    assert np.isnan([found.negative_above, found.negative_spent, found.negative_log_ratio]).all()
    assert found.largest_ratio == np.exp(700.0)
    assert found.effective_sample_size == pytest.approx(1)
    assert np.isnan(describe_ratios(np.zeros(2), np.zeros(2), np.ones(2)).effective_positive)


@pytest.fixture
def case(global_random_seed):
    """A policy over three actions, a log, and the probabilities of the logged actions."""
    rng = np.random.default_rng(global_random_seed)
    policy = rng.dirichlet(np.ones(3), size=40)
    action, propensity = rng.integers(3, size=40), rng.uniform(0.2, 0.6, size=40)
    weight, reward = rng.integers(1, 4, size=40).astype(float), rng.normal(size=40)
    log = Feedback(rng.normal(size=(40, 2)), action, reward, propensity, weight, np.arange(3), 0.3)
    return policy, log, policy[np.arange(40), action]


def test_diagnose(case):
    policy, log, chosen = case
    found = diagnose(np.log(policy), log)
    assert found.entropy == pytest.approx(np.average(entropy(policy, axis=1), weights=log.weight))
    bad = log.reward < 0.3
    above = np.average((chosen > log.propensity)[bad], weights=log.weight[bad])
    assert found.negative_above == pytest.approx(above)
    assert found.largest_ratio == pytest.approx((chosen / log.propensity).max())


def test_evaluate_by_hand(case):
    policy, log, chosen = case
    found = evaluate(policy, log)
    ratio, reward, weight = chosen / log.propensity, log.reward, log.weight
    assert found.ips.value == pytest.approx(np.average(ratio * reward, weights=weight))
    snips = (weight @ (ratio * reward)) / (weight @ ratio)
    assert found.snips.value == pytest.approx(snips)
    assert score(policy, log) == pytest.approx(snips)
    clipped = np.minimum(ratio, np.sqrt(weight.sum()))
    assert found.clipped_ips.value == pytest.approx(np.average(clipped * reward, weights=weight))
    prediction = direct_rewards(log.X, log.action, reward, 3, weight)
    how = {"sample_weight": weight, "confidence_level": 0.95}
    assert found.dr == dr_value(policy, log.action, log.propensity, reward, prediction, **how)
    terms = (policy * prediction).sum(axis=1) - reward
    terms += ratio * (reward - prediction[np.arange(len(ratio)), log.action])
    assert found.gain.value == pytest.approx(np.average(terms, weights=weight))
    assert found.logged.value == pytest.approx(np.average(reward, weights=weight))
    assert found.largest_weight == pytest.approx(ratio.max())
    n_effective = (weight @ ratio) ** 2 / (weight @ ratio**2)
    assert found.effective_sample_size == pytest.approx(n_effective)


def test_clipping_bites_where_ratios_are_huge(case):
    policy, log, chosen = case
    log.propensity[0] = 1e-4
    ratio = chosen / log.propensity
    clipped = np.minimum(ratio, np.sqrt(log.weight.sum()))
    assert ratio[0] > clipped[0]
    with pytest.warns(UserWarning, match="effective sample"):
        found = evaluate(policy, log)
    expected = np.average(clipped * log.reward, weights=log.weight)
    assert found.clipped_ips.value == pytest.approx(expected)


def test_value_of_a_round(case):
    """Five contexts with eight samples each: means of contexts are the rows."""
    policy, log, chosen = case
    terms = (chosen / log.propensity * log.reward).reshape(5, 8).mean(axis=1)
    value, error, low, high = value_of_round(policy, log, 8).value
    assert value == pytest.approx(terms.mean())
    assert error == pytest.approx(terms.std(ddof=1) / np.sqrt(5))
    assert_allclose([low, high], value + np.array([-1, 1]) * 1.959964 * error, rtol=1e-6)


def test_a_wider_policy():
    wide = widen_policy(np.array([[0.3, 0.7]]), np.array(["b", "d"]), np.array(list("abcd")))
    assert_allclose(wide, [[0, 0.3, 0, 0.7]])
