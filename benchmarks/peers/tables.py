"""The peers of AUPRCStackingClassifier: single models tuned on average precision, other stacks."""

from functools import partial

import numpy as np
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

from benchmarks.peers.auprc import balanced_batches
from pnsklearn import AUPRCClassifier

N_CANDIDATES = 20
SPACES = {
    "LightGBM": {
        "n_estimators": (50, 100, 200, 300), "learning_rate": (0.02, 0.05, 0.1, 0.2),
        "num_leaves": (7, 15, 31, 63), "min_child_samples": (5, 10, 20, 50),
        "colsample_bytree": (0.5, 0.75, 1.0), "subsample": (0.7, 1.0), "subsample_freq": (1,),
        "reg_lambda": (0.0, 0.3, 1.0, 10.0),
    },
    "HGB": {
        "max_iter": (50, 100, 200), "learning_rate": (0.02, 0.05, 0.1, 0.2),
        "max_leaf_nodes": (7, 15, 31, 63), "min_samples_leaf": (5, 10, 20, 50),
        "max_features": (0.5, 0.75, 1.0), "l2_regularization": (0.0, 0.3, 1.0, 10.0),
    },
    "XGBoost": {
        "n_estimators": (50, 100, 200, 300), "learning_rate": (0.02, 0.05, 0.1, 0.2),
        "max_depth": (2, 4, 6, 8), "min_child_weight": (0.3, 1, 3, 10),
        "colsample_bytree": (0.5, 0.75, 1.0), "subsample": (0.7, 1.0),
        "reg_lambda": (0.3, 1.0, 3.0, 10.0),
    },
    "CatBoost": {
        "iterations": (100, 300), "learning_rate": (0.03, 0.1, 0.2), "depth": (4, 6, 8),
        "l2_leaf_reg": (1, 3, 10),
    },
}  # fmt: skip
FOREST_GRID = {"min_samples_leaf": [1, 3], "max_features": ["sqrt", 0.5]}


def candidates(space, n, seed=0):
    """Return n settings as one-point grids: none at all, which is stock, and random ones."""
    rng = np.random.default_rng(seed)
    drawn = [
        {name: [values[rng.integers(len(values))]] for name, values in space.items()}
        for _ in range(n - 1)
    ]
    return [{}, *drawn]


def tuned(model, grid, seed, quick=False):
    """Return a model whose settings are chosen by average precision on 3 stratified folds."""
    folds = StratifiedKFold(2 if quick else 3, shuffle=True, random_state=seed)
    return GridSearchCV(model, grid, scoring="average_precision", cv=folds)


def boosted(name, seed):
    """Return a boosting library's model at its stock settings, on one thread."""
    if name == "HGB":
        return HistGradientBoostingClassifier(random_state=seed)
    if name == "LightGBM":
        from lightgbm import LGBMClassifier

        return LGBMClassifier(n_jobs=1, random_state=seed, verbose=-1)
    if name == "XGBoost":
        from xgboost import XGBClassifier

        return XGBClassifier(n_jobs=1, random_state=seed)
    from catboost import CatBoostClassifier

    settings = {"thread_count": 1, "verbose": 0, "allow_writing_files": False}
    return CatBoostClassifier(random_seed=seed, **settings)


def _tuned_boosted(name, seed, quick, sparse):
    n = 2 if quick else 6 if name == "CatBoost" else N_CANDIDATES
    return tuned(boosted(name, seed), candidates(SPACES[name], n), seed, quick)


def _scaled(model, sparse):
    return make_pipeline(MaxAbsScaler() if sparse else StandardScaler(), model)


def _logistic(seed, quick, sparse):
    grid = {"logisticregression__C": np.logspace(-4, 4, 9)}
    return tuned(_scaled(LogisticRegression(max_iter=1000), sparse), grid, seed, quick)


def _linear(seed, quick, sparse):
    return _scaled(AUPRCClassifier(cv=2 if quick else 5, random_state=seed), sparse)


def _extra_trees(seed, quick, sparse):
    return tuned(ExtraTreesClassifier(random_state=seed), FOREST_GRID, seed, quick)


# Functions of the seed, --quick, and whether X is sparse.
SINGLE = {
    "LightGBM, tuned": partial(_tuned_boosted, "LightGBM"),
    "HGB": lambda seed, quick, sparse: boosted("HGB", seed),
    "LightGBM": lambda seed, quick, sparse: boosted("LightGBM", seed),
    "XGBoost, tuned": partial(_tuned_boosted, "XGBoost"),
    "HGB, tuned": partial(_tuned_boosted, "HGB"),
    "CatBoost, tuned": partial(_tuned_boosted, "CatBoost"),
    "extra trees, tuned": _extra_trees,
    "forest": lambda seed, quick, sparse: RandomForestClassifier(random_state=seed),
    "logistic, tuned": _logistic,
    "linear AUPRC": _linear,
    "LibAUC network": lambda seed, quick, sparse: _scaled(
        LibAUCNetwork(2 if quick else 60, random_state=seed), sparse
    ),
}
NO_SPARSE = ("HGB", "HGB, tuned", "LibAUC network")  # take no sparse X


