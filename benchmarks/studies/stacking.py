"""AUPRCStackingClassifier against tuned single models and other stacks, on the same splits.

The stack is fitted as it comes. What its parts bring is read off the same fit: the other ways to
combine its members see the same held-out and test predictions.
"""

from functools import partial

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from scipy.special import expit
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss

from benchmarks import _engine as engine
from benchmarks._data import BUNDLED, QUICK_ROWS, load, shuffled
from benchmarks._parts import platt
from benchmarks.peers import tables as peers
from pnsklearn import AUPRCStackingClassifier

PACKAGES = ("numpy", "scipy", "scikit-learn", "numba", "lightgbm", "xgboost", "catboost", "libauc")
DENSE = (
    "ecoli4", "yeast4", "yeast6", "oil_spill", "car_vgood", "wine_red_ge7", "abalone19", "sick",
    "phoneme", "page_blocks_not1", "satimage_4", "letter_a", "mammography", "creditcard_fraud",
    "credit_default", "adult",
)  # fmt: skip
SPARSE = ("sms_spam", "tox21_nr_ar", "hiv")
FEW = (
    "yeast4", "car_vgood", "wine_red_ge7", "sick", "phoneme", "page_blocks_not1", "satimage_4",
    "letter_a", "mammography", "creditcard_fraud", "credit_default", "adult",
)  # fmt: skip
LARGE = ("adult", "credit_default", "letter_a", "mammography", "creditcard_fraud", "hiv")
NOISY = ("wine_red_ge7", "phoneme", "page_blocks_not1", "satimage_4", "credit_default", "adult")
OURS, BASE, AGAINST = "stack", "LightGBM, tuned", "stack less"
MAX_TRAIN = 4_000  # training rows
ENOUGH = 20  # test positives below which a set's average precision says little
# Splits of the models that take long.
SPLITS = {
    "HGB, tuned": 2, "XGBoost, tuned": 2, "extra trees, tuned": 2, "CatBoost, tuned": 1,
    "LibAUC network": 1,
}  # fmt: skip
SPARSE_MODELS = (BASE, "LightGBM", "logistic, tuned")  # those that are quick on a sparse X
SLOW = ("CatBoost, tuned", "LibAUC network")  # left out of --quick
# Models whose best is the best single one: each tuned, but the forest.
SINGLE = (
    BASE, "HGB, tuned", "XGBoost, tuned", "CatBoost, tuned", "extra trees, tuned", "forest",
    "logistic, tuned", "linear AUPRC",
)  # fmt: skip
BY_TEST, BY_CV = "best single, by test", "best single, by CV"
ABLATIONS = {
    "anchor: logistic": {"anchor": "logistic"}, "anchor: average": {"anchor": "average"},
    "weights of any sign": {"positive": False}, "alpha: infinite": {"alpha": np.inf},
    "alpha: cv": {"alpha": "cv"},
}  # fmt: skip


# Runs: a cell is a set, a level (what it means is the section's), a split and a model.


def plain(y, train, level, split):
    """Return the training rows and labels as they are."""
    return train, y[train]


def few_positives(y, train, level, split):
    """Return the rows with `level` of the positives, None if there are not more."""
    positive = np.flatnonzero(y[train])
    if len(positive) <= level:
        return None
    dropped = np.random.default_rng(split).permutation(positive)[level:]
    train = np.delete(train, dropped)
    return train, y[train]


def flipped(y, train, level, split):
    """Return the rows with a share `level` of all their labels flipped."""
    n = round(level * len(train))
    labels = y[train]
    labels[np.random.default_rng(split).choice(len(train), n, replace=False)] ^= 1
    return train, labels


