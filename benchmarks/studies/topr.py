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
from pnsklearn import TOPRPolicy
from pnsklearn.datasets import make_logged_bandit
from pnsklearn.metrics import effective_sample_size, snips_value

PACKAGES = ("numpy", "scipy", "scikit-learn", "numba", "vowpalwabbit")
CELL = ["set", "logging"]
KINDS = {"value": "as learned", "argmax": "best action"}
NOISE = 0.25
NOISY_SETS = ("digits", "satimage", "segment", "yeast")
# Fewer seeds for obp's networks, which take most of the time, and for the sweep of C.
SEEDS, SLOW_SEEDS, PENALTY_SEEDS = 5, 3, 3
GOAL = (  # peers that it names; the others are forms of them that do better, or another baseline
    "positives only", "full IS", "truncated IS", "PPO clip", "POEM", "BanditNet", "direct, ridge",
    "obp IPWLearner", "obp NN", *policies.WABBITS,
)  # fmt: skip
OURS = "chosen"  # the default, cell by cell and in pairs
RATES = (0.01, 0.1)
STARTS = {"good": 0.2, "bad": -0.2}  # multiples of the teacher's scores
SHOWN_STEPS = (0, 1, 3, 10, 30, 100, 300, 1000, 3000)
SHARES = (0.05, 0.15, 0.3, 0.5)


def _runs(report, methods, sets, seeds, noise=0.0):
    options = report.options
    max_rows = options.pick(policies.MAX_ROWS, 200)

    def run(set, logging, noise, seed, model):
        case, y_test, logged = policies.make_case(
            set, logging, seed, noise=noise, max_rows=max_rows, data_home=options.data_home
        )
        policy, seconds, warned = engine.caught(_checked, methods[model], case)
        if policy is None:  # failed: the uniform policy
            policy = np.full((len(y_test), case.n_actions), 1 / case.n_actions)
        return {
            "value": policy[np.arange(len(y_test)), y_test].mean(),
            "argmax": np.mean(policy.argmax(axis=1) == y_test),
            "logged": logged, "seconds": seconds, "warnings": warned,
        }  # fmt: skip

    seeds_first = engine.grid(
        seed=seeds, set=sets, logging=policies.LOGGING, noise=[noise], model=methods
    )
    return report.runs("value_runs", seeds_first, run) if methods else pd.DataFrame()


def _checked(method, case):
    policy = method(case)
    if np.isnan(policy).any():
        raise ValueError("not a number")
    return policy


def _method_rows(rows, without_seconds=()):
    """Return one row for each method: means over the seeds, then over the sets."""
    value, best = (engine.by_unit(engine.wide(rows, key, CELL, "seed")).mean() for key in KINDS)
    of_method = rows.groupby("model", sort=False)
    table = value.groupby(level="logging", sort=False).mean().T
    table.insert(0, "seeds", of_method["seed"].nunique())
    table["all"], table["all, best action"] = value.mean(), best.mean()
    table["seconds"] = of_method["seconds"].median().drop(without_seconds, errors="ignore")
    table["failed"] = of_method["warnings"].agg(lambda of: of.str.contains("failed").sum())
    table = table.sort_values("all", ascending=False, kind="stable")
    logged = rows.groupby("logging")["logged"].mean()
    logged = {"method": "(the logging policy)", **logged, "all": rows["logged"].mean()}
    return pd.concat([table.rename_axis("method").reset_index(), pd.DataFrame([logged])])


def _cell_rows(rows, ours, peers, key):
    """Return one row for each cell: ours, its hardest peer, and positives only."""
    table = engine.wide(rows, key, CELL, "seed")
    mean, error = engine.differences(table[[ours, *peers]], ours)
    limit = error.fillna(0)  # of one seed
    hardest = mean.idxmin(axis=1)
    found = pd.DataFrame({ours: engine.by_unit(table[ours]).mean(), "best peer": hardest})
    found["difference"] = mean.min(axis=1)
    found["se"] = [error.loc[cell, peer] for cell, peer in hardest.items()]
    found["within"] = found["difference"] >= -found["se"].fillna(0)
    found["less positives only"] = mean["positives only"]
    found["its se"] = error["positives only"]
    found["below"] = mean["positives only"] < -2 * limit["positives only"]
    return found.reset_index()


def _bar_row(rows, ours, peers, key, against):
    cells = _cell_rows(rows, ours, peers, key)
    within, below = cells["within"].sum(), cells["below"].sum()
    ahead = cells.loc[~cells["within"], "best peer"].value_counts()
    return {
        "method": ours, "policies": KINDS[key], "against": against, "cells": len(cells),
        "best": (cells["difference"] >= 0).sum(), "within 1 se": within,
        "share": within / len(cells), "bar": ">= 0.75", "reached": within >= 0.75 * len(cells),
        "below positives only": below, "none below": below == 0,
        "most often ahead": f"{ahead.index[0]} ({ahead.iloc[0]})" if len(ahead) else "",
    }  # fmt: skip


