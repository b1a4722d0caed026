"""Try several hundred bad or odd inputs on each estimator: ``python -m tests.hard_use``.

Each case must end in a clear error, one that names the problem in words, or in a right result:
finite probabilities that add up to one, labels from `classes_`, and what the plain form of the same
input gives where it is the same input. It may not crash or hang, change its inputs or parameters,
and a fit that fails must leave a fitted estimator as it was.

The cases are products of the tables below. They run in a process of their own, which is started
anew after a crash or when a case takes too long. ``--case NAME`` repeats one here, with its
traceback.
"""

import argparse
import copy
import faulthandler
import functools
import io
import itertools
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter, namedtuple
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from importlib import import_module
from linecache import getline
from pathlib import Path
from unittest import mock

import joblib
import numpy as np
import scipy.sparse as sp
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import SGDClassifier

import pnsklearn
from pnsklearn import AUPRCClassifier, PUTrendClassifier, SMaLLClassifier, TOPRPolicy

LIMIT = 60  # seconds for a case, on a busy machine
MEMORY = 24 << 30  # bytes that the process of the cases may map
LARGEST = np.finfo(float).max
SAME, RIGHT, ERROR, EITHER = "same", "right", "error", "either"


def optional(name):
    try:
        return import_module(name)
    except ImportError:
        return None


pd, pl, torch = map(optional, ("pandas", "polars", "torch"))


# What is fitted: the first parameters of each are the ones of --quick

Subject = namedtuple("Subject", "name settings task")


def binary(X, noise):
    y = (X[:, 0] - X[:, 1] + noise > 0.4).astype(int)
    return {"y": y}


def positive_unlabelled(X, noise):
    y = binary(X, noise)["y"]
    y[np.flatnonzero(y)[::2]] = 0
    return {"y": y}


def decisions(X, noise):
    return {"y": np.digitize(X[:, 0] + noise, [-0.5, 0.5])}


def rewarded(X, noise):
    y = np.arange(len(X)) % 3
    reward = np.where(decisions(X, noise)["y"] == y, 1.0, -0.5)
    return {"y": y, "reward": reward, "propensity": np.full(len(X), 1 / 3)}


SUBJECTS = [
    Subject(
        "AUPRCClassifier",
        [
            AUPRCClassifier(alpha=0.1),
            AUPRCClassifier(cv=2),
            AUPRCClassifier(solver="soap-adam", alpha=0.1, n_epochs=2),
            AUPRCClassifier(loss="squared_hinge", solver="trust-ncg", alpha=0.1, threshold="f1"),
            AUPRCClassifier(anchor="zero", alpha=0.01, prior=0.3),
        ],
        binary,
    ),
    Subject(
        "PUTrendClassifier",
        [
            PUTrendClassifier(
                "linear", final_estimator="same", n_snapshots=2, n_folds=2, steps_per_snapshot=5
            ),
            PUTrendClassifier("mlp", n_snapshots=3, n_folds=2),
            PUTrendClassifier(
                SGDClassifier(loss="log_loss", random_state=0),
                final_estimator="same",
                n_snapshots=2,
                n_folds=2,
                steps_per_snapshot=5,
            ),
            PUTrendClassifier.paper("mlp", n_snapshots=3, steps_per_snapshot=5),
        ],
        positive_unlabelled,
    ),
    Subject(
        "SMaLLClassifier",
        [
            SMaLLClassifier(2, 2, n_init=2),
            SMaLLClassifier(1, 2, fit_intercept=False, certify=True),
            SMaLLClassifier(2, 2, solver="fista", tol=0.01),
            SMaLLClassifier(2, 2, solver="saddle", tol=0.1, init="random"),
            SMaLLClassifier(2, 2, n_init=2, binarize="quantile", class_weight="balanced"),
        ],
        binary,
    ),
    Subject("TOPRPolicy", [TOPRPolicy(), TOPRPolicy(solver="sgd", n_epochs=3)], decisions),
    Subject(
        "TOPRPolicy, rewards",
        [
            TOPRPolicy(effective_positive=0.5),
            TOPRPolicy(solver="sgd", n_epochs=3),
            TOPRPolicy(positive_bounds=(0, np.inf), negative_bounds=(0, np.inf)),
        ],
        rewarded,
    ),
]


