"""TOPRPolicy against its peers: value of learned policies, time, off-policy estimates, dynamics.

Run `python -m benchmarks.topr`. Everything runs on one thread; seconds are of the processor. The
section "value" keeps its runs in ``topr_value_runs.csv`` as they come and goes on from there when
it is started again; delete the file to start from nothing. Peers that are not installed are left
out. The Open Bandit Pipeline pins old versions: give the Python of an environment of its own.
"""

import time
import warnings
from functools import partial

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from benchmarks._harness import (
    append_csv,
    argument_parser,
    begin,
    mean_and_error,
    paired_ratio,
    parse_sections,
    pyplot,
    read_runs,
    report_sections,
    stored,
    write_csv,
)
from benchmarks.topr_models import (
    BUNDLED,
    LOGGING,
    MAX_ROWS,
    ONE_ACTION,
    OURS,
    PASSES,
    PEERS,
    PENALIZED,
    PENALIZED_PEERS,
    REFRESH,
    SETS,
    STEPS,
    WABBITS,
    Case,
    OpenBanditPipeline,
    adam,
    clipped,
    deterministic,
    direct,
    direct_logistic,
    imitation,
    importance_sampling,
    load_set,
    log_policy,
    make_case,
    on_test,
    topr,
)
from pnsklearn import TOPRPolicy
from pnsklearn._topr._kernels import value_and_gradient
from pnsklearn.datasets import make_logged_bandit
from pnsklearn.metrics import effective_sample_size, snips_value

PACKAGES = ("numpy", "scipy", "scikit-learn", "numba", "vowpalwabbit")
NOISE = 0.25
NOISY_SETS = ("digits", "satimage", "segment", "yeast")
# Fewer seeds for obp's networks, which take most of the time, and for the sweep of C.
SEEDS, SLOW_SEEDS, PENALTY_SEEDS = 5, 3, 3
# The peers that the goal names; the others are forms of them that do better, or another baseline.
GOAL = (
    "positives only", "full IS", "truncated IS", "PPO clip", "POEM", "BanditNet", "direct, ridge",
    "obp IPWLearner", "obp NN", *WABBITS,
)  # fmt: skip
# The methods of the paper's table, in the order of its bounds.
BOUNDS = {
    "TOPR": ((1, 1), (0, 1)),
    "naive REINFORCE": ((1, 1), (1, 1)),
    "positives only": ((1, 1), (0, 0)),
    "full IS": ((0, np.inf), (0, np.inf)),
    "truncated IS": ((0, 1), (0, 1)),
}
RATES = (0.01, 0.1)
STARTS = {"good": 0.2, "bad": -0.2}  # multiples of the teacher's scores
SHOWN_STEPS = (0, 1, 3, 10, 30, 100, 300, 1000, 3000)
SHARES = (0.05, 0.15, 0.3, 0.5)

# Runs.

COLUMNS = (
    "set", "logging", "noise", "seed", "method", "value", "argmax", "logged", "seconds", "warnings",
)  # fmt: skip
TEXT = ("set", "logging", "method", "warnings")
KEYS = ("set", "logging", "noise", "seed", "method")


