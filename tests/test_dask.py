"""Fits on a Dask cluster against those of one process, and what goes wrong with partitions."""

import gc
import os
import pickle
import signal
import threading

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

pytest.importorskip("distributed")

import dask
import dask.array as da
import dask.dataframe as dd
import joblib
import pandas as pd
from distributed import Client, LocalCluster
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV

from pnsklearn import AUPRCClassifier, TOPRPolicy
from pnsklearn._auprc import _anchors, _estimator, _selection
from pnsklearn._topr._feedback import Feedback
from pnsklearn.dask import (
    DaskAUPRCClassifier,
    DaskTOPRPolicy,
    _auprc,
    _blocks,
    _pairs,
    _policies,
    _topr,
)
from tests.callbacks import Callback

N = 600
X, Y = make_classification(N, 5, weights=[0.85], flip_y=0.1, random_state=0)
X = X.round(1)
X[-30:] = X[:30]  # ties
W = np.random.RandomState(0).randint(0, 4, N).astype(float)
ACTION = np.random.RandomState(1).randint(0, 3, N)
REWARD = (ACTION == (X[:, 0] > 0) + (X[:, 1] > 0)) - 0.3
LOG = {"reward": REWARD, "propensity": np.full(N, 1 / 3)}
FAST = DaskAUPRCClassifier(alpha=1.0)


@pytest.fixture(scope="module")
def cluster():
    """Two workers of one thread each, and a client to them."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as made,
        Client(made) as client,
    ):
        yield client


def pieces(*arrays, n=3):
    """Return arrays as Dask arrays of n partitions."""
    rows = tuple(map(len, np.array_split(np.arange(len(arrays[0])), n)))
    return [da.from_array(array, chunks=(rows, *array.shape[1:])) for array in arrays]


def uneven(*arrays, cuts):
    """Return arrays as Dask arrays cut where one likes, which may be twice at the same row."""
    rows = tuple(map(int, np.diff([0, *cuts, len(arrays[0])])))
    return [da.from_array(array, chunks=(rows, *array.shape[1:])) for array in arrays]


def assert_same(fitted, expected, atol=1e-8):
    """The fitted attributes are those of the plain estimator."""
    local = fitted.to_local()
    assert type(local) is type(expected) and local.get_params() == expected.get_params()
    assert set(vars(local)) - {"feature_names_in_"} == set(vars(expected)) - {"feature_names_in_"}
    assert_array_equal(fitted.classes_, expected.classes_)
    assert fitted.n_iter_ == expected.n_iter_
    assert fitted.coef_.dtype == expected.coef_.dtype
    assert_allclose(fitted.coef_, expected.coef_, rtol=0, atol=atol)
    assert_allclose(fitted.intercept_, expected.intercept_, rtol=0, atol=atol)


# The same as one process


def test_without_a_client():
    """Dask's own scheduler computes in this process."""
    expected = AUPRCClassifier(alpha=1.0).fit(X, Y, W)
    with pytest.raises(ValueError, match="client"):
        _blocks.default_client()
    assert_same(DaskAUPRCClassifier(alpha=1.0).fit(*pieces(X, Y, W)), expected)


AUPRC = {
    "alpha": {"alpha": 0.1},
    "cv": {},
    "hinge": {"loss": "squared_hinge", "alpha": 0.03, "class_weight": "balanced"},
    "newton": {"solver": "trust-ncg", "alpha": 0.1, "prior": 0.3},
    "positive": {"positive": True, "alpha": 0.1},
    "zero": {"anchor": "zero", "alpha": 1e-2, "threshold": 0.3},
    "shrunk": {"anchor": "shrunk", "alpha": 0.1},
}


@pytest.mark.parametrize("settings", AUPRC.values(), ids=AUPRC)
def test_auprc_is_that_of_one_process(cluster, settings):
    expected = AUPRCClassifier(**settings).fit(X, Y, W)
    for n in (1, 3, 16) if settings == {"alpha": 0.1} else (3,):
        fitted = DaskAUPRCClassifier(**settings).fit(*pieces(X, Y, W, n=n))
        assert_same(fitted, expected)
        assert fitted.alpha_ == expected.alpha_ and fitted.threshold_ == expected.threshold_
        assert_allclose(fitted.surrogate_, expected.surrogate_, rtol=1e-12)
        assert_allclose(fitted.cv_average_precision_, expected.cv_average_precision_)


