"""What holds for every estimator of the package."""

import ast
import io
import os
import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.metrics import average_precision_score
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

import pnsklearn
from pnsklearn import AUPRCClassifier, AUPRCStackingClassifier, PUTrendClassifier, TOPRPolicy
from tests.callbacks import Callback
from tests.estimators import KINDS, settings, unequal_weights

pytestmark = [
    pytest.mark.usefixtures("short_searches"),
    pytest.mark.filterwarnings("ignore::pnsklearn.exceptions.PUWarning"),  # a share is made up
]
FAST = settings("common", random_state=0)
# What a callback is called for.
STEPS = ("iteration", "snapshot")
# A stack cannot predict before its last step; see its own tests.
ITERATIVE = [model for model in FAST if not isinstance(model, AUPRCStackingClassifier)]
# Those whose iterations are the steps of one path, which `n_iter_` counts.
STEPWISE = settings("common", (AUPRCClassifier, TOPRPolicy), random_state=0)


# Some checks use a handful of rows.
@pytest.mark.filterwarnings("ignore:Only . positive samples:UserWarning")
@pytest.mark.filterwarnings("ignore:Dropped members that predict a constant:UserWarning")
@pytest.mark.filterwarnings("ignore:Without rewards:pnsklearn.exceptions.PolicyWarning")
@pytest.mark.usefixtures("larger_label")  # PUTrendClassifier wants it named, which checks do not
@parametrize_with_checks(settings("checked"), expected_failed_checks=unequal_weights)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


class Thresholded(AUPRCClassifier):
    """With a threshold of its own, and checked as if it had none."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        assert tags._skip_test
        tags._skip_test = False
        return tags


@pytest.mark.filterwarnings("ignore:Only . positive samples:UserWarning")
def test_scikit_learn_checks_with_a_threshold():
    """All pass but the one that wants the likelier class from predict."""
    model = Thresholded(alpha=0.1, threshold="f1", prior=0.3)
    results = check_estimator(model, on_fail=None, on_skip=None)
    failed = [result for result in results if result["status"] == "failed"]
    assert {result["check_name"] for result in failed} == {"check_classifiers_train"}
    assert all("Arrays are not equal" in str(result["exception"]) for result in failed)
    assert len(results) > 50


def test_public_classes_are_tested():
    classes = {getattr(pnsklearn, name) for name in pnsklearn.__all__}
    classes = {c for c in classes if isinstance(c, type) and issubclass(c, BaseEstimator)}
    assert classes == set(KINDS) == {type(estimator) for estimator in settings("checked")}


# Import


def run_python(code, **kwargs):
    """Return the output of a fresh interpreter, which must succeed."""
    kwargs.setdefault("cwd", Path(pnsklearn.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_loads_nothing():
    code = "import typing, sys; before = set(sys.modules); import pnsklearn; {}"
    code += "; print(*set(sys.modules) - before)"
    assert run_python(code.format("dir(pnsklearn)")).split() == ["pnsklearn"]
    # scikit-learn itself imports pandas and rich where they are installed.
    code = f"import sklearn.linear_model; {code}"
    names = [name for name in pnsklearn.__all__ if name != "__version__"]
    loaded = set(run_python(code.format(f"from pnsklearn import {', '.join(names)}")).split())
    assert "numba" in loaded
    extras = {"torch", "cvxpy", "matplotlib", "rich", "onnx", "skl2onnx"}
    assert not loaded & (extras | {"dask", "pandas", "polars"})


def test_import_is_cheap():
    code = (
        "import time; start = time.process_time();"
        "import pnsklearn; print(time.process_time() - start)"
    )
    # The budget is 0.02 s; more here, as the machine may be busy.
    assert np.median([float(run_python(code)) for _ in range(3)]) < 0.1


def test_names_are_found_at_their_first_use():
    code = """
