"""The loops in NumPy and in torch: the same functions, with the same results."""

import inspect

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array

from pnsklearn._auprc import _kernels
from pnsklearn._auprc._kernels import Block, Thresholds


def test_same_functions():
    pytest.importorskip("torch")
    from pnsklearn._auprc import _torch

    def signatures(module):
        return {
            name: list(inspect.signature(function).parameters)
            for name, function in vars(module).items()
            if callable(function)
            and not isinstance(function, type)
            and getattr(function, "__module__", "") in (module.__name__, "pnsklearn._device")
            and not name.startswith("_")
        }

    assert signatures(_torch) == signatures(_kernels)
    assert {"find_bins", "sweep_down", "scatter"} <= signatures(_kernels).keys()


HINGES = np.array([0.5, 0.0, -0.5]), np.array([2.0, -4.0, 3.0])


@pytest.fixture
def arrays(global_random_seed):
    """Return (scores, positive, weight, thresholds, owner, coefs), with ties everywhere."""
    rng = np.random.default_rng(global_random_seed)
    scores = np.round(4 * rng.standard_normal(90)) / 4
    thresholds = np.sort(np.round(4 * rng.standard_normal(30)) / 4)
    owner, coefs = rng.permutation(30) // 3, rng.standard_normal(30)
    return scores, rng.uniform(size=90) < 0.3, rng.uniform(0.5, 2, 90), thresholds, owner, coefs


def test_same_results(arrays, global_random_seed):
    torch = pytest.importorskip("torch")
    from pnsklearn._auprc import _torch

    c = tuple(np.random.default_rng(global_random_seed).standard_normal((2, 10)))
    direction = np.cos(np.arange(90))
    results = []
    for module, convert in ((_kernels, lambda array: array), (_torch, torch.as_tensor)):
        s, p, w, t, o, a, h = map(convert, (*arrays, direction))
        of_hinges = module.sort_thresholds(s, *map(convert, HINGES))
        thresholds, bins = Thresholds(0.0, t, o, a), module.find_bins(s, t)
        block = Block(s, p, w, bins)
        moments = module.bin_moments(block, thresholds)
        sums = module.sweep_down(thresholds, moments, 10)
        sweep = module.sweep_up(thresholds, t, tuple(map(convert, c)))
        slope, ties = module.scatter(block, h, t, sweep), module.sum_over_ties(s, w)
        results.append(
            [np.asarray(x) for x in (of_hinges[0], bins, moments, sums, sweep, slope, ties)]
        )
    for numpy, tensor in zip(*results, strict=True):
        assert numpy.shape == tensor.shape
        assert_allclose(numpy, tensor, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 90])
def test_sorted_thresholds(arrays, n):
    """Each positive has one threshold for each margin, and equal ones may stand in any order."""
    scores, (margins, coefs) = arrays[0][:n], HINGES
    values, owner, a = _kernels.sort_thresholds(scores, margins, coefs)
    assert_array_equal(values, np.sort((scores[:, None] - margins).ravel()))
    found = np.rec.fromarrays([owner, a, values])
    expected = [
        (i, a, score - m)
        for i, score in enumerate(scores)
        for m, a in zip(margins, coefs, strict=True)
    ]
    assert sorted(found.tolist()) == sorted(expected)


def test_against_the_definitions(arrays, global_random_seed):
    scores, positive, weight, thresholds, owner, coefs = arrays
    c = tuple(np.random.default_rng(global_random_seed).standard_normal((2, 10)))
    bins = _kernels.find_bins(scores, thresholds)
    assert_array_equal(bins, (thresholds < scores[:, None]).sum(axis=1))
    block, state = Block(scores, positive, weight, bins), Thresholds(0.0, thresholds, owner, coefs)
    sums = _kernels.sweep_down(state, _kernels.bin_moments(block, state), 10)
    u = np.maximum(scores - thresholds[:, None], 0.0)
    for power, result in zip((2, 1, 0), sums, strict=True):
        for label, rows in enumerate((~positive, positive)):
            terms = coefs * (np.where(u > 0, u**power, 0.0) * weight)[:, rows].sum(axis=1)
            assert_allclose(result[label], np.bincount(owner, terms), atol=1e-12)
    sweep = _kernels.sweep_up(state, thresholds, c)
    expected = 2 * weight * (np.where(positive, c[1][owner, None], c[0][owner, None])
                             * coefs[:, None] * u).sum(axis=0)  # fmt: skip
    result = _kernels.scatter(block, scores, thresholds, sweep)
    assert_allclose(result, expected, atol=1e-12)
    assert_allclose(
        _kernels.sum_over_ties(scores, weight), (scores == scores[:, None]) @ weight, atol=1e-12
    )


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state")
@pytest.mark.parametrize("sparse", [False, True])
def test_linear_scores_and_pull_back(sparse, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    dense = rng.standard_normal((30, 7)) * (rng.uniform(size=(30, 7)) < 0.4)
    coef, slope = rng.standard_normal(7), rng.standard_normal(30)
    X = csr_array(dense) if sparse else dense
    assert_allclose(_kernels.linear_scores(X, coef), dense @ coef, atol=1e-13)
    assert_allclose(_kernels.linear_pull_back(X, slope), dense.T @ slope, atol=1e-13)
    pytest.importorskip("torch")
    from pnsklearn._auprc import _torch

    X = _torch.as_array(X, "cpu")
    assert_allclose(_torch.linear_scores(X, coef).numpy(), dense @ coef, atol=1e-13)
    pulled = _torch.linear_pull_back(X, _torch.as_array(slope, "cpu"))
    assert_allclose(pulled, dense.T @ slope, atol=1e-13)
