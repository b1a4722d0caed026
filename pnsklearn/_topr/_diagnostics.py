"""What the ratios of a policy to the logging one say after a fit."""

import numpy as np
from scipy.special import entr
from sklearn.utils import Bunch

from pnsklearn._topr._feedback import Feedback
from pnsklearn._typing import Array
from pnsklearn.metrics import effective_sample_size

SPENT_RATIO = 0.01  # below it a bad decision hardly moves the policy any more
LARGEST_LOG_RATIO = 700.0  # beyond it the ratio would overflow


def diagnose(log_policy: Array, feedback: Feedback) -> Bunch:
    """Return the diagnostics of a fit; see `TOPRPolicy.diagnostics_`."""
    weight, rows = feedback.weight, np.arange(feedback.weight.shape[0])
    log_chosen = log_policy[rows, feedback.action].astype(np.float64)
    return Bunch(
        **describe_ratios(log_chosen - np.log(feedback.propensity), feedback.gain, weight),
        entropy=float(np.average(entr(np.exp(log_policy)).sum(axis=1), weights=weight)),
    )


def describe_ratios(log_ratio: Array, gain: Array, weight: Array) -> Bunch:
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
        largest_ratio=float(np.exp(min(largest, LARGEST_LOG_RATIO))),
        negative_above=mean(log_ratio > 0, negative),
        negative_spent=mean(log_ratio < np.log(SPENT_RATIO), negative),
        positive_log_ratio=mean(log_ratio, positive),
        negative_log_ratio=mean(log_ratio, negative),
    )
