"""The benchmarks: runs go on where they stopped, tables are right, peers do what they say."""

import ctypes
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import check_grad, minimize
from scipy.stats import rankdata
from sklearn.datasets import load_breast_cancer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import RepeatedStratifiedKFold
from sklearn.tree import DecisionTreeClassifier

from benchmarks import _engine as engine
from benchmarks.__main__ import STUDIES, main
from benchmarks._data import at_most, fold, load, stored
from benchmarks._report import Results
from benchmarks.peers import auprc, pu, small, tables, topr
from benchmarks.studies import stacking, suite
from pnsklearn import AUPRCStackingClassifier, SMaLLClassifier, TOPRPolicy
from pnsklearn.metrics import average_precision_surrogate, snips_value


@pytest.fixture
def options(tmp_path):
    """Options of a full study whose files go to a temporary folder."""
    return engine.Options("tiny", output=tmp_path)


# Runs.

CELLS = engine.grid(set=["a", "b"], seed=range(2), model=["ours", "peer"])


def _counted(calls):
    def run(set, seed, model):
        calls.append((set, seed, model))
        return {"score": np.float64(seed / 3), "n": np.int64(seed)}

    return run


def test_grid_varies_the_last_axis_first():
    assert [tuple(cell.values()) for cell in CELLS[:3]] == [
        ("a", 0, "ours"), ("a", 0, "peer"), ("a", 1, "ours")
    ]  # fmt: skip


