"""TOPRPolicy against its peers: value of learned policies, time, off-policy estimates, dynamics."""

from functools import partial

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from benchmarks import _engine as engine
from benchmarks._data import load_classes, stored
from benchmarks._parts import blocks, topr_gradient
from benchmarks.peers import topr as policies
from benchmarks.studies.topr_tapering import tapering
from pnsklearn import TOPRPolicy
from pnsklearn.datasets import make_logged_bandit
from pnsklearn.metrics import effective_sample_size, snips_value

PACKAGES = ("numpy", "scipy", "scikit-learn", "numba", "torch", "vowpalwabbit")
CELL = ["n", "noise", "set", "logging"]
SETS = policies.SETS[:7]
SIZES, NOISES = (2_500, 500), (0.0, 0.1, 0.25)  # at most so many rows
SEEDS = 5
OBP = "obp IPWLearner"
SLOW = (  # one seed, at the first size, with all noise or none
    OBP, "direct, logistic, tuned", "direct, boosting", *policies.WABBITS, *policies.WABBIT_TUNED,
)  # fmt: skip
LEFT_OUT = "naive REINFORCE", "PPO clip", "full IS, from zero only", "full IS, rewards 0/1"
VALUE_PEERS = {
    "imitation of the log": policies.imitation,
    "TOPR": policies.topr,
    "TOPR, effective_positive=0.5": policies.OURS["TOPR, effective_positive=0.5"],
} | {label: peer for label, peer in policies.PEERS.items() if label not in LEFT_OUT}
OURS = "chosen"  # the default
NO_RIVALS = OURS, "imitation of the log", *policies.REFRESH  # the last may ask for rewards
SHOWN = (OURS, "TOPR", "full IS", "truncated IS", "direct, logistic", "Vowpal Wabbit mtr", OBP)
FAMILY = ("TOPR", "positives only", "full IS", "truncated IS")
WARNINGS = {"value": "The policy is not", "outcomes": "of the rows", "rows": "estimated value"}
RATES = (0.01, 0.1)
STARTS = {"good": 0.2, "bad": -0.2}  # multiples of the teacher's scores
SHOWN_STEPS = (0, 1, 3, 10, 30, 100, 300, 1000, 3000)
SHARES = (0.05, 0.15, 0.3, 0.5)


def value(options, report):
    """Value of policies learned from logs of sets with several classes, by rows and by noise."""
    rows = _value_runs(options, report)
    report.table("value", _method_rows(rows), "Means over the logs, sorted.")
    rivals = [model for model in rows["model"].unique() if model not in NO_RIVALS]
    others = [model for model in rivals if not model.startswith(FAMILY)]
    bars = [
        {"n": n, "noise": noise, "against": against, **_bar_row(of, peers)}
        for against, peers in {"all": rivals, "all but members of the family": others}.items()
        for (n, noise), of in rows.groupby(["n", "noise"], sort=False)
    ]
    report.table("value_bars", bars, "The default against the best peer of each cell.")
    report.table("value_pairs", _pair_rows(rows, rivals), "The default less each, best actions.")
    chosen = rows[rows["model"] == OURS]
    report.table("value_warnings", _warning_rows(chosen), "Warnings, and what they were worth.")
    report.table("value_cost", _cost_rows(rows), "Fits of LogisticRegression in the same seconds.")
    report.table("value_cells", _cell_rows(rows, rivals), "Cell by cell.")
    first = rows[(rows["n"] == rows["n"].iloc[0]) & rows["model"].isin(SHOWN)]
    first = first.assign(log=first["logging"] + " log, noise " + first["noise"].astype(str))
    table = first.pivot_table("best", "log", "model")[first["model"].unique()]
    report.figure(engine.dots, table, OURS, "value of the best actions, mean over the sets")


def _heading(column):
    return "n={:g}, noise {:g}".format(*column)


def _method_rows(rows):
    """Return one row for each method, its means over sets and logging policies, sorted."""
    of_method, first = rows.groupby("model", sort=False), rows[rows["n"] == rows["n"].iloc[0]]
    table = rows.pivot_table("best", "model", ["n", "noise"], sort=False)
    table.loc["(the logging policy)"] = rows.groupby(["n", "noise"], sort=False)["logged"].mean()
    table.columns = [_heading(column) for column in table]
    table.insert(0, "seeds", of_method["seed"].nunique())
    table["seconds"] = first.groupby("model")["seconds"].median()
    table["failed"] = of_method["warnings"].agg(lambda of: of.str.contains("failed").sum())
    table = table.sort_values(table.columns[1], ascending=False, kind="stable")
    return table.rename_axis("method").reset_index()


