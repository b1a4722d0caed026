"""The whole suite: each estimator against scikit-learn's own and its named peers, in one report.

Run `python -m benchmarks`. It is the bounded, uniform view; `python -m benchmarks.auprc` and its
siblings have the claims one by one. Each run is a row of ``suite_runs.csv`` as it ends, and a
second start goes on from there, failed runs again; delete the file to start from nothing. Then
``report.md`` and ``report.html`` are written beside it. Without --data-home the sets are those of
scikit-learn. Everything runs on one thread; seconds are of the processor.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import import_module

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from benchmarks import topr_models
from benchmarks._harness import (
    BUNDLED,
    append_csv,
    argument_parser,
    at_most,
    begin,
    load,
    read_runs,
    stored,
)
from benchmarks._report import write_report
from benchmarks.auprc import TEST_SHARE, LibAUC, lightgbm, probabilities, tuned_logistic
from benchmarks.pu_models import MAX_ROWS, MODELS, make_task
from benchmarks.pu_trend import SWEPT, outputs, prepared
from benchmarks.small import (
    BestOfPaths,
    BestSubset,
    SparseLogistic,
    figs,
    on_fold,
    risk_score,
    small_tree,
    splits,
)
from benchmarks.topr_models import (
    LOGGING,
    PEERS,
    direct_classified,
    make_case,
    topr,
    vowpal_wabbit,
)
from pnsklearn import AUPRCClassifier, SMaLLClassifier

PACKAGES = (
    "numpy", "scipy", "scikit-learn", "numba", "torch", "abess", "imodels", "libauc", "lightgbm",
    "pulearn", "skglm", "vowpalwabbit",
)  # fmt: skip
COLUMNS = ("method", "set", "split", "model", "score", "extra", "seconds", "failed")
TEXT = ("method", "set", "model", "failed")
MAX_TRAIN = 4_000  # training rows
QUICK_ROWS = 200


@dataclass(frozen=True)
class Study:
    """One estimator and its peers.

    `task` makes what the models are given, of a set's name, a split's number and the options. A
    model takes it and returns score, extra and the seconds of its fit; the first model is ours.
    """

    title: str
    score: str  # what it is; more is better
    extra: str
    about: str
    sets: tuple[str, ...]
    bundled: tuple[str, ...]  # those of them that scikit-learn brings
    n_splits: int
    task: Callable
    models: dict[str, Callable]
    baselines: tuple[str, ...]  # scikit-learn's own
    landmarks: tuple[str, ...] = ()  # shown, not compared: they are told what nobody else is
    slow: tuple[str, ...] = ()  # left out of --quick

    def sets_of(self, options):
        """Return the sets that are at hand."""
        if options.quick:
            return self.bundled
        home = options.data_home
        return [name for name in self.sets if name in self.bundled or stored(name, home)]

    def splits_of(self, options):
        """Return the numbers of the splits."""
        return range(2 if options.quick else self.n_splits)

    def models_of(self, options):
        """Return the names of the models, ours first."""
        return [name for name in self.models if not (options.quick and name in self.slow)]


@dataclass(frozen=True)
class Split:
    """Rows for training and for the test."""

    X: np.ndarray
    y: np.ndarray
    train: np.ndarray
    test: np.ndarray
    seed: int
    quick: bool


def _of(package, make):
    """Return a maker that first imports a package, so that a missing one is named."""

    def made(split):
        import_module(package)
        return make(split)

    return made


# AUPRCClassifier.


def _shuffled(name, split, options):
    X, y = load(name, options.data_home)
    splitter = StratifiedShuffleSplit(split + 1, test_size=TEST_SHARE, random_state=0)
    train, test = list(splitter.split(y, y))[split]
    train = at_most(QUICK_ROWS if options.quick else MAX_TRAIN, train, y)
    return Split(X, y, train, test, split, options.quick)


def _ranked(make, split):
    probability, seconds = probabilities(make(split), split.X, split.y, split.train, split.test)
    y = split.y[split.test]
    return average_precision_score(y, probability), roc_auc_score(y, probability), seconds


def _libauc(split):
    return LibAUC(n_epochs=2 if split.quick else 60, random_state=split.seed)


def _n_folds(split):
    return 2 if split.quick else 5


RANKING = {
    "AUPRC": lambda split: AUPRCClassifier(cv=_n_folds(split), random_state=split.seed),
    "logistic": lambda split: LogisticRegression(max_iter=1000),
    "logistic, tuned": lambda split: tuned_logistic(_n_folds(split)),
    "forest": lambda split: RandomForestClassifier(random_state=split.seed),
    "boosting": lambda split: HistGradientBoostingClassifier(random_state=split.seed),
    "LightGBM": _of("lightgbm", lambda split: lightgbm()),
    "LibAUC": _of("libauc", _libauc),
}
AUPRC = Study(
    title="AUPRCClassifier",
    score="average precision",
    extra="ROC AUC",
    about=f"""
    Stratified splits with {100 * TEST_SHARE:.0f} % of the rows for the test, at most {MAX_TRAIN:,}
    for training, standardised features. The tuned logistic regression has the penalty with the best
    average precision in an inner cross-validation, as ours has; the forest, scikit-learn's gradient
    boosting and LightGBM have their defaults and are not linear. LibAUC's APLoss with its SOAP
    optimiser fits the same linear model from the same start as ours, in 60 epochs, its learning
    rate chosen out of two on a quarter of the training rows.""",
    sets=(
        "mammography", "oil_spill", "phoneme", "wine_red_ge7", "page_blocks_not1", "sick",
        "creditcard_fraud", "satimage_4", *BUNDLED,
    ),
    bundled=BUNDLED,
    n_splits=5,
    task=_shuffled,
    models={label: partial(_ranked, make) for label, make in RANKING.items()},
    baselines=("logistic", "logistic, tuned", "forest", "boosting"),
)  # fmt: skip


# SMaLLClassifier.


def _fold(name, split, options):
    X, y = load(name, options.data_home)
    folds = splits(X, y, MAX_TRAIN, options, n_repeats=1)
    train, test = list(folds)[split]
    return Split(X, y, train, test, split, options.quick)


def _read(make, split):
    outcome = on_fold(make(split), split.X, split.y, split.train, split.test)
    return 1 - outcome["error"], outcome["numbers"], outcome["seconds"]


SMALL_MODELS = {
    "SMaLL": lambda split: SMaLLClassifier(random_state=split.seed),
    "L1 logistic": lambda split: SparseLogistic(9),
    "tree": lambda split: small_tree(5),
    "dense logistic": lambda split: make_pipeline(
        StandardScaler(), LogisticRegression(max_iter=1000)
    ),
    "forest": lambda split: RandomForestClassifier(random_state=split.seed),
    "abess": _of("abess", lambda split: BestSubset(9)),
    "skglm": _of("skglm", lambda split: BestOfPaths(9)),
    "FIGS": _of("imodels", lambda split: figs(4)),
    "FastRiskScore": _of("imodels", lambda split: risk_score(9)),
}
SMALL = Study(
    title="SMaLLClassifier",
    score="accuracy",
    extra="numbers in the model",
    about=f"""
    Stratified folds, at most {MAX_TRAIN:,} rows for training, nothing tuned. Ours has three rules
    of three features. The small peers have nine features or about as many numbers: logistic
    regression on the features that an L1 penalty selects, a tree of five leaves, abess's best
    subset, the best support on skglm's paths of its MCP and L0.5 penalties (found in 180 fits, all
    in its seconds), FIGS of four splits and FastRiskScore of nine stumps, both of imodels. The
    dense logistic regression and the forest are not small: they show what the size costs.
    fasterrisk, which pins NumPy below 2, cannot run beside the others; FastRiskScore is its
    successor.""",
    sets=(
        "australian_credit", "pima", "ionosphere", "heart_statlog", "german_credit", "tic_tac_toe",
        "spambase", "phoneme", *BUNDLED,
    ),
    bundled=BUNDLED,
    n_splits=5,
    task=_fold,
    models={label: partial(_read, make) for label, make in SMALL_MODELS.items()},
    baselines=("L1 logistic", "tree", "dense logistic", "forest"),
    slow=("skglm", "FastRiskScore"),  # compile, for half a minute and for two
)  # fmt: skip


# PUTrendClassifier.


def _hidden(name, split, options):
    max_rows = 2 * QUICK_ROWS if options.quick else MAX_ROWS
    task = make_task(name, split, max_rows=max_rows, data_home=options.data_home)
    return name, split, task


def _called(label, task):
    name, seed, task = task
    X, _, X_test, y_test, _, _ = task
    estimator, _, labels = prepared(MODELS[label], name, task, seed, single=True)
    start = time.process_time()
    estimator.fit(X, labels)
    seconds = time.process_time() - start
    predicted, scores = outputs(estimator, X_test)
    return np.mean(predicted == y_test), roc_auc_score(y_test, scores), seconds


HIDDEN = (
    "PUTrend", "U as N logistic", "U as N balanced logistic", "U as N forest",
    "Elkan-Noto logistic", "Elkan-Noto forest", "bagging trees", "bagging logistic",
    "nnPU MLP, estimated prior", "nnPU MLP, true prior", "pulearn nnPU, true prior",
    "oracle logistic", "oracle forest",
)  # fmt: skip
PU_TREND = Study(
    title="PUTrendClassifier",
    score="accuracy",
    extra="ROC AUC",
    about=f"""
    Halves for training and test, together at most {MAX_ROWS:,} rows. 30 % of the positives of the
    training half are labelled (10 to 500), a random sample; all other rows are U, unlabelled.
    scikit-learn's baselines take U for negatives ("U as N"), which costs them accuracy more than
    ROC AUC. Elkan-Noto and bagging are pulearn's, and so is the linear nnPU; the other nnPU is a
    small network. Nobody is told the share of positives in U but those whose name says "true
    prior". The oracles see the true labels: they are landmarks, not compared.""",
    sets=(*SWEPT, *BUNDLED),
    bundled=BUNDLED,
    n_splits=5,
    task=_hidden,
    models={label: partial(_called, label) for label in HIDDEN},
    baselines=("U as N logistic", "U as N balanced logistic", "U as N forest"),
    landmarks=("oracle logistic", "oracle forest"),
    slow=("nnPU MLP, estimated prior", "nnPU MLP, true prior", "bagging logistic"),
)


