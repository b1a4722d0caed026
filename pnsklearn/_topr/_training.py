"""From checked feedback to the fitted attributes of a linear policy."""

import copy
import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from pnsklearn._fitting import warn_user
from pnsklearn._optim import Adam
from pnsklearn._topr._feedback import Feedback
from pnsklearn._topr._objective import Bounds, Linear, Log, PolicyObjective, get_kernels
from pnsklearn._topr._solver import (
    Solution,
    adam_pass,
    solve_adam,
    solve_from_two,
    solve_lbfgs,
)
from pnsklearn._typing import Array


def train_linear(
    feedback: Feedback,
    baseline: float | None,
    *,
    start: tuple[Array, Array] | None,
    C: float,
    bounds: Bounds,
    fit_intercept: bool,
    solver: str,
    max_iter: int,
    tol: float,
    batch_size: int,
    learning_rate: float,
    n_epochs: int,
    device: str,
    rng: np.random.RandomState,
    on_iteration: Callable[[Callable[[], dict]], bool],
) -> tuple[dict[str, Any], int]:
    """Return the fitted attributes and the number of iterations.

    `start` holds the weights and biases to start from, which are ignored if their shapes are not
    those of this policy; by default it is the uniform policy. ``on_iteration(attributes)``, with a
    function that returns the attributes so far, returns True to stop.
    """
    objective = _make_objective(
        feedback, baseline, C=C, bounds=bounds, fit_intercept=fit_intercept, device=device
    )
    linear = objective.linear
    theta = linear.zeros
    goes_on = start is not None and start[0].shape == linear.unpack(theta)[0].shape
    if start is not None and goes_on:
        theta = linear.pack(*start)

    def callback(theta):
        return on_iteration(partial(_attributes, linear, theta, feedback))

    if solver == "adam":
        solution = solve_adam(
            objective,
            theta,
            batch_size=batch_size,
            learning_rate=learning_rate,
            n_epochs=n_epochs,
            rng=rng,
            on_iteration=callback,
        )
    else:
        (low, high), _ = bounds
        solve: Callable[..., Solution]
        solve = solve_lbfgs if goes_on or low == high else solve_from_two
        solution = solve(objective, theta, tol=tol, max_iter=max_iter, on_iteration=callback)
    if not (solution.converged or solution.stopped):
        warn_user(
            f"L-BFGS stopped after {solution.n_iter} iterations (max_iter={max_iter}), where the "
            f"largest entry of the gradient is {solution.largest_gradient:.1e}, above tol={tol}. "
            "Increase max_iter, lower C, or scale the features, with StandardScaler for example, "
            "and the rewards.",
            ConvergenceWarning,
        )
    return _attributes(linear, solution.theta, feedback), solution.n_iter


class Stream(NamedTuple):
    """Where a log that comes in pieces has brought the policy."""

    theta: Array
    adam: Adam
    size: float  # sum of |R| so far, by which the penalty is divided


def train_on_piece(
    feedback: Feedback,
    baseline: float | None,
    stream: Stream | None,
    *,
    C: float,
    bounds: Bounds,
    fit_intercept: bool,
    batch_size: int,
    learning_rate: float,
    rng: np.random.RandomState,
) -> dict[str, Any]:
    """Return the fitted attributes after one pass of Adam over a piece of a log."""
    objective = _make_objective(
        feedback, baseline, C=C, bounds=bounds, fit_intercept=fit_intercept, device="cpu"
    )
    if stream is None:
        zeros = objective.linear.zeros
        stream = Stream(zeros, Adam(zeros.shape[0]), 0.0)
    # A copy: should the pass fail, the estimator has the stream of before.
    theta, adam, size = copy.deepcopy(stream)
    if objective.log.size > 0:
        size += objective.log.size
        rates = itertools.repeat(learning_rate)
        objective = replace(objective, size=size)
        theta = adam_pass(objective, theta, adam, rates, batch_size, rng)
    attributes = _attributes(objective.linear, theta, feedback)
    return {**attributes, "_stream_": Stream(theta, adam, size)}


def _make_objective(feedback, baseline, *, C, bounds, fit_intercept, device):
    n_actions = len(feedback.classes)
    log = Log.make(
        feedback.X,
        feedback.action,
        feedback.gain(baseline),
        np.log(feedback.propensity),
        bounds=bounds,
        kernels=get_kernels(device),
        device=device,
    )
    linear = Linear(1 if n_actions == 2 else n_actions, feedback.X.shape[1], fit_intercept)
    return PolicyObjective(linear, log, C, log.size)


def _attributes(linear, theta, feedback):
    """Return the weights and biases in the precision of X."""
    W, b = linear.unpack(theta)
    return {"coef_": W.astype(feedback.X.dtype), "intercept_": b.astype(feedback.X.dtype)}
