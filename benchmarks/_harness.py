"""What the benchmarks share: paired timings, real data sets, tables and CSV files."""

import argparse
import csv
import os
import textwrap
import time
import warnings
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.datasets import fetch_openml, load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from pnsklearn import __version__

# Binary tasks made from a set of several classes: (set, code or codes of the positive class).
DERIVED = {
    "satimage_4": ("satimage", 3),
    "satimage_grey": ("satimage", (2, 3, 5)),
    "letter_a": ("letter", 0),
    "digits_even": ("digits", (0, 2, 4, 6, 8)),
    "fmnist_1": ("fashion_mnist_20k", (0, 2, 4, 6)),
    "fmnist_2": ("fashion_mnist_20k", (1, 3, 5, 7, 8, 9)),
}
BUNDLED = ("breast_cancer", "digits_8")


def paired_ratio(ours, reference, *, rounds=7, clock=time.process_time):
    """Time two functions in turns: reference, ours, ours, reference.

    Returns
    -------
    dict
        ``ratio`` is the median over rounds of ours / reference, ``spread`` its quartiles as text;
        ``ours`` and ``reference`` are median seconds.
    """

    def seconds(function):
        start = clock()
        function()
        return clock() - start

    ours(), reference()  # compile, fill the caches
    order = (reference, ours, ours, reference)
    times = np.array([[seconds(function) for function in order] for _ in range(rounds)])
    of_ours, of_reference = times[:, 1:3].sum(axis=1), times[:, [0, 3]].sum(axis=1)
    low, ratio, high = np.percentile(of_ours / of_reference, (25, 50, 75))
    return {
        "ours": np.median(of_ours) / 2,
        "reference": np.median(of_reference) / 2,
        "ratio": ratio,
        "spread": f"{low:.3g}-{high:.3g}",
    }


def load(name, data_home=None):
    """Return X (float64, dense or CSR) and y (1 is positive) of a binary set.

    The set is one of scikit-learn's; or the file ``NAME.npz`` in `data_home`, with `y` and either
    `X` or the CSR parts `X_data`, `X_indices`, `X_indptr` and `X_shape`; or OpenML's of that name.
    """
    if name in BUNDLED:
        X, y = (load_breast_cancer if name == "breast_cancer" else load_digits)(return_X_y=True)
        return X, (y == (0 if name == "breast_cancer" else 8)).astype(int)
    base, code = DERIVED.get(name, (name, 1))
    path = stored(name, data_home)
    X, y = _read(path) if path else _fetch(base)
    return X.astype(np.float64), np.isin(y, code).astype(int)


def stored(name, data_home):
    """Return the path of the file that a set is read from, None if `data_home` has none."""
    base = DERIVED.get(name, (name, 1))[0]
    path = data_home and Path(data_home) / f"{base}.npz"
    return path if path and path.exists() else None


def at_most(n_rows, rows, y):
    """Return at most `n_rows` of the rows (indices of y), stratified."""
    if len(rows) <= n_rows:
        return rows
    return train_test_split(rows, train_size=n_rows, stratify=y[rows], random_state=0)[0]


def _read(path):
    with np.load(path, allow_pickle=False) as parts:
        if "X" in parts:
            return parts["X"], parts["y"]
        csr = (parts["X_data"], parts["X_indices"], parts["X_indptr"])
        return csr_matrix(csr, shape=tuple(parts["X_shape"])), parts["y"]


def _fetch(name):
    """Fetch a set from OpenML: one column per level, medians for gaps, 1 for the rarer of two."""
    import pandas as pd

    data = fetch_openml(name, version=1, as_frame=True)
    X = pd.get_dummies(data.data)
    codes, counts = np.unique(data.target, return_inverse=True, return_counts=True)[1:]
    return X.fillna(X.median()).to_numpy(np.float64), (
        (codes == np.argmin(counts)).astype(int) if len(counts) == 2 else codes
    )


