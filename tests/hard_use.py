"""Try several hundred bad or odd inputs on each estimator: ``python -m tests.hard_use``.

Each case must end in a clear error, one that names the problem in words, or in a right result:
finite probabilities that add up to one, labels from `classes_`, and what the plain form of the same
input gives where it is the same input. It may not crash or hang, change its inputs or parameters,
and a fit that fails must leave a fitted estimator as it was.

The cases are products of the tables of `tests.hard_inputs`. They run in a process of their own,
which is started anew after a crash or when a case takes too long. ``--case NAME`` repeats one here,
with its traceback.
"""

import argparse
import copy
import faulthandler
import functools
import io
import itertools
import multiprocessing
import os
import pickle
import signal
import sys
import traceback
import warnings
from collections import Counter, namedtuple
from concurrent.futures import ThreadPoolExecutor
from linecache import getline
from pathlib import Path
from unittest import mock

import joblib
import numpy as np
import scipy.sparse as sp
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import pnsklearn
from pnsklearn import PUTrendClassifier, SMaLLClassifier
from pnsklearn._pu_trend import _estimator as pu
from tests import hard_inputs as given
from tests.callbacks import Callback
from tests.estimators import TASKS, settings
from tests.hard_inputs import EITHER, ERROR, RIGHT, SAME, optional, pd, torch

# The labels of the cases are no matter of `pos_label`: the larger one is the positive one.
pu.positive_label = lambda classes, pos_label: classes
LIMIT = 60  # seconds for a case, on a busy machine
MEMORY = 24 << 30  # bytes that the process of the cases may map


# One case: change a good fit, see what comes of it

Case = namedtuple("Case", "name act")


def attempt(bench, setting, changes, expected, place="fit"):
    """Change the inputs of a good fit, or of a prediction; return "error" or "right"."""
    inputs, model = bench.inputs(), copy.copy(bench.fitted(setting))
    rows = changes.get("rows", lambda y: slice(None))(inputs["y"])
    inputs = {name: values[rows] for name, values in inputs.items()}
    for name, change in changes.items():
        if name in inputs:
            inputs[name] = change(inputs[name])
    if "X and y" in changes:
        inputs["X"] = changes["X and y"](inputs["X"], inputs["y"])
    model.set_params(**changes.get("params", {}))
    state, before = vars(model).copy(), {name: digest(value) for name, value in inputs.items()}
    error = probability = None
    try:
        if place == "fit":
            bench.fit(model, **inputs)
        probability = check_predictions(model, inputs["X"])
    except AssertionError:
        raise
    except Exception as raised:
        error = raised
    assert before == {name: digest(value) for name, value in inputs.items()}, "changed its input"
    same = {name: vars(model).get(name) is value for name, value in state.items()}
    assert all(same[name] for name in model.get_params(deep=False)), "changed a parameter"
    reference = bench.reference(setting, given.CSR if expected == "as CSR" else np.array)
    if expected == "as CSR":
        expected = ERROR if reference is None else SAME
    if error is None:
        assert expected != ERROR, "no error"
        if expected == SAME:
            off = np.abs(probability - reference).max()
            assert off < 1e-6, f"not the result of the plain input, off by {off:.2g}"
        return "right"
    check_clear(error)
    if expected in (SAME, RIGHT):
        raise AssertionError(f"refused: {error}") from error
    assert all(same.values()) and len(vars(model)) == len(state), "a failed fit changed the model"
    bench.assert_same(bench.fitted(setting), setting)
    return "error"


def digest(value):
    """Return what must not change of an input."""
    if sp.issparse(value):
        names = ("data", "indices", "indptr", "row", "col", "offsets", "rows")
        value = [value.shape, *(getattr(value, name, None) for name in names)]
    if torch and torch.is_tensor(value):
        value = value.detach().double().numpy()
    elif isinstance(value, np.ma.MaskedArray):
        value = value.data, value.mask
    elif hasattr(value, "to_numpy"):
        value = value.to_numpy(), getattr(value, "columns", None)
    if type(value).__name__ in ("generator", "object"):
        return None
    return joblib.hash(value)


