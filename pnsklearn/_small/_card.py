"""Rules in the units of the data that went into a pipeline, and their text in other languages.

A step of a pipeline that is understood makes of each column either a line of one term or the value
of one condition. So every column that reaches the rules is ``slope * term + shift``, and the rules
are linear in the terms of the first columns.
"""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectorMixin
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    RobustScaler,
    StandardScaler,
)
from sklearn.utils.validation import check_is_fitted

from pnsklearn._small._estimator import SMaLLClassifier
from pnsklearn._small._export import to_text
from pnsklearn._small._rules import Rules
from pnsklearn._small._sql import expression
from pnsklearn._small._term import Term, is_missing
from pnsklearn._typing import Array

LINES = MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
FORMAT = "pnsklearn rule card 1"


@dataclass(frozen=True)
class Line:
    """A column of a pipeline: slope * term + shift."""

    term: Term
    slope: float = 1.0
    shift: float = 0.0


class RuleCard:
    """The rules of a pipeline that ends in a `SMaLLClassifier`, over the pipeline's own columns.

    Scaling, imputation and the encoding of categories are folded into the rules: they are in the
    units of the data, read missing values as the imputer does, and name levels of a category.

    Read more in the :ref:`User Guide <small>`.

    Parameters
    ----------
    terms : list of Term
        What the rules read.

    coef : ndarray of shape (n_rules, n_terms)
        Weights of the terms.

    intercept : ndarray of shape (n_rules,)
        Intercepts.

    classes : ndarray of shape (2,)
        The labels.

    union : int
        Index of the class that is predicted where any rule fires.

    coverage, precision : ndarray of shape (n_rules,)
        How often each rule fires on the training rows, and is right then.

    See Also
    --------
    SMaLLClassifier : Learns the rules.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.compose import make_column_transformer
    >>> from sklearn.impute import SimpleImputer
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import OneHotEncoder
    >>> from pnsklearn import RuleCard, SMaLLClassifier
    >>> X = pd.DataFrame({"age": [30, 41, None, 62, 75, 80] * 9, "unit": list("ABCBBA") * 9})
    >>> y = [0, 1, 0, 1, 1, 0] * 9
    >>> columns = make_column_transformer((SimpleImputer(), ["age"]), (OneHotEncoder(), ["unit"]))
    >>> model = make_pipeline(columns, SMaLLClassifier(1, 1, random_state=0)).fit(X, y)
    >>> print(RuleCard.from_estimator(model).rules())
    1 if this rule fires, otherwise 0:
    1.  unit is B
        fires on 50 % of the training rows, right on 100 % of them
    """

    def __init__(self, terms, coef, intercept, classes, union, coverage, precision):
        self.terms = terms
        self.coef = coef
        self.intercept = intercept
        self.classes = classes
        self.union = union
        self.coverage = coverage
        self.precision = precision

    @classmethod
    def from_estimator(cls, estimator: Any) -> "RuleCard":
        """Return the card of a fitted pipeline, or of a fitted `SMaLLClassifier`.

        Parameters
        ----------
        estimator : Pipeline or SMaLLClassifier
            Its steps may be scalers, `SimpleImputer`, `OneHotEncoder`, selectors of features, and
            pipelines and a `ColumnTransformer` of these.

        Returns
        -------
        card : RuleCard
            The rules over the columns that the first step was fitted to.

        Raises
        ------
        TypeError
            If a step is not one of these, or the last one is no `SMaLLClassifier`.
        """
        steps = [step for _, step in estimator.steps] if isinstance(estimator, Pipeline) else []
        model = steps.pop() if steps else estimator
        if not isinstance(model, SMaLLClassifier):
            raise TypeError(f"The last step must be a SMaLLClassifier, got {type(model).__name__}.")
        check_is_fitted(model)
        first = next((step for step in steps if hasattr(step, "n_features_in_")), model)
        names = getattr(first, "feature_names_in_", None)
        if names is None:
            names = [f"x{i}" for i in range(first.n_features_in_)]
        lines = [Line(Term(str(name))) for name in names]
        for step in steps:
            lines = folded(step, lines)
        rules = model._rules().used_terms()
        terms: dict[Term, Array] = {}
        intercept = rules.intercept.astype(float).copy()
        for index, (feature, coef) in enumerate(zip(rules.feature, rules.coef.T, strict=True)):
            line = lines[feature]
            if rules.threshold is not None:
                line = _above(line, float(rules.threshold[index]))
            terms[line.term] = terms.get(line.term, 0.0) + coef * line.slope
            intercept += coef * line.shift
        coef = np.array([*terms.values(), 0 * intercept], dtype=float)[:-1].T
        return cls(
            list(terms), coef, intercept, rules.classes, rules.union, model.coverage_,
            model.precision_,
        )  # fmt: skip

    def predict(self, X: Any) -> Array:
        """Return the labels of the rows of a frame, or of an array with its columns in order.

        Parameters
        ----------
        X : frame or array of shape (n_samples, n_features)
            Data as the pipeline takes them. A rule that reads a missing value which no imputer
            fills does not fire.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Entries of `classes`.
        """
        read = _reader(X)
        values = [term.values(read(term.column)) for term in self.terms]
        n_rows = len(X) if not hasattr(X, "shape") else X.shape[0]
        scores = np.repeat(self.intercept[:, np.newaxis], n_rows, axis=1)
        for coef, value in zip(self.coef.T, values, strict=True):
            for j in np.flatnonzero(coef):
                scores[j] += coef[j] * value
        with np.errstate(invalid="ignore"):
            fires = (scores > 0 if self.union == 1 else scores >= 0).any(axis=0)
        return self.classes[np.where(fires, self.union, 1 - self.union)]

    def rules(self) -> str:
        """Return the rules as text to read.

        Returns
        -------
        text : str
            As of `SMaLLClassifier.rules`, with conditions on levels and missing values.
        """
        is_condition = np.array([term.kind != "number" for term in self.terms], dtype=bool)
        rules = Rules(
            self.coef, self.intercept, np.arange(len(self.terms)), None, self.classes, self.union,
            is_condition,
        )  # fmt: skip
        return to_text(rules, [term.text() for term in self.terms], self.coverage, self.precision)

    def export_sql(self, *, dialect: str = "sqlite", booleans: Any = ()) -> str:
        """Return an SQL expression whose value is the predicted label.

        Parameters
        ----------
        dialect : {"sqlite", "duckdb", "postgresql", "mysql"}, default="sqlite"
            How names, numbers and truth values are written.

        booleans : sequence of str, default=()
            Columns that are truth values in the database, which cannot be multiplied.

        Returns
        -------
        expression : str
            ``CASE WHEN ... THEN ... ELSE ... END``. Sums are in double precision, in the order of
            `predict`.

        Raises
        ------
        ValueError
            If the dialect is none of these.
        """
        return expression(self, dialect, set(booleans))

    def export_json(self) -> str:
        """Return the rules as JSON, for a program to read.

        Returns
        -------
        text : str
            An object with `format`, `classes`, `union` (an index), `fires_at_zero`, and `rules`:
            each an `intercept` and `terms` with `column`, `kind`, `coefficient`, and, as the kind
            asks for, `fill`, `threshold` or `levels`.
        """
        rules = []
        for coef, intercept in zip(self.coef, self.intercept.tolist(), strict=True):
            used = [(self.terms[t], float(coef[t])) for t in np.flatnonzero(coef)]
            terms = [term.to_dict() | {"coefficient": c} for term, c in used]
            rules.append({"intercept": intercept, "terms": terms})
        card = {
            "format": FORMAT, "classes": self.classes.tolist(), "union": int(self.union),
            "fires_at_zero": self.union == 0, "rules": rules,
        }  # fmt: skip
        return json.dumps(card, indent=1)

    def export_python(self) -> str:
        """Return the source of a Python function ``predict(row)`` that imports nothing.

        Returns
        -------
        source : str
            `row` is a mapping from the names of the columns; None and NaN are missing.
        """
        sign = ">" if self.union == 1 else ">="
        labels = self.classes.tolist()
        lines = [
            "def predict(row):",
            '    """Return the label of a row, a mapping; None and NaN are missing."""',
        ]
        for coef, intercept in zip(self.coef, self.intercept.tolist(), strict=True):
            lines.append(f"    z = {intercept!r}")
            for t in np.flatnonzero(coef):
                lines.append(f"    z += {float(coef[t])!r} * {self.terms[t].python()}")
            lines += [f"    if z {sign} 0.0:", f"        return {labels[self.union]!r}"]
        return "\n".join([*lines, f"    return {labels[1 - self.union]!r}", ""])


