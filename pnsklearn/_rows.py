"""Rows in blocks: every objective here is a sum over rows, and so a sum over blocks of them."""

from collections.abc import Callable, Iterator

from scipy.sparse import issparse

from pnsklearn._typing import Matrix

BLOCK_BYTES = 2**19  # of X, so that a block stays in the cache between two products
FEWEST_ROWS = 64


def blocks(X: Matrix) -> Iterator[slice]:
    """Yield the slices of the rows of X; all of them at once if it is sparse."""
    if issparse(X):
        yield slice(None)
        return
    n_rows = max(FEWEST_ROWS, BLOCK_BYTES // (X.shape[1] * X.itemsize))
    for start in range(0, X.shape[0], n_rows):
        yield slice(start, start + n_rows)


def total(function: Callable, rows: tuple, *shared: object) -> tuple:
    """Return the sum over blocks of rows of ``function(*block, *shared)``, a tuple.

    `rows` holds X and the arrays that have an entry for each of its rows.
    """
    whole = issparse(rows[0])  # slicing would copy it
    sums: tuple = ()
    for block in blocks(rows[0]):
        parts = function(*(rows if whole else (array[block] for array in rows)), *shared)
        sums = tuple(a + b for a, b in zip(sums, parts, strict=True)) if sums else parts
    return sums