def cv_precision(model):
    """Return the cross-validated average precision of a tuned model, NaN of another."""
    if isinstance(model, GridSearchCV):
        return model.best_score_
    last = model[-1] if isinstance(model, Pipeline) else model
    return np.mean(getattr(last, "cv_average_precision_", [np.nan]))


class LibAUCNetwork(ClassifierMixin, BaseEstimator):
    """A network of two layers of 64, trained by LibAUC's APLoss and SOAP as its recipes have it."""

    def __init__(self, n_epochs=60, learning_rate=1e-3, random_state=None):
        self.n_epochs = n_epochs
        self.learning_rate = learning_rate
        self.random_state = random_state

    def fit(self, X, y):
        """Train on batches of 64 with half of them positive; the rate falls twice."""
        import torch
        from libauc.losses import APLoss
        from libauc.optimizers import SOAP

        torch.manual_seed(self.random_state)
        rng = np.random.default_rng(self.random_state)
        layers = torch.nn.Linear(X.shape[1], 64), torch.nn.ReLU(), torch.nn.Linear(64, 64)
        network = torch.nn.Sequential(*layers, torch.nn.ReLU(), torch.nn.Linear(64, 1))
        data, target = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
        loss = APLoss(data_len=len(y), margin=0.6, gamma=0.1, device="cpu")
        optimizer = SOAP(
            network.parameters(), lr=self.learning_rate, mode="adam", weight_decay=1e-5,
            verbose=False, device="cpu",
        )  # fmt: skip
        for epoch in range(self.n_epochs):
            if epoch in (self.n_epochs // 2, 3 * self.n_epochs // 4):
                optimizer.param_groups[0]["lr"] /= 10
            for rows in balanced_batches(y, 64, rng):
                index = torch.from_numpy(rows)
                optimizer.zero_grad()
                loss(torch.sigmoid(network(data[index])), target[index], index).backward()
                optimizer.step()
        self.classes_, self.network_ = np.unique(y), network
        return self

    def predict_proba(self, X):
        """Return sigmoids of the scores, which rank; they are not calibrated."""
        import torch

        with torch.no_grad():
            scores = self.network_(torch.tensor(X, dtype=torch.float32)).numpy().ravel()
        positive = expit(scores.astype(np.float64))
        return np.column_stack([1 - positive, positive])


# Other ways to combine the members of a fitted stack: functions of the members' probabilities on
# held-out rows, their labels, and the probabilities on test rows; they return test scores.


def member_probabilities(stack, X):
    """Return the probabilities of a stack's members on its held-out rows, and on those of X."""
    pairs = zip(stack.estimators_, stack.oof_decision_function_.T, strict=True)
    held_out = [share(estimator, log_odds) for estimator, log_odds in pairs]
    test = [estimator.predict_proba(X)[:, 1] for estimator in stack.estimators_]
    return np.column_stack(held_out), np.column_stack(test)


def share(estimator, log_odds):
    """Return the probability that a member's log-odds were made of: a forest's are smoothed."""
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    if not hasattr(last, "estimators_"):
        return expit(log_odds)
    m = len(last.estimators_)
    return ((m + 1) * expit(log_odds) - 0.5) / m


def stacking_classifier(P, y, P_test):
    """Return the probabilities of scikit-learn's StackingClassifier with these members."""
    return LogisticRegression().fit(P, y).predict_proba(P_test)[:, 1]


def soft_voting(P, y, P_test):
    """Return the mean of the probabilities."""
    return P_test.mean(axis=1)


def greedy_selection(P, y, P_test):
    """Return the mean of the members that Caruana's (2004) selection takes, some repeatedly."""
    return P_test @ greedy_weights(P, y)


def greedy_weights(P, y, n_rounds=50):
    """Return the share of each member: the one that helps most is added, with replacement."""
    counts, best, weights = np.zeros(P.shape[1]), -1.0, None
    for _ in range(n_rounds):
        tried = counts + np.eye(P.shape[1])
        precision = [average_precision_score(y, P @ trial) for trial in tried]
        counts = tried[int(np.argmax(precision))]
        if max(precision) > best:
            best, weights = max(precision), counts / counts.sum()
    return weights


HEADS = {
    "StackingClassifier": stacking_classifier,
    "greedy selection": greedy_selection,
    "soft voting": soft_voting,
}
