"""What all studies share: runs that go on where they stopped, tables by pandas, paired timings.

A study is a module of `benchmarks.studies` with the packages whose versions it states (`PACKAGES`)
and its `SECTIONS`: functions of the options and a report, one for each group of tables.
"""

import json
import os
import subprocess
import sys
import textwrap
import time
import warnings
from dataclasses import dataclass
from datetime import date
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from pnsklearn import __version__


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    study: str
    packages: tuple = ()
    quick: bool = False
    data_home: Path | None = None
    output: Path = Path("benchmark_results")
    seeds: int | None = None
    obp_python: str | None = None

    @cached_property
    def header(self):
        """One line with the date, the number of cores and the versions of the packages."""
        versions = [f"{package} {_version(package)}" for package in self.packages]
        cores = f"{os.cpu_count()} cores"
        return ", ".join([f"pnsklearn {__version__}", str(date.today()), cores, *versions])

    def path(self, name):
        """Return the path of a file of the study."""
        self.output.mkdir(parents=True, exist_ok=True)
        return self.output / f"{'quick_' if self.quick else ''}{self.study}_{name}"

    def pick(self, full, quick):
        """Return one of two values, the second for --quick."""
        return quick if self.quick else full

    def seeds_of(self, n_seeds):
        """Return the numbers of the splits: --seeds of them, or `n_seeds`; one for --quick."""
        return range(1 if self.quick else self.seeds or n_seeds)


