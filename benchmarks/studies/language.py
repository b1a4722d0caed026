"""TOPRLanguagePolicy against other losses on the same completions: curves, conditions, memory."""

import resource
import warnings
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np

from benchmarks._engine import grid, new_process, pm
from benchmarks.peers.language import learn_dpo

PACKAGES = ("torch", "transformers", "numpy")
NEEDS = ("torch", "transformers")
SEEDS = 3
N_SAMPLES = 8  # for each prompt of the log
N_EPOCHS = 4  # over all completions
MOST_EPOCHS = 12  # over the positive ones alone, for as many steps
METHODS = {
    "TOPR": {}, "TOPR, share 0.3": {"effective_positive": 0.3},
    "positives only": {"negative_bounds": (0, 0)}, "truncated IS": {"positive_bounds": (0, 1)},
    "naive": {"negative_bounds": (1, 1)}, "token ratio": {"ratio_level": "token"}, "DPO": None,
}  # fmt: skip
LEARNERS = list(METHODS)[:3]  # of the other conditions, and in rounds
CONDITIONS = {
    "base": {}, "harder base": {"n_worked": 9_000},
    "three times the rate": {"learning_rate": 1.5e-3},
    "a fifth of the rate": {"learning_rate": 1e-4},
    "harder base, a fifth of the rate": {"n_worked": 9_000, "learning_rate": 1e-4},
    "one positive a prompt": {"max_positive": 1},
}  # fmt: skip


@dataclass
class Curve:
    """A callback of scikit-learn that tests the policy after each epoch or round."""

    problems: object
    points: list = field(default_factory=list)

    def setup(self, estimator, context):
        """Do nothing: the protocol asks for it."""

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        """Test the policy."""
        if context.task_name in ("epoch", "round"):
            self.points.append(self.problems.pass_at_1(fitted_estimator))


def with_settings(policy, **settings):
    """Return an unfitted policy of the same model with other settings."""
    return type(policy)(**{**policy.get_params(deep=False), **settings})


def write_log(problems, seed, max_positive=None):
    """Return the prompts, completions and rewards that the base writes, capped if asked for."""
    from pnsklearn.language import cap_positives

    log = problems.log(problems.policy, N_SAMPLES, random_state=seed)
    if max_positive is None:
        return log
    kept = cap_positives(log[0], log[2], max_positive, random_state=seed)
    return [part[kept] for part in log]


def learn(problems, method, log):
    """Return (step, (pass@1, invalid)) of a method after each epoch of its fit."""
    prompts, completions, reward = log
    if METHODS[method] is None:
        models = learn_dpo(problems.policy, *log, n_epochs=N_EPOCHS)
        return [
            (step, problems.pass_at_1(with_settings(problems.policy, model=model)))
            for step, model in models
        ]
    n_epochs = N_EPOCHS
    if method == "positives only":  # steps over few completions are few
        n_epochs = round(N_EPOCHS / max(np.mean(reward > 0), N_EPOCHS / MOST_EPOCHS))
    curve = Curve(problems)
    policy = with_settings(problems.policy, n_epochs=n_epochs, **METHODS[method])
    policy.set_callbacks(curve).fit(prompts, completions, reward=reward)
    steps = policy.n_steps_ // n_epochs
    return [(i * steps, point) for i, point in enumerate(curve.points, start=1)]


@lru_cache(maxsize=1)
def _problems(seed, quick, **settings):
    from docs.examples.language.sums import sums

    size = {"n_worked": 14_000, "n_train": 320, "n_test": 200}
    if quick:
        size = {"n_worked": 2000, "n_train": 8, "n_test": 8, "n_digits": 1}
    return sums(**size | settings, seed=seed)


@lru_cache(maxsize=1)
def _given(condition, seed, quick):
    """Return the problems of a condition, what the base solves, and the log that it writes."""
    settings = dict(CONDITIONS[condition])
    max_positive = settings.pop("max_positive", None)
    problems = _problems(seed, quick, **settings)
    return problems, problems.pass_at_1(problems.policy), write_log(problems, seed, max_positive)


def _runs(report, condition, methods):
    def run(condition, seed, method):
        problems, base, log = _given(condition, seed, report.options.quick)
        points = [(0, base), *learn(problems, method, log)]
        for epoch, (step, (right, invalid)) in enumerate(points):
            yield {"epoch": epoch, "step": step, "pass_at_1": right, "invalid": invalid}

    cells = grid(condition=[condition], seed=report.options.seeds_of(SEEDS), method=methods)
    return report.runs("runs", cells, lambda **cell: list(run(**cell)))


def _summary(rows):
    """Yield a row for each method: after equal epochs, and at the end of each."""
    for (condition, method), of_method in rows.groupby(["condition", "method"], sort=False):
        by_epoch = of_method.pivot(index="epoch", columns="seed", values="pass_at_1").ffill()
        ends = of_method.groupby("seed").last()
        yield {
            "condition": condition, "method": method, "seeds": len(ends),
            "start": pm(by_epoch.loc[0]), "1 epoch": pm(by_epoch.loc[1]),
            f"{N_EPOCHS} epochs": pm(by_epoch.loc[min(N_EPOCHS, by_epoch.index.max())]),
            "at its end": pm(ends["pass_at_1"]), "its steps": round(ends["step"].mean()),
            "lowest after an epoch": of_method.loc[of_method["epoch"] > 0, "pass_at_1"].min(),
            "invalid at the end": pm(ends["invalid"]),
        }  # fmt: skip


