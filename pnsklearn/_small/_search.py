"""The local search: prototype-wise Newton steps and exchanges of features.

With the other prototypes fixed, a row's score is a smooth maximum of its own score z and of what
the others give it, o = mu log sum_{j'} exp(z_j' / mu):

    f = mu log(exp(z / mu) + exp(o / mu)),
    F_mu = sum_i s_i log(1 + exp(-y_i f_i)) + (lam / 2) ||w||^2,

which tends to the objective of the maximum as mu goes to zero. With a = sigmoid((z - o) / mu) and
P = 1 / (1 + exp(y f)) the derivatives in z are

    r = -s y P a,   q = s [P (1 - P) a^2 + 1{y = -1} P a (1 - a) / mu];

the second leaves out the concave part that a positive row adds, so that Newton's step descends.

A prototype is the features `index[:m]` with the weights `w[1 : m + 1]` and the intercept `w[0]`.
The kernels are plain loops over arrays made once: NumPy's conveniences cost seconds to compile.
"""

import numpy as np

from pnsklearn._jit import njit

# Without "reassoc", which would break the rounding that the series rely on.
SERIES = {"contract", "nsz", "nnan", "ninf", "arcp"}

FAR_BELOW = -1e30  # the score of a prototype that is not there
SCREEN_ROWS = 1024
LONGEST_STEP = 5.0  # of a weight, in standardised units
SMALLEST_CURVATURE = 1e-12
# Newton decrements, relative to the objective, of a refit and of a trial.
TIGHT, LOOSE = 1e-13, 1e-5
MAX_NEWTON = 20
SMALLEST_VALUE = 1e-10  # an objective below it is as good as zero


@njit(fastmath=SERIES)
def exp_of_minus(x):
    """Return exp(-x) for x >= 0 (beyond 45 as at 45) by a series that vectorises; error 5e-14."""
    u = -min(x, 45.0) / 128
    e = 1 + u * (
        1
        + u
        / 2
        * (
            1
            + u
            / 3
            * (
                1
                + u
                / 4
                * (
                    1
                    + u
                    / 5
                    * (
                        1
                        + u
                        / 6
                        * (
                            1
                            + u
                            / 7
                            * (1 + u / 8 * (1 + u / 9 * (1 + u / 10 * (1 + u / 11 * (1 + u / 12)))))
                        )
                    )
                )
            )
        )
    )
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    return e


@njit(fastmath=SERIES)
def log1p_of_fraction(e):
    """Return log(1 + e) for 0 <= e <= 1, as 2 artanh(e / (2 + e)); error 1e-16."""
    u = e / (2 + e)
    v = u * u
    series = 1 + v * (
        1 / 3
        + v
        * (
            1 / 5
            + v
            * (
                1 / 7
                + v
                * (
                    1 / 9
                    + v
                    * (
                        1 / 11
                        + v
                        * (
                            1 / 13
                            + v
                            * (
                                1 / 15
                                + v
                                * (
                                    1 / 17
                                    + v
                                    * (
                                        1 / 19
                                        + v
                                        * (
                                            1 / 21
                                            + v * (1 / 23 + v * (1 / 25 + v * (1 / 27 + v / 29)))
                                        )
                                    )
                                )
                            )
                        )
                    )
                )
            )
        )
    )
    return 2 * u * series


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
def _margins(XT, index, w, m, z):
    """z = w_0 + sum_a w_{a + 1} x_index[a]."""
    for i in range(z.shape[0]):
        z[i] = w[0]
    for a in range(m):
        weight, column = w[a + 1], XT[index[a]]
        for i in range(z.shape[0]):
            z[i] += weight * column[i]