def run(method, case, y_test):
    """Return what is kept of a run; a method that fails counts as the uniform policy."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.process_time()
        try:
            policy = method(case)
            if np.isnan(policy).any():
                raise ValueError("not a number")
        except ValueError as error:
            policy = np.full((len(y_test), case.n_actions), 1 / case.n_actions)
            warnings.warn(f"failed: {error}", stacklevel=1)
        seconds = time.process_time() - start
    rows = np.arange(len(y_test))
    return {
        "seed": case.seed, "value": policy[rows, y_test].mean(),
        "argmax": np.mean(policy.argmax(axis=1) == y_test), "seconds": seconds,
        "warnings": "; ".join(sorted({_short(warning) for warning in caught})),
    }  # fmt: skip


def _short(warning):
    message = str(warning.message)
    failed = message.startswith("failed")
    return message[:80].replace("\n", " ") if failed else warning.category.__name__


def runs(options, methods, sets, seeds, noise=0.0):
    """Run what is not yet in the file, append each row as it comes, return all asked for."""
    path = options.path("value_runs.csv")
    done = {tuple(row[key] for key in KEYS) for row in read_runs(path, TEXT)}
    for seed in seeds:
        for name in sets:
            for logging in LOGGING:
                setting = {"set": name, "logging": logging, "noise": noise}
                missing = [m for m in methods if (*setting.values(), seed, m) not in done]
                if not missing:
                    continue
                case, y_test, value = make_case(
                    name, logging, seed, noise=noise, max_rows=options.max_rows,
                    data_home=options.data_home,
                )  # fmt: skip
                for label in missing:
                    row = {"method": label, "logged": value, **run(methods[label], case, y_test)}
                    append_csv(path, setting | row, COLUMNS)
    return [
        row
        for row in read_runs(path, TEXT)
        if row["set"] in sets
        and row["noise"] == noise
        and row["seed"] in seeds
        and row["method"] in methods
    ]


# Summaries. A cell is a set with a logging policy.


def _by_cell(rows, key):
    """Return {method: {(set, logging): {seed: value}}} of a column."""
    values = {}
    for row in rows:
        cell = row["set"], row["logging"]
        values.setdefault(row["method"], {}).setdefault(cell, {})[row["seed"]] = row[key]
    return values


def _difference(values, ours, peer, cell):
    """Return mean and standard error of ours less the peer's, over the seeds of both."""
    ours, peer = values[ours][cell], values[peer][cell]
    return mean_and_error([ours[seed] - peer[seed] for seed in ours.keys() & peer.keys()])


def _method_rows(rows, methods, obp):
    """Return one row for each method: means over the seeds, then over the sets."""
    values, table = {key: _by_cell(rows, key) for key in ("value", "argmax")}, []
    for method in methods:
        if method not in values["value"]:
            continue
        means = {
            key: {cell: np.mean(list(v.values())) for cell, v in values[key][method].items()}
            for key in values
        }
        of_method = [row for row in rows if row["method"] == method]
        row = {"method": method, "seeds": len({row["seed"] for row in of_method})}
        for logging in LOGGING:
            row[logging] = np.mean([m for cell, m in means["value"].items() if cell[1] == logging])
        row["all"] = np.mean(list(means["value"].values()))
        row["all, best action"] = np.mean(list(means["argmax"].values()))
        seconds = np.median([row["seconds"] for row in of_method])
        row["seconds"] = "" if method in obp else seconds
        row["failed"] = sum("failed" in row["warnings"] for row in of_method)
        table.append(row)
    return sorted(table, key=lambda row: -row["all"])


def _logged_row(rows):
    row = {"method": "(the logging policy)"}
    for logging in LOGGING:
        row[logging] = np.mean([r["logged"] for r in rows if r["logging"] == logging])
    row["all"] = np.mean([r["logged"] for r in rows])
    return row


def _cell_rows(rows, ours, peers, key):
    """Return one row for each cell: ours, its hardest peer, and positives only."""
    values = _by_cell(rows, key)
    table = []
    for cell, of_ours in values[ours].items():
        found = {p: _difference(values, ours, p, cell) for p in peers if cell in values.get(p, {})}
        hardest = min(found, key=lambda peer: found[peer][0])
        difference, se = found[hardest]
        row = {
            "set": cell[0], "logging": cell[1], ours: np.mean(list(of_ours.values())),
            "best peer": hardest, "difference": difference, "se": se,
            "within": bool(difference >= -np.nan_to_num(se)),
        }  # fmt: skip
        difference, se = found["positives only"]
        row |= {"less positives only": difference, "its se": se}
        row["below"] = bool(difference < -2 * np.nan_to_num(se))
        table.append(row)
    return table


def _bar_row(rows, ours, peers, key, against):
    cells = _cell_rows(rows, ours, peers, key)
    within, below = (sum(row[name] for row in cells) for name in ("within", "below"))
    best = sum(row["difference"] >= 0 for row in cells)
    hardest = [row["best peer"] for row in cells if not row["within"]]
    most = max(set(hardest), key=hardest.count) if hardest else ""
    return {
        "method": ours, "policies": "as learned" if key == "value" else "best action",
        "against": against, "cells": len(cells), "best": best, "within 1 se": within,
        "share": within / len(cells), "bar": ">= 0.75", "reached": within >= 0.75 * len(cells),
        "below positives only": below, "none below": below == 0,
        "most often ahead": f"{most} ({hardest.count(most)})" if most else "",
    }  # fmt: skip


