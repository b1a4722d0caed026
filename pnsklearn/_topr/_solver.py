"""Maximise the off-policy objective: L-BFGS on all rows, or Adam on batches of them.

Over the weights W and biases b of the logits, with the objective J of `_kernels`,

    minimise  ||W||^2 / 2 - C J(W, b),

divided by C times the sum of all |R|, which is the form whose gradient `tol` bounds. With gains of
one and the bounds [1, 1] this is multinomial logistic regression.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

NEAR = 100  # times tol
GOOD_ONLY = np.array([1.0, 1.0, 0.0, 0.0])  # bounds of good and of bad decisions
ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Log:
    """Logged decisions; all arrays live where `kernels` computes."""

    kernels: object
    X: object
    action: object
    log_behavior: object
    gain: object
    bounds: object
    total: float  # sum of |R|
    device: str

    @classmethod
    def make(cls, kernels, X, action, log_behavior, gain, bounds, device):
        """Move arrays to the device."""
        total = float(np.abs(gain).sum())
        arrays = (X, action, log_behavior, gain, np.array(bounds, dtype=np.float64))
        arrays = (kernels.as_array(array, device) for array in arrays)
        return cls(kernels, *arrays, total, device)

    def rows(self, rows):
        """Return some rows, each standing for as many as there are."""
        names = ("X", "action", "log_behavior", "gain")
        share = len(rows) / self.X.shape[0]
        return replace(
            self, total=self.total * share, **{name: getattr(self, name)[rows] for name in names}
        )


@dataclass(frozen=True)
class Linear:
    """Shape and penalty of a linear policy, whose parameters are one flat array theta."""

    n_logits: int
    n_features: int
    fit_intercept: bool
    C: float

    @property
    def zeros(self):
        """The parameters of the uniform policy."""
        return np.zeros(self.n_logits * (self.n_features + self.fit_intercept))

    def unpack(self, theta):
        """Return W of shape (n_logits, n_features) and b of shape (n_logits,)."""
        W, b = np.split(theta, [self.n_logits * self.n_features])
        W = W.reshape(self.n_logits, self.n_features)
        return W, b if self.fit_intercept else np.zeros(self.n_logits)

    def pack(self, W, b):
        """Return the parameters of weights and biases."""
        parts = (W, b) if self.fit_intercept else (W,)
        return np.concatenate([np.ravel(part) for part in parts]).astype(np.float64)

    def attributes(self, theta, dtype):
        """Return the fitted attributes."""
        W, b = self.unpack(theta)
        return {"coef_": W.astype(dtype), "intercept_": b.astype(dtype)}

    def value_and_gradient(self, theta, log, total):
        """Return the objective and its gradient, with the penalty's share of `total`."""
        W, b = self.unpack(theta)
        value, grad_W, grad_b = log.kernels.value_and_gradient(
            log.X, log.action, log.log_behavior, log.gain, log.bounds, W, b
        )
        strength = 1 / (self.C * total)
        gradient = grad_W.ravel() / log.total + strength * W.ravel()
        if self.fit_intercept:
            gradient = np.append(gradient, grad_b / log.total)
        return value / log.total + strength / 2 * np.sum(W**2), gradient


@dataclass(frozen=True)
class Solution:
    """What a solver found."""

    theta: np.ndarray
    n_iter: int
    gradient: float  # its largest entry, if the solver looks at it
    converged: bool
    stopped: bool  # by the callback


def one_blas_thread():
    """Return a context in which products use one thread: those of a block gain nothing from more.

    On two threads a fit was measured to take up to 25 times as long.
    """
    return threadpool_limits(1, user_api="blas")


