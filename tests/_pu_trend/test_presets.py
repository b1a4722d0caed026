"""The published method, against its formulas written out in loops, from recorded histories."""

import math
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin

from pnsklearn import PUTrendClassifier
from pnsklearn._pu_trend import _estimator
from pnsklearn.exceptions import PUTrendWarning

# One run on training rows may rank them too well: of no concern here.
pytestmark = pytest.mark.filterwarnings("ignore::pnsklearn.exceptions.PUTrendWarning")
PRESETS = [PUTrendClassifier.paper, PUTrendClassifier.authors_code]


@pytest.fixture
def data(global_random_seed):
    """70 unlabelled rows, 40 % of them positive, and 30 labelled positives."""
    rng = np.random.default_rng(global_random_seed)
    positive = np.arange(100) < 58
    X = rng.standard_normal((100, 3)) + 1.5 * positive[:, None]
    return X, (np.arange(100) < 30).astype(int)


def simple_trend(p):
    """Return mean_t log(1 + d_t + d_t^2 / 2) of one row's curve: the authors' code."""
    total = 0.0
    for t in range(len(p) - 1):
        d = p[t + 1] - p[t]
        total += math.log(1 + d + d * d / 2)
    return total / (len(p) - 1)


def pairwise_trend(p):
    """Return 2 / (T (T - 1)) sum_{i < j} psi(2 (p_j - p_i)): the paper's equations 4 and 5."""
    total = 0.0
    for i in range(len(p)):
        for j in range(i + 1, len(p)):
            x = 2 * (p[j] - p[i])
            size = math.log(1 + abs(x) + x * x / 2)
            total += size if x > 0 else -size
    return 2 * total / (len(p) * (len(p) - 1))


def best_cut(values, criterion):
    """Return the largest value of the lower group, over all cuts of sorted values."""
    values = sorted(values)
    best, lower = math.inf, None
    for cut in range(1, len(values)):
        if values[cut - 1] == values[cut]:
            continue
        total = 0.0
        for group in (values[:cut], values[cut:]):
            mean = math.fsum(group) / len(group)
            sse = math.fsum((v - mean) ** 2 for v in group)
            total += sse / len(group) if criterion == "variance" else sse
        if total < best:
            best, lower = total, values[cut - 1]
    return lower


def paper_cut(values):
    """Equation 8: SSE_l / n_l + SSE_r / n_r."""
    return best_cut(values, "variance")


def code_cut(values):
    """Fisher and Jenks; if the break is positive, again without the trends from 0.2 / 9."""
    lower = best_cut(values, "sse")
    if lower > 0:
        lower = best_cut([v for v in values if v < 0.2 / 9], "sse")
    return lower


@pytest.mark.parametrize("steps", [1, 5, 40])
@pytest.mark.parametrize(
    "preset, trend_of, cut_of",
    [
        (PUTrendClassifier.paper, pairwise_trend, paper_cut),
        (PUTrendClassifier.authors_code, simple_trend, code_cut),
    ],
)
def test_formulas(preset, trend_of, cut_of, steps, data):
    X, s = data
    model = preset(steps_per_snapshot=steps, store_history=True, random_state=0).fit(X, s)
    history = model.score_history_.astype(float)
    assert history.shape == (model.stop_snapshot_ + 1, 70)
    expected = np.array([trend_of(curve) for curve in history.T])
    assert_allclose(model.trend_scores_, expected, atol=1e-6)
    # The cut of exactly these scores; the threshold is midway to the next one.
    lower = cut_of(model.trend_scores_.tolist())
    positive = model.trend_scores_ > lower
    assert_array_equal(model.transduction_, positive.astype(int))
    upper = model.trend_scores_[positive].min()
    assert model.split_threshold_ == pytest.approx((lower + upper) / 2, abs=1e-12)
    assert model.class_prior_ == positive.mean()
    # And of the recorded curves, up to rows that are a rounding error from the cut.
    recorded = expected > cut_of(expected.tolist()) + 1e-6
    clear = np.abs(expected - model.split_threshold_) > 2e-6
    assert_array_equal(positive[clear], recorded[clear])
    assert clear.mean() > 0.9


def test_the_paper_stops_early_and_the_code_does_not(data):
    """The paper keeps the snapshots up to the smallest loss; the code keeps them all."""
    X, s = data
    code = PUTrendClassifier.authors_code(
        "linear", steps_per_snapshot=30, store_history=True, random_state=0
    ).fit(X, s)
    assert code.stop_snapshot_ == 14 and code.score_history_.shape == (15, 70)
    paper = PUTrendClassifier.paper(
        "linear", steps_per_snapshot=30, store_history=True, random_state=0
    ).fit(X, s)
    # Both trained the same run.
    n_used = paper.stop_snapshot_ + 1
    assert_array_equal(paper.score_history_, code.score_history_[:n_used])
    assert paper.n_iter_ == code.n_iter_ == 15


class Rising(ClassifierMixin, BaseEstimator):
    """Scores that rise by the first feature with every batch."""

    def fit(self, X, y):
        return self

    def partial_fit(self, X, y, classes):
        self.n_batches_ = getattr(self, "n_batches_", 0) + 1
        return self

    def predict_proba(self, X):
        p = 0.1 + X[:, 0] * getattr(self, "n_batches_", 0)
        return np.stack([1 - p, p], axis=1)