# The sections.


def value(options, report):
    """Value of policies learned from logs of sets with several classes, and with noisy rewards."""
    fast = {**OURS, **REFRESH, **PEERS, **WABBITS}
    obp = options.obp.methods() if options.obp else {}
    slow = {label: method for label, method in obp.items() if "NN" in label}
    fast |= {label: method for label, method in obp.items() if label not in slow}
    seeds = options.seeds_of(SEEDS)
    slow_seeds = seeds[:SLOW_SEEDS]
    rows = runs(options, fast, options.sets, seeds)
    rows += runs(options, slow, options.sets, slow_seeds)
    report.say(
        f"{len(options.sets)} sets: {', '.join(options.sets)}; halves for training and test, at "
        f"most {options.max_rows} rows each, standardised (Fashion-MNIST pooled to 7 x 7 pixels). "
        f"A policy is taught on one log: right class 1, wrong class -1. {len(seeds)} splits and "
        f"logs ({len(slow_seeds)} for obp's networks), one fit each. The value of a policy is "
        "exact: its mean probability of the right class on the test half, the mean reward scaled "
        "to 0 to 1. 'As learned' a softmax policy is stochastic; the direct method, Vowpal Wabbit "
        "and IPWLearner take one action, which is an advantage to them on these data, where one "
        "action is always right: 'best action' gives it to all."
    )
    report.say(
        "All softmax policies are linear with the L2 penalty of C = 1 on the sum over the rows, by "
        "L-BFGS from zero and from positives only, whichever ends lower (TOPR: from zero; "
        f"positives only: scikit-learn; naive REINFORCE and PPO clip, which have no smooth "
        f"optimum: {STEPS} steps of Adam). POEM's variance penalty is chosen by SNIPS on a quarter "
        "of the log, BanditNet's translation by SNIPS on the log. Methods that need rewards of 0 "
        f"and 1 get those. obp's networks have its IPW objective with rewards of both signs, which "
        "suits them better: 100 hidden units with its defaults, the same at the faster rate of "
        "0.001 in 100 passes, or linear scores. Vowpal Wabbit makes "
        f"{PASSES} passes with its defaults. The refresh rounds may ask for the reward of new "
        "actions, which nobody else may: they are shown, not compared."
    )
    methods = {**fast, **slow}
    table = [*_method_rows(rows, methods, obp), _logged_row(rows)]
    report.table("value", table, "Means over the sets, sorted.")
    peers = list({**PEERS, **WABBITS, **obp})
    named = [peer for peer in peers if peer in GOAL]
    groups = {
        "the goal's peers": ("value", named),
        "the goal's peers, one action each": ("argmax", named),
        "all peers": ("value", peers),
        "softmax peers": ("value", [peer for peer in peers if peer not in ONE_ACTION]),
        "all peers, one action each": ("argmax", peers),
    }  # fmt: skip
    bars = [
        _bar_row(rows, ours, found, key, against)
        for ours in OURS
        for against, (key, found) in groups.items()
    ]
    report.table("value_bars", bars, _bars_text())
    for key, title in (("value", "as learned"), ("argmax", "best action")):
        cells = _cell_rows(rows, "TOPR", peers, key)
        report.table(f"value_cells_{key}", cells, f"Cell by cell, {title}.")
        report.say(f"TOPR is below positives only, {title}, in: {_below(cells)}.")
    pairs = [_pair_row(rows, "TOPR", peer, key) for peer in peers for key in ("value", "argmax")]
    report.table("value_pairs", pairs, "TOPR less each peer, mean over the cells.")
    _write_all_cells(rows, options)

    sets = options.noisy
    rows = runs(options, fast, sets, seeds, noise=NOISE)
    title = (
        f"The same with rewards that are wrong with probability {NOISE}, on {', '.join(sets)}; "
        "values are still those of the true rewards. obp's networks are left out."
    )
    table = [*_method_rows(rows, fast, obp), _logged_row(rows)]
    report.table("value_noise", table, title)
    first = next(row for row in table if row["method"] in peers)
    ours = next(row for row in table if row["method"] == "TOPR")
    report.say(
        f"The best that may not ask for rewards: {first['method']}, {first['all']:.3f}; TOPR "
        f"{ours['all']:.3f}."
    )
    found = [peer for peer in peers if peer in fast]
    noisy_bars = [
        _bar_row(rows, ours, found, key, f"all peers, noise {NOISE}")
        for ours in (*OURS, *REFRESH)
        for key in ("value", "argmax")
    ]
    report.table("value_noise_bars", noisy_bars, "In the cells with noise.")

    rows = [
        row | {"noise": noise}
        for noise in (0.0, NOISE)
        for row in _penalty_rows(options, sets, seeds[:PENALTY_SEEDS], noise)
    ]
    report.table(
        "value_C", rows,
        "Means over the same sets and all logging policies at other values of C, as learned (and "
        f"best action); {len(seeds[:PENALTY_SEEDS])} splits. Importance weights multiply the sum "
        "over the rows, so that the same C is a weaker penalty to full IS. A sweep: no value was "
        "chosen from it.",
    )  # fmt: skip


