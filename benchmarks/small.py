"""SMaLLClassifier against its peers: time, test error, size, and the features it chooses.

Run `python -m benchmarks.small`. Everything runs on one thread; seconds are of the processor. Each
row's bar is the number that the project set itself. Peers that are not installed are left out, and
so is fasterrisk, whose newest version, 0.1.10, calls what NumPy 2 has removed: its successor,
FastRiskScoreClassifier of imodels, stands for it.
"""

import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from bisect import bisect_right
from functools import cache, partial
from importlib import import_module
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix, issparse
from scipy.sparse import random as random_sparse
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    RepeatedStratifiedKFold,
    StratifiedKFold,
    train_test_split,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import l1_min_c
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from benchmarks._harness import (
    BUNDLED,
    argument_parser,
    at_most,
    begin,
    format_table,
    load,
    mean_and_error,
    paired_ratio,
    pyplot,
    read_csv,
    write_csv,
)
from pnsklearn import SMaLLClassifier

PACKAGES = (
    "numpy", "scipy", "scikit-learn", "numba", "cvxpy", "clarabel", "imodels", "abess", "skglm",
)  # fmt: skip
SETS = (
    "bankruptcy", "vineyard", "sleuth1714", "rabe266", "elusage", "baskball", "election2000",
    "fri_c0_100_10", "australian_credit", "breast_w", "pima", "ionosphere", "sonar",
    "heart_statlog", "german_credit", "tic_tac_toe", "kr_vs_kp", "vote", "mushroom", "spambase",
    "haberman", "banknote", "monk1", "monk2", "monk3", "titanic3", "breast_cancer", "phoneme",
    "adult",
)  # fmt: skip
L0_SETS = (
    "breast_cancer", "ionosphere", "sonar", "heart_statlog", "australian_credit", "german_credit",
    "vote", "kr_vs_kp", "spambase", "adult",
)  # fmt: skip
SIZE_SETS = (
    "australian_credit", "pima", "ionosphere", "heart_statlog", "german_credit", "kr_vs_kp",
    "spambase", "banknote", "monk2", "titanic3", "breast_cancer", "phoneme",
)  # fmt: skip
MAX_TRAIN, MAX_TUNED = 5_000, 1_500  # training rows
SMALL_SET = 1_000  # sets below this many rows are split three times
OURS = ("SMaLL", "SMaLL 1x9", "SMaLL quantile")
TO_BEAT = ("FIGS", "tree", "L1 logistic", "FastRiskScore")


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
            model = LogisticRegression(C=lowest * 1.05**step, l1_ratio=1, solver="liblinear")
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
        supports = set().union(*_skglm_supports(X, y).values())
        small = [support for support in supports if 0 < len(support) <= self.n_nonzero]
        return varies[list(min(small, key=lambda support: _ridge_objective(X[:, support], y)))]


def _imported(module, name):
    """Return an attribute of a module, None if the module is not installed."""
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name.startswith("pnsklearn"):
            raise
        return None


def _present(models):
    return {label: model for label, model in models.items() if model is not None}


def figs(max_rules):
    """Return FIGS, None if imodels is not installed."""
    model = _imported("imodels", "FIGSClassifier")
    return model and model(max_rules=max_rules, random_state=0)


def risk_score(k):
    """Return FastRiskScore, None if imodels is not installed."""
    model = _imported("imodels", "FastRiskScoreClassifier")
    return model and model(k=k)


def small_tree(max_leaf_nodes):
    """Return a tree of few leaves."""
    return DecisionTreeClassifier(max_leaf_nodes=max_leaf_nodes, random_state=0)


def _best_subset(k):
    return _imported("abess", "LogisticRegression") and BestSubset(k)


# What fitted models are made of, to count it and to compile it.


def _size(model, n_features):
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


def _to_c(model):
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


