"""Rules in the units of the data that went into a pipeline, and their text in other languages."""

import json
from collections.abc import Callable
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from pnsklearn._small._c import to_c
from pnsklearn._small._export import to_text
from pnsklearn._small._fold import Line, above, folded, read_by
from pnsklearn._small._rules import Rules
from pnsklearn._small._sql import expression
from pnsklearn._small._term import Term
from pnsklearn._typing import Array

FORMAT = "pnsklearn rule card 1"


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

    booleans : sequence of str, default=()
        Columns that hold truth values, which databases do not multiply.

    is_points : bool, default=False
        Whether the weights are integers, and the intercepts half an integer.

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

    def __init__(
        self, terms, coef, intercept, classes, union, coverage, precision, *, booleans=(),
        is_points=False,
    ):  # fmt: skip
        self.terms = terms
        self.coef = coef
        self.intercept = intercept
        self.classes = classes
        self.union = union
        self.coverage = coverage
        self.precision = precision
        self.booleans = booleans
        self.is_points = is_points

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
        if not hasattr(model, "_rules"):
            raise TypeError(f"The last step must be a SMaLLClassifier, got {type(model).__name__}.")
        check_is_fitted(model)
        first = next((step for step in steps if hasattr(step, "n_features_in_")), model)
        names = getattr(first, "feature_names_in_", None)
        if names is None:
            names = [f"x{i}" for i in range(first.n_features_in_)]
        lines = [Line(Term(str(name))) for name in names]
        for step in steps:
            lines = folded(step, lines)
        return cls._over(model, lines)

    @classmethod
    def _over(cls, model: Any, lines: list[Line]) -> "RuleCard":
        """Return the card of a fitted `SMaLLClassifier` over columns that are given as lines."""
        is_boolean = () if model._booleans_ is None else np.flatnonzero(model._booleans_)
        booleans = [lines[i].term.column for i in is_boolean if lines[i].term.kind == "number"]
        lines, rules = read_by(model, lines), model._rules().used_terms()
        terms: dict[Term, Array] = {}
        intercept = rules.intercept.astype(float).copy()
        for index, (feature, coef) in enumerate(zip(rules.feature, rules.coef.T, strict=True)):
            line = lines[feature]
            if rules.threshold is not None:
                line = above(line, float(rules.threshold[index]))
            terms[line.term] = terms.get(line.term, 0.0) + coef * line.slope
            intercept += coef * line.shift
        coef = np.array([*terms.values(), 0 * intercept], dtype=float)[:-1].T
        return cls(
            list(terms), coef, intercept, rules.classes, rules.union, model.coverage_,
            model.precision_, booleans=booleans, is_points=rules.is_points,
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
            is_condition, self.is_points,
        )  # fmt: skip
        names = [term.text() for term in self.terms]
        fills = {t.column: t.fill for t in self.terms if t.fill is not None}
        return "\n".join(
            [
                to_text(rules, names, self.coverage, self.precision),
                *(f"{name} counts as {_short(fill)} where missing" for name, fill in fills.items()),
            ]
        )

    def export_c(self) -> str:
        """Return the source of a C99 function in doubles that includes nothing.

        Returns
        -------
        source : str
            ``int small_predict(const double *x)``, which returns the index in `classes`. x holds
            the columns that the rules read, and no others: its comment says in which order, by
            which numbers levels stand, and that NaN is missing.
        """
        return to_c(self)

    def export_sql(self, *, dialect: str = "sqlite", booleans: Any = ()) -> str:
        """Return an SQL expression whose value is the predicted label.

        Parameters
        ----------
        dialect : {"sqlite", "duckdb", "postgresql", "mysql"}, default="sqlite"
            How names, numbers and truth values are written.

        booleans : sequence of str, default=()
            Columns that are truth values in the database, besides those that were in the fit.

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
        return expression(self, dialect, {*self.booleans, *booleans})

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


def _short(fill):
    return f"{fill:.4g}" if isinstance(fill, float) else fill


def _reader(X: Any) -> Callable[[str], Array]:
    """Return a function from names to the columns of X, as objects."""
    if nw.dependencies.is_into_dataframe(X):
        frame = nw.from_native(X, eager_only=True)
        return lambda name: frame[name].to_numpy().astype(object)
    X = np.asarray(X, dtype=object)
    return lambda name: X[:, int(name.removeprefix("x"))]
