"""Minimise the objective J: with exact derivatives, or by SOAP's stochastic steps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import Bounds, minimize

from pnsklearn._auprc._objective import AnchoredObjective
from pnsklearn._auprc._soap import Schedule, soap_epochs
from pnsklearn._typing import Array

# L-BFGS stops by its gradient only; its line search may take many steps on a steep objective.
LINE_SEARCH = {"ftol": 0.0, "maxls": 50}
# Called with theta after each iteration or epoch; returns whether to stop.
OnIteration = Callable[[Array], bool] | None


@dataclass(frozen=True)
class Solution:
    """What a solver found: `surrogate` is 1 - F, `objective` is J."""

    theta: Array
    surrogate: float
    objective: float
    n_iter: int
    converged: bool


def solve(
    objective: AnchoredObjective,
    theta: Array,
    schedule: Schedule,
    on_iteration: OnIteration = None,
    *,
    solver: str,
    tol: float,
    max_iter: int,
    gamma: float,
    nonnegative: bool,
) -> Solution:
    """Return the Solution from theta, by a solver of AUPRCClassifier and its parameters."""
    if np.isinf(objective.alpha):
        return keep_anchor(objective)
    if solver.startswith("soap-"):
        adam = solver == "soap-adam"
        return solve_soap(objective, theta, schedule, on_iteration, use_adam=adam, gamma=gamma)
    return solve_exact(
        objective,
        theta,
        on_iteration,
        solver=solver,
        tol=tol,
        max_iter=max_iter,
        nonnegative=nonnegative,
    )


def keep_anchor(objective: AnchoredObjective) -> Solution:
    """Return the anchor, which is the solution where alpha is infinite."""
    theta = objective.anchor
    value = objective.surrogate(theta)[1].value
    return Solution(theta, 1 - value, value, n_iter=1, converged=True)


def solve_exact(
    objective: AnchoredObjective,
    theta: Array,
    on_iteration: OnIteration = None,
    *,
    solver: str,
    tol: float,
    max_iter: int,
    nonnegative: bool = False,
) -> Solution:
    """Minimise J with SciPy's L-BFGS or trust-region Newton method, over theta >= 0 if asked.

    `tol` bounds the (projected) gradient in u = theta / ||anchor||.
    """
    scale = objective.scale

    def value_and_gradient(u):
        value, gradient = objective.value_and_gradient(u * scale)
        return value, gradient * scale

    # SciPy asks for products one at a time, at one point after the other.
    last: dict[str, Any] = {}

    def hessian_product(u, v):
        if not (last and np.array_equal(u, last["u"])):
            last.update(u=u.copy(), product=objective.hessian_product(u * scale))
        return last["product"](v * scale) * scale

    def callback(intermediate_result):
        if on_iteration is not None and on_iteration(intermediate_result.x * scale):
            raise StopIteration

    newton = solver == "trust-ncg"
    result = minimize(
        value_and_gradient,
        theta / scale,
        jac=True,
        method="trust-ncg" if newton else "L-BFGS-B",
        hessp=hessian_product if newton else None,
        callback=callback,
        bounds=Bounds(0.0) if nonnegative else None,
        options={"gtol": tol, "maxiter": max_iter} | ({} if newton else LINE_SEARCH),
    )
    theta = result.x * scale
    value = float(result.fun) - objective.penalty(theta)[0]
    # A line search that ends before max_iter has met rounding error: nothing more to gain.
    converged = result.nit < max_iter
    # A start that is already optimal took one evaluation, which counts as an iteration.
    return Solution(theta, 1 - value, float(result.fun), max(result.nit, 1), converged)


def solve_soap(
    objective: AnchoredObjective,
    theta: Array,
    schedule: Schedule,
    on_iteration: OnIteration = None,
    *,
    use_adam: bool,
    gamma: float,
) -> Solution:
    """Minimise J with SOAP (Qi et al. 2021, algorithm 1); the last iterate is the solution."""
    epochs = soap_epochs
    if not objective.model.is_linear:
        from pnsklearn._auprc._module import module_soap_epochs as epochs
    steps = epochs(objective, theta, schedule, use_adam=use_adam, gamma=gamma)
    for n_iter, theta in enumerate(steps, start=1):  # noqa: B007
        if on_iteration is not None and on_iteration(theta):
            break
    value = objective.surrogate(theta)[1].value
    return Solution(theta, 1 - value, value + objective.penalty(theta)[0], n_iter, True)
