"""The display of a stack, without a screen."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_curve
from sklearn.model_selection import ShuffleSplit
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pnsklearn import AUPRCStackingClassifier
from pnsklearn.displays import StackingDisplay

matplotlib = pytest.importorskip("matplotlib")

MEMBERS = [("logistic", LogisticRegression()), ("bayes", GaussianNB())]
LABELS = np.array(["fine", "ill"])


@pytest.fixture
def plt():
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


@pytest.fixture(scope="module")
def data(cancer):
    """Features that do not separate the classes, labels, and weights, some of them zero."""
    X, y = cancer
    return X[:, :4], LABELS[y], 1.0 * (np.arange(len(y)) % 3)


@pytest.fixture(scope="module")
def fitted(data):
    """A stack whose splits test some of the rows only."""
    cv = ShuffleSplit(2, test_size=0.4, random_state=0)
    return AUPRCStackingClassifier(MEMBERS, cv=cv).fit(*data)


def stack_scores(model, rows):
    """Return the stack's log-odds of rows, but for the intercept, from the members'."""
    Z = (model.oof_decision_function_[rows] - model.center_) / model.scale_
    return Z @ model.coef_[0]


def at_recalls(y, scores, weight, recalls):
    """Return the precision of the first cut that reaches each recall."""
    precision, recall, _ = precision_recall_curve(
        y, scores, pos_label=LABELS[1], sample_weight=weight
    )
    return [precision[np.flatnonzero(recall >= level - 1e-9)[-1]] for level in recalls]


def test_curves(plt, fitted, data):
    _, y, weight = data
    display = StackingDisplay.from_estimator(fitted, y, sample_weight=weight)
    rows = np.isfinite(fitted.oof_decision_function_[:, 0])
    assert 0 < np.count_nonzero(rows) < np.count_nonzero(weight)
    columns = [*fitted.oof_decision_function_[rows].T, stack_scores(fitted, rows)]
    for line, scores in zip(display.lines_, columns, strict=True):
        precision, recall, _ = precision_recall_curve(
            y[rows], scores, pos_label="ill", sample_weight=weight[rows]
        )
        assert_allclose(line.get_xydata(), np.column_stack([recall, precision]))
    means = fitted.oof_average_precision_
    labels = [text.get_text() for text in display.ax_[0].get_legend().get_texts()]
    assert labels == [f"{n} (AP {means[n][0]:.3f} ± {means[n][1]:.3f})" for n in means]
    assert list(means) == ["logistic", "bayes", "stack"]
    display.figure_.canvas.draw()


def test_weights(plt, fitted, data):
    _, y, weight = data
    display = StackingDisplay.from_estimator(fitted, y, sample_weight=weight)
    right = display.ax_[1]
    assert [bar.get_width() for bar in display.bars_] == fitted.coef_[0].tolist()
    assert [label.get_text() for label in right.get_yticklabels()] == ["logistic", "bayes"]
    assert right.yaxis_inverted()
    for bar, line in zip(display.bars_, display.lines_, strict=False):
        color = matplotlib.colors.to_rgba(line.get_color())
        assert bar.get_facecolor() == color


class Draws(np.random.RandomState):
    """Draws that are kept, and that are the rows themselves at first."""

    def choice(self, rows, size):
        self.kept = getattr(self, "kept", [])
        self.kept.append(rows if len(self.kept) < 2 else super().choice(rows, size))
        return self.kept[-1]


def test_band(plt, fitted, data):
    """Its ends are quantiles over draws of rows; a draw of all rows once is the curve itself."""
    _, y, weight = data
    draws = Draws(0)
    display = StackingDisplay.from_estimator(
        fitted, y, sample_weight=weight, n_bootstrap=5, random_state=draws
    )
    rows = np.flatnonzero(np.isfinite(fitted.oof_decision_function_[:, 0]))
    rows = rows[np.argsort(-fitted.final_estimator_.decision_function(
        (fitted.oof_decision_function_[rows] - fitted.center_) / fitted.scale_
    ), kind="stable")]  # fmt: skip
    recalls, low, high = display.band
    drawn = [rows[np.concatenate(pair)] for pair in zip(*[iter(draws.kept)] * 2, strict=True)]
    assert_array_equal(np.sort(drawn[0]), np.sort(rows))
    assert all(np.sum(y[draw] == "ill") == np.sum(y[rows] == "ill") for draw in drawn)
    curves = [at_recalls(y[d], stack_scores(fitted, d), weight[d], recalls) for d in drawn]
    assert len(curves) == 5
    assert len(np.unique(curves, axis=0)) == 5
    assert_allclose([low, high], np.quantile(curves, [0.05, 0.95], axis=0))
    extent = display.band_.get_paths()[0].get_extents()
    assert_allclose([extent.y0, extent.y1], [low.min(), high.max()])


def test_band_is_the_same_each_time_and_may_be_left_out(plt, fitted, data):
    _, y, weight = data
    first, second, other = (
        StackingDisplay.from_estimator(fitted, y, sample_weight=weight, random_state=seed).band
        for seed in (0, 0, 1)
    )
    assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    bare = StackingDisplay.from_estimator(fitted, y, sample_weight=weight, n_bootstrap=0)
    assert bare.band is None
    assert bare.band_ is None


def test_plots_where_told(plt, data):
    X, y, _ = data
    pipeline = make_pipeline(StandardScaler(), AUPRCStackingClassifier(MEMBERS, cv=2)).fit(X, y)
    _, axes = plt.subplots(1, 3)
    display = StackingDisplay.from_estimator(pipeline, y, ax=axes[1:], linewidth=3.0)
    assert list(display.ax_) == list(axes[1:])
    assert display.figure_ is axes[0].figure
    assert not axes[0].lines
    assert {line.get_linewidth() for line in display.lines_} == {3.0}
    assert display.plot((axes[0], axes[2])) is display
    assert len(axes[0].lines) == 3
    for wrong in (axes[0], axes):
        with pytest.raises(ValueError, match="None or two axes"):
            display.plot(wrong)


def test_members_fitted_before_have_no_precision_of_splits(plt, data):
    X, y, _ = data
    members = [(name, clone(member).fit(X[::2], y[::2])) for name, member in MEMBERS]
    model = AUPRCStackingClassifier(members, cv="prefit").fit(X[1::2], y[1::2])
    display = StackingDisplay.from_estimator(model, y[1::2])
    labels = [line.get_label() for line in display.lines_]
    assert labels == ["logistic", "bayes", "stack"]


def test_errors(fitted, data):
    _, y, weight = data
    with pytest.raises(NotFittedError):
        StackingDisplay.from_estimator(AUPRCStackingClassifier(), y)
    with pytest.raises(TypeError, match="an AUPRCStackingClassifier, got a LogisticRegression"):
        StackingDisplay.from_estimator(LogisticRegression(), y)
    with pytest.raises(ValueError, match=f"9 labels, but the stack was fitted to {len(y)}"):
        StackingDisplay.from_estimator(fitted, y[:9])
    with pytest.raises(ValueError, match=r"labels \['fine' 'ok'\], but .* \['fine' 'ill'\]"):
        StackingDisplay.from_estimator(fitted, np.where(y == "ill", "ok", y))
    with pytest.raises(ValueError, match="No positive sample"):
        StackingDisplay.from_estimator(fitted, np.full(len(y), "fine"))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        StackingDisplay.from_estimator(fitted, y, sample_weight=weight[:9])
