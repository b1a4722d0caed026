"""First use: the import, the first fit in a first and in a later process, and their memory."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

from benchmarks._engine import judged, new_process, spread
from pnsklearn.datasets import make_logged_bandit, make_pu

PACKAGES = ("numpy", "scipy", "scikit-learn", "numba")
PEER, NUMBA = "LogisticRegression", "numba alone"
FITS = {
    PEER: "LogisticRegression().fit(X, y)",
    NUMBA: "add(1.0)",
    "AUPRCClassifier": "AUPRCClassifier().fit(X, y)",
    "PUTrendClassifier": "PUTrendClassifier(random_state=0).fit(X_pu, s)",
    "SMaLLClassifier": "SMaLLClassifier(random_state=0).fit(X, y)",
    "TOPRPolicy": "TOPRPolicy().fit(X_log, action, reward=reward, propensity=propensity)",
}
# What numba costs whoever uses it: its import, and one cached kernel of a line.
KERNEL = """
import numba

@numba.njit(cache=True)
def add(x):
    return x + 1.0
"""
# CPU seconds of `import pnsklearn` over scikit-learn's, and of the import of an estimator and its
# first fit over numba's own.
IMPORT_BAR, START_BAR = 0.02, 0.15

# Not getrusage for the memory: its maximum begins with that of the parent process.
PROCESS = """
import json, sys, time

def clocks():
    return time.process_time(), time.perf_counter()

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))

start = clocks()
import sklearn.linear_model
peer = clocks()
{package}
package = clocks()
{name}
imported = clocks()
import numpy as np
globals().update(np.load(sys.argv[1]))
marks = [clocks()]
{fit}
marks.append(clocks())
megabytes = peak()
{fit}
marks.append(clocks())
print(json.dumps([start, peer, package, imported, *marks, megabytes]))
"""


def _process(name, folder, cache):
    """Return what a new process measures: CPU and wall seconds of its parts, and its memory."""
    module = {PEER: "sklearn.linear_model", NUMBA: "kernel"}.get(name, "pnsklearn")
    what = "add" if name == NUMBA else name
    package, imports = f"import {module}", f"from {module} import {what}"
    code = PROCESS.format(package=package, name=imports, fit=FITS[name])
    found = new_process(code, str(Path(folder) / "data.npz"), cache=cache, path=folder)
    *clocks, megabytes = json.loads(found)
    seconds = np.diff(clocks, axis=0)
    row = {"model": name, "MiB": megabytes}
    for i, part in enumerate(("import peer", "package", "name", None, "first", "second")):
        if part:
            row |= {f"{part} CPU": seconds[i, 0], f"{part} wall": seconds[i, 1]}
    start = row["package CPU"] + row["name CPU"] + row["first CPU"]
    return row | {"start": start, "start less a fit": start - row["second CPU"]}


def _measured(rounds):
    """Return what the processes measure: one row for each."""
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    X_pu, s, _ = make_pu(X, y, n_labeled=100, random_state=0)
    log = make_logged_bandit(X, y, random_state=0)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "kernel.py").write_text(KERNEL)
        np.savez(
            Path(folder) / "data.npz", X=X, y=y, X_pu=X_pu, s=s,
            X_log=log.X, action=log.action, reward=log.reward, propensity=log.propensity,
        )  # fmt: skip
        for name in (PEER, NUMBA, "TOPRPolicy"):  # the files are read, and bytecode written, once
            _process(name, folder, folder)
        for i in range(rounds):
            for name in FITS:
                with tempfile.TemporaryDirectory() as cache:
                    for which in ("first", "later"):
                        found = _process(name, folder, cache)
                        rows.append({"process": which, "round": i, **found})
    return pd.DataFrame(rows)


def first_use(options, report):
    """Seconds of the import and of the first fits, and the memory that they take."""
    runs = _measured(options.pick(7, 1))
    ours = runs[~runs["model"].isin([PEER, NUMBA])]
    rows = [
        _import_row("sklearn.linear_model", ours, "import peer"),
        _import_row("pnsklearn, after it", ours, "package"),
        _import_row("an estimator, after that", ours, "name"),
        _import_row("numba, after the first", runs[runs["model"] == NUMBA], "package"),
    ]
    rows[1] = judged(rows[1] | {"ratio": rows[1]["CPU"] / rows[0]["CPU"]}, IMPORT_BAR, "CPU")
    report.table("import", rows, "The import, in CPU and wall seconds.")
    report.table("fit", _fit_rows(runs), "The first and the second fit of a process.")


def _import_row(name, runs, part):
    cpu = runs[f"{part} CPU"]
    return {
        "import": name, "CPU": cpu.median(), "spread": spread(cpu),
        "wall": runs[f"{part} wall"].median(), "processes": len(runs),
    }  # fmt: skip


def _fit_rows(runs):
    """Yield one row for each model and process: medians over the rounds."""
    medians = runs.groupby(["model", "process"]).median(numeric_only=True)
    starts, less = (
        runs.pivot(index=["process", "round"], columns="model", values=part)
        for part in ("start", "start less a fit")
    )
    for name in FITS:
        for which in ("first", "later"):
            found, start = medians.loc[name, which], starts.loc[which]
            row = {
                "model": name, "process": which, "CPU": found["first CPU"],
                "wall": found["first wall"], "second CPU": found["second CPU"],
                "second wall": found["second wall"], "MiB": f"{found['MiB']:.0f}",
                "ratio": found["MiB"] / medians.loc[(PEER, which), "MiB"],
            }  # fmt: skip
            if name != PEER:
                row["over"] = (start[name] - start[PEER]).median()
            if name not in (PEER, NUMBA):
                row["over numba"] = (start[name] - start[NUMBA]).median()
                beside = less.loc[which]
                row["less a fit"] = (beside[name] - beside[NUMBA]).median()
                row = judged(row, START_BAR, "over numba") if which == "later" else row
            yield row


SECTIONS = {"first_use": first_use}
