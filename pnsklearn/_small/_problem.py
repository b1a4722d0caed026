"""The objective, its data, and the pieces that the solvers make their way with.

With z_j = w_j.x + b_j, the weights s_i of sum one and y_i = +1 for the class that is the union,

    F(W, b) = sum_i s_i log(1 + exp(-y_i max_j z_ij)) + (lam / 2) sum_j ||w_j||^2,   ||w_j||_0 <= k.

Everything here is in standardised units.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import issparse
from scipy.special import expit

from pnsklearn._small import _kernels
from pnsklearn._small._data import Data
from pnsklearn._small._relaxation import Relaxation, conjugate
from pnsklearn._small._search import improve

N_TRIED = 4  # features tried in the place of one
EXCHANGE_TOL = 1e-4  # least relative gain of an exchange
REFIT_TOL = 1e-9  # least relative gain of a sweep without exchanges


@dataclass(frozen=True)
class Problem:
    """F where the class of index `union` is the union; `weight` sums to one."""

    union: int
    data: Data
    sign: np.ndarray
    weight: np.ndarray
    n_prototypes: int
    n_nonzero: int
    lam: float
    fit_intercept: bool

    def margins(self, coef, intercept):
        """Return z of shape (n_prototypes, n_rows)."""
        used = np.flatnonzero(coef.any(axis=0))
        return coef[:, used] @ self.data.columns(used) + intercept[:, np.newaxis]

    def without_idle(self, coef, intercept):
        """Return the prototypes that are the largest for some row, those that fire often first."""
        Z = self.margins(coef, intercept)
        busy = np.unique(Z.argmax(axis=0))
        order = busy[np.argsort(-((Z[busy] > 0) @ self.weight), kind="stable")]
        return coef[order], intercept[order]

    def bounded(self, solution):
        """Return the solution with F, and the lower bound that its own dual answer gives."""
        Z = self.margins(solution.coef, solution.intercept)
        top, assignment = Z.max(axis=0), Z.argmax(axis=0)
        objective = self.weight @ np.logaddexp(0, -self.sign * top)
        objective += self.lam / 2 * np.sum(solution.coef**2)
        A = np.zeros_like(Z)
        A[assignment, np.arange(len(top))] = -self.sign * expit(-self.sign * top)
        if self.fit_intercept:
            A = _kernels.balance(self.sign, self.weight, A)
        g = self.data.pull_back((self.weight * A).T)
        lower = _kernels.entropy(self.weight, A) - conjugate(g, self.n_nonzero, self.lam)
        return replace(solution, objective=objective, lower_bound=max(lower, 0.0))

    def table(self, features=None, rows=slice(None)):
        """Return the features as rows of an array; each class keeps its weight among the rows."""
        sign, weight = self.sign[rows], self.weight[rows].copy()
        for side in (-1, 1):
            weight[sign == side] *= (
                self.weight[self.sign == side].sum() / weight[sign == side].sum()
            )
        return Table(self.data.columns(features, rows), sign, weight, self)

    def scaled(self):
        """Return all standardised features as rows; a sparse X stays sparse."""
        if issparse(self.data.X):
            return self.data.X.multiply(1 / self.data.scale).T.tocsr().astype(self.data.X.dtype)
        return self.data.columns()

    def relaxation(self, XT, sign, weight, assignment, kernels, device):
        """Return the convex relaxation with these positives' prototypes."""
        return Relaxation(
            kernels, kernels.as_array(XT, device), sign, weight, assignment,
            self.n_prototypes, self.n_nonzero, self.lam, self.fit_intercept,
        )  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Some rows and features of a problem, features as rows of `XT`."""

    XT: np.ndarray
    sign: np.ndarray
    weight: np.ndarray
    problem: Problem

    @property
    def bias_ridge(self):
        """Infinite, but for the arithmetic, where there is no intercept."""
        return 0.0 if self.problem.fit_intercept else 1e30

    def objective(self, coef, intercept):
        """Return F(W, b) on the rows of the table."""
        used = np.flatnonzero(coef.any(axis=0))
        top = (coef[:, used] @ self.XT[used] + intercept[:, np.newaxis]).max(axis=0)
        loss = self.weight @ np.logaddexp(0, -self.sign * top)
        return loss + self.problem.lam / 2 * np.sum(coef**2)

    def grown(self, assignment, mu):
        """Return a prototype per group of positives, each fitted to its group greedily."""
        p = self.problem
        coef, intercept = np.zeros((p.n_prototypes, len(self.XT))), np.zeros(p.n_prototypes)
        for j in range(p.n_prototypes):
            weight = np.where((self.sign > 0) & (assignment != j), 0.0, self.weight)
            if p.n_nonzero >= len(self.XT):
                coef[j, self.XT.any(axis=1)] = 1e-9  # nothing is to be selected
            # One sweep over empty slots is a forward selection.
            improve(
                self.XT, self.sign, weight, coef[j : j + 1], intercept[j : j + 1], p.n_nonzero,
                p.lam, self.bias_ridge, mu, 1, 1, EXCHANGE_TOL,
            )  # fmt: skip
        return coef, intercept

    def improved(self, coef, intercept, schedule, *, max_sweeps, n_tried=N_TRIED):
        """Return (F, coef, intercept, sweeps): the best F met while mu falls along `schedule`."""
        coef, intercept = coef.copy(), intercept.copy()
        if not self.problem.fit_intercept:
            intercept[:] = 0.0  # the ridge leaves some 1e-30
        best, sweeps = (self.objective(coef, intercept), coef.copy(), intercept.copy()), 0
        for mu in schedule:
            sweeps += improve(
                self.XT, self.sign, self.weight, coef, intercept, self.problem.n_nonzero,
                self.problem.lam, self.bias_ridge, mu, n_tried, max_sweeps,
                EXCHANGE_TOL if n_tried else REFIT_TOL,
            )  # fmt: skip
            if not self.problem.fit_intercept:
                intercept[:] = 0.0
            value = self.objective(coef, intercept)
            if value < best[0]:
                best = value, coef.copy(), intercept.copy()
        return *best, sweeps


@dataclass(frozen=True)
class Solution:
    """Prototypes in standardised units; `lower_bound` holds for their assignment of the rows."""

    coef: np.ndarray
    intercept: np.ndarray
    objective: float
    n_iter: int
    lower_bound: float = 0.0
    converged: bool = True

    @property
    def gap(self):
        """The distance of the lower bound, relative to the objective."""
        return (self.objective - self.lower_bound) / self.objective
