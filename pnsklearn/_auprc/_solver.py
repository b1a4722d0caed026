"""Maximise the average precision surrogate: the objective and its two families of solvers.

The objective over the parameters theta of a model with scores s(theta) is

    J(theta) = F(s(theta)) + alpha ||theta - anchor||^2 / ||anchor||^2,

F = 1 - (surrogate average precision), see `_kernels`. Without an anchor the penalty is
alpha ||theta||^2.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import issparse

from pnsklearn._auprc._soap import soap_epochs

# The smooth step's half width and the hinge's margin, in standard deviations of the scores.
DEFAULT_MARGIN = {"smooth": 0.5, "squared_hinge": 1.0}
SMALLEST_MARGIN, LARGEST_MARGIN = 1e-3, 1e6


def loss_terms(loss, margin):
    """Write a loss as squared hinges: (margins, coefs, what l(0) lacks to one own pair)."""
    if loss == "squared_hinge":
        return np.array([margin]), np.array([1.0]), 0.0
    return np.array([margin, 0.0, -margin]), np.array([1.0, -2.0, 1.0]) / (2 * margin**2), 0.5


def weighted_std(scores, weight):
    """Return the weighted standard deviation of the scores, in a numerically safe two passes."""
    mean = np.average(scores, weights=weight)
    return np.sqrt(np.average((scores - mean) ** 2, weights=weight))


def margin_in_units(loss, margin, unit):
    """Resolve `margin` ("auto" or a number of units) to score units; from 1e-3 to 1e6 units."""
    if margin == "auto":
        margin = DEFAULT_MARGIN[loss]
    return min(max(margin, SMALLEST_MARGIN), LARGEST_MARGIN) * (unit if unit > 0 else 1.0)


def weight_of_equal_rows(X, weight):
    """Return, for each row of X, the summed weight of the rows equal to it.

    Equal rows have equal scores whatever the model. They count in full among their own pairs, as
    in `average_precision_score`, which makes a weight the same as a repetition.
    """
    if issparse(X):
        bounds = zip(X.indptr[:-1], X.indptr[1:], strict=True)
        rows = [X.indices[a:b].tobytes() + X.data[a:b].tobytes() for a, b in bounds]
        numbers = {}
        inverse = np.array([numbers.setdefault(row, len(numbers)) for row in rows])
    else:
        rows = np.ascontiguousarray(X).reshape(X.shape[0], -1)
        rows = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
        inverse = np.unique(rows, return_inverse=True)[1]
    return np.bincount(inverse, weights=weight)[inverse]


def inner_weights(positive, weight, prior):
    """Scale the positives' weights so that their share is `prior`; None leaves them."""
    if prior is None:
        return weight
    n_positive, total = weight[positive].sum(), weight.sum()
    factor = prior / (1 - prior) * (total - n_positive) / n_positive
    return np.where(positive, weight * factor, weight)


@dataclass(frozen=True)
class LinearModel:
    """Scores X @ theta. `kernels` decides where they are computed."""

    kernels: object
    X: object
    is_linear = True

    @property
    def dtype(self):
        return np.float32 if "float32" in str(self.X.dtype) else np.float64

    def scores(self, theta):
        return self.kernels.linear_scores(self.X, theta)

    def pull_back(self, theta, slope):
        """Return the gradient in theta of a function whose gradient in the scores is `slope`."""
        return self.kernels.linear_pull_back(self.X, slope)


