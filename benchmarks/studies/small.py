"""SMaLLClassifier against its peers: time, test error, size, and the features it chooses."""

import shutil
import tempfile
from functools import cache, partial

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse import random as random_sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from benchmarks import _engine as engine
from benchmarks import _parts as parts
from benchmarks._data import BUNDLED, QUICK_ROWS, SMALL_SET, at_most, fold, load
from benchmarks.peers import small as peers
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
OURS = ("SMaLL", "SMaLL 1x9", "SMaLL 2x4", "SMaLL 3x3")
TO_BEAT = ("FIGS", "tree", "L1 logistic", "FastRiskScore")


def relaxation(options, report):
    """The convex relaxation to a relative gap of 1e-4 against cvxpy and Clarabel, and one pass."""
    (m, d), p, k = options.pick((2_000, 50), (200, 10)), 3, 3
    by_cvxpy = engine.is_installed("cvxpy", "clarabel")
    if by_cvxpy:  # once, for what it imports
        parts.solve_by_cvxpy(parts.relaxation_of(*_planted(20, 5, p, k), k, 0.1))
    rows = []
    for lam in options.pick((0.1, 0.01, 1 / m), (0.1,)):
        problem = parts.relaxation_of(*_planted(m, d, p, k), k, lam)
        if by_cvxpy:
            peer, seconds_of_peer = engine.seconds_of(parts.solve_by_cvxpy, problem)
        for name, solve in parts.RELAXATIONS.items():
            runs = [
                engine.seconds_of(partial(solve, problem, tol=1e-4, max_iter=100_000))
                for _ in range(1 + _rounds(options))
            ][1:]  # the first compiles
            solution, seconds = runs[-1][0], [seconds for _, seconds in runs]
            row = {
                "solver": name, "m x d": f"{m} x {d}", "lam": lam, "passes": solution.n_iter,
                "lower": f"{solution.lower:.9f}", "upper": f"{solution.upper:.9f}",
                "relative gap": (solution.upper - solution.lower) / solution.upper,
                "seconds": np.median(seconds), "spread": engine.spread(seconds),
            }  # fmt: skip
            if by_cvxpy:
                ratio = seconds_of_peer / row["seconds"]
                row |= {"cvxpy": f"{peer.upper:.9f}", "seconds cvxpy": seconds_of_peer}
                row |= {"times faster": ratio, "bar": 100, "reached": ratio >= 100}
            rows.append(row)
    report.table("relaxation", rows)
    report.table("pass", _passes(options))


def _rounds(options):
    return options.pick(7, 1)


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


def _passes(options):
    """One value and gradient against the two gemms it contains, on the same layout."""
    for n, d in options.pick(((2_000, 50), (100_000, 50), (20_000, 500)), ((2_000, 20),)):
        X, y, rule = _planted(n, d, 3, 3)
        rng = np.random.default_rng(0)
        W, R = rng.normal(size=(3, d)), rng.normal(size=(3, n))
        for dtype in (np.float64, np.float32):
            XT = np.ascontiguousarray(X.T, dtype=dtype)
            W_, R_ = W.astype(dtype), R.astype(dtype)
            timing = engine.paired_ratio(
                parts.small_pass(XT, y, rule, W),
                lambda XT=XT, W=W_, R=R_: (W @ XT, R @ XT.T),
                rounds=3 * _rounds(options),
            )
            what = f"pass / two gemms, n={n} d={d} p=3, {np.dtype(dtype)}"
            yield engine.judged({"what": what, **timing}, 1.3)


FIRST_FIT = """
import time
from sklearn.datasets import load_breast_cancer
from {} as Model
X, y = load_breast_cancer(return_X_y=True)
start = time.process_time()
Model({}).fit(X, y)
print(time.process_time() - start)
"""


