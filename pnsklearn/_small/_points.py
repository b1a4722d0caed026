"""Round the rules of terms that are on or off to points: small integers, as on a score card.

A rule fires from so many points on, and its score is what it has beyond half a point less, over a
multiplier that all rules share: so no score is zero, and probabilities keep their scale.
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from pnsklearn._small._objective import Objective
from pnsklearn._small._solver import Solution
from pnsklearn._typing import Array

MOST_POINTS = 10  # of a term
# Smaller points are taken if their loss is larger by no more than this share.
WORTH = 0.02


@dataclass(frozen=True)
class Cells:
    """The rows, those of equal terms together: weights of both kinds."""

    terms: Array  # (n_terms, n_cells)
    union: Array
    other: Array

    def loss(self, points: Array, need: Array, multiplier: float) -> float:
        """Return the mean logistic loss of rules that fire from `need` points on."""
        z = (points @ self.terms - need[:, np.newaxis] + 0.5).max(axis=0) / multiplier
        return float(self.union @ np.logaddexp(0, -z) + self.other @ np.logaddexp(0, z))


def in_points(objective: Objective, solution: Solution) -> Solution:
    """Return the solution whose weights times its multiplier are points.

    The largest weight has one point, one and a half, and so on; each time the weights are rounded,
    and single points are moved up or down, and what a rule needs, while that lowers the loss.
    """
    data = objective.data
    coef = solution.coef / data.scale
    intercept = solution.intercept - coef @ data.center
    used = np.flatnonzero(coef.any(axis=0))
    cells = _cells(data.X[:, used], objective)
    largest = np.abs(coef).max(initial=0.0) or 1.0

    found = []
    for multiplier in np.arange(2, 2 * MOST_POINTS + 1) / 2 / largest:
        rounded = np.rint(multiplier * coef[:, used]), np.rint(0.5 - multiplier * intercept)
        found.append((*_improved(cells, *rounded, multiplier), multiplier))
    least = min(loss for _, _, loss, _ in found)
    points, need, _, multiplier = next(each for each in found if each[2] <= (1 + WORTH) * least)

    coef = np.zeros_like(solution.coef)
    coef[:, used] = points / multiplier
    intercept = (0.5 - need) / multiplier + coef @ data.center
    coef *= data.scale
    value = objective.value(coef, objective.margins(coef, intercept))
    return replace(
        solution, coef=coef, intercept=intercept, objective=value, multiplier=float(multiplier)
    )


def training_error(objective: Objective, solution: Solution) -> float:
    """Return the weighted share of the training rows on which the rules err."""
    fires = objective.margins(solution.coef, solution.intercept).max(axis=0) > 0
    return float(objective.weight @ (fires != (objective.sign > 0)))


def _cells(values, objective):
    """Return the Cells of the rows of an objective."""
    terms, which = np.unique(values, axis=0, return_inverse=True)
    union = objective.sign > 0
    weights = (objective.weight * side for side in (union, ~union))
    return Cells(terms.T.astype(float), *(np.bincount(which.ravel(), w) for w in weights))


def _improved(cells, points, need, multiplier):
    """Return the points and needs after all moves by one that lower the loss, and the loss."""
    best = cells.loss(points, need, multiplier)
    places = [(table, at) for table in (points, need) for at in np.ndindex(table.shape)]
    again = True
    while again:
        again = False
        for (table, place), step in product(places, (1, -1)):
            if table is points and (table[place] == 0 or abs(table[place] + step) > MOST_POINTS):
                continue  # no further terms
            table[place] += step
            loss = cells.loss(points, need, multiplier)
            if loss < best * (1 - 1e-9):
                best, again = loss, True
            else:
                table[place] -= step
    return points, need, best
