"""Rows of Dask collections as blocks, over which functions are summed.

A block is a piece of all collections that belong together: X, y, weights. Where the rows fit into
the workers' memory there is one block for each thread of theirs: the partitions are merged once,
and held. Else every partition is a block, which is read again in each round and never held. The
sums are added in the order of the rows, so that a fit is the same each time.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from operator import add
from typing import Any

import dask
import dask.array as da
import numpy as np
from distributed import Client, KilledWorker, default_client, wait
from distributed.system import MEMORY_LIMIT

HELD_SHARE = 0.4  # of the workers' memory, up to which blocks are held: merging takes a copy
LARGEST_MESSAGE = 100_000  # bytes that are sent with each task; more are sent once a round
PATIENCE, MOST_POLLS = 5, 6  # seconds between looks at a cluster, and looks without any worker


def is_dask(collection: Any) -> bool:
    """Say whether this is a Dask array, frame or series."""
    return dask.is_dask_collection(collection)


def is_array(collection: Any) -> bool:
    """Say whether this is a Dask array."""
    return isinstance(collection, da.Array)


class Blocks:
    """Blocks of rows, each a Dask value, and how functions of them are computed.

    Parameters
    ----------
    parts : list of Delayed or Future
    n_groups : int
        Groups of parts whose sums are added on the workers.
    held : bool
        Whether the parts are kept in memory.
    """

    def __init__(self, parts: list, n_groups: int, held: bool, client: Client | None):
        self.parts, self.n_groups, self.held, self.client = parts, n_groups, held, client

    def keep(self, wanted: Sequence[bool]) -> None:
        """Leave out the blocks that are not wanted, those without rows say."""
        self.parts[:] = [part for part, keep in zip(self.parts, wanted, strict=True) if keep]

    def transform(self, function: Callable, *shared: Any) -> None:
        """Replace the blocks by ``function(block, *shared)``."""
        parts = [dask.delayed(function)(part, *shared) for part in self.parts]
        self.parts[:] = _start(parts, self.client) if self.held else parts

    def map(self, function: Callable, *shared: Any, each: Sequence[Any] = ()) -> list:
        """Return ``function(block, *shared)`` of all blocks in order.

        `each` has one further argument for each block, if there is one.
        """
        return _gather(self._tasks(function, shared, each), self.client)

    def sum(self, function: Callable[..., tuple], *shared: Any) -> tuple:
        """Return the sum over the blocks of ``function(block, *shared)``, which is a tuple."""
        tasks = self._tasks(function, shared)
        if self.n_groups < len(tasks):
            tasks = [dask.delayed(add_up)(tasks[group]) for group in cut(len(tasks), self.n_groups)]
        return add_up(_gather(tasks, self.client))

    def _tasks(self, function, shared, each=()):
        extras = [(value,) for value in each] if len(each) else itertools.repeat(())
        pairs = zip(self.parts, extras, strict=False)
        if sum(getattr(value, "nbytes", 0) for value in shared) > LARGEST_MESSAGE:
            # One message, which the workers hand on to each other.
            whole = dask.delayed(shared, traverse=False)
            step = dask.delayed(_unpacked)
            return [step(function, part, whole, *extra) for part, extra in pairs]
        step = dask.delayed(function)
        return [step(part, *shared, *extra) for part, extra in pairs]


def _unpacked(function, part, shared, *extra):
    return function(part, *shared, *extra)


def cut(n: int, n_pieces: int) -> list[slice]:
    """Return slices that cut n entries into at most so many pieces of nearly the same size."""
    cuts = np.linspace(0, n, min(n, n_pieces) + 1).astype(int)
    return [slice(*pair) for pair in itertools.pairwise(cuts)]


def aligned(array: np.ndarray, dtype: Any = None) -> np.ndarray:
    """Return an array that loops read fast: what came in a message may begin at any byte."""
    return np.require(array, dtype, ["C", "A"])


def among(rows: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
    """Return which rows of each block are meant by sorted rows of all."""
    starts = np.cumsum([0, *lengths])
    pieces = np.split(rows, np.searchsorted(rows, starts[1:-1]))
    return [piece - start for piece, start in zip(pieces, starts[:-1], strict=True)]


def add_up(sums: Sequence[tuple]) -> tuple:
    """Return the sum of tuples, entry by entry and in order."""
    return reduce(lambda a, b: tuple(map(add, a, b)), sums)


@contextlib.contextmanager
def read(function: Callable, *shared: Any, **columns: Any) -> Iterator[Blocks]:
    """Provide the blocks ``function(*shared, **block)`` of collections with the same rows.

    `columns` are Dask arrays and frames, or None. The blocks are let go at the end.

    Raises
    ------
    TypeError
        If one is no Dask collection.
    ValueError
        If their partitions do not belong together, or a row is cut by them.
    """
    client = _current_client()
    parts, n_bytes = _partitions(columns, client)
    n_parts = len(next(iter(parts.values())))
    n_slots, memory = _resources(client)
    held = n_bytes <= HELD_SHARE * memory
    tasks = [
        dask.delayed(_merge)(function, shared, {name: parts[name][group] for name in parts})
        for group in cut(n_parts, n_slots if held else n_parts)
    ]
    if held:
        tasks = _start(tasks, client, spread=True)
    blocks = Blocks(tasks, n_slots, held, client)
    try:
        yield blocks
    finally:
        blocks.parts.clear()  # also while the traceback of an error holds on to this frame


def _merge(function, shared, pieces):
    """Return the block of some partitions."""
    return function(*shared, **{name: _stack(column) for name, column in pieces.items()})


def _stack(pieces):
    if len(pieces) == 1:
        return pieces[0]
    if all(isinstance(piece, np.ndarray) for piece in pieces):
        return np.concatenate(pieces)
    import pandas as pd

    return pd.concat(pieces)


def _current_client():
    """Return the client to compute with; without one Dask computes in this process."""
    try:
        return default_client()
    except ValueError:
        return None


def _resources(client):
    """Return how many tasks can run at a time, and the workers' memory in bytes."""
    if client is None:
        return dask.system.CPU_COUNT, MEMORY_LIMIT
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not workers:
        raise RuntimeError(NO_WORKERS)
    memory = sum(worker["memory_limit"] or np.inf for worker in workers)
    return sum(worker["nthreads"] for worker in workers), memory


