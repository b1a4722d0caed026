"""The torch functions give what the NumPy and numba ones give."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_array

from pnsklearn._small import _kernels
from pnsklearn._small._relaxation import solve_fista, solve_saddle
from tests._small.test_kernels import random_rows
from tests._small.test_relaxation import make_problem

pytest.importorskip("torch")

from pnsklearn._small import _torch

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state")


def to_tensors(*arrays):
    return [_torch.as_array(array, "cpu") for array in arrays]


def test_same_functions():
    def signatures(module):
        return {
            name: str(inspect.signature(function))
            for name, function in vars(module).items()
            if inspect.isfunction(function)
            and function.__module__ in (module.__name__, "pnsklearn._device")
            and not name.startswith("_")
        }

    prox = {"prox_k_support", "squared_k_support", "project_capped_simplex"}  # of small arrays
    expected = {n: s for n, s in signatures(_kernels).items() if n not in prox}
    assert signatures(_torch) == expected
    assert {"loss_pass", "entropic_step"} <= expected.keys()


@pytest.mark.parametrize("form", ["dense", "sparse", "float32"])
@pytest.mark.parametrize("mu", [0.0, 0.05])
def test_pass(mu, form, global_random_seed):
    XT, *rows, W, b = random_rows(np.random.default_rng(global_random_seed))
    if form == "sparse":
        XT = csr_array(XT * (np.abs(XT) > 0.5))
    if form == "float32":
        XT = XT.astype(np.float32)
    tol = 1e-5 if form == "float32" else 1e-13
    expected = _kernels.loss_pass(XT, *rows, W, b, mu)
    tensors = to_tensors(XT, *rows)
    for ours, theirs in zip(_torch.loss_pass(*tensors, W, b, mu), expected, strict=True):
        assert isinstance(ours, type(theirs))
        assert_allclose(ours, theirs, atol=tol)
    z = _torch.margins(tensors[0], W, b)
    assert_allclose(_torch.to_numpy(z), _kernels.margins(XT, W, b), atol=tol)


def test_dual_side(global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    XT, sign, weight, assignment, *_ = random_rows(rng)
    z = 3 * rng.standard_normal((3, sign.size))
    A = _kernels.respond(z, sign, weight, assignment, 0.5)[2]
    A[:, :4] = 0.0
    tX, ts, tw, ta, tz, tA = to_tensors(XT, sign, weight, assignment, z, A)
    assert _torch.entropy(tw, tA) == pytest.approx(_kernels.entropy(weight, A), rel=1e-13)
    ours, theirs = _torch.balance(ts, tw, tA), _kernels.balance(sign, weight, A)
    assert_allclose(_torch.to_numpy(ours), theirs, atol=1e-15)
    for ours, theirs in zip(
        _torch.pull_back(tX, tw, tA), _kernels.pull_back(XT, weight, A), strict=True
    ):
        assert_allclose(ours, theirs, atol=1e-14)
    for tau in (0.01, 1.0, 1e5):
        step = _kernels.entropic_step(A, z, sign, assignment, tau)
        ours = _torch.entropic_step(tA, tz, ts, ta, tau)
        assert_allclose(_torch.to_numpy(ours), step, atol=1e-12)
        assert _torch.relative_entropy(tw, ours, tA) == pytest.approx(
            _kernels.relative_entropy(weight, step, A), rel=1e-9
        )


@pytest.mark.parametrize("solve", [solve_fista, solve_saddle])
def test_solvers(solve, global_random_seed):
    problem = make_problem(global_random_seed)
    on_torch = replace(problem, kernels=_torch, XT=_torch.as_array(problem.XT, "cpu"))
    expected = solve(problem, tol=1e-3, max_iter=3000)
    solution = solve(on_torch, tol=1e-3, max_iter=3000)
    assert solution.n_iter == expected.n_iter
    for name in ("W", "b", "eps", "A"):
        assert isinstance(getattr(solution, name), np.ndarray)
        assert_allclose(getattr(solution, name), getattr(expected, name), atol=1e-6)
    assert on_torch.upper(expected.W, expected.b) == pytest.approx(expected.upper, rel=1e-12)
