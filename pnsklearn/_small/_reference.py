"""The relaxation in cvxpy: slow, exact, and written independently of the other solvers."""

import importlib.util

import numpy as np
from scipy.special import expit

from pnsklearn._small._relaxation import certify

SMALLEST_PRECISION = 1e-9  # what Clarabel reaches reliably


def check_cvxpy(what):
    """Raise ImportError with the remedy when cvxpy, needed for `what`, is not installed."""
    if importlib.util.find_spec("cvxpy") is None:
        raise ImportError(
            f"{what} needs cvxpy, which is not installed. Install it with "
            "`pip install 'pnsklearn[reference]'`."
        )


def solve_reference(problem, *, start=None, max_iter=200, tol=1e-8, callback=None):
    """Solve a `Relaxation` with cvxpy and Clarabel, an interior-point method.

    The squared k-support norm is the sum of t_jl >= w_jl^2 / eps_jl, rotated cones. Arguments and
    result are those of `solve_fista`, but `start` is not used, and the callback is called at the
    end; `converged` says whether the certified gap is within `tol`.
    """
    check_cvxpy("solve_reference")
    import cvxpy as cp

    XT, weight = problem.kernels.to_numpy(problem.XT), problem.weight
    shape = problem.n_prototypes, XT.shape[0]
    W, eps, t = cp.Variable(shape), cp.Variable(shape), cp.Variable(shape)
    b = cp.Variable(shape[0])
    cone = cp.vstack([cp.vec(2 * W, order="C"), cp.vec(t - eps, order="C")])
    constraints = [
        cp.SOC(cp.vec(t + eps, order="C"), cone),
        eps <= 1,
        cp.sum(eps, axis=1) <= problem.n_nonzero,
    ]
    if not problem.fit_intercept:
        constraints.append(b == 0)
    objective = problem.lam / 2 * cp.sum(t)
    negative = np.flatnonzero(problem.sign < 0)
    groups = [
        np.flatnonzero((problem.sign > 0) & (problem.assignment == j)) for j in range(shape[0])
    ]
    for j, rows in enumerate(groups):
        if rows.size:
            objective += weight[rows] @ cp.logistic(-(W[j] @ XT[:, rows] + b[j]))
    below_top = []
    if negative.size:
        top = cp.Variable(negative.size)
        objective += weight[negative] @ cp.logistic(top)
        below_top = [W[j] @ XT[:, negative] + b[j] <= top for j in range(shape[0])]
    program = cp.Problem(cp.Minimize(objective), constraints + below_top)
    # The certificate is stricter than Clarabel's own measures of the gap.
    precision = max(tol / 100, SMALLEST_PRECISION)
    program.solve(
        solver="CLARABEL",
        max_iter=max_iter,
        tol_gap_abs=precision,
        tol_gap_rel=precision,
        tol_feas=precision,
    )
    # The dual answer: a_i from the margins, q_ij from the multipliers s_i a_i q_ij of the tops.
    z = W.value @ XT + b.value[:, np.newaxis]
    A = np.zeros_like(z)
    for j, rows in enumerate(groups):
        A[j, rows] = -expit(-z[j, rows])
    if negative.size:
        shares = np.maximum([constraint.dual_value for constraint in below_top], 1e-300)
        A[:, negative] = expit(z[:, negative].max(axis=0)) * shares / shares.sum(axis=0)
    solution = certify(problem, W.value, b.value, A, n_iter=program.solver_stats.num_iters, tol=tol)
    if callback is not None:
        callback(solution)
    return solution
