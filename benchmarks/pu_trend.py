"""PUTrendClassifier against its peers: accuracy, F1, AUC, class prior, warnings and time.

Run `python -m benchmarks.pu_trend`. Everything runs on one thread; seconds are of the processor.
Each section keeps its runs in ``pu_NAME_runs.csv`` as they come and goes on from there when it is
started again; delete the file to start from nothing. Peers that are not installed are left out.
"""

import argparse
import csv
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from benchmarks._harness import (
    BUNDLED,
    environment,
    format_table,
    load,
    mean_and_error,
    paired_ratio,
    pyplot,
    read_csv,
    write_csv,
)
from pnsklearn import PUTrendClassifier, __version__
from pnsklearn._pu_trend._scores import TRENDS, trend_scores
from pnsklearn._pu_trend._split import natural_break
from pnsklearn.datasets import make_pu
from pnsklearn.metrics import class_prior

PACKAGES = ("numpy", "scipy", "scikit-learn", "numba", "pulearn", "torch")
# Names that end in "_flipped" take the other class as the positive one.
TASKS = (
    "australian_credit", "breast_w", "pima", "pima_flipped", "german_credit",
    "german_credit_flipped", "tic_tac_toe", "kr_vs_kp", "vote", "mushroom", "spambase", "banknote",
    "titanic3", "breast_cancer", "phoneme", "wine_red_ge7", "page_blocks_not1", "sick",
    "credit_default", "creditcard_fraud", "sms_spam", "hiv", "adult", "adult_flipped",
    "satimage_4", "satimage_grey", "letter_a", "digits_even", "fmnist_1", "fmnist_2",
)  # fmt: skip
IMAGES = ("fmnist_1", "fmnist_2")
# For the sweeps: enough rows of both classes, some sets separable, some not.
SWEPT = (
    "kr_vs_kp", "spambase", "banknote", "phoneme", "credit_default", "adult", "satimage_grey",
    "digits_even",
)  # fmt: skip
TREND_SETS = (*SWEPT, "mushroom", "pima")
MAX_ROWS = 5_000  # of training and test together
FEWEST, MOST = 10, 500  # labelled positives
PRIORS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
COUNTS = (5, 10, 20, 50, 100, 500)
METRICS = ("accuracy", "f1", "auc")


@cache
def _load(name, data_home):
    base = name.removesuffix("_flipped")
    X, y = load(base, data_home)
    return X / 255 if base in IMAGES else X, y if base == name else 1 - y


def make_task(
    name, seed, *, n_labeled=None, c=0.3, pi=None, bias=0.0, max_rows=MAX_ROWS, data_home=None
):
    """Split a set into equal halves and hide the labels of the training half.

    `n_labeled` positives of the training half stay labelled (by default the share `c` of them, 10
    to 500), the others join the negatives in U: one sample, of which some positives are known.
    With `pi`, U is itself a sample of the population, beside one of positives: rows of U and of the
    test half alike are dropped until `pi` is their share of positives. `bias` is `make_pu`'s.

    Returns
    -------
    tuple
        ``X_train``, ``s`` (1 labelled, 0 unlabelled), ``X_test``, ``y_test``, ``y_train`` and the
        share of positives in U.
    """
    X, y = _load(name, data_home)
    half = min(len(y), max_rows) // 2
    train, test = train_test_split(
        np.arange(len(y)), train_size=half, test_size=half, stratify=y, random_state=seed
    )
    if n_labeled is None:
        n_labeled = int(np.clip(round(c * y[train].sum()), FEWEST, MOST))
    scenario = "single" if pi is None else "case-control"
    X_train, s, y_train = make_pu(
        X[train], y[train], n_labeled=n_labeled, scenario=scenario, bias=bias, random_state=seed
    )
    if pi is not None:
        rng = np.random.default_rng(seed)
        U = _with_prior(np.flatnonzero(s == 0), y_train, pi, rng)
        kept = np.sort(np.concatenate([np.flatnonzero(s), U]))
        X_train, s, y_train = X_train[kept], s[kept], y_train[kept]
        test = _with_prior(test, y, pi, rng)
    return X_train, s, X[test], y[test], y_train, y_train[s == 0].mean()


def _with_prior(rows, y, pi, rng):
    """Return as many of the rows as can be kept for a share `pi` of positives."""
    positive, negative = rows[y[rows] == 1], rows[y[rows] == 0]
    n = min(len(positive) / pi, len(negative) / (1 - pi))
    kept = [
        rng.choice(part, max(round(n * share), 1), replace=False)
        for part, share in ((positive, pi), (negative, 1 - pi))
    ]
    return np.sort(np.concatenate(kept))


