"""The share of positives and the doubt, on two normal groups of which the truth is known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix
from scipy.stats import norm, rankdata
from sklearn.metrics import roc_auc_score

from pnsklearn._pu_trend import _share
from pnsklearn._pu_trend._sample import Rows, Sample
from pnsklearn._pu_trend._share import (
    Share,
    Views,
    doubt,
    estimated_share,
    forest_scores,
    known_share,
    ranks_in,
    two_views,
)
from pnsklearn.metrics import class_prior, class_prior_posterior


def make_views(seed, prior, gap, n_P=200, n_U=2000, weight=None):
    """Return two views with errors of their own, half of the variance each."""
    rng = np.random.default_rng(seed)
    y = np.arange(n_U) < prior * n_U
    scores = []
    for mean in (np.full(n_P, gap), gap * y):
        z = rng.normal(mean)
        scores.append(z[:, None] + rng.normal(0, 0.3, (len(z), 2)))
    weight = weight or [np.ones(n_P), np.ones(n_U)]
    rank = [
        np.mean([ranks_in(scores[1][:, v], weight[1], s[:, v]) for v in (0, 1)], axis=0)
        for s in scores
    ]
    return Views(scores, rank, weight, [w.sum() for w in weight], np.arange(n_U))


@pytest.mark.parametrize("prior", [0.05, 0.3, 0.7])
def test_the_interval_widens_with_the_overlap(prior, global_random_seed):
    """And still covers the truth; the estimate is right where the classes are apart."""
    found = [estimated_share(make_views(global_random_seed, prior, g), 0, 1) for g in (5, 3, 1.5)]
    widths = [share.interval[1] - share.interval[0] for share in found]
    assert widths[0] < widths[1] < widths[2]
    assert found[0].estimate == pytest.approx(prior, abs=0.06)
    for share in found:
        assert share.interval[0] <= share.estimate <= share.interval[1]
        assert share.interval[0] - 0.03 < prior < share.interval[1] + 0.03
        assert share.probability.sum() == pytest.approx(1)


def test_estimate_is_the_smallest_of_three():
    views = make_views(0, 0.3, 2.0)
    share = estimated_share(views, 0, 1)
    first = class_prior_posterior(*(s[:, 0] for s in views.scores), power=0.7).quantile(0.5)
    both = class_prior_posterior(*views.scores, power=0.7).quantile(0.5)
    bound = class_prior(*views.rank, method="bbe")
    assert share.bound == bound
    assert share.estimate == pytest.approx(min(first, both, bound))


def test_the_bound_holds():
    """Of a share that must be above the bound, and of one that is far below it."""
    views = make_views(0, 0.2, 4.0)
    high = estimated_share(views, 0.6, 0.9)
    assert high.bound < 0.3 and high.estimate == 0.6 and high.interval == (0.6, 0.6)
    assert high.probability.sum() == pytest.approx(1)
    low = estimated_share(views, 0.01, 0.05)
    assert 0.03 < low.estimate <= 0.05


def test_known_share():
    share = known_share(0.1, 0.3)
    assert share.estimate == pytest.approx(0.2)
    assert_allclose(share.interval, (0.11, 0.29))
    exact = estimated_share(make_views(0, 0.2, 4.0), 0.25, 0.25)
    assert exact.estimate == 0.25 and exact.bound < 0.3
    assert_allclose(exact.interval, 0.25)


def test_ranks_in():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 9, 50).astype(float)
    assert_allclose(ranks_in(values, np.ones(50), values), (rankdata(values) - 0.5) / 50)
    weight = rng.integers(1, 4, 50)
    repeated = np.repeat(values, weight)
    expected = ranks_in(repeated, np.ones(len(repeated)), values)
    assert_array_equal(ranks_in(values, weight.astype(float), values), expected)
    assert_array_equal(ranks_in(values, np.ones(50), np.array([-1.0, 99.0])), [0, 1])


def sample_of(X, labeled, weight=None):
    weight = np.ones(len(labeled)) if weight is None else weight
    parts = [(X[rows], weight[rows]) for rows in (labeled, ~labeled)]
    return Sample(*(Rows(Z, w, np.ones((len(w), 4), bool)) for Z, w in parts))


def ring(seed, n=700):
    """Positives within negatives: no linear score tells them apart, a forest does."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    inner = np.hypot(*X.T) < 0.8
    labeled = inner & (np.cumsum(inner) <= 80)
    return X, labeled, inner


