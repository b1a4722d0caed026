"""The share of positives among the unlabeled rows, and the doubt of what is predicted from it.

The share is estimated from two views of the rows: their trend scores, and the held-out scores of a
forest that tells labeled from unlabeled rows. Each gives a posterior under the assumptions of
`pnsklearn.metrics.class_prior_posterior`; as an overlap of the classes can only make an estimate
too large, the smallest of the medians and of an upper bound is taken.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.random import RandomState
from scipy.sparse import issparse
from sklearn.preprocessing import StandardScaler

from pnsklearn._pu_trend._breaks import quantile_threshold
from pnsklearn._pu_trend._sample import Sample, content_groups, ranks_in, stack
from pnsklearn._typing import Array, Matrix

MOST_ROWS = 5000  # of each sample that are looked at
N_TREES, N_PARTS, LEAF_WEIGHT = 60, 5, 2.9  # of the forest; as for the default trees
TAIL = 0.05  # of the posterior, outside of the interval on either side
POWER = 0.7  # of its likelihood: classes are never quite normal
# The upper bound of the share is itself estimated, with an error of so much.
BOUND_ERROR = 1.2
# The doubt: the sampling error of a share of positives, a normal in three points, of no less
# variance than that of a share of 1 %.
LEAST_VARIANCE = 0.01
THREE_POINTS = ((-1.22, 0.25), (0.0, 0.5), (1.22, 0.25))


@dataclass(frozen=True)
class Views:
    """Held-out scores of two models, for some rows of both samples."""

    scores: list[Array]  # of the positives and of the unlabeled rows, of shape (n, 2)
    rank: list[Array]  # mean of both scores' ranks among the unlabeled rows
    weight: list[Array]
    total: list[float]  # weight of each sample
    rows: Array  # of the unlabeled rows


@dataclass(frozen=True)
class Share:
    """What is known of the share of positives among the unlabeled rows."""

    estimate: float
    interval: tuple[float, float]
    bound: float  # an upper bound, if labels are random
    share: Array  # shares that it may be
    probability: Array  # of these


def known_share(low: float, high: float) -> Share:
    """Return a share that is known and not estimated: even between two bounds."""
    share = np.linspace(low, high, 21)
    ends = float(np.quantile(share, TAIL)), float(np.quantile(share, 1 - TAIL))
    return Share((low + high) / 2, ends, 1.0, share, np.full(21, 1 / 21))


def estimated_share(views: Views, low: float, high: float) -> Share:
    """Return the share as the views give it, within bounds that are known."""
    from pnsklearn.metrics import class_prior, class_prior_posterior

    weight = dict(zip(("weight_positive", "weight_unlabeled"), views.weight, strict=True))
    bound = class_prior(*views.rank, method="bbe", **weight)
    if low == high:
        return replace(known_share(low, high), bound=bound)
    assumed = {"low": low, "high": high, "power": POWER}
    first, both = (
        class_prior_posterior(*(s[:, :n] for s in views.scores), **assumed, **weight)
        for n in (1, 2)  # views
    )
    smaller = min(first, both, key=lambda posterior: posterior.quantile(0.5))
    estimate, lower, upper = (smaller.quantile(level) for level in (0.5, TAIL, 1 - TAIL))
    estimate, lower, upper = np.clip(
        np.minimum((estimate, lower, upper), (bound, bound, BOUND_ERROR * bound)), low, high
    ).tolist()
    return Share(estimate, (lower, upper), bound, both.share, both.probability)


def posterior_of(share: Share | None) -> Any:
    """Return the posterior of a share, as the estimator shows it; None of none."""
    from pnsklearn.metrics import PriorPosterior

    return None if share is None else PriorPosterior(share.share, share.probability)


def two_views(trends: list[Array], sample: Sample, rng: RandomState, *, whole: bool) -> Views:
    """Return the trend scores beside those of a forest, of at most 5,000 rows of both samples."""
    rows = [
        np.arange(part.n) if part.n <= MOST_ROWS else np.sort(rng.choice(part.n, MOST_ROWS, False))
        for part in sample
    ]
    weight = [part.weight[r] for part, r in zip(sample, rows, strict=True)]
    other = forest_scores([part.X[r] for part, r in zip(sample, rows, strict=True)], weight, rng,
                          whole=whole)  # fmt: skip
    scores = [np.column_stack([t[r], o]) for t, r, o in zip(trends, rows, other, strict=True)]
    of_U = scores[1].T
    rank = [
        np.mean([ranks_in(u, weight[1], s) for u, s in zip(of_U, part.T, strict=True)], axis=0)
        for part in scores
    ]
    return Views(scores, rank, weight, [float(part.weight.sum()) for part in sample], rows[1])


def forest_scores(
    parts: list[Matrix], weight: list[Array], rng: RandomState, *, whole: bool
) -> list[Array]:
    """Return P(labeled) of all rows, by forests that do not see them.

    Where each sample is one batch (`whole`), equal rows are in the same fold.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    held_out = [_held_out(X, rng, whole) for X in parts]
    X = stack(*(X.reshape(X.shape[0], -1) for X in parts))
    scaler = StandardScaler(with_mean=not issparse(X)).set_output(transform="default")
    X = scaler.fit_transform(X)
    labeled = np.repeat([1, 0], [part.shape[0] for part in parts])
    part, w = np.concatenate(held_out), np.concatenate(weight)
    found = np.empty(labeled.shape[0])
    for fold in np.unique(part):
        train = part != fold
        leaf = min(0.5, LEAF_WEIGHT / w[train].sum())
        forest = ExtraTreesClassifier(
            N_TREES, min_weight_fraction_leaf=leaf, random_state=int(rng.randint(2**31 - 1))
        )
        forest.fit(X[train], labeled[train], w[train])
        found[~train] = forest.predict_proba(X[~train])[:, -1]
    return np.split(np.round(found, 12), [parts[0].shape[0]])


def _held_out(X, rng, whole):
    """Return the fold of each row."""
    groups = content_groups(X) if whole else np.arange(X.shape[0])
    return rng.permutation(groups.max() + 1)[groups] % N_PARTS


def doubt(share: Share, views: Views, called: float, scenario: str) -> float:
    """Return the probability that calling every row the same would be more accurate.

    A classifier is more accurate than the larger class only if its positives are right more often
    than not, and its negatives too. Both follow from the share, from how many of the unlabeled
    rows it calls positive, `called`, and from how many of the labeled positives rank as high.
    """
    n_P, n_U = views.total
    of_P, of_U = views.rank
    threshold = quantile_threshold(of_U, called, views.weight[1])
    recall = float(np.average(of_P > threshold, weights=views.weight[0]))
    error = math.sqrt(max(recall * (1 - recall), LEAST_VARIANCE) / n_P)
    prior = share.share
    population = prior if scenario == "case-control" else (n_P + prior * n_U) / (n_P + n_U)
    total = 0.0
    for z, chance in THREE_POINTS:
        hits = min(max(recall + z * error, 0.0), 1.0)
        false = np.clip((called - prior * hits) / np.maximum(1 - prior, 1e-9), 0, 1)
        accuracy = population * hits + (1 - population) * (1 - false)
        worse = accuracy - np.maximum(population, 1 - population) < -1e-9
        total += chance * float(share.probability @ worse)
    return total
