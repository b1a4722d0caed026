"""
To C and to SQL
===============

The rules of :class:`~pnsklearn.SMaLLClassifier` leave Python as a C function that needs no library,
also in integers for processors without floating point, and as an SQL expression. Each is compared
here with ``predict``, row by row.
"""

import ctypes
import re
import shutil
import sqlite3
import subprocess
import tempfile
import warnings
from contextlib import closing
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer

from pnsklearn import SMaLLClassifier

data = load_breast_cancer()
X, y, names = data.data, data.target_names[data.target], data.feature_names
model = SMaLLClassifier(n_prototypes=2, n_nonzero=2, random_state=0).fit(X, y)
predicted = model.predict(X)
print(model.rules(names))

# %%
# C
# -
# The function returns the index in ``classes_``. Numbers are written such that they read back to
# the same doubles.

source = model.export_c(feature_names=names)
print(source)

# %%
# If there is a compiler, compile it and call it on each row.

compiler = shutil.which("cc")


def call_on_rows(source, rows):
    """Return the labels that the compiled source gives to C-contiguous rows."""
    with tempfile.TemporaryDirectory() as folder:
        code, library = Path(folder) / "small.c", Path(folder) / "small.so"
        code.write_text(source)
        flags = ["-Os", "-shared", "-fPIC", "-ffp-contract=off"]
        subprocess.run([compiler, *flags, code, "-o", library], check=True)
        predict = ctypes.CDLL(str(library)).small_predict
        return model.classes_[[predict(ctypes.c_void_p(row.ctypes.data)) for row in rows]]


if compiler:
    labels = call_on_rows(source, X)
    print(f"C and predict agree on {(labels == predicted).sum()} of {len(X)} rows")

# %%
# Integers
# --------
# ``fixed_point`` is the number of bits of a value. The function now takes integers; the macros say
# by which power of two to multiply each feature. The rows given show how large the features get,
# and how many of them integers decide in another way.

fixed = model.export_c(X, feature_names=names, fixed_point=16)
print(fixed)

# %%

if compiler:
    integers = np.zeros(X.shape, dtype=np.int32)
    for feature, bits in re.findall(r"SMALL_X(\d+)_FRACTION_BITS (-?\d+)", fixed):
        integers[:, int(feature)] = np.rint(X[:, int(feature)] * 2.0 ** int(bits))
    labels = call_on_rows(fixed, integers)
    print(f"integers and predict agree on {(labels == predicted).sum()} of {len(X)} rows")

# %%
# How many bits does it take? A warning names the rows that are predicted differently; here we
# count them.

bits = range(8, 17)
differ = []
for n_bits in bits:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.export_c(X, fixed_point=n_bits)
    differ.append(int(str(caught[0].message).split()[0]) if caught else 0)
# Picture: Rows that integers predict differently from floating point, against the bits
#   of a value: few at 8 bits, none from 12 on.
fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.bar_label(ax.bar(bits, differ))
ax.set(xticks=bits, xlabel="fixed_point, bits of a value", ylabel="rows predicted differently")
ax.set_title(f"Integers against floating point, {len(X)} rows")
ax.margins(y=0.15)

# %%
# SQL
# ---
# One expression over columns named like the features; its value is the label.

expression = model.export_sql(names)
print(expression)

# %%
# SQLite takes a name in quotes that is no column for a string, without an error, so make sure that
# the columns exist.

with closing(sqlite3.connect(":memory:")) as connection:
    columns = ", ".join(f'"{name}"' for name in names)
    connection.execute(f"CREATE TABLE tumours ({columns})")
    places = ", ".join("?" * len(names))
    connection.executemany(f"INSERT INTO tumours VALUES ({places})", X.tolist())
    found = connection.execute(f"SELECT {expression} FROM tumours").fetchall()
labels = np.array([label for (label,) in found])
print(f"SQL and predict agree on {(labels == predicted).sum()} of {len(X)} rows")

# %%
# Sizes
# -----

print(f"{model.n_bytes_:5} bytes of parameters")
print(f"{len(source):5} characters of C")
print(f"{len(expression):5} characters of SQL")
