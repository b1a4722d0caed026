"""The tour and the version report."""

import re
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit

import pnsklearn
from pnsklearn import PUTrendClassifier
from pnsklearn import __main__ as tour


def test_show_versions(capsys):
    pnsklearn.show_versions()
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    for package in ("scikit-learn", "numpy", "scipy", "numba"):
        assert lines[package] == version(package)
    assert (lines["torch"] == "not installed") == (find_spec("torch") is None)


def test_version_is_set():
    assert re.fullmatch(r"\d+\.\d+\.\d+", pnsklearn.__version__)


@pytest.mark.filterwarnings("ignore::pnsklearn.exceptions.PUTrendWarning")  # the data are small
@pytest.mark.filterwarnings("ignore::pnsklearn.exceptions.PolicyWarning")  # as is the log
def test_tour_prints_a_row_per_model(monkeypatch, capsys, tmp_path, short_searches):
    X, y = make_classification(120, 12, weights=[0.7], random_state=0)
    monkeypatch.chdir(tmp_path)
    for name in ("_rare_breast_cancer", "_digit_eight", "_even_digits"):
        monkeypatch.setattr(tour, name, lambda: (X, y == 1))
    monkeypatch.setattr(tour, "load_digits", lambda return_X_y: (X, y))
    monkeypatch.setattr(tour, "AUPRCClassifier", lambda: LogisticRegression(C=0.1))
    monkeypatch.setattr(tour, "N_LABELED", 10)
    quick = partial(PUTrendClassifier, "linear", n_snapshots=2, n_folds=2)
    monkeypatch.setattr(tour, "PUTrendClassifier", quick)

    def few_splits(n_splits, **how):
        assert n_splits == 10  # as it prints
        return StratifiedShuffleSplit(3, **how)

    monkeypatch.setattr(tour, "StratifiedShuffleSplit", few_splits)
    tour.main()
    output = capsys.readouterr().out
    scores = [
        np.array(re.findall(r"(\d\.\d{3}) ± \d\.\d{3}", part), dtype=float)
        for part in re.split("PUTrendClassifier: positives|TOPRPolicy: logged", output)
    ]
    assert "malignant if any of these rules fires, otherwise benign" in output
    assert [len(part) for part in scores] == [16, 20, 16]
    assert np.all((scores[0] > y.mean()) & (scores[0] <= 1))
    assert np.all((scores[1] >= 0) & (scores[1] <= 1))
    assert scores[1][-2:].min() > y.mean()  # with all labels
    digits, wine = scores[2].reshape(2, 4, 2)
    assert np.all((scores[2] >= 0) & (scores[2] <= 1))
    assert np.all(wine[0] > wine[2])  # rewards tell more than the guesses alone
    assert digits[3].min() > 0.5  # with all labels
    assert "2 classes, 120" in output
    for method in ("auprc", "small", "pu_trend", "topr"):
        saved = (tmp_path / f"pnsklearn_tour_{method}.png").exists()
        assert saved == (find_spec("matplotlib") is not None)
