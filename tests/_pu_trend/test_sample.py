"""The two samples and their folds."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.sparse import csr_matrix

from pnsklearn._pu_trend._sample import (
    Rows,
    Sample,
    content_groups,
    hold_out,
    some_rows,
    split_sample,
    stack,
)
from pnsklearn.exceptions import PUWarning


def split_numbers(n_P, n_U, n_folds, seed=0, whole=True):
    """Split rows that are all different, the labeled ones among the others."""
    rng = np.random.RandomState(seed)
    labeled = rng.permutation(n_P + n_U) < n_P
    X = np.arange(n_P + n_U)[:, None] + 1000.0 * labeled[:, None]
    return split_sample(X, labeled, X[:, 0] + 1, n_folds, rng, whole=whole)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("n_folds", [2, 3, 5])
@pytest.mark.parametrize("n_P, n_U", [(5, 2), (23, 41)])
def test_split_sample(n_P, n_U, n_folds, whole, global_random_seed):
    sample = split_numbers(n_P, n_U, n_folds, global_random_seed, whole)
    assert (sample.positives.X >= 1000).all() and (sample.unlabeled.X < 1000).all()
    assert (sample.positives.n, sample.unlabeled.n) == (n_P, n_U)
    for rows in sample:
        assert_array_equal(rows.weight, rows.X[:, 0] + 1)
    sees_P, sees_U = (rows.seen for rows in sample)
    assert sees_P.shape == (n_P, 2 * n_folds) and sees_U.shape == (n_U, 2 * n_folds)
    assert sample.n_runs == 2 * n_folds and sample.held_out
    # A positive is held out once by the first and once by the second n_folds runs.
    assert_array_equal((~sees_P[:, :n_folds]).sum(axis=1), 1)
    assert_array_equal((~sees_P[:, n_folds:]).sum(axis=1), 1)
    # An unlabeled row is held out once by each pair of runs.
    assert_array_equal((~sees_U).reshape(n_U, n_folds, 2).sum(axis=2), 1)
    # Folds and halves are as equal as can be, so that no run is without rows.
    assert set((~sees_P).sum(axis=0)) <= {n_P // n_folds, -(-n_P // n_folds)}
    assert set((~sees_U).sum(axis=0)) <= {n_U // 2, -(-n_U // 2)}
    assert sees_P.any(axis=0).all() and sees_U.any(axis=0).all()


def test_without_folds_one_run_sees_all():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample = split_numbers(5, 9, None)
    assert sample.n_runs == 1 and not sample.held_out
    assert all(rows.seen.all() for rows in sample)


@pytest.mark.parametrize("n_P, n_U, used", [(4, 9, 4), (2, 9, 2), (1, 9, None), (9, 1, None)])
def test_fewer_folds_for_fewer_rows(n_P, n_U, used):
    with pytest.warns(PUWarning, match=f"n_folds={used} is used instead of 5.*{n_P} differen"):
        sample = split_numbers(n_P, n_U, 5)
    assert sample.n_runs == (2 * used if used else 1)


def test_equal_rows_are_in_one_fold_where_samples_are_whole(global_random_seed):
    rng = np.random.RandomState(global_random_seed)
    X, labeled = np.r_[np.arange(40) % 7, np.arange(90) % 11][:, None], np.arange(130) < 40
    for rows in split_sample(X, labeled, np.ones(130), 3, rng, whole=True):
        for value in np.unique(rows.X):
            assert len(np.unique(rows.seen[rows.X[:, 0] == value], axis=0)) == 1
    positives, _ = split_sample(X, labeled, np.ones(130), 3, rng, whole=False)
    assert len(np.unique(positives.seen[positives.X[:, 0] == 0], axis=0)) > 1


def test_hold_out_keeps_groups_together(global_random_seed):
    groups, seen = np.arange(40) % 7, np.ones((40, 6), dtype=bool)
    hold_out(seen, groups, 3, np.random.RandomState(global_random_seed))
    for group in range(7):
        assert len(np.unique(seen[groups == group], axis=0)) == 1
    assert_array_equal((~seen).sum(axis=1), 2)


@pytest.mark.parametrize("convert", [np.asarray, csr_matrix])
def test_content_groups(convert, global_random_seed):
    rng = np.random.RandomState(global_random_seed)
    distinct = np.maximum(rng.standard_normal((30, 17)), 0)
    number = rng.randint(30, size=100)
    groups = content_groups(convert(distinct[number]))
    assert groups.max() + 1 == len(np.unique(number))
    assert len(np.unique(np.stack([groups, number]), axis=1).T) == len(np.unique(number))


def test_stack():
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(n, 2)) for n in (2, 0, 3)]
    expected = np.concatenate(parts)
    assert_array_equal(stack(*parts), expected)
    stacked = stack(*map(csr_matrix, parts))
    assert stacked.format == "csr"
    assert_array_equal(stacked.toarray(), expected)


def test_auc(global_random_seed):
    """Over all pairs; ties count half."""
    rng = np.random.default_rng(global_random_seed)
    p, u = rng.integers(0, 8, 20), rng.integers(-2, 6, 30)
    weight_P, weight_U = rng.uniform(size=20), rng.uniform(size=30)
    total = 0.0
    for a, v in zip(p, weight_P, strict=True):
        for b, w in zip(u, weight_U, strict=True):
            total += v * w * ((a > b) + 0.5 * (a == b))
    expected = total / (weight_P.sum() * weight_U.sum())
    sample = Sample(*(Rows(None, weight, None) for weight in (weight_P, weight_U)))
    assert sample.auc([p, u]) == pytest.approx(expected)


def test_some_rows():
    """A random sample of each side, whose weights stand for all; few rows are all kept."""
    labeled = np.arange(1000) % 4 == 0
    weight = 1.0 + np.arange(1000) % 3
    rows, weights = some_rows(labeled, weight, 300, np.random.RandomState(0))
    assert np.all(np.diff(rows) > 0) and len(rows) == len(weights) == 550
    assert_array_equal(np.bincount(labeled[rows]), [300, 250])
    of_U = ~labeled[rows]
    assert weights[of_U].sum() == pytest.approx(weight[~labeled].sum())
    assert np.ptp(weights[of_U] / weight[rows][of_U]) < 1e-12
    assert_array_equal(weights[~of_U], weight[labeled])
    assert_array_equal(weight, 1.0 + np.arange(1000) % 3)  # is left alone
    for found, expected in zip(
        some_rows(labeled, weight, 750, np.random.RandomState(0)), (np.arange(1000), weight),
        strict=True,
    ):  # fmt: skip
        assert_array_equal(found, expected)
