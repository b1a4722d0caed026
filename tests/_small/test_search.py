"""The search's kernels against NumPy, differences and SciPy's minimisers."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from scipy.special import expit, logsumexp

from pnsklearn._small._search import (
    FAR_BELOW,
    _factorise,
    _gains,
    _newton_system,
    _others,
    _solve,
    _value,
    exp_of_minus,
    improve,
    log1p_of_fraction,
)

LAM = 0.02


def union_data(seed, n=150, d=7):
    """Rows whose positives are the union of two half-planes, with unequal weights."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    score = np.maximum(2 * X[:, 0] - X[:, 1], 2 * X[:, 2] + X[:, 3]) - 1
    sign = np.where(rng.uniform(size=n) < expit(2 * score), 1.0, -1.0)
    weight = rng.uniform(0.2, 2.0, n)
    return np.ascontiguousarray(X.T), sign, weight / weight.sum()


def smooth_objective(XT, sign, weight, coef, intercept, mu):
    """Return F_mu of all prototypes, by its definition."""
    f = mu * logsumexp((coef @ XT + intercept[:, None]) / mu, axis=0)
    return weight @ np.logaddexp(0, -sign * f) + LAM / 2 * np.sum(coef**2)


def smallest(function, starts):
    """Return the smallest value that BFGS finds from several starts."""
    return min(minimize(function, start, method="BFGS").fun for start in starts)


def derivatives(function, x, h):
    """Return the first and second central differences of a function of each entry of x."""
    up, middle, down = function(x + h), function(x), function(x - h)
    return (up - down) / (2 * h), (up - 2 * middle + down) / h**2


def evaluated(seed, mu, m=3):
    """Return what the kernels of one prototype need, at a random point: a dict."""
    rng = np.random.default_rng(seed)
    XT, sign, weight = union_data(seed)
    index = np.array([4, 0, 2, 6])  # the last is not in use
    w = rng.standard_normal(5)
    other = rng.standard_normal(sign.size)
    work = np.empty((5, sign.size))
    value = _value(XT, index, w, m, other, sign, weight, LAM, mu, work)
    return {
        "XT": XT, "sign": sign, "weight": weight, "index": index, "w": w, "m": m, "other": other,
        "mu": mu, "work": work, "value": value,
    }  # fmt: skip


def design(at):
    """Return the rows (1, x of the prototype's features)."""
    return np.column_stack([np.ones(at["sign"].size), at["XT"][at["index"][: at["m"]]].T])


def newton_system(at, columns, w):
    """Return gradient and Hessian of F_mu in the coefficients of some columns, the first free."""
    r, q = at["work"][2], at["work"][3]
    ridge = np.r_[0.0, np.full(columns.shape[1] - 1, LAM)]
    return columns.T @ r + ridge * w, (columns.T * q) @ columns + np.diag(ridge)


# Series


def test_exponential_over_its_range():
    x = np.r_[np.linspace(0, 45, 20001), np.geomspace(1e-300, 1, 2001)]
    assert_allclose([exp_of_minus(value) for value in x], np.exp(-x), rtol=1e-13)
    for x in (45.0, 46.0, 800.0, 1e300, np.inf):
        assert 0 <= exp_of_minus(x) < 3e-20


def test_logarithm_over_its_range():
    e = np.r_[0.0, np.linspace(0, 1, 20001), np.geomspace(1e-300, 1, 2001)]
    assert_allclose([log1p_of_fraction(value) for value in e], np.log1p(e), rtol=1e-15)


# One prototype


