"""The exported text, C and SQL against the rules themselves, on every row."""

import ctypes
import itertools
import re
import shutil
import sqlite3
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.sparse import csc_array, csr_array, csr_matrix
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from pnsklearn._small._export import (
    check_feature_names,
    parameter_bytes,
    to_c,
    to_fixed_point_c,
    to_sql,
    to_text,
)
from pnsklearn._small._rules import Rules

COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-std=c99"]

WEIRD = [
    "a */ int evil; /*",
    "two\nlines // x",
    'quote " and \' and ""',
    "trigraph ??/",
    "backslash \\",
    "größe → 数",
    "{braces} {} {0} %s",
    "a > 2; DROP TABLE rows --",
    "/*/",
    "**//??",
    "select",
    "",
]


def names_of(d):
    return [f"x{i}" for i in range(d)]


def random_rules(rng, p=3, k=3, d=12, union=1, binarised=False, classes=(0, 1)):
    """Rules of k random terms each, some of them shared; on normal data, both classes occur."""
    coef = np.zeros((p, d))
    for row in coef:
        row[rng.permutation(d)[:k]] = rng.standard_normal(k)
    feature, threshold = np.arange(d), None
    if binarised:
        feature, threshold = np.sort(rng.integers(0, d, d)), rng.uniform(-1, 1, d)
    rules = Rules(coef, np.zeros(p), feature, threshold, np.array(classes), union)
    intercept = []
    for scores in rules.scores(rng.standard_normal((500, d))).T:
        values = np.unique(scores)
        i = np.searchsorted(values, np.quantile(scores, 0.5 ** (1 / p))).clip(1, len(values) - 1)
        intercept.append(-(values[i - 1] + values[i]) / 2)
    return replace(rules, intercept=np.array(intercept))


def learned_rules(X, y, rng, union=1):
    """Three logistic regressions on three features each, in original units."""
    scaler = StandardScaler().fit(X)
    varying = np.flatnonzero(X.std(axis=0) > 0.1 * X.std(axis=0).mean())
    coef, intercept = np.zeros((3, X.shape[1])), np.zeros(3)
    for j in range(3):
        chosen = rng.permutation(varying)[:3]
        model = LogisticRegression().fit(scaler.transform(X)[:, chosen], y == union)
        coef[j, chosen] = model.coef_[0] / scaler.scale_[chosen]
        intercept[j] = model.intercept_[0] - coef[j, chosen] @ scaler.mean_[chosen] - 0.5
    return Rules(coef, intercept, np.arange(X.shape[1]), None, np.array([0, 1]), union)


def tied_problem(rng, union, shift, digits=None):
    """A rule of four terms whose score is exactly zero on each row, or a bit beside zero.

    The last term, of coefficient -1, is what the others sum to in their order, in plain double
    arithmetic; another order or a fused product misses it on most rows.
    """
    coef = np.append(rng.standard_normal(3), -1.0)
    intercept = rng.standard_normal(1)
    if digits is not None:
        coef, intercept = coef.round(digits), intercept.round(digits)
    X = rng.standard_normal((300, 4))
    total = intercept[0]
    for c, x in zip(coef[:3], X.T[:3], strict=True):
        total = total + c * x
    X[:, 3] = total if shift == 0 else np.nextafter(total, -shift * np.inf)
    return Rules(coef[None], intercept, np.arange(4), None, np.array([0, 1]), union), X


def predicted(rules, X):
    """The class index by the definition, row by row and term by term in Python floats."""
    X = X.toarray() if hasattr(X, "toarray") else X
    classes = []
    for x in X.astype(np.float64).tolist():
        scores = []
        for coef, score in zip(rules.coef.tolist(), rules.intercept.tolist(), strict=True):
            for t in np.flatnonzero(coef):
                value = x[rules.feature[t]]
                if rules.threshold is not None:
                    value = 1.0 if value > rules.threshold[t] else 0.0
                score = score + coef[t] * value
            scores.append(score)
        decision = max(scores) if rules.union == 1 else -max(scores)
        classes.append(int(decision > 0))
    return np.array(classes)


