"""The generator's statistics."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from pnsklearn.datasets import make_rare_positives


def test_shapes_and_shares(global_random_seed):
    X, y = make_rare_positives(500, 4, prior=0.03, random_state=global_random_seed)
    assert X.shape == (500, 4)
    assert_array_equal(np.bincount(y), [485, 15])
    for prior, n_positives in ((1e-6, 1), (1 - 1e-6, 9)):
        assert make_rare_positives(10, prior=prior)[1].sum() == n_positives


def test_moments(global_random_seed):
    X, y = make_rare_positives(
        40_000, 3, prior=0.5, class_sep=2.0, outliers=0.1, random_state=global_random_seed
    )
    positive, negative = X[y == 1], X[y == 0]
    # A tenth of the positives is mirrored: mean 0.8 * 2, second moment 1 + 4 as before.
    assert_allclose(positive.mean(axis=0), [1.6, 1.0, 0.0], atol=0.05)
    assert_allclose(positive.var(axis=0), [5.0 - 1.6**2, 1.0, 1.0], rtol=0.05)
    assert_allclose(negative.mean(axis=0), 0.0, atol=0.05)
    assert_allclose(negative.std(axis=0), 1.0, atol=0.05)


def test_random_state():
    X, y = make_rare_positives(50, random_state=0)
    again = make_rare_positives(50, random_state=np.random.RandomState(0))
    assert_array_equal(X, again[0])
    assert_array_equal(y, again[1])
    assert not np.array_equal(X, make_rare_positives(50, random_state=1)[0])


@pytest.mark.parametrize(
    "params",
    [{"n_samples": 1}, {"n_features": 1}, {"prior": 0.0}, {"class_sep": -1.0}, {"outliers": 1.0}],
)
def test_bad_parameters(params):
    with pytest.raises(ValueError, match=f"'{next(iter(params))}' parameter"):
        make_rare_positives(**params)
