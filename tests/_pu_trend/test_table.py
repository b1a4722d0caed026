"""Tables as people have them, for the final estimator."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from pnsklearn import PUTrendClassifier
from pnsklearn._pu_trend._table import numeric_view
from pnsklearn.exceptions import PUWarning
from tests.callbacks import Callback

pd = pytest.importorskip("pandas")
FAST = PUTrendClassifier("linear", n_snapshots=3, random_state=0)
N = 400


@pytest.fixture(scope="module")
def data():
    """Return a frame of which a number, a category and a text tell, its labels and the truth."""
    rng = np.random.default_rng(0)
    y = np.arange(N) % 5 < 2
    X = pd.DataFrame(
        {
            "amount": rng.normal(2.0 * y),
            "kind": np.where(rng.random(N) < 0.15 + 0.7 * y, "new", "old"),
            "note": np.where(rng.random(N) < 0.1 + 0.6 * y, "please hurry up", "no rush at all"),
            "day": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 90, N), "D"),
        }
    )
    X["kind"] = X["kind"].astype("category")
    X.loc[rng.random(N) < 0.1, "amount"] = np.nan
    s = (y & (np.cumsum(y) <= 80)).astype(int)
    return X, s, y


def of_columns():
    """Return a classifier that needs the names of the columns."""
    parts = [
        ("boosted", "passthrough", ["amount"]),
        ("kind", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["kind"]),
        ("note", TfidfVectorizer(), "note"),
    ]
    columns = ColumnTransformer(parts, sparse_threshold=0)
    return make_pipeline(columns, HistGradientBoostingClassifier(max_iter=20, random_state=0))


def fit(model, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PUWarning)
        return model.fit(*args)


def test_columns_by_name(data):
    X, s, y = data
    model = fit(clone(FAST).set_params(final_estimator=of_columns()), X, s)
    assert np.mean(model.predict(X) == y) > 0.8
    assert_array_equal(model.feature_names_in_, X.columns)
    assert model.n_features_in_ == 4
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(X[["kind", "amount", "note", "day"]])
    # Rows of weight zero are as if absent, and the order of rows does not matter to their labels.
    weight = np.where(np.arange(N) % 10 == 9, 0.0, 1.0)
    weighted = fit(clone(model), X, s, weight)
    fewer = fit(clone(model), X[weight > 0], s[weight > 0])
    assert_array_equal(weighted.predict_proba(X), fewer.predict_proba(X))


def test_polars(data):
    pl = pytest.importorskip("polars")
    X, s, _ = data
    expected = fit(clone(FAST).set_params(final_estimator=of_columns()), X, s)
    frame = pl.DataFrame(X.to_dict("list"), nan_to_null=True)
    model = fit(clone(FAST).set_params(final_estimator=of_columns()), frame, s)
    assert_array_equal(model.predict(frame), expected.predict(X))


def test_array_with_gaps(data):
    X, s, _ = data
    rng = np.random.default_rng(1)
    values = np.column_stack([X["amount"], rng.normal(size=N) + 2 * data[2]])
    boosting = HistGradientBoostingClassifier(max_iter=20, random_state=0)
    model = fit(clone(FAST).set_params(final_estimator=boosting), values, s)
    assert np.mean(model.predict(values) == data[2]) > 0.8
    assert model.__sklearn_tags__().input_tags.allow_nan
    # Who takes none, or the default, says so.
    for final in (None, "same", LogisticRegression()):
        with pytest.raises(ValueError, match="contains NaN"):
            clone(FAST).set_params(final_estimator=final).fit(values, s)


def test_frame_of_numbers_is_an_array(data):
    """For a final estimator that needs no names."""
    _, s, y = data
    X = np.random.default_rng(2).normal(size=(N, 3)) + y[:, None]
    final = make_pipeline(StandardScaler(), LogisticRegression())
    model = clone(FAST).set_params(final_estimator=final)
    expected = fit(clone(model), X, s)
    frame = pd.DataFrame(X, columns=list("abc"))
    found = fit(clone(model), frame, s)
    assert_allclose(found.trend_scores_, expected.trend_scores_)
    assert_allclose(found.predict_proba(frame), expected.predict_proba(X))


def test_text_needs_a_final_estimator_that_takes_it(data):
    with pytest.raises(ValueError, match=r"not numbers: .*Encode them in front of PUTrend"):
        clone(FAST).fit(data[0][["amount", "kind"]].dropna().assign(amount=1.0), data[1][:360])


def test_callbacks_predict(data):
    X, s, _ = data
    seen = []

    class Watcher(Callback):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator, X):
            if context.task_name == "snapshot":
                seen.append(fitted_estimator.predict_proba(X))

    model = clone(FAST).set_params(final_estimator=of_columns()).set_callbacks(Watcher())
    fit(model, X, s)
    assert [p.shape for p in seen] == [(N, 2)] * 3


def test_numeric_view():
    X = pd.DataFrame(
        {
            "a": [1.0, np.nan, 3.0, 5.0], "b": [True, False, True, True],
            "c": ["x", None, "y", "x"], "d": pd.to_datetime(["2026-01-01"] * 4),
        }
    )  # fmt: skip
    values = numeric_view(X).fit_transform(X)
    assert_array_equal(values[:, :2], [[1, 1], [3, 0], [3, 1], [5, 1]])
    assert values.shape == (4, 5)  # x, y and missing
    with pytest.raises(ValueError, match="X has no column of numbers"):
        numeric_view(X[["d"]])