# TOPRPolicy.


def _logs(name, split, options):
    max_rows = QUICK_ROWS if options.quick else MAX_TRAIN
    made = [
        make_case(name, logging, split, max_rows=max_rows, data_home=options.data_home)
        for logging in LOGGING
    ]
    return [(case, y_test) for case, y_test, _ in made], options.obp


def _valued(method, task):
    logs, pipeline = task
    values, best, total = [], [], 0.0
    for case, y_test in logs:
        start = time.process_time()
        policy, seconds = method(case, pipeline)
        total += time.process_time() - start if seconds is None else seconds
        values.append(policy[np.arange(len(y_test)), y_test].mean())
        best.append(np.mean(policy.argmax(axis=1) == y_test))
    return np.mean(values), np.mean(best), total


def _timed_here(method):
    return lambda case, pipeline: (method(case), None)


def _obp(learner, case, pipeline):
    if pipeline is None:
        raise ModuleNotFoundError("obp is not installed: name an environment by --obp-python")
    return pipeline.learn(case, learner)


def _boosted(case):
    return direct_classified(case, HistGradientBoostingClassifier(random_state=case.seed))


POLICIES = {
    "TOPR": topr,
    "positives only": PEERS["positives only"],
    "direct, logistic": PEERS["direct, logistic"],
    "direct, boosting": _boosted,
    "full IS": PEERS["full IS"],
    "truncated IS": PEERS["truncated IS"],
    **{f"Vowpal Wabbit {kind}": partial(vowpal_wabbit, kind=kind) for kind in ("ips", "dr", "mtr")},
}
TOPR = Study(
    title="TOPRPolicy",
    score="value of the policy",
    extra="value of its best actions",
    about=f"""
    Sets with several classes made logs: halves for training and test, at most {MAX_TRAIN:,} rows
    each, and on one log the right class is worth 1, a wrong one -1. A split has four logs, of a
    good, a uniform, a skewed and a bad logging policy, and its score is the mean over them of the
    exact value: the probability of the right class on the test half. Direct methods predict the
    reward of each action by scikit-learn's logistic regression or gradient boosting and take the
    best, positives only is scikit-learn's logistic regression of the actions that were right, and
    importance sampling (IS) is maximised exactly. The direct methods, Vowpal Wabbit (10 passes) and
    obp's IPWLearner take one action each, an advantage where one action is always right; the last
    column of the summary gives it to all. obp, the Open Bandit Pipeline, runs in an environment of
    its own, with logistic regression and with a linear network of 50 passes.""",
    sets=(*topr_models.SETS, "wine"),
    bundled=tuple(topr_models.BUNDLED),
    n_splits=3,
    task=_logs,
    models={
        **{label: partial(_valued, _timed_here(method)) for label, method in POLICIES.items()},
        "obp IPWLearner": partial(_valued, partial(_obp, "ipw")),
        "obp NN, linear": partial(_valued, partial(_obp, "nn_linear")),
    },
    baselines=("positives only", "direct, logistic", "direct, boosting"),
)
STUDIES = {"auprc": AUPRC, "small": SMALL, "pu_trend": PU_TREND, "topr": TOPR}