def test_the_way_of_many_rows(cluster, monkeypatch):
    """Where rows are many, the anchor is of L-BFGS, and alpha is chosen on some rows."""
    monkeypatch.setattr(_anchors, "NEWTON_WORK", 0)
    monkeypatch.setattr(_estimator, "C_GRID", (0.01, 1.0))
    monkeypatch.setattr(_selection, "MOST_ROWS", 60)
    expected = AUPRCClassifier().fit(X, Y, W)
    assert_same(DaskAUPRCClassifier().fit(*pieces(X, Y, W)), expected)


@pytest.mark.parametrize("bounds", ["topr", "is", "cv"])
def test_policy_is_that_of_one_process(cluster, bounds):
    expected = TOPRPolicy(bounds=bounds).fit(X, ACTION, W, **LOG)
    reward, propensity = pieces(*LOG.values())
    for n in (16,) if bounds == "topr" else (3,):
        log = dict(zip(LOG, pieces(*LOG.values(), n=n), strict=True))
        fitted = DaskTOPRPolicy(bounds=bounds).fit(*pieces(X, ACTION, W, n=n), **log)
        assert_same(fitted, expected)
        assert (fitted.C_, fitted.bounds_) == (expected.C_, expected.bounds_)
        for name, value in expected.diagnostics_.items():
            assert_allclose(fitted.diagnostics_[name], value, atol=1e-8, err_msg=name)
    parts = pieces(X, ACTION)
    found = fitted.score(*parts, reward=reward, propensity=propensity)
    assert_allclose(found, expected.score(X, ACTION, **LOG))


def test_two_actions_and_imitation(cluster):
    expected = TOPRPolicy().fit(X, ACTION == 1, W)
    assert_same(DaskTOPRPolicy().fit(*pieces(X, ACTION == 1, W)), expected)


def test_bounds_are_chosen_on_a_sample(cluster, monkeypatch):
    """C is that of all rows."""
    monkeypatch.setattr(_topr, "MOST_ROWS", 100)
    log = dict(zip(LOG, pieces(*LOG.values()), strict=True))
    fitted = DaskTOPRPolicy(cv=2).fit(*pieces(X, ACTION), **log)
    assert set(fitted.selection_.C.round(9)) == {0.1, 1.0, 10.0}
    rows = np.linspace(0, N, 300, endpoint=False).astype(int)
    part = {name: column[rows] for name, column in LOG.items()}
    sampled = TOPRPolicy(C=2, cv=2).fit(X[rows], ACTION[rows], **part)
    assert_allclose(fitted.selection_.value, sampled.selection_.value)


def test_float32_and_mixed_types(cluster):
    X32 = X.astype(np.float32)
    expected = AUPRCClassifier(alpha=1.0).fit(X32, Y)
    fitted = DaskAUPRCClassifier(alpha=1.0).fit(*pieces(X32, Y))
    assert_same(fitted, expected)
    frame = pd.DataFrame(X, columns=list("abcde")).assign(a=X32[:, 0], b=ACTION, c=Y == 1)
    expected = AUPRCClassifier(alpha=1.0).fit(frame, Y)
    target = dd.from_pandas(pd.Series(np.where(Y == 1, "yes", "no")), npartitions=4)
    fitted = DaskAUPRCClassifier(alpha=1.0).fit(dd.from_pandas(frame, npartitions=4), target)
    assert_array_equal(fitted.classes_, ["no", "yes"])
    assert_array_equal(fitted.feature_names_in_, list("abcde"))
    assert_allclose(fitted.coef_, expected.coef_, atol=1e-8)


# Partitions as people have them


def test_empty_and_one_class_partitions(cluster):
    order = np.argsort(Y, kind="stable")  # all positives are in the last partition
    data = X[order], Y[order], W[order]
    parts = uneven(*data, cuts=(0, 200, 200, 300, N))
    assert 0 in parts[0].chunks[0]
    assert_same(FAST.fit(*parts), AUPRCClassifier(alpha=1.0).fit(*data))
    log = X[order], ACTION[order], W[order]
    parts = uneven(*log, REWARD[order], cuts=(0, 200, 200, 300, N))
    fitted = DaskTOPRPolicy(bounds="topr").fit(*parts[:3], reward=parts[3], propensity=1 / 3)
    expected = TOPRPolicy(bounds="topr").fit(*log, reward=REWARD[order], propensity=1 / 3)
    assert_same(fitted, expected)
    assert_array_equal(fitted.predict(parts[0]).compute(), expected.predict(data[0]))


def test_many_tiny_partitions_are_merged(cluster):
    wide = np.tile(X, (4, 1))[:2000], np.tile(Y, 4)[:2000]
    parts = [da.from_array(array, chunks=(1, *array.shape[1:])) for array in wide]
    assert parts[0].npartitions == 2000
    with _blocks.read(_topr.raw_log, X=parts[0], y=parts[1]) as blocks:
        assert len(blocks.parts) == 2 and blocks.held
        assert sum(blocks.map(rows_of)) == len(wide[0])


