"""Frames as they come: against columns made by hand, and in all languages of the exports."""

import pickle
import shutil
import sqlite3
import subprocess
from contextlib import closing
from datetime import date
from itertools import pairwise

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import xlogy
from sklearn.compose import make_column_transformer
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pnsklearn import RuleCard, SMaLLClassifier
from pnsklearn._small._frame import find_levels, read
from pnsklearn._small._levels import level_groups, level_sets
from pnsklearn.displays import PrototypeDisplay
from tests._small.test_card import by_json

FAST = {"n_init": 2, "random_state": 0}


@pytest.fixture(scope="module")
def frame():
    """A number with gaps and a unit, a category with gaps, truth values, counts; and labels."""
    rng = np.random.default_rng(0)
    n = 300
    X = pd.DataFrame({"age (years)": rng.normal(60, 10, n)})
    X["ward"] = rng.choice(["heart", "lung", "bone", "it's \"\\skin"], n)
    X["smoker"] = rng.random(n) < 0.3
    X["visits"] = rng.integers(0, 5, n)
    score = 0.2 * (X["age (years)"] - 60) + 3 * X["ward"].isin(["heart", "lung"]) + 2 * X["smoker"]
    y = np.where(score + rng.standard_normal(n) > 2.5, "ill", "well")
    X.loc[rng.random(n) < 0.2, "age (years)"] = np.nan
    X.loc[rng.random(n) < 0.1, "ward"] = None
    return X, y


def edges(X):
    """Return rows with unknown levels, and with all that can be missing."""
    odd = X.iloc[:6].copy()
    odd.loc[odd.index[0], "ward"] = "unknown"
    odd.loc[odd.index[1], ["age (years)", "ward"]] = None
    odd.loc[odd.index[2], "age (years)"] = 1e12
    odd.loc[odd.index[3], "age (years)"] = -1e12
    odd["visits"] = odd["visits"].astype(float)
    odd.loc[odd.index[4:], "visits"] = np.nan  # the fit has not seen this
    return pd.concat([X, odd], ignore_index=True)


def by_sql(text, X):
    with closing(sqlite3.connect(":memory:")) as database:
        X.to_sql("rows", database, index=False)
        return np.ravel(database.execute(f"SELECT {text} FROM rows").fetchall())


def by_python(card, X):
    scope: dict = {}
    exec(card.export_python(), scope)
    return np.array([scope["predict"](row) for row in X.to_dict("records")])


def by_c(source, card, X, folder):
    """Return what a compiled card says; it is told of levels by the numbers in the comment."""
    columns, codes = [], {}
    for line in source.splitlines():
        if line.startswith(" *     x["):
            columns.append(line.split('"', 1)[1].rsplit('"', 1)[0])
        elif " for " in line:
            code, level = line.removeprefix(" *").strip().split(" for ", 1)
            codes[columns[-1], level[1:-1].replace("\\\\", "\\")] = float(code)
    levels = {column for column, _ in codes}
    rows = [
        [
            np.nan if pd.isna(row[c]) else codes.get((c, row[c]), -1.0) if c in levels else row[c]
            for c in columns
        ]
        for row in X.to_dict("records")
    ]
    table = ",\n".join("{" + ",".join(c_number(float(v)) for v in row) + "}" for row in rows)
    main = f"""
    #include <stdio.h>
    static const double rows[][{len(columns)}] = {{{table}}};
    int main(void) {{
        for (int i = 0; i < {len(rows)}; i++) printf("%d", small_predict(rows[i]));
    }}
    """
    (folder / "card.c").write_text(f"{source}{main}")
    run = ["gcc", "-std=c99", "-Wall", "-Werror", "-ffp-contract=off", "card.c", "-o", "card"]
    subprocess.run(run, cwd=folder, check=True)
    out = subprocess.run(["./card"], cwd=folder, check=True, capture_output=True, text=True).stdout
    return card.classes[np.array([int(digit) for digit in out])]


def c_number(value):
    return "0.0 / 0.0" if np.isnan(value) else repr(value)


@pytest.mark.parametrize(
    ("shape", "params"),
    [((1, 4), {}), ((2, 3), {"positive_class": "well"}), ((2, 3), {"binarize": "quantile"})],
)
def test_exports_are_predict_on_every_row(shape, params, frame, tmp_path):
    X, y = frame
    model = SMaLLClassifier(*shape, **FAST, **params).fit(X, y)
    card, rows = RuleCard.from_estimator(model), edges(X)
    expected = model.predict(rows)
    assert len(set(expected)) == 2
    assert_array_equal(card.predict(rows), expected)
    assert_array_equal(by_python(card, rows), expected)
    assert_array_equal(by_sql(model.export_sql(), rows), expected)
    assert_array_equal(by_json(card, rows), expected)
    if shutil.which("gcc"):
        assert_array_equal(by_c(model.export_c(), card, rows, tmp_path), expected)


