"""The average precision surrogate F, assembled once for metric, losses and solvers.

Weights, ties and a loss make `Pairs`; `surrogate` evaluates F at some scores; `gradient` and
`hessian_product` are its derivatives in the scores. The formulas are those of `_kernels`.

F is a sum over pairs, and yet rows may come in blocks. All must know the thresholds of all the
positives (`sort_thresholds`); the moments of the blocks then add up (`block_moments`, `combine`),
and the gradient is scattered block by block (`sweep_slopes`, `scatter`), as are Hessian products
(`turn_moments`, `sweep_turn`, `scatter_turn`). An array in memory is one block.

`AnchoredObjective` is what a solver minimises over the parameters theta of a model with scores
s(theta),

    J(theta) = F(s(theta)) + alpha ||theta - anchor||^2 / ||anchor||^2.

Without an anchor the penalty is alpha ||theta||^2.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse

from pnsklearn._auprc import _kernels
from pnsklearn._auprc._kernels import Block, Thresholds
from pnsklearn._typing import Array, Matrix, Tensor

# The smooth step's half width and the hinge's margin, in standard deviations of the scores.
DEFAULT_MARGIN = {"smooth": 0.5, "squared_hinge": 1.0}
SMALLEST_MARGIN, LARGEST_MARGIN = 1e-3, 1e6
LARGEST_EXTENT = 1e100  # of the scores and thresholds, whose squares are summed
NOT_FINITE = (
    "The objective is not finite: the scores are NaN or too far apart, or the margin, the prior or "
    "the weights are extreme. Scale the features, or lower learning_rate."
)


def get_kernels(device: Any) -> Any:
    """Return the module that computes on a device: with NumPy on "cpu", else with torch.

    It may be that of an array, which is "cpu" for NumPy's and a `torch.device` for a tensor.
    """
    if isinstance(device, str) and device == "cpu":
        return _kernels
    from pnsklearn._auprc import _torch

    return _torch


# What F needs besides the scores


class Pairs(NamedTuple):
    """The weights of the pairs of samples, and the loss of their differences.

    Attributes
    ----------
    positive : bool array of shape (n,)
    weight : float64 array of shape (n,)
        Weights inside the sums, w.
    outer_weight : float64 array of shape (n_positives,)
        Weights of the positives' ratios, v, which sum to one.
    own : float64 array of shape (n_positives,)
        Constants in the sums over the positives.
    margins, coefs : float64 arrays of shape (n_hinges,)
        The loss as squared hinges, m_k and a_k.
    """

    positive: Tensor
    weight: Tensor
    outer_weight: Tensor
    own: Tensor
    margins: Tensor
    coefs: Tensor


def loss_terms(loss: str, margin: float) -> tuple[Array, Array, float]:
    """Write a loss as squared hinges: their margins, their coefficients, and `own`.

    `own` is added for each positive's pair with itself, so that this pair counts as 1.
    """
    if loss == "squared_hinge":
        return np.array([margin]), np.array([1.0]), 0.0
    return np.array([margin, 0.0, -margin]), np.array([1.0, -2.0, 1.0]) / (2 * margin**2), 0.5


def margin_in_units(loss: str, margin: str | float, unit: float) -> float:
    """Resolve `margin` ("auto" or a number of units) to score units; from 1e-3 to 1e6 units."""
    number = DEFAULT_MARGIN[loss] if margin == "auto" else float(margin)
    return min(max(number, SMALLEST_MARGIN), LARGEST_MARGIN) * (unit if unit > 0 else 1.0)


def weighted_std(scores: Tensor, weight: Tensor) -> float:
    """Return the weighted standard deviation of the scores, in a numerically safe two passes."""
    total = weight.sum()
    mean = (scores * weight).sum() / total
    return math.sqrt(((scores - mean) ** 2 * weight).sum() / total)


def inner_weights(positive: Tensor, weight: Tensor, prior: float | None) -> Tensor:
    """Scale the positives' weights so that their share is `prior`; None leaves them."""
    if prior is None:
        return weight
    n_positive, total = weight[positive].sum(), weight.sum()
    inner = 1.0 * weight
    inner[positive] *= prior / (1 - prior) * (total - n_positive) / n_positive
    return inner


