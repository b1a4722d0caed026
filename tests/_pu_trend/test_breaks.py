"""The breaks against all cuts tried one by one, and the facts known of them."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import norm

from pnsklearn._pu_trend._breaks import authors_break, natural_break, quantile_threshold

CRITERIA = ["natural", "variance"]
values = st.integers(-6, 6).map(float) | st.floats(-1e3, 1e3)
rows = st.lists(values, min_size=2, max_size=12).filter(lambda scores: len(set(scores)) > 1)
weighted_rows = st.lists(st.tuples(values, st.integers(0, 3)), min_size=2, max_size=10).filter(
    lambda pairs: len({score for score, weight in pairs if weight}) > 1
)


def spread(scores, above, criterion):
    """Return the criterion of one cut."""
    groups = [scores[above], scores[~above]]
    deviations = [np.sum((group - group.mean()) ** 2) for group in groups]
    sizes = [len(group) if criterion == "variance" else 1 for group in groups]
    return sum(d / n for d, n in zip(deviations, sizes, strict=True))


def check_break(scores, threshold, criterion, tol=1e-12):
    """Assert that the threshold is midway between neighbours, and that no cut is better."""
    distinct = np.unique(scores)
    at = np.searchsorted(distinct, threshold, side="right")
    assert 0 < at < len(distinct)
    lower, upper = distinct[at - 1], distinct[at]
    assert lower <= threshold < upper
    assert abs(threshold - (lower + upper) / 2) <= np.spacing(max(abs(lower), abs(upper)))
    best = min(spread(scores, scores > cut, criterion) for cut in distinct[:-1])
    scale = np.var(scores) * (1 if criterion == "variance" else len(scores))
    assert spread(scores, scores > threshold, criterion) <= best + tol * scale


@pytest.mark.parametrize("criterion", CRITERIA)
@settings(deadline=None)
@given(rows)
@example([0.0, 0.0, 5e-324])
@example([1.0, 1.0 + 2**-52, 1.0 + 2**-51])
def test_no_cut_is_better(criterion, scores):
    scores = np.array(scores)
    check_break(scores, natural_break(scores, criterion=criterion), criterion)


@pytest.mark.parametrize("criterion", CRITERIA)
@settings(deadline=None)
@given(weighted_rows)
def test_weights_are_repetitions(criterion, pairs):
    scores, weight = np.array(pairs).T
    repeated = np.repeat(scores, weight.astype(int))
    threshold = natural_break(scores, weight, criterion)
    check_break(repeated, threshold, criterion)
    tenth = natural_break(scores, weight / 10, criterion)
    check_break(repeated, tenth, criterion)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_weights_repeat_exactly(criterion, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    scores, weight = rng.standard_normal(300), rng.integers(0, 4, 300)
    repeated = rng.permutation(np.repeat(scores, weight))
    expected = natural_break(repeated, criterion=criterion)
    assert natural_break(scores, weight, criterion) == expected
    fraction = rng.uniform()
    threshold = quantile_threshold(scores, fraction, weight)
    assert threshold == quantile_threshold(repeated, fraction)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("offset", [0.0, 1e6, -1e6])
def test_offsets(offset, criterion, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    scores = offset + np.append(rng.standard_normal(60), rng.normal(4, 0.3, 20))
    weight = rng.uniform(0.1, 2, 80)
    check_break(scores, natural_break(scores, criterion=criterion), criterion, tol=1e-8)
    shifted = natural_break(scores - offset, weight, criterion)
    assert natural_break(scores, weight, criterion) == pytest.approx(shifted + offset, rel=1e-14)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_far_smaller_weights(criterion):
    scores, weight = [0.0, 0.0, 1.0, 2.0], [1.0, 1.0, 1e-20, 1e-20]
    threshold = natural_break(scores, weight, criterion)
    assert 0 <= threshold < 2


@pytest.mark.parametrize("criterion", CRITERIA)
def test_equal_scores_are_not_split(criterion):
    for scores in ([0.3] * 5, [0.3]):
        assert natural_break(scores, criterion=criterion) == 0.3
    assert natural_break([0.3, 0.3, 0.9], [1, 1, 0], criterion) == 0.3
    assert authors_break(np.full(4, 0.3)) == 0.3


@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_lowest_of_equally_good_cuts(criterion):
    assert natural_break(np.array([0.0, 1.0, 2.0]), criterion=criterion) == 0.5


def share_above(scores, criterion):
    return np.mean(scores > natural_break(scores, criterion=criterion))


def test_there_is_no_answer_no_split(global_random_seed):
    scores = np.random.default_rng(global_random_seed).standard_normal(20_000)
    assert share_above(scores, "natural") == pytest.approx(0.5, abs=0.03)


def population_spreads(prior, gap):
    """Return shares above and both criteria for a mixture of N(0, 1) and N(gap, 1), at cuts."""
    cuts = np.linspace(-2, gap + 2, 1001)
    parts = []
    for mean, share in ((0, 1 - prior), (gap, prior)):
        z = cuts - mean
        mass, density = norm.cdf(z), norm.pdf(z)
        square = (mean**2 + 1) * mass - (2 * mean + z) * density
        parts.append(share * np.array([mass, mean * mass - density, square]))
    below, total = sum(parts), [1.0, prior * gap, 1 + prior * gap**2]
    groups = [below, np.array(total)[:, np.newaxis] - below]
    variances = [square / mass - (first / mass) ** 2 for mass, first, square in groups]
    sse = sum(mass * variance for (mass, *_), variance in zip(groups, variances, strict=True))
    return 1 - below[0], sse, sum(variances)


@pytest.mark.parametrize(
    "prior, gap, expected, minima",
    [(0.05, 4.0, 0.31, [0.742, 0.030]), (0.9, 3.0, 0.695, [0.929, 0.366])],
)
def test_shares_of_two_normals(prior, gap, expected, minima, global_random_seed):
    """Neither criterion finds the share; the second has two minima, less than 2 % apart."""
    share, sse, variance = population_spreads(prior, gap)
    assert share[np.argmin(sse)] == pytest.approx(expected, abs=0.005)
    inner = variance[1:-1]
    lowest = np.flatnonzero((inner < variance[:-2]) & (inner < variance[2:]))
    assert_allclose(share[1:-1][lowest], minima, atol=0.005)
    assert np.ptp(inner[lowest]) < 0.02 * inner.min()

    rng = np.random.default_rng(global_random_seed)
    scores = rng.standard_normal(100_000) + gap * (rng.uniform(size=100_000) < prior)
    assert share_above(scores, "natural") == pytest.approx(expected, abs=0.025)
    assert np.abs(share_above(scores, "variance") - minima).min() < 0.025


def best_cut(scores):
    """Return the largest value of the lower group, by trying all."""
    return min(np.unique(scores)[:-1], key=lambda cut: spread(scores, scores > cut, "natural"))


@pytest.mark.parametrize("case", ["falling", "rising", "few small"])
def test_authors_break(case, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    middle = {"falling": -0.02, "rising": 0.01, "few small": 0.1}[case]
    scores = np.append(middle + 0.002 * rng.standard_normal(60), rng.normal(0.15, 0.01, 30))
    cut = best_cut(scores)
    assert (cut > 0) == (case != "falling")
    if case == "rising":
        cut = best_cut(scores[scores < 0.2 / 9])
    positive = scores > authors_break(scores)
    assert np.array_equal(positive, scores > cut)
    assert positive[60:].all() or case == "few small"


@settings(deadline=None)
@given(weighted_rows, st.integers(0, 10))
def test_quantile_has_the_nearest_share(pairs, tenths):
    scores, weight = np.array(pairs).T
    threshold = quantile_threshold(scores, tenths / 10, weight)
    distinct = np.unique(scores[weight > 0])
    missed = [
        abs(weight[scores > cut].sum() / weight.sum() - tenths / 10)
        for cut in [-np.inf, *distinct, threshold]
    ]
    assert missed[-1] <= min(missed) + 1e-12


def test_quantile_by_hand():
    scores = [3.0, 1.0, 2.0, 2.0]
    assert quantile_threshold(scores, 0.25) == 2.5
    assert quantile_threshold(scores, 0.5) == 2.5  # as near as three quarters, and smaller
    assert quantile_threshold(scores, 0.7) == 1.5
    assert quantile_threshold(scores, 0.0) == 3.0
    assert np.nextafter(1.0, 0.0) == quantile_threshold(scores, 1.0)
    assert quantile_threshold(scores, 0.5, np.array([0, 1, 1, 2])) == 1.5
    assert quantile_threshold([0.3, 0.3], 0.2) == 0.3
    close = [1.0, 1.0 + 2**-52]
    assert np.mean(np.array(close) > quantile_threshold(close, 0.5)) == 0.5


def test_scores_of_any_precision(global_random_seed):
    scores = np.random.default_rng(global_random_seed).standard_normal(50).astype(np.float32)
    assert natural_break(scores) == natural_break(scores.astype(float))
    assert_allclose(natural_break(scores[::-1]), natural_break(scores), rtol=0)
