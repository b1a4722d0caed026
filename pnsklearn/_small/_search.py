"""The kernels of the local search: Newton steps on one prototype, and exchanges of its features.

With the other prototypes fixed, a row's score is a smooth maximum of its own score z and of what
the others give it, o = mu log sum_{j'} exp(z_j' / mu):

    f = mu log(exp(z / mu) + exp(o / mu)),
    F_mu = sum_i s_i log(1 + exp(-y_i f_i)) + (lam / 2) ||w||^2,

which tends to the objective of the maximum as mu goes to zero. With a = sigmoid((z - o) / mu) and
P = 1 / (1 + exp(y f)) the derivatives in z are

    r = -s y P a,   q = s [P (1 - P) a^2 + 1{y = -1} P a (1 - a) / mu];

the second leaves out the concave part that a positive row adds, so that Newton's step descends.

The kernels are plain loops over arrays made once: NumPy's conveniences cost seconds to compile. A
function is compiled again in each that calls it, so that those called once are put into the caller
as source.
"""

from typing import Any, NamedTuple

import numpy as np

from pnsklearn._jit import njit
from pnsklearn._series import SERIES, exp_of_negative, log1p_of_fraction
from pnsklearn._typing import Array

NO_OTHER = -1e30  # the score that no other prototype gives
SCREEN_ROWS = 1024  # rows of a block that stay in the cache while all features are screened
LONGEST_STEP = 5.0  # of a weight, in standardised units
SMALLEST_CURVATURE = 1e-12
SMALLEST_VALUE = 1e-10  # an objective below it is as good as zero
MAX_NEWTON = 20
# Newton decrements, relative to the objective, at which a refit and a trial stop.
REFIT_DECREMENT, TRIAL_DECREMENT = 1e-13, 1e-5


class Rule(NamedTuple):
    """A prototype: `features[:size]`, their weights `weights[1 : size + 1]`, and its intercept
    `weights[0]`.
    """

    features: Array
    weights: Array
    size: int


class Rows(NamedTuple):
    """The data, features as rows of XT, and what the other prototypes give each row."""

    XT: Array
    sign: Array
    weight: Array
    other: Array


class Smoothed(NamedTuple):
    """What else F_mu depends on; `intercept_ridge` is huge where intercepts are to stay zero."""

    lam: float
    intercept_ridge: float
    mu: float


class Stop(NamedTuple):
    """Newton stops at a decrement, relative to F_mu, or when twice of it would miss `target`."""

    decrement: float
    target: float


class Limits(NamedTuple):
    """How far the search goes.

    `n_nonzero` is the size of a prototype, `n_tried` the number of features tried in the place of
    one (0 leaves the features as they are), `tol` the least relative gain of an exchange, and of a
    sweep for another one.
    """

    n_nonzero: int
    n_tried: int
    max_sweeps: int
    tol: float


class Scratch(NamedTuple):
    """Memory, made once: one entry per row, one per weight of a prototype, one per feature."""

    z: Array
    loss: Array
    r: Array
    q: Array
    product: Array
    gradient: Array
    step: Array
    trial: Array
    hessian: Array
    gains: Array


@njit(fastmath=True)
def _dot(a, b):
    total = 0.0
    for i in range(a.shape[0]):
        total += a[i] * b[i]
    return total


@njit(fastmath=True)
def _sum(a):
    total = 0.0
    for i in range(a.shape[0]):
        total += a[i]
    return total


@njit(fastmath=True)
def _square_dot(a, b):
    total = 0.0
    for i in range(a.shape[0]):
        total += a[i] * a[i] * b[i]
    return total


@njit
def _margins(XT, rule, z):
    """Fill z with the scores of the rule."""
    for i in range(z.shape[0]):
        z[i] = rule.weights[0]
    for a in range(rule.size):
        weight, column = rule.weights[a + 1], XT[rule.features[a]]
        for i in range(z.shape[0]):
            z[i] += weight * column[i]


@njit(inline="always")
def _others(Z, j, mu, other):
    """Fill `other` with o = mu log sum_{j' != j} exp(z_j' / mu)."""
    for i in range(Z.shape[1]):
        top = NO_OTHER
        for a in range(Z.shape[0]):
            if a != j:
                top = max(top, Z[a, i])
        total = 0.0
        for a in range(Z.shape[0]):
            if a != j:
                total += exp_of_negative(-((top - Z[a, i]) / mu))
        other[i] = top + mu * np.log(max(total, 1.0))


