"""PUTrendClassifier against its peers: accuracy, F1, AUC, class prior, warnings and time.

Run `python -m benchmarks.pu_trend`. Everything runs on one thread; seconds are of the processor.
Each section keeps its runs in ``pu_NAME_runs.csv`` as they come and goes on from there when it is
started again; delete the file to start from nothing. Peers that are not installed are left out.
"""

import time
import warnings
from functools import partial
from importlib.util import find_spec

import numpy as np
from scipy.sparse import issparse
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from benchmarks._harness import (
    BUNDLED,
    append_csv,
    argument_parser,
    begin,
    mean_and_error,
    paired_ratio,
    parse_sections,
    pyplot,
    read_runs,
    report_sections,
    write_csv,
)
from benchmarks.pu_models import (
    CNN,
    FEWEST,
    IMAGES,
    MAX_ROWS,
    MODELS,
    MOST,
    NNPU,
    OURS,
    PEERS,
    PUBLISHED,
    SCALED,
    TASKS,
    Case,
    Model,
    is_present,
    lenet,
    load_task,
    make_task,
    ours,
    scaled,
    shifted,
    some,
    tree,
)
from pnsklearn import PUTrendClassifier
from pnsklearn._pu_trend._scores import TRENDS, trend_scores
from pnsklearn._pu_trend._split import natural_break
from pnsklearn.datasets import make_pu
from pnsklearn.exceptions import PUTrendWarning
from pnsklearn.metrics import class_prior

PACKAGES = ("numpy", "scipy", "scikit-learn", "numba", "pulearn", "torch")
# For the sweeps: enough rows of both classes, some sets separable, some not.
SWEPT = (
    "kr_vs_kp", "spambase", "banknote", "phoneme", "credit_default", "adult", "satimage_grey",
    "digits_even",
)  # fmt: skip
TREND_SETS = (*SWEPT, "mushroom", "pima")
AS_PUBLISHED = 2  # splits for the published steps, which take long
PRIORS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
COUNTS = (5, 10, 20, 50, 100, 500)
METRICS = ("accuracy", "f1", "auc")

# Runs.

COLUMNS = (
    "task", "setting", "seed", "model", "accuracy", "f1", "auc", "majority", "prior_U",
    "estimated prior", "bbe", "dedpul", "seconds", "warnings",
)  # fmt: skip
TEXT = ("task", "setting", "model", "warnings")


def run(model, case, X, labels, X_test, y_test):
    """Fit a model to one task and return what is kept of the run.

    A model that refuses the data counts as one that calls nothing positive.
    """
    predicted, scores = np.zeros(len(y_test)), np.zeros(len(y_test))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.process_time()
        try:
            model.fit(X, labels)
            seconds = time.process_time() - start
            predicted, scores = outputs(model, X_test)
        except ValueError as error:
            seconds = time.process_time() - start
            warnings.warn(f"failed: {error}", stacklevel=1)
    fitted = model[-1] if hasattr(model, "steps") else model
    return {
        "seed": case.seed, "accuracy": np.mean(predicted == y_test),
        "f1": f1_score(y_test, predicted, zero_division=0), "auc": roc_auc_score(y_test, scores),
        "majority": max(np.mean(y_test), 1 - np.mean(y_test)), "prior_U": case.prior,
        **_priors(fitted), "seconds": seconds,
        "warnings": "; ".join(sorted({_short(warning) for warning in caught})),
    }  # fmt: skip


def outputs(model, X):
    if hasattr(model, "predict_proba"):
        scores = model.predict_proba(X)[:, 1]
    else:
        scores = model.decision_function(X)
    return (np.asarray(model.predict(X)).ravel() > 0).astype(int), scores


def _priors(fitted):
    """Return the prior that a model came to, and other estimates from our held-out scores."""
    if not hasattr(fitted, "class_prior_"):
        return {"estimated prior": getattr(fitted, "prior_", np.nan)}
    found = {"estimated prior": fitted.class_prior_}
    if fitted.n_folds is not None:
        scores = fitted.heldout_trend_scores_, fitted.trend_scores_
        found |= {method: class_prior(*scores, method=method) for method in ("bbe", "dedpul")}
    return found


def _short(warning):
    """Return the category, and what it begins with where that tells cases apart."""
    message = str(warning.message)
    if message.startswith("failed"):
        return message[:80].replace("\n", " ")
    name = warning.category.__name__
    return f"{name} ({' '.join(message.split()[:5])})" if name == "PUTrendWarning" else name