def _runs(client):
    """Say whether a worker is there that is not paused for want of memory."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return any(worker["status"] == "running" for worker in workers)


NO_WORKERS = (
    "The Dask cluster has no workers that run; start some, with client.cluster.scale(2) say, or "
    "give them more memory if they are paused."
)


def _start(tasks, client, spread=False):
    """Begin to compute and hold some tasks, which `spread` places on all workers in turn."""
    if client is None:
        return list(dask.persist(*tasks))
    if not spread:
        return client.compute(tasks)
    slots = [address for address, n in sorted(client.nthreads().items()) for _ in range(n)]
    return [
        client.compute(task, workers=[slots[i % len(slots)]], allow_other_workers=True)
        for i, task in enumerate(tasks)
    ]


def _gather(tasks, client):
    """Return the values of some tasks; raise RuntimeError where no worker can compute them."""
    if client is None:
        return list(dask.compute(*tasks))
    futures = client.compute(tasks)
    n_polls = 0
    try:
        while True:
            try:
                wait(futures, timeout=PATIENCE)
                return client.gather(futures)
            except TimeoutError:
                n_polls = 0 if _runs(client) else n_polls + 1
            if n_polls == MOST_POLLS:
                raise RuntimeError(NO_WORKERS)
    except KilledWorker as error:
        raise RuntimeError(
            "Workers died while they computed a block of rows, most likely for want of memory; use "
            "more workers, or smaller partitions."
        ) from error


def _partitions(columns, client):
    """Return lists of the partitions of each collection, as Delayed, and the bytes of all."""
    given = {name: column for name, column in columns.items() if column is not None}
    for name, column in given.items():
        if not is_dask(column):
            raise TypeError(
                f"{name} must be a Dask array or frame, got {type(column).__name__}; for data in "
                "memory use AUPRCClassifier or TOPRPolicy, or dask.array.from_array."
            )
        if is_array(column) and column.ndim == 2 and column.numblocks[1] > 1:
            raise ValueError(
                f"{name} has {column.numblocks[1]} chunks along its columns, and a block needs "
                f"whole rows: call {name}.rechunk({{1: -1}}) first."
            )
    first, X = next(iter(given.items()))
    sizes = _lengths(X)
    for name, column in given.items():
        own = _lengths(column)
        if None not in (own, sizes) and sum(own) == sum(sizes):
            given[name] = column.rechunk((sizes, *column.chunks[1:]))
    parts = {name: _delayed(column) for name, column in given.items()}
    for name, column in given.items():
        own = _lengths(column)
        if own != sizes if None not in (own, sizes) else len(parts[name]) != len(parts[first]):
            raise ValueError(
                f"{first} and {name} must have the same rows in the same partitions, but have "
                f"{_rows(X, sizes)} and {_rows(column, own)}."
            )
    if sizes is None:
        sizes = _gather([dask.delayed(len)(part) for part in parts[first]], client)
    return parts, sum(sizes) * sum(map(_row_bytes, given.values()))


def _delayed(column):
    """Return the partitions as Delayed."""
    if is_array(column):
        return list(column.to_delayed().ravel())
    # Full optimisation would read the few columns of y in fewer partitions than those of X.
    return list(column.simplify().to_delayed(optimize_graph=False))


def _lengths(column):
    """Return the lengths of the partitions, or None where Dask does not know them."""
    if not is_array(column) or np.isnan(column.chunks[0]).any():
        return None
    return column.chunks[0]


def _rows(column, sizes):
    return f"{column.npartitions} partitions" if sizes is None else f"{sum(sizes)} rows"


def _row_bytes(column):
    """Return the bytes of a row, where text counts as much as a number."""
    if is_array(column):
        return column.dtype.itemsize * int(np.prod(column.shape[1:]))
    dtypes = np.atleast_1d(np.asarray(column.dtypes, dtype=object))
    return sum(getattr(dtype, "itemsize", 8) for dtype in dtypes)
