"""Which label is the positive one, and which rows are unlabelled."""

from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_array_equal

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
def test_missing_is_unlabelled(label, negative, missing, called):
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
    with pytest.raises(ValueError, match="beside 0 labels"):
        fit(labels(None, None))
