"""First use: the import, the first fit in a first and in a later process, and their memory.

Run `python -m benchmarks.first_use`. Every fit runs in a process of its own on one thread, on the
569 x 30 breast cancer data, with defaults: first with nothing compiled, then with numba's cache of
the process before. Seconds are medians over the rounds. Needs Linux, for the memory.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

from benchmarks._harness import Report, argument_parser, begin
from pnsklearn.datasets import make_logged_bandit, make_pu

PACKAGES = ("numpy", "scipy", "scikit-learn", "numba")
PEER = "LogisticRegression"
FITS = {
    PEER: "LogisticRegression().fit(X, y)",
    "AUPRCClassifier": "AUPRCClassifier().fit(X, y)",
    "PUTrendClassifier": "PUTrendClassifier(random_state=0).fit(X_pu, s)",
    "SMaLLClassifier": "SMaLLClassifier(random_state=0).fit(X, y)",
    "TOPRPolicy": "TOPRPolicy().fit(X_log, action, reward=reward, propensity=propensity)",
}
ROUNDS = 7
# CPU seconds over scikit-learn: of the import, and of the import and the first fit with a cache.
IMPORT_BAR, START_BAR = 0.3, 0.5

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
from {module} import {name}
imported = clocks()
import numpy as np
globals().update(np.load(sys.argv[1]))
marks = [clocks()]
{fit}
marks.append(clocks())
megabytes = peak()
{fit}
marks.append(clocks())
print(json.dumps([start, peer, imported, *marks, megabytes]))
"""


def process(name, data, cache):
    """Return what a new process measures: CPU and wall seconds of its parts, and its memory."""
    module = "sklearn.linear_model" if name == PEER else "pnsklearn"
    code = PROCESS.format(module=module, name=name, fit=FITS[name])
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, data],
        env={**os.environ, **single, "NUMBA_CACHE_DIR": cache},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    *clocks, peak = json.loads(run.stdout)
    seconds = np.diff(clocks, axis=0)
    return {
        "import peer": seconds[0], "import": seconds[1], "first": seconds[3],
        "second": seconds[4], "peak": peak,
    }  # fmt: skip


def measured(rounds):
    """Return lists of what the processes measure, by estimator and process."""
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    X_pu, s, _ = make_pu(X, y, n_labeled=100, random_state=0)
    log = make_logged_bandit(X, y, random_state=0)
    runs = {(name, which): [] for name in FITS for which in ("first", "later")}
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder) / "data.npz")
        np.savez(
            data, X=X, y=y, X_pu=X_pu, s=s,
            X_log=log.X, action=log.action, reward=log.reward, propensity=log.propensity,
        )  # fmt: skip
        process(PEER, data, folder)  # the files are read once
        process("TOPRPolicy", data, folder)
        for _ in range(rounds):
            for name in FITS:
                with tempfile.TemporaryDirectory() as cache:
                    for which in ("first", "later"):
                        runs[name, which].append(process(name, data, cache))
    return runs


def first_use(options, report):
    """Seconds of the import and of the first fits, and the memory that they take."""
    runs = measured(options.rounds)
    ours = [run for (name, _), repeats in runs.items() if name != PEER for run in repeats]
    rows = [
        {"import": "sklearn.linear_model", **_import_row([run["import peer"] for run in ours])},
        {"import": "pnsklearn, after it", **_import_row([run["import"] for run in ours])},
    ]
    cpu = rows[1]["CPU"]
    rows[1] |= {"ratio": cpu / rows[0]["CPU"], **_bar(cpu, IMPORT_BAR)}
    report.table("first_use_import", rows, "The import, in CPU and wall seconds.")
    report.table(
        "first_use_fit",
        [_fit_row(*key, repeats, runs[PEER, key[1]]) for key, repeats in runs.items()],
        "The first and the second fit of a process, in CPU and wall seconds. `over`: CPU seconds "
        f"of the import and the first fit above those of {PEER}; the bar is on it. MiB: the most "
        f"memory that the process had when its first fit was done, and the ratio to {PEER}.",
    )


def _import_row(seconds):
    cpu, wall = np.transpose(seconds)
    low, middle, high = np.percentile(cpu, (25, 50, 75))
    spread = f"{low:.3g}-{high:.3g}"
    return {"CPU": middle, "spread": spread, "wall": np.median(wall), "processes": len(cpu)}


def _fit_row(name, which, runs, of_peer):
    first, second = (np.median([run[part] for run in runs], axis=0) for part in ("first", "second"))
    peak, peer_peak = (np.median([run["peak"] for run in rows]) for rows in (runs, of_peer))
    row = {
        "model": name, "process": which, "CPU": first[0], "wall": first[1],
        "second CPU": second[0], "second wall": second[1],
        "MiB": f"{peak:.0f}", "ratio": peak / peer_peak,
    }  # fmt: skip
    if name == PEER:
        return row
    over = [_start(run) - _start(peer) for run, peer in zip(runs, of_peer, strict=True)]
    row["over"] = np.median(over)
    return row | (_bar(row["over"], START_BAR) if which == "later" else {})


def _start(run):
    return run["import"][0] + run["first"][0]


def _bar(seconds, bar):
    return {"bar": bar, "reached": bool(seconds <= bar)}


def main():
    """Print the tables and write them, and their text."""
    options = argument_parser("python -m benchmarks.first_use", __doc__).parse_args()
    begin(options, PACKAGES)
    options.rounds = 1 if options.quick else ROUNDS
    report = Report(first_use, options)
    first_use(options, report)
    report.save()


if __name__ == "__main__":
    main()
