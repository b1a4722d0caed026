"""make_pu: which rows go where, and that the labeled ones are drawn as promised."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from scipy.stats import norm

from pnsklearn.datasets import make_pu


def normal_classes(seed, n=4000, prior=0.4):
    """Two normal classes two apart; the first column numbers the rows."""
    rng = np.random.default_rng(seed)
    y = (rng.permutation(n) < prior * n).astype(int)
    return np.column_stack([np.arange(n), rng.standard_normal(n) + 2 * y]), y


def test_single(global_random_seed):
    X, y = normal_classes(global_random_seed)
    X_pu, s, y_true = make_pu(X, y, label_frequency=0.25, random_state=global_random_seed)
    assert_array_equal(X_pu, X)
    assert_array_equal(y_true, y)
    assert s.sum() == 400 and s.dtype == y_true.dtype == np.int64
    assert np.all(y_true[s == 1] == 1)


@pytest.mark.parametrize("bias, n_unlabeled", [(0.0, 3000), (1.0, 1500)])
def test_case_control(bias, n_unlabeled, global_random_seed):
    X, y = normal_classes(global_random_seed)
    X_pu, s, y_true = make_pu(
        X[:, 1:],
        y,
        n_labeled=400,
        scenario="case-control",
        bias=bias,
        random_state=global_random_seed,
    )
    assert s.sum() == 400 and (s == 0).sum() == n_unlabeled
    assert np.unique(X_pu).shape[0] == X_pu.shape[0]  # no row twice
    assert np.all(y_true[s == 1] == 1)
    hidden = y_true[s == 0] == 1
    assert hidden.mean() == pytest.approx(0.4)  # the population's
    # Whatever the bias, the unlabeled positives are like all positives.
    assert X_pu[s == 0][hidden].mean() == pytest.approx(2, abs=5 / np.sqrt(hidden.sum()))


def test_rows_stay_together_and_in_order(global_random_seed):
    X, y = normal_classes(global_random_seed, 200)
    X_pu, _, y_true = make_pu(
        X, y, label_frequency=0.5, scenario="case-control", random_state=global_random_seed
    )
    rows = X_pu[:, 0].astype(int)
    assert np.all(np.diff(rows) > 0)
    assert_array_equal(X_pu, X[rows])
    assert_array_equal(y_true, y[rows])


@pytest.mark.parametrize("scenario", ["single", "case-control"])
def test_bias(scenario, global_random_seed):
    X, y = normal_classes(global_random_seed, 8000)
    means = []
    for bias in (-2.0, -1.0, 0.0, 1.0, 2.0):
        X_pu, s, _ = make_pu(
            X[:, 1:], y, n_labeled=100, scenario=scenario, bias=bias, random_state=0
        )
        means.append(X_pu[s == 1].mean())
    # Normal scores weighted by exp(bias z) are normal with mean bias, if few of many are drawn.
    assert np.all(np.diff(means) > 0.3)
    assert means[2] == pytest.approx(2, abs=0.4)
    if scenario == "single":
        assert_allclose(means[1:4], [1, 2, 3], atol=0.5)


def test_inclusion_is_uniform_without_bias():
    y = np.repeat([0, 1], [3, 5])
    times = sum(
        make_pu(np.zeros((8, 1)), y, n_labeled=2, random_state=seed)[1] for seed in range(2000)
    )
    z = (times[3:] - 800) / np.sqrt(2000 * 0.4 * 0.6)
    assert np.all(times[:3] == 0) and np.abs(z).max() < norm.isf(1e-4)


@pytest.mark.parametrize("container", [list, csr_array, pd.DataFrame, pl.DataFrame])
@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_containers(container, bias):
    X, y = normal_classes(0, 200)
    kwargs = dict(n_labeled=20, scenario="case-control", bias=bias, random_state=0)
    expected, s, y_true = make_pu(X, y, **kwargs)
    X_pu, s_pu, y_pu = make_pu(container(X), pd.Series(y, index=y + 7), **kwargs)
    assert type(X_pu) is container
    values = X_pu.toarray() if container is csr_array else np.asarray(X_pu)
    assert_array_equal(values, expected)
    assert_array_equal(s_pu, s)
    assert_array_equal(y_pu, y_true)


def test_pos_label():
    X, y = np.zeros((9, 1)), np.repeat(["a", "b", "c"], 3)
    _, s, y_true = make_pu(X, y, label_frequency=0.5, pos_label="b", random_state=0)
    assert_array_equal(y_true, y == "b")
    assert s.sum() == 2
    with pytest.raises(ValueError, match=r"Which label marks the positives.* pos_label='a'"):
        make_pu(X[:6], y[:6], n_labeled=1)
    for plain in ([0, 1], [-1, 1], [False, True]):
        _, _, y_true = make_pu(X[:6], np.repeat(plain, 3), n_labeled=1)
        assert_array_equal(y_true, y[:6] == "b")


def test_counts():
    X, y = np.zeros((10, 1)), np.repeat([0, 1], 5)
    assert make_pu(X, y, label_frequency=1e-9)[1].sum() == 1
    _, s, y_true = make_pu(X, y, label_frequency=1)
    assert_array_equal(s, y_true)
    _, s, y_true = make_pu(X, y, n_labeled=4, scenario="case-control")
    assert_array_equal(np.bincount(2 * y_true + s), [1, 0, 1, 4])


def test_constant_features_have_no_easy_rows():
    y = np.repeat([0, 1], 5)
    assert make_pu(np.zeros((10, 1)), y, n_labeled=2, bias=3.0, random_state=0)[1].sum() == 2


def test_random_state():
    X, y = normal_classes(0, 100)
    first, again, other = (
        make_pu(X, y, n_labeled=10, random_state=seed)[1]
        for seed in (0, np.random.RandomState(0), 1)
    )
    assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    "y, params, message",
    [
        ([0, 0, 1, 1], {}, "exactly one"),
        ([0, 0, 1, 1], {"label_frequency": 0.5, "n_labeled": 1}, "exactly one"),
        ([0, 0, 1, 1], {"n_labeled": 3}, "at most 2 of the 2"),
        ([0, 0, 1, 1], {"n_labeled": 2, "scenario": "case-control"}, "at most 1 of the 2"),
        ([0, 0, 1, 1], {"label_frequency": 1.0, "scenario": "case-control"}, "at most 1"),
        ([0, 1, 2, 1], {"n_labeled": 1}, "3 values; give pos_label"),
        ([1, 1, 1, 1], {"n_labeled": 1}, "1 values; give pos_label"),
        ([1, 1, 1, 1], {"n_labeled": 1, "pos_label": 1}, "holds only one"),
        ([0, 1, 2, 1], {"n_labeled": 1, "pos_label": 3}, "holds only one"),
        ([0, 1, 1], {"n_labeled": 1}, "inconsistent"),
        ([[0], [1], [0], [1]], {"n_labeled": 1}, r"y must be of shape \(n_samples,\)"),
        ([0, 0, 1, 1], {"label_frequency": 0.0}, "'label_frequency' parameter"),
        ([0, 0, 1, 1], {"n_labeled": 0}, "'n_labeled' parameter"),
        ([0, 0, 1, 1], {"n_labeled": 1, "bias": np.inf}, "'bias' parameter"),
        ([0, 0, 1, 1], {"n_labeled": 1, "scenario": "both"}, "'scenario' parameter"),
    ],
)
def test_bad_input(y, params, message):
    with pytest.raises(ValueError, match=message):
        make_pu(np.zeros((4, 1)), y, **params)
