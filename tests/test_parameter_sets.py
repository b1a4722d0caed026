"""scikit-learn's checks at settings that are drawn from the parameters' own constraints."""

import zlib
from numbers import Integral

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.utils._param_validation import Interval, Options
from sklearn.utils.estimator_checks import check_estimator

from tests.estimators import KINDS, MEMBERS, unequal_weights

N_SETTINGS = 1  # of each estimator
# Integers without an upper bound, and those that would take long.
RANGES = {
    "batch_size": (2, 64),
    "max_iter": (5, 100),
    "n_epochs": (1, 3),
    "n_folds": (2, 3),
    "n_init": (1, 3),
    "n_nonzero": (1, 4),
    "n_passes": (1, 3),
    "n_prototypes": (1, 3),
    "n_snapshots": (1, 4),
}
# Where these are not drawn: the defaults, which take longer, are checked elsewhere.
QUICK = {
    "alpha": 0.1, "estimators": MEMBERS, "n_init": 2, "n_folds": 2, "n_passes": 1, "n_snapshots": 3,
    "n_prototypes": 2,
}  # fmt: skip
# Powers of ten of what, beyond these, leaves a fit that has learned little.
SCALES = {"C": (-1, 1), "learning_rate": (-2.5, -1), "tol": (-7, -3)}
# Solvers to which a weight is not just a repetition, to the last digits that the checks compare.
INEXACT = {
    "soap-adam": "its batches are random",
    "soap-sgd": "its batches are random",
    "adam": "its batches are random",
    "fista": "solves a relaxation to a gap, and rounds the result",
    "saddle": "solves a relaxation to a gap, and rounds the result",
    "reference": "solves a relaxation to a gap, and rounds the result",
}


def draw(constraint, name, rng):
    """Return a value that a constraint allows; raise NotImplementedError for the other kinds."""
    if constraint is None:
        return None
    if constraint == "boolean":
        return bool(rng.randint(2))
    if isinstance(constraint, Options):
        return sorted(constraint.options, key=str)[rng.randint(len(constraint.options))]
    if isinstance(constraint, Interval) and constraint.type is Integral and name in RANGES:
        low, high = RANGES[name]
        return int(rng.randint(low, high + 1))
    if isinstance(constraint, Interval) and constraint.type is not Integral:
        if name in SCALES:
            return float(10 ** rng.uniform(*SCALES[name]))
        low, high = constraint.left or 0.0, constraint.right
        if high is None:
            return float(low + 10 ** rng.uniform(-3, 1))
        return float(low + (high - low) * rng.uniform(0.05, 0.95))
    raise NotImplementedError


def random_setting(kind, rng):
    """Return an estimator with about a third of its parameters drawn."""
    params = {name: value for name, value in QUICK.items() if name in kind._parameter_constraints}
    for name, constraints in kind._parameter_constraints.items():
        # With a threshold the checks do not apply; see the common tests.
        if constraints == "no_validation" or name == "threshold" or rng.rand() < 0.6:
            continue
        try:
            params[name] = draw(constraints[rng.randint(len(constraints))], name, rng)
        except NotImplementedError:
            pass
    return kind(**params)


@pytest.mark.usefixtures("short_searches", "larger_label")
@pytest.mark.filterwarnings("ignore::UserWarning")  # some checks use a handful of rows
@pytest.mark.parametrize("number", range(N_SETTINGS))
@pytest.mark.parametrize("kind", KINDS)
def test_checks_at_a_random_setting(kind, number, global_random_seed):
    seed = zlib.crc32(f"{kind.__name__} {number} {global_random_seed}".encode())
    rng = np.random.RandomState(seed)
    X, y = make_classification(200, 5, random_state=0)
    for _ in range(20):
        estimator = random_setting(kind, rng)
        try:
            clone(estimator).fit(X, y)
        except ValueError as error:  # parameters that do not go together: a sentence says so
            assert len(str(error).split()) > 5
        else:
            break
    else:
        raise AssertionError("no setting was accepted")
    print(estimator)  # shown where a check fails
    expected = unequal_weights(estimator, INEXACT.get(getattr(estimator, "solver", None)))
    check_estimator(estimator, on_skip=None, expected_failed_checks=expected)