def _compiled_bytes(source):
    """Return the bytes of code and constants that gcc makes of a function."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.o"
        flags = ["-std=c99", "-Os", "-fno-asynchronous-unwind-tables", "-c", "-x", "c", "-"]
        subprocess.run(["gcc", *flags, "-o", target], input=source, text=True, check=True)
        listing = subprocess.run(["size", target], capture_output=True, text=True, check=True)
    return int(listing.stdout.splitlines()[1].split()[0])


# Timing the relaxation and the fits.


def relaxation(options):
    """The convex relaxation to a relative gap of 1e-4 against cvxpy and Clarabel, and one pass."""
    from pnsklearn._small import _kernels
    from pnsklearn._small._relaxation import Relaxation, solve_fista, solve_saddle

    m, d, p, k = (200, 10, 3, 3) if options.quick else (2_000, 50, 3, 3)

    def problem_of(m, d, lam):
        X, y, rule = _planted(m, d, p, k)
        XT = np.ascontiguousarray(((X - X.mean(axis=0)) / X.std(axis=0)).T)
        sign, weight = np.where(y == 1, 1.0, -1.0), np.full(m, 1 / m)
        return Relaxation(_kernels, XT, sign, weight, rule, p, k, lam, True)

    _reference(problem_of(20, 5, 0.1))  # imports what it needs
    rows = []
    for lam in (0.1,) if options.quick else (0.1, 0.01, 1 / m):
        problem = problem_of(m, d, lam)
        reference = _reference(problem)
        for name, solve in {"fista": solve_fista, "saddle": solve_saddle}.items():
            rows.append(_relaxation_row(name, lam, solve, problem, reference, options))
    return {"relaxation": rows, "pass": _passes(options, _kernels)}


def _planted(m, d, p, k, seed=0, noise=0.3):
    """Return rows that a noisy union of p sparse rules labels, and each row's largest rule."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(m, d))
    W = np.zeros((p, d))
    for w in W:
        w[rng.choice(d, k, replace=False)] = rng.choice([-1.0, 1.0], k) * rng.uniform(1, 2, k)
    z = X @ W.T
    latent = z.max(axis=1) + noise * rng.logistic(size=m)
    return X, (latent > np.median(latent)).astype(int), z.argmax(axis=1)


def _reference(problem):
    """Return (seconds, optimum) of cvxpy, None if it is not installed."""
    if _imported("cvxpy", "Problem") is None:
        return None
    from pnsklearn._small._reference import solve_reference

    start = time.process_time()
    solution = solve_reference(problem)
    return time.process_time() - start, solution.upper


def _relaxation_row(name, lam, solve, problem, reference, options):
    def run():
        start = time.process_time()
        solution = solve(problem, tol=1e-4, max_iter=100_000)
        return time.process_time() - start, solution

    run()  # compile
    runs = [run() for _ in range(options.rounds)]
    low, seconds, high = np.percentile([run[0] for run in runs], (25, 50, 75))
    solution = runs[-1][1]
    row = {
        "solver": name,
        "m x d": "{1} x {0}".format(*problem.XT.shape),
        "lam": lam,
        "passes": solution.n_iter,
        "lower": f"{solution.lower:.9f}",
        "upper": f"{solution.upper:.9f}",
        "relative gap": (solution.upper - solution.lower) / solution.upper,
        "seconds": seconds,
        "spread": f"{low:.3g}-{high:.3g}",
    }
    if reference is None:
        return {**row, "note": "cvxpy is not installed"}
    ratio = reference[0] / seconds
    return {
        **row, "cvxpy": f"{reference[1]:.9f}", "seconds cvxpy": reference[0],
        "times faster": ratio, "bar": 100, "reached": bool(ratio >= 100),
    }  # fmt: skip


def _passes(options, kernels):
    """One value and gradient against the two gemms it contains, on the same layout."""
    rows = []
    for n, d in ((2_000, 20),) if options.quick else ((2_000, 50), (100_000, 50), (20_000, 500)):
        X, y, rule = _planted(n, d, 3, 3)
        rng = np.random.default_rng(0)
        sign, weight = np.where(y == 1, 1.0, -1.0), np.full(n, 1 / n)
        W, b, R = rng.normal(size=(3, d)), np.zeros(3), rng.normal(size=(3, n))
        for dtype in (np.float64, np.float32):
            XT = np.ascontiguousarray(X.T, dtype=dtype)
            timing = paired_ratio(
                partial(kernels.loss_pass, XT, sign, weight, rule, W, b, 0.1),
                partial(_two_gemms, XT, W.astype(dtype), R.astype(dtype)),
                rounds=3 * options.rounds,
            )
            what = f"pass / two gemms, n={n} d={d} p=3, {np.dtype(dtype)}"
            row = {"what": what, **timing, "bar": 1.3}
            rows.append({**row, "reached": bool(timing["ratio"] <= 1.3)})
    return rows


