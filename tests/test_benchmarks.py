"""The benchmark suite: it goes on where it stopped, outlives its peers and reports."""

import re
import sys
from collections import Counter
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from benchmarks import __main__ as suite
from benchmarks._harness import load, stored
from benchmarks._report import Results


def _fit_and_score(make, split):
    model = make(split).fit(split.X[split.train], split.y[split.train])
    return model.score(split.X[split.test], split.y[split.test]), split.seed, 1.0


def _model(make, calls, label):
    def model(split):
        calls.append((label, split.seed))
        return _fit_and_score(make, split)

    return model


def _absent(split):
    import_module("no_such_package")


@pytest.fixture
def calls():
    """The runs that were made."""
    return []


@pytest.fixture
def study(calls, monkeypatch):
    """A study of four quick models on scikit-learn's sets, the only one of the suite."""
    makes = {
        "ours": lambda split: DecisionTreeClassifier(max_depth=2, random_state=split.seed),
        "logistic": lambda split: LogisticRegression(solver="liblinear"),
        "none": lambda split: DummyClassifier(),
    }
    models = {label: _model(make, calls, label) for label, make in makes.items()}
    models["absent"] = _absent
    tiny = replace(
        suite.AUPRC, title="TreeClassifier", score="accuracy", extra="seed", about="Trees.",
        models=models, baselines=("logistic",), slow=(),
    )  # fmt: skip
    monkeypatch.setattr(suite, "STUDIES", {"tiny": tiny})
    return tiny


def _start(folder):
    suite.main(["--quick", "--output", str(folder), "--methods", "tiny"])


def test_second_start_goes_on(study, calls, tmp_path):
    _start(tmp_path)
    assert Counter(calls) == {(m, s): 2 for m in ("ours", "logistic", "none") for s in (0, 1)}
    path = tmp_path / "quick_suite_runs.csv"
    lines = path.read_text().splitlines(keepends=True)
    calls.clear()
    _start(tmp_path)
    assert calls == []  # all that can be done is done
    path.write_text("".join(lines[:-4]))  # as if it had been stopped before the last split
    _start(tmp_path)
    assert calls == [("ours", 1), ("logistic", 1), ("none", 1)]


def test_failing_peer_becomes_a_row(study, calls, tmp_path):
    _start(tmp_path)
    path = tmp_path / "quick_suite_runs.csv"
    rows = suite.finished(path, suite.STUDIES)
    failed = {key: row["failed"] for key, row in rows.items() if row["failed"]}
    assert {key[3] for key in failed} == {"absent"}
    assert set(failed.values()) == {"ModuleNotFoundError: No module named 'no_such_package'"}
    report = (tmp_path / "quick_report.md").read_text()
    assert "ModuleNotFoundError: No module named 'no_such_package'" in report
    calls.clear()
    study.models["absent"] = _model(lambda split: DummyClassifier(), calls, "absent")
    _start(tmp_path)
    assert {label for label, _ in calls} == {"absent"}  # failed runs are tried again
    rows = suite.finished(path, suite.STUDIES)
    assert not any(row["failed"] for row in rows.values())
    assert "ModuleNotFoundError" not in (tmp_path / "quick_report.md").read_text()


def test_task_that_cannot_be_made_becomes_rows(study, tmp_path, monkeypatch):
    def missing(name, split, options):
        raise OSError(f"no {name}\nat all")

    monkeypatch.setattr(suite, "STUDIES", {"tiny": replace(study, task=missing)})
    _start(tmp_path)
    rows = suite.finished(tmp_path / "quick_suite_runs.csv", suite.STUDIES)
    assert {row["failed"] for row in rows.values()} == {
        "OSError: no breast_cancer at all", "OSError: no digits_8 at all"
    }  # fmt: skip
    assert "did not finish on any set" in (tmp_path / "quick_report.md").read_text()


def test_a_score_that_is_no_number_has_failed():
    assert suite.run(lambda task: (np.nan, 0, 0), lambda: None) == {
        "failed": "ValueError: the score is nan"
    }


def test_report_has_tables_and_figures(study, tmp_path):
    _start(tmp_path)
    markdown = (tmp_path / "quick_report.md").read_text()
    page = (tmp_path / "quick_report.html").read_text()
    for title in ("At a glance", "TreeClassifier", "In the mean", "Where ours loses"):
        assert f" {title}\n" in markdown
        assert f">{title}</h" in page
    rows = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line[:2] == "| "]
    scores = next(row for row in rows if row[0] == "breast_cancer")
    assert all(re.fullmatch(r"(\*\*)?0\.\d{3} ± 0\.\d{3}(\*\*)?", cell) for cell in scores[1:4])
    assert page.count("<table>") == 5
    assert str(tmp_path) not in markdown + page
    names = re.findall(r"!\[.*\]\((.*)\)", markdown)
    assert page.count('src="data:image/png;base64,') == len(names)
    assert all((tmp_path / name).exists() for name in names)


def test_results_of_known_scores(study):
    scores = {
        ("a", "ours"): (0.7, 0.9), ("a", "logistic"): (0.6, 0.8), ("a", "none"): (0.9, 1.1),
        ("b", "ours"): (0.5, 0.5), ("b", "logistic"): (0.4, 0.5), ("b", "none"): (0.5, 0.5),
    }  # fmt: skip
    rows = [
        {
            "set": name, "model": model, "split": split, "failed": "", "extra": 0.0,
            "score": score, "seconds": {"ours": 2.0, "logistic": 1.0, "none": 5.0}[model],
        }
        for (name, model), of_splits in scores.items()
        for split, score in enumerate(of_splits)
    ]  # fmt: skip
    results = Results(study, rows)
    assert results.models == ["ours", "logistic", "none"]
    assert np.allclose(results.means("ours"), (0.8, 0.5))
    assert np.allclose(results.difference("logistic", "b"), (0.05, 0.05))
    assert np.allclose(results.mean_difference("logistic"), (0.075, 0.025))
    assert np.allclose(results.mean_difference("none"), (-0.1, 0.1))
    assert list(results.lost("none")) == ["a"]
    assert results.lost("logistic") == {}
    assert results.times("logistic") == 0.5
    assert results.ranks() == {"ours": 1.75, "logistic": 3.0, "none": 1.25}


def test_methods_are_chosen_by_name(study):
    with pytest.raises(SystemExit):
        suite.main(["--methods", "tiny,large"])


def test_progress_without_rich(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    steps = [("tiny", name, split, "ours") for name in ("a", "b") for split in range(3)]
    assert list(suite.progress(steps)) == steps
    assert capsys.readouterr().out.splitlines() == [
        "0 of 6 runs done, next: tiny, a",
        "3 of 6 runs done, next: tiny, b",
    ]


def test_sets_are_read_from_the_folder(tmp_path):
    X, y = np.arange(8.0).reshape(4, 2), np.array([0, 3, 1, 3])
    np.savez(tmp_path / "satimage.npz", X=X, y=y)
    found, positive = load("satimage_4", tmp_path)
    assert np.array_equal(found, X)
    assert positive.tolist() == [0, 1, 0, 1]
    assert stored("phoneme", tmp_path) is None
    assert stored("phoneme", None) is None
    assert stored("satimage_grey", tmp_path) == tmp_path / "satimage.npz"


@pytest.mark.parametrize("method", suite.STUDIES)
def test_studies_are_complete(method):
    study = suite.STUDIES[method]
    assert set(study.bundled) <= set(study.sets)
    for names in (study.baselines, study.landmarks, study.slow):
        assert set(names) <= set(study.models)
    assert not set(study.baselines) & set(study.landmarks)
