"""PUTrendClassifier against its peers: accuracy, F1, AUC, class prior, warnings and time."""

import warnings
from functools import partial
from itertools import combinations, product

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_validate, train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from benchmarks import _engine as engine
from benchmarks._data import BUNDLED
from benchmarks._parts import TRENDS, natural_break, trends_in_U
from benchmarks.peers import pu
from pnsklearn import PUTrendClassifier
from pnsklearn.datasets import make_pu
from pnsklearn.metrics import class_prior, make_pu_scorer

PACKAGES = ("numpy", "scipy", "scikit-learn", "numba", "pulearn", "torch")
TREND_SETS = (*pu.SWEPT, "mushroom", "pima")
AS_PUBLISHED = 2  # splits for the published steps, which take long
PRIORS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
LABELS = (100, 100, 100, 100, 25, 25, 400)  # of the shares that a task has
COUNTS = (5, 10, 20, 50, 100, 500)
METRICS = ("accuracy", "f1", "auc")
SHOWN = (
    "PUTrend", "PUTrend linear", "paper mlp, scaled", "bagging trees", "Elkan-Noto forest",
    "nnPU MLP, true prior", "oracle forest",
)  # fmt: skip
SELECT_ROWS = 2_000
GROUPS = ("pulearn", "published", "estimated prior", "true prior", "plain")


def _few(options, values):
    return options.pick(values, values[1:3])


def _max_rows(options):
    return options.pick(pu.MAX_ROWS, 300)


def _runs(report, name, tasks, models, seeds, setting="natural", **task_options):
    """Return the runs of models on tasks; `task_options` are those of `make_task`."""
    options = report.options
    task_options = {"max_rows": _max_rows(options), **task_options}
    models = {label: model for label, model in models.items() if pu.is_present(model)}

    def run(seed, task, setting, model):
        made = pu.make_task(task, seed, data_home=options.data_home, **task_options)
        X, _, X_test, y_test, _, _ = made
        if X.shape[1] > (models[model].max_features or np.inf):
            return []
        single = task_options.get("pi") is None
        estimator, case, labels = pu.prepared(models[model], task, made, seed, single)
        return _outcome(estimator, case, X, labels, X_test, y_test)

    cells = engine.grid(seed=seeds, task=tasks, setting=[setting], model=models)
    return report.runs(f"{name}_runs", cells, run)


def _outcome(model, case, X, labels, X_test, y_test):
    """Return what is kept of a run; a model that refuses the data calls nothing positive."""

    def fit():
        _, seconds = engine.seconds_of(model.fit, X, labels)
        return seconds, *pu.outputs(model, X_test)

    found, seconds, warned = engine.caught(fit)
    predicted = scores = np.zeros(len(y_test))
    if found is not None:
        seconds, predicted, scores = found
    fitted = model[-1] if hasattr(model, "steps") else model
    return {
        "accuracy": np.mean(predicted == y_test),
        "f1": f1_score(y_test, predicted, zero_division=0), "auc": roc_auc_score(y_test, scores),
        "majority": max(np.mean(y_test), 1 - np.mean(y_test)), "prior_U": case.prior,
        **_priors(fitted), "seconds": seconds, "warnings": warned,
    }  # fmt: skip


def _priors(fitted):
    """Return the prior that a model came to, and other estimates from our held-out scores."""
    if not hasattr(fitted, "class_prior_"):
        return {"estimated prior": getattr(fitted, "prior_", np.nan)}
    found = {"estimated prior": fitted.class_prior_}
    if fitted.n_folds is not None:
        scores = fitted.heldout_trend_scores_, fitted.trend_scores_
        found |= {method: class_prior(*scores, method=method) for method in ("bbe", "dedpul")}
    return found


def _wide(rows, key):
    return engine.wide(rows, key, "task", "seed")


def _task_means(rows, key):
    return engine.by_unit(_wide(rows, key)).mean()


