"""How the training of a language policy went: its rewards, valid shares and log-ratios."""

from typing import Any, Self

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted


class TrainingDisplay:
    """Curves of a run of training: after each epoch of a fit, or each round of `improve`.

    Of rounds the mean reward of the samples with its 95 % interval, and the share of them that is
    valid; of both the mean log-ratios of good and bad completions to the policy that wrote them. It
    learns where the good ones rise and the bad ones fall; where both fall, by tens of nats, it
    collapses. Best made with `from_estimator`.

    Parameters
    ----------
    history : list of mappings
        The `history_` of a :class:`~pnsklearn.language.TOPRLanguagePolicy`, or the lines of the
        ``history.jsonl`` of its checkpoint.

    Attributes
    ----------
    ax_ : ndarray of matplotlib Axes
        Of rounds three, with rewards, valid shares and log-ratios; else one, with log-ratios.
    figure_ : matplotlib Figure
        The figure of the axes.
    lines_ : list of matplotlib Line2D
        The curves.

    Examples
    --------
    >>> from pnsklearn.displays import TrainingDisplay
    >>> history = [
    ...     {"positive_log_ratio": 0.1, "negative_log_ratio": -0.2},
    ...     {"positive_log_ratio": 0.3, "negative_log_ratio": -1.5},
    ... ]
    >>> TrainingDisplay(history).plot().ax_[0].get_xlabel()
    'Epoch'
    """

    def __init__(self, history: Any):
        self.history = history

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None, **kwargs: Any) -> Self:
        """Plot how a policy was trained.

        Parameters
        ----------
        estimator : TOPRLanguagePolicy
            A fitted policy.
        ax : matplotlib Axes, one or three, or None, default=None
            Where to plot; a new figure by default.
        **kwargs : dict
            Passed to `ax.plot` of the curves.

        Returns
        -------
        display : TrainingDisplay
            The display.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted, or is another one.
        """
        check_is_fitted(estimator, "history_")
        return cls(estimator.history_).plot(ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, one or three, or None, default=None
            Where to plot; a new figure by default.
        **kwargs : dict
            Passed to `ax.plot` of the curves.

        Returns
        -------
        display : TrainingDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the history is empty, or `ax` is of another number.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        if not len(self.history):
            raise ValueError("The history is empty: nothing was learned yet.")
        by_round = "value" in self.history[0]
        n_axes = 3 if by_round else 1
        if ax is None:
            size = (12 if by_round else 5), 4
            _, ax = plt.subplots(1, n_axes, figsize=size, layout="constrained")
        ax = np.atleast_1d(ax)
        if ax.shape != (n_axes,):
            wanted = "three axes, as plt.subplots(1, 3) makes them" if by_round else "one"
            raise ValueError(f"ax must be None or {wanted}.")
        self.ax_, self.figure_ = ax, ax[0].figure
        self.lines_: list[Any] = []
        if by_round:
            self._plot_samples(kwargs)
        for name, label in (("positive", "good completions"), ("negative", "bad completions")):
            color = "C0" if name == "positive" else "C1"
            values = self._column(f"{name}_log_ratio")
            self._curve(ax[-1], values, {"label": label, "color": color} | kwargs)
        ax[-1].axhline(0, color="0.6", linewidth=0.8, zorder=0)
        ax[-1].set_ylabel("Mean log-ratio (nats)")
        ax[-1].legend()
        for one in ax:
            one.set_xlabel("Round" if by_round else "Epoch")
            one.xaxis.get_major_locator().set_params(integer=True)
        return self

    def _plot_samples(self, kwargs):
        """Draw what the samples of rounds were like."""
        reward, share = self.ax_[:2]
        low, high = self._column("low"), self._column("high")
        self._curve(reward, self._column("value"), {"color": "C0"} | kwargs)
        reward.fill_between(np.arange(1, len(low) + 1), low, high, color="C0", alpha=0.2)
        reward.set_ylabel("Mean reward of the samples")
        self._curve(share, 1 - self._column("invalid"), {"color": "C0"} | kwargs)
        share.set(ylabel="Share of valid samples", ylim=(-0.03, 1.03))

    def _curve(self, ax, values, style):
        """Draw a value for each epoch or round."""
        self.lines_ += ax.plot(np.arange(1, len(values) + 1), values, **{"marker": "o"} | style)

    def _column(self, name):
        return np.array([entry[name] for entry in self.history], dtype=float)
