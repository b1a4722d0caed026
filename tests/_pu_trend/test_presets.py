"""The published method, against its formulas written out in loops, from recorded histories."""

import math
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from pnsklearn import PUTrendClassifier
from pnsklearn.exceptions import PUWarning
from tests.callbacks import Callback

# One run on training rows may rank them too well: of no concern here.
pytestmark = pytest.mark.filterwarnings("ignore::pnsklearn.exceptions.PUWarning")
PRESETS = [PUTrendClassifier.paper, PUTrendClassifier.authors_code]


@pytest.fixture
def data(global_random_seed):
    """70 unlabeled rows, 40 % of them positive, and 30 labeled positives."""
    rng = np.random.default_rng(global_random_seed)
    positive = np.arange(100) < 58
    X = rng.standard_normal((100, 3)) + 1.5 * positive[:, None]
    return X, (np.arange(100) < 30).astype(int)


class Recorder(Callback):
    """A callback that keeps the scores of rows at each snapshot: there is one run, on all rows."""

    def __init__(self, X, stop_after=None):
        self.X, self.history, self.stop_after = X, [], stop_after

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        if context.task_name == "snapshot":
            self.history.append(fitted_estimator.predict_proba(self.X)[:, 1])
        return len(self.history) == self.stop_after


def fit_and_record(model, X, s, stop_after=None):
    """Return the fitted model and the scores of U at the snapshots in use."""
    recorder = Recorder(X[s == 0], stop_after)
    model.set_callbacks(recorder).fit(X, s)
    return model, np.array(recorder.history[: model.stop_snapshot_ + 1])


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


@pytest.mark.parametrize(
    "changes", [{"n_passes": 10}, {"n_passes": 40, "n_snapshots": 4}, {"n_snapshots": 3}], ids=str
)
@pytest.mark.parametrize(
    "preset, trend_of, cut_of",
    [
        (PUTrendClassifier.paper, pairwise_trend, paper_cut),
        (PUTrendClassifier.authors_code, simple_trend, code_cut),
    ],
)
def test_formulas(preset, trend_of, cut_of, changes, data):
    X, s = data
    model, history = fit_and_record(preset(random_state=0, **changes), X, s)
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
    presets = (preset("linear", n_passes=10, random_state=0) for preset in PRESETS)
    (paper, kept), (code, whole) = (fit_and_record(model, X, s) for model in presets)
    assert code.stop_snapshot_ == 14 and whole.shape == (15, 70)
    # Both trained the same run.
    assert_array_equal(kept, whole[: paper.stop_snapshot_ + 1])
    assert paper.n_iter_ == code.n_iter_ == 15
    # The loss of the training rows is smallest where the paper stops.
    recorder = Recorder(X)
    clone(code).set_callbacks(recorder).fit(X, s)
    losses = [-np.log(p[s == 1]).mean() - np.log(1 - p[s == 0]).mean() for p in recorder.history]
    assert paper.stop_snapshot_ == max(1, np.argmin(losses))


class Rising(ClassifierMixin, BaseEstimator):
    """Scores that rise by the first feature with every twenty batches, a snapshot."""

    def fit(self, X, y):
        return self

    def partial_fit(self, X, y, classes):
        self.n_batches_ = getattr(self, "n_batches_", 0) + 1
        return self

    def predict_proba(self, X):
        p = 0.1 + X[:, 0] * getattr(self, "n_batches_", 0) / 20
        return np.stack([1 - p, p], axis=1)


def test_second_break_of_the_code():
    """Where even the lower group rises, steep trends are left out of the second break."""
    rise = np.repeat([0.05, 0.004, 0.012, 0.05], [10, 20, 20, 5])
    rise[10:50] += np.linspace(0, 1e-3, 40)
    rise[50:] += np.linspace(0, 1e-3, 5)
    s = (np.arange(55) < 10).astype(int)
    model = PUTrendClassifier.authors_code(Rising(), n_passes=1, pseudo_labels="hard")
    model, history = fit_and_record(model, rise[:, None], s)
    scores = [simple_trend(curve) for curve in history.T]
    assert_allclose(model.trend_scores_, scores, atol=1e-6)
    assert_allclose(model.trend_scores_, rise[10:], rtol=0.02)
    # The first break is below the five steep ones; the second below the twenty next to them.
    assert best_cut(scores, "sse") == pytest.approx(0.013, abs=5e-4)
    assert model.transduction_.sum() == 25
    assert_array_equal(model.transduction_, (scores > np.float64(code_cut(scores))).astype(int))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("n_passes, steps, most", [("published", 512, 0.999), (10, 20, 0.975)])