def runs(options, section, tasks, models, seeds, setting="natural", **task_options):
    """Run what is not yet in the section's file, append each row as it comes, return all asked for.

    `task_options` are those of `make_task`.
    """
    path = options.path(f"{section}_runs.csv")
    models = {label: model for label, model in models.items() if is_present(model)}
    keys = ("task", "setting", "seed", "model")
    done = {tuple(row[key] for key in keys) for row in read_runs(path, TEXT)}
    task_options = {"max_rows": options.max_rows, **task_options}
    for seed in seeds:
        for name in tasks:
            missing = [m for m in models if (name, setting, seed, m) not in done]
            if not missing:
                continue
            try:
                task = make_task(name, seed, data_home=options.data_home, **task_options)
            except OSError as error:
                print(f"{name} cannot be loaded: {error!r}")
                continue
            single = task_options.get("pi") is None
            for label in missing:
                row = _run_on(models[label], name, task, seed, single)
                if row is not None:
                    append_csv(
                        path, {"task": name, "setting": setting, "model": label, **row}, COLUMNS
                    )
    return [
        row
        for row in read_runs(path, TEXT)
        if row["task"] in tasks
        and row["setting"] == setting
        and row["seed"] in seeds
        and row["model"] in models
    ]


def _run_on(model, name, task, seed, single):
    X, _, X_test, y_test, _, _ = task
    if model.max_features is not None and X.shape[1] > model.max_features:
        return None
    estimator, case, labels = prepared(model, name, task, seed, single)
    return run(estimator, case, X, labels, X_test, y_test)


def prepared(model, name, task, seed, single):
    """Return the estimator behind its scaler, its case, and the labels that it may see."""
    X, s, _, _, y, prior = task
    n_P = int(s.sum())
    case = Case(n_P, len(s) - n_P, prior, single, seed)
    estimator = model.build(case)
    if issparse(X) and not model.sparse:
        estimator = make_pipeline(FunctionTransformer(lambda X: X.toarray()), estimator)
    return scaled(estimator, name, X), case, y if model.group == "oracle" else s


# Summaries. Values are means over the seeds first, so that all tasks weigh the same.


def _by_task(rows, key):
    """Return {model: {task: {seed: value}}} of a column."""
    values = {}
    for row in rows:
        of_model = values.setdefault(row["model"], {})
        of_model.setdefault(row["task"], {})[row["seed"]] = row[key]
    return values


def _task_means(rows, key):
    """Return {model: {task: mean over the seeds}} of a column."""
    return {
        model: {task: np.mean(list(of_task.values())) for task, of_task in of_model.items()}
        for model, of_model in _by_task(rows, key).items()
    }


def _model_rows(rows, models):
    """Return one row for each model: means over its tasks, and their standard error."""
    means = {key: _task_means(rows, key) for key in (*METRICS, "seconds")}
    table = []
    for model in models:
        if model not in means["accuracy"]:
            continue
        of_model = [row for row in rows if row["model"] == model]
        values = {key: np.array(list(means[key][model].values())) for key in means}
        accuracy, se = mean_and_error(values["accuracy"])
        misses = [abs(row["estimated prior"] - row["prior_U"]) for row in of_model]
        table.append(
            {
                "model": model, "group": models[model].group, "tasks": len(values["accuracy"]),
                "runs": len(of_model), "accuracy": accuracy, "se": se,
                "F1": np.mean(values["f1"]), "AUC": np.mean(values["auc"]),
                "prior MAE": "" if np.isnan(misses).all() else np.nanmean(misses),
                "seconds": np.median(values["seconds"]),
                "failed": sum("failed" in row["warnings"] for row in of_model),
                "warned": sum("PUTrendWarning" in row["warnings"] for row in of_model),
            }
        )  # fmt: skip
    return table


def _differences(rows, ours, peer, key):
    """Return {task: (mean, standard error)} of ours less the peer's, over the seeds of both."""
    values = _by_task(rows, key)
    result = {}
    for task, of_peer in values[peer].items():
        of_ours = values[ours].get(task, {})
        seeds = of_peer.keys() & of_ours.keys()
        if seeds:
            result[task] = mean_and_error([of_ours[seed] - of_peer[seed] for seed in seeds])
    return result


def _pair_row(rows, ours, peer, key):
    mean, se = mean_and_error([mean for mean, _ in _differences(rows, ours, peer, key).values()])
    found = _differences(rows, ours, peer, key).values()
    return {
        "ours": ours, "peer": peer, "metric": key, "tasks": len(found), "difference": mean,
        "se": se, "ahead": sum(mean > 0 for mean, _ in found),
        "behind": sum(mean < 0 for mean, _ in found),
    }  # fmt: skip


def _groups(rows, models, group):
    return [
        model
        for model in models
        if models[model].group == group and any(row["model"] == model for row in rows)
    ]