import pickle, pnsklearn
assert {"AUPRCClassifier", "displays", "metrics", "show_versions"} <= set(dir(pnsklearn))
assert pnsklearn.metrics.class_prior and pnsklearn.displays.TrendDisplay and pnsklearn.exceptions
assert pnsklearn.datasets.make_pu and pnsklearn.onnx.register_converters
model = pickle.loads(pickle.dumps(pnsklearn.TOPRPolicy(C=2)))
from pnsklearn import *
assert type(model) is TOPRPolicy
print(TOPRPolicy.__module__.partition(".")[0], __version__)
"""
    assert run_python(code).split() == ["pnsklearn", pnsklearn.__version__]
    with pytest.raises(AttributeError, match="module 'pnsklearn' has no attribute 'TOPR'"):
        _ = pnsklearn.TOPR
    with pytest.raises(ImportError):
        from pnsklearn import nothing  # noqa: F401


def test_type_checkers_see_the_names():
    """What is resolved at run time is declared for those who do not run it."""
    tree = ast.parse(Path(pnsklearn.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    declared = {alias.name for line in block.body for alias in line.names}
    assert declared == {name for name in dir(pnsklearn) if not name.startswith("_")}
    assert Path(pnsklearn.__file__).with_name("py.typed").exists()


def test_read_only_install(tmp_path):
    """Where no cache folder can be written, kernels are compiled in memory."""
    source = Path(pnsklearn.__file__).parent
    for path in source.rglob("*.py"):
        copy = tmp_path / "pnsklearn" / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
        # Root can write anywhere, but not into a folder that is a file.
        (copy.parent / "__pycache__").write_text("")
    nowhere = {name: "/dev/null/nowhere" for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA")}
    environment = os.environ | nowhere | {"PYTHONPATH": str(tmp_path)}
    environment.pop("NUMBA_CACHE_DIR", None)
    code = """
import numba, numpy as np, pnsklearn
from pnsklearn._auprc._kernels import linear_scores
print(pnsklearn.__file__)
print(linear_scores(np.eye(2), np.array([3.0, 4.0])))
try:
    numba.njit(cache=True)(linear_scores)
except RuntimeError:
    print("no cache")