@njit(fastmath=SERIES)
def _value(rule, rows, smoothed, scratch):
    """Return F_mu of one prototype; leaves z, the rows' losses, r and q in `scratch`."""
    z, loss, r, q = scratch.z, scratch.loss, scratch.r, scratch.q
    other, sign, weight, mu = rows.other, rows.sign, rows.weight, smoothed.mu
    _margins(rows.XT, rule, z)
    for i in range(z.shape[0]):
        t = (z[i] - other[i]) / mu
        e = exp_of_negative(-abs(t))
        inverse = 1 / (1 + e)
        share = inverse if t > 0 else e * inverse
        f = max(z[i], other[i]) + mu * log1p_of_fraction(e)
        yf = sign[i] * f
        e = exp_of_negative(-abs(yf))
        inverse = 1 / (1 + e)
        wrong = e * inverse if yf > 0 else inverse
        right = inverse if yf > 0 else e * inverse
        loss[i] = weight[i] * (max(-yf, 0.0) + log1p_of_fraction(e))
        push = weight[i] * wrong * share
        r[i] = -sign[i] * push
        q[i] = push * (right * share + (0.0 if sign[i] > 0 else (1 - share) / mu))
    value = _sum(loss)
    for a in range(rule.size):
        value += smoothed.lam / 2 * rule.weights[a + 1] * rule.weights[a + 1]
    return value


@njit(inline="always")
def _newton_system(rule, XT, smoothed, scratch):
    """Fill gradient and Hessian of F_mu in (intercept, weights) from r and q."""
    r, q, product = scratch.r, scratch.q, scratch.product
    gradient, hessian = scratch.gradient, scratch.hessian
    gradient[0] = _sum(r)
    hessian[0, 0] = _sum(q) + smoothed.intercept_ridge + SMALLEST_CURVATURE
    for a in range(rule.size):
        column = XT[rule.features[a]]
        gradient[a + 1] = _dot(r, column) + smoothed.lam * rule.weights[a + 1]
        for i in range(q.shape[0]):
            product[i] = q[i] * column[i]
        hessian[a + 1, 0] = _sum(product)
        for b in range(a + 1):
            hessian[a + 1, b + 1] = _dot(product, XT[rule.features[b]])
        hessian[a + 1, a + 1] += smoothed.lam


@njit(inline="always")
def _factorise(hessian, size):
    """Overwrite the lower triangle with its Cholesky factor."""
    for a in range(size):
        for b in range(a + 1):
            rest = hessian[a, b]
            for c in range(b):
                rest -= hessian[a, c] * hessian[b, c]
            if a == b:
                hessian[a, a] = np.sqrt(max(rest, SMALLEST_CURVATURE))
            else:
                hessian[a, b] = rest / hessian[b, b]


@njit
def _solve(factor, size, right, solution):
    """Solve with a Cholesky factor."""
    for a in range(size):
        rest = right[a]
        for c in range(a):
            rest -= factor[a, c] * solution[c]
        solution[a] = rest / factor[a, a]
    for a in range(size - 1, -1, -1):
        rest = solution[a]
        for c in range(a + 1, size):
            rest -= factor[c, a] * solution[c]
        solution[a] = rest / factor[a, a]


@njit
def _newton_step(rule, XT, smoothed, scratch):
    """Fill gradient, Newton's step and the factor of the Hessian."""
    _newton_system(rule, XT, smoothed, scratch)
    _factorise(scratch.hessian, rule.size + 1)
    _solve(scratch.hessian, rule.size + 1, scratch.gradient, scratch.step)


@njit
def _newton(rule, rows, smoothed, stop, scratch):
    """Minimise F_mu over one prototype's weights (in place) by damped Newton steps; return F_mu."""
    size, weights, step = rule.size + 1, rule.weights, scratch.step
    trial = Rule(rule.features, scratch.trial, rule.size)
    value = _value(rule, rows, smoothed, scratch)
    for _ in range(MAX_NEWTON):
        _newton_step(rule, rows.XT, smoothed, scratch)
        decrement, longest = 0.0, 0.0
        for a in range(size):
            decrement += scratch.gradient[a] * step[a]
            longest = max(longest, abs(step[a]))
        if not decrement > stop.decrement * max(value, SMALLEST_VALUE):
            break
        if value - 2 * decrement > stop.target:
            break
        length, trial_value = min(1.0, LONGEST_STEP / longest), np.inf
        while trial_value > value - 1e-4 * length * decrement:
            for a in range(size):
                trial.weights[a] = weights[a] - length * step[a]
            trial_value = _value(trial, rows, smoothed, scratch)
            # At the precision of F_mu: stay.
            length = length / 2 if length > 1e-3 else 0.0
        for a in range(size):
            weights[a] = trial.weights[a]
        if length == 0.0:
            return trial_value
        value = trial_value
    return value