# The sections.


def real(options, report):
    """Accuracy, F1 and AUC on 30 tasks at their natural priors, SCAR labels, one sample."""
    seeds = options.seeds_of(5)
    rows = runs(options, "real", options.tasks, {**OURS, **SCALED, **PEERS}, seeds)
    rows += runs(options, "real", options.tasks, PUBLISHED, seeds[:AS_PUBLISHED])
    models = MODELS
    report.say(
        f"{len(options.tasks)} tasks, at most {options.max_rows} rows, half of them for the "
        f"test; {FEWEST} to {MOST} labelled positives, 30 % of those of the training half; the "
        "others join the negatives in U. Names that end in _flipped take the other class as "
        f"positive. {len(seeds)} splits (the published steps: at most {AS_PUBLISHED}). "
        "Everybody gets standard scores, tf-idf of counts, [0, 1] pixels. No prior is given "
        "except where the name says so. Means over the splits, then over the tasks; standard "
        "errors are over the tasks, those of single sets over the splits. TAN and boosting "
        "leave out the widest sets: their means are over fewer tasks, their differences over "
        "those that they ran on. The published method is run with the published 15 x 512 "
        "steps, hundreds of passes over most of these sets, and scaled to 10 passes with a "
        "learning rate of 0.003, which was chosen in its favour: on the test halves of ten of "
        "the sets."
    )
    table = sorted(_model_rows(rows, models), key=lambda row: -row["accuracy"])
    report.table("real", table, "Means.")
    report.table("real_bars", _real_bars(rows, models), "Bars, of the default (PUTrend).")
    pairs = [
        _pair_row(rows, "PUTrend", peer, key)
        for peer in models
        if peer != "PUTrend" and any(row["model"] == peer for row in rows)
        for key in METRICS
    ]
    write_csv(options.path("real_pairs.csv"), pairs, options.header)
    shown = (
        "PUTrend", "PUTrend linear", "paper mlp, scaled", "bagging trees", "Elkan-Noto forest",
        "nnPU MLP, true prior", "oracle forest",
    )  # fmt: skip
    for key in METRICS:
        report.table(f"real_{key}", _set_rows(rows, key, shown), f"{key}, set by set.")
    _say_losses(rows, models, report)
    _plot_sets(rows, shown, options.path("real.png"))


def _real_bars(rows, models):
    """Return the default's difference to the hardest peer of each group, in each metric."""
    table = []
    for group, bars in {
        "pulearn": dict.fromkeys(METRICS, 0.0),
        "published": dict.fromkeys(METRICS, 0.0),
        "estimated prior": {"accuracy": 0.0},
        "true prior": {"accuracy": -0.015},
        "plain": {},
    }.items():
        for key in METRICS:
            pairs = [_pair_row(rows, "PUTrend", peer, key) for peer in _groups(rows, models, group)]
            if not pairs:
                continue
            hardest = min(pairs, key=lambda pair: pair["difference"])
            row = {"against": group, "metric": key, "hardest": hardest["peer"]}
            row |= {name: hardest[name] for name in ("tasks", "difference", "se")}
            row |= {name: hardest[name] for name in ("ahead", "behind")}
            if key in bars:
                reached = hardest["difference"] > bars[key]
                row |= {"bar": f"> {bars[key]:g}", "reached": bool(reached)}
            table.append(row)
    return table


def _set_rows(rows, key, shown):
    means, priors = _task_means(rows, key), _task_means(rows, "prior_U")["PUTrend"]
    return [
        {
            "set": task, "prior in U": priors[task],
            **{model: means[model].get(task, "") for model in shown if model in means},
        }
        for task in priors
    ]  # fmt: skip


def _say_losses(rows, models, report):
    """Name the sets on which the default is behind by two standard errors."""
    peers = _groups(rows, models, "pulearn")
    if not peers:
        return
    for key in METRICS:
        means = _task_means(rows, key)
        complete = [peer for peer in peers if len(means[peer]) == len(means["PUTrend"])]
        best = max(complete, key=lambda peer: np.mean(list(means[peer].values())))
        lost = {
            task: mean
            for task, (mean, se) in _differences(rows, "PUTrend", best, key).items()
            if mean < -2 * se
        }
        named = ", ".join(f"{task} {lost[task]:.3f}" for task in sorted(lost, key=lost.get))
        report.say(f"Behind {best} in {key} by more than two standard errors on: {named or 'none'}")


