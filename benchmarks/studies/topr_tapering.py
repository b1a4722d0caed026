"""Where tapering pays: networks learned by stochastic gradients in many passes over a log."""

from dataclasses import replace

import numpy as np

from benchmarks import _engine as engine
from benchmarks.peers import topr as policies
from pnsklearn.metrics import snips_value

SETS = ("digits", "letter", "satimage", "segment", "vehicle", "yeast")
ROWS, SEEDS = 1_000, 2
NOISES, ROUNDS = (0.0, 0.25), (1, 5)
RATES = (0.001, 0.003, 0.01)
METHODS = policies.BOUNDS  # TOPR is the first
OURS = "TOPR"
HIDDEN, BATCH = 100, 64
PASSES, IMITATION_PASSES = 100, 20
SHOWN = (0, 1, 2, 5, 10, 20, 40, 60, 80, 100)  # passes
SETTING = ["rounds", "logging", "noise"]
RUN = ["seed", *SETTING, "set", "model"]
SHOWN_LOGS = "good", "bad"


def tapering(options, report):
    """Networks by Adam on small batches, in many passes from the logging policy: who is ahead?

    Each method has the rate and the pass at which a fifth of the log, kept aside, values it most.
    """
    if not engine.is_installed("torch"):
        report.say("torch is not installed")
        return
    points = _points(options, report)
    last = points[points["passes"] == points["passes"].max()]
    for name, of, title in (
        ("tapering", points, "At the rate and the pass that these rows choose"),
        ("tapering_last", last, "After the last pass, at the rate that they choose"),
    ):
        chosen = of.loc[of.groupby(RUN, sort=False)["estimate"].idxmax()]
        report.table(name, _table(chosen, "value"), f"{title}: value, as learned.")
        report.table(f"{name}_best", _table(chosen, "best"), f"{title}: value, best actions.")
    at_last = chosen[[*RUN, "rate"]]  # the rates of the last pass
    report.figure(_plot, points.merge(at_last))


def _points(options, report):
    """Return a row for each run, rate and shown pass."""
    axes = {
        "rounds": options.pick(ROUNDS, (1,)), "seed": options.seeds_of(SEEDS),
        "logging": policies.LOGGING, "noise": options.pick(NOISES, (0.0,)),
        "set": options.pick(SETS, policies.BUNDLED[:1]), "rate": options.pick(RATES, (0.01,)),
        "model": METHODS,
    }  # fmt: skip
    n_passes = options.pick(PASSES, 5)

    def run(set, logging, noise, seed, rounds, rate, model):
        case, y_test, _ = policies.make_case(
            set, logging, seed, noise=noise, max_rows=ROWS, data_home=options.data_home
        )
        return _trained(case, y_test, METHODS[model], rate, rounds, n_passes)

    return report.runs("tapering_runs", engine.grid(**axes), run)


def _trained(case, y_test, bounds, rate, rounds, n_passes):
    """Return a row for each shown pass of a training from the imitation of the log.

    With several rounds the log is drawn anew at the start of each, from the policy so far.
    """
    import torch

    rng = np.random.default_rng(case.seed)
    aside, rows = np.split(rng.permutation(len(case.X)), [len(case.X) // 5])
    of_aside = case.rows(aside)
    torch.manual_seed(case.seed)
    network = torch.nn.Sequential(
        torch.nn.Linear(case.X.shape[1], HIDDEN), torch.nn.ReLU(),
        torch.nn.Linear(HIDDEN, case.n_actions),
    )  # fmt: skip
    adam = torch.optim.Adam(network.parameters(), RATES[1])
    for _ in range(IMITATION_PASSES):
        _pass(network, case.rows(rows), None, adam, rng)
    found = [_point(network, case, of_aside, y_test, 0)]
    adam = torch.optim.Adam(network.parameters(), rate)
    for done in range(1, n_passes + 1):
        _pass(network, case.rows(rows), bounds, adam, rng)
        if done in SHOWN:
            found.append(_point(network, case, of_aside, y_test, done))
        if done % (n_passes // rounds) == 0:
            case = _drawn_anew(network, case, rng)
    return found


def _pass(network, case, bounds, adam, rng):
    """Take one pass over the log, without bounds to imitate it."""
    import torch

    from pnsklearn.losses import topr_loss

    X, action = torch.from_numpy(case.X).float(), torch.from_numpy(case.action)
    reward = torch.from_numpy(case.reward).float()
    log_mu = torch.from_numpy(np.log(case.propensity)).float()
    for rows in torch.from_numpy(rng.permutation(len(X))).split(BATCH):
        log_p = network(X[rows]).log_softmax(1).gather(1, action[rows, None])[:, 0]
        loss = -log_p.mean()
        if bounds is not None:
            by_sign = dict(zip(("positive_bounds", "negative_bounds"), bounds, strict=True))
            loss = topr_loss(log_p, log_mu[rows], reward[rows], **by_sign)
        adam.zero_grad()
        loss.backward()
        adam.step()


def _policy(network, X):
    import torch

    with torch.no_grad():
        return network(torch.from_numpy(X).float()).double().softmax(1).numpy()


def _drawn_anew(network, case, rng):
    """Return a log of the policy so far in the same contexts."""
    policy = _policy(network, case.X)
    action = (rng.random((len(policy), 1)) > policy.cumsum(axis=1)[:, :-1]).sum(axis=1)
    propensity = policy[np.arange(len(policy)), action]
    reward = case.ask(case.X, action)
    return replace(case, action=action, reward=reward, propensity=propensity)


def _point(network, case, aside, y_test, passes):
    """Return the value of a network, and what the rows kept aside say of it."""
    policy, of_aside = _policy(network, case.X_test), _policy(network, aside.X)
    chosen = of_aside[np.arange(len(of_aside)), aside.action]
    return {
        "passes": passes, "estimate": snips_value(chosen, aside.propensity, aside.reward),
        "value": policy[np.arange(len(y_test)), y_test].mean(),
        "best": (policy.argmax(axis=1) == y_test).mean(),
    }  # fmt: skip


def _table(rows, column):
    """Yield the means of each method in a setting, and TOPR less each other one."""
    table = engine.wide(rows, column, [*SETTING, "set"], "seed")
    for setting, of in table.groupby(level=SETTING, sort=False):
        row = dict(zip(SETTING, setting, strict=True)) | of.mean().to_dict()
        lead = of.drop(columns=OURS).rsub(of[OURS], axis=0).groupby(level="set").mean()
        row |= {f"TOPR less {method}": engine.pm(lead[method]) for method in lead}
        ahead = lead.mean() > 2 * lead.sem()
        yield row | {"ahead of all by 2 SE": bool(ahead.drop("naive REINFORCE").all())}


def _plot(plt, rows):
    """Plot the value by pass, at the rate that the rows kept aside choose."""
    settings = [(rounds, logging) for rounds in rows["rounds"].unique() for logging in SHOWN_LOGS]
    shape = {"nrows": len(settings) // 2, "ncols": 2, "sharex": True, "squeeze": False}
    figure, axes = plt.subplots(**shape, figsize=(9, 6), layout="constrained")
    for axis, (rounds, logging) in zip(axes.flat, settings, strict=True):
        of = rows[(rows["rounds"] == rounds) & (rows["logging"] == logging)]
        curves = of.pivot_table("value", "passes", "model")[list(METHODS)]
        title = f"{logging} log, {'one log' if rounds == 1 else f'{rounds} rounds'}"
        curves.plot(ax=axis, title=title, legend=axis is axes[0, 0])
        axis.set(xlabel="passes", ylabel="value on the test half")
    return figure
