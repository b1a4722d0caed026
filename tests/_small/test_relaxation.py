"""The relaxation's solvers against cvxpy and scikit-learn, and its bounds along the way."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression

from pnsklearn._small import _kernels
from pnsklearn._small._reference import solve_reference
from pnsklearn._small._relaxation import Relaxation, _Saddle, certify, solve_fista, solve_saddle

SOLVERS = [solve_fista, solve_saddle]


def make_problem(seed, *, n=60, d=6, p=2, k=2, lam=0.05, fit_intercept=True):
    """Return a small relaxation with unequal weights, one of them zero."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    sign = np.where(np.maximum(X[:, 0], X[:, 1]) + 0.5 * rng.standard_normal(n) > 0.6, 1.0, -1.0)
    weight = rng.uniform(0.2, 2.0, n)
    weight[3] = 0.0
    assignment = (X[:, 0] < X[:, 1]).astype(int) if p > 1 else np.zeros(n, dtype=int)
    XT = np.ascontiguousarray(X.T)
    return Relaxation(
        _kernels, XT, sign, weight / weight.sum(), assignment, p, k, lam, fit_intercept
    )


def objective(problem, W, b):
    """Return the objective by its definition, the norm by minimising over eps numerically."""
    z = W @ problem.XT + b[:, None]
    own = z[problem.assignment, np.arange(z.shape[1])]
    margin = np.where(problem.sign > 0, own, z.max(axis=0))
    loss = problem.weight @ np.logaddexp(0, -problem.sign * margin)
    norms = 0.0
    for w in W:
        found = minimize(
            lambda eps, w=w: np.sum(w**2 / eps),
            np.full(w.size, min(1.0, problem.n_nonzero / w.size)),
            jac=lambda eps, w=w: -(w**2) / eps**2,
            bounds=[(1e-9, 1)] * w.size,
            constraints={"type": "ineq", "fun": lambda eps: problem.n_nonzero - eps.sum()},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        norms += found.fun
    return loss + problem.lam / 2 * norms


# SLSQP of SciPy < 1.16 warns where it clips a step to the bounds.
@pytest.mark.filterwarnings("ignore:Values in x were outside bounds:RuntimeWarning")
def test_upper_bound_is_the_objective(global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    problem = make_problem(global_random_seed)
    W, b = rng.standard_normal((2, 6)), rng.standard_normal(2)
    assert problem.upper(W, b) == pytest.approx(objective(problem, W, b), rel=1e-7)


def saddle_function(problem, eps, b, A):
    """Return Phi(eps, b, A) by its definition, without W."""
    a = np.abs(A).sum(axis=0)
    phi = a * np.log(np.maximum(a, 1e-300)) + (1 - a) * np.log1p(-a)
    R = problem.weight * A
    g, c = R @ problem.XT.T, R.sum(axis=1)
    return -problem.weight @ phi + b @ c - np.sum(eps * g**2) / (2 * problem.lam)


def test_derivatives_of_the_saddle_function(global_random_seed):
    """The field of mirror-prox against differences of Phi."""
    rng = np.random.default_rng(global_random_seed)
    problem = make_problem(global_random_seed)
    W, b, h = rng.standard_normal((2, 6)), rng.standard_normal(2), 1e-6
    eps, A = rng.uniform(0.1, 0.6, (2, 6)), problem.answer(W, b, 0.5)
    W, (F_eps, F_b, z) = _Saddle(problem).field(eps, b, A)

    def slope(function, x):
        out = np.zeros_like(x)
        for index in np.ndindex(*x.shape):
            step = np.zeros_like(x)
            step[index] = h
            out[index] = (function(x + step) - function(x - step)) / (2 * h)
        return out

    assert_allclose(
        F_eps, slope(lambda e: saddle_function(problem, e, b, A), eps), rtol=1e-6, atol=1e-8
    )
    assert_allclose(F_b, slope(lambda x: saddle_function(problem, eps, x, A), b), atol=1e-8)
    # By A, the entropy apart, at the entries that may change.
    free = A != 0

    def without_entropy(B):
        return saddle_function(problem, eps, b, B) - _kernels.entropy(problem.weight, B)

    by_A = slope(without_entropy, A)
    assert_allclose(by_A[free], (problem.weight * z)[free], atol=1e-8)
    # W minimises for this eps, so Phi is the Lagrangian there.
    lagrangian = np.sum(problem.weight * A * z) + problem.lam / 2 * np.sum(W**2 / eps)
    assert saddle_function(problem, eps, b, A) == pytest.approx(
        lagrangian + _kernels.entropy(problem.weight, A), rel=1e-12
    )


def test_any_bounds_bracket_any_others(global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    for fit_intercept in (True, False):
        problem = make_problem(global_random_seed, fit_intercept=fit_intercept)
        points = [(t * rng.standard_normal((2, 6)), t * rng.standard_normal(2)) for t in (0, 0.3)]
        points = [(W, b * fit_intercept) for W, b in points]
        least = min(problem.upper(W, b) for W, b in points)
        largest = max(problem.lower(problem.answer(W, b, mu)) for W, b in points for mu in (0, 1))
        assert largest < least


CASES = {
    "plain": {},
    "one prototype": {"p": 1},
    "three prototypes, one without positives": {"p": 3},
    "all features": {"k": 6},
    "more than all features": {"k": 9},
    "little regularisation": {"lam": 0.002},
    "no intercept": {"fit_intercept": False},
}


@pytest.mark.parametrize("case", CASES)
def test_solvers_against_cvxpy_bracketing_all_along(case, global_random_seed):
    pytest.importorskip("cvxpy")
    problem = make_problem(global_random_seed, **CASES[case])
    reference = solve_reference(problem)
    assert 0 <= reference.gap < 1e-4  # of the multipliers; the value itself is better
    optimum = reference.upper
    for solve, tol in ((solve_fista, 1e-6), (solve_saddle, 2e-3)):
        seen = []

        def check(so_far, seen=seen):
            assert so_far.lower <= optimum + 1e-8 and so_far.upper >= optimum - 1e-8
            assert so_far.gap == (so_far.upper - so_far.lower) / so_far.upper
            seen.append(so_far)

        solution = solve(problem, tol=tol, max_iter=20_000, callback=check)
        assert solution.converged and solution.gap <= tol
        assert solution.upper - optimum <= tol * optimum
        assert optimum - solution.lower <= tol * optimum
        # Only ever better, and what is returned is what the bounds belong to.
        assert np.all(np.diff([s.upper for s in seen]) <= 0)
        assert np.all(np.diff([s.lower for s in seen]) >= 0)
        assert np.all(np.diff([s.n_iter for s in seen]) > 0)
        assert problem.upper(solution.W, solution.b) == pytest.approx(solution.upper, rel=1e-14)
        assert problem.lower(solution.A) == pytest.approx(solution.lower, rel=1e-14)
        assert np.all((solution.eps >= 0) & (solution.eps <= 1))
        assert np.all(solution.eps.sum(axis=1) <= problem.n_nonzero + 1e-9)
        if not problem.fit_intercept:
            assert not solution.b.any()


def test_bounds_within_1e_6_of_cvxpy(global_random_seed):
    pytest.importorskip("cvxpy")
    for lam in (0.1, 0.01):
        problem = make_problem(global_random_seed, lam=lam)
        optimum = solve_reference(problem).upper
        solution = solve_fista(problem, tol=1e-6, max_iter=20_000)
        assert abs(solution.upper - optimum) < 1e-6 and abs(solution.lower - optimum) < 1e-6


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_one_prototype_with_all_features_is_ridge_logistic_regression(
    fit_intercept, global_random_seed
):
    problem = make_problem(global_random_seed, p=1, k=6, fit_intercept=fit_intercept)
    model = LogisticRegression(
        C=1 / problem.lam, tol=1e-10, max_iter=1000, fit_intercept=fit_intercept
    )
    model.fit(problem.XT.T, problem.sign, sample_weight=problem.weight)
    solution = solve_fista(problem, tol=1e-9, max_iter=5000)
    assert solution.converged
    assert_allclose(solution.W, model.coef_, atol=1e-4)
    assert_allclose(solution.b, np.ravel(model.intercept_), atol=1e-4)


def test_weights_are_repetitions(global_random_seed):
    problem = make_problem(global_random_seed)
    times = np.random.default_rng(global_random_seed).integers(0, 4, problem.weight.size)
    rows = np.repeat(np.arange(times.size), times)
    weighted = replace(problem, weight=times / times.sum())
    repeated = replace(
        problem,
        XT=np.ascontiguousarray(problem.XT[:, rows]),
        sign=problem.sign[rows],
        weight=np.full(rows.size, 1 / rows.size),
        assignment=problem.assignment[rows],
    )
    for solve in SOLVERS:
        a, b = (solve(x, tol=1e-3, max_iter=2000) for x in (weighted, repeated))
        assert a.n_iter == b.n_iter
        assert_allclose([a.upper, a.lower], [b.upper, b.lower], rtol=1e-9)
        assert_allclose(a.W, b.W, atol=1e-7)


def test_order_of_rows_and_features_does_not_matter(global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    problem = make_problem(global_random_seed)
    rows, features = rng.permutation(60), rng.permutation(6)
    permuted = replace(
        problem,
        XT=np.ascontiguousarray(problem.XT[np.ix_(features, rows)]),
        sign=problem.sign[rows],
        weight=problem.weight[rows],
        assignment=problem.assignment[rows],
    )
    for solve in SOLVERS:
        a, b = (solve(x, tol=1e-3, max_iter=2000) for x in (problem, permuted))
        assert_allclose(a.W[:, features], b.W, atol=1e-7)
        assert_allclose([a.upper, a.lower], [b.upper, b.lower], rtol=1e-9)


def test_mirror_prox_averages_have_a_gap_of_order_one_over_t(global_random_seed):
    """With a fixed step, averaged here."""
    problem = make_problem(global_random_seed)
    saddle, step = _Saddle(problem), 0.02
    W, b = problem.origin(None)
    point = np.full(W.shape, 1 / 3), b, problem.answer(W, b, 0.3)
    sums, gaps, checked = [0.0, 0.0, 0.0], [], [200, 400, 800, 1600]
    for t in range(1, checked[-1] + 1):
        _, field = saddle.field(*point)
        middle = saddle.move(point, field, step)
        W, field = saddle.field(*middle)
        point = saddle.move(point, field, step)
        sums = [total + part for total, part in zip(sums, (W, *middle[1:]), strict=True)]
        if t in checked:
            gaps.append(certify(problem, *(total / t for total in sums), n_iter=t, tol=0.0).gap)
    assert np.polyfit(np.log(checked), np.log(gaps), 1)[0] < -0.8
    # The solver, which adapts the step, does at least as well.
    assert solve_saddle(problem, max_iter=1600, tol=1e-12).gap <= gaps[-1]


def test_steps_of_mirror_prox_are_refused_only_when_unsafe(global_random_seed):
    problem = make_problem(global_random_seed)
    saddle = _Saddle(problem)
    W, b = problem.origin(None)
    point = np.full(W.shape, 1 / 3), b, problem.answer(W, b, 0.3)

    def is_safe(step):
        _, field = saddle.field(*point)
        middle = saddle.move(point, field, step)
        _, field = saddle.field(*middle)
        return saddle.is_safe(point, middle, field, saddle.move(point, field, step), step)

    assert is_safe(1e-3) and not is_safe(1e3)


@pytest.mark.parametrize("solve", SOLVERS)
def test_warm_start_and_stopping(solve, global_random_seed):
    problem = make_problem(global_random_seed)
    cold = solve(problem, tol=1e-3, max_iter=5000)
    warm = solve(problem, start=cold, tol=2e-3, max_iter=5000)
    assert warm.converged and warm.n_iter < cold.n_iter
    # A start for another assignment is only a start.
    moved = replace(problem, assignment=1 - problem.assignment)
    assert solve(moved, start=cold, tol=1e-3, max_iter=5000).converged
    calls = []
    stopped = solve(problem, tol=1e-9, callback=lambda s: calls.append(s) or len(calls) == 2)
    assert len(calls) == 2 and not stopped.converged and stopped.n_iter == calls[-1].n_iter
    short = solve(problem, tol=1e-9, max_iter=3)
    assert short.n_iter == 3 and not short.converged


@pytest.mark.parametrize("solve", SOLVERS)
def test_sparse_and_float32_data(solve, global_random_seed):
    problem = make_problem(global_random_seed)
    expected = solve(problem, tol=1e-3, max_iter=5000)
    sparse = solve(replace(problem, XT=csr_array(problem.XT)), tol=1e-3, max_iter=5000)
    assert_allclose(sparse.W, expected.W, atol=1e-7)
    single = solve(replace(problem, XT=problem.XT.astype(np.float32)), tol=1e-3, max_iter=5000)
    assert single.converged and single.upper == pytest.approx(expected.upper, rel=1e-3)


def test_reference_needs_cvxpy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'pnsklearn\[reference\]'"):
        solve_reference(make_problem(0))