def _plot_sets(rows, shown, path):
    plt = pyplot()
    if plt is None:
        return
    means = _task_means(rows, "accuracy")
    ours = means["PUTrend"]
    names = sorted(ours, key=ours.get)
    figure, axes = plt.subplots(figsize=(7, 1 + 0.25 * len(names)), layout="constrained")
    for model in shown:
        if model in means and model not in ("PUTrend", "PUTrend linear"):
            axes.plot([means[model][n] for n in names], names, "o", alpha=0.6, label=model)
    axes.plot([ours[name] for name in names], names, "k|", markersize=12, label="PUTrend")
    axes.set_xlabel("test accuracy")
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def failures(options, report):
    """Runs of the section "real" below the majority share, and whether they warned."""
    seeds = options.seeds_of(5)
    rows = runs(options, "real", options.tasks, {**OURS, **SCALED}, seeds)
    rows += runs(options, "real", options.tasks, PUBLISHED, seeds[:AS_PUBLISHED])
    report.say(
        "A run fails if its test accuracy is below the larger class's share: it would have "
        "done better to call everything the same. A failed run without a PUTrendWarning is "
        "silent, a warning without a failure a false alarm. Bar: no silent run of the "
        "default."
    )
    counts, reasons = [], []
    for model in {**OURS, **SCALED, **PUBLISHED}:
        of_model = [row for row in rows if row["model"] == model]
        failed = [row for row in of_model if row["accuracy"] < row["majority"]]
        silent = [row for row in failed if "PUTrendWarning" not in row["warnings"]]
        warned = [row for row in of_model if "PUTrendWarning" in row["warnings"]]
        counts.append(
            {
                "model": model, "runs": len(of_model), "failed": len(failed),
                "silent": len(silent), "warned": len(warned),
                "false alarms": len(warned) - (len(failed) - len(silent)),
                "AUC < 0.6": sum(row["auc"] < 0.6 for row in of_model),
                "of them warned": sum(row["auc"] < 0.6 for row in warned),
                "bar": 0 if model == "PUTrend" else "",
                "reached": not silent if model == "PUTrend" else "",
            }
        )  # fmt: skip
        if model == "PUTrend":
            shown = ("task", "seed", "accuracy", "majority", "f1", "auc", "prior_U")
            shown += ("estimated prior", "warnings")
            reasons = [{key: row[key] for key in shown} for row in failed]
    report.table("failures", counts)
    report.table("failures_default", reasons, "The failed runs of the default.")


def prior(options, report):
    """Error of the share of positives in U: natural priors, and a sweep from 0.05 to 0.9."""
    natural = runs(
        options, "real", options.tasks,
        some("PUTrend", "nnPU MLP, estimated prior"), options.seeds_of(5),
    )  # fmt: skip
    seeds = options.seeds_of(2)
    report.say(
        "Mean absolute error and bias of the estimated share of positives in U: auto is what "
        "the classifier uses, bbe and dedpul are the other methods of metrics.class_prior on "
        "the same held-out scores, and bbe (logistic) is that of a cross-fitted logistic "
        "regression."
    )
    report.table("prior_natural", [_prior_row("natural", natural)], "Natural priors.")
    labels = (
        "PUTrend", "bagging trees", "nnPU MLP, true prior", "nnPU MLP, estimated prior",
    )  # fmt: skip
    swept = {
        pi: runs(options, "prior", options.swept, some(*labels), seeds, setting=f"pi={pi}", pi=pi)
        for pi in options.few(PRIORS)
    }
    rows = [_prior_row(pi, of_pi) for pi, of_pi in swept.items()]
    every = _prior_row("all", [row for of_pi in swept.values() for row in of_pi])
    every |= {"bar": 0.06, "reached": bool(every["auto MAE"] <= 0.06)}
    report.table(
        "prior_sweep",
        [*rows, every],
        f"Sweep over {len(options.swept)} sets, {len(seeds)} splits: U and the test half have this "
        "share of positives, beside a separate sample of positives.",
    )
    report.say("Sets: " + ", ".join(options.swept))
    for key in METRICS:
        table = [{"pi": pi, **_means_of(of_pi, key)} for pi, of_pi in swept.items()]
        means = {model: np.mean([row[model] for row in table]) for model in list(table[0])[1:]}
        report.table(f"prior_{key}", [*table, {"pi": "mean", **means}], f"{key} in the sweep.")


def _prior_row(name, rows):
    ours = [row for row in rows if row["model"] == "PUTrend"]
    methods = {"auto": (ours, "estimated prior"), "bbe": (ours, "bbe"), "dedpul": (ours, "dedpul")}
    others = [row for row in rows if row["model"] == "nnPU MLP, estimated prior"]
    if others:
        methods["bbe (logistic)"] = (others, "estimated prior")
    row = {"pi": name, "runs": len(ours)}
    for method, (of_method, key) in methods.items():
        miss = np.array([r[key] - r["prior_U"] for r in of_method])
        row |= {f"{method} MAE": np.abs(miss).mean(), f"{method} bias": miss.mean()}
    return row


