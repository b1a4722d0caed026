"""What a policy is worth on a log, and how much of the log says so."""

from typing import Any, Self

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from pnsklearn._logged import check_feedback
from pnsklearn._topr._estimator import TOPRPolicy
from pnsklearn._validation import check_weights
from pnsklearn.displays._steps import last_step
from pnsklearn.metrics import effective_sample_size
from pnsklearn.metrics._off_policy import ValueEstimate, widen_policy

N_BINS, SURE = 40, 1.96
NAMES = {"ips": "IPS", "snips": "SNIPS", "clipped_ips": "clipped IPS", "dr": "DR"}


class PolicyValueDisplay:
    """Estimates of a policy's value with intervals, beside the importance weights behind them.

    Left, the value by each estimator, or by each round of a policy that was refreshed, and the mean
    reward of the log. Right, the histogram of the importance weights, the probability of each
    logged action under the policy over its propensity, and the effective sample size: where few
    rows have most of the weight the estimates cannot be trusted. Best made with `from_estimator`,
    or with `from_selection`: the candidates of ``TOPRPolicy(bounds="cv")``, without a histogram.

    Parameters
    ----------
    values : dict of str to named tuple (value, standard_error, low, high)
        Estimates of the value by name; or one for each round, by number, if `by_round`. See
        :func:`pnsklearn.metrics.ips_value`.
    logged : named tuple (value, standard_error, low, high)
        The mean reward of the log.
    importance_weights : array-like of shape (n_samples,), default=None
        Non-negative ratios; None leaves their axes out.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows.
    by_round : bool, default=False
        Whether `values` are those of rounds, joined by a line.
    taken : str or None, default=None
        The candidate that was taken, if `values` are those of candidates.

    Attributes
    ----------
    ax_ : ndarray of 2 matplotlib Axes, or 1
        The axes with the values and those with the histogram.
    figure_ : matplotlib Figure
        The figure of the axes.
    errorbar_ : matplotlib ErrorbarContainer
        The values with their intervals.

    Examples
    --------
    >>> from pnsklearn.displays import PolicyValueDisplay
    >>> from pnsklearn.metrics import ips_value, snips_value
    >>> log = [0.9, 0.1, 0.5], [0.5, 0.5, 0.25], [1.0, -1.0, 1.0]
    >>> values = {f.__name__: f(*log, confidence_level=0.9) for f in (ips_value, snips_value)}
    >>> logged = ips_value([1.0] * 3, [1.0] * 3, log[2], confidence_level=0.9)
    >>> display = PolicyValueDisplay(values, logged, [1.8, 0.2, 2.0]).plot()
    >>> display.ax_[1].get_title()
    'Effective sample size 2.2 of 3'
    """

    def __init__(
        self, values: dict[str, ValueEstimate], logged: ValueEstimate,
        importance_weights: Any = None, *, sample_weight: Any = None, by_round: bool = False,
        taken: str | None = None,
    ):  # fmt: skip
        self.values = values
        self.logged = logged
        self.importance_weights = importance_weights
        self.sample_weight = sample_weight
        self.by_round = by_round
        self.taken = taken

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any, *, reward: Any = None, propensity: Any = None,
        sample_weight: Any = None, ax: Any = None, **kwargs: Any,
    ) -> Self:  # fmt: skip
        """Plot for a fitted policy and a log that it was not fitted to.

        The rounds are plotted if the policy has `rounds_`, as after `TOPRPolicy.improve`.

        Parameters
        ----------
        estimator : TOPRPolicy or Pipeline that ends in one
            A fitted policy.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Contexts.
        y : array-like of shape (n_samples,)
            The actions that were taken, or a y of
            :func:`pnsklearn.datasets.make_feedback`.
        reward : array-like of shape (n_samples,), default=None
            Rewards; needed, unless y has them.
        propensity : array-like of shape (n_samples,), default=None
            Probabilities with which the actions were taken; needed, unless y has them.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.
        ax : two matplotlib Axes or None, default=None
            Where to plot; a new figure by default.
        **kwargs : dict
            Passed to `ax.errorbar` of the values.

        Returns
        -------
        display : PolicyValueDisplay
            The display.

        Raises
        ------
        TypeError
            If the estimator is another one.
        NotFittedError
            If it is not fitted.
        ValueError
            If there are no rewards or no propensities, or they are out of their range.
        """
        policy = last_step(estimator, TOPRPolicy, "evaluate")
        check_is_fitted(policy)
        action, reward, propensity = check_feedback(y, reward, propensity)
        if reward is None or propensity is None or isinstance(propensity, str):
            raise ValueError(
                "PolicyValueDisplay needs reward and propensity as arrays, or a y of make_feedback."
            )
        if policy is not estimator:
            X = estimator[:-1].transform(X) if len(estimator) > 1 else X
        known = np.union1d(policy.classes_, action)
        proba = widen_policy(policy.predict_proba(X), policy.classes_, known)
        chosen = proba[np.arange(len(proba)), np.searchsorted(known, action)]
        report = policy.evaluate(X, action, sample_weight, reward=reward, propensity=propensity)
        rounds = getattr(policy, "rounds_", None)
        if rounds is None:
            values = {label: report[name] for name, label in NAMES.items()}
        else:
            values = {str(i): entry.value for i, entry in enumerate(rounds, start=1)}
        how = {"sample_weight": sample_weight, "by_round": rounds is not None}
        return cls(values, report.logged, chosen / propensity, **how).plot(ax, **kwargs)

    @classmethod
    def from_selection(cls, estimator: Any, *, ax: Any = None, **kwargs: Any) -> Self:
        """Plot what ``TOPRPolicy(bounds="cv")`` chose from: each candidate's cross-fitted value.

        Parameters
        ----------
        estimator : TOPRPolicy or Pipeline that ends in one
            A policy that was fitted to rewards.
        ax : matplotlib Axes or None, default=None
            Where to plot; a new figure by default.
        **kwargs : dict
            Passed to `ax.errorbar` of the values.

        Returns
        -------
        display : PolicyValueDisplay
            The display, with 95 % intervals. That the best of several was taken, they do not know.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If it has no `selection_`, as after a fit with given bounds.
        """
        check_is_fitted(estimator)
        policy = estimator[-1] if hasattr(estimator, "steps") else estimator
        found = getattr(policy, "selection_", None)
        if found is None:
            raise ValueError("There was no choice: fit TOPRPolicy(bounds='cv') to rewards.")
        names = _candidate_names(found)
        columns = found.value, found.standard_error
        values = {
            name: ValueEstimate(value, error, value - SURE * error, value + SURE * error)
            for name, value, error in zip(names, *columns, strict=True)
        }
        logged = ValueEstimate(found.logged, 0.0, found.logged, found.logged)
        return cls(values, logged, taken=names[found.best_index]).plot(ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : two matplotlib Axes, one without `importance_weights`, or None, default=None
            Where to plot; a new figure by default.
        **kwargs : dict
            Passed to `ax.errorbar` of the values.

        Returns
        -------
        display : PolicyValueDisplay
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

        n_axes = 1 if self.importance_weights is None else 2
        if ax is None:
            size = (10 if n_axes == 2 else 7), 4
            _, ax = plt.subplots(1, n_axes, figsize=size, layout="constrained")
        ax = np.atleast_1d(ax)
        if ax.shape != (n_axes,):
            wanted = "one" if n_axes == 1 else "two axes, as plt.subplots(1, 2) makes them"
            raise ValueError(f"ax must be None or {wanted}.")
        self.ax_, self.figure_ = ax, ax[0].figure
        self._plot_values(kwargs)
        if n_axes == 2:
            self._plot_weights()
        return self

    def _plot_values(self, kwargs):
        """Draw the values and their intervals, and the mean reward of the log."""
        ax = self.ax_[0]
        value, _, low, high = np.transpose(list(self.values.values()))
        places = np.arange(len(value))
        style = {"fmt": "o-" if self.by_round else "o", "capsize": 4, "label": "policy"}
        reach = [value - low, high - value]
        self.errorbar_ = ax.errorbar(places, value, yerr=reach, **style | kwargs)
        ax.axhline(self.logged.value, color="0.4", linestyle="--", label="log")
        ax.axhspan(self.logged.low, self.logged.high, color="0.4", alpha=0.15, linewidth=0)
        ax.set_xticks(places, list(self.values))
        ax.set(xlabel="Round" if self.by_round else "Estimator", ylabel="Mean reward")
        if self.taken is not None:
            place = list(self.values).index(self.taken)
            ax.plot(place, value[place], "s", color="C1", zorder=3, label="taken")
            ax.tick_params(axis="x", rotation=90)
            ax.set_xlabel("Candidate")
        ax.legend()

    def _plot_weights(self):
        """Draw the histogram of the importance weights."""
        ax = self.ax_[1]
        ratio = np.asarray(self.importance_weights, dtype=np.float64)
        weight = check_weights(self.sample_weight, ratio)
        size = effective_sample_size(ratio, np.ones_like(ratio), sample_weight=weight)
        ax.hist(ratio, bins=N_BINS, weights=weight, color="C0")
        ax.axvline(1.0, color="0.4", linestyle="--", label="as the log")
        # The few rows of large weight, which matter most, would not be seen on a linear scale.
        ax.set_yscale("log")
        ax.set(
            xlabel="Importance weight",
            ylabel="Rows",
            title=f"Effective sample size {size:.1f} of {weight.sum():g}",
        )
        ax.legend()


def _candidate_names(found):
    """Return a name for each candidate; the baseline where it tells two apart."""
    members = [name for name, _ in set(zip(found.bounds, found.baseline, strict=True))]
    return [
        f"{name}{f', baseline {baseline:.2g}' if members.count(name) > 1 else ''}, C={C:g}"
        for name, baseline, C in zip(found.bounds, found.baseline, found.C, strict=True)
    ]