def rows_of(block):
    return len(block[0])


def test_unknown_chunk_sizes(cluster):
    parts = [part[part[:, 0] > -9] if part.ndim == 2 else part for part in pieces(X)]
    assert np.isnan(parts[0].chunks[0]).all()
    target = dd.from_pandas(pd.Series(Y), npartitions=3)
    assert_same(FAST.fit(parts[0], target), AUPRCClassifier(alpha=1.0).fit(X, Y))


def test_other_partitions_of_the_labels_are_made_those_of_the_rows(cluster):
    expected = AUPRCClassifier(alpha=1.0).fit(X, Y, W)
    assert_same(FAST.fit(*pieces(X), *pieces(Y, n=4), *pieces(W, n=2)), expected)


def test_named_columns(cluster):
    names = list("abcde")
    frame = pd.DataFrame(X, columns=names).assign(won=REWARD, chance=1 / 3)
    lazy = dd.from_pandas(frame, npartitions=3)
    action = dd.from_pandas(pd.Series(ACTION), npartitions=3)
    how = {"reward": "won", "propensity": "chance"}
    fitted = DaskTOPRPolicy(bounds="topr").fit(lazy, action, **how)
    expected = TOPRPolicy(bounds="topr").fit(frame, ACTION, **how)
    assert_same(fitted, expected)
    assert_array_equal(fitted.feature_names_in_, names)
    assert_allclose(fitted.score(lazy, action, **how), expected.score(frame, ACTION, **how))
    found = fitted.predict_proba(lazy[names])
    assert isinstance(found, da.Array)
    assert_allclose(found.compute(), expected.predict_proba(frame[names]))


def test_predictions_are_lazy(cluster):
    model = FAST.fit(*pieces(X, Y))
    local = model.to_local()
    (lazy,) = pieces(X, n=4)
    for method in ("predict", "predict_proba", "decision_function"):
        found, expected = getattr(model, method)(lazy), getattr(local, method)(X)
        assert found.shape == expected.shape and found.dtype == expected.dtype
        assert_array_equal(found.compute(), expected)
        assert_array_equal(getattr(model, method)(X), expected)
    assert_allclose(model.score(*pieces(X, Y, W)), local.score(X, Y, W))
    assert model.score(X, Y) == local.score(X, Y)
    with pytest.raises(
        ValueError, match="X has 3 features, but DaskAUPRCClassifier is expecting 5"
    ):
        model.predict(lazy[:, :3])


# More than the workers can hold


def rows_of_file(path, start, stop):
    return np.load(path, mmap_mode="r")[start:stop]


@pytest.mark.filterwarnings("ignore:.*inplace keyword")  # pandas on Dask's reader
@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_rows_are_read_anew_where_they_do_not_fit(cluster, monkeypatch, tmp_path, kind):
    monkeypatch.setattr(_blocks, "HELD_SHARE", 0)
    if kind == "npy":
        np.save(tmp_path / "X.npy", X)
        read = dask.delayed(rows_of_file)
        chunks = [read(tmp_path / "X.npy", i, i + 200) for i in range(0, N, 200)]
        lazy = da.concatenate([da.from_delayed(chunk, (200, 5), X.dtype) for chunk in chunks])
        parts = [lazy, *pieces(Y, W)]
    else:
        pytest.importorskip("pyarrow")
        names = list("abcde")
        frame = pd.DataFrame(X, columns=names).assign(y=Y, w=W)
        dd.from_pandas(frame, npartitions=3).to_parquet(tmp_path)
        lazy = dd.read_parquet(tmp_path)
        parts = lazy[names], lazy["y"], lazy["w"]
    kept = []
    start = _blocks._start
    monkeypatch.setattr(_blocks, "_start", lambda *how, **kw: kept.append(how) or start(*how, **kw))
    model = DaskAUPRCClassifier(alpha=1.0, tol=1e-3)
    assert_same(model.fit(*parts), AUPRCClassifier(alpha=1.0, tol=1e-3).fit(X, Y, W))
    assert kept == []