def _value_runs(options, report):
    """Return a row for each log and method."""
    sizes, noises = options.pick((SIZES, NOISES), ((200,), (0.0,)))
    sets, seeds = options.pick(SETS, policies.BUNDLED), options.seeds_of(SEEDS)
    methods = {OURS: policies.chosen, **VALUE_PEERS, **policies.REFRESH, **policies.TUNED}
    methods |= _obp(options)
    if engine.is_installed("vowpalwabbit"):
        methods |= policies.WABBITS | policies.WABBIT_TUNED

    def run(set, logging, n, noise, seed, model):
        case, y_test, logged = policies.make_case(
            set, logging, seed, noise=noise, max_rows=n, data_home=options.data_home
        )
        policy, seconds, warned = engine.caught(_checked, methods[model], case)
        if policy is None:  # failed: the uniform policy
            policy = np.full((len(y_test), case.n_actions), 1 / case.n_actions)
        return {
            "best": np.mean(policy.argmax(axis=1) == y_test),
            "logged": logged, "n_test": len(y_test), "seconds": seconds, "warnings": warned,
        }  # fmt: skip

    axes = {"n": sizes, "seed": seeds, "set": sets, "logging": policies.LOGGING}
    cells = [
        cell
        for cell in engine.grid(**axes, noise=noises, model=methods)
        if cell["model"] not in SLOW or _has_time(cell, sizes, noises)
    ]
    return report.runs("value_runs", cells, run)


def _has_time(cell, sizes, noises):
    ends = noises[0], noises[-1]
    return cell["seed"] == 0 and cell["n"] == sizes[0] and cell["noise"] in ends


def _checked(method, case):
    policy = method(case)
    if np.isnan(policy).any():
        raise ValueError("not a number")
    return policy


def _obp(options):
    """Return the methods of obp, none without its interpreter."""

    def method(case, learner):
        return policies.open_bandit_pipeline(case, learner, options.obp_python)[0]

    learner = policies.OBP[OBP]
    return {OBP: partial(method, learner=learner)} if options.obp_python else {}


def _by_cell(rows, peers):
    """Return means and standard errors by cell of the default less each peer, best actions."""
    table = engine.wide(rows, "best", CELL, "seed")
    table = table[[OURS, *(peer for peer in peers if peer in table)]]
    return engine.differences(table, OURS)


def _cell_rows(rows, peers):
    """Return one row for each cell: ours, and its hardest peer."""
    mean, error = _by_cell(rows, peers)
    of = rows[rows["model"] == OURS].groupby(CELL, sort=False)
    hardest = mean.idxmin(axis=1)
    found = of[["best", "logged"]].mean().rename(columns={"best": OURS})
    found["best peer"], found["difference"] = hardest, mean.min(axis=1)
    found["se"] = [error.loc[cell, peer] for cell, peer in hardest.items()]
    found["within"] = found["difference"] >= -found["se"].fillna(0)
    return found.reset_index()


def _bar_row(rows, peers):
    """Return the share of cells in which ours is best, or within an error of the best peer."""
    cells, (mean, _) = _cell_rows(rows, peers), _by_cell(rows, peers)
    nearest, within = mean.mean().idxmin(), cells["within"]
    lead, error = engine.mean_se(mean[nearest])
    ahead = cells.loc[~within, "best peer"].value_counts()
    return {
        "cells": len(cells), OURS: cells[OURS].mean(), "best peer in the mean": nearest,
        "lead": lead, "se": error, "beyond it": lead > error,
        "best": (cells["difference"] >= 0).sum(), "within 1 se": within.sum(),
        "share": within.mean(), "bar": ">= 0.75", "reached": within.mean() >= 0.75,
        "most often ahead": f"{ahead.index[0]} ({ahead.iloc[0]})" if len(ahead) else "",
    }  # fmt: skip


def _pair_rows(rows, peers):
    """Return our difference to each peer, its mean and standard error over the cells."""
    mean, _ = _by_cell(rows, peers)
    table = mean.groupby(level=["n", "noise"], sort=False).agg(engine.pm).T
    table.columns = [_heading(column) for column in table]
    return table.replace("nan", "").rename_axis("peer").reset_index()