@njit
def _fill_gains(rule, XT, smoothed, scratch):
    """Fill `scratch.gains[:, 0]` with what a Newton step with each feature added would gain.

    Column 1 becomes the step of the new weight, and the columns from 2 on those of the intercept
    and the other weights.
    """
    n_features, n_rows = XT.shape
    q, gains, size = scratch.q, scratch.gains, rule.size + 1
    hessian, step, projected = scratch.hessian, scratch.step, scratch.trial
    # Each feature's gradient, curvature and cross terms with the intercept and the weights.
    products = np.empty((size, SCREEN_ROWS))
    gains[:] = 0.0
    for start in range(0, n_rows, SCREEN_ROWS):
        n = min(SCREEN_ROWS, n_rows - start)
        for i in range(n):
            products[0, i] = q[start + i]
        for a in range(rule.size):
            for i in range(n):
                products[a + 1, i] = q[start + i] * XT[rule.features[a], start + i]
        r_block = scratch.r[start : start + n]
        for feature in range(n_features):
            column = XT[feature, start : start + n]
            gains[feature, 0] += _dot(column, r_block)
            gains[feature, 1] += _square_dot(column, products[0])
            for a in range(size):
                gains[feature, 2 + a] += _dot(column, products[a])

    _newton_step(rule, XT, smoothed, scratch)
    for feature in range(n_features):
        slope, cross = gains[feature, 0], gains[feature, 2:]
        curvature = gains[feature, 1] + smoothed.lam
        _solve(hessian, size, cross, projected)
        total = curvature
        for a in range(size):
            slope -= cross[a] * step[a]
            curvature -= cross[a] * projected[a]
        # A copy of a feature that is there already adds nothing but lam.
        is_new = curvature > 1e-9 * total and total > smoothed.lam
        new = -slope / curvature if is_new else 0.0
        gains[feature, 0], gains[feature, 1] = -slope * new / 2, new
        for a in range(size):
            cross[a] = -step[a] - projected[a] * new
    for a in range(rule.size):
        gains[rule.features[a], 0] = 0.0


@njit(inline="always")
def _add_feature(rule, rows, smoothed, n_tried, target, scratch):
    """Write behind the rule's last feature, in place, one with which F_mu is below `target`.

    Returns F_mu, or infinity when none of the `n_tried` most promising ones does it.
    """
    gains, weights, size = scratch.gains, rule.weights, rule.size + 1
    longer = Rule(rule.features, weights, size)
    before = _value(rule, rows, smoothed, scratch)
    _fill_gains(rule, rows.XT, smoothed, scratch)
    kept = np.empty(size)
    for a in range(size):
        kept[a] = weights[a]
    for _ in range(n_tried):
        best = 0
        for feature in range(gains.shape[0]):  # ties, but for rounding, by the lowest index
            if gains[feature, 0] > (1 + 1e-9) * gains[best, 0]:
                best = feature
        # Not even twice the predicted gain would do.
        if gains[best, 0] <= 0.0 or before - 2 * gains[best, 0] >= target:
            break
        longest = abs(gains[best, 1])
        for a in range(size):
            longest = max(longest, abs(gains[best, 2 + a]))
        length = min(1.0, LONGEST_STEP / longest)
        for a in range(size):
            weights[a] = kept[a] + length * gains[best, 2 + a]
        rule.features[rule.size], weights[size] = best, length * gains[best, 1]
        gains[best, 0] = 0.0
        value = _newton(longer, rows, smoothed, Stop(TRIAL_DECREMENT, target), scratch)
        if value < target:
            return value
    for a in range(size):
        weights[a] = kept[a]
    return np.inf


@njit(inline="always")
def _without(rule, slot, features, weights):
    """Return a copy of the rule, in the given memory, without a feature; an empty slot has none."""
    size: Any = np.int64(0)  # like all later values: for a literal 0, a second version is compiled
    weights[0] = rule.weights[0]
    for a in range(rule.size):
        if a != slot:
            features[size], weights[size + 1] = rule.features[a], rule.weights[a + 1]
            size += 1
    return Rule(features, weights, size)


