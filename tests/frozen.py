"""Freeze a small application and run it: ``python -m tests.frozen``, by hand, needs PyInstaller.

A freezer follows the imports that it can read, so this fails where a module of ours is imported by
a computed name. All four estimators are fitted in the application.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

APPLICATION = """
import numpy as np
from pnsklearn import AUPRCClassifier, PUTrendClassifier, SMaLLClassifier, TOPRPolicy, metrics

rng = np.random.RandomState(0)
X = rng.standard_normal((200, 3))
y = X[:, 0] + 0.3 * rng.standard_normal(200) > 0.5
s = y & (rng.rand(200) < 0.5)
action = rng.randint(3, size=200)
log = {"reward": np.where(action == X.argmax(axis=1), 1.0, -1.0), "propensity": np.full(200, 1 / 3)}
for model, target, more in (
    (AUPRCClassifier(alpha=0.1), y, {}),
    (PUTrendClassifier("linear", n_snapshots=3, random_state=0), s, {}),
    (SMaLLClassifier(2, 2, n_init=2, random_state=0), y, {}),
    (TOPRPolicy(), action, log),
):
    model.fit(X, target, **more)
    print(type(model).__name__, "fitted,", model.predict(X).shape)
print(round(metrics.average_precision_surrogate(y, X[:, 0]), 3))
"""
FITTED = ("AUPRCClassifier", "PUTrendClassifier", "SMaLLClassifier", "TOPRPolicy")


def main():
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "application.py")
        source.write_text(APPLICATION)
        places = {"--distpath": folder, "--workpath": f"{folder}/work", "--paths": Path.cwd()}
        options = ["--log-level", "WARN", *(str(part) for item in places.items() for part in item)]
        # What the application does not use, and a freezer would take along for hours.
        for package in ("torch", "matplotlib", "cvxpy", "onnx", "transformers", "sphinx"):
            options += ["--exclude-module", package]
        freeze = [sys.executable, "-m", "PyInstaller", "--specpath", folder, *options, source.name]
        subprocess.run(freeze, cwd=folder, check=True)
        frozen = Path(folder, "application", "application")
        done = subprocess.run([frozen], capture_output=True, text=True, cwd="/")
        print(done.stdout, done.stderr[-2000:], sep="")
        return int(done.returncode or not all(name in done.stdout for name in FITTED))


if __name__ == "__main__":
    sys.exit(main())
