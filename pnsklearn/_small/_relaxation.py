"""The convex relaxation with a fixed assignment of the positives, its certificate and solvers.

With p prototypes, the budget k and the assignment j(i) of the positives, the relaxation is

    min_{W,b}  sum_{i+} s_i l(z_{i,j(i)}) + sum_{i-} s_i softplus(max_j z_ij)
               + (lam / 2) sum_j (||w_j||_k^sp)^2,       z_ij = w_j.x_i + b_j,

l(t) = log(1 + exp(-t)), with the k-support norm (||w||_k^sp)^2 = min_eps sum_l w_l^2 / eps_l over
0 <= eps <= 1, sum(eps) <= k: the Boolean relaxation of Pilanci, Wainwright and El Ghaoui (2015).
Its saddle function, min over (eps, b) and max over A, is

    Phi(eps, b, A) = -sum_i s_i phi(a_i) + sum_j b_j c_j - sum_jl eps_jl g_jl^2 / (2 lam),

phi(a) = a log a + (1 - a) log(1 - a), with A, g and c of `_kernels`, and W = -eps g / lam.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from types import ModuleType

import numpy as np
from scipy.special import expit, logit

from pnsklearn._small import _kernels
from pnsklearn._small._objective import Objective
from pnsklearn._typing import Array, Matrix, Tensor

# Intercepts of this size mean probabilities of 2e-9.
LARGEST_INTERCEPT = 20.0
# FISTA: the smoothing and curvature to begin with, and the factors by which they fall.
FIRST_MU, MU_FACTOR = 0.3, 0.3
FIRST_CURVATURE, CURVATURE_FACTOR = 0.25, 0.9
# Mirror-prox: the factors of the step when one is refused or accepted, and what rounding may add.
REFUSED_FACTOR, ACCEPTED_FACTOR = 0.5, 1.3
ROUNDING = 1e-15


def get_kernels(device: str) -> ModuleType:
    """Return the module that computes on the device: the same functions on arrays or tensors."""
    if device == "cpu":
        return _kernels
    from pnsklearn._small import _torch

    return _torch


def conjugate(g: Array, n_nonzero: int, lam: float) -> float:
    """Return max_W -sum(g W) - (lam / 2) sum_j (||w_j||_k^sp)^2: the k largest g_jl^2 / (2 lam)."""
    k = min(n_nonzero, g.shape[1])
    return np.partition(g**2, -k, axis=1)[:, -k:].sum() / (2 * lam)


@dataclass(frozen=True)
class Relaxation:
    """One relaxed problem.

    XT, of shape (d, n), lives where `kernels` computes. The others are NumPy arrays of shape (n,):
    `sign` is +1 or -1, `weight` sums to one, `assignment` gives the prototype of each positive, and
    its entries for negatives mean nothing.
    """

    kernels: ModuleType
    XT: Tensor
    sign: Array
    weight: Array
    assignment: Array
    n_prototypes: int
    n_nonzero: int
    lam: float
    fit_intercept: bool = True

    @cached_property
    def rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """(sign, weight, assignment) where `kernels` computes."""
        device = getattr(self.XT, "device", "cpu")
        arrays = (self.sign, self.weight, self.assignment)
        return tuple(self.kernels.as_array(array, device) for array in arrays)

    def penalty(self, W: Array) -> float:
        """Return (lam / 2) sum_j (||w_j||_k^sp)^2."""
        return self.lam / 2 * _kernels.squared_k_support(np.ascontiguousarray(W), self.n_nonzero)

    def margins(self, W: Array, b: Array) -> Tensor:
        """Return z, of shape (n_prototypes, n), where `kernels` computes."""
        return self.kernels.margins(self.XT, W, b)

    def loss_pass(self, V: Array, mu: float) -> tuple[float, float, Array]:
        """Return (loss, slack, gradient) of the smoothed loss at V = [W, b]."""
        W, b = np.ascontiguousarray(V[:, :-1]), np.ascontiguousarray(V[:, -1])
        loss, slack, g, c = self.kernels.loss_pass(self.XT, *self.rows, W, b, mu)
        return loss, slack, np.column_stack([g, c if self.fit_intercept else np.zeros_like(c)])

    def answer(self, W: Array, b: Array, mu: float) -> Tensor:
        """Return the best dual answer to (W, b), smoothed by mu, where `kernels` computes."""
        return self.kernels.respond(self.margins(W, b), *self.rows, mu)[2]

    def upper(self, W: Array, b: Array) -> float:
        """Return the objective, which the optimum does not exceed."""
        loss, _, _ = self.kernels.respond(self.margins(W, b), *self.rows, 0.0)
        return loss + self.penalty(W)

    def lower(self, A: Tensor) -> float:
        """Return the dual value of A, first made feasible; the optimum is not below it."""
        sign, weight, _ = self.rows
        if self.fit_intercept:
            A = self.kernels.balance(sign, weight, A)
        g, _ = self.kernels.pull_back(self.XT, weight, A)
        return self.kernels.entropy(weight, A) - conjugate(g, self.n_nonzero, self.lam)

    def origin(self, start: "RelaxedSolution | None" = None) -> tuple[Array, Array]:
        """Return where to start: (W, b) of a solution, or no coefficients and the classes' odds."""
        if start is not None:
            return start.W, start.b
        b = np.zeros(self.n_prototypes)
        if self.fit_intercept:
            positive = self.sign > 0
            odds = logit(self.weight[positive].sum())
            b[:] = np.clip(odds, -LARGEST_INTERCEPT, LARGEST_INTERCEPT)
            # Without positives the best intercept is minus infinity.
            b[np.setdiff1d(np.arange(b.size), self.assignment[positive])] = -LARGEST_INTERCEPT
        return np.zeros((b.size, self.XT.shape[0])), b


