"""The tour and the version report."""

import re
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import pytest
from sklearn.datasets import load_wine, make_classification
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import pnsklearn
from pnsklearn import PUTrendClassifier, TOPRPolicy
from pnsklearn import __main__ as tour
from pnsklearn.datasets import make_logged_bandit


def test_show_versions(capsys):
    pnsklearn.show_versions()
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    for package in ("scikit-learn", "numpy", "scipy", "numba"):
        assert lines[package] == version(package)
    assert (lines["torch"] == "not installed") == (find_spec("torch") is None)


def test_version_is_set():
    assert re.fullmatch(r"\d+\.\d+\.\d+", pnsklearn.__version__)


def test_data_of_the_tour():
    X, y = tour._rare_breast_cancer()
    assert X.shape == (357 + tour.N_RARE, 30)
    assert y.sum() == tour.N_RARE
    # Malignant tumours are the larger ones.
    assert X[y, 0].mean() > X[~y, 0].mean()
    X, y = tour._digit_eight()
    assert X.shape == (1797, 64)
    assert y.sum() == 174
    assert tour._even_digits()[1].sum() == 891


def test_hidden_labels_of_the_tour():
    X, y = tour._digit_eight()
    model = tour._LabelsHidden(DummyClassifier(strategy="prior")).fit(X, y)
    assert np.allclose(model.model_.class_prior_, [1 - 50 / 1797, 50 / 1797])
    assert model.predict(X[:2]).tolist() == [False, False]


def test_logged_guesses_of_the_tour():
    X, y = load_wine(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    log = make_logged_bandit(X, y, logging="good", random_state=0)
    feedback = {"reward": log.reward, "propensity": log.propensity}
    policy = TOPRPolicy().fit(X, log.action, **feedback)
    shown = tour._Logged(TOPRPolicy()).fit(X, y)
    assert np.array_equal(shown.predict_proba(X), policy.predict_proba(X))
    # A model without rewards sees the guesses alone: their shares are all that the dummy learns.
    blind = tour._Logged(DummyClassifier(strategy="prior")).fit(X, y)
    shares = np.bincount(log.action) / len(y)
    assert np.allclose(blind.predict_proba(X), shares)
    assert np.isclose(tour._share_right(blind, X, y), np.mean(shares[y]))


@pytest.mark.filterwarnings("ignore::pnsklearn.exceptions.PUTrendWarning")  # the data are small
def test_tour_prints_a_row_per_model(monkeypatch, capsys, tmp_path):
    X, y = make_classification(120, 12, weights=[0.7], random_state=0)
    monkeypatch.chdir(tmp_path)
    for name in ("_rare_breast_cancer", "_digit_eight", "_even_digits"):
        monkeypatch.setattr(tour, name, lambda: (X, y == 1))
    monkeypatch.setattr(tour, "load_digits", lambda return_X_y: (X, y))
    monkeypatch.setattr(tour, "AUPRCClassifier", lambda: LogisticRegression(C=0.1))
    monkeypatch.setattr(tour, "N_LABELED", 10)
    quick = partial(PUTrendClassifier, "linear", n_snapshots=2, n_folds=2)
    monkeypatch.setattr(tour, "PUTrendClassifier", quick)
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
