"""What the rewards and propensities of a log say before and after a fit."""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.special import entr
from scipy.stats import expectile
from sklearn.linear_model import LogisticRegression
from sklearn.utils import Bunch

from pnsklearn.metrics import effective_sample_size, ips_value
from pnsklearn.metrics._off_policy import policy_value

N_FOLDS = 5  # for estimated propensities
SPENT = 0.01  # ratio below which a loss hardly moves the policy
LEVEL = 0.95  # of the intervals
LARGEST = 700.0  # log-ratio, beyond which the ratio would overflow


@dataclass(frozen=True)
class Feedback:
    """A checked log: contexts, the codes of the actions, what came of them; and the actions.

    Without rewards, `reward` is None and all propensities are one.
    """

    X: object
    action: np.ndarray
    reward: np.ndarray | None
    propensity: np.ndarray
    weight: np.ndarray
    classes: np.ndarray

    @property
    def n_logits(self):
        """The number of logits of a linear policy: two actions need one."""
        return 1 if len(self.classes) == 2 else len(self.classes)

    def gain(self, baseline):
        """Return weight (reward - baseline), or the weight without rewards."""
        return self.weight if baseline is None else self.weight * (self.reward - baseline)


def baseline_for(reward, effective_positive, weight):
    """Return the baseline c for which sum (r - c)^+ / sum |r - c| is the wanted share.

    That is the expectile of the rewards at one minus the share.
    """
    return float(expectile(reward, 1 - effective_positive, weights=weight))


def check_contrast(reward, baseline):
    """Refuse rewards that all equal the baseline; warn if none is below it."""
    if reward is None:
        return
    if (reward == baseline).all():
        raise ValueError(
            f"All rewards equal the baseline, {baseline:g}, so there is nothing to learn. Check "
            "the rewards, or set another baseline."
        )
    if (reward >= baseline).all():
        warnings.warn(
            f"There are no negative rewards after the baseline, {baseline:g}: only good decisions "
            "are learned from. Set effective_positive=0.5, or a baseline above the rewards of bad "
            "decisions.",
            UserWarning,
            stacklevel=5,
        )


def estimate_propensity(X, action, weight):
    """Return cross-fitted probabilities of the logged actions by logistic regression.

    Each action's rows are dealt out to the folds in turn.
    """
    n_rows, counts = action.shape[0], np.bincount(action)
    if np.count_nonzero(counts > 1) < 2:
        raise ValueError("propensity='estimate' needs two actions with two rows or more.")
    fold = np.empty(n_rows, dtype=int)
    fold[np.argsort(action, kind="stable")] = np.arange(n_rows) % N_FOLDS
    propensity = np.full(n_rows, 1 / n_rows)  # the least, for actions that a fold never saw
    for held_out in (fold == k for k in range(N_FOLDS)):
        if not held_out.any():
            continue
        model = LogisticRegression(max_iter=1000)
        model.fit(X[~held_out], action[~held_out], weight[~held_out])
        logged = action[held_out][:, None] == model.classes_
        probability = (model.predict_proba(X[held_out]) * logged).sum(axis=1)
        propensity[held_out] = np.maximum(propensity[held_out], probability)
    return propensity


def diagnose(log_policy, feedback, gain):
    """Return the diagnostics of a fit; see `TOPRPolicy.diagnostics_`."""
    log_chosen = log_policy[np.arange(gain.shape[0]), feedback.action].astype(np.float64)
    weight = feedback.weight
    return Bunch(
        **describe_ratios(log_chosen - np.log(feedback.propensity), gain, weight),
        entropy=float(np.average(entr(np.exp(log_policy)).sum(axis=1), weights=weight)),
    )


def describe_ratios(log_ratio, gain, weight):
    """Return what the log-ratios log(pi / mu) of a log say beside its rewards."""
    positive, negative, size = gain > 0, gain < 0, np.abs(gain).sum()
    largest = log_ratio.max()

    def mean(values, rows):
        return float(np.average(values[rows], weights=weight[rows])) if rows.any() else np.nan

    return Bunch(
        n_positive=float(weight[positive].sum()),
        n_negative=float(weight[negative].sum()),
        effective_positive=float(gain[positive].sum() / size) if size > 0 else np.nan,
        # The size does not depend on the scale of the ratios, which may overflow for sequences.
        effective_sample_size=effective_sample_size(
            np.exp(log_ratio - largest), np.ones_like(log_ratio), sample_weight=weight
        ),
        largest_ratio=float(np.exp(min(largest, LARGEST))),
        negative_above=mean(log_ratio > 0, negative),
        negative_spent=mean(log_ratio < np.log(SPENT), negative),
        positive_log_ratio=mean(log_ratio, positive),
        negative_log_ratio=mean(log_ratio, negative),
    )


def evaluate(X, policy, code, propensity, reward, weight):
    """Return all estimates of a policy's value on a log; see `TOPRPolicy.evaluate`."""
    log = X, policy, code, propensity, reward, weight
    logged = policy[np.arange(code.shape[0]), code]
    ones = np.ones_like(reward)
    how = {"confidence_level": LEVEL}
    return Bunch(
        ips=policy_value("ips", *log, **how),
        snips=policy_value("snips", *log, **how),
        clipped_ips=policy_value("ips", *log, clip=float(np.sqrt(weight.sum())), **how),
        dr=policy_value("dr", *log, **how),
        logged=ips_value(ones, ones, reward, sample_weight=weight, **how),
        effective_sample_size=effective_sample_size(logged, propensity, sample_weight=weight),
        largest_weight=float((logged / propensity).max()),
    )