def relax(objective: Objective, XT: Matrix, assignment: Array, device: str) -> Relaxation:
    """Return the convex relaxation of F on the standardised data `XT`, with an assignment."""
    kernels = get_kernels(device)
    return Relaxation(
        kernels, kernels.as_array(XT, device), objective.sign, objective.weight, assignment,
        objective.n_prototypes, objective.n_nonzero, objective.lam, objective.fit_intercept,
    )  # fmt: skip


def lower_bound_at(objective: Objective, Z: Array) -> float:
    """Return the dual value of the best answer to the margins Z, or zero where that is larger.

    F is not below it for any prototypes that assign the positives as those of Z do.
    """
    top, sign, weight = Z.max(axis=0), objective.sign, objective.weight
    A = np.zeros_like(Z)
    A[Z.argmax(axis=0), np.arange(len(top))] = -sign * expit(-sign * top)
    if objective.fit_intercept:
        A = _kernels.balance(sign, weight, A)
    g = objective.data.pull_back((weight * A).T)
    value = _kernels.entropy(weight, A) - conjugate(g, objective.n_nonzero, objective.lam)
    return max(value, 0.0)


@dataclass(frozen=True)
class RelaxedSolution:
    """The best bounds met, with (W, b, eps) of the upper one and the dual answer A of the lower."""

    W: Array
    b: Array
    eps: Array
    A: Array
    upper: float
    lower: float
    n_iter: int
    converged: bool = False

    @property
    def gap(self) -> float:
        """Return the distance of the bounds, relative to the upper one."""
        return (self.upper - self.lower) / max(abs(self.upper), np.finfo(float).tiny)


def certify(
    problem: Relaxation, W: Array, b: Array, A: Tensor, *, n_iter: int, tol: float,
    best: RelaxedSolution | None = None,
) -> RelaxedSolution:  # fmt: skip
    """Return the solution with the better bounds: those of (W, b) and of A, or those of `best`."""
    upper, lower, A = problem.upper(W, b), problem.lower(A), problem.kernels.to_numpy(A)
    if best is not None and best.upper <= upper:
        W, b, upper = best.W, best.b, best.upper
    if best is not None and best.lower >= lower:
        A, lower = best.A, best.lower
    eps = _kernels.k_support_shares(W, problem.n_nonzero, 0.0)
    solution = RelaxedSolution(W, b, eps, A, float(upper), float(lower), n_iter)
    return replace(solution, converged=bool(solution.gap <= tol))


