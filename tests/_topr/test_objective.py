"""The off-policy objective against brute force, autograd and integration, on both backends."""

import importlib
import inspect
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import quad
from scipy.optimize import approx_fprime
from scipy.sparse import csr_matrix

from pnsklearn import _rows
from pnsklearn._topr import _kernels, _objective
from pnsklearn._topr._objective import Linear, PolicyObjective, check_bounds

INF = np.inf
BOUNDS = {
    "TOPR": ((1, 1), (0, 1)),
    "naive": ((1, 1), (1, 1)),
    "positives only": ((1, 1), (0, 0)),
    "importance sampling": ((0, INF), (0, INF)),
    "truncated": ((0, 1), (0, 1)),
    "general": ((0.3, 2), (0.1, 3)),
    "one-sided": ((0.5, INF), (0, 0.7)),
}
every_bounds = pytest.mark.parametrize("bounds", BOUNDS.values(), ids=BOUNDS.keys())
every_size = pytest.mark.parametrize("n_actions", [2, 3, 7])


def problem(n_actions, seed, n=60, d=4, dtype=np.float64):
    """Return (X, action, gain, log_propensity, W, b) of random data."""
    rng = np.random.default_rng(seed)
    n_logits = 1 if n_actions == 2 else n_actions
    X = rng.normal(size=(n, d)).astype(dtype)
    action = rng.integers(n_actions, size=n)
    log_propensity = np.log(rng.uniform(0.02, 1, size=n))
    gain = rng.normal(size=n) * rng.integers(0, 2, size=n)  # some are zero
    return (
        X,
        action,
        gain,
        log_propensity,
        rng.normal(size=(n_logits, d)),
        rng.normal(size=n_logits),
    )


def make_objective(data, bounds, fit_intercept=True, C=1.0):
    """Return the objective, and its parameters."""
    *log, W, b = data
    linear = Linear(*W.shape, fit_intercept)
    return PolicyObjective.make(linear, C, log, bounds), linear.pack(W, b)


def evaluate(data, bounds):
    """Return -J and its gradients by W and b."""
    return make_objective(data, bounds)[0].loss(*data[-2:])


def log_policy(X, W, b):
    """Return log pi row by row, in plain Python."""
    rows = []
    for x in X:
        z = [float(w @ x + c) for w, c in zip(W, b, strict=True)]
        z = [0.0, *z] if len(z) == 1 else z
        norm = np.log(sum(np.exp(value) for value in z))
        rows.append([value - norm for value in z])
    return np.array(rows)


@every_bounds
@every_size
def test_value_is_the_integral_of_the_clipped_ratio(n_actions, bounds, global_random_seed):
    """F' = clip(e^u, a, b): differences of -J against numerical integration of the definition."""
    X, action, gain, log_propensity, W, b = problem(n_actions, global_random_seed, n=12)
    at = [
        evaluate((X, action, gain, log_propensity, scale * W, scale * b), bounds)[0]
        for scale in (0.0, 1.0)
    ]
    expected = 0.0
    for i, (a, mu, R) in enumerate(zip(action, log_propensity, gain, strict=True)):
        low, high = bounds[0] if R >= 0 else bounds[1]
        start, end = (log_policy(X, s * W, s * b)[i, a] - mu for s in (0.0, 1.0))
        kinks = [np.log(edge) for edge in (low, high) if 0 < edge < INF]
        integral = quad(lambda u, low=low, high=high: min(max(np.exp(u), low), high), start, end,
                        points=kinks or None)[0]  # fmt: skip
        expected -= R * integral
    assert_allclose(at[1] - at[0], expected, rtol=1e-7, atol=1e-9)


@every_bounds
@every_size
def test_gradient_is_the_update_of_the_paper(n_actions, bounds, global_random_seed):
    """Equation 7, with the ratio as a constant, and finite differences of the value."""
    X, action, gain, log_propensity, W, b = data = problem(n_actions, global_random_seed)
    _, grad_W, grad_b = evaluate(data, bounds)
    size = W.size

    def value(theta):
        return evaluate((*data[:4], theta[:size].reshape(W.shape), theta[size:]), bounds)[0]

    theta = np.append(W, b)
    numerical = approx_fprime(theta, value, 1e-6)
    assert_allclose(np.append(grad_W, grad_b), numerical, atol=2e-4)

    log_pi = log_policy(X, W, b)
    slope = np.zeros_like(log_pi)
    for i, (a, mu, R) in enumerate(zip(action, log_propensity, gain, strict=True)):
        low, high = bounds[0] if R >= 0 else bounds[1]
        ratio = np.clip(np.exp(log_pi[i, a] - mu), low, high)
        slope[i] = -R * ratio * ((np.arange(log_pi.shape[1]) == a) - np.exp(log_pi[i]))
    slope = slope[:, 1:] if len(W) == 1 else slope
    assert_allclose(grad_W, slope.T @ X, rtol=1e-10, atol=1e-10)
    assert_allclose(grad_b, slope.sum(axis=0), rtol=1e-10, atol=1e-10)


