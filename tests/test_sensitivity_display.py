"""SensitivityDisplay on labels that are biased as its model says, and as they are not."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.stats import norm
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from pnsklearn import PUTrendClassifier
from pnsklearn.displays import SensitivityDisplay
from pnsklearn.exceptions import PUWarning

pytest.importorskip("matplotlib").use("Agg")
pytestmark = pytest.mark.usefixtures("few_trees")
FAST = {"n_snapshots": 2, "n_folds": 3, "final_estimator": "same", "random_state": 0}


def biased(strength, seed=0, n=1000, prior=0.4, gap=3.5, n_labeled=150):
    """Two normal classes; a positive's chance of a label is exp(strength z), by its own z."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) < prior * n
    X = rng.normal(size=(n, 2))
    z = X[y, 0].copy()
    X[y, 0] += gap
    chance = np.exp(strength * z)
    s = np.zeros(n, dtype=int)
    s[rng.choice(np.flatnonzero(y), n_labeled, replace=False, p=chance / chance.sum())] = 1
    return X, s, y[s == 0].mean()


def fit(X, s, **params):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PUWarning)
        return PUTrendClassifier("linear", **FAST, **params).fit(X, s)


@pytest.mark.parametrize("strength", [-1.0, 1.0])
def test_the_truth_is_at_the_true_strength(strength, global_random_seed):
    X, s, truth = biased(strength, global_random_seed)
    display = SensitivityDisplay.from_estimator(fit(X, s), X, s, strengths=[0, strength])
    at = dict(zip(display.strength, display.share, strict=True))
    assert at[strength] == pytest.approx(truth, abs=0.1)
    # As if labels were random, it is too small where easy positives are labeled, else too large.
    assert (at[0.0] - truth) * strength < -0.02
    assert abs(at[strength] - truth) < abs(at[0.0] - truth)
    low, high = display.interval[display.strength == strength][0]
    assert low - 0.03 < truth < high + 0.03


def test_without_bias_it_is_the_fitted_classifier():
    X, s, _ = biased(0.0, n=400, n_labeled=60)
    model = fit(X, s)
    display = SensitivityDisplay.from_estimator(model, X, s, strengths=[0.5, 0])
    assert_array_equal(display.strength, [0, 0.5])  # in order
    assert display.share[0] == model.class_prior_ and display.changed[0] == 0
    assert tuple(display.interval[0]) == model.class_prior_interval_
    # The other one is a fit with weights exp(-b z), of the same sum.
    scores = model.heldout_trend_scores_
    z = np.argsort(np.argsort(scores)) + 0.5
    tilt = np.exp(-0.5 * norm.ppf(z / len(z)))
    weight = np.ones(len(s))
    weight[s == 1] = tilt / tilt.mean()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PUWarning)
        other = PUTrendClassifier("linear", **FAST).fit(X, s, sample_weight=weight)
    # Bins of scores may differ by a row, as the weights do by rounding.
    assert display.share[1] == pytest.approx(other.class_prior_, abs=0.02)
    changed = np.mean(other.predict(X) != model.predict(X))
    assert display.changed[1] == pytest.approx(changed, abs=0.02)
    line, curve = display.lines_
    assert_array_equal(line.get_ydata(), display.share)
    assert_array_equal(curve.get_ydata(), display.changed)
    assert display.figure_ is display.ax_[1].figure


def test_names_missing_labels_weights_and_pipelines():
    X, s, _ = biased(0.0, n=300, n_labeled=50)
    weight = np.where(np.arange(300) % 10 == 0, 0.0, 1.0)
    plain = SensitivityDisplay.from_estimator(fit(X, s), X, s, strengths=[0.3])
    for y, params in (
        (np.array(["ok", "fraud"])[s], {"pos_label": "fraud"}),
        (np.where(s == 1, 1.0, np.nan), {}),
    ):
        found = SensitivityDisplay.from_estimator(fit(X, y, **params), X, y, strengths=[0.3])
        assert_array_equal(found.share, plain.share)
    pipeline = make_pipeline(FunctionTransformer(), PUTrendClassifier("linear", **FAST))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PUWarning)
        pipeline.fit(X, s, putrendclassifier__sample_weight=weight)
    found = SensitivityDisplay.from_estimator(pipeline, X, s, strengths=[0], sample_weight=weight)
    assert found.share[0] == pipeline[-1].class_prior_


def test_errors():
    X, s, _ = biased(0.0, n=300, n_labeled=50)
    model = fit(X, s)
    with pytest.raises(TypeError, match="must be a PUTrendClassifier, got a LogisticRegression"):
        SensitivityDisplay.from_estimator(LogisticRegression(), X, s)
    with pytest.raises(NotFittedError):
        SensitivityDisplay.from_estimator(PUTrendClassifier(), X, s)
    with pytest.raises(ValueError, match="Pass the X and s that the classifier was fitted on"):
        SensitivityDisplay.from_estimator(model, X[:200], s[:200])
    with pytest.raises(ValueError, match="with n_folds set"):
        SensitivityDisplay.from_estimator(model.set_params(n_folds=None), X, s)
    with pytest.raises(ValueError, match="two axes"):
        SensitivityDisplay([0], [0.1], [[0, 1]], [0.0]).plot(3)