"""
    output = run_python(code, cwd=tmp_path, env=environment).splitlines()
    assert output == [str(tmp_path / "pnsklearn" / "__init__.py"), "[3. 4.]", "no cache"]


# Persistence


def assert_same_fit(fitted, expected, X):
    """Assert that two models are the same, to the last digit."""
    assert_array_equal(fitted.predict_proba(X), expected.predict_proba(X))
    if hasattr(expected, "coef_"):
        assert_array_equal(fitted.coef_, expected.coef_)


def through_pickle(estimator):
    return pickle.loads(pickle.dumps(estimator))


def through_joblib(estimator):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    return joblib.load(file)


def through_skops(estimator):
    skops = pytest.importorskip("skops.io")
    file = skops.dumps(estimator)
    trusted = skops.get_untrusted_types(data=file)
    known = "pnsklearn.", "sklearn.tree.", "sklearn.utils._bunch."
    assert all(name.startswith(known) for name in trusted)
    return skops.loads(file, trusted=trusted)


@pytest.mark.parametrize("through", [through_pickle, through_joblib, through_skops])
@pytest.mark.parametrize("estimator", FAST)
def test_persistence(estimator, through, cancer):
    X, y = cancer
    fitted = clone(estimator).fit(X, y)
    loaded = through(fitted)
    # Members of a stack are equal to themselves only; their hashes tell.
    assert joblib.hash(loaded.get_params()) == joblib.hash(fitted.get_params())
    assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    assert_array_equal(loaded.predict(X), fitted.predict(X))


@pytest.mark.parametrize("estimator", FAST)
def test_clone_is_unfitted_and_fits_the_same(estimator, cancer):
    fitted = clone(estimator).fit(*cancer)
    copy = clone(fitted)
    assert joblib.hash(vars(copy)) == joblib.hash(vars(estimator))
    assert_same_fit(copy.fit(*cancer), fitted, cancer[0])


# Input


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("estimator", FAST)
def test_data_frames(estimator, library, cancer):
    frames = pytest.importorskip(library)
    X, y = cancer
    names = [f"feature {k}" for k in range(X.shape[1])]
    frame = frames.DataFrame({name: X[:, k] for k, name in enumerate(names)})
    fitted = clone(estimator).fit(frame, frames.Series(y))
    assert_array_equal(fitted.feature_names_in_, names)
    expected = clone(estimator).fit(X, y)
    assert_array_equal(fitted.predict_proba(frame), expected.predict_proba(X))
    with pytest.warns(UserWarning, match="feature names"):
        assert_array_equal(fitted.predict(frame), fitted.predict(X))
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(frame[names[::-1]])


def read_only(X, folder):
    X = X.copy()
    X.setflags(write=False)
    return X


def memory_mapped(X, folder):
    joblib.dump(X, folder / "X")
    return joblib.load(folder / "X", mmap_mode="r")


def fortran_ordered(X, folder):
    return np.asfortranarray(X)


@pytest.mark.parametrize("convert", [read_only, memory_mapped, fortran_ordered])
@pytest.mark.parametrize("estimator", FAST)
def test_memory_layouts(estimator, convert, cancer, tmp_path):
    X, y = cancer
    expected = clone(estimator).fit(X, y)
    converted = convert(X, tmp_path)
    fitted = clone(estimator).fit(converted, y)
    assert_same_fit(fitted, expected, X)
    assert_array_equal(fitted.predict(converted), expected.predict(X))


@pytest.mark.parametrize("estimator", FAST)
def test_float32(estimator, cancer):
    X, y = cancer
    fitted = clone(estimator).fit(X.astype(np.float32), y)
    # Those of a stack are weights of log-odds, which are in double precision.
    if hasattr(fitted, "coef_") and not isinstance(fitted, AUPRCStackingClassifier):
        assert fitted.coef_.dtype == fitted.intercept_.dtype == np.float32
        assert fitted.decision_function(X.astype(np.float32)).dtype == np.float32
    expected = clone(estimator).fit(X, y).predict_proba(X)
    tol = 0.02 if isinstance(estimator, PUTrendClassifier) else 1e-3
    assert_allclose(fitted.predict_proba(X), expected, atol=tol)


@pytest.mark.parametrize("name", ["X", "y", "sample_weight"])
@pytest.mark.parametrize("estimator", FAST)
def test_masked_entries_are_refused(estimator, name, cancer):
    """NumPy would drop the mask, and the estimator learn from what is under it."""
    X, y = cancer
    inputs = {"X": X, "y": y, "sample_weight": np.ones(len(y))}
    masked = np.ma.array(inputs[name])
    fitted = clone(estimator).fit(**inputs | {name: masked})
    assert_same_fit(fitted, clone(estimator).fit(**inputs), X)
    masked[3] = np.ma.masked
    with pytest.raises(ValueError, match=f"{name} has masked entries"):
        clone(estimator).fit(**inputs | {name: masked})
    if name == "X":
        with pytest.raises(ValueError, match="X has masked entries"):
            fitted.predict(masked)


@pytest.mark.parametrize("weight", [np.nan, 1e-200, 1e200])
@pytest.mark.parametrize("estimator", FAST)
def test_weights_out_of_range(estimator, weight, cancer):
    X, y = cancer
    weights = weight if np.isnan(weight) else np.full(len(y), weight)
    with pytest.raises(ValueError, match="largest sample_weight is"):
        clone(estimator).fit(X, y, weights)


@pytest.mark.parametrize("estimator", FAST)
def test_negligible_weights_are_zero(estimator, cancer):
    X, y = cancer
    weight = np.where(np.arange(len(y)) % 3, 1.0, 1e-200)
    expected = clone(estimator).fit(X, y, np.round(weight))
    assert_same_fit(clone(estimator).fit(X, y, weight), expected, X)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("estimator", FAST)
def test_predictions_that_overflow_are_refused(estimator, sign, cancer):
    """Infinite scores of both signs would add up to NaN; rules of single steps have none."""
    X, y = cancer
    fitted = clone(estimator).fit(X, y)
    huge = np.where(X > 0, sign, -1) * np.finfo(float).max
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            probability = fitted.predict_proba(huge)
    except ValueError as error:
        assert "scores overflow" in str(error) or "dtype('float32')" in str(error)
    else:
        assert np.isfinite(probability).all()


# Callbacks


class Recorder(Callback):
    """Count the iterations, and at one of them stop, or raise."""

    def __init__(self, stop_at=None, error=None):
        self.stop_at = stop_at
        self.error = error
        self.n_iterations = 0
        self.scores = []

    def on_fit_task_end(self, estimator, context, *, fitted_estimator, X, y):
        if context.task_name not in STEPS:
            return False
        self.n_iterations += 1
        assert fitted_estimator is not estimator
        self.scores.append(average_precision_score(y, fitted_estimator.decision_function(X)))
        if self.n_iterations == self.stop_at and self.error is not None:
            raise self.error
        return self.n_iterations == self.stop_at


@pytest.mark.parametrize("estimator", STEPWISE)
def test_callback_sees_each_iteration(estimator, cancer):
    X, y = cancer
    recorder = Recorder()
    fitted = clone(estimator).set_callbacks(recorder).fit(X, y)
    assert recorder.n_iterations == fitted.n_iter_ > 1
    final = average_precision_score(y, fitted.decision_function(X))
    assert recorder.scores[-1] == pytest.approx(final, abs=1e-12)


@pytest.mark.parametrize("estimator", ITERATIVE)
def test_callback_changes_nothing(estimator, cancer):
    X, y = cancer
    weight = np.arange(len(y)) % 3  # rows of no weight too
    recorder = Recorder()
    fitted = clone(estimator).set_callbacks(recorder).fit(X, y, weight)
    assert recorder.n_iterations > 1
    assert min(recorder.scores) > y.mean()
    assert_same_fit(fitted, clone(estimator).fit(X, y, weight), X)


@pytest.mark.parametrize("estimator", ITERATIVE)
def test_callback_stops_early(estimator, cancer):
    X, y = cancer
    recorder = Recorder(stop_at=2)
    fitted = clone(estimator).set_callbacks(recorder).fit(X, y)
    assert recorder.n_iterations == 2
    final = average_precision_score(y, fitted.decision_function(X))
    if isinstance(estimator, AUPRCClassifier | TOPRPolicy):
        assert fitted.n_iter_ == 2
        assert recorder.scores[-1] == pytest.approx(final, abs=1e-12)
    else:  # rounds or polishes what it has
        assert final > 0.5
    assert fitted.predict(X).shape == y.shape


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("from a callback")])
@pytest.mark.parametrize("estimator", ITERATIVE)
def test_interrupted_fit_changes_nothing(estimator, error, cancer):
    X, y = cancer
    interrupted = clone(estimator).set_callbacks(Recorder(stop_at=2, error=error))
    before = vars(interrupted).copy()
    with pytest.raises(type(error)):
        interrupted.fit(X, y)
    assert vars(interrupted) == before

    fitted = clone(estimator).fit(X[:, :5], y)
    fitted.set_callbacks(Recorder(stop_at=2, error=error))
    before = vars(fitted).copy()
    probability = fitted.predict_proba(X[:, :5])
    with pytest.raises(type(error)):
        fitted.fit(X, y)
    assert vars(fitted).keys() == before.keys()
    assert all(vars(fitted)[name] is before[name] for name in before)
    assert_array_equal(fitted.predict_proba(X[:, :5]), probability)


@pytest.mark.skipif(find_spec("rich") is None, reason="needs rich")
@pytest.mark.parametrize("estimator", FAST)
def test_progress_bar(estimator, cancer, capsys):
    fitted = clone(estimator).set_callbacks(ProgressBar()).fit(*cancer)
    assert type(estimator).__name__ in capsys.readouterr().out
    assert_same_fit(fitted, clone(estimator).fit(*cancer), cancer[0])


@pytest.mark.parametrize("estimator", ITERATIVE)
def test_scoring_monitor(estimator, cancer):
    X, y = cancer
    monitor = ScoringMonitor(scoring="average_precision")
    fitted = clone(estimator).set_callbacks(monitor).fit(X, y)
    data = monitor.get_logs().data
    scores = [row["average_precision"] for row in data if row["task_name"] in STEPS]
    assert len(scores) > 1
    if isinstance(estimator, AUPRCClassifier | TOPRPolicy):
        assert len(scores) == fitted.n_iter_
        final = average_precision_score(y, fitted.decision_function(X))
        assert scores[-1] == pytest.approx(final, abs=1e-12)


def test_scoring_monitor_of_a_stack(cancer):
    """It cannot score until the end, and then gives the score of the fitted stack."""
    X, y = cancer
    monitor = ScoringMonitor(scoring="average_precision")
    (estimator,) = settings("common", AUPRCStackingClassifier)
    fitted = estimator.set_callbacks(monitor).fit(X, y)
    scores = [row["average_precision"] for row in monitor.get_logs().data]
    expected = average_precision_score(y, fitted.decision_function(X))
    assert scores == [pytest.approx(expected, abs=1e-12)]
