"""The value of a policy on a log that it was not fitted to."""

from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import Bunch

from pnsklearn._fitting import warn_user
from pnsklearn._topr._feedback import NO_PROPENSITY, estimate_propensity
from pnsklearn._typing import Array, Matrix
from pnsklearn._validation import check_weights, without_weightless
from pnsklearn.metrics import dr_value, effective_sample_size, ips_value, snips_value
from pnsklearn.metrics._off_policy import align_policy, direct_rewards

CONFIDENCE_LEVEL = 0.95  # of the intervals
LEAST_EFFECTIVE_SHARE = 0.05  # of the rows, below which an off-policy value is warned of


class HeldOut(NamedTuple):
    """A log and a policy's probabilities on it, without rows of weight zero."""

    X: Matrix
    policy: Array  # of shape (n, n_actions), of all actions
    column: Array  # of the logged actions in `policy`
    chosen: Array  # the policy's probabilities of the logged actions
    propensity: Array
    reward: Array
    weight: Array


def held_out(
    X: Matrix,
    policy: Array,
    classes: Array,
    *,
    action: Array,
    reward: Array,
    propensity: Any,
    sample_weight: Any,
) -> HeldOut:
    """Return what the off-policy estimates take; warn if they would rest on few rows.

    `policy` holds the probabilities of the actions in `classes`, for checked X.
    """
    if propensity is None:
        raise ValueError(NO_PROPENSITY)
    policy, column = align_policy(policy, classes, action)
    weight, X, policy, column, reward, propensity, _ = without_weightless(
        check_weights(sample_weight, X), X, policy, column, reward, propensity
    )
    if isinstance(propensity, str):
        propensity = estimate_propensity(X, column, weight)
    chosen = policy[np.arange(column.shape[0]), column]
    size = effective_sample_size(chosen, propensity, sample_weight=weight)
    if size < LEAST_EFFECTIVE_SHARE * weight.sum():
        warn_user(
            f"The value rests on an effective sample of {size:.1f} of {weight.sum():g} rows, "
            "because the policy takes other actions than the log. Do not trust it. Collect data "
            "with a policy nearer to this one."
        )
    return HeldOut(X, policy, column, chosen, propensity, reward, weight)


def self_normalised_value(log: HeldOut) -> float:
    """Return the score of a policy."""
    return snips_value(log.chosen, log.propensity, log.reward, sample_weight=log.weight)


def evaluate(log: HeldOut) -> Bunch:
    """Return all estimates of a policy's value on a log; see `TOPRPolicy.evaluate`."""
    _, policy, column, chosen, propensity, reward, weight = log
    how = {"sample_weight": weight, "confidence_level": CONFIDENCE_LEVEL}
    prediction = direct_rewards(log.X, column, reward, policy.shape[1], weight)
    largest = float(np.sqrt(weight.sum()))
    ones = np.ones_like(reward)
    return Bunch(
        ips=ips_value(chosen, propensity, reward, **how),
        snips=snips_value(chosen, propensity, reward, **how),
        clipped_ips=ips_value(chosen, propensity, reward, clip=largest, **how),
        dr=dr_value(policy, column, propensity, reward, prediction, **how),
        logged=ips_value(ones, ones, reward, **how),
        effective_sample_size=effective_sample_size(chosen, propensity, sample_weight=weight),
        largest_weight=float((chosen / propensity).max()),
    )