def _means_of(rows, key):
    """Return {model: mean over the tasks} of a column."""
    return {
        model: np.mean(list(of_model.values()))
        for model, of_model in _task_means(rows, key).items()
    }


def bias(options, report):
    """Labelled positives drawn at random, and with a preference for easy or hard ones."""
    seeds = options.seeds_of(3)
    models = {
        **some("PUTrend"),
        "PUTrend, natural break": ours(split="natural"),
        **some("paper mlp, scaled", "authors' code mlp, scaled"),
        **some("bagging trees", "Elkan-Noto logistic", "Elkan-Noto forest"),
    }
    report.say(
        f"{len(options.swept)} sets ({', '.join(options.swept)}), {len(seeds)} splits. The "
        "weight of a positive in the draw of labels is exp(bias z), z its standardised log "
        "odds in a logistic regression on the true labels: 0 is SCAR, 1 prefers the easy "
        "ones, -1 those at the border. Standard errors of the default's difference to each "
        "are over the sets."
    )
    for b in (0.0, 1.0, -1.0):
        rows = runs(options, "bias", options.swept, models, seeds, setting=f"bias={b:g}", bias=b)
        table = _model_rows(rows, models)
        _add_differences(table, rows)
        report.table(f"bias_{b:g}", table, f"bias = {b:g}")


def _add_differences(table, rows):
    for row in table:
        if row["model"] != "PUTrend":
            pair = _pair_row(rows, "PUTrend", row["model"], "accuracy")
            row |= {"default ahead by": pair["difference"], "its se": pair["se"]}


def few(options, report):
    """From 5 to 500 labelled positives."""
    seeds = options.seeds_of(2)
    models = some(
        "PUTrend", "bagging trees", "Elkan-Noto logistic", "Elkan-Noto forest",
        "nnPU MLP, estimated prior",
    )  # fmt: skip
    report.say(
        f"{len(options.swept)} sets ({', '.join(options.swept)}), {len(seeds)} splits; sets "
        "with fewer than 1.25 times as many positives in the training half are left out. "
        "Below 20 the split is the natural break. Means over the sets; differences to the "
        "default in the CSV file."
    )
    tables = {key: [] for key in METRICS}
    summary = []
    for n in options.few(COUNTS):
        tasks = [name for name in options.swept if _has_positives(name, 1.25 * n, options)]
        if not tasks:
            continue
        rows = runs(options, "few", tasks, models, seeds, setting=f"n={n}", n_labeled=n)
        for key, table in tables.items():
            table.append({"labelled": n, "sets": len(tasks), **_means_of(rows, key)})
        of_n = _model_rows(rows, models)
        _add_differences(of_n, rows)
        summary += [{"labelled": n, **row} for row in of_n]
    write_csv(options.path("few.csv"), summary, options.header)
    for key, table in tables.items():
        report.table(f"few_{key}", table, key)


def _has_positives(name, n, options):
    y = load_task(name, options.data_home)[1]
    return y.mean() * min(len(y), options.max_rows) / 2 >= n


# How the default is chosen.

CONFIGURATIONS = {
    "default": {},
    "trend=mean": {"trend": "mean"},
    "trend=slope": {"trend": "slope"},
    "split=natural": {"split": "natural"},
    "split=variance": {"split": "variance"},
    "hard labels": {"pseudo_labels": "hard"},
    "natural, hard": {"split": "natural", "pseudo_labels": "hard"},
    "final=same": {"final_estimator": "same"},
    "final=same, hard": {"final_estimator": "same", "pseudo_labels": "hard"},
    "final=forest": {"final_estimator": RandomForestClassifier(min_samples_leaf=3)},
    "final=logistic": {"final_estimator": LogisticRegression(max_iter=1000)},
    "no early stopping": {"early_stopping": False},
}
SELECT_ROWS = 2_000


