"""The value of a policy from decisions that another policy logged."""

from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri
from sklearn.linear_model import Ridge
from sklearn.metrics._scorer import _BaseScorer
from sklearn.preprocessing import add_dummy_feature
from sklearn.utils import _safe_indexing, check_array
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.validation import _check_response_method, column_or_1d

from pnsklearn._logged import ROUTING, check_feedback, refuse_score
from pnsklearn._typing import Array
from pnsklearn._validation import check_weights, without_weightless

# How far above 1 a probability, and how far from 1 a sum of them, may be: float32 rounding.
ROUNDING = 1e-5

CLIP = [Interval(Real, 0, None, closed="neither"), None]
ARRAYS = ("policy_proba", "propensity", "reward", "action")
_check_arguments = validate_params(
    {
        **{name: ["array-like"] for name in ARRAYS},
        "other_proba": ["array-like", None],
        "reward_prediction": ["array-like", None],
        "clip": CLIP,
        "switch": CLIP,
        "sample_weight": ["array-like", None],
        "confidence_level": [Interval(Real, 0, 1, closed="neither"), None],
    },
    prefer_skip_nested_validation=True,
)


class ValueEstimate(NamedTuple):
    """The estimated value of a policy, with its standard error and the bounds of an interval."""

    value: float
    standard_error: float
    low: float
    high: float


@_check_arguments
def ips_value(
    policy_proba: Any, propensity: Any, reward: Any, *, clip: float | None = None,
    sample_weight: Any = None, confidence_level: float | None = None,
) -> float | ValueEstimate:  # fmt: skip
    r"""Estimate the value of a policy by inverse propensity scoring.

    .. math::

        \hat V = \frac{1}{n} \sum_i w_i r_i, \qquad
        w_i = \frac{\pi(a_i \mid x_i)}{\mu(a_i \mid x_i)}

    It is unbiased if the propensities are right and positive wherever π is. Its spread is large
    where π takes actions that the logging policy μ rarely took; clipping cuts the largest weights,
    for a smaller spread and a bias.

    Parameters
    ----------
    policy_proba : array-like of shape (n_samples,)
        Probability π with which the evaluated policy takes the logged action of each row.
    propensity : array-like of shape (n_samples,)
        Probability μ in (0, 1] with which the logged action was taken.
    reward : array-like of shape (n_samples,)
        Finite rewards.
    clip : float or None, default=None
        The largest weight; larger ones are set to it.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights; a whole number counts as so many rows, n is their sum.
    confidence_level : float in (0, 1) or None, default=None
        Coverage of an interval by the normal approximation, with the standard error of the mean of
        the terms. It says nothing about the bias of clipping, and is too optimistic while the
        effective sample size is small.

    Returns
    -------
    value : float or named tuple
        A number, or with a `confidence_level` the named tuple (value, standard_error, low, high):
        the estimate, its standard error, and the bounds of the interval. The last three are
        infinite where the weights do not sum to more than 1.

    Raises
    ------
    ValueError
        If shapes differ, probabilities, propensities or rewards are out of their range, or weights
        are negative or all zero.

    References
    ----------
    D. G. Horvitz, D. J. Thompson, "A Generalization of Sampling Without Replacement From a Finite
    Universe", Journal of the American Statistical Association, 1952.

    Examples
    --------
    >>> from pnsklearn.metrics import ips_value
    >>> policy_proba, propensity, reward = [0.9, 0.1, 0.5], [0.5, 0.5, 0.25], [1.0, -1.0, 1.0]
    >>> round(ips_value(policy_proba, propensity, reward), 4)
    1.2
    >>> round(ips_value(policy_proba, propensity, reward, clip=1.0), 4)
    0.6
    """
    ratio, reward, weight = _check_log(policy_proba, propensity, reward, sample_weight)
    terms = (ratio if clip is None else np.minimum(ratio, clip)) * reward
    return _estimate(np.average(terms, weights=weight), terms, weight, confidence_level)


