"""The display of the rules, without a screen."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_array
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pnsklearn import SMaLLClassifier
from pnsklearn.displays import PrototypeDisplay

matplotlib = pytest.importorskip("matplotlib")

NAMES = ["age", "price in $ or $US", "weight", "height", "unused"]


@pytest.fixture
def plt():
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


@pytest.fixture(scope="module")
def data():
    """A union of two half-planes, in features of different units: (X, y)."""
    X = np.random.default_rng(0).normal(size=(300, 5)) * [1, 10, 100, 0.1, 1]
    union = (X[:, 0] + X[:, 1] / 10 > 1.5) | (X[:, 2] / 100 - 10 * X[:, 3] > 1.5)
    return X, np.where(union, "yes", "no")


@pytest.fixture(scope="module")
def fitted(data):
    return SMaLLClassifier(2, 2, positive_class="yes", random_state=0).fit(*data)


def numbers(display):
    """Return the numbers in the table as {(rule, column): text}."""
    places = (np.array(text.get_position())[::-1].astype(int) for text in display.texts_)
    return {tuple(at): text.get_text() for at, text in zip(places, display.texts_, strict=True)}


def test_table_prints_the_original_units(plt, fitted):
    display = PrototypeDisplay.from_estimator(fitted, feature_names=NAMES)
    assert [t.get_text() for t in display.ax_.get_xticklabels()] == [*NAMES[:4], "intercept"]
    expected = {
        (j, t): f"{value:.4g}" for (j, t), value in np.ndenumerate(fitted.coef_[:, :4]) if value
    }
    expected |= {(j, 4): f"{value:.4g}" for j, value in enumerate(fitted.intercept_)}
    assert numbers(display) == expected
    for j, label in enumerate(display.ax_.get_yticklabels()):
        assert f"fires on {100 * fitted.coverage_[j]:.3g} %" in label.get_text()
        assert f"right on {100 * fitted.precision_[j]:.3g} %" in label.get_text()
    display.figure_.canvas.draw()  # dollars in a name are no formula


def test_colours_compare_the_features_where_X_is_given(plt, fitted, data):
    X, _ = data
    used = fitted.coef_[:, :4] != 0
    signs = PrototypeDisplay.from_estimator(fitted)
    shown = signs.image_.get_array()
    assert_allclose(shown[:, :4][used], np.sign(fitted.coef_[:, :4][used]) / 2)
    assert_allclose(shown.mask, np.column_stack([~used, [True, True]]))
    assert len(signs.figure_.axes) == 1  # signs need no colour bar
    display = PrototypeDisplay.from_estimator(fitted, X)
    effect = (fitted.coef_ * X.std(axis=0))[:, :4]
    assert_allclose(display.image_.get_array()[:, :4][used], effect[used])
    assert len(display.figure_.axes) == 2
    assert len(PrototypeDisplay.from_estimator(fitted, X, colorbar=False).figure_.axes) == 1
    # A sparse X has the same standard deviations.
    assert_allclose(PrototypeDisplay.from_estimator(fitted, csr_array(X)).effect, display.effect)


def test_constant_rows_have_no_colour_range(plt, fitted, data):
    X = np.repeat(data[0][:1], 3, axis=0)
    assert_allclose(PrototypeDisplay.from_estimator(fitted, X).effect, 0)
    display = PrototypeDisplay.from_estimator(fitted, X, features=(0, 1))
    assert display.ax_.get_xlim()[0] < X[0, 0] < display.ax_.get_xlim()[1]


@pytest.mark.parametrize("binarize", [None, "quantile"])
def test_map_is_that_of_the_model(plt, data, binarize):
    X, y = data
    model = SMaLLClassifier(2, 2, binarize=binarize, random_state=0).fit(X, y)
    features = (NAMES[3], NAMES[0])
    display = PrototypeDisplay.from_estimator(model, X, feature_names=NAMES, features=features)
    x, y, scores = display.grid
    at = np.random.default_rng(0).integers(len(x), size=(50, 2))
    rows = np.tile(np.median(X, axis=0), (50, 1))
    rows[:, 3], rows[:, 0] = x[at[:, 0]], y[at[:, 1]]
    column = list(model.classes_).index(model.positive_class_)
    probability = model.predict_proba(rows)[:, column]
    assert_allclose(display.image_.get_array()[at[:, 1], at[:, 0]], probability, atol=1e-12)
    assert scores.shape == (len(y), len(x), model.n_prototypes_)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == features
    assert x[0] < X[:, 3].min() < X[:, 3].max() < x[-1]


def test_map_draws_the_boundary_of_each_rule_that_has_one(plt, fitted, data):
    X, _ = data
    display = PrototypeDisplay.from_estimator(fitted, X, features=(0, 1))
    rule = int(np.flatnonzero(fitted.coef_[:, 0])[0])  # the other is constant in this plane
    (boundary,) = display.lines_
    for path in boundary.get_paths():
        rows = np.tile(np.median(X, axis=0), (len(path.vertices), 1))
        rows[:, :2] = path.vertices
        scores = fitted.coef_[rule] @ rows.T + fitted.intercept_[rule]
        assert_allclose(scores, 0, atol=1e-6)
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert sorted(labels) == sorted([f"rule {rule + 1}", f"rule {2 - rule} does not fire here"])
    idle = PrototypeDisplay.from_estimator(fitted, X, features=("x4", 0))
    assert len(idle.lines_) == 1  # a feature that no rule reads can be an axis


def test_plots_where_told(plt, fitted, data):
    _, (left, right) = plt.subplots(1, 2)
    display = PrototypeDisplay.from_estimator(fitted, data[0], ax=right, cmap="PiYG")
    assert display.ax_ is right
    assert display.figure_ is right.figure
    assert display.image_.get_cmap().name == "PiYG"
    assert not left.images
    assert display.plot(left) is display
    assert len(left.images) == 1


def test_rules_without_terms(plt, data):
    X, y = data
    model = SMaLLClassifier(1, 1, random_state=0).fit(X, y)
    model.coef_ = np.zeros_like(model.coef_)
    display = PrototypeDisplay.from_estimator(model, X)
    assert [t.get_text() for t in display.ax_.get_xticklabels()] == ["intercept"]
    assert not PrototypeDisplay.from_estimator(model, X, features=(0, 1)).lines_


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": ("x0", "x9")}, "features has 'x9', which is not a feature"),
        ({"features": (0, 5)}, "features has 5, which is not a feature"),
        ({"features": (0, -1)}, "features has -1, which is not a feature"),
        ({"features": (0, 0)}, "two different features"),
        ({"features": ("x0", 0)}, "two different features"),
        ({"features": "x0"}, "two names or indices; got 'x0'"),
        ({"features": (0, 1, 2)}, "two names or indices"),
        ({"features": 3}, "two names or indices; got 3"),
        ({"features": (0, 1), "X": None}, "features needs X"),
        ({"feature_names": ["a"]}, "feature_names has 1 names; X has 5 features"),
        ({"X": np.zeros((3, 2))}, "X has 2 features, but SMaLLClassifier is expecting 5"),
    ],
)
def test_errors_say_what_to_do(fitted, data, arguments, message):
    with pytest.raises(ValueError, match=message):
        PrototypeDisplay.from_estimator(fitted, **{"X": data[0], **arguments})


def test_refuses_other_estimators(plt, fitted, data):
    with pytest.raises(NotFittedError, match="SMaLLClassifier instance is not fitted"):
        PrototypeDisplay.from_estimator(SMaLLClassifier())
    pipeline = make_pipeline(StandardScaler(), SMaLLClassifier(1, 1)).fit(*data)
    with pytest.raises(TypeError, match="must be a SMaLLClassifier, got a Pipeline"):
        PrototypeDisplay.from_estimator(pipeline, data[0])
    PrototypeDisplay.from_estimator(pipeline[-1], pipeline[:-1].transform(data[0]))
