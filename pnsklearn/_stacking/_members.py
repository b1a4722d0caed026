"""The default members of a stack: four different models that take a table as it comes.

Two boosted trees, a forest, and logistic regression on splines and a kernel: what counts is that
they differ. Numbers may be missing; text, categories and booleans are encoded here.
"""

from functools import partial
from numbers import Real
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    OneHotEncoder,
    OrdinalEncoder,
    QuantileTransformer,
    SplineTransformer,
    StandardScaler,
)
from sklearn.utils import _safe_indexing
from sklearn.utils._missing import is_pandas_na, is_scalar_nan

from pnsklearn._typing import Array

# Beyond so many rows boosting gets more rounds, and each tree of the forest few rows: on all it
# would cost more than the rest, and add nothing.
MANY_ROWS = 10_000
FOREST_ROWS = 5_000
MOST_LEVELS = 200  # of a category for trees, below the 255 bins of boosting; the rest is one level
MOST_COLUMNS = 20  # of a category for the linear model
MOST_SPARSE_COLUMNS = 400  # of a sparse X for boosting, by their correlation with y
N_COMPONENTS = 120  # of the kernel
N_QUANTILES = 200
BOOSTED = "boosting", "shallow_boosting"
FEW_VALUES = 10  # up to which a column gets no splines


def default_members(X: Any, n_fewest: int, random_state: int) -> list[tuple[str, Any]]:
    """Return names and unfitted models for a table: a frame, an array or a sparse matrix.

    `n_fewest` is the smallest number of rows that a fit of them will have.

    Raises
    ------
    ValueError
        If a column of a frame holds neither numbers, booleans, text nor categories.
    """
    trees = tree_models(X.shape[0], random_state)
    linear = LogisticRegression(C=0.1, tol=1e-3, max_iter=1000)
    if issparse(X):  # the forest takes it as it is
        to_array = FunctionTransformer(to_dense, accept_sparse=True)
        related = SelectKBest(f_regression, k=min(MOST_SPARSE_COLUMNS, X.shape[1]))
        trees["boosting"] = make_pipeline(related, to_array, trees["boosting"])
        singular = TruncatedSVD(N_COMPONENTS, random_state=random_state)
        reduced = singular if X.shape[1] > N_COMPONENTS else clone(to_array)
        trees["shallow_boosting"] = make_pipeline(reduced, trees["shallow_boosting"])
        return [*trees.items(), ("linear", make_pipeline(MaxAbsScaler(), linear))]

    numbers, categories = columns(X)
    impute = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    linear = [smooth_features(n_fewest, random_state), StandardScaler(), linear]
    if not categories and not _entries(X)[1].any():
        splines = make_pipeline(_function(to_floats), impute, *linear)
        return [*trees.items(), ("splines", splines)]
    for name in BOOSTED:
        trees[name].set_params(categorical_features=np.arange(len(categories)))
    levels = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=np.nan, max_categories=MOST_LEVELS
    )
    one_hot = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=MOST_COLUMNS, sparse_output=False
    )

    def encoded(encoder, *steps):
        of_categories = make_pipeline(_function(to_text), encoder)
        of_numbers = make_pipeline(_function(to_floats), *steps)
        known = partial(known_columns, names=numbers)
        return ColumnTransformer(
            [("categories", of_categories, categories), ("numbers", of_numbers, known)]
        )

    found = {name: make_pipeline(encoded(levels), tree) for name, tree in trees.items()}
    return [*found.items(), ("splines", make_pipeline(encoded(one_hot, impute), *linear))]


def _function(function):
    return FunctionTransformer(function, feature_names_out="one-to-one")


def tree_models(n_rows: int, random_state: int) -> dict[str, Any]:
    """Return two boosted models, deep and shallow, and a forest."""
    many = n_rows > MANY_ROWS
    boosting = partial(
        HistGradientBoostingClassifier,
        max_iter=100 if many else 75,
        early_stopping=False,
        random_state=random_state,
    )
    forest = ExtraTreesClassifier(50, random_state=random_state)
    if many:
        forest.set_params(bootstrap=True, max_samples=FOREST_ROWS / n_rows)
    return {
        "boosting": boosting(l2_regularization=0.3, max_features=0.5),
        "shallow_boosting": boosting(max_leaf_nodes=8, min_samples_leaf=10, l2_regularization=1.0),
        "extra_trees": forest,
    }


