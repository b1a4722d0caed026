"""A table as people have it: numbers for the first stage, all of it for the final estimator."""

from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from scipy.sparse import issparse
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from sklearn.utils import _safe_indexing, get_tags

from pnsklearn._stacking._members import columns, to_floats, to_text
from pnsklearn._typing import Array

MOST_LEVELS = 20  # of a category that the first stage tells apart


@dataclass(frozen=True)
class Table:
    """The rows that the final estimator is trained on, in the order of the sample's."""

    X: Any
    order: Array  # rows of X: first the labeled positives, then the unlabeled rows

    def take(self, rows: Array) -> Any:
        """Return rows, given by their number in the sample."""
        return _safe_indexing(self.X, self.order[rows])


def is_table(X: Any, final_estimator: Any) -> bool:
    """Return whether the final estimator gets X as it comes: a frame, or an array with gaps."""
    if not hasattr(final_estimator, "fit") or issparse(X):
        return False
    if nw.dependencies.is_into_dataframe(X):
        return min(X.shape) > 0
    if not isinstance(X, np.ndarray) or X.ndim != 2 or X.size == 0:
        return False
    if X.dtype.kind == "O":
        return True
    return X.dtype.kind == "f" and bool(np.isnan(X).any()) and takes_gaps(final_estimator)


def takes_gaps(final_estimator: Any) -> bool:
    """Return whether an estimator, or the first step of a pipeline, takes missing values."""
    return hasattr(final_estimator, "fit") and bool(get_tags(final_estimator).input_tags.allow_nan)


def numeric_view(X: Any) -> ColumnTransformer:
    """Return what turns a table like X into the numbers that the first stage takes.

    Missing numbers become the median, text and categories a column for each of their commonest
    levels. Columns of another kind, dates say, are left out.

    Raises
    ------
    ValueError
        If no column is left.
    """
    numbers: list = []
    categories: list = []
    is_frame = nw.dependencies.is_into_dataframe(X)
    names = nw.from_native(X, eager_only=True).columns if is_frame else range(np.shape(X)[1])
    for name in names:
        try:
            found = columns(_safe_indexing(X, [name], axis=1))
        except ValueError:
            continue
        (numbers if found[0] else categories).append(name)
    if not numbers and not categories:
        raise ValueError(
            "X has no column of numbers, booleans, text or categories, of which the first stage "
            "needs at least one."
        )
    impute = SimpleImputer(strategy="median", keep_empty_features=True)
    one_hot = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=MOST_LEVELS, sparse_output=False
    )
    parts = [
        ("numbers", make_pipeline(FunctionTransformer(to_floats), impute), numbers),
        ("categories", make_pipeline(FunctionTransformer(to_text), one_hot), categories),
    ]
    return ColumnTransformer([part for part in parts if part[2]]).set_output(transform="default")
