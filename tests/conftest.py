"""What every test shares. Runs before NumPy and SciPy are imported."""

import os

os.environ["SCIPY_ARRAY_API"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:  # one worker per core already
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale

SEEDS = [int(seed) for seed in os.environ.get("PNSKLEARN_TEST_SEED", "0").split(",")]


@pytest.fixture(autouse=True)
def seeded_stream():
    """NumPy's own stream, for what has no ``random_state``: a failure comes again."""
    np.random.seed(0)  # noqa: NPY002 (the stream itself)


@pytest.fixture(params=SEEDS)
def global_random_seed(request):
    """Seed of a test; PNSKLEARN_TEST_SEED=0,1,2 runs each test with three."""
    return request.param


@pytest.fixture
def few_trees(monkeypatch):
    """Ten trees in the default second stage, where nothing depends on how many there are."""
    from pnsklearn._pu_trend import _second_stage, _share

    trees = _second_stage.default_trees

    def ten_trees(*args):
        return trees(*args).set_params(extratreesclassifier__n_estimators=10)

    monkeypatch.setattr(_second_stage, "default_trees", ten_trees)
    monkeypatch.setattr(_share, "N_TREES", 5)


@pytest.fixture
def larger_label(monkeypatch):
    """The larger label stands for the labeled positives, as if it had been named."""
    from pnsklearn._pu_trend import _estimator

    monkeypatch.setattr(_estimator, "positive_label", lambda classes, pos_label: classes)


@pytest.fixture
def short_searches(monkeypatch, few_trees):
    """Fewer steps, starts and candidates in a fit, where nothing depends on how many there are."""
    from pnsklearn._auprc import _estimator, _selection
    from pnsklearn._pu_trend import _presets
    from pnsklearn._small import _solver

    monkeypatch.setattr(_presets, "FEWEST_STEPS", 5)
    monkeypatch.setattr(_solver, "N_STARTS_FEW_ENTRIES", 3)
    monkeypatch.setattr(_solver, "N_KICKS_FEW_ENTRIES", 2)
    monkeypatch.setattr(_estimator, "C_GRID", (0.01, 1.0))
    monkeypatch.setattr(_selection, "ALPHA_GRID", (float("inf"), 0.1, 0.01))


@pytest.fixture(scope="session")
def cancer():
    """Breast cancer, standardised, with 60 of the malignant tumours (1): (X, y)."""
    X, y = load_breast_cancer(return_X_y=True)
    rare = (y == 1) | ((y == 0).cumsum() <= 60)
    return scale(X[rare]), (y[rare] == 0).astype(int)
