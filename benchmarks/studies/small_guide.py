"""The tables of the user guide of SMaLLClassifier, on generated data and scikit-learn's sets."""

import time
from functools import cache

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks._engine import is_installed, seconds_of
from pnsklearn import SMaLLClassifier

PACKAGES = ("scikit-learn", "numpy", "numba", "cvxpy")


@cache
def _sets():
    """Return the sets, as the guide describes them."""

    def normal(n_features):
        rng = np.random.default_rng(0)
        return rng, rng.standard_normal((1000, n_features))

    _, P = normal(10)
    union = (P[:, 0] + P[:, 1] > 1.5) | (P[:, 2] - P[:, 3] > 1.5) | (P[:, 4] > 1.5)
    M = np.random.default_rng(0).integers(1, 4, (600, 6)).astype(float)
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (1000, 6))
    xor = (X[:, 0] * X[:, 1] > 0) ^ (rng.random(1000) < 0.05)
    rng, L = normal(10)
    linear = rng.random(1000) < 1 / (1 + np.exp(-2 * (L[:, 0] + L[:, 1] - L[:, 2])))
    digits, wine = load_digits(return_X_y=True), load_wine(return_X_y=True)
    return {
        "planted": (P, union),
        "monk-like": (M, (M[:, 0] == M[:, 1]) | (M[:, 4] == 1)),
        "XOR": (X, xor),
        "linear": (L, linear),
        "digits, 8": (digits[0], digits[1] == 8),
        "breast cancer": load_breast_cancer(return_X_y=True),
        "wine, class 1": (wine[0], wine[1] == 1),
    }


def _logistic():
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))


def _folds(options):
    n_splits, n_repeats = options.pick((5, 2), (2, 1))
    return RepeatedStratifiedKFold(n_splits=n_splits, n_repeats=n_repeats, random_state=0)


def gaps(options, report):
    """The certified gap in per cent, three features a rule, by number of rules and C."""
    names = ("breast cancer", "wine, class 1", "digits, 8", "planted", "monk-like", "linear")
    rows = []
    for name in options.pick(names, names[4:5]):
        row = {"set": name}
        for p in (1, 3):
            for C in (1.0, 0.1, 0.01):
                model = SMaLLClassifier(p, 3, C=C, certify=True, max_iter=5000, random_state=0)
                row[f"{p} rules, C={C}"] = f"{100 * model.fit(*_sets()[name]).gap_:.1f}"
        rows.append(row)
    report.table("gaps", rows)


def solvers(options, report):
    """The objective reached and seconds, three rules of three features."""
    SMaLLClassifier(certify=True, solver="saddle", tol=0.5).fit(*_sets()["planted"])  # compiles
    rows = []
    for solver in ("auto", "fista", "saddle", *options.pick(("reference",), ())):
        if solver == "reference" and not is_installed("cvxpy"):
            continue
        row = {"solver": solver}
        for name in ("breast cancer", "digits, 8")[: 1 if solver == "reference" else 2]:
            model = SMaLLClassifier(solver=solver, random_state=0)
            _, seconds = seconds_of(model.fit, *_sets()[name], clock=time.perf_counter)
            row |= {name: f"{model.objective_:.4f}", f"{name}: seconds": f"{seconds:.1f}"}
        rows.append(row)
    report.table("solvers", rows)


def errors(options, report):
    """The test error in per cent, three features a rule, nothing tuned."""
    models = {f"up to {p} rules": SMaLLClassifier(p, 3, random_state=0) for p in (1, 2, 3)}
    models |= {
        "3, steps": SMaLLClassifier(3, 3, binarize="quantile", random_state=0),
        "logistic": _logistic(),
        "forest": RandomForestClassifier(random_state=0),
    }
    rows = []
    for name in options.pick(list(_sets()), ["monk-like"]):
        X, y = _sets()[name]
        row = {"set": name}
        for label, model in models.items():
            accuracy = cross_val_score(model, X, y, cv=_folds(options)).mean()
            row[label] = f"{100 * (1 - accuracy):.1f}"
        rows.append(row)
    report.table("errors", rows)


def log_loss(options, report):
    """The log-loss on breast cancer, in cross-validation."""
    rules = SMaLLClassifier(random_state=0)
    calibrated = CalibratedClassifierCV(rules, cv=5, ensemble=False)
    models = {"rules": rules, "rules, calibrated": calibrated, "logistic": _logistic()}
    how = {"cv": _folds(options), "scoring": "neg_log_loss"}
    for label, model in models.items():
        models[label] = -cross_val_score(model, *_sets()["breast cancer"], **how).mean()
    report.table("log_loss", [{"model": m, "log-loss": f"{s:.3f}"} for m, s in models.items()])


SECTIONS = {section.__name__: section for section in (gaps, solvers, errors, log_loss)}