def select(options, report):
    """The configuration that is best on the other sets, set by set, against the default."""
    seeds = options.seeds_of(2)
    settings = CONFIGURATIONS
    if options.quick:
        settings = {name: settings[name] for name in ("default", "split=natural")}
    models = {name: ours(**of_model) for name, of_model in settings.items()}
    tasks = BUNDLED if options.quick else [name for name in TASKS if name not in IMAGES]
    max_rows = min(SELECT_ROWS, options.max_rows)
    rows = runs(options, "select", tasks, models, seeds, max_rows=max_rows)
    report.say(
        f"{len(tasks)} tasks without the images, at most {max_rows} rows, {len(seeds)} splits. "
        "For each task the configuration with the highest mean on the tasks of all other sets "
        "is chosen (tasks made of one set are left out together) and scored on that task."
    )
    report.table("select", _model_rows(rows, models), "Configurations.")
    table = []
    for key in (*METRICS, "sum"):
        means = {metric: _task_means(rows, metric) for metric in METRICS}
        goal = {
            model: {
                task: sum(means[metric][model][task] for metric in METRICS)
                if key == "sum"
                else means[key][model][task]
                for task in means["auc"][model]
            }
            for model in means["auc"]
        }
        chosen = {task: _best_elsewhere(goal, task) for task in goal["default"]}
        names, counts = np.unique(list(chosen.values()), return_counts=True)
        picked, default = (
            {
                metric: np.mean([means[metric][model][task] for task, model in choice.items()])
                for metric in METRICS
            }
            for choice in (chosen, dict.fromkeys(chosen, "default"))
        )
        hindsight = max(goal, key=lambda model: np.mean(list(goal[model].values())))
        difference, se = mean_and_error(
            [goal["default"][task] - goal[model][task] for task, model in chosen.items()]
        )
        table.append(
            {
                "chosen by": key, **{f"{metric} chosen": picked[metric] for metric in METRICS},
                **{f"{metric} default": default[metric] for metric in METRICS},
                "default ahead by": difference, "se": se, "best in hindsight": hindsight,
                "chosen": ", ".join(f"{n} x {name}" for name, n in zip(names, counts, strict=True)),
            }
        )  # fmt: skip
    report.table("select_left_out", table, "Leave one set out.")


def _best_elsewhere(values, task):
    """Return the model with the highest mean over the tasks of other sets."""

    def base(name):
        return name.split("_")[0]

    others = [other for other in values["default"] if base(other) != base(task)]
    return max(values, key=lambda model: np.mean([values[model][other] for other in others]))


# What the trend adds.

# Passes, learning rate, early stopping: the default is the second.
TRAININGS = ((10, 0.003, False), (10, 0.03, True), (10, 0.03, False), (100, 0.03, False))


def trend(options, report):
    """The six trend scores: the mean of the snapshots against those that look at their course."""
    seeds = options.seeds_of(2)
    tasks = BUNDLED[:1] if options.quick else TREND_SETS
    max_rows = min(SELECT_ROWS, options.max_rows)
    report.say(
        f"{len(tasks)} sets ({', '.join(tasks)}), at most {max_rows} rows, {len(seeds)} "
        "splits. First stage alone, the scores of the unlabelled rows on held-out runs: AUC "
        "in U, and the share called right in U when as many as are truly positive are called "
        "so. At least 20 steps for each of 15 snapshots, so that 10 passes are more on small "
        "sets. The standard error is that of the AUC's difference to the mean of the "
        "snapshots, over the sets."
    )
    found = []
    for estimator in ("linear", "mlp"):
        for n_passes, learning_rate, early_stopping in options.few(TRAININGS):
            settings = {
                "estimator": estimator, "n_passes": n_passes, "learning_rate": learning_rate,
                "early_stopping": early_stopping,
            }  # fmt: skip
            found += _trends_in_U(tasks, seeds, settings, max_rows, options)
    write_csv(options.path("trend_in_U_runs.csv"), found, options.header)
    report.table("trend_in_U", _trend_rows(found), "In U.")

    models = {f"trend={kind}": ours(trend=kind) for kind in ("auto", *options.few(TRENDS))}
    rows = runs(options, "trend", tasks, models, seeds, max_rows=max_rows)
    report.table(
        "trend",
        _model_rows(rows, models),
        "The whole classifier on the test half; an inverted trend falls back to the mean, with a "
        "warning.",
    )


def _trends_in_U(tasks, seeds, settings, max_rows, options):
    rows = []
    for name in tasks:
        for seed in seeds:
            task = make_task(name, seed, max_rows=max_rows, data_home=options.data_home)
            X, s, _, _, y, prior = task
            model = PUTrendClassifier(
                **settings, trend="mean", class_prior=prior, pseudo_labels="hard",
                final_estimator=DummyClassifier(), store_history=True, random_state=seed,
            )  # fmt: skip
            model.fit(StandardScaler().fit_transform(X), s)
            y_U = y[s == 0]
            for kind in TRENDS:
                scores = trend_scores(model.score_history_, kind)
                called = np.zeros(len(y_U), dtype=int)
                called[np.argsort(scores)[len(y_U) - y_U.sum() :]] = 1
                rows.append(
                    {
                        **settings, "task": name, "seed": seed, "kind": kind,
                        "auc": roc_auc_score(y_U, scores), "accuracy": np.mean(called == y_U),
                        "snapshots": len(model.score_history_),
                    }
                )  # fmt: skip
    return rows


