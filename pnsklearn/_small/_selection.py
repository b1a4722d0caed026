"""Choose the shape of the rules, and the class that they describe, by cross-validation.

One rule is the base. More rules, or rules for the other class, are chosen only where they are
better by more than one standard error of the differences over the folds: a smaller training error
they nearly always have.
"""

from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from sklearn.utils import Bunch

from pnsklearn._splits import given_splits
from pnsklearn._typing import Array, Matrix

MOST_PROTOTYPES = 3  # of the shapes within a budget
FEWEST_FOLDS = 3  # after which candidates that are behind are left
SAME = 1e-9  # of projections, relative to the largest: equal rows, but for the rounding
INTEGERS = int, np.integer
Split: TypeAlias = tuple[Array, Array]


class Candidate(NamedTuple):
    """A shape, and the index of the class that is the union."""

    n_prototypes: int
    n_nonzero: int
    union: int


def shapes_within(n_terms: int) -> list[tuple[int, int]]:
    """Return the shapes of at most `n_terms` terms: one rule, then more of two terms or more."""
    more = range(2, min(MOST_PROTOTYPES, n_terms // 2) + 1)
    return [(1, n_terms), *((p, n_terms // p) for p in more)]


def check_shapes(shapes: Any) -> list[tuple[int, int]]:
    """Return the pairs of a user as a list.

    Raises
    ------
    ValueError
        If they are no pairs of integers of at least one.
    """
    try:
        pairs = [(p, k) for p, k in shapes]
    except (TypeError, ValueError):
        pairs = []
    if not pairs or not all(isinstance(n, INTEGERS) and n >= 1 for pair in pairs for n in pair):
        raise ValueError(
            "n_prototypes must be 'cv', an integer, or a list of pairs (n_prototypes, n_nonzero) "
            f"of integers of at least one; got {shapes!r}."
        )
    return pairs


def unions(positive_class: Any, pos_label: Any, classes: Array) -> tuple[int, ...]:
    """Return the indices of the classes to try as the union, that looked for first.

    Raises
    ------
    ValueError
        If a label is none of the two.
    """
    is_auto = isinstance(positive_class, str) and positive_class == "auto"
    given = {"pos_label": pos_label} | ({} if is_auto else {"positive_class": positive_class})
    union = 1
    for name, label in given.items():
        if name == "pos_label" and label is None:
            continue
        if np.ndim(label) > 0 or label not in classes:
            raise ValueError(f"{name}={label!r} is not one of the labels {classes.tolist()}.")
        union = int(label == classes[1])
    return (union, 1 - union) if is_auto else (union,)


def candidates(shapes: Sequence[tuple[int, int]], unions: Sequence[int]) -> list[Candidate]:
    """Return the candidates; one rule is the same model for either class."""
    return [Candidate(p, k, union) for p, k in shapes for union in unions[: 1 if p == 1 else None]]


def make_splits(
    cv: Any, positive: Array, chosen: Array, along: Array, metadata: dict, kept: Array
) -> list[Split]:
    """Return the splits among the chosen rows; none where a class is too small to be split.

    Parameters
    ----------
    cv : int, cross-validation generator, iterable or None
        Over all rows, also those that are not kept.
    positive : bool ndarray of shape (n_kept,)
    chosen : int ndarray
        Of the kept rows those that are to be used.
    along : ndarray of shape (n_kept,)
        A projection of the rows. A number of folds deals the rows of each class out in its order,
        equal ones to the same fold, so that a weight is a repetition.
    metadata : dict
        What the generator splits by besides: groups, say, of all rows.
    kept : bool ndarray of shape (n_rows,)

    Raises
    ------
    ValueError
        If a generator or iterable gives no rows, or no split with both classes on both sides.
    """
    if cv is None or isinstance(cv, Integral):
        fold = np.full(len(positive), -1)
        ranks = [_ranks(along, chosen[positive[chosen] == side]) for side in (True, False)]
        n_folds = min(int(cv or 5), *(rank.max() + 1 for _, rank in ranks))
        for rows, rank in ranks:
            fold[rows] = rank % n_folds
        used: Any = np.unique(fold[chosen]) if n_folds > 1 else []
        return [(chosen[fold[chosen] != k], chosen[fold[chosen] == k]) for k in used]
    everyone = np.zeros(len(kept), dtype=bool)
    everyone[kept] = positive
    among = np.zeros(len(kept), dtype=bool)
    among[np.flatnonzero(kept)[chosen]] = True
    splits = given_splits(cv, everyone, among, metadata, "a number for n_prototypes")
    return [(chosen[train], chosen[test]) for train, test in splits]


def _ranks(along, rows):
    """Return the rows in the order of their projections, and their ranks without gaps."""
    rows = rows[np.argsort(along[rows], kind="stable")]
    gaps = np.diff(along[rows], prepend=along[rows[0]])
    return rows, np.cumsum(gaps > SAME * np.abs(along).max())


def select(
    tried: Sequence[Candidate],
    classes: Array,
    splits: list[Split],
    errors: Callable[[Array, Array, list[Candidate]], Iterator[float]],
) -> Bunch:
    """Return the errors of the candidates on the splits, and which is the best.

    See `SMaLLClassifier.selection_`.

    Parameters
    ----------
    errors : callable (train, test, candidates) -> iterator of the error of each on the test rows
    """
    found = np.full((len(tried), len(splits)), np.nan)
    alive = list(range(len(tried)))
    for number, (train, test) in enumerate(splits):
        found[alive, number] = list(errors(train, test, [tried[index] for index in alive]))
        if number + 1 >= FEWEST_FOLDS:
            alive = still_alive(found[:, : number + 1], alive)
    best = alive[best_of([tried[index] for index in alive], found[alive])] if splits else 0
    n_prototypes, n_nonzero, union = (np.array(part) for part in zip(*tried, strict=True))
    gains = found[0] - found
    return Bunch(
        n_prototypes=n_prototypes, n_nonzero=n_nonzero, positive_class=classes[union],
        fold_errors=found, error=_mean(found), gain=_mean(gains),
        gain_standard_error=standard_error(gains), best_index=best,
    )  # fmt: skip


def still_alive(errors: Array, alive: list[int]) -> list[int]:
    """Return those of the candidates that may win: the first, and those not surely behind."""
    leader = min(alive, key=lambda index: round(errors[index].mean(), 9))
    behind = errors[alive] - errors[leader]
    out = behind.mean(axis=1) > np.maximum(standard_error(behind), SAME)
    return [index for index, is_out in zip(alive, out, strict=True) if index == 0 or not is_out]


def _mean(errors):
    """Return the means of the rows over the folds that were seen, unknown where there are none."""
    return np.nanmean(errors, axis=1) if errors.size else np.full(len(errors), np.nan)


def reason(selection: Bunch) -> str:
    """Return why the rules are not for the class that is looked for, or nothing if they are."""
    best = selection.best_index
    shape = selection.n_prototypes[best], selection.n_nonzero[best]
    same = (selection.n_prototypes == shape[0]) & (selection.n_nonzero == shape[1])
    first = np.flatnonzero(same)[0]
    if first == best:
        return ""
    gains = selection.fold_errors[[first]] - selection.fold_errors[[best]]
    gains = gains[:, ~np.isnan(gains[0])]
    what = f"error over {gains.shape[1]} folds"
    label = selection.positive_class[first]
    return reason_of(label, what, gains.mean(), standard_error(gains)[0])


def reason_of(label: Any, what: str, gain: float, error: float) -> str:
    """Return why the rules are not for the class of a label, in words."""
    return f"Rules for {label} have a higher {what}: by {gain:.3g}, standard error {error:.2g}."


def best_of(tried: Sequence[Candidate], errors: Array) -> int:
    """Return the index of the best: the first, unless another is better by one standard error.

    So it is within each shape, with its first class first; and then among the shapes.
    """

    def better(base, others):
        gains = errors[base] - errors[others]
        sure = gains.mean(axis=1) > np.maximum(standard_error(gains), SAME)
        able = np.array(others)[sure]
        return able[np.argmin(errors[able].mean(axis=1).round(9))] if len(able) else base

    shapes: dict = {}
    for index, candidate in enumerate(tried):
        shapes.setdefault(candidate[:2], []).append(index)
    first, *rest = [better(found[0], found[1:] or found) for found in shapes.values()]
    return int(better(first, rest or [first]))


def standard_error(gains: Array) -> Array:
    """Return the standard errors of the means of the rows; one fold leaves everything unsure."""
    if gains.shape[1] < 2:
        return np.full(len(gains), np.inf)
    n_folds = np.count_nonzero(~np.isnan(gains), axis=1)
    return np.nanstd(gains, axis=1, ddof=1) / np.sqrt(n_folds)


def projection(terms: Matrix, scale: Array, rng: np.random.RandomState) -> Array:
    """Return the rows along a random direction of the standardised features."""
    return np.asarray(terms @ (rng.standard_normal(len(scale)) / scale)).ravel()