def _model_rows(rows, models):
    """Return one row for each model: means over its tasks, and their standard error."""
    rows = rows.assign(
        miss=(rows["estimated prior"] - rows["prior_U"]).abs(),
        failed=rows["warnings"].str.contains("failed"),
        warned=rows["warnings"].str.contains("PUWarning"),
    )
    of_model = rows.groupby("model", sort=False)
    accuracy, f1, auc, seconds = (_task_means(rows, key) for key in (*METRICS, "seconds"))
    table = pd.DataFrame(
        {
            "group": {model: models[model].group for model in accuracy},
            "tasks": accuracy.count(), "runs": of_model.size(), "accuracy": accuracy.mean(),
            "se": accuracy.sem(), "F1": f1.mean(), "AUC": auc.mean(),
            "prior MAE": of_model["miss"].mean(), "seconds": seconds.median(),
        }
    )  # fmt: skip
    table = table.join(of_model[["failed", "warned"]].sum())
    return table.loc[[m for m in models if m in accuracy]].rename_axis("model").reset_index()


def _pairs(rows, keys=METRICS):
    """Return the default's difference to each model: means over the seeds, then over the tasks."""
    found = {}
    for key in keys:
        mean, _ = engine.differences(_wide(rows, key), "PUTrend")
        columns = {"tasks": mean.count(), "difference": mean.mean(), "se": mean.sem()}
        columns |= {"ahead": (mean > 0).sum(), "behind": (mean < 0).sum()}
        found[key] = pd.DataFrame(columns)
    return pd.concat(found, names=["metric", "peer"]).reset_index()


def _with_differences(table, rows):
    pairs = _pairs(rows, ["accuracy"])[["peer", "difference", "se"]]
    pairs = pairs.set_axis(["model", "default ahead by", "its se"], axis=1)
    return table.merge(pairs, on="model", how="left")


def _real_runs(report):
    options = report.options
    seeds, tasks = options.seeds_of(5), options.pick(pu.TASKS, BUNDLED[:1])
    rows = _runs(report, "real", tasks, {**pu.OURS, **pu.SCALED, **pu.PEERS}, seeds)
    return pd.concat([rows, _runs(report, "real", tasks, pu.PUBLISHED, seeds[:AS_PUBLISHED])])


def real(options, report):
    """Accuracy, F1 and AUC on 30 tasks at their natural priors, SCAR labels, one sample."""
    rows = _real_runs(report)
    table = _model_rows(rows, pu.MODELS).sort_values("accuracy", ascending=False, kind="stable")
    report.table("real", table, "Means.")
    report.table("real_bars", _real_bars(_pairs(rows)), "Bars, of the default (PUTrend).")
    prior = _task_means(rows, "prior_U")["PUTrend"].rename("prior in U")
    for key in METRICS:
        means = _task_means(rows, key)
        shown = means[[model for model in SHOWN if model in means]]
        table = pd.concat([prior, shown], axis=1).rename_axis("set").reset_index()
        report.table(f"real_{key}", table, f"{key}, set by set.")
    for key in METRICS:
        _say_losses(rows, key, report)
    means = _task_means(rows, "accuracy")
    shown = [model for model in SHOWN if model in means and model != "PUTrend linear"]
    report.figure(engine.dots, means[shown], "PUTrend", "test accuracy")


BARS = {(group, key): 0.0 for group in ("pulearn", "published") for key in METRICS}
BARS |= {("estimated prior", "accuracy"): 0.0, ("true prior", "accuracy"): -0.015}


def _real_bars(pairs):
    """Return the default's difference to the hardest peer of each group, in each metric."""
    pairs = pairs.assign(against=pairs["peer"].map(lambda peer: pu.MODELS[peer].group))
    pairs = pairs.sort_values("difference", kind="stable").rename(columns={"peer": "hardest"})
    table = pairs.groupby(["against", "metric"]).first()
    table = table.loc[[key for key in product(GROUPS, METRICS) if key in table.index]]
    bar = pd.Series(BARS).reindex(table.index)
    table["bar"] = bar.map("> {:g}".format, na_action="ignore")
    table["reached"] = (table["difference"] > bar).astype(object).where(bar.notna())
    return table.reset_index()


def _say_losses(rows, key, report):
    """Name the sets on which the default is behind by two standard errors."""
    table = _wide(rows, key)
    means = engine.by_unit(table).mean()
    pulearn = [m for m in means if pu.MODELS[m].group == "pulearn" and means[m].notna().all()]
    if not pulearn:
        return
    best = means[pulearn].mean().idxmax()
    mean, error = (found[best] for found in engine.differences(table, "PUTrend"))
    lost = mean[mean < -2 * error].sort_values()
    named = ", ".join(f"{task} {value:.3f}" for task, value in lost.items())
    report.say(f"Behind {best} in {key} by more than two standard errors on: {named or 'none'}")