@_check_arguments
def snips_value(
    policy_proba: Any, propensity: Any, reward: Any, *, sample_weight: Any = None,
    confidence_level: float | None = None,
) -> float | ValueEstimate:  # fmt: skip
    r"""Estimate the value of a policy by self-normalised inverse propensity scoring.

    .. math::

        \hat V = \frac{\sum_i w_i r_i}{\sum_i w_i}, \qquad
        w_i = \frac{\pi(a_i \mid x_i)}{\mu(a_i \mid x_i)}

    A weighted mean of rewards: it cannot leave their range, moves with them when a constant is
    added, and mostly has a smaller spread than :func:`ips_value`. It is consistent, with a bias
    of the order 1/n.

    Parameters
    ----------
    policy_proba : array-like of shape (n_samples,)
        Probability π with which the evaluated policy takes the logged action of each row.
    propensity : array-like of shape (n_samples,)
        Probability μ in (0, 1] with which the logged action was taken.
    reward : array-like of shape (n_samples,)
        Finite rewards.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights; a whole number counts as so many rows.
    confidence_level : float in (0, 1) or None, default=None
        Coverage of an interval by the normal approximation, with the standard error of the delta
        method: that of the mean of :math:`w_i (r_i - \hat V)`, divided by the mean weight.

    Returns
    -------
    value : float or named tuple
        As :func:`ips_value` returns it.

    Raises
    ------
    ValueError
        As :func:`ips_value` does, and if the policy takes no logged action at all.

    References
    ----------
    A. Swaminathan, T. Joachims, "The Self-Normalized Estimator for Counterfactual Learning",
    NeurIPS 2015.

    Examples
    --------
    >>> from pnsklearn.metrics import snips_value
    >>> policy_proba, propensity, reward = [0.9, 0.1, 0.5], [0.5, 0.5, 0.25], [1.0, -1.0, 1.0]
    >>> round(snips_value(policy_proba, propensity, reward), 4)
    0.9
    >>> estimate = snips_value(policy_proba, propensity, reward, confidence_level=0.95)
    >>> round(estimate.standard_error, 4)
    0.1426
    """
    ratio, reward, weight = _check_log(policy_proba, propensity, reward, sample_weight)
    mean_ratio = np.average(ratio, weights=weight)
    if mean_ratio == 0:
        raise ValueError(
            "The policy takes none of the logged actions: all of policy_proba is 0, and the "
            "self-normalised value is not defined."
        )
    value = np.average(ratio * reward, weights=weight) / mean_ratio
    terms = value + ratio * (reward - value) / mean_ratio
    return _estimate(value, terms, weight, confidence_level)


@_check_arguments
def dr_value(
    policy_proba: Any, action: Any, propensity: Any, reward: Any, reward_prediction: Any, *,
    clip: float | None = None, switch: float | None = None, sample_weight: Any = None,
    confidence_level: float | None = None,
) -> float | ValueEstimate:  # fmt: skip
    r"""Estimate the value of a policy by the doubly robust method.

    .. math::

        \hat V = \frac{1}{n} \sum_i \Big[ \sum_a \pi(a \mid x_i)\, \hat q(x_i, a)
                 + w_i \big(r_i - \hat q(x_i, a_i)\big) \Big], \qquad
        w_i = \frac{\pi(a_i \mid x_i)}{\mu(a_i \mid x_i)}

    The predicted rewards :math:`\hat q` fill in the actions that were not taken, and the weights
    correct them. It is unbiased if either the propensities or the predictions are right, the
    latter made without the row's own reward. Good predictions make its spread smaller than that
    of :func:`ips_value`, even if they are not exact.

    Where the weights are large, `clip` cuts them, and `switch` trusts the predictions alone: the
    switch-DR estimate [2]_. Both have a smaller spread for a bias where the predictions are wrong.

    Parameters
    ----------
    policy_proba : array-like of shape (n_samples, n_actions)
        Probability of each action under the evaluated policy; rows sum to 1.
    action : array-like of int of shape (n_samples,)
        Column of the logged action.
    propensity : array-like of shape (n_samples,)
        Probability μ in (0, 1] with which the logged action was taken.
    reward : array-like of shape (n_samples,)
        Finite rewards.
    reward_prediction : array-like of shape (n_samples, n_actions)
        Predicted reward of each action, by models that did not see the row.
    clip : float or None, default=None
        The largest weight; larger ones are set to it.
    switch : float or None, default=None
        The largest weight that is used; larger ones are set to 0.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights; a whole number counts as so many rows, n is their sum.
    confidence_level : float in (0, 1) or None, default=None
        Coverage of an interval by the normal approximation, with the standard error of the mean of
        the terms in brackets. It says nothing about the bias of `clip` and `switch`.

    Returns
    -------
    value : float or named tuple
        As :func:`ips_value` returns it.

    Raises
    ------
    ValueError
        As :func:`ips_value` does, and if an action is not a column or predictions are not finite.

    References
    ----------
    .. [1] M. Dudík, J. Langford, L. Li, "Doubly Robust Policy Evaluation and Learning", ICML 2011.

    .. [2] Y.-X. Wang, A. Agarwal, M. Dudík, "Optimal and Adaptive Off-policy Evaluation in
       Contextual Bandits", ICML 2017.

    Examples
    --------
    >>> from pnsklearn.metrics import dr_value
    >>> policy_proba = [[0.9, 0.1], [0.9, 0.1], [0.5, 0.5]]
    >>> reward_prediction = [[1.0, -1.0], [1.0, -1.0], [0.0, 0.5]]
    >>> action, propensity, reward = [0, 1, 1], [0.5, 0.5, 0.25], [1.0, -1.0, 1.0]
    >>> round(dr_value(policy_proba, action, propensity, reward, reward_prediction), 4)
    0.95
    """
    log = action, propensity, reward, reward_prediction, sample_weight
    terms, _, weight = _dr_terms(policy_proba, *log, clip, switch)
    return _estimate(np.average(terms, weights=weight), terms, weight, confidence_level)


