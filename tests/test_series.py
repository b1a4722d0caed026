"""The series of exp and log1p against NumPy over their whole range, and in a loop."""

import numba
import numpy as np
import pytest
from numpy.testing import assert_allclose

from pnsklearn._series import LOWEST_EXPONENT, exp_of_negative, log1p_of_fraction


@numba.njit
def apply(function, x):
    return np.array([function(value) for value in x])


def test_exponential_over_its_range():
    x = -np.r_[0.0, 5e-324, np.geomspace(1e-300, 1, 2001), np.linspace(0, 45, 20001)]
    assert_allclose(apply(exp_of_negative, x), np.exp(x), rtol=1e-13)
    # Far out it is so small that one is not changed by it, and never zero or less.
    far = np.array([LOWEST_EXPONENT, -46.0, -800.0, -1e300])
    assert_allclose(apply(exp_of_negative, far), np.exp(LOWEST_EXPONENT), rtol=1e-13)
    assert 1 + np.exp(LOWEST_EXPONENT) == 1
    assert exp_of_negative(0.0) == 1


def test_logarithm_over_its_range():
    x = np.r_[0.0, np.geomspace(1e-300, 1, 2001), np.linspace(0, 1, 20001)]
    assert_allclose(apply(log1p_of_fraction, x), np.log1p(x), rtol=1e-15)


@pytest.mark.parametrize("function", [exp_of_negative, log1p_of_fraction])
def test_loops_vectorise(function):
    """What they are for: LLVM works on several values at a time."""

    @numba.njit(error_model="numpy")
    def fill(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    x = np.zeros(8)
    fill(x, np.empty(8))
    (code,) = fill.inspect_llvm().values()
    assert "x double> " in code