@every_size
def test_topr_is_linear_above_and_elu_below(n_actions, global_random_seed):
    X, action, gain, log_propensity, W, b = data = problem(n_actions, global_random_seed)
    u = log_policy(X, W, b)[np.arange(len(X)), action] - log_propensity
    elu = np.where(u > 0, u, np.expm1(np.minimum(u, 0)))
    J = np.sum(gain * np.where(gain >= 0, u, elu)) + gain.sum()
    assert_allclose(evaluate(data, BOUNDS["TOPR"])[0], -J, rtol=1e-12)


@every_bounds
@every_size
def test_sparse_is_dense(n_actions, bounds, global_random_seed):
    X, *rest = problem(n_actions, global_random_seed)
    X = np.where(np.abs(X) > 0.5, X, 0)
    dense, sparse = evaluate((X, *rest), bounds), evaluate((csr_matrix(X), *rest), bounds)
    for one, other in zip(dense, sparse, strict=True):
        assert_allclose(one, other, rtol=1e-10, atol=1e-12)


@every_size
def test_blocks_add_up(n_actions, monkeypatch, global_random_seed):
    data = problem(n_actions, global_random_seed, n=500)
    whole = evaluate(data, BOUNDS["general"])
    monkeypatch.setattr(_rows, "BLOCK_BYTES", 1)
    for one, other in zip(whole, evaluate(data, BOUNDS["general"]), strict=True):
        assert_allclose(one, other, rtol=1e-10, atol=1e-10)


@every_size
def test_float32(n_actions, global_random_seed):
    exact = evaluate(problem(n_actions, global_random_seed), BOUNDS["TOPR"])
    single = evaluate(problem(n_actions, global_random_seed, dtype=np.float32), BOUNDS["TOPR"])
    for one, other in zip(exact, single, strict=True):
        assert np.asarray(other).dtype == np.float64
        assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@every_bounds
@every_size
def test_extreme_logits(n_actions, bounds):
    """Logits of ten thousand: what overflows does so to a bound, never to NaN."""
    X, action, gain, log_propensity, W, b = problem(n_actions, 0)
    for scale in (1e4, -1e4):
        parts = evaluate((X, action, gain, log_propensity, scale * W, b), bounds)
        assert all(np.isfinite(part).all() for part in parts)


def test_read_only_arrays():
    data = problem(3, 0)
    expected = evaluate(data, BOUNDS["TOPR"])
    for array in data:
        array.setflags(write=False)
    for one, other in zip(expected, evaluate(data, BOUNDS["TOPR"]), strict=True):
        assert_allclose(one, other, rtol=0)


@every_bounds
@every_size
def test_gradient_is_autograd_of_the_detached_update(n_actions, bounds, global_random_seed):
    """Equation 7 as implementations write it: a constant clipped ratio times log pi."""
    torch = pytest.importorskip("torch")
    X, action, gain, log_propensity, W, b = data = problem(n_actions, global_random_seed)
    weights = [torch.tensor(part, requires_grad=True) for part in (W, b)]
    logits = torch.tensor(X) @ weights[0].T + weights[1]
    if n_actions == 2:
        logits = torch.nn.functional.pad(logits, (1, 0))
    log_pi = torch.log_softmax(logits, dim=1)[torch.arange(len(X)), torch.tensor(action)]
    ratio = (log_pi.detach() - torch.tensor(log_propensity)).exp()
    R = torch.tensor(gain)
    clipped = torch.where(R >= 0, ratio.clamp(*bounds[0]), ratio.clamp(*bounds[1]))
    (-(R * clipped * log_pi).sum()).backward()
    for ours, theirs in zip(evaluate(data, bounds)[1:], weights, strict=True):
        assert_allclose(ours, theirs.grad, rtol=1e-10, atol=1e-10)


@every_bounds
@every_size
@pytest.mark.parametrize("sparse", [False, True])
def test_torch_is_numba(n_actions, bounds, sparse, global_random_seed, monkeypatch):
    pytest.importorskip("torch")
    from pnsklearn._topr import _torch

    X, *rest = problem(n_actions, global_random_seed)
    X = csr_matrix(X) if sparse else X
    expected = evaluate((X, *rest), bounds)
    monkeypatch.setattr(_objective, "get_kernels", lambda device: _torch)
    for one, other in zip(expected, evaluate((X, *rest), bounds), strict=True):
        assert_allclose(one, other, rtol=1e-10, atol=1e-12)


