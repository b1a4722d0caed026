"""The report of the suite: tables and figures in Markdown."""

from textwrap import dedent

import numpy as np
import pandas as pd

from benchmarks._engine import as_markdown, by_unit, differences, dots, mean_se, wide


class Results:
    """The scores of a method's models; those that share no run with ours are left out.

    Attributes are tables with a row for each set and a column for each model: `means` and `errors`
    over the splits, `gains` of ours less the model's with their `gain_errors`, and `extras`.
    """

    def __init__(self, method, rows):
        self.method, self.ours = method, method.models[0]
        rows = rows[rows["failed"] == ""]
        scores = wide(rows, "score", "set", "split")
        scores = scores.reindex(columns=[m for m in method.models if m in scores])
        paired = scores.notna() & scores[[self.ours]].notna().to_numpy()
        scores = scores.loc[:, paired.any()]
        self.models = list(scores)
        self.peers = [m for m in self.models if m != self.ours and m not in method.landmarks]
        self.means, self.errors = by_unit(scores).mean(), by_unit(scores).sem()
        self.extras = by_unit(wide(rows, "extra", "set", "split")).mean()
        self.gains, self.gain_errors = differences(scores, self.ours)
        seconds = wide(rows, "seconds", "set", "split")
        self.times = seconds.div(seconds[self.ours], axis=0).median()

    def lost(self, model):
        """Return the differences where ours is behind by more than two standard errors, by set."""
        gain = self.gains[model]
        return gain[gain < -2 * self.gain_errors[model]].sort_values()

    def won(self, model):
        """Count the sets where ours is ahead by as much."""
        return (self.gains[model] > 2 * self.gain_errors[model]).sum()

    def gain(self, model):
        """Return mean and standard error over the sets of ours less the model's."""
        return mean_se(self.gains[model].dropna())

    def ranks(self):
        """Return the mean ranks, 1 the best, of ours and the peers that finished everywhere."""
        compared = self.means[[self.ours, *self.peers]].dropna(axis=1)
        return compared.rank(axis=1, ascending=False).mean()

    def worst_first(self):
        """Return the peers, the one that is most ahead of ours first."""
        return sorted(self.peers, key=lambda peer: self.gain(peer)[0])


# The blocks of a report: ("h2", text), ("p", text), ("list", texts), ("table", DataFrame) or
# ("figure", path, what it shows). ** makes bold.


def write_report(methods, rows, report):
    """Write figures and ``report.md``; return its path."""
    options = report.options
    blocks = [("h1", "The benchmark suite"), *_introduction(methods, rows, options)]
    of_method = {name: rows[rows["method"] == name] for name in methods}
    finished = rows[rows["failed"] == ""].groupby("method")["model"].unique()
    found = {
        name: Results(method, of_method[name])
        for name, method in methods.items()
        if method.models[0] in finished.get(name, ())
    }
    if found:
        blocks += [
            ("h2", "At a glance"),
            ("table", pd.DataFrame([_glance(results) for results in found.values()])),
            (
                "p",
                "Means over the sets, and ours less the best of scikit-learn's own models and the "
                "best of the other peers by that mean, with the standard error over the sets. The "
                "best of several is chosen by these very scores, which favours it.",
            ),
        ]
    for name, method in methods.items():
        blocks += [("h2", method.title), ("p", " ".join(dedent(method.about).split()))]
        if name in found:
            blocks += _sections(name, found[name], report)
        else:
            blocks.append(("p", "Ours did not finish on any set: there is nothing to compare."))
        blocks += _failures(of_method[name])
    path = options.path("report.md")
    path.write_text("\n\n".join(_markdown(*block) for block in blocks) + "\n")
    return path


def _introduction(methods, rows, options):
    yield (
        "p",
        "Written by `python -m benchmarks`. Each estimator, as it comes, against "
        "scikit-learn's own models and the named peers, on the same splits of the same sets. "
        "Higher scores are better.",
    )
    if options.quick:
        yield "p", "**Quick: everything is too small for these numbers to mean anything.**"
    seconds, most = rows.get("seconds", pd.Series()).sum(), rows["split"].max()
    about = [
        options.header,
        f"{len(rows)} runs, {seconds:.0f} s of fits, on one thread; the seed of a split and of its "
        f"models is the split's number, 0 to {most}",
    ]
    for method in methods.values():
        sets = method.sets_of(options)
        left = [name for name in method.sets if name not in sets]
        line = f"{method.title}: {', '.join(sets)}"
        about.append(f"{line}; not at hand: {', '.join(left)}" if left else line)
    yield "list", about
    yield (
        "p",
        "Numbers are means over the splits of a set; ± is one standard error, over the splits "
        "for a set and over the sets for a mean. Differences are ours less the model's on the "
        "same splits: above zero ours is ahead. With three to five splits that share rows the "
        "standard errors of single sets are rough and rather small. Fit time is a model's "
        "processor seconds divided by ours, the median over the runs.",
    )


def _glance(results):
    method, means = results.method, results.means.mean()
    row = {
        "estimator": method.title, "score": method.score, "sets": len(results.means),
        "ours": _number(*mean_se(results.means[results.ours].dropna())),
    }  # fmt: skip
    for whose, own in (("scikit-learn's", True), ("the other peers", False)):
        group = [peer for peer in results.peers if (peer in method.baselines) == own]
        text = "none finished"
        if group:
            best = means[group].idxmax()
            text = f"{_number(*results.gain(best), '+')} ({best})"
        row[f"less the best of {whose}"] = text
    ranks = results.ranks()
    own = f"{ranks[results.ours]:.1f} of {len(ranks)}" if results.ours in ranks else ""
    return row | {"our rank": own}