def number_equal_rows(X: Matrix) -> Array:
    """Return a number for each row of X, the same for equal rows.

    Equal rows have equal scores whatever the model: ties that no training can break.
    """
    if issparse(X):
        numbers: dict[bytes, int] = {}
        bounds = zip(X.indptr[:-1], X.indptr[1:], strict=True)
        rows = (X.indices[a:b].tobytes() + X.data[a:b].tobytes() for a, b in bounds)
        return np.array([numbers.setdefault(row, len(numbers)) for row in rows])
    flat = np.ascontiguousarray(X).reshape(X.shape[0], -1)
    whole = flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1]))).ravel()
    order = np.argsort(whole)  # np.unique would copy all rows four times
    in_order = whole[order]
    number = np.empty(len(order), dtype=np.intp)
    number[order] = np.cumsum(np.append(True, in_order[1:] != in_order[:-1])) - 1
    return number


def make_pairs(
    positive: Tensor, weight: Tensor, ties: Tensor, *, loss: str, margin: float, prior: float | None
) -> Pairs:
    """Return the Pairs of samples with positive weights.

    Parameters
    ----------
    positive : bool array of shape (n,)
    weight : float64 array of shape (n,)
    ties : array of shape (n_positives,)
        Equal for positives that tie. These count in full among their own pairs, as in
        `average_precision_score`, which makes a weight the same as a repetition.
    loss : {"smooth", "squared_hinge"}
    margin : float
        In score units.
    prior : float or None
        Share of the positives inside the sums.
    """
    kernels = get_kernels(weight.device)
    margins, coefs, own = loss_terms(loss, margin)
    margins, coefs = (kernels.as_array(array, weight.device) for array in (margins, coefs))
    inner = inner_weights(positive, weight, prior)
    outer_weight = weight[positive] / weight[positive].sum()
    own = own * kernels.sum_over_ties(ties, inner[positive])
    return Pairs(positive, inner, outer_weight, own, margins, coefs)


# F in blocks of rows


class Surrogate(NamedTuple):
    """The value of F at some scores, and what its derivatives need of all the positives.

    `half_slope` and `half_curvature`, of shape (2, n_positives), belong to the sums over the
    negatives and over the positives, in this order.
    """

    value: float
    thresholds: Thresholds
    outer_weight: Tensor
    negative_sum: Tensor
    positive_sum: Tensor
    half_slope: Tensor
    half_curvature: Tensor


def sort_thresholds(positive_scores: Tensor, margins: Tensor, coefs: Tensor) -> Thresholds:
    """Return the Thresholds of all the positives; their owners are in the order of the rows.

    Raises
    ------
    ValueError
        If a score is NaN, or too far from the others.
    """
    # A large offset would round the thresholds; taking it away is exact.
    origin = positive_scores[0]
    scores = positive_scores - origin
    if not abs(scores).max() <= LARGEST_EXTENT:
        raise ValueError(NOT_FINITE)
    kernels = get_kernels(scores.device)
    return Thresholds(origin, *kernels.sort_thresholds(scores, margins, coefs))


def block_moments(
    scores: Tensor, positive: Tensor, weight: Tensor, thresholds: Thresholds
) -> tuple[Block, Tensor]:
    """Return a Block and its moments; those of several blocks add up.

    Raises
    ------
    ValueError
        If a score or threshold is NaN, or too far from the others.
    """
    kernels, values = get_kernels(scores.device), thresholds.values
    scores = scores - thresholds.origin
    extent = abs(scores).max() + abs(values[0]) + abs(values[-1])
    if not extent <= LARGEST_EXTENT:  # there is no bin for NaN
        raise ValueError(NOT_FINITE)
    bins = kernels.find_bins(scores, values)
    block = Block(scores, positive, weight, bins)
    return block, kernels.bin_moments(block, thresholds)


def combine(thresholds: Thresholds, moments: Tensor, outer: Tensor, own: Tensor) -> Surrogate:
    """Return F from the added moments of all blocks, and the `outer_weight` and `own` of `Pairs`.

    Raises
    ------
    ValueError
        If the value is not finite.
    """
    sweep_down = get_kernels(moments.device).sweep_down
    sums, *halves = sweep_down(thresholds, moments, len(outer))
    # A second difference of squared hinges can leave -1e-17 where the sum is zero.
    N, P = sums.clip(0.0)
    P = P + own
    with np.errstate(invalid="ignore"):
        value = float(outer @ (N / (P + N)))
    if not math.isfinite(value):
        raise ValueError(NOT_FINITE)
    return Surrogate(value, thresholds, outer, N, P, *halves)


