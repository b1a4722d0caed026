"""What a fitted classifier says: its rules as text to read and as code."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from sklearn.utils.validation import check_is_fitted

from pnsklearn._fitting import warn_user
from pnsklearn._small import _export
from pnsklearn._small._card import RuleCard
from pnsklearn._small._fold import Line, above, read_by
from pnsklearn._small._rules import Rules
from pnsklearn._small._term import Term

Names: TypeAlias = Sequence[str] | None


class TextsMixin:
    """The methods of a `SMaLLClassifier` that write its rules down."""

    classes_: Any
    coef_: Any
    coverage_: Any
    gap_: float
    intercept_: Any
    n_features_in_: int
    n_prototypes_: int
    positive_class_: Any
    precision_: Any
    step_feature_: Any
    step_threshold_: Any
    union_reason_: str
    _booleans_: Any
    _check_X: Any

    def rules(self, feature_names: Names = None) -> str:
        """Return the model as text that a person can read, in the original units.

        Parameters
        ----------
        feature_names : list of str of length n_features, default=None
            Names; by default those seen in `fit`, else "x0", "x1", ...

        Returns
        -------
        text : str
            One line per rule, with how often it fires on the training rows and is right then; and
            `union_reason_`.

        Raises
        ------
        ValueError
            If the names are too few, too many, repeated or no strings.
        """
        names = self._names(feature_names)
        if hasattr(self, "_terms_"):
            text = self._card(names).rules()
        else:
            text = _export.to_text(self._rules(), names, self.coverage_, self.precision_)
        if hasattr(self, "gap_"):
            text += f"\n{self._certificate()}"
        if hasattr(self, "rounding_errors_"):
            exact, rounded = 100 * self.rounding_errors_
            text += (
                f"\nwrong on {rounded:.3g} % of the training rows, before the rounding to points "
            )
            text += f"on {exact:.3g} %"
        return f"{text}\n{self.union_reason_}" if self.union_reason_ else text

    def export_c(
        self, X: Any = None, *, feature_names: Names = None, fixed_point: int | None = None
    ) -> str:
        """Return the model as a C function without any library.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), default=None
            Rows whose range sets the scale of the integers and on which these are compared with
            the floating-point model. Needed with `fixed_point` only.

        feature_names : list of str of length n_features, default=None
            Names for the comments; by default those seen in `fit`, else "x0", "x1", ...

        fixed_point : int or None, default=None
            None computes in double precision, with the same results as `predict` bit by bit. A
            number of bits, from 8 to 32, computes in integers of that size.

        Returns
        -------
        source : str
            ``int small_predict(const double *x)``, or ``const int32_t *x``, which returns the
            index in `classes_`. Where the fit had categories or missing values, x is not a row of
            X: its comment says which columns it has, or, in integers, which conditions.

        Raises
        ------
        ValueError
            If `fixed_point` is out of its range, one of X and `fixed_point` comes without the
            other, or names do not fit.

        Warns
        -----
        UserWarning
            If integers decide a row of X in another way; names the rows.
        """
        names = self._names(feature_names)
        if fixed_point is None and X is not None:
            raise ValueError("X is used with fixed_point only. Set fixed_point or leave X out.")
        if fixed_point is None and hasattr(self, "_terms_"):
            return self._card(names).export_c()
        if fixed_point is None:
            return _export.to_c(self._rules(), names)
        if X is None:
            raise ValueError("fixed_point needs X, whose rows show the range of each feature.")
        X = self._check_X(X)
        names = self._term_names(names)
        source, rows = _export.to_fixed_point_c(self._rules(), names, X, fixed_point)
        if len(rows):
            listed = ", ".join(map(str, rows[:10])) + (", ..." if len(rows) > 10 else "")
            warn_user(
                f"{len(rows)} of {X.shape[0]} rows are predicted differently with {fixed_point} "
                f"bits: {listed}. Use more bits if that matters."
            )
        return source

    def export_sql(self, feature_names: Names = None, *, dialect: str = "sqlite") -> str:
        """Return the model as an SQL expression over columns named like the features.

        Parameters
        ----------
        feature_names : list of str of length n_features, default=None
            Names of the columns; by default those seen in `fit`, else "x0", "x1", ...

        dialect : {"sqlite", "duckdb", "postgresql", "mysql"}, default="sqlite"
            How names, numbers and truth values are written.

        Returns
        -------
        expression : str
            ``CASE WHEN ... THEN ... ELSE ... END``, for a SELECT; its value is the label. Some
            databases, SQLite among them, read a name that is no column as a text.

        Raises
        ------
        ValueError
            If the names are too few, too many, repeated or no strings, or the dialect is none.
        """
        names = self._names(feature_names)
        if dialect != "sqlite" or hasattr(self, "_terms_"):
            return self._card(names).export_sql(dialect=dialect)
        return _export.to_sql(self._rules(), names, self._booleans_)

    def _rules(self) -> Rules:
        binarized = hasattr(self, "step_threshold_")
        return Rules(
            coef=self.coef_,
            intercept=self.intercept_,
            feature=self.step_feature_ if binarized else np.arange(self.coef_.shape[1]),
            threshold=self.step_threshold_ if binarized else None,
            classes=self.classes_,
            union=int(self.positive_class_ == self.classes_[1]),
            is_points=hasattr(self, "multiplier_"),
        )

    def _names(self, feature_names: Names) -> list[str]:
        check_is_fitted(self)
        seen = getattr(self, "feature_names_in_", None)
        return _export.check_feature_names(feature_names, seen, self.n_features_in_)

    def _certificate(self):
        """Return what the lower bound says, in words."""
        which = "other rule" if self.n_prototypes_ == 1 else "rules that cover the same rows each"
        return (
            f"no {which}, of any features within the budget, can lower the objective by more than "
            f"{100 * max(self.gap_, 0.0):.2g} %"
        )

    def _card(self, names):
        """Return the rules over the features, by their names."""
        return RuleCard._over(self, [Line(Term(name)) for name in names])

    def _features_read(self):
        """Return the features that the rules read."""
        features = self._rules().used_terms().feature
        if hasattr(self, "_term_feature_"):
            features = self._term_feature_[features]
        return np.unique(features)

    def _coef_names(self):
        """Return the names of the columns of `coef_`."""
        lines = read_by(self, [Line(Term(name)) for name in self._names(None)])
        if hasattr(self, "step_threshold_"):
            steps = zip(self.step_feature_, self.step_threshold_, strict=True)
            lines = [above(lines[feature], float(threshold)) for feature, threshold in steps]
        return [line.term.text() for line in lines]

    def _term_names(self, names):
        """Return the names of the columns that `coef_`, or steps, are over, by the features'."""
        return [line.term.text() for line in read_by(self, [Line(Term(name)) for name in names])]
