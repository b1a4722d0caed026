"""Choose the anchor and its strength by cross-validated average precision."""

import warnings

import numpy as np
from scipy.linalg import LinAlgWarning
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

C_GRID = tuple(float(C) for C in np.logspace(-4, 4, 9))
# From logistic regression's own ranking to almost no anchor.
ALPHA_GRID = (np.inf, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
# Rows times features squared up to which Newton's method beats L-BFGS for the anchor.
NEWTON_WORK = 2e7


def logistic_path(X, positive, weight, Cs):
    """Return the coefficients of logistic regressions at increasing C, each from the last."""
    small = X.shape[0] * X.shape[1] ** 2 <= NEWTON_WORK
    model = LogisticRegression(
        solver="newton-cholesky" if small else "lbfgs",
        tol=1e-8 if small else 1e-4,
        max_iter=1000,
        warm_start=True,
    )
    coefs = []
    with warnings.catch_warnings():
        # A candidate that did not converge (separable data at a large C) is judged as any other.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", LinAlgWarning)
        for C in Cs:
            model.set_params(C=C).fit(X, positive, sample_weight=weight)
            coefs.append(model.coef_[0].astype(np.float64))
    return coefs


def select(positive, weight, splits, *, alphas, fit_anchors, solve, scores):
    """Return (index of the anchor, alpha) with the best mean average precision over the splits.

    The anchor is chosen first, for its own ranking; alpha then, at that anchor. On a tie the first
    candidate wins.

    Parameters
    ----------
    fit_anchors : callable (train) -> list of parameter vectors, the same candidates each time
    solve : callable (train, anchor, alpha, start) -> parameter vector
    scores : callable (parameter vector, test) -> scores of the rows `test`
    """

    def precision_of(theta, test):
        # Rounded, so that rounding errors decide nothing: weights are to equal repetitions.
        values = scores(theta, test)
        values = np.round(values / (np.abs(values).max() or 1.0), 9)
        return average_precision_score(positive[test], values, sample_weight=weight[test])

    def mean_precision(thetas):
        values = [
            precision_of(theta, test) for (_, test), theta in zip(splits, thetas, strict=True)
        ]
        return round(float(np.mean(values)), 9)

    candidates = list(zip(*[fit_anchors(train) for train, _ in splits], strict=True))
    best = int(np.argmax([mean_precision(thetas) for thetas in candidates]))
    anchors = thetas = candidates[best]
    precision = []
    for alpha in alphas:
        thetas = [
            solve(train, anchor, alpha, theta)
            for (train, _), anchor, theta in zip(splits, anchors, thetas, strict=True)
        ]
        precision.append(mean_precision(thetas))
    return best, alphas[int(np.argmax(precision))]