def test_second_start_goes_on(options):
    calls = []
    first = engine.run_all(options, "runs", CELLS, _counted(calls))
    assert Counter(calls) == Counter(tuple(cell.values()) for cell in CELLS)
    path = options.path("runs.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    calls.clear()
    pd.testing.assert_frame_equal(engine.run_all(options, "runs", CELLS, _counted(calls)), first)
    assert calls == []
    path.write_text("".join(lines[:-2]) + lines[-2][:20])  # stopped in the middle of a line
    pd.testing.assert_frame_equal(engine.run_all(options, "runs", CELLS, _counted(calls)), first)
    assert calls == [("b", 1, "ours"), ("b", 1, "peer")]
    assert path.read_text() == "".join(lines)


def test_only_what_is_asked_for_is_returned(options):
    engine.run_all(options, "runs", CELLS, _counted([]))
    rows = engine.run_all(options, "runs", CELLS[5:2:-1], _counted([]))
    assert rows[["set", "seed", "model"]].to_dict("records") == CELLS[5:2:-1]


def test_a_run_may_have_several_rows_or_none(options):
    def run(epoch):
        return [{"step": i} for i in range(epoch)]

    for _ in range(2):
        rows = engine.run_all(options, "runs", engine.grid(epoch=[2, 0, 1]), run)
        assert rows[["epoch", "step"]].to_numpy().tolist() == [[2, 0], [2, 1], [1, 0]]


def test_failed_run_is_tried_again(options, capsys):
    def run(set, seed, model):
        if model == "peer" and working[0] == 0:
            raise ValueError("no\nluck")
        return {"score": 1.0}

    working = [0]
    rows = engine.run_all(options, "runs", CELLS, run)
    failed = rows[rows["model"] == "peer"]
    assert set(failed["failed"]) == {"ValueError: no luck"}
    assert set(rows.loc[rows["model"] == "ours", "failed"]) == {""}
    assert capsys.readouterr().out.count("peer failed: ValueError: no luck") == 1
    report = engine.Report(test_quick_hides_no_error, options)
    assert len(report.runs("runs", CELLS, run)) == 4
    assert "failed in 4 runs: peer: ValueError: no luck" in "\n".join(report.lines)
    working[0] = 1
    rows = engine.run_all(options, "runs", CELLS, run)
    assert (rows["failed"] == "").all() and (rows["score"] == 1).all()


def test_section_without_runs_says_so(options):
    def _no_set(**cell):
        raise OSError("no such set")

    def section(options, report):
        """A section whose set is missing."""
        report.runs("runs", CELLS, _no_set)

    study = SimpleNamespace(SECTIONS={"section": section})
    engine.run_sections(study, ["section"], options)
    assert "No run of runs succeeded" in options.path("section.txt").read_text()


def test_quick_hides_no_error(options):
    """A section's first line."""
    quick = replace(options, quick=True)

    def run(error):
        raise {"set": OSError, "package": ModuleNotFoundError, "own": ValueError}[error]("no")

    cells = engine.grid(error=["set", "package", "own"])
    rows = engine.run_all(quick, "runs", cells[:2], run)
    assert rows["failed"].tolist() == ["OSError: no", "ModuleNotFoundError: no"]
    with pytest.raises(ValueError, match="no"):
        engine.run_all(quick, "runs", cells, run)


def test_missing_module_of_our_own_is_an_error(options):
    def run(i):
        from pnsklearn import no_such_module  # noqa: F401

    with pytest.raises(ImportError):
        engine.run_all(options, "runs", engine.grid(i=[0]), run)


def test_warnings_and_refusals_are_kept():
    def warns(value):
        np.log(np.zeros(1))
        return value

    result, seconds, text = engine.caught(warns, 3)
    assert (result, text) == (3, "RuntimeWarning") and seconds >= 0
    result, _, text = engine.caught(int, "x")
    assert result is None
    assert text.startswith("failed: invalid literal")


def test_paired_ratio_is_the_median_over_rounds():
    # Seconds of both once without a clock, then reference, ours, ours, reference in three rounds.
    seconds = iter([1, 2, 4, 1, 1, 3, 3, 1, 1, 10, 10, 1])
    ticks = (tick for second in seconds for tick in (0.0, float(second)))
    timing = engine.paired_ratio(lambda: None, lambda: None, rounds=3, clock=lambda: next(ticks))
    assert timing["ratio"] == 3.0  # of 6 / 2, 6 / 2 and 20 / 2
    assert timing["ours"] == 3.0 and timing["reference"] == 1.0
    assert timing["spread"] == "3-6.5"


def test_new_process_writes_bytecode_and_has_one_thread(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    code = "import os, sys; print(sys.dont_write_bytecode, os.environ['OMP_NUM_THREADS'])"
    assert engine.new_process(code).split() == ["False", "1"]
    code = "import os, sys; print(os.environ['NUMBA_CACHE_DIR'], sys.argv[1])"
    assert engine.new_process(code, "x", cache=str(tmp_path)).split() == [str(tmp_path), "x"]


# Tables.


def _random_rows(seed=0):
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(engine.grid(set=["b", "a"], seed=range(4), model=["x", "ours", "y"]))
    rows["score"] = rng.normal(size=len(rows))
    return rows.assign(failed="", extra=1.0, seconds=rng.uniform(1, 2, len(rows)))


def test_differences_are_paired_with_the_standard_error_of_the_mean():
    rows = _random_rows()
    table = engine.wide(rows, "score", "set", "seed")
    assert list(table) == ["x", "ours", "y"] and table.index.unique("set").tolist() == ["b", "a"]
    mean, error = engine.differences(table, "ours")
    values = rows["score"].to_numpy().reshape(2, 4, 3)
    expected = values[:, :, [1]] - values[:, :, [0, 2]]
    assert np.allclose(mean, expected.mean(axis=1))
    assert np.allclose(error, expected.std(axis=1, ddof=1) / 2)  # of four seeds
    assert np.allclose(engine.by_unit(table).mean(), values.mean(axis=1))
    assert np.allclose(engine.mean_se(values[0, :, 0]), (values[0, :, 0].mean(), error_of(values)))


def error_of(values):
    return values[0, :, 0].std(ddof=1) / 2


def test_differences_leave_out_what_one_of_both_lacks():
    rows = _random_rows()
    rows = rows[~((rows["model"] == "x") & (rows["seed"] > 1))]
    table = engine.wide(rows, "score", "set", "seed")
    mean, error = engine.differences(table, "ours")
    for name in ("a", "b"):
        pair = table.loc[name]["ours"].head(2) - table.loc[name]["x"].head(2)
        assert mean.loc[name, "x"] == pytest.approx(pair.mean())
        assert error.loc[name, "x"] == pytest.approx(abs(pair[0] - pair[1]) / 2)


def test_one_value_has_no_standard_error():
    mean, error = engine.mean_se([2.0])
    assert mean == 2 and np.isnan(error)
    assert engine.pm([2.0]) == "2.000" and engine.pm([1.0, 3.0]) == "2.000 (1.000)"


def test_text_of_a_table():
    table = [{"set": "a", "n": 12345, "x": 0.123456}, {"set": "long name", "x": 2.0, "ok": True}]
    assert engine.as_text(pd.DataFrame(table)).splitlines() == [
        "set        n      x       ok",
        "a          12345  0.1235",
        "long name         2       True",
    ]
    assert engine.as_markdown(pd.DataFrame({"a|b": ["x|y", np.nan]})).splitlines() == [
        "| a\\|b |", "| --- |", "| x\\|y |", "|  |"
    ]  # fmt: skip


def test_report_keeps_what_it_prints(options, capsys):
    def section(options, report):
        """A section's first line."""
        report.table("numbers", [{"x": 1.5}], "Title.")

    engine.run_sections(SimpleNamespace(SECTIONS={"section": section}), ["section"], options)
    text = options.path("section.txt").read_text()
    assert "A section's first line.\n\nTitle.\n\nx\n1.5\n" in text
    assert text in capsys.readouterr().out
    assert pd.read_csv(options.path("numbers.csv"), comment="#")["x"].tolist() == [1.5]


# The suite.


@pytest.fixture
def method():
    """A method of four quick models on scikit-learn's sets."""
    models = {
        "ours": lambda: DecisionTreeClassifier(max_depth=2, random_state=0),
        "logistic": lambda: LogisticRegression(solver="liblinear"),
        "none": DummyClassifier,
    }

    def run(name, split, label, options):
        if label == "absent":
            import no_such_package  # noqa: F401
        X, y = load(name)
        train, test = fold(y, split, 2, 200)
        return models[label]().fit(X[train], y[train]).score(X[test], y[test]), split, 1.0

    return replace(
        suite.AUPRC, title="TreeClassifier", score="accuracy", extra="seed", run=run,
        models=(*models, "absent"), baselines=("logistic",), slow=(),
    )  # fmt: skip


def test_report_has_tables_and_figures(method, tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "METHODS", {"tiny": method})
    suite.run_sections(["tiny"], engine.Options("suite", quick=True, output=tmp_path))
    text = (tmp_path / "quick_suite_report.md").read_text()
    assert "## At a glance" in text and "## TreeClassifier" in text
    assert "| absent | 4 | 2 | ModuleNotFoundError: No module named 'no_such_package' |" in text
    scores = [method.run("digits_8", split, "ours", None)[0] for split in (0, 1)]
    mean, error = np.mean(scores), np.std(scores, ddof=1) / np.sqrt(2)
    assert f"{mean:.3f} ± {error:.3f}" in text
    for line in text.splitlines():
        if line.startswith("!["):
            assert (tmp_path / line[line.index("(") + 1 : -1]).exists()


def test_results_of_known_scores(method):
    scores = {
        ("a", "ours"): (0.7, 0.9), ("a", "logistic"): (0.6, 0.8), ("a", "none"): (0.9, 1.1),
        ("b", "ours"): (0.5, 0.5), ("b", "logistic"): (0.4, 0.5), ("b", "none"): (0.5, 0.5),
    }  # fmt: skip
    seconds = {"ours": 2.0, "logistic": 1.0, "none": 5.0}
    rows = [
        {"set": name, "model": model, "split": split, "failed": "", "extra": 0.0, "score": score}
        | {"seconds": seconds[model]}
        for (name, model), of_splits in scores.items()
        for split, score in enumerate(of_splits)
    ]
    results = Results(method, pd.DataFrame(rows))
    assert results.peers == ["logistic", "none"]
    assert np.allclose(results.means["ours"], (0.8, 0.5))
    assert np.allclose(results.gains.loc["b", "logistic"], 0.05)
    assert np.allclose(results.gain_errors.loc["b", "logistic"], 0.05)
    assert np.allclose(results.gain("logistic"), (0.075, 0.025))
    assert np.allclose(results.gain("none"), (-0.1, 0.1))
    assert results.lost("none").index.tolist() == ["a"]
    assert len(results.lost("logistic")) == 0
    assert results.times["logistic"] == 0.5
    assert results.worst_first() == ["none", "logistic"]
    ranks = [rankdata(-results.means.loc[name]) for name in ("a", "b")]
    assert np.allclose(results.ranks()[list(results.means)], np.mean(ranks, axis=0))


@pytest.mark.parametrize("name", suite.METHODS)
def test_methods_are_complete(name):
    method = suite.METHODS[name]
    assert set(method.bundled) <= set(method.sets)
    assert {*method.baselines, *method.landmarks, *method.slow} <= set(method.models)


@pytest.mark.parametrize("study", STUDIES)
def test_unknown_section_is_an_error(study, capsys):
    with pytest.raises(SystemExit):
        main([study, "no_such_section"])
    assert f"no such section of {study}: no_such_section" in capsys.readouterr().err


# Data.


def test_sets_are_read_from_the_folder(tmp_path):
    X, y = np.arange(8.0).reshape(4, 2), np.array([0, 3, 1, 3])
    np.savez(tmp_path / "satimage.npz", X=X, y=y)
    found, positive = load("satimage_4", tmp_path)
    assert np.array_equal(found, X)
    assert positive.tolist() == [0, 1, 0, 1]
    assert stored("phoneme", tmp_path) is None
    assert stored("phoneme", None) is None
    assert stored("satimage_grey", tmp_path) == tmp_path / "satimage.npz"


def test_bundled_sets_have_the_rarer_class_as_positive():
    _, y = load("breast_cancer")
    assert np.array_equal(y, 1 - load_breast_cancer().target)
    assert load("digits_8")[1].sum() == 174


def test_folds_and_caps_are_stratified():
    y = np.repeat([0, 1], [300, 100])
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=3, random_state=0).split(y, y)
    for i, (train, test) in enumerate(folds):
        found = fold(y, i, 5, 10_000)
        assert np.array_equal(found[0], train) and np.array_equal(found[1], test)
    rows = at_most(40, np.arange(400), y)
    assert len(set(rows)) == 40 and y[rows].sum() == 10


# The peers.


@pytest.mark.parametrize("loss", ["smooth", "squared_hinge"])
def test_double_loop_is_the_surrogate(loss):
    rng = np.random.default_rng(0)
    scores, y = rng.normal(size=60), (rng.random(60) < 0.3).astype(int)
    value, gradient = auprc.by_pairs(scores, y, loss, 0.7)
    expected = average_precision_surrogate(y, scores, loss=loss, margin=0.7, return_gradient=True)
    assert value == pytest.approx(expected[0])
    assert np.allclose(gradient, expected[1])


def test_balanced_batches_are_half_positive():
    y = np.repeat([1, 0], [10, 100])
    batches = auprc.balanced_batches(y, 8, np.random.default_rng(0))
    assert batches.shape == (25, 8)  # an epoch of the negatives
    assert (y[batches].sum(axis=1) == 4).all()
    assert set(batches.ravel()) == set(range(110))


@pytest.fixture(scope="module")
def stacked():
    """A stack, the rows of its fit, and others."""
    X, y = load_breast_cancer(return_X_y=True)
    X, y, X_test, y_test = X[::2], 1 - y[::2], X[1::2], 1 - y[1::2]
    return AUPRCStackingClassifier(random_state=0).fit(X, y), X, y, X_test, y_test


def test_heads_are_stacks_of_the_same_members(stacked):
    stack, X, y, X_test, _ = stacked
    P, P_test = tables.member_probabilities(stack, X_test)
    members = list(stack.named_estimators_.items())
    expected = StackingClassifier(members, LogisticRegression()).fit(X, y).predict_proba(X_test)
    found = tables.stacking_classifier(P, y, P_test)
    assert np.allclose(found, expected[:, 1], atol=1e-6)
    voted = np.mean([member.predict_proba(X_test)[:, 1] for _, member in members], axis=0)
    assert np.allclose(tables.soft_voting(P, y, P_test), voted)


def test_an_ablation_that_changes_nothing_is_the_stack(stacked, monkeypatch):
    stack, _, y, X_test, _ = stacked
    monkeypatch.setattr(stacking, "ABLATIONS", {"nothing": {}})
    found = dict(
        stacking.ablations(stack, stacking.standardised(stack), y, stack.transform(X_test))
    )
    assert np.allclose(found["nothing"], stack.decision_function(X_test))
    assert set(found) == {"nothing", *(f"without {name}" for name in stack.named_estimators_)}


def test_greedy_selection_is_no_worse_than_its_best_member():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [180, 20])
    P = rng.random((200, 3)) + y[:, np.newaxis] * [0.5, 0.5, 0.0]
    weights = tables.greedy_weights(P, y)
    singles = [average_precision_score(y, column) for column in P.T]
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
    assert average_precision_score(y, P @ weights) > max(singles) + 0.05
    assert weights[2] < weights[:2].min()  # which is noise
    # The first round takes the best, the second the best addition to it.
    two = tables.greedy_weights(P, y, n_rounds=2)
    best = np.eye(3)[np.argmax(singles)]
    pairs = [(best + np.eye(3)[i]) / 2 for i in range(3)]
    tried = [best, *pairs]
    expected = tried[int(np.argmax([average_precision_score(y, P @ pair) for pair in tried]))]
    assert np.allclose(two, expected)


