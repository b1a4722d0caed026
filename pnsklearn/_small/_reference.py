"""The relaxation in cvxpy: slow, exact, and written independently of the other solvers."""

from collections.abc import Callable

import numpy as np
from scipy.special import expit

from pnsklearn._device import check_installed
from pnsklearn._small._relaxation import Relaxation, RelaxedSolution, certify

SMALLEST_PRECISION = 1e-9  # what Clarabel reaches reliably


def solve_reference(
    problem: Relaxation, *, start: RelaxedSolution | None = None, max_iter: int = 200,
    tol: float = 1e-8, callback: Callable | None = None,
) -> RelaxedSolution:  # fmt: skip
    """Solve a `Relaxation` with cvxpy and Clarabel, an interior-point method.

    The squared k-support norm is the sum of t_jl >= w_jl^2 / eps_jl, rotated cones. Arguments and
    result are those of `solve_fista`, but `start` is not used, and the callback is called at the
    end; `converged` says whether the certified gap is within `tol`.
    """
    check_installed("cvxpy", "solve_reference", "reference")
    import cvxpy as cp

    XT, shape = problem.kernels.to_numpy(problem.XT), (problem.n_prototypes, problem.XT.shape[0])
    groups = [
        np.flatnonzero((problem.sign > 0) & (problem.assignment == j)) for j in range(shape[0])
    ]
    negative = np.flatnonzero(problem.sign < 0)
    W = cp.Variable(shape)
    penalty, constraints = _penalty(cp, problem, W)
    b = cp.Variable(shape[0])
    if not problem.fit_intercept:
        constraints.append(b == 0)
    loss, below_top = _loss(cp, problem, XT, W, b, groups, negative)
    program = cp.Problem(cp.Minimize(penalty + loss), constraints + below_top)
    # The certificate is stricter than Clarabel's own measures of the gap.
    precision = max(tol / 100, SMALLEST_PRECISION)
    program.solve(
        solver="CLARABEL", max_iter=max_iter,
        tol_gap_abs=precision, tol_gap_rel=precision, tol_feas=precision,
    )  # fmt: skip
    # The dual answer: a_i from the margins, q_ij from the multipliers s_i a_i q_ij of the tops.
    coef, intercept = np.asarray(W.value), np.asarray(b.value)
    z = coef @ XT + intercept[:, np.newaxis]
    A = np.zeros_like(z)
    for j, rows in enumerate(groups):
        A[j, rows] = -expit(-z[j, rows])
    if negative.size:
        shares = np.maximum([constraint.dual_value for constraint in below_top], 1e-300)
        A[:, negative] = expit(z[:, negative].max(axis=0)) * shares / shares.sum(axis=0)
    n_iter = program.solver_stats.num_iters or 0
    solution = certify(problem, coef, intercept, A, n_iter=n_iter, tol=tol)
    if callback is not None:
        callback(solution)
    return solution


def _penalty(cp, problem, W):
    """Return (lam / 2) sum_j (||w_j||_k^sp)^2 and the constraints that define it."""
    eps, t = cp.Variable(W.shape), cp.Variable(W.shape)
    cone = cp.vstack([cp.vec(2 * W, order="C"), cp.vec(t - eps, order="C")])
    constraints = [
        cp.SOC(cp.vec(t + eps, order="C"), cone),
        eps <= 1,
        cp.sum(eps, axis=1) <= problem.n_nonzero,
    ]
    return problem.lam / 2 * cp.sum(t), constraints


def _loss(cp, problem, XT, W, b, groups, negative):
    """Return the loss, and per prototype the constraints that put the negatives' z below a top."""
    weight, loss, below_top = problem.weight, 0, []
    for j, rows in enumerate(groups):
        if rows.size:
            loss += weight[rows] @ cp.logistic(-(W[j] @ XT[:, rows] + b[j]))
    if negative.size:
        top = cp.Variable(negative.size)
        loss += weight[negative] @ cp.logistic(top)
        below_top = [W[j] @ XT[:, negative] + b[j] <= top for j in range(len(groups))]
    return loss, below_top