# The runs.


def run(model, task):
    """Return score, extra and seconds of a model, or what failed: nothing ends the suite."""
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        try:
            score, extra, seconds = model(task())
            if not np.isfinite(score):
                raise ValueError(f"the score is {score}")
        except Exception as error:
            message = " ".join(str(error).split())
            return {"failed": f"{type(error).__name__}: {message}"[:200]}
    return {"score": score, "extra": extra, "seconds": seconds}


def finished(path, studies):
    """Return {(method, set, split, model): row} of a file; a later row replaces an earlier one."""
    rows = read_runs(path, TEXT)
    return {
        (row["method"], row["set"], int(row["split"]), row["model"]): row
        for row in rows
        if row["method"] in studies and row["model"] in studies[row["method"]].models
    }


def run_all(studies, options):
    """Run what is not yet in the file, append each row as it ends, and return all asked for."""
    path = options.path("suite_runs.csv")
    done = finished(path, studies)
    asked = [
        (method, name, split, label)
        for method, study in studies.items()
        for name in study.sets_of(options)
        for split in study.splits_of(options)
        for label in study.models_of(options)
    ]
    missing = [key for key in asked if key not in done or done[key]["failed"]]

    @lru_cache(maxsize=1)
    def task(method, name, split):
        return studies[method].task(name, split, options)

    for key in progress(missing):
        *of_task, label = key
        row = run(studies[key[0]].models[label], partial(task, *of_task))
        append_csv(path, dict(zip(COLUMNS, key, strict=False)) | row, COLUMNS)
    done = finished(path, studies)
    return [done[key] for key in asked]