def check_predictions(model, X):
    """Check what every fitted model must give for X; return the probabilities."""
    probability, labels = model.predict_proba(X), model.predict(X)
    assert probability.ndim == 2 and probability.shape[1] == len(model.classes_), "wrong shape"
    assert np.isfinite(probability).all(), "probabilities are not finite"
    assert ((probability >= 0) & (probability <= 1)).all(), "probabilities outside [0, 1]"
    assert np.abs(probability.sum(axis=1) - 1).max() < 1e-6, "probabilities do not add up to one"
    assert len(labels) == len(probability) and np.isin(labels, model.classes_).all(), "odd labels"
    assert not np.isnan(model.decision_function(X)).any(), "decision_function has NaN"
    for name in ("coef_", "intercept_", "surrogate_", "objective_", "class_prior_", "baseline_"):
        assert np.isfinite(getattr(model, name, 0.0)).all(), f"{name} is not finite"
    return probability


CLEAR = (ValueError, TypeError, NotFittedError, ImportError)
# Where scikit-learn checks inputs. What NumPy or pandas say of a conversion there is passed on.
CHECKS = [str(Path("sklearn", part)) for part in ("utils", "model_selection")]


def check_clear(error):
    """Assert that an error was raised on purpose, and says in words what is wrong."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "base.py" not in f.filename]
    package = str(Path(pnsklearn.__file__).parent)
    ours = max((k for k, f in enumerate(frames) if f.filename.startswith(package)), default=-1)
    if ours == len(frames) - 1:
        on_purpose = getline(frames[-1].filename, frames[-1].lineno).lstrip().startswith("raise ")
    else:
        on_purpose = any(place in frames[ours + 1].filename for place in CHECKS)
        # The second stage of PUTrendClassifier is scikit-learn's, with input checks of its own; so
        # are most members of a stack.
        handed_on = frames[ours + 1].filename.endswith("pipeline.py")
        handed_on |= frames[ours].filename.endswith("_out_of_fold.py")
        on_purpose |= handed_on and frames[-1].filename.endswith("validation.py")
    clear = isinstance(error, CLEAR) and not isinstance(error, np.linalg.LinAlgError)
    if not (on_purpose and clear and len(str(error).split()) >= 3):
        place = f"{frames[ours].filename}:{frames[ours].lineno}"
        raise AssertionError(f"{type(error).__name__} at {place}: {error}") from error


class Bench:
    """A task with its good inputs, and the settings of its estimator, fitted, for reference."""

    def __init__(self, task, seed):
        self.name, self.settings = task.name, settings("hard", task.kind, random_state=0)
        rng = np.random.RandomState(seed)
        self._X = rng.standard_normal((60, 4))
        self._target = task.target(self._X, 0.5 * rng.standard_normal(60))

    def inputs(self):
        """Return copies of the good inputs."""
        inputs = {"X": self._X, "sample_weight": np.ones(60)} | self._target
        return {name: value.copy() for name, value in inputs.items()}

    def fit(self, model, **changes):
        inputs = self.inputs() | changes
        return model.fit(inputs.pop("X"), inputs.pop("y"), **inputs)

    @functools.cache  # noqa: B019, benches live as long as the process
    def fitted(self, setting):
        return self.fit(self.unfitted(setting))

    def unfitted(self, setting=0):
        return clone(self.settings[setting])

    @functools.cache  # noqa: B019
    def reference(self, setting, form):
        """Return the probabilities of a good fit, or None if X in this form is refused."""
        X = form(self._X)
        try:
            return self.fit(self.unfitted(setting), X=X).predict_proba(X)
        except TypeError:
            return None

    def assert_same(self, model, setting=0):
        probability = model.predict_proba(self._X)
        assert np.array_equal(probability, self.reference(setting, np.array)), "another result"


# What else users do with an estimator: ways to the same model, and interruptions


def through_file(model):
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


def of_other_version(model):
    with mock.patch("sklearn.base.__version__", "1.0"), mock.patch("pnsklearn.__version__", "9"):
        state = pickle.dumps(model)
    return pickle.loads(state)


def refitted(bench, **config):
    """Return a model that was fitted to other data and to sparse ones before."""
    model, X = bench.unfitted(), bench.inputs()["X"]
    bench.fit(model, X=X[:, :2])
    bench.fit(model, X=sp.csr_matrix(X))
    with config_context(**config):
        return bench.fit(model)


def from_thread(bench):
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(bench.fit, [bench.unfitted() for _ in range(8)]))
        for _ in pool.map(bench.assert_same, models * 4):
            pass
    return models[-1]


def from_fork(bench):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(bench.fit, [bench.unfitted()] * 2)[1]


def from_loky(bench):
    inputs = bench.inputs()
    fit = joblib.delayed(bench.unfitted().fit)(inputs.pop("X"), inputs.pop("y"), **inputs)
    return joblib.Parallel(2)([fit] * 2)[1]


CONFIGS = [
    {},
    {"assume_finite": True},
    {"enable_metadata_routing": True},
    {"skip_parameter_validation": True},
    {"transform_output": "pandas" if pd else "default"},
    {"working_memory": 1},
]
COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "joblib.dump": through_file,
    "pickle of another version": of_other_version,
    "oldest pickle": lambda model: pickle.loads(pickle.dumps(model, 0)),
    "newest pickle": lambda model: pickle.loads(pickle.dumps(model, -1)),
}
WAYS = (
    {name: lambda bench, way=way: way(bench.fitted(0)) for name, way in COPIES.items()}
    | {f"refit, {config}": functools.partial(refitted, **config) for config in CONFIGS}
    | {"clone": lambda bench: bench.fit(clone(bench.fitted(0))), "threads": from_thread}
    | ({"fork": from_fork} if "fork" in multiprocessing.get_all_start_methods() else {})
)


def try_way(bench, way):
    bench.assert_same(way(bench))


class Interrupter(Callback):
    """A callback that raises at the end of a task."""

    def __init__(self, at):
        self.left = at

    def on_fit_task_end(self, estimator, context):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def interrupted(bench, model, arm, disarm):
    """Interrupt a refit: the model is as before, and can be fitted again."""
    state, done = vars(model).copy(), False
    X = bench.inputs()["X"]
    try:
        arm()
        bench.fit(model, X=X[:, :3])
        done = True
        disarm()
    except KeyboardInterrupt:
        disarm()
    except TypeError as error:
        # NumPy says so of any exception, an interrupt too, while np.unique compares rows.
        if not str(error).startswith("Cannot compare structured arrays"):
            raise
        disarm()
    if not done:
        assert vars(model).keys() == state.keys(), "changed by an interrupted fit"
        assert all(vars(model)[name] is state[name] for name in state), "changed"
        bench.assert_same(model)
    bench.assert_same(bench.fit(model))


def interrupt_by_callback(bench, at):
    callback = Interrupter(at)
    model = copy.copy(bench.fitted(0)).set_callbacks(callback)
    interrupted(bench, model, lambda: None, functools.partial(setattr, callback, "left", 0))


def interrupt_by_signal(bench, delay):
    """Interrupt as Ctrl-C does, some time into the fit."""
    old = signal.signal(signal.SIGALRM, signal.default_int_handler)
    timer = functools.partial(signal.setitimer, signal.ITIMER_REAL)
    model = copy.copy(bench.fitted(0))
    try:
        interrupted(bench, model, functools.partial(timer, delay), functools.partial(timer, 0))
    finally:
        signal.signal(signal.SIGALRM, old)


def predict_for_names(bench, names):
    """Predict for a frame whose names are not those of the fit, or not in their order."""
    X = bench.inputs()["X"]
    model = bench.fit(bench.unfitted(), X=given.to_frame(X))
    bench.assert_same(model)
    try:
        model.predict(pd.DataFrame(X[:, : len(names)], columns=list(names)))
    except ValueError as error:
        check_clear(error)
        return "error"
    raise AssertionError("predicted for other features")


def predict_unfitted(bench):
    try:
        clone(bench.fitted(0)).predict(bench.inputs()["X"])
    except NotFittedError as error:
        check_clear(error)
        return "error"
    raise AssertionError("a clone is fitted")


# All cases


def crossed(stride, *tables):
    """Return the product of tables, or every so many of it."""
    return itertools.islice(itertools.product(*map(dict.items, tables)), 0, None, stride)


def inputs_cases(setting, stride, with_feedback):
    """Yield (name, changes, expected, place)."""

    def table(name, slot, entries, place="fit"):
        for expected, forms in entries.items():
            for form, change in forms.items():
                yield f"{name}, {form}", {slot: change}, expected, place

    for place in ("fit", "predict"):
        yield from table(f"{place}, X", "X", given.CONTAINERS, place)
        # A model of dense data takes sparse X, but for steps of single values.
        expected = "as CSR" if place == "fit" else EITHER
        yield from table(f"{place}, X", "X", {expected: given.SPARSE}, place)
        for (v, value), (a, at), (f, form) in crossed(
            stride, given.NOT_FINITE, given.PARTS, given.FORMS
        ):
            change = given.chain(given.with_entry(value, at), form)
            yield f"{place}, {v} in {a}, {f}", {"X": change}, ERROR, place
        for (v, size), (a, at), (f, form) in crossed(
            stride, given.SCALES, given.PARTS, given.FORMS
        ):
            change = given.chain(given.scaled(size, at), form)
            yield f"{place}, {a} times {v}, {f}", {"X": change}, EITHER, place
    for (r, rows), (f, form) in crossed(1 + stride // 4, given.ROWS, given.FORMS):
        yield f"fit, {r}, {f}", {"rows": rows, "X": form}, EITHER, "fit"
    for (t, structure), (f, form) in crossed(1 + stride // 4, given.STRUCTURES, given.FORMS):
        yield f"fit, {t}, {f}", {"X and y": given.chain(structure, form)}, EITHER, "fit"
    wide = given.wide(30_000 if stride > 1 else 1_000_000)
    yield "fit, very many columns", {"X and y": wide}, RIGHT, "fit"
    yield from table("y", "y", given.LABELS)
    yield from table("weight", "sample_weight", given.WEIGHTS)
    if with_feedback:
        yield from table("reward", "reward", given.REWARDS)
        yield from table("propensity", "propensity", given.PROPENSITIES)
    for (r, rows), (w, weight) in crossed(stride, given.ROWS, given.WEIGHTS[EITHER]):
        yield f"{r}, weight {w}", {"rows": rows, "sample_weight": weight}, EITHER, "fit"
    names = {name: name for name in setting.get_params(deep=False)}
    for (_, name), (v, value) in crossed(stride, names, given.VALUES):
        if not (name in given.WORK and v in given.ASTRONOMICAL):
            yield f"{name}={v}", {"params": {name: value}}, EITHER, "fit"


def takes_gaps(name):
    """Return whether a case is of missing values or, in the fit, of categories."""
    place, _, what = name.partition(", ")
    if what.startswith("NaN in"):
        return not what.endswith(("CSR", "CSC array"))
    gaps = "X, None inside", "X, pandas NA", "X, polars null"
    levels = "X, pandas strings", "X, pandas categories", "X, polars strings"
    return what in gaps or (place == "fit" and what in levels)


def cases(bench, quick):
    """Yield the cases of a task: all of the first setting, some of the others."""
    for number, setting in enumerate(bench.settings[: 1 if quick else None]):
        suffix = f", setting {number}" if number else ""
        stride = given.STRIDE if quick or number else 1
        for name, *args in inputs_cases(setting, stride, "reward" in bench.inputs()):
            if name == "y, pandas NA" and isinstance(setting, PUTrendClassifier):
                args[1] = RIGHT  # there it means unlabeled
            if isinstance(setting, SMaLLClassifier) and takes_gaps(name):
                args[1] = RIGHT
            act = functools.partial(attempt, bench, number, *args)
            yield Case(f"{bench.name}: {name}{suffix}", act)

    acts = {name: functools.partial(try_way, way=way) for name, way in WAYS.items()}
    if not quick:
        acts["loky"] = functools.partial(try_way, way=from_loky)
    for at in (1, 2, 5, 20):
        acts[f"interrupt by callback {at}"] = functools.partial(interrupt_by_callback, at=at)
    for delay in (1e-4, 1e-3, 3e-3, 1e-2, 3e-2) if hasattr(signal, "setitimer") else ():
        acts[f"interrupt after {delay} s"] = functools.partial(interrupt_by_signal, delay=delay)
    for names in ("abc", "abdc", "bcde", "ABCD") if pd else ():
        acts[f"predict for names {names}"] = functools.partial(predict_for_names, names=names)
    acts["predict with a clone"] = predict_unfitted
    for name, act in acts.items():
        yield Case(f"{bench.name}: {name}", functools.partial(act, bench))


def run(case):
    """Return what a case came to: "right", "error", or what failed."""
    warnings.simplefilter("ignore")
    try:
        return case.act() or "right"
    except AssertionError as failure:
        return str(failure)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


def all_cases(options):
    chosen = [task for task in TASKS if task.name.startswith(options.estimator)]
    return [case for task in chosen for case in cases(Bench(task, options.seed), options.quick)]


def work(pipe, options):
    """Answer the numbers of cases with their results; the watchdog ends a process that hangs."""
    faulthandler.enable()
    if resource := optional("resource"):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    every = all_cases(options)
    while (number := pipe.recv()) is not None:
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        result = run(every[number])
        faulthandler.cancel_dump_traceback_later()
        pipe.send(result)


def results(options, n_cases):
    """Yield the result of each case, in a process that is replaced when it dies."""
    spawn, process, pipe = multiprocessing.get_context("spawn"), None, None
    for number in range(n_cases):
        if process is None:
            pipe, other = spawn.Pipe()
            process = spawn.Process(target=work, args=(other, options))
            process.start()
            other.close()
        pipe.send(number)
        try:
            yield pipe.recv()
        except EOFError:
            process.join()
            hung = process.exitcode == 1  # as the watchdog has it
            yield f"took more than {LIMIT} s" if hung else f"died with code {process.exitcode}"
            process = None
    if process is not None:
        pipe.send(None)
        process.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one set of parameters each")
    parser.add_argument("--estimator", default="", help="only those whose name starts like this")
    parser.add_argument("--seed", type=int, default=0, help="seed of the data")
    parser.add_argument("--case", help="repeat one case here, with its traceback")
    options = parser.parse_args()
    every = all_cases(options)
    if not every:
        parser.error(f"no estimator's name starts with {options.estimator!r}")
    if options.case:
        (case,) = (case for case in every if case.name == options.case)
        print(case.act() or "right")
        return 0
    counts, failures = Counter(), []
    for case, result in zip(every, results(options, len(every)), strict=True):
        kind = result if result in ("right", "error") else "failed"
        counts[case.name.partition(":")[0], kind] += 1
        if kind == "failed":
            failures.append((case.name, result))
            print(f"FAILED  {case.name}\n        {result}", flush=True)
    print(f"{'estimator':24}{'cases':>8}{'clear errors':>15}{'right':>8}{'failures':>10}")
    for name in dict.fromkeys(name for name, _ in counts):
        error, right, failed = (counts[name, kind] for kind in ("error", "right", "failed"))
        print(f"{name:24}{error + right + failed:8}{error:15}{right:8}{failed:10}")
    if failures:
        print(f"Repeat one with: python -m tests.hard_use --case {failures[0][0]!r}")
    return bool(failures)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