def _two_gemms(XT, W, R):
    return W @ XT, R @ XT.T


FIRST_FIT = """
import time
import numpy as np
from sklearn.datasets import load_breast_cancer
from {module} import {name}
X, y = load_breast_cancer(return_X_y=True)
start = time.process_time()
{name}({arguments}).fit(X, y)
print(time.process_time() - start)
"""


def speed(options):
    """Seconds of fits with defaults, in a warm process and the very first one."""
    wide, long = ("spambase", 2_500, 2.0), ("planted 100000 x 50", 100_000, 60.0)
    sets = [("breast_cancer", 569, 0.5), wide, long]
    if options.quick:
        sets = [("breast_cancer", 300, 0.5), ("planted 1000 x 10", 1_000, 60.0)]
    models = _present({"SMaLL": SMaLLClassifier(random_state=0), "FastRiskScore": risk_score(9)})
    rows = []
    for name, n, bar in sets:
        try:
            X, y = _rows_of(name, n, options)
        except Exception as error:
            rows.append({"what": name, "note": f"cannot be loaded: {error!r}"})
            continue
        for label, model in models.items():
            rounds = 1 if n == 100_000 else options.rounds
            seconds = [_fitted(model, X, y)[1] for _ in range(rounds + 1)][1:]
            low, middle, high = np.percentile(seconds, (25, 50, 75))
            row = {
                "what": f"{label}, {name}, {X.shape[0]} x {X.shape[1]}", "seconds": middle,
                "spread": f"{low:.3g}-{high:.3g}", "fits": rounds,
            }  # fmt: skip
            rows.append({**row, **_bar(label, middle, bar)})
    first = {"SMaLL": ("pnsklearn", "SMaLLClassifier", "")}
    if "FastRiskScore" in models and not options.quick:
        first["FastRiskScore"] = ("imodels", "FastRiskScoreClassifier", "k=9")
    for label, arguments in first.items():
        seconds = _first_fit(*arguments)
        row = {"what": f"{label}, first fit ever, breast_cancer", "seconds": seconds}
        rows.append({**row, "fits": 1, **_bar(label, seconds, 10.0)})
    return {"speed": rows}


def _rows_of(name, n, options):
    if name.startswith("planted"):
        return _planted(n, int(name.split()[-1]), 3, 3)[:2]
    X, y = load(name, options.data_home)
    if n < len(y):
        X, _, y, _ = train_test_split(X, y, train_size=n, stratify=y, random_state=0)
    return X, y


def _bar(label, seconds, bar):
    return {"bar": bar, "reached": bool(seconds <= bar)} if label == "SMaLL" else {}


def _first_fit(module, name, arguments):
    """Return the seconds of a fit in a new process that has nothing compiled."""
    script = FIRST_FIT.format(module=module, name=name, arguments=arguments)
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with tempfile.TemporaryDirectory() as folder:
        settings = {**os.environ, **single, "NUMBA_CACHE_DIR": folder}
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script],
            env=settings, capture_output=True, text=True, check=True,
        )  # fmt: skip
    return float(run.stdout.split()[-1])


def _fitted(model, X, y):
    """Return a fitted copy and the seconds it took."""
    model = clone(model)
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence, and of sets with few rows
        model.fit(X, y)
    return model, time.process_time() - start


# Test error.


def accuracy(options):
    """Test error with 9 non-zeros or about as many numbers, nothing tuned."""
    models = _present(
        {
            "SMaLL": SMaLLClassifier(random_state=0),
            "SMaLL 1x9": SMaLLClassifier(1, 9, random_state=0),
            "SMaLL quantile": SMaLLClassifier(binarize="quantile", random_state=0),
            "FastRiskScore": risk_score(9),
            "FIGS": figs(4),
            "tree": small_tree(5),
            "L1 logistic": SparseLogistic(9),
            "abess": _best_subset(9),
            "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
            "forest": RandomForestClassifier(random_state=0),
        }
    )
    return _compared("accuracy", lambda n_rows: models, MAX_TRAIN, options, n_repeats=3)


