"""The start from all features, against logistic regression and the quadratic model by hand."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from pnsklearn._small._data import Block
from pnsklearn._small._elimination import eliminated
from pnsklearn._small._objective import Objective


def problem(k, seed, fit_intercept=True, d=5, n=150):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) @ rng.standard_normal((d, d))
    X = X / X.std(axis=0)
    y = rng.uniform(size=n) < expit(X @ np.linspace(2.0, 0.2, d) - 0.5)
    weight = rng.uniform(0.5, 2.0, n)
    objective = Objective(
        1, Block(np.ascontiguousarray(X.T)), np.where(y, 1.0, -1.0), weight / weight.sum(), 1, k,
        0.01, fit_intercept,
    )  # fmt: skip
    return objective, X, y


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_all_features_are_logistic_regression(fit_intercept, global_random_seed):
    objective, X, y = problem(5, global_random_seed, fit_intercept)
    coef, intercept = eliminated(objective)
    model = LogisticRegression(C=100.0, tol=1e-10, fit_intercept=fit_intercept)
    model.fit(X, y, objective.weight)
    assert_allclose(coef, model.coef_, atol=1e-4)
    assert_allclose(intercept, np.ravel(model.intercept_) * np.ones(1), atol=1e-4)


def quadratic_without(w, H, out):
    """Return the minimum of the model around w where some entries are zero, and its value."""
    left = np.setdiff1d(np.arange(len(w)), out)
    v = np.zeros_like(w)
    v[left] = np.linalg.solve(H[np.ix_(left, left)], (H @ w)[left])
    return v, (v - w) @ H @ (v - w)


def test_the_cheapest_feature_goes_first(global_random_seed):
    """One by one, by the quadratic model, whose minimum over what is left is found by hand."""
    objective, X, _ = problem(5, global_random_seed)
    coef, intercept = eliminated(objective)
    w = np.append(intercept, coef)
    A = np.column_stack([np.ones(len(X)), X])
    p = expit(A @ w)
    H = A.T @ (A * (objective.weight * p * (1 - p))[:, None]) + np.diag([0.0] + [0.01] * 5)
    out: list = []
    for k in (4, 3, 2, 1):
        costs = {j: quadratic_without(w, H, [*out, j])[1] for j in range(1, 6) if j not in out}
        out.append(min(costs, key=costs.get))
        expected = quadratic_without(w, H, out)[0]
        found = eliminated(problem(k, global_random_seed)[0])
        assert_array_equal(np.flatnonzero(found[0][0]) + 1, np.flatnonzero(expected[1:]) + 1)
        assert_allclose(found[0][0], expected[1:], atol=1e-4)


def test_equal_features_are_one():
    objective, _, _ = problem(1, 0)
    XT = objective.data.XT
    twice = Objective(
        1, Block(np.vstack([XT[:1], XT[:1]])), objective.sign, objective.weight, 1, 1, 0.01, True
    )
    coef, _ = eliminated(twice)
    assert np.count_nonzero(coef) == 1
    assert np.abs(coef).max() > 0.1