def smooth_features(n_fewest: int, random_state: int) -> Any:
    """Return what makes a linear model smooth: splines of the columns, and a kernel of the rows.

    Splines are of ranks: no knots coincide where most values are equal, and what is far out counts
    as the largest value seen.
    """
    ranks = QuantileTransformer(n_quantiles=min(N_QUANTILES, n_fewest), random_state=random_state)
    splines = SplineTransformer(extrapolation="constant", include_bias=False)
    parts = [
        ("splines", make_pipeline(ranks, splines), many_valued),
        ("as they are", "passthrough", few_valued),
    ]
    kernel = Nystroem(n_components=min(N_COMPONENTS, n_fewest), random_state=random_state)
    return make_union(ColumnTransformer(parts), make_pipeline(StandardScaler(), kernel))


def many_valued(X: Array) -> list[int]:
    """Return the columns with more than ten values, which get splines."""
    return [column for column in range(X.shape[1]) if len(np.unique(X[:, column])) > FEW_VALUES]


def few_valued(X: Array) -> list[int]:
    """Return the other columns."""
    return sorted(set(range(X.shape[1])).difference(many_valued(X)))


def columns(X: Any) -> tuple[list, list]:
    """Return the columns of numbers (booleans too) and of categories (text too).

    They are names for a frame, numbers for an array.
    """
    if not nw.dependencies.is_into_dataframe(X):
        X = np.asarray(X)
        if X.dtype.kind in "biuf":
            return list(range(X.shape[1])), []
        is_number = [_is_number(X[:, column]) for column in range(X.shape[1])]
        return (
            [column for column, number in enumerate(is_number) if number],
            [column for column, number in enumerate(is_number) if not number],
        )
    numbers: list = []
    categories: list = []
    for name, dtype in nw.from_native(X, eager_only=True).schema.items():
        if dtype.is_numeric() or dtype == nw.Boolean:
            numbers.append(name)
        elif dtype in (nw.String, nw.Categorical, nw.Enum, nw.Object):
            of_object = dtype == nw.Object and _is_number(np.asarray(X[name], dtype=object))
            (numbers if of_object else categories).append(name)
        else:
            raise ValueError(
                f"Column {name!r} holds {dtype}; turn it into numbers or text (of a date: its age "
                "in days, its weekday), or drop it."
            )
    return numbers, categories


def to_dense(X: Any) -> Array:
    """Return a sparse matrix as an array."""
    return X.toarray()


def known_columns(X: Any, names: list) -> list:
    """Return those of the named columns that are not missing altogether, in a split say."""
    if not names:
        return []
    absent = _entries(_safe_indexing(X, names, axis=1))[1].all(axis=0)
    return [name for name, is_absent in zip(names, absent, strict=True) if not is_absent]


def _is_number(values):
    """Return whether all entries of an object array are numbers or missing."""
    known = values[~_is_missing(values)]
    return all(isinstance(value, (Real, np.bool_)) for value in known)


def _is_missing(values):
    """Return which entries are None, NaN or pandas' NA."""

    def check(value):
        return value is None or is_scalar_nan(value) or is_pandas_na(value)

    return np.frompyfunc(check, 1, 1)(values).astype(bool)


def to_floats(X: Any) -> Array:
    """Return numbers and booleans as float64, NaN where they are missing."""
    X, missing = _entries(X)
    return np.where(missing, np.nan, X).astype(np.float64)


def to_text(X: Any) -> Array:
    """Return levels as text, None where they are missing."""
    X, missing = _entries(X)
    text = X.astype(str).astype(object)
    text[missing] = None
    return text


def _entries(X):
    """Return the entries of a frame or array, and which are missing."""
    if not nw.dependencies.is_into_dataframe(X):
        X = np.asarray(X)
        return X, _is_missing(X) if X.dtype.kind in "OU" else np.isnan(X)
    series = list(nw.from_native(X, eager_only=True).iter_columns())
    missing = np.column_stack([column.is_null().to_numpy() for column in series])
    return np.column_stack([column.to_numpy() for column in series]), missing