def test_settings_are_drawn_once_with_the_stock_ones_first():
    drawn = tables.candidates(tables.SPACES["HGB"], 20)
    assert drawn[0] == {} and len(drawn) == 20
    assert drawn == tables.candidates(tables.SPACES["HGB"], 20)
    for setting in drawn[1:]:
        assert all(value in tables.SPACES["HGB"][name] for name, (value,) in setting.items())


def test_precision_of_the_cross_validation_is_of_tuned_models():
    X, y = load_breast_cancer(return_X_y=True)
    tuned = tables.tuned(DecisionTreeClassifier(), {"max_depth": [1, 3]}, 0).fit(X, y)
    assert tables.cv_precision(tuned) == tuned.cv_results_["mean_test_score"].max()
    linear = tables.SINGLE["linear AUPRC"](0, True, False).fit(X, y)
    assert tables.cv_precision(linear) == linear[-1].cv_average_precision_.mean()
    assert np.isnan(tables.cv_precision(tables.boosted("HGB", 0).fit(X, y)))


def test_positives_are_cut_and_labels_flipped():
    y = np.repeat([0, 1], [300, 100])
    train = np.arange(0, 400, 2)
    rows, labels = stacking.few_positives(y, train, 10, 0)
    assert labels.sum() == 10 and len(rows) == 160
    assert set(rows) <= set(train) and np.array_equal(labels, y[rows])
    assert stacking.few_positives(y, train, 50, 0) is None
    rows, labels = stacking.flipped(y, train, 0.05, 0)
    assert np.array_equal(rows, train) and (labels != y[train]).sum() == 10
    assert y.sum() == 100


