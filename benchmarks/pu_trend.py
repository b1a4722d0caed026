"""PUTrendClassifier against its peers: accuracy, F1 and AUC on real sets, and the class prior.

Run `python -m benchmarks.pu_trend`. Everything runs on one thread; seconds are of the processor.
"""

import argparse
import csv
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from benchmarks._harness import environment, format_table, load, read_csv
from pnsklearn import __version__
from pnsklearn.datasets import make_pu

PACKAGES = ("numpy", "scipy", "scikit-learn", "numba", "pulearn", "torch")
# Names that end in "_flipped" take the other class as the positive one.
TASKS = (
    "australian_credit", "breast_w", "pima", "pima_flipped", "german_credit",
    "german_credit_flipped", "tic_tac_toe", "kr_vs_kp", "vote", "mushroom", "spambase", "banknote",
    "titanic3", "breast_cancer", "phoneme", "wine_red_ge7", "page_blocks_not1", "sick",
    "credit_default", "creditcard_fraud", "sms_spam", "hiv", "adult", "adult_flipped",
    "satimage_4", "satimage_grey", "letter_a", "digits_even", "fmnist_1", "fmnist_2",
)  # fmt: skip
IMAGES = ("fmnist_1", "fmnist_2")
MAX_ROWS = 5_000  # of training and test together
FEWEST, MOST = 10, 500  # labelled positives


@cache
def _load(name, data_home):
    base = name.removesuffix("_flipped")
    X, y = load(base, data_home)
    return X / 255 if base in IMAGES else X, y if base == name else 1 - y


def make_task(name, seed, *, n_labeled=None, c=0.3, pi=None, bias=0.0, data_home=None):
    """Split a set into equal halves and hide the labels of the training half.

    `n_labeled` positives of the training half stay labelled (by default the share `c` of them, 10
    to 500), the others join the negatives in U: one sample, of which some positives are known.
    With `pi`, U is itself a sample of the population, beside one of positives: rows of U and of the
    test half alike are dropped until `pi` is their share of positives. `bias` is `make_pu`'s.

    Returns
    -------
    tuple
        ``X_train``, ``s`` (1 labelled, 0 unlabelled), ``X_test``, ``y_test``, ``y_train`` and the
        share of positives in U.
    """
    X, y = _load(name, data_home)
    half = min(len(y), MAX_ROWS) // 2
    train, test = train_test_split(
        np.arange(len(y)), train_size=half, test_size=half, stratify=y, random_state=seed
    )
    if n_labeled is None:
        n_labeled = int(np.clip(round(c * y[train].sum()), FEWEST, MOST))
    scenario = "single" if pi is None else "case-control"
    X_train, s, y_train = make_pu(
        X[train], y[train], n_labeled=n_labeled, scenario=scenario, bias=bias, random_state=seed
    )
    if pi is not None:
        rng = np.random.default_rng(seed)
        U = _with_prior(np.flatnonzero(s == 0), y_train, pi, rng)
        kept = np.sort(np.concatenate([np.flatnonzero(s), U]))
        X_train, s, y_train = X_train[kept], s[kept], y_train[kept]
        test = _with_prior(test, y, pi, rng)
    return X_train, s, X[test], y[test], y_train, y_train[s == 0].mean()


def _with_prior(rows, y, pi, rng):
    """Return as many of the rows as can be kept for a share `pi` of positives."""
    positive, negative = rows[y[rows] == 1], rows[y[rows] == 0]
    n = min(len(positive) / pi, len(negative) / (1 - pi))
    kept = [
        rng.choice(part, max(round(n * share), 1), replace=False)
        for part, share in ((positive, pi), (negative, 1 - pi))
    ]
    return np.sort(np.concatenate(kept))


# The peers.