def argument_parser(prog, description):
    """Return a parser of the options that all benchmarks have."""
    parser = argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that all runs")
    parser.add_argument("--data-home", type=Path, help="folder of NAME.npz files (else OpenML)")
    parser.add_argument("--output", type=Path, default=Path("benchmark_results"))
    return parser


def parse_sections(parser, sections):
    """Parse the names of sections, all by default, and a number of splits: ``seeds_of``."""
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(sections))
    parser.add_argument("--seeds", type=int, help="splits (else what each section takes)")
    options = parser.parse_args()
    unknown = set(options.sections) - set(sections)
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    options.sections = options.sections or list(sections)
    options.seeds_of = lambda n: range(1 if options.quick else options.seeds or n)
    return options


def begin(options, packages, prefix=""):
    """Make the folder of the output; add a ``header``, and ``path`` for names of files in it."""
    options.output.mkdir(parents=True, exist_ok=True)
    options.header = f"pnsklearn {__version__}, {environment(*packages)}"
    prefix = f"quick_{prefix}" if options.quick else prefix
    options.path = lambda name: options.output / f"{prefix}{name}"
    if options.quick:
        print("quick: everything is too small for the bars to mean anything")


def report_sections(sections, options, ignored):
    """Run the chosen sections on one thread and save their reports; the runs keep the warnings."""
    for name in options.sections:
        print(f"\n{name}")
        report = Report(sections[name], options)
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ignored)
            sections[name](options, report)
        report.save()


def environment(*packages):
    """Return one line with the date, the number of cores and the versions of `packages`."""

    def found(package):
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            return f"{package} -"

    return ", ".join([str(date.today()), f"{os.cpu_count()} cores", *map(found, packages)])


def mean_and_error(values):
    """Return the mean and its standard error (NaN of one value)."""
    if len(values) < 2:
        return np.mean(values), np.nan
    return np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))


def pyplot():
    """Return matplotlib.pyplot, which writes files only; None if it is not installed."""
    try:
        import matplotlib
    except ImportError:
        print("no figure: matplotlib is not installed")
        return None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _columns(rows):
    return list(dict.fromkeys(key for row in rows for key in row))


def write_csv(path, rows, header):
    """Write rows (dicts) below a comment line."""
    with open(path, "w", newline="") as file:
        file.write(f"# {header}\n")
        writer = csv.DictWriter(file, _columns(rows))
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path):
    """Return the rows of a file of `write_csv` as dicts of text, none if there is no such file."""
    if not Path(path).exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def format_table(rows):
    """Return rows (dicts) as text with aligned columns."""

    def text(value):
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    columns = _columns(rows)
    cells = [columns, *[[text(row.get(column, "")) for column in columns] for row in rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def append_csv(path, row, columns):
    """Append a row to a CSV file, which is begun with the columns' names."""
    new = not Path(path).exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, columns)
        if new:
            writer.writeheader()
        writer.writerow(row)


def read_runs(path, text):
    """Return the rows of a CSV file; all columns but those named in `text` are numbers."""
    return [
        {key: value if key in text else float(value or "nan") for key, value in row.items()}
        for row in read_csv(path)
    ]


class Report:
    """What a section says: printed, and kept in a text file beside the CSV files of its tables.

    The section is a function, whose name and first line of documentation it takes.
    """

    def __init__(self, section, options):
        self.name, self.options = section.__name__, options
        self.lines = []
        self._write(options.header, "", section.__doc__.splitlines()[0])

    def say(self, paragraph):
        """Print a paragraph."""
        self._write("", textwrap.fill(paragraph, 100))

    def table(self, name, rows, title=""):
        """Print a table, if it has rows, and write it to a CSV file of that name."""
        if not rows:
            return
        if title:
            self.say(title)
        self._write("", format_table(rows))
        write_csv(self.options.path(f"{name}.csv"), rows, self.options.header)

    def _write(self, *lines):
        print(*lines, sep="\n", flush=True)
        self.lines += lines

    def save(self):
        """Write the text."""
        text = "\n".join(self.lines) + "\n"
        self.options.path(f"{self.name}.txt").write_text(text)