def test_messages_are_of_the_size_of_the_positives(cluster, monkeypatch):
    """As the guide says: 24 bytes for each positive down, 28 for each bin with negatives up."""
    sent = []
    tasks = _blocks.Blocks._tasks

    def seen(blocks, function, shared, *each):
        sent.append((function, sum(getattr(value, "nbytes", 0) for value in shared)))
        return tasks(blocks, function, shared, *each)

    monkeypatch.setattr(_blocks.Blocks, "_tasks", seen)
    FAST.fit(*pieces(X, Y))
    d, few = 5, 3 * 2 * 8  # theta, and the margins and coefficients
    n_positive = Y.sum()
    sizes = {function: size for function, size in sent}
    assert sizes[_pairs.moments_of] == 8 * (n_positive + d) + few
    assert sizes[_pairs.gradient_of] == 8 * (2 * n_positive + d) + few
    assert max(sizes.values()) == sizes[_pairs.gradient_of]
    rows = _pairs.Rows(X, Y == 1, np.ones(N), np.ones(N))
    theta = FAST.coef_[0].astype(float)
    scores = rows.scores(theta)[Y == 1]
    (bins,) = _pairs.moments_of(rows, theta, scores, np.array([1e-9]), np.ones(1))
    n_bins = len(np.unique(np.searchsorted(np.sort(scores), rows.scores(theta)[Y == 0])))
    assert bins.number.nbytes + bins.moments.nbytes <= 28 * (n_bins + 1)
    assert len(bins.number) < n_positive


def test_blocks_that_move_are_aligned():
    """A message may begin at any byte, from which compiled loops take four times as long."""
    buffers = []
    rows = pickle.dumps(_pairs.Rows(X, Y == 1, W, W), protocol=5, buffer_callback=buffers.append)
    moved = [memoryview(b"." + bytes(buffer.raw()))[1:] for buffer in buffers]
    assert pickle.loads(rows, buffers=moved).X.flags.aligned
    feedback = Feedback(X, ACTION, REWARD, LOG["propensity"], W, np.arange(3))
    log = _policies.to_learn(feedback, 0.0, ((1, 1), (0, 1)))
    buffers.clear()
    log = pickle.dumps(log, protocol=5, buffer_callback=buffers.append)
    moved = [memoryview(b"." + bytes(buffer.raw()))[1:] for buffer in buffers]
    assert all(column.flags.aligned for column in pickle.loads(log, buffers=moved)[:-1])


# What goes wrong


class At(Callback):
    """Does something after the second iteration."""

    def __init__(self, what):
        self.what, self.n_seen = what, 0

    def on_fit_task_end(self, estimator, context):
        self.n_seen += 1
        if self.n_seen == 2:
            self.what()
        return False


def test_a_worker_that_dies_in_a_fit(cluster):
    pid = cluster.run(os.getpid)[min(cluster.nthreads())]
    expected = AUPRCClassifier(alpha=1.0).fit(X, Y, W)
    model = DaskAUPRCClassifier(alpha=1.0)
    model.set_callbacks(At(lambda: os.kill(pid, signal.SIGKILL)))
    model.fit(*pieces(X, Y, W))
    assert_allclose(model.coef_, expected.coef_, rtol=0, atol=1e-8)
    cluster.wait_for_workers(2, timeout=60)


def test_no_worker_is_left(monkeypatch):
    monkeypatch.setattr(_blocks, "PATIENCE", 0.1)
    quiet = {"n_workers": 1, "processes": False, "dashboard_address": ":0"}
    with LocalCluster(**quiet) as made, Client(made):
        model = DaskAUPRCClassifier(alpha=1.0)
        model.set_callbacks(At(lambda: made.sync(made.workers[0].close)))
        with pytest.raises(RuntimeError, match="no workers that run; start some"):
            model.fit(*pieces(X, Y))
        assert not hasattr(model, "coef_")
        with pytest.raises(RuntimeError, match="no workers that run; start some"):
            DaskTOPRPolicy().fit(*pieces(X, ACTION))


def test_an_interrupt_leaves_nothing_behind(cluster):
    def interrupt():
        raise KeyboardInterrupt

    model = DaskAUPRCClassifier(alpha=1.0).set_callbacks(At(interrupt))
    with pytest.raises(KeyboardInterrupt):
        model.fit(*pieces(X, Y))
    assert not hasattr(model, "coef_") and not hasattr(model, "n_features_in_")
    gc.collect()
    assert not cluster.futures


