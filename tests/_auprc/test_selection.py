"""The choice of the anchor and its strength."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import StratifiedKFold

from pnsklearn._auprc._selection import (
    ALPHA_GRID,
    C_GRID,
    make_splits,
    select,
    strengths,
    usable_splits,
)
from pnsklearn.datasets import make_rare_positives


def test_selection_does_not_depend_on_the_unit_of_the_scores():
    """Tiny scores rank as any others when the anchor and its strength are chosen."""
    X, y = make_rare_positives(400, 3, prior=0.2, random_state=0)
    positive, weight = y == 1, np.ones(400)
    splits = list(StratifiedKFold(3).split(X, y))
    good, bad = np.array([1.0, 0.5, 0.0]), np.array([0.0, 0.0, 1.0])

    def choose(unit):
        return select(
            positive,
            weight,
            splits,
            [1.0],
            anchors=lambda split: [unit * bad, unit * good],
            path=lambda split, anchor: [anchor],
            scores=lambda theta, test: X[test] @ theta,
        )[:2]

    assert choose(1.0) == choose(1e-20) == (1, 1.0)


def choose_among(n_anchors, alphas, quality, **options):
    """Return the choice; `quality` is how well the rows are ranked."""
    positive, weight = np.arange(60) % 4 == 0, np.ones(60)
    noise = np.random.default_rng(0).standard_normal(60)
    return select(
        positive,
        weight,
        list(StratifiedKFold(3).split(positive, positive)),
        alphas,
        anchors=lambda split: [(k, None, split) for k in range(n_anchors)],
        path=lambda split, anchor: [(anchor[0], alpha, split) for alpha in alphas],
        scores=lambda theta, test: noise[test] + 10 * quality(*theta) * positive[test],
        **options,
    )


def test_selection_takes_the_best_anchor_then_the_best_alpha():
    alphas = [8.0, 4.0, 2.0]
    choice = choose_among(3, alphas, lambda anchor, alpha, split: alpha == 4.0)
    assert choice[:2] == (0, 4.0)  # all anchors are alike, the first wins
    assert_array_equal(choice.precision, 1.0)
    choice = choose_among(3, alphas, lambda anchor, alpha, split: anchor == 1)
    assert choice[:2] == (1, 8.0)


def test_selection_by_one_standard_error_keeps_the_first_unless_the_gain_is_sure():
    def on_all(anchor, alpha, split):
        return alpha == 2.0

    def on_one(anchor, alpha, split):
        return alpha == 2.0 and split == 0

    assert choose_among(1, [8.0, 2.0], on_all, by_one_se=True).alpha == 2.0
    assert choose_among(1, [8.0, 2.0], on_one).alpha == 2.0
    assert choose_among(1, [8.0, 2.0], on_one, by_one_se=True).alpha == 8.0


def test_strengths():
    """Few positives try the strongest only; without an anchor, infinity has no meaning."""
    many, few = np.ones(10, dtype=bool), np.ones(9, dtype=bool)
    full = strengths(many, True)
    assert full[:2] == (np.inf, 1.0)
    assert list(full) == sorted(full, reverse=True)
    assert strengths(many, False) == full[1:]
    assert strengths(few, True) == (np.inf, 1.0)
    assert strengths(few, False) == (1.0, 0.3)


def test_splits_of_the_kept_rows():
    kept = np.array([True, False, True, True, True, False, True])
    positive = np.array([True, False, True, False, True])  # of rows 0, 2, 3, 4, 6
    rows = np.array
    splits = [
        (rows([0, 1, 2]), rows([3, 4, 5])),
        (rows([0, 2, 5]), rows([3, 4])),
        (rows([0, 3]), rows([2, 4, 6])),  # no positive in training
        (rows([0, 2]), rows([4, 1])),  # no negative on test
    ]
    positive[[0, 1]] = True, False
    (train, test), second = usable_splits(splits, kept, positive)
    assert_array_equal(train, [0, 1])
    assert_array_equal(test, [2, 3])
    assert_array_equal(second[0], [0, 1])
    usable = make_splits(splits[:1], positive, kept)
    assert_array_equal(usable[0][1], [2, 3])
    with pytest.raises(ValueError, match="both classes on both sides"):
        make_splits(splits[3:], positive, kept)


@pytest.mark.parametrize(
    "cv, n_positives, n_splits", [(3, 9, 3), (5, 3, 3), (None, 9, 5), (5, 1, 0)]
)
def test_number_of_splits(cv, n_positives, n_splits):
    positive = np.arange(30) < n_positives
    assert len(make_splits(cv, positive, np.ones(30, dtype=bool))) == n_splits


def test_grids_reach_from_end_to_end_in_even_steps():
    """C takes decades between the ends that LogisticRegressionCV has, alpha half decades."""
    assert_allclose(C_GRID, 10.0 ** np.arange(-4, 5))
    assert ALPHA_GRID[:2] == (np.inf, 1.0)
    assert_allclose(ALPHA_GRID[1:], 10.0 ** np.arange(0, -3.5, -0.5), rtol=0.06)
