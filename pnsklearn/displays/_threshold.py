"""Precision, recall and F1 against the decision threshold."""

from typing import Any, Self

import numpy as np
from sklearn.metrics import precision_recall_curve
from sklearn.utils._optional_dependencies import check_matplotlib_support

from pnsklearn._typing import Array


class ThresholdDisplay:
    """Precision, recall and F1 as functions of the probability threshold.

    Best made with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    precision, recall : ndarray of shape (n_thresholds,)
        The curves.
    thresholds : ndarray of shape (n_thresholds,)
        Probabilities, increasing.
    threshold : float or None, default=None
        The threshold in use, marked by a vertical line.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes with the curves.
    figure_ : matplotlib Figure
        The figure of the axes.
    lines_ : list of matplotlib Line2D
        Precision, recall and F1.

    Examples
    --------
    >>> from pnsklearn.displays import ThresholdDisplay
    >>> display = ThresholdDisplay.from_predictions([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    >>> display.figure_.get_axes()[0].get_xlabel()
    'Threshold'
    """

    def __init__(
        self, precision: Array, recall: Array, thresholds: Array, *, threshold: float | None = None
    ):
        self.precision = precision
        self.recall = recall
        self.thresholds = thresholds
        self.threshold = threshold

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Plot for a fitted binary classifier, marking its `threshold_` where it has one.

        Parameters
        ----------
        estimator : fitted classifier or Pipeline
            Needs `predict_proba`.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,)
            Labels; ``estimator.classes_[1]`` is positive.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.
        ax : matplotlib Axes, default=None
            Where to plot; a new figure by default.
        **kwargs : dict
            Passed to `ax.plot`.

        Returns
        -------
        display : ThresholdDisplay
            The display.
        """
        last = estimator[-1] if hasattr(estimator, "steps") else estimator
        given = {"threshold": getattr(last, "threshold_", None), "sample_weight": sample_weight}
        positive, probability = np.asarray(y) == estimator.classes_[1], estimator.predict_proba(X)
        return cls.from_predictions(positive, probability[:, 1], ax=ax, **given, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_prob: Any,
        *,
        threshold: float | None = None,
        pos_label: Any = None,
        sample_weight: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Plot for given probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Labels.
        y_prob : array-like of shape (n_samples,)
            Probabilities of the positive class.
        threshold : float, default=None
            The threshold to mark.
        pos_label : int, float, bool or str, default=None
            The positive label; 1 by default.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.
        ax : matplotlib Axes, default=None
            Where to plot; a new figure by default.
        **kwargs : dict
            Passed to `ax.plot`.

        Returns
        -------
        display : ThresholdDisplay
            The display.
        """
        precision, recall, thresholds = precision_recall_curve(
            y_true, y_prob, pos_label=pos_label, sample_weight=sample_weight
        )
        # The curve's last point, precision one at recall zero, has no threshold.
        return cls(precision[:-1], recall[:-1], thresholds, threshold=threshold).plot(ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to plot; a new figure by default.
        **kwargs : dict
            Passed to `ax.plot`.

        Returns
        -------
        display : ThresholdDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots()
        total = self.precision + self.recall
        f1 = 2 * self.precision * self.recall / np.where(total > 0, total, 1.0)
        curves = {"Precision": self.precision, "Recall": self.recall, "F1": f1}
        self.lines_ = [
            ax.plot(self.thresholds, values, label=label, **kwargs)[0]
            for label, values in curves.items()
        ]
        if self.threshold is not None:
            label = f"Threshold in use ({self.threshold:.3g})"
            ax.axvline(self.threshold, color="0.4", linestyle="--", label=label)
        ax.set(xlabel="Threshold", ylabel="Score", xlim=(0, 1), ylim=(-0.02, 1.02))
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self
