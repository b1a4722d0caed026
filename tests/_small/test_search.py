"""The search's kernels against NumPy, differences and SciPy's minimisers."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from scipy.special import expit, logsumexp

from pnsklearn._small._search import (
    LONGEST_STEP,
    NO_OTHER,
    Limits,
    Rows,
    Rule,
    Scratch,
    Smoothed,
    Stop,
    _add_feature,
    _exchanged,
    _factorise,
    _fill_gains,
    _newton,
    _newton_system,
    _others,
    _solve,
    _value,
    _without,
    improve,
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


def make_scratch(n_rows, n_features, n_nonzero):
    """Return the memory for prototypes of up to `n_nonzero` features."""
    size = n_nonzero + 1
    shapes = [n_rows] * 5 + [size] * 3 + [(size, size), (n_features, size + 1)]
    return Scratch(*map(np.zeros, shapes))


class Case:
    """One prototype at a random point, and what its kernels need."""

    def __init__(self, seed, mu, m=3):
        rng = np.random.default_rng(seed)
        XT, sign, weight = union_data(seed)
        self.rows = Rows(XT, sign, weight, rng.standard_normal(sign.size))
        # The fourth feature and weight are not in use.
        self.rule = Rule(np.array([4, 0, 2, 6]), rng.standard_normal(5), m)
        self.smoothed = Smoothed(LAM, 0.0, mu)
        self.scratch = make_scratch(sign.size, len(XT), 4)
        self.value = _value(self.rule, self.rows, self.smoothed, self.scratch)

    def columns(self, *more):
        """Return the rows (1, x of the prototype's features, x of more features)."""
        XT, used = self.rows.XT, self.rule.features[: self.rule.size]
        return np.column_stack([np.ones(XT.shape[1]), XT[used].T, XT[list(more)].T])

    def weights(self):
        return self.rule.weights[: self.rule.size + 1].copy()

    def system(self, columns, w):
        """Return gradient and Hessian of F_mu in the weights of some columns, the first free."""
        ridge = np.r_[0.0, np.full(columns.shape[1] - 1, LAM)]
        hessian = (columns.T * self.scratch.q) @ columns + np.diag(ridge)
        return columns.T @ self.scratch.r + ridge * w, hessian

    def objective(self, columns, w):
        """Return F_mu by its definition."""
        rows, mu = self.rows, self.smoothed.mu
        f = mu * np.logaddexp(columns @ w / mu, rows.other / mu)
        return rows.weight @ np.logaddexp(0, -rows.sign * f) + LAM / 2 * np.sum(w[1:] ** 2)


def improved(data, coef, intercept, *, k, mu=0.1, lam=LAM, ridge=0.0, n_tried=0, sweeps, tol):
    """Improve the prototypes in place; return the number of sweeps."""
    limits = Limits(k, n_tried, sweeps, tol)
    return improve(*data, coef, intercept, Smoothed(lam, ridge, mu), limits)


# One prototype


@pytest.mark.parametrize("mu", [1.0, 0.1, 0.003])
def test_value_and_derivatives_of_a_row(mu, global_random_seed):
    case = Case(global_random_seed, mu)
    _, sign, weight, other = case.rows
    z = case.columns() @ case.weights()
    # Scores close to the others', where the smoothing matters.
    z = np.where(np.arange(z.size) % 2, z, other + mu * z)

    def losses(z):
        f = mu * np.logaddexp(z / mu, other / mu)
        return weight * np.logaddexp(0, -sign * f)

    rows, rule = case.rows._replace(XT=z[None, :]), Rule(np.array([0]), np.array([0.0, 1.0]), 1)
    value = _value(rule, rows, case.smoothed, case.scratch)
    assert value == pytest.approx(losses(z).sum() + LAM / 2, rel=1e-13)
    slope, curvature = derivatives(losses, z, 1e-3 * mu)
    assert_allclose(case.scratch.r, slope, atol=1e-6 * weight.max())
    # The concave part of the positives is left out, the rest is exact.
    share = expit((z - other) / mu)
    wrong = expit(-sign * mu * np.logaddexp(z / mu, other / mu))
    concave = np.where(sign > 0, weight * wrong * share * (1 - share) / mu, 0.0)
    assert_allclose(case.scratch.q - concave, curvature, atol=1e-5 * weight.max() / mu)
    assert case.scratch.q.min() >= 0


def test_value_far_away_is_finite():
    sign, weight = np.array([1.0, -1.0, 1.0, -1.0]), np.full(4, 0.25)
    rows = Rows(np.array([[-1e5, -1e5, 1e5, 1e5]]), sign, weight, np.full(4, NO_OTHER))
    scratch, rule = make_scratch(4, 1, 1), Rule(np.array([0]), np.array([0.0, 1.0]), 1)
    value = _value(rule, rows, Smoothed(0.0, 0.0, 0.003), scratch)
    assert value == pytest.approx(0.5e5, rel=1e-12)
    assert_allclose(scratch.r, [-0.25, 0, 0, 0.25], atol=1e-15)
    assert_allclose(scratch.q, 0, atol=1e-15)


@pytest.mark.parametrize("mu", [1.0, 0.1])
@pytest.mark.parametrize("ridge", [0.0, 3.0])
def test_newton_system(mu, ridge, global_random_seed):
    case = Case(global_random_seed, mu)
    scratch, w = case.scratch, case.weights()
    smoothed = case.smoothed._replace(intercept_ridge=ridge)
    _newton_system(case.rule, case.rows.XT, smoothed, scratch)
    expected, matrix = case.system(case.columns(), w)
    matrix[0, 0] += ridge
    gradient, hessian = scratch.gradient[:4].copy(), scratch.hessian[:4, :4]
    assert_allclose(gradient, expected, atol=1e-13)
    assert_allclose(np.tril(hessian), np.tril(matrix), atol=1e-11)
    steps = 1e-5 * np.eye(4)
    slope = [
        (case.objective(case.columns(), w + h) - case.objective(case.columns(), w - h)) / 2e-5
        for h in steps
    ]
    assert_allclose(gradient, slope, atol=1e-8)

    _factorise(scratch.hessian, 4)
    step = np.empty(4)
    _solve(scratch.hessian, 4, gradient, step)
    assert_allclose(step, np.linalg.solve(matrix, expected), rtol=1e-8)


def test_newton_stops_at_the_decrement_and_where_the_target_is_out_of_reach(global_random_seed):
    case = Case(global_random_seed, 0.3)
    start, args = case.weights(), (case.rows, case.smoothed)
    best = smallest(lambda w: case.objective(case.columns(), w), [start])

    def run(decrement, target):
        case.rule.weights[:4] = start
        value = _newton(case.rule, *args, Stop(decrement, target), case.scratch)
        # The value is that of the weights left.
        assert value == pytest.approx(case.objective(case.columns(), case.weights()), rel=1e-12)
        return value

    assert run(1e-13, np.inf) == pytest.approx(best, rel=1e-8)
    # One decrement of the value promises what a step gains, within a factor of two.
    gradient, hessian = case.system(case.columns(), case.weights())
    case.rule.weights[:4] = start
    _value(case.rule, *args, case.scratch)
    gradient, hessian = case.system(case.columns(), start)
    decrement = gradient @ np.linalg.solve(hessian, gradient)
    relative = decrement / case.value
    assert run(1.001 * relative, np.inf) == pytest.approx(case.value, rel=1e-13)
    assert run(0.999 * relative, np.inf) < case.value * (1 - 1e-3)
    reachable = case.value - 2 * decrement
    assert run(1e-13, reachable - 1e-9) == pytest.approx(case.value, rel=1e-13)
    assert run(1e-13, reachable + 1e-9) < case.value * (1 - 1e-3)


def test_newton_steps_are_short(global_random_seed):
    """Separable data without a penalty: the full step is long, and what is left is finite."""
    XT = np.linspace(-1, 1, 40)[None, :] * 1e-3
    rows = Rows(XT, np.sign(XT[0]), np.full(40, 1 / 40), np.full(40, NO_OTHER))
    rule, scratch = Rule(np.array([0]), np.zeros(2), 1), make_scratch(40, 1, 1)
    # Each of the 20 steps is as long as it may be.
    value = _newton(rule, rows, Smoothed(0.0, 0.0, 0.1), Stop(1e-13, np.inf), scratch)
    assert rule.weights[1] == pytest.approx(20 * LONGEST_STEP)
    assert value == pytest.approx(np.mean(np.log1p(np.exp(-np.abs(XT[0]) * 100))))


@pytest.mark.parametrize("m", [0, 1, 3])
def test_gains_are_those_of_the_larger_newton_system(m, global_random_seed):
    """The model's minimum with the feature, against that without it."""
    case = Case(global_random_seed, 0.3, m)
    XT, used, gains = case.rows.XT, case.rule.features[:m], case.scratch.gains
    copied, constant = (m > 0) * 5, 3
    if m > 0:
        XT[copied] = XT[used[0]]
    XT[constant] = 0.0
    _value(case.rule, case.rows, case.smoothed, case.scratch)
    _fill_gains(case.rule, XT, case.smoothed, case.scratch)
    gradient, hessian = case.system(case.columns(), case.weights())
    without = gradient @ np.linalg.solve(hessian, gradient) / 2
    for feature in range(len(XT)):
        if feature in used:
            assert gains[feature, 0] == 0
            continue
        gradient, hessian = case.system(case.columns(feature), np.r_[case.weights(), 0.0])
        step = -np.linalg.solve(hessian, gradient)
        expected = -gradient @ step / 2 - without
        assert gains[feature, 0] == pytest.approx(expected, rel=1e-6, abs=1e-12)
        assert_allclose(gains[feature, 1], step[-1], rtol=1e-6, atol=1e-9)
        assert_allclose(gains[feature, 2 : m + 3], step[:-1], rtol=1e-6, atol=1e-9)
    assert gains[constant, 0] == 0


def test_gains_over_several_blocks_of_rows(global_random_seed):
    """Rows given twice, of half the weight, are the same rows."""
    case, twice = Case(global_random_seed, 0.3), Case(global_random_seed, 0.3)
    times = 20  # 3000 rows
    XT, sign, weight, other = case.rows
    rows = Rows(
        np.tile(XT, times), np.tile(sign, times), np.tile(weight, times) / times,
        np.tile(other, times),
    )  # fmt: skip
    scratch = make_scratch(rows.sign.size, len(XT), 4)
    _value(twice.rule, rows, twice.smoothed, scratch)
    _fill_gains(twice.rule, rows.XT, twice.smoothed, scratch)
    _fill_gains(case.rule, XT, case.smoothed, case.scratch)
    assert_allclose(scratch.gains[:, :5], case.scratch.gains[:, :5], rtol=1e-9, atol=1e-13)


def test_gains_predict_refits(global_random_seed):
    """At the optimum of a prototype, what each further feature brings, to a factor."""
    case = Case(global_random_seed, 1.0, 2)
    rows = case.rows._replace(other=np.full(case.rows.sign.size, NO_OTHER))
    before = _newton(case.rule, rows, case.smoothed, Stop(1e-13, np.inf), case.scratch)
    _value(case.rule, rows, case.smoothed, case.scratch)
    _fill_gains(case.rule, rows.XT, case.smoothed, case.scratch)
    for feature in (1, 2, 3, 5, 6):
        columns = case.columns(feature)

        def value(w, columns=columns):
            loss = rows.weight @ np.logaddexp(0, -rows.sign * (columns @ w))
            return loss + LAM / 2 * np.sum(w[1:] ** 2)

        gain = before - smallest(value, [np.r_[case.weights(), 0.0]])
        assert case.scratch.gains[feature, 0] == pytest.approx(gain, rel=0.3, abs=1e-9)


def test_added_feature_is_the_most_promising_that_reaches_the_target(global_random_seed):
    case = Case(global_random_seed, 1.0, 2)
    before = _newton(case.rule, case.rows, case.smoothed, Stop(1e-13, np.inf), case.scratch)
    kept = case.weights()
    _fill_gains(case.rule, case.rows.XT, case.smoothed, case.scratch)
    best, gain = case.scratch.gains[:, 0].argmax(), case.scratch.gains[:, 0].max()

    def added(n_tried, target):
        case.rule.features[2], case.rule.weights[:3] = -1, kept
        return _add_feature(case.rule, case.rows, case.smoothed, n_tried, target, case.scratch)

    value = added(1, before)
    assert case.rule.features[2] == best
    assert value == pytest.approx(case.objective(case.columns(best), case.rule.weights[:4]))
    assert value < before - gain / 2
    # A trial that misses the target leaves the weights as they were; so do the next ones.
    least = smallest(lambda w: case.objective(case.columns(best), w), [np.r_[kept, 0.0]])
    assert added(3, least - 1e-9) == np.inf
    assert_array_equal(case.weights(), kept)
    # Nothing is tried for a target beyond twice the promised gain, or where nothing is to be.
    for n_tried, times, tried in ((1, 1.999, best), (1, 2.001, -1), (0, 0.5, -1)):
        added(n_tried, before - times * gain)
        assert case.rule.features[2] == tried


@pytest.mark.parametrize("slot", range(4))
def test_exchange_puts_the_new_feature_in_the_slot_of_the_old(slot):
    rule = Rule(np.array([7, 8, 9, 0]), np.array([0.5, 1.0, 2.0, 3.0, 0.0]), 3)
    rest = _without(rule, slot, np.zeros(4, dtype=np.int64), np.zeros(5))
    left = [i for i in range(3) if i != slot]
    assert rest.size == len(left)
    assert_array_equal(rest.features[: rest.size], rule.features[left])
    assert_array_equal(rest.weights[: rest.size + 1], rule.weights[[0, *(i + 1 for i in left)]])
    rest.weights[0] = -0.5
    rest.features[rest.size], rest.weights[rest.size + 1] = 5, 4.0
    changed = _exchanged(rule, slot, rest)
    assert changed.size == rest.size + 1
    features = dict(zip([7, 8, 9], [1.0, 2.0, 3.0], strict=True))
    expected = [7, 8, 9] + [5] * (slot == 3)
    if slot < 3:
        expected[slot] = 5
    features[5] = 4.0
    assert_array_equal(changed.features[: changed.size], expected)
    assert_array_equal(changed.weights[1 : changed.size + 1], [features[f] for f in expected])
    assert changed.weights[0] == -0.5


def test_others_is_the_smooth_maximum_of_the_others(global_random_seed):
    Z = 3 * np.random.default_rng(global_random_seed).standard_normal((4, 50))
    other = np.empty(50)
    for j, mu in itertools.product(range(4), (1.0, 0.1, 0.003)):
        _others(Z, j, mu, other)
        expected = mu * logsumexp(np.delete(Z, j, axis=0) / mu, axis=0)
        assert_allclose(other, expected, rtol=1e-12, atol=1e-13)
    _others(Z[:1], 0, 0.1, other)
    assert_array_equal(other, NO_OTHER)


# improve


@pytest.mark.parametrize("ridge", [0.0, 1e30])
def test_refit_of_one_prototype_is_logistic_regression(ridge, global_random_seed):
    XT, sign, weight = union_data(global_random_seed)
    used = [0, 2, 5]
    coef, intercept = np.zeros((1, 7)), np.zeros(1)
    coef[0, used] = 5.0
    improved((XT, sign, weight), coef, intercept, k=3, ridge=ridge, sweeps=50, tol=1e-12)

    columns = np.vstack([np.full(sign.size, ridge == 0.0), XT[used]])

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
    improved((XT, sign, weight), coef, intercept, k=2, mu=mu, sweeps=1000, tol=1e-13)
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
        n_sweeps = improved(
            (XT, sign, weight), coef, intercept, k=2, mu=mu, n_tried=4, sweeps=1, tol=1e-4
        )
        assert n_sweeps == 1
        assert np.count_nonzero(coef, axis=1).max() <= 2
        values.append(smooth_objective(XT, sign, weight, coef, intercept, mu))
    assert np.diff(values).max() <= 1e-12
    assert values[-1] < 0.9 * values[0]


def test_improve_stops_where_no_exchange_helps(global_random_seed):
    """One prototype: every exchange of one feature, refitted by BFGS."""
    XT, sign, weight = union_data(global_random_seed)
    coef, intercept = np.zeros((1, 7)), np.zeros(1)
    improved((XT, sign, weight), coef, intercept, k=3, n_tried=7, sweeps=1000, tol=1e-6)
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
    improved((XT, sign, weight), coef, intercept, k=2, sweeps=100, tol=1e-9)
    assert_array_equal(coef != 0, used)


def test_a_repeated_or_constant_feature_is_not_added(global_random_seed):
    """All that a copy could bring is a smaller penalty, and here there is hardly any."""
    XT, sign, weight = union_data(global_random_seed)
    XT[[1, 3]], XT[[2, 5]] = XT[0], 0.0
    coef, intercept = np.zeros((1, 7)), np.zeros(1)
    improved((XT, sign, weight), coef, intercept, k=7, lam=1e-6, n_tried=4, sweeps=100, tol=1e-4)
    assert not coef[0, [2, 5]].any()
    assert np.count_nonzero(coef[0, [0, 1, 3]]) == 1