class Protocol:
    """The training and test rows of the runs of a section."""

    def __init__(self, options, change=plain, max_train=MAX_TRAIN):
        self.options, self.change, self.max_train = options, change, max_train

    def task(self, set, level, split):
        """Return X, y, X_test and y_test, None if the level is not to be had."""
        X, y = load(set, self.options.data_home)
        train, test = shuffled(y, split, self.options.pick(self.max_train, QUICK_ROWS))
        changed = self.change(y, train, level, split)
        return changed and (X[changed[0]], changed[1], X[test], y[test])

    def run_peer(self, set, level, split, model):
        """Return the scores of a single model."""
        task = self.task(set, level, split)
        sparse = task and issparse(task[0])
        if task is None or (sparse and model in peers.NO_SPARSE):
            return []
        X, y, X_test, y_test = task
        estimator = peers.SINGLE[model](split, self.options.quick, sparse)
        _, seconds = engine.seconds_of(estimator.fit, X, y)
        probability = estimator.predict_proba(X_test)[:, 1]
        own = {"cv": peers.cv_precision(estimator), "seconds": seconds}
        return scores(y_test, probability) | own

    def run_stack(self, set, level, split, model, ablated=False):
        """Return the scores of the stack and of other ways to combine its members."""
        task = self.task(set, level, split)
        if task is None:
            return []
        X, y, X_test, y_test = task
        stack = AUPRCStackingClassifier(random_state=split)
        _, seconds = engine.seconds_of(stack.fit, X, y)
        shared = {"n": len(y), "n+": y.sum(), "test n+": y_test.sum()}
        P, P_test = peers.member_probabilities(stack, X_test)
        Z, Z_test = standardised(stack), stack.transform(X_test)
        log_odds = stack.decision_function(X_test)
        own = {"seconds": seconds, "alpha": stack.alpha_}
        rows = [{"model": OURS, **scores(y_test, expit(log_odds), log_odds), **own}]
        for head, combine in peers.HEADS.items():
            rows.append({"model": head, **scores(y_test, combine(P, y, P_test))})
        for name, z, z_test in zip(stack.named_estimators_, Z.T, Z_test.T, strict=True):
            slope, intercept = platt(z, y == 1, np.ones(len(y)))
            calibrated = slope * z_test + intercept
            own = scores(y_test, expit(calibrated), calibrated)
            rows.append({"model": name, "part": "member", **own})
        if ablated:
            found = ablations(stack, Z, y, Z_test)
            changed = {"part": "ablation"}
            rows += [{"model": name, **changed, **scores(y_test, expit(s), s)} for name, s in found]
        return [row | shared for row in rows]


def scores(y, probability, ranked=None):
    """Return average precision (of `ranked`, where probabilities have ties), and the losses."""
    return {
        "AP": average_precision_score(y, probability if ranked is None else ranked),
        "log-loss": log_loss(y, probability), "Brier": brier_score_loss(y, probability),
    }  # fmt: skip


def standardised(stack):
    """Return the held-out log-odds as the stack's last estimator was given them."""
    return (stack.oof_decision_function_ - stack.center_) / stack.scale_


def ablations(stack, Z, y, Z_test):
    """Yield (what, test log-odds) of the same stack with one thing changed."""
    for name, settings in ABLATIONS.items():
        head = clone(stack.final_estimator_).set_params(**settings)
        yield name, head.fit(Z, y).decision_function(Z_test)
    for column, name in enumerate(stack.named_estimators_):
        rest = np.arange(Z.shape[1]) != column
        head = clone(stack.final_estimator_).fit(Z[:, rest], y)
        yield f"without {name}", head.decision_function(Z_test[:, rest])


def peer_rows(name, protocol, report, models, places):
    """Return the rows of single models at some places; they do not depend on the stack."""
    quick = protocol.options.quick
    cells = [
        place | {"model": model} for place in places for model in models
        if place["split"] < SPLITS.get(model, np.inf) and not (quick and model in SLOW)
    ]  # fmt: skip
    return report.runs(f"{name}_peers", cells, protocol.run_peer)


def stack_rows(name, protocol, report, places, ablated=False):
    """Return the rows of the stack at some places, and of all that is made of its members."""
    run = partial(protocol.run_stack, ablated=ablated)
    return report.runs(f"{name}_stack", [place | {"model": OURS} for place in places], run)


def _table_places(options):
    """Return sets, level and splits of `tables`: the dense ones, and the sparse ones."""
    if options.quick:
        return engine.grid(set=BUNDLED, level=[0], split=[0]), []
    dense = engine.grid(set=DENSE, level=[0], split=options.seeds_of(3))
    return dense, engine.grid(set=SPARSE, level=[0], split=[0])


# Tables.


def differences(table, alone=False):
    """Return a row for each model: the stack less it, over the sets (the first level of units)."""
    gain, error = engine.differences(table, OURS)
    rows = []
    for model in gain.dropna(axis=1, how="all"):
        of_sets, errors = gain[model].dropna(), error[model].reindex(gain[model].dropna().index)
        lost = of_sets[(of_sets < -2 * errors) & (of_sets < -0.005)]
        mean, of_mean = engine.mean_se(of_sets)
        rows.append({
            AGAINST: model, "difference": mean, "se": of_mean, "sets": len(of_sets),
            "up": (of_sets > 0).sum(), "down": (of_sets < 0).sum(),
            "worst": of_sets.min(),
            "lost by 2 se": (of_sets < -2 * errors).sum(),
            "and by 0.005": ", ".join(set_of(unit) for unit in lost.index) or "-",
        })  # fmt: skip
    return pd.DataFrame(rows)