@pytest.mark.parametrize("mu", [1.0, 0.1, 0.003])
def test_value_and_derivatives_of_a_row(mu, global_random_seed):
    at = evaluated(global_random_seed, mu)
    sign, weight, other, work = at["sign"], at["weight"], at["other"], at["work"]
    z = design(at) @ at["w"][:4]
    # Scores close to the others', where the smoothing matters.
    z = np.where(np.arange(z.size) % 2, z, other + mu * z)

    def losses(z):
        f = mu * np.logaddexp(z / mu, other / mu)
        return weight * np.logaddexp(0, -sign * f)

    XT, index = z[None, :], np.array([0])
    w = np.array([0.0, 1.0])
    value = _value(XT, index, w, 1, other, sign, weight, LAM, mu, work)
    assert value == pytest.approx(losses(z).sum() + LAM / 2, rel=1e-13)
    slope, curvature = derivatives(losses, z, 1e-3 * mu)
    assert_allclose(work[2], slope, atol=1e-6 * weight.max())
    # The concave part of the positives is left out, the rest is exact.
    share = expit((z - other) / mu)
    wrong = expit(-sign * mu * np.logaddexp(z / mu, other / mu))
    concave = np.where(sign > 0, weight * wrong * share * (1 - share) / mu, 0.0)
    assert_allclose(work[3] - concave, curvature, atol=1e-5 * weight.max() / mu)
    assert work[3].min() >= 0


def test_value_far_away_is_finite():
    sign, weight = np.array([1.0, -1.0, 1.0, -1.0]), np.full(4, 0.25)
    XT, other = np.array([[-1e5, -1e5, 1e5, 1e5]]), np.full(4, FAR_BELOW)
    work = np.empty((5, 4))
    value = _value(
        XT, np.array([0]), np.array([0.0, 1.0]), 1, other, sign, weight, 0.0, 0.003, work
    )
    assert value == pytest.approx(0.5e5, rel=1e-12)
    assert_allclose(work[2], [-0.25, 0, 0, 0.25], atol=1e-15)
    assert_allclose(work[3], 0, atol=1e-15)


@pytest.mark.parametrize("mu", [1.0, 0.1])
def test_newton_system(mu, global_random_seed):
    at = evaluated(global_random_seed, mu)
    gradient, hessian = np.empty(4), np.zeros((4, 4))
    _newton_system(at["XT"], at["index"], at["w"], 3, LAM, 0.0, at["work"], gradient, hessian)
    expected, matrix = newton_system(at, design(at), at["w"][:4])
    assert_allclose(gradient, expected, atol=1e-13)
    assert_allclose(np.tril(hessian), np.tril(matrix), atol=1e-11)

    def value(w):
        other, sign, weight = at["other"], at["sign"], at["weight"]
        f = mu * np.logaddexp(design(at) @ w / mu, other / mu)
        return weight @ np.logaddexp(0, -sign * f) + LAM / 2 * np.sum(w[1:] ** 2)

    steps = 1e-5 * np.eye(4)
    slope = [(value(at["w"][:4] + h) - value(at["w"][:4] - h)) / 2e-5 for h in steps]
    assert_allclose(gradient, slope, atol=1e-8)

    _factorise(hessian, 4)
    step = np.empty(4)
    _solve(hessian, 4, gradient, step)
    assert_allclose(step, np.linalg.solve(matrix, expected), rtol=1e-8)


@pytest.mark.parametrize("m", [0, 1, 3])
def test_gains_are_those_of_the_larger_newton_system(m, global_random_seed):
    """The model's minimum with the feature, against that without it."""
    at = evaluated(global_random_seed, 0.3, m)
    XT, index, w = at["XT"], at["index"], at["w"][: m + 1]
    copied, constant = (m > 0) * 5, 3
    if m > 0:
        XT[copied] = XT[index[0]]
    XT[constant] = 0.0
    sums, small = np.empty((len(XT), m + 3)), np.zeros((m + 5, m + 2))
    _gains(XT, index, w, m, LAM, 0.0, at["work"], small, sums)
    gradient, hessian = newton_system(at, design(at), w)
    own = gradient @ np.linalg.solve(hessian, gradient) / 2
    for feature in range(len(XT)):
        if feature in index[:m]:
            assert sums[feature, 0] == 0
            continue
        columns = np.column_stack([design(at), XT[feature]])
        gradient, hessian = newton_system(at, columns, np.r_[w, 0.0])
        step = -np.linalg.solve(hessian, gradient)
        assert sums[feature, 0] == pytest.approx(-gradient @ step / 2 - own, rel=1e-6, abs=1e-12)
        assert_allclose(sums[feature, 1], step[-1], rtol=1e-6, atol=1e-9)
        assert_allclose(sums[feature, 2:], step[:-1], rtol=1e-6, atol=1e-9)
    assert sums[constant, 0] == 0