@_check_arguments
def value_difference(
    policy_proba: Any, other_proba: Any, action: Any, propensity: Any, reward: Any,
    reward_prediction: Any = None, *, clip: float | None = None, switch: float | None = None,
    sample_weight: Any = None, confidence_level: float = 0.95,
) -> ValueEstimate:  # fmt: skip
    r"""Estimate how much more a policy is worth than another, or than the log, from one log.

    The mean of the differences of both policies' terms in :func:`dr_value`. As the terms of a row
    go up and down together, its interval is narrower than the two of the values suggest: values
    whose intervals overlap may well differ. If all of it is above 0 the policy is better, if all
    is below it is worse, and else the log cannot tell.

    Parameters
    ----------
    policy_proba : array-like of shape (n_samples, n_actions)
        Probability of each action under the policy; rows sum to 1.
    other_proba : array-like of shape (n_samples, n_actions) or None
        The same of the other policy. None compares with what was done: the mean reward.
    action : array-like of int of shape (n_samples,)
        Column of the logged action.
    propensity : array-like of shape (n_samples,)
        Probability μ in (0, 1] with which the logged action was taken.
    reward : array-like of shape (n_samples,)
        Finite rewards.
    reward_prediction : array-like of shape (n_samples, n_actions), default=None
        Predicted reward of each action, by models that did not see the row. None predicts the mean
        reward for all.
    clip, switch : float or None, default=None
        As in :func:`dr_value`.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights; a whole number counts as so many rows.
    confidence_level : float in (0, 1), default=0.95
        Coverage of the interval.

    Returns
    -------
    difference : named tuple
        As :func:`ips_value` returns it: (value, standard_error, low, high).

    Raises
    ------
    ValueError
        As :func:`dr_value` does.

    Examples
    --------
    >>> import numpy as np
    >>> from pnsklearn.metrics import value_difference
    >>> rng = np.random.default_rng(0)
    >>> action = rng.integers(2, size=400)
    >>> reward = rng.normal(size=400) + action
    >>> always, never = np.tile([0.0, 1.0], (400, 1)), np.tile([1.0, 0.0], (400, 1))
    >>> found = value_difference(always, never, action, np.full(400, 0.5), reward)
    >>> bool(found.low < 1 < found.high)
    True
    >>> bool(value_difference(always, None, action, np.full(400, 0.5), reward).low > 0)
    True
    """
    log = action, propensity, reward, reward_prediction, sample_weight
    terms, reward, weight = _dr_terms(policy_proba, *log, clip, switch)
    other = reward if other_proba is None else _dr_terms(other_proba, *log, clip, switch)[0]
    gain = terms - other
    return _estimate(np.average(gain, weights=weight), gain, weight, confidence_level)