def _version(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return "-"


def grid(**axes):
    """Return the combinations of values as dicts; the last axis runs fastest."""
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def run_all(options, name, cells, run):
    """Run the cells that the file ``STUDY_NAME.jsonl`` lacks, and return the rows of all.

    A cell is a dict; `run` takes its items by name and returns the results as a dict, or as a list
    of dicts where one run has several rows. Each run is a line of the file as it ends, and of two
    lines of one cell the later counts. A run that ends with an error has it as ``failed``, and is
    tried again at the next start; --quick raises all errors but of a missing package or set.
    """
    path, shown = options.path(f"{name}.jsonl"), None
    done = _read(path)
    missing = [cell for cell in cells if _is_missing(done.get(tuple(cell.values())))]
    for i, cell in enumerate(missing):
        if shown != (shown := ", ".join(map(str, list(cell.values())[:-1]))):
            print(f"{i} of {len(missing)} runs done, next: {shown}", flush=True)
        found = done[tuple(cell.values())] = _outcome(run, cell, options.quick)
        with open(path, "a") as file:
            file.write(json.dumps([cell, found], default=lambda number: number.item()) + "\n")
    rows = pd.DataFrame([cell | row for cell in cells for row in done[tuple(cell.values())]])
    return rows.assign(failed=rows["failed"].fillna("") if "failed" in rows else "")


def _read(path):
    """Return {key: rows}, without a last line that a stop cut short."""
    text = path.read_text() if path.exists() else ""
    lines, _, rest = text.rpartition("\n")
    if rest:
        path.write_text(lines + "\n" if lines else "")
    return {tuple(cell.values()): rows for cell, rows in map(json.loads, lines.splitlines())}


def _is_missing(rows):
    return rows is None or any(row.get("failed") for row in rows)


def _outcome(run, cell, quick):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = run(**cell)
    except Exception as error:
        own = isinstance(error, ImportError) and str(error.name).startswith("pnsklearn")
        if own or (quick and not isinstance(error, (ImportError, OSError))):
            raise
        failed = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
        _print_once(f"{cell.get('model', 'a run')} failed: {failed}")
        return [{"failed": failed}]
    return [found] if isinstance(found, dict) else found or []


@cache
def _print_once(line):
    print(line, flush=True)


def is_installed(*packages):
    """Return whether all the packages are installed; say in one line which is not."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        _print_once(f"left out: {missing[0]} is not installed")
    return not missing


def caught(function, *args):
    """Return the result (None of a ValueError), the processor seconds, and the warnings as text."""
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        start, result = time.process_time(), None
        try:
            result = function(*args)
        except ValueError as error:
            warnings.warn(f"failed: {error}")  # noqa: B028
        seconds = time.process_time() - start
    return result, seconds, "; ".join(sorted({_short(warning) for warning in messages}))


def _short(warning):
    """Return the category, and what it begins with where that tells cases apart."""
    message, name = str(warning.message), warning.category.__name__
    if message.startswith("failed"):
        return message[:80].replace("\n", " ")
    kinds = "PUWarning", "PolicyWarning"
    return f"{name} ({' '.join(message.split()[:5])})" if name in kinds else name


def seconds_of(function, *args, clock=time.process_time):
    """Return what a function returns, and its seconds."""
    start = clock()
    result = function(*args)
    return result, clock() - start


def paired_ratio(ours, reference, *, rounds=7, clock=time.process_time):
    """Time two functions in turns (peer, ours, ours, peer): median seconds, and ratio by round."""
    ours(), reference()  # compile, fill the caches
    order = (reference, ours, ours, reference)
    times = np.array([[seconds_of(f, clock=clock)[1] for f in order] for _ in range(rounds)])
    of_ours, of_reference = times[:, 1:3].sum(axis=1), times[:, [0, 3]].sum(axis=1)
    return {
        "ours": np.median(of_ours) / 2, "reference": np.median(of_reference) / 2,
        "ratio": np.median(of_ours / of_reference), "spread": spread(of_ours / of_reference),
    }  # fmt: skip


def mean_se(values):
    """Return the mean and its standard error, which is NaN for one value."""
    values = pd.Series(values, dtype=float)
    return values.mean(), values.sem()


def pm(values):
    """Return the mean and its standard error as text."""
    mean, error = mean_se(values)
    return f"{mean:.3f}" if np.isnan(error) else f"{mean:.3f} ({error:.3f})"


def spread(values):
    """Return the quartiles as text."""
    return "{:.3g}-{:.3g}".format(*np.percentile(values, (25, 75)))


def wide(rows, value, unit, repeat):
    """Return a table with a column for each model and a row for each unit (a set) and repeat."""
    unit = [unit] if isinstance(unit, str) else list(unit)
    table = rows.set_index([*unit, repeat, "model"])[value].unstack("model", sort=False)
    return table.reindex(columns=rows["model"].unique()).astype(float)


def by_unit(table):
    """Return the groups of a `wide` table: the repeats of each unit."""
    return table.groupby(level=list(range(table.index.nlevels - 1)), sort=False)


def differences(table, ours):
    """Return means and standard errors by unit of ours less each other model, paired by repeat."""
    found = by_unit(table.drop(columns=ours).rsub(table[ours], axis=0))
    return found.mean(), found.sem()


def judged(row, bar, key="ratio"):
    """Return a row with its bar, and whether it keeps it."""
    return row | {"bar": bar, "reached": bool(row[key] <= bar)}


def timed(what, against, ours, peer, bar, rounds):
    """Return a row with the ratio of the seconds of two functions, see `paired_ratio`."""
    timing = paired_ratio(ours, peer, rounds=rounds)
    timing["seconds"] = timing.pop("ours")
    columns = ("seconds", "reference", "ratio", "spread")
    row = {"what": what, "against": against, **{name: timing[name] for name in columns}}
    return judged(row, bar)


def dots(plt, table, ours, xlabel):
    """Plot a table with a row for each set: a dot for each model, a bar for ours."""
    table = table.dropna(subset=ours).sort_values(ours, kind="stable")
    figure, axes = plt.subplots(figsize=(7, 2.4 + 0.3 * len(table)), layout="constrained")
    for model, marker in zip(table.drop(columns=ours), "osD^v<>PX*ph" * 2, strict=False):
        axes.plot(table[model], table.index, marker, alpha=0.7, markersize=5, label=model)
    bar = {"markersize": 14, "markeredgewidth": 2, "label": ours}
    axes.plot(table[ours], table.index, "k|", **bar)
    axes.set_xlabel(xlabel)
    figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    return figure


def new_process(code, *args, cache=None, path=""):
    """Run code in a Python of its own, on one thread and with bytecode; return what it printed."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    path = os.pathsep.join(filter(None, [path, os.environ.get("PYTHONPATH")]))
    settings = {**os.environ, **dict.fromkeys(threads, "1"), "PYTHONPATH": path}
    settings |= {"NUMBA_CACHE_DIR": cache} if cache else {}
    settings.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-W", "ignore", "-c", code, *args]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=True)
    return done.stdout


def as_text(table):
    """Return a table as text with aligned columns."""
    cells = [list(table), *([_cell(value) for value in row] for row in _rows(table))]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def as_markdown(table):
    """Return a table in Markdown."""
    cells = [list(table), ["---"] * table.shape[1], *_rows(table)]
    return "\n".join(
        f"| {' | '.join(_cell(cell).replace('|', chr(92) + '|') for cell in line)} |"
        for line in cells
    )


def _rows(table):
    return table.convert_dtypes().itertuples(index=False, name=None)


def _cell(value):
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return ""
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)


