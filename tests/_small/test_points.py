"""Rules in points: their form, their cost, and the same labels in all languages."""

import sqlite3
from contextlib import closing
from itertools import product

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit

from pnsklearn import RuleCard, SMaLLClassifier

FAST = {"binarize": "quantile", "n_init": 2, "random_state": 0}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.standard_normal((200, 3)), columns=list("abc"))
    X["d"] = rng.choice(["u", "v", "w"], 200)
    score = 2 * (X["a"] > 0.3) + 1.5 * (X["b"] > 0) - (X["c"] > 0.5) + 2 * (X["d"] == "v") - 2.5
    y = np.where(rng.random(200) < expit(2 * score), "yes", "no")
    return X, y


@pytest.mark.parametrize("positive_class", ["yes", "no"])
@pytest.mark.parametrize("columns", [["a", "b", "c"], ["a", "b", "c", "d"]])
def test_points_are_integers_and_all_exports_agree(positive_class, columns, data):
    X, y = data[0][columns], data[1]
    model = SMaLLClassifier(2, 3, integer=True, positive_class=positive_class, **FAST).fit(X, y)
    assert_array_equal(model.coef_, np.rint(model.coef_))
    assert_array_equal(model.intercept_ - 0.5, np.rint(model.intercept_ - 0.5))
    assert 1 <= np.abs(model.coef_).max() <= 10
    expected, card = model.predict(X), RuleCard.from_estimator(model)
    assert_array_equal(card.predict(X), expected)
    scope: dict = {}
    exec(card.export_python(), scope)
    assert_array_equal([scope["predict"](row) for row in X.to_dict("records")], expected)
    with closing(sqlite3.connect(":memory:")) as database:
        X.to_sql("rows", database, index=False)
        found = database.execute(f"SELECT {model.export_sql()} FROM rows").fetchall()
    assert_array_equal(np.ravel(found), expected)
    assert "points\n" in model.rules()
    rule = card.rules().splitlines()[1]
    needed = float(rule.split(" >= ")[1].removesuffix(" points"))
    first = max(model.intercept_, key=lambda b: b == 0.5 - needed)
    assert needed == 0.5 - first


def test_what_it_costs_is_said(data):
    X, y = data
    model = SMaLLClassifier(2, 3, integer=True, **FAST).fit(X, y)
    real = SMaLLClassifier(2, 3, **FAST).fit(X, y)
    errors = [np.mean(each.predict(X) != y) for each in (real, model)]
    assert_allclose(model.rounding_errors_, errors)
    assert f"wrong on {100 * errors[1]:.3g} % of the training rows" in model.rules()
    assert model.objective_ >= real.objective_
    # Probabilities keep their scale.
    assert_allclose(model.predict_proba(X), real.predict_proba(X), atol=0.2)


def test_points_are_near_the_best_of_all(data):
    """Against all triples of points for the same terms, needs and multipliers, by their loss."""
    X, y = data[0][["a", "b", "c"]], data[1]
    model = SMaLLClassifier(1, 3, integer=True, positive_class="yes", C=10.0, **FAST).fit(X, y)
    used = model.support_[0]
    columns = X.to_numpy()[:, model.step_feature_[used]]
    steps = (columns > model.step_threshold_[used]).astype(float)
    sign = np.where(y == "yes", 1, -1)

    def loss(points, need, multiplier):
        return np.logaddexp(0, -sign * (steps @ points - need + 0.5) / multiplier).mean()

    found = loss(model.coef_[0, used], 0.5 - model.intercept_[0], model.multiplier_)
    size = int(np.abs(model.coef_).max())
    signs = np.sign(model.coef_[0, used])
    best = min(
        loss(signs * points, need, model.multiplier_)
        for points in product(range(1, size + 1), repeat=3)
        for need in range(-size, 2 * size)
    )
    assert found <= 1.05 * best


def test_folds_are_of_points(data):
    X, y = data
    model = SMaLLClassifier([(1, 3), (2, 2)], cv=3, integer=True, **FAST).fit(X, y)
    assert model.selection_.error[0] < 0.5
    assert_array_equal(model.coef_, np.rint(model.coef_))


def test_without_any_term():
    X = np.ones((30, 2))
    model = SMaLLClassifier(1, 1, integer=True, binarize="quantile").fit(X, np.arange(30) % 3 == 0)
    assert set(model.predict(X)) == {False}
    assert "never" in model.rules()


@pytest.mark.parametrize("params", [{}, {"binarize": "quantile", "fit_intercept": False}])
def test_points_need_conditions(params, data):
    with pytest.raises(ValueError, match="integer=True needs terms that are on or off"):
        SMaLLClassifier(integer=True, **params).fit(*data)
