"""What the penalty pulls the weights of a linear model to: logistic regression, or the average.

Logistic regression ranks well and costs little. Where the features are scores of other models,
weights below zero make no sense, and with few positives the equal average is hard to beat.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.linalg import LinAlgWarning
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from pnsklearn._typing import Array, Matrix

# Rows times features squared up to which Newton's method beats L-BFGS for logistic regression.
NEWTON_WORK = 2e7
# Positives at which "shrunk" is half way from the average to logistic regression.
HALF_WAY = 30


def check_anchor(anchor: Any, n_features: int, nonnegative: bool) -> None:
    """Raise ValueError if given weights are no anchor for X."""
    anchor = np.asarray(anchor)
    is_numeric = anchor.dtype.kind in "biuf" and np.isfinite(anchor).all()
    if not is_numeric or anchor.shape != (n_features,):
        raise ValueError(
            f"anchor must have one finite number for each of the {n_features} features of X; got "
            f"{anchor.dtype} of shape {anchor.shape}."
        )
    if nonnegative and anchor.min() < 0:
        raise ValueError("anchor has weights below zero, which positive=True does not allow.")


def make_anchors(
    X: Matrix,
    positive: Array,
    weight: Array,
    Cs: Sequence[float],
    *,
    anchor: str | Array,
    nonnegative: bool,
) -> list[Array]:
    """Return the anchors to choose from, one for each C if they depend on it.

    Parameters
    ----------
    anchor : {"logistic", "zero", "average", "shrunk"} or ndarray of shape (n_features,)
        "shrunk" is l a + (1 - l) e, with a the logistic regression scaled to a sum of absolute
        weights of one, e the equal weights of that sum, and l = n+ / (n+ + 30).
    nonnegative : bool
        Whether the weights of the logistic regression are bounded below by zero.
    """
    if not isinstance(anchor, str):
        return [np.asarray(anchor, dtype=np.float64)]
    n_features = X.shape[1]
    average = np.full(n_features, 1 / n_features)
    if anchor in ("zero", "average"):
        return [average if anchor == "average" else np.zeros(n_features)]
    path = (nonnegative_path if nonnegative else logistic_path)(X, positive, weight, Cs)
    if anchor == "logistic":
        return path
    n_positive = weight[positive].sum()
    trust = n_positive / (n_positive + HALF_WAY)
    sizes = [np.abs(coef).sum() for coef in path]
    return [
        trust * coef / size + (1 - trust) * average if size > 0 else average
        for coef, size in zip(path, sizes, strict=True)
    ]


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


def nonnegative_path(X: Matrix, positive: Array, weight: Array, Cs: Sequence[float]) -> list[Array]:
    """Return the same with coefficients of at least zero, which minimise, over w >= 0 and b,

    sum_j weight_j log(1 + exp(-t_j (x_j w + b))) + ||w||^2 / (2 C),    t_j = 1 or -1.
    """
    sign, total = np.where(positive, 1.0, -1.0), weight.sum()

    def loss(theta, C):
        w = theta[:-1]
        z = sign * (X @ w + theta[-1])
        residual = -weight * sign * expit(-z) / total
        value = weight @ np.logaddexp(0.0, -z) / total + w @ w / (2 * C * total)
        return value, np.append(X.T @ residual + w / (C * total), residual.sum())

    bounds = [(0.0, None)] * X.shape[1] + [(None, None)]
    share = weight[positive].sum() / total
    theta = np.append(np.zeros(X.shape[1]), np.log(share / (1 - share)))
    coefs = []
    for C in Cs:
        settings = {"gtol": 1e-6, "ftol": 0.0, "maxiter": 1000}
        result = minimize(
            loss, theta, args=(C,), jac=True, method="L-BFGS-B", bounds=bounds, options=settings
        )
        theta = result.x
        coefs.append(theta[:-1].copy())
    return coefs
