"""TOPRLanguagePolicy against other losses on the same completions: curves, conditions, memory.

The task is the small one of ``benchmarks.language_tasks``: sums, and a transformer that was taught
on few worked solutions. All methods learn from the same completions, which the base wrote, with the
same optimizer, rate and batches; a curve is a method's share of right samples on other sums.
"""

import resource
import subprocess
import sys
import warnings
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from benchmarks._harness import (
    append_csv,
    argument_parser,
    begin,
    mean_and_error,
    parse_sections,
    pyplot,
    read_runs,
    report_sections,
)
from benchmarks.language_tasks import char_model, sums
from pnsklearn.language import CharTokenizer, TOPRLanguagePolicy, cap_positives

PACKAGES = ("torch", "transformers", "numpy")
SEEDS = 3
N_SAMPLES = 8  # for each prompt of the log
N_EPOCHS = 4  # over all completions
MOST_EPOCHS = 12  # over the positive ones alone, for as many steps
BETA = 0.1  # of DPO
METHODS = {
    "TOPR": {},
    "TOPR, share 0.3": {"effective_positive": 0.3},
    "positives only": {"negative_bounds": (0, 0)},
    "truncated IS": {"positive_bounds": (0, 1)},
    "naive": {"negative_bounds": (1, 1)},
    "token ratio": {"ratio_level": "token"},
    "DPO": None,
}
LEARNERS = list(METHODS)[:3]  # of the other conditions, and in rounds
CONDITIONS = {
    "base": {},
    "harder base": {"n_worked": 9_000},
    "three times the rate": {"learning_rate": 1.5e-3},
    "a fifth of the rate": {"learning_rate": 1e-4},
    "harder base, a fifth of the rate": {"n_worked": 9_000, "learning_rate": 1e-4},
    "one positive a prompt": {"max_positive": 1},
}
COLUMNS = ("condition", "method", "seed", "epoch", "step", "pass_at_1", "invalid", "base_pass")