def failures(options, report):
    """Runs of the section "real" below the majority share, and whether they warned."""
    rows = _real_runs(report)
    failed, low = rows["accuracy"] < rows["majority"], rows["auc"] < 0.6
    warned = rows["warnings"].str.contains("PUWarning")
    flags = pd.DataFrame(
        {
            "runs": True, "failed": failed, "silent": failed & ~warned, "warned": warned,
            "false alarms": warned & ~failed, "AUC < 0.6": low, "of them warned": low & warned,
        }
    )  # fmt: skip
    counts = flags.groupby(rows["model"]).sum()
    own = [model for model in {**pu.OURS, **pu.SCALED, **pu.PUBLISHED} if model in counts.index]
    counts = counts.loc[own].reset_index()
    ours = counts["model"] == "PUTrend"
    counts["bar"] = np.where(ours, "0", "")
    counts["reached"] = (counts["silent"] == 0).astype(object).where(ours, "")
    report.table("failures", counts)
    shown = ["task", "seed", "accuracy", "majority", "f1", "auc", "prior_U", "estimated prior"]
    reasons = rows.loc[failed & (rows["model"] == "PUTrend"), [*shown, "warnings"]]
    report.table("failures_default", reasons, "The failed runs of the default.")


def prior(options, report):
    """Error of the share of positives in U: natural priors, and a sweep from 0.05 to 0.9."""
    labels = ("PUTrend", "nnPU MLP, estimated prior")
    tasks, sets = options.pick((pu.TASKS, pu.SWEPT), (BUNDLED[:1], BUNDLED[:1]))
    natural = _runs(report, "real", tasks, pu.some(*labels), options.seeds_of(5))
    seeds = options.seeds_of(2)
    report.table("prior_natural", [_prior_row("natural", natural)], "Natural priors.")
    models = pu.some("PUTrend", "bagging trees", "nnPU MLP, true prior", labels[1])
    swept = {
        f"{pi}": _runs(report, "prior", sets, models, seeds, setting=f"pi={pi}", pi=pi)
        for pi in _few(options, PRIORS)
    }
    every = engine.judged(_prior_row("all", pd.concat(swept.values())), 0.06, "auto MAE")
    table = [*(_prior_row(pi, rows) for pi, rows in swept.items()), every]
    report.table("prior_sweep", table, f"Sweep over {len(sets)} sets, {len(seeds)} splits.")
    for key in METRICS:
        table = pd.DataFrame({pi: _task_means(rows, key).mean() for pi, rows in swept.items()})
        table["mean"] = table.mean(axis=1)
        table = table.T.rename_axis("pi").reset_index()
        report.table(f"prior_{key}", table, f"{key} in the sweep.")


def _prior_row(name, rows):
    ours = rows[rows["model"] == "PUTrend"]
    methods = {"auto": (ours, "estimated prior"), "bbe": (ours, "bbe"), "dedpul": (ours, "dedpul")}
    others = rows[rows["model"] == "nnPU MLP, estimated prior"]
    if len(others):
        methods["bbe (logistic)"] = (others, "estimated prior")
    row = {"pi": name, "runs": len(ours)}
    for method, (of_method, key) in methods.items():
        miss = of_method[key] - of_method["prior_U"]
        row |= {f"{method} MAE": miss.abs().mean(), f"{method} bias": miss.mean()}
    return row