@dataclass(frozen=True)
class Problem:
    """The objective J of one data set; all arrays live where `kernels` computes."""

    kernels: object
    model: object
    positive: object
    weight: object
    outer: object
    own: object
    margins: object
    coefs: object
    anchor: np.ndarray | None
    alpha: float

    @property
    def scale(self):
        norm = 0.0 if self.anchor is None else np.linalg.norm(self.anchor)
        return norm if norm > 0 else 1.0

    def penalty(self, theta):
        shift = (theta if self.anchor is None else theta - self.anchor) / self.scale
        return self.alpha * shift @ shift, 2 * self.alpha * shift / self.scale

    def evaluate(self, theta):
        return self.kernels.surrogate(
            self.model.scores(theta), self.positive, self.weight, self.outer, self.own,
            self.margins, self.coefs,
        )  # fmt: skip

    def value_and_gradient(self, theta):
        state = self.evaluate(theta)
        penalty, slope = self.penalty(theta)
        gradient = self.model.pull_back(theta, self.kernels.gradient(state))
        return state.value + penalty, gradient + slope

    def hessian_product(self, theta):
        """Return the function v -> (Hessian of J at theta) v."""
        state = self.evaluate(theta)
        curvature = 2 * self.alpha / self.scale**2

        def product(v):
            slope = self.kernels.hessian_product(state, self.model.scores(v))
            return self.model.pull_back(theta, slope) + curvature * v

        return product


def make_problem(kernels, model, positive, weight, *, loss, margin, prior, equal_weight, anchor,
                 alpha, device):  # fmt: skip
    """Assemble a Problem; `margin` in score units, `equal_weight` from `weight_of_equal_rows`."""
    margins, coefs, own = loss_terms(loss, margin)
    inner = inner_weights(positive, weight, prior)
    factor = inner[positive] / weight[positive]
    arrays = (
        positive, inner, weight[positive] / weight[positive].sum(), own * equal_weight * factor,
        margins, coefs,
    )  # fmt: skip
    arrays = [kernels.as_array(array, device) for array in arrays]
    return Problem(kernels, model, *arrays, anchor, alpha)


@dataclass(frozen=True)
class Solution:
    """What a solver found."""

    theta: np.ndarray
    surrogate: float
    objective: float
    n_iter: int
    converged: bool


def solve_exact(problem, theta, *, solver, tol, max_iter, on_iteration=None):
    """Minimise J with SciPy's L-BFGS or trust-region Newton method.

    `tol` bounds the gradient in u = theta / ||anchor||. `on_iteration(theta)` returns True to stop.
    """
    scale = problem.scale

    def value_and_gradient(u):
        value, gradient = problem.value_and_gradient(u * scale)
        return value, gradient * scale

    # SciPy asks for products one at a time, at one point after the other.
    last = {}

    def hessian_product(u, v):
        if not np.array_equal(u, last.get("u")):
            last.update(u=u.copy(), product=problem.hessian_product(u * scale))
        return last["product"](v * scale) * scale

    def callback(intermediate_result):
        if on_iteration is not None and on_iteration(intermediate_result.x * scale):
            raise StopIteration

    if solver == "trust-ncg":
        options = {"method": "trust-ncg", "hessp": hessian_product}
        limits = {"gtol": tol, "maxiter": max_iter}
    else:
        options = {"method": "L-BFGS-B"}
        limits = {"gtol": tol, "ftol": 0.0, "maxiter": max_iter, "maxls": 50}
    result = minimize(
        value_and_gradient, theta / scale, jac=True, callback=callback, options=limits, **options
    )
    theta = result.x * scale
    value = float(result.fun) - problem.penalty(theta)[0]
    # A line search that ends before max_iter has met rounding error: nothing more to gain.
    converged = result.nit < max_iter
    return Solution(theta, 1 - value, float(result.fun), result.nit, converged)


def solve_soap(problem, theta, *, on_iteration=None, **settings):
    """Minimise J with SOAP (Qi et al. 2021, algorithm 1); the last iterate is the solution.

    The settings are those of `_soap.soap_epochs`.
    """
    if problem.model.is_linear:
        epochs = soap_epochs(problem, theta, **settings)
    else:
        from pnsklearn._auprc._module import module_soap_epochs

        epochs = module_soap_epochs(problem, theta, **settings)
    for n_iter, theta in enumerate(epochs, start=1):  # noqa: B007
        if on_iteration is not None and on_iteration(theta):
            break
    value = problem.evaluate(theta).value
    return Solution(theta, 1 - value, value + problem.penalty(theta)[0], n_iter, True)