def test_best_single_model_is_of_a_set_or_of_a_split():
    names = [stacking.OURS, "LightGBM, tuned", "HGB, tuned"]
    rows = pd.DataFrame(engine.grid(set=["a", "b"], split=range(2), model=names))
    rows["AP"] = [0.9, 0.8, 0.6, 0.9, 0.5, 0.6, 0.5, 0.3, 0.4, 0.5, 0.4, 0.6]
    rows["cv"] = [np.nan, 0.1, 0.2, np.nan, 0.2, 0.1, np.nan, 0.2, 0.1, np.nan, 0.2, 0.1]
    table, best = stacking.with_best(engine.wide(rows, "AP", "set", "split"), rows)
    assert best.to_dict() == {"a": "LightGBM, tuned", "b": "HGB, tuned"}
    assert table[stacking.BY_TEST].tolist() == [0.8, 0.5, 0.4, 0.6]
    assert table[stacking.BY_CV].tolist() == [0.6, 0.5, 0.3, 0.4]
    summary = stacking.differences(table).set_index(stacking.AGAINST)
    assert summary.loc["LightGBM, tuned", "difference"] == pytest.approx(0.2)  # of 0.25 and 0.15
    assert summary.loc[stacking.BY_TEST, "difference"] == pytest.approx(0.125)  # of 0.25 and 0
    reached = stacking.bars(
        ("reached", summary.reset_index(), "LightGBM, tuned", 0.19),
        ("not", summary.reset_index(), "LightGBM, tuned", 0.21),
        ("did not run", summary.reset_index(), "XGBoost, tuned", 0.0),
    )
    assert [row["reached"] for row in reached] == [True, False]