def shares(options, report):
    """Shares of 0.02 to 0.9 on sets as they are and with a quarter of their columns: what is said.

    Each task has seven shares, in an order of its own: four with 100 labels, two with 25, one with
    400. Each scenario is scored on its own population.
    """
    tasks = [name for name in options.pick(pu.TASKS, BUNDLED) if name not in pu.IMAGES]
    rng, cells = np.random.default_rng(7), []
    for seed, name, degraded in product(options.seeds_of(1), tasks, (False, True)):
        own = rng.permutation(SHARES)[: len(LABELS)].tolist()
        cells += [
            {"seed": seed, "task": name, "degraded": degraded, "pi": pi, "labels": n}
            for pi, n in list(zip(own, LABELS, strict=True))[:: options.pick(1, 6)]
        ]
    cells = [cells[i] for i in rng.permutation(len(cells))]

    def run(seed, task, degraded, pi, labels):
        made = pu.make_population(
            task, seed, pi=pi, n_labeled=labels, degraded=degraded, data_home=options.data_home
        )
        return [] if made is None else [_said(key, seed, task, *made) for key in made[-1]]

    rows = report.runs("shares_runs", cells, run)
    groups = {"all": rows, "100 labels": rows[rows["labels"] == 100]}
    table = [
        {"rows": name, "columns": "a quarter" if degraded else "all", "scenario": scenario}
        | _said_row(of)
        for name, part in groups.items()
        for (degraded, scenario), of in part.groupby(["degraded", "scenario"])
    ]
    report.table("shares", table, f"{rows['task'].nunique()} sets.")
    for key in ("pi", "labels"):
        table = [{key: value, "columns": "a quarter" if degraded else "all"} | _said_row(of)
                 for (value, degraded), of in rows.groupby([key, "degraded"])]  # fmt: skip
        report.table(f"shares_{key}", table, f"By {key}, both scenarios.")
    limits = _limits(rows)
    report.table("shares_limit", limits, "The limit of the doubt that the other sets choose.")


def _said(scenario, seed, task, X, s, share, tests):
    """Return what a fit says of the share and of itself, and what is true."""
    X_test, y_test = tests[scenario]
    pipe = pu.scaled(PUTrendClassifier(scenario=scenario, random_state=seed), task, X)
    _, seconds, warned = engine.caught(pipe.fit, X, s)
    p, model = pipe.predict_proba(X_test)[:, 1], pipe[-1]
    low, high = model.class_prior_interval_
    return {
        "scenario": scenario, "share": share, "estimate": model.class_prior_, "low": low,
        "high": high, "doubt": model.doubt_, "warned": "PUWarning" in warned,
        "accuracy": np.mean((p > 0.5) == y_test), "f1": f1_score(y_test, p > 0.5, zero_division=0),
        "auc": roc_auc_score(y_test, p), "majority": max(y_test.mean(), 1 - y_test.mean()),
        "seconds": seconds,
    }  # fmt: skip


def _said_row(rows):
    failed = rows["accuracy"] < rows["majority"] - 1e-9
    warned = rows["warned"].astype(bool)
    inside = (rows["low"] <= rows["share"]) & (rows["share"] <= rows["high"])
    return {
        "runs": len(rows), "share MAE": (rows["estimate"] - rows["share"]).abs().mean(),
        "bias": (rows["estimate"] - rows["share"]).mean(), "covered": inside.mean(),
        "width": (rows["high"] - rows["low"]).mean(), "accuracy": rows["accuracy"].mean(),
        "F1": rows["f1"].mean(), "AUC": rows["auc"].mean(), "failed": failed.mean(),
        "silent": (failed & ~warned).mean(), "false alarms": warned[~failed].mean(),
    }  # fmt: skip


def _limits(rows, cost=0.3):
    """Return the limits of the doubt with 100 labels, and their power, that the other sets choose.

    A false alarm, of the runs that are fine, costs a third of a silent failure, of all runs.
    """
    failed = rows["accuracy"] < rows["majority"] - 1e-9
    grid = list(product(np.round(np.arange(0.05, 0.55, 0.05), 2), (-0.3, 0.0, 0.3)))

    def best(kept):
        def loss(values):
            limit, power = values
            warned = rows["doubt"][kept] > limit * (rows["labels"][kept] / 100) ** power
            return (failed[kept] & ~warned).mean() + cost * warned[~failed[kept]].mean()

        return min(grid, key=loss)

    names = rows["task"].str.removesuffix("_flipped")
    chosen = [best(names != name) for name in names.unique()]
    counts = (
        pd.DataFrame(chosen, columns=["limit", "power"]).value_counts().reset_index(name="sets")
    )
    return counts


