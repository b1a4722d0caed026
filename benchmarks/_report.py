"""The report of the suite: tables and figures, in Markdown and as one HTML file."""

import base64
import html
import re
from textwrap import dedent

import numpy as np

from benchmarks._harness import mean_and_error, pyplot

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 0 auto;
       max-width: 64rem; padding: 1rem; }
h1, h2, h3 { line-height: 1.2; margin: 2em 0 .5em; } h1 { margin-top: .5em; }
div { overflow-x: auto; } /* of a table: it scrolls, the page does not */
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25em .7em; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
thead th { border-bottom: 2px solid #888; } tbody tr:nth-child(even) td { background: #f4f4f4; }
img { max-width: 100%; height: auto; }
"""


class Results:
    """The scores of a study: {model: {set: {split: number}}}, for the sets that ours finished."""

    def __init__(self, study, rows):
        self.study = study
        self.ours = next(iter(study.models))
        self.failed = [row for row in rows if row["failed"]]
        self.sets = list(dict.fromkeys(row["set"] for row in rows))
        self.columns = {key: self._column(rows, key) for key in ("score", "extra", "seconds")}
        scored = list(self.columns["score"])
        self.models = [m for m in scored if m == self.ours or self.differences(m)]
        self.peers = [m for m in self.models if m != self.ours and m not in study.landmarks]

    def _column(self, rows, key):
        values = {}
        for label in self.study.models:
            for row in rows:
                if row["model"] == label and not row["failed"]:
                    of_model = values.setdefault(label, {})
                    of_model.setdefault(row["set"], {})[row["split"]] = row[key]
        return values

    def of_set(self, model, name, key="score"):
        """Return the numbers of a model on a set by split, none where it failed."""
        return self.columns[key].get(model, {}).get(name, {})

    def mean(self, model, name, key="score"):
        """Return the mean over the splits."""
        return np.mean(list(self.of_set(model, name, key).values()))

    def means(self, model, key="score"):
        """Return the means of all sets that the model finished on."""
        return [self.mean(model, name, key) for name in self.sets if self.of_set(model, name)]

    def difference(self, model, name):
        """Return mean and standard error over the splits of ours less the model's; None if none."""
        ours, theirs = self.of_set(self.ours, name), self.of_set(model, name)
        splits = ours.keys() & theirs.keys()
        return mean_and_error([ours[i] - theirs[i] for i in splits]) if splits else None

    def differences(self, model):
        """Return {set: (mean, standard error)}."""
        found = {name: self.difference(model, name) for name in self.sets}
        return {name: pair for name, pair in found.items() if pair}

    def mean_difference(self, model):
        """Return mean and standard error over the sets."""
        return mean_and_error([mean for mean, _ in self.differences(model).values()])

    def lost(self, model):
        """Return {set: difference} where ours is behind by more than two standard errors."""
        pairs = self.differences(model).items()
        return {name: mean for name, (mean, error) in pairs if mean < -2 * error}

    def won(self, model):
        """Count the sets where ours is ahead by as much."""
        return sum(mean > 2 * error for mean, error in self.differences(model).values())

    def times(self, model):
        """Return the median over the runs of the model's seconds / ours."""
        ratios = [
            seconds / self.of_set(self.ours, name, "seconds")[split]
            for name in self.sets
            for split, seconds in self.of_set(model, name, "seconds").items()
            if split in self.of_set(self.ours, name, "seconds")
        ]
        return np.median(ratios) if ratios else np.nan

    def ranks(self):
        """Return {model: mean rank}, 1 the best, of ours and the peers that finished everywhere."""
        compared = [self.ours, *self.peers]
        compared = [m for m in compared if all(self.of_set(m, name) for name in self.sets)]
        if not compared:
            return {}
        scores = np.array([self.means(model) for model in compared])
        better = (scores[None] > scores[:, None]).sum(axis=1)
        level = (scores[None] == scores[:, None]).sum(axis=1)
        return dict(zip(compared, (better + (level + 1) / 2).mean(axis=1), strict=True))


# The blocks of a report: ("h2", text), ("p", text), ("list", texts), ("table", rows) or
# ("figure", path, what it shows). ** makes bold.


def write_report(studies, rows, options):
    """Write figures, ``report.md`` and ``report.html``; return the paths of the two."""
    blocks = [("h1", "The benchmark suite"), *_introduction(studies, rows, options)]
    found = {
        method: Results(study, [row for row in rows if row["method"] == method])
        for method, study in studies.items()
    }
    found = {method: of for method, of in found.items() if of.ours in of.models}
    if found:
        blocks += [
            ("h2", "At a glance"),
            ("table", [_glance(results) for results in found.values()]),
            (
                "p",
                "Means over the sets, and ours less the best of scikit-learn's own models and the "
                "best of the other peers by that mean, with the standard error over the sets. The "
                "best of several is chosen by these very scores, which favours it.",
            ),
        ]
    for method, study in studies.items():
        blocks += [("h2", study.title), ("p", " ".join(dedent(study.about).split()))]
        if method in found:
            blocks += _sections(method, found[method], options)
        else:
            blocks.append(("p", "Ours did not finish on any set: there is nothing to compare."))
        blocks += _failures([row for row in rows if row["method"] == method and row["failed"]])
    paths = options.path("report.md"), options.path("report.html")
    paths[0].write_text(_markdown(blocks))
    paths[1].write_text(_html(blocks))
    return paths


def _introduction(studies, rows, options):
    seconds = np.nansum([row["seconds"] for row in rows])
    most = max(len(study.splits_of(options)) for study in studies.values())
    yield (
        "p",
        (
            "Written by `python -m benchmarks`. Each estimator, as it comes, against "
            "scikit-learn's own models and the named peers, on the same splits of the same sets. "
            "Higher scores are better."
        ),
    )
    if options.quick:
        yield "p", "**Quick: everything is too small for these numbers to mean anything.**"
    about = [
        options.header,
        f"{len(rows)} runs, {seconds:.0f} s of fits, on one thread; the seed of a split and of its "
        f"models is the split's number, 0 to {most - 1}",
    ]
    for study in studies.values():
        sets = study.sets_of(options)
        left = [name for name in study.sets if name not in sets]
        line = f"{study.title}: {', '.join(sets)}"
        about.append(f"{line}; not at hand: {', '.join(left)}" if left else line)
    yield "list", about
    yield (
        "p",
        (
            "Numbers are means over the splits of a set; ± is one standard error, over the splits "
            "for a set and over the sets for a mean. Differences are ours less the model's on the "
            "same splits: above zero ours is ahead. With three to five splits that share rows the "
            "standard errors of single sets are rough and rather small. Fit time is a model's "
            "processor seconds divided by ours, the median over the runs."
        ),
    )


def _glance(results):
    study = results.study
    row = {
        "estimator": study.title, "score": study.score, "sets": len(results.sets),
        "ours": _number(*mean_and_error(results.means(results.ours))),
    }  # fmt: skip
    for whose, own in (("scikit-learn's", True), ("the other peers", False)):
        group = [peer for peer in results.peers if (peer in study.baselines) == own]
        best = max(group, key=lambda peer: np.mean(results.means(peer)), default=None)
        row[f"less the best of {whose}"] = (
            f"{_signed(*results.mean_difference(best))} ({best})" if best else "none finished"
        )
    ranks = results.ranks()
    return row | {"our rank": f"{ranks[results.ours]:.1f} of {len(ranks)}" if ranks else ""}


def _sections(method, results, options):
    yield from _figures(method, results, options)
    yield "h3", "In the mean"
    yield "table", _summary(results)
    yield "h3", f"Set by set: {results.study.score}"
    yield "table", _score_table(results)
    yield "h3", "Set by set: ours less the model's"
    yield "table", _difference_table(results)
    yield "h3", "Where ours loses"
    yield "list", _losses(results)


def _summary(results):
    ranks, study = results.ranks(), results.study
    table = []
    for model in sorted(results.models, key=lambda model: -np.mean(results.means(model))):
        row = {
            "model": f"**{model}**" if model == results.ours else model,
            "sets": len(results.means(model)),
            study.score: _number(*mean_and_error(results.means(model))),
            "mean rank": f"{ranks[model]:.1f}" if model in ranks else "",
            "ours less it": "", "ahead by 2 SE": "", "behind by 2 SE": "",
            "fit time / ours": _brief(results.times(model)),
            study.extra: _brief(np.mean(results.means(model, "extra"))),
        }  # fmt: skip
        if model != results.ours:
            row["ours less it"] = _signed(*results.mean_difference(model))
            row["ahead by 2 SE"] = results.won(model)
            row["behind by 2 SE"] = len(results.lost(model))
        table.append(row)
    return table


def _score_table(results):
    compared = [results.ours, *results.peers]
    table = []
    for name in results.sets:
        best = max(
            (results.mean(model, name) for model in compared if results.of_set(model, name)),
            default=np.nan,
        )
        row = {"set": name}
        for model in results.models:
            values = list(results.of_set(model, name).values())
            text = _number(*mean_and_error(values)) if values else "failed"
            top = values and model in compared and np.mean(values) == best
            row[model] = f"**{text}**" if top else text
        table.append(row)
    mean = {m: _number(*mean_and_error(results.means(m))) for m in results.models}
    return [*table, {"set": "mean", **mean}]


def _difference_table(results):
    others = [model for model in results.models if model != results.ours]
    table = []
    for name in results.sets:
        found = {model: results.difference(model, name) for model in others}
        cells = {model: _signed(*pair) if pair else "failed" for model, pair in found.items()}
        table.append({"set": name, **cells})
    mean = {model: _signed(*results.mean_difference(model)) for model in others}
    return [*table, {"set": "mean", **mean}]


def _losses(results):
    lines = []
    for peer in sorted(results.peers, key=lambda peer: results.mean_difference(peer)[0]):
        lost, (mean, error) = results.lost(peer), results.mean_difference(peer)
        n_sets = len(results.differences(peer))
        if not lost and mean >= 0:
            continue
        named = ", ".join(f"{name} {_signed(lost[name])}" for name in sorted(lost, key=lost.get))
        on = f"{len(lost)} of {n_sets} sets" if lost else "no set"
        line = f"{peer}: {_signed(mean, error)} in the mean; behind on {on} by two standard errors"
        lines.append(f"{line}: {named}" if lost else line)
    return lines or ["Nowhere: ahead of all in the mean, behind on no set by two standard errors."]


def _failures(failed):
    if not failed:
        return []
    counts = {}
    for row in failed:
        key = row["model"], row["failed"]
        counts.setdefault(key, []).append(row["set"])
    table = [
        {"model": model, "runs": len(sets), "sets": len(set(sets)), "what": what}
        for (model, what), sets in counts.items()
    ]
    return [("h3", "Failed or not installed"), ("table", table)]


def _brief(number):
    return f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"


def _number(mean, error=np.nan):
    return f"{mean:.3f}" + ("" if np.isnan(error) else f" ± {error:.3f}")


def _signed(mean, error=np.nan):
    return f"{mean:+.3f}" + ("" if np.isnan(error) else f" ± {error:.3f}")


# The figures.


def _figures(method, results, options):
    plt = pyplot()
    if plt is None or not results.peers:
        return
    for plot, kind in ((_plot_differences, "differences"), (_plot_scores, "scores")):
        path = options.path(f"suite_{method}_{kind}.png")
        figure = plot(plt, results)
        figure.savefig(path, dpi=110)
        plt.close(figure)
        yield "figure", path, plot.__doc__
        yield "p", plot.__doc__


def _plot_differences(plt, results):
    """Ours less each peer: a dot for each set, and the mean with two standard errors."""
    peers = sorted(results.peers, key=lambda peer: results.mean_difference(peer)[0])
    figure, axes = plt.subplots(figsize=(7, 1.2 + 0.32 * len(peers)), layout="constrained")
    for height, peer in enumerate(peers):
        means = [mean for mean, _ in results.differences(peer).values()]
        axes.plot(means, [height] * len(means), "o", color="0.65", markersize=4)
        mean, error = results.mean_difference(peer)
        axes.errorbar(mean, height, xerr=2 * np.nan_to_num(error), fmt="kD", capsize=3)
    axes.axvline(0, color="grey", linewidth=1)
    axes.set_yticks(range(len(peers)), peers)
    axes.set_xlabel(f"{results.study.score}: {results.ours} less the peer (right: ours is ahead)")
    return figure


def _plot_scores(plt, results):
    """The mean score on each set; the bar is ours."""
    names = [name for name in results.sets if results.of_set(results.ours, name)]
    names.sort(key=lambda name: results.mean(results.ours, name))
    figure, axes = plt.subplots(figsize=(7, 2.4 + 0.32 * len(names)), layout="constrained")
    others = [model for model in results.models if model != results.ours]
    for model, marker in zip(others, "osD^v<>PX*ph" * 2, strict=False):
        found = [(results.mean(model, n), n) for n in names if results.of_set(model, n)]
        axes.plot(*zip(*found, strict=True), marker, alpha=0.7, markersize=5, label=model)
    ours = [results.mean(results.ours, name) for name in names]
    axes.plot(ours, names, "k|", markersize=14, markeredgewidth=2, label=results.ours)
    axes.set_yticks(names)
    axes.set_xlabel(results.study.score)
    figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    return figure


# Markdown and HTML.


def _markdown(blocks):
    return "\n\n".join(_markdown_block(*block) for block in blocks) + "\n"


def _markdown_block(kind, content, alt=""):
    if kind == "table":
        columns = list(content[0])
        lines = [columns, ["---"] * len(columns), *([row[c] for c in columns] for row in content)]
        cells = [[str(cell).replace("|", "\\|") for cell in line] for line in lines]
        return "\n".join(f"| {' | '.join(line)} |" for line in cells)
    if kind == "list":
        return "\n".join(f"- {text}" for text in content)
    if kind == "figure":
        return f"![{alt}]({content.name})"
    return f"{'#' * int(kind[1])} {content}" if kind[0] == "h" else content


def _html(blocks):
    body = "\n".join(_html_block(*block) for block in blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>pnsklearn: benchmarks</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"{body}\n</body>\n</html>\n"
    )


def _html_block(kind, content, alt=""):
    if kind == "table":
        head = "".join(f"<th>{_html_text(column)}</th>" for column in content[0])
        body = "\n".join(
            f"<tr>{''.join(f'<td>{_html_text(cell)}</td>' for cell in row.values())}</tr>"
            for row in content
        )
        table = f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
        return f"<div>{table}</div>"
    if kind == "list":
        return f"<ul>{''.join(f'<li>{_html_text(text)}</li>' for text in content)}</ul>"
    if kind == "figure":
        data = base64.b64encode(content.read_bytes()).decode()
        return f'<p><img alt="{html.escape(alt)}" src="data:image/png;base64,{data}"></p>'
    return f"<{kind}>{_html_text(content)}</{kind}>"


def _html_text(text):
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", html.escape(str(text)))
    return re.sub(r"`(.+?)`", r"<code>\1</code>", text)
