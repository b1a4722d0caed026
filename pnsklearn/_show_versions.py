"""What to paste into a bug report."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

REQUIRED = ("pnsklearn", "scikit-learn", "numpy", "scipy", "numba")
OPTIONAL = ("torch", "matplotlib", "rich", "cvxpy", "pandas", "polars")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def show_versions() -> None:
    """Print the versions of Python, of this package and of what it uses.

    Nothing is imported for it: the versions are those of the installed distributions.

    Examples
    --------
    >>> from pnsklearn import show_versions
    >>> show_versions()  # doctest: +ELLIPSIS
    python: 3...
    """
    rows = {"python": sys.version.split()[0], "platform": platform.platform()}
    rows |= {package: _version(package) for package in REQUIRED + OPTIONAL}
    for name, value in rows.items():
        print(f"{name}: {value}")
