"""The whole suite: each estimator against scikit-learn's own and its named peers, in one report."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from threadpoolctl import threadpool_limits

from benchmarks._data import BUNDLED, QUICK_ROWS, fold, load, shuffled, stored
from benchmarks._engine import Report, begin, grid, run_all, seconds_of
from benchmarks._report import write_report
from benchmarks.peers import small
from benchmarks.peers import topr as policies
from benchmarks.peers.auprc import LibAUC, lightgbm, tuned_logistic
from benchmarks.peers.pu import MAX_ROWS, MODELS, SWEPT, make_task, outputs, prepared
from benchmarks.studies.auprc import probabilities
from benchmarks.studies.small import on_fold
from pnsklearn import AUPRCClassifier, AUPRCStackingClassifier

PACKAGES = (
    "numpy", "scipy", "scikit-learn", "numba", "torch", "abess", "imodels", "libauc", "lightgbm",
    "pulearn", "skglm", "vowpalwabbit",
)  # fmt: skip
MAX_TRAIN = 4_000  # training rows


@dataclass(frozen=True)
class Method:
    """One estimator, which is the first model, and its peers."""

    title: str
    score: str  # what it is; more is better
    extra: str
    sets: tuple[str, ...]
    bundled: tuple[str, ...]  # those of them that scikit-learn brings
    n_splits: int
    run: Callable  # of set, split, model, options; returns score, extra and seconds of the fit
    models: tuple[str, ...]
    baselines: tuple[str, ...]  # scikit-learn's own
    landmarks: tuple[str, ...] = ()  # shown, not compared: our own, or told what nobody else is
    slow: tuple[str, ...] = ()  # left out of --quick

    def sets_of(self, options):
        """Return the sets that are at hand."""
        if options.quick:
            return self.bundled
        home = options.data_home
        return [name for name in self.sets if name in self.bundled or stored(name, home)]


RANKING = {
    "stack": lambda seed, quick: AUPRCStackingClassifier(
        cv=2 if quick else None, random_state=seed
    ),
    "AUPRC, linear": lambda seed, quick: AUPRCClassifier(cv=2 if quick else 5, random_state=seed),
    "logistic": lambda seed, quick: LogisticRegression(max_iter=1000),
    "logistic, tuned": lambda seed, quick: tuned_logistic(2 if quick else 5),
    "forest": lambda seed, quick: RandomForestClassifier(random_state=seed),
    "boosting": lambda seed, quick: HistGradientBoostingClassifier(random_state=seed),
    "LightGBM": lambda seed, quick: lightgbm(),
    "LibAUC": lambda seed, quick: LibAUC(n_epochs=2 if quick else 60, random_state=seed),
}


def _rank(name, split, label, options):
    X, y = load(name, options.data_home)
    train, test = shuffled(y, split, options.pick(MAX_TRAIN, QUICK_ROWS))
    model = RANKING[label](split, options.quick)
    probability, seconds = probabilities(model, X, y, train, test)
    y = y[test]
    return average_precision_score(y, probability), roc_auc_score(y, probability), seconds


AUPRC = Method(
    title="AUPRCStackingClassifier", score="average precision", extra="ROC AUC", bundled=BUNDLED,
    n_splits=5, run=_rank,
    sets=(
        "mammography", "oil_spill", "phoneme", "wine_red_ge7", "page_blocks_not1", "sick",
        "creditcard_fraud", "satimage_4", *BUNDLED,
    ),
    models=tuple(RANKING),
    baselines=("logistic", "logistic, tuned", "forest", "boosting"),
    landmarks=("AUPRC, linear",),
)  # fmt: skip


SMALL_MODELS = small.MODELS | {
    "dense logistic": small.MODELS["logistic"], "skglm": lambda: small.BestOfPaths(9)
}  # fmt: skip


def _read(name, split, label, options):
    X, y = load(name, options.data_home)
    n_folds, max_train = options.pick((SMALL.n_splits, MAX_TRAIN), (2, QUICK_ROWS))
    model = SMALL_MODELS[label]()
    if label in ("SMaLL", "forest"):
        model.set_params(random_state=split)
    outcome = on_fold(model, X, y, *fold(y, split, n_folds, max_train))
    return 1 - outcome["error"], outcome["numbers"], outcome["seconds"]


SMALL = Method(
    title="SMaLLClassifier", score="accuracy", extra="numbers in the model", bundled=BUNDLED,
    n_splits=5, run=_read,
    sets=(
        "australian_credit", "pima", "ionosphere", "heart_statlog", "german_credit", "tic_tac_toe",
        "spambase", "phoneme", *BUNDLED,
    ),
    models=(
        "SMaLL", "L1 logistic", "tree", "dense logistic", "forest", "abess", "skglm", "FIGS",
        "FastRiskScore",
    ),
    baselines=("L1 logistic", "tree", "dense logistic", "forest"),
    slow=("skglm", "FastRiskScore"),  # compile, for half a minute and for two
)  # fmt: skip


def _call(name, split, label, options):
    max_rows = options.pick(MAX_ROWS, 2 * QUICK_ROWS)
    task = make_task(name, split, max_rows=max_rows, data_home=options.data_home)
    X, _, X_test, y_test, _, _ = task
    estimator, _, labels = prepared(MODELS[label], name, task, split, single=True)
    _, seconds = seconds_of(estimator.fit, X, labels)
    predicted, scores = outputs(estimator, X_test)
    return np.mean(predicted == y_test), roc_auc_score(y_test, scores), seconds


PU_TREND = Method(
    title="PUTrendClassifier", score="accuracy", extra="ROC AUC", bundled=BUNDLED, n_splits=5,
    run=_call,
    sets=(*SWEPT, *BUNDLED),
    models=(
        "PUTrend", "U as N logistic", "U as N balanced logistic", "U as N forest",
        "Elkan-Noto logistic", "Elkan-Noto forest", "bagging trees", "bagging logistic",
        "nnPU MLP, estimated prior", "nnPU MLP, true prior", "pulearn nnPU, true prior",
        "oracle logistic", "oracle forest",
    ),
    baselines=("U as N logistic", "U as N balanced logistic", "U as N forest"),
    landmarks=("oracle logistic", "oracle forest"),
    slow=("nnPU MLP, estimated prior", "nnPU MLP, true prior", "bagging logistic"),
)  # fmt: skip


POLICIES = {
    "TOPR": policies.OURS["chosen, act='sample'"], "positives only": policies.positives_only,
    "direct, logistic": policies.direct_logistic, "direct, boosting": policies.direct_boosted,
    "full IS": policies.importance_sampling, "truncated IS": policies.truncated,
    **policies.WABBITS,
}  # fmt: skip
OBP = ("obp IPWLearner", "obp NN, linear")


def _act(name, split, label, options):
    max_rows = options.pick(MAX_TRAIN, QUICK_ROWS)
    found = []
    for logging in policies.LOGGING:
        case, y_test, _ = policies.make_case(
            name, logging, split, max_rows=max_rows, data_home=options.data_home
        )
        if label in OBP:
            learner = policies.OBP[label]
            policy, seconds = policies.open_bandit_pipeline(case, learner, options.obp_python)
        else:
            policy, seconds = seconds_of(POLICIES[label], case)
        value = policy[np.arange(len(y_test)), y_test].mean()
        found.append((value, np.mean(policy.argmax(axis=1) == y_test), seconds))
    values, best, seconds = np.transpose(found)
    return values.mean(), best.mean(), seconds.sum()


TOPR = Method(
    title="TOPRPolicy", score="value of the policy", extra="value of its best actions",
    bundled=policies.BUNDLED, n_splits=3, run=_act,
    sets=(*policies.SETS, "wine"),
    models=(*POLICIES, *OBP),
    baselines=("positives only", "direct, logistic", "direct, boosting"),
)  # fmt: skip
METHODS = {"auprc": AUPRC, "small": SMALL, "pu_trend": PU_TREND, "topr": TOPR}


def run_methods(methods, options):
    """Run what is missing and return the rows of all models, sets and splits."""

    def run(method, set, split, model):
        score, extra, seconds = methods[method].run(set, split, model, options)
        if not np.isfinite(score):
            raise ValueError(f"the score is {score}")
        return {"score": score, "extra": extra, "seconds": seconds}

    cells = []
    for name, method in methods.items():
        splits = range(options.pick(method.n_splits, 2))
        models = [m for m in method.models if not (options.quick and m in method.slow)]
        cells += grid(method=[name], set=method.sets_of(options), split=splits, model=models)
    return run_all(options, "runs", cells, run)


def run_sections(names, options):
    """Run some of the methods and write their common report."""
    begin(options)
    report = Report(run_sections, options)
    methods = {name: METHODS[name] for name in names}
    with threadpool_limits(1):
        rows = run_methods(methods, options)
    print(write_report(methods, rows, report))


SECTIONS = METHODS