def progress(steps):
    """Go through the steps with rich's progress bar, or a line for each set without rich."""
    try:
        from rich.progress import track
    except ImportError:
        for i, (method, name, split, label) in enumerate(steps):
            if (method, name) != steps[i - 1][:2] or i == 0:
                print(f"{i} of {len(steps)} runs done, next: {method}, {name}", flush=True)
            yield method, name, split, label
    else:
        yield from track(steps, description="benchmarks")


def chosen(text):
    """Return the studies that a list with commas names."""
    unknown = set(text.split(",")) - set(STUDIES)
    if unknown:
        raise argparse.ArgumentTypeError(f"no such method: {', '.join(sorted(unknown))}")
    return {name: study for name, study in STUDIES.items() if name in text.split(",")}


def main(arguments=None):
    """Run what is missing and write the reports."""
    parser = argument_parser("python -m benchmarks", __doc__)
    parser.add_argument(
        "--methods", type=chosen, default=",".join(STUDIES), help="with commas: %(default)s"
    )
    parser.add_argument("--obp-python", help="Python of an environment with obp (else without)")
    options = parser.parse_args(arguments)
    begin(options, PACKAGES)
    options.n_folds = 2 if options.quick else SMALL.n_splits
    options.obp = options.obp_python and topr_models.OpenBanditPipeline(options.obp_python)
    rows = run_all(options.methods, options)
    if options.obp:
        options.obp.close()
    for path in write_report(options.methods, rows, options):
        print(path)


if __name__ == "__main__":
    main()
