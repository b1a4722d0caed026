"""The estimators, parameter sets and tasks that tests share: one list, and what each is used for.

checked: scikit-learn's checks, one setting for each path through the code
common: what holds for every estimator, settings that fit in a moment
onnx: those that convert
hard: bad and odd inputs, `tests.hard_use`
"""

from collections import namedtuple

import numpy as np
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB

from pnsklearn import (
    AUPRCClassifier,
    AUPRCStackingClassifier,
    PUTrendClassifier,
    SMaLLClassifier,
    TOPRPolicy,
)

KINDS = (
    AUPRCClassifier,
    AUPRCStackingClassifier,
    PUTrendClassifier,
    SMaLLClassifier,
    TOPRPolicy,
)

MEMBERS = [("logistic", LogisticRegression()), ("bayes", GaussianNB())]
# Those of a stack that takes sparse data and gives, for any form of X, the same to the last digit.
OWN_MEMBERS = [
    ("logistic", AUPRCClassifier(alpha=np.inf)),
    ("hinge", AUPRCClassifier("squared_hinge", alpha=1.0)),
]
with config_context(enable_metadata_routing=True):
    ROUTED_MEMBERS = [
        (name, clone(member).set_fit_request(sample_weight=True)) for name, member in OWN_MEMBERS
    ]

SHORT = {"n_snapshots": 2, "n_folds": 2, "n_passes": 1}
KNOWN = {"class_prior": 0.05, "n_snapshots": 3, "n_folds": 2}
SETTINGS = [
    (AUPRCClassifier(), "checked"),
    (AUPRCClassifier(alpha=0), "checked"),
    (AUPRCClassifier(alpha=0.1), "common onnx hard"),
    (AUPRCClassifier(cv=2), "hard"),
    (AUPRCClassifier(alpha=0.1, threshold=("recall", 0.9)), "onnx"),
    (AUPRCClassifier(solver="soap-adam", n_epochs=2), "checked"),
    (AUPRCClassifier(solver="soap-adam", alpha=0.1, n_epochs=2), "hard"),
    (AUPRCClassifier(solver="soap-sgd", alpha=0.1, n_epochs=3), "common"),
    (AUPRCClassifier(loss="squared_hinge", solver="trust-ncg", alpha=0.1), "checked"),
    (
        AUPRCClassifier(loss="squared_hinge", solver="trust-ncg", alpha=0.1, threshold="f1"),
        "hard",
    ),
    (AUPRCClassifier(anchor="zero", alpha=0.01, prior=0.3), "checked hard"),
    (AUPRCClassifier(positive=True, anchor="shrunk", alpha="cv-1se"), "checked"),
    (AUPRCClassifier(positive=True, anchor="shrunk", alpha=0.1), "common onnx hard"),
    (AUPRCClassifier(alpha=0.1, class_weight="balanced"), "checked common hard"),
    (AUPRCStackingClassifier(MEMBERS, cv=3), "checked onnx"),
    (AUPRCStackingClassifier(OWN_MEMBERS, cv=3), "common"),
    (AUPRCStackingClassifier(ROUTED_MEMBERS, cv=3), "hard"),
    (PUTrendClassifier(), "checked"),
    (PUTrendClassifier("mlp", final_estimator="same", n_snapshots=4, trend="pairwise"), "checked"),
    (PUTrendClassifier(SGDClassifier(), trend="last", split="natural", **SHORT), "checked"),
    (PUTrendClassifier.paper("linear", trend="mean", n_passes=1), "checked"),
    (PUTrendClassifier("linear", **KNOWN), "common onnx"),  # its second stage is the default, trees
    (PUTrendClassifier("linear", final_estimator="same", **SHORT), "onnx hard"),
    (PUTrendClassifier("mlp", final_estimator="same", **KNOWN), "common"),
    (PUTrendClassifier("mlp", **SHORT), "hard"),
    (PUTrendClassifier(SGDClassifier(loss="log_loss"), final_estimator="same", **SHORT), "hard"),
    (PUTrendClassifier.paper("mlp", n_snapshots=3, n_passes=1), "hard"),
    (SMaLLClassifier(), "checked"),
    (SMaLLClassifier(1, 2, n_init=2), "onnx"),
    (SMaLLClassifier(2, 2, n_init=2), "common onnx hard"),
    (SMaLLClassifier(2, 2, solver="swap", n_init=3), "common"),
    (SMaLLClassifier(1, 2, fit_intercept=False, certify=True), "hard"),
    (SMaLLClassifier(2, 1, solver="fista", tol=0.01), "checked"),
    (SMaLLClassifier(2, 2, solver="fista", tol=0.01), "common hard"),
    (SMaLLClassifier(2, 2, solver="saddle", tol=0.1), "checked hard"),
    (
        SMaLLClassifier(
            n_terms=2, cv=2, solver="swap", binarize="quantile", n_init=2, certify=True, tol=0.01
        ),
        "checked",
    ),
    (SMaLLClassifier(2, 2, n_init=1, binarize="quantile"), "common onnx"),
    (SMaLLClassifier(2, 2, n_init=2, binarize="quantile", class_weight="balanced"), "hard"),
    (SMaLLClassifier(2, 2, n_init=1, binarize="quantile", integer=True), "onnx"),
    (TOPRPolicy(), "checked common hard"),
    (TOPRPolicy(bounds="topr", baseline=0), "checked common onnx hard"),
    (TOPRPolicy(bounds="topr", solver="adam", fit_intercept=False, n_epochs=5), "checked"),
    (TOPRPolicy(bounds="topr", baseline=0, solver="adam", n_epochs=3), "common hard"),
    (TOPRPolicy(bounds="is"), "hard"),
]


def settings(use, kind=object, **params):
    """Return new estimators of a kind, of the settings for a use; set the parameters they have."""
    found = [clone(e) for e, uses in SETTINGS if use in uses.split() and isinstance(e, kind)]
    for estimator in found:
        known = estimator.get_params(deep=False).keys() & params
        estimator.set_params(**{name: params[name] for name in known})
    return found


def unequal_weights(estimator, reason=None):
    """Return scikit-learn's checks that fail where weights are no repetitions, and why."""
    if isinstance(estimator, AUPRCStackingClassifier):
        reason = "a row that is repeated may be in several folds"
    names = [f"check_sample_weight_equivalence_on_{data}_data" for data in ("dense", "sparse")]
    return dict.fromkeys(names, reason) if reason else {}


# Targets for X of a few columns


def binary(X, noise):
    return {"y": (X[:, 0] - X[:, 1] + noise > 0.4).astype(int)}


def positive_unlabeled(X, noise):
    y = binary(X, noise)["y"]
    y[np.flatnonzero(y)[::2]] = 0
    return {"y": y}


def decisions(X, noise):
    return {"y": np.digitize(X[:, 0] + noise, [-0.5, 0.5])}


def rewarded(X, noise):
    y = np.arange(len(X)) % 3
    reward = np.where(decisions(X, noise)["y"] == y, 1.0, -0.5)
    return {"y": y, "reward": reward, "propensity": np.full(len(X), 1 / 3)}


Task = namedtuple("Task", "name kind target")
TASKS = [
    Task("AUPRCClassifier", AUPRCClassifier, binary),
    Task("AUPRCStackingClassifier", AUPRCStackingClassifier, binary),
    Task("PUTrendClassifier", PUTrendClassifier, positive_unlabeled),
    Task("SMaLLClassifier", SMaLLClassifier, binary),
    Task("TOPRPolicy", TOPRPolicy, decisions),
    Task("TOPRPolicy, rewards", TOPRPolicy, rewarded),
]
