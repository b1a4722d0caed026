"""The value of a policy on a log that it was not fitted to."""

import numpy as np
from sklearn.utils import Bunch

from pnsklearn._fitting import warn_user
from pnsklearn._topr._feedback import Feedback
from pnsklearn._typing import Array
from pnsklearn.metrics import (
    dr_value,
    effective_sample_size,
    ips_value,
    snips_value,
    value_difference,
)
from pnsklearn.metrics._off_policy import direct_rewards

CONFIDENCE_LEVEL = 0.95  # of the intervals
LEAST_EFFECTIVE_SHARE = 0.05  # of the rows, below which an off-policy value is warned of


def score(policy: Array, log: Feedback) -> float:
    """Return the self-normalised value of a policy, an array of shape (n, n_actions)."""
    chosen, _ = _check_overlap(policy, log)
    return snips_value(chosen, log.propensity, log.reward, sample_weight=log.weight)


def evaluate(policy: Array, log: Feedback) -> Bunch:
    """Return all estimates of a policy's value on a log; see `TOPRPolicy.evaluate`."""
    chosen, n_effective = _check_overlap(policy, log)
    action, propensity, reward, weight = log.action, log.propensity, log.reward, log.weight
    how = {"sample_weight": weight, "confidence_level": CONFIDENCE_LEVEL}
    clip, ones = float(np.sqrt(weight.sum())), np.ones_like(reward)
    prediction = direct_rewards(log.X, action, reward, policy.shape[1], weight)
    return Bunch(
        ips=ips_value(chosen, propensity, reward, **how),
        snips=snips_value(chosen, propensity, reward, **how),
        clipped_ips=ips_value(chosen, propensity, reward, clip=clip, **how),
        dr=dr_value(policy, action, propensity, reward, prediction, **how),
        gain=value_difference(policy, None, action, propensity, reward, prediction, **how),
        logged=ips_value(ones, ones, reward, **how),
        effective_sample_size=n_effective,
        largest_weight=float((chosen / propensity).max()),
    )


def ratio_sums(policy: Array, log: Feedback) -> Array:
    """Return sums over a block by which `value_of_sums` is `score`; those of blocks add up.

    They are those of the weights times the ratio, its square, the ratio times the reward, and one.
    """
    ratio = policy[np.arange(log.action.shape[0]), log.action] / log.propensity
    return np.stack([ratio, ratio**2, ratio * log.reward, np.ones_like(ratio)]) @ log.weight


def value_of_sums(ratio: float, square: float, gain: float, total: float) -> float:
    """Return the self-normalised value."""
    if ratio == 0:
        raise ValueError("The policy takes none of the logged actions, so that it has no value.")
    _warn_of_overlap(ratio**2 / square, total)
    return gain / ratio


def _check_overlap(policy, log):
    """Return the probabilities of the logged actions, and how many rows they are worth.

    Warn if these are few.
    """
    chosen = policy[np.arange(log.action.shape[0]), log.action]
    n_effective = effective_sample_size(chosen, log.propensity, sample_weight=log.weight)
    _warn_of_overlap(n_effective, log.weight.sum())
    return chosen, n_effective


def _warn_of_overlap(n_effective, total):
    if n_effective < LEAST_EFFECTIVE_SHARE * total:
        warn_user(
            f"The value rests on an effective sample of {n_effective:.1f} of {total:g} "
            "rows, because the policy takes other actions than the log. Do not trust it. Collect "
            "data with a policy nearer to this one."
        )
