"""The display of policy values, without a screen."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch

from pnsklearn.datasets import make_feedback
from pnsklearn.displays import PolicyValueDisplay
from pnsklearn.metrics import effective_sample_size
from pnsklearn.metrics._off_policy import ValueEstimate

matplotlib = pytest.importorskip("matplotlib")

ESTIMATES = {
    "ips": ValueEstimate(0.5, 0.1, 0.3, 0.7),
    "snips": ValueEstimate(0.4, 0.05, 0.3, 0.5),
    "clipped_ips": ValueEstimate(0.3, 0.1, 0.1, 0.5),
    "dr": ValueEstimate(0.45, 0.02, 0.41, 0.49),
}
LOGGED = ValueEstimate(0.1, 0.05, 0.0, 0.2)
X = np.array([[0.0], [1.0], [0.0], [2.0]])
ACTION = np.array(["left", "right", "right", "up"])
REWARD, PROPENSITY = np.array([1.0, 0.0, 1.0, 1.0]), np.array([0.5, 0.25, 0.5, 0.1])
LOG = {"reward": REWARD, "propensity": PROPENSITY}
WEIGHTS = np.array([0.2 / 0.5, 0.8 / 0.25, 0.8 / 0.5, 0.0])  # "up" is unknown


@pytest.fixture
def plt():
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


class Policy(ClassifierMixin, BaseEstimator):
    """What the display asks of a policy: left with 0.2, right with 0.8."""

    def fit(self, X, y):
        self.classes_ = np.array(["left", "right"])
        return self

    def predict_proba(self, X):
        self.seen_ = np.asarray(X)
        return np.tile([0.2, 0.8], (len(X), 1))

    def evaluate(self, X, y, sample_weight=None, *, reward, propensity):
        self.asked_ = (y, sample_weight, reward, propensity)
        return Bunch(**ESTIMATES, logged=LOGGED)


def bars(ax):
    """Return (lower edge, weight) of the bars that are not empty."""
    return [(bar.get_x(), bar.get_height()) for bar in ax.patches if bar.get_height() > 0]


def test_values_of_each_estimator(plt):
    display = PolicyValueDisplay.from_estimator(Policy().fit(X, ACTION), X, ACTION, **LOG)
    left = display.ax_[0]
    line, _, (intervals,) = display.errorbar_
    assert_allclose(line.get_ydata(), [0.5, 0.4, 0.3, 0.45])
    ends = [segment[:, 1] for segment in intervals.get_segments()]
    assert_allclose(ends, [[e.low, e.high] for e in ESTIMATES.values()])
    ticks = [tick.get_text() for tick in left.get_xticklabels()]
    assert ticks == ["IPS", "SNIPS", "clipped IPS", "DR"]
    (logged,) = (line for line in left.lines if line.get_label() == "log")
    assert logged.get_ydata()[0] == 0.1
    display.figure_.canvas.draw()


def test_weights(plt):
    display = PolicyValueDisplay.from_estimator(Policy().fit(X, ACTION), X, ACTION, **LOG)
    assert_allclose(display.importance_weights, WEIGHTS)
    right = display.ax_[1]
    assert sum(height for _, height in bars(right)) == 4
    assert right.get_title() == f"Effective sample size {5.2**2 / (0.16 + 10.24 + 2.56):.1f} of 4"


def test_sample_weight(plt):
    model, weight = Policy().fit(X, ACTION), np.array([3.0, 0.0, 1.0, 1.0])
    display = PolicyValueDisplay.from_estimator(model, X, ACTION, sample_weight=weight, **LOG)
    assert model.asked_[1] is weight
    size = effective_sample_size(np.repeat(WEIGHTS, [3, 0, 1, 1]), np.ones(5))
    assert display.ax_[1].get_title() == f"Effective sample size {size:.1f} of 5"
    assert sum(height for _, height in bars(display.ax_[1])) == 5


def test_rounds(plt):
    model = Policy().fit(X, ACTION)
    model.rounds_ = [Bunch(value=ESTIMATES["clipped_ips"]), Bunch(value=ESTIMATES["ips"])]
    display = PolicyValueDisplay.from_estimator(model, X, ACTION, **LOG)
    left = display.ax_[0]
    assert_allclose(display.errorbar_[0].get_ydata(), [0.3, 0.5])
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["1", "2"]
    assert left.get_xlabel() == "Round"


def test_pipeline_and_structured_y(plt):
    pipeline = make_pipeline(StandardScaler(), Policy()).fit(X, ACTION)
    display = PolicyValueDisplay.from_estimator(
        pipeline, X, make_feedback(ACTION, REWARD, PROPENSITY)
    )
    assert_allclose(display.importance_weights, WEIGHTS)
    assert_allclose(pipeline[-1].seen_, pipeline[0].transform(X))
    action, _, reward, propensity = pipeline[-1].asked_
    assert list(action) == list(ACTION)
    assert_allclose([reward, propensity], [REWARD, PROPENSITY])
    alone = PolicyValueDisplay.from_estimator(make_pipeline(pipeline[-1]), X, ACTION, **LOG)
    assert_allclose(alone.importance_weights, WEIGHTS)


def test_plots_where_told(plt):
    _, axes = plt.subplots(1, 3)
    display = PolicyValueDisplay.from_estimator(
        Policy().fit(X, ACTION), X, ACTION, ax=axes[1:], color="C3", **LOG
    )
    assert list(display.ax_) == list(axes[1:])
    assert display.errorbar_[0].get_color() == "C3"
    assert not axes[0].lines
    assert display.plot((axes[0], axes[2])) is display
    for wrong in (axes[0], axes):
        with pytest.raises(ValueError, match="None or two axes"):
            display.plot(wrong)


SELECTION = Bunch(
    bounds=["topr", "topr", "is"], baseline=np.array([0.0, -0.75, 0.0]), C=np.array([0.1, 1, 10]),
    value=np.array([0.2, 0.5, 0.4]), standard_error=np.array([0.1, 0.2, 0.1]), logged=0.3,
    best_index=1,
)  # fmt: skip


def test_candidates(plt):
    model = Policy().fit(X, ACTION)
    with pytest.raises(ValueError, match="There was no choice"):
        PolicyValueDisplay.from_selection(model)
    model.selection_ = SELECTION
    for estimator in (model, make_pipeline(model)):
        display = PolicyValueDisplay.from_selection(estimator)
        (ax,) = display.ax_
        assert [tick.get_text() for tick in ax.get_xticklabels()] == [
            "topr, baseline 0, C=0.1", "topr, baseline -0.75, C=1", "is, C=10",
        ]  # fmt: skip
        line, _, (intervals,) = display.errorbar_
        assert_allclose(line.get_ydata(), [0.2, 0.5, 0.4])
        ends = [segment[:, 1] for segment in intervals.get_segments()]
        assert_allclose(ends, [[0.004, 0.396], [0.108, 0.892], [0.204, 0.596]], atol=1e-3)
        lines = {line.get_label(): line.get_xydata() for line in ax.lines}
        assert_allclose(lines["taken"], [[1, 0.5]])
        assert lines["log"][0][1] == 0.3
        display.figure_.canvas.draw()
    _, axes = plt.subplots(1, 2)
    assert display.plot(axes[1]).ax_[0] is axes[1]
    with pytest.raises(ValueError, match="None or one"):
        display.plot(axes)


def test_bad_input():
    with pytest.raises(NotFittedError):
        PolicyValueDisplay.from_estimator(Policy(), X, ACTION, **LOG)
    model = Policy().fit(X, ACTION)
    for wrong in ({}, {"reward": REWARD}, {"reward": REWARD, "propensity": "estimate"}):
        with pytest.raises(ValueError, match="needs reward and propensity as arrays"):
            PolicyValueDisplay.from_estimator(model, X, ACTION, **wrong)
