"""How well each member of a stack ranks, how well the stack does, and what each one counts."""

from typing import Any, Self

import numpy as np
from sklearn.metrics import precision_recall_curve
from sklearn.utils import check_consistent_length, check_random_state, column_or_1d
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from pnsklearn._stacking._estimator import AUPRCStackingClassifier
from pnsklearn._typing import Array
from pnsklearn._validation import check_weighted_classes, check_weights
from pnsklearn.displays._steps import last_step

STACK = "stack"
N_RECALLS = 100  # at which the band is drawn


class StackingDisplay:
    """Precision-recall curves of a stack and its members on held-out rows, beside the weights.

    Left, precision against recall of the held-out log-odds: of each member, and of the stack with a
    band. The members have not seen these rows, but the stack's few weights were fitted to them: its
    curve is a little too good. The legend therefore has the average precision that `fit` measured
    on each split, with the stack's weights of the other splits, and its standard error. Right, the
    weights. Best made with `from_estimator`.

    Parameters
    ----------
    curves : dict of str to (ndarray, ndarray)
        Precision and recall, as of :func:`sklearn.metrics.precision_recall_curve`, by name; those
        of the stack are last.
    weights : dict of str to float
        Weights of the members by name.
    average_precision : dict of str to (float, float), default=None
        Average precision and its standard error, for the legend; a name may be missing.
    band : tuple of ndarray (recall, low, high), default=None
        The band around the stack's curve.

    Attributes
    ----------
    ax_ : ndarray of 2 matplotlib Axes
        The axes with the curves and those with the weights.
    figure_ : matplotlib Figure
        The figure of the axes.
    lines_ : list of matplotlib Line2D
        The curves.
    band_ : matplotlib PolyCollection or None
        The band.
    bars_ : matplotlib BarContainer
        The weights.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from pnsklearn import AUPRCStackingClassifier
    >>> from pnsklearn.displays import StackingDisplay
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> members = [("logistic", LogisticRegression(max_iter=5000)), ("bayes", GaussianNB())]
    >>> model = AUPRCStackingClassifier(members, cv=3).fit(X, y)
    >>> display = StackingDisplay.from_estimator(model, y)
    >>> [label.get_text() for label in display.ax_[1].get_yticklabels()]
    ['logistic', 'bayes']
    """

    def __init__(
        self, curves: dict[str, tuple[Array, Array]], weights: dict[str, float], *,
        average_precision: dict[str, tuple[float, float]] | None = None,
        band: tuple[Array, Array, Array] | None = None,
    ):  # fmt: skip
        self.curves = curves
        self.weights = weights
        self.average_precision = average_precision
        self.band = band

    @classmethod
    def from_estimator(
        cls, estimator: Any, y: Any, *, sample_weight: Any = None, n_bootstrap: int = 200,
        random_state: Any = 0, ax: Any = None, **kwargs: Any,
    ) -> Self:  # fmt: skip
        """Plot for a fitted stack and the labels that it was fitted to.

        The band goes from the 5 % to the 95 % quantile of the precision at each recall, over draws
        of the positives and of the negatives with replacement.

        Parameters
        ----------
        estimator : AUPRCStackingClassifier or Pipeline that ends in one
            A fitted stack.
        y : array-like of shape (n_samples,)
            The labels given to `fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            The weights given to `fit`.
        n_bootstrap : int, default=200
            Number of draws; 0 leaves out the band.
        random_state : int, RandomState instance or None, default=0
            Seed of the draws.
        ax : two matplotlib Axes or None, default=None
            Where to plot; a new figure by default.
        **kwargs : dict
            Passed to `ax.plot` of the curves.

        Returns
        -------
        display : StackingDisplay
            The display.

        Raises
        ------
        TypeError
            If the estimator is no stack.
        NotFittedError
            If it is not fitted.
        ValueError
            If y or the weights are not those of its rows.
        """
        stack = last_step(estimator, AUPRCStackingClassifier)
        check_is_fitted(stack)
        positive, weight, scores = _held_out(stack, y, sample_weight)
        curves = {
            name: precision_recall_curve(positive, values, sample_weight=weight)[:2]
            for name, values in scores.items()
        }
        band = None
        if n_bootstrap > 0:
            rng = check_random_state(random_state)
            band = _bootstrap(positive, weight, scores[STACK], n_bootstrap, rng)
        precision = stack.oof_average_precision_
        weights = dict(zip(stack.named_estimators_, stack.coef_[0].tolist(), strict=True))
        return cls(curves, weights, average_precision=precision, band=band).plot(ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : two matplotlib Axes or None, default=None
            Where to plot; a new figure by default.
        **kwargs : dict
            Passed to `ax.plot` of the curves.

        Returns
        -------
        display : StackingDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `ax` is neither None nor two axes.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
        if np.shape(ax) != (2,):
            raise ValueError("ax must be None or two axes, as plt.subplots(1, 2) makes them.")
        self.ax_, self.figure_ = np.asarray(ax), ax[0].figure
        self._plot_curves(kwargs)
        self._plot_weights()
        return self

    def _plot_curves(self, kwargs):
        """Draw the curves, the stack's above the others, and its band."""
        ax, known, self.lines_ = self.ax_[0], self.average_precision or {}, []
        for number, (name, (precision, recall)) in enumerate(self.curves.items()):
            label = name
            if name in known:
                label += " (AP {:.3f} ± {:.3f})".format(*known[name])
            is_stack = number == len(self.curves) - 1
            style = {"color": "black" if is_stack else f"C{number}", "linewidth": 1 + is_stack}
            style |= {"label": label, "drawstyle": "steps-post"}
            self.lines_ += ax.plot(recall, precision, **style | kwargs)
        self.band_ = None
        if self.band is not None:
            style = {"color": "black", "alpha": 0.15, "linewidth": 0, "step": "pre"}
            self.band_ = ax.fill_between(*self.band, **style)
        ax.set(xlabel="Recall", ylabel="Precision", xlim=(0, 1), ylim=(-0.02, 1.02))
        ax.legend()

    def _plot_weights(self):
        """Draw the weights, in the colours of the curves and from the top down."""
        ax, places = self.ax_[1], np.arange(len(self.weights))
        colors = [f"C{number}" for number in places]
        self.bars_ = ax.barh(places, list(self.weights.values()), color=colors)
        ax.set_yticks(places, list(self.weights))
        ax.invert_yaxis()
        ax.set(xlabel="Weight of the standardised log-odds")


def _held_out(stack, y, sample_weight):
    """Return which rows with held-out log-odds are positive, their weights, and scores by name."""
    y, log_odds = column_or_1d(y), stack.oof_decision_function_
    check_consistent_length(y, sample_weight)
    if len(y) != len(log_odds):
        raise ValueError(f"y has {len(y)} labels, but the stack was fitted to {len(log_odds)}.")
    if not np.isin(y, stack.classes_).all():
        raise ValueError(
            f"y has the labels {np.unique(y)}, but the stack was fitted to {stack.classes_}."
        )
    positive, weight = y == stack.classes_[1], check_weights(sample_weight, y.reshape(-1, 1))
    kept = ~np.isnan(log_odds[:, 0]) & (weight > 0)
    check_weighted_classes(positive[kept], weight[kept])
    Z = (log_odds[kept] - stack.center_) / stack.scale_
    scores = dict(zip(stack.named_estimators_, Z.T, strict=True))
    scores[STACK] = stack.final_estimator_.decision_function(Z)
    return positive[kept], weight[kept], scores


def _bootstrap(positive, weight, scores, n_bootstrap, rng):
    """Return recalls, and the 5 % and 95 % quantiles of the precision at them."""
    order = np.argsort(-scores, kind="stable")
    positive, weight, scores = positive[order], weight[order], scores[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # of rows that tie
    recalls = np.arange(1, N_RECALLS + 1) / N_RECALLS
    groups = np.flatnonzero(positive), np.flatnonzero(~positive)
    found = np.empty((n_bootstrap, N_RECALLS))
    for precision in found:
        hits, misses = (
            np.cumsum(weight * np.bincount(rng.choice(rows, len(rows)), minlength=len(scores)))
            for rows in groups
        )
        hits, misses = hits[ends], misses[ends]
        # Rounded, so that a recall of 0.3 is reached by three positives of ten.
        reached = np.searchsorted(np.round(hits / hits[-1], 12), np.round(recalls, 12))
        precision[:] = hits[reached] / (hits + misses)[reached]
    return recalls, *np.quantile(found, [0.05, 0.95], axis=0)
