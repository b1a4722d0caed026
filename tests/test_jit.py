"""The cache of compiled functions."""

import importlib
import sys

KERNELS = """
from typing import NamedTuple
import numpy as np
from pnsklearn._jit import njit
class {name}(NamedTuple):
    values: np.ndarray
@njit
def total(rows):
    return rows.values.sum()
def compute():
    return total({name}(np.arange(4.0))), sum(total.stats.cache_hits.values())
"""


def test_a_cache_of_other_tuple_classes_is_replaced(tmp_path, monkeypatch):
    """An upgrade leaves indices behind that name classes which are no more."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    outputs = []
    for name in ("Rows", "Rows", "Block", "Block"):
        (tmp_path / "kernels_of_a_version.py").write_text(KERNELS.format(name=name))
        importlib.invalidate_caches()
        sys.modules.pop("kernels_of_a_version", None)
        outputs.append(importlib.import_module("kernels_of_a_version").compute())
    sys.modules.pop("kernels_of_a_version")
    assert outputs == [(6.0, 0), (6.0, 1), (6.0, 0), (6.0, 1)]
