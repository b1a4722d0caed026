"""The inputs of `tests.hard_use`: for each expectation, functions of a good input, by name."""

import functools
import tempfile
from datetime import datetime
from importlib import import_module

import numpy as np
import scipy.sparse as sp

LARGEST = np.finfo(float).max
# The same result as the plain form, a right one, a clear error, or either of the last two.
SAME, RIGHT, ERROR, EITHER = "same", "right", "error", "either"


def optional(name):
    """Return a module, or None where it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        return None


pd, pl, torch = map(optional, ("pandas", "polars", "torch"))


def to_frame(X, **options):
    return pd.DataFrame(X, columns=[chr(ord("a") + k) for k in range(X.shape[1])], **options)


def memory_map(X):
    file = tempfile.TemporaryFile()
    mapped = np.memmap(file, X.dtype, "w+", shape=X.shape)
    mapped[:] = X
    return mapped


def strided(X):
    wide = np.zeros((2 * X.shape[0], *(2 * n for n in X.shape[1:])), X.dtype)
    wide[tuple(slice(None, None, 2) for _ in X.shape)] = X
    return wide[tuple(slice(None, None, 2) for _ in X.shape)]


def backwards(X):
    return np.ascontiguousarray(X[::-1])[::-1]


def read_only(X):
    X = X.copy()
    X.setflags(write=False)
    return X


def hidden(X):
    """Return a masked array with a masked entry."""
    X = np.ma.array(X)
    X[(1,) * X.ndim] = np.ma.masked
    return X


def with_entry(value, where, dtype=None):
    def change(X):
        X = X.astype(dtype) if dtype else X.copy()
        X[where] = value
        return X

    return change


def unsorted_duplicates(X):
    """Return a CSR matrix with each entry in two halves, columns from right to left."""
    n, d = X.shape
    indices = np.tile(np.repeat(np.arange(d)[::-1], 2), n)
    data = np.repeat(X[:, ::-1], 2, axis=1).ravel() / 2
    return sp.csr_matrix((data, indices, np.arange(n + 1) * 2 * d), shape=X.shape)


def long_indices(X):
    X = sp.csr_array(X)
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    return X


def chain(first, second):
    return lambda *args: second(first(*args))


def in_float32(X):
    largest = np.finfo(np.float32).max
    X = np.where(np.isinf(X), X, np.clip(X, -largest, largest))
    return X.astype(np.float32)


def scaled(size, at):
    def change(X):
        with np.errstate(over="ignore"):
            X[at] = np.clip(X[at] * size, -LARGEST, LARGEST)
        return X

    return change


CONTAINERS = {
    SAME: {
        "array": np.array,
        "list": lambda X: X.tolist(),
        "tuple of tuples": lambda X: tuple(map(tuple, X)),
        "list of arrays": list,
        "memory map": memory_map,
        "masked array": np.ma.array,
        "Fortran order": np.asfortranarray,
        "strided": strided,
        "rows backwards": backwards,
        "columns backwards": lambda X: backwards(X.T).T,
        "read-only": read_only,
        "big-endian": lambda X: X.astype(">f8"),
        "unaligned": lambda X: np.frombuffer(b"." + X.tobytes(), offset=1).reshape(X.shape),
        "longdouble": lambda X: X.astype(np.longdouble),
        "object numbers": lambda X: X.astype(object),
        "number strings in objects": lambda X: X.astype(str).astype(object),
    },
    RIGHT: {
        dtype: functools.partial(np.ndarray.astype, dtype=dtype)
        for dtype in "bool int8 int16 int32 int64 float16 float32".split()
    }
    | {"uint8": lambda X: np.abs(X).astype(np.uint8)},
    ERROR: {
        "complex": lambda X: X + 1j,
        "strings": lambda X: np.full(X.shape, "a"),
        "None inside": with_entry(None, (2, 1), object),
        "a list inside": with_entry([1, 2], (2, 1), object),
        "a string inside": with_entry("many", (2, 1), object),
        "masked entry": hidden,
        "structured": lambda X: np.zeros(len(X), [("a", float), ("b", float)]),
        "ragged": lambda X: [[1.0, 2.0], *X.tolist()[1:]],
        "generator": lambda X: (row for row in X),
        "string": lambda X: "X",
        "None": lambda X: None,
        "dict": lambda X: {"a": X[:, 0]},
        "set": lambda X: {1.0, 2.0},
        "number": lambda X: 1.0,
        "0-d": lambda X: np.array(1.0),
        "1-d": lambda X: X[:, 0],
        "3-d": lambda X: X[:, :, None],
        "no rows": lambda X: X[:0],
        "no columns": lambda X: X[:, :0],
        "no rows, CSR": lambda X: sp.csr_matrix(X[:0]),
        "no columns, CSR": lambda X: sp.csr_matrix(X[:, :0]),
        "object": lambda X: object(),
        "complex CSR": lambda X: sp.csr_matrix(X + 1j),
    },
    EITHER: {
        "matrix": np.matrix,
        "datetimes": lambda X: np.abs(X * 1e9).astype("M8[s]"),
        "timedeltas": lambda X: (X * 1e9).astype("m8[s]"),
        "bytes": lambda X: X.astype("S30"),
        "void": lambda X: X.astype("V16"),
    },
}
CSR = sp.csr_matrix
SPARSE = {
    "CSR": sp.csr_matrix,
    "CSC": sp.csc_matrix,
    "COO": sp.coo_matrix,
    "BSR": sp.bsr_matrix,
    "LIL": sp.lil_matrix,
    "DOK": sp.dok_matrix,
    "DIA": sp.dia_matrix,
    "CSR array": sp.csr_array,
    "CSC array": sp.csc_array,
    "COO array": sp.coo_array,
    "unsorted and duplicate indices": unsorted_duplicates,
    "64-bit indices": long_indices,
    "read-only CSR": lambda X: sp.csr_matrix(sp.csr_matrix(X), copy=False),
}
if pd:
    CONTAINERS[SAME] |= {
        "pandas": to_frame,
        "pandas Float64": lambda X: to_frame(X).convert_dtypes(),
        "pandas objects": lambda X: to_frame(X).astype(object),
        "pandas, odd index": lambda X: to_frame(X, index=[datetime.now()] * len(X)),
    }
    CONTAINERS[ERROR] |= {
        "pandas strings": lambda X: to_frame(X).assign(b="a"),
        "pandas categories": lambda X: to_frame(X).assign(b=pd.Categorical(["u", "v"] * 30)),
        "pandas NA": lambda X: to_frame(X).convert_dtypes().mask(X > 1),
        "pandas series": lambda X: pd.Series(X[:, 0]),
        "pandas, no columns": lambda X: to_frame(X)[[]],
        "pandas, mixed names": lambda X: to_frame(X).rename(columns={"a": 0}),
    }
    CONTAINERS[EITHER] |= {
        "pandas datetimes": lambda X: to_frame(X).assign(b=datetime.now()),
        "pandas, same name twice": lambda X: to_frame(X).set_axis(list("aabb"), axis=1),
        "pandas sparse": lambda X: to_frame(X).astype(pd.SparseDtype(float)),
    }
if pl:
    CONTAINERS[SAME]["polars"] = lambda X: pl.DataFrame(X, schema=list("abcd"))
    CONTAINERS[ERROR]["polars strings"] = lambda X: pl.DataFrame(np.full(X.shape, "a"))
    CONTAINERS[ERROR]["polars null"] = lambda X: pl.DataFrame(X).fill_nan(None).shift(1)
if torch:
    CONTAINERS[SAME]["torch"] = torch.tensor
    CONTAINERS[EITHER]["torch, with gradient"] = lambda X: torch.tensor(X, requires_grad=True)
    CONTAINERS[EITHER]["torch half"] = lambda X: torch.tensor(X).to(torch.bfloat16)

FORMS = {
    "dense": np.array,
    "float32": in_float32,
    "list": np.ndarray.tolist,
    "CSR": CSR,
    "CSC array": sp.csc_array,
} | ({"pandas": to_frame} if pd else {})
PARTS = {
    "all": (slice(None), slice(None)),
    "first": (0, 0),
    "last": (-1, -1),
    "a row": (3, slice(None)),
    "a column": (slice(None), 2),
}
NOT_FINITE = {"NaN": np.nan, "inf": np.inf, "-inf": -np.inf}
SCALES = {
    f"{size:g}": size
    for size in (5e-324, 1e-310, 1e-200, 1e-100, 1e-30, 1e-10, 1e10, 1e30, 1e100, 1e200, 1.7e308)
}
# Every so many cases of a product; prime, so that no entry of a table is left out for another's.
STRIDE = 11

ROWS = {
    "one row": lambda y: [0],
    "two rows": lambda y: np.unique(y, return_index=True)[1][:2],
    "each class once": lambda y: np.unique(y, return_index=True)[1],
    "each class twice": lambda y: np.r_[*(np.flatnonzero(y == c)[:2] for c in np.unique(y))],
    "one positive": lambda y: np.r_[np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:1]],
    "one negative": lambda y: np.r_[np.flatnonzero(y == 1), np.flatnonzero(y == 0)[:1]],
    "all rows ten times": lambda y: np.tile(np.arange(len(y)), 10),
    "one row of each class, often": lambda y: np.repeat(np.unique(y, return_index=True)[1], 20),
    "sorted": lambda y: np.argsort(y, kind="stable"),
}
STRUCTURES = {
    "all zero": lambda X, y: 0 * X,
    "constant": lambda X, y: 0 * X + 3.7,
    "a constant column": lambda X, y: np.c_[X[:, :3], np.full(len(X), 1e6)],
    "equal columns": lambda X, y: np.repeat(X[:, :1], 4, axis=1),
    "columns that add up": lambda X, y: np.c_[X, X.sum(axis=1), X[:, 0] - X[:, 1]],
    "one column": lambda X, y: X[:, :1],
    "more columns than rows": lambda X, y: np.tile(X, 40) + np.arange(160) % 7,
    "the label": lambda X, y: np.c_[y, y, X[:, 0]].astype(float),
    "the label, far away": lambda X, y: 1e8 + np.c_[y, X[:, 0]],
    "labels shuffled": lambda X, y: np.roll(X, 7, axis=0),
    "integers": lambda X, y: np.round(X),
    "zeros and ones": lambda X, y: (X > 0).astype(float),
    "negative zeros": lambda X, y: np.where(X > 0, X, -0.0),
    "an outlier": lambda X, y: np.where(np.arange(X.size).reshape(X.shape) == 0, 1e15, X),
    "nearly constant": lambda X, y: 1 + 1e-15 * X,
}


def wide(n_columns):
    """Return a sparse matrix of very many columns."""

    def change(X, y):
        columns = np.arange(X.size) * 7919 % n_columns
        rows = np.repeat(np.arange(len(X)), X.shape[1])
        return sp.csr_matrix((X.ravel(), (rows, columns)), shape=(len(X), n_columns))

    return change


def named(*names, **options):
    return lambda y: np.array(names, **options)[y]


LABELS = {
    SAME: {
        "list": lambda y: y.tolist(),
        "tuple": tuple,
        "column": lambda y: y[:, None],
        "masked array": np.ma.array,
        "strings": named("a", "b", "c"),
        "object strings": named("a", "b", "c", dtype=object),
        "not ASCII": named("Ärger", "β", "猫"),
        "empty string": named("", " ", "  "),
        "long strings": named("a" * 10_000, "b" * 10_000, "c" * 10_000),
        "negative": lambda y: y - 5,
        "-1 and 1": lambda y: 2 * y - 1,
        "1 and 2": lambda y: y + 1,
        "huge": lambda y: y + 2**62,
        "huge and unsigned": lambda y: y.astype(np.uint64) + np.uint64(2**63),
        "read-only": read_only,
        "backwards": backwards,
        "strided": strided,
        "memory map": memory_map,
    }
    | {t: functools.partial(np.ndarray.astype, dtype=t) for t in "int8 uint16 float32 f8".split()},
    ERROR: {
        "one class": lambda y: 0 * y,
        "NaN": with_entry(np.nan, 3, float),
        "inf": with_entry(np.inf, 3, float),
        "None inside": with_entry(None, 3, object),
        "NaN among objects": lambda y: with_entry(np.nan, 3, object)(named("a", "b", "c")(y)),
        "mixed": with_entry("a", 3, object),
        "masked entry": hidden,
        "not integer": lambda y: y + 0.5,
        "too short": lambda y: y[:-1],
        "too long": lambda y: np.r_[y, y[:1]],
        "empty": lambda y: y[:0],
        "two columns": lambda y: np.c_[y, y],
        "ragged": lambda y: [[0], [1, 0], *y.tolist()[2:]],
        "a list inside": with_entry([1], 3, object),
        "string": lambda y: "y",
        "None": lambda y: None,
        "number": lambda y: 1,
        "0-d": lambda y: np.array(1),
        "dict": lambda y: {0: y},
        "set": set,
        "generator": lambda y: (label for label in y),
        "complex": lambda y: y + 1j,
        "sparse": lambda y: sp.csr_matrix(y),
        "object": lambda y: object(),
    },
    EITHER: {
        "one label of each kind": lambda y: np.arange(len(y)),
        "object numbers": lambda y: y.astype(object),
        "bytes": named(b"a", b"b", b"c"),
        "datetimes": lambda y: y.astype("M8[D]"),
        "timedeltas": lambda y: y.astype("m8[D]"),
        "float16": lambda y: y.astype(np.float16),
        "longdouble": lambda y: y.astype(np.longdouble),
        "huge integers in objects": lambda y: y.astype(object) + 10**30,
        "tuples": lambda y: np.fromiter([(int(k), 0) for k in y], object, len(y)),
        "bools": lambda y: y.astype(bool),
        "three classes": lambda y: np.where(np.arange(len(y)) < 9, 2, y),
    },
}
WEIGHTS = {
    SAME: {
        "None": lambda w: None,
        "list": lambda w: w.tolist(),
        "integers": lambda w: w.astype(int),
        "bools": lambda w: w.astype(bool),
        "longdouble": lambda w: w.astype(np.longdouble),
        "scalar": lambda w: 1.0,
        "backwards": backwards,
        "strided": strided,
        "read-only": read_only,
        "objects": lambda w: w.astype(object),
        "big-endian": lambda w: w.astype(">f8"),
    },
    ERROR: {
        "all zero": lambda w: 0 * w,
        "negative": with_entry(-1.0, 3),
        "NaN": with_entry(np.nan, 3),
        "inf": with_entry(np.inf, 3),
        "one not zero": lambda w: 1.0 * (np.arange(len(w)) == 0),
        "complex": lambda w: w + 1j,
        "masked entry": hidden,
        "too short": lambda w: w[:-1],
        "too long": lambda w: np.r_[w, 1],
        "two columns": lambda w: np.c_[w, w],
        "strings": lambda w: w.astype(str).astype("U1") + "x",
        "string": lambda w: "balanced",
        "None inside": with_entry(None, 3, object),
        "dict": lambda w: {0: 1.0},
        "generator": lambda w: (v for v in w),
        "NaN scalar": lambda w: np.nan,
        "empty": lambda w: w[:0],
        "object": lambda w: object(),
    },
    EITHER: {
        "column": lambda w: w[:, None],
        "half zero": lambda w: 1.0 * (np.arange(len(w)) % 2),
        "last half zero": lambda w: 1.0 * (np.arange(len(w)) < len(w) // 2),
        "from tiny to huge": lambda w: np.logspace(-300, 300, len(w)),
        "one huge": with_entry(1e300, -1),
        "one tiny": with_entry(1e-300, -1),
        "float16": lambda w: w.astype(np.float16),
    }
    | {
        f"{size:g}": functools.partial(np.multiply, size)
        for size in (5e-324, 1e-310, 1e-300, 1e-30, 1e-10, 1e10, 1e30, 1e300, 1.7e308)
    },
}
if pd:
    series = pd.Series
    LABELS[SAME] |= {
        "pandas": series,
        "pandas strings": lambda y: series(named("a", "b", "c")(y)),
        "pandas categories": lambda y: series(named("a", "b", "c")(y), dtype="category"),
        "pandas Int64": lambda y: series(y, dtype="Int64"),
        "pandas frame": lambda y: pd.DataFrame({"y": y}),
        "pandas, odd index": lambda y: series(y, index=y),
    }
    LABELS[ERROR]["pandas NA"] = lambda y: series(y, dtype="Int64").mask(y == 1)
    WEIGHTS[SAME]["pandas"] = lambda w: series(w, index=w)
if pl:
    LABELS[SAME]["polars"] = pl.Series
    WEIGHTS[SAME]["polars"] = pl.Series
if torch:
    LABELS[SAME]["torch"] = torch.tensor
    WEIGHTS[SAME]["torch"] = torch.tensor

# Rewards and propensities: every form of the weights, and values of their own.
FEEDBACK = {
    SAME: {
        name: form
        for name, form in WEIGHTS[SAME].items()
        if name not in ("None", "scalar", "integers", "bools")
    }
    | {"column": lambda v: v[:, None], "tuple": tuple},
    ERROR: {
        name: form
        for name, form in WEIGHTS[ERROR].items()
        if name not in ("all zero", "negative", "one not zero")
    },
}
REWARDS = FEEDBACK | {
    ERROR: FEEDBACK[ERROR] | {"number": lambda r: 1.0},
    EITHER: {
        "integers": lambda r: r.astype(int),
        "bools": lambda r: r > 0,
        "all zero": lambda r: 0 * r,
        "all equal": lambda r: 0 * r + 7,
        "all good": np.abs,
        "all bad": lambda r: -np.abs(r),
        "one not zero": lambda r: 1.0 * (np.arange(len(r)) == 0),
        "negative zeros": lambda r: np.where(r > 0, r, -0.0),
        "far from zero": lambda r: r + 1e15,
        "from tiny to huge": lambda r: r * np.logspace(-300, 300, len(r)),
        "None": lambda r: None,
    }
    | {f"times {size:g}": functools.partial(np.multiply, size) for size in SCALES.values()},
}
PROPENSITIES = {
    SAME: FEEDBACK[SAME],
    ERROR: FEEDBACK[ERROR]
    | {
        "zero": with_entry(0.0, 3),
        "negative": with_entry(-0.1, 3),
        "above one": with_entry(1.0000001, 3),
        "None, with rewards": lambda p: None,
        "a word": lambda p: "uniform",
        "percent": lambda p: 100 * p,
        "number above one": lambda p: 1.5,
    },
    EITHER: {
        "estimate": lambda p: "estimate",
        "number": lambda p: 0.5,
        "ones": lambda p: 0 * p + 1,
        "bools": lambda p: p > 0,
        "one tiny": with_entry(1e-300, 3),
        "from tiny to one": lambda p: np.logspace(-300, 0, len(p)),
    }
    | {
        f"{size:g}": functools.partial(np.full_like, fill_value=size)
        for size in list(SCALES.values())[:6]
    },
}

# Values for every parameter; those that count rounds of work are spared the astronomical ones.
VALUES = {
    "None": None, "True": True, "a word": "nonsense", "empty string": "", "bytes": b"auto",
    "NaN": np.nan, "inf": np.inf, "-inf": -np.inf, "-1": -1, "0": 0, "1": 1, "2": 2, "0.5": 0.5,
    "1.5": 1.5, "-0.0": -0.0, "1e-300": 1e-300, "5e-324": 5e-324, "1e-12": 1e-12, "1e12": 1e12,
    "1e300": 1e300, "float32": np.float32(0.25), "float64": np.float64(0.75), "int64": np.int64(3),
    "uint8": np.uint8(2), "bool_": np.True_, "str_": np.str_("auto"), "0-d": np.array(3),
    "array": np.array([1, 2]), "list": [0.1, 0.9], "tuple": (0.2, 0.5), "empty tuple": (),
    "tuple of a word": ("precision", np.nan), "dict": {}, "dict of labels": {0: 1.0, 1: 1e300},
    "set": {1}, "object": object(), "class": int, "function": lambda: None, "complex": 1j,
    "huge integer": 10**9, "integer beyond 64 bits": 10**25,
    "RandomState": np.random.RandomState(3), "Generator": np.random.default_rng(3),
}  # fmt: skip
WORK = {"n_epochs", "n_init", "n_jobs", "n_snapshots", "n_passes"}
ASTRONOMICAL = {"1e12", "1e300", "huge integer", "integer beyond 64 bits"}