def test_second_break_of_the_code():
    """Where even the lower group rises, steep trends are left out of the second break."""
    rise = np.repeat([0.05, 0.004, 0.012, 0.05], [10, 20, 20, 5])
    rise[10:50] += np.linspace(0, 1e-3, 40)
    rise[50:] += np.linspace(0, 1e-3, 5)
    s = (np.arange(55) < 10).astype(int)
    model = PUTrendClassifier.authors_code(
        Rising(), steps_per_snapshot=1, store_history=True, pseudo_labels="hard"
    )
    model.fit(rise[:, None], s)
    scores = [simple_trend(curve) for curve in model.score_history_.T.astype(float)]
    assert_allclose(model.trend_scores_, scores, atol=1e-6)
    assert_allclose(model.trend_scores_, rise[10:], rtol=0.02)
    # The first break is below the five steep ones; the second below the twenty next to them.
    assert best_cut(scores, "sse") == pytest.approx(0.013, abs=5e-4)
    assert model.transduction_.sum() == 25
    assert_array_equal(model.transduction_, (scores > np.float64(code_cut(scores))).astype(int))


@pytest.mark.parametrize("preset", PRESETS)
def test_first_stage_written_out(preset, data):
    """One logistic regression on all rows, in NumPy: its scores are the recorded history."""
    X, s = data
    model = preset("linear", steps_per_snapshot=10, store_history=True, random_state=0).fit(X, s)
    Z = np.c_[(X - X.mean(axis=0)) / X.std(axis=0), np.ones(100)]
    target = np.where(s == 1, 0.95, 0.0)
    share = np.where(s == 1, 0.5 / 30, 0.5 / 70)
    theta, velocity, average = np.zeros(4), np.zeros(4), np.zeros(4)
    n_used, step = model.stop_snapshot_ + 1, 0
    for snapshot in range(n_used):
        for _ in range(10):
            gradient = Z.T @ (share * (expit(Z @ theta) - target)) + 5e-4 * theta
            velocity = 0.9 * velocity + gradient
            rate = 0.03 * math.cos(7 * math.pi * step / (16 * 150))
            theta = theta - rate * (gradient + 0.9 * velocity)
            decay = min(0.999, (1 + step) / (10 + step))
            average = decay * average + (1 - decay) * theta
            step += 1
        assert_allclose(model.score_history_[snapshot], expit(Z[s == 0] @ average), atol=1e-6)


def test_published_parameters():
    common = {
        "estimator": "mlp", "final_estimator": "same", "pseudo_labels": "ramped",
        "n_snapshots": 15, "steps_per_snapshot": 512, "n_folds": None, "ema": 0.999,
        "label_smoothing": 0.1, "batch_size": 64, "class_prior": None,
    }  # fmt: skip
    own = [
        {"trend": "pairwise", "split": "variance", "early_stopping": True},
        {"trend": "simple", "split": "authors", "early_stopping": False},
    ]
    for preset, differing in zip(PRESETS, own, strict=True):
        model = preset()
        assert isinstance(model, PUTrendClassifier)
        params = model.get_params()
        assert {name: params[name] for name in common | differing} == common | differing
        defaults = PUTrendClassifier().get_params()
        others = params.keys() - (common | differing).keys()
        assert all(params[name] == defaults[name] for name in others)
        changed = preset("linear", n_snapshots=3, trend="mean", random_state=5)
        assert (changed.estimator, changed.n_snapshots) == ("linear", 3)
        assert (changed.trend, changed.random_state) == ("mean", 5)


@pytest.mark.parametrize("preset", PRESETS)
def test_second_stage(preset, data, monkeypatch):
    """A fresh network on P and the pseudo-labelled U, targets ramped."""
    seen = {}
    fit_network = _estimator.fit_network

    def spy(kind, X, y, weight, unlabeled, plan, rng, *, ramped):
        seen.update(kind=kind, X=X, y=y, weight=weight, unlabeled=unlabeled, ramped=ramped)
        return fit_network(kind, X, y, weight, unlabeled, plan, rng, ramped=ramped)

    monkeypatch.setattr(_estimator, "fit_network", spy)
    X, s = data
    model = preset(steps_per_snapshot=5, random_state=0).fit(X, s)
    assert seen["kind"] == "mlp" and seen["ramped"]
    assert_array_equal(seen["unlabeled"], np.arange(100) >= 30)
    assert_allclose(seen["weight"], 1, atol=1e-5)
    labels = {tuple(row): label for row, label in zip(seen["X"], seen["y"], strict=True)}
    labels = [labels[tuple(row)] for row in X]
    assert_array_equal(labels, np.r_[np.ones(30), model.transduction_])
    assert model.predict_proba(X).shape == (100, 2)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_learn(preset, global_random_seed):
    """After few steps, on easy data; the published number of steps can invert the trend here."""
    rng = np.random.default_rng(global_random_seed)
    y = np.arange(600) < 300
    X = rng.standard_normal((600, 2)) + 3.0 * y[:, None]
    s = (np.arange(600) < 100).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PUTrendWarning)
        model = preset("linear", steps_per_snapshot=10, random_state=0).fit(X, s)
    assert np.mean(model.predict(X) == y) > 0.9
