"""The objective of average precision on blocks of rows.

The driver holds the positives, which are rare. An evaluation takes two rounds: the blocks get the
positives' scores and return the moments of their negatives, in those bins that have any; then they
get the slopes of the positives' sums and return a gradient. The thresholds are sorted anew on each
worker, which costs less than to send them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pnsklearn._auprc._kernels import (
    Block,
    Thresholds,
    linear_pull_back,
    linear_scores,
    sweep_up,
)
from pnsklearn._auprc._objective import (
    AnchoredObjective,
    LinearModel,
    Surrogate,
    block_moments,
    combine,
    make_pairs,
    margin_in_units,
    scatter,
    scatter_turn,
    sort_thresholds,
    sum_slopes,
    sweep_slopes,
    sweep_turn,
    turn_moments,
)
from pnsklearn._typing import Array
from pnsklearn.dask._blocks import Blocks, aligned

NO_SLOPE = np.empty(0)  # of the positives of a block, all of which are on the driver


class Rows:
    """A block of checked rows of two classes; `given` are the weights without those of classes.

    What was computed for the last theta is kept, for the second round of an evaluation.
    """

    def __init__(self, X: Array, positive: Array, weight: Array, given: Array):
        self.X, self.positive, self.weight = aligned(X), aligned(positive), aligned(weight)
        self.given = self.weight if given is weight else aligned(given)
        self._theta: Array = np.empty(0)
        self._scores: Any = None
        self._negatives: Any = None

    def __reduce__(self):
        return Rows, (self.X, self.positive, self.weight, self.given)

    def scores(self, theta: Array) -> Array:
        """Return the scores of all rows."""
        if not np.array_equal(theta, self._theta):
            self._theta, self._scores, self._negatives = theta, self.scores_of(theta), None
        return self._scores

    def scores_of(self, theta: Array) -> Array:
        """Return the same, and keep nothing."""
        return linear_scores(self.X, theta)

    def negatives(self, theta: Array, positives: tuple) -> tuple[Block, Thresholds, Array]:
        """Return the negatives as a Block, the thresholds, and the moments.

        The positives, which are on the driver, have weight zero among the rows; `positives` are the
        arguments of `sort_thresholds`.
        """
        scores = self.scores(theta)
        if self._negatives is None:
            thresholds = sort_thresholds(*positives)
            weight = np.where(self.positive, 0.0, self.weight)
            nobody = np.zeros(len(weight), dtype=bool)
            block, moments = block_moments(scores, nobody, weight, thresholds)
            self._negatives = block, thresholds, moments[0]
        return self._negatives


class Bins(NamedTuple):
    """Moments of the bins that have any: their numbers, in order, and their moments."""

    number: Array
    moments: Array

    @classmethod
    def of(cls, moments: Array) -> "Bins":
        """Leave out what is zero."""
        number = np.flatnonzero(moments.any(axis=1)).astype(np.int32)
        return cls(number, moments[number])

    def __add__(self, other):
        moments = np.zeros((max(bins.number.max(initial=0) for bins in (self, other)) + 1, 3))
        for bins in (self, other):
            moments[bins.number] += bins.moments
        return Bins.of(moments)


class Spread(NamedTuple):
    """The weight of some scores, their mean, and the weighted sum of squares around it."""

    total: float
    mean: float
    squares: float

    def __add__(self, other):
        total = self.total + other.total
        step = other.mean - self.mean
        mean = self.mean + step * other.total / total
        squares = self.squares + other.squares + step**2 * self.total * other.total / total
        return Spread(total, mean, squares)

    @property
    def deviation(self) -> float:
        """The standard deviation."""
        return float(np.sqrt(self.squares / self.total))


# Functions of a block


def spread(rows: Rows, theta: Array) -> tuple[Spread]:
    """Return the Spread of the scores."""
    scores, total = rows.scores(theta), rows.weight.sum()
    mean = rows.weight @ scores / total
    return (Spread(total, mean, rows.weight @ (scores - mean) ** 2),)


def moments_of(rows: Rows, theta: Array, *positives: Array) -> tuple[Bins]:
    """Return the negatives' moments at theta."""
    return (Bins.of(rows.negatives(theta, positives)[2]),)


def gradient_of(rows: Rows, theta: Array, c: Array, *positives: Array) -> tuple[Array]:
    """Return the gradient of F in theta by way of the negatives' scores.

    `c` are the slopes of the positives' sums over the negatives.
    """
    block, thresholds, _ = rows.negatives(theta, positives)
    sweep = sweep_up(thresholds, thresholds.values, (c, c))
    return (linear_pull_back(rows.X, scatter(block, thresholds, sweep, NO_SLOPE)),)