def build(source, folder, *flags):
    """Compile to a shared library; return small_predict."""
    library = folder / f"small{len(list(folder.iterdir()))}.so"
    (folder / "small.c").write_text(source, encoding="utf-8")
    command = [COMPILER, *STRICT, *flags, "-fPIC", "-shared"]
    subprocess.run([*command, "-o", library, folder / "small.c"], check=True)
    return ctypes.CDLL(str(library)).small_predict


def run(function, X):
    """Call small_predict on each row of a dense array of the right dtype."""
    X = np.ascontiguousarray(X)
    return np.array([function(ctypes.c_void_p(row.ctypes.data)) for row in X])


def run_sql(expression, X, names, kind="REAL"):
    """Evaluate an SQL expression on each row, in order."""
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    with sqlite3.connect(":memory:") as connection:
        columns = ", ".join(f"{name} {kind}" for name in quoted)
        connection.execute(f"CREATE TABLE data (row_number INTEGER PRIMARY KEY, {columns})")
        places = ", ".join(["?"] * (len(names) + 1))
        rows = [(i, *row) for i, row in enumerate(X.tolist())]
        connection.executemany(f"INSERT INTO data VALUES ({places})", rows)
        labels = [
            label
            for (label,) in connection.execute(f"SELECT {expression} FROM data ORDER BY row_number")
        ]
    connection.close()
    return labels


def quantised(source, X, bits):
    """The integer input of fixed-point code, from the macros in its text."""
    macros = re.findall(r"#define SMALL_X(\d+)_FRACTION_BITS (-?\d+)", source)
    integers = np.zeros(X.shape, dtype=np.int32)
    for column, fraction_bits in ((int(i), int(f)) for i, f in macros):
        values = np.rint(X[:, column] * 2.0**fraction_bits)
        assert np.abs(values).max() <= 2 ** (bits - 2)  # one of the bits is free
        integers[:, column] = values
    return integers


KINDS = list(itertools.product([0, 1], [False, True]))


# Rules


@pytest.mark.parametrize("union, binarised", KINDS)
@pytest.mark.parametrize(
    "convert", [csr_array, csc_array, csr_matrix, np.float32, np.asfortranarray]
)
def test_scores_and_decision(union, binarised, convert, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    rules = random_rules(rng, union=union, binarised=binarised)
    X = rng.standard_normal((50, 12)).round(1) * (rng.random((50, 12)) < 0.5)
    X = convert(X)
    scores = rules.scores(X)
    assert scores.shape == (50, 3) and scores.dtype == np.float64
    assert_array_equal(rules.decision(scores) > 0, predicted(rules, X) == 1)
    dense = X.toarray() if hasattr(X, "toarray") else X
    values = dense[:, rules.feature].astype(np.float64)
    if binarised:
        values = values > rules.threshold
    np.testing.assert_allclose(scores, values @ rules.coef.T + rules.intercept, atol=1e-13)


def test_scores_start_from_the_intercept_and_follow_the_terms():
    rules = Rules(
        np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0]]), np.array([1e16, 1.0]),
        np.array([2, 0, 1]), None, np.array([0, 1]), 1,
    )  # fmt: skip
    X = np.array([[1.0, -1e16, 1.0]])
    # ((1e16 + 1) + 1) - 1e16 is 0 in doubles, (1 + 1) - 1e16 is exact.
    assert_array_equal(rules.scores(X), [[0.0, 2.0 - 1e16]])


def test_scores_leave_out_what_no_rule_reads():
    rules = random_rules(np.random.default_rng(0), d=6)
    rules = replace(rules, coef=rules.coef * [1, 1, 1, 1, 1, 0])
    X = np.ones((3, 6))
    expected = rules.scores(X)
    X[:, 5] = np.nan
    assert_array_equal(rules.scores(X), expected)


@pytest.mark.parametrize("threshold", [None, np.zeros(4)])
@pytest.mark.parametrize("X", [np.ones((3, 4)), csr_array(np.ones((3, 4)))])
def test_scores_of_rules_without_terms(threshold, X):
    rules = Rules(
        np.zeros((2, 4)), np.array([-1.0, 2.0]), np.arange(4), threshold, np.array([0, 1]), 1
    )
    assert_array_equal(rules.scores(X), [[-1.0, 2.0]] * 3)


# Names


