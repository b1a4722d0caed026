"""What every test shares. Runs before NumPy and SciPy are imported."""

import os

os.environ["SCIPY_ARRAY_API"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:  # one worker per core already
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale

SEEDS = [int(seed) for seed in os.environ.get("PNSKLEARN_TEST_SEED", "0").split(",")]


@pytest.fixture(params=SEEDS)
def global_random_seed(request):
    """Seed of a test; PNSKLEARN_TEST_SEED=0,1,2 runs each test with three."""
    return request.param


@pytest.fixture(scope="session")
def cancer():
    """Breast cancer, standardised, with 60 of the malignant tumours (1): (X, y)."""
    X, y = load_breast_cancer(return_X_y=True)
    rare = (y == 1) | ((y == 0).cumsum() <= 60)
    return scale(X[rare]), (y[rare] == 0).astype(int)