def _trend_rows(found):
    settings = ("estimator", "n_passes", "learning_rate", "early_stopping")
    groups = {}
    for row in found:
        groups.setdefault(tuple(row[key] for key in settings), []).append(row)
    table = []
    for values, rows in groups.items():
        auc, accuracy = (
            _task_means([{**row, "model": row["kind"]} for row in rows], key)
            for key in ("auc", "accuracy")
        )
        for kind in TRENDS:
            difference, se = mean_and_error(
                [auc[kind][task] - auc["mean"][task] for task in auc[kind]]
            )
            of_kind = [row for row in rows if row["kind"] == kind]
            table.append(
                {
                    **dict(zip(settings, values, strict=True)), "trend": kind,
                    "snapshots": np.mean([row["snapshots"] for row in of_kind]),
                    "AUC": np.mean(list(auc[kind].values())), "less mean's": difference, "se": se,
                    "accuracy": np.mean(list(accuracy[kind].values())),
                    "inverted": sum(row["auc"] < 0.5 for row in of_kind), "runs": len(of_kind),
                }
            )  # fmt: skip
    return table


# Time.


def speed(options, report):
    """The first stage against SGDClassifier, a fit against pulearn's bagging, the break, a sort."""
    n, d, rounds = (2_000, 10, 1) if options.quick else (100_000, 50, 5)
    rng = np.random.default_rng(0)
    n_P = n // 20
    positive = np.r_[np.ones(n_P, dtype=bool), rng.random(n) < 0.3]
    X = rng.normal(size=(n_P + n, d)) + 0.3 * positive[:, None]
    s = np.repeat([1, 0], [n_P, n])
    report.say(
        f"{n} unlabelled rows, {n_P} labelled positives, d = {d}, one thread, seconds of the "
        "processor. The ratio is the median over rounds of ours / reference, measured in "
        "turns (reference, ours, ours, reference), with its quartiles. The first stage is a "
        "fit with a given prior and a constant second stage: 10 runs, 10 passes, 15 "
        "snapshots, the split. SGDClassifier makes 10 passes."
    )
    first = PUTrendClassifier(
        "linear", trend="mean", class_prior=0.3, pseudo_labels="hard",
        final_estimator=DummyClassifier(), random_state=0,
    )  # fmt: skip
    sgd = SGDClassifier(loss="log_loss", max_iter=10, tol=None, random_state=0)
    rows = [
        _timing(
            "first stage, linear", "SGDClassifier", lambda: first.fit(X, s), lambda: sgd.fit(X, s),
            rounds, 5.0,
        )
    ]  # fmt: skip
    size = 10_000 if options.quick else 1_000_000
    scores = rng.random(size)
    for criterion in ("sse", "variance"):
        rows.append(
            _timing(
                f"break, {criterion}, n = {size}", "np.sort",
                partial(natural_break, scores, criterion=criterion), partial(np.sort, scores),
                rounds, 1.3,
            )
        )  # fmt: skip
    report.table("speed", rows, "Parts.")
    models = {
        "PUTrend linear": PUTrendClassifier("linear", random_state=0),
        "PUTrend": PUTrendClassifier(random_state=0),
    }
    if find_spec("pulearn"):
        from pulearn import BaggingPuClassifier

        models["pulearn's bagging, 100 trees of all positives and as many of U"] = (
            BaggingPuClassifier(tree(), n_estimators=100, max_samples=n_P, random_state=0)
        )
    table = []
    for label, model in models.items():
        start = time.process_time()
        model.fit(X, s)
        table.append({"fit": label, "seconds": time.process_time() - start})
    for row in table[:2] if len(table) > 2 else []:
        ratio = row["seconds"] / table[2]["seconds"]
        row |= {"of bagging's": ratio, "bar": 1.0, "reached": bool(ratio < 1)}
    report.table("speed_fit", table, "A whole fit, once.")


def _timing(what, reference, ours, peer, rounds, bar):
    timing = paired_ratio(ours, peer, rounds=rounds)
    return {
        "what": what, "against": reference, "seconds": timing["ours"],
        "reference": timing["reference"], "ratio": timing["ratio"], "spread": timing["spread"],
        "bar": bar, "reached": bool(timing["ratio"] <= bar),
    }  # fmt: skip


# Images.