def tuned(options):
    """Test error with at most 9 non-zeros, each model's own settings tuned by cross-validation."""
    Cs = (1.0,) if options.quick else (0.1, 1.0, 10.0)
    shapes = ((1, 9), (2, 4), (3, 3))
    grid = [{"n_prototypes": [p], "n_nonzero": [k], "C": Cs} for p, k in shapes]
    searched = {
        "SMaLL": (SMaLLClassifier(random_state=0), grid),
        "FastRiskScore": (
            risk_score(9),
            {"k": (3, 5, 7, 9), "max_points": (5, 10)},
        ),
        "FIGS": (figs(4), {"max_rules": (1, 2, 3, 4, 5), "max_trees": (1, None)}),
        "tree": (
            small_tree(5),
            {"max_leaf_nodes": (2, 3, 4, 5, 6), "criterion": ("gini", "entropy")},
        ),
        "L1 logistic": (SparseLogistic(), {"n_nonzero": (3, 6, 9), "C": Cs}),
        "abess": (_best_subset(9), {"n_nonzero": (3, 6, 9), "alpha": (0.0, 0.5, 5.0)}),
    }

    def models(n_rows):
        n_folds = 2 if options.quick else 3 if n_rows > SMALL_SET else 5
        inner = StratifiedKFold(n_folds, shuffle=True, random_state=1)
        return {
            label: GridSearchCV(model, grid, cv=inner, error_score="raise")
            for label, (model, grid) in searched.items()
            if model is not None
        }

    return _compared("tuned", models, MAX_TUNED, options, n_repeats=1)


def _compared(name, models, max_train, options, n_repeats):
    """Cross-validate models on all sets: tables of sets, of models and of pairs.

    The folds are kept in ``NAME_folds.csv`` as the sets complete, and read from there when the
    benchmark is started again; delete the file to start from nothing.
    """
    path = options.path(f"{name}_folds.csv")
    folds = [] if options.quick else read_csv(path)
    failed = []
    sets = _sets(options, SETS)
    for which in sets:
        if any(fold["set"] == which for fold in folds):
            continue
        try:
            X, y = load(which, options.data_home)
        except Exception as error:
            failed.append({"set": which, "note": f"cannot be loaded: {error!r}"})
            continue
        for train, test in splits(X, y, max_train, options, n_repeats):
            for label, model in models(len(train)).items():
                row = {"set": which, "n": len(y), "d": X.shape[1], "model": label}
                folds.append({**row, **on_fold(model, X, y, train, test)})
        write_csv(path, folds, options.header)
    folds = [fold for fold in folds if fold["set"] in sets]
    _plot_errors(folds, options.path(f"{name}.png"))
    print(
        f"at most {_most(max_train, options)} training rows; {options.n_folds} folds, "
        f"{n_repeats} times below {SMALL_SET} rows; standard errors are over the sets"
    )
    return {
        f"{name}_sets": [*_set_rows(folds), *failed],
        f"{name}_pairs": _pair_rows(folds),
        name: _model_rows(folds),
    }


def _sets(options, names):
    return BUNDLED if options.quick else names


def _most(n_rows, options):
    return 200 if options.quick else n_rows


def splits(X, y, max_train, options, n_repeats):
    """Yield the rows for training and for the test, fold by fold."""
    max_train = _most(max_train, options)
    n_repeats = 1 if options.quick or len(y) >= SMALL_SET else n_repeats
    splitter = RepeatedStratifiedKFold(
        n_splits=options.n_folds, n_repeats=n_repeats, random_state=0
    )
    for train, test in splitter.split(X, y):
        yield at_most(max_train, train, y), test


def on_fold(model, X, y, train, test):
    """Return test error, seconds of the fit and size of a model."""
    model, seconds = _fitted(model, X[train], y[train])
    error = np.mean(np.asarray(model.predict(X[test])).ravel() != y[test])
    settings = getattr(model, "best_params_", {})
    n_read, n_numbers, n_bytes = _size(getattr(model, "best_estimator_", model), X.shape[1])
    return {
        "error": error, "seconds": seconds, "non-zeros": n_read, "numbers": n_numbers,
        "bytes": n_bytes, "settings": " ".join(f"{key}={value}" for key, value in settings.items()),
    }  # fmt: skip


def _by_set(folds, key):
    """Return {model: {set: mean}} of one column."""
    values = {}
    for fold in folds:
        of_model = values.setdefault(fold["model"], {})
        of_model.setdefault(fold["set"], []).append(float(fold[key]))
    return {
        model: {name: np.mean(of_set) for name, of_set in of_model.items()}
        for model, of_model in values.items()
    }