def bias(options, report):
    """Labeled positives drawn at random, and with a preference for easy or hard ones."""
    seeds, sets = options.seeds_of(3), options.pick(pu.SWEPT, BUNDLED[:1])
    models = {
        **pu.some("PUTrend"),
        "PUTrend, natural break": pu.ours(split="natural"),
        **pu.some("paper mlp, scaled", "authors' code mlp, scaled"),
        **pu.some("bagging trees", "Elkan-Noto logistic", "Elkan-Noto forest"),
    }
    for b in (0.0, 1.0, -1.0):
        rows = _runs(report, "bias", sets, models, seeds, setting=f"bias={b:g}", bias=b)
        table = _with_differences(_model_rows(rows, models), rows)
        report.table(f"bias_{b:g}", table, f"bias = {b:g}")


def few(options, report):
    """From 5 to 500 labeled positives."""
    seeds, sets = options.seeds_of(2), options.pick(pu.SWEPT, BUNDLED[:1])
    models = pu.some(
        "PUTrend", "bagging trees", "Elkan-Noto logistic", "Elkan-Noto forest",
        "nnPU MLP, estimated prior",
    )  # fmt: skip
    means, summary = {key: [] for key in METRICS}, []
    for n in _few(options, COUNTS):
        tasks = [name for name in sets if _has_positives(name, 1.25 * n, options)]
        if not tasks:
            continue
        rows = _runs(report, "few", tasks, models, seeds, setting=f"n={n}", n_labeled=n)
        for key, table in means.items():
            table.append({"labeled": n, "sets": len(tasks), **_task_means(rows, key).mean()})
        summary.append(_with_differences(_model_rows(rows, models), rows).assign(labeled=n))
    report.keep("few", pd.concat(summary))
    for key, table in means.items():
        report.table(f"few_{key}", table, key)


def _has_positives(name, n, options):
    y = pu.load_task(name, options.data_home)[1]
    return y.mean() * min(len(y), _max_rows(options)) / 2 >= n


CONFIGURATIONS = {
    "default": {}, "trend=mean": {"trend": "mean"}, "trend=slope": {"trend": "slope"},
    "split=natural": {"split": "natural"}, "split=variance": {"split": "variance"},
    "hard labels": {"pseudo_labels": "hard"},
    "natural, hard": {"split": "natural", "pseudo_labels": "hard"},
    "final=same": {"final_estimator": "same"},
    "final=same, hard": {"final_estimator": "same", "pseudo_labels": "hard"},
    "final=forest": {"final_estimator": RandomForestClassifier(min_samples_leaf=3)},
    "final=logistic": {"final_estimator": LogisticRegression(max_iter=1000)},
}  # fmt: skip


def select(options, report):
    """The configuration that is best on the other sets, set by set, against the default."""
    seeds, max_rows = options.seeds_of(2), min(SELECT_ROWS, _max_rows(options))
    chosen = options.pick(tuple(CONFIGURATIONS), ("default", "split=natural"))
    models = {name: pu.ours(**CONFIGURATIONS[name]) for name in chosen}
    tasks = options.pick([name for name in pu.TASKS if name not in pu.IMAGES], BUNDLED)
    rows = _runs(report, "select", tasks, models, seeds, max_rows=max_rows)
    report.table("select", _model_rows(rows, models), "Configurations.")
    goals = {metric: _task_means(rows, metric) for metric in METRICS}
    goals["sum"] = sum(goals.values())
    table = []
    for key, goal in goals.items():
        chosen = pd.Series({task: _best_elsewhere(goal, task) for task in goal.index})

        def of_chosen(values, chosen=chosen):
            return pd.Series({task: values.loc[task, model] for task, model in chosen.items()})

        difference, se = engine.mean_se(goal["default"] - of_chosen(goal))
        counts = chosen.value_counts().sort_index()
        table.append(
            {
                "chosen by": key,
                **{f"{metric} chosen": of_chosen(goals[metric]).mean() for metric in METRICS},
                **{f"{metric} default": goals[metric]["default"].mean() for metric in METRICS},
                "default ahead by": difference, "se": se,
                "best in hindsight": goal.mean().idxmax(),
                "chosen": ", ".join(f"{n} x {name}" for name, n in counts.items()),
            }
        )  # fmt: skip
    report.table("select_left_out", table, "Leave one set out.")


def _best_elsewhere(goal, task):
    """Return the model with the highest mean over the tasks of other sets."""
    base = goal.index.str.split("_").str[0]
    return goal[base != task.split("_")[0]].mean().idxmax()