def test_sets_are_lost_by_two_standard_errors_and_by_more_than_a_trifle():
    gains = {"far": (-0.1, -0.11), "noisy": (-0.1, 0.05), "small": (-0.004, -0.004)}
    rows = [
        {"set": name, "split": split, "model": model, "AP": 0.5 + (model == "stack") * gain}
        for name, of_splits in gains.items()
        for split, gain in enumerate(of_splits)
        for model in ("stack", "x")
    ]
    summary = stacking.differences(engine.wide(pd.DataFrame(rows), "AP", "set", "split")).loc[0]
    assert summary["lost by 2 se"] == 2 and summary["and by 0.005"] == "far"


def test_sparse_logistic_is_a_refit_on_few_features():
    X, y = load_breast_cancer(return_X_y=True)
    model = small.SparseLogistic(5).fit(X, y)
    features = np.flatnonzero(model.coef_[0])
    assert 0 < len(features) <= 5
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    refit = LogisticRegression(max_iter=1000).fit(Z[:, features], y)
    assert np.array_equal(model.predict(X), refit.predict(Z[:, features]))


def test_ridge_objective_is_the_minimum():
    X, y = load_breast_cancer(return_X_y=True)
    X = (X[:, :4] - X[:, :4].mean(axis=0)) / X[:, :4].std(axis=0)
    sign = np.where(y == 1, 1, -1)

    def objective(w):
        loss = np.logaddexp(0, -sign * (X @ w[1:] + w[0])).mean()
        return loss + w[1:] @ w[1:] / (2 * len(y))

    expected = minimize(objective, np.zeros(5), options={"gtol": 1e-9}).fun
    assert small.ridge_objective(X, y) == pytest.approx(expected, rel=1e-8)
    share = y.mean()
    entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
    assert small.ridge_objective(X[:, :0], y) == pytest.approx(entropy)


