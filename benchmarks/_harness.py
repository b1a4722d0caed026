"""What the benchmarks share: paired timings, real data sets, tables and CSV files."""

import csv
import os
import textwrap
import time
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.datasets import fetch_openml, load_breast_cancer, load_digits

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
    path = data_home and Path(data_home) / f"{base}.npz"
    X, y = _read(path) if path and path.exists() else _fetch(base)
    return X.astype(np.float64), np.isin(y, code).astype(int)


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
