"""Which label is the positive one, and which rows are unlabeled."""

from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.exceptions import DataConversionWarning

from pnsklearn import PUTrendClassifier

pytestmark = pytest.mark.usefixtures("few_trees")
N = 300
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3))
LABELED = (X[:, 0] > 0) & (RNG.random(N) < 0.5)
FAST = {"n_snapshots": 2, "n_passes": 1, "n_folds": 2, "final_estimator": "same", "random_state": 0}


def fit(s, **params):
    return PUTrendClassifier("linear", **FAST, **params).fit(X, s)


def labels(positive, other):
    values = np.empty(N, dtype=object)
    values[:] = [positive if one else other for one in LABELED]
    return values


@cache
def called_positive():
    model = fit(LABELED.astype(int))
    positive = model.predict(X) == 1
    assert 0.3 < positive.mean() < 0.7
    return positive


@pytest.fixture
def called(few_trees):
    """What is called positive where labels are 1 and 0."""
    return called_positive()


@pytest.mark.parametrize("pair", [(1, 0), (1, -1), (True, False), (1.0, 0.0)], ids=str)
def test_plain_pairs(pair, called):
    s = np.array(labels(*pair).tolist())
    assert_array_equal(fit(s).predict(X) == pair[0], called)
    assert_array_equal(fit(s, pos_label=pair[0]).predict(X) == pair[0], called)


@pytest.mark.parametrize(
    "pair", [("fraud", "ok"), ("stay", "churn"), (1, 2), (2, 1), (0, 1), ("1", "0")], ids=str
)
def test_others_are_named(pair, called):
    positive, other = pair
    s = np.array(labels(positive, other).tolist())
    if pair != (0, 1):
        with pytest.raises(ValueError, match=f"Set pos_label=.*{positive}") as raised:
            fit(s)
        assert f"pos_label={other!r}" in str(raised.value)
    model = fit(s, pos_label=positive)
    assert_array_equal(model.classes_, [other, positive])
    assert_array_equal(model.predict(X) == positive, called)
    assert set(model.predict(X)) == {positive, other}
    assert_array_equal(model.predict_proba(X)[:, 1] > 0.5, called)


def test_a_name_that_is_no_label():
    with pytest.raises(ValueError, match="pos_label='bad' is not a label of y, which are 'a' and "):
        fit(labels("b", "a"), pos_label="bad")
    with pytest.raises(ValueError, match="pos_label='bad' is not a label of y, which has only 'b'"):
        fit(labels("b", None), pos_label="bad")


@pytest.mark.parametrize("missing", [None, np.nan, "NA"], ids=str)
@pytest.mark.parametrize(
    "label, negative", [("b", "not b"), (1, 0), (1.0, 0), (7, 0), (0, -1), (True, False)], ids=str
)
def test_missing_is_unlabeled(label, negative, missing, called):
    if missing == "NA":
        missing = pytest.importorskip("pandas").NA
    model = fit(labels(label, missing))
    assert_array_equal(model.classes_, [negative, label])
    assert_array_equal(model.predict(X) == label, called)
    assert_array_equal(fit(labels(label, missing), pos_label=label).predict(X), model.predict(X))


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "string", "category", "boolean"])
def test_columns_of_pandas(dtype, called):
    pd = pytest.importorskip("pandas")
    label = {"string": "b", "category": "b", "boolean": True}.get(dtype, 1)
    model = fit(pd.Series(labels(label, None), dtype=dtype))
    assert_array_equal(model.predict(X) == label, called)


def test_columns_of_polars(called):
    pl = pytest.importorskip("polars")
    for label in ("b", 1, 1.0):
        model = fit(pl.Series(labels(label, None).tolist()))
        assert_array_equal(model.predict(X) == label, called)


def test_several_labels_beside_missing_ones():
    s = labels("b", None)
    s[:3] = "a"
    with pytest.raises(ValueError, match=r"beside 2 labels: 'a', 'b'.*there must be one label"):
        fit(s)
    with pytest.raises(ValueError, match="All labels of y are missing"):
        fit(labels(None, None))


def test_columns_of_objects_and_frames(called):
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    for s, positive, negative in (
        (labels(1, 0), 1, 0),
        (labels(True, False), True, False),
        (pd.Series(LABELED, dtype="boolean"), True, False),
        (pd.Index(labels(1, -1)), 1, -1),
        (labels(1, pd.NaT), 1, 0),
    ):
        model = fit(s)
        assert model.classes_.dtype != object
        assert_array_equal(model.classes_, [negative, positive])
        assert_array_equal(model.predict(X) == positive, called)
    for column in (
        labels("b", None)[:, None], labels(1.0, np.nan)[:, None].astype(float),
        pd.DataFrame({"s": labels("b", None)}), pl.DataFrame({"s": labels(1, None).tolist()}),
    ):  # fmt: skip
        with pytest.warns(DataConversionWarning, match="column-vector"):
            model = fit(column)
        assert_array_equal(model.predict(X) == model.classes_[1], called)


@pytest.mark.parametrize("word", ["unlabeled", "unknown", "", "None", "not fraud", "zzz"])
def test_a_word_for_unlabeled_is_not_offered_first(word):
    first = "zzz" if word == "zzz" else "fraud"
    with pytest.raises(ValueError, match=f"Set pos_label='{first}' or"):
        fit(labels("fraud", word))


def test_what_is_no_label():
    with pytest.raises(ValueError, match=r"several types, 'unlabeled' and 1.*of one type"):
        fit(labels(1, "unlabeled"))
    dates = np.where(LABELED, np.datetime64("2020-01-01"), np.datetime64("NaT"))
    with pytest.raises(ValueError, match=r"dates.* True for the rows.* y\.notna\(\)"):
        fit(dates)