def test_gains_predict_refits(global_random_seed):
    """At the optimum of a prototype, what each further feature brings, to a factor."""
    XT, sign, weight = union_data(global_random_seed, n=400)
    coef, intercept = np.zeros((1, 7)), np.zeros(1)
    coef[0, [0, 2]] = 1e-3  # in use
    improve(XT, sign, weight, coef, intercept, 2, LAM, 0.0, 1.0, 0, 50, 1e-12)
    index, w = np.array([0, 2]), np.r_[intercept, coef[0, [0, 2]]]
    other, work = np.full(sign.size, FAR_BELOW), np.empty((5, sign.size))
    before = _value(XT, index, w, 2, other, sign, weight, LAM, 1.0, work)
    sums = np.empty((7, 5))
    _gains(XT, index, w, 2, LAM, 0.0, work, np.zeros((7, 4)), sums)
    for feature in (1, 3, 4, 5, 6):
        columns = np.column_stack([np.ones(sign.size), XT[[0, 2, feature]].T])

        def value(w, columns=columns):
            loss = weight @ np.logaddexp(0, -sign * (columns @ w))
            return loss + LAM / 2 * np.sum(w[1:] ** 2)

        gain = before - smallest(value, [np.r_[w, 0.0]])
        assert sums[feature, 0] == pytest.approx(gain, rel=0.3, abs=1e-9)


def test_others_is_the_smooth_maximum_of_the_others(global_random_seed):
    Z = 3 * np.random.default_rng(global_random_seed).standard_normal((4, 50))
    other = np.empty(50)
    for j, mu in itertools.product(range(4), (1.0, 0.1, 0.003)):
        _others(Z, j, mu, other)
        expected = mu * logsumexp(np.delete(Z, j, axis=0) / mu, axis=0)
        assert_allclose(other, expected, rtol=1e-12, atol=1e-13)
    _others(Z[:1], 0, 0.1, other)
    assert_array_equal(other, FAR_BELOW)


# improve


@pytest.mark.parametrize("bias_ridge", [0.0, 1e30])
def test_refit_of_one_prototype_is_logistic_regression(bias_ridge, global_random_seed):
    XT, sign, weight = union_data(global_random_seed)
    used = [0, 2, 5]
    coef, intercept = np.zeros((1, 7)), np.zeros(1)
    coef[0, used] = 5.0
    improve(XT, sign, weight, coef, intercept, 3, LAM, bias_ridge, 0.1, 0, 50, 1e-12)

    columns = np.vstack([np.full(sign.size, bias_ridge == 0.0), XT[used]])

    def value_and_gradient(w):
        z, ridge = w @ columns, np.r_[0.0, LAM * w[1:]]
        value = weight @ np.logaddexp(0, -sign * z) + ridge @ w / 2
        return value, columns @ (-weight * sign * expit(-sign * z)) + ridge

    found = minimize(
        value_and_gradient, np.zeros(4), jac=True, method="BFGS", options={"gtol": 1e-9}
    )
    assert_allclose(np.r_[intercept, coef[0, used]], found.x, atol=5e-5)
    assert smooth_objective(XT, sign, weight, coef, intercept, 0.1) <= found.fun * (1 + 1e-10)
    assert_array_equal(np.flatnonzero(coef), used)


