"""The threshold display, without a screen."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.metrics import f1_score, precision_score, recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pnsklearn import AUPRCClassifier
from pnsklearn.displays import ThresholdDisplay

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture
def plt():
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


@pytest.fixture(scope="module")
def fitted(cancer):
    X, y = cancer
    return make_pipeline(StandardScaler(), AUPRCClassifier(alpha=0.1, threshold="f1")).fit(X, y)


def test_curves_are_those_of_the_cuts(plt, fitted, cancer):
    X, y = cancer
    weight = 1.0 + np.arange(len(y)) % 2
    display = ThresholdDisplay.from_estimator(fitted, X, y, sample_weight=weight)
    probability = fitted.predict_proba(X)[:, 1]
    assert [line.get_label() for line in display.lines_] == ["Precision", "Recall", "F1"]
    for line, score in zip(display.lines_, (precision_score, recall_score, f1_score), strict=True):
        cuts, values = line.get_data()
        for k in np.linspace(0, len(cuts) - 1, 7).astype(int):
            expected = score(y, probability >= cuts[k], sample_weight=weight)
            assert values[k] == pytest.approx(expected)


def test_marks_the_threshold_in_use(plt, fitted, cancer):
    display = ThresholdDisplay.from_estimator(fitted, *cancer)
    marked = [line for line in display.ax_.lines if line.get_label().startswith("Threshold in use")]
    assert_allclose(marked[0].get_xdata(), fitted[-1].threshold_)
    plain = ThresholdDisplay.from_predictions([0, 1, 1], [0.1, 0.4, 0.8])
    assert len(plain.ax_.lines) == 3


def test_plots_where_told(plt, fitted, cancer):
    _, (left, right) = plt.subplots(1, 2)
    display = ThresholdDisplay.from_estimator(fitted, *cancer, ax=right, linestyle=":")
    assert display.ax_ is right
    assert display.figure_ is right.figure
    assert not left.lines
    assert {line.get_linestyle() for line in display.lines_} == {":"}
    assert display.plot(left) is display
    assert len(left.lines) == 4


def test_labels_of_any_type(plt):
    y = np.array(["bad", "good", "good", "bad"])
    display = ThresholdDisplay.from_predictions(y, [0.1, 0.3, 0.8, 0.5], pos_label="good")
    assert_allclose(display.recall, [1, 1, 0.5, 0.5])
    assert_allclose(display.precision, [0.5, 2 / 3, 0.5, 1.0])