PRIOR_FREE = ("lee_liu", "recall", "labeled_auc")
WITH_PRIOR = ("accuracy", "f1", "precision", "roc_auc", "average_precision", "nnpu_risk")
CANDIDATES = {
    "logistic, C=0.01": LogisticRegression(C=0.01, max_iter=1000),
    "logistic, C=1": LogisticRegression(max_iter=1000),
    "forest, leaves of 3": RandomForestClassifier(50, min_samples_leaf=3, random_state=0),
    "forest, leaves of 30": RandomForestClassifier(50, min_samples_leaf=30, random_state=0),
    "tree": DecisionTreeClassifier(max_depth=4, random_state=0),
    "Bayes": GaussianNB(),
}  # fmt: skip
CLEAR = 0.01  # difference of two models in the true score


def scorers(options, report):
    """How often each score without negatives prefers the better of two final estimators.

    The scores are means over 3 folds of the training rows; the better model is that with the higher
    true score on test rows. Pairs that differ by less than 0.01 do not count.
    """
    tasks = [name for name in options.pick(pu.TASKS, BUNDLED[:1]) if name not in pu.IMAGES]
    rng, cells = np.random.default_rng(11), []
    for name, degraded in product(tasks, (False, True)):
        pi = float(rng.choice(SHARES[1:-1]))
        cells.append({"seed": 0, "task": name, "degraded": degraded, "pi": pi})
    cells = [cells[i] for i in rng.permutation(len(cells))]

    def run(seed, task, degraded, pi):
        made = pu.make_population(
            task, seed, pi=pi, n_labeled=100, degraded=degraded, max_rows=1_000,
            data_home=options.data_home,
        )  # fmt: skip
        return [] if made is None else list(_scored(seed, task, *made))

    rows = report.runs("scorers_runs", cells, run)
    table = [
        {"scorer": name, **_hits(rows, name)} for name in (*PRIOR_FREE, *WITH_PRIOR)
    ]  # fmt: skip
    table = pd.DataFrame(table).sort_values("accuracy", ascending=False)
    report.table("scorers", table, f"{rows['task'].nunique()} sets.")