# The axes: for each expectation, functions of a good input

to_frame = functools.partial(pd.DataFrame, columns=list("abcd")) if pd else None


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
    "float32": np.float32,
    "list": np.ndarray.tolist,
    "CSR": sp.csr_matrix,
    "CSC array": sp.csc_array,
} | ({"pandas": to_frame} if pd else {})
POSITIONS = {"first": (0, 0), "last": (-1, -1), "row": (3, slice(None)), "column": (slice(None), 2)}
NOT_FINITE = {"NaN": np.nan, "inf": np.inf, "-inf": -np.inf}
SCALES = (5e-324, 1e-310, 1e-200, 1e-100, 1e-30, 1e-10, 1e10, 1e30, 1e100, 1e200, 1e300, 1.7e308)
COLUMNS = {"all": slice(None), "one": (slice(None), 1), "row": (5, slice(None))}

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
        "one huge": with_entry(1e300, 3),
        "one tiny": with_entry(1e-300, 3),
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
    }
    | {"number": lambda v: 1.0},
}
REWARDS = FEEDBACK | {
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
    | {f"times {size:g}": functools.partial(np.multiply, size) for size in SCALES},
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
    },
    EITHER: {
        "estimate": lambda p: "estimate",
        "ones": lambda p: 0 * p + 1,
        "bools": lambda p: p > 0,
        "one tiny": with_entry(1e-300, 3),
        "from tiny to one": lambda p: np.logspace(-300, 0, len(p)),
    }
    | {f"{size:g}": functools.partial(np.full_like, fill_value=size) for size in SCALES[:6]},
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
WORK = {"n_epochs", "n_init", "n_snapshots", "n_passes", "steps_per_snapshot"}


# One case: change a good fit, see what comes of it

Case = namedtuple("Case", "name act")


def attempt(bench, setting, changes, expected, place="fit", params=None):
    """Change the inputs of a good fit, or of a prediction; return "error" or "right"."""
    inputs = bench.inputs()
    rows = changes.pop("rows", None)
    if rows is not None:
        rows = rows(inputs["y"])
        inputs = {name: values[rows] for name, values in inputs.items()}
    for name, change in changes.items():
        both = (inputs["X"], inputs["y"]) if name == "X and y" else (inputs[name],)
        inputs[name[0] if name == "X and y" else name] = change(*both)
    model = copy.copy(bench.fitted(setting))
    if params:
        model.set_params(**params)
    state, given = vars(model).copy(), {name: digest(value) for name, value in inputs.items()}
    X, y = inputs.pop("X"), inputs.pop("y")
    error = probability = None
    try:
        if place == "fit":
            model.fit(X, y, **inputs)
        # Some inputs can be read only once; but for them, predict for what was fitted.
        probability = check_predictions(model, X)
    except AssertionError:
        raise
    except Exception as raised:
        error = raised
    inputs |= {"X": X, "y": y}
    assert given == {name: digest(value) for name, value in inputs.items()}, "changed its input"
    names = list(model.get_params(deep=False))
    assert all(vars(model)[name] is state[name] for name in names), "changed a parameter"
    if error is None:
        assert expected != ERROR, "no error"
        if expected in (SAME, "as CSR"):
            reference = bench.reference(setting, "CSR" if expected == "as CSR" else "dense")
            difference = np.abs(probability - reference).max()
            assert difference < 1e-6, f"not the result of the plain input (off by {difference:.2g})"
        return "right"
    check_clear(error)
    if expected == "as CSR" and bench.reference(setting, "CSR") is None:
        expected = ERROR
    if expected in (SAME, RIGHT, "as CSR"):
        raise AssertionError(f"refused: {error}") from error
    kept = vars(model).keys() == state.keys()
    assert kept and all(vars(model)[name] is state[name] for name in state), "a failed fit changed"
    reference = bench.reference(setting, "dense")
    model = bench.fitted(setting)
    assert np.array_equal(model.predict_proba(bench.inputs()["X"]), reference), "changed in place"
    return "error"


