"""The cache of compiled functions."""

import subprocess
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


def test_a_cache_of_other_tuple_classes_is_replaced(tmp_path):
    """An upgrade leaves indices behind that name classes which are no more."""
    outputs = []
    for name in ("Rows", "Rows", "Block", "Block"):
        (tmp_path / "kernels.py").write_text(KERNELS.format(name=name))
        code = "import kernels; print(*kernels.compute())"
        run = [sys.executable, "-c", code]
        done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout.split())
    assert outputs == [["6.0", "0"], ["6.0", "1"], ["6.0", "0"], ["6.0", "1"]]