def speed(options, report):
    """Seconds of fits with defaults, in a warm process and the very first one."""
    sets = options.pick(
        [
            ("breast_cancer", 569, 2.0), ("spambase", 2_500, 10.0),
            ("planted 100000 x 20", 1e5, 20.0), ("planted 1000000 x 20", 1e6, 90.0),
        ],
        [("breast_cancer", 300, 2.0), ("planted 1000 x 10", 1_000, 20.0)],
    )  # fmt: skip
    models = {
        "SMaLL": SMaLLClassifier(random_state=0), "SMaLL 3x3": SMaLLClassifier(3, 3, random_state=0)
    }  # fmt: skip
    first = {"SMaLL": ("pnsklearn import SMaLLClassifier", "")}
    if engine.is_installed("imodels"):
        models["FastRiskScore"] = peers.risk_score(9)
        if not options.quick:
            first["FastRiskScore"] = ("imodels import FastRiskScoreClassifier", "k=9")
    rows = []
    for name, n, bar in sets:
        X, y = _rows_of(name, int(n), options)
        for label, model in models.items():
            if n == 1e6 and label != "SMaLL":
                continue
            rounds = 1 if n >= 1e5 else options.pick(3, 1)
            warm = int(n < 1e5)  # all is compiled by the first sets
            seconds = [_fitted(model, X, y)[1] for _ in range(rounds + warm)][warm:]
            row = {"what": f"{label}, {name}, {X.shape[0]} x {X.shape[1]}"}
            row |= {"seconds": np.median(seconds), "spread": engine.spread(seconds), "fits": rounds}
            bars = {("SMaLL", n): bar, ("SMaLL 3x3", 569): 0.15}
            known = bars.get((label, n))
            rows.append(row if known is None else engine.judged(row, known, "seconds"))
    for label, arguments in first.items():
        code = FIRST_FIT.format(*arguments)
        with tempfile.TemporaryDirectory() as cache:  # nothing is compiled
            seconds = float(engine.new_process(code, cache=cache).split()[-1])
        row = {"what": f"{label}, first fit ever, breast_cancer", "seconds": seconds, "fits": 1}
        rows.append(engine.judged(row, 5.0, "seconds") if label == "SMaLL" else row)
    report.table("speed", rows)


def _rows_of(name, n, options):
    if name.startswith("planted"):
        return _planted(n, int(name.split()[-1]), 3, 3)[:2]
    X, y = load(name, options.data_home)
    rows = at_most(n, np.arange(len(y)), y)
    return X[rows], y[rows]


def _fitted(model, X, y):
    """Return a fitted copy and the seconds it took."""
    return engine.seconds_of(clone(model).fit, X, y)


def accuracy(options, report):
    """Test error with 9 non-zeros or about as many numbers, nothing tuned."""
    models = {label: lambda n_rows, make=make: make() for label, make in peers.MODELS.items()}
    _compare(report, models, MAX_TRAIN, n_repeats=1)


def tuned(options, report):
    """Test error with at most 9 non-zeros, each model's own settings tuned by cross-validation."""
    Cs = options.pick((0.1, 1.0, 10.0), (1.0,))
    shapes = ((1, 9), (2, 4), (3, 3))
    searched = {
        "SMaLL": (
            lambda: SMaLLClassifier(random_state=0),
            [{"n_prototypes": [p], "n_nonzero": [k], "C": Cs} for p, k in shapes],
        ),
        "FastRiskScore": (lambda: peers.risk_score(9), {"k": (3, 5, 7, 9), "max_points": (5, 10)}),
        "FIGS": (lambda: peers.figs(4), {"max_rules": (1, 2, 3, 4, 5), "max_trees": (1, None)}),
        "tree": (
            lambda: peers.small_tree(5),
            {"max_leaf_nodes": (2, 3, 4, 5, 6), "criterion": ("gini", "entropy")},
        ),
        "L1 logistic": (peers.SparseLogistic, {"n_nonzero": (3, 6, 9), "C": Cs}),
        "abess": (peers.BestSubset, {"n_nonzero": (3, 6, 9), "alpha": (0.0, 0.5, 5.0)}),
    }

    def search(make, grid, n_rows):
        n_folds = options.pick(3 if n_rows > SMALL_SET else 5, 2)
        inner = StratifiedKFold(n_folds, shuffle=True, random_state=1)
        return GridSearchCV(make(), grid, cv=inner, error_score="raise")

    models = {label: partial(search, *how) for label, how in searched.items()}
    _compare(report, models, MAX_TUNED, n_repeats=1)


def _compare(report, models, max_train, n_repeats):
    """Cross-validate models on all sets: tables of sets, of pairs and of models."""
    options, name = report.options, report.name
    sets = options.pick(SETS, BUNDLED)
    rows = _folds(report, sets, models, max_train, on_fold, n_repeats)
    error = engine.wide(rows, "error", "set", "number")
    n_folds, used = _n_folds(options), options.seeds
    how = f"the first {used}" if used else f"{n_repeats} times below {SMALL_SET} rows"
    report.say(f"{n_folds} folds, {how}")
    means = engine.by_unit(error).mean()
    shapes = rows.groupby("set", sort=False)[["n", "d"]].first()
    report.table(f"{name}_sets", shapes.join(100 * means).reset_index())
    report.table(f"{name}_pairs", [row for ours in OURS for row in _pair_rows(error, ours)])
    report.table(name, _model_rows(rows))
    shown = [m for m in means if m in (*OURS, *TO_BEAT)]
    report.figure(engine.dots, 100 * means[shown], OURS[0], "test error, %")


def _n_folds(options):
    return options.pick(5, 2)