def digest(value):
    """Return what must not change of an input."""
    if sp.issparse(value):
        names = ("data", "indices", "indptr", "row", "col", "offsets", "rows")
        value = [value.shape, *(getattr(value, name, None) for name in names)]
    if torch and torch.is_tensor(value):
        value = value.detach().double().numpy()
    elif isinstance(value, np.ma.MaskedArray):
        value = value.data, value.mask
    elif hasattr(value, "to_numpy"):
        value = value.to_numpy(), getattr(value, "columns", None)
    if type(value).__name__ in ("generator", "object"):
        return None
    return joblib.hash(value)


def check_predictions(model, X):
    """Check what every fitted model must give for X; return the probabilities."""
    probability, labels = model.predict_proba(X), model.predict(X)
    assert probability.ndim == 2 and probability.shape[1] == len(model.classes_), "wrong shape"
    assert np.isfinite(probability).all(), "probabilities are not finite"
    assert ((probability >= 0) & (probability <= 1)).all(), "probabilities outside [0, 1]"
    assert np.abs(probability.sum(axis=1) - 1).max() < 1e-6, "probabilities do not add up to one"
    assert len(labels) == len(probability) and np.isin(labels, model.classes_).all(), "odd labels"
    assert not np.isnan(model.decision_function(X)).any(), "decision_function has NaN"
    for name in ("coef_", "intercept_", "surrogate_", "objective_", "class_prior_", "baseline_"):
        assert np.isfinite(getattr(model, name, 0.0)).all(), f"{name} is not finite"
    return probability


CLEAR = (ValueError, TypeError, NotFittedError, ImportError)
# Where scikit-learn checks inputs. What NumPy or pandas say of a conversion there is passed on.
CHECKS = [str(Path("sklearn", part)) for part in ("utils", "model_selection")]


def check_clear(error):
    """Assert that an error was raised on purpose, and says in words what is wrong."""
    unclear = isinstance(error, np.linalg.LinAlgError) or not isinstance(error, CLEAR)
    assert not unclear, f"{type(error).__name__}: {error}"
    assert len(str(error).split()) >= 3, f"no sentence: {error!r}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "base.py" not in f.filename]
    package = str(Path(pnsklearn.__file__).parent)
    ours = max((k for k, f in enumerate(frames) if f.filename.startswith(package)), default=-1)
    if ours == len(frames) - 1:
        on_purpose = getline(frames[-1].filename, frames[-1].lineno).lstrip().startswith("raise ")
    else:
        on_purpose = any(place in frames[ours + 1].filename for place in CHECKS)
    place = f"{frames[ours].filename}:{frames[ours].lineno}"
    assert on_purpose, f"not raised on purpose at {place}: {type(error).__name__}: {error}"


class Bench:
    """A subject with its good inputs, fitted models and references."""

    def __init__(self, subject, seed):
        self.subject = subject
        rng = np.random.RandomState(seed)
        self._X = rng.standard_normal((60, 4))
        self._task = subject.task(self._X, 0.5 * rng.standard_normal(60))

    def inputs(self):
        """Return copies of the good inputs."""
        inputs = {"X": self._X, "sample_weight": np.ones(60)} | self._task
        return {name: value.copy() for name, value in inputs.items()}

    def fit(self, model, **changes):
        inputs = self.inputs() | changes
        return model.fit(inputs.pop("X"), inputs.pop("y"), **inputs)

    @functools.cache  # noqa: B019, benches live as long as the process
    def fitted(self, setting):
        return self.fit(self.unfitted(setting))

    def unfitted(self, setting=0):
        return clone(self.subject.settings[setting]).set_params(random_state=0)

    @functools.cache  # noqa: B019
    def reference(self, setting, form):
        """Return the probabilities of a good fit, or None if this form is refused."""
        if form == "dense":
            return self.fitted(setting).predict_proba(self._X)
        X = sp.csr_matrix(self._X)
        try:
            return self.fit(self.unfitted(setting), X=X).predict_proba(X)
        except TypeError:
            return None

    def assert_same(self, model):
        assert np.array_equal(model.predict_proba(self._X), self.reference(0, "dense")), "differs"


