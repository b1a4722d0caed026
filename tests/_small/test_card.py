"""Rules of pipelines in the units of the data: against the pipeline, and in real engines."""

import json
import sqlite3
from contextlib import closing

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.compose import make_column_transformer
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    OneHotEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)

from pnsklearn import RuleCard, SMaLLClassifier
from pnsklearn._small._fold import Line, above
from pnsklearn._small._sql import DIALECTS
from pnsklearn._small._term import Term

NUMBERS = ["age", "weight of 'it'", 'in "cm"']


@pytest.fixture(scope="module")
def frame():
    """Numbers with gaps, two categories, one of them with gaps, and labels that depend on all."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal([50, 70, 170], [10, 8, 12], (240, 3)), columns=NUMBERS)
    X["colour"] = rng.choice(["red", "blue", "it's \\ green"], 240).astype(object)
    X["unit"] = rng.choice([1, 2, 3], 240)
    score = 0.1 * (X["age"] - 50) + 2 * (X["colour"] == "red") - 1.5 * (X["unit"] == 2) - 0.3
    y = np.where(score + 0.5 * rng.standard_normal(240) > 0, "ill", "well")
    X.loc[rng.random(240) < 0.2, "age"] = np.nan
    y[X["age"].isna() & (rng.random(240) < 0.9)] = "ill"
    X.loc[rng.random(240) < 0.1, "colour"] = None
    return X, y


def columns(**how):
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    levels = OneHotEncoder(handle_unknown="ignore", sparse_output=False, **how)
    return make_column_transformer((numbers, NUMBERS), (levels, ["colour", "unit"]))


def fitted(frame, *steps, shape=(2, 4), **params):
    model = SMaLLClassifier(*shape, n_init=2, random_state=0, **params)
    return make_pipeline(*steps, model).fit(*frame)


def by_sql(card, X, **how):
    """Return what SQLite says of the rows of a frame."""
    with closing(sqlite3.connect(":memory:")) as database:
        X.to_sql("rows", database, index=False)
        found = database.execute(f"SELECT {card.export_sql(**how)} FROM rows").fetchall()
    return np.array([label for (label,) in found])


def by_python(card, X):
    scope: dict = {}
    exec(card.export_python(), scope)
    return np.array([scope["predict"](row) for row in X.to_dict("records")])


def by_json(card, X):
    """Return the labels that the description gives, read as its documentation says."""
    card = json.loads(card.export_json())
    found = []
    for row in X.to_dict("records"):
        fires = False
        for rule in card["rules"]:
            z = rule["intercept"]
            for term in rule["terms"]:
                value = row[term["column"]]
                missing = value is None or value != value
                if term["kind"] == "missing":
                    value = missing
                else:
                    value = term.get("fill") if missing else value
                if term["kind"] == "in":
                    value = value in term["levels"]
                elif term["kind"] == "above":
                    value = value is not None and value > term["threshold"]
                z += term["coefficient"] * (np.nan if value is None else float(value))
            fires |= z > 0 or (z == 0 and card["fires_at_zero"])
        found.append(card["classes"][card["union"] if fires else 1 - card["union"]])
    return np.array(found)


def edges(X):
    """Return rows with unknown levels, missing and large values as well."""
    odd = X.iloc[:6].copy()
    odd.loc[odd.index[0], "colour"] = "unknown"
    odd.loc[odd.index[1], ["age", "colour"]] = None
    odd.loc[odd.index[2], "age"] = 1e12
    odd.loc[odd.index[3], "age"] = -1e12
    odd.loc[odd.index[4], "unit"] = 99
    return pd.concat([X, odd], ignore_index=True)


@pytest.mark.parametrize("union", ["ill", "well"])
@pytest.mark.parametrize("params", [{}, {"shape": (1, 9)}, {"binarize": "quantile"}])
def test_card_is_the_pipeline_in_all_languages(frame, union, params):
    X, _ = frame
    pipeline = fitted(frame, columns(), positive_class=union, **params)
    card, rows = RuleCard.from_estimator(pipeline), edges(X)
    expected = pipeline.predict(rows)
    assert len(set(expected)) == 2
    assert_array_equal(card.predict(rows), expected)
    assert_array_equal(by_python(card, rows), expected)
    assert_array_equal(by_json(card, rows), expected)
    assert_array_equal(by_sql(card, rows), expected)
    assert_array_equal(card.predict(pl.from_pandas(rows)), expected)


def test_duckdb(frame):
    duckdb = pytest.importorskip("duckdb")
    X, _ = frame
    pipeline = fitted(frame, columns())
    card, rows = RuleCard.from_estimator(pipeline), edges(X)
    found = duckdb.sql(f"SELECT {card.export_sql(dialect='duckdb')} FROM rows").fetchall()
    assert_array_equal([label for (label,) in found], pipeline.predict(rows))


def test_scores_are_those_of_the_pipeline(frame):
    """The rules themselves, not only the labels: by the rows' largest scores."""
    X, y = frame
    X = X[NUMBERS].fillna(50.0)
    for scaler in (StandardScaler(), MinMaxScaler((-1, 3)), RobustScaler()):
        pipeline = make_pipeline(scaler, SelectKBest(k=2), SMaLLClassifier(1, 2, n_init=1))
        pipeline.fit(X, y)
        card = RuleCard.from_estimator(pipeline)
        score = X[[term.column for term in card.terms]] @ card.coef[0] + card.intercept[0]
        sign = 1 if card.union == 1 else -1
        assert_allclose(sign * score, pipeline.decision_function(X), rtol=1e-9, atol=1e-9)


