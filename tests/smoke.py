"""An installed package works: ``python tests/smoke.py``, by the Python that it was installed for.

It needs nothing but the package and what that depends on. Run it by its path: then the folder of
this file, and not the checkout, is where Python looks first, and the installed package is tested.
"""

import pickle
import sys
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics import average_precision_score

import pnsklearn
from pnsklearn.datasets import make_logged_bandit, make_pu


def ranked(model, X, y):
    """Fit a model to the even rows, and return its average precision on the odd ones."""
    probability = model.fit(X[::2], y[::2]).predict_proba(X[1::2])[:, 1]
    return average_precision_score(y[1::2], probability)


def check_average_precision(X, malignant):
    assert ranked(pnsklearn.AUPRCClassifier(random_state=0), X, malignant) > 0.95
    stack = pnsklearn.AUPRCStackingClassifier(cv=3, random_state=0)
    assert ranked(stack, X, malignant) > 0.95


def check_unlabeled(X, malignant):
    X, s, truth = make_pu(X, malignant, n_labeled=80, random_state=0)
    model = pnsklearn.PUTrendClassifier(random_state=0).fit(X, s)
    assert np.mean(model.predict(X) == truth) > 0.8


def check_rules(X, malignant):
    model = pnsklearn.SMaLLClassifier(2, 2, random_state=0).fit(X, malignant)
    assert np.mean(model.predict(X) == malignant) > 0.9
    assert "fires" in model.rules()
    assert "return" in model.export_c()
    assert "CASE" in model.export_sql()


def check_policy():
    X, y = load_digits(return_X_y=True)
    log = make_logged_bandit(X[:1000], y[:1000], random_state=0)
    policy = pnsklearn.TOPRPolicy().fit(
        log.X, log.action, reward=log.reward, propensity=log.propensity
    )
    again = pickle.loads(pickle.dumps(policy))
    assert np.mean(again.predict(X[1000:]) == y[1000:]) > 0.7


def main():
    package = Path(pnsklearn.__file__).parent
    assert not (package.parent / "pyproject.toml").exists(), f"{package} is a checkout"
    assert (package / "py.typed").exists()
    assert distribution("pnsklearn").version == pnsklearn.__version__
    X, benign = load_breast_cancer(return_X_y=True)
    malignant = 1 - benign
    check_average_precision((X - X.mean(axis=0)) / X.std(axis=0), malignant)
    check_unlabeled(X, malignant)
    check_rules(X, malignant)
    check_policy()
    pnsklearn.show_versions()
    print("The five estimators fit.")


if __name__ == "__main__":
    sys.exit(main())