def _reader(X: Any) -> Callable[[str], Array]:
    """Return a function from names to the columns of X, as objects."""
    if nw.dependencies.is_into_dataframe(X):
        frame = nw.from_native(X, eager_only=True)
        return lambda name: frame[name].to_numpy().astype(object)
    X = np.asarray(X, dtype=object)
    return lambda name: X[:, int(name.removeprefix("x"))]


def _above(line, threshold):
    """Return the step of a column at a threshold, which is on or off."""
    if line.term.kind != "number":  # a condition is 0 or 1
        low, high = (line.slope * value + line.shift > threshold for value in (0.0, 1.0))
        return Line(line.term, float(high) - float(low), float(low))
    if line.slope <= 0:
        raise TypeError("A step of a column that was turned around cannot be folded back.")
    return Line(replace(line.term, kind="above", threshold=(threshold - line.shift) / line.slope))


def folded(step: Any, lines: list[Line]) -> list[Line]:
    """Return the columns after a fitted step.

    Raises
    ------
    TypeError
        If the step is none that is understood.
    """
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return lines
    if isinstance(step, Pipeline):
        for _, inner in step.steps:
            lines = folded(inner, lines)
        return lines
    if isinstance(step, ColumnTransformer):
        found = []
        for name, inner, _ in step.transformers_:
            chosen = step._transformer_to_input_indices[name]
            if not (isinstance(inner, str) and inner == "drop") and len(chosen):
                found += folded(inner, [lines[i] for i in chosen])
        return found
    if isinstance(step, SelectorMixin):
        return [lines[i] for i in np.flatnonzero(step.get_support())]
    if isinstance(step, LINES) and not getattr(step, "clip", False):
        return _scaled(step, lines)
    if isinstance(step, SimpleImputer):
        return _imputed(step, lines)
    if isinstance(step, OneHotEncoder):
        return [line for i, line in enumerate(lines) for line in _encoded(step, i, line.term)]
    raise TypeError(
        f"{type(step).__name__} cannot be folded into rules. Scalers, SimpleImputer, "
        "OneHotEncoder, selectors of features, Pipeline and ColumnTransformer can; or read the "
        "rules of the last step alone, which are over its own columns."
    )


