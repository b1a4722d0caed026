"""The report of the suite: tables and figures in Markdown."""

import numpy as np
import pandas as pd

from benchmarks._engine import as_markdown, by_unit, differences, dots, mean_se, wide


class Results:
    """Tables of sets by models: means, and gains of ours; models that share no run are left out."""

    def __init__(self, method, rows):
        self.method, self.ours = method, method.models[0]
        rows = rows[rows["failed"] == ""]
        scores, seconds = (wide(rows, key, "set", "split") for key in ("score", "seconds"))
        scores = scores.reindex(columns=[m for m in method.models if m in scores])
        scores = scores.loc[:, scores[scores[self.ours].notna()].notna().any()]
        self.peers = [m for m in scores if m != self.ours and m not in method.landmarks]
        self.means, self.errors = by_unit(scores).mean(), by_unit(scores).sem()
        self.gains, self.gain_errors = differences(scores, self.ours)
        self.extras = by_unit(wide(rows, "extra", "set", "split")).mean()
        self.times = seconds.div(seconds[self.ours], axis=0).median()

    def lost(self, model):
        """Return the differences where ours is behind by more than two standard errors, by set."""
        gain = self.gains[model]
        return gain[gain < -2 * self.gain_errors[model]].sort_values()

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


INTRODUCTION = (
    "Written by `python -m benchmarks`. Each estimator, as it comes, against scikit-learn's own "
    "models and the named peers, on the same splits of the same sets. Higher scores are better."
)
HOW_TO_READ = (
    "Numbers are means over the splits of a set; ± is one standard error, over the splits for a "
    "set and over the sets for a mean. Differences are ours less the model's on the same "
    "splits: above zero ours is ahead. With three to five splits that share rows the standard "
    "errors of single sets are rough and rather small. Fit time is a model's processor seconds "
    "divided by ours, the median over the runs."
)
GLANCE = (
    "Means over the sets, and ours less the best of scikit-learn's own models and the best of "
    "the other peers by that mean, with the standard error over the sets. The best of several "
    "is chosen by these very scores, which favours it."
)


def write_report(methods, rows, report):
    """Write figures and ``report.md``; return its path."""
    options = report.options
    blocks = ["# The benchmark suite", INTRODUCTION]
    if options.quick:
        blocks.append("**Quick: everything is too small for these numbers to mean anything.**")
    seconds = rows.get("seconds", pd.Series()).sum()
    about = [options.header, f"{len(rows)} runs, {seconds:.0f} s of fits, on one thread"]
    for method in methods.values():
        sets = method.sets_of(options)
        line, left = f"{method.title}: {', '.join(sets)}", [s for s in method.sets if s not in sets]
        about.append(f"{line}; not at hand: {', '.join(left)}" if left else line)
    blocks += [_list(about), HOW_TO_READ]
    of_method = {name: rows[rows["method"] == name] for name in methods}
    finished = rows[rows["failed"] == ""].groupby("method")["model"].unique()
    found = {
        name: Results(method, of_method[name])
        for name, method in methods.items()
        if method.models[0] in finished.get(name, ())
    }
    if found:
        glance = pd.DataFrame([_glance(results) for results in found.values()])
        blocks += ["## At a glance", as_markdown(glance), GLANCE]
    for name, method in methods.items():
        blocks.append(f"## {method.title}")
        if name in found:
            blocks += _sections(name, found[name], report)
        else:
            blocks.append("Ours did not finish on any set: there is nothing to compare.")
        blocks += _failures(of_method[name])
    path = options.path("report.md")
    path.write_text("\n\n".join(blocks) + "\n")
    return path


def _list(lines):
    return "\n".join(f"- {line}" for line in lines)


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
    for plot, kind in ((_plot_differences, "differences"), (_plot_scores, "scores")):
        path = results.peers and report.figure(plot, results, name=f"{name}_{kind}", dpi=110)
        if path:
            yield from (f"![{plot.__doc__}]({path.name})", plot.__doc__)
    yield from ("### In the mean", as_markdown(pd.DataFrame(_summary(results))))
    compared = results.means[[results.ours, *results.peers]]
    top = compared.eq(compared.max(axis=1), axis=0)
    scores = _with_mean(results.means, results.errors, top)
    yield from (f"### Set by set: {results.method.score}", as_markdown(scores))
    gains = _with_mean(results.gains, results.gain_errors, sign="+")
    yield from ("### Set by set: ours less the model's", as_markdown(gains))
    yield from ("### Where ours loses", _list(_losses(results)))


def _summary(results):
    """Yield one row for each model, the best first."""
    ranks, method = results.ranks(), results.method
    for model in results.means.mean().sort_values(ascending=False, kind="stable").index:
        means, row = results.means[model].dropna(), {}
        if model != results.ours:
            won = results.gains[model] > 2 * results.gain_errors[model]
            row = {
                "ours less it": _number(*results.gain(model), "+"), "ahead by 2 SE": won.sum(),
                "behind by 2 SE": len(results.lost(model)),
            }  # fmt: skip
        yield {
            "model": model if row else f"**{model}**", "sets": len(means),
            method.score: _number(*mean_se(means)),
            "mean rank": f"{ranks[model]:.1f}" if model in ranks else "",
            **(row or dict.fromkeys(("ours less it", "ahead by 2 SE", "behind by 2 SE"), "")),
            "fit time / ours": _brief(results.times[model]),
            method.extra: _brief(results.extras[model].mean()),
        }  # fmt: skip


def _with_mean(means, errors, top=None, sign=""):
    """Return two tables as text, with a row of the means over the sets; `top` is made bold."""
    table = means.astype(object)
    for place, mean in means.stack(future_stack=True).items():
        text = _number(mean, errors.loc[place], sign) if np.isfinite(mean) else "failed"
        bold = top is not None and place[1] in top and top.loc[place]
        table.loc[place] = f"**{text}**" if bold else text
    table.loc["mean"] = {m: _number(*mean_se(means[m].dropna()), sign) for m in means}
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
    return ["### Failed or not installed", as_markdown(table)]


def _brief(number):
    return f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"


def _number(mean, error=np.nan, sign=""):
    return f"{mean:{sign}.3f}" + ("" if np.isnan(error) else f" ± {error:.3f}")


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
    axes.set_xlabel(f"{results.method.score}: {results.ours} less the peer (right: ours is ahead)")
    return figure


def _plot_scores(plt, results):
    """The mean score on each set; the bar is ours."""
    return dots(plt, results.means, results.ours, results.method.score)