@njit(fastmath=SERIES)
def _value(XT, index, w, m, other, sign, weight, lam, mu, work):
    """Return F_mu of one prototype; leaves z, the rows' losses, r and q in `work`."""
    z, loss, r, q = work[0], work[1], work[2], work[3]
    _margins(XT, index, w, m, z)
    for i in range(z.shape[0]):
        t = (z[i] - other[i]) / mu
        e = exp_of_minus(abs(t))
        inverse = 1 / (1 + e)
        share = inverse if t > 0 else e * inverse
        f = max(z[i], other[i]) + mu * log1p_of_fraction(e)
        yf = sign[i] * f
        e = exp_of_minus(abs(yf))
        inverse = 1 / (1 + e)
        wrong = e * inverse if yf > 0 else inverse
        right = inverse if yf > 0 else e * inverse
        loss[i] = weight[i] * (max(-yf, 0.0) + log1p_of_fraction(e))
        push = weight[i] * wrong * share
        r[i] = -sign[i] * push
        q[i] = push * (right * share + (0.0 if sign[i] > 0 else (1 - share) / mu))
    value = _sum(loss)
    for a in range(m):
        value += lam / 2 * w[a + 1] * w[a + 1]
    return value


@njit
def _newton_system(XT, index, w, m, lam, bias_ridge, work, gradient, hessian):
    """Fill gradient and Hessian of F_mu in (intercept, weights) from the r and q of `work`."""
    r, q, column_q = work[2], work[3], work[4]
    gradient[0], hessian[0, 0] = _sum(r), _sum(q) + bias_ridge + SMALLEST_CURVATURE
    for a in range(m):
        column = XT[index[a]]
        gradient[a + 1] = _dot(r, column) + lam * w[a + 1]
        for i in range(q.shape[0]):
            column_q[i] = q[i] * column[i]
        hessian[a + 1, 0] = _sum(column_q)
        for b in range(a + 1):
            hessian[a + 1, b + 1] = _dot(column_q, XT[index[b]])
        hessian[a + 1, a + 1] += lam


@njit
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
def _newton(
    XT, index, w, m, other, sign, weight, lam, bias_ridge, mu, tol, target, work, small
):  # fmt: skip
    """Minimise F_mu over one prototype's `w` (in place) by damped Newton steps; return F_mu.

    Stops at a decrement of `tol` of the value, or when twice the decrement would miss `target`.
    """
    gradient, step, trial, hessian = small[0], small[1], small[2], small[3:]
    value = _value(XT, index, w, m, other, sign, weight, lam, mu, work)
    for _ in range(MAX_NEWTON):
        _newton_system(XT, index, w, m, lam, bias_ridge, work, gradient, hessian)
        _factorise(hessian, m + 1)
        _solve(hessian, m + 1, gradient, step)
        decrement, longest = 0.0, 0.0
        for a in range(m + 1):
            decrement += gradient[a] * step[a]
            longest = max(longest, abs(step[a]))
        if not decrement > tol * max(value, SMALLEST_VALUE) or value - 2 * decrement > target:
            break
        length, trial_value = min(1.0, LONGEST_STEP / longest), np.inf
        while trial_value > value - 1e-4 * length * decrement:
            for a in range(m + 1):
                trial[a] = w[a] - length * step[a]
            trial_value = _value(XT, index, trial, m, other, sign, weight, lam, mu, work)
            # At the precision of F_mu: stay.
            length = length / 2 if length > 1e-3 else 0.0
        for a in range(m + 1):
            w[a] = trial[a]
        if length == 0.0:
            return trial_value
        value = trial_value
    return value


