"""The two samples, labelled positives and unlabelled rows, and the runs that train on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import issparse, vstack
from sklearn.metrics import roc_auc_score

from pnsklearn._fitting import warn_user
from pnsklearn._typing import Array, Matrix
from pnsklearn.exceptions import PUTrendWarning


@dataclass(frozen=True)
class Rows:
    """The rows of one sample: X, their weights, and whether run k trains on row i, (n, K)."""

    X: Matrix
    weight: Array
    seen: Array

    @property
    def n(self) -> int:
        return self.weight.shape[0]

    @property
    def run_weight(self) -> Array:
        """The weights in each run, of shape (n, K): zero where the run holds the row out."""
        return self.weight[:, np.newaxis] * self.seen

    def mean(self, values: Array) -> Array:
        """Return the weighted mean of values, of shape (n, ...)."""
        return np.average(values, axis=0, weights=self.weight)


class Sample(NamedTuple):
    """Labelled positives and unlabelled rows."""

    positives: Rows
    unlabeled: Rows

    @property
    def n_runs(self) -> int:
        return self.unlabeled.seen.shape[1]

    @property
    def held_out(self) -> bool:
        """Whether rows are scored by runs that were not trained on them."""
        return self.n_runs > 1

    def auc(self, positive_scores: Array, unlabeled_scores: Array) -> float:
        """Return the probability that a positive scores above an unlabelled row."""
        labeled = np.repeat([1, 0], [rows.n for rows in self])
        weight = np.concatenate([rows.weight / rows.weight.sum() for rows in self])
        scores = np.concatenate([positive_scores, unlabeled_scores])
        return float(roc_auc_score(labeled, scores, sample_weight=weight))


class FinalRows(NamedTuple):
    """What the final classifier is trained on."""

    X: Matrix
    target: Array  # 1 or 0
    weight: Array
    unlabeled: Array  # whether the target is a pseudo-label


def split_sample(
    X: Matrix,
    labeled: Array,
    weight: Array,
    n_folds: int | None,
    rng: np.random.RandomState,
    *,
    by_content: bool,
) -> Sample:
    """Return both samples and which of ``2 * n_folds`` runs trains on which of their rows.

    Where `by_content`, equal rows are in the same fold. With fewer different rows than folds, fewer
    folds are used, with a warning; with None, one run trains on all rows.
    """
    parts = X[labeled], X[~labeled]
    groups = [content_groups(X) if by_content else np.arange(X.shape[0]) for X in parts]
    n_positives, n_unlabeled = (int(numbers.max()) + 1 for numbers in groups)
    if n_folds is None or min(n_positives, n_unlabeled) == 1:
        used = None
    else:
        used = min(n_folds, n_positives)
    if used != n_folds:
        warn_user(
            f"n_folds={used} is used instead of {n_folds}, because there are {n_positives} "
            f"different labelled positives and {n_unlabeled} different unlabelled rows.",
            PUTrendWarning,
        )
    if used is None:
        seen = tuple(np.ones((part.shape[0], 1), dtype=bool) for part in parts)
    else:
        seen = cross_fit(groups, used, rng)
    return Sample(*map(Rows, parts, (weight[labeled], weight[~labeled]), seen))


def cross_fit(
    groups: Sequence[Array], n_folds: int, rng: np.random.RandomState
) -> tuple[Array, ...]:
    """Return which of 2 n_folds runs trains on which row: booleans of shape (n, 2 n_folds).

    `groups` are those of the positives, and of the unlabelled rows.

    A positive is held out by two runs, an unlabelled row by every other one. Rows of one group stay
    together.
    """
    n_runs = 2 * n_folds
    seen = []
    for numbers, n_parts in zip(groups, (n_folds, 2), strict=True):
        sees = np.ones((numbers.shape[0], n_runs), dtype=bool)
        for first_run in range(0, n_runs, n_parts):
            part = rng.permutation(numbers.max() + 1)[numbers] % n_parts
            sees[np.arange(part.shape[0]), first_run + part] = False
        seen.append(sees)
    return tuple(seen)


def content_groups(X: Matrix) -> Array:
    """Number the rows by content: equal rows get the same number."""
    if issparse(X):
        X = X[:, np.unique(X.indices)].toarray()  # without the columns that no row has
    return np.unique(X, axis=0, return_inverse=True)[1].reshape(-1)


def stack(*parts: Matrix) -> Matrix:
    """Return the rows of all parts in one array or CSR matrix."""
    return vstack(parts, "csr") if issparse(parts[0]) else np.concatenate(parts)
