"""The solvers of the off-policy objective against scikit-learn, closed forms and each other."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from pnsklearn._topr._objective import Linear, PolicyObjective
from pnsklearn._topr._solver import solve_adam, solve_from_two, solve_lbfgs

INF = np.inf
TOPR = ((1, 1), (0, 1))
SAMPLING = ((0, INF), (0, INF))


def make_objective(log, n_logits=4, *, fit_intercept=True, C=1.0, bounds=TOPR):
    X, action, propensity, gain = log
    linear = Linear(n_logits, X.shape[1], fit_intercept)
    return PolicyObjective.make(linear, C, (X, action, gain, np.log(propensity)), bounds)


def random_log(seed, n=300, d=3, n_actions=4):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    right = (X @ rng.normal(size=(d, n_actions))).argmax(axis=1)
    action = rng.integers(n_actions, size=n)
    return X, action, np.full(n, 1 / n_actions), np.where(action == right, 1.0, -1.0)


def never(_):
    return False


def solve(objective, tol=1e-8, max_iter=2000, on_iteration=never):
    zeros = objective.linear.zeros
    return solve_lbfgs(objective, zeros, tol=tol, max_iter=max_iter, on_iteration=on_iteration)


@pytest.mark.parametrize("n_actions", [2, 4])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("C", [0.1, 10.0])
def test_gains_of_one_are_logistic_regression(n_actions, fit_intercept, C, global_random_seed):
    X, action, _, _ = random_log(global_random_seed, n_actions=n_actions)
    ones = np.ones(len(X))
    objective = make_objective(
        (X, action, ones, ones), 1 if n_actions == 2 else 4, fit_intercept=fit_intercept, C=C
    )
    W, b = objective.linear.unpack(solve(objective, tol=1e-9).theta)
    peer = LogisticRegression(C=C, fit_intercept=fit_intercept, tol=1e-9, max_iter=2000)
    peer.fit(X, action)
    assert_allclose(W, peer.coef_, atol=1e-6)
    if fit_intercept and n_actions > 2:  # softmax intercepts are free up to a constant
        b, other = b - b.mean(), peer.intercept_ - peer.intercept_.mean()
        assert_allclose(b, other, atol=1e-6)
    elif fit_intercept:
        assert_allclose(b, peer.intercept_, atol=1e-6)


@pytest.mark.parametrize("bounds", [TOPR, ((1, 1), (0, 0)), SAMPLING, ((0.2, 2), (0, 1))])
def test_solution_is_stationary_and_not_worse_than_a_plain_optimiser(bounds, global_random_seed):
    objective = make_objective(random_log(global_random_seed), bounds=bounds)
    solution = solve(objective)
    value, gradient = objective.value_and_gradient(solution.theta)
    assert solution.converged
    assert solution.largest_gradient == np.abs(gradient).max() < 1e-6
    peer = minimize(lambda theta: objective.value_and_gradient(theta)[0],
                    objective.linear.zeros, method="BFGS")  # fmt: skip
    assert value <= peer.fun + 1e-6


def tabular(mu, p):
    """Return a log of one context that is its own population: weights mu_a p_a and mu_a (1 - p_a).

    The penalty is negligible, so the solution is the population's fixed point.
    """
    n_actions = len(mu)
    action = np.tile(np.arange(n_actions), 2)
    gain = np.concatenate([mu * p, -mu * (1 - p)])
    X = np.zeros((2 * n_actions, 1))
    objective = make_objective((X, action, np.tile(mu, 2), gain), n_actions, C=1e6)
    _, b = objective.linear.unpack(solve(objective, tol=1e-11).theta)
    return np.exp(b - np.logaddexp.reduce(b))


def fixed_point(mu, p):
    """Return TOPR's fixed point in closed form.

    Stationarity in the logits for one context with rewards +1 with probability p_a and -1 else:
    where pi_a <= mu_a: mu_a p_a - pi_a (1 - p_a) = Z pi_a, beyond: mu_a (2 p_a - 1) = Z pi_a. The Z
    for which the pi_a add up to one is found by bisection.
    """

    def policy(Z):
        below = mu * p / (Z + 1 - p)
        return np.where(below <= mu, below, mu * (2 * p - 1) / Z)

    low, high = 1e-12, 10.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if policy(middle).sum() > 1 else (low, middle)
    return policy(low)


@pytest.mark.parametrize(
    ("mu", "p"),
    [
        ([0.25, 0.25, 0.25, 0.25], [0.9, 0.5, 0.4, 0.1]),
        ([0.7, 0.1, 0.1, 0.1], [0.6, 0.8, 0.3, 0.2]),
        ([0.05, 0.05, 0.9], [0.95, 0.2, 0.5]),
    ],
)
def test_tabular_fixed_point(mu, p):
    mu, p = np.array(mu), np.array(p)
    assert_allclose(tabular(mu, p), fixed_point(mu, p), atol=1e-5)


def test_a_baseline_of_minus_one_learns_from_positives_only():
    """Rewards of 2 and 0 after c = -1: the fixed point is mu p, normalised."""
    mu, p = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.5, 0.9])
    objective = make_objective((np.zeros((3, 1)), np.arange(3), mu, 2 * mu * p), 3, C=1e6)
    _, b = objective.linear.unpack(solve(objective, tol=1e-11).theta)
    policy = np.exp(b - np.logaddexp.reduce(b))
    assert_allclose(policy, mu * p / np.sum(mu * p), atol=1e-6)


def test_objective_is_a_lower_bound_along_the_fit(global_random_seed):
    """J is the logged value at pi = mu, and at most the IPS value where no negative has u > 0."""
    X, action, propensity, reward = random_log(global_random_seed)
    objective = make_objective((X, action, propensity, reward))
    linear, seen = objective.linear, []

    def on_iteration(theta):
        W, b = linear.unpack(theta)
        J = -objective.loss(W, b)[0]
        Z = X @ W.T + b
        u = (Z - np.logaddexp.reduce(Z, axis=1)[:, None])[np.arange(len(X)), action]
        u = u - np.log(propensity)
        # Where a negative has pi > mu, its term is linear and not the ratio: allow for just that.
        ips = np.sum(reward * np.exp(u))
        above = (reward < 0) & (u > 0)
        seen.append((J, ips, np.sum(np.exp(u[above]) - 1 - u[above])))
        return False

    on_iteration(linear.zeros)
    solve(objective, on_iteration=on_iteration)
    assert len(seen) > 5
    assert_allclose(seen[0][0], reward.sum(), rtol=1e-9)
    for J, ips, excess in seen:
        assert J <= ips + excess + 1e-9
    assert seen[-1][0] > seen[0][0]
    assert seen[-1][1] > seen[0][1]


def test_long_training_is_bounded_and_naive_is_not():
    """3,000 steps of full-batch gradient ascent from the logging policy, without a penalty."""
    X, action, propensity, reward = random_log(0)
    worst = {}
    for name, bounds in {"topr": TOPR, "naive": ((1, 1), (1, 1))}.items():
        objective = make_objective((X, action, propensity, reward), C=1e12, bounds=bounds)
        theta = objective.linear.zeros
        for _ in range(3000):
            theta = theta - 0.5 * objective.value_and_gradient(theta)[1]
        W, b = objective.linear.unpack(theta)
        Z = X @ W.T + b
        log_pi = (Z - np.logaddexp.reduce(Z, axis=1)[:, None])[np.arange(len(X)), action]
        worst[name] = log_pi[reward < 0].mean(), np.mean(log_pi[reward > 0])
    assert worst["naive"][0] < -100  # the log-probabilities of bad actions fall without end
    assert worst["topr"][0] > -30
    assert worst["topr"][1] > -1


def test_truncated_sampling_dies_where_topr_lives():
    """Good actions that the policy hardly takes: a ratio near zero gives no gradient."""
    X, action, propensity, reward = random_log(1)
    rates = {}
    for name, bounds in {"topr": TOPR, "truncated": ((0, 1), (0, 1))}.items():
        objective = make_objective((X, action, propensity, reward), bounds=bounds)
        start = objective.linear.zeros
        start[-4:] = [0, -20, -20, -20]  # the policy takes the first action nearly always
        rows = np.flatnonzero((action > 0) & (reward > 0))
        W, b = objective.linear.unpack(start)
        rates[name] = np.abs(objective.batch(rows).loss(W, b)[2]).max()
    assert rates["topr"] > 1
    assert rates["truncated"] < 1e-6


def test_two_starts_find_what_one_misses():
    """Importance sampling: the better of both stationary points, with the same end conditions."""
    lower = []
    for seed in range(5):
        objective = make_objective(random_log(seed, n_actions=8), 8, bounds=SAMPLING)
        how = {"tol": 1e-6, "max_iter": 1000, "on_iteration": never}
        found = [
            objective.value_and_gradient(solve(objective, objective.linear.zeros, **how).theta)
            for solve in (solve_lbfgs, solve_from_two)
        ]
        assert np.abs(found[1][1]).max() < 1e-4
        lower.append(found[0][0] - found[1][0])
    assert min(lower) >= 0
    assert max(lower) > 1e-3


def test_adam_comes_near_lbfgs(global_random_seed):
    objective = make_objective(random_log(global_random_seed))
    zeros = objective.linear.zeros
    solution = solve_adam(
        objective, zeros, batch_size=32, learning_rate=0.05, n_epochs=100,
        rng=np.random.RandomState(global_random_seed), on_iteration=never,
    )  # fmt: skip
    exact, start, found = (
        objective.value_and_gradient(theta)[0]
        for theta in (solve(objective).theta, zeros, solution.theta)
    )
    assert found - exact < 0.02 * (start - exact)


def test_batches_add_up_to_the_whole(global_random_seed):
    """The mean of the batches' gradients is the gradient: batches stand for all rows."""
    objective = make_objective(random_log(global_random_seed))
    theta = np.random.default_rng(0).normal(size=objective.linear.zeros.shape)
    parts = np.array_split(np.random.default_rng(1).permutation(300), 6)
    batches = [objective.batch(rows).value_and_gradient(theta)[1] for rows in parts]
    expected = objective.value_and_gradient(theta)[1]
    assert_allclose(np.mean(batches, axis=0), expected, rtol=1e-9, atol=1e-12)