def _dr_terms(policy_proba, action, propensity, reward, prediction, sample_weight, clip, switch):
    """Return the terms of the doubly robust value, the rewards and the sample weights."""
    if clip is not None and switch is not None:
        raise ValueError("Set clip or switch, not both.")
    policy_proba = _check_proba(policy_proba, ndim=2)
    shape = policy_proba.shape
    if np.abs(policy_proba.sum(axis=1) - 1).max() > ROUNDING * shape[1]:
        raise ValueError("The rows of policy_proba must sum to 1.")
    # scikit-learn would make floats of a nullable column of integers.
    action = check_array(np.asarray(action), ensure_2d=False, dtype=None, input_name="action")
    if action.shape != shape[:1] or action.dtype.kind not in "iu":
        raise ValueError(
            f"action must hold one integer for each row, of shape ({shape[0]},); got "
            f"{action.dtype} of shape {action.shape}."
        )
    if action.min() < 0 or action.max() >= shape[1]:
        raise ValueError(f"action must hold columns of policy_proba, 0 to {shape[1] - 1}.")
    rows = np.arange(shape[0])
    ratio, reward, weight = _check_log(
        policy_proba[rows, action], propensity, reward, sample_weight
    )
    if prediction is None:
        prediction = np.full(shape, np.average(reward, weights=weight))
    prediction = check_array(prediction, dtype=np.float64, input_name="reward_prediction")
    if prediction.shape != shape:
        raise ValueError(
            f"reward_prediction must have the shape of policy_proba, {shape}, not "
            f"{prediction.shape}."
        )
    if clip is not None:
        ratio = np.minimum(ratio, clip)
    elif switch is not None:
        ratio = np.where(ratio <= switch, ratio, 0.0)
    terms = (policy_proba * prediction).sum(axis=1) + ratio * (reward - prediction[rows, action])
    return terms, reward, weight


@_check_arguments
def effective_sample_size(
    policy_proba: Any, propensity: Any, *, sample_weight: Any = None
) -> float:
    r"""Compute how many rows of the evaluated policy's own log the weighted rows are worth.

    .. math::

        n_{\text{eff}} = \frac{\left(\sum_i w_i\right)^2}{\sum_i w_i^2}, \qquad
        w_i = \frac{\pi(a_i \mid x_i)}{\mu(a_i \mid x_i)}

    It is n if both policies agree and near 1 where a single row has most of the weight. Below a
    few dozen, no estimate of the value can be trusted.

    Parameters
    ----------
    policy_proba : array-like of shape (n_samples,)
        Probability π with which the evaluated policy takes the logged action of each row. As a
        common factor does not matter, values above 1 are allowed: densities, or ratios with a
        propensity of 1.
    propensity : array-like of shape (n_samples,)
        Probability μ in (0, 1] with which the logged action was taken.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights; a whole number counts as so many rows.

    Returns
    -------
    n_effective : float
        At most the sum of the sample weights; 0 if all of `policy_proba` is.

    Raises
    ------
    ValueError
        If shapes differ, probabilities are negative or not finite, propensities are out of their
        range, or weights are negative or all zero.

    References
    ----------
    A. Kong, "A Note on Importance Sampling Using Standardized Weights", University of Chicago,
    1992.

    Examples
    --------
    >>> from pnsklearn.metrics import effective_sample_size
    >>> effective_sample_size([0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5])
    4.0
    >>> round(effective_sample_size([0.9, 0.1, 0.1, 0.1], [0.1, 0.5, 0.5, 0.5]), 2)
    1.14
    """
    ratio, _, weight = _check_log(policy_proba, propensity, None, sample_weight, most=np.inf)
    largest = ratio[weight > 0].max()
    if largest == 0:
        return 0.0
    ratio = ratio / largest  # squares must not overflow
    return float((weight @ ratio) ** 2 / (weight @ ratio**2))


def _check_proba(policy_proba, ndim, most=1.0):
    """Return float64 probabilities with so many dimensions."""
    policy_proba = check_array(
        policy_proba, ensure_2d=False, dtype=np.float64, input_name="policy_proba"
    )
    if policy_proba.ndim != ndim:
        shape = "(n_samples,)" if ndim == 1 else "(n_samples, n_actions)"
        raise ValueError(f"policy_proba must be of shape {shape}, got {policy_proba.shape}.")
    if policy_proba.min() < 0 or policy_proba.max() > most + ROUNDING:
        raise ValueError(
            f"policy_proba must be in [0, {most:g}], but has values from "
            f"{policy_proba.min():g} to {policy_proba.max():g}."
        )
    return policy_proba