def _set_rows(folds):
    errors = _by_set(folds, "error")
    shapes = {fold["set"]: (int(fold["n"]), int(fold["d"])) for fold in folds}
    return [
        {
            "set": name, "n": n, "d": d,
            **{model: 100 * of_set[name] for model, of_set in errors.items()},
        }
        for name, (n, d) in shapes.items()
    ]  # fmt: skip


def _model_rows(folds):
    errors, seconds, n_read, n_numbers, n_bytes = (
        _by_set(folds, key) for key in ("error", "seconds", "non-zeros", "numbers", "bytes")
    )
    rows = []
    for model, of_set in errors.items():
        mean, se = mean_and_error(100 * np.array(list(of_set.values())))
        low, middle, high = np.percentile(list(seconds[model].values()), (25, 50, 75))
        rows.append(
            {
                "model": model, "sets": len(of_set), "error %": mean, "se": se,
                "non-zeros": np.mean(list(n_read[model].values())),
                "numbers": np.mean(list(n_numbers[model].values())),
                "bytes": np.mean(list(n_bytes[model].values())),
                "seconds": middle, "spread": f"{low:.2g}-{high:.2g}",
            }
        )  # fmt: skip
    return rows


def _pair_rows(folds):
    """Return the differences of error, ours minus each peer's, set by set."""
    errors = _by_set(folds, "error")
    rows = []
    for ours in OURS:
        for peer in errors:
            if ours not in errors or peer == ours:
                continue
            pairs = [(errors[ours][name], errors[peer][name]) for name in errors[peer]]
            difference = 100 * np.subtract(*np.transpose(pairs))
            mean, se = mean_and_error(difference)
            row = {
                "ours": ours, "peer": peer, "sets": len(difference), "difference": mean, "se": se,
                "median": np.median(difference),
                "lower": np.count_nonzero(difference < 0),
                "equal": np.count_nonzero(difference == 0),
                "higher": np.count_nonzero(difference > 0),
            }  # fmt: skip
            if peer in TO_BEAT:
                row["reached"] = bool(mean <= 0 if peer == "FastRiskScore" else mean < 0)
            rows.append(row)
    return rows


def _plot_errors(folds, path):
    plt = pyplot()
    if plt is None:
        return
    errors = _by_set(folds, "error")
    ours = errors.pop(OURS[0])
    names = sorted(ours, key=lambda name: ours[name])
    figure, axes = plt.subplots(figsize=(7, 1 + 0.25 * len(names)), layout="constrained")
    for model, of_set in errors.items():
        if model in TO_BEAT or model == "SMaLL quantile":
            axes.plot([100 * of_set[name] for name in names], names, "o", alpha=0.6, label=model)
    axes.plot([100 * ours[name] for name in names], names, "k|", markersize=12, label=OURS[0])
    axes.set_xlabel("test error, %")
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


# One rule: how good is its support?


def l0(options):
    """One rule of k features against abess and skglm: the training objective on their supports."""
    sizes = (2, 4) if options.quick else range(1, 11)
    cases = []
    for name in _sets(options, L0_SETS):
        try:
            X, y = load(name, options.data_home)
        except Exception as error:
            print(f"{name} cannot be loaded: {error!r}")
            continue
        n_rows = _most(MAX_TRAIN, options)
        if len(y) > n_rows:
            X, _, y, _ = train_test_split(X, y, train_size=n_rows, stratify=y, random_state=0)
        X = X[:, X.std(axis=0) > 0]
        cases += _l0_cases(name, (X - X.mean(axis=0)) / X.std(axis=0), y, sizes)
    rows = []
    for peer in ("abess", "skglm MCP", "skglm L0.5", "best of them"):
        ratios = np.array([case[peer] / case["ours"] for case in cases if peer in case])
        if len(ratios) == 0:
            continue
        share = np.mean(ratios >= 1 / 1.001)
        rows.append(
            {
                "peer": peer, "cases": len(ratios), "within 0.1 % or better": share,
                "better by 0.1 %": np.mean(ratios > 1.001), "worse by 0.1 %": 1 - share,
                "median peer / ours": np.median(ratios), "our worst": ratios.min(),
                "our best": ratios.max(), "bar": 0.9, "reached": bool(share >= 0.9),
            }
        )  # fmt: skip
    gaps = [case["gap"] for case in cases]
    print("relative gap of our certificates: quartiles {:.2g}, {:.2g}, {:.2g}".format(
        *np.percentile(gaps, (25, 50, 75))
    ))  # fmt: skip
    return {"l0_cases": cases, "l0": rows or [{"peer": "none", "note": "none is installed"}]}