@njit(inline="always")
def _exchanged(rule, slot, rest):
    """Copy `rest`, with the feature behind its last one put in the slot, into the rule."""
    features, weights, size = rule.features, rule.weights, rest.size
    weights[0] = rest.weights[0]
    for a in range(slot):
        features[a], weights[a + 1] = rest.features[a], rest.weights[a + 1]
    features[slot], weights[slot + 1] = rest.features[size], rest.weights[size + 1]
    for a in range(slot, size):
        features[a + 1], weights[a + 2] = rest.features[a], rest.weights[a + 1]
    return Rule(features, weights, size + 1)


@njit(inline="always")
def _improve_rule(rule, rows, smoothed, limits, scratch):
    """Refit one prototype, then exchange its features one by one.

    Returns the prototype, F_mu and the number of exchanges.
    """
    value = _newton(rule, rows, smoothed, Stop(REFIT_DECREMENT, np.inf), scratch)
    rest_features = np.zeros(limits.n_nonzero, dtype=np.int64)
    rest_weights = np.zeros(limits.n_nonzero + 1)
    slot = np.int64(0)  # as in `_without`
    n_exchanged = 0
    while slot < (limits.n_nonzero if limits.n_tried > 0 else 0):
        target = value - limits.tol * max(value, SMALLEST_VALUE)
        rest = _without(rule, slot, rest_features, rest_weights)
        if rest.size < rule.size:
            _newton(rest, rows, smoothed, Stop(TRIAL_DECREMENT, np.inf), scratch)
        if _add_feature(rest, rows, smoothed, limits.n_tried, target, scratch) < target:
            slot = min(slot, rule.size)
            rule = _exchanged(rule, slot, rest)
            value = _newton(rule, rows, smoothed, Stop(REFIT_DECREMENT, np.inf), scratch)
            n_exchanged += 1
        slot += 1
    return rule, value, n_exchanged


@njit
def improve(XT, sign, weight, coef, intercept, smoothed, limits):
    """Refit and exchange features of all prototypes in turn, in place, until a sweep gains nothing.

    Nor is there another sweep after one in which all could be exchanged and none was.

    Parameters
    ----------
    XT : ndarray of shape (n_features, n_rows)
    sign, weight : ndarray of shape (n_rows,)
    coef, intercept : ndarray of shape (n_prototypes, n_features), (n_prototypes,)
        Float64; at most `limits.n_nonzero` non-zeros a row.
    smoothed : Smoothed
    limits : Limits

    Returns
    -------
    n_sweeps : int
    """
    n_prototypes, n_features = coef.shape
    n_rows, size = sign.shape[0], limits.n_nonzero + 1
    rows = Rows(XT, sign, weight, np.empty(n_rows))
    scratch = Scratch(
        np.empty(n_rows), np.empty(n_rows), np.empty(n_rows), np.empty(n_rows), np.empty(n_rows),
        np.zeros(size), np.zeros(size), np.zeros(size), np.zeros((size, size)),
        np.empty((n_features, size + 1)),
    )  # fmt: skip
    Z, weights = np.empty((n_prototypes, n_rows)), np.zeros((n_prototypes, size))
    features = np.zeros((n_prototypes, limits.n_nonzero), dtype=np.int64)
    sizes = np.zeros(n_prototypes, dtype=np.int64)
    for j in range(n_prototypes):
        weights[j, 0] = intercept[j]
        for feature in range(n_features):
            if coef[j, feature] != 0.0:
                features[j, sizes[j]] = feature
                sizes[j] += 1
                weights[j, sizes[j]] = coef[j, feature]
        _margins(XT, Rule(features[j], weights[j], sizes[j]), Z[j])
    last, total, sweep = np.inf, np.inf, 0
    while sweep < limits.max_sweeps:
        sweep += 1
        n_exchanged = 0
        for j in range(n_prototypes):
            _others(Z, j, smoothed.mu, rows.other)
            rule = Rule(features[j], weights[j], sizes[j])
            rule, total, n = _improve_rule(rule, rows, smoothed, limits, scratch)
            n_exchanged += n
            sizes[j] = rule.size
            _margins(XT, rule, Z[j])
        # F_mu of the last prototype has the loss of all.
        for j in range(n_prototypes - 1):
            for a in range(sizes[j]):
                total += smoothed.lam / 2 * weights[j, a + 1] ** 2
        if last - total <= limits.tol * max(total, SMALLEST_VALUE):
            break
        if limits.n_tried > 0 and n_exchanged == 0:
            break
        last = total
    coef[:] = 0.0
    for j in range(n_prototypes):
        intercept[j] = weights[j, 0]
        for a in range(sizes[j]):
            coef[j, features[j, a]] = weights[j, a + 1]
    return sweep