def solve_fista(
    problem: Relaxation, *, start: RelaxedSolution | None = None, max_iter: int = 1000,
    tol: float = 1e-3, callback: Callable | None = None,
) -> RelaxedSolution:  # fmt: skip
    """Solve the relaxation by accelerated proximal gradient steps on the smoothed maximum.

    The prox of the squared k-support norm is exact. The step follows the curvature met between the
    last two points, so that an iteration is one pass over the data; the momentum restarts when it
    points uphill; the smoothing mu falls when it costs more than the rest of the duality gap.

    Parameters
    ----------
    problem : Relaxation
    start : RelaxedSolution or None
        Where to begin, for example the solution for another assignment.
    max_iter : int
        Most passes over the data, not counting those of the certificates.
    tol : float
        Stop when the certified gap, relative to the upper bound, is this small.
    callback : callable or None
        Called with the `RelaxedSolution` so far at each certificate; returning True stops.

    Returns
    -------
    RelaxedSolution
    """
    k, lam = problem.n_nonzero, problem.lam
    V = np.column_stack(problem.origin(start))  # coefficients, and intercepts in the last column
    Y, L, momentum, mu = V, FIRST_CURVATURE, 1.0, FIRST_MU
    _, _, G = problem.loss_pass(Y, mu)
    best, last_check, n_iter = None, 0, 0
    while True:
        n_iter += 1
        last_V, V = V, Y - G / L
        V[:, :-1] = _kernels.prox_k_support(V[:, :-1].copy(), k, lam / L)
        if np.vdot(Y - V, V - last_V) > 0:
            momentum = 1.0
        last_momentum, momentum = momentum, (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        last_Y, last_G = Y, G
        Y = V + (last_momentum - 1) / momentum * (V - last_V)
        loss, slack, G = problem.loss_pass(Y, mu)

        # |dG|^2 / (dG.dY) lies between the mean curvature along dY and the largest of all.
        dG = G - last_G
        along = np.vdot(dG, Y - last_Y)
        curvature = np.vdot(dG, dG) / along if along > 0 else 0.0
        L = max(CURVATURE_FACTOR * L, min(curvature, 2 * L))

        # Were c zero, the bounds here would differ by no more than these two.
        penalty = problem.penalty(Y[:, :-1])
        value = loss + penalty
        gap = penalty + np.sum(G[:, :-1] * Y[:, :-1]) + conjugate(G[:, :-1], k, lam)
        promising = gap + slack + np.abs(G[:, -1]).sum() <= tol * value
        waited = n_iter - last_check
        is_due = waited > (last_check // 20 if promising else 10 + last_check // 5)
        if is_due or n_iter == max_iter:
            W, b = V[:, :-1].copy(), V[:, -1].copy()
            A = problem.answer(W, b, mu)
            best = certify(problem, W, b, A, n_iter=n_iter, tol=tol, best=best)
            stopped = callback is not None and callback(best)
            if stopped or best.converged or n_iter == max_iter:
                return best
            last_check = n_iter
        if gap < slack / 2 and slack > tol / 3 * value:
            mu *= MU_FACTOR
            V, momentum = Y, 1.0
            _, _, G = problem.loss_pass(Y, mu)


@dataclass(frozen=True)
class _Saddle:
    """Phi as mirror-prox sees it: a field, a distance and the steps that belong to them.

    Points are (eps, b, A). The distance is v_eps |deps|^2 / 2 + v_b |db|^2 / 2 plus the relative
    entropy of the dual answers, the weights such that the three parts have equal ranges.
    """

    problem: Relaxation

    @property
    def scales(self):
        p, k = self.problem.n_prototypes, min(self.problem.n_nonzero, self.problem.XT.shape[0])
        return np.log(p + 1) / (p * k / 2), np.log(p + 1) / (4 * p)

    def field(self, eps, b, A):
        """Return W and (F_eps, F_b, z): Phi's derivatives by eps and b, and by s_i A_ij."""
        problem = self.problem
        g, c = problem.kernels.pull_back(problem.XT, problem.rows[1], A)
        W = -eps * g / problem.lam
        slope = c if problem.fit_intercept else np.zeros_like(c)
        return W, (-(g**2) / (2 * problem.lam), slope, problem.margins(W, b))

    def move(self, point, field, step):
        """Return the prox step from a point; phi is part of the prox, not of the field."""
        (eps, b, A), (F_eps, F_b, z), (v_eps, v_b) = point, field, self.scales
        sign, _, assignment = self.problem.rows
        return (
            _kernels.project_capped_simplex(eps - step / v_eps * F_eps, self.problem.n_nonzero),
            np.clip(b - step / v_b * F_b, -LARGEST_INTERCEPT, LARGEST_INTERCEPT),
            self.problem.kernels.entropic_step(A, z, sign, assignment, step),
        )

    def is_safe(self, point, middle, field, new, step):
        """Check step (<F(z'), z' - z+> + phi(z') - phi(z+)) <= V(z+, z), what the proof needs."""
        kernels, (_, weight, _), (v_eps, v_b) = self.problem.kernels, self.problem.rows, self.scales
        F_eps, F_b, z = field
        gain = np.sum(F_eps * (middle[0] - new[0])) + F_b @ (middle[1] - new[1])
        gain -= float((z * (middle[2] - new[2])).sum(0) @ weight)
        gain += kernels.entropy(weight, new[2]) - kernels.entropy(weight, middle[2])
        distance = v_eps / 2 * np.sum((new[0] - point[0]) ** 2)
        distance += v_b / 2 * np.sum((new[1] - point[1]) ** 2)
        distance += kernels.relative_entropy(weight, new[2], point[2])
        return step * gain <= distance + ROUNDING


def solve_saddle(
    problem: Relaxation, *, start: RelaxedSolution | None = None, max_iter: int = 1000,
    tol: float = 1e-3, callback: Callable | None = None,
) -> RelaxedSolution:  # fmt: skip
    """Solve the relaxation by mirror-prox on the saddle function Phi, as the paper suggests.

    An iteration takes two passes over the data, and one more for each step refused. The gap of the
    iterates' averages, weighted by the steps, is of order 1 / n_iter.

    Parameters
    ----------
    problem, start, max_iter, tol, callback
        As in `solve_fista`; `max_iter` counts accepted steps.

    Returns
    -------
    RelaxedSolution
    """
    saddle = _Saddle(problem)
    W, b = problem.origin(start)
    A = problem.answer(W, b, FIRST_MU)
    share = min(1.0, problem.n_nonzero / W.shape[1])
    eps = np.full(W.shape, share) if start is None else start.eps
    point, length = (eps, b, A), problem.lam
    total, means = 0.0, (0 * W, 0 * b, 0 * A)
    best, last_check, n_iter = None, 0, 0
    while True:
        n_iter += 1
        _, field = saddle.field(*point)
        while True:
            middle = saddle.move(point, field, length)
            W, middle_field = saddle.field(*middle)
            new = saddle.move(point, middle_field, length)
            if saddle.is_safe(point, middle, middle_field, new, length):
                break
            length *= REFUSED_FACTOR
        total += length
        share = length / total
        last = W, *middle[1:]
        means = tuple(m + share * (x - m) for m, x in zip(means, last, strict=True))
        point = new
        length *= ACCEPTED_FACTOR
        if n_iter - last_check > last_check // 10 or n_iter == max_iter:
            # The averages have the guarantee; the last iterate is mostly the better of the two.
            best = certify(problem, *means, n_iter=n_iter, tol=tol, best=best)
            best = certify(problem, *last, n_iter=n_iter, tol=tol, best=best)
            stopped = callback is not None and callback(best)
            if stopped or best.converged or n_iter == max_iter:
                return best
            last_check = n_iter
