"""Rows in blocks: every objective here is a sum over rows, and so a sum over blocks of them."""

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from pnsklearn._typing import Matrix

BLOCK_BYTES = 2**19  # of X, so that a block stays in the cache between two products
FEWEST_ROWS = 64


def blocks(X: Matrix) -> list[slice]:
    """Return slices of the rows of an array, which may be a memory map.

    A sparse matrix, whose slices would be copies, and a tensor, as a GPU wants all rows at once,
    are one block.
    """
    n_rows = X.shape[0]
    if isinstance(X, np.ndarray):
        n_rows = max(FEWEST_ROWS, BLOCK_BYTES // (X.shape[1] * X.itemsize))
    return [slice(start, start + n_rows) for start in range(0, X.shape[0], n_rows)]


def total(function: Callable[..., tuple], rows: Sequence[Any], *shared: Any) -> tuple:
    """Return the sum over blocks of rows of ``function(*block, *shared)``, which is a tuple.

    `rows` holds X and the arrays that have an entry for each of its rows.
    """
    slices = blocks(rows[0])
    if len(slices) == 1:
        return function(*rows, *shared)
    parts = (function(*(array[block] for array in rows), *shared) for block in slices)
    return reduce(lambda sums, part: tuple(map(add, sums, part)), parts)
