"""The two samples, labeled positives and unlabeled rows, and the runs that train on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.random import RandomState
from scipy.sparse import issparse, vstack

from pnsklearn._fitting import warn_user
from pnsklearn._typing import Array, Matrix
from pnsklearn.exceptions import PUWarning


@dataclass(frozen=True)
class Rows:
    """The rows of one sample."""

    X: Matrix
    weight: Array
    seen: Array  # of shape (n, n_runs): whether a run trains on a row

    @property
    def n(self) -> int:
        return self.weight.shape[0]

    @property
    def run_weight(self) -> Array:
        """The weights in each run, of shape (n, n_runs): zero where the run does not see a row."""
        return self.weight[:, np.newaxis] * self.seen

    def mean(self, values: Array) -> Array:
        """Return the weighted mean of values of shape (n, ...)."""
        return np.average(values, axis=0, weights=self.weight)


class Sample(NamedTuple):
    """Labeled positives and unlabeled rows."""

    positives: Rows
    unlabeled: Rows

    @property
    def n_runs(self) -> int:
        return self.unlabeled.seen.shape[1]

    @property
    def held_out(self) -> bool:
        """Whether rows are scored by runs that are not trained on them."""
        return self.n_runs > 1

    def pooled(self, values: Sequence[Array]) -> tuple[Array, Array, Array]:
        """Return values of all rows, their labels 1 and 0, and weights that sum to 1 in each."""
        weight = [rows.weight / rows.weight.sum() for rows in self]
        labeled = np.repeat([1.0, 0.0], [rows.n for rows in self])
        return np.concatenate(values), labeled, np.concatenate(weight)

    def auc(self, scores: Sequence[Array]) -> float:
        """Return the probability that a positive scores above an unlabeled row."""
        of_P, of_U = scores
        return float(self.positives.mean(ranks_in(of_U, self.unlabeled.weight, of_P)))


def ranks_in(reference: Array, weight: Array, scores: Array) -> Array:
    """Return for each score the weighted share of a reference below it; equals count half."""
    order = np.argsort(reference)
    below = np.append(0.0, np.cumsum(weight[order]))
    ends = [np.searchsorted(reference[order], scores, side) for side in ("left", "right")]
    return np.round((below[ends[0]] + below[ends[1]]) / (2 * below[-1]), 12)


class FinalRows(NamedTuple):
    """What the final classifier is trained on."""

    X: Matrix
    target: Array  # 1 or 0
    weight: Array
    unlabeled: Array  # whether the target is a pseudo-label


def split_sample(
    X: Matrix, labeled: Array, weight: Array, n_folds: int | None, rng: RandomState, *, whole: bool
) -> Sample:
    """Return both samples and which of ``2 * n_folds`` runs trains on which of their rows.

    Where each sample is one batch (`whole`), equal rows are in the same fold. With fewer different
    rows than folds, fewer folds are used, with a warning; with None, one run trains on all rows.
    """
    parts = X[labeled], X[~labeled]
    groups = [content_groups(X) if whole else np.arange(X.shape[0]) for X in parts]
    n_positives, n_unlabeled = (int(group.max()) + 1 for group in groups)
    used = n_folds and min(n_folds, n_positives)
    if min(n_positives, n_unlabeled) == 1:
        used = None
    if used != n_folds:
        warn_user(
            f"n_folds={used} is used instead of {n_folds}, because there are {n_positives} "
            f"different labeled positives and {n_unlabeled} different unlabeled rows.",
            PUWarning,
        )
    seen = [np.ones((X.shape[0], 2 * used if used else 1), dtype=bool) for X in parts]
    if used:
        hold_out(seen[0], groups[0], used, rng)
        hold_out(seen[1], groups[1], 2, rng)
    weights = weight[labeled], weight[~labeled]
    return Sample(*map(Rows, parts, weights, seen))


def some_rows(labeled: Array, weight: Array, most: int, rng: RandomState) -> tuple[Array, Array]:
    """Return rows, at most so many of each sample, and weights with which they stand for all."""
    rows, weight = np.arange(labeled.shape[0]), weight.copy()
    for part in (np.flatnonzero(labeled), np.flatnonzero(~labeled)):
        if part.shape[0] > most:
            total, kept = weight[part].sum(), rng.choice(part, most, replace=False)
            rows = np.setdiff1d(rows, np.setdiff1d(part, kept, assume_unique=True), True)
            weight[kept] *= total / weight[kept].sum()
    return rows, weight[rows]


def hold_out(seen: Array, groups: Array, n_parts: int, rng: RandomState) -> None:
    """Cut the rows into parts, groups whole, for every `n_parts` runs: each holds out one part."""
    for first_run in range(0, seen.shape[1], n_parts):
        part = rng.permutation(groups.max() + 1)[groups] % n_parts
        seen[np.arange(part.shape[0]), first_run + part] = False


def content_groups(X: Matrix) -> Array:
    """Number the rows by content: equal rows get the same number."""
    if issparse(X):
        X = X[:, np.unique(X.indices)].toarray()  # without the columns that no row has
    return np.unique(X, axis=0, return_inverse=True)[1].reshape(-1)


def stack(*parts: Matrix) -> Matrix:
    """Return the rows of all parts in one array or CSR matrix."""
    return vstack(parts, "csr") if issparse(parts[0]) else np.concatenate(parts)
