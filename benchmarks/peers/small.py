"""The peers of SMaLLClassifier, and what models are made of: numbers, bytes, a function in C."""

import math
import subprocess
import tempfile
import warnings
from bisect import bisect_right
from functools import cache, partial
from pathlib import Path

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import l1_min_c
from sklearn.tree import DecisionTreeClassifier

from benchmarks._engine import is_installed
from pnsklearn import SMaLLClassifier


class SparseLogistic(ClassifierMixin, BaseEstimator):
    """Logistic regression on the features that the L1 penalty selects, at most `n_nonzero`.

    The largest C of a path whose fit has no more features chooses them (found by bisection, as if
    their number grew with C); they are then fitted again with a ridge penalty of strength `C`.
    """

    def __init__(self, n_nonzero=9, C=1.0):
        self.n_nonzero = n_nonzero
        self.C = C

    def fit(self, X, y):
        """Fit the coefficients, in the original units."""
        scaler = StandardScaler(with_mean=not issparse(X)).fit(X)
        X = scaler.transform(X)
        self.classes_ = np.unique(y)
        self.coef_ = np.zeros((1, X.shape[1]))
        self.intercept_ = np.zeros(1)
        features = self._features(X, y)
        refit = LogisticRegression(C=self.C, max_iter=1000).fit(X[:, features], y)
        self.coef_[0, features] = refit.coef_[0] / scaler.scale_[features]
        self.intercept_ = refit.intercept_.copy()
        if scaler.with_mean:
            self.intercept_ -= self.coef_ @ scaler.mean_
        return self

    def _features(self, X, y):
        if X.shape[1] <= self.n_nonzero:
            return np.arange(X.shape[1])
        lowest = l1_min_c(X, y, loss="log")

        @cache
        def features(step):
            model = LogisticRegression(
                C=lowest * 1.05**step, l1_ratio=1, solver="liblinear", random_state=0
            )
            return np.flatnonzero(model.fit(X, y).coef_)

        steps = range(1, 256)
        above = bisect_right(steps, self.n_nonzero, key=lambda step: len(features(step)))
        if above and len(features(above)) > 0:
            return features(above)
        return np.argmax(np.abs(X.T @ (y - y.mean())), keepdims=True)  # two came at once

    def predict(self, X):
        """Predict the labels."""
        return self.classes_[(X @ self.coef_[0] + self.intercept_[0] > 0).astype(int)]


class BestSubset(ClassifierMixin, BaseEstimator):
    """abess's logistic regression with `n_nonzero` features."""

    def __init__(self, n_nonzero=9, alpha=0.0):
        self.n_nonzero = n_nonzero
        self.alpha = alpha

    def fit(self, X, y):
        """Fit the coefficients, in the original units."""
        from abess import LogisticRegression as Abess

        scaler = StandardScaler().fit(X)
        varies = np.flatnonzero(scaler.var_ > 0)  # it refuses constant features
        model = Abess(support_size=min(self.n_nonzero, len(varies)), alpha=self.alpha)
        model.fit(scaler.transform(X)[:, varies], y)
        self.classes_ = np.unique(y)
        self.coef_ = np.zeros((1, X.shape[1]))
        self.coef_[0, varies] = model.coef_ / scaler.scale_[varies]
        self.intercept_ = model.intercept_ - self.coef_ @ scaler.mean_
        return self

    predict = SparseLogistic.predict


class BestOfPaths(SparseLogistic):
    """The same on the best support of at most `n_nonzero` features on the paths of skglm."""

    def _features(self, X, y):
        varies = np.flatnonzero(X.std(axis=0) > 0)
        X = X[:, varies]
        supports = set().union(*skglm_supports(X, y).values())
        small = [support for support in supports if 0 < len(support) <= self.n_nonzero]
        return varies[list(min(small, key=lambda support: ridge_objective(X[:, support], y)))]


def figs(max_rules):
    """Return FIGS of imodels."""
    from imodels import FIGSClassifier

    return FIGSClassifier(max_rules=max_rules, random_state=0)


def risk_score(k):
    """Return FastRiskScore of imodels."""
    from imodels import FastRiskScoreClassifier

    return FastRiskScoreClassifier(k=k)