def test_max_iter_is_not_convergence():
    solution = solve(make_objective(random_log(0)), max_iter=2)
    assert not solution.converged
    assert solution.n_iter == 2


class Rounded:
    """An objective whose value rises in every direction although its gradient says that it falls.

    That is what rounding makes of a value near an optimum, and no line search can succeed.
    """

    def __init__(self, slope):
        self.slope = slope

    def value_and_gradient(self, theta):
        return float(np.abs(theta).sum()), np.array([self.slope, 0.0])


@pytest.mark.parametrize(("slope", "converged"), [(2e-7, False), (0.9e-7, True)])
def test_a_failed_line_search_is_convergence_only_near_the_optimum(slope, converged):
    """Within 100 times tol."""
    how = {"tol": 1e-9, "max_iter": 100, "on_iteration": never}
    solution = solve_lbfgs(Rounded(slope), np.zeros(2), **how)
    assert solution.largest_gradient == slope
    assert solution.converged is converged


def test_an_overflow_is_not_convergence():
    """Of propensities that the estimator refuses."""
    X, action, _, gain = random_log(0)
    objective = make_objective((X, action, np.full(300, 1e-300), gain), bounds=SAMPLING)
    solution = solve(objective)
    assert not solution.converged
    assert np.isfinite(solution.theta).all()


def test_max_iter_near_the_optimum_is_not_convergence():
    objective = make_objective(random_log(0))
    exact = solve(objective)
    for n_iter in range(exact.n_iter - 5, exact.n_iter):
        stopped = solve(objective, max_iter=n_iter)
        assert stopped.largest_gradient < 100 * 1e-8 or n_iter < exact.n_iter - 1
        assert not stopped.converged


def test_a_callback_ends_the_fit():
    calls = []
    solution = solve(
        make_objective(random_log(0)),
        on_iteration=lambda theta: calls.append(theta) or len(calls) == 3,
    )
    assert len(calls) == solution.n_iter == 3
    assert solution.stopped


@pytest.mark.parametrize("at", [3, 40])
def test_a_callback_ends_all_starts(at):
    objective, calls = make_objective(random_log(0), bounds=SAMPLING), []
    solution = solve_from_two(
        objective, objective.linear.zeros, tol=1e-8, max_iter=1000,
        on_iteration=lambda theta: calls.append(theta) or len(calls) == at,
    )  # fmt: skip
    assert solution.stopped
    assert len(calls) == at
