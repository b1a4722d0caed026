"""From checked feedback to the weights and biases of a linear policy."""

import copy
import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from pnsklearn._fitting import warn_user
from pnsklearn._optim import Adam
from pnsklearn._topr._feedback import Feedback
from pnsklearn._topr._objective import Linear, PolicyObjective
from pnsklearn._topr._solver import Solution, adam_pass
from pnsklearn._typing import Array


def make_objective(
    feedback: Feedback, C: float, fit_intercept: bool, device: str = "cpu"
) -> PolicyObjective:
    """Return the objective of a linear policy on a log."""
    n_logits = 1 if len(feedback.classes) == 2 else len(feedback.classes)
    linear = Linear(n_logits, feedback.X.shape[1], fit_intercept, feedback.X.dtype)
    log = feedback.X, feedback.action, feedback.gain, np.log(feedback.propensity)
    return PolicyObjective.make(linear, C, log, feedback.bounds, device)


def train_linear(
    objective: PolicyObjective,
    start: tuple[Array, Array] | None,
    solve: Callable[..., Solution],
    on_iteration: Callable[[Callable[[], dict]], bool],
) -> dict:
    """Return the fitted attributes.

    `start` holds weights and biases, by default those of the uniform policy.
    ``on_iteration(attributes)``, with a function that returns the attributes so far, returns True
    to stop.
    """
    linear = objective.linear
    theta = linear.zeros if start is None else linear.pack(*start)
    solution = solve(
        objective, theta, on_iteration=lambda theta: on_iteration(partial(linear.fitted, theta))
    )
    if not (solution.converged or solution.stopped):
        warn_user(
            f"L-BFGS stopped after {solution.n_iter} iterations, where the largest entry of the "
            f"gradient is {solution.largest_gradient:.1e}, above tol. Increase max_iter, lower C, "
            "or scale the rewards and the features, with StandardScaler for example.",
            ConvergenceWarning,
        )
    return {**linear.fitted(solution.theta), "n_iter_": solution.n_iter}


class Stream(NamedTuple):
    """Where a log that comes in pieces has brought a linear policy."""

    theta: Array
    adam: Adam
    size: float  # sum of |R| so far, over which the penalty is spread


def train_on_piece(
    objective: PolicyObjective, stream: Stream | None, learning_rate: float, parts: list[Array]
) -> Stream:
    """Return the stream after steps of Adam on the next piece of a log, or on the first.

    `parts` are its batches of rows.
    """
    zeros = objective.linear.zeros
    # A copy: should a step fail, the stream is as before.
    theta, adam, size = copy.deepcopy(stream) or Stream(zeros, Adam(zeros.shape[0]), 0.0)
    size += objective.size
    if objective.size > 0:
        objective, rates = replace(objective, penalty_size=size), itertools.repeat(learning_rate)
        theta = adam_pass(objective, theta, adam, rates, parts)
    return Stream(theta, adam, size)
