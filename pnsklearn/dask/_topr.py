"""DaskTOPRPolicy: a policy learned where the log is."""

from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets

from pnsklearn._fitting import callback_tasks, replace_fitted, unchanged_on_error
from pnsklearn._topr._diagnostics import diagnosis_of
from pnsklearn._topr._doubt import warn_of_sums, warn_of_value
from pnsklearn._topr._estimator import TOPRPolicy
from pnsklearn._topr._evaluation import ratio_sums, value_of_sums
from pnsklearn._topr._feedback import check_contrast, check_log, contrast_of, read_log
from pnsklearn._topr._objective import Linear
from pnsklearn._topr._selection import C_FACTORS, make_splits, resolve_bounds, select
from pnsklearn._topr._training import train_linear
from pnsklearn.dask._blocks import aligned, among, is_dask, read
from pnsklearn.dask._lazy import (
    LazyMixin,
    accuracy,
    check_features,
    check_supported,
    for_workers,
)
from pnsklearn.dask._policies import (
    BlockedPolicy,
    diagnostics_of,
    outcomes_of,
    size_of,
    to_learn,
)

MOST_ROWS = 10_000  # an action, on which the bounds are chosen
COLUMNS = "X", "action", "reward", "propensity", "weight"


# Functions of a block


def raw_log(X, y, sample_weight=None, reward=None, propensity=None):
    """Return the columns of a block as they are."""
    return X, y, sample_weight, reward, propensity


def actions_of(block):
    """Return the number of rows of a block, and the actions in them."""
    _, y, weight, *_ = block
    y = np.asarray(y).ravel()
    kept = slice(None) if weight is None else np.asarray(weight).ravel() > 0
    return len(y), np.unique(y[kept])


def check_block(block, estimator, dtype, classes, propensity):
    """Return the Feedback of a block that has rows."""
    X, y, weight, reward, own = block
    propensity = propensity if own is None else own
    feedback = check_log(
        estimator, X, y, weight, reward, propensity, deep=False, classes=classes, reset=False
    )
    columns = {name: getattr(feedback, name) for name in COLUMNS}
    columns = {name: None if c is None else aligned(c) for name, c in columns.items()}
    return replace(feedback, **columns | {"X": aligned(feedback.X, dtype)}, kept=None)


def rewards_of(feedback):
    """Return the lowest and highest reward, and the sums of reward and weight; and the rows."""
    reward, weight = feedback.reward, feedback.weight
    if reward is None or not len(reward):
        return np.inf, -np.inf, 0.0, 0.0, len(weight)
    return reward.min(), reward.max(), weight @ reward, weight.sum(), len(weight)


def rows_at(feedback, where):
    """Return some rows of a block."""
    return feedback.rows(where)


def value_sums(local, shared, X, y, sample_weight=None, reward=None, propensity=None):
    """Return the sums of a self-normalised value over a block."""
    if not len(X):
        return np.zeros(4)
    propensity = propensity if shared is None else shared
    log = read_log(X, y, reward, propensity, local.classes_)
    policy, feedback = local._held_out(*log[:2], sample_weight, *log[2:])
    return ratio_sums(policy, feedback)