def test_duckdb(frame):
    duckdb = pytest.importorskip("duckdb")
    model = SMaLLClassifier(2, 3, **FAST).fit(*frame)
    rows = edges(frame[0])
    found = duckdb.sql(f"SELECT {model.export_sql(dialect='duckdb')} FROM rows").fetchall()
    assert_array_equal(np.ravel(found), model.predict(rows))


def test_truth_values_are_not_multiplied(frame):
    model = SMaLLClassifier(1, 4, **FAST).fit(*frame)
    for text in (model.export_sql(dialect="postgresql"), model.export_sql()):
        assert '* "smoker"' not in text
        assert '(CASE WHEN "smoker" THEN' in text


def test_truth_values_with_gaps_are_objects_in_pandas(frame):
    X, y = frame
    X = X.astype({"smoker": object})
    X.loc[X.index[:30], "smoker"] = None
    model = SMaLLClassifier(1, 4, **FAST).fit(X, y)
    assert '(CASE WHEN "smoker" THEN' in model.export_sql()
    assert_array_equal(by_sql(model.export_sql(), X), model.predict(X))


def test_integers_take_conditions(frame):
    X, y = frame
    model = SMaLLClassifier(1, 4, **FAST).fit(X, y)
    source = model.export_c(X, fixed_point=24)
    assert "It agrees with the floating-point model on 300 of 300 rows" in " ".join(
        source.replace("*", " ").split()
    )
    assert "ward is " in source or "ward in " in source


def test_rules_name_groups_units_and_gaps(frame):
    text = SMaLLClassifier(1, 4, **FAST).fit(*frame).rules()
    assert "[ward in {heart, lung}]" in text or "[ward in {bone, it's" in text
    assert "* age (years)" in text
    assert "\nage (years) counts as 59 where missing" in text
    named = SMaLLClassifier(1, 4, **FAST).fit(*frame).rules(["alter", "ort", "c", "d"])
    assert "alter" in named and "[ort in {" in named


def test_as_polars(frame):
    X, y = frame
    expected = SMaLLClassifier(2, 3, **FAST).fit(X, y)
    rows = pl.from_pandas(X)
    for convert in (rows, rows.with_columns(pl.col("ward").cast(pl.Categorical))):
        found = SMaLLClassifier(2, 3, **FAST).fit(convert, y)
        assert_array_equal(found.predict_proba(convert), expected.predict_proba(X))
        assert found.rules() == expected.rules()
    as_array = X.to_numpy(dtype=object)
    with pytest.warns(UserWarning, match="valid feature names"):
        assert_array_equal(expected.predict(as_array), expected.predict(X))


def test_a_category_is_its_conditions_by_hand(frame):
    """The fit is that of a column for each level, and one for the two that go together."""
    X, y = frame
    y = y[X["ward"].notna()]
    X = X[X["ward"].notna()].drop(columns="age (years)")
    by_hand = pd.DataFrame({"pair": X["ward"].isin(["heart", "lung"])})
    for level in ("heart", "lung", "it's \"\\skin", "bone"):
        by_hand[level] = X["ward"] == level
    by_hand[["smoker", "visits"]] = X[["smoker", "visits"]]
    for shape in ((1, 3), (2, 2)):
        model = SMaLLClassifier(*shape, **FAST).fit(X, y)
        expected = SMaLLClassifier(*shape, **FAST).fit(by_hand.astype(float), y)
        assert_allclose(model.objective_, expected.objective_, rtol=1e-9)
        assert_array_equal(model.predict(X), expected.predict(by_hand.astype(float)))


def test_missing_is_a_condition():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.standard_normal((200, 2)), columns=["income", "age"])
    X.loc[rng.random(200) < 0.3, "income"] = np.nan
    y = X["income"].isna() ^ (rng.random(200) < 0.05)
    model = SMaLLClassifier(1, 1, **FAST).fit(X, y)
    assert "1.  income is missing\n" in model.rules()
    array = SMaLLClassifier(1, 1, **FAST).fit(X.to_numpy(), y)
    assert array.rules(["income", "age"]) == model.rules()
    nullable = X.convert_dtypes()
    assert_array_equal(model.predict(nullable), model.predict(X))
    in_single = SMaLLClassifier(1, 2, **FAST).fit(X.to_numpy(np.float32), y)
    card = RuleCard.from_estimator(in_single)
    single = X.to_numpy(np.float32)
    assert_array_equal(card.predict(single), in_single.predict(single))


