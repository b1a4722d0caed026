"""exp and log1p as short series: in a loop over an array they vectorise, which NumPy's do not.

LLVM unrolls the loops, so that they cost what their formulas cost. Callers are compiled with these
functions inside, and numba's cache looks at the caller's file only: after a change here, delete the
``*.nbi`` files of ``__pycache__`` (or touch the modules that import this one).
"""

from pnsklearn._jit import njit

# All but "reassoc", which would break the rounding that the series rely on. So x must be finite.
SERIES = {"contract", "nsz", "nnan", "ninf", "arcp"}
LOWEST_EXPONENT = -45.0  # exp(-45) = 3e-20 adds nothing to one


@njit(fastmath=SERIES)
def exp_of_negative(x):
    """Return exp(x) for x <= 0, below -45 as at -45, to a relative error of 1e-13.

    That is exp(x / 128), by twelve terms of its series, to the power of 128.
    """
    r = max(x, LOWEST_EXPONENT) / 128.0
    y = 1.0
    for n in range(12, 0, -1):
        y = 1.0 + r / n * y
    for _ in range(7):
        y *= y
    return y


@njit(fastmath=SERIES)
def log1p_of_fraction(x):
    """Return log(1 + x) for 0 <= x <= 1, as 2 artanh(x / (2 + x)), to a relative error of 1e-15."""
    u = x / (2.0 + x)
    u2 = u * u
    y = 1.0 / 29.0
    for n in range(27, 0, -2):
        y = 1.0 / n + u2 * y
    return 2.0 * u * y
