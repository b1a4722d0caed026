"""Write rules down: as text to read, as C, as C in integers only, as SQL; and count their bytes.

C and SQL add the same terms in the same order as `Rules.scores`, and break its tie alike: where the
largest score is exactly zero, the class is `classes[0]`. So a rule fires when z > 0 if the union is
`classes[1]`, and when z >= 0 if it is `classes[0]`.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from textwrap import wrap
from typing import Any

import numpy as np

from pnsklearn._small._rules import Rules, read_columns
from pnsklearn._typing import Array, Matrix

SMALLEST_BITS, LARGEST_BITS = 8, 32
LISTED_ROWS = 20


def check_feature_names(names: Any, fitted_names: Any, n_features: int) -> list[str]:
    """Return a list of names: those given, or those seen at fit, or x0, x1, ...

    Raises
    ------
    ValueError
        If there are not `n_features` names, if one is not a string, or if one is repeated.
    """
    if names is None:
        names = fitted_names
    if names is None:
        return [f"x{i}" for i in range(n_features)]
    if isinstance(names, str):
        raise ValueError(f"feature_names must be a list of strings; got the string {names!r}.")
    names = list(names)
    if len(names) != n_features:
        raise ValueError(f"feature_names has {len(names)} names; X has {n_features} features.")
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"feature_names must be strings; got {name!r}.")
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ValueError(f"feature_names must differ; {str(name)!r} appears {count} times.")
    return [str(name) for name in names]


def to_text(rules: Rules, names: list[str], coverage: Array, precision: Array) -> str:
    """Return the rules as text to read, numbers rounded to four digits.

    Terms are in the order of the features: it is the same in all rules and exports, and size does
    not rank coefficients in different units. A rule with one term is solved for it. `coverage` is
    the share of the training rows where each rule fires, `precision` the share of those in the
    union class.
    """
    p = len(rules.intercept)
    union, other = _labels(rules)
    which = "this rule" if p == 1 else "any of these rules"
    lines = [f"{_one_line(union)} if {which} fires, otherwise {_one_line(other)}:"]
    names = [_one_line(name) for name in names]
    for j, (share, right) in enumerate(zip(coverage, precision, strict=True)):
        number = f"{j + 1:>{len(str(p))}}.  "
        fires = "fires on none of the training rows"
        if share > 0:
            fires = f"fires on {100 * share:.3g} % of the training rows, right on "
            fires += f"{100 * right:.3g} % of them"
        lines += [number + _readable(rules, j, names), " " * len(number) + fires]
    return "\n".join(lines)


def to_c(rules: Rules, names: list[str]) -> str:
    """Return the source of a C99 function in doubles that includes nothing.

    `int small_predict(const double *x)` returns the index in `classes`. Each constant reads back to
    the same double.
    """
    rules = rules.used_terms()
    features = np.unique(rules.feature)
    reads = "It reads only:" if len(features) > 0 else "It reads none of them."
    header = [
        meaning(rules),
        f"x is one row of all features in their original units. {reads}",
        *(f"    x[{i}]  {c_comment(names[i])}" for i in features),
        *wrap(
            "Sums are in the order of the model, so that results are the same bit for bit. GCC and "
            "Clang may fuse a product and a sum where the processor can, which rounds differently: "
            "-ffp-contract=off forbids it."
        ),
    ]
    return _c_source(header, [], rules, "double", "")


def to_fixed_point_c(rules: Rules, names: list[str], X: Matrix, bits: int) -> tuple[str, Array]:
    """Return the source of a C99 function in integers, and the rows of X where it differs.

    `int small_predict(const int32_t *x)` takes each feature l as round(value * 2**F_l). F_l is
    chosen from X such that the largest value, and threshold, leaves one of `bits` bits free. It
    needs <stdint.h> only, which C99 has without a library: `int` has 16 bits on small processors.

    Raises
    ------
    ValueError
        If `bits` is not an integer from 8 to 32.
    """
    if not isinstance(bits, (int, np.integer)) or not SMALLEST_BITS <= bits <= LARGEST_BITS:
        raise ValueError(
            f"fixed_point must be an integer from {SMALLEST_BITS} to {LARGEST_BITS}, the bits of a "
            f"value; got {bits!r}."
        )
    bits, n_rows = int(bits), X.shape[0]
    rules = rules.used_terms()
    values = read_columns(X, rules.feature)
    fraction_bits = _fraction_bits(rules, values, bits)
    integer = _integer_rules(rules, fraction_bits, bits)
    predicted = integer.decision(_integer_scores(integer, values, fraction_bits)) > 0
    rows = np.flatnonzero(predicted != (rules.decision(rules.scores(X)) > 0))

    agreement = f"It agrees with the floating-point model on {n_rows - len(rows)} of {n_rows} rows"
    if len(rows) > 0:
        listed = ", ".join(str(row) for row in rows[:LISTED_ROWS])
        agreement += f"; differs on rows {listed}"
    if len(rows) > LISTED_ROWS:
        agreement += f" and {len(rows) - LISTED_ROWS} more"
    features, first = np.unique(rules.feature, return_index=True)
    header = [
        meaning(rules),
        *wrap(
            "x[i] is feature i in its original unit times 2 to the power SMALL_Xi_FRACTION_BITS, "
            f"rounded to the nearest integer and kept from {-(2 ** (bits - 1))} to "
            f"{2 ** (bits - 1) - 1}; no sum of such entries overflows. It reads only the features "
            "that have this macro."
        ),
        *wrap(f"{agreement}."),
    ]
    macros = [
        f"#define SMALL_X{i}_FRACTION_BITS {f} /* {c_comment(names[i])} */"
        for i, f in zip(features, fraction_bits[first], strict=True)
    ]
    prologue = ["#include <stdint.h>", "", *macros, *([""] if macros else [])]
    return _c_source(header, prologue, integer, "int32_t", "LL"), rows


def to_sql(rules: Rules, names: list[str], is_boolean: Array | None = None) -> str:
    """Return the rules as one SQL expression whose value is the predicted label.

    `is_boolean` says which features are truth values: strict databases do not multiply them.

    A rule that reads a NULL does not fire, unless it reads it through a threshold, which NULL is
    not above.
    """
    rules = rules.used_terms()
    columns = [_quoted(names[i], '"') for i in rules.feature]
    if is_boolean is not None:
        columns = [
            f"(CASE WHEN {code} THEN 1.0 WHEN NOT {code} THEN 0.0 END)" if is_boolean[i] else code
            for i, code in zip(rules.feature, columns, strict=True)
        ]
    scores = _sums(rules, columns, repr, ("CASE WHEN ", " THEN ", " ELSE 0.0 END"))
    fires = [f"{score} {_sign(rules.union)} 0.0" for score in scores]
    union, other = (_sql_literal(label) for label in _labels(rules))
    condition = "\n    OR ".join(fires)
    return f"CASE\n  WHEN {condition}\n  THEN {union} ELSE {other}\nEND"


def parameter_bytes(rules: Rules) -> int:
    """Return how many bytes the parameters take as arrays of one entry per non-zero coefficient.

    Each non-zero coefficient takes 4 (float32), plus the index of its feature: 1 where no used
    index exceeds 255, 2 up to 65535, else 4; plus 4 for its threshold where there are thresholds.
    Each intercept takes 4. The number of terms of each rule and the labels are not counted.
    """
    features = rules.used_terms().feature
    index_bytes = np.min_scalar_type(int(features.max(initial=0))).itemsize
    threshold_bytes = 0 if rules.threshold is None else 4
    n_terms = np.count_nonzero(rules.coef)
    return int(n_terms * (4 + index_bytes + threshold_bytes) + 4 * len(rules.intercept))


def _labels(rules):
    """Return (label of the union, the other label) as plain Python values."""
    labels = rules.classes.tolist()
    return labels[rules.union], labels[1 - rules.union]


def _sign(union):
    """Return how the score of a rule that fires compares with zero."""
    return ">" if union == 1 else ">="


def _one_line(label):
    """Return a label or name as text without control characters."""
    return "".join(c if c.isprintable() else " " for c in str(label))


def c_comment(label: Any) -> str:
    """Return a label or name as it can stand in a C comment: ASCII, no comment signs, trigraphs."""
    text = _one_line(label).encode("ascii", "backslashreplace").decode()
    return '"' + re.sub(r"(?<=[*/?])(?=[*/?])", " ", text) + '"'


def _quoted(text, quote):
    """Return an SQL string or identifier in quotes."""
    return quote + text.replace(quote, 2 * quote) + quote


def _sql_literal(label):
    """Return a label as a literal; True and False as 1 and 0."""
    if isinstance(label, str):
        return _quoted(label, "'")
    return repr(int(label) if isinstance(label, bool) else label)


def _sums(rules, columns, number, step):
    """Return each rule's score as code: intercept + term - term ..., in the order of the terms.

    `columns` holds the code of each term's feature. `number` writes a number. `step` is the code
    before the condition of a step, before its coefficient and after that.
    """
    if rules.threshold is None:
        terms = [("", f" * {column}") for column in columns]
    else:
        thresholds = zip(columns, rules.threshold.tolist(), strict=True)
        terms = [(f"{step[0]}{column} > {t!r}{step[1]}", step[2]) for column, t in thresholds]
    scores = []
    for coef, intercept in zip(rules.coef.tolist(), rules.intercept.tolist(), strict=True):
        score = number(intercept)
        for c, (before, after) in zip(coef, terms, strict=True):
            if c != 0:
                score += f" {'-' if c < 0 else '+'} {before}{number(abs(c))}{after}"
        scores.append(score)
    return scores


def _readable(rules, j, names):
    """Return when rule j fires, to read."""
    used = np.flatnonzero(rules.coef[j])
    coef, intercept = rules.coef[j, used].tolist(), float(rules.intercept[j])
    variables = [names[i] for i in rules.feature[used]]
    if rules.threshold is not None:
        limits = [f"{t:.4g}" for t in rules.threshold[used]]
        return _readable_thresholds(coef, intercept, variables, limits, rules)
    if rules.is_condition is not None and rules.is_condition[used].any():
        return _readable_conditions(coef, intercept, variables, rules.is_condition[used], rules)
    if len(coef) != 1:
        return _readable_sum(coef, intercept, [f" * {name}" for name in variables], rules)
    sign = _sign(rules.union) if coef[0] > 0 else _sign(rules.union).replace(">", "<")
    return f"{variables[0]} {sign} {0.0 - intercept / coef[0]:.4g}"


def _readable_thresholds(coef, intercept, variables, limits, rules):
    """Return when a rule of thresholded terms fires, to read."""
    if len(coef) != 1:
        terms = [f" [{name} > {t}]" for name, t in zip(variables, limits, strict=True)]
        return _readable_sum(coef, intercept, terms, rules)
    up_to, above = (_readable_sum([], z, [], rules) for z in (intercept, intercept + coef[0]))
    if up_to == above:
        return above
    return f"{variables[0]} {'>' if above == 'always' else '<='} {limits[0]}"


def _readable_conditions(coef, intercept, names, is_condition, rules):
    """Return when a rule fires some of whose terms are conditions, to read."""
    if len(coef) != 1:
        pairs = zip(names, is_condition, strict=True)
        terms = [f" [{name}]" if is_on_or_off else f" * {name}" for name, is_on_or_off in pairs]
        return _readable_sum(coef, intercept, terms, rules)
    off, on = (_readable_sum([], z, [], rules) for z in (intercept, intercept + coef[0]))
    if off == on:
        return on
    return names[0] if on == "always" else f"not ({names[0]})"


def _readable_sum(coef, intercept, terms, rules):
    """Return `2 * a  - 3 * b  + 1  > 0`, or "always" or "never" where there is no term.

    Points are not solved for zero: `2 [a > 1]  + 3 [b > 2]  >= 4 points`.
    """
    if not coef:
        return "always" if intercept > 0 or (intercept == 0 and rules.union == 0) else "never"
    text, rest = f"{coef[0]:.4g}{terms[0]}", [] if rules.is_points else [(intercept, "")]
    for value, term in [*zip(coef[1:], terms[1:], strict=True), *rest]:
        if value != 0:
            text += f"  {'-' if value < 0 else '+'} {abs(value):.4g}{term}"
    if rules.is_points:
        return f"{text}  >= {0.5 - intercept:.0f} points"
    return f"{text}  {_sign(rules.union)} 0"


def meaning(rules: Any) -> str:
    """Return what the C function says, as the first line of its comment."""
    union, other = (c_comment(label) for label in _labels(rules))
    text = f"Returns {rules.union}, {union}, if any rule fires, else {1 - rules.union}, {other}."
    return f"SMaLLClassifier of pnsklearn. {text}"


def _c_source(header, prologue, rules, kind, suffix):
    """Return the C file of rules: the sums of their terms, in the columns of X."""
    columns, step = [f"x[{i}]" for i in rules.feature], ("(", " ? ", " : 0)")
    scores = _sums(rules, columns, lambda value: f"{value!r}{suffix}", step)
    return c_file(header, scores, rules.union, prologue, kind)


def c_file(
    header: Sequence[str], scores: Sequence[str], union: int, prologue: Sequence[str] = (),
    kind: str = "double",
) -> str:  # fmt: skip
    """Return the C file: a comment, what stands before the function, the function on `kind` x."""
    return "\n".join(
        [
            f"/* {header[0]}",
            *(f" * {line}" for line in header[1:]),
            " */",
            *prologue,
            f"int small_predict(const {kind} *x)",
            "{",
            *([] if any("x[" in z for z in scores) else ["    (void)x;"]),
            *(f"    if ({z} {_sign(union)} 0) return {union};" for z in scores),
            f"    return {1 - union};",
            "}",
            "",
        ]
    )


def _fraction_bits(rules, values, bits):
    """Return F of each term: no value or threshold of its feature exceeds 2**(bits - 2 - F)."""
    largest = np.abs(values).max(axis=1, initial=0.0)
    if rules.threshold is not None:
        largest = np.maximum(largest, np.abs(rules.threshold))
    features, which = np.unique(rules.feature, return_inverse=True)
    of_feature = np.zeros(len(features))
    np.maximum.at(of_feature, which, largest)
    return (bits - 2 - np.frexp(of_feature)[1])[which]


def _integer_rules(rules, fraction_bits, bits):
    """Return the rules in integers: each score is that of the model times a power of two."""
    if rules.threshold is None:
        threshold, shift, reach = None, fraction_bits, 2 ** (bits - 1)
    else:
        # A rounded value is above t exactly when it is above the integer part of t.
        threshold = np.floor(np.ldexp(rules.threshold, fraction_bits)).astype(np.int64)
        shift, reach = np.zeros_like(fraction_bits), 1
    scaled = [
        _integer_rule(coef, float(intercept), shift, reach, bits)
        for coef, intercept in zip(rules.coef, rules.intercept, strict=True)
    ]
    coef, intercept = (np.array(part, dtype=np.int64) for part in zip(*scaled, strict=True))
    return replace(rules, coef=coef, intercept=intercept, threshold=threshold)


def _integer_rule(coef, intercept, shift, reach, bits):
    """Return (integer coefficients, integer intercept) of one rule, as fine as they may be.

    Coefficients have `bits` bits, and |intercept| + reach * sum |coefficient| < 2**63, where no
    term's factor exceeds `reach`: no sum overflows, whatever the order.
    """
    # The largest scale that these sizes allow; rounding and the sum may ask for less.
    scale = 63 - math.frexp(intercept)[1]
    used = np.flatnonzero(coef)
    if len(used) > 0:
        scale = min(scale, bits - 1 - int(np.max(np.frexp(coef[used])[1] - shift[used])))
    while True:
        integers = [round(math.ldexp(c, scale - int(f))) for c, f in zip(coef, shift, strict=True)]
        constant = round(math.ldexp(intercept, scale))
        sizes = [abs(c) for c in integers]
        if max(sizes, default=0) < 2 ** (bits - 1) and abs(constant) + reach * sum(sizes) < 2**63:
            return integers, constant
        scale -= 1


def _integer_scores(rules, values, fraction_bits):
    """Return the scores of integer rules, exactly as the C code computes them."""
    values = np.rint(np.ldexp(values, fraction_bits[:, None])).astype(np.int64)
    if rules.threshold is not None:
        values = (values > rules.threshold[:, None]).astype(np.int64)
    return (rules.intercept[:, None] + rules.coef @ values).T