def sweep_slopes(state: Surrogate) -> tuple[Tensor, Tensor]:
    """Return what `scatter` makes a gradient of: a sweep, and the positives' own slopes.

    dF/ds_j = 2 w_j sum_{i below j} c_i^{y_j} (m - d_ij) - [j in P] 2 (c_j^+ S1_j^+ + c_j^- S1_j^-).
    """
    c, thresholds = sum_slopes(state), state.thresholds
    own_slope = 2.0 * (c[0] * state.half_slope[0] + c[1] * state.half_slope[1])
    sweep_up = get_kernels(own_slope.device).sweep_up
    return sweep_up(thresholds, thresholds.values, c), own_slope


def scatter(block: Block, thresholds: Thresholds, sweep: Tensor, own_slope: Tensor) -> Tensor:
    """Return dF/ds of a block's rows; `own_slope` is that of its own positives."""
    kernels = get_kernels(block.scores.device)
    out = kernels.scatter(block, block.scores, thresholds.values, sweep)
    out[block.positive] -= own_slope
    return out


def sum_slopes(state: Surrogate) -> tuple[Tensor, Tensor]:
    """Return dF/dN_i = v_i P_i / A_i^2 and dF/dP_i = -v_i N_i / A_i^2, A_i = P_i + N_i."""
    N, P, v = state.negative_sum, state.positive_sum, state.outer_weight
    A2 = (P + N) ** 2
    return v * P / A2, -v * N / A2


def turn_moments(block: Block, thresholds: Thresholds, direction: Tensor) -> Tensor:
    """Return the moments of a block for a Hessian product; those of several blocks add up."""
    # With weights w_j h_j, h the direction, the sums are the derivatives by way of the s_j.
    moved = block._replace(weight=block.weight * direction)
    return get_kernels(direction.device).bin_moments(moved, thresholds)


