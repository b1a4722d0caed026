"""Parts of the package that are timed on their own: the only private imports of the benchmarks."""

import warnings
from functools import partial

import numpy as np
from sklearn.dummy import DummyClassifier

from pnsklearn import PUTrendClassifier
from pnsklearn._auprc._calibration import platt
from pnsklearn._auprc._objective import Pairs, gradient, loss_terms, surrogate
from pnsklearn._pu_trend._breaks import natural_break
from pnsklearn._pu_trend._presets import Plan
from pnsklearn._pu_trend._sample import FinalRows
from pnsklearn._pu_trend._solver import solve
from pnsklearn._pu_trend._trend import TRENDS
from pnsklearn._rows import blocks
from pnsklearn._small import _kernels as small_kernels
from pnsklearn._small._relaxation import Relaxation, solve_fista, solve_saddle
from pnsklearn._topr._objective import Linear, PolicyObjective

RELAXATIONS = {"fista": solve_fista, "saddle": solve_saddle}
__all__ = ["RELAXATIONS", "TRENDS", "blocks", "natural_break", "platt"]


def average_precision(scores, y, loss, margin):
    """Return value and gradient of the surrogate, without checks, weights and ties."""
    positive, weight = y == 1, np.ones(len(y))
    margins, coefs, own = loss_terms(loss, margin * scores.std())
    n_positive = np.count_nonzero(positive)
    outer, own = np.full(n_positive, 1 / n_positive), np.full(n_positive, own)
    block, state = surrogate(scores, Pairs(positive, weight, outer, own, margins, coefs))
    return state.value, gradient(block, state)


def relaxation_of(X, y, rule, k, lam):
    """Return the convex relaxation of SMaLL, standardised, with the largest rule of each row."""
    n, p = len(y), rule.max() + 1
    XT = np.ascontiguousarray(((X - X.mean(axis=0)) / X.std(axis=0)).T)
    sign, weight = np.where(y == 1, 1.0, -1.0), np.full(n, 1 / n)
    return Relaxation(small_kernels, XT, sign, weight, rule, p, k, lam)


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
    """Return a function of value and gradient of TOPR's objective on a log."""
    columns = log.action.astype(np.int64), log.reward, np.log(log.propensity)
    bounds = (1.0, 1.0), (0.0, 1.0)
    objective = PolicyObjective.make(Linear(*W.shape, True), 1.0, (X, *columns), bounds)
    return partial(objective.loss, W, np.zeros(len(W)))


def second_stage(network, X, y, random_state, transform):
    """Return a network trained as in PUTrendClassifier's second stage, on labels all true."""
    from pnsklearn._pu_trend._module import fit_module

    plan = Plan(1, 1, 1, 64, 0.03, 0.995)
    rows = FinalRows(X, np.asarray(y, float), np.ones(len(y)), np.zeros(len(y), dtype=bool))
    rng = np.random.RandomState(random_state)
    return fit_module(network, transform, None, "cpu", rows, plan, rng).model


def trends_in_U(X, s, prior, seed, *, early_stopping, **settings):
    """Return the six trend scores of the unlabeled rows by the first stage, and its snapshots."""
    model = PUTrendClassifier(
        trend="pairwise",  # which keeps what the others need too
        split="prior" if early_stopping else "authors",
        class_prior=prior, pseudo_labels="hard", final_estimator=DummyClassifier(),
        random_state=seed, **settings,
    )  # fmt: skip
    labeled, weight, params = np.asarray(s) == 1, np.ones(len(s)), model.get_params(deep=False)
    del params["pos_label"]  # the labels are named already
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of trends that are inverted
        fitted = solve(X, labeled, weight, X, lambda learner: False, **params)
    stage = fitted.stage
    return {kind: stage.trends[1].scores(kind) for kind in TRENDS}, stage.last + 1