def test_two_fits_at_once(cluster):
    alphas = 0.1, 1.0
    models = [DaskAUPRCClassifier(alpha=alpha) for alpha in alphas]
    threads = [threading.Thread(target=model.fit, args=pieces(X, Y)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for model, alpha in zip(models, alphas, strict=True):
        assert_same(model, AUPRCClassifier(alpha=alpha).fit(X, Y))


def lazy(*arrays, n=3):
    return dict(zip(("X", "y", "sample_weight"), pieces(*arrays, n=n), strict=False))


def with_nan():
    bad = X.copy()
    bad[400, 2] = np.nan
    return bad


WRONG = {
    "numpy": ({"X": X, "y": Y}, TypeError, "for data in memory use AUPRCClassifier"),
    "numpy y": (lazy(X) | {"y": Y}, TypeError, "y must be a Dask array or frame, got ndarray"),
    "one axis": (lazy(Y, Y), TypeError, "Dask array of two axes"),
    "columns": (
        {"X": da.from_array(X, chunks=(200, 2)), "y": pieces(Y)[0]},
        ValueError, r"3 chunks along its columns.*X.rechunk\(\{1: -1\}\)",
    ),
    "rows": (lazy(X) | {"y": pieces(Y[:500])[0]}, ValueError, "600 rows and 500 rows"),
    "partitions": (
        lazy(X) | {"y": dd.from_pandas(pd.Series(Y), npartitions=2)},
        ValueError, "same partitions, but have 600 rows and 2 partitions",
    ),
    "shifted": (
        {"X": pieces(X)[0], "y": pieces(Y)[0][pieces(np.arange(N))[0] > 0]},
        ValueError, "inconsistent numbers of samples",
    ),
    "nan": (lazy(with_nan(), Y), ValueError, "Impute in front of DaskAUPRCClassifier"),
    "huge": (lazy(X * 1e200, Y), ValueError, "rescale"),
    "one class": (lazy(X, 0 * Y), ValueError, "only one class"),
    "three": (lazy(X, ACTION), ValueError, "Only binary"),
    "continuous": (lazy(X, X[:, 0] / 3), ValueError, "Unknown label type"),
    "weights": (lazy(X, Y, -W), ValueError, "Negative values in data passed to `sample_weight`"),
    "no weight": (lazy(X, Y, W * (Y == 0)), ValueError, "No positive sample has a positive"),
    "no rows": (lazy(X[:0], Y[:0], n=1), ValueError, "no rows"),
}  # fmt: skip


@pytest.mark.parametrize("data, error, match", WRONG.values(), ids=WRONG)
def test_wrong_data(cluster, data, error, match):
    with pytest.raises(error, match=match):
        DaskAUPRCClassifier(alpha=1.0).fit(**data)


@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "soap-adam"}, {"threshold": "f1"}, {"cv": [(0, 1)]}, {"device": "cuda"},
        {"module": "network"},
    ],
)  # fmt: skip
def test_refused_parameters(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"takes {name}=.*; AUPRCClassifier takes the others"):
        DaskAUPRCClassifier(**settings).fit(*pieces(X, Y))
    settings = {"threshold": {"effective_positive": 0.5}}.get(name, settings)
    settings = {"solver": "adam"} if name == "solver" else settings
    (name,) = settings
    with pytest.raises(ValueError, match=f"takes {name}=.*; TOPRPolicy takes the others"):
        DaskTOPRPolicy(**settings).fit(*pieces(X, ACTION))


def test_wrong_logs(cluster):
    X_, action, reward = pieces(X, ACTION, REWARD)
    for how, match in (
        ({"reward": reward}, "Rewards need propensities"),
        ({"reward": reward, "propensity": "estimate"}, "no column of X"),
        ({"reward": reward, "propensity": 2.0}, r"propensity must be in \(0, 1\]"),
        ({"reward": 0 * reward, "propensity": 0.5}, "nothing to learn"),
    ):
        with pytest.raises(ValueError, match=match):
            DaskTOPRPolicy(bounds="topr").fit(X_, action, **how)
    with pytest.raises(ValueError, match="only one class"):
        DaskTOPRPolicy().fit(X_, 0 * action)


def test_too_many_positives(cluster, monkeypatch):
    monkeypatch.setattr(_auprc, "MOST_POSITIVES", 50)
    with pytest.raises(ValueError, match="make the rarer class the larger label"):
        DaskAUPRCClassifier(alpha=1.0).fit(*pieces(X, Y))


def test_local_estimators_name_these():
    with pytest.raises(TypeError, match="DaskAUPRCClassifier and DaskTOPRPolicy take"):
        AUPRCClassifier().fit(*pieces(X, Y))


# Whole fits on the workers


def test_grid_search_over_the_cluster_is_the_local_one(cluster):
    def search():
        grid = {"alpha": [0.1, 1.0]}
        return GridSearchCV(AUPRCClassifier(), grid, scoring="average_precision", cv=2)

    expected = search().fit(X, Y)
    with joblib.parallel_config(backend="dask"):
        found = search().fit(X, Y)
    assert_array_equal(
        found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"]
    )