@njit
def _gains(XT, index, w, m, lam, bias_ridge, work, small, sums):
    """Fill `sums[:, 0]` with what a Newton step with each feature added would gain.

    `sums[:, 1]` becomes the step of the new weight and `sums[:, 2 : m + 3]` that of the others.
    """
    n_features, n_rows = XT.shape
    r, q = work[2], work[3]
    # Each feature's gradient, curvature and m + 1 cross terms with the prototype.
    rows_q = np.empty((m + 1, SCREEN_ROWS))
    sums[:] = 0.0
    for start in range(0, n_rows, SCREEN_ROWS):
        n = min(SCREEN_ROWS, n_rows - start)
        for i in range(n):
            rows_q[0, i] = q[start + i]
        for a in range(m):
            for i in range(n):
                rows_q[a + 1, i] = q[start + i] * XT[index[a], start + i]
        r_block = r[start : start + n]
        for feature in range(n_features):
            column = XT[feature, start : start + n]
            sums[feature, 0] += _dot(column, r_block)
            sums[feature, 1] += _square_dot(column, rows_q[0])
            for a in range(m + 1):
                sums[feature, 2 + a] += _dot(column, rows_q[a])

    gradient, own, projected, hessian = small[0], small[1], small[2], small[3:]
    _newton_system(XT, index, w, m, lam, bias_ridge, work, gradient, hessian)
    _factorise(hessian, m + 1)
    _solve(hessian, m + 1, gradient, own)
    for feature in range(n_features):
        slope, curvature, cross = sums[feature, 0], sums[feature, 1] + lam, sums[feature, 2:]
        _solve(hessian, m + 1, cross, projected)
        total = curvature
        for a in range(m + 1):
            slope -= cross[a] * own[a]
            curvature -= cross[a] * projected[a]
        # A copy of a feature that is there already adds nothing but lam.
        new = -slope / curvature if curvature > 1e-9 * total and total > lam else 0.0
        sums[feature, 0], sums[feature, 1] = -slope * new / 2, new
        for a in range(m + 1):
            cross[a] = -own[a] - projected[a] * new
    for a in range(m):
        sums[index[a], 0] = 0.0


@njit
def _add_feature(
    XT, index, w, m, other, sign, weight, lam, bias_ridge, mu, target, n_tried, work, small, sums
):  # fmt: skip
    """Add to `index` and `w`, in place, a feature with which F_mu is below `target`.

    Returns F_mu, or infinity when none of the `n_tried` most promising ones does it.
    """
    before = _value(XT, index, w, m, other, sign, weight, lam, mu, work)
    _gains(XT, index, w, m, lam, bias_ridge, work, small, sums)
    kept = np.empty(m + 1)
    for a in range(m + 1):
        kept[a] = w[a]
    for _ in range(n_tried):
        best = 0
        for feature in range(XT.shape[0]):  # ties, but for rounding, by the lowest index
            if sums[feature, 0] > (1 + 1e-9) * sums[best, 0]:
                best = feature
        # Not even twice the predicted gain would do.
        if sums[best, 0] <= 0.0 or before - 2 * sums[best, 0] >= target:
            break
        longest = abs(sums[best, 1])
        for a in range(m + 1):
            longest = max(longest, abs(sums[best, 2 + a]))
        length = min(1.0, LONGEST_STEP / longest)
        for a in range(m + 1):
            w[a] = kept[a] + length * sums[best, 2 + a]
        index[m], w[m + 1] = best, length * sums[best, 1]
        sums[best, 0] = 0.0
        value = _newton(
            XT, index, w, m + 1, other, sign, weight, lam, bias_ridge, mu, LOOSE, target, work,
            small,
        )  # fmt: skip
        if value < target:
            return value
    for a in range(m + 1):
        w[a] = kept[a]
    return np.inf


@njit
def _others(Z, j, mu, other):
    """o = mu log sum_{j' != j} exp(z_j' / mu)."""
    for i in range(Z.shape[1]):
        top = FAR_BELOW
        for a in range(Z.shape[0]):
            if a != j:
                top = max(top, Z[a, i])
        total = 0.0
        for a in range(Z.shape[0]):
            if a != j:
                total += exp_of_minus((top - Z[a, i]) / mu)
        other[i] = top + mu * np.log(max(total, 1.0))