# What else users do: each is right, or raises an AssertionError


def use_pickle(bench):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        bench.assert_same(pickle.loads(pickle.dumps(bench.fitted(0), protocol)))


def use_joblib_dump(bench):
    file = io.BytesIO()
    joblib.dump(bench.fitted(0), file)
    file.seek(0)
    bench.assert_same(joblib.load(file))


def use_copies(bench):
    bench.assert_same(copy.copy(bench.fitted(0)))
    bench.assert_same(copy.deepcopy(bench.fitted(0)))


def use_other_version(bench):
    """A model of another version of the package and of scikit-learn loads, and predicts."""
    with mock.patch("sklearn.base.__version__", "1.0"), mock.patch("pnsklearn.__version__", "9"):
        state = pickle.dumps(bench.fitted(0))
    bench.assert_same(pickle.loads(state))


def use_clone(bench):
    model = clone(bench.fitted(0))
    try:
        model.predict(bench.inputs()["X"])
    except NotFittedError:
        bench.assert_same(bench.fit(model))
    else:
        raise AssertionError("a clone is fitted")


def use_set_params(bench):
    try:
        bench.unfitted().set_params(no_such_parameter=1)
    except ValueError as error:
        assert "no_such_parameter" in str(error), "error without the name"
    else:
        raise AssertionError("took a parameter that it does not have")


def use_refit(bench):
    model = bench.unfitted()
    X = bench.inputs()["X"]
    bench.fit(model, X=X[:, :2])
    bench.fit(model, X=sp.csr_matrix(X))
    bench.assert_same(bench.fit(model))


def use_config(bench, **config):
    with config_context(**config):
        bench.assert_same(bench.fit(bench.unfitted()))


def use_threads(bench):
    with ThreadPoolExecutor(4) as pool:
        for model in pool.map(bench.fit, [bench.unfitted() for _ in range(8)]):
            bench.assert_same(model)
        X = bench.inputs()["X"]
        for probability in pool.map(bench.fitted(0).predict_proba, [X] * 8):
            assert np.array_equal(probability, bench.reference(0, "dense")), "differs"


def use_processes(bench, backend):
    if backend == "fork":
        with multiprocessing.get_context("fork").Pool(2) as pool:
            models = pool.map(bench.fit, [bench.unfitted() for _ in range(2)])
    else:
        tasks = (joblib.delayed(bench.fit)(bench.unfitted()) for _ in range(2))
        models = joblib.Parallel(2, backend)(tasks)
    for model in models:
        bench.assert_same(model)


class Interrupter:
    """A callback that raises at the end of a task."""

    def __init__(self, at):
        self.left = at

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def interrupted(bench, model, arm=lambda: None, disarm=lambda: None):
    """Interrupt a refit: the model is as before, and can be fitted again."""
    state, done = vars(model).copy(), False
    X = bench.inputs()["X"]
    try:
        arm()
        bench.fit(model, X=X[:, :3])
        done = True
        disarm()
    except KeyboardInterrupt:
        disarm()
    if not done:
        assert vars(model).keys() == state.keys(), "changed by an interrupted fit"
        assert all(vars(model)[name] is state[name] for name in state), "changed"
        bench.assert_same(model)
    bench.assert_same(bench.fit(model))


def use_callback_interrupt(bench, at):
    callback = Interrupter(at)
    model = copy.copy(bench.fitted(0)).set_callbacks(callback)
    interrupted(bench, model, disarm=functools.partial(setattr, callback, "left", 0))


def use_signal(bench, delay):
    """Interrupt as Ctrl-C does, some time into the fit."""
    old = signal.signal(signal.SIGALRM, signal.default_int_handler)
    timer = functools.partial(signal.setitimer, signal.ITIMER_REAL)
    try:
        model = copy.copy(bench.fitted(0))
        interrupted(bench, model, functools.partial(timer, delay), functools.partial(timer, 0))
    finally:
        signal.signal(signal.SIGALRM, old)