def _scored(seed, task, X, s, share, tests):
    """Yield each candidate's scores without negatives, and its true ones."""
    X_test, y_test = tests["single"]
    first = PUTrendClassifier("linear", n_snapshots=5, n_folds=3, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prior = pu.scaled(clone(first), task, X).fit(X, s)[-1].class_prior_
        scoring = {name: make_pu_scorer(name) for name in PRIOR_FREE}
        scoring |= {name: make_pu_scorer(name, class_prior=prior) for name in WITH_PRIOR}
        cv = StratifiedKFold(3, shuffle=True, random_state=seed)
        for name, final in CANDIDATES.items():
            if issparse(X) and name == "Bayes":
                continue
            model = pu.scaled(clone(first).set_params(final_estimator=final), task, X)
            found = cross_validate(model, X, s, scoring=scoring, cv=cv)
            p = model.fit(X, s).predict_proba(X_test)[:, 1]
            yield {"candidate": name, "share": share} | {
                key: found[f"test_{key}"].mean() for key in scoring
            } | {
                "true accuracy": np.mean((p > 0.5) == y_test), "true auc": roc_auc_score(y_test, p),
                "true f1": f1_score(y_test, p > 0.5, zero_division=0),
            }  # fmt: skip


def _hits(rows, name):
    """Return how often a scorer prefers the better of two models, and what its choice loses."""
    hits = {key: [] for key in METRICS}
    lost = []
    for _, models in rows.groupby(["task", "degraded"]):
        score = models[name].to_numpy()
        for key, found in hits.items():
            true = models[f"true {key}"].to_numpy()
            for a, b in combinations(range(len(models)), 2):
                if abs(true[a] - true[b]) >= CLEAR:
                    found.append(0.5 + 0.5 * np.sign((true[a] - true[b]) * (score[a] - score[b])))
        true = models["true accuracy"].to_numpy()
        lost.append(true.max() - true[np.argmax(score)])
    return {key: np.mean(found) for key, found in hits.items()} | {"accuracy lost": np.mean(lost)}


# Passes, learning rate, early stopping: the default is the second.
TRAININGS = ((10, 0.003, False), (10, 0.03, True), (10, 0.03, False), (100, 0.03, False))


def trend(options, report):
    """The six trend scores: the mean of the snapshots against those that look at their course."""
    seeds, max_rows = options.seeds_of(2), min(SELECT_ROWS, _max_rows(options))
    tasks = options.pick(TREND_SETS, BUNDLED[:1])
    keys = ("estimator", "n_passes", "learning_rate", "early_stopping")
    cells = [
        dict(zip(keys, (estimator, *training), strict=True)) | cell
        for estimator in ("linear", "mlp")
        for training in _few(options, TRAININGS)
        for cell in engine.grid(task=tasks, seed=seeds)
    ]

    def run(task, seed, **settings):
        made = pu.make_task(task, seed, max_rows=max_rows, data_home=options.data_home)
        return list(_in_U(made, seed, settings))

    rows = report.runs("trend_in_U_runs", cells, run)
    found = {key: _trend_rows(of) for key, of in rows.groupby(list(keys), sort=False)}
    table = pd.concat(found, names=keys).reset_index(level=keys).reset_index(drop=True)
    report.table("trend_in_U", table, "In U.")

    models = {f"trend={kind}": pu.ours(trend=kind) for kind in ("auto", *_few(options, TRENDS))}
    rows = _runs(report, "trend", tasks, models, seeds, max_rows=max_rows)
    report.table("trend", _model_rows(rows, models), "The whole classifier on the test half.")


def _in_U(task, seed, settings):
    """Yield the quality of each trend score in U."""
    X, s, _, _, y, prior = task
    found, n_snapshots = trends_in_U(StandardScaler().fit_transform(X), s, prior, seed, **settings)
    y = y[s == 0]
    for kind, scores in found.items():
        called = np.zeros(len(y), dtype=int)
        called[np.argsort(scores)[len(y) - y.sum() :]] = 1
        yield {
            "model": kind, "auc": roc_auc_score(y, scores), "accuracy": np.mean(called == y),
            "snapshots": n_snapshots,
        }  # fmt: skip


def _trend_rows(rows):
    auc, accuracy = (_task_means(rows, key) for key in ("auc", "accuracy"))
    difference = auc.sub(auc["mean"], axis=0)
    of_kind = rows.groupby("model", sort=False)
    table = pd.DataFrame(
        {
            "snapshots": of_kind["snapshots"].mean(), "AUC": auc.mean(),
            "less mean's": difference.mean(), "se": difference.sem(), "accuracy": accuracy.mean(),
            "inverted": of_kind["auc"].agg(lambda auc: (auc < 0.5).sum()), "runs": of_kind.size(),
        }
    )  # fmt: skip
    return table.loc[list(TRENDS)].rename_axis("trend").reset_index()


def speed(options, report):
    """The first stage against SGDClassifier, a fit against pulearn's bagging, the break, a sort."""
    n, d, rounds = options.pick((100_000, 50, 5), (2_000, 10, 1))
    rng = np.random.default_rng(0)
    n_P = n // 20
    positive = np.r_[np.ones(n_P, dtype=bool), rng.random(n) < 0.3]
    X = rng.normal(size=(n_P + n, d)) + 0.3 * positive[:, None]
    s = np.repeat([1, 0], [n_P, n])
    first = PUTrendClassifier(
        "linear", trend="mean", class_prior=0.3, pseudo_labels="hard",
        final_estimator=DummyClassifier(), random_state=0,
    )  # fmt: skip
    sgd = SGDClassifier(loss="log_loss", max_iter=10, tol=None, random_state=0)
    fits = partial(first.fit, X, s), partial(sgd.fit, X, s)
    rows = [engine.timed("first stage, linear", "SGDClassifier", *fits, 5.0, rounds)]
    size = options.pick(1_000_000, 10_000)
    scores = rng.random(size)
    for criterion in ("natural", "variance"):
        functions = partial(natural_break, scores, criterion=criterion), partial(np.sort, scores)
        what = f"break, {criterion}, n = {size}"
        rows.append(engine.timed(what, "np.sort", *functions, 1.3, rounds))
    report.table("speed", rows, "Parts.")
    models = {
        "PUTrend linear": PUTrendClassifier("linear", random_state=0),
        "PUTrend": PUTrendClassifier(random_state=0),
    }
    bagging = "pulearn's bagging, 100 trees of all positives and as many of U"
    if engine.is_installed("pulearn"):
        from pulearn import BaggingPuClassifier

        models[bagging] = BaggingPuClassifier(
            pu.tree(), n_estimators=100, max_samples=n_P, random_state=0
        )
    seconds = {label: engine.seconds_of(model.fit, X, s)[1] for label, model in models.items()}
    table = [{"fit": label, "seconds": number} for label, number in seconds.items()]
    for row in table[:2] if bagging in seconds else []:
        ratio = row["seconds"] / seconds[bagging]
        row |= {"of bagging's": ratio, "bar": 1.0, "reached": bool(ratio < 1)}
    report.table("speed_fit", table, "A whole fit, once.")


def images(options, report):
    """Fashion-MNIST in the paper's class splits, a small convolutional network."""
    if not engine.is_installed("torch"):
        return
    import torch

    torch.set_num_threads(1)
    seeds, tasks = options.seeds_of(3), options.pick(pu.IMAGES, ("digits_8",))
    n_train, n_test, n_labeled = options.pick((5_000, 5_000, 1_000), (150, 150, 10))
    first = {"n_folds": 2, "n_snapshots": 8, "n_passes": 10.24}  # 80 steps a snapshot
    network = {"network": pu.lenet, "transform": pu.shifted, "n_steps": options.pick(1000, 10)}
    models = {
        "PUTrend CNN": pu.ours(None, pu.lenet, **first, transforms=pu.shifted),
        "nnPU CNN, true prior": pu.Model(
            lambda case: pu.NNPU(case.prior, random_state=case.seed, **network), "true prior"
        ),
        "oracle CNN": pu.Model(lambda case: pu.CNN(case.seed), "oracle"),
    }

    def run(task, seed, model):
        X, y = _pixels(task, options)
        train, test = train_test_split(
            np.arange(len(y)), train_size=n_train, test_size=n_test, stratify=y, random_state=seed
        )
        _, s, y_train = make_pu(
            X[train].reshape(n_train, -1), y[train], n_labeled=n_labeled, random_state=seed
        )
        case = pu.Case(n_labeled, n_train - n_labeled, y_train[s == 0].mean(), True, seed)
        labels = y_train if models[model].group == "oracle" else s
        return _outcome(models[model].build(case), case, X[train], labels, X[test], y[test])

    rows = report.runs("images_runs", engine.grid(task=tasks, seed=seeds, model=models), run)
    for name in tasks:
        report.table(f"images_{name}", _image_table(rows[rows["task"] == name]), name)


def _image_table(rows):
    rows = rows.assign(warned=rows["warnings"].str.contains("PUWarning"))
    of_model = rows.groupby("model", sort=False)
    table = of_model[["accuracy"]].mean()
    table["se over splits"] = of_model["accuracy"].sem()
    means = of_model[["f1", "auc", "prior_U", "estimated prior"]].mean()
    table[["f1", "auc", "prior in U", "estimated"]] = means
    table["seconds"], table["warned"] = of_model["seconds"].median(), of_model["warned"].sum()
    ours, peer = table["accuracy"].iloc[:2]
    table["bar"], table["reached"] = [f">= {peer:.4g}", "", ""], [ours >= peer, "", ""]
    return table.reset_index()


def _pixels(name, options):
    """Return images of shape (n, 1, 28, 28) in about standard units, and labels."""
    if options.quick:
        X, digit = load_digits(return_X_y=True)
        large = np.kron(X.reshape(-1, 1, 8, 8) / 16, np.ones((3, 3)))
        return np.pad(large, ((0, 0), (0, 0), (2, 2), (2, 2))).astype(np.float32), digit == 8
    X, y = pu.load_task(name, options.data_home)
    return ((X.reshape(-1, 1, 28, 28) - 0.286) / 0.353).astype(np.float32), y


SECTIONS = {
    section.__name__: section
    for section in (
        real,
        failures,
        prior,
        shares,
        bias,
        few,
        select,
        scorers,
        trend,
        speed,
        images,
    )
}