def _penalty_rows(options, sets, seeds, noise):
    """Return one row for each method: its value at all C."""
    plain = OURS | {label: PEERS[label] for label in PENALIZED_PEERS}
    rows = runs(options, {**plain, **PENALIZED}, sets, seeds, noise=noise)
    table = []
    for label in plain:
        row = {"method": label}
        for C in ("0.1", "1", "10", "100"):
            name = label if C == "1" else f"{label}, C={C}"
            found = [r for r in rows if r["method"] == name]
            value, best = (np.mean([r[key] for r in found]) for key in ("value", "argmax"))
            row[f"C={C}"] = f"{value:.3f} ({best:.3f})"
        table.append(row)
    return table


def _bars_text():
    return (
        "Cells in which a method is at least as good as its best peer less one standard error of "
        "their difference over the seeds, and cells in which it is below positives only by more "
        "than two. The best of many peers is found on the same test values, which favours it."
    )


def _below(cells):
    """Name the cells in which ours is below positives only by more than two standard errors."""
    named = [f"{row['set']} {row['logging']}" for row in cells if row["below"]]
    return ", ".join(named) or "none"


def _pair_row(rows, ours, peer, key):
    values = _by_cell(rows, key)
    found = [
        (*_difference(values, ours, peer, cell), cell)
        for cell in values[ours]
        if cell in values.get(peer, {})
    ]
    mean, se = mean_and_error([difference for difference, _, _ in found])
    return {
        "peer": peer, "policies": "as learned" if key == "value" else "best action",
        "difference": mean, "se over cells": se,
        "ahead by 2 se": sum(d > 2 * np.nan_to_num(e) for d, e, _ in found),
        "behind by 2 se": sum(d < -2 * np.nan_to_num(e) for d, e, _ in found),
    }  # fmt: skip


def _write_all_cells(rows, options):
    """Write the mean of every method in every cell."""
    values = {key: _by_cell(rows, key) for key in ("value", "argmax")}
    table = [
        {
            "set": cell[0], "logging": cell[1], "method": method,
            **{
                f"{key}{suffix}": number
                for key in values
                for suffix, number in zip(
                    ("", " se"), mean_and_error(list(values[key][method][cell].values())),
                    strict=True,
                )
            },
        }
        for method, cells in values["value"].items()
        for cell in cells
    ]  # fmt: skip
    write_csv(options.path("value_cells_all.csv"), table, options.header)


