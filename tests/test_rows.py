"""A sum over blocks of rows is the sum over the rows."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_matrix

from pnsklearn import _rows
from pnsklearn._rows import blocks, total


def moments(X, weight, power):
    return float(weight.sum()), X.T @ weight**power


@pytest.mark.parametrize("n_rows", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("form", [np.asarray, csr_matrix])
def test_total_is_the_sum_over_all_rows(form, n_rows, monkeypatch, global_random_seed):
    monkeypatch.setattr(_rows, "BLOCK_BYTES", 1)  # so that a block has the fewest rows
    rng = np.random.RandomState(global_random_seed)
    X, weight = rng.standard_normal((n_rows, 3)), rng.rand(n_rows)
    size, sums = total(moments, (form(X), weight), 2)
    assert_allclose(size, weight.sum())
    assert_allclose(sums, X.T @ weight**2)


def test_blocks_fit_the_cache_and_cover_every_row_once():
    X = np.zeros((100_000, 5), dtype=np.float32)
    found = list(blocks(X))
    rows = np.concatenate([np.arange(len(X))[block] for block in found])
    assert rows.tolist() == list(range(len(X)))
    assert len(found) > 1
    assert all(X[block].nbytes <= _rows.BLOCK_BYTES for block in found)
