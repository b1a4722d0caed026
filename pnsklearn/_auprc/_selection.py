"""Choose the anchor and its strength by cross-validated average precision."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from scipy.linalg import LinAlgWarning
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold, check_cv

from pnsklearn._typing import Array, Matrix

C_GRID = tuple(float(C) for C in np.logspace(-4, 4, 9))
# From logistic regression's own ranking to almost no anchor.
ALPHA_GRID = (np.inf, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
# Below this many positives a fit warns, and tries the two strongest anchors only.
ENOUGH_POSITIVES = 10
# Rows times features squared up to which Newton's method beats L-BFGS for the anchor.
NEWTON_WORK = 2e7


def strengths(positive: Array, anchored: bool) -> tuple[float, ...]:
    """Return the values of alpha to choose from, the safest first."""
    # Without an anchor, an infinite alpha would leave nothing to fit.
    grid = ALPHA_GRID if anchored else ALPHA_GRID[1:]
    return grid[:2] if np.count_nonzero(positive) < ENOUGH_POSITIVES else grid


def make_splits(cv: Any, positive: Array, kept: Array) -> list[tuple[Array, Array]]:
    """Return the splits of the kept rows, which are empty where the data cannot be split.

    Parameters
    ----------
    cv : int, cross-validation generator, iterable or None
        Over all rows, also those that are not kept.
    positive : bool ndarray of shape (n_kept,)
    kept : bool ndarray of shape (n_rows,)

    Raises
    ------
    ValueError
        If no split of a generator or iterable has both classes on both sides.
    """
    if cv is None or isinstance(cv, Integral):
        folds = min(cv or 5, positive.sum(), (~positive).sum())
        # One positive cannot be split: the anchor alone is the answer.
        return list(StratifiedKFold(folds).split(positive, positive)) if folds > 1 else []
    everyone = np.zeros(kept.shape[0], dtype=bool)
    everyone[kept] = positive
    splits = check_cv(cv).split(everyone, everyone)
    usable = usable_splits(splits, kept, positive)
    if not usable:
        raise ValueError(
            "cv has no split with both classes on both sides; use cv=5 or a fixed alpha."
        )
    return usable


def usable_splits(splits: Iterable, kept: Array, positive: Array) -> list[tuple[Array, Array]]:
    """Return the splits over the kept rows that have both classes on both sides."""
    position = np.cumsum(kept) - 1
    mapped = [(position[train[kept[train]]], position[test[kept[test]]]) for train, test in splits]

    def has_both(side):
        return positive[side].any() and not positive[side].all()

    return [split for split in mapped if all(map(has_both, split))]


def logistic_path(X: Matrix, positive: Array, weight: Array, Cs: Sequence[float]) -> list[Array]:
    """Return the coefficients of logistic regressions at increasing C, each from the last."""
    small = X.shape[0] * X.shape[1] ** 2 <= NEWTON_WORK
    solver, tol = ("newton-cholesky", 1e-8) if small else ("lbfgs", 1e-4)
    model = LogisticRegression(solver=solver, tol=tol, max_iter=1000, warm_start=True)
    coefs = []
    with warnings.catch_warnings():
        # A candidate that did not converge (separable data at a large C) is judged as any other.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", LinAlgWarning)
        for C in Cs:
            model.set_params(C=C).fit(X, positive, sample_weight=weight)
            coefs.append(model.coef_[0].astype(np.float64))
    return coefs


def select(
    positive: Array,
    weight: Array,
    splits: list[tuple[Array, Array]],
    alphas: Sequence[float],
    *,
    anchors: Callable[[Array], list[Array]],
    solve: Callable[[Array, Array, float, Array], Array],
    scores: Callable[[Array, Array], Array],
) -> tuple[int, float]:
    """Return (index of the anchor, alpha) with the best mean average precision over the splits.

    The anchor is chosen first, for its own ranking; alpha then, at that anchor. On a tie the first
    candidate wins.

    Parameters
    ----------
    anchors : callable (train) -> list of parameter vectors, the same candidates each time
    solve : callable (train, anchor, alpha, start) -> parameter vector
    scores : callable (parameter vector, test) -> scores of the rows `test`
    """

    def precision_of(theta, test):
        # Rounded, so that rounding errors decide nothing: weights are to equal repetitions.
        values = scores(theta, test)
        values = np.round(values / (np.abs(values).max() or 1.0), 9)
        return average_precision_score(positive[test], values, sample_weight=weight[test])

    def mean_precision(thetas):
        pairs = zip(splits, thetas, strict=True)
        values = [precision_of(theta, test) for (_, test), theta in pairs]
        return round(float(np.mean(values)), 9)

    candidates = list(zip(*[anchors(train) for train, _ in splits], strict=True))
    best = int(np.argmax([mean_precision(thetas) for thetas in candidates]))
    chosen = starts = candidates[best]
    precision = []
    for alpha in alphas:
        folds = zip(splits, chosen, starts, strict=True)
        starts = [solve(train, anchor, alpha, start) for (train, _), anchor, start in folds]
        precision.append(mean_precision(starts))
    return best, alphas[int(np.argmax(precision))]