def speed(options, report):
    """A fit against LogisticRegression and obp's networks, a gradient against its two products."""
    n, rounds = (2_000, 1) if options.quick else (100_000, 5)
    d, n_actions = 50, 10
    rng = np.random.default_rng(0)
    W = rng.normal(size=(d, n_actions)) / np.sqrt(d) * 3
    X = rng.normal(size=(n + 10_000, d))
    y = (X @ W + rng.gumbel(size=(len(X), n_actions))).argmax(axis=1)
    X, X_test, y, y_test = X[:n], X[n:], y[:n], y[n:]
    log = make_logged_bandit(X, y, logging="good", random_state=0)
    feedback = {"reward": log.reward, "propensity": log.propensity}
    tol = 1e-4
    policy = TOPRPolicy(tol=tol)
    logistic = LogisticRegression(tol=tol, max_iter=1000)
    rows = [
        _timing(
            "TOPRPolicy, no rewards", "LogisticRegression", lambda: policy.fit(X, log.action),
            lambda: logistic.fit(X, log.action), rounds, 1.5,
        ),
        _timing(
            "TOPRPolicy, rewards", "LogisticRegression",
            lambda: policy.fit(X, log.action, **feedback), lambda: logistic.fit(X, log.action),
            rounds, 1.5,
        ),
    ]  # fmt: skip
    ratios = []
    for dtype in (np.float64, np.float32):
        full, products = _gradient(X.astype(dtype), log, n_actions)
        ratios.append(full)
        what = f"gradient, {np.dtype(dtype)}"
        rows.append(_timing(what, "its two products", full, products, rounds, 1.3))
    rows.append(_timing("gradient, float32", "gradient, float64", *ratios[::-1], rounds, 0.7))
    report.say(
        f"n = {n}, d = {d}, {n_actions} actions logged by make_logged_bandit's 'good' policy, one "
        "thread, seconds of the processor. The ratio is the median over rounds of ours / "
        "reference, measured in turns (reference, ours, ours, reference), with its quartiles. "
        "Both fits stop at the same bound on the gradient of the mean loss, and have the same "
        "labels: the actions. The products are those of the same blocks of rows, "
        "X W' and Z' X."
    )
    report.table("speed", rows, "Parts.")
    iterations = [
        {
            "fit": "TOPRPolicy, rewards",
            "iterations": policy.fit(X, log.action, **feedback).n_iter_,
        },
        {"fit": "TOPRPolicy, no rewards", "iterations": policy.fit(X, log.action).n_iter_},
        {"fit": "LogisticRegression", "iterations": logistic.fit(X, log.action).n_iter_[0]},
    ]
    report.table("speed_iterations", iterations, "Iterations of L-BFGS.")
    if options.obp:
        case = Case(X, *(log[k] for k in ("action", "reward", "propensity")), X_test, n_actions, 0)
        table = _against_obp(case, y_test, options)
        report.table("speed_obp", table, _obp_text(table))


def _gradient(X, log, n_actions):
    """Return functions that compute a gradient, and its two products alone."""
    rng = np.random.default_rng(0)
    W, b = rng.normal(size=(n_actions, X.shape[1])) * 0.1, np.zeros(n_actions)
    bounds = np.array([1.0, 1.0, 0.0, 1.0])
    columns = log.action.astype(np.int64), np.log(log.propensity), log.reward
    size = _kernels_block(X)

    def products():
        W_T, gradient = W.T.astype(X.dtype), np.zeros(W.shape)
        for start in range(0, len(X), size):
            block = X[start : start + size]
            Z = block @ W_T
            gradient += Z.T @ block
        return gradient

    return partial(value_and_gradient, X, *columns, bounds, W, b), products


def _kernels_block(X):
    """Return the number of rows in a block of the kernel."""
    from pnsklearn._topr._kernels import _blocks

    return next(iter(_blocks(X))).stop


def _timing(what, reference, ours, peer, rounds, bar):
    timing = paired_ratio(ours, peer, rounds=rounds)
    return {
        "what": what, "against": reference, "seconds": timing["ours"],
        "reference": timing["reference"], "ratio": timing["ratio"], "spread": timing["spread"],
        "bar": f"<= {bar:g}", "reached": bool(timing["ratio"] <= bar),
    }  # fmt: skip


def _against_obp(case, y_test, options):
    """Return seconds and value of our fit, and of obp's networks after some passes."""
    rows = np.arange(len(y_test))
    start = time.process_time()
    policy = topr(case)
    table = [{"fit": "TOPRPolicy", "seconds": time.process_time() - start}]
    table[0]["value"] = policy[rows, y_test].mean()
    passes = {"nn_linear": (1, 2, 5, 10, 20, 50), "nn": (200,)}
    if options.quick:
        passes = {"nn_linear": (1, 2)}
    for learner, counts in passes.items():
        label = "linear, rate 0.01" if learner == "nn_linear" else "defaults, 100 hidden units"
        for count in counts:
            policy, seconds = options.obp.learn(case, learner, max_iter=count)
            found = policy[rows, y_test].mean()
            row = {"fit": f"obp NNPolicyLearner, {label}", "passes": count, "seconds": seconds}
            table.append({**row, "value": found, "times ours": seconds / table[0]["seconds"]})
    return table


