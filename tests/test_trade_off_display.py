"""The trade-off of error against terms: its numbers, and what is drawn."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pnsklearn import SMaLLClassifier
from pnsklearn.displays import TradeOffDisplay

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((120, 4))
    return X, X[:, 0] + X[:, 1] + 0.3 * rng.standard_normal(120) > 0


@pytest.fixture
def rules():
    return SMaLLClassifier(2, 2, n_init=1, cv=2, random_state=0)


def test_errors_are_those_of_cross_validation(data, rules):
    cv = KFold(3, shuffle=True, random_state=0)
    display = TradeOffDisplay.from_estimator(rules, *data, n_terms=[1, 2], cv=cv)
    for budget, errors in zip([1, 2], display.fold_errors, strict=True):
        model = SMaLLClassifier(n_terms=budget, n_init=1, cv=2, random_state=0)
        assert_allclose(errors, 1 - cross_val_score(model, *data, cv=cv))
    assert display.fewest_ == 2
    assert_allclose(display.standard_error_, display.fold_errors.std(axis=1, ddof=1) / np.sqrt(3))
    line = display.errorbar_.lines[0]
    assert_array_equal(line.get_xdata(), [1, 2])
    assert_allclose(line.get_ydata(), display.error_)
    assert display.ax_.get_ylabel() == "cross-validated error"
    assert_array_equal(display.line_.get_xdata(), [2, 2])


def test_pipelines_groups_and_scores(data, rules):
    X, y = data
    pipeline = make_pipeline(StandardScaler(), rules)
    display = TradeOffDisplay.from_estimator(
        pipeline, X, y, n_terms=[1], cv=GroupKFold(2), groups=np.arange(120) // 10,
        scoring="roc_auc",
    )  # fmt: skip
    assert display.fold_errors.shape == (1, 2)
    assert (display.fold_errors < -0.5).all()
    assert display.ax_.get_ylabel() == "cross-validated minus roc_auc"


def test_fewest_is_within_one_standard_error():
    errors = np.array([[0.3, 0.32, 0.28], [0.11, 0.09, 0.11], [0.1, 0.1, 0.11]])
    figure, ax = matplotlib.pyplot.subplots()
    display = TradeOffDisplay([1, 2, 5], errors).plot(ax, color="red")
    assert display.fewest_ == 2 and display.figure_ is figure
    assert display.errorbar_.lines[0].get_color() == "red"


def test_other_estimators_are_refused(data):
    with pytest.raises(TypeError, match="must be a SMaLLClassifier or a pipeline"):
        TradeOffDisplay.from_estimator(LogisticRegression(), *data)
