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
            anchors=lambda train: [unit * bad, unit * good],
            solve=lambda train, anchor, alpha, start: anchor,
            scores=lambda theta, test: X[test] @ theta,
        )

    assert choose(1.0) == choose(1e-20) == (1, 1.0)


def choose_among(n_anchors, alphas, quality):
    """Return the choice, and the calls of `solve`; `quality` is the share of well ranked rows."""
    positive, weight = np.arange(40) % 4 == 0, np.ones(40)
    rng, calls = np.random.default_rng(0), []
    noise = rng.standard_normal(40)

    def solve(train, anchor, alpha, start):
        calls.append((anchor, alpha, start))
        return anchor[0], alpha

    choice = select(
        positive,
        weight,
        list(StratifiedKFold(2).split(positive, positive)),
        alphas,
        anchors=lambda train: [(k, None) for k in range(n_anchors)],
        solve=solve,
        scores=lambda theta, test: noise[test] + 10 * quality(*theta) * positive[test],
    )
    return choice, calls


def test_selection_takes_the_best_anchor_then_the_best_alpha():
    choice, calls = choose_among(3, [8.0, 4.0, 2.0], lambda anchor, alpha: alpha == 4.0)
    assert choice == (0, 4.0)  # all anchors are alike, the first wins
    choice, calls = choose_among(3, [8.0, 4.0, 2.0], lambda anchor, alpha: anchor == 1)
    assert choice == (1, 8.0)
    # Both folds at one alpha after the other, from the solution before; the anchor to begin with.
    anchor = (1, None)
    starts = [anchor, (1, 8.0), (1, 4.0)]
    expected = [(anchor, a, s) for a, s in zip([8.0, 4.0, 2.0], starts, strict=True)]
    assert calls == [call for call in expected for _ in range(2)]


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