def _sections(name, results, report):
    if results.peers:
        for plot, kind in ((_plot_differences, "differences"), (_plot_scores, "scores")):
            path = report.figure(plot, results, name=f"{name}_{kind}", dpi=110)
            if path:
                yield from (("figure", path, plot.__doc__), ("p", plot.__doc__))
    yield "h3", "In the mean"
    yield "table", pd.DataFrame(_summary(results))
    yield "h3", f"Set by set: {results.method.score}"
    yield "table", _score_table(results)
    yield "h3", "Set by set: ours less the model's"
    yield "table", _difference_table(results)
    yield "h3", "Where ours loses"
    yield "list", _losses(results)


def _summary(results):
    """Yield one row for each model, the best first."""
    ranks, method = results.ranks(), results.method
    for model in results.means.mean().sort_values(ascending=False, kind="stable").index:
        means = results.means[model].dropna()
        is_ours = model == results.ours
        yield {
            "model": f"**{model}**" if is_ours else model,
            "sets": len(means),
            method.score: _number(*mean_se(means)),
            "mean rank": f"{ranks[model]:.1f}" if model in ranks else "",
            "ours less it": "" if is_ours else _number(*results.gain(model), "+"),
            "ahead by 2 SE": "" if is_ours else results.won(model),
            "behind by 2 SE": "" if is_ours else len(results.lost(model)),
            "fit time / ours": _brief(results.times[model]),
            method.extra: _brief(results.extras[model].mean()),
        }


def _score_table(results):
    best = results.means[[results.ours, *results.peers]].max(axis=1)
    table = _texts(results.means, results.errors)
    compared = [results.ours, *results.peers]
    top = results.means[compared].eq(best, axis=0)
    table[compared] = table[compared].where(~top, "**" + table[compared] + "**")
    return _with_mean(table, results.means)


def _difference_table(results):
    table = _texts(results.gains, results.gain_errors, "+")
    return _with_mean(table, results.gains, "+")


def _texts(means, errors, sign=""):
    """Return the numbers of two tables as text."""
    return pd.DataFrame(
        {
            model: [
                _number(mean, error, sign) if np.isfinite(mean) else "failed"
                for mean, error in zip(means[model], errors[model], strict=True)
            ]
            for model in means
        },
        index=means.index,
    )


def _with_mean(table, numbers, sign=""):
    """Add a row of the means over the sets."""
    table.loc["mean"] = {
        model: _number(*mean_se(numbers[model].dropna()), sign) for model in numbers
    }
    return table.rename_axis("set").reset_index()


def _losses(results):
    lines = []
    for peer in results.worst_first():
        lost, (mean, error) = results.lost(peer), results.gain(peer)
        if not len(lost) and mean >= 0:
            continue
        on = f"{len(lost)} of {results.gains[peer].count()} sets" if len(lost) else "no set"
        line = f"{peer}: {_number(mean, error, '+')} in the mean; behind on {on} by two standard"
        named = ", ".join(f"{name} {value:+.3f}" for name, value in lost.items())
        lines.append(f"{line} errors: {named}" if named else f"{line} errors")
    return lines or ["Nowhere: ahead of all in the mean, behind on no set by two standard errors."]


def _failures(rows):
    failed = rows[rows["failed"] != ""]
    if not len(failed):
        return []
    groups = failed.groupby(["model", "failed"], sort=False)["set"]
    table = pd.DataFrame({"runs": groups.size(), "sets": groups.nunique()}).reset_index()
    table = table.rename(columns={"failed": "what"})[["model", "runs", "sets", "what"]]
    return [("h3", "Failed or not installed"), ("table", table)]


def _brief(number):
    return f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"


def _number(mean, error=np.nan, sign=""):
    return f"{mean:{sign}.3f}" + ("" if np.isnan(error) else f" ± {error:.3f}")


# The figures.


def _plot_differences(plt, results):
    """Ours less each peer: a dot for each set, and the mean with two standard errors."""
    peers = results.worst_first()
    figure, axes = plt.subplots(figsize=(7, 1.2 + 0.32 * len(peers)), layout="constrained")
    for height, peer in enumerate(peers):
        gains = results.gains[peer].dropna()
        axes.plot(gains, [height] * len(gains), "o", color="0.65", markersize=4)
        mean, error = results.gain(peer)
        axes.errorbar(mean, height, xerr=2 * np.nan_to_num(error), fmt="kD", capsize=3)
    axes.axvline(0, color="grey", linewidth=1)
    axes.set_yticks(range(len(peers)), peers)
    label = f"{results.method.score}: {results.ours} less the peer (right: ours is ahead)"
    axes.set_xlabel(label)
    return figure


def _plot_scores(plt, results):
    """The mean score on each set; the bar is ours."""
    return dots(plt, results.means, results.ours, results.method.score)


# Markdown.


def _markdown(kind, content, alt=""):
    if kind == "table":
        return as_markdown(content)
    if kind == "list":
        return "\n".join(f"- {text}" for text in content)
    if kind == "figure":
        return f"![{alt}]({content.name})"
    return f"{'#' * int(kind[1])} {content}" if kind[0] == "h" else content
