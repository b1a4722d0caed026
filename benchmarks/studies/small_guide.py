"""The tables of the user guide of SMaLLClassifier, on generated data and scikit-learn's sets.

Run `python -m benchmarks.small_guide`, or with the names of some tables.
"""

import argparse
import time
import warnings

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from benchmarks._harness import environment, format_table
from pnsklearn import SMaLLClassifier

FOLDS = RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=0)


def _data():
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


def gaps(sets):
    """The certified gap in per cent, three features a rule, by number of rules and C."""
    rows = []
    for name in ("breast cancer", "wine, class 1", "digits, 8", "planted", "monk-like", "linear"):
        row = {"set": name}
        for p in (1, 3):
            for C in (1.0, 0.1, 0.01):
                model = SMaLLClassifier(p, 3, C=C, certify=True, max_iter=5000, random_state=0)
                row[f"{p} rules, C={C}"] = f"{100 * model.fit(*sets[name]).gap_:.1f}"
        rows.append(row)
    return rows


def solvers(sets):
    """The objective reached and seconds, three rules of three features."""
    rows = []
    for solver in ("auto", "fista", "saddle", "reference"):
        row = {"solver": solver}
        for name in ("breast cancer", "digits, 8")[: 1 if solver == "reference" else 2]:
            model = SMaLLClassifier(solver=solver, random_state=0)
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(*sets[name])
            seconds = time.perf_counter() - start
            row |= {name: f"{model.objective_:.4f}", f"{name}: seconds": f"{seconds:.1f}"}
        rows.append(row)
    return rows


def errors(sets):
    """The test error in per cent, three features a rule, nothing tuned."""
    models = {f"up to {p} rules": SMaLLClassifier(p, 3, random_state=0) for p in (1, 2, 3)}
    models |= {
        "3, steps": SMaLLClassifier(3, 3, binarize="quantile", random_state=0),
        "logistic": _logistic(),
        "forest": RandomForestClassifier(random_state=0),
    }
    return [
        {"set": name}
        | {
            label: f"{100 * (1 - cross_val_score(model, X, y, cv=FOLDS).mean()):.1f}"
            for label, model in models.items()
        }
        for name, (X, y) in sets.items()
    ]


def log_loss(sets):
    """The log-loss on breast cancer, in cross-validation."""
    rules = SMaLLClassifier(random_state=0)
    models = {
        "rules": rules,
        "rules, calibrated": CalibratedClassifierCV(rules, cv=5, ensemble=False),
        "logistic": _logistic(),
    }
    scores = {
        label: cross_val_score(model, *sets["breast cancer"], cv=FOLDS, scoring="neg_log_loss")
        for label, model in models.items()
    }
    return [{"model": label, "log-loss": f"{-s.mean():.3f}"} for label, s in scores.items()]


TABLES = {table.__name__: table for table in (gaps, solvers, errors, log_loss)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", choices=[[], *TABLES], help="default: all")
    names = parser.parse_args().tables or TABLES
    print(environment("scikit-learn", "numpy", "numba", "cvxpy"))
    sets = _data()
    SMaLLClassifier(1, 1, certify=True, solver="saddle", tol=0.5).fit(*sets["planted"])  # compiles
    with threadpool_limits(1):
        for name in names:
            print(f"\n{name}: {TABLES[name].__doc__}\n\n{format_table(TABLES[name](sets))}")


if __name__ == "__main__":
    main()