def set_of(unit):
    """Return the set of a unit, which may have a level too."""
    return unit if isinstance(unit, str) else unit[0]


def with_best(table, rows):
    """Return the table with the best single model: of each set by its test scores, or by CV.

    The first is an oracle. The second is chosen on each split among the models that ran on it.
    """
    models = [model for model in SINGLE if model in table]
    gain, _ = engine.differences(table[[OURS, *models]], OURS)
    best = gain.dropna(how="all").idxmin(axis=1)
    chosen = rows[rows["model"].isin(models)].dropna(subset="cv")
    chosen = chosen.loc[chosen.groupby(["set", "split"])["cv"].idxmax()]
    by_cv = chosen.set_index(["set", "split"])["AP"]
    by_test = [row.get(best.get(name), np.nan) for (name, _), row in table.iterrows()]
    return table.assign(**{BY_TEST: by_test, BY_CV: by_cv.reindex(table.index)}), best


def bars(*asked):
    """Return rows that say whether a mean difference to a model reaches its bar.

    What is asked for is (what, summary or None, model, least difference); "2 se" are two standard
    errors. Models that did not run have no row.
    """
    return [_bar(*one) for one in asked if one[1] is not None and one[2] in set(one[1][AGAINST])]


def _bar(what, summary, model, least):
    row = summary.set_index(AGAINST).loc[model]
    least = 2 * row["se"] if least == "2 se" else least
    reached = row["difference"] >= least
    return {
        "bar": what, "difference": row["difference"], "se": row["se"], "at least": least,
        "sets": row["sets"], "reached": bool(reached), "lost by 0.005": row["and by 0.005"],
    }  # fmt: skip


def tables(options, report):
    """Test AP of the stack against single models and other stacks, at most 4,000 training rows."""
    rows = _tables_rows(options, report)
    table, best = with_best(engine.wide(rows, "AP", "set", "split"), rows)
    n_positive = rows.groupby("set", sort=False)["test n+"].max()
    means = engine.by_unit(table).mean()
    sizes = rows[rows["model"] == OURS].groupby("set", sort=False)[["n", "n+", "test n+"]].first()
    parts = rows.loc[rows["part"].notna(), "model"].unique()
    shown = means.drop(columns=parts)
    report.table("tables_means", sizes.join(shown).assign(best=best).reset_index(), "Mean test AP:")
    n_splits = rows.groupby("model")["split"].nunique().drop(parts)
    fewer = n_splits[n_splits < n_splits.max()]
    report.say(
        f"{n_splits.max()} splits of the dense sets, one of the sparse; fewer, which a mean is "
        f"then over, for {', '.join(f'{model} ({n})' for model, n in fewer.items()) or 'none'}."
    )
    report.keep("tables_parts", means[[OURS, *parts]].reset_index())

    sparse = table.index.get_level_values("set").isin(SPARSE)
    enough = table.index.get_level_values("set").isin(n_positive.index[n_positive >= ENOUGH])
    groups = {
        "all dense sets": ~sparse, "dense sets with 20 test positives": ~sparse & enough,
        "sparse sets": sparse,
    }  # fmt: skip
    found = {}
    for name, chosen in groups.items():
        if chosen.any():
            found[name] = differences(table[chosen])
            key = name.split(" ")[0] if name != "dense sets with 20 test positives" else "enough"
            report.table(f"tables_{key}", found[name], f"The stack less each, {name}:")
    report.say(
        "The best single model by test is an oracle: chosen for each set by the scores that it is "
        "judged by. Best by CV: on each split the tuned model of the highest cross-validated AP."
    )
    report.table("tables_bars", _tables_bars(found), "Bars:")
    if BASE in table:
        report.table("tables_sets", _by_set(table), f"The stack less {BASE}, set by set:")
        report.figure(_plot, _by_set(table))


def _tables_rows(options, report):
    protocol, (dense, sparse) = Protocol(options), _table_places(options)
    rows = [
        stack_rows("tables", protocol, report, dense + sparse, ablated=True),
        peer_rows("tables", protocol, report, list(peers.SINGLE), dense),
    ]
    if sparse:
        rows.append(peer_rows("tables", protocol, report, SPARSE_MODELS, sparse))
    return pd.concat(rows, ignore_index=True)


