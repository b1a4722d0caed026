"""How much error a budget of terms costs: the cross-validated error of rules against their size."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import check_cv, cross_val_score
from sklearn.utils._optional_dependencies import check_matplotlib_support

from pnsklearn._typing import Array

BUDGETS = 1, 2, 3, 4, 6, 9


class TradeOffDisplay:
    """Cross-validated error of rules against the number of terms that they may have.

    Best made with `from_estimator`.

    Parameters
    ----------
    n_terms : sequence of int
        Budgets of terms.
    fold_errors : ndarray of shape (n_budgets, n_splits)
        Errors on the test rows of each split.
    label : str, default="error"
        What the errors are.

    Attributes
    ----------
    error_, standard_error_ : ndarray of shape (n_budgets,)
        Means of the errors over the splits, and their standard errors.
    fewest_ : int
        The smallest budget whose error is within one standard error of the lowest.
    ax_ : matplotlib Axes
        The axes with the curve.
    figure_ : matplotlib Figure
        The figure of the axes.
    errorbar_ : matplotlib ErrorbarContainer
        The curve.
    line_ : matplotlib Line2D
        The vertical line at `fewest_`.

    See Also
    --------
    sklearn.model_selection.ValidationCurveDisplay : The same for any parameter.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from pnsklearn import SMaLLClassifier
    >>> from pnsklearn.displays import TradeOffDisplay
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> rules = SMaLLClassifier(n_init=1, cv=3, random_state=0)
    >>> display = TradeOffDisplay.from_estimator(rules, X[:200], y[:200], n_terms=[1, 2, 4], cv=3)
    >>> print(display.error_.round(2), display.fewest_)
    [0.11 0.05 0.04] 4
    """

    def __init__(self, n_terms: Sequence[int], fold_errors: Array, *, label: str = "error"):
        self.n_terms = n_terms
        self.fold_errors = fold_errors
        self.label = label

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        n_terms: Sequence[int] = BUDGETS,
        cv: Any = 5,
        groups: Any = None,
        scoring: Any = None,
        n_jobs: int | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> "TradeOffDisplay":
        """Cross-validate a classifier with each budget, and plot the errors.

        Parameters
        ----------
        estimator : SMaLLClassifier, or Pipeline that ends in one
            Fitted or not. The shape is chosen within each budget, on the training rows of each
            split.
        X : {frame, array-like, sparse matrix} of shape (n_samples, n_features)
            Data.
        y : array-like of shape (n_samples,)
            Labels.
        n_terms : sequence of int, default=(1, 2, 3, 4, 6, 9)
            Budgets of terms.
        cv : int, cross-validation generator or iterable, default=5
            Splits, the same for all budgets.
        groups : array-like of shape (n_samples,), default=None
            What `cv` splits by.
        scoring : str, callable or None, default=None
            A scorer, whose scores are plotted with a minus; None is the error.
        n_jobs : int or None, default=None
            Splits that are fitted at the same time.
        ax : matplotlib Axes, default=None
            Where to plot; a new figure by default.
        **kwargs : dict
            Passed to `ax.errorbar`.

        Returns
        -------
        display : TradeOffDisplay
            The display.

        Raises
        ------
        TypeError
            If `estimator` has no budget of terms.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")  # before the fits
        names = [name for name in estimator.get_params() if name.split("__")[-1] == "n_terms"]
        if len(names) != 1:
            raise TypeError(
                "estimator must be a SMaLLClassifier or a pipeline that ends in one, got "
                f"{type(estimator).__name__}."
            )
        (name,) = names
        shape = name.removesuffix("n_terms") + "n_prototypes"
        splits = list(check_cv(cv, y, classifier=True).split(X, y, groups))
        errors = []
        for budget in n_terms:
            model = clone(estimator).set_params(**{name: budget, shape: "cv"})
            scores = cross_val_score(model, X, y, cv=splits, scoring=scoring, n_jobs=n_jobs)
            errors.append(1 - scores if scoring is None else -scores)
        label = "error" if scoring is None else f"minus {getattr(scoring, '__name__', scoring)}"
        return cls(n_terms, np.array(errors), label=label).plot(ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> "TradeOffDisplay":
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to plot; a new figure by default.
        **kwargs : dict
            Passed to `ax.errorbar`.

        Returns
        -------
        display : TradeOffDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        n_splits = self.fold_errors.shape[1]
        self.error_ = self.fold_errors.mean(axis=1)
        self.standard_error_ = self.fold_errors.std(axis=1, ddof=1) / np.sqrt(n_splits)
        best = int(np.argmin(self.error_))
        within = self.error_ <= self.error_[best] + self.standard_error_[best]
        self.fewest_ = int(np.min(np.asarray(self.n_terms)[within]))
        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        style = {"marker": "o", "capsize": 3} | kwargs
        self.errorbar_ = ax.errorbar(self.n_terms, self.error_, self.standard_error_, **style)
        label = f"{self.fewest_}: fewest within one standard error of the lowest"
        self.line_ = ax.axvline(self.fewest_, color="gray", linestyle="dotted", label=label)
        ax.set(xlabel="most terms", ylabel=f"cross-validated {self.label}")
        ax.set_xticks(list(self.n_terms))
        ax.legend()
        return self
