"""What a PUTrendClassifier would say if its labeled positives were not a random sample."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from pnsklearn._pu_trend._estimator import PUTrendClassifier
from pnsklearn._pu_trend._labels import fill_missing
from pnsklearn._typing import Array
from pnsklearn._validation import check_weights
from pnsklearn.displays._steps import last_step
from pnsklearn.exceptions import PUWarning


class SensitivityDisplay:
    r"""The share of positives and the predictions under labeling bias of growing strength.

    The model: a positive with score z is labeled with a chance proportional to :math:`e^{b z}`. z
    is the normal score of the rank that its held-out trend score has among those of the labeled
    positives, and b the strength: 0 is at random, above 0 easy positives were preferred, below 0
    those near the border. Labeled positives with weights :math:`e^{-b z}` are a fair sample then,
    and for each strength a classifier is trained with them. Data cannot tell b; what is known of
    how labels arose can. Best made with `from_estimator`.

    Parameters
    ----------
    strength : array-like of shape (n_strengths,)
        Strengths of the bias, ascending.
    share : array-like of shape (n_strengths,)
        Share of positives among the unlabeled rows at each.
    interval : array-like of shape (n_strengths, 2)
        Its interval.
    changed : array-like of shape (n_strengths,)
        Share of the rows whose prediction is another one than without bias.

    Attributes
    ----------
    ax_ : ndarray of 2 matplotlib Axes
        The axes with the share, and those with the changed predictions.
    figure_ : matplotlib Figure
        The figure of the axes.
    lines_ : list of matplotlib Line2D
        Both curves.

    Examples
    --------
    >>> from pnsklearn.displays import SensitivityDisplay
    >>> interval = [[0.1, 0.2], [0.2, 0.4], [0.4, 0.7]]
    >>> display = SensitivityDisplay([-1, 0, 1], [0.1, 0.3, 0.5], interval, [0.1, 0.0, 0.2]).plot()
    >>> [ax.get_ylabel() for ax in display.ax_]
    ['Share of positives', 'Changed predictions']
    """

    def __init__(
        self, strength: ArrayLike, share: ArrayLike, interval: ArrayLike, changed: ArrayLike
    ):
        self.strength = strength
        self.share = share
        self.interval = interval
        self.changed = changed

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, s: Any, *, strengths: ArrayLike = (-1.0, -0.5, 0.0, 0.5, 1.0),
        sample_weight: Any = None, ax: Any = None, **kwargs: Any,
    ) -> "SensitivityDisplay":  # fmt: skip
        """Train a classifier for each strength of the bias, and plot what they say.

        Parameters
        ----------
        estimator : PUTrendClassifier or Pipeline that ends in one
            A fitted classifier, with positives held out (`n_folds`).
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The rows that it was fitted on.
        s : array-like of shape (n_samples,)
            Their labels.
        strengths : array-like of shape (n_strengths,), default=(-1.0, -0.5, 0.0, 0.5, 1.0)
            Strengths of the bias; each but 0 takes a fit.
        sample_weight : array-like of shape (n_samples,), default=None
            The weights of the rows that it was fitted with.
        ax : two matplotlib Axes or None, default=None
            Where to plot; a new figure by default.
        **kwargs : dict
            Passed to `ax.plot` of both curves.

        Returns
        -------
        display : SensitivityDisplay
            The display.

        Raises
        ------
        TypeError
            If the estimator is another one.
        NotFittedError
            If it is not fitted.
        ValueError
            If it was fitted on other rows, or without held-out positives.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")  # before the fits
        last = last_step(estimator, PUTrendClassifier, "heldout_trend_scores_")
        check_is_fitted(last)
        if hasattr(estimator, "steps") and len(estimator) > 1:
            X = estimator[:-1].transform(X)
        weight = check_weights(sample_weight, X)
        rows, z = _normal_scores(last, X, s)
        predicted = last.predict(X)
        strength = np.sort(np.asarray(strengths, dtype=np.float64))
        found = []
        for b in strength:
            model = last
            if b != 0:
                tilt = np.exp(-b * z)
                given = weight.copy()
                given[rows] *= tilt * (weight[rows].sum() / (weight[rows] @ tilt))
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", PUWarning)
                    model = clone(last).fit(X, s, sample_weight=given)
            changed = float(np.mean(model.predict(X) != predicted))
            found.append((model.class_prior_, model.class_prior_interval_, changed))
        return cls(strength, *map(np.array, zip(*found, strict=True))).plot(ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> "SensitivityDisplay":
        """Draw the display.

        Parameters
        ----------
        ax : two matplotlib Axes or None, default=None
            Where to plot; a new figure by default.
        **kwargs : dict
            Passed to `ax.plot` of both curves.

        Returns
        -------
        display : SensitivityDisplay
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
            _, ax = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
        if np.ndim(ax) != 1 or len(ax) != 2:
            raise ValueError("ax must be None or two axes, as plt.subplots(1, 2) makes them.")
        self.ax_, self.figure_ = np.asarray(ax), ax[0].figure
        style = {"marker": "o", "color": "C0"} | kwargs
        self.lines_ = []
        for one, values in zip(ax, (self.share, self.changed), strict=True):
            self.lines_ += one.plot(self.strength, values, **style)
            one.axvline(0, color="0.6", linestyle=":")
            one.set(xlabel="Strength of the bias", ylim=(-0.02, 1.02))
        low, high = np.transpose(self.interval)
        ax[0].fill_between(self.strength, low, high, color="C0", alpha=0.2, linewidth=0)
        ax[0].set_ylabel("Share of positives")
        ax[1].set_ylabel("Changed predictions")
        return self


def _normal_scores(model: PUTrendClassifier, X: Any, s: Any) -> tuple[Array, Array]:
    """Return the labeled positives that were used, and the normal scores of their ranks."""
    y, only_label = fill_missing(s)
    check_consistent_length(X, y)
    labeled = np.asarray(y) == (model.classes_[1] if only_label is None else 1)
    scores = model.heldout_trend_scores_
    inside = model.rows_[model.rows_ < labeled.shape[0]]
    rows = inside[labeled[inside]]
    known = inside.shape == model.rows_.shape and rows.shape == scores.shape
    if not known or model.n_folds is None:
        raise ValueError(
            "The labeled positives have no held-out scores. Pass the X and s that the classifier "
            "was fitted on, with n_folds set."
        )
    return rows, ndtri((rankdata(scores) - 0.5) / scores.shape[0])
