"""Parts of the package that are timed on their own: the only private imports of the benchmarks."""

import numpy as np
from pnsklearn._pu_trend._scores import TRENDS, trend_scores
from sklearn.dummy import DummyClassifier

from pnsklearn import PUTrendClassifier
from pnsklearn._auprc import _kernels as auprc_kernels
from pnsklearn._auprc._solver import loss_terms
from pnsklearn._pu_trend._split import natural_break
from pnsklearn._small import _kernels as small_kernels
from pnsklearn._small._relaxation import Relaxation, solve_fista, solve_saddle
from pnsklearn._topr import _kernels as topr_kernels

RELAXATIONS = {"fista": solve_fista, "saddle": solve_saddle}
__all__ = ["RELAXATIONS", "TRENDS", "natural_break"]


def average_precision(scores, y, loss, margin):
    """Return value and gradient of the surrogate, without checks, weights and ties."""
    positive, weight = y == 1, np.ones(len(y))
    margins, coefs, own = loss_terms(loss, margin * scores.std())
    n_positive = np.count_nonzero(positive)
    outer, own = np.full(n_positive, 1 / n_positive), np.full(n_positive, own)
    state = auprc_kernels.surrogate(scores, positive, weight, outer, own, margins, coefs)
    return state.value, auprc_kernels.gradient(state)


def relaxation_of(X, y, rule, k, lam):
    """Return the convex relaxation of SMaLL, standardised, with the largest rule of each row."""
    n, p = len(y), rule.max() + 1
    XT = np.ascontiguousarray(((X - X.mean(axis=0)) / X.std(axis=0)).T)
    sign, weight = np.where(y == 1, 1.0, -1.0), np.full(n, 1 / n)
    return Relaxation(small_kernels, XT, sign, weight, rule, p, k, lam, True)


def solve_by_cvxpy(problem):
    """Return cvxpy's solution of the relaxation."""
    from pnsklearn._small._reference import solve_reference

    return solve_reference(problem)


def small_pass(XT, y, rule, W):
    """Return a function of value and gradient of the smoothed loss of SMaLL."""
    sign, weight = np.where(y == 1, 1.0, -1.0), np.full(len(y), 1 / len(y))
    b = np.zeros(len(W))
    return lambda: small_kernels.loss_pass(XT, sign, weight, rule, W, b, 0.1)


def topr_gradient(X, log, W):
    """Return value and gradient of TOPR's objective on a log."""
    bounds, b = np.array([1.0, 1.0, 0.0, 1.0]), np.zeros(len(W))
    columns = log.action.astype(np.int64), np.log(log.propensity), log.reward
    return topr_kernels.value_and_gradient(X, *columns, bounds, W, b)


def topr_block(X):
    """Return the number of rows in a block of that gradient."""
    return next(iter(topr_kernels._blocks(X))).stop


def second_stage(network, X, y, random_state, transform):
    """Return a network trained as in PUTrendClassifier's second stage, on labels all true."""
    from pnsklearn._pu_trend._module import fit_module
    from pnsklearn._pu_trend._networks import Plan

    plan = Plan(1, 1, 1, 64, 0.03, 0.0, 0.995)
    everything = np.ones(len(y)), np.zeros(len(y), dtype=bool)
    target, rng = np.asarray(y, dtype=np.float64), np.random.RandomState(random_state)
    return fit_module(network, X, target, *everything, plan, rng, weak_transform=transform)


def trends_in_U(X, s, prior, seed, *, early_stopping, **settings):
    """Return the six trend scores of the unlabelled rows by the first stage, and its snapshots."""
    model = PUTrendClassifier(
        trend="mean", class_prior=prior, pseudo_labels="hard", final_estimator=DummyClassifier(),
        store_history=True, early_stopping=early_stopping, random_state=seed, **settings,
    )  # fmt: skip
    history = model.fit(X, s).score_history_
    return {kind: trend_scores(history, kind) for kind in TRENDS}, len(history)