def _l0_cases(name, X, y, sizes):
    """Return F at each k, of our support and of the peers', all fitted again by the same method.

    abess runs without a penalty and with ours; the supports of skglm's penalties are all those of
    k features or fewer on a path.
    """
    supports = {} if _imported("skglm", "datafits") is None else _skglm_supports(X, y)

    @cache
    def objective(support):
        return _ridge_objective(X[:, support], y)

    rows = []
    for k in sizes:
        model = SMaLLClassifier(1, k, certify=True, standardize=False, random_state=0)
        model, seconds = _fitted(model, X, y)
        row = {
            "set": name, "k": k, "ours": objective(_support(model.coef_)),
            "objective_": model.objective_, "gap": model.gap_, "seconds": seconds,
        }  # fmt: skip
        if _best_subset(k) is not None:
            fits = [_fitted(BestSubset(k, alpha), X, y) for alpha in (0.0, 0.5)]
            row["abess"] = min(objective(_support(fit.coef_)) for fit, _ in fits)
            row["seconds abess"] = sum(seconds for _, seconds in fits)
        for penalty, found in supports.items():
            row[penalty] = min(objective(support) for support in found if len(support) <= k)
        peers = [row[peer] for peer in ("abess", "skglm MCP", "skglm L0.5") if peer in row]
        if peers:
            row["best of them"] = min(peers)
        rows.append(row)
    return rows


def _support(coef):
    return tuple(np.flatnonzero(np.ravel(coef)).tolist())


def _ridge_objective(X, y):
    """Return the smallest mean of log(1 + exp(-y f)) plus ||w||^2 / (2 n), f = X w + b."""
    sign = np.where(y == 1, 1.0, -1.0)
    X = np.hstack([X, np.ones((len(y), 1))])
    ridge = np.append(np.ones(X.shape[1] - 1), 0.0) / len(y)

    def value(w):
        margin = sign * (X @ w)
        slope = -sign * expit(-margin) / len(y)
        loss = np.logaddexp(0.0, -margin).mean() + ridge @ w**2 / 2
        return loss, X.T @ slope + ridge * w

    start = np.zeros(X.shape[1])
    return minimize(value, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-14}).fun