@pytest.mark.parametrize("mu", [1.0, 0.1])
def test_refit_of_two_prototypes_is_stationary(mu, global_random_seed):
    """No restart of BFGS at the solution gains anything."""
    XT, sign, weight = union_data(global_random_seed)
    rng = np.random.default_rng(global_random_seed)
    coef, intercept = np.zeros((2, 7)), np.zeros(2)
    coef[0, [0, 1]], coef[1, [2, 3]] = rng.standard_normal((2, 2))
    improve(XT, sign, weight, coef, intercept, 2, LAM, 0.0, mu, 0, 1000, 1e-13)
    reached = smooth_objective(XT, sign, weight, coef, intercept, mu)
    rows, columns = coef.nonzero()

    def value(theta):
        W = np.zeros_like(coef)
        W[rows, columns] = theta[2:]
        return smooth_objective(XT, sign, weight, W, theta[:2], mu)

    assert reached <= smallest(value, [np.r_[intercept, coef[rows, columns]]]) + 1e-9


@pytest.mark.parametrize("mu", [1.0, 0.1, 0.003])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_no_sweep_raises_the_objective(mu, dtype, global_random_seed):
    XT, sign, weight = union_data(global_random_seed)
    XT = XT.astype(dtype)
    rng = np.random.default_rng(global_random_seed)
    coef, intercept = np.zeros((3, 7)), rng.standard_normal(3)
    coef[:, :2] = 2 * rng.standard_normal((3, 2))
    values = [smooth_objective(XT, sign, weight, coef, intercept, mu)]
    for _ in range(12):
        n_sweeps = improve(XT, sign, weight, coef, intercept, 2, LAM, 0.0, mu, 4, 1, 1e-4)
        assert n_sweeps == 1
        assert np.count_nonzero(coef, axis=1).max() <= 2
        values.append(smooth_objective(XT, sign, weight, coef, intercept, mu))
    assert np.diff(values).max() <= 1e-12
    assert values[-1] < 0.9 * values[0]


def test_improve_stops_where_no_exchange_helps(global_random_seed):
    """One prototype: every exchange of one feature, refitted by BFGS."""
    XT, sign, weight = union_data(global_random_seed)
    coef, intercept = np.zeros((1, 7)), np.zeros(1)
    improve(XT, sign, weight, coef, intercept, 3, LAM, 0.0, 0.1, 7, 1000, 1e-6)
    reached = smooth_objective(XT, sign, weight, coef, intercept, 0.1)
    used = np.flatnonzero(coef)
    assert used.size == 3
    for out, new in itertools.product(used, np.setdiff1d(np.arange(7), used)):
        columns = XT[np.r_[np.setdiff1d(used, out), new]]

        def value(w, columns=columns):
            loss = weight @ np.logaddexp(0, -sign * (w[1:] @ columns + w[0]))
            return loss + LAM / 2 * np.sum(w[1:] ** 2)

        assert smallest(value, [np.zeros(4)]) >= reached * (1 - 1e-5)


def test_zero_tries_keep_the_supports(global_random_seed):
    XT, sign, weight = union_data(global_random_seed)
    coef, intercept = np.zeros((3, 7)), np.zeros(3)
    coef[0, 5], coef[1, [1, 6]] = 1.0, [1.0, -1.0]
    used = coef != 0
    improve(XT, sign, weight, coef, intercept, 2, LAM, 0.0, 0.1, 0, 100, 1e-9)
    assert_array_equal(coef != 0, used)


def test_a_repeated_or_constant_feature_is_not_added(global_random_seed):
    """All that a copy could bring is a smaller penalty, and here there is hardly any."""
    XT, sign, weight = union_data(global_random_seed)
    XT[[1, 3]], XT[[2, 5]] = XT[0], 0.0
    coef, intercept = np.zeros((1, 7)), np.zeros(1)
    improve(XT, sign, weight, coef, intercept, 7, 1e-6, 0.0, 0.1, 4, 100, 1e-4)
    assert not coef[0, [2, 5]].any()
    assert np.count_nonzero(coef[0, [0, 1, 3]]) == 1