def _warning_rows(rows):
    """Yield what the warnings say of runs that are better and worse than the log by two errors."""
    value = rows["best"]
    limit = 2 * np.sqrt(value * (1 - value) / rows["n_test"])
    better, worse = value > rows["logged"] + limit, value < rows["logged"] - limit
    warned = rows["warnings"].str.contains("PolicyWarning")
    for (n, noise), of in rows.groupby(["n", "noise"], sort=False):
        row = {"n": n, "noise": noise, "runs": len(of)}
        for name, which in {"worse": worse, "between": ~(better | worse), "better": better}.items():
            these = warned[of.index][which[of.index]]
            row |= {name: len(these), f"{name}, warned": these.sum()}
        false = of[better[of.index] & warned[of.index]]["warnings"]
        row["share of false alarms"] = len(false) / max(better[of.index].sum(), 1)
        for name, text in WARNINGS.items():
            row[f"false: {name}"] = false.str.contains(text).sum()
        yield row


def _cost_rows(rows):
    """Yield how many fits of LogisticRegression a fit of the default costs."""
    seconds = engine.wide(rows, "seconds", CELL, "seed")
    ratio = seconds[OURS] / seconds["imitation of the log"]
    for n, of in ratio.groupby(level="n", sort=False):
        yield {
            "n": n, "seconds": seconds[OURS].loc[n].median(), "ratio": of.median(),
            "spread": engine.spread(of), "bar": 40, "reached": of.median() <= 40,
        }  # fmt: skip


def speed(options, report):
    """A fit against LogisticRegression and obp's networks, a gradient against its two products."""
    n, rounds = options.pick((100_000, 5), (2_000, 1))
    d, n_actions = 50, 10
    rng = np.random.default_rng(0)
    W = rng.normal(size=(d, n_actions)) / np.sqrt(d) * 3
    X = rng.normal(size=(n + 10_000, d))
    y = (X @ W + rng.gumbel(size=(len(X), n_actions))).argmax(axis=1)
    X, X_test, y, y_test = X[:n], X[n:], y[:n], y[n:]
    log = make_logged_bandit(X, y, logging="good", random_state=0)
    feedback = {"reward": log.reward, "propensity": log.propensity}
    policy = TOPRPolicy(bounds="topr", baseline=0, tol=1e-4)
    logistic = LogisticRegression(tol=1e-4, max_iter=1000)
    fits = {
        "TOPRPolicy, rewards": lambda: policy.fit(X, log.action, **feedback).n_iter_,
        "TOPRPolicy, no rewards": lambda: policy.fit(X, log.action).n_iter_,
        "LogisticRegression": lambda: logistic.fit(X, log.action).n_iter_[0],
    }
    timings = [
        (name, "LogisticRegression", fits[name], fits["LogisticRegression"], 1.5)
        for name in ("TOPRPolicy, no rewards", "TOPRPolicy, rewards")
    ]
    gradients = []
    for dtype in (np.float64, np.float32):
        full, products = _gradient(X.astype(dtype), log, n_actions)
        gradients.append(full)
        timings.append((f"gradient, {np.dtype(dtype)}", "its two products", full, products, 1.3))
    timings.append(("gradient, float32", "gradient, float64", *gradients[::-1], 0.7))
    report.table("speed", [engine.timed(*timing, rounds) for timing in timings], "Parts.")
    iterations = [{"fit": name, "iterations": fit()} for name, fit in fits.items()]
    report.table("speed_iterations", iterations, "Iterations of L-BFGS.")
    if options.obp_python:
        columns = (log[k] for k in ("action", "reward", "propensity"))
        case = policies.Case(X, *columns, X_test, n_actions, 0)
        table = _against_obp(case, y_test, options)
        report.table("speed_obp", table, "To the value of obp's networks, once; bar: 10 times.")


def _gradient(X, log, n_actions):
    """Return functions that compute a gradient, and its two products alone."""
    W = np.random.default_rng(0).normal(size=(n_actions, X.shape[1])) * 0.1

    def products():
        W_T, gradient = W.T.astype(X.dtype), np.zeros(W.shape)
        for rows in blocks(X):
            block = X[rows]
            Z = block @ W_T
            gradient += Z.T @ block
        return gradient

    return topr_gradient(X, log, W), products


def _against_obp(case, y_test, options):
    """Return seconds and value of our fit, and of obp's networks after some passes."""
    right = np.arange(len(y_test)), y_test
    policy, ours = engine.seconds_of(policies.topr, case)
    table = [{"fit": "TOPRPolicy", "seconds": ours, "value": policy[right].mean()}]
    passes = {"nn_linear": (1, 2, 5, 10, 20, 50), "nn": (200,)}
    labels = {"nn_linear": "linear, rate 0.01", "nn": "defaults, 100 hidden units"}
    for learner, counts in options.pick(passes, {"nn_linear": (1, 2)}).items():
        for count in counts:
            policy, seconds = policies.open_bandit_pipeline(
                case, learner, options.obp_python, max_iter=count
            )
            row = {"fit": f"obp NNPolicyLearner, {labels[learner]}", "seconds": seconds}
            row |= {"value": policy[right].mean(), "passes": count, "times ours": seconds / ours}
            table.append(row)
    return table