def test_sizes_of_models():
    X, y = load_breast_cancer(return_X_y=True)
    tree = small.small_tree(5).fit(X, y)
    assert small.size_of(tree, 30) == (4, 9, 4 * 5 + 5)  # five leaves, of one byte
    logistic = small.SparseLogistic(3).fit(X, y)
    n_read = np.count_nonzero(logistic.coef_)
    assert small.size_of(logistic, 30) == (n_read, n_read + 1, 5 * n_read + 4)
    assert small.size_of(logistic, 300)[2] == 6 * n_read + 4  # the index takes two bytes


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")
@pytest.mark.parametrize(
    "model", [small.small_tree(5), small.SparseLogistic(5), SMaLLClassifier(random_state=0)]
)
def test_functions_in_c_predict_the_same(model, tmp_path):
    X, y = load_breast_cancer(return_X_y=True)
    source = small.to_c(model.fit(X, y))
    assert small.compiled_bytes(source) > 10
    library = tmp_path / "model.so"
    command = ["gcc", "-std=c99", "-shared", "-fPIC", "-x", "c", "-", "-o", library]
    subprocess.run(command, input=source, text=True, check=True)
    name = "small_predict" if "small_predict" in source else "predict"
    function = getattr(ctypes.CDLL(library), name)
    function.argtypes = [ctypes.POINTER(ctypes.c_double)]
    pointers = [row.ctypes.data_as(function.argtypes[0]) for row in np.ascontiguousarray(X)]
    assert np.array_equal([function(pointer) for pointer in pointers], model.predict(X))


