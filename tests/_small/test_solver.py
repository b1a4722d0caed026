"""The solvers against brute force, planted models and cvxpy, and the pieces of a problem."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit, logsumexp
from sklearn.linear_model import LogisticRegression

from pnsklearn._small._data import quantile_steps, standardised, step_values
from pnsklearn._small._objective import Objective
from pnsklearn._small._relaxation import relax, solve_fista
from pnsklearn._small._solver import (
    MAX_SAMPLED_ROWS,
    Solution,
    Track,
    _kicked,
    _leaders,
    _searched_features,
    bounded,
    certified,
    descend,
    groups_along_line,
    groups_by_hash,
    groups_by_k_means,
    rounded,
    sampled_rows,
    solve,
)

SETTINGS = {
    "solver": "swap", "n_init": "auto", "max_iter": 1000, "tol": 1e-3, "n_jobs": None,
    "device": "cpu",
}  # fmt: skip


def make_problem(
    X, positive, *, p=3, k=3, C=1.0, weight=None, standardize=True, fit_intercept=True
):
    """Return the Objective that the estimator makes of its data."""
    weight = np.ones(X.shape[0]) if weight is None else weight
    data = standardised(X, weight, standardize=standardize, centered=fit_intercept)
    sign, lam = np.where(positive, 1.0, -1.0), 1 / (C * weight.sum())
    return Objective(1, data, sign, weight / weight.sum(), p, k, lam, fit_intercept)


def solved(problem, seed=0, start=None, callback=lambda solution: False, **settings):
    _, solution = solve(
        [problem],
        start=None if start is None else (problem.union, *start),
        rng=np.random.RandomState(seed),
        callback=lambda objective, solution: callback(solution),
        **SETTINGS | settings,
    )
    return solution


def sure(problem, solution):
    return certified(problem, solution, max_iter=1000, tol=1e-3, device="cpu")


def objective(problem, X, coef, intercept):
    """Return F by its definition, X in standardised units."""
    top = (X @ coef.T + intercept).max(axis=1)
    loss = problem.weight @ np.log1p(np.exp(-problem.sign * top))
    return loss + problem.lam / 2 * np.sum(coef**2)


def planted(seed, *, n=3000, d=30, p=3, k=3):
    """Return X, labels drawn from the union of p rules of k features each, and their supports."""
    rng = np.random.default_rng(seed)
    X, W = rng.standard_normal((n, d)), np.zeros((p, d))
    for w, used in zip(W, rng.permutation(d)[: p * k].reshape(p, k), strict=True):
        w[used] = rng.choice([-1, 1], k) * rng.uniform(1.5, 3, k)
    z = (X @ W.T - (3.0 if p > 1 else 0.0)).max(axis=1)
    return X, rng.uniform(size=n) < expit(2 * z), supports(W)


def supports(coef):
    return {tuple(np.flatnonzero(row)) for row in coef}


def noisy_union(seed, n=120, d=4):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    return X, rng.uniform(size=n) < expit(3 * np.maximum(X[:, 0], X[:, 1]) - 2)


def logistic(problem, X, used):
    """Return the least F of one prototype on some features, by scikit-learn."""
    model = LogisticRegression(C=1 / problem.lam, solver="newton-cholesky", tol=1e-10)
    model.fit(X[:, used], problem.sign, problem.weight)
    coef = np.zeros((1, X.shape[1]))
    coef[0, used] = model.coef_[0]
    return objective(problem, X, coef, model.intercept_)


# Brute force


def test_one_rule_is_the_best_of_all_supports(global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    X = rng.standard_normal((100, 6)) @ (np.eye(6) + 0.3 * rng.standard_normal((6, 6)))
    positive = rng.uniform(size=100) < expit(X @ [1.0, -0.8, 0.6, 0, 0, 0.3])
    problem = make_problem(X, positive, p=1, k=2)
    standard = (X - X.mean(axis=0)) / X.std(axis=0)
    best = min(logistic(problem, standard, [*pair]) for pair in itertools.combinations(range(6), 2))
    for solver in ("swap", "auto"):
        solution = solved(problem, solver=solver)
        assert solution.objective == pytest.approx(best, rel=1e-8)
        # The bound of the relaxation is one of all supports.
        lower_bound = sure(problem, solution).lower_bound
        assert 0.8 * best < lower_bound <= best * (1 + 1e-9)
        assert solution.lower_bound <= best * (1 + 1e-9)


def test_two_rules_are_not_beaten_by_brute_force(global_random_seed):
    """All pairs of features, many starts, BFGS on the smooth maximum, then Nelder-Mead."""
    X, positive = noisy_union(global_random_seed)
    problem = make_problem(X, positive, p=2, k=1)
    standard = (X - X.mean(axis=0)) / X.std(axis=0)
    rng = np.random.default_rng(global_random_seed)

    def smooth(theta, columns, mu):
        Z = theta[:2] * columns + theta[2:]
        f = mu * logsumexp(Z / mu, axis=1)
        share = expit((Z - Z[:, ::-1]) / mu)
        slope = -(problem.weight * problem.sign * expit(-problem.sign * f))[:, None] * share
        gradient = np.r_[(slope * columns).sum(axis=0) + problem.lam * theta[:2], slope.sum(axis=0)]
        loss = problem.weight @ np.logaddexp(0, -problem.sign * f)
        return loss + problem.lam / 2 * theta[:2] @ theta[:2], gradient

    def hard(theta, pair):
        coef = np.zeros((2, 4))
        coef[[0, 1], pair] = theta[:2]
        return objective(problem, standard, coef, theta[2:])

    best = np.inf
    for pair in itertools.combinations_with_replacement(range(4), 2):
        for start in 2 * rng.standard_normal((6, 4)):
            theta = start
            for mu in (0.3, 0.03, 0.003):
                found = minimize(smooth, theta, (standard[:, pair], mu), jac=True, method="BFGS")
                theta = found.x
            best = min(best, hard(theta, [*pair]))
    solution = solved(problem)
    assert solution.objective <= best * (1 + 1e-3)


@pytest.mark.parametrize("solver", ["swap", "auto", "fista"])
@pytest.mark.parametrize("seed", range(3))
def test_planted_rule_is_found(solver, seed):
    X, positive, expected = planted(seed, n=1000, d=20, p=1, k=4)
    solution = solved(make_problem(X, positive, p=1, k=4), solver=solver)
    assert supports(solution.coef) == expected


@pytest.mark.parametrize("seed", range(3))
def test_planted_union_is_found(seed):
    X, positive, expected = planted(seed)
    assert supports(solved(make_problem(X, positive)).coef) == expected


def test_search_ends_below_the_relaxation(cancer):
    X, y = cancer
    problem = make_problem(X, y == 1, p=2, k=2)
    search = solved(problem, solver="auto").objective
    for solver in ("fista", "saddle"):
        assert search <= solved(problem, solver=solver, tol=1e-2).objective


# Solutions


@pytest.mark.parametrize("solver", ["swap", "auto", "fista", "saddle"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_what_each_state_and_solution_promises(solver, fit_intercept, global_random_seed):
    X, positive = noisy_union(global_random_seed, d=6)
    weight = np.random.default_rng(global_random_seed).uniform(0.1, 3.0, len(X))
    problem = make_problem(X, positive, p=3, k=2, weight=weight, fit_intercept=fit_intercept)
    states = []
    solution = solved(problem, solver=solver, tol=1e-2, callback=lambda s: states.append(s))
    assert states
    for state in (*states, solution):
        assert np.count_nonzero(state.coef, axis=1).max() <= 2
        assert state.gap >= 0
        assert state.lower_bound <= state.objective
        if not fit_intercept:
            assert_allclose(state.intercept, 0, atol=1e-12)
    # Once more by its definition.
    standard = X - weight @ X / weight.sum() * fit_intercept
    standard /= np.sqrt(weight @ (X - weight @ X / weight.sum()) ** 2 / weight.sum())
    expected = objective(problem, standard, solution.coef, solution.intercept)
    assert solution.objective == pytest.approx(expected, rel=1e-12)
    assert sure(problem, solution).gap >= 0


def test_reference_agrees_with_fista(global_random_seed):
    pytest.importorskip("cvxpy")
    X, positive = noisy_union(global_random_seed, n=80)
    problem = make_problem(X, positive, p=2, k=2)
    solutions = [
        solved(problem, global_random_seed, solver=solver, tol=1e-4, max_iter=20_000)
        for solver in ("reference", "fista")
    ]
    assert all(solution.converged for solution in solutions)
    assert solutions[0].objective == pytest.approx(solutions[1].objective, rel=1e-6)
    assert_allclose(solutions[0].coef, solutions[1].coef, atol=1e-3)


@pytest.mark.parametrize("solver", ["fista", "saddle"])
def test_unsolved_relaxation_says_so(solver, global_random_seed):
    problem = make_problem(*noisy_union(global_random_seed), p=2, k=2)
    assert not solved(problem, solver=solver, max_iter=3).converged
    assert solved(problem, solver="fista").converged


@pytest.mark.parametrize("n_tried", [0, 4])
def test_descent_never_ends_above_its_start(n_tried, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    X, positive = noisy_union(global_random_seed, d=6)
    problem = make_problem(X, positive, p=3, k=2)
    X, block = (X - X.mean(axis=0)) / X.std(axis=0), problem.block()
    for _ in range(10):
        coef = np.zeros((3, 6))
        coef[:, :2] = 3 * rng.standard_normal((3, 2))
        intercept = rng.standard_normal(3)
        for schedule in ((1.0,), (0.1, 0.003)):
            before = objective(problem, X, coef, intercept)
            kept = coef.copy(), intercept.copy()
            found = descend(block, (coef, intercept), schedule, 5, n_tried)
            better = found.coef, found.intercept
            assert found.objective <= before * (1 + 1e-14)
            assert found.objective == pytest.approx(objective(problem, X, *better), rel=1e-12)
            assert_array_equal(coef, kept[0])
            assert_array_equal(intercept, kept[1])
            coef, intercept = better


@pytest.mark.parametrize("solver", ["swap", "auto"])
def test_a_start_is_never_left_for_a_worse_solution(solver, global_random_seed):
    X, positive = noisy_union(global_random_seed, d=6)
    problem = make_problem(X, positive, p=2, k=2)
    good = solved(problem, n_init=20)
    again = solved(
        problem, 1, start=(good.coef, good.intercept), solver=solver, n_init=1, max_iter=1
    )
    assert again.objective <= good.objective


def test_threads_change_nothing(global_random_seed):
    problem = make_problem(*noisy_union(global_random_seed, d=6), p=2, k=2)
    solutions = [solved(problem, solver="auto", n_jobs=n_jobs) for n_jobs in (None, 2)]
    assert_array_equal(solutions[0].coef, solutions[1].coef)
    assert_array_equal(solutions[0].intercept, solutions[1].intercept)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_callback_stops_the_search(n_jobs):
    """What is left is the polish of the best start so far."""
    problem = make_problem(*noisy_union(0, d=6), p=2, k=2)
    states = []
    solution = solved(problem, callback=lambda s: states.append(s) or True, n_jobs=n_jobs)
    assert len(states) == 1
    assert solution.objective <= states[0].objective


@pytest.mark.parametrize("solver", ["fista", "saddle"])
def test_callback_stops_the_relaxation(solver):
    problem = make_problem(*noisy_union(0, d=6), p=3, k=2)
    states = []
    solved(problem, solver=solver, tol=1e-9, callback=lambda s: states.append(s) or len(states) > 1)
    assert len(states) == 2


# Many features, many rows


def hidden(X, positive, features):
    """Take from features what correlates with the labels, in place: no margin shows them."""
    labels = positive - positive.mean()
    for feature in features:
        X[:, feature] -= X[:, feature].mean()
        X[:, feature] -= (X[:, feature] @ labels) / (labels @ labels) * labels


def test_many_features(global_random_seed):
    """A feature out of the first working set is priced in: it cleans another."""
    rng = np.random.default_rng(global_random_seed)
    X = rng.standard_normal((600, 2000))
    positive = rng.uniform(size=600) < expit(3 * X[:, 7])
    hidden(X, positive, [1234])
    X[:, 7] += X[:, 1234]
    problem = make_problem(X, positive, p=1, k=2)
    assert 1234 not in _searched_features(problem)
    assert supports(solved(problem).coef) == {(7, 1234)}


def test_many_sparse_features_are_as_dense(global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    X = rng.standard_normal((500, 2000)) * (rng.uniform(size=(500, 2000)) < 0.2)
    X[:, [5, 1500, 1999]] = rng.standard_normal((500, 3))
    positive = rng.uniform(size=500) < expit(4 * X[:, 5] - 4 * X[:, 1500] + 3 * X[:, 1999])
    for solver in ("swap", "fista"):
        dense, sparse = (
            solved(
                make_problem(Z, positive, p=1, standardize=False, fit_intercept=False),
                solver=solver,
                tol=1e-2,
            )
            for Z in (X, csr_array(X))
        )
        assert supports(sparse.coef) == supports(dense.coef) == {(5, 1500, 1999)}
        assert_allclose(sparse.coef, dense.coef, atol=1e-7)
        assert sparse.objective == pytest.approx(dense.objective, rel=1e-10)
        # With an intercept the optimum is the same, centred or not.
        dense, sparse = (
            solved(make_problem(Z, positive, p=1, standardize=False), solver=solver, tol=1e-2)
            for Z in (X, csr_array(X))
        )
        assert sparse.objective == pytest.approx(dense.objective, rel=1e-6)


def test_start_with_features_out_of_the_working_set_is_kept(global_random_seed):
    """Two features that say nothing one by one."""
    rng = np.random.default_rng(global_random_seed)
    X = rng.standard_normal((600, 1000))
    positive = np.abs(X[:, 7] - X[:, 123]) + 0.2 * rng.standard_normal(600) > 1.2
    hidden(X, positive, [7, 123])
    problem = make_problem(X, positive, p=2, k=2)
    assert not {7, 123} & set(_searched_features(problem))
    coef = np.zeros((2, 1000))
    coef[:, [7, 123]] = [[3.0, -3.0], [-3.0, 3.0]]
    start = coef, np.full(2, -3.0)
    standard = (X - X.mean(axis=0)) / X.std(axis=0)
    solution = solved(problem, start=start, n_init=2)
    assert solution.objective <= objective(problem, standard, *start)


def test_many_rows_reach_the_optimum_of_all():
    X, positive, expected = planted(0, n=2 * MAX_SAMPLED_ROWS, d=10, p=2, k=2)
    problem = make_problem(X, positive, p=2, k=2)
    states = []
    solution = solved(problem, n_init=4, callback=lambda s: states.append(s))
    assert supports(solution.coef) == expected
    # From the truth, on all rows.
    coef = np.zeros((2, 10))
    for row, used in zip(coef, expected, strict=True):
        row[[*used]] = solution.coef[solution.coef[:, used[0]] != 0][0, [*used]]
    schedule = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
    best = descend(problem.block(), (coef, np.full(2, -3.0)), schedule, 200, n_tried=0)
    assert solution.objective <= best.objective * (1 + 1e-3)
    standard = (X - X.mean(axis=0)) / X.std(axis=0)
    for state in states:
        assert state.objective >= state.lower_bound
        # Of all rows, not of the sample.
        expected = objective(problem, standard, state.coef, state.intercept)
        assert state.objective == pytest.approx(expected, rel=1e-9)


def test_sample_has_a_fair_share_of_each_class(global_random_seed):
    """In proportion, but no fewer than a tenth of a sample, or all there are."""
    for n_positive, expected in ((15_000, 5_000), (1_200, 1_000), (700, 700)):
        X, positive = np.zeros((30_000, 1)), np.arange(30_000) < n_positive
        problem = make_problem(X, positive)
        rows = sampled_rows(positive, np.random.RandomState(global_random_seed))
        assert np.sum(positive[rows]) == expected
        assert len(set(rows)) == len(rows)
        negatives = round(MAX_SAMPLED_ROWS * (1 - n_positive / 30_000))
        assert np.sum(~positive[rows]) == negatives
        # Each class keeps its weight.
        block = problem.block(rows=rows)
        assert block.weight[block.sign > 0].sum() == pytest.approx(n_positive / 30_000)
        assert block.weight.sum() == pytest.approx(1)


def test_sample_keeps_rare_positives():
    rng = np.random.default_rng(0)
    n = 3 * MAX_SAMPLED_ROWS
    X = rng.standard_normal((n, 3))
    positive = np.zeros(n, dtype=bool)
    positive[:: n // 30] = True
    X[positive] += [4.0, 0.0, 4.0]
    solution = solved(make_problem(X, positive, p=1, k=2), n_init=1)
    assert supports(solution.coef) == {(0, 2)}


# Pieces


def test_bounded_is_the_dual_value_of_the_margins(global_random_seed):
    """Written out: a shrunk answer that balances each prototype, and its dual value."""
    rng = np.random.default_rng(global_random_seed)
    X, positive = noisy_union(global_random_seed)
    # A strong penalty, for a bound that is not below zero, which is a bound too.
    problem = replace(make_problem(X, positive, p=2, k=2), lam=10.0)
    standard = (X - X.mean(axis=0)) / X.std(axis=0)
    coef, intercept = rng.standard_normal((2, 4)), rng.standard_normal(2)
    Z = standard @ coef.T + intercept
    A = np.zeros_like(Z)
    rows, group = np.arange(len(Z)), Z.argmax(axis=1)
    A[rows, group] = -problem.sign * expit(-problem.sign * Z.max(axis=1))
    for j in range(2):
        up, down = A[~positive, j].sum(), -A[positive, j].sum()
        A[~positive, j] *= min(up, down) / up
        A[positive, j] *= min(up, down) / down
    a = np.abs(A).sum(axis=1)
    value = -problem.weight @ (a * np.log(a) + (1 - a) * np.log1p(-a))
    g = (problem.weight[:, None] * A).T @ standard
    value -= np.sum(np.sort(g**2, axis=1)[:, -2:]) / (2 * problem.lam)
    state = solved(problem)
    state = bounded(problem, replace(state, coef=coef, intercept=intercept))
    assert value > 0
    assert state.lower_bound == pytest.approx(value, rel=1e-10)


def test_idle_prototypes_are_dropped():
    X, positive = noisy_union(0)
    problem = make_problem(X, positive)
    coef = np.array([[1.0, 0, 0, 0], [0, 0, 0, 0], [0, 1.0, 0, 0]])
    intercept = np.array([-1.0, -50.0, 1.0])
    left = problem.without_idle(coef, intercept)
    # The one that fires more often comes first.
    assert_array_equal(left[0], coef[[2, 0]])
    assert_array_equal(left[1], intercept[[2, 0]])
    # It fires where its score is above zero, however little.
    coef, intercept = np.array([[1.0, 0, 0, 0], [0, 0.1, 0, 0]]), np.array([-1.0, 0.1])
    assert_array_equal(problem.without_idle(coef, intercept)[1], intercept[[1, 0]])


def test_rounded_breaks_ties_by_weight_then_index():
    W = np.array([[3.0, -1.0, 2.0, 0.5], [1.0, 1.0, -1.0, 1.0]])
    eps = np.array([[0.2, 0.9, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]])
    assert_array_equal(rounded(W, eps, 2), [[0, -1, 2, 0], [1, 1, 0, 0]])


def groups_by_hash_of_rows(XT, sign, weight, n_groups, rng):
    return groups_by_hash(XT, n_groups, rng)


@pytest.mark.parametrize("split", [groups_by_k_means, groups_along_line, groups_by_hash_of_rows])
def test_first_groups_do_not_depend_on_repetition_or_order(split, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    XT = np.ascontiguousarray(rng.standard_normal((3, 60)))
    sign, weight = np.where(np.arange(60) < 30, 1.0, -1.0), rng.integers(1, 4, 60)
    groups = split(XT, sign, weight / 1.0, 3, np.random.RandomState(0))
    assert set(groups[:30]) == {0, 1, 2}
    rows = rng.permutation(np.repeat(np.arange(60), weight))
    XT = np.ascontiguousarray(XT[:, rows])
    again = split(XT, sign[rows], np.ones(rows.size), 3, np.random.RandomState(0))
    positive = sign[rows] > 0
    assert_array_equal(again[positive], groups[rows][positive])


def test_slices_have_equal_weights(global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    XT, weight = rng.standard_normal((3, 4000)), rng.uniform(0.5, 1.5, 4000)
    sign = np.where(rng.uniform(size=4000) < 0.5, 1.0, -1.0)
    groups = groups_along_line(XT, sign, weight, 4, np.random.RandomState(0))
    for j in range(4):
        share = weight[(groups == j) & (sign > 0)].sum() / weight[sign > 0].sum()
        assert share == pytest.approx(0.25, abs=0.01)
    scatter = groups_by_hash(XT, 4, np.random.RandomState(0))
    assert_allclose(np.bincount(scatter) / 4000, 0.25, atol=0.05)


# Data


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_standardised_data(dtype, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    X = (rng.standard_normal((80, 4)) * [1, 10, 0, 1e-3] + [0, 5, 7, 0]).astype(dtype)
    weight = rng.uniform(0.1, 2.0, 80)
    mean = weight @ X / weight.sum()
    deviation = np.sqrt(weight @ (X - mean) ** 2 / weight.sum())
    deviation[2] = 1.0
    kept = X.copy()
    data = standardised(X, weight, standardize=True, centered=True)
    columns = data.columns()
    assert columns.dtype == dtype and columns.flags.c_contiguous
    assert_allclose(
        columns, ((X - mean) / deviation).T, atol=1e-13 if dtype is np.float64 else 1e-4
    )
    assert_allclose(columns[2], 0, atol=1e-14)
    assert_array_equal(data.columns(np.array([3, 1]), np.array([5, 0])), columns[[3, 1]][:, [5, 0]])
    R = rng.standard_normal((80, 2))
    tolerance = 1e-10 if dtype is np.float64 else 1e-2
    assert_allclose(data.pull_back(R), (columns.astype(float) @ R).T, atol=tolerance)
    assert_array_equal(X, kept)
    raw = standardised(X, weight, standardize=False, centered=False)
    assert_array_equal(raw.columns(), X.T)


def test_sparse_data_are_scaled_and_not_centred(global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    X = rng.standard_normal((80, 4)) * (rng.uniform(size=(80, 4)) < 0.3)
    X[:, 2] = 0.0
    weight = rng.uniform(0.1, 2.0, 80)
    data = standardised(csr_array(X), weight, standardize=True, centered=True)
    scale = np.sqrt(weight @ X**2 / weight.sum())
    scale[2] = 1.0
    assert_allclose(data.columns(), (X / scale).T, rtol=1e-12)
    R = rng.standard_normal((80, 2))
    assert_allclose(data.pull_back(R), R.T @ (X / scale), atol=1e-12)


def test_constant_features_of_any_size_are_zero():
    X = np.repeat([[0.1, 1e15 / 3, -1e-15, 0.0]], 1000, axis=0)
    data = standardised(
        X, np.random.default_rng(0).uniform(size=1000), standardize=True, centered=True
    )
    assert_array_equal(data.scale, 1.0)
    assert np.all(np.abs(data.columns()) <= 1e-15 * np.abs(X.T))


def test_thresholds_are_weighted_deciles(global_random_seed):
    """Half way between a decile of the repeated rows and the next value."""
    rng = np.random.default_rng(global_random_seed)
    X = np.column_stack(
        [rng.standard_normal(50), rng.integers(0, 5, 50), rng.uniform(size=50) < 0.5]
    )
    weight = rng.integers(1, 4, 50)
    features, thresholds = quantile_steps(X, weight.astype(float))
    for feature, column in enumerate(X.T):
        repeated, values = np.sort(np.repeat(column, weight)), np.unique(column)
        n = len(repeated)
        deciles = {repeated[-(-n * tenth // 10) - 1] for tenth in range(1, 10)} - {values[-1]}
        expected = [(decile + values[values > decile][0]) / 2 for decile in sorted(deciles)]
        assert_allclose(thresholds[features == feature], expected, rtol=1e-14)
    steps = step_values(X, features, thresholds)
    assert_array_equal(steps, X[:, features] > thresholds)


def test_thresholds_of_few_values():
    X = np.array([[0.0, 2.0, 1e308], [1.0, 2.0, 1.5e308], [1.0, 2.0, 1.7e308]])
    features, thresholds = quantile_steps(X, np.ones(3))
    assert_array_equal(features, [0, 2, 2])
    assert_allclose(thresholds, [0.5, 1.25e308, 1.6e308])


def test_relaxation_of_the_estimator_is_that_of_the_problem(global_random_seed):
    """With every feature kept the relaxation of one prototype is logistic regression."""
    X, positive = noisy_union(global_random_seed)
    problem = make_problem(X, positive, p=1, k=4)
    groups = np.zeros(len(X), dtype=int)
    relaxation = relax(problem, problem.data.transposed(), groups, "cpu")
    relaxed = solve_fista(relaxation, tol=1e-8, max_iter=10_000)
    standard = (X - X.mean(axis=0)) / X.std(axis=0)
    assert relaxed.upper == pytest.approx(logistic(problem, standard, np.arange(4)), rel=1e-6)


# The races of the search


def test_leaders_are_the_best_of_each_choice_of_features():
    def track(value, *supports):
        coef = np.zeros((len(supports), 4))
        for row, support in zip(coef, supports, strict=True):
            row[list(support)] = value
        state = Solution(coef, np.zeros(len(supports)), value, 0)
        return Track(state, state)

    tracks = [track(3.0, (0,), (1,)), track(2.0, (1,), (0,)), track(4.0, (0, 1), (2,))]
    tracks.append(track(1.0, (3,), (3,)))
    values = [found.best.objective for found in _leaders(tracks, 10)]
    assert values == [1.0, 2.0, 4.0]  # the order of the prototypes does not matter
    assert [found.best.objective for found in _leaders(tracks, 1.2)] == [1.0, 2.0]


def test_kicks_leave_a_poor_start_and_never_end_above_it(global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    X = rng.standard_normal((200, 4))
    block = make_problem(X, (X[:, 0] > 1) | (X[:, 1] > 1)).block()
    block = replace(block, n_prototypes=2, n_nonzero=1)
    poor = descend(block, (np.diag([0, 0, 1.0, 1.0])[2:], np.zeros(2)), (0.03,), 100, n_tried=0)
    kicked = _kicked(block, poor, np.random.RandomState(0), 100)
    assert kicked.objective < 0.5 * poor.objective
    assert_array_equal(np.flatnonzero(kicked.coef.any(axis=0)), [0, 1])
    again = _kicked(block, kicked, np.random.RandomState(1), 100)
    assert again.objective <= kicked.objective