@dataclass
class Curve:
    """A callback of scikit-learn that tests the policy after each epoch or round."""

    problems: object

    def __post_init__(self):
        self.points = []

    def setup(self, estimator, context):
        """Do nothing: the protocol asks for it."""

    def teardown(self, estimator, context):
        """Do nothing: the protocol asks for it."""

    def on_fit_task_begin(self, estimator, context):
        """Do nothing: the protocol asks for it."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        """Test the policy."""
        if context.task_name in ("epoch", "round"):
            self.points.append(self.problems.pass_at_1(fitted_estimator))


def with_settings(policy, **settings):
    """Return an unfitted policy of the same model with other settings."""
    return TOPRLanguagePolicy(**{**policy.get_params(deep=False), **settings})


def write_log(problems, seed, max_positive=None):
    """Return the prompts, completions and rewards that the base writes, capped if asked for."""
    log = problems.log(problems.policy, N_SAMPLES, random_state=seed)
    if max_positive is None:
        return log
    kept = cap_positives(log[0], log[2], max_positive, random_state=seed)
    return [part[kept] for part in log]


def learn(problems, method, log):
    """Return (epoch, step, pass@1, invalid) of a method along its fit."""
    prompts, completions, reward = log
    if METHODS[method] is None:
        return list(learn_dpo(problems, *log))
    n_epochs = N_EPOCHS
    if method == "positives only":  # steps over few completions are few
        n_epochs = round(N_EPOCHS / max(np.mean(reward > 0), N_EPOCHS / MOST_EPOCHS))
    curve = Curve(problems)
    policy = with_settings(problems.policy, n_epochs=n_epochs, **METHODS[method])
    policy.set_callbacks(curve).fit(prompts, completions, reward=reward)
    steps = policy.n_steps_ // n_epochs
    return [(i, i * steps, *point) for i, point in enumerate(curve.points, start=1)]


def learn_dpo(problems, prompts, completions, reward):
    """Yield the same of direct preference optimisation, on pairs of a prompt's completions."""
    policy = with_settings(problems.policy)
    rng = np.random.RandomState(policy.random_state)
    pairs = []
    for prompt in dict.fromkeys(prompts):
        rows = np.flatnonzero(np.array(prompts) == prompt)
        good, bad = (rng.permutation(rows[sign * reward[rows] > 0]) for sign in (1, -1))
        pairs += zip(good, bad, strict=False)
    pairs = np.array(pairs)
    sequences = policy._encode(prompts, completions)
    runner = policy._runner(policy._start(rng))
    reference = torch.as_tensor(runner.score(sequences), dtype=torch.float32)
    optimizer = torch.optim.AdamW(runner.model.parameters(), policy.learning_rate, weight_decay=0)
    # As many completions a step, and as many steps, as the other methods have.
    n_batches = -(-len(prompts) // policy.batch_size)
    step = 0
    for epoch in range(1, N_EPOCHS + 1):
        for _ in range(n_batches):
            good, bad = pairs[rng.choice(len(pairs), policy.batch_size // 2)].T
            u = [runner.sequence_logprob(sequences.take(r)) - reference[r] for r in (good, bad)]
            loss = -torch.nn.functional.logsigmoid(BETA * (u[0] - u[1])).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(runner.model.parameters(), policy.max_grad_norm)
            optimizer.step()
            step += 1
        policy.model_ = runner.model
        yield epoch, step, *problems.pass_at_1(policy)


def run(options, runs, conditions, methods):
    """Add the missing runs to the file `runs` and return all."""
    for condition in conditions:
        settings = dict(CONDITIONS[condition])
        max_positive = settings.pop("max_positive", None)
        for seed in options.seeds_of(SEEDS):
            done = {
                (row["condition"], row["method"], row["seed"])
                for row in read_runs(runs, ("condition", "method"))
            }
            missing = [m for m in methods if (condition, m, seed) not in done]
            if not missing:
                continue
            problems = sums(**options.size | settings, seed=seed)
            base_pass, base_invalid = problems.pass_at_1(problems.policy)
            log = write_log(problems, seed, max_positive)
            print(f"{condition}, seed {seed}: base {base_pass:.2f}", flush=True)
            for method in missing:
                points = [(0, 0, base_pass, base_invalid), *learn(problems, method, log)]
                for point in points:
                    append_csv(
                        runs,
                        dict(
                            zip(COLUMNS, (condition, method, seed, *point, base_pass), strict=True)
                        ),
                        COLUMNS,
                    )
                print(f"  {method}: {' '.join(f'{p[2]:.2f}' for p in points)}", flush=True)
    return read_runs(runs, ("condition", "method"))


def summarise(rows, condition, methods):
    """Return a row for each method: after equal epochs, and at the end of each."""
    table = []
    rows = [row for row in rows if row["condition"] == condition]
    for method in methods:
        curves = {}
        for row in rows:
            if row["method"] == method:
                curves.setdefault(row["seed"], []).append(row)
        if not curves:
            continue
        of_seeds = list(curves.values())
        entry = {"condition": condition, "method": method, "seeds": len(of_seeds)}
        for name, pick in (
            ("start", lambda c: c[0]),
            ("1 epoch", lambda c: c[1]),
            (f"{N_EPOCHS} epochs", lambda c: c[min(N_EPOCHS, len(c) - 1)]),
            ("at its end", lambda c: c[-1]),
        ):
            entry[name] = pm([pick(curve)["pass_at_1"] for curve in of_seeds])
        entry["its steps"] = round(np.mean([curve[-1]["step"] for curve in of_seeds]))
        entry["lowest after an epoch"] = min(p["pass_at_1"] for c in of_seeds for p in c[1:])
        entry["invalid at the end"] = pm([curve[-1]["invalid"] for curve in of_seeds])
        table.append(entry)
    return table


def pm(values):
    """Return a mean and its standard error as text."""
    mean, error = mean_and_error(np.asarray(values, dtype=float))
    return f"{mean:.3f}" if np.isnan(error) else f"{mean:.3f} ({error:.3f})"


def curves(options, report):
    """Learning from one log: pass@1 by epoch over all completions and by gradient step."""
    runs = options.path("runs.csv")
    rows = run(options, runs, ["base"], METHODS)
    report.say(
        f"{options.size['n_train']} sums x {N_SAMPLES} completions of the base. Mean (standard "
        "error) over seeds of the share of right samples on 200 other sums. An epoch of positives "
        "only has the steps of the positives alone: it goes on to as many steps as the other "
        f"methods take in their epochs, or to {MOST_EPOCHS} epochs."
    )
    report.table("curves", summarise(rows, "base", METHODS))
    plot_curves(rows, options.path("curves.png"))


def conditions(options, report):
    """Where bad completions help: harder bases, larger rates, fewer positives."""
    runs = options.path("runs.csv")
    for name in list(CONDITIONS)[-1:] if options.quick else list(CONDITIONS)[1:]:
        methods = list(METHODS) if name == "a fifth of the rate" else LEARNERS
        rows = run(options, runs, [name], methods)
        report.table(name.replace(" ", "_"), summarise(rows, name, methods), f"{name}:")


def rounds(options, report):
    """Several rounds of fresh samples: pass@1 after each."""
    runs, table = options.path("rounds_runs.csv"), []
    n_rounds = 2 if options.quick else 5
    columns = ("method", "seed", "round", "pass_at_1", "invalid")
    for seed in options.seeds_of(SEEDS):
        done = {(row["method"], row["seed"]) for row in read_runs(runs, ("method",))}
        missing = [m for m in LEARNERS if (m, seed) not in done]
        problems = sums(**options.size, seed=seed) if missing else None
        for method in missing:
            curve = Curve(problems)
            policy = with_settings(problems.policy, **METHODS[method]).set_callbacks(curve)
            policy.improve(list(problems.train), problems.reward, n_rounds, N_SAMPLES)
            points = [problems.pass_at_1(problems.policy), *curve.points]
            for i, point in enumerate(points):
                append_csv(
                    runs, dict(zip(columns, (method, seed, i, *point), strict=True)), columns
                )
            print(f"seed {seed}, {method}: {' '.join(f'{p[0]:.2f}' for p in points)}", flush=True)
    rows = read_runs(runs, ("method",))
    for method in dict.fromkeys(row["method"] for row in rows):
        entry = {"method": method}
        for i in range(n_rounds + 1):
            at = [r for r in rows if r["method"] == method and r["round"] == i]
            entry[f"round {i}" if i else "start"] = pm([r["pass_at_1"] for r in at])
        entry["invalid at the end"] = pm([r["invalid"] for r in at])
        table.append(entry)
    report.say("One epoch a round, on 8 fresh samples of each prompt. Mean (standard error).")
    report.table("rounds", table)


def memory(options, report):
    """Peak memory of a fit in bytes for each weight, beyond what the process had before."""
    hidden = 128 if options.quick else 768
    table = []
    for name in ("adamw",) if options.quick else ("adamw", "adafactor", "lora"):
        command = [
            sys.executable,
            "-c",
            f"from benchmarks.language import peak; peak({name!r}, {hidden})",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        n_weights, model, peak_bytes = map(float, done.stdout.split())
        table.append(
            {
                "what": name,
                "weights (million)": n_weights / 1e6,
                "given model, bytes a weight": model / n_weights,
                "fit at its peak, bytes a weight": peak_bytes / n_weights,
            }
        )
    report.say("The fit at its peak includes the model that was given; float32, CPU.")
    report.table("memory", table)


def peak(name, hidden):
    """Print the number of weights, the bytes of the model and those of a fit at its peak."""
    warnings.simplefilter("ignore")
    tokenizer = CharTokenizer("ab")
    fit = partial(_fit_two, tokenizer, name)
    fit(char_model(tokenizer, hidden_size=16, n_layers=1))  # what all fits need, whatever the model
    before = _resident()
    model = char_model(tokenizer, hidden_size=hidden, n_layers=8)
    loaded = _resident()
    fit(model)
    print(sum(p.numel() for p in model.parameters()), loaded - before, _peak() - before)


def _fit_two(tokenizer, name, model):
    settings = {"optimizer": name}
    if name == "lora":
        from peft import LoraConfig

        settings = {"lora": LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=["q_proj"])}
    policy = TOPRLanguagePolicy(model, tokenizer, max_tokens=64, random_state=0, **settings)
    policy.fit(["a", "b"], ["a", "b"], reward=[1, -1])


def _resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def plot_curves(rows, path):
    """Draw the mean curves with their standard errors: by epoch, by step, and the invalid share."""
    plt = pyplot()
    if plt is None:
        return
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    for method in METHODS:
        chosen = [r for r in rows if r["method"] == method and r["condition"] == "base"]
        if not chosen:
            continue
        for ax, x, y in (
            (axes[0], "epoch", "pass_at_1"),
            (axes[1], "step", "pass_at_1"),
            (axes[2], "step", "invalid"),
        ):
            places = sorted({row["epoch"] for row in chosen})
            if x == "epoch":
                places = [place for place in places if place <= N_EPOCHS]
            at = [[row for row in chosen if row["epoch"] == place] for place in places]
            at = [group for group in at if len(group) == len(at[0])]  # epochs that all seeds have
            stats = np.array([mean_and_error([row[y] for row in group]) for group in at])
            stats = np.nan_to_num(stats)
            where = [np.mean([row[x] for row in group]) for group in at]
            (line,) = ax.plot(where, stats[:, 0], marker=".", label=method)
            ax.fill_between(
                where, *(stats[:, 0] + s * stats[:, 1] for s in (-1, 1)),
                color=line.get_color(), alpha=0.2, linewidth=0,
            )  # fmt: skip
    axes[0].set(xlabel="epoch over all completions", ylabel="pass@1", ylim=(0, 1))
    axes[1].set(xlabel="gradient step", ylabel="pass@1", ylim=(0, 1))
    axes[2].set(xlabel="gradient step", ylabel="share of invalid samples", ylim=(0, 1))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    figure.savefig(path, dpi=110)


SECTIONS = {section.__name__: section for section in (curves, conditions, rounds, memory)}


def main():
    """Run the chosen sections; print and write their tables, and their text."""
    options = parse_sections(argument_parser("python -m benchmarks.language", __doc__), SECTIONS)
    begin(options, PACKAGES, "language_")
    torch.set_num_threads(1)
    options.size = {"n_worked": 14_000, "n_train": 320, "n_test": 200}
    if options.quick:
        options.size = {"n_worked": 2000, "n_train": 8, "n_test": 8, "n_digits": 1}
        for name in ("runs.csv", "rounds_runs.csv"):
            options.path(name).unlink(missing_ok=True)
    report_sections(SECTIONS, options, UserWarning)


if __name__ == "__main__":
    main()