class NothingRan(Exception):
    """No run of a section succeeded: its sets or packages are missing."""


class Report:
    """What a section says: printed, and kept in a text file beside the CSV files of its tables."""

    def __init__(self, section, options):
        self.name, self.options, self.lines = section.__name__, options, []
        self._write(options.header, "", section.__doc__.splitlines()[0])

    def say(self, paragraph):
        """Print a paragraph."""
        self._write("", textwrap.fill(" ".join(paragraph.split()), 100))

    def table(self, name, table, title=""):
        """Print a table (a DataFrame or its rows), and write it to a CSV file of that name."""
        table = pd.DataFrame(table)
        if not len(table):
            return
        if title:
            self.say(title)
        self._write("", as_text(table))
        self.keep(name, table)

    def keep(self, name, table):
        """Write a table to a CSV file alone."""
        path = self.options.path(f"{name}.csv")
        path.write_text(f"# {self.options.header}\n{pd.DataFrame(table).to_csv(index=False)}")

    def runs(self, name, cells, run):
        """Return the rows of `run_all` without those that failed, which are said."""
        rows = run_all(self.options, name, cells, run)
        by = [key for key in ("model", "method") if key in rows] + ["failed"]
        for key, of in rows[rows["failed"] != ""].groupby(by):
            self.say(f"failed in {len(of)} runs: {': '.join(key)}")
        if (rows["failed"] != "").all():
            raise NothingRan(f"No run of {name} succeeded, so that there is no table.")
        return rows[rows["failed"] == ""]

    def figure(self, plot, *args, name=None, dpi=150):
        """Save what `plot` draws with pyplot; without matplotlib there is no figure."""
        if not is_installed("matplotlib"):
            return None
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        path = self.options.path(f"{name or self.name}.png")
        figure = plot(plt, *args)
        figure.savefig(path, dpi=dpi)
        plt.close(figure)
        return path

    def _write(self, *lines):
        print(*lines, sep="\n", flush=True)
        self.lines += lines


def begin(options):
    """Forget the runs of an earlier --quick."""
    if options.quick:
        print("quick: everything is too small for the bars to mean anything")
        for path in options.output.glob(f"quick_{options.study}_*.jsonl"):
            path.unlink()


def run_sections(study, names, options):
    """Run sections of a study, each on one thread unless it is among the study's `ALL_CORES`."""
    begin(options)
    for name in names if is_installed(*getattr(study, "NEEDS", ())) else ():
        print(f"\n{name}")
        section = study.SECTIONS[name]
        report = Report(section, options)
        limit = None if name in getattr(study, "ALL_CORES", ()) else 1
        with threadpool_limits(limit), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                section(options, report)
            except NothingRan as error:
                report.say(str(error))
        options.path(f"{name}.txt").write_text("\n".join(report.lines) + "\n")
