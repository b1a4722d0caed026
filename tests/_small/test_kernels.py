"""The kernels against NumPy's formulas, numerical minimisation and cvxpy."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import softmax

from pnsklearn._small import _kernels


def random_rows(rng, n=37, d=6, p=3):
    """Return (XT, sign, weight, assignment, W, b), with a zero weight and a feature not used."""
    X = rng.standard_normal((n, d))
    sign = rng.choice([-1.0, 1.0], n)
    weight = rng.dirichlet(np.ones(n))
    weight[0] = 0.0
    W, b = rng.standard_normal((p, d)), rng.standard_normal(p)
    W[:, 1] = 0.0
    return np.ascontiguousarray(X.T), sign, weight, rng.integers(p, size=n), W, b


def smoothed_loss(XT, sign, weight, assignment, W, b, mu):
    """Return the loss by its definition; mu = 0 takes the maximum."""
    z = W @ XT + b[:, None]
    if mu > 0:
        f = mu * np.logaddexp.reduce(z / mu, axis=0)
    else:
        f = z.max(axis=0)
    f = np.where(sign > 0, z[assignment, np.arange(len(sign))], f)
    return weight @ np.logaddexp(0, -sign * f)


def test_logarithm_of_a_sum_of_shares():
    @numba.njit
    def apply(x):
        return np.array([_kernels._log(value) for value in x])

    x = np.concatenate([np.linspace(1, 2, 500), np.logspace(0, np.log10(256), 500)])
    assert_allclose(apply(x), np.log(x), rtol=1e-14, atol=2e-15)


@pytest.mark.parametrize("mu", [0.0, 1e-3, 0.3])
@pytest.mark.parametrize("n", [37, 2 * _kernels.BLOCK_ROWS + 5])
def test_loss_pass_is_the_definition_and_its_derivative(mu, n, global_random_seed):
    XT, *rows, W, b = random_rows(np.random.default_rng(global_random_seed), n=n)
    value, slack, g, c = _kernels.loss_pass(XT, *rows, W, b, mu)
    assert value == pytest.approx(smoothed_loss(XT, *rows, W, b, mu), rel=1e-13)
    theta = np.column_stack([W, b])
    numeric, h = np.zeros_like(theta), 1e-6
    for index in np.ndindex(*theta.shape):
        step = np.zeros_like(theta)
        step[index] = h
        values = [
            smoothed_loss(XT, *rows, t[:, :-1], t[:, -1], mu) for t in (theta + step, theta - step)
        ]
        numeric[index] = (values[0] - values[1]) / (2 * h)
    assert_allclose(np.column_stack([g, c]), numeric, atol=1e-7)
    # The parts give the same, and the slack is the smoothing's share of the value.
    z = _kernels.margins(XT, W, b)
    assert_allclose(z, W @ XT + b[:, None], atol=1e-13)
    again, _, A = _kernels.respond(z, *rows, mu)
    assert again == pytest.approx(value, rel=1e-13)
    for ours, theirs in zip(_kernels.pull_back(XT, rows[1], A), (g, c), strict=True):
        assert_allclose(ours, theirs, atol=1e-14)
    conjugate = _kernels.entropy(rows[1], A) + np.sum(rows[1] * A * z)
    assert value - slack == pytest.approx(conjugate, abs=1e-13)


@pytest.mark.parametrize("mu", [0.0, 0.1])
def test_dual_answer(mu, global_random_seed):
    XT, sign, weight, assignment, W, b = random_rows(np.random.default_rng(global_random_seed))
    z = _kernels.margins(XT, W, b)
    A = _kernels.respond(z, sign, weight, assignment, mu)[2]
    for i in range(len(sign)):
        q = softmax(z[:, i] / mu) if mu else 1.0 * (np.arange(3) == z[:, i].argmax())
        f = mu * np.logaddexp.reduce(z[:, i] / mu) if mu else z[:, i].max()
        if sign[i] > 0:
            q, f = 1.0 * (np.arange(3) == assignment[i]), z[assignment[i], i]
        assert_allclose(A[:, i], -sign[i] * q / (1 + np.exp(sign[i] * f)), atol=1e-14)


def test_huge_margins(global_random_seed):
    XT, sign, weight, assignment, W, b = random_rows(np.random.default_rng(global_random_seed))
    for mu in (0.0, 1e-8, 0.1):
        value, slack, g, c = _kernels.loss_pass(XT, sign, weight, assignment, 1e8 * W, b, mu)
        expected = smoothed_loss(XT, sign, weight, assignment, 1e8 * W, b, 0.0)
        assert value == pytest.approx(expected, rel=1e-8)
        assert np.isfinite(slack) and np.isfinite(g).all() and np.isfinite(c).all()


def test_sparse_float32_and_no_coefficients(global_random_seed):
    XT, *rows, W, b = random_rows(np.random.default_rng(global_random_seed), n=600)
    expected = _kernels.loss_pass(XT, *rows, W, b, 0.1)
    for sparse in (csr_array(XT), csr_array(XT).tocsc()):
        for ours, theirs in zip(
            _kernels.loss_pass(sparse, *rows, W, b, 0.1), expected, strict=True
        ):
            assert_allclose(ours, theirs, atol=1e-14)
    # Sums in float64: what float32 data round is all that changes.
    single = XT.astype(np.float32)
    exact = _kernels.loss_pass(single.astype(np.float64), *rows, W, b, 0.1)
    for ours, theirs in zip(_kernels.loss_pass(single, *rows, W, b, 0.1), exact, strict=True):
        assert_allclose(ours, theirs, atol=1e-13)
    value = _kernels.loss_pass(XT, *rows, 0 * W, b, 0.1)[0]
    assert value == pytest.approx(smoothed_loss(XT, *rows, 0 * W, b, 0.1), rel=1e-13)


def test_balance(global_random_seed):
    """Every c_j becomes zero, by shrinking only; a prototype without positives loses all."""
    XT, sign, weight, assignment, W, b = random_rows(np.random.default_rng(global_random_seed))
    assignment[assignment == 2] = 0
    A = _kernels.respond(_kernels.margins(XT, W, b), sign, weight, assignment, 0.5)[2]
    balanced = _kernels.balance(sign, weight, A)
    assert_allclose(balanced @ weight, 0, atol=1e-16)
    assert np.all(np.abs(balanced) <= np.abs(A)) and np.all(balanced * A >= 0)
    assert not balanced[2].any() and balanced[:2].any(axis=1).all()


def interior_answer(rng, sign, assignment, p):
    """Return a random dual answer inside its domain."""
    shares = rng.dirichlet(np.ones(p + 1), len(sign)).T[:p]
    own = np.arange(p)[:, None] == assignment
    return np.where(sign < 0, shares, own * -rng.uniform(0.05, 0.95, len(sign)))


@pytest.mark.parametrize("tau", [0.03, 1.0, 20.0])
def test_entropic_step_maximises(tau, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    p, sign, assignment = 3, np.array([1.0, -1.0, 1.0, -1.0]), np.array([2, 0, 0, 1])
    A, z = interior_answer(rng, sign, assignment, p), 2 * rng.standard_normal((p, 4))
    result = _kernels.entropic_step(A, z, sign, assignment, tau)
    for i in range(4):
        one = np.zeros(4)
        one[i] = 1.0
        own = np.arange(p) if sign[i] < 0 else [assignment[i]]

        def lost(t, one=one, own=own, i=i):
            u = np.exp(t) / (1 + np.exp(t).sum())
            new = np.zeros((p, 4))
            new[own, i] = -sign[i] * u
            gain = tau * (np.sum(new * z) + _kernels.entropy(one, new))
            return _kernels.relative_entropy(one, new, A) - gain

        u = np.abs(result[own, i])
        best = np.log(u / (1 - u.sum()))
        found = minimize(lost, np.zeros(len(own)), method="BFGS", options={"gtol": 1e-7})
        assert lost(best) <= found.fun + 1e-9
        assert_allclose(u, np.exp(found.x) / (1 + np.exp(found.x).sum()), atol=1e-5)
        assert np.count_nonzero(result[:, i]) == len(own)


def test_entropic_step_leaves_the_border(global_random_seed):
    """Answers that rounded to zero or one can come back, and nothing overflows."""
    sign, assignment = np.array([1.0, -1.0, -1.0]), np.array([0, 0, 0])
    A = np.array([[-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    for z in (np.zeros((2, 3)), np.full((2, 3), 1e6), np.full((2, 3), -1e6)):
        result = A
        for _ in range(60):
            result = _kernels.entropic_step(result, z, sign, assignment, 1.0)
        assert np.isfinite(result).all() and np.all(np.abs(result).sum(axis=0) <= 1)
        if not z.any():
            assert_allclose(np.abs(result).sum(axis=0), 0.5, atol=1e-9)
    assert _kernels.relative_entropy(np.ones(3), A, A) == 0


vectors = st.lists(
    st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0, -3.0, 1e-6, 1e4]) | st.floats(-3, 3, width=16),
    min_size=1,
    max_size=7,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(vectors, st.integers(1, 8), st.sampled_from([1e-3, 0.3, 5.0]))
def test_prox_of_the_squared_k_support_norm(v, k, beta):
    """The optimality condition: (v - w) / beta is a subgradient, by the conjugate's equality.

    Half the squared norm has as conjugate half the sum of the k largest squares.
    """
    v = np.array([v])
    w = _kernels.prox_k_support(v, k, beta)
    y = (v - w) / beta
    dual = np.sort(y[0] ** 2)[::-1][:k].sum()
    scale = max(1.0, np.sum(v**2), dual)
    assert abs(_kernels.squared_k_support(w, k) / 2 + dual / 2 - np.sum(w * y)) <= 1e-10 * scale


@settings(max_examples=200, deadline=None, derandomize=True)
@given(vectors, st.integers(1, 8))
def test_squared_k_support_norm(w, k):
    """Bracketed by a feasible eps and by the dual norm; the closed form of eps attains it."""
    w = np.array([w])
    value = _kernels.squared_k_support(w, k)
    eps = _kernels.k_support_shares(w, k, 0.0)
    assert np.all((eps >= 0) & (eps <= 1)) and eps.sum() <= k + 1e-12
    assert np.all(eps[w != 0] > 0)
    if np.count_nonzero(w) <= k:
        assert value == pytest.approx(np.sum(w**2), rel=1e-14)
        assert_allclose(eps, w != 0)
        return
    # max_y 2 w.y - (k largest of y^2) at y = w / eps, the gradient of the minimum over eps.
    y = w[w != 0] / eps[w != 0]
    lower = 2 * np.sum(w[w != 0] * y) - np.sort(y**2)[::-1][:k].sum()
    assert lower == pytest.approx(value, rel=1e-9)
    if k == 1:
        assert value == pytest.approx(np.abs(w).sum() ** 2)


def test_norm_and_prox_against_cvxpy(global_random_seed):
    cp = pytest.importorskip("cvxpy")
    rng = np.random.default_rng(global_random_seed)
    for d, k, beta in ((5, 2, 0.5), (6, 3, 0.05), (4, 1, 2.0), (3, 5, 0.4)):
        v = rng.standard_normal(d)
        w, eps = cp.Variable(d), cp.Variable(d)
        norm = sum(cp.quad_over_lin(w[f], eps[f]) for f in range(d))
        domain = [eps >= 0, eps <= 1, cp.sum(eps) <= k]
        program = cp.Problem(cp.Minimize(cp.sum_squares(w - v) / 2 + beta / 2 * norm), domain)
        program.solve(solver="CLARABEL")
        ours = _kernels.prox_k_support(v[None], k, beta)
        assert_allclose(ours[0], w.value, atol=1e-4)
        value = np.sum((ours - v) ** 2) / 2 + beta / 2 * _kernels.squared_k_support(ours, k)
        assert value == pytest.approx(program.value, abs=1e-6)
        value = cp.Problem(cp.Minimize(norm), [*domain, w == v]).solve(solver="CLARABEL")
        assert _kernels.squared_k_support(v[None], k) == pytest.approx(value, rel=1e-6)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(vectors, st.integers(1, 8))
def test_projection_on_the_capped_simplex(v, k):
    """No point is nearer: the variational inequality at every vertex of the capped simplex."""
    v = np.array([v])
    eps = _kernels.project_capped_simplex(v, k)
    assert np.all((eps >= 0) & (eps <= 1)) and eps.sum() <= k + 1e-9
    slope = (v - eps)[0]
    farthest = np.maximum(np.sort(slope)[::-1][:k], 0).sum()
    assert farthest <= slope @ eps[0] + 1e-9 * max(1.0, np.abs(v).max())