def open_bandit(options, report):
    """Real clicks of the Open Bandit data, men's page: too few to tell any policies apart."""
    paths = [stored(f"obd_men_{name}", options.data_home) for name in ("random", "bts")]
    if None in paths:
        report.say("obd_men_random.npz and obd_men_bts.npz are not in --data-home")
        return
    random, bts = map(_read_open_bandit, paths)
    half = len(random["click"]) // 2
    first, second = (
        {key: column[rows] for key, column in random.items()}
        for rows in (slice(half), slice(half, None))
    )
    tests = {"random, 2nd half": second, "bts": bts}
    case = policies.Case(
        first["X"], first["action"], first["click"], first["propensity"],
        np.vstack([test["X"] for test in tests.values()]),
        1 + int(max(random["action"].max(), bts["action"].max())), 0,
    )  # fmt: skip
    methods = {
        "uniform": lambda case: np.full((len(case.X_test), case.n_actions), 1 / case.n_actions),
        "imitation of the log": policies.imitation,
        "chosen": policies.chosen,
        "positives only = TOPR": policies.topr,
    }
    for share in SHARES:
        learn = partial(policies.topr, effective_positive=share)
        methods[f"TOPR, effective_positive={share}"] = learn
    methods["full IS"] = partial(policies.importance_sampling, unit=True)
    methods |= {label: policies.PEERS[label] for label in ("direct, ridge", "direct, logistic")}
    methods |= {label: method for label, method in _obp(options).items() if "IPW" in label}
    table = []
    for label, method in methods.items():
        policy = method(case)
        row = {"policy": label, "kind": "as learned"}
        table.append(row | _clicks(policy, tests))
        if label not in ("uniform", *policies.ONE_ACTION):
            best = policies.deterministic(policy)
            table.append(row | {"kind": "best action"} | _clicks(best, tests))
    logged = {"policy": "(the logging policy)", "kind": "mean", **_clicks(None, tests)}
    report.table("open_bandit", [*table, logged])


def _read_open_bandit(path):
    with np.load(path, allow_pickle=False) as parts:
        return {
            "X": parts["X"].astype(np.float64), "action": parts["extra_action"].astype(np.int64),
            "click": parts["y"].astype(np.float64), "propensity": parts["extra_pscore"],
        }  # fmt: skip


def _clicks(policy, tests):
    """Return clicks per thousand, with an interval, and the effective sample size of each test."""
    columns, start = {}, 0
    for name, test in tests.items():
        propensity = test["propensity"]
        rows = start + np.arange(len(propensity))
        chosen = propensity if policy is None else policy[rows, test["action"]]
        start += len(rows)
        found = snips_value(chosen, propensity, test["click"], confidence_level=0.95)
        columns |= {
            name: round(1000 * found.value, 2),
            f"{name}: interval": f"{1000 * found.low:.2f} to {1000 * found.high:.2f}",
            f"{name}: ESS": round(effective_sample_size(chosen, propensity)),
        }
    return columns


def ope(options, report):
    """Off-policy estimates of a known value: bias, error and coverage of the intervals."""
    repetitions, sizes = options.pick((500, (200, 1000, 5000)), (20, (200,)))
    rng = np.random.default_rng(0)
    d, n_actions = 5, 5
    W_reward, W_log, W_policy = rng.normal(size=(3, n_actions, d))
    settings = {"good overlap": (0.5, 1.0), "poor overlap": (1.5, 1.5)}
    table = []
    for overlap, (of_log, of_policy) in settings.items():
        policy = _fixed_policy(of_policy * W_policy)
        X = rng.normal(size=(1_000_000, d))
        truth = (policy.predict_proba(X) * expit(X @ W_reward.T)).sum(axis=1).mean()
        theta = np.column_stack([of_log * W_log, np.zeros(n_actions)]).ravel()
        for n in sizes:
            found = [_evaluated(policy, theta, W_reward, n, rng) for _ in range(repetitions)]
            effective = np.mean([one.effective_sample_size / n for one in found])
            for name in ("ips", "snips", "clipped_ips", "dr"):
                row = {"overlap": overlap, "n": n, "effective": effective, "estimate": name}
                value, _, low, high = np.transpose([one[name] for one in found])
                row |= {
                    "bias": value.mean() - truth,
                    "rmse": np.sqrt(np.mean((value - truth) ** 2)),
                }
                inside = (low <= truth) & (truth <= high)
                table.append(row | {"mean width": np.mean(high - low), "coverage": inside.mean()})
    report.table("ope", table)