def test_tasks_hide_labels():
    X, s, _, y_test, y, prior = pu.make_task("breast_cancer", 0, n_labeled=50)
    assert len(s) == len(y) == len(X) == 284 and len(y_test) == 284
    assert s.sum() == 50 and (y[s == 1] == 1).all()
    assert prior == y[s == 0].mean()
    *_, y_test, y, prior = pu.make_task("breast_cancer", 0, n_labeled=50, pi=0.2)
    assert prior == pytest.approx(0.2, abs=0.005) and y_test.mean() == pytest.approx(0.2, abs=0.005)


def test_nnpu_is_the_formula():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    P, U = rng.normal(1, 1, 50), rng.normal(size=80)

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    for prior in (0.2, 0.99):
        risk_P, negative = sigmoid(-P).mean(), sigmoid(U).mean() - prior * sigmoid(P).mean()
        expected = 0.4 * risk_P + 0.7 * negative if negative >= 0 else -0.7 * negative
        loss = pu.nnpu_loss(torch.tensor(P), torch.tensor(U), prior, 0.4, 0.7)
        assert loss.item() == pytest.approx(expected)
    assert negative < 0


def test_nnpu_finds_the_classes():
    pytest.importorskip("torch")
    X, s, X_test, y_test, _, prior = pu.make_task("breast_cancer", 0)
    model = pu.scaled(pu._nnpu(True, pu._network, 1e-2).build(_pu_case(s, prior)), "", X)
    assert model.fit(X, s).score(X_test, y_test) > 0.93


def _pu_case(s, prior):
    return pu.Case(int(s.sum()), int((s == 0).sum()), prior, True, 0)


@pytest.mark.parametrize("label", [name for name in pu.MODELS if name not in pu.PUBLISHED])
def test_models_of_pulearn_and_others_fit(label):
    model = pu.MODELS[label]
    if model.needs:
        pytest.importorskip(model.needs)
    if label.startswith(("nnPU", "pulearn nnPU", "PUTrend", "paper", "authors")):
        return  # slow, and tested elsewhere
    task = pu.make_task("breast_cancer", 0, max_rows=300)
    estimator, _, labels = pu.prepared(model, "breast_cancer", task, 0, single=True)
    predicted, scores = pu.outputs(estimator.fit(task[0], labels), task[2])
    assert set(predicted) <= {0, 1} and len(scores) == len(task[3])


@pytest.fixture(scope="module")
def case():
    """A log of 80 decisions among three actions."""
    return topr.make_case("wine", "uniform", 0, max_rows=80)[0]


@pytest.mark.parametrize("bounds", topr.BOUNDS.values(), ids=topr.BOUNDS)
def test_family_is_the_loss_of_the_package(case, bounds):
    torch = pytest.importorskip("torch")
    from pnsklearn.losses import topr_loss

    log_p = -np.random.default_rng(0).exponential(1.5, 80)
    logp = torch.tensor(log_p, requires_grad=True)
    positive, negative = bounds
    loss = topr_loss(
        logp, torch.tensor(np.log(case.propensity)), torch.tensor(case.reward),
        positive_bounds=positive, negative_bounds=negative,
    )  # fmt: skip
    loss.backward()
    P = np.full((80, 3), -np.inf)
    P[np.arange(80), case.action] = log_p
    value, by_logits = topr.tapered(case, positive, negative)(P)
    assert value / 80 == pytest.approx(-loss.item())
    slope = by_logits[np.arange(80), case.action] / (1 - np.exp(log_p))
    assert np.allclose(slope / 80, -logp.grad.numpy())


