"""The tour and the version report."""

import re
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import pytest
from sklearn.datasets import make_classification

import pnsklearn
from pnsklearn import AUPRCStackingClassifier, PUTrendClassifier, TOPRPolicy
from pnsklearn import __main__ as tour
from tests.estimators import MEMBERS


def test_show_versions(capsys):
    pnsklearn.show_versions()
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    for package in ("scikit-learn", "numpy", "scipy", "numba"):
        assert lines[package] == version(package)
    assert (lines["torch"] == "not installed") == (find_spec("torch") is None)


def test_version_is_set():
    assert re.fullmatch(r"\d+\.\d+\.\d+", pnsklearn.__version__)


@pytest.mark.filterwarnings("ignore::pnsklearn.exceptions.PUWarning")  # the data are small
@pytest.mark.filterwarnings("ignore::pnsklearn.exceptions.PolicyWarning")
def test_tour_prints_a_row_per_model(monkeypatch, capsys, tmp_path, short_searches):
    X, y = make_classification(120, 12, weights=[0.7], random_state=0)
    monkeypatch.chdir(tmp_path)
    for name in ("_rare_breast_cancer", "_digit_eight", "_even_digits"):
        monkeypatch.setattr(tour, name, lambda: (X, y == 1))
    monkeypatch.setattr(tour, "load_digits", lambda return_X_y: (X, y))
    monkeypatch.setattr(tour, "N_LABELED", 10)
    monkeypatch.setattr(tour, "N_SPLITS", 2)
    quick = {
        "AUPRCStackingClassifier": partial(AUPRCStackingClassifier, MEMBERS, cv=2),
        "PUTrendClassifier": partial(PUTrendClassifier, "linear", n_snapshots=2, n_folds=2),
        "TOPRPolicy": partial(TOPRPolicy, bounds="topr"),
    }
    for name, kind in quick.items():
        monkeypatch.setattr(tour, name, kind)
    tour.main()
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 100
    stories = re.split("-{20,}\n", output)[1:]
    assert [story.count("Decision: ") for story in stories] == [1] * 4
    scores = [
        np.array(re.findall(r"(\d\.\d{3}) ± \d\.\d{3}", story), dtype=float) for story in stories
    ]
    assert [len(part) for part in scores] == [8, 4, 16, 8]
    assert np.all((scores[0] > y.mean()) & (scores[0] <= 1))
    assert np.all(np.concatenate(scores) <= 1)
    assert scores[2][-2:].min() > y.mean()  # with all labels
    digits, wine = scores[3].reshape(2, 4)
    assert wine[0] > wine[2]  # rewards tell more than the guesses alone
    assert digits[3] > 0.5  # with all labels
    assert "malignant if" in stories[1]
    assert "2 classes, 120" in stories[3]
    for name in ("rare", "rules", "no_negatives", "logged"):
        saved = (tmp_path / f"pnsklearn_tour_{name}.png").exists()
        assert saved == (find_spec("matplotlib") is not None)


def test_tour_ends_cleanly_at_an_interrupt(monkeypatch):
    def interrupted(story, advance):
        raise KeyboardInterrupt

    monkeypatch.setattr(tour, "tell", interrupted)
    with pytest.raises(SystemExit, match="Stopped"):
        tour.main()