@njit
def improve(
    XT, sign, weight, coef, intercept, n_nonzero, lam, bias_ridge, mu, n_tried, max_sweeps, tol
):  # fmt: skip
    """Refit and exchange features of all prototypes in turn, in place, until a sweep gains nothing.

    Parameters
    ----------
    XT : ndarray of shape (n_features, n_rows)
    sign, weight : ndarray of shape (n_rows,)
    coef, intercept : ndarray of shape (n_prototypes, n_features), (n_prototypes,)
        Float64; at most `n_nonzero` non-zeros a row.
    n_nonzero : int
    lam : float
    bias_ridge : float
        Ridge of the intercepts: 0, or huge to keep them at zero.
    mu : float
        Width of the smooth maximum.
    n_tried : int
        Features tried in the place of one; 0 leaves the supports as they are.
    max_sweeps : int
    tol : float
        Least relative gain of an exchange, and of a sweep for another one.

    Returns
    -------
    n_sweeps : int
    """
    n_prototypes, n_features = coef.shape
    n_rows = sign.shape[0]
    Z, other, work = np.empty((n_prototypes, n_rows)), np.empty(n_rows), np.empty((5, n_rows))
    sizes = np.zeros(n_prototypes, dtype=np.int64)
    indices = np.zeros((n_prototypes, n_nonzero), dtype=np.int64)
    weights = np.zeros((n_prototypes, n_nonzero + 1))
    small = np.zeros((n_nonzero + 4, n_nonzero + 1))
    sums = np.empty((n_features, n_nonzero + 2))
    rest, rest_w = np.zeros(n_nonzero, dtype=np.int64), np.zeros(n_nonzero + 1)
    for j in range(n_prototypes):
        weights[j, 0] = intercept[j]
        for feature in range(n_features):
            if coef[j, feature] != 0.0:
                indices[j, sizes[j]] = feature
                sizes[j] += 1
                weights[j, sizes[j]] = coef[j, feature]
        _margins(XT, indices[j], weights[j], sizes[j], Z[j])

    last, sweep = np.inf, 0
    while sweep < max_sweeps:
        sweep += 1
        for j in range(n_prototypes):
            index, w, m = indices[j], weights[j], sizes[j]
            _others(Z, j, mu, other)
            value = np.inf  # for the first turn of the loop: no exchange, a refit
            slot = -1
            while slot < (n_nonzero if n_tried > 0 else 0):
                gained = slot < 0
                if slot >= 0:
                    # Take out the feature of the slot; an empty slot takes nothing out.
                    size = np.int64(0)  # a literal would be a type, and compile, of its own
                    rest_w[0] = w[0]
                    for a in range(m):
                        if a != slot:
                            rest[size], rest_w[size + 1] = index[a], w[a + 1]
                            size += 1
                    if size < m:
                        _newton(
                            XT, rest, rest_w, size, other, sign, weight, lam, bias_ridge, mu, LOOSE,
                            np.inf, work, small,
                        )  # fmt: skip
                    target = value - tol * max(value, SMALLEST_VALUE)
                    gained = target > _add_feature(
                        XT, rest, rest_w, size, other, sign, weight, lam, bias_ridge, mu, target,
                        n_tried, work, small, sums,
                    )  # fmt: skip
                    if gained:
                        # The new feature takes the slot of the old one.
                        slot = min(slot, m)
                        m = size + 1
                        for a in range(slot):
                            index[a], w[a + 1] = rest[a], rest_w[a + 1]
                        index[slot], w[slot + 1], w[0] = rest[size], rest_w[size + 1], rest_w[0]
                        for a in range(slot, size):
                            index[a + 1], w[a + 2] = rest[a], rest_w[a + 1]
                if gained:
                    value = _newton(
                        XT, index, w, m, other, sign, weight, lam, bias_ridge, mu, TIGHT,
                        np.inf, work, small,
                    )  # fmt: skip
                slot += 1
            sizes[j] = m
            _margins(XT, index, w, m, Z[j])

        total = value  # F_mu of the last prototype has the loss of all
        for j in range(n_prototypes - 1):
            for a in range(sizes[j]):
                total += lam / 2 * weights[j, a + 1] ** 2
        if last - total <= tol * max(total, SMALLEST_VALUE):
            break
        last = total

    for j in range(n_prototypes):
        intercept[j] = weights[j, 0]
        for feature in range(n_features):
            coef[j, feature] = 0.0
        for a in range(sizes[j]):
            coef[j, indices[j, a]] = weights[j, a + 1]
    return sweep
