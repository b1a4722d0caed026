"""A ranking problem with rare positives."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, validate_params

from pnsklearn._typing import Array


@validate_params(
    {
        "n_samples": [Interval(Integral, 2, None, closed="left")],
        "n_features": [Interval(Integral, 2, None, closed="left")],
        "prior": [Interval(Real, 0, 1, closed="neither")],
        "class_sep": [Interval(Real, 0, None, closed="left")],
        "outliers": [Interval(Real, 0, 1, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_rare_positives(
    n_samples: int = 1000,
    n_features: int = 20,
    *,
    prior: float = 0.05,
    class_sep: float = 1.0,
    outliers: float = 0.0,
    random_state: Any = None,
) -> tuple[Array, Array]:
    """Make two normal classes, one rare, with positives that no linear model can rank first.

    Negatives are standard normal. Positives are too, shifted by `class_sep` along the first axis
    and by half of it along the second. A share of them, the outliers, is then mirrored along the
    first axis. A log-loss pays for each outlier by how far it is misplaced, and tilts the model;
    a bounded ranking loss gives the outliers up for the others.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of samples.
    n_features : int, default=20
        Number of features, two of them informative.
    prior : float, default=0.05
        Share of the positives, at least one sample of each class.
    class_sep : float, default=1.0
        Distance of the classes along the first axis, in standard deviations.
    outliers : float, default=0.0
        Share of the positives that are mirrored.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        The samples.
    y : ndarray of shape (n_samples,)
        1 for positives, 0 for negatives.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> from pnsklearn.datasets import make_rare_positives
    >>> X, y = make_rare_positives(prior=0.1, random_state=0)
    >>> X.shape, int(y.sum())
    ((1000, 20), 100)
    """
    rng = check_random_state(random_state)
    n_positives = min(max(round(prior * n_samples), 1), n_samples - 1)
    y = np.zeros(n_samples, dtype=np.int64)
    y[rng.permutation(n_samples)[:n_positives]] = 1
    X = rng.standard_normal((n_samples, n_features))
    X[y == 1, :2] += class_sep * np.array([1.0, 0.5])
    mirrored = (y == 1) & (rng.uniform(size=n_samples) < outliers)
    X[mirrored, 0] *= -1.0
    return X, y
