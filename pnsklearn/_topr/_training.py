"""From checked feedback to the weights and biases of a linear policy."""

import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.extmath import safe_sparse_dot

from pnsklearn._fitting import warn_user
from pnsklearn._optim import Adam
from pnsklearn._topr._feedback import Feedback
from pnsklearn._topr._objective import Bounds, Linear, Penalised, PolicyObjective
from pnsklearn._topr._solver import Solution, adam_pass, solve_adam, solve_from_two, solve_lbfgs
from pnsklearn._typing import Array, Matrix
from pnsklearn._validation import refuse_overflow


@dataclass(frozen=True)
class Training:
    """How a policy is fitted: parameters of `TOPRPolicy`."""

    C: float
    fit_intercept: bool
    solver: str
    tol: float
    max_iter: int
    batch_size: int
    learning_rate: float
    n_epochs: int
    module: Any
    device: str

    def train(
        self, feedback: Feedback, start: Any, rng: np.random.RandomState,
        on_iteration: Callable[[Callable[[], dict]], bool],
    ) -> dict:  # fmt: skip
        """Return the fitted attributes; see `train_linear` for the arguments."""
        if self.module is None:
            objective = make_objective(feedback, self.C, self.fit_intercept, self.device)
            solve = self.solver_from(feedback.bounds, start, rng)
            return train_linear(objective, start, solve, on_iteration)
        from pnsklearn._topr._module import train_module

        return train_module(
            feedback,
            self.module,
            start,
            C=self.C,
            device=self.device,
            on_iteration=on_iteration,
            **self._adam(rng),
        )

    def path(
        self, feedback: Feedback, Cs: list[float], seed: int
    ) -> Iterator[Callable[[Matrix], Array]]:
        """Yield policies along C, linear ones each from the last: contexts to log-probabilities."""
        if self.module is not None:
            yield from (replace(self, C=C)._module_policy(feedback, seed) for C in Cs)
            return
        theta = None
        for C in Cs:
            objective = make_objective(feedback, C, self.fit_intercept, self.device)
            if not feedback.gain.any():  # no decision of this part is good or bad
                yield partial(log_policy, objective.linear, objective.linear.zeros)
                continue
            rng = np.random.RandomState(seed)
            solve = self.solver_from(feedback.bounds, theta, rng)
            start = objective.linear.zeros if theta is None else theta
            theta = solve(objective, start, on_iteration=lambda theta: False).theta
            yield partial(log_policy, objective.linear, theta)

    def _module_policy(self, feedback: Feedback, seed: int) -> Callable[[Matrix], Array]:
        from pnsklearn._topr._module import logits

        attributes = {"module_": self.module}
        if feedback.gain.any():
            rng = np.random.RandomState(seed)
            attributes = self.train(feedback, None, rng, on_iteration=lambda found: False)
        module, n_actions = attributes["module_"], len(feedback.classes)
        return lambda X: log_softmax_of(logits(module, X, self.device, n_actions))

    def solver_from(self, bounds: Bounds, start: Any, rng: np.random.RandomState) -> Callable:
        """Return the solver of a linear policy with these bounds, from a start or from none."""
        if self.solver == "adam":
            return partial(solve_adam, **self._adam(rng))
        low, high = bounds[0]
        lbfgs = solve_lbfgs if start is not None or low == high else solve_from_two
        return partial(lbfgs, tol=self.tol, max_iter=self.max_iter)

    def _adam(self, rng: np.random.RandomState) -> dict[str, Any]:
        return {
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "n_epochs": self.n_epochs,
            "rng": rng,
        }


def make_objective(
    feedback: Feedback, C: float, fit_intercept: bool, device: str = "cpu"
) -> PolicyObjective:
    """Return the objective of a linear policy on a log."""
    n_logits = 1 if len(feedback.classes) == 2 else len(feedback.classes)
    linear = Linear(n_logits, feedback.X.shape[1], fit_intercept, feedback.X.dtype)
    log = feedback.X, feedback.action, feedback.gain, np.log(feedback.propensity)
    return PolicyObjective.make(linear, C, log, feedback.bounds, device)


def linear_logits(X: Matrix, W: Array, b: Array) -> Array:
    """Return the logits of a linear policy, of shape (n,) for two actions."""
    Z = refuse_overflow(safe_sparse_dot(X, W.T, dense_output=True) + b)
    return Z[:, 0] if Z.shape[1] == 1 else Z


def log_softmax_of(Z: Array) -> Array:
    """Return the logarithms of the probabilities of all actions."""
    if Z.ndim == 1:
        Z = np.stack([-0.5 * Z, 0.5 * Z], axis=1)
    return log_softmax(Z, axis=1)


def log_policy(linear: Linear, theta: Array, X: Matrix) -> Array:
    """Return these of a linear policy with the parameters theta."""
    return log_softmax_of(linear_logits(X, *linear.unpack(theta)))


def train_linear(
    objective: Penalised,
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