def test_a_gap_counts_as_the_mean(frame):
    X, y = frame
    model = SMaLLClassifier(1, 4, **FAST).fit(X, y)
    filled = X.copy()
    missing = X["age (years)"].isna()
    filled["age (years)"] = X["age (years)"].fillna(X["age (years)"].mean())
    change = model.decision_function(X) - model.decision_function(filled)
    assert_allclose(change[~missing], 0)
    assert np.ptp(change[missing]) < 1e-12  # the condition that it is missing, or nothing


def test_a_gap_that_the_fit_has_not_seen_keeps_a_rule_from_firing():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((150, 2))
    for positive_class in (False, True):
        model = SMaLLClassifier(2, 1, positive_class=positive_class, **FAST)
        model.fit(X, X.max(axis=1) > 0.5)
        assert not hasattr(model, "_terms_")
        rows = X.copy()
        rows[:50, 0] = rows[25:75, 1] = np.nan
        found = model.predict(rows)
        assert_array_equal(found, RuleCard.from_estimator(model).predict(rows))
        table = pd.DataFrame(rows, columns=["x0", "x1"])
        assert_array_equal(by_sql(model.export_sql(), table), found)
        assert_allclose(model.predict_proba(rows)[25:50], 0.5)
        assert_array_equal(model.apply(rows)[25:50], -1)
        assert_array_equal(found[25:50], not positive_class)


def test_numbers_without_gaps_are_left_as_they_are(frame):
    """A frame of numbers fits to the last bit what its array does."""
    X, y = frame
    X = X[["smoker", "visits"]]
    model = SMaLLClassifier(2, 2, **FAST).fit(X, y)
    expected = SMaLLClassifier(2, 2, **FAST).fit(X.to_numpy(dtype=float), y)
    assert_array_equal(model.coef_, expected.coef_)
    assert read(X, None) is X
    assert not hasattr(model, "_terms_")


def test_weights_are_repetition(frame):
    X, y = frame
    weight = np.random.default_rng(0).integers(0, 3, len(y))
    model = SMaLLClassifier([(1, 2), (2, 1)], **FAST).fit(X, y, sample_weight=weight)
    rows = np.repeat(np.arange(len(y)), weight)
    repeated = SMaLLClassifier([(1, 2), (2, 1)], **FAST).fit(X.iloc[rows], y[rows])
    assert_allclose(model.objective_, repeated.objective_, rtol=1e-9)
    assert_array_equal(model.predict(X), repeated.predict(X))


