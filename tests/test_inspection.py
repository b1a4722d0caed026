"""How stable rules are, and what would do as well."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from pnsklearn import SMaLLClassifier
from pnsklearn.inspection import rule_alternatives, rule_stability


@pytest.fixture(scope="module")
def data():
    """Labels by one column, which has a twin, and a category; the rest is noise."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.standard_normal((200, 4)), columns=["size", "noise", "twin", "more noise"])
    X["twin"] = X["size"] + 0.3 * X["twin"]
    X["colour"] = rng.choice(["red", "blue", "green"], 200)
    return X, X["size"] + 2 * (X["colour"] == "red") + 0.3 * rng.standard_normal(200) > 1


@pytest.fixture(scope="module")
def model(data):
    return SMaLLClassifier(1, 2, n_init=2, random_state=0).fit(*data)


def test_alternatives_are_fits_of_those_terms(data, model):
    X, y = data
    found = rule_alternatives(model, X, y, max_increase=0.9)
    assert (found.term[0], found.instead[0]) == ("size", "twin")
    assert_allclose(found.error_now, np.mean(model.predict(X) != y))
    without = X.drop(columns=["size", "noise", "more noise"])
    expected = SMaLLClassifier(1, 2, n_init=2, random_state=0).fit(without, y)
    assert_allclose(found.increase[0], expected.objective_ / model.objective_ - 1, rtol=1e-4)
    assert_allclose(found.error[0], np.mean(expected.predict(without) != y))
    assert (np.diff(found.increase) >= 0).all()
    assert (found.increase <= 0.9).all()
    assert set(found.rule) == {1}


def test_alternatives_of_several_rules_weights_and_steps(data):
    X, y = data
    weight = np.arange(len(y)) % 3
    model = SMaLLClassifier(2, 2, binarize="quantile", n_init=2, random_state=0)
    model.fit(X, y, sample_weight=weight)
    before = vars(model).copy()
    found = rule_alternatives(model, X, y, sample_weight=weight, max_increase=1.0, n_tried=3)
    assert len(found.rule) and set(found.rule) <= {1, 2}
    assert any(" > " in name for name in found.instead)
    assert all(vars(model)[name] is before[name] for name in before)
    used = np.count_nonzero(model.coef_)
    assert len(found.rule) <= 3 * used


def test_nothing_is_as_good(data, model):
    found = rule_alternatives(model, *data, max_increase=-0.5)
    assert len(found.rule) == len(found.instead) == 0


def test_stability(data, model):
    X, y = data
    found = rule_stability(model, X, y, n_repeats=8, random_state=0)
    frequency = dict(zip(found.feature, found.frequency, strict=True))
    assert frequency["colour"] == 1
    assert frequency["size"] + frequency["twin"] >= 1
    assert frequency["noise"] <= 0.25
    assert set(found.feature[found.is_used]) == {"size", "colour"}
    assert (np.diff(found.frequency) <= 0).all()
    assert found.agreement.shape == (8,) and found.agreement.min() > 0.9
    again = rule_stability(model, X, y, n_repeats=8, random_state=0)
    assert_array_equal(again.frequency, found.frequency)


def test_stability_of_arrays(data):
    X, y = data[0].to_numpy()[:, :4].astype(float), data[1].to_numpy()
    model = SMaLLClassifier(1, 1, n_init=1, random_state=0).fit(X, y)
    found = rule_stability(model, X, y, n_repeats=2, random_state=0)
    assert set(found.feature) == {"x0", "x1", "x2", "x3"}


def test_what_is_refused(data, model):
    X, y = data
    for function in (rule_alternatives, rule_stability):
        with pytest.raises(TypeError, match="must be a SMaLLClassifier, got a str"):
            function("rules", X, y)
    with pytest.raises(ValueError, match="must be those that estimator was fitted to"):
        rule_alternatives(model, X.assign(colour="red"), y)


def test_the_certificate_in_words(data):
    X, y = data
    for shape, which in (((1, 2), "no other rule, of"), ((2, 1), "no rules that cover the same")):
        model = SMaLLClassifier(*shape, n_init=2, certify=True, random_state=0).fit(X, y)
        words = f"{100 * model.gap_:.2g} %"
        assert f"{which}" in model.rules() and model.rules().endswith(words)
