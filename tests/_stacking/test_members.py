"""The default members: tables as they come, and their edges. No warning is raised by any."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.metrics import average_precision_score
from sklearn.model_selection import TimeSeriesSplit

from pnsklearn import AUPRCStackingClassifier
from pnsklearn._stacking._members import columns, known_columns, to_floats, to_text

RNG = np.random.default_rng(0)
N = 160
FRAME = pd.DataFrame(
    {
        "number": RNG.standard_normal(N),
        "count": pd.array(RNG.integers(0, 50, N), dtype="Int64"),
        "flag": RNG.random(N) < 0.5,
        "maybe": pd.array(RNG.choice(np.array([True, False, None], dtype=object), N), "boolean"),
        "text": RNG.choice(np.array(["red", "blue", None], dtype=object), N),
        "level": pd.Categorical(RNG.choice(["low", "high"], N)),
    }
)
FRAME.loc[3, ["number", "level"]] = np.nan
FRAME.loc[5, "count"] = pd.NA
SIGNAL = FRAME["number"].fillna(0) + (FRAME["text"] == "red") + RNG.normal(scale=0.3, size=N)
Y = (SIGNAL > np.quantile(SIGNAL, 0.8)).astype(int).to_numpy()


def fit(X, y=Y, **params):
    return AUPRCStackingClassifier(**{"cv": 2, "random_state": 0, **params}).fit(X, y)


def test_frames_of_all_kinds_give_the_same_model():
    train, test = FRAME[:120], FRAME[120:]
    model = fit(train, Y[:120])
    scores = model.decision_function(test)
    assert average_precision_score(Y[120:], scores) > 0.8
    frames = pl.from_pandas(FRAME)
    polars = fit(frames[:120], Y[:120])
    assert_allclose(polars.decision_function(frames[120:]), scores, rtol=1e-6)
    array = FRAME.to_numpy(dtype=object)
    assert_allclose(fit(array[:120], Y[:120]).decision_function(array[120:]), scores, rtol=1e-6)
    assert_array_equal(model.feature_names_in_, FRAME.columns)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(test.rename(columns={"text": "colour"}))


def test_new_levels_and_missing_values_at_prediction():
    model = fit(FRAME)
    new = FRAME[:4].assign(text="green", level=pd.Categorical(["other"] * 4), number=np.nan)
    assert np.isfinite(model.decision_function(new)).all()
    numbers = FRAME[["number", "flag"]]
    clean = fit(numbers.fillna(0.0))
    assert np.isfinite(clean.decision_function(numbers[:5])).all()


def test_columns_of_a_frame_and_an_array():
    numbers, categories = columns(FRAME)
    assert (numbers, categories) == (["number", "count", "flag", "maybe"], ["text", "level"])
    assert columns(FRAME.to_numpy(dtype=object)) == ([0, 1, 2, 3], [4, 5])
    assert columns(np.zeros((3, 2))) == ([0, 1], [])
    mixed = pd.DataFrame({"a": np.array([1, "x", None], dtype=object), "b": [None, 2, 0.5]})
    assert columns(mixed) == (["b"], ["a"])
    with pytest.raises(ValueError, match=r"Column 'day' holds Datetime.*turn it into numbers"):
        fit(FRAME.assign(day=pd.date_range("2020-01-01", periods=N)))


def test_conversions_keep_what_is_missing():
    floats = to_floats(FRAME[["number", "count", "flag", "maybe"]])
    assert floats.dtype == np.float64
    assert_array_equal(np.isnan(floats[:, 1]), np.arange(N) == 5)
    assert_array_equal(floats[:, 2], FRAME["flag"])
    text = to_text(FRAME[["text", "level"]])
    assert text[3, 1] is None
    assert set(text[:, 0]) == {"red", "blue", None}
    assert_array_equal(
        to_text(np.array([[1, None], ["a", np.nan]], dtype=object)), [["1", None], ["a", None]]
    )
    gaps = np.array([[np.nan, 1.0], [np.nan, np.nan]])
    assert known_columns(gaps, [0, 1]) == [1]
    assert known_columns(pd.DataFrame(gaps, columns=["a", "b"]), ["a", "b"]) == ["b"]


def numbers(**changes):
    X = np.random.default_rng(1).standard_normal((N, 4))
    X[:, 0] = SIGNAL
    for column, values in changes.items():
        X[:, int(column[1:])] = values
    return X


@pytest.mark.parametrize(
    "X",
    [
        numbers(c1=np.where(RNG.random(N) < 0.96, 0.0, RNG.standard_normal(N))),
        numbers(c1=7.0),
        numbers(c1=np.nan),
        numbers(c1=np.where(np.arange(N) < 3, 1.5, np.nan)),  # missing in the rows of a split
        numbers(c1=np.where(np.arange(N) == 9, 1e3, 0.1)),
        numbers().astype(np.float32),
        sparse.csr_array(numbers()),
        sparse.random(N, 300, density=0.05, random_state=0, format="csr"),
        sparse.coo_array(numbers()[:, :1]),
        numbers().tolist(),
        pd.DataFrame(numbers(c1=np.nan)),  # named 0, 1, ...
        FRAME[["text"]],
        FRAME[["flag"]],
    ],
    ids=[
        "rare", "constant", "missing", "almost missing", "far out", "float32", "sparse", "wide",
        "one column", "list", "numbered", "text", "booleans",
    ],
)  # fmt: skip
def test_odd_columns(X):
    assert np.isfinite(fit(X).decision_function(X)).all()


def test_values_far_out_at_prediction_count_as_the_largest_seen():
    X = numbers()
    model = fit(X)
    far = np.array([[1e3, -1e3, 1e5, 0.0]])
    assert np.abs(model.decision_function(far)) < 2 * np.abs(model.decision_function(X)).max()


@pytest.mark.parametrize("params", [{"cv": 5}, {"cv": TimeSeriesSplit(4)}], ids=["few", "growing"])
def test_fewer_rows_than_components_and_quantiles(params):
    X, y = numbers()[:60], Y[:60]
    assert np.isfinite(fit(X, y, **params).decision_function(X)).all()


def test_boosting_that_cannot_split_is_left_out():
    """Twenty rows in a leaf are more than thirty rows allow; that is not the user's mistake."""
    model = fit(numbers()[:30], Y[:30])
    assert "boosting" not in model.named_estimators_
    assert {"extra_trees", "splines"} <= set(model.named_estimators_)


def test_read_only_memory():
    X = numbers()
    X.flags.writeable = False
    assert np.isfinite(fit(X).decision_function(X)).all()
