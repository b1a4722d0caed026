"""Trend scores against their formulas, written out row by row and pair by pair."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import rankdata

from pnsklearn._pu_trend._trend import TRENDS, OnlineTrend, psi


def definition(p, kind):
    """Return the trend score of one row."""
    n = len(p)
    if kind in ("mean", "last"):
        return math.fsum(p) / n if kind == "mean" else p[-1]
    if n == 1:
        return 0.0
    if kind == "simple":
        steps = [p[t + 1] - p[t] for t in range(n - 1)]
        return math.fsum(math.log(1 + d + d**2 / 2) for d in steps) / (n - 1)
    if kind == "slope":
        return np.polyfit(np.arange(n), p, 1)[0]
    total = 0.0
    for i in range(n):
        for j in range(i + 1, n):
            d = p[j] - p[i]
            sign = int(d > 0) - int(d < 0)
            x = abs(2 * d)
            total += sign if kind == "mann-kendall" else sign * math.log(1 + x + x**2 / 2)
    return 2 / (n * (n - 1)) * total


@pytest.fixture
def history(global_random_seed):
    # In float32 as kept, so that all scores are those of the same numbers.
    return np.random.default_rng(global_random_seed).random((7, 11, 3), dtype=np.float32)


def online(history, keep_history=True):
    trend = OnlineTrend(keep_history)
    for p in history:
        trend.update(p)
    return trend


def trend_scores(history, kind):
    return online(history).scores(kind)


@pytest.mark.parametrize("kind", TRENDS)
def test_against_the_formulas(kind, history):
    history[3:5, :4] = 0.5  # equal scores in a row
    expected = [
        [definition(history[:, i, k].astype(float), kind) for k in range(3)] for i in range(11)
    ]
    result = trend_scores(history, kind)
    assert result.dtype == np.float64
    assert_allclose(result, expected, atol=1e-14)
    assert_allclose(trend_scores(history[:, :, 0], kind), result[:, 0], rtol=1e-15)


@pytest.mark.parametrize("kind", TRENDS)
@settings(deadline=None, max_examples=50)
@given(
    arrays(
        float, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=st.floats(0, 1, width=32)
    )
)
def test_against_the_formulas_on_any_history(kind, history):
    expected = [definition(p, kind) for p in history.T]
    assert_allclose(trend_scores(history, kind), expected, atol=1e-14)


def test_history_is_kept_only_if_asked_for(history):
    kept = online(history).history
    assert_array_equal(kept, history)
    assert kept.dtype == np.float32
    without = online(history, keep_history=False)
    assert without.history is None and without.n_snapshots == 7
    for kind in ("simple", "slope", "mean", "last"):
        assert_array_equal(without.scores(kind), trend_scores(history, kind))


@pytest.mark.parametrize("kind", TRENDS)
def test_one_snapshot(kind, history):
    expected = history[0] if kind in ("mean", "last") else np.zeros((11, 3))
    assert_array_equal(trend_scores(history[:1], kind), expected)


@pytest.mark.parametrize("kind", ["simple", "pairwise", "slope", "mann-kendall"])
def test_rows_that_never_change_have_no_trend(kind):
    constant = np.tile([0.1, 0.3, 1 / 3, 1.0], (15, 1))
    assert_array_equal(trend_scores(constant, kind), 0.0)
    assert_array_equal(trend_scores(constant, "mean"), constant[0])


@pytest.mark.parametrize("kind", TRENDS)
def test_a_copy_stays_at_its_snapshot(kind, history):
    trend, p = OnlineTrend(keep_history=True), np.empty((11, 3))
    for t in range(7):
        p[:] = history[t]  # the caller may write into its array again
        trend.update(p)
        if t == 3:
            best = trend.copy()
    assert best.n_snapshots == 4
    assert best.history.shape == (4, 11, 3)
    expected = online(history[:4]).scores(kind)
    assert_array_equal(best.scores(kind), expected)
    best.scores(kind)[:] = 9.0
    assert_array_equal(best.scores(kind), expected)
    assert_array_equal(trend.scores(kind), online(history).scores(kind))


def test_psi():
    x = np.array([-2.0, -0.1, 0.0, 0.1, 2.0])
    expected = [-math.log(5), -math.log(1.105), 0.0, math.log(1.105), math.log(5)]
    assert_allclose(psi(x), expected, rtol=1e-14)


def test_small_changes_telescope():
    """log(1 + d + d^2 / 2) = d - d^3 / 6 + O(d^4), the fourth-order term being d^4 / 8."""
    for d in (0.1, -0.1, 0.03, -0.03):
        value = trend_scores([[0.5], [0.5 + d]], "simple")[0]
        assert abs(value - (d - d**3 / 6)) < 0.2 * d**4
        assert abs(value - (d - d**3 / 6)) > 0.05 * d**4
    history = 0.5 + 0.01 * np.random.default_rng(0).uniform(-1, 1, (15, 50))
    expected = (history[-1] - history[0]) / 14
    assert_allclose(trend_scores(history, "simple"), expected, atol=0.02**3 / 6)


def test_pairwise_ranks_as_the_slope(global_random_seed):
    """The sum of p_j - p_i over pairs is 2 sum of (t - mean) p_t, whatever the p."""
    rng = np.random.default_rng(global_random_seed)
    start, rise = rng.uniform(0.2, 0.6, 400), rng.uniform(-0.2, 0.4, 400)
    p = start + rise * np.linspace(0, 1, 15)[:, None] + 0.02 * rng.standard_normal((15, 400))
    differences = sum(p[j] - p[i] for j in range(15) for i in range(j))
    slope = trend_scores(p, "slope")
    assert_allclose(differences, slope * 15 * (15**2 - 1) / 6, atol=1e-12)
    ranks = [rankdata(values) for values in (trend_scores(p, "pairwise"), slope)]
    assert np.corrcoef(ranks)[0, 1] > 0.999
