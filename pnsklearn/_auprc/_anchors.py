"""What the penalty pulls the weights of a linear model to: logistic regression, or the average.

Logistic regression ranks well and costs little. Where the features are scores of other models,
weights below zero make no sense, and with few positives the equal average is hard to beat.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy.linalg import LinAlgWarning
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from pnsklearn._jit import njit
from pnsklearn._typing import Array, Matrix

# Rows times features squared up to which Newton's method beats L-BFGS for logistic regression.
NEWTON_WORK = 2e7
LBFGS_TOL = 1e-4
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
    path = partial(nonnegative_path if nonnegative else logistic_path, X, positive, weight, Cs)
    return anchors_of(anchor, X.shape[1], weight[positive].sum(), path)


def anchors_of(
    anchor: str | Array, n_features: int, n_positive: float, make_path: Callable[[], list[Array]]
) -> list[Array]:
    """Return these from what makes the logistic regressions, if they are needed.

    `n_positive` is the weight of the positives.
    """
    if not isinstance(anchor, str):
        return [np.asarray(anchor, dtype=np.float64)]
    average = np.full(n_features, 1 / n_features)
    if anchor in ("zero", "average"):
        return [average if anchor == "average" else np.zeros(n_features)]
    path = make_path()
    if anchor == "logistic":
        return path
    trust = n_positive / (n_positive + HALF_WAY)
    sizes = [np.abs(coef).sum() for coef in path]
    return [
        trust * coef / size + (1 - trust) * average if size > 0 else average
        for coef, size in zip(path, sizes, strict=True)
    ]


def is_small(n_rows: int, n_features: int) -> bool:
    """Say whether Newton's method is used for logistic regression."""
    return n_rows * n_features**2 <= NEWTON_WORK


def logistic_path(X: Matrix, positive: Array, weight: Array, Cs: Sequence[float]) -> list[Array]:
    """Return the coefficients of logistic regressions at increasing C, each from the last."""
    solver, tol = ("newton-cholesky", 1e-8) if is_small(*X.shape) else ("lbfgs", LBFGS_TOL)
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


def log_loss(X: Matrix, positive: Array, weight: Array, theta: Array) -> tuple[float, Array]:
    """Return sum_j weight_j log(1 + exp(-t_j (x_j w + b))), t_j = 1 or -1, and its gradient.

    `theta` holds w and b. The sums of blocks of rows add up.
    """
    loss, residual = _residuals(X @ theta[:-1] + theta[-1], positive, weight)
    return loss, np.append(X.T @ residual, residual.sum())


@njit
def _residuals(z, positive, weight):
    """Return the summed log loss at log-odds z, and its derivatives by them."""
    loss, residual = 0.0, np.empty(z.shape[0])
    for j in range(z.shape[0]):
        e = np.exp(-abs(z[j]))
        probability = 1.0 / (1.0 + e) if z[j] >= 0 else e / (1.0 + e)
        loss += weight[j] * (np.log1p(e) + max(z[j], 0.0) - (z[j] if positive[j] else 0.0))
        residual[j] = weight[j] * (probability - (1.0 if positive[j] else 0.0))
    return loss, residual


def nonnegative_path(X: Matrix, positive: Array, weight: Array, Cs: Sequence[float]) -> list[Array]:
    """Return the same with coefficients of at least zero."""
    total = weight.sum()
    loss, share = partial(log_loss, X, positive, weight), weight[positive].sum() / total
    return path_of_sums(loss, X.shape[1], total, Cs, share)


def path_of_sums(
    loss: Callable[[Array], tuple[float, Array]], n_features: int, total: float,
    Cs: Sequence[float], share: float | None = None,
) -> list[Array]:  # fmt: skip
    """Return coefficients along C that minimise, over w and b, `log_loss` + ||w||^2 / (2 C).

    `loss` is that of all rows, with a weight of `total`. If the `share` of the positives is given,
    no coefficient is below zero; if not, L-BFGS goes the way of scikit-learn's.
    """
    theta, bounds = np.zeros(n_features + 1), None
    settings = {"gtol": LBFGS_TOL, "ftol": 64 * np.finfo(float).eps, "maxiter": 1000, "maxls": 50}
    if share is not None:
        theta[-1] = np.log(share / (1 - share))
        bounds = [(0.0, None)] * n_features + [(None, None)]
        settings = {"gtol": 1e-6, "ftol": 0.0, "maxiter": 1000}

    def penalised(theta, C):
        w = theta[:-1]
        value, gradient = loss(theta)
        gradient = gradient / total
        gradient[:-1] += w / (C * total)
        return value / total + w @ w / (2 * C * total), gradient

    coefs = []
    for C in Cs:
        theta = minimize(
            penalised, theta, args=(C,), jac=True, method="L-BFGS-B", bounds=bounds,
            options=settings,
        ).x  # fmt: skip
        coefs.append(theta[:-1].copy())
    return coefs