def _tables_bars(found):
    every, enough = found["all dense sets"], found.get("dense sets with 20 test positives")
    return bars(
        ("tuned LightGBM, 20 test positives", enough, BASE, 0.012),
        ("stock HGB", every, "HGB", 0.03),
        ("best single model by test, above 0 by 2 se", every, BY_TEST, "2 se"),
        ("StackingClassifier", every, "StackingClassifier", 0.0),
    )


def _by_set(table):
    gain, error = engine.differences(table, OURS)
    found = pd.DataFrame({"difference": gain[BASE], "se": error[BASE]})
    return found.assign(**{"lost by 2 se": found["difference"] < -2 * found["se"]}).reset_index()


def _plot(plt, table):
    table = table.sort_values("difference")
    figure, axes = plt.subplots(figsize=(6, 1 + 0.25 * len(table)), layout="constrained")
    axes.errorbar(table["difference"], table["set"], xerr=2 * table["se"], fmt="o", capsize=3)
    axes.axvline(0, color="grey", linewidth=1)
    axes.set_xlabel("test AP, the stack - tuned LightGBM (± 2 standard errors)")
    return figure


def few(options, report):
    """Test AP with 10, 30 and 100 positives left in the training rows; the negatives stay."""
    protocol = Protocol(options, few_positives)
    levels = options.pick([10, 30, 100], [10])
    models = [BASE, "HGB"]
    rows = _levels_rows("few", protocol, report, models, FEW, levels)
    found = _levels(rows, report, "few", [BASE, "HGB", "StackingClassifier", "soft voting"])
    of_base = {10: 0.04, 30: 0.02, 100: 0.01}
    stacking = "StackingClassifier"
    asked = [
        (f"tuned LightGBM, {n} positives", found.get(n), BASE, of_base[n]) for n in of_base
    ] + [(f"{stacking}, {n} positives", found.get(n), stacking, 1e-9) for n in of_base]
    report.table("few_bars", bars(*asked), "Bars:")


def noise(options, report):
    """Test AP after 5 and 20 % of the training labels were flipped; those of the test are true."""
    protocol = Protocol(options, flipped)
    levels = options.pick([0.05, 0.2], [0.05])
    rows = _levels_rows("noise", protocol, report, [BASE, "HGB"], NOISY, levels)
    _levels(rows, report, "noise", [BASE, "HGB", "StackingClassifier", "soft voting"])


def large(options, report):
    """Test AP with as many training rows as there are, up to 100,000."""
    protocol = Protocol(options, max_train=100_000)
    models = [BASE, "HGB", "LightGBM"]
    rows = _levels_rows("large", protocol, report, models, LARGE, [0], n_splits=1)
    compared = [BASE, "HGB", "LightGBM", "StackingClassifier", "soft voting"]
    summary = _levels(rows, report, "large", compared)[0]
    rows = bars(("tuned LightGBM, above 0", summary, BASE, 1e-9))
    for worst in summary.loc[summary[AGAINST] == BASE, "worst"]:
        row = {"bar": "tuned LightGBM, the worst set", "difference": worst, "at least": -0.002}
        rows.append(row | {"reached": bool(worst >= -0.002)})
    report.table("large_bars", rows, "Bars:")


def _levels_rows(name, protocol, report, models, sets, levels, n_splits=2):
    options = protocol.options
    places = engine.grid(
        set=options.pick(sets, BUNDLED[:1]), level=levels, split=options.seeds_of(n_splits)
    )
    found = stack_rows(name, protocol, report, places)
    rows = peer_rows(name, protocol, report, models, places)
    return pd.concat([found, rows], ignore_index=True)