def use_names(bench, fit_names, query_names):
    """Feature names must be those of the fit, in their order; without names they are not known."""
    X = bench.inputs()["X"]
    model = bench.fit(bench.unfitted(), X=to_frame(X).set_axis(fit_names, axis=1))
    bench.assert_same(model)
    query = pd.DataFrame(X[:, : len(query_names)], columns=query_names)
    try:
        model.predict(query)
    except ValueError as error:
        check_clear(error)
    else:
        raise AssertionError("predicted for other features")


BEHAVIOURS = {
    "pickle": use_pickle,
    "joblib.dump": use_joblib_dump,
    "copies": use_copies,
    "a pickle of another version": use_other_version,
    "clone": use_clone,
    "set_params": use_set_params,
    "refit": use_refit,
    "threads": use_threads,
}


def cases(bench, quick):
    """Yield the cases of a subject."""
    subject = bench.subject
    with_feedback = "reward" in bench.inputs()
    settings = range(1 if quick else len(subject.settings))

    def case(name, *args, **kwargs):
        setting = args[0]
        name = f"{subject.name}: {name}" + (f", setting {setting}" if setting else "")
        return Case(name, functools.partial(attempt, bench, *args, **kwargs))

    def table(axis, slot, setting, entries, place="fit"):
        for expected, forms in entries.items():
            for name, form in forms.items():
                yield case(f"{axis} {name}", setting, {slot: form}, expected, place)

    for setting in settings:
        for place in ("fit", "predict"):
            yield from table(f"{place}, X", "X", setting, CONTAINERS, place)
            if place == "fit":
                yield from table("fit, X", "X", setting, {"as CSR": SPARSE})
            else:
                # A model of dense data takes sparse X, but for steps of single values.
                yield from table("predict, X", "X", setting, {EITHER: SPARSE}, place)
            for (form, make), (where, at), (name, value) in itertools.product(
                FORMS.items(), POSITIONS.items(), NOT_FINITE.items()
            ):
                change = chain(with_entry(value, at), make)
                yield case(
                    f"{place}, {name}, {where}, {form}", setting, {"X": change}, ERROR, place
                )
            for (form, make), (where, at), size in itertools.product(
                FORMS.items(), COLUMNS.items(), SCALES
            ):
                if form == "float32" and not 1e-40 < size < 1e38:
                    continue
                change = chain(scaled(size, at), make)
                name = f"{place}, {where} times {size:g}, {form}"
                yield case(name, setting, {"X": change}, EITHER, place)
        for name, rows in ROWS.items():
            yield case(f"fit, {name}", setting, {"rows": rows}, EITHER)
        structures = STRUCTURES | {"very many columns": wide(30_000 if quick else 1_000_000)}
        for (name, change), (form, make) in itertools.product(structures.items(), FORMS.items()):
            if form == "pandas" or (form != "CSR" and "very many" in name):
                continue
            both = chain(change, make if "very many" not in name else lambda X: X)
            expected = EITHER if form in ("CSR", "CSC array") or "constant" in name else RIGHT
            yield case(f"fit, {name}, {form}", setting, {"X and y": both}, expected)
        yield from table("y", "y", setting, LABELS)
        yield from table("weight", "sample_weight", setting, WEIGHTS)
        if with_feedback:
            yield from table("reward", "reward", setting, REWARDS)
            yield from table("propensity", "propensity", setting, PROPENSITIES)
        for (n, rows), (w, weight) in itertools.product(ROWS.items(), WEIGHTS[EITHER].items()):
            if not quick:
                yield case(
                    f"{n}, weight {w}", setting, {"rows": rows, "sample_weight": weight}, EITHER
                )
        for parameter, (name, value) in itertools.product(
            subject.settings[0].get_params(deep=False), VALUES.items()
        ):
            if parameter in WORK and "integer" in name:
                continue
            params = {parameter: value}
            yield case(f"{parameter}={name}", setting, {}, EITHER, params=params)

    behaviours = dict(BEHAVIOURS)
    for at in (1, 2, 5, 20):
        behaviours[f"interrupt by callback {at}"] = functools.partial(use_callback_interrupt, at=at)
    if hasattr(signal, "setitimer"):
        for delay in (1e-4, 1e-3, 3e-3, 1e-2, 3e-2):
            behaviours[f"interrupt after {delay} s"] = functools.partial(use_signal, delay=delay)
    for option in (
        {"assume_finite": True}, {"enable_metadata_routing": True}, {"working_memory": 1},
        {"skip_parameter_validation": True}, {"transform_output": "pandas" if pd else "default"},
    ):  # fmt: skip
        behaviours[f"config {option}"] = functools.partial(use_config, **option)
    for backend in ("fork",) if quick else ("fork", "loky"):
        if backend in (*multiprocessing.get_all_start_methods(), "loky"):
            behaviours[backend] = functools.partial(use_processes, backend=backend)
    for names in ("abc", "abdc", "abcde"[1:], "ABCD") if pd else ():
        use = functools.partial(use_names, fit_names=list("abcd"), query_names=list(names))
        behaviours[f"names {names} for abcd"] = use
    for name, use in behaviours.items():
        yield Case(f"{subject.name}: {name}", functools.partial(use, bench))