def small_tree(max_leaf_nodes):
    """Return a tree of few leaves."""
    return DecisionTreeClassifier(max_leaf_nodes=max_leaf_nodes, random_state=0)


MODELS = {
    "SMaLL": lambda: SMaLLClassifier(random_state=0),
    "SMaLL 1x9": lambda: SMaLLClassifier(1, 9, random_state=0),
    "SMaLL 2x4": lambda: SMaLLClassifier(2, 4, random_state=0),
    "SMaLL 3x3": lambda: SMaLLClassifier(3, 3, random_state=0),
    "FastRiskScore": lambda: risk_score(9), "FIGS": lambda: figs(4), "tree": lambda: small_tree(5),
    "L1 logistic": lambda: SparseLogistic(9), "abess": lambda: BestSubset(9),
    "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    "forest": lambda: RandomForestClassifier(random_state=0),
}  # fmt: skip
NEEDS = {"abess": "abess", "FastRiskScore": "imodels", "FIGS": "imodels"}


def installed(labels):
    """Return those of the models whose package is installed, and name the packages that are not."""
    missing = {package for package in set(NEEDS.values()) if not is_installed(package)}
    return [label for label in labels if NEEDS.get(label.split()[0]) not in missing]


def support_of(coef):
    return tuple(np.flatnonzero(np.ravel(coef)).tolist())


def ridge_objective(X, y):
    """Return the smallest mean of log(1 + exp(-y f)) plus ||w||^2 / (2 n), f = X w + b."""
    sign, coef = np.where(y == 1, 1, -1), np.zeros(1)
    score = np.log(y.mean() / (1 - y.mean()))  # without features
    if X.shape[1]:
        model = LogisticRegression(tol=1e-8, max_iter=10_000).fit(X, y)
        score, coef = model.decision_function(X), model.coef_
    return np.logaddexp(0, -sign * score).mean() + np.sum(coef**2) / (2 * len(y))