def _folds(report, sets, models, max_train, outcome, n_repeats=1):
    """Return what `outcome` says of models, made of the number of rows, on folds of the sets."""
    options = report.options
    n_folds, max_train = _n_folds(options), options.pick(max_train, QUICK_ROWS)

    def read(name):
        if name.startswith("planted"):
            return _planted_sparse(*map(int, name.split()[1::2]))
        return load(name, options.data_home)

    def n_cells(name):
        if options.seeds:
            return options.seeds
        small = n_repeats > 1 and not options.quick and len(read(name)[1]) < SMALL_SET
        return n_folds * (n_repeats if small else 1)

    def run(set, number, model):
        X, y = read(set)
        train, test = fold(y, number, n_folds, max_train)
        fitted = models[model](len(train))
        return {"n": len(y), "d": X.shape[1], **outcome(fitted, X, y, train, test)}

    labels = peers.installed(models)
    cells = []
    for name in sets:
        cells += engine.grid(set=[name], number=range(n_cells(name)), model=labels)
    return report.runs(f"{report.name}_folds", cells, run)


def on_fold(model, X, y, train, test):
    """Return test error, seconds of the fit and size of a model."""
    model, seconds = _fitted(model, X[train], y[train])
    error = np.mean(np.asarray(model.predict(X[test])).ravel() != y[test])
    n_read, n_numbers, n_bytes = peers.size_of(getattr(model, "best_estimator_", model), X.shape[1])
    return {
        "error": error, "none right %": 100 * min(y.mean(), 1 - y.mean()),
        "seconds": seconds, "non-zeros": n_read, "numbers": n_numbers, "bytes": n_bytes,
    }  # fmt: skip


def _model_rows(rows):
    """Return one row for each model: means over the folds, then over the sets."""
    columns = ["error", "non-zeros", "numbers", "bytes", "seconds"]
    means = rows.groupby(["model", "set"], sort=False)[columns].mean()
    means.insert(0, "error %", 100 * means.pop("error"))
    of_model = means.groupby("model", sort=False)
    table = of_model[["error %", "non-zeros", "numbers", "bytes"]].mean()
    table.insert(0, "sets", of_model.size())
    table.insert(2, "se", of_model["error %"].sem())
    table["seconds"] = of_model["seconds"].median()
    table["spread"] = of_model["seconds"].agg(engine.spread)
    return table.reset_index()


def _pair_rows(error, ours):
    """Yield the differences of error, ours minus each peer's, set by set."""
    means = engine.by_unit(error).mean()
    for peer in means.columns.drop(ours) if ours in means else ():
        difference = (100 * (means[ours] - means[peer])).dropna()
        average, se = engine.mean_se(difference)
        row = {
            "ours": ours, "peer": peer, "sets": len(difference), "difference": average, "se": se,
            "median": difference.median(), "lower": (difference < 0).sum(),
            "equal": (difference == 0).sum(), "higher": (difference > 0).sum(),
        }  # fmt: skip
        if peer in TO_BEAT:
            row["reached"] = average <= 0 if peer == "FastRiskScore" else average < 0
        yield row


def l0(options, report):
    """One rule of k features against abess and skglm: the training objective on their supports."""
    sets = options.pick(L0_SETS, BUNDLED)
    installed_too = [package for package in ("abess", "skglm") if engine.is_installed(package)]

    def run(set):
        return list(_l0_cases(*_standardised(set, options), installed_too, options))

    cases = report.runs("l0_runs", engine.grid(set=sets), run).drop(columns="failed")
    rivals = [name for name in ("abess", "skglm MCP", "skglm L0.5") if name in cases]
    if rivals:
        cases["best of them"] = cases[rivals].min(axis=1)
    rows = []
    for peer in [*rivals, "best of them"] if rivals else []:
        ratios = cases[peer] / cases["ours"]
        share = (ratios >= 1 / 1.001).mean()
        rows.append(
            {
                "peer": peer, "cases": len(ratios), "within 0.1 % or better": share,
                "better by 0.1 %": (ratios > 1.001).mean(), "worse by 0.1 %": 1 - share,
                "median peer / ours": ratios.median(), "our worst": ratios.min(),
                "our best": ratios.max(), "bar": 0.9, "reached": share >= 0.9,
            }
        )  # fmt: skip
    quartiles = "{:.2g}, {:.2g}, {:.2g}".format(*np.percentile(cases["gap"], (25, 50, 75)))
    report.say(f"relative gap of our certificates: quartiles {quartiles}")
    report.table("l0_cases", cases)
    report.table("l0", rows or [{"peer": "none", "note": "none is installed"}])