def turn_moments_of(rows: Rows, theta: Array, v: Array, *positives: Array) -> tuple[Bins]:
    """Return the negatives' moments for the product of the Hessian at theta with v."""
    block, thresholds, _ = rows.negatives(theta, positives)
    return (Bins.of(turn_moments(block, thresholds, rows.scores_of(v))[0]),)


def product_of(rows: Rows, theta: Array, v: Array, turn: Array, *positives: Array) -> tuple[Array]:
    """Return the part of that product by way of the negatives' scores.

    `turn` holds the positives' direction, the slopes of their sums, and the derivatives of these.
    """
    block, thresholds, _ = rows.negatives(theta, positives)
    h, c, dc = turn
    slope = scatter_turn(block, thresholds, rows.scores_of(v), (h, (c, c), (dc, dc)), NO_SLOPE)
    return (linear_pull_back(rows.X, slope),)


# F and J of all blocks


@dataclass(frozen=True)
class BlockedObjective(AnchoredObjective):
    """J of a linear model where `model` and `pairs` are those of the positives."""

    rows: Blocks

    def surrogate(self, theta: Array) -> tuple[Block, Surrogate]:
        """Return the positives' Block, and F at the scores of theta."""
        _, state, block, _ = self._evaluate(theta)
        return block, state

    def value_and_gradient(self, theta: Array) -> tuple[float, Array]:
        """Return J and its gradient."""
        positives, state, block, thresholds = self._evaluate(theta)
        sweep, own_slope = sweep_slopes(state)
        own = self.model.pull_back(theta, scatter(block, thresholds, sweep, own_slope))
        (rest,) = self.rows.sum(gradient_of, theta, sum_slopes(state)[0], *positives)
        penalty, slope = self.penalty(theta)
        return state.value + penalty, own + rest + slope

    def hessian_product(self, theta: Array) -> Callable[[Array], Array]:
        """Return the function v -> (Hessian of J at theta) v."""
        positives, state, block, thresholds = self._evaluate(theta)
        curvature = 2 * self.alpha / self.scale**2
        c = sum_slopes(state)

        def product(v):
            h = self.model.scores(v)
            moments = turn_moments(block, thresholds, h)
            _add_bins(moments, self.rows.sum(turn_moments_of, theta, v, *positives))
            dc, own_slope = sweep_turn(state, h, moments)
            own = scatter_turn(block, thresholds, h, (h, c, dc), own_slope)
            (rest,) = self.rows.sum(product_of, theta, v, np.stack([h, c[0], dc[0]]), *positives)
            return self.model.pull_back(theta, own) + rest + curvature * v

        return product

    def _evaluate(self, theta):
        """Return what the blocks need of the positives, F, and the positives as a block."""
        scores = self.model.scores(theta)
        positives = scores, self.pairs.margins, self.pairs.coefs
        thresholds = sort_thresholds(*positives)
        block, moments = block_moments(scores, self.pairs.positive, self.pairs.weight, thresholds)
        _add_bins(moments, self.rows.sum(moments_of, theta, *positives))
        state = combine(thresholds, moments, self.pairs.outer_weight, self.pairs.own)
        return positives, state, block, thresholds


def _add_bins(moments, sums):
    """Add the moments of the negatives to those of all bins."""
    (bins,) = sums
    moments[0, bins.number] += bins.moments


def make_objective(
    rows: Blocks, X: Array, weight: Array, negative_weight: float, *, ties: Array,
    anchor: Array | None, alpha: float, loss: str, margin: str | float, prior: float | None,
) -> BlockedObjective:  # fmt: skip
    """Return J of blocks of rows and of the positives, X with their weights.

    `negative_weight` is the sum of the negatives'; see `_auprc._objective.make_objective` for the
    rest.
    """
    unit = 1.0 if anchor is None else rows.sum(spread, anchor)[0].deviation
    width = margin_in_units(loss, margin, unit)
    # One row stands for all negatives, as their weights are needed in sum only.
    everyone = np.append(weight, negative_weight)
    positive = np.append(np.ones(len(weight), dtype=bool), False)
    pairs = make_pairs(positive, everyone, ties, loss=loss, margin=width, prior=prior)
    own = pairs._replace(positive=positive[:-1], weight=pairs.weight[:-1])
    return BlockedObjective(LinearModel(X, "cpu"), own, anchor, alpha, rows)
