"""The data sets: scikit-learn's, files of a folder, or OpenML's."""

from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from sklearn.datasets import fetch_openml, load_breast_cancer, load_digits, load_wine
from sklearn.model_selection import (
    RepeatedStratifiedKFold,
    StratifiedShuffleSplit,
    train_test_split,
)

BUNDLED = ("breast_cancer", "digits_8")
LOADERS = {"breast_cancer": load_breast_cancer, "digits": load_digits, "wine": load_wine}
# Binary tasks made from a set of several classes: (set, code or codes of the positive class).
DERIVED = {
    "breast_cancer": ("breast_cancer", 0), "digits_8": ("digits", 8),
    "digits_even": ("digits", (0, 2, 4, 6, 8)), "satimage_4": ("satimage", 3),
    "satimage_grey": ("satimage", (2, 3, 5)), "letter_a": ("letter", 0),
    "fmnist_1": ("fashion_mnist_20k", (0, 2, 4, 6)),
    "fmnist_2": ("fashion_mnist_20k", (1, 3, 5, 7, 8, 9)),
}  # fmt: skip
TEST_SHARE = 0.3
SMALL_SET = 1_000  # sets below this many rows are split three times
QUICK_ROWS = 200


@lru_cache(maxsize=1)
def load(name, data_home=None):
    """Return X (float64, dense or CSR) and y (1 is positive) of a binary set.

    It is scikit-learn's; or the file ``NAME.npz`` in `data_home`, with `y` and `X` (or the parts of
    a CSR matrix: `X_data`, `X_indices`, `X_indptr`, `X_shape`); or OpenML's of that name.
    """
    base, code = DERIVED.get(name, (name, 1))
    if name in BUNDLED:
        X, y = LOADERS[base](return_X_y=True)
    else:
        path = stored(name, data_home)
        X, y = _read(path) if path else _fetch(base)
    return X.astype(np.float64), np.isin(y, code).astype(int)


@cache
def load_classes(name, data_home=None):
    """Return the same with the codes of several classes; images of 28 x 28 are pooled to 7 x 7."""
    path = stored(name, data_home)
    if path:
        X, y = _read(path)
    elif name in LOADERS:
        X, y = LOADERS[name](return_X_y=True)
    else:
        data = fetch_openml(name.removesuffix("_20k"), version=1, as_frame=False)
        X, y = data.data, data.target
    X = X.astype(np.float64)
    if X.shape[1] == 28 * 28:
        X = X.reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4)).reshape(-1, 49)
    return X, np.unique(y, return_inverse=True)[1]


def stored(name, data_home):
    """Return the path of the file that a set is read from, None if `data_home` has none."""
    base = DERIVED.get(name, (name, 1))[0]
    path = data_home and Path(data_home) / f"{base}.npz"
    return path if path and path.exists() else None


def _read(path):
    with np.load(path, allow_pickle=False) as parts:
        if "X" in parts:
            return parts["X"], parts["y"]
        csr = (parts["X_data"], parts["X_indices"], parts["X_indptr"])
        return csr_matrix(csr, shape=tuple(parts["X_shape"])), parts["y"]


def _fetch(name):
    """Fetch a set from OpenML: one column per level, medians for gaps, 1 for the rarer of two."""
    data = fetch_openml(name, version=1, as_frame=True)
    X = pd.get_dummies(data.data)
    codes, counts = np.unique(data.target, return_inverse=True, return_counts=True)[1:]
    return X.fillna(X.median()).to_numpy(np.float64), (
        (codes == np.argmin(counts)).astype(int) if len(counts) == 2 else codes
    )


def at_most(n_rows, rows, y):
    """Return at most `n_rows` of the rows (indices of y), stratified."""
    if len(rows) <= n_rows:
        return rows
    return train_test_split(rows, train_size=n_rows, stratify=y[rows], random_state=0)[0]


def shuffled(y, split, max_train):
    """Return the rows for training and for the test of one stratified 70/30 split."""
    splitter = StratifiedShuffleSplit(split + 1, test_size=TEST_SHARE, random_state=0)
    train, test = list(splitter.split(y, y))[split]
    return at_most(max_train, train, y), test


def fold(y, number, n_folds, max_train):
    """Return the rows for training and for the test of one stratified fold, also of a repeat."""
    repeats = RepeatedStratifiedKFold(
        n_splits=n_folds, n_repeats=number // n_folds + 1, random_state=0
    )
    train, test = list(repeats.split(y, y))[number]
    return at_most(max_train, train, y), test