def _pair_rows(rows, peers):
    """Yield our difference to each peer: means over the cells."""
    found = {key: engine.differences(engine.wide(rows, key, CELL, "seed"), OURS) for key in KINDS}
    for peer in peers:
        for key, (mean, error) in found.items():
            gain, limit = mean[peer], 2 * error[peer].fillna(0)
            yield {
                "peer": peer, "policies": KINDS[key], "difference": gain.mean(),
                "se over cells": gain.sem(), "ahead by 2 se": (gain > limit).sum(),
                "behind by 2 se": (gain < -limit).sum(),
            }  # fmt: skip


def value(options, report):
    """Value of policies learned from logs of sets with several classes, and with noisy rewards."""
    sets = options.pick(policies.SETS, policies.BUNDLED)
    wabbits = policies.WABBITS if engine.is_installed("vowpalwabbit") else {}
    obp, seeds = _obp(options), options.seeds_of(SEEDS)
    slow = {label: method for label, method in obp.items() if "NN" in label}
    fast = {**policies.OURS, **policies.REFRESH, **policies.PEERS, **wabbits}
    fast |= {label: method for label, method in obp.items() if label not in slow}
    peers = list({**policies.PEERS, **wabbits, **obp})
    rows = _runs(report, fast, sets, seeds)
    rows = pd.concat([rows, _runs(report, slow, sets, seeds[:SLOW_SEEDS])])
    report.table("value", _method_rows(rows, obp), "Means over the sets, sorted.")
    named = [peer for peer in peers if peer in GOAL]
    groups = {
        "the goal's peers": ("value", named),
        "the goal's peers, one action each": ("argmax", named),
        "all peers": ("value", peers),
        "softmax peers": ("value", [peer for peer in peers if peer not in policies.ONE_ACTION]),
        "all peers, one action each": ("argmax", peers),
    }
    bars = [
        _bar_row(rows, ours, found, key, against)
        for ours in policies.OURS
        for against, (key, found) in groups.items()
    ]
    report.table("value_bars", bars, "At least as good as the best peer, less one standard error.")
    for key, title in KINDS.items():
        cells = _cell_rows(rows, OURS, peers, key)
        report.table(f"value_cells_{key}", cells, f"Cell by cell, {title}.")
    pairs = _pair_rows(rows, [*peers, *(label for label in policies.OURS if label != OURS)])
    report.table("value_pairs", pairs, "The default less each other, over the cells.")
    _noisy(options, report, fast, [peer for peer in peers if peer in fast], obp)


def _obp(options):
    """Return the methods of obp, none without its interpreter."""

    def method(case, learner):
        return policies.open_bandit_pipeline(case, learner, options.obp_python)[0]

    learners = policies.OBP if options.obp_python else {}
    return {label: partial(method, learner=learner) for label, learner in learners.items()}


def _noisy(options, report, methods, peers, obp):
    """The same with noise in the rewards, and at other penalties."""
    sets, seeds = options.pick(NOISY_SETS, policies.BUNDLED[:1]), options.seeds_of(SEEDS)
    rows = _runs(report, methods, sets, seeds, noise=NOISE)
    report.table("value_noise", _method_rows(rows, obp), f"Wrong rewards: a share of {NOISE}.")
    bars = [
        _bar_row(rows, ours, peers, key, f"all peers, noise {NOISE}")
        for ours in (*policies.OURS, *policies.REFRESH)
        for key in KINDS
    ]
    report.table("value_noise_bars", bars, "In the cells with noise.")
    seeds = seeds[:PENALTY_SEEDS]
    rows = [row for noise in (0.0, NOISE) for row in _penalty_rows(report, sets, seeds, noise)]
    report.table("value_C", rows, "Other values of C, as learned (and best action).")


def _penalty_rows(report, sets, seeds, noise):
    """Return one row for each method: its value at all C."""
    plain = {label: {**policies.OURS, **policies.PEERS}[label] for label in policies.PLAIN}
    means = _runs(report, {**plain, **policies.PENALIZED}, sets, seeds, noise=noise)
    means = means.groupby("model")[list(KINDS)].mean()
    for label in plain:
        row = {"method": label}
        for C in ("0.1", "1", "10", "100"):
            found = means.loc[label if C == "1" else f"{label}, C={C}"]
            row[f"C={C}"] = f"{found['value']:.3f} ({found['argmax']:.3f})"
        yield row | {"noise": noise}


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


SECTIONS = {section.__name__: section for section in (value, speed, open_bandit, ope, dynamics)}