@pytest.mark.parametrize(
    "objective",
    [
        *(partial(topr.tapered, positive=p, negative=n) for p, n in topr.BOUNDS.values()),
        lambda case: topr.expected(topr.weighted_rewards(case, case.reward)),
        lambda case: topr._poem(case, 0.5),
    ],
)
def test_gradients_are_those_of_the_values(case, objective):
    loss = topr.penalized(objective(case), case.X, 2.0)
    theta = np.random.default_rng(0).normal(scale=0.1, size=len(topr.zeros(case)))
    error = check_grad(lambda t: loss(t)[0], lambda t: loss(t)[1], theta)
    assert error < 1e-4 * np.linalg.norm(loss(theta)[1])


def test_family_is_what_the_policy_maximises(case):
    objective = topr.tapered(case, *topr.BOUNDS["TOPR"])
    theta, _ = topr.minimised(objective, case.X, topr.zeros(case))
    policy = TOPRPolicy(bounds="topr", baseline=0, tol=1e-6)
    policy.fit(case.X, case.action, reward=case.reward, propensity=case.propensity)
    assert np.allclose(topr.on_test(case, theta), topr.expand(policy, case), atol=2e-3)


def test_positives_only_is_logistic_regression(case):
    good = case.reward > 0
    model = LogisticRegression(tol=1e-5, max_iter=1000).fit(case.X[good], case.action[good])
    assert np.allclose(topr.positives_only(case), topr.expand(model, case), atol=1e-3)


def test_importance_sampling_maximises_the_weighted_rewards(case):
    theta = np.random.default_rng(0).normal(size=len(topr.zeros(case)))
    P = np.exp(topr.log_policy(theta, case.X))
    weight = P[np.arange(80), case.action] / case.propensity
    objective = topr.expected(topr.weighted_rewards(case, case.reward))
    assert objective(np.log(P))[0] == pytest.approx((weight * case.reward).sum())
    chosen = P[np.arange(80), case.action]
    expected = snips_value(chosen, case.propensity, case.unit)
    assert topr.snips(theta, case) == pytest.approx(expected)


@pytest.mark.parametrize("label", topr.PEERS)
def test_peers_are_policies_that_learn(label, case):
    policy = topr.PEERS[label](case)
    assert policy.shape == (80, 3)
    assert np.allclose(policy.sum(axis=1), 1)


def test_absent_pipeline_is_named(case):
    with pytest.raises(ModuleNotFoundError, match="obp is not installed"):
        topr.open_bandit_pipeline(case, "ipw", None)


@pytest.fixture(scope="module")
def problems():
    """Sums of one digit, and an untrained policy for them."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from docs.examples.language.sums import sums

    return sums(n_worked=64, n_train=8, n_test=4, n_digits=1)


def test_sums_are_right(problems):
    for prompt, answer in {**problems.train, **problems.test}.items():
        assert sum(map(int, prompt[:-1].split("+"))) == int(answer)
    assert problems.right([], []).shape == (0,)
    assert problems.answer("8+5+0=13,2+3+1=6:63") == "63"
    assert problems.answer("8+5+0=13") is None


def test_dpo_is_the_formula(problems):
    torch = pytest.importorskip("torch")
    from benchmarks.peers import language

    prompts, completions, _ = problems.log(problems.policy, 4)
    policy = problems.policy
    given = [policy.tokenizer(prompt)["input_ids"] for prompt in prompts]
    joined = [np.concatenate(pair) for pair in zip(given, completions, strict=True)]
    with torch.no_grad():
        found = language.logprob(policy.model, joined, list(map(len, given)), 0)
    assert np.allclose(found, policy.logprob(prompts, completions), atol=1e-4)
    good, bad = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0])
    expected = np.log1p(np.exp(-0.1 * np.array([0.5, -1.0]))).mean()
    assert language.dpo_loss(good, bad, 0.1).item() == pytest.approx(expected)


def test_preference_pairs_are_of_one_prompt():
    from benchmarks.peers import language

    prompts, reward = list("aaabbbcc"), np.array([1, -1, 1, -1, -1, 1, 1, 1])
    pairs = language.preference_pairs(prompts, reward, np.random.RandomState(0))
    assert len(pairs) == 2  # c has no bad completion
    for good, bad in pairs:
        assert prompts[good] == prompts[bad] and reward[good] == 1 and reward[bad] == -1