def test_text_has_levels_gaps_and_units(frame):
    text = RuleCard.from_estimator(fitted(frame, columns(), shape=(1, 4))).rules()
    assert "[age is missing]" in text
    assert "[colour is red]" in text
    assert "* age " in text
    assert "fires on" in text


def test_arrays_have_numbered_columns(frame):
    X, y = frame
    X = X[NUMBERS].to_numpy()
    pipeline = make_pipeline(SimpleImputer(), StandardScaler(), SMaLLClassifier(1, 2, n_init=1))
    card = RuleCard.from_estimator(pipeline.fit(X, y))
    assert {term.column for term in card.terms} <= {"x0", "x1", "x2"}
    assert_array_equal(card.predict(X), pipeline.predict(X))


def test_alone_and_without_an_imputer_a_gap_keeps_a_rule_from_firing(frame):
    X, y = frame
    X = X[NUMBERS].fillna(50.0)
    model = SMaLLClassifier(2, 1, n_init=2, random_state=0).fit(X, y)
    card = RuleCard.from_estimator(model)
    assert_array_equal(card.predict(X), model.predict(X))
    gaps = X.iloc[:5] * np.nan
    other = card.classes[1 - card.union]
    for found in (card.predict(gaps), by_sql(card, gaps), by_python(card, gaps)):
        assert_array_equal(found, [other] * 5)


def test_rules_without_terms():
    X = np.ones((30, 2))
    model = SMaLLClassifier(1, 1).fit(X, np.arange(30) % 3 == 0)
    card = RuleCard.from_estimator(model)
    assert_array_equal(card.predict(X), model.predict(X))
    assert not card.terms


# Terms


@pytest.mark.parametrize(
    ("term", "column", "values", "text"),
    [
        (Term("a"), [1.0, None, np.nan], [1, np.nan, np.nan], "a"),
        (Term("a", fill=2.5), [1, None, pd.NA], [1, 2.5, 2.5], "a"),
        (Term("a", "missing"), [1, None, "b"], [0, 1, 0], "a is missing"),
        (Term("a", "above", threshold=1.0), [1, 2, None], [0, 1, 0], "a > 1"),
        (Term("a", "above", 3.0, 1.0), [1, 2, None], [0, 1, 1], "a > 1"),
        (Term("a", "in", levels=("x",)), ["x", "y", None], [1, 0, 0], "a is x"),
        (Term("a", "in", levels=("x", None)), ["x", "y", None], [1, 0, 1], "a in {x, missing}"),
        (Term("a", "in", "x", levels=("x",)), ["x", "y", None], [1, 0, 1], "a is x"),
    ],
)
def test_terms(term, column, values, text):
    assert_array_equal(term.values(np.array(column, dtype=object)), np.array(values, dtype=float))
    assert term.text() == text


def test_steps_of_scaled_columns_and_of_conditions():
    scaled = Line(Term("a"), 2.0, 1.0)
    assert above(scaled, 4.0).term == Term("a", "above", threshold=1.5)
    condition = Line(Term("a", "missing"), 2.0, -1.0)
    assert above(condition, 0.5) == Line(Term("a", "missing"), 1.0, 0.0)
    assert above(condition, 3.0) == Line(Term("a", "missing"), 0.0, 0.0)
    with pytest.raises(TypeError, match="turned around"):
        above(Line(Term("a"), -1.0), 0.0)