def chain(first, second):
    return lambda *args: second(first(*args))


def scaled(size, at):
    def change(X):
        with np.errstate(over="ignore"):
            X[at] = np.clip(X[at] * size, -LARGEST, LARGEST)
        return X

    return change


def run(case):
    """Return what a case came to: "right", "error", or what failed."""
    warnings.simplefilter("ignore")
    try:
        return case.act() or "right"
    except BaseException as error:
        return (
            str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        )


def all_cases(options):
    chosen = [s for s in SUBJECTS if s.name.startswith(options.estimator)]
    return [case for s in chosen for case in cases(Bench(s, options.seed), options.quick)]


def work(pipe, options):
    """Answer the numbers of cases with their results; the watchdog ends a process that hangs."""
    faulthandler.enable()
    if resource := optional("resource"):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    every = all_cases(options)
    while (number := pipe.recv()) is not None:
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        result = run(every[number])
        faulthandler.cancel_dump_traceback_later()
        pipe.send(result)


def results(options, n_cases):
    """Yield the result of each case, in a process that is replaced when it dies."""
    spawn, process, pipe = multiprocessing.get_context("spawn"), None, None
    for number in range(n_cases):
        if process is None:
            pipe, other = spawn.Pipe()
            process = spawn.Process(target=work, args=(other, options))
            process.start()
            other.close()
        pipe.send(number)
        try:
            yield pipe.recv()
        except EOFError:
            process.join()
            yield (
                f"took more than {LIMIT} s"
                if process.exitcode == 1
                else f"ended the process, exit code {process.exitcode}"
            )
            process = None
    if process is not None:
        pipe.send(None)
        process.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one set of parameters each")
    parser.add_argument("--estimator", default="", help="only those whose name starts like this")
    parser.add_argument("--seed", type=int, default=0, help="seed of the data")
    parser.add_argument("--case", help="repeat one case here, with its traceback")
    options = parser.parse_args()
    every = all_cases(options)
    if options.case:
        (case,) = (case for case in every if case.name == options.case)
        print(case.act() or "right")
        return 0
    counts, failures = Counter(), []
    for case, result in zip(every, results(options, len(every)), strict=True):
        kind = result if result in ("right", "error") else "failed"
        counts[case.name.partition(":")[0], kind] += 1
        if kind == "failed":
            failures.append((case.name, result))
            print(f"FAILED  {case.name}\n        {result}", flush=True)
    print(f"{'estimator':24}{'cases':>8}{'clear errors':>15}{'right':>8}{'failures':>10}")
    for name in dict.fromkeys(name for name, _ in counts):
        error, right, failed = (counts[name, kind] for kind in ("error", "right", "failed"))
        print(f"{name:24}{error + right + failed:8}{error:15}{right:8}{failed:10}")
    if failures:
        print(f"Repeat one with: python -m tests.hard_use --case {failures[0][0]!r}")
    return bool(failures)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
