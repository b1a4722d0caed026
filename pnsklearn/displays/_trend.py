"""How a PUTrendClassifier told positives from negatives: scores in training, and their trends."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from pnsklearn._pu_trend._estimator import PUTrendClassifier
from pnsklearn.displays._steps import last_step

# Bins of the histogram, over the range of all trend scores.
N_BINS = 50
GROUPS = (
    ("held-out positives", "C0"),
    ("unlabeled, called positive", "C1"),
    ("unlabeled, called negative", "C7"),
)


class TrendDisplay:
    """Score trajectories in training, beside the histogram of the trend scores.

    Left, the scores of three groups at each snapshot: mean and band from the 10 % to the 90 %
    quantile. Trends can be trusted where the held-out positives rise with the unlabeled rows that
    are called positive. Beside it, the trend scores and the threshold that splits them; and, if
    there are any, the diagnostics as a table, above it the posterior of the share of positives with
    its interval, and the verdict. Best made with `from_estimator`.

    Parameters
    ----------
    snapshot_quantiles : array-like of shape (3, n_snapshots, 3)
        Scores of the held-out labeled positives, of the unlabeled rows called positive and of
        those called negative; at each snapshot their 10 % quantile, mean and 90 % quantile. A group
        without rows is NaN.
    trend_scores : array-like of shape (n_unlabeled,)
        Trend scores of the unlabeled rows.
    heldout_trend_scores : array-like of shape (n_positives,)
        Trend scores of the labeled positives, each held out of training; may be empty.
    split_threshold : float
        Unlabeled rows with a larger trend score are called positive.
    other_threshold : float or None, default=None
        A second threshold to mark, for comparison.
    stop_snapshot : int or None, default=None
        Index of the last snapshot in use, marked by a vertical line.
    selected_trend : str, default="trend"
        Name of the trend score.
    diagnostics : sequence of (what, value, limit, verdict) or None, default=None
        What was looked at, with the verdict "fine" or another one.
    posterior : PriorPosterior or None, default=None
        The posterior of the share of positives; only drawn with diagnostics, as are the next two.
    class_prior : float or None, default=None
        The share in use.
    class_prior_interval : tuple of float or None, default=None
        Its interval.

    Attributes
    ----------
    ax_ : ndarray of 2 or 3 matplotlib Axes
        The axes with the trajectories, those with the histogram, and those with the table.
    figure_ : matplotlib Figure
        The figure of the axes.
    lines_ : list of matplotlib Line2D
        The means of the three groups.
    bands_ : list of matplotlib PolyCollection
        Their bands.

    Examples
    --------
    >>> import numpy as np
    >>> from pnsklearn.displays import TrendDisplay
    >>> means = np.array([[0.5, 0.7, 0.9], [0.5, 0.6, 0.8], [0.5, 0.3, 0.1]])
    >>> quantiles = np.stack([means - 0.1, means, means + 0.1], axis=-1)
    >>> trends = [-0.3, -0.2, -0.2, 0.1, 0.2]
    >>> display = TrendDisplay(quantiles, trends, [0.2, 0.3], split_threshold=0.0).plot()
    >>> [ax.get_xlabel() for ax in display.ax_]
    ['Snapshot', 'Trend score (trend)']
    """

    def __init__(
        self, snapshot_quantiles: ArrayLike, trend_scores: ArrayLike,
        heldout_trend_scores: ArrayLike, split_threshold: float, *,
        other_threshold: float | None = None, stop_snapshot: int | None = None,
        selected_trend: str = "trend", diagnostics: Any = None, posterior: Any = None,
        class_prior: float | None = None, class_prior_interval: tuple[float, float] | None = None,
    ):  # fmt: skip
        self.snapshot_quantiles = snapshot_quantiles
        self.trend_scores = trend_scores
        self.heldout_trend_scores = heldout_trend_scores
        self.split_threshold = split_threshold
        self.other_threshold = other_threshold
        self.stop_snapshot = stop_snapshot
        self.selected_trend = selected_trend
        self.diagnostics = diagnostics
        self.posterior = posterior
        self.class_prior = class_prior
        self.class_prior_interval = class_prior_interval

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, other_threshold: float | None = None, ax: Any = None, **kwargs: Any
    ) -> "TrendDisplay":
        """Plot what a classifier saw in its training.

        Parameters
        ----------
        estimator : PUTrendClassifier or Pipeline that ends in one
            A fitted classifier.
        other_threshold : float or None, default=None
            A second threshold to mark in the histogram.
        ax : two or three matplotlib Axes or None, default=None
            Where to plot; a new figure by default. With two there is no table.
        **kwargs : dict
            Passed to `ax.plot` of the trajectories.

        Returns
        -------
        display : TrendDisplay
            The display.

        Raises
        ------
        TypeError
            If the estimator is another one.
        NotFittedError
            If it is not fitted.
        """
        last = last_step(estimator, PUTrendClassifier, "trend_scores_")
        check_is_fitted(last, "snapshot_quantiles_")
        return cls(
            last.snapshot_quantiles_,
            last.trend_scores_,
            last.heldout_trend_scores_,
            last.split_threshold_,
            other_threshold=other_threshold,
            stop_snapshot=last.stop_snapshot_,
            selected_trend=last.selected_trend_,
            diagnostics=last.diagnostics_,
            posterior=last.class_prior_posterior_,
            class_prior=last.class_prior_,
            class_prior_interval=last.class_prior_interval_,
        ).plot(ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> "TrendDisplay":
        """Draw the display.

        Parameters
        ----------
        ax : two or three matplotlib Axes or None, default=None
            Where to plot; a new figure by default. With two there is no table.
        **kwargs : dict
            Passed to `ax.plot` of the trajectories.

        Returns
        -------
        display : TrendDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `ax` is neither None nor two axes, or three where there are diagnostics.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        most = 2 if self.diagnostics is None else 3
        if ax is None:
            _, ax = plt.subplots(1, most, figsize=(5 * most, 4), layout="constrained")
        if np.ndim(ax) != 1 or not 2 <= len(ax) <= most:
            raise ValueError("ax must be None or two axes, as plt.subplots(1, 2) makes them.")
        self.ax_, self.figure_ = np.asarray(ax), ax[0].figure
        self._plot_trajectories(kwargs)
        self._plot_histogram()
        if len(ax) == 3:
            self._plot_table()
        return self

    def _plot_trajectories(self, kwargs):
        """Draw mean and band of each group over the snapshots."""
        ax = self.ax_[0]
        self.lines_, self.bands_ = [], []
        curves = np.asarray(self.snapshot_quantiles)
        for quantiles, (label, color) in zip(curves, GROUPS, strict=True):
            low, mean, high = np.transpose(quantiles)
            snapshots = np.arange(len(mean))
            self.lines_ += ax.plot(snapshots, mean, **{"color": color, "label": label} | kwargs)
            band = ax.fill_between(snapshots, low, high, color=color, alpha=0.2, linewidth=0)
            self.bands_.append(band)
        if self.stop_snapshot is not None:
            ax.axvline(self.stop_snapshot, color="0.4", linestyle=":", label="last in use")
        ax.set(xlabel="Snapshot", ylabel="Score", ylim=(-0.02, 1.02))
        ax.legend()

    def _plot_histogram(self):
        """Draw the densities of the trend scores, and the thresholds."""
        ax = self.ax_[1]
        unlabeled, heldout = np.asarray(self.trend_scores), np.asarray(self.heldout_trend_scores)
        bins = np.histogram_bin_edges(np.concatenate([unlabeled, heldout]), N_BINS)
        style = {"bins": bins, "density": True}
        ax.hist(unlabeled, color="0.75", label="unlabeled", **style)
        if len(heldout) > 0:
            label, color = GROUPS[0]
            ax.hist(heldout, histtype="step", color=color, linewidth=1.5, label=label, **style)
        for threshold, name, line in (
            (self.split_threshold, "threshold", "--"),
            (self.other_threshold, "other threshold", ":"),
        ):
            if threshold is not None:
                label = f"{name} ({threshold:.3g})"
                ax.axvline(threshold, color="black", linestyle=line, label=label)
        ax.set(xlabel=f"Trend score ({self.selected_trend})", ylabel="Density")
        ax.legend()

    def _plot_table(self):
        """Draw the diagnostics; verdicts that are not fine stand out. Above them the posterior."""
        ax = self.ax_[2]
        ax.set_axis_off()
        interval = self.class_prior_interval
        place = "center"
        if self.posterior is not None and interval is not None and np.isfinite(interval).all():
            self._plot_posterior(ax.inset_axes((0.02, 0.55, 0.96, 0.36)), *interval)
            place = "lower center"
        cells = [(w, f"{v:.3g}", f"{m:.3g}", verdict) for w, v, m, verdict in self.diagnostics]
        table = ax.table(cells, colLabels=("what", "value", "limit", "verdict"), loc=place)
        table.auto_set_column_width(range(4))
        for row, (*_, verdict) in enumerate(self.diagnostics, 1):
            table[row, 3].set_text_props(color="C2" if verdict == "fine" else "C3")

    def _plot_posterior(self, ax, low, high):
        """Draw the density of the share of positives, its interval, and the doubt as the title."""
        share, probability = self.posterior.share, self.posterior.probability
        if share[0] < share[-1]:
            density = probability / np.gradient(share)
            inner = (share > share[0]) & (share < share[-1])  # it may rise without end at the ends
            ax.fill_between(share, density, color="C0", alpha=0.3, linewidth=0)
            ax.set_ylim(0, 1.1 * density[inner].max())
        ax.axvspan(low, high, color="0.9", zorder=0)
        ax.axvline(self.class_prior, color="C0", linewidth=2)
        _, doubt, _, verdict = self.diagnostics[0]
        ax.set(xlim=(0, 1), yticks=[], xlabel="Share of positives among the unlabeled")
        title = f"{self.class_prior:.2f} ({low:.2f} to {high:.2f}); doubt {doubt:.2f}, {verdict}"
        ax.set_title(title, color="C2" if verdict == "fine" else "C3", fontsize="medium")