def test_first_stage_written_out(n_passes, steps, most, preset, data):
    """One logistic regression on all rows, in NumPy: its scores are the recorded history."""
    X, s = data
    model = preset("linear", n_passes=n_passes, n_snapshots=20, random_state=0)
    # The cosine is that of all twenty snapshots; three of them will do here.
    model, history = fit_and_record(model, X, s, stop_after=3)
    Z = np.c_[(X - X.mean(axis=0)) / X.std(axis=0), np.ones(100)]
    target = np.where(s == 1, 0.95, 0.0)
    share = np.where(s == 1, 0.5 / 30, 0.5 / 70)
    theta, velocity, average = np.zeros(4), np.zeros(4), np.zeros(4)
    step = 0
    for recorded in history:
        for _ in range(steps):
            gradient = Z.T @ (share * (expit(Z @ theta) - target)) + 5e-4 * theta
            velocity = 0.9 * velocity + gradient
            rate = 0.03 * math.cos(7 * math.pi * step / (16 * 20 * steps))
            theta = theta - rate * (gradient + 0.9 * velocity)
            decay = min(most, (1 + step) / (10 + step))
            average = decay * average + (1 - decay) * theta
            step += 1
        assert_allclose(recorded, expit(Z[s == 0] @ average), atol=1e-6)


def test_published_parameters():
    common = {
        "estimator": "mlp", "final_estimator": "same", "pseudo_labels": "ramped",
        "n_snapshots": 15, "n_passes": "published", "n_folds": None,
    }  # fmt: skip
    own = [{"trend": "pairwise", "split": "variance"}, {"trend": "simple", "split": "authors"}]
    for preset, differing in zip(PRESETS, own, strict=True):
        model = preset()
        assert isinstance(model, PUTrendClassifier)
        defaults = PUTrendClassifier().get_params()
        assert clone(model).get_params() == defaults | common | differing
        changed = preset("linear", n_snapshots=3, trend="mean", random_state=5)
        assert (changed.estimator, changed.n_snapshots) == ("linear", 3)
        assert (changed.trend, changed.random_state) == ("mean", 5)


@pytest.mark.parametrize("preset", PRESETS)
def test_second_stage_written_out(preset, data):
    """A fresh logistic regression on P and the pseudo-labeled U, whose targets rise."""
    X, s = data
    model = preset("linear", n_passes=10, n_snapshots=3, random_state=0).fit(X, s)
    y = np.ones(100)
    y[s == 0] = model.transduction_
    Z = np.c_[(X - X.mean(axis=0)) / X.std(axis=0), np.ones(100)]
    theta, velocity, average = np.zeros(4), np.zeros(4), np.zeros(4)
    for step in range(200):  # 50 epochs, each of as many steps as 256 rows have batches
        ramp = min(1, step // 4 / 25) ** 0.8
        target = np.where(s == 1, 1.0, ramp * y)
        gradient = Z.T @ (expit(Z @ theta) - target) / 100 + 5e-4 * theta
        velocity = 0.9 * velocity + gradient
        theta = theta - 0.03 * math.cos(7 * math.pi * step / (16 * 200)) * (
            gradient + 0.9 * velocity
        )
        decay = min(0.999, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * theta
    assert_allclose(model.predict_proba(X)[:, 1], expit(Z @ average), atol=1e-5)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_learn(preset, global_random_seed):
    """After few steps, on easy data; the published number of steps can invert the trend here."""
    rng = np.random.default_rng(global_random_seed)
    y = np.arange(600) < 300
    X = rng.standard_normal((600, 2)) + 3.0 * y[:, None]
    s = (np.arange(600) < 100).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PUWarning)
        model = preset("linear", n_passes=1, random_state=0).fit(X, s)
    assert np.mean(model.predict(X) == y) > 0.9