def _obp_text(table):
    ours, peers = table[0], table[1:]
    as_good = [row for row in peers if row["value"] > ours["value"]]
    if as_good:
        first = min(as_good, key=lambda row: row["seconds"])
        verdict = (
            f"A higher value than ours takes obp at least {first['seconds']:.3g} s "
            f"({first['passes']} passes), {first['times ours']:.3g} times ours."
        )
    else:
        best = max(peers, key=lambda row: row["value"])
        quick = min(peers, key=lambda row: row["seconds"])
        verdict = (
            f"obp does not reach our value; its best takes {best['times ours']:.3g} times our "
            f"seconds, its quickest run {quick['times ours']:.3g} times."
        )
    return f"To an equal or better value than obp's networks, once; bar: 10 times. {verdict}"


def open_bandit(options, report):
    """Real clicks of the Open Bandit data, men's page: too few to tell any policies apart."""
    log = {name: _read_open_bandit(f"obd_men_{name}", options) for name in ("random", "bts")}
    if log["random"] is None or log["bts"] is None:
        report.say("obd_men_random.npz and obd_men_bts.npz are not in --data-home")
        return
    half = len(log["random"]["click"]) // 2
    first, second = (
        {key: column[rows] for key, column in log["random"].items()}
        for rows in (slice(half), slice(half, None))
    )
    tests = {"random, 2nd half": second, "bts": log["bts"]}
    case = Case(
        first["X"], first["action"], first["click"], first["propensity"],
        np.vstack([test["X"] for test in tests.values()]),
        1 + max(int(part["action"].max()) for part in log.values()), 0,
    )  # fmt: skip
    clicks = ", ".join(f"{int(test['click'].sum())} in {name}" for name, test in tests.items())
    report.say(
        f"Trained on the first half by time of the random policy's log: {half} rows, "
        f"{int(first['click'].sum())} clicks, {case.n_actions} items; the clicks of the tests: "
        f"{clicks}. X are the one-hot user features. Clicks per thousand by the self-normalised "
        "estimate, with normal 95 % intervals, and the effective sample size. Nobody wins here: so "
        "few clicks teach nothing that the test rows would confirm, and an estimate rests on a "
        "handful of them. The intervals need more clicks than that: a policy whose way no click "
        "crossed has one of 0 to 0, where a value of 5 per thousand gives no click in 150 "
        "effective rows in half of all cases. effective_positive is swept over the same "
        "test rows, from which no share may be chosen."
    )
    methods = {
        "uniform": lambda case: np.full((len(case.X_test), case.n_actions), 1 / case.n_actions),
        "imitation of the log": imitation,
        "positives only = TOPR": topr,
        **{f"TOPR, effective_positive={s}": partial(topr, effective_positive=s) for s in SHARES},
        "full IS": partial(importance_sampling, unit=True),
        "direct, ridge": direct,
        "direct, logistic": direct_logistic,
    }
    if options.obp:
        obp = options.obp.methods()
        methods |= {label: obp[label] for label in obp if "IPW" in label}
    table = []
    for label, method in methods.items():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There are no negative rewards")
            policy = method(case)
        for kind, proba in (("as learned", policy), ("best action", deterministic(policy))):
            if kind == "best action" and label in ("uniform", *ONE_ACTION):
                continue
            row, start = {"policy": label, "kind": kind}, 0
            for name, test in tests.items():
                stop = start + len(test["click"])
                row |= _click_columns(name, proba[start:stop], test)
                start = stop
            table.append(row)
    row = {"policy": "(the logging policy)", "kind": "mean"}
    for name, test in tests.items():
        row |= _click_columns(name, None, test)
    report.table("open_bandit", [*table, row])


def _read_open_bandit(name, options):
    path = stored(name, options.data_home)
    if path is None:
        return None
    with np.load(path, allow_pickle=False) as parts:
        return {
            "X": parts["X"].astype(np.float64), "action": parts["extra_action"].astype(np.int64),
            "click": parts["y"].astype(np.float64), "propensity": parts["extra_pscore"],
        }  # fmt: skip


