"""Minimise an objective: by L-BFGS from one start or two, or by Adam on batches of rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize

from pnsklearn._fitting import blas_threads
from pnsklearn._optim import Adam, batches, half_cosine
from pnsklearn._topr._objective import Penalised, PolicyObjective
from pnsklearn._typing import Array, Objective

# A line search that fails at a gradient below so many times `tol` has met rounding error: there is
# nothing more to gain.
ROUNDING_FACTOR = 100


@dataclass(frozen=True)
class Solution:
    """What a solver found."""

    theta: Array
    n_iter: int
    largest_gradient: float  # its largest entry, if the solver looks at it
    converged: bool
    stopped: bool  # by the callback


def solve_lbfgs(
    objective: Objective, theta: Array, *, tol: float, max_iter: int,
    on_iteration: Callable[[Array], bool],
) -> Solution:  # fmt: skip
    """Minimise with SciPy's L-BFGS until no entry of the gradient is larger than `tol`.

    `on_iteration(theta)` returns True to stop.
    """
    stopped = []

    def callback(intermediate_result):
        if on_iteration(intermediate_result.x):
            stopped.append(True)
            raise StopIteration

    # As in scikit-learn's LogisticRegression.
    limits = {"gtol": tol, "ftol": 64 * np.finfo(float).eps, "maxiter": max_iter, "maxls": 50}
    with blas_threads(1):
        result = minimize(
            objective.value_and_gradient, theta, method="L-BFGS-B", jac=True,
            callback=callback, options=limits,
        )  # fmt: skip
    largest = float(np.abs(result.jac).max())
    near = result.nit < max_iter and largest <= ROUNDING_FACTOR * tol
    # A start that is already optimal took one evaluation, which counts as an iteration.
    n_iter = max(result.nit, 1)
    return Solution(result.x, n_iter, largest, result.success or near, bool(stopped))


def solve_from_two(objective: Penalised, theta: Array, **how: Any) -> Solution:
    """Return the better of two solutions of `solve_lbfgs`: from `theta`, and from a convex problem.

    Where the ratio of good decisions counts, a policy that hardly takes them is near a stationary
    point, and there are many. Good decisions alone, with a ratio of one, are a convex problem whose
    solution takes them all.
    """
    first = solve_lbfgs(objective, theta, **how)
    if first.stopped:
        return first
    imitation = solve_lbfgs(objective.imitation(), theta, **how)
    if imitation.stopped:
        return imitation
    second = solve_lbfgs(objective, imitation.theta, **how)
    return min((first, second), key=lambda found: objective.value_and_gradient(found.theta)[0])


def adam_pass(
    objective: PolicyObjective, theta: Array, adam: Adam, rates: Iterator[float], parts: list[Array]
) -> Array:
    """Return theta after a step of Adam on each batch of rows, at the next rates."""
    with blas_threads(1):
        for rows in parts:
            _, gradient = objective.batch(rows).value_and_gradient(theta)
            theta = adam.step(theta, gradient, next(rates))
    return theta


def solve_adam(
    objective: PolicyObjective, theta: Array, *, batch_size: int, learning_rate: float,
    n_epochs: int, rng: np.random.RandomState, on_iteration: Callable[[Array], bool],
) -> Solution:  # fmt: skip
    """Minimise with Adam on batches; `on_iteration(theta)`, once an epoch, returns True to stop."""
    adam, n_rows = Adam(theta.shape[0]), objective.X.shape[0]
    rates = half_cosine(learning_rate, n_epochs * -(-n_rows // batch_size))
    for epoch in range(1, n_epochs + 1):  # noqa: B007
        theta = adam_pass(objective, theta, adam, rates, batches(n_rows, batch_size, rng))
        stopped = bool(on_iteration(theta))
        if stopped:
            break
    return Solution(theta, epoch, np.nan, True, stopped)