def _check_log(policy_proba, propensity, reward, sample_weight, most=1.0):
    """Return the importance weights, the rewards and the sample weights."""
    policy_proba = _check_proba(policy_proba, ndim=1, most=most)
    _, reward, propensity = check_feedback(policy_proba, reward, propensity)
    return policy_proba / propensity, reward, check_weights(sample_weight, policy_proba)


def _estimate(value, terms, weight, confidence_level):
    """Return the value, with an interval if wanted: that of the mean of `terms`."""
    value = float(value)
    if confidence_level is None:
        return value
    n = weight.sum()
    # Shares that sum to 1 say nothing about n, also where they are rounded.
    variance = weight @ (terms - value) ** 2 / (n * (n - 1)) if n > 1 + ROUNDING else np.inf
    error = float(np.sqrt(variance))
    reach = float(ndtri((1 + confidence_level) / 2)) * error
    return ValueEstimate(value, error, value - reach, value + reach)


def direct_rewards(
    X: Any, action: Array, reward: Array, n_actions: int, sample_weight: Any = None
) -> Array:
    """Predict the reward of every action in every row, by models that did not see the row.

    The rows are dealt at random into two halves, and each half is predicted by the models of the
    other: for each action a ridge regression with alpha=1 of the reward, less its mean over all
    actions, on the features and a constant, which is shrunk too. An action without rows is thus
    predicted that mean.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, ...)
        Numeric features; more dimensions are flattened.
    action : ndarray of int of shape (n_samples,)
        Columns of the logged actions.
    reward : ndarray of shape (n_samples,)
        Finite rewards.
    n_actions : int
        Number of actions.
    sample_weight : ndarray of shape (n_samples,), default=None
        Non-negative weights.

    Returns
    -------
    prediction : ndarray of shape (n_samples, n_actions)
        The predicted rewards.
    """
    X = check_array(X, accept_sparse="csr", dtype=[np.float64, np.float32], allow_nd=True)
    weight = check_weights(sample_weight, X)
    prediction = np.zeros((X.shape[0], n_actions))
    # The halves must not depend on the log, or predictions would depend on the row's own action.
    half = np.random.default_rng(0).permutation(X.shape[0]) % 2
    for seen in range(2):
        rows, unseen = np.flatnonzero((half == seen) & (weight > 0)), np.flatnonzero(half != seen)
        if len(rows):
            log = X[rows], action[rows], reward[rows]
            prediction[unseen] = predict_rewards(*log, n_actions, weight[rows], X[unseen])
    return prediction


def predict_rewards(
    X: Any, action: Array, reward: Array, n_actions: int, weight: Array, X_new: Any, *,
    alpha: float = 1.0,
) -> Array:  # fmt: skip
    """Return the rewards of every action in new rows, predicted as `direct_rewards` says."""
    X, X_new = (rows.reshape(rows.shape[0], -1) if rows.ndim > 2 else rows for rows in (X, X_new))
    mean = np.average(reward, weights=weight)
    coef = np.zeros((n_actions, 1 + X.shape[1]))
    for column in np.unique(action):
        own = np.flatnonzero(action == column)
        coef[column] = _ridge(X[own], reward[own] - mean, weight[own], alpha)
    return mean + coef[:, 0] + X_new @ coef[:, 1:].T


def _ridge(X, gain, weight, alpha):
    """Return the coefficients of a constant and of the features, all of them shrunk."""
    X = add_dummy_feature(X)
    return Ridge(alpha=alpha, fit_intercept=False, tol=1e-8).fit(X, gain, weight).coef_


def widen_policy(policy: Array, classes: Array, known: Array) -> Array:
    """Return a policy over the `classes` as one over all `known` actions, both in sorted order.

    An action that the policy does not know has probability 0.
    """
    wide = np.zeros((policy.shape[0], known.shape[0]))
    wide[:, np.searchsorted(known, classes)] = policy
    return wide


