"""The anchors, and weights of at least zero: against SciPy on losses by brute force."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import brentq, minimize
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression

from pnsklearn import AUPRCClassifier
from pnsklearn._auprc._anchors import make_anchors, nonnegative_path
from pnsklearn._auprc._selection import C_GRID
from pnsklearn._auprc._solver import solve_exact
from tests._auprc.test_solver import objective, problem_of

SLSQP = {"ftol": 1e-14, "maxiter": 1000}


def mixed_data(seed, n=80, n_positives=25):
    """Return data of which two features have positive weights, one none, and one a negative."""
    rng = np.random.default_rng(seed)
    positive = np.arange(n) < n_positives
    X = rng.standard_normal((n, 4)) + positive[:, None] * [1.5, 0.8, 0.0, -1.0]
    return X, positive, rng.uniform(0.5, 2.0, n)


def scaled(coef):
    return coef / np.linalg.norm(coef)


# Logistic regression with weights of at least zero


def log_loss(theta, X, positive, weight, C):
    """Return what logistic regression minimises; theta ends in the intercept."""
    total = np.sum(theta[:-1] ** 2) / (2 * C)
    for x, is_positive, w in zip(X, positive, weight, strict=True):
        score = x @ theta[:-1] + theta[-1]
        total = total + w * np.log1p(np.exp(-score if is_positive else score))
    return total


def with_intercept(coef, X, positive, weight):
    """Return the weights and the best intercept to them."""

    def excess(intercept):
        return weight @ (1 / (1 + np.exp(-X @ coef - intercept)) - positive)

    return np.append(coef, brentq(excess, -30, 30, xtol=1e-14))


@pytest.mark.parametrize("container", [np.asarray, csr_array])
def test_nonnegative_path_against_slsqp(container, global_random_seed):
    X, positive, weight = mixed_data(global_random_seed)
    Cs = (0.01, 0.3, 10.0)
    for C, coef in zip(Cs, nonnegative_path(container(X), positive, weight, Cs), strict=True):
        rest = X, positive, weight, C
        bounds = [(0, None)] * 4 + [(None, None)]
        best = minimize(log_loss, np.zeros(5), rest, "SLSQP", bounds=bounds, options=SLSQP)
        assert_allclose(coef, best.x[:-1], atol=2e-4)
        reached = log_loss(with_intercept(coef, X, positive, weight), *rest)
        assert reached == pytest.approx(best.fun, rel=1e-7)
    assert coef[0] > 0
    assert coef[3] == 0


def test_nonnegative_path_meets_the_optimality_conditions(global_random_seed):
    X, positive, weight = mixed_data(global_random_seed)
    (coef,) = nonnegative_path(X, positive, weight, [1.0])
    theta = with_intercept(coef, X, positive, weight)
    probability = 1 / (1 + np.exp(-X @ theta[:-1] - theta[-1]))
    slope = X.T @ (weight * (probability - positive)) + coef
    tol = 1e-5 * weight.sum()
    assert_allclose(slope[coef > 0], 0, atol=tol)
    assert np.all(slope[coef == 0] > -tol)
    assert slope[3] > 1  # the bound holds something back


def test_nonnegative_path_is_logistic_regression_where_its_weights_are_positive(
    global_random_seed,
):
    X, positive, weight = mixed_data(global_random_seed)
    X = X * [1, 1, 1, -1]
    X[:, 1:3] += 0.8 * positive[:, np.newaxis]
    Cs = (0.01, 1.0, 100.0)
    for C, coef in zip(Cs, nonnegative_path(X, positive, weight, Cs), strict=True):
        model = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10)
        expected = model.fit(X, positive, weight).coef_[0]
        assert expected.min() > 0
        assert_allclose(coef, expected, rtol=2e-3)


# Average precision with weights of at least zero


@pytest.mark.parametrize("loss", ["smooth", "squared_hinge"])
def test_positive_against_bounded_bfgs_by_brute_force(loss, global_random_seed):
    X, positive, weight = mixed_data(global_random_seed)
    setting = {"alpha": 0.02, "anchor": np.array([1.0, 1.0, 1.0, 1.0])}
    problem = problem_of(X, positive, weight, loss, **setting)
    value, slope = objective(X, positive, weight, loss, **setting)
    options = {"solver": "lbfgs", "tol": 1e-8, "max_iter": 500}
    solution = solve_exact(problem, setting["anchor"], nonnegative=True, **options)
    theta = solution.theta
    assert solution.objective == pytest.approx(value(theta), abs=1e-12)
    rng = np.random.default_rng(global_random_seed)
    starts = [setting["anchor"], *rng.uniform(0, 2, (5, 4))]
    best = min(
        minimize(value, start, jac=slope, method="L-BFGS-B", bounds=[(0, None)] * 4).fun
        for start in starts
    )
    assert solution.objective <= best + 1e-8
    # The optimality conditions; the bound of the last holds something back.
    gradient = slope(theta)
    assert theta.min() >= 0
    assert_allclose(gradient[theta > 0], 0, atol=1e-6)
    assert np.all(gradient[theta == 0] > -1e-6)
    assert theta[0] > 0
    assert theta[3] == 0
    assert gradient[3] > 1e-3
    free = solve_exact(problem, setting["anchor"], **options)
    assert free.theta[3] < 0
    assert free.objective < solution.objective


def test_positive_estimator_is_the_solution_by_brute_force(global_random_seed):
    X, positive, weight = mixed_data(global_random_seed)
    anchor = np.array([2.0, 1.0, 0.0, 1.0])
    model = AUPRCClassifier(alpha=0.05, anchor=anchor, margin=0.7, positive=True, tol=1e-8)
    model.fit(X, positive, weight)
    scores = X @ anchor
    spread = np.sqrt(np.average((scores - np.average(scores, weights=weight)) ** 2, weights=weight))
    setting = {"alpha": 0.05, "anchor": anchor, "margin": 0.7 * spread}
    value, slope = objective(X, positive, weight, "smooth", **setting)
    tight = {"gtol": 1e-9, "ftol": 0.0}
    best = minimize(
        value, anchor, jac=slope, method="L-BFGS-B", bounds=[(0, None)] * 4, options=tight
    )
    assert_allclose(scaled(model.coef_[0]), scaled(best.x), atol=1e-5)
    assert model.coef_[0, 3] == best.x[3] == 0
    penalty = 0.05 * np.sum((best.x - anchor) ** 2) / np.sum(anchor**2)
    assert model.surrogate_ == pytest.approx(1 - (best.fun - penalty), abs=1e-7)


def test_positive_weights_are_the_free_ones_where_these_are_positive(global_random_seed):
    X, positive, weight = mixed_data(global_random_seed)
    X = X[:, :2]
    free, bounded = (
        AUPRCClassifier(alpha=0.1, positive=is_bounded, tol=1e-8).fit(X, positive, weight)
        for is_bounded in (False, True)
    )
    assert free.coef_.min() > 0
    assert_allclose(bounded.coef_, free.coef_, rtol=1e-3)


def test_positive_where_no_feature_helps(global_random_seed):
    """All weights of the logistic regression are zero: a constant, the share of the positives."""
    X, positive, _ = mixed_data(global_random_seed)
    X = X[:, 3:]
    model = AUPRCClassifier(alpha=np.inf, positive=True).fit(X, positive)
    assert_array_equal(model.coef_, 0)
    assert_allclose(model.predict_proba(X)[:, 1], positive.mean(), atol=0.02)
    shrunk = AUPRCClassifier(alpha=np.inf, positive=True, anchor="shrunk").fit(X, positive)
    assert shrunk.coef_[0, 0] > 0


# Anchors by name


def test_average(global_random_seed):
    X, positive, weight = mixed_data(global_random_seed)
    model = AUPRCClassifier(alpha=np.inf, anchor="average").fit(X, positive, weight)
    assert model.coef_[0, 0] > 0
    assert_allclose(model.coef_[0], model.coef_[0, 0])
    (anchor,) = make_anchors(X, positive, weight, C_GRID, anchor="average", nonnegative=True)
    assert_array_equal(anchor, 0.25)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_shrunk(nonnegative, global_random_seed):
    """Half way between the two where the positives weigh 30; the sum of the weights is one."""
    X, positive, weight = mixed_data(global_random_seed)
    weight *= 15.0 / weight[positive].sum()
    trust = 15.0 / (15.0 + 30.0)
    if nonnegative:
        bounds = [(0, None)] * 4 + [(None, None)]
        arguments = X, positive, weight, 1.0
        found = minimize(log_loss, np.zeros(5), arguments, "SLSQP", bounds=bounds, options=SLSQP)
        logistic = found.x[:-1]
    else:
        regression = LogisticRegression(solver="newton-cholesky", tol=1e-10)
        logistic = regression.fit(X, positive, weight).coef_[0]
        assert logistic.min() < 0
    expected = trust * logistic / np.abs(logistic).sum() + (1 - trust) * 0.25
    (anchor,) = make_anchors(X, positive, weight, [1.0], anchor="shrunk", nonnegative=nonnegative)
    assert_allclose(anchor, expected, atol=1e-4)
    model = AUPRCClassifier(alpha=np.inf, anchor="shrunk", positive=nonnegative)
    assert_allclose(scaled(model.fit(X, positive, weight).coef_[0]), scaled(expected), atol=5e-4)


def test_shrunk_is_the_average_where_logistic_regression_says_nothing():
    positive = np.arange(20) < 8
    X = np.zeros((20, 2))
    (anchor,) = make_anchors(X, positive, np.ones(20), [1.0], anchor="shrunk", nonnegative=False)
    assert_array_equal(anchor, 0.5)


def test_each_C_gives_an_anchor_but_of_the_average():
    X, positive, weight = mixed_data(0)
    for name, number in (("logistic", 9), ("shrunk", 9), ("average", 1), ("zero", 1)):
        for nonnegative in (False, True):
            how = {"anchor": name, "nonnegative": nonnegative}
            anchors = make_anchors(X, positive, weight, C_GRID, **how)
            assert len(anchors) == number
            assert len({tuple(anchor) for anchor in anchors}) == number


# Given anchors


def test_given_anchor_ranks_at_infinite_alpha(global_random_seed):
    X, positive, weight = mixed_data(global_random_seed)
    anchor = [3.0, 1.0, 0.0, -2.0]
    for given in (
        anchor,
        tuple(anchor),
        np.array(anchor, dtype=np.float32),
        np.array([3, 1, 0, -2]),
    ):
        model = AUPRCClassifier(alpha=np.inf, anchor=given).fit(X, positive, weight)
        assert_allclose(scaled(model.coef_[0]), scaled(np.array(anchor)), atol=1e-12)


def test_given_anchor_is_what_logistic_regression_would_be(global_random_seed):
    X, positive, weight = mixed_data(global_random_seed)
    regression = LogisticRegression(solver="newton-cholesky", tol=1e-8).fit(X, positive, weight)
    given = AUPRCClassifier(alpha=0.1, anchor=regression.coef_[0], tol=1e-8)
    expected = AUPRCClassifier(alpha=0.1, tol=1e-8).fit(X, positive, weight)
    assert_allclose(given.fit(X, positive, weight).coef_, expected.coef_, rtol=1e-4)


NOT_FOUR = "anchor must have one finite number for each of the 4 features of X; got {} of shape {}"
BAD_ANCHORS = {
    "too few": ([1.0, 2.0], False, NOT_FOUR.format("float64", r"\(2,\)")),
    "a matrix": (np.ones((1, 4)), False, NOT_FOUR.format("float64", r"\(1, 4\)")),
    "NaN": ([1.0, np.nan, 1.0, 1.0], False, NOT_FOUR.format("float64", r"\(4,\)")),
    "infinity": ([1.0, np.inf, 1.0, 1.0], True, NOT_FOUR.format("float64", r"\(4,\)")),
    "text": (["a", "b", "c", "d"], False, NOT_FOUR.format("<U1", r"\(4,\)")),
    "complex": (np.full(4, 1j), False, NOT_FOUR.format("complex128", r"\(4,\)")),
    "negative": ([1.0, -1e-9, 1.0, 1.0], True, "weights below zero, which positive=True does not"),
    "unknown word": ("mean", False, "'anchor' parameter"),
    "a number": (1.0, False, "'anchor' parameter"),
}


@pytest.mark.parametrize("case", BAD_ANCHORS)
def test_bad_anchors(case):
    anchor, is_positive, message = BAD_ANCHORS[case]
    X, positive, _ = mixed_data(0)
    model = AUPRCClassifier(alpha=0.1, anchor=anchor, positive=is_positive)
    before = vars(model).copy()
    with pytest.raises(ValueError, match=message):
        model.fit(X, positive)
    assert vars(model).keys() == before.keys()


@pytest.mark.parametrize("solver", ["trust-ncg", "soap-adam", "soap-sgd"])
def test_positive_needs_lbfgs(solver):
    X, positive, _ = mixed_data(0)
    with pytest.raises(ValueError, match=f"positive=True needs solver='lbfgs', not '{solver}'"):
        AUPRCClassifier(positive=True, solver=solver).fit(X, positive)