def _evaluated(policy, theta, W_reward, n, rng):
    """Return the estimates of a policy from a log of n rows of the policy `theta`."""
    X = rng.normal(size=(n, W_reward.shape[1]))
    mu = np.exp(policies.log_policy(theta, X))
    action = (rng.random((n, 1)) > np.cumsum(mu, axis=1)[:, :-1]).sum(axis=1)
    rows = np.arange(n)
    reward = (rng.random(n) < expit(X @ W_reward.T)[rows, action]).astype(float)
    return policy.evaluate(X, action, reward=reward, propensity=mu[rows, action])


def _fixed_policy(W):
    """Return a TOPRPolicy with given weights."""
    n_actions, d = W.shape
    rng = np.random.default_rng(0)
    policy = TOPRPolicy().fit(rng.normal(size=(n_actions, d)), np.arange(n_actions))
    policy.coef_, policy.intercept_ = W, np.zeros(n_actions)
    return policy


def dynamics(options, report):
    """Full-batch Adam from the logging policy: the value by step."""
    n_steps, seeds = options.pick(max(SHOWN_STEPS), 30), options.seeds_of(3)
    points, ends = [], []
    for seed in seeds:
        for start, scale in STARTS.items():
            case, y_test, theta = _own_log(seed, scale, options)
            for rate in RATES:
                for method in policies.BOUNDS:
                    key = {"log": start, "rate": rate, "method": method}
                    curve, log_p = _curve(case, y_test, theta, method, rate, n_steps)
                    points += [key | {"step": step, "value": value} for step, value in curve]
                    ends.append(key | {"mean log pi of the bad": log_p})
    keys = ["log", "rate", "method"]
    curves = pd.DataFrame(points).groupby([*keys, "step"], sort=False)["value"].mean()
    curves = curves.unstack("step", sort=False)
    shown = [step for step in SHOWN_STEPS if step <= n_steps]
    table = curves[shown].add_prefix("step ")
    table["least after step 10"] = curves.loc[:, curves.columns >= 10].min(axis=1)
    table = table.join(pd.DataFrame(ends).groupby(keys).mean())
    report.table("dynamics", table.reset_index())
    report.figure(_plot_curves, curves)


def _curve(case, y_test, theta, method, rate, n_steps):
    """Return steps with values, and the final mean log pi of bad actions."""
    curve, rows = [], np.arange(len(y_test))

    def keep(step, theta):
        if step in SHOWN_STEPS or step % 10 == 0:
            curve.append((step, policies.on_test(case, theta)[rows, y_test].mean()))

    keep(0, theta)
    objective = policies.tapered(case, *policies.BOUNDS[method])
    theta = policies.adam(
        objective, case.X, theta, n_steps=n_steps, rate=rate, C=np.inf, on_step=keep
    )
    bad = case.reward < 0
    log_p = policies.log_policy(theta, case.X[bad])[np.arange(bad.sum()), case.action[bad]]
    return curve, log_p.mean()


def _own_log(seed, scale, options):
    """Return a log of a policy of the class that learns, the test labels, and its parameters."""
    X, y = load_classes("digits", options.data_home)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, train_size=0.5, stratify=y, random_state=seed
    )
    scaler = StandardScaler().fit(X_train)
    X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
    teacher = LogisticRegression(max_iter=1000).fit(X_train[:100], y_train[:100])
    if len(teacher.classes_) < 10:
        raise ValueError("the first 100 labels lack a class")
    theta = scale * np.column_stack([teacher.coef_, teacher.intercept_]).ravel()
    log = make_logged_bandit(
        X_train, y_train, logging=np.exp(policies.log_policy(theta, X_train)), random_state=seed
    )
    case = policies.Case(X_train, log.action, log.reward, log.propensity, X_test, 10, seed)
    return case, y_test, theta


def _plot_curves(plt, curves):
    shape = {"nrows": len(STARTS), "ncols": len(RATES), "sharex": True, "sharey": True}
    figure, axes = plt.subplots(**shape, figsize=(9, 6), layout="constrained")
    for axis, ((start, rate), of) in zip(
        axes.flat, curves.groupby(level=[0, 1], sort=False), strict=True
    ):
        of = of.droplevel([0, 1]).T
        title = f"{start} log, Adam, rate {rate}"
        of.set_axis(1 + of.index).plot(ax=axis, logx=True, title=title, legend=axis is axes[0, 0])
        axis.set(xlabel="1 + step", ylabel="value on the test half")
    return figure


SECTIONS = {
    section.__name__: section for section in (value, speed, open_bandit, ope, dynamics, tapering)
}
