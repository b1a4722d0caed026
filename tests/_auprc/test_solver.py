"""The solvers against independent ones, and the pieces of a problem."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import scale

from pnsklearn import AUPRCClassifier
from pnsklearn._auprc._calibration import platt
from pnsklearn._auprc._objective import (
    LinearModel,
    Pairs,
    inner_weights,
    loss_terms,
    make_objective,
    number_equal_rows,
    weighted_std,
)
from pnsklearn._auprc._soap import Schedule, batch_slopes, soap_epochs, start_averages
from pnsklearn._auprc._solver import solve_exact, solve_soap
from tests import brute_force

LOSSES = ["smooth", "squared_hinge"]


def small_data(seed, n=50, n_positives=12, n_features=3):
    rng = np.random.default_rng(seed)
    positive = np.arange(n) < n_positives
    X = rng.standard_normal((n, n_features)) + positive[:, None] * np.linspace(1, 0, n_features)
    return X, positive, rng.uniform(0.5, 2.0, n)


def problem_of(X, positive, weight, loss, *, alpha, anchor, margin=0.5, prior=None):
    """Return the objective with the margin in score units."""
    return make_objective(
        LinearModel(X, "cpu"),
        positive,
        weight,
        number_equal_rows(X[positive]),
        anchor=anchor,
        alpha=alpha,
        loss=loss,
        margin=margin / weighted_std(X @ anchor, weight),
        prior=prior,
    )


def objective(X, positive, weight, loss, *, alpha, anchor, margin=0.5):
    """Return J and its gradient as functions of the coefficients, by brute force."""
    outer = weight[positive] / weight[positive].sum()
    own = (0.5 if loss == "smooth" else 0.0) * weight[positive]  # no two rows are equal
    rest = (positive, weight, outer, own, loss, margin)
    norm = anchor @ anchor

    def value(w):
        return brute_force.value(X @ w, *rest) + alpha * (w - anchor) @ (w - anchor) / norm

    def slope(w):
        return X.T @ brute_force.gradient(X @ w, *rest) + 2 * alpha * (w - anchor) / norm

    return value, slope


@pytest.mark.parametrize("solver", ["lbfgs", "trust-ncg"])
@pytest.mark.parametrize("loss", LOSSES)
def test_against_bfgs_by_brute_force(solver, loss, global_random_seed):
    X, positive, weight = small_data(global_random_seed)
    anchor = np.array([1.0, 0.2, -0.1])
    setting = {"alpha": 0.05, "anchor": anchor}
    problem = problem_of(X, positive, weight, loss, **setting)
    value, slope = objective(X, positive, weight, loss, **setting)
    solution = solve_exact(problem, anchor, solver=solver, tol=1e-8, max_iter=500)
    assert solution.converged
    assert solution.objective == pytest.approx(value(solution.theta), abs=1e-12)
    assert solution.surrogate == pytest.approx(
        1 - objective(X, positive, weight, loss, alpha=0.0, anchor=anchor)[0](solution.theta)
    )
    # The brute-force gradient is itself the brute-force value's derivative.
    assert_allclose(slope(solution.theta), 0, atol=1e-7)
    assert_allclose(slope(anchor), brute_force.derivative(value, anchor), atol=1e-12)
    rng = np.random.default_rng(global_random_seed)
    starts = [anchor, *(anchor + rng.standard_normal((4, 3)))]
    best = min(minimize(value, start, jac=slope, method="BFGS").fun for start in starts)
    assert solution.objective <= best + 1e-8


@pytest.mark.parametrize("loss", LOSSES)
def test_hessian_product_of_the_objective(loss, global_random_seed):
    X, positive, weight = small_data(global_random_seed)
    setting = {"alpha": 0.3, "anchor": np.array([2.0, 0.0, 1.0])}
    problem = problem_of(X, positive, weight, loss, **setting)
    _, slope = objective(X, positive, weight, loss, **setting)
    theta, v = np.array([1.0, -0.3, 0.4]), np.array([0.2, 1.0, -0.7])
    expected = brute_force.along(slope, theta, v)
    assert_allclose(problem.hessian_product(theta)(v), expected, atol=1e-12)


@pytest.mark.parametrize("anchor", [None, np.zeros(3)])
def test_penalty_without_a_scale(anchor, global_random_seed):
    """No anchor, or one of no length: alpha ||theta||^2."""
    X, positive, weight = small_data(global_random_seed)
    problem = make_objective(
        LinearModel(X, "cpu"), positive, weight, number_equal_rows(X[positive]), anchor=anchor,
        alpha=0.3, loss="smooth", margin=0.5, prior=None,
    )  # fmt: skip
    value, slope = problem.penalty(np.array([1.0, -2.0, 2.0]))
    assert problem.scale == 1
    assert value == pytest.approx(0.3 * 9)
    assert_allclose(slope, 0.6 * np.array([1.0, -2.0, 2.0]))


@pytest.mark.parametrize("name", ["cancer", "digits"])
@pytest.mark.parametrize("loss", LOSSES)
def test_exact_solvers_agree_and_beat_soap(loss, name, cancer):
    X, y = cancer
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        X, y = scale(X[:, X.std(axis=0) > 0]), y == 8
    positive, weight = y == 1, np.ones(len(y))
    anchor = LogisticRegression(C=0.01).fit(X, y).coef_[0]
    margin = 0.5 * np.std(X @ anchor)
    problem = problem_of(X, positive, weight, loss, alpha=1.0, anchor=anchor, margin=margin)
    exact = [
        solve_exact(problem, anchor, solver=solver, tol=1e-8, max_iter=1000)
        for solver in ("lbfgs", "trust-ncg")
    ]
    assert_allclose(exact[0].theta, exact[1].theta, atol=1e-5 * np.linalg.norm(anchor))
    assert exact[0].objective == pytest.approx(exact[1].objective, abs=1e-10)
    schedule = Schedule(64, 0.01, 10, np.random.RandomState(0))
    soap = solve_soap(problem, anchor, schedule, use_adam=True, gamma=0.9)
    start = problem.value_and_gradient(anchor)[0]
    assert exact[0].objective <= soap.objective < start


def test_scaling_the_features_scales_the_solution(global_random_seed):
    X, positive, weight = small_data(global_random_seed)
    anchor, c = np.array([1.0, 0.2, -0.1]), 1e3
    solutions = [
        solve_exact(
            problem_of(c * X, positive, weight, "smooth", alpha=0.1, anchor=anchor / c),
            anchor / c,
            solver="lbfgs",
            tol=1e-9,
            max_iter=500,
        )
        for c in (1.0, c)
    ]
    assert_allclose(c * solutions[1].theta, solutions[0].theta, rtol=1e-6)
    assert solutions[1].objective == pytest.approx(solutions[0].objective, abs=1e-12)


def test_infinite_alpha_is_logistic_regression(cancer):
    X, y = cancer
    for sample_weight in (None, 1.0 + np.arange(len(y)) % 3):
        logistic = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-10)
        expected = logistic.fit(X, y, sample_weight).coef_[0]
        model = AUPRCClassifier(alpha=np.inf).fit(X, y, sample_weight)
        norms = [np.linalg.norm(coef) for coef in (model.coef_[0], expected)]
        assert_allclose(model.coef_[0] / norms[0], expected / norms[1], atol=1e-6)
        ranks = np.argsort(logistic.decision_function(X))
        assert np.all(np.diff(model.decision_function(X)[ranks]) >= -1e-5)


@pytest.mark.parametrize("prior", [0.01, 0.5, 0.9])
@pytest.mark.parametrize("loss", LOSSES)
def test_prior_weighs_the_positives_inside_the_sums(prior, loss, global_random_seed):
    X, positive, weight = small_data(global_random_seed)
    inner = inner_weights(positive, weight, prior)
    assert inner[positive].sum() / inner.sum() == pytest.approx(prior)
    assert_allclose(inner[~positive], weight[~positive])
    own = 0.5 * inner[positive] if loss == "smooth" else 0 * inner[positive]
    outer = weight[positive] / weight[positive].sum()
    theta = np.array([1.0, -0.3, 0.4])
    expected = brute_force.value(X @ theta, positive, inner, outer, own, loss, 0.5)
    problem = problem_of(X, positive, weight, loss, alpha=0.0, anchor=theta, prior=prior)
    assert problem.surrogate(theta)[1].value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("container", [np.asarray, csr_array])
def test_equal_rows(container):
    X = container(np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]))
    a, b, c, d, e = number_equal_rows(X)
    assert a == c
    assert len({a, b, d, e}) == 4


# SOAP


def soap_pairs(positive, weight, loss):
    margins, coefs, constant = loss_terms(loss, 0.5)
    pos = weight[positive]
    return Pairs(positive, weight, pos / pos.sum(), constant * pos, margins, coefs)


@pytest.mark.parametrize("loss", LOSSES)
def test_soap_on_the_full_batch_is_the_exact_gradient(loss, global_random_seed):
    X, positive, weight = small_data(global_random_seed)  # positives first, as in a batch
    scores = X @ np.array([1.0, -0.3, 0.4])
    pairs = soap_pairs(positive, weight, loss)
    outer, own, draw = pairs.outer_weight, pairs.own, np.arange(positive.sum())
    state = start_averages(pairs, 0.25)

    def slopes(scores):
        return batch_slopes(scores, weight, draw, pairs, state)

    def exact(scores):
        return brute_force.gradient(scores, positive, weight, outer, own, loss, 0.5)

    def sums(scores):
        parts = brute_force.inner_sums(scores, positive, weight, own, loss, 0.5)
        return np.stack(parts, axis=1) / weight.sum()

    # The first estimate counts in full whatever gamma is.
    assert_allclose(slopes(scores), exact(scores), atol=1e-13)
    slopes(-scores)
    assert_allclose(state.u, 0.75 * sums(scores) + 0.25 * sums(-scores), atol=1e-13)
    # gamma = 1 forgets at once.
    state = state._replace(gamma=1.0)
    assert_allclose(slopes(-scores), exact(-scores), atol=1e-13)


@pytest.mark.parametrize("use_adam", [False, True])
def test_soap_steps_on_the_full_batch(use_adam, global_random_seed):
    """With gamma = 1 and all rows in a batch it is gradient descent, at steps along a cosine."""
    X, positive, weight = small_data(global_random_seed)
    setting = {"alpha": 0.3, "anchor": np.array([2.0, 0.0, 1.0])}
    _, slope = objective(X, positive, weight, "smooth", **setting)
    problem = problem_of(X, positive, weight, "smooth", **setting)
    start, unit = np.array([1.0, -0.3, 0.4]), np.sqrt(5.0)
    schedule = Schedule(200, 0.05, 3, np.random.RandomState(0))
    path = list(soap_epochs(problem, start, schedule, use_adam=use_adam, gamma=1.0))
    theta, mean, square = start, 0.0, 0.0
    for step, (share, reached) in enumerate(zip((1.0, 0.75, 0.25), path, strict=True), start=1):
        gradient = slope(theta) * unit
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        if use_adam:
            size = np.sqrt(square / (1 - 0.999**step)) + 1e-8
            gradient = mean / (1 - 0.9**step) / size
        theta = theta - 0.05 * share * unit * gradient
        assert_allclose(reached, theta, atol=1e-10)


def test_soap_batches(monkeypatch, global_random_seed):
    """A quarter of a batch is positive, drawn without replacement; epochs pass the negatives."""
    X, positive, weight = small_data(global_random_seed, n=50, n_positives=12)
    problem = problem_of(X, positive, weight, "smooth", alpha=0.1, anchor=np.ones(3))
    seen = []

    def record(scores, batch_weight, draw, pairs, averages):
        seen.append((draw.copy(), batch_weight))
        return np.zeros(len(scores))

    monkeypatch.setattr("pnsklearn._auprc._soap.batch_slopes", record)
    schedule = Schedule(16, 0.01, 2, np.random.RandomState(global_random_seed))
    list(soap_epochs(problem, np.ones(3), schedule, use_adam=False, gamma=0.9))
    assert [len(w) - len(draw) for draw, w in seen] == [12, 12, 12, 2] * 2
    draws = [draw for draw, _ in seen]
    assert all(len(draw) == 4 for draw in draws)
    for a in (0, 3):  # twelve positives are three draws
        assert_array_equal(np.sort(np.concatenate(draws[a : a + 3])), np.arange(12))
    for a in (0, 4):
        rows = np.concatenate([w[4:] for _, w in seen[a : a + 4]])
        assert_array_equal(np.sort(rows), np.sort(weight[~positive]))
    for draw, w in seen:
        assert_array_equal(w[:4], weight[draw])


@pytest.mark.parametrize("loss", LOSSES)
def test_soap_estimates_are_unbiased(loss, global_random_seed):
    """Averaged over random strata, the estimated sums are those of the full data."""
    X, positive, weight = small_data(global_random_seed)
    scores = X @ np.array([1.0, -0.3, 0.4])
    pairs = soap_pairs(positive, weight, loss)
    pos_rows, neg_rows = np.flatnonzero(positive), np.flatnonzero(~positive)
    rng = np.random.default_rng(global_random_seed)
    sums, counts = np.zeros((len(pos_rows), 2)), np.zeros((len(pos_rows), 1))
    for _ in range(4000):
        draw = rng.permutation(len(pos_rows))[:4]
        rows = np.r_[pos_rows[draw], rng.permutation(neg_rows)[:6]]
        state = start_averages(pairs, 0.9)
        batch_slopes(scores[rows], weight[rows], draw, pairs, state)
        sums += state.u
        counts[draw] += 1
    expected = brute_force.inner_sums(scores, positive, weight, pairs.own, loss, 0.5)
    expected = np.stack(expected, axis=1) / weight.sum()
    assert_allclose(sums / counts, expected, atol=0.05 * expected.max())


# Calibration


def test_platt_is_logistic_regression_on_soft_targets(global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    scores = rng.standard_normal(80)
    positive = rng.uniform(size=80) < expit(2 * scores - 1)
    weight = rng.uniform(0.5, 3.0, 80)
    n_positive, n_negative = weight[positive].sum(), weight[~positive].sum()
    target = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12).fit(
        np.r_[scores, scores][:, None],
        np.repeat([1, 0], 80),
        sample_weight=np.r_[weight * target, weight * (1 - target)],
    )
    for offset, factor in ((0.0, 1.0), (1e6, 1.0), (0.0, 1e-6)):
        slope, intercept = platt(factor * scores + offset, positive, weight)
        assert slope * factor == pytest.approx(model.coef_[0, 0], rel=1e-5)
        assert intercept + slope * offset == pytest.approx(model.intercept_[0], abs=1e-5)


def test_platt_keeps_ranks_of_useless_scores():
    positive = np.array([True, True, False, False, False, False])
    slope, intercept = platt(np.zeros(6) + 7.0, positive, np.ones(6))
    # With Platt's targets 3/4 and 1/6: (2 * 3/4 + 4 * 1/6) / 6.
    assert expit(slope * 7.0 + intercept) == pytest.approx(13 / 36)
    slope, intercept = platt(-1.0 * positive, positive, np.ones(6))
    assert slope > 0
    assert_allclose(expit(slope * -1.0 * positive + intercept), 13 / 36, atol=0.01)


def test_platt_of_separated_scores_is_finite():
    scores = np.r_[np.full(5, 1e3), np.full(50, -1e3)]
    slope, intercept = platt(scores, scores > 0, np.ones(55))
    expected = np.where(scores > 0, 6 / 7, 1 / 52)
    assert_allclose(expit(slope * scores + intercept), expected, rtol=1e-6)