def skglm_supports(X, y):
    """Return all supports on paths of the two concave penalties.

    MCP goes from no feature to many, at two of its shapes; zero is a stationary point of L0.5 at
    any strength, so that it goes from the dense fit to none.
    """
    from skglm import GeneralizedLinearEstimator
    from skglm.datafits import Logistic
    from skglm.penalties import L0_5, MCPenalty
    from skglm.solvers import AndersonCD

    sign = np.where(y == 1, 1.0, -1.0)
    largest = np.abs(X.T @ (sign - sign.mean())).max() / (2 * len(y))
    X = np.asfortranarray(X)
    dense = LogisticRegression().fit(X, sign)

    def path(penalty, alphas, start=None):
        solver = AndersonCD(max_iter=50, max_epochs=500, tol=1e-4, warm_start=True)
        model = GeneralizedLinearEstimator(Logistic(), penalty(1.0), solver)
        if start is not None:
            model.coef_, model.intercept_ = start.coef_, start.intercept_
        found = {()}
        for alpha in largest * alphas:
            model.penalty = penalty(alpha)
            found.add(support_of(model.fit(X, sign).coef_))
        return found

    down = np.logspace(0, -2.5, 60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mcp = [path(partial(MCPenalty, gamma=gamma), down) for gamma in (3.0, 8.0)]
        return {"skglm MCP": set().union(*mcp), "skglm L0.5": path(L0_5, down[::-1], dense)}


def size_of(model, n_features):
    """Return how many features are read, numbers kept, and bytes these take.

    A number takes 4 bytes, a risk score's points and a tree's label 1, the index of a feature 1, or
    more where there are many; the order in which they stand nothing.
    """
    if isinstance(model, SMaLLClassifier):
        n_read = np.count_nonzero(model.coef_)
        n_thresholds = 0 if model.binarize is None else n_read
        return n_read, n_read + n_thresholds + len(model.intercept_), model.n_bytes_
    if hasattr(model, "steps"):
        model = model[-1]
    index = 1 if n_features <= 256 else 2 if n_features <= 65536 else 4
    if hasattr(model, "coef_") and hasattr(model, "intercept_") and np.ndim(model.coef_) == 2:
        n_read = np.count_nonzero(model.coef_)
        return n_read, n_read + 1, n_read * (4 + index) + 4
    if hasattr(model, "estimators_"):
        n_read = sum(np.count_nonzero(tree.tree_.feature >= 0) for tree in model.estimators_)
        n_leaves = n_read + len(model.estimators_)
        return n_read, n_read + n_leaves, n_read * (4 + index) + 4 * n_leaves
    trees, _ = _trees(model)
    n_read = sum(map(_count_splits, trees))
    if hasattr(model, "points_"):
        return n_read, 2 * n_read + 1, n_read * (5 + index) + 4
    n_leaves = n_read + len(trees)
    leaf = 1 if len(trees) == 1 else 4
    return n_read, n_read + n_leaves, n_read * (4 + index) + n_leaves * leaf


def _trees(model):
    """Return trees (feature, threshold, left, right) or leaves, and a cut: 1 where sum > cut."""
    if isinstance(model, DecisionTreeClassifier):
        return [_sklearn_tree(model.tree_, 0)], 0
    if hasattr(model, "trees_"):
        return [_figs_tree(tree) for tree in model.trees_], 0
    stumps = []
    for points, (feature, kind, value, _) in zip(
        model.coef_.tolist(), model.binarizer_.rules_, strict=True
    ):
        if points and kind == "le":
            stumps.append((feature, float(value), points, 0))
        elif points:  # the larger of two values
            stumps.append((feature, float(np.nextafter(value, -np.inf)), 0, points))
    if not stumps:
        return [], -math.copysign(1, model.intercept_)
    return stumps, math.floor(-model.intercept_ / model.scale_)


def _sklearn_tree(tree, node):
    if tree.children_left[node] < 0:
        return 1 if tree.value[node, 0, -1] > 0.5 else -1
    below = (_sklearn_tree(tree, side[node]) for side in (tree.children_left, tree.children_right))
    return int(tree.feature[node]), float(tree.threshold[node]), *below


def _figs_tree(node):
    if node.left is None:
        return float(node.value[1] - node.value[0])
    return int(node.feature), float(node.threshold), _figs_tree(node.left), _figs_tree(node.right)


def _count_splits(tree):
    return 1 + sum(map(_count_splits, tree[2:])) if isinstance(tree, tuple) else 0


def to_c(model):
    """Return a C function that predicts 1 or 0 from an array of doubles."""
    if isinstance(model, SMaLLClassifier):
        return model.export_c()
    head = "int predict(const double *x)\n{\n"
    if isinstance(model, SparseLogistic):
        terms = [f"{model.coef_[0, i]:+.17g} * x[{i}]" for i in np.flatnonzero(model.coef_[0])]
        return head + f"    return {model.intercept_[0]:.17g} {' '.join(terms)} > 0;\n}}\n"
    trees, cut = _trees(model)
    if len(trees) == 1:
        return head + _branches(trees[0], lambda leaf: f"return {int(leaf > cut)};") + "\n}\n"
    kind = "int" if all(isinstance(leaf, int) for tree in trees for leaf in tree[2:]) else "double"
    sums = "\n".join(
        _branches(tree, lambda leaf: f"sum += {leaf!r};" if leaf else ";") for tree in trees
    )
    return head + f"    {kind} sum = 0;\n{sums}\n    return sum > {cut};\n}}\n"


def _branches(tree, leaf):
    if not isinstance(tree, tuple):
        return leaf(tree)
    feature, threshold, left, right = tree
    then, otherwise = _branches(left, leaf), _branches(right, leaf)
    return f"if (x[{feature}] <= {threshold!r}) {{ {then} }} else {{ {otherwise} }}"


def compiled_bytes(source):
    """Return the bytes of code and constants that gcc makes of a function."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.o"
        flags = ["-std=c99", "-Os", "-fno-asynchronous-unwind-tables", "-c", "-x", "c", "-"]
        subprocess.run(["gcc", *flags, "-o", target], input=source, text=True, check=True)
        listing = subprocess.run(["size", target], capture_output=True, text=True, check=True)
    return int(listing.stdout.splitlines()[1].split()[0])
