"""F and J against the definition over all pairs, in NumPy and in torch, whole and in blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.metrics import average_precision_score

from pnsklearn._auprc import _objective as objective
from pnsklearn._auprc._objective import Pairs, loss_terms
from tests import brute_force

LOSSES = ["smooth", "squared_hinge"]


def evaluate(scores, positive, weight, outer, own, loss, margin, torch=None):
    """Return F's block and state at the arguments of `brute_force`, in torch if it is given."""
    margins, coefs, _ = loss_terms(loss, margin)
    arrays = (scores, positive, weight, outer, own, margins, coefs)
    if torch is not None:
        arrays = map(torch.as_tensor, arrays)
    scores, *pairs = arrays
    return objective.surrogate(scores, Pairs(*pairs))


def value_of(evaluated):
    return evaluated[1].value


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
    assert_allclose(value_of(state), brute_force.value(*problem), atol=1e-11)
    assert_allclose(objective.gradient(*state), brute_force.gradient(*problem), atol=1e-9)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(problem=problems())
def test_torch_on_any_problem(problem):
    torch = pytest.importorskip("torch")
    expected, at = evaluate(*problem), evaluate(*problem, torch)
    assert_allclose(value_of(at), value_of(expected), atol=1e-12)
    slope = objective.gradient(*expected)
    assert_allclose(objective.gradient(*at).numpy(), slope, atol=1e-10)
    direction = np.cos(np.arange(len(slope)))
    assert_allclose(
        objective.hessian_product(*at, torch.as_tensor(direction)).numpy(),
        objective.hessian_product(*expected, direction),
        atol=1e-9,
    )


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
    assert_allclose(objective.gradient(*state), slope, atol=1e-13)
    direction = rng.standard_normal(len(scores))
    assert_allclose(
        objective.hessian_product(*state, direction),
        brute_force.along(lambda s: brute_force.gradient(s, *rest), scores, direction),
        atol=1e-12,
    )


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("loss", LOSSES)
def test_blocks_add_up(loss, backend, global_random_seed):
    """Three blocks of rows, one without positives, are the whole and the definition."""
    array = np.asarray if backend == "numpy" else pytest.importorskip("torch").as_tensor
    rng = np.random.default_rng(global_random_seed)
    scores, positive, weight, *rest = random_problem(rng, loss, n=90, n_positives=20)
    positive[[30, 55]] = True
    positive[60:] = False
    outer, own = rng.dirichlet(np.ones(positive.sum())), rng.uniform(size=positive.sum())
    problem = scores + 1e6, positive, weight, outer, own, *rest[2:]
    margins, coefs, _ = loss_terms(loss, problem[-1])
    s, p, w, outer, own, margins, coefs = map(array, (*problem[:5], margins, coefs))

    thresholds = objective.sort_thresholds(s[p], margins, coefs)
    slices = slice(0, 25), slice(25, 60), slice(60, 90)
    parts = [objective.block_moments(s[a], p[a], w[a], thresholds) for a in slices]
    state = objective.combine(thresholds, sum(moments for _, moments in parts), outer, own)
    sweep, own_slope = objective.sweep_slopes(state)
    slopes, first = [], 0
    for block, _ in parts:
        last = first + int(block.positive.sum())
        slopes.append(objective.scatter(block, thresholds, sweep, own_slope[first:last]))
        first = last

    whole = evaluate(*problem)
    assert first == positive.sum()
    assert state.value == pytest.approx(value_of(whole), abs=1e-14)
    assert state.value == pytest.approx(brute_force.value(*problem), abs=1e-12)
    assert_allclose(np.concatenate(slopes), objective.gradient(*whole), atol=1e-14)
    assert_allclose(np.concatenate(slopes), brute_force.gradient(*problem), atol=1e-12)


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
    assert_allclose(objective.gradient(*state), slope.detach().numpy(), atol=1e-13)
    result = objective.hessian_product(*state, direction.numpy())
    assert_allclose(result, product.numpy(), atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_many_ties_and_outliers(loss, global_random_seed):
    """Heavy tails leave most look-up cells empty; rounding to quarters makes ties everywhere."""
    rng = np.random.default_rng(global_random_seed)
    for scores in (rng.standard_cauchy(400), np.round(4 * rng.standard_normal(400)) / 4):
        _, *rest = random_problem(rng, loss, n=400, n_positives=80, margin=0.5)
        state = evaluate(scores, *rest)
        assert_allclose(value_of(state), brute_force.value(scores, *rest), rtol=1e-9)
        expected = brute_force.gradient(scores, *rest)
        assert_allclose(objective.gradient(*state), expected, atol=1e-8 * abs(expected).max())


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
    assert value_of(scaled) == pytest.approx(value_of(plain), rel=1e-12)
    assert_allclose(c * objective.gradient(*scaled), objective.gradient(*plain), atol=1e-13)


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
    assert value_of(weighted) == pytest.approx(value_of(repeated), rel=1e-12)
    summed = np.bincount(rows, weights=objective.gradient(*repeated))
    assert_allclose(objective.gradient(*weighted), summed, atol=1e-13)


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
    assert value_of(state) == pytest.approx(outer @ (N / (P + N)), rel=1e-12)


def test_narrow_step_is_average_precision(global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    scores = rng.permutation(500) / 500  # no ties
    positive = rng.uniform(size=500) < 0.1 + 0.2 * scores
    weight = rng.uniform(0.5, 2.0, 500)
    outer = weight[positive] / weight[positive].sum()
    own = 0.5 * weight[positive]
    state = evaluate(scores, positive, weight, outer, own, "smooth", 1e-3)
    expected = average_precision_score(positive, scores, sample_weight=weight)
    assert 1 - value_of(state) == pytest.approx(expected, rel=1e-9)


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
    assert value_of(alone) == 0
    assert_allclose(objective.gradient(*alone), 0, atol=1e-15)
    # One positive among three equal scores: l(0) each, with the own pair's constant.
    equal = evaluate(three, np.array([0, 1, 0], bool), three, np.ones(1), np.ones(1), loss, 0.5)
    zero = {"smooth": 0.5, "squared_hinge": 0.25}[loss]
    assert value_of(equal) == pytest.approx(2 * zero / (3 * zero + 1))