def _click_columns(name, proba, test):
    """Return clicks per thousand with an interval, and the effective sample size."""
    n = len(test["click"])
    propensity = test["propensity"]
    chosen = propensity if proba is None else proba[np.arange(n), test["action"]]
    found = snips_value(chosen, propensity, test["click"], confidence_level=0.95)
    size = effective_sample_size(chosen, propensity)
    return {
        name: round(1000 * found.value, 2),
        f"{name}: interval": f"{1000 * found.low:.2f} to {1000 * found.high:.2f}",
        f"{name}: ESS": round(size),
    }


def ope(options, report):
    """Off-policy estimates of a known value: bias, error and coverage of the intervals."""
    repetitions = 20 if options.quick else 500
    sizes = (200,) if options.quick else (200, 1000, 5000)
    rng = np.random.default_rng(0)
    d, n_actions = 5, 5
    W_reward, W_log, W_policy = rng.normal(size=(3, n_actions, d))
    settings = {"good overlap": (0.5, 1.0), "poor overlap": (1.5, 1.5)}
    table = []
    for overlap, (of_log, of_policy) in settings.items():
        policy = _fixed_policy(of_policy * W_policy)
        X = rng.normal(size=(1_000_000, d))
        proba = policy.predict_proba(X)
        truth = (proba * _success(X, W_reward)).sum(axis=1)
        truth = truth.mean()
        for n in sizes:
            found = {name: [] for name in ("ips", "snips", "clipped_ips", "dr")}
            effective = []
            for _ in range(repetitions):
                X = rng.normal(size=(n, d))
                mu = np.exp(log_policy(np.column_stack([of_log * W_log, np.zeros(5)]).ravel(), X))
                action = (rng.random((n, 1)) > np.cumsum(mu, axis=1)[:, :-1]).sum(axis=1)
                rows = np.arange(n)
                reward = (rng.random(n) < _success(X, W_reward)[rows, action]).astype(float)
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "The value rests on")
                    evaluation = policy.evaluate(
                        X, action, reward=reward, propensity=mu[rows, action]
                    )
                for name, estimates in found.items():
                    estimates.append(evaluation[name])
                effective.append(evaluation.effective_sample_size / n)
            table += [
                {"overlap": overlap, "n": n, "effective": np.mean(effective), "estimate": name}
                | _estimate_columns(np.array(estimates), truth)
                for name, estimates in found.items()
            ]
    report.say(
        f"{repetitions} simulated logs of each size: normal contexts (d = {d}), {n_actions} "
        "actions, softmax policies, rewards of 0 or 1 whose probability is a sigmoid of linear "
        "scores. The true value is the mean over 10^6 contexts. Estimates are those of "
        "TOPRPolicy.evaluate: weights clipped at the square root of n, doubly robust with "
        "cross-fitted ridge regressions. 'effective' is the effective sample size as a share of n. "
        "Intervals are nominal 95 %; the standard error of a coverage of 0.95 is "
        f"{np.sqrt(0.95 * 0.05 / repetitions):.3f}."
    )
    report.table("ope", table)


def _fixed_policy(W):
    """Return a TOPRPolicy with given weights."""
    n_actions, d = W.shape
    rng = np.random.default_rng(0)
    policy = TOPRPolicy().fit(rng.normal(size=(n_actions, d)), np.arange(n_actions))
    policy.coef_, policy.intercept_ = W, np.zeros(n_actions)
    return policy


def _success(X, W):
    return 1 / (1 + np.exp(-X @ W.T))


def _estimate_columns(estimates, truth):
    value, _, low, high = estimates.T
    return {
        "bias": np.mean(value) - truth, "rmse": np.sqrt(np.mean((value - truth) ** 2)),
        "mean width": np.mean(high - low), "coverage": np.mean((low <= truth) & (truth <= high)),
    }  # fmt: skip


