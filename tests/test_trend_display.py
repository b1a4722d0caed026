"""The display of trends, without a screen."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pnsklearn import PUTrendClassifier
from pnsklearn.displays import TrendDisplay
from pnsklearn.metrics import PriorPosterior

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture
def plt():
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


class Fitted(BaseEstimator):
    """The attributes that the display reads."""

    def __init__(self):
        rng = np.random.default_rng(0)
        means = np.linspace([0.5, 0.5, 0.5], [0.9, 0.8, 0.1], 6).T
        self.snapshot_quantiles_ = np.stack([means - 0.05, means, means + 0.1], axis=-1)
        self.trend_scores_ = np.append(rng.normal(-0.1, 0.02, 80), rng.normal(0.1, 0.02, 20))
        self.heldout_trend_scores_ = rng.normal(0.1, 0.02, 30)
        self.split_threshold_ = 0.01
        self.stop_snapshot_ = 4
        self.selected_trend_ = "slope"
        shares = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
        self.class_prior_posterior_ = PriorPosterior(shares, np.array([0, 0.4, 0.5, 0.1, 0]))
        self.class_prior_, self.class_prior_interval_ = 0.4, (0.3, 0.6)
        self.diagnostics_ = (("doubt", 0.25, 0.15, "in doubt"), ("held-out AUC", 0.9, 0.5, "fine"))

    def fit(self, X, y):
        return self


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def marked(ax, name):
    """Return where the vertical lines stand whose labels begin with a name."""
    lines = (line for line in ax.lines if line.get_label().startswith(name))
    return [line.get_xdata()[0] for line in lines]


def test_trajectories(plt):
    model = Fitted()
    display = TrendDisplay.from_estimator(model)
    left = display.ax_[0]
    for line, band, quantiles in zip(
        display.lines_, display.bands_, model.snapshot_quantiles_, strict=True
    ):
        assert_allclose(line.get_xydata(), np.column_stack([np.arange(6), quantiles[:, 1]]))
        extent = band.get_paths()[0].get_extents()
        assert_allclose([extent.y0, extent.y1], [quantiles[:, 0].min(), quantiles[:, 2].max()])
    assert legend(left)[0] == "held-out positives"
    assert marked(left, "last in use") == [4]
    assert left.get_xlabel() == "Snapshot"
    display.figure_.canvas.draw()


def test_histogram(plt):
    model = Fitted()
    display = TrendDisplay.from_estimator(model, other_threshold=0.05)
    right = display.ax_[1]
    bars = right.patches[: len(right.containers[0])]
    area = sum(bar.get_width() * bar.get_height() for bar in bars)
    above = sum(bar.get_width() * bar.get_height() for bar in bars if bar.get_x() > 0)
    assert area == pytest.approx(1)
    assert above == pytest.approx(np.mean(model.trend_scores_ > 0))
    assert marked(right, "threshold (0.01)") == [0.01]
    assert marked(right, "other threshold (0.05)") == [0.05]
    assert right.get_xlabel() == "Trend score (slope)"
    assert set(legend(right)) >= {"unlabeled", "held-out positives"}


def test_table(plt):
    display = TrendDisplay.from_estimator(Fitted())
    [table] = display.ax_[2].tables
    texts = {place: cell.get_text() for place, cell in table.get_celld().items()}
    assert [texts[1, column].get_text() for column in range(4)] == [
        "doubt", "0.25", "0.15", "in doubt",
    ]  # fmt: skip
    assert texts[1, 3].get_color() != texts[2, 3].get_color()
    display.figure_.canvas.draw()


def test_posterior(plt):
    display = TrendDisplay.from_estimator(Fitted())
    [inset] = display.ax_[2].child_axes
    assert inset.get_title() == "0.40 (0.30 to 0.60); doubt 0.25, in doubt"
    assert inset.lines[0].get_xdata()[0] == 0.4
    [area] = inset.collections
    outline = area.get_paths()[0].vertices
    density = outline[outline[:, 0] == 0.5, 1].max()
    assert density == pytest.approx(0.5 / 0.2)  # half of the probability on 0.4 to 0.6
    assert inset.get_ylim() == (0, pytest.approx(1.1 * density))
    # Nothing to draw where the share is only that of a natural break.
    natural = Fitted()
    natural.class_prior_interval_ = (np.nan, np.nan)
    assert not TrendDisplay.from_estimator(natural).ax_[2].child_axes
    known = Fitted()
    known.class_prior_posterior_ = PriorPosterior(np.full(3, 0.4), np.full(3, 1 / 3))
    [inset] = TrendDisplay.from_estimator(known).ax_[2].child_axes
    assert not inset.collections
    display.figure_.canvas.draw()


def test_plots_where_told(plt):
    _, axes = plt.subplots(1, 3)
    pipeline = make_pipeline(StandardScaler(), Fitted())
    display = TrendDisplay.from_estimator(pipeline, ax=axes[1:], linewidth=3.0)
    assert list(display.ax_) == list(axes[1:])
    assert display.figure_ is axes[0].figure
    assert not axes[0].lines
    assert {line.get_linewidth() for line in display.lines_} == {3.0}
    assert display.plot((axes[0], axes[2])) is display
    assert axes[0].lines
    assert len(display.plot(axes).ax_) == 3
    for wrong in (axes[0], axes[:1]):
        with pytest.raises(ValueError, match="None or two axes"):
            display.plot(wrong)


def test_from_arrays(plt):
    """A group without rows, no held-out positives, equal scores, and nothing to mark."""
    quantiles = np.full((3, 2, 3), 0.5)
    quantiles[0] = np.nan
    display = TrendDisplay(quantiles, np.zeros(5), [], 0.0).plot()
    left, right = display.ax_
    assert marked(left, "last in use") == []
    assert marked(right, "other") == []
    assert "held-out positives" not in legend(right)
    display.figure_.canvas.draw()


def test_needs_a_fitted_estimator():
    for model in (PUTrendClassifier(), make_pipeline(StandardScaler(), PUTrendClassifier())):
        with pytest.raises(NotFittedError):
            TrendDisplay.from_estimator(model)


def test_another_estimator_is_refused():
    fitted = GaussianNB().fit([[0.0], [1.0]], [0, 1])
    for model in (fitted, make_pipeline(fitted)):
        with pytest.raises(TypeError, match="must be a PUTrendClassifier, got a GaussianNB"):
            TrendDisplay.from_estimator(model)