def solve_lbfgs(linear, log, theta, *, tol, max_iter, on_iteration):
    """Minimise with SciPy's L-BFGS until no entry of the gradient is larger than `tol`.

    `on_iteration(theta)` returns True to stop.
    """
    stopped = []

    def callback(intermediate_result):
        if on_iteration(intermediate_result.x):
            stopped.append(True)
            raise StopIteration

    # As in scikit-learn's LogisticRegression.
    limits = {"gtol": tol, "ftol": 64 * np.finfo(float).eps, "maxiter": max_iter, "maxls": 50}
    with one_blas_thread():
        result = minimize(
            linear.value_and_gradient, theta, (log, log.total), "L-BFGS-B", jac=True,
            callback=callback, options=limits,
        )  # fmt: skip
    gradient = float(np.abs(result.jac).max())
    # A line search that ends near the optimum has met rounding error: nothing more to gain.
    near = result.nit < max_iter and gradient <= NEAR * tol
    return Solution(result.x, result.nit, gradient, result.success or near, bool(stopped))


def solve_from_two(linear, log, theta, **how):
    """Return the better of two solutions of `solve_lbfgs`: from `theta`, and from a convex problem.

    Where the ratio of good decisions counts, a policy that hardly takes them is near a stationary
    point, and there are many. Good decisions alone, with a ratio of one, are a convex problem whose
    solution takes them all.
    """
    convex = replace(log, bounds=log.kernels.as_array(GOOD_ONLY, log.device))
    first = solve_lbfgs(linear, log, theta, **how)
    if first.stopped:
        return first
    imitation = solve_lbfgs(linear, convex, theta, **how)
    if imitation.stopped:
        return imitation
    second = solve_lbfgs(linear, log, imitation.theta, **how)
    return min(
        (first, second), key=lambda found: linear.value_and_gradient(found.theta, log, log.total)[0]
    )


class Adam:
    """Adam's moving averages of the gradient and of its square, for one flat array."""

    def __init__(self, size):
        self.mean, self.square, self.n_steps = np.zeros(size), np.zeros(size), 0

    def step(self, theta, gradient, rate):
        """Return theta after a step."""
        self.n_steps += 1
        self.mean = ADAM_BETA1 * self.mean + (1 - ADAM_BETA1) * gradient
        self.square = ADAM_BETA2 * self.square + (1 - ADAM_BETA2) * gradient**2
        mean = self.mean / (1 - ADAM_BETA1**self.n_steps)
        square = self.square / (1 - ADAM_BETA2**self.n_steps)
        return theta - rate * mean / (np.sqrt(square) + ADAM_EPSILON)


def batches(n_rows, batch_size, rng):
    """Return a shuffled division of the rows into batches of nearly equal size."""
    return np.array_split(rng.permutation(n_rows), -(-n_rows // batch_size))


def adam_pass(linear, log, theta, adam, rates, total, batch_size, rng):
    """Return theta after one pass of steps over the rows, at the next rates.

    The penalty is that of a log whose |R| add up to `total`.
    """
    with one_blas_thread():
        for rows in batches(log.X.shape[0], batch_size, rng):
            _, gradient = linear.value_and_gradient(theta, log.rows(rows), total)
            theta = adam.step(theta, gradient, next(rates))
    return theta


def cosine(rate, n_steps):
    """Yield rates that fall from `rate` to zero along half a cosine, over `n_steps`."""
    for step in range(n_steps):
        yield rate * 0.5 * (1 + np.cos(np.pi * step / n_steps))


def solve_adam(linear, log, theta, *, batch_size, learning_rate, n_epochs, rng, on_iteration):
    """Minimise with Adam on batches; `on_iteration(theta)`, once an epoch, returns True to stop."""
    adam = Adam(theta.shape[0])
    n_batches = -(-log.X.shape[0] // batch_size)
    rates = cosine(learning_rate, n_epochs * n_batches)
    for epoch in range(1, n_epochs + 1):  # noqa: B007
        theta = adam_pass(linear, log, theta, adam, rates, log.total, batch_size, rng)
        stopped = bool(on_iteration(theta))
        if stopped:
            break
    return Solution(theta, epoch, np.nan, True, stopped)