def dynamics(options, report):
    """Full-batch Adam from the logging policy: the value by step."""
    n_steps = 30 if options.quick else max(SHOWN_STEPS)
    seeds = options.seeds_of(3)
    curves = {}
    for seed in seeds:
        for start in STARTS:
            case, y_test, theta = _own_log(seed, STARTS[start], options)
            for rate in RATES:
                for method in BOUNDS:
                    found = _curve(case, y_test, theta, method, rate, n_steps)
                    curves.setdefault((start, rate, method), []).append(found)
    table = []
    for (start, rate, method), found in curves.items():
        mean = np.mean([curve for curve, _ in found], axis=0)
        at = dict(zip(mean[:, 0].astype(int), mean[:, 1], strict=True))
        row = {"log": start, "rate": rate, "method": method}
        row |= {f"step {step}": at[step] for step in SHOWN_STEPS if step <= n_steps}
        row["least after step 10"] = min(value for step, value in at.items() if step >= 10)
        row["mean log pi of the bad"] = np.mean([log_p for _, log_p in found])
        table.append(row)
    report.say(
        "digits; the log is sampled from a fifth of the scores of a logistic regression that saw "
        "100 labels (bad: from their negatives), and Adam starts there. No penalty; "
        f"{len(seeds)} logs; the value of the stochastic policy on the test half. 'Mean log pi of "
        "the bad' is that of the logged wrong actions at the end. A run has one log for all steps: "
        "nothing is sampled anew."
    )
    report.table("dynamics", table)
    _plot_curves(curves, options.path("dynamics.png"))


def _curve(case, y_test, theta, method, rate, n_steps):
    """Return steps and values of shape (n, 2), and the final mean log pi of bad actions."""
    curve, rows = [], np.arange(len(y_test))

    def keep(step, theta):
        if step in SHOWN_STEPS or step % 10 == 0:
            curve.append((step, on_test(case, theta)[rows, y_test].mean()))

    keep(0, theta)
    objective = clipped(case, *BOUNDS[method])
    theta = adam(objective, case.X, theta, n_steps=n_steps, rate=rate, C=np.inf, on_step=keep)
    bad = case.reward < 0
    log_p = log_policy(theta, case.X[bad])[np.arange(bad.sum()), case.action[bad]]
    return np.array(curve), log_p.mean()


def _own_log(seed, scale, options):
    """Return a log of a policy of the class that learns, the test labels, and its parameters."""
    X, y = load_set("digits", options.data_home)
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
        X_train, y_train, logging=np.exp(log_policy(theta, X_train)), random_state=seed
    )
    case = Case(X_train, log.action, log.reward, log.propensity, X_test, 10, seed)
    return case, y_test, theta


def _plot_curves(curves, path):
    plt = pyplot()
    if plt is None:
        return
    figure, axes = plt.subplots(
        len(STARTS), len(RATES), figsize=(9, 6), sharex=True, sharey=True, layout="constrained"
    )
    for start, row in zip(STARTS, axes, strict=True):
        for rate, axis in zip(RATES, row, strict=True):
            for method in BOUNDS:
                mean = np.mean([curve for curve, _ in curves[start, rate, method]], axis=0)
                axis.plot(1 + mean[:, 0], mean[:, 1], label=method)
            axis.set(xscale="log", title=f"{start} log, Adam, rate {rate}")
        row[0].set_ylabel("value on the test half")
    for axis in axes[-1]:
        axis.set_xlabel("1 + step")
    axes[0, 0].legend(fontsize="small")
    figure.savefig(path, dpi=150)
    plt.close(figure)


SECTIONS = {section.__name__: section for section in (value, speed, open_bandit, ope, dynamics)}


def main():
    """Run the chosen sections; print and write their tables, and their text."""
    parser = argument_parser("python -m benchmarks.topr", __doc__)
    parser.add_argument("--obp-python", help="Python of an environment with obp (else without)")
    options = parse_sections(parser, SECTIONS)
    begin(options, PACKAGES, "topr_")
    options.sets = tuple(BUNDLED) if options.quick else SETS
    options.noisy = tuple(BUNDLED)[:1] if options.quick else NOISY_SETS
    options.max_rows = 200 if options.quick else MAX_ROWS
    options.obp = OpenBanditPipeline(options.obp_python) if options.obp_python else None
    if options.quick:
        options.path("value_runs.csv").unlink(missing_ok=True)
    report_sections(SECTIONS, options, ConvergenceWarning)
    if options.obp:
        options.obp.close()


if __name__ == "__main__":
    main()