def test_levels_are_grouped_within_the_folds():
    """Many levels tell nothing of labels made by chance, and the folds say so."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"number": np.arange(300).astype(str), "town": rng.integers(0, 40, 300)})
    X["town"] = "t" + X["town"].astype(str)
    y = rng.random(300) < 0.5
    model = SMaLLClassifier([(1, 2), (2, 1)], cv=3, **FAST).fit(X, y)
    assert model.selection_.error.min() > 0.4
    assert "number" not in model.rules()


def test_scores_of_scikit_learn_take_frames(frame):
    X, y = frame
    model = SMaLLClassifier(1, 3, **FAST)
    for rows in (X, pl.from_pandas(X)):
        assert cross_val_score(model, rows, y, cv=3, error_score="raise").mean() > 0.8


def test_persistence_and_pictures(frame):
    pytest.importorskip("matplotlib").use("agg")
    X, y = frame
    model = pickle.loads(pickle.dumps(SMaLLClassifier(2, 2, **FAST).fit(X, y)))
    display = PrototypeDisplay.from_estimator(model, X)
    assert any(name.startswith("ward in {") for name in display.term_names)
    assert len(display.term_names) == np.count_nonzero(model.coef_.any(axis=0))


def test_behind_other_steps(frame):
    """What a pipeline did to the columns before is folded back."""
    X, y = frame
    scaled = make_column_transformer(
        (StandardScaler(), ["age (years)"]), ("passthrough", ["ward", "smoker"])
    ).set_output(transform="pandas")
    pipeline = make_pipeline(scaled, SMaLLClassifier(1, 3, **FAST)).fit(X, y)
    card, rows = RuleCard.from_estimator(pipeline), edges(X)
    assert_array_equal(card.predict(rows), pipeline.predict(rows))
    assert "[ward in {" in card.rules()
    (fill,) = (term.fill for term in card.terms if term.kind == "number" and term.fill)
    assert_allclose(fill, X["age (years)"].mean())
    assert card.booleans == ["smoker"]


# What is read, and refused


def test_columns_are_read_by_what_they_hold():
    X = pd.DataFrame({"a": [1, None, 2.5], "b": ["u", None, "v"]}, index=[3, 3, 3])
    X["c"] = pd.Series([True, None, False], dtype="boolean").array
    X["d"] = pd.Series([1, 2, None], dtype=object).array
    X["e"] = pd.Categorical([2, None, 1])
    X["f"] = pd.Series([None, "w", 7], dtype=object).array
    levels = find_levels(X)
    assert levels == [None, ["u", "v"], None, None, [1, 2], [7, "w"]]
    codes = np.asarray(read(X, levels))
    nan = np.nan
    expected = [[1, 0, 1, 1, 1, nan], [nan, nan, nan, 2, nan, 1], [2.5, 1, 0, nan, 0, 0]]
    assert_array_equal(codes, expected)
    unknown = np.array([["9", "x", True, None, 3, None]], dtype=object)
    assert_array_equal(read(unknown, levels), [[9, -1, 1, nan, -1, nan]])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([date(2020, 1, 1), None], "'a' holds date; turn it into numbers"),
        ([[1], [2]], "'a' holds list; turn it into numbers or text"),
    ],
)
def test_other_objects_are_refused_with_the_remedy(values, message):
    X = pd.DataFrame({"a": pd.Series(values * 20, dtype=object)})
    with pytest.raises(ValueError, match=message):
        SMaLLClassifier(1, 1).fit(X, [0, 1] * 20)


def test_rows_of_another_shape_are_refused(frame):
    X, y = frame
    model = SMaLLClassifier(1, 2, **FAST).fit(X, y)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X[["ward", "smoker"]])
    with pytest.raises(ValueError, match="2 features, but SMaLLClassifier is expecting 4"):
        model.predict(X[["ward", "smoker"]].to_numpy(dtype=object))


# Groups of levels


def test_level_groups_by_hand():
    total = np.array([100.0, 100, 100, 100, 3, 0])
    right = np.array([80.0, 20, 78, 19, 3, 0])
    assert level_groups(total, right) == [[3, 1], [2, 0, 4]]


@pytest.mark.parametrize("seed", range(5))
def test_joining_neighbours_is_the_best_of_all_orders(seed):
    """Against the criterion of all groupings of six levels that are cut in their order."""
    rng = np.random.default_rng(seed)
    total = rng.integers(200, 400, 6).astype(float)
    right = np.round(total * rng.choice([0.1, 0.5, 0.9], 6))
    order = np.argsort((right + 0.5) / (total + 1), kind="stable")

    def criterion(groups):
        found = len(groups) * np.log(total.sum())
        for group in groups:
            n, k = total[group].sum(), right[group].sum()
            found -= 2 * (xlogy(k, k / n) + xlogy(n - k, 1 - k / n))
        return found

    best = min(
        criterion([order[a:b] for a, b in pairwise([0, *np.flatnonzero(cuts) + 1, 6])])
        for cuts in np.array(np.meshgrid(*[[0, 1]] * 5)).reshape(5, -1).T
        if cuts.sum() >= 1
    )
    assert_allclose(criterion(level_groups(total, right)), best)


def test_level_sets():
    codes = np.repeat([0.0, 1, 2, np.nan], [60, 50, 40, 50])
    each = {(0.0,), (1.0,), (2.0,), (None,)}
    even = level_sets(codes, 3, np.arange(200) % 2 == 0, np.ones(200))
    assert set(even) == each and len(even) == 4
    positive = np.isin(codes, [0, 2])
    grouped = level_sets(codes, 3, positive, np.ones(200))
    assert set(grouped) == each | {(0.0, 2.0)}
    two = level_sets(codes[:110], 3, np.arange(110) % 2 == 0, np.ones(110))
    assert two == [(1.0,)]
    assert level_sets(codes[:60], 3, positive[:60], np.ones(60)) == []
    assert level_sets(codes[150:], 0, positive[150:], np.ones(50)) == []
    # Rare levels have none of their own, but together they may.
    codes = np.r_[np.repeat(np.arange(10.0), 5), np.full(950, 10.0)]
    rare = level_sets(codes, 11, codes < 10, np.ones(1000))
    assert rare == [tuple(np.arange(10.0))]