def _scaled(step, lines):
    step = copy.copy(step)
    vars(step).pop("feature_names_in_", None)
    ends = np.array([[0.0], [1.0]]).repeat(len(lines), axis=1)
    at_zero, at_one = np.asarray(step.transform(ends))
    return [
        Line(line.term, line.slope * (b - a), line.shift * (b - a) + a)
        for line, a, b in zip(lines, at_zero.tolist(), at_one.tolist(), strict=True)
    ]


def _imputed(step, lines):
    """Return the columns with a value for what is missing, and conditions that it is missing."""
    if not is_missing(step.missing_values):
        raise TypeError(f"What is missing must be NaN or None, not {step.missing_values!r}.")
    found = []
    for line, fill in zip(lines, step.statistics_, strict=True):
        if is_missing(fill):
            if step.keep_empty_features:
                raise TypeError("A column without any value cannot be folded into rules.")
            continue
        if line.term.kind == "number" and line.term.fill is None:
            if isinstance(fill, (int, float, np.number)):
                fill = (float(fill) - line.shift) / line.slope
            line = replace(line, term=replace(line.term, fill=fill))
        found.append(line)
    if step.indicator_ is not None:
        missing = [lines[i].term for i in step.indicator_.features_]
        found += [Line(Term(term.column, "missing")) for term in missing]
    return found


def _encoded(step, i, term):
    """Return the columns of the levels of a category."""
    levels = step.categories_[i].tolist()
    if getattr(step, "_infrequent_enabled", False) and step.infrequent_categories_[i] is not None:
        raise TypeError("OneHotEncoder with infrequent categories cannot be folded into rules.")
    dropped = None if step.drop_idx_ is None else step.drop_idx_[i]
    return [
        Line(replace(term, kind="in", levels=(None if is_missing(level) else level,)))
        for number, level in enumerate(levels)
        if number != dropped
    ]