class DaskTOPRPolicy(LazyMixin, TOPRPolicy):
    """TOPRPolicy for logs in Dask arrays and frames, fitted where their rows are.

    The same policy as :class:`~pnsklearn.TOPRPolicy` makes of the same log in memory, but for
    rounding: the same solver sees sums over blocks of rows. It runs on the cluster of the current
    client, and without one on Dask's own scheduler. Read more in the :ref:`User Guide <dask>`.

    The parameters are those of :class:`~pnsklearn.TOPRPolicy`, of which these are limited: `solver`
    is "auto" or "lbfgs", `cv` an int or None, `device` "cpu", and `module` and `effective_positive`
    None. ``bounds="cv"`` chooses on at most 10,000 rows for each action, at even distances.

    The attributes are those of :class:`~pnsklearn.TOPRPolicy`. Predictions of Dask collections are
    lazy Dask arrays, and of other data arrays.

    See Also
    --------
    pnsklearn.TOPRPolicy : The plain estimator, which `to_local` returns.

    Examples
    --------
    >>> import dask.array as da
    >>> from sklearn.datasets import load_digits
    >>> from pnsklearn.dask import DaskTOPRPolicy
    >>> from pnsklearn.datasets import make_logged_bandit
    >>> X, y = load_digits(return_X_y=True)
    >>> log = make_logged_bandit(X / 16, y, random_state=0)
    >>> X, action, reward = (
    ...     da.from_array(column, chunks=(600, *column.shape[1:]))
    ...     for column in (log.X, log.action, log.reward)
    ... )
    >>> policy = DaskTOPRPolicy(bounds="topr").fit(X, action, reward=reward, propensity=0.1)
    >>> bool((policy.predict(X).compute() == y).mean() > 0.9)
    True
    """

    _local = TOPRPolicy

    @unchanged_on_error
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *,
        reward: Any = None, propensity: Any = None,
    ) -> Self:  # fmt: skip
        """Learn the policy from a log.

        Parameters
        ----------
        X : Dask array or frame of shape (n_samples, n_features)
            Contexts; each chunk has whole rows.

        y : Dask array or series of shape (n_samples,)
            The actions that were taken, in the partitions of X.

        sample_weight : Dask array or series of shape (n_samples,), default=None
            Non-negative weights.

        reward : Dask array or series of shape (n_samples,), or str, default=None
            What came of the actions; see :class:`~pnsklearn.TOPRPolicy`. A string names a column of
            the frame X, which is then no feature.

        propensity : Dask array, series or frame of shape (n_samples,) or (n_samples, n_actions), \
                float or str, default=None
            Probability with which the action was taken, or those of all actions, in sorted order;
            one number for all; or the name of a column of the frame X. It cannot be estimated here.

        Returns
        -------
        self : DaskTOPRPolicy
            The fitted estimator.

        Raises
        ------
        TypeError
            If X or a column is no Dask collection.
        ValueError
            If a parameter, X, a reward, propensity or weight is out of its range, the partitions do
            not belong together, there are rewards without propensities, only one action, or all
            rewards equal the baseline.
        RuntimeError
            If the cluster has no workers, or they die again and again.
        """
        self._check_settings()
        X, reward, propensity = _take_columns(X, reward, propensity)
        dtype = check_features(self, X)
        columns, shared = _columns(X, y, sample_weight, reward, propensity)
        rng = check_random_state(self.random_state)
        with callback_tasks(self, X, y) as on_task, read(raw_log, **columns) as blocks:
            found = blocks.map(actions_of)
            blocks.keep([n > 0 for n, _ in found])
            classes = np.unique(np.concatenate([actions for n, actions in found if n]))
            check_classification_targets(classes)
            blocks.transform(check_block, for_workers(self), dtype, classes, shared)
            baseline, lengths = self._survey(blocks)
            bounds, C, selection = self.bounds, self.C, None
            if bounds == "cv":
                bounds = "topr"
                if reward is not None:
                    member, C, selection = self._select(
                        blocks, lengths, len(classes), baseline, rng
                    )
                    bounds, baseline = member.name, member.baseline
            blocks.transform(to_learn, baseline, resolve_bounds(bounds))
            self._learn(blocks, classes, dtype, on_task, bounds=bounds, C=C, rng=rng)
            if reward is not None:
                self.baseline_ = baseline
                self._say(blocks)
            if selection is not None:
                self.selection_ = selection
                warn_of_value(selection)
        return self

    def _survey(self, blocks):
        """Return the baseline, None without rewards, and the lengths of the blocks."""
        lowest, highest, sums, weights, lengths = map(
            np.array, zip(*blocks.map(rewards_of), strict=True)
        )
        if not weights.any():
            return None, lengths
        if self.baseline != "auto":
            baseline = float(self.baseline)
        else:
            mean = sums.sum() / weights.sum()
            baseline = contrast_of(lowest.min(), highest.max(), mean)
        check_contrast(np.array([lowest.min(), highest.max()]), baseline)
        return baseline, lengths

    def _select(self, blocks, lengths, n_actions, baseline, rng):
        """Return the chosen member of the family, its C, and what was found, on a sample."""
        n_rows = lengths.sum()
        used = np.arange(n_rows)
        if n_rows > MOST_ROWS * n_actions:
            used = np.linspace(0, n_rows, MOST_ROWS * n_actions, endpoint=False).astype(int)
        parts = blocks.map(rows_at, each=among(used, lengths))
        log = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
        feedback = replace(parts[0], **log, baseline=baseline, bounds=resolve_bounds("topr"))
        # C multiplies a sum over the rows, of which these are a share.
        share = len(used) / n_rows
        Cs = [self.C * factor / share for factor in C_FACTORS]
        path = partial(self._training(self.C).path, seed=rng.randint(2**31 - 1))
        splits = make_splits(self.cv, feedback, {})
        member, C, selection = select(
            feedback, splits, Cs, path=path, act=self.act, n_jobs=self.n_jobs
        )
        selection.C *= share
        return member, C * share, selection

    def _learn(self, blocks, classes, dtype, on_task, *, bounds, C, rng):
        """Fit to the blocks of the log, and set what was fitted."""
        n_logits = 1 if len(classes) == 2 else len(classes)
        linear = Linear(n_logits, self.n_features_in_, self.fit_intercept, dtype)
        (size,) = blocks.sum(size_of)
        objective = BlockedPolicy(linear, C, size, size, blocks)
        start = self._start(classes, self.n_features_in_) if self.warm_start else None
        solve = self._training(C).solver_from(resolve_bounds(bounds), start, rng)

        def on_iteration(attributes):
            return on_task("iteration", lambda: {"classes_": classes, **attributes()})

        attributes = train_linear(objective, start, solve, on_iteration)
        replace_fitted(self, {"classes_": classes, **attributes, "bounds_": bounds, "C_": C})

    def _say(self, blocks):
        """Set the diagnostics, and warn of what speaks against the policy."""
        weights = self.coef_, self.intercept_
        sums = [found for found in blocks.map(diagnostics_of, *weights) if found is not None]
        self.diagnostics_ = diagnosis_of(sums)
        warn_of_sums(blocks.sum(outcomes_of, self.act, *weights)[0], self.classes_)

    def _check_settings(self):
        """Refuse what needs all rows in one place, besides what makes no sense."""
        check_supported(
            self,
            module=(self.module is None, "None"),
            device=(self.device == "cpu", "'cpu'"),
            solver=(self.solver != "adam", "'auto' or 'lbfgs'"),
            effective_positive=(self.effective_positive is None, "None, and a baseline"),
            cv=(self.cv is None or isinstance(self.cv, Integral), "None or an int"),
        )
        super()._check_settings()

    def decision_function(self, X: Any) -> Any:
        """Return the logits of the policy.

        Parameters
        ----------
        X : Dask array or frame, or array-like, of shape (n_samples, n_features)
            Contexts.

        Returns
        -------
        logits : Dask array or ndarray of shape (n_samples, n_actions), or (n_samples,) for two
            For two, the log-odds of ``classes_[1]``.
        """
        return self._predicted("decision_function", X)

    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithms of the policy's probabilities.

        Parameters
        ----------
        X : Dask array or frame, or array-like, of shape (n_samples, n_features)
            Contexts.

        Returns
        -------
        log_probability : Dask array or ndarray of shape (n_samples, n_actions)
            Columns in the order of `classes_`.
        """
        return self._predicted("predict_log_proba", X)

    def predict_proba(self, X: Any) -> Any:
        """Return the policy: the probability of each action.

        Parameters
        ----------
        X : Dask array or frame, or array-like, of shape (n_samples, n_features)
            Contexts.

        Returns
        -------
        probability : Dask array or ndarray of shape (n_samples, n_actions)
            Columns in the order of `classes_`.
        """
        return self._predicted("predict_proba", X)

    def predict(self, X: Any) -> Any:
        """Return the likeliest action of each row.

        Parameters
        ----------
        X : Dask array or frame, or array-like, of shape (n_samples, n_features)
            Contexts.

        Returns
        -------
        actions : Dask array or ndarray of shape (n_samples,)
            Entries of `classes_`.
        """
        return self._predicted("predict", X)

    def score(
        self, X: Any, y: Any, sample_weight: Any = None, *,
        reward: Any = None, propensity: Any = None,
    ) -> float:  # fmt: skip
        """Return the off-policy estimate of the policy's value: its mean reward.

        Parameters
        ----------
        X : Dask array or frame, or array-like, of shape (n_samples, n_features)
            Contexts of a log that the policy was not fitted to.

        y : Dask array or series, or array-like, of shape (n_samples,)
            The actions that were taken.

        sample_weight : Dask array or series, or array-like, of shape (n_samples,), default=None
            Non-negative weights.

        reward, propensity : as in `fit`, default=None
            Without rewards, in `fit` as well, the score is the accuracy.

        Returns
        -------
        value : float
            The self-normalised estimate.

        Raises
        ------
        ValueError
            If the policy was fitted to rewards and there are none here, or no propensities.
        """
        local = self.to_local()
        if not is_dask(X):
            return local.score(X, y, sample_weight, reward=reward, propensity=propensity)
        X, reward, propensity = _take_columns(X, reward, propensity)
        if reward is None and not hasattr(self, "baseline_"):
            return accuracy(local, X=X, y=y, sample_weight=sample_weight)
        if reward is None or propensity is None:
            raise ValueError("The score of a policy needs reward and propensity.")
        columns, shared = _columns(X, y, sample_weight, reward, propensity)
        with read(partial(value_sums, local, shared), **columns) as blocks:
            return float(value_of_sums(*blocks.sum(tuple)))


def _columns(X, y, sample_weight, reward, propensity):
    """Return the columns of a log, and the propensity if it is one number."""
    shared = propensity if isinstance(propensity, Real) else None
    columns = {"X": X, "y": y, "sample_weight": sample_weight, "reward": reward}
    return columns | {"propensity": None if shared is not None else propensity}, shared


def _take_columns(X, reward, propensity):
    """Return X without the columns that are named, and these."""
    named = [name for name in (reward, propensity) if isinstance(name, str)]
    for name in named:
        if name not in getattr(X, "columns", ()):
            raise ValueError(
                f"{name!r} is no column of X; propensity='estimate' is for the plain TOPRPolicy, "
                "whose estimate needs all rows in memory."
            )
    columns = (X[name] if isinstance(name, str) else name for name in (reward, propensity))
    return X.drop(columns=named) if named else X, *columns
