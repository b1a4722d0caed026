"""Group the levels of a category by their shares of positives, for conditions on the groups.

A group costs what the Bayesian information criterion says of a parameter: else the rarest levels,
whose shares are extreme by chance, would tell the training labels and nothing of new ones.
"""

from itertools import chain, pairwise

import numpy as np
from scipy.special import xlogy

from pnsklearn._typing import Array

MOST_GROUPS = 4
FEWEST_ROWS = 2  # of a level that is a group
# Of the levels that get a condition each: the most, and the least share of the rows.
MOST_LEVELS, SMALLEST_SHARE = 30, 0.01


def level_sets(codes: Array, n_levels: int, positive: Array, weight: Array) -> list[tuple]:
    """Return the sets of levels that get a condition; None stands for a missing value.

    Each frequent level is one. So is, for each cut between two groups in the order of their shares
    of positives, what is on that side of it which has not the most frequent group. Of two sets that
    make up all levels there is one.
    """
    codes = np.where(np.isnan(codes), n_levels, codes).astype(int)
    total = np.bincount(codes, weight, n_levels + 1)
    right = np.bincount(codes, weight * positive, n_levels + 1)
    groups = level_groups(total, right)
    most = int(np.argmax([total[group].sum() for group in groups]))
    sides = [groups[cut:] if cut > most else groups[:cut] for cut in range(1, len(groups))]
    frequent = np.argsort(-total, kind="stable")[:MOST_LEVELS]
    frequent = frequent[total[frequent] >= SMALLEST_SHARE * total.sum()]
    everything, found = frozenset(np.flatnonzero(total).tolist()), list[frozenset]()
    for levels in (*sides, *([[level]] for level in frequent[::-1].tolist())):
        each = frozenset(chain.from_iterable(levels))
        if each not in (everything, *found) and everything - each not in found:
            found.append(each)
    return [
        tuple(None if level == n_levels else float(level) for level in sorted(each))
        for each in found
    ]


def level_groups(total: Array, right: Array) -> list[list[int]]:
    """Return the groups of the levels that occur, in the order of their shares of positives.

    A level is a group if it differs from all others; the rest are one. Then those next to each
    other that differ least are joined, while it costs less than a group, or there are too many.

    Parameters
    ----------
    total, right : ndarray of shape (n_levels,)
        Weights of the rows, and of the positives, of each level.
    """
    cost = np.log(max(total.sum(), 2.0))
    apart = _loss(total, right, total.sum() - total, right.sum() - right)
    occurs = total > 0
    differs = (apart > cost) & (total >= FEWEST_ROWS)
    rest = np.flatnonzero(occurs & ~differs).tolist()
    groups = [[level] for level in np.flatnonzero(differs).tolist()] + [rest] * bool(rest)
    sums = [(total[group].sum(), right[group].sum()) for group in groups]
    order = sorted(range(len(groups)), key=lambda g: (sums[g][1] + 0.5) / (sums[g][0] + 1))
    groups, sums = [groups[g] for g in order], [sums[g] for g in order]
    while len(groups) > 2:
        losses = [_loss(*a, *b) for a, b in pairwise(sums)]
        least = int(np.argmin(losses))
        if losses[least] > cost and len(groups) <= MOST_GROUPS:
            break
        groups[least : least + 2] = [groups[least] + groups[least + 1]]
        (a, b), (c, d) = sums[least : least + 2]
        sums[least : least + 2] = [(a + c, b + d)]
    return groups


def _loss(total, right, n_others, right_others):
    """Return twice what the log-likelihood loses if two groups have one share of positives."""

    def likelihood(total, right):
        wrong = np.maximum(total - right, 0)  # but for the rounding
        return xlogy(right, right) + xlogy(wrong, wrong) - xlogy(total, total)

    others = np.maximum(n_others, 0), np.maximum(right_others, 0)
    joined = likelihood(total + others[0], right + others[1])
    return 2 * (likelihood(total, right) + likelihood(*others) - joined)