class NNPU(ClassifierMixin, BaseEstimator):
    """Non-negative risk (Kiryo et al., 2017) with the sigmoid loss, a linear model or an MLP.

    `prior` is the share of positives in U (None: estimated by `bbe`). In a single sample the
    positives' share of the population and the weight of U follow from it and from the counts.
    """

    def __init__(self, prior=None, single=True, hidden=100, n_steps=1000, random_state=None):
        self.prior = prior
        self.single = single
        self.hidden = hidden
        self.n_steps = n_steps
        self.random_state = random_state

    def fit(self, X, s):
        """Minimise the risk over batches of 128 rows of P and of U by Adam."""
        import torch

        generator = torch.Generator().manual_seed(self.random_state)
        torch.manual_seed(self.random_state)
        self.classes_ = np.array([0, 1])
        self.prior_ = bbe(X, s, self.random_state) if self.prior is None else self.prior
        X = self._tensor(X)
        P, U = X[s == 1], X[s == 0]
        of_U = len(U) / len(X) if self.single else 1.0
        of_P = (1 - of_U) + of_U * self.prior_
        if self.hidden:
            layers = (torch.nn.Linear(X.shape[1], self.hidden), torch.nn.ReLU())
            self.net_ = torch.nn.Sequential(*layers, torch.nn.Linear(self.hidden, 1))
        else:
            self.net_ = torch.nn.Linear(X.shape[1], 1)
        rate = 1e-3 if self.hidden else 1e-2
        optimizer = torch.optim.Adam(self.net_.parameters(), lr=rate, weight_decay=1e-4)
        for _ in range(self.n_steps):
            p = self.net_(P[torch.randint(len(P), (128,), generator=generator)])
            u = self.net_(U[torch.randint(len(U), (128,), generator=generator)])
            wrong = torch.sigmoid(p).mean()
            negative = torch.sigmoid(u).mean() - self.prior_ * wrong
            loss = of_P * (1 - wrong) + of_U * negative if negative >= 0 else -of_U * negative
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return self

    @staticmethod
    def _tensor(X):
        import torch

        return torch.as_tensor(X.toarray() if issparse(X) else X, dtype=torch.float32)

    def decision_function(self, X):
        """Return the score, above zero for positives."""
        import torch

        with torch.inference_mode():
            return self.net_(self._tensor(X)).numpy()[:, 0]

    def predict(self, X):
        """Predict 1 or 0."""
        return (self.decision_function(X) > 0).astype(int)


def bbe(X, s, seed):
    """Estimate the share of positives in U by Garg et al.'s best bin, on cross-fitted scores."""
    n_folds = int(min(5, np.count_nonzero(s)))
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    scores = cross_val_predict(model, X, s, cv=folds, method="decision_function")
    cuts = np.sort(scores[s == 1])
    n_P, n_U = len(cuts), np.count_nonzero(s == 0)
    above_P = np.arange(n_P, 0, -1) / n_P
    above_U = 1 - np.searchsorted(np.sort(scores[s == 0]), cuts) / n_U
    noise = sum(np.sqrt(np.log(4 / 0.1) / (2 * n)) for n in (n_P, n_U))
    best = np.argmin((above_U + 1.01 * noise) / above_P)
    return float(np.clip(above_U[best] / above_P[best], 0.01, 0.99))


@dataclass(frozen=True)
class Case:
    """What a model may be told of a task: its prior only if its name says so."""

    n_P: int
    n_U: int
    prior: float
    single: bool
    seed: int


@dataclass(frozen=True)
class Model:
    """A peer: `build` makes it of a `Case`; "true" labels are an oracle's; others take dense X."""

    build: Callable
    oracle: bool = False
    sparse: bool = True
    max_features: int | None = None


def _pulearn(name, **settings):
    """Return the builder of an estimator of pulearn; functions among its settings take a case."""

    def build(case):
        values = {key: f(case) if callable(f) else f for key, f in settings.items()}
        return getattr(import_module("pulearn"), name)(**values)

    return build


def _logistic(case=None, **settings):
    return LogisticRegression(max_iter=1000, **settings)


def _forest(case):
    return RandomForestClassifier(random_state=case.seed)


def _boosting(case):
    return HistGradientBoostingClassifier(random_state=case.seed)


def _ours(preset=None, **settings):
    """Return the builder of our estimator or of one of its presets."""

    def build(case):
        from pnsklearn import PUTrendClassifier

        make = getattr(PUTrendClassifier, preset) if preset else PUTrendClassifier
        return make(random_state=case.seed, **settings)

    return build


def _nnpu(told, hidden):
    def build(case):
        prior = case.prior if told else None
        return NNPU(prior, case.single, hidden, random_state=case.seed)

    return build


_seeded = {"random_state": lambda case: case.seed}
_counts = {"labeled": lambda case: case.n_P, "unlabeled": lambda case: case.n_U}
_bags = {**_seeded, "n_estimators": 100, "max_samples": lambda case: min(case.n_P, case.n_U)}
_held = {**_seeded, "estimator": _logistic, "hold_out_ratio": 0.2}
_forest_held = {**_held, "estimator": _forest}