def _standardised(name, options):
    """Return at most 5,000 rows of a set without its constant features, standardised."""
    X, y = _rows_of(name, options.pick(MAX_TRAIN, QUICK_ROWS), options)
    X = X[:, X.std(axis=0) > 0]
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def _l0_cases(X, y, packages, options):
    """Yield F at each k, of our support and of the peers', all fitted again by the same method."""
    supports = peers.skglm_supports(X, y) if "skglm" in packages else {}

    @cache
    def objective(support):
        return peers.ridge_objective(X[:, support], y)

    for k in options.pick(range(1, 11), (2, 4)):
        model = SMaLLClassifier(1, k, certify=True, standardize=False, random_state=0)
        model, seconds = _fitted(model, X, y)
        row = {
            "k": k, "ours": objective(peers.support_of(model.coef_)),
            "objective_": model.objective_, "gap": model.gap_, "seconds": seconds,
        }  # fmt: skip
        if "abess" in packages:
            fits = [_fitted(peers.BestSubset(k, alpha), X, y) for alpha in (0.0, 0.5)]
            row["abess"] = min(objective(peers.support_of(fit.coef_)) for fit, _ in fits)
            row["seconds abess"] = sum(seconds for _, seconds in fits)
        for penalty, found in supports.items():
            row[penalty] = min(objective(support) for support in found if len(support) <= k)
        yield row


def size(options, report):
    """Test error against the bytes that gcc makes of the models, over several sizes of each."""
    if shutil.which("gcc") is None or shutil.which("size") is None:
        report.say("gcc and size are not installed")
        return
    shapes = options.pick(
        ((1, 1), (1, 2), (1, 4), (1, 9), (2, 2), (2, 4), (3, 2), (3, 3), (4, 4), (5, 6)),
        ((1, 3), (3, 3)),
    )
    counts = options.pick((1, 2, 3, 4, 6, 9, 14, 20), (1, 4))
    families = {
        "SMaLL": (lambda pk: SMaLLClassifier(*pk, random_state=0), shapes),
        "SMaLL quantile": (
            lambda pk: SMaLLClassifier(*pk, binarize="quantile", random_state=0),
            shapes,
        ),
        "FastRiskScore": (peers.risk_score, counts),
        "FIGS": (peers.figs, counts),
        "tree": (lambda k: peers.small_tree(k + 1), counts),
        "L1 logistic": (peers.SparseLogistic, counts),
    }
    models = {
        f"{family} {'x'.join(map(str, np.atleast_1d(k)))}": lambda n_rows, make=make, k=k: make(k)
        for family, (make, settings) in families.items()
        for k in settings
    }
    sets = options.pick(SIZE_SETS, BUNDLED)
    rows = _folds(report, sets, models, MAX_TUNED, _compiled)
    rows[["family", "setting"]] = rows["model"].str.rsplit(" ", n=1).to_list()
    keys = ["family", "setting"]
    means = rows.groupby([*keys, "set"], sort=False)[["error %", "bytes"]].mean()
    of_model = means.groupby(keys, sort=False)
    table = of_model.mean()
    table.insert(0, "sets", of_model.size())
    table = table.reset_index().rename(columns={"family": "model"})
    report.figure(_plot_sizes, table)
    report.table("size", table)


def _compiled(model, X, y, train, test):
    """Return test error and bytes of the compiled model."""
    fitted, _ = _fitted(model, X[train], y[train])
    error = np.mean(np.asarray(fitted.predict(X[test])).ravel() != y[test])
    return {"error %": 100 * error, "bytes": peers.compiled_bytes(peers.to_c(fitted))}


def _plot_sizes(plt, table):
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for model, line in table.sort_values("bytes").groupby("model", sort=False):
        style = "o-" if model not in OURS else "o"
        axes.plot(line["bytes"], line["error %"], style, label=model)
    axes.set(xscale="log", xlabel="bytes of compiled code and constants")
    axes.set_ylabel("mean test error, %")
    axes.legend()
    return figure


def sparse(options, report):
    """Test error and seconds on sparse X, against L1 logistic regression of as many features."""
    planted = options.pick("planted 5000 x 100000", "planted 200 x 500")
    models = {
        "SMaLL 3x3": lambda n_rows: SMaLLClassifier(3, 3, random_state=0),
        "SMaLL 3x9": lambda n_rows: SMaLLClassifier(3, 9, random_state=0),
        "L1 logistic 9": lambda n_rows: peers.SparseLogistic(9),
        "L1 logistic 27": lambda n_rows: peers.SparseLogistic(27),
    }
    sets = options.pick((planted, "sms_spam"), (planted,))
    rows = _folds(report, sets, models, MAX_TRAIN, on_fold)
    rows["error %"] = 100 * rows["error"]
    of_model = rows.groupby(["set", "model"], sort=False)
    table = of_model[["error %", "none right %", "non-zeros"]].mean()
    table.insert(1, "se over folds", of_model["error %"].sem())
    table["seconds"] = of_model["seconds"].median()
    table["spread"] = of_model["seconds"].agg(engine.spread)
    report.table("sparse", table.reset_index())


@cache
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