def _score_log(
    y_true, estimator, X, *, reward=None, propensity=None, sample_weight=None, kind, clip
):
    """Return the value of an estimator's policy on a log."""
    action, reward, propensity = check_feedback(y_true, reward, propensity)
    if reward is None or propensity is None:
        missing = "reward" if reward is None else "propensity"
        return refuse_score(
            f"ope_scorer got no {missing}. Pass params={{'reward': ..., 'propensity': ...}} with "
            f"{ROUTING}, or a y of pnsklearn.datasets.make_feedback."
        )
    action = column_or_1d(action)
    known = np.union1d(estimator.classes_, action)
    policy = _check_response_method(estimator, "predict_proba")(X)
    policy = widen_policy(policy, estimator.classes_, known)
    weight = check_weights(sample_weight, policy)
    log = policy, np.searchsorted(known, action), propensity, reward
    weight, policy, column, propensity, reward, kept = without_weightless(weight, *log)
    if kind == "dr":
        X = _safe_indexing(X, np.flatnonzero(kept))
        prediction = direct_rewards(X, column, reward, policy.shape[1], weight)
        return dr_value(policy, column, propensity, reward, prediction, sample_weight=weight)
    chosen = policy[np.arange(column.shape[0]), column]
    if kind == "ips":
        return ips_value(chosen, propensity, reward, clip=clip, sample_weight=weight)
    return snips_value(chosen, propensity, reward, sample_weight=weight)


class _PolicyValueScorer(_BaseScorer):
    """A scorer that asks for rewards and propensities, and reads the policy's `classes_`."""

    __metadata_request__score = {"reward": True, "propensity": True, "sample_weight": True}  # noqa: RUF012

    def __init__(self, kind, clip):
        super().__init__(_score_log, 1, {"kind": kind, "clip": clip}, "predict_proba")

    def __repr__(self):
        return "ope_scorer({kind!r}, clip={clip})".format(**self._kwargs)

    def __call__(self, estimator, X, y, **metadata):
        # The base class refuses metadata unless routing is enabled.
        return self._score(None, estimator, X, y, **metadata)

    def _score(self, method_caller, estimator, X, y, **metadata):
        # The caller of the base class reduces the probabilities of two classes to one column.
        return _score_log(y, estimator, X, **self._kwargs, **metadata)


@validate_params(
    {"kind": [StrOptions({"snips", "ips", "dr"})], "clip": CLIP},
    prefer_skip_nested_validation=True,
)
def ope_scorer(kind: str = "snips", clip: float | None = None) -> _PolicyValueScorer:
    """Make a scorer of policies for scikit-learn's searches, by off-policy evaluation.

    The policy is what `predict_proba` of any classifier returns, and the score is its value: the
    mean reward if it took the decisions. y holds the logged actions. With
    ``sklearn.set_config(enable_metadata_routing=True)`` the scorer asks for `reward`, `propensity`
    and `sample_weight` itself: pass them as ``params`` of
    :func:`~sklearn.model_selection.cross_validate` or of `fit` of a search, without a
    `set_score_request`. Tools that cannot route take a y of
    :func:`pnsklearn.datasets.make_feedback`.

    An action that the classifier does not know has probability 0.

    Parameters
    ----------
    kind : {"snips", "ips", "dr"}, default="snips"
        The estimate: :func:`snips_value`, :func:`ips_value` or :func:`dr_value`. The latter's
        rewards are predicted by cross-fitted ridge regressions on the scored rows, X must be
        numeric.
    clip : float or None, default=None
        The largest importance weight, for "ips".

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y, *, reward=None, propensity=None, sample_weight=None)``; greater is
        better.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or `clip` is given for another kind. The scorer raises
        it if there are no rewards or no propensities, or if they are out of their range.

    Examples
    --------
    Which regularisation makes the best policy of a classifier that imitates the rewarded actions?

    >>> import sklearn
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import GridSearchCV
    >>> from pnsklearn.datasets import make_logged_bandit
    >>> from pnsklearn.metrics import ope_scorer
    >>> model = LogisticRegression(max_iter=1000)
    >>> log = make_logged_bandit(*load_iris(return_X_y=True), logging="good", random_state=0)
    >>> search = GridSearchCV(model, {"C": [1e-3, 1.0]}, scoring=ope_scorer())
    >>> with sklearn.config_context(enable_metadata_routing=True):
    ...     search = search.fit(log.X, log.action, reward=log.reward, propensity=log.propensity)
    >>> search.best_params_
    {'C': 1.0}
    """
    if clip is not None and kind != "ips":
        raise ValueError(f"clip is for kind='ips', got kind={kind!r}.")
    return _PolicyValueScorer(kind, clip)