def test_feature_names():
    assert check_feature_names(None, None, 3) == ["x0", "x1", "x2"]
    assert check_feature_names(None, np.array(["a", "b"], dtype=object), 2) == ["a", "b"]
    given = check_feature_names(np.array(["c", "d"]), ["a", "b"], 2)
    assert given == ["c", "d"] and {type(name) for name in given} == {str}


@pytest.mark.parametrize(
    "names, message",
    [
        (["a", "b"], "feature_names has 2 names; X has 3 features."),
        (["a", 1, "b"], "feature_names must be strings; got 1."),
        (["a", "b", "a"], "feature_names must differ; 'a' appears 2 times."),
        ("abc", "feature_names must be a list of strings; got the string 'abc'."),
    ],
)
def test_wrong_feature_names(names, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_feature_names(names, None, 3)


# Text


def lines_of(rules, names):
    """Return the lines of the text that say when the rules fire, the header first."""
    n_rules = len(rules.intercept)
    lines = to_text(rules, names, np.zeros(n_rules), np.zeros(n_rules)).split("\n")
    assert all(line.endswith("fires on none of the training rows") for line in lines[2::2])
    return [lines[0], *lines[1::2]]


def test_text():
    rules = Rules(
        np.array([[0.42, -1.3, 0.0], [0.0, 0.0, -2.0], [-1.0, 0.0, 123456.0]]),
        np.array([3.14159, 5.0, 0.0]),
        np.arange(3),
        None,
        np.array(["benign", "malignant"]),
        1,
    )
    names = ["worst radius", "mean\ntexture", "area"]
    assert to_text(rules, names, [0.34123, 0.0, 1.0], [0.9666, np.nan, 1.0]) == (
        "malignant if any of these rules fires, otherwise benign:\n"
        "1.  0.42 * worst radius  - 1.3 * mean texture  + 3.142  > 0\n"
        "    fires on 34.1 % of the training rows, right on 96.7 % of them\n"
        "2.  area < 2.5\n"
        "    fires on none of the training rows\n"
        "3.  -1 * worst radius  + 1.235e+05 * area  > 0\n"
        "    fires on 100 % of the training rows, right on 100 % of them"
    )


def test_text_of_the_other_union():
    rules = Rules(
        np.array([[4.0, 0.0], [-4.0, 0.0], [1.0, 1.0]]),
        np.array([0.0, 2.0, -1.0]),
        np.arange(2),
        None,
        np.array([False, True]),
        0,
    )
    assert lines_of(rules, ["a", "b"]) == [
        "False if any of these rules fires, otherwise True:",
        "1.  a >= 0",
        "2.  a <= 0.5",
        "3.  1 * a  + 1 * b  - 1  >= 0",
    ]


@pytest.mark.parametrize("union, at_zero", [(0, "always"), (1, "never")])
def test_text_of_thresholds(union, at_zero):
    rules = Rules(
        np.array(
            [[1.2, 0, -0.5], [0, 2, 0], [0, -2, 0], [0, 0.5, 0], [0, -0.5, 0], [0, 0, 0], [0, 0, 0]]
        ),
        np.array([-0.25, -1.0, 1.0, -1.0, 1.0, 0.0, 7.0]),
        np.array([0, 0, 1]),
        np.array([1.5, 16.8, 2 / 3]),
        np.array([-1, 1]),
        union,
    )
    sign = ">=" if union == 0 else ">"
    assert lines_of(rules, ["a > b", "c"])[1:] == [
        f"1.  1.2 [a > b > 1.5]  - 0.5 [c > 0.6667]  - 0.25  {sign} 0",
        "2.  a > b > 16.8",
        "3.  a > b <= 16.8",
        "4.  never",
        "5.  always",
        f"6.  {at_zero}",
        "7.  always",
    ]


def test_text_of_one_rule_and_of_ten():
    rules = Rules(np.ones((1, 1)), np.array([-0.5]), np.arange(1), None, np.array(["no", "yes"]), 1)
    assert lines_of(rules, ["a"]) == ["yes if this rule fires, otherwise no:", "1.  a > 0.5"]
    rules = replace(rules, coef=np.ones((10, 1)), intercept=-np.arange(10.0))
    lines = to_text(rules, ["a"], [0.5] * 10, [1.0] * 10).split("\n")
    assert lines[1] == " 1.  a > 0" and lines[-2] == "10.  a > 9"
    assert lines[-1] == "     fires on 50 % of the training rows, right on 100 % of them"


# C


@needs_compiler
@pytest.mark.parametrize("union, binarised", KINDS)
def test_c_on_random_models(union, binarised, tmp_path, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    X = rng.standard_normal((500, 12))
    for p, k in [(1, 1), (3, 3), (12, 5)]:
        rules = random_rules(rng, p, k, union=union, binarised=binarised)
        expected = predicted(rules, X)
        assert 0 < expected.mean() < 1
        assert_array_equal(run(build(to_c(rules, names_of(12)), tmp_path, "-Os"), X), expected)


@needs_compiler
@pytest.mark.parametrize("union", [0, 1])
def test_c_on_breast_cancer(union, tmp_path, global_random_seed):
    data = load_breast_cancer()
    rng = np.random.default_rng(global_random_seed)
    rules = learned_rules(data.data, data.target, rng, union)
    expected = predicted(rules, data.data)
    assert np.mean(expected == data.target) > 0.7
    assert_array_equal(run(build(to_c(rules, data.feature_names), tmp_path), data.data), expected)


@needs_compiler
@pytest.mark.parametrize("union", [0, 1])
@pytest.mark.parametrize("shift", [-1, 0, 1])
@pytest.mark.parametrize("flags", [["-Os"], ["-O3", "-march=native", "-ffp-contract=off"]])
def test_c_adds_in_the_order_of_the_rules(union, shift, flags, tmp_path, global_random_seed):
    if subprocess.run([COMPILER, *flags, "-E", "-x", "c", "-"], input=b"").returncode != 0:
        pytest.skip("the compiler does not know these flags")
    rules, X = tied_problem(np.random.default_rng(global_random_seed), union, shift)
    assert_array_equal(np.sign(rules.scores(X)), np.full((300, 1), float(shift)))
    fires = shift > 0 or (shift == 0 and union == 0)
    found = run(build(to_c(rules, names_of(4)), tmp_path, *flags), X)
    assert_array_equal(found, union if fires else 1 - union)


@needs_compiler
@pytest.mark.parametrize("union", [0, 1])
@pytest.mark.parametrize("intercept", [-0.5, 0.0, 0.5])
@pytest.mark.parametrize("threshold", [None, np.zeros(2)])
def test_rules_without_terms(union, intercept, threshold, tmp_path):
    rules = Rules(
        np.zeros((2, 2)), np.array([intercept, -1.0]), np.arange(2), threshold, np.array([0, 1]),
        union,
    )  # fmt: skip
    X = np.ones((2, 2))
    expected = predicted(rules, X)
    assert_array_equal(run(build(to_c(rules, names_of(2)), tmp_path), X), expected)
    source, rows = to_fixed_point_c(rules, names_of(2), X, 16)
    assert len(rows) == 0
    assert_array_equal(run(build(source, tmp_path), X.astype(np.int32)), expected)
    assert run_sql(to_sql(rules, names_of(2)), X, names_of(2)) == expected.tolist()


@needs_compiler
@pytest.mark.parametrize("binarised", [False, True])
def test_c_stands_alone(binarised, tmp_path):
    """It compiles without any library, to no undefined symbol, with whatever names and labels."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((50, 12))
    rules = random_rules(rng, 12, 12, binarised=binarised, classes=WEIRD[:2])
    sources = [to_c(rules, WEIRD), to_fixed_point_c(rules, WEIRD, X, 16)[0]]
    for source, includes in zip(sources, [[], ["#include <stdint.h>"]], strict=True):
        assert source.isascii()
        assert [line for line in source.splitlines() if "include" in line] == includes
        (tmp_path / "small.c").write_text(source)
        target = tmp_path / "small.o"
        flags = [*STRICT, "-Os", "-ffreestanding", "-nostdlib", "-c", "-o", target]
        subprocess.run([COMPILER, *flags, tmp_path / "small.c"], check=True)
        if shutil.which("nm"):
            undefined = subprocess.run(["nm", "-u", target], check=True, capture_output=True)
            assert undefined.stdout.strip() == b""
    assert_array_equal(run(build(sources[0], tmp_path), X), predicted(rules, X))


def test_c_source():
    rules = Rules(
        np.array([[0.0, 0.1, -1e-5], [0.0, 0.0, 3.0]]), np.array([-1.5, 0.0]), np.arange(3), None,
        np.array(["no", "yes"]), 1,
    )  # fmt: skip
    source = to_c(rules, ["a", "b*/", "c"])
    header, code = source.split(" */\n")
    assert 'Returns 1, "yes", if any rule fires, else 0, "no".' in header
    assert re.findall(r"x\[.*", header) == ['x[1]  "b* /"', 'x[2]  "c"']
    assert code == (
        "int small_predict(const double *x)\n"
        "{\n"
        "    if (-1.5 + 0.1 * x[1] - 1e-05 * x[2] > 0) return 1;\n"
        "    if (0.0 + 3.0 * x[2] > 0) return 1;\n"
        "    return 0;\n"
        "}\n"
    )
    code = to_c(replace(rules, threshold=np.array([0.0, -0.5, 2.0]), union=0), list("abc"))
    assert "(-1.5 + (x[1] > -0.5 ? 0.1 : 0) - (x[2] > 2.0 ? 1e-05 : 0) >= 0) return 0;" in code


# C in integers


@needs_compiler
@pytest.mark.parametrize("union", [0, 1])
@pytest.mark.parametrize("load", [load_breast_cancer, load_digits])
def test_fixed_point_on_real_data(load, union, tmp_path, global_random_seed):
    X, y = load(return_X_y=True)
    y = (y == 1).astype(int)
    rng = np.random.default_rng(global_random_seed)
    n_models, n_differing = 5, 0
    for _ in range(n_models):
        rules = learned_rules(X, y, rng, union)
        source, rows = to_fixed_point_c(rules, names_of(X.shape[1]), X, 16)
        found = run(build(source, tmp_path, "-Os"), quantised(source, X, 16))
        assert_array_equal(np.flatnonzero(found != predicted(rules, X)), rows)
        n_differing += len(rows)
    assert n_differing <= 0.001 * n_models * len(X)


@needs_compiler
@pytest.mark.parametrize("union, binarised", KINDS)
@pytest.mark.parametrize("bits", [8, 12, 16, 31, 32])
def test_fixed_point_says_where_it_differs(bits, union, binarised, tmp_path, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    rules = random_rules(rng, 3, 4, union=union, binarised=binarised)
    # Units from 1e-6 to 1e12; many values in a binade, so that 8 bits cannot tell them apart.
    unit = 10.0 ** np.linspace(-6, 12, 12)
    rules = replace(rules, coef=rules.coef / (1.0 if binarised else unit))
    if binarised:
        rules = replace(rules, threshold=rules.threshold * unit[rules.feature])
    X = rng.standard_normal((1000, 12)) * unit
    source, rows = to_fixed_point_c(rules, names_of(12), X, bits)
    found = run(build(source, tmp_path), quantised(source, X, bits))
    assert_array_equal(np.flatnonzero(found != predicted(rules, X)), rows)
    assert len(rows) <= (60 if bits == 8 else 8 if bits == 12 else 1)
    header = " ".join(source.split("*/")[0].replace("\n *", "").split())
    assert f"on {1000 - len(rows)} of 1000 rows" in header
    if bits == 8:
        assert len(rows) > 0  # the comparison above can fail
        listed = re.search(r"differs on rows ([\d, ]+)", header).group(1)
        assert listed.strip() == ", ".join(str(row) for row in rows[:20])
        assert (f"and {len(rows) - 20} more" in header) == (len(rows) > 20)
    again, same_rows = to_fixed_point_c(rules, names_of(12), csr_array(X), bits)
    assert again == source
    assert_array_equal(same_rows, rows)


@needs_compiler
@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("intercept", [0.0, 1e-20, -1.0, 1e15])
def test_no_sum_overflows(bits, intercept, tmp_path, global_random_seed):
    """At the ends of the range, C agrees with integers that have no end."""
    rng = np.random.default_rng(global_random_seed)
    coef = rng.choice([-1.0, 1.0], 12) * rng.uniform(0.98, 1.0, 12)
    rules = Rules(coef[None], np.array([intercept]), np.arange(12), None, np.array([0, 1]), 1)
    source, _ = to_fixed_point_c(rules, names_of(12), rng.standard_normal((100, 12)), bits)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    most = np.where(coef > 0, high, low)
    X = np.array([most, np.where(coef > 0, low, high), *rng.choice([low, high], (50, 12))])
    condition = re.search(r"if \((.*) > 0\)", source).group(1)
    constant, *integers = (int(c) for c in re.findall(r"(\d+)LL", condition))
    assert max(integers, default=0) < 2 ** (bits - 1)
    assert constant + sum(integers) * 2 ** (bits - 1) < 2**63
    if bits == 32 and abs(intercept) <= 1:
        assert max(integers) > 2**27  # no coarser than the sum asks for
    exact = [eval(condition.replace("LL", ""), {"x": row}) for row in X.tolist()]
    found = run(build(source, tmp_path), X.astype(np.int32))
    assert_array_equal(found, np.array(exact) > 0)


def test_fixed_point_of_values_on_its_grid():
    """Integer features with a half-way threshold, and ties at zero, are exact."""
    rng = np.random.default_rng(0)
    X = rng.integers(-10, 11, (500, 3)).astype(float)
    for union in (0, 1):
        rules = Rules(
            np.array([[1.0, -2.0, 0.5]]), np.array([0.5]), np.arange(3), None, np.array([0, 1]),
            union,
        )  # fmt: skip
        assert np.any(rules.scores(X) == 0)
        assert len(to_fixed_point_c(rules, names_of(3), X, 8)[1]) == 0
        rules = replace(rules, threshold=np.array([0.0, 3.0, -2.5]), intercept=np.array([-0.5]))
        assert np.any(rules.scores(X) == 0)
        assert len(to_fixed_point_c(rules, names_of(3), X, 8)[1]) == 0


def test_fixed_point_uses_the_bits():
    rules = Rules(
        np.array([[3.0, -0.001, 0.0]]), np.array([-1.0]), np.arange(3), None, np.array([0, 1]), 1
    )
    X = np.array([[1.0, 5000.0, 7.0], [-0.3, 20.0, 7.0]])
    source, _ = to_fixed_point_c(rules, list("abc"), X, 8)
    # 1 < 2, so 1 * 2**5 < 2**6; 5000 < 2**13, so 5000 * 2**-7 < 2**6; 3 * 2**5 has 7 bits: scale
    # 2**10, in which 0.001 * 2**(10 + 7) is 131: too large, so scale 2**9.
    assert re.findall("#define.*", source) == [
        '#define SMALL_X0_FRACTION_BITS 5 /* "a" */',
        '#define SMALL_X1_FRACTION_BITS -7 /* "b" */',
    ]
    assert "if (-512LL + 48LL * x[0] - 66LL * x[1] > 0) return 1;" in source


def test_fixed_point_makes_room_for_thresholds():
    """A threshold far from the rows is in the range too, and shares the unit of its feature."""
    rules = Rules(
        np.array([[1.0, 2.0]]), np.array([-1.5]), np.array([0, 0]), np.array([-1000.0, 0.5]),
        np.array([0, 1]), 1,
    )  # fmt: skip
    source, rows = to_fixed_point_c(rules, ["a"], np.array([[-1.0], [0.0], [1.0]]), 16)
    assert re.findall("#define.*", source) == ['#define SMALL_X0_FRACTION_BITS 4 /* "a" */']
    assert re.findall(r"x\[0\] > (-?\d+)", source) == ["-16000", "8"]
    assert len(rows) == 0


@pytest.mark.parametrize("bits", [7, 33, 16.0, "16", True, None])
def test_fixed_point_wants_8_to_32_bits(bits):
    rules = random_rules(np.random.default_rng(0))
    with pytest.raises(ValueError, match="fixed_point must be an integer from 8 to 32"):
        to_fixed_point_c(rules, names_of(12), np.ones((2, 12)), bits)


# SQL


@pytest.mark.parametrize("union, binarised", KINDS)
@pytest.mark.parametrize(
    "classes", [["it's", '"b"; --'], [-1, 1], [False, True], [0.5, 1e20]], ids=str
)
def test_sql(union, binarised, classes, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    rules = random_rules(rng, 4, 4, union=union, binarised=binarised, classes=classes)
    X = rng.standard_normal((300, 12))
    expected = predicted(rules, X)
    assert 0 < expected.mean() < 1
    assert run_sql(to_sql(rules, WEIRD), X, WEIRD) == [classes[i] for i in expected]


@pytest.mark.parametrize("union", [0, 1])
@pytest.mark.parametrize("dtype", [object, str])
def test_sql_on_breast_cancer(union, dtype, global_random_seed):
    data = load_breast_cancer()
    rng = np.random.default_rng(global_random_seed)
    rules = learned_rules(data.data, data.target, rng, union)
    rules = replace(rules, classes=data.target_names.astype(dtype))
    expected = [str(data.target_names[i]) for i in predicted(rules, data.data)]
    names = [str(name) for name in data.feature_names]
    assert run_sql(to_sql(rules, names), data.data, names) == expected


@pytest.mark.parametrize("union", [0, 1])
@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_sql_adds_in_the_order_of_the_rules(union, shift, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    rules, X = tied_problem(rng, union, shift, digits=3)
    fires = shift > 0 or (shift == 0 and union == 0)
    found = run_sql(to_sql(rules, names_of(4)), X, names_of(4))
    assert found == [union if fires else 1 - union] * 300


def test_sql_of_integer_columns():
    """Whole coefficients must not make integer arithmetic, which overflows or truncates."""
    rules = Rules(
        np.array([[4e9, -2.0]]), np.array([-3.0]), np.arange(2), None, np.array([0, 1]), 1
    )
    X = np.array([[2**40, 5], [-(2**40), 5], [0, -2], [0, -1]])
    expected = predicted(rules, X).tolist()
    assert expected == [1, 0, 1, 0]
    assert run_sql(to_sql(rules, ["a", "b"]), X, ["a", "b"], "INTEGER") == expected


def test_sql_source():
    rules = Rules(
        np.array([[0.7, 0.0], [0.0, -2.0]]), np.array([-0.5, 1.0]), np.array([1, 0]), None,
        np.array(["no", "it's"]), 1,
    )  # fmt: skip
    assert to_sql(rules, ['a"b', "c"]) == (
        "CASE\n"
        '  WHEN -0.5 + 0.7 * "c" > 0.0\n'
        '    OR 1.0 - 2.0 * "a""b" > 0.0\n'
        "  THEN 'it''s' ELSE 'no'\n"
        "END"
    )
    rules = replace(rules, threshold=np.array([1.5, 3.0]), union=0)
    assert to_sql(rules, ["a", "c"]) == (
        "CASE\n"
        '  WHEN -0.5 + CASE WHEN "c" > 1.5 THEN 0.7 ELSE 0.0 END >= 0.0\n'
        '    OR 1.0 - CASE WHEN "a" > 3.0 THEN 2.0 ELSE 0.0 END >= 0.0\n'
        "  THEN 'no' ELSE 'it''s'\n"
        "END"
    )
    rules = replace(rules, classes=np.array([False, True]))
    assert to_sql(rules, ["a", "c"]).endswith("  THEN 0 ELSE 1\nEND")


# Bytes


@pytest.mark.parametrize(
    "d, column, index_bytes",
    [(256, 255, 1), (257, 256, 2), (1 << 17, 65535, 2), (1 << 17, 65536, 4)],
)
def test_bytes(d, column, index_bytes):
    coef = np.zeros((2, d))
    coef[0, [0, 1]], coef[1, column] = 1.0, -1.0
    rules = Rules(coef, np.zeros(2), np.arange(d), None, np.array([0, 1]), 1)
    assert parameter_bytes(rules) == 3 * (4 + index_bytes) + 2 * 4
    rules = replace(rules, threshold=np.zeros(d))
    assert parameter_bytes(rules) == 3 * (4 + index_bytes + 4) + 2 * 4


def test_bytes_of_rules_without_terms():
    rules = Rules(np.zeros((2, 3)), np.ones(2), np.arange(3), None, np.array([0, 1]), 1)
    assert parameter_bytes(rules) == 8
