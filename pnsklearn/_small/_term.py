"""What a rule reads of one column: a number, or whether a condition holds."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils._missing import is_pandas_na, is_scalar_nan

from pnsklearn._typing import Array


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN or pandas' NA."""
    return value is None or is_scalar_nan(value) or is_pandas_na(value)


@dataclass(frozen=True)
class Term:
    """A term of a column.

    Parameters
    ----------
    column : str
        Name of the column.
    kind : {"number", "above", "in", "missing"}
        The value itself, or 1 where it is above `threshold`, is one of `levels`, or is missing.
    fill : number or level, default=None
        What a missing value counts as; None leaves it missing.
    threshold : float, default=0.0
        Of the kind "above".
    levels : tuple, default=()
        Of the kind "in"; None stands for a missing value.
    """

    column: str
    kind: str = "number"
    fill: Any = None
    threshold: float = 0.0
    levels: tuple = ()

    def values(self, column: Array) -> Array:
        """Return the values of the term, from those of its column as objects; NaN if unknown."""
        missing = np.array([is_missing(value) for value in column], dtype=bool)
        if self.kind == "missing":
            return missing.astype(float)
        filled = column.copy()
        filled[missing] = self.fill
        if self.kind == "in":
            return np.array([value in self.levels for value in filled], dtype=float)
        numbers = np.array([np.nan if v is None else v for v in filled], dtype=float)
        if self.kind == "number":
            return numbers
        return (numbers > self.threshold).astype(float)

    def text(self) -> str:
        """Return the term to read."""
        if self.kind == "missing":
            return f"{self.column} is missing"
        if self.kind == "above":
            return f"{self.column} > {self.threshold:.4g}"
        if self.kind == "number":
            return self.column
        levels = ["missing" if level is None else str(level) for level in self.levels]
        if len(levels) == 1:
            return f"{self.column} is {levels[0]}"
        return f"{self.column} in {{{', '.join(levels)}}}"

    def to_dict(self) -> dict:
        """Return the term for JSON."""
        found: dict = {"column": self.column, "kind": self.kind}
        if self.fill is not None:
            found["fill"] = self.fill
        if self.kind == "above":
            found["threshold"] = self.threshold
        if self.kind == "in":
            found["levels"] = list(self.levels)
        return found

    def python(self) -> str:
        """Return the term as a Python expression over `row`."""
        value = f"row[{self.column!r}]"
        missing = f"({value} is None or {value} != {value})"
        if self.kind == "missing":
            return f"float({missing})"
        filled = f"({self.fill!r} if {missing} else {value})"
        if self.kind == "in":
            return f"float({filled} in {self.levels!r})"
        if self.fill is None:
            filled = f'(float("nan") if {missing} else {value})'
        return filled if self.kind == "number" else f"float({filled} > {self.threshold!r})"