def sweep_turn(
    state: Surrogate, h: Tensor, moments: Tensor
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return the derivatives of `sum_slopes` along a direction, and of the positives' own slopes.

    `h` is the direction of the positives, `moments` those of all blocks.
    """
    _, thresholds, v, N, P, half_slope, half_curvature = state
    _, H1, H0 = get_kernels(h.device).sweep_down(thresholds, moments, len(v))
    # dS2 = 2 (sum w h_j u - h_i S1) and dS1 = sum w h_j - h_i S0.
    dN, dP = 2.0 * (H1 - h * half_slope)
    d_slope = H0 - h * half_curvature
    A, dA = P + N, dN + dP
    c = sum_slopes(state)
    dc = v * (dP - 2.0 * P * dA / A) / A**2, v * (-dN + 2.0 * N * dA / A) / A**2
    return dc, 2.0 * sum(dc[k] * half_slope[k] + c[k] * d_slope[k] for k in (0, 1))


def scatter_turn(
    block: Block, thresholds: Thresholds, direction: Tensor, turn: tuple, own_slope: Tensor
) -> Tensor:
    """Return the Hessian product of a block's rows; `turn` is (h, c, dc) of all positives."""
    h, c, dc = turn
    kernels = get_kernels(direction.device)
    out = scatter(block, thresholds, kernels.sweep_up(thresholds, thresholds.values, dc), own_slope)
    points = h[thresholds.owner]  # the thresholds move with their positives
    out += kernels.scatter(block, direction, points, kernels.sweep_up(thresholds, points, c))
    return out


# F of all rows, which are one block


def surrogate(scores: Tensor, pairs: Pairs) -> tuple[Block, Surrogate]:
    """Evaluate F at float64 scores of shape (n,).

    Raises
    ------
    ValueError
        If the value is not finite.
    """
    positive, weight, outer_weight, own, margins, coefs = pairs
    thresholds = sort_thresholds(scores[positive], margins, coefs)
    block, moments = block_moments(scores, positive, weight, thresholds)
    return block, combine(thresholds, moments, outer_weight, own)


def gradient(block: Block, state: Surrogate) -> Tensor:
    """Return dF/ds, of shape (n,)."""
    return scatter(block, state.thresholds, *sweep_slopes(state))


def hessian_product(block: Block, state: Surrogate, direction: Tensor) -> Tensor:
    """Return the product of the Hessian of F with `direction`, both of shape (n,).

    Where a squared hinge has a kink in its slope, the one-sided second derivative is used.
    """
    h, thresholds = direction[block.positive], state.thresholds
    dc, own_slope = sweep_turn(state, h, turn_moments(block, thresholds, direction))
    c = sum_slopes(state)
    return scatter_turn(block, thresholds, direction, (h, c, dc), own_slope)


def surrogate_of_scores(
    scores: Tensor,
    positive: Tensor,
    weight: Tensor,
    *,
    loss: str,
    margin: str | float,
    prior: float | None,
) -> tuple[float, Callable[[], Tensor]]:
    """Return F of given scores, and a function that returns its gradient.

    The margin is in weighted standard deviations of the scores; rows may have zero weight.
    """
    kept = weight > 0
    rows = slice(None) if kept.all() else kept  # a slice copies nothing
    s, w, p = scores[rows], weight[rows], positive[rows]
    width = margin_in_units(loss, margin, weighted_std(s, w))
    evaluated = surrogate(s, make_pairs(p, w, s[p], loss=loss, margin=width, prior=prior))

    def slope():
        out = 0.0 * scores
        out[rows] = gradient(*evaluated)
        return out

    return evaluated[1].value, slope


# J of a model's parameters


class LinearModel:
    """Scores X @ theta on a device."""

    is_linear = True

    def __init__(self, X: Matrix, device: str):
        self.device = device
        self.kernels = get_kernels(device)
        self.X = self.kernels.as_array(X, device)
        self.dtype = X.dtype

    def scores(self, theta: Array) -> Tensor:
        """Return the float64 scores of all rows."""
        return self.kernels.linear_scores(self.X, theta)

    def pull_back(self, theta: Array, slope: Tensor) -> Array:
        """Return the gradient in theta of a function whose gradient in the scores is `slope`."""
        return self.kernels.linear_pull_back(self.X, slope)


@dataclass(frozen=True)
class AnchoredObjective:
    """The objective J of one data set and model; see `make_objective`."""

    model: Any
    pairs: Pairs
    anchor: Any
    alpha: float

    @property
    def scale(self) -> float:
        """The norm of the anchor, the unit of theta; 1 without one."""
        norm = 0.0 if self.anchor is None else float(np.linalg.norm(self.anchor))
        return norm if norm > 0 else 1.0

    def penalty(self, theta: Array) -> tuple[float, Array]:
        """Return the penalty and its gradient."""
        shift = (theta if self.anchor is None else theta - self.anchor) / self.scale
        return float(self.alpha * shift @ shift), 2 * self.alpha * shift / self.scale

    def surrogate(self, theta: Array) -> tuple[Block, Surrogate]:
        """Return F at the scores of theta."""
        return surrogate(self.model.scores(theta), self.pairs)

    def value_and_gradient(self, theta: Array) -> tuple[float, Array]:
        """Return J and its gradient."""
        block, state = self.surrogate(theta)
        penalty, slope = self.penalty(theta)
        pulled = self.model.pull_back(theta, gradient(block, state))
        return state.value + penalty, pulled + slope

    def hessian_product(self, theta: Array) -> Callable[[Array], Array]:
        """Return the function v -> (Hessian of J at theta) v, for a linear model."""
        at = self.surrogate(theta)
        curvature = 2 * self.alpha / self.scale**2

        def product(v):
            slope = hessian_product(*at, self.model.scores(v))
            return self.model.pull_back(theta, slope) + curvature * v

        return product


def make_objective(
    model: Any,
    positive: Array,
    weight: Array,
    ties: Array,
    *,
    anchor: Array | None,
    alpha: float,
    loss: str,
    margin: str | float,
    prior: float | None,
) -> AnchoredObjective:
    """Return J of a model and its rows, whose weights are positive.

    `margin` is in standard deviations of the anchor's scores, or in score units without an anchor;
    `ties` are those of `make_pairs`.
    """
    unit = 1.0
    if anchor is not None:
        unit = weighted_std(model.kernels.to_numpy(model.scores(anchor)), weight)
    width = margin_in_units(loss, margin, unit)
    pairs = make_pairs(positive, weight, ties, loss=loss, margin=width, prior=prior)
    pairs = Pairs(*(model.kernels.as_array(array, model.device) for array in pairs))
    return AnchoredObjective(model, pairs, anchor, alpha)