def curves(options, report):
    """Learning from one log: pass@1 by epoch over all completions and by gradient step."""
    rows = _runs(report, "base", METHODS)
    report.table("curves", _summary(rows))
    report.figure(_plot_curves, rows, dpi=110)


def _plot_curves(plt, rows):
    """Draw the mean curves with their standard errors: by epoch, by step, and the invalid share."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    for method, of_method in rows.groupby("method", sort=False):
        by_epoch = of_method.groupby("epoch")
        complete = by_epoch.size() == by_epoch.size().iloc[0]  # epochs that all seeds have
        columns = ["step", "pass_at_1", "invalid"]
        means, errors = by_epoch[columns].mean(), by_epoch[columns].sem().fillna(0)
        means, errors = means[complete].reset_index(), errors[complete].reset_index()
        for axis, x, y in (
            (axes[0], "epoch", "pass_at_1"),
            (axes[1], "step", "pass_at_1"),
            (axes[2], "step", "invalid"),
        ):
            shown = means["epoch"] <= (N_EPOCHS if x == "epoch" else np.inf)
            where, mean, error = means.loc[shown, x], means.loc[shown, y], errors.loc[shown, y]
            (line,) = axis.plot(where, mean, marker=".", label=method)
            shade = {"color": line.get_color(), "alpha": 0.2, "linewidth": 0}
            axis.fill_between(where, mean - error, mean + error, **shade)
    axes[0].set(xlabel="epoch over all completions", ylabel="pass@1", ylim=(0, 1))
    axes[1].set(xlabel="gradient step", ylabel="pass@1", ylim=(0, 1))
    axes[2].set(xlabel="gradient step", ylabel="share of invalid samples", ylim=(0, 1))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return figure


def conditions(options, report):
    """Where bad completions help: harder bases, larger rates, fewer positives."""
    for name in options.pick(list(CONDITIONS)[1:], list(CONDITIONS)[-1:]):
        methods = METHODS if name == "a fifth of the rate" else LEARNERS
        rows = _runs(report, name, methods)
        report.table(name.replace(" ", "_"), _summary(rows), f"{name}:")


def rounds(options, report):
    """Several rounds of fresh samples: pass@1 after each."""
    n_rounds = options.pick(5, 2)

    def run(seed, method):
        problems = _problems(seed, options.quick)
        curve = Curve(problems)
        policy = with_settings(problems.policy, **METHODS[method]).set_callbacks(curve)
        policy.improve(list(problems.train), problems.reward, n_rounds, N_SAMPLES)
        points = [problems.pass_at_1(problems.policy), *curve.points]
        return [
            {"round": i, "pass_at_1": right, "invalid": invalid}
            for i, (right, invalid) in enumerate(points)
        ]

    cells = grid(seed=options.seeds_of(SEEDS), method=LEARNERS)
    rows = report.runs("rounds_runs", cells, run)
    table = []
    for method, of_method in rows.groupby("method", sort=False):
        by_round = of_method.groupby("round")
        row = {f"round {i}" if i else "start": pm(of["pass_at_1"]) for i, of in by_round}
        end = pm(by_round.get_group(n_rounds)["invalid"])
        table.append({"method": method, **row, "invalid at the end": end})
    report.table("rounds", table)


def memory(options, report):
    """Peak memory of a fit in bytes for each weight, beyond what the process had before."""
    table, hidden = [], options.pick(768, 128)
    for name in options.pick(("adamw", "adafactor", "lora"), ("adamw",)):
        code = f"from benchmarks.studies.language import peak; peak({name!r}, {hidden})"
        n_weights, model, peak_bytes = map(float, new_process(code).split())
        row = {"what": name, "weights (million)": n_weights / 1e6}
        row["given model, bytes a weight"] = model / n_weights
        table.append(row | {"fit at its peak, bytes a weight": peak_bytes / n_weights})
    report.table("memory", table)


def peak(name, hidden):
    """Print the number of weights, the bytes of the model and those of a fit at its peak."""
    from docs.examples.language.arithmetic import CharTokenizer
    from docs.examples.language.sums import char_model

    warnings.simplefilter("ignore")
    tokenizer = CharTokenizer("ab")
    fit = partial(_fit_two, tokenizer, name)
    fit(char_model(tokenizer, hidden_size=16, n_layers=1))  # what all fits need, whatever the model
    before = _resident()
    model = char_model(tokenizer, hidden_size=hidden, n_layers=8)
    loaded = _resident()
    fit(model)
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(sum(p.numel() for p in model.parameters()), loaded - before, highest - before)


def _fit_two(tokenizer, name, model):
    from pnsklearn.language import TOPRLanguagePolicy

    settings = {"optimizer": name}
    if name == "lora":
        from peft import LoraConfig

        settings = {"lora": LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=["q_proj"])}
    policy = TOPRLanguagePolicy(model, tokenizer, max_tokens=64, random_state=0, **settings)
    policy.fit(["a", "b"], ["a", "b"], reward=[1, -1])


def _resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


SECTIONS = {section.__name__: section for section in (curves, conditions, rounds, memory)}