def images(options, report):
    """Fashion-MNIST in the paper's class splits, a small convolutional network."""
    if find_spec("torch") is None:
        report.say("torch is not installed")
        return
    import torch

    torch.set_num_threads(1)
    seeds = options.seeds_of(3)
    tasks = ("digits_8",) if options.quick else IMAGES
    n_train, n_test, n_labeled = (150, 150, 10) if options.quick else (5_000, 5_000, 1_000)
    first = {"n_folds": 2, "n_snapshots": 8, "steps_per_snapshot": 2 if options.quick else 80}
    settings = {**first, "weak_transform": shifted}
    models = {
        "PUTrend CNN": ours(None, lenet, **settings),
        "nnPU CNN, true prior": Model(
            lambda case: NNPU(
                case.prior, True, lenet, shifted, n_steps=1000 if not options.quick else 10,
                random_state=case.seed,
            ),
            "true prior",
        ),
        "oracle CNN": Model(lambda case: CNN(case.seed), "oracle"),
    }  # fmt: skip
    path = options.path("images_runs.csv")
    done = {(row["task"], row["seed"], row["model"]) for row in read_runs(path, TEXT)}
    for name in tasks:
        X, y = _pixels(name, options)
        for seed in seeds:
            train, test = train_test_split(
                np.arange(len(y)), train_size=n_train, test_size=n_test, stratify=y,
                random_state=seed,
            )  # fmt: skip
            _, s, y_train = make_pu(
                X[train].reshape(n_train, -1), y[train], n_labeled=n_labeled, random_state=seed
            )
            case = Case(n_labeled, n_train - n_labeled, y_train[s == 0].mean(), True, seed)
            for label, model in models.items():
                if (name, seed, label) in done:
                    continue
                labels = y_train if model.group == "oracle" else s
                row = run(model.build(case), case, X[train], labels, X[test], y[test])
                append_csv(
                    path, {"task": name, "setting": "natural", "model": label, **row}, COLUMNS
                )
    rows = [row for row in read_runs(path, TEXT) if row["seed"] in seeds]
    report.say(
        f"{n_train} training images, of which {n_labeled} labelled positives, {n_test} for the "
        f"test, {len(seeds)} splits. LeNet, shifts by up to 3 pixels and mirror images for "
        f"all. PUTrend: {first}, the second stage 50 epochs; the oracle is that second stage "
        "on the true labels; nnPU: 1,000 steps of Adam with 128 rows of P and of U, told the "
        "true prior. Goal: an accuracy of at least nnPU's. CPU; sizes are cut to what one "
        "core does in minutes."
    )
    for name in tasks:
        of_task = [row for row in rows if row["task"] == name]
        table = []
        for label in models:
            of_model = [row for row in of_task if row["model"] == label]
            accuracy, se = mean_and_error([row["accuracy"] for row in of_model])
            row = {"model": label, "accuracy": accuracy, "se over splits": se}
            row |= {key: np.mean([r[key] for r in of_model]) for key in ("f1", "auc")}
            row["prior in U"] = np.mean([r["prior_U"] for r in of_model])
            row["estimated"] = np.mean([r["estimated prior"] for r in of_model])
            row["seconds"] = np.median([r["seconds"] for r in of_model])
            row["warned"] = sum("PUTrendWarning" in r["warnings"] for r in of_model)
            table.append(row)
        reached = table[0]["accuracy"] >= table[1]["accuracy"]
        table[0] |= {"bar": f">= {table[1]['accuracy']:.4g}", "reached": bool(reached)}
        report.table(f"images_{name}", table, name)


def _pixels(name, options):
    """Return images of shape (n, 1, 28, 28) in about standard units, and labels."""
    if options.quick:
        X, digit = load_digits(return_X_y=True)
        large = np.kron(X.reshape(-1, 1, 8, 8) / 16, np.ones((3, 3)))
        return np.pad(large, ((0, 0), (0, 0), (2, 2), (2, 2))).astype(np.float32), digit == 8
    X, y = load_task(name, options.data_home)
    return ((X.reshape(-1, 1, 28, 28) - 0.286) / 0.353).astype(np.float32), y


SECTIONS = {
    section.__name__: section
    for section in (real, failures, prior, bias, few, select, trend, speed, images)
}


def main():
    """Run the chosen sections; print and write their tables, and their text."""
    options = parse_sections(argument_parser("python -m benchmarks.pu_trend", __doc__), SECTIONS)
    begin(options, PACKAGES, "pu_")
    options.tasks = BUNDLED[:1] if options.quick else TASKS
    options.swept = BUNDLED[:1] if options.quick else SWEPT
    options.max_rows = 300 if options.quick else MAX_ROWS
    options.few = lambda values: values[1:3] if options.quick else values
    if options.quick:
        for path in options.output.glob("quick_pu_*_runs.csv"):
            path.unlink()
    report_sections(SECTIONS, options, PUTrendWarning)


if __name__ == "__main__":
    main()