@pytest.mark.parametrize("convert", [np.asarray, csr_matrix, lambda X: X.reshape(-1, 1, 2)])
def test_second_view(convert, global_random_seed):
    X, labeled, inner = ring(global_random_seed)
    scores = forest_scores(
        [convert(X[labeled]), convert(X[~labeled])], [np.ones(80), np.ones(620)],
        np.random.RandomState(0), whole=False,
    )  # fmt: skip
    assert roc_auc_score(inner[~labeled], scores[1]) > 0.85
    # Held out: labeled and other positives score alike.
    labels = np.repeat([1, 0], [80, np.sum(inner & ~labeled)])
    others = np.concatenate([scores[0], scores[1][inner[~labeled]]])
    assert roc_auc_score(labels, others) < 0.65


def test_second_view_of_weights():
    """A weight is a repetition, and equal rows are in one fold."""
    X, labeled, _ = ring(0, 120)
    weight = np.random.default_rng(0).integers(1, 3, 120).astype(float)
    rows = np.repeat(np.arange(120), weight.astype(int))
    parts = [X[labeled], X[~labeled]], [weight[labeled], weight[~labeled]]
    weighted = forest_scores(*parts, np.random.RandomState(0), whole=True)
    repeated = [X[rows][labeled[rows]], X[rows][~labeled[rows]]]
    ones = [np.ones(len(part)) for part in repeated]
    expected = forest_scores(repeated, ones, np.random.RandomState(0), whole=True)
    for a, b, w in zip(weighted, expected, parts[1], strict=True):
        assert_allclose(np.repeat(a, w.astype(int)), b, atol=1e-9)


def test_many_rows_are_sampled(monkeypatch):
    monkeypatch.setattr(_share, "MOST_ROWS", 300)
    X, labeled, _ = ring(0)
    trends = [X[labeled, 0], X[~labeled, 0]]
    views = two_views(trends, sample_of(X, labeled), np.random.RandomState(0), whole=False)
    assert [len(s) for s in views.scores] == [80, 300]
    assert views.total == [80.0, 620.0]
    assert len(np.unique(views.rows)) == 300
    assert_array_equal(views.scores[1][:, 0], trends[1][views.rows])


# Doubt


def exactly(prior):
    return Share(prior, (prior, prior), 1.0, np.array([prior]), np.ones(1))


@pytest.mark.parametrize("scenario", ["single", "case-control"])
@pytest.mark.parametrize("gap, prior", [(1.0, 0.1), (1.0, 0.5), (3.0, 0.1), (2.0, 0.9)])
def test_doubt_is_the_truth_where_the_share_is_known(gap, prior, scenario):
    """With many rows it is 0 or 1, as the accuracy of normal groups says."""
    views = make_views(0, prior, gap, n_P=5000, n_U=20_000)
    spread = np.hypot(1, 0.3 / np.sqrt(2))
    population = prior if scenario == "case-control" else (5000 + prior * 20_000) / 25_000
    for called in (0.02, 0.1, 0.3, 0.5, 0.8, 0.95):
        # The cut above which this share of U is.
        cuts = np.linspace(-6, 9, 20_001)
        hits, false = norm.sf(cuts, gap, spread), norm.sf(cuts, 0, spread)
        cut = np.argmin(np.abs(prior * hits + (1 - prior) * false - called))
        accuracy = population * hits[cut] + (1 - population) * (1 - false[cut])
        gain = accuracy - max(population, 1 - population)
        if abs(gain) > 0.03:
            expected = float(gain < 0)
            assert doubt(exactly(prior), views, called, scenario) == pytest.approx(expected)


def test_doubt_is_an_average_over_shares():
    views = make_views(0, 0.3, 2.0, n_P=5000)
    shares = np.array([0.05, 0.3])
    both = Share(0.3, (0.05, 0.3), 1.0, shares, np.array([0.25, 0.75]))
    alone = [doubt(exactly(share), views, 0.3, "case-control") for share in shares]
    assert alone == [1.0, 0.0]
    assert doubt(both, views, 0.3, "case-control") == pytest.approx(0.25)


def test_doubt_of_calling_all_the_same():
    """It is as accurate as itself where it is the right side."""
    views = make_views(0, 0.1, 3.0, n_P=5000)
    assert doubt(exactly(0.1), views, 0.0, "case-control") == 0
    assert doubt(exactly(0.1), views, 1.0, "case-control") == 1
    assert doubt(exactly(0.9), views, 1.0, "case-control") < 0.3
