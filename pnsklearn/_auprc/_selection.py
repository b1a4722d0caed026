"""Choose the anchor and its strength by cross-validated average precision."""

from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.parallel import Parallel, delayed

from pnsklearn._splits import given_splits, has_both
from pnsklearn._typing import Array

C_GRID = tuple(float(C) for C in np.logspace(-4, 4, 9))
# From logistic regression's own ranking to almost no anchor.
ALPHA_GRID = (np.inf, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
# Below this many positives a fit warns, and tries the two strongest anchors only.
ENOUGH_POSITIVES = 10
# Rows of each class on which a choice is made: all of them would cost many times the fit itself.
MOST_ROWS = 10_000


def strengths(positive: Array, anchored: bool) -> tuple[float, ...]:
    """Return the values of alpha to choose from, the safest first."""
    # Without an anchor, an infinite alpha would leave nothing to fit.
    grid = ALPHA_GRID if anchored else ALPHA_GRID[1:]
    return grid[:2] if np.count_nonzero(positive) < ENOUGH_POSITIVES else grid


def make_splits(
    cv: Any, positive: Array, kept: Array, metadata: dict | None = None
) -> list[tuple[Array, Array]]:
    """Return the splits of the kept rows, which are empty where the data cannot be split.

    Parameters
    ----------
    cv : int, cross-validation generator, iterable or None
        Over all rows, also those that are not kept.
    positive : bool ndarray of shape (n_kept,)
    kept : bool ndarray of shape (n_rows,)
    metadata : dict, default=None
        What the generator splits by besides: groups, say, of all rows.

    Raises
    ------
    ValueError
        If a generator or iterable gives no rows, or no split with both classes on both sides.
    """
    if cv is None or isinstance(cv, Integral):
        folds = min(cv or 5, positive.sum(), (~positive).sum())
        # One positive cannot be split: the anchor alone is the answer.
        return list(StratifiedKFold(folds).split(positive, positive)) if folds > 1 else []
    everyone = np.zeros(kept.shape[0], dtype=bool)
    everyone[kept] = positive
    return given_splits(cv, everyone, kept, metadata or {}, "a fixed alpha")


def thinned(
    splits: list[tuple[Array, Array]], positive: Array
) -> tuple[list[tuple[Array, Array]], Array]:
    """Return splits with at most 10,000 rows of each class, and for how many rows each one stands.

    They are taken at even distances. A side that would lose a class keeps all splits as they are.
    """
    kept, times = np.ones(len(positive), dtype=bool), np.ones(len(positive))
    for side in positive, ~positive:
        rows = np.flatnonzero(side)
        if len(rows) > MOST_ROWS:
            kept[rows] = False
            kept[rows[np.linspace(0, len(rows), MOST_ROWS, endpoint=False).astype(int)]] = True
            times[rows] = len(rows) / MOST_ROWS
    fewer = [(train[kept[train]], test[kept[test]]) for train, test in splits]
    if all(has_both(positive[side]) for split in fewer for side in split):
        return fewer, times
    return splits, np.ones(len(positive))


class Choice(NamedTuple):
    """What `select` chose: the index of the anchor, alpha, and its precision on each split."""

    anchor: int
    alpha: float
    precision: Array


def select(
    positive: Array,
    weight: Array,
    splits: list[tuple[Array, Array]],
    alphas: Sequence[float],
    *,
    anchors: Callable[[int], list[Array]],
    path: Callable[[int, Array], Iterator[Array]],
    scores: Callable[[Array, Array], Array],
    by_one_se: bool = False,
    n_jobs: int | None = None,
) -> Choice:
    """Choose the anchor and alpha with the best mean average precision over the splits.

    The anchor is chosen first, for its own ranking; alpha then, at that anchor. On a tie the first
    candidate wins.

    Parameters
    ----------
    anchors : callable (number of the split) -> parameter vectors, the same candidates each time
    path : callable (number of the split, anchor) -> the solutions along the alphas
    scores : callable (parameter vector, rows) -> scores of the rows
    by_one_se : bool
        Whether the first alpha stays unless another gains more than one standard error.
    n_jobs : int or None
        Splits at a time.
    """

    def precision_of(thetas, test):
        # Rounded, so that rounding errors decide nothing: weights are to equal repetitions.
        values = [scores(theta, test) for theta in thetas]
        values = [np.round(value / (np.abs(value).max() or 1.0), 9) for value in values]
        return [average_precision(positive[test], value, weight[test]) for value in values]

    def try_anchors(number):
        found = anchors(number)
        return found, precision_of(found, splits[number][1])

    def try_alphas(number, anchor):
        return precision_of(path(number, anchor), splits[number][1])

    with Parallel(n_jobs=n_jobs) as parallel:
        tried = parallel(delayed(try_anchors)(number) for number in range(len(splits)))
        best = _best([precision for _, precision in tried])
        chosen = [candidates[best] for candidates, _ in tried]
        precision = np.array(parallel(delayed(try_alphas)(*pair) for pair in enumerate(chosen)))
    winner = _best(precision)
    if by_one_se:
        gains = precision[:, winner] - precision[:, 0]
        # One split has no standard error: nothing is sure.
        error = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else np.inf
        winner = winner if gains.mean() > error else 0
    return Choice(best, alphas[winner], precision[:, winner])


def average_precision(positive: Array, scores: Array, weight: Array) -> float:
    """Return what `average_precision_score` does, without its checks: they cost more than the rest.

    Scores are finite, and some positive has a weight.
    """
    order = np.flatnonzero(weight)
    order = order[np.argsort(-scores[order], kind="stable")]
    scores, above = scores[order], np.cumsum(weight[order])
    last = np.append(scores[1:] != scores[:-1], True)  # of those that tie
    found = np.cumsum(weight[order] * positive[order])[last]
    return float(np.diff(found, prepend=0.0) @ (found / above[last]) / found[-1])


def _best(precision):
    """Return the column with the best mean over the rows."""
    return int(np.argmax(np.round(np.mean(precision, axis=0), 9)))
