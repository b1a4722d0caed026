"""average_precision_surrogate against its definition and against average precision."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.metrics import average_precision_score

from pnsklearn.metrics import average_precision_surrogate
from tests import brute_force

LOSSES = ["smooth", "squared_hinge"]


@pytest.fixture
def data(global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    y = (np.arange(80) < 20).astype(int)
    return y, rng.standard_normal(80) + y, rng.uniform(0.5, 2.0, 80)


def definition(y, scores, weight, loss, units, prior=None):
    """Return (1 - F, its gradient) with the margin in standard deviations."""
    positive = y == 1
    mean = np.average(scores, weights=weight)
    margin = units * np.sqrt(np.average((scores - mean) ** 2, weights=weight))
    inner = weight.copy()
    if prior is not None:
        inner[positive] *= prior / (1 - prior) * weight[~positive].sum() / weight[positive].sum()
    equal = (scores[positive][:, None] == scores[positive]) @ inner[positive]
    own = (0.5 if loss == "smooth" else 0.0) * equal
    outer = weight[positive] / weight[positive].sum()
    rest = (positive, inner, outer, own, loss, margin)
    return 1 - brute_force.value(scores, *rest), -brute_force.gradient(scores, *rest)


@pytest.mark.parametrize("prior", [None, 0.3])
@pytest.mark.parametrize("loss", LOSSES)
def test_against_the_definition(loss, prior, data):
    y, scores, weight = data
    scores[5:10] = scores[5]  # positives of equal score
    value, gradient = average_precision_surrogate(
        y, scores, loss=loss, margin=0.4, prior=prior, sample_weight=weight, return_gradient=True
    )
    expected, slope = definition(y, scores, weight, loss, 0.4, prior)
    assert value == pytest.approx(expected, abs=1e-12)
    assert_allclose(gradient, slope, atol=1e-12)


@pytest.mark.parametrize("loss, units", [("smooth", 0.5), ("squared_hinge", 1.0)])
def test_default_margin(loss, units, data):
    y, scores, _ = data
    expected, _ = definition(y, scores, np.ones(80), loss, units)
    assert average_precision_surrogate(y, scores, loss=loss) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("tied", [False, True])
def test_narrow_step_is_average_precision(tied, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    y = np.arange(100) % 4 == 0
    scores = rng.permutation(100) + 20.5 * y  # no ties
    if tied:  # positives may tie with positives
        scores = np.round(scores / 10) * 10 + 3.0 * y
    weight = rng.integers(1, 4, 100)
    expected = average_precision_score(y, scores, sample_weight=weight)
    value = average_precision_surrogate(y, scores, margin=1e-3, sample_weight=weight)
    assert value == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_are_repetitions(loss, data):
    y, scores, _ = data
    times = np.arange(80) % 4
    rows = np.repeat(np.arange(80), times)
    weighted, slope = average_precision_surrogate(
        y, scores, loss=loss, sample_weight=times, return_gradient=True
    )
    repeated, slopes = average_precision_surrogate(
        y[rows], scores[rows], loss=loss, return_gradient=True
    )
    assert weighted == pytest.approx(repeated, abs=1e-12)
    assert_allclose(slope, np.bincount(rows, slopes, minlength=80), atol=1e-12)
    assert_allclose(slope[times == 0], 0)


def test_shift_and_scale_change_nothing(data):
    y, scores, _ = data
    value = average_precision_surrogate(y, scores)
    assert average_precision_surrogate(y, 100 * scores) == pytest.approx(value, abs=1e-12)
    assert average_precision_surrogate(y, scores + 1e6) == pytest.approx(value, abs=1e-8)


def test_perfect_and_constant_scores():
    assert average_precision_surrogate([0, 0, 1], [0.0, 0.1, 9.0], margin=0.1) == 1
    # Constant: each of the two negatives counts half against the two positives in full.
    value, gradient = average_precision_surrogate([0, 1, 1, 0], [3.0] * 4, return_gradient=True)
    assert value == pytest.approx(2 / 3)
    assert_allclose(gradient.sum(), 0, atol=1e-12)
    assert gradient[1] > 0 > gradient[0]


@pytest.mark.parametrize("loss, units", [("smooth", 0.5), ("squared_hinge", 1.0)])
def test_constant_scores_have_unit_one(loss, units):
    positive, weight = np.array([False, True, True, False]), np.ones(4)
    _, gradient = average_precision_surrogate(positive, [3.0] * 4, loss=loss, return_gradient=True)
    own = np.full(2, 1.0 if loss == "smooth" else 0.0)  # the two positives tie
    rest = positive, weight, np.full(2, 0.5), own, loss, units
    assert_allclose(gradient, -brute_force.gradient(np.full(4, 3.0), *rest), atol=1e-12)


@pytest.mark.parametrize("labels, pos_label", [(["no", "yes"], "yes"), ([2, 1], 1), ([-1, 1], 1)])
def test_pos_label(labels, pos_label, data):
    y, scores, _ = data
    value = average_precision_surrogate(np.array(labels)[y], scores, pos_label=pos_label)
    assert value == average_precision_surrogate(y, scores)


@pytest.mark.parametrize(
    "y, scores, weight, message",
    [
        ([0, 1], [0.0, np.nan], None, "NaN"),
        ([0, 1], [0.0, np.inf], None, "infinity"),
        ([0, 1], [0.0, 1.0, 2.0], None, "inconsistent"),
        ([0, 1], [[0.0], [1.0]], None, "shape"),
        ([1, 1], [0.0, 1.0], None, "No negative"),
        ([0, 0], [0.0, 1.0], None, "No positive"),
        ([0, 1], [0.0, 1.0], [1.0, 0.0], "No positive"),
        ([0, 1], [0.0, 1.0], [1.0, -1.0], "Negative values"),
    ],
)
def test_bad_input(y, scores, weight, message):
    with pytest.raises(ValueError, match=message):
        average_precision_surrogate(y, scores, sample_weight=weight)


@pytest.mark.parametrize("params", [{"loss": "log"}, {"margin": 0.0}, {"prior": 1.0}])
def test_bad_parameters(params):
    with pytest.raises(ValueError, match=f"'{next(iter(params))}' parameter"):
        average_precision_surrogate([0, 1], [0.0, 1.0], **params)