def _skglm_supports(X, y):
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
            found.add(_support(model.fit(X, sign).coef_))
        return found

    down = np.logspace(0, -2.5, 60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mcp = [path(partial(MCPenalty, gamma=gamma), down) for gamma in (3.0, 8.0)]
        return {"skglm MCP": set().union(*mcp), "skglm L0.5": path(L0_5, down[::-1], dense)}


# Size and sparse text.


def size(options):
    """Test error against the bytes that gcc makes of the models, over several sizes of each."""
    if shutil.which("gcc") is None or shutil.which("size") is None:
        return {"size": [{"what": "size", "note": "gcc and size are not installed"}]}
    shapes = ((1, 3), (3, 3)) if options.quick else (
        (1, 1), (1, 2), (1, 4), (1, 9), (2, 2), (2, 4), (3, 2), (3, 3), (4, 4), (5, 6)
    )  # fmt: skip
    counts = (1, 4) if options.quick else (1, 2, 3, 4, 6, 9, 14, 20)
    families = {
        "SMaLL": {f"{p}x{k}": SMaLLClassifier(p, k, random_state=0) for p, k in shapes},
        "SMaLL quantile": {
            f"{p}x{k}": SMaLLClassifier(p, k, binarize="quantile", random_state=0)
            for p, k in shapes
        },
        "FastRiskScore": {k: risk_score(k) for k in counts},
        "FIGS": {k: figs(k) for k in counts},
        "tree": {k: small_tree(k + 1) for k in counts},
        "L1 logistic": {k: SparseLogistic(k) for k in counts},
    }
    found = {}
    sets = _sets(options, SIZE_SETS)
    for name in sets:
        try:
            X, y = load(name, options.data_home)
        except Exception as error:
            print(f"{name} cannot be loaded: {error!r}")
            continue
        for train, test in splits(X, y, MAX_TUNED, options, n_repeats=1):
            for family, models in families.items():
                for setting, model in _present(models).items():
                    fitted, _ = _fitted(model, X[train], y[train])
                    error = np.mean(np.asarray(fitted.predict(X[test])).ravel() != y[test])
                    case = (error, _compiled_bytes(_to_c(fitted)))
                    found.setdefault((family, setting), {}).setdefault(name, []).append(case)
    rows = []
    for (family, setting), of_set in found.items():
        error, n_bytes = np.mean([np.mean(cases, axis=0) for cases in of_set.values()], axis=0)
        row = {"model": family, "setting": setting, "sets": len(of_set)}
        rows.append({**row, "error %": 100 * error, "bytes": n_bytes})
    _plot_sizes(rows, options.path("size.png"))
    return {"size": rows}


def _plot_sizes(rows, path):
    plt = pyplot()
    if plt is None:
        return
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for model in dict.fromkeys(row["model"] for row in rows):
        line = sorted((row["bytes"], row["error %"]) for row in rows if row["model"] == model)
        axes.plot(*np.transpose(line), "o-" if model not in OURS else "o", label=model)
    axes.set_xscale("log")
    axes.set_xlabel("bytes of compiled code and constants")
    axes.set_ylabel("mean test error, %")
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def sparse(options):
    """Test error and seconds on sparse X, against L1 logistic regression of as many features."""
    n, d = (200, 500) if options.quick else (5_000, 100_000)
    sets = {f"planted {n} x {d}": lambda: _planted_sparse(n, d)}
    if not options.quick:
        sets["sms_spam"] = lambda: load("sms_spam", options.data_home)
    models = {
        "SMaLL 3x3": SMaLLClassifier(random_state=0),
        "SMaLL 3x9": SMaLLClassifier(3, 9, random_state=0),
        "L1 logistic 9": SparseLogistic(9),
        "L1 logistic 27": SparseLogistic(27),
    }
    rows = []
    for name, read in sets.items():
        try:
            X, y = read()
        except Exception as error:
            rows.append({"set": name, "note": f"cannot be loaded: {error!r}"})
            continue
        folds = [
            {"set": name, "model": label, **on_fold(model, X, y, train, test)}
            for train, test in splits(X, y, MAX_TRAIN, options, n_repeats=1)
            for label, model in models.items()
        ]
        for label in models:
            of_model = [fold for fold in folds if fold["model"] == label]
            error, se = mean_and_error(100 * np.array([fold["error"] for fold in of_model]))
            low, middle, high = np.percentile([f["seconds"] for f in of_model], (25, 50, 75))
            rows.append(
                {
                    "set": name, "model": label, "error %": error, "se over folds": se,
                    "none right %": 100 * min(y.mean(), 1 - y.mean()),
                    "non-zeros": np.mean([fold["non-zeros"] for fold in of_model]),
                    "seconds": middle, "spread": f"{low:.3g}-{high:.3g}",
                }
            )  # fmt: skip
    return {"sparse": rows}


def _planted_sparse(n, d):
    """Return counts of words: any of three pairs of frequent words makes a row positive."""
    rng = np.random.default_rng(0)
    X = (random_sparse(n, d, 30 / d, rng=rng) > 0).astype(np.float64).tolil()
    words = rng.choice(d, 6, replace=False)
    present = rng.random((n, 6)) < 0.5
    X[:, words] = present
    latent = (present[:, ::2] & present[:, 1::2]).any(axis=1)
    flipped = rng.random(n) < 0.05
    return csr_matrix(X), (latent ^ flipped).astype(int)


SECTIONS = {
    section.__name__: section for section in (relaxation, speed, accuracy, tuned, l0, size, sparse)
}


def main():
    """Run the chosen sections, print their tables and write their CSV files and figures."""
    parser = argument_parser("python -m benchmarks.small", __doc__)
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="NAME"
    )
    options = parser.parse_args()
    begin(options, PACKAGES, "small_")
    options.rounds = 1 if options.quick else 7
    options.n_folds = 2 if options.quick else 5
    print(options.header)
    for name in options.only:
        print(f"\n{name}: {SECTIONS[name].__doc__.splitlines()[0]}", flush=True)
        with threadpool_limits(1):
            tables = SECTIONS[name](options)
        for table, rows in tables.items():
            print(f"\n{format_table(rows)}", flush=True)
            write_csv(options.path(f"{table}.csv"), rows, options.header)


if __name__ == "__main__":
    main()