def _levels(rows, report, name, compared):
    """Say means and differences at each level; return {level: differences}."""
    compared = [model for model in compared if model in set(rows["model"])]
    rows = rows[rows["model"].isin([OURS, *compared])]
    table = engine.wide(rows, "AP", ["level", "set"], "split")
    levels = list(dict.fromkeys(table.index.get_level_values("level")))
    sizes = rows[rows["model"] == OURS].groupby(["level", "set"])[["n", "n+"]].first()
    per_set = sizes.join(engine.by_unit(table).mean())
    if BASE in table:
        gain, error = engine.differences(table, OURS)
        seconds = rows.groupby(["level", "set", "model"])["seconds"].median().unstack()
        per_set = per_set.assign(difference=gain[BASE], se=error[BASE])
        per_set = per_set.join(seconds[[OURS, BASE]].add_prefix("seconds "))
    per_set = per_set.droplevel("level") if len(levels) == 1 else per_set
    report.table(f"{name}_sets", per_set.reset_index(), f"Means, and the stack less {BASE}:")
    found = {}
    for level in levels:
        found[level] = differences(table.loc[level])
    both = pd.concat([summary.assign(level=level) for level, summary in found.items()])
    both = both[["level", *both.columns[:-1]]] if len(found) > 1 else found[levels[0]]
    report.table(name, both, "The stack less each, over the sets:")
    return found


def calibration(options, report):
    """Log-loss and Brier score of the stack against its members, each after a Platt fit."""
    dense, sparse = _table_places(options)
    rows = stack_rows("tables", Protocol(options), report, dense + sparse, ablated=True)
    weight = rows.groupby("set", sort=False)["test n+"].first()
    members = rows.loc[rows["part"] == "member", "model"].unique()
    found, summary = [], []
    for loss in ("log-loss", "Brier"):
        means = engine.by_unit(engine.wide(rows, loss, "set", "split")).mean()
        best = means[members]
        ratio = means[OURS] / best.min(axis=1)
        columns = {
            "loss": loss, "stack": means[OURS], "best member": best.min(axis=1),
            "which": best.idxmin(axis=1), "ratio": ratio,
            "StackingClassifier": means["StackingClassifier"], "soft voting": means["soft voting"],
        }  # fmt: skip
        found.append(pd.DataFrame(columns).reset_index())
        mean = np.average(ratio, weights=weight.reindex(ratio.index))
        row = {"loss": loss, "weighted mean ratio": mean, "plain mean": ratio.mean()}
        row |= {"below 1": (ratio < 1).sum(), "sets": len(ratio), "worst": ratio.max()}
        goal = {"bar": 0.98, "reached": bool(mean <= 0.98)} if loss == "log-loss" else {}
        summary.append(row | goal)
    report.table("calibration_sets", pd.concat(found))
    report.say(
        "The best member is an oracle: of each set by its mean test loss. The ratios are weighted "
        "by the test positives."
    )
    report.table("calibration", summary)


def cost(options, report):
    """CPU seconds of the stack's fit, and of its last step alone, in fits of stock HGB."""
    rows, sizes = [], options.pick((1_000, 4_000, 20_000, 100_000), (500,))

    def run(data, n, model):
        X, y = _generated(n) if data == "generated" else _adult(n, options)
        boosting = HistGradientBoostingClassifier(random_state=0)
        stack = AUPRCStackingClassifier(random_state=0)
        stack.final_estimator.fit(X[:500], y[:500])  # compile
        found = []
        for _ in range(3 if 1_000 <= n <= 4_000 else 1):
            before = engine.seconds_of(boosting.fit, X, y)[1]
            ours = engine.seconds_of(stack.fit, X, y)[1]
            after = engine.seconds_of(boosting.fit, X, y)[1]
            head = clone(stack.final_estimator_)
            own = engine.seconds_of(head.fit, standardised(stack), y)[1]
            found.append((ours, (before + after) / 2, own))
        return dict(zip(("stack", "HGB", "head"), np.median(found, axis=0), strict=True))

    cells = engine.grid(data=["generated"], n=sizes, model=[OURS])
    if not options.quick:
        cells += engine.grid(data=["adult"], n=(4_000, 20_000), model=[OURS])
    rows = report.runs("cost_runs", cells, run)
    rows = rows.drop(columns=["failed", "model"])
    rows = rows.assign(**{"stack / HGB": rows["stack"] / rows["HGB"]})
    rows = rows.assign(**{"head / HGB": rows["head"] / rows["HGB"]})
    reached = {"12 kept": rows["stack / HGB"] <= 12, "1 kept": rows["head / HGB"] <= 1}
    report.table("cost", rows.assign(**reached))


def _generated(n):
    """Return 20 features, half of them informative, with 5 % of positives."""
    return make_classification(
        n, 20, n_informative=10, weights=[0.95], class_sep=0.8, random_state=0
    )


def _adult(n, options):
    X, y = load("adult", options.data_home)
    train, _ = shuffled(y, 0, n)
    return X[train], y[train]


SECTIONS = {section.__name__: section for section in (tables, few, large, cost, calibration, noise)}