def test_both_backends_have_the_same_functions():
    pytest.importorskip("torch")
    from pnsklearn._topr import _torch

    for name in ("as_array", "loss"):
        ours, theirs = (
            list(inspect.signature(getattr(m, name)).parameters) for m in (_kernels, _torch)
        )
        assert ours == theirs


@pytest.fixture(params=["_kernels", "_torch"])
def backend(request, monkeypatch):
    """Compute on the one backend, and on the other."""
    if request.param == "_torch":
        pytest.importorskip("torch")
    kernels = importlib.import_module(f"pnsklearn._topr.{request.param}")
    monkeypatch.setattr(_objective, "get_kernels", lambda device: kernels)


def taper(u, gain, bounds):
    """Return R F(u) and R F'(u) of rows, from a policy that takes the logged action: log pi = 0."""
    terms, slopes, W, b = [], [], np.zeros((1, 1)), np.array([-40.0])
    for log_ratio, R in zip(u, gain, strict=True):
        row = W, np.array([0]), np.array([R]), np.array([-log_ratio])
        loss, _, grad_b = evaluate((*row, W, b), bounds)
        terms.append(-loss)
        slopes.append(grad_b[0] / np.exp(b[0]))  # of the other action, whose probability is e^b
    return np.array(terms), np.array(slopes)


@every_bounds
@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("gain", [1.0, -1.0])
def test_far_beyond_the_bounds(bounds, gain):
    """F' is the clipped ratio, F the ratio between the bounds, continuous, and straight beyond."""
    low, high = bounds[0] if gain > 0 else bounds[1]
    u = np.array([-2000.0, -300.0, -1.0, 0.0, 0.5, 300.0])
    value, slope = taper(u, np.full(6, gain), bounds)
    assert_allclose(gain * slope, np.clip(np.exp(u), low, high), rtol=1e-15, atol=0)
    below, above = np.exp(u) < low, np.exp(u) > high
    between = ~below & ~above
    assert_allclose(gain * value[between], np.exp(u)[between], rtol=1e-13)
    for rows, bound in ((below, low), (above, high)):
        tangent = bound * (1 + u[rows] - np.log(bound)) if bound else 0.0
        assert_allclose(gain * value[rows], tangent, rtol=1e-14)


@pytest.mark.usefixtures("backend")
def test_a_gain_of_zero_is_nothing():
    for part in taper(np.array([1.0, -3.0]), np.array([0.0, -0.0]), BOUNDS["positives only"]):
        assert_array_equal(part, 0)


@pytest.mark.parametrize("n_actions", [2, 5])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_penalised_objective(n_actions, fit_intercept, global_random_seed):
    """(||W||^2 / 2 - C J) / (C sum |R|), and its gradient by finite differences."""
    *log, W, b = problem(n_actions, global_random_seed)
    b, C = b if fit_intercept else np.zeros_like(b), 0.3
    objective, theta = make_objective((*log, W, b), BOUNDS["general"], fit_intercept, C)
    value, gradient = objective.value_and_gradient(theta)
    J, size = -objective.loss(W, b)[0], np.abs(log[2]).sum()
    assert value == pytest.approx((np.sum(W**2) / 2 - C * J) / (C * size), rel=1e-12)
    numerical = approx_fprime(theta, lambda theta: objective.value_and_gradient(theta)[0], 1e-6)
    assert_allclose(gradient, numerical, atol=1e-4)
    assert gradient.shape == theta.shape == objective.linear.zeros.shape


def test_a_penalty_shared_with_other_rows(global_random_seed):
    """The |R| of all rows divide the penalty of a piece of a log."""
    data = problem(3, global_random_seed)
    objective, theta = make_objective(data, BOUNDS["TOPR"], C=0.5)
    shared = replace(objective, penalty_size=4 * objective.size)
    saved = objective.value_and_gradient(theta)[0] - shared.value_and_gradient(theta)[0]
    assert saved == pytest.approx(0.75 * np.sum(data[-2] ** 2) / 2 / (0.5 * objective.size))


@every_bounds
def test_imitation_is_the_gains_alone(bounds, global_random_seed):
    X, action, gain, log_propensity, W, b = data = problem(3, global_random_seed)
    objective, theta = make_objective(data, bounds)
    good = gain > 0
    u = log_policy(X, W, b)[np.arange(len(good)), action] - log_propensity
    expected = (np.sum(W**2) / 2 - np.sum((gain * (1 + u))[good])) / np.abs(gain).sum()
    found, _ = objective.imitation().value_and_gradient(theta)
    assert found == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    "bounds", [(1, 0), (-1, 1), (INF, INF), (0,), 1, "ab", ("a", "b"), (0, "b"), [0, np.nan]]
)
def test_bad_bounds(bounds):
    with pytest.raises(ValueError, match=r"some_bounds must be two numbers \(low, high\)"):
        check_bounds("some_bounds", bounds)