OURS = {
    "PUTrend": Model(_ours()),
    "PUTrend mlp": Model(_ours(estimator="mlp")),
    "PUTrend paper": Model(_ours("paper")),
    "PUTrend authors' code": Model(_ours("authors_code")),
}
PEERS = {
    "U as N logistic": Model(_logistic),
    "U as N balanced logistic": Model(partial(_logistic, class_weight="balanced")),
    "U as N forest": Model(_forest),
    "U as N boosting": Model(_boosting, sparse=False, max_features=1000),
    "Elkan-Noto logistic": Model(_pulearn("ElkanotoPuClassifier", **_held), sparse=False),
    "Elkan-Noto forest": Model(_pulearn("ElkanotoPuClassifier", **_forest_held), sparse=False),
    "weighted Elkan-Noto logistic": Model(
        _pulearn("WeightedElkanotoPuClassifier", **_held, **_counts), sparse=False
    ),
    "bagging trees": Model(
        _pulearn("BaggingPuClassifier", estimator=lambda case: DecisionTreeClassifier(), **_bags)
    ),
    "bagging logistic": Model(_pulearn("BaggingPuClassifier", estimator=_logistic, **_bags)),
    "bagging trees, all U": Model(
        _pulearn(
            "BaggingPuClassifier", estimator=lambda case: DecisionTreeClassifier(),
            n_estimators=30, **_seeded,
        )
    ),
    "positive naive Bayes": Model(_pulearn("PositiveNaiveBayesClassifier"), sparse=False),
    "weighted naive Bayes": Model(_pulearn("WeightedNaiveBayesClassifier"), sparse=False),
    "positive TAN": Model(_pulearn("PositiveTANClassifier"), sparse=False, max_features=120),
    "weighted TAN": Model(_pulearn("WeightedTANClassifier"), sparse=False, max_features=120),
    "pulearn nnPU, true prior": Model(
        _pulearn("NNPUClassifier", prior=lambda case: case.prior, **_seeded), sparse=False
    ),
    "nnPU linear, true prior": Model(_nnpu(True, None)),
    "nnPU MLP, true prior": Model(_nnpu(True, 100)),
    "nnPU linear, estimated prior": Model(_nnpu(False, None)),
    "nnPU MLP, estimated prior": Model(_nnpu(False, 100)),
    "oracle logistic": Model(_logistic, oracle=True),
    "oracle forest": Model(_forest, oracle=True),
}  # fmt: skip
MODELS = {**OURS, **PEERS}


def scaled(model, name, X):
    """Return the model behind what everybody gets: standard scores, or tf-idf if X is sparse."""
    if issparse(X):
        return make_pipeline(TfidfTransformer(), model)
    return make_pipeline("passthrough" if name in IMAGES else StandardScaler(), model)


# Runs.

COLUMNS = (
    "task", "setting", "seed", "model", "accuracy", "f1", "auc", "prior_U", "estimated prior",
    "seconds", "warnings",
)  # fmt: skip


def run(name, seed, label, task, *, single=True):
    """Fit a model to a task of `make_task` and return its row.

    A model that refuses the data counts as one that calls nothing positive.
    """
    X, s, X_test, y_test, y, prior = task
    model = MODELS[label]
    n_P = int(s.sum())
    estimator = model.build(Case(n_P, len(s) - n_P, prior, single, seed))
    if issparse(X) and not model.sparse:
        estimator = make_pipeline(FunctionTransformer(lambda X: X.toarray()), estimator)
    estimator = scaled(estimator, name, X)
    predicted, scores, found = np.zeros(len(y_test)), np.zeros(len(y_test)), np.nan
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        np.random.seed(seed)  # for trees that are given no seed
        start = time.process_time()
        try:
            estimator.fit(X, y if model.oracle else s)
            seconds = time.process_time() - start
            predicted, scores, found = _outputs(estimator, X_test)
        except ValueError as error:
            seconds = time.process_time() - start
            warnings.warn(f"failed: {error}", stacklevel=1)
    return {
        "seed": seed, "model": label, "accuracy": np.mean(predicted == y_test),
        "f1": f1_score(y_test, predicted, zero_division=0), "auc": roc_auc_score(y_test, scores),
        "prior_U": prior, "estimated prior": found, "seconds": seconds,
        "warnings": "; ".join(sorted({_short(warning) for warning in caught})),
    }  # fmt: skip


def _outputs(estimator, X):
    if hasattr(estimator, "predict_proba"):
        scores = estimator.predict_proba(X)[:, 1]
    else:
        scores = estimator.decision_function(X)
    last = estimator[-1]
    found = getattr(last, "class_prior_", getattr(last, "prior_", np.nan))
    return (np.asarray(estimator.predict(X)).ravel() > 0).astype(int), scores, found


def _short(warning):
    if issubclass(warning.category, UserWarning) and str(warning.message).startswith("failed"):
        return str(warning.message)[:80]
    return warning.category.__name__


def runs(path, tasks, models, seeds, data_home, setting="natural", **options):
    """Run what is not yet in the CSV file, append each row as it comes, return all rows."""
    done = {(r["task"], r["setting"], int(r["seed"]), r["model"]) for r in read_csv(path)}
    for seed in seeds:
        for name in tasks:
            missing = [m for m in models if (name, setting, seed, m) not in done]
            if not missing:
                continue
            task = make_task(name, seed, data_home=data_home, **options)
            for label in missing:
                most = MODELS[label].max_features
                if most is not None and task[0].shape[1] > most:
                    continue
                single = options.get("pi") is None
                row = run(name, seed, label, task, single=single)
                _append(path, {"task": name, "setting": setting, **row})
    return read_csv(path)


def _append(path, row):
    new = not Path(path).exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)
