"""The sweeps against the definition over all pairs, in NumPy and in torch."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.sparse import csr_array
from sklearn.metrics import average_precision_score

from pnsklearn._auprc import _kernels
from pnsklearn._auprc._solver import loss_terms
from tests import brute_force

LOSSES = ["smooth", "squared_hinge"]


def evaluate(scores, positive, weight, outer, own, loss, margin, kernels=_kernels):
    """Return the kernels' state at the arguments of `brute_force`."""
    margins, coefs, _ = loss_terms(loss, margin)
    arrays = (scores, positive, weight, outer, own, margins, coefs)
    return kernels.surrogate(*(kernels.as_array(array, "cpu") for array in arrays))


def random_problem(rng, loss, n=60, n_positives=12, margin=0.7):
    """Return arguments of `brute_force.value` without ties."""
    positive = np.zeros(n, dtype=bool)
    positive[rng.permutation(n)[:n_positives]] = True
    weight = rng.uniform(0.2, 3.0, n)
    outer = rng.dirichlet(np.ones(n_positives))
    own = rng.uniform(0.1, 1.0, n_positives)
    return rng.standard_normal(n) + positive, positive, weight, outer, own, loss, margin


@st.composite
def problems(draw):
    """Small problems with ties, far offsets, wide and narrow margins, one or no negative."""
    n = draw(st.integers(1, 12))
    even = st.integers(-6, 6).map(lambda k: k / 4)
    score = draw(st.sampled_from([even, st.floats(-3, 3, width=16), st.just(0.5)]))
    # An offset first, then rounding: both sides see the same scores.
    scores = np.array(draw(st.lists(score, min_size=n, max_size=n)), dtype=np.float64)
    scores = scores + draw(st.sampled_from([0.0, -1e3, 1e6, 1e8]))
    positive = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    positive[draw(st.integers(0, n - 1))] = True
    weight = np.array(draw(st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=n, max_size=n)))
    outer = weight[positive] / weight[positive].sum()
    own = draw(st.sampled_from([0.5, 2.0])) * weight[positive]
    margin = draw(st.sampled_from([0.25, 0.3, 1.0, 20.0]))
    return scores, positive, weight, outer, own, draw(st.sampled_from(LOSSES)), margin


@settings(max_examples=200, deadline=None, derandomize=True)
@given(problems())
def test_value_and_gradient_on_any_problem(problem):
    state = evaluate(*problem)
    assert_allclose(state.value, brute_force.value(*problem), atol=1e-11)
    assert_allclose(_kernels.gradient(state), brute_force.gradient(*problem), atol=1e-9)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(problem=problems())
def test_torch_on_any_problem(problem):
    pytest.importorskip("torch")
    from pnsklearn._auprc import _torch

    expected, state = evaluate(*problem), evaluate(*problem, kernels=_torch)
    assert_allclose(state.value, expected.value, atol=1e-12)
    slope = _kernels.gradient(expected)
    assert_allclose(_torch.gradient(state).numpy(), slope, atol=1e-10)
    direction = np.cos(np.arange(len(slope)))
    assert_allclose(
        _torch.hessian_product(state, _torch.as_array(direction, "cpu")).numpy(),
        _kernels.hessian_product(expected, direction),
        atol=1e-9,
    )