# Dialects


def test_booleans_are_not_multiplied():
    card = RuleCard([Term("on")], np.array([[2.0]]), np.array([-1.0]), np.array([0, 1]), 1, [], [])
    text = card.export_sql(dialect="postgresql", booleans=["on"])
    assert '(CASE WHEN "on" THEN' in text
    assert '* "on"' not in text
    rows = pd.DataFrame({"on": [True, False, None]}, dtype=object)
    assert_array_equal(by_sql(card, rows, booleans=["on"]), [1, 0, 0])


@pytest.mark.parametrize("binarize", [None, "quantile"])
@pytest.mark.parametrize("convert", [pd.DataFrame, pl.DataFrame])
def test_boolean_columns_of_a_frame_are_not_multiplied(convert, binarize):
    rng = np.random.default_rng(0)
    on, size = rng.random(200) < 0.4, rng.standard_normal(200)
    y = (size + 2 * on + 0.3 * rng.standard_normal(200) > 1).astype(int)
    X = convert({"on": on, "size": size})
    model = SMaLLClassifier(1, 2, binarize=binarize, random_state=0).fit(X, y)
    text = model.export_sql()
    assert text.count('"on"') == 2 * text.count('CASE WHEN "on" THEN 1.0 WHEN NOT "on" THEN 0.0')
    assert '"on"' in text
    with closing(sqlite3.connect(":memory:")) as database:
        pd.DataFrame({"on": on, "size": size}).to_sql("rows", database, index=False)
        found = database.execute(f"SELECT {text} FROM rows").fetchall()
    assert_array_equal(np.ravel(found), model.predict(X))


@pytest.mark.parametrize("convert", [lambda X: X, pl.from_pandas])
def test_columns_of_times_are_refused_with_the_remedy(convert, frame):
    _, y = frame
    dated = pd.DataFrame({"day": pd.date_range("2020", periods=len(y)), "n": np.arange(len(y))})
    with pytest.raises(ValueError, match=r"'day' holds Datetime.*its age in days"):
        SMaLLClassifier().fit(convert(dated), y)


def test_dialects():
    card = RuleCard(
        [Term('a"`b', "in", levels=("c'\\",)), Term("n")], np.array([[0.1, 2.0]]),
        np.array([-1e-30]), np.array([False, True]), 1, [], [],
    )  # fmt: skip
    texts = {dialect: card.export_sql(dialect=dialect) for dialect in DIALECTS}
    assert "\"a\"\"`b\" IN ('c''\\')" in texts["sqlite"]
    assert "`a\"``b` IN ('c''\\\\')" in texts["mysql"]
    assert "CAST('0.1e0' AS DOUBLE PRECISION) * " in texts["postgresql"]
    assert "0.1e0 * " in texts["duckdb"]
    assert "THEN 1 ELSE 0" in texts["sqlite"]
    assert "THEN TRUE ELSE FALSE" in texts["duckdb"]
    with pytest.raises(ValueError, match="dialect must be one of"):
        card.export_sql(dialect="oracle")


# What cannot be folded


def test_steps_that_cannot_be_folded(frame):
    X, y = frame
    X = X[NUMBERS].fillna(50.0)
    for step, message in [
        (PolynomialFeatures(), "PolynomialFeatures cannot be folded"),
        (MinMaxScaler(clip=True), "MinMaxScaler cannot be folded"),
        (SimpleImputer(missing_values=0), "must be NaN or None, not 0"),
    ]:
        pipeline = make_pipeline(step, SMaLLClassifier(1, 1, n_init=1)).fit(X, y)
        with pytest.raises(TypeError, match=message):
            RuleCard.from_estimator(pipeline)
    with pytest.raises(TypeError, match="last step must be a SMaLLClassifier, got Standard"):
        RuleCard.from_estimator(make_pipeline(StandardScaler()))


def test_infrequent_levels_cannot_be_folded(frame):
    encoded = columns(max_categories=2)
    with pytest.raises(TypeError, match="infrequent categories"):
        RuleCard.from_estimator(fitted(frame, encoded, shape=(1, 2)))