def test_torch_has_the_same_functions():
    pytest.importorskip("torch")
    from pnsklearn._auprc import _torch

    def signatures(module):
        return {
            name: str(inspect.signature(function))
            for name, function in vars(module).items()
            if inspect.isfunction(function)
            and function.__module__ in (module.__name__, "pnsklearn._device")
            and not name.startswith("_")
        }

    assert signatures(_torch) == signatures(_kernels)
    assert {"surrogate", "gradient", "hessian_product"} <= signatures(_kernels).keys()


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state")
@pytest.mark.parametrize("sparse", [False, True])
def test_linear_scores_and_pull_back(sparse, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    dense = rng.standard_normal((30, 7)) * (rng.uniform(size=(30, 7)) < 0.4)
    coef, slope = rng.standard_normal(7), rng.standard_normal(30)
    X = csr_array(dense) if sparse else dense
    assert_allclose(_kernels.linear_scores(X, coef), dense @ coef, atol=1e-13)
    assert_allclose(_kernels.linear_pull_back(X, slope), dense.T @ slope, atol=1e-13)
    pytest.importorskip("torch")
    from pnsklearn._auprc import _torch

    X = _torch.as_array(X, "cpu")
    assert_allclose(_torch.linear_scores(X, coef).numpy(), dense @ coef, atol=1e-13)
    pulled = _torch.linear_pull_back(X, _torch.as_array(slope, "cpu"))
    assert_allclose(pulled, dense.T @ slope, atol=1e-13)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_derivatives(loss, offset, global_random_seed):
    """The gradient is the value's derivative, the Hessian product is the gradient's."""
    rng = np.random.default_rng(global_random_seed)
    scores, *rest = random_problem(rng, loss)
    scores = scores + offset
    state = evaluate(scores, *rest)
    slope = brute_force.derivative(lambda s: brute_force.value(s, *rest), scores)
    assert_allclose(brute_force.gradient(scores, *rest), slope, atol=1e-14)
    assert_allclose(_kernels.gradient(state), slope, atol=1e-13)
    direction = rng.standard_normal(len(scores))
    assert_allclose(
        _kernels.hessian_product(state, direction),
        brute_force.along(lambda s: brute_force.gradient(s, *rest), scores, direction),
        atol=1e-12,
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_derivatives_by_torch_autograd(loss, global_random_seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(global_random_seed)
    problem = random_problem(rng, loss)
    positive, weight, outer, own = (torch.as_tensor(array) for array in problem[1:5])
    margins, coefs, _ = loss_terms(loss, problem[-1])
    s = torch.tensor(problem[0], requires_grad=True)
    d = s[positive][:, None] - s
    pairs = sum(a * (m - d).clamp(min=0) ** 2 for a, m in zip(coefs, margins, strict=True)) * weight
    N, P = pairs[:, ~positive].sum(1), pairs[:, positive].sum(1) + own
    (slope,) = torch.autograd.grad(outer @ (N / (P + N)), s, create_graph=True)
    direction = torch.as_tensor(rng.standard_normal(len(s)))
    (product,) = torch.autograd.grad(slope @ direction, s)
    state = evaluate(*problem)
    assert_allclose(_kernels.gradient(state), slope.detach().numpy(), atol=1e-13)
    result = _kernels.hessian_product(state, direction.numpy())
    assert_allclose(result, product.numpy(), atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_many_ties_and_outliers(loss, global_random_seed):
    """Heavy tails leave most look-up cells empty; rounding to quarters makes ties everywhere."""
    rng = np.random.default_rng(global_random_seed)
    for scores in (rng.standard_cauchy(400), np.round(4 * rng.standard_normal(400)) / 4):
        _, *rest = random_problem(rng, loss, n=400, n_positives=80, margin=0.5)
        state = evaluate(scores, *rest)
        assert_allclose(state.value, brute_force.value(scores, *rest), rtol=1e-9)
        expected = brute_force.gradient(scores, *rest)
        assert_allclose(_kernels.gradient(state), expected, atol=1e-8 * abs(expected).max())


@pytest.mark.parametrize("loss", LOSSES)
def test_scaling_scores_and_margin_changes_nothing(loss, global_random_seed):
    scores, positive, weight, outer, own, _, margin = random_problem(
        np.random.default_rng(global_random_seed), loss
    )
    c = 37.0
    # A squared hinge scales with the square of the scores, and so must the own terms.
    scaled_own = own * c**2 if loss == "squared_hinge" else own
    scaled = evaluate(c * scores, positive, weight, outer, scaled_own, loss, c * margin)
    plain = evaluate(scores, positive, weight, outer, own, loss, margin)
    assert scaled.value == pytest.approx(plain.value, rel=1e-12)
    assert_allclose(c * _kernels.gradient(scaled), _kernels.gradient(plain), atol=1e-13)


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_are_repetitions(loss, global_random_seed):
    """Where the own terms of equal rows are summed over them."""
    rng = np.random.default_rng(global_random_seed)
    scores, positive, _, _, _, _, margin = random_problem(rng, loss)
    times = rng.integers(1, 5, len(scores))
    rows = np.repeat(np.arange(len(scores)), times)

    def state(rows, weight):
        own = 0.5 * times[rows][positive[rows]]
        outer = weight[positive[rows]] / weight[positive[rows]].sum()
        return evaluate(scores[rows], positive[rows], weight, outer, own, loss, margin)

    weighted = state(np.arange(len(scores)), times.astype(float))
    repeated = state(rows, np.ones(len(rows)))
    assert weighted.value == pytest.approx(repeated.value, rel=1e-12)
    summed = np.bincount(rows, weights=_kernels.gradient(repeated))
    assert_allclose(_kernels.gradient(weighted), summed, atol=1e-13)


def test_huge_hinge_margin_needs_only_moments(global_random_seed):
    """Without clipping, sum_j w_j (m - s_i + s_j)^2 follows from three moments of the scores."""
    rng = np.random.default_rng(global_random_seed)
    scores, positive, weight, outer, own, _, _ = random_problem(rng, "squared_hinge")
    m = 10 * np.ptp(scores)

    def sums(side):
        w, s, x = weight[side], scores[side], m - scores[positive]
        return w.sum() * x**2 + 2 * x * (w @ s) + w @ s**2

    N, P = sums(~positive), sums(positive) + own
    state = evaluate(scores, positive, weight, outer, own, "squared_hinge", m)
    assert state.value == pytest.approx(outer @ (N / (P + N)), rel=1e-12)


def test_narrow_step_is_average_precision(global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    scores = rng.permutation(500) / 500  # no ties
    positive = rng.uniform(size=500) < 0.1 + 0.2 * scores
    weight = rng.uniform(0.5, 2.0, 500)
    outer = weight[positive] / weight[positive].sum()
    own = 0.5 * weight[positive]
    state = evaluate(scores, positive, weight, outer, own, "smooth", 1e-3)
    expected = average_precision_score(positive, scores, sample_weight=weight)
    assert 1 - state.value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("value", "margin"), [(np.nan, 1), (np.inf, 1), (1e200, 1), (0, 1e150)])
@pytest.mark.parametrize("loss", LOSSES)
def test_what_is_not_finite_is_refused(loss, value, margin, global_random_seed):
    """Scores without a bin were read beyond the end of an array."""
    arguments = random_problem(np.random.default_rng(global_random_seed), loss, margin=margin)
    arguments[0][[3, -1]] = value, -value
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match="not finite"):
        evaluate(*arguments)


@pytest.mark.parametrize("loss", LOSSES)
def test_no_negatives_and_constant_scores(loss):
    three = np.ones(3)
    alone = evaluate(np.arange(3.0), np.ones(3, bool), three, three / 3, three, loss, 0.5)
    assert alone.value == 0
    assert_allclose(_kernels.gradient(alone), 0, atol=1e-15)
    # One positive among three equal scores: l(0) each, with the own pair's constant.
    equal = evaluate(three, np.array([0, 1, 0], bool), three, np.ones(1), np.ones(1), loss, 0.5)
    zero = {"smooth": 0.5, "squared_hinge": 0.25}[loss]
    assert equal.value == pytest.approx(2 * zero / (3 * zero + 1))
