"""What speaks against a policy that was learned from a log, and is said with a warning."""

import numpy as np
from scipy.special import ndtri
from sklearn.utils import Bunch

from pnsklearn._fitting import warn_user
from pnsklearn._topr._evaluation import CONFIDENCE_LEVEL
from pnsklearn._topr._feedback import Feedback
from pnsklearn._typing import Array
from pnsklearn.exceptions import PolicyWarning

UNTRIED_SHARE = 0.05  # of the rows, that may get actions which never went well
LEAST_EFFECTIVE_ROWS = 15.0


def warn_of_outcomes(policy: Array, log: Feedback) -> None:
    """Warn of actions that a policy takes though they never went well, and of a log without doubt.

    `policy` holds the probabilities with which it acts, of shape (n_samples, n_actions).
    """
    warn_of_sums(outcome_sums(policy, log), log.classes)


def outcome_sums(policy: Array, log: Feedback) -> Array:
    """Return what the warning looks at, of each action; the sums of blocks of rows add up.

    The rows are the numbers of good and of bad outcomes, and the rows' weights that the policy
    gives to the action.
    """
    n_actions, gain = len(log.classes), log.gain
    good, bad = (
        np.bincount(log.action[side], minlength=n_actions) for side in (gain > 0, gain < 0)
    )
    return np.stack([good, bad, log.weight @ policy])


def warn_of_sums(sums: Array, classes: Array) -> None:
    """Warn of the same, from the sums over all rows."""
    good, bad = sums[:2] > 0
    if bad.any() and not (good & bad).any():
        warn_user(
            "No action has both good and bad outcomes, so that the log does not say when to take "
            "which. Check the rewards and the baseline, or log more rows.",
            PolicyWarning,
        )
    taken = sums[2]
    share = taken[~good].sum() / taken.sum()
    if good.any() and share > UNTRIED_SHARE:
        untried = classes[~good & (taken > 0)]
        warn_user(
            f"{share:.0%} of the rows get an action without one good outcome in the log: "
            f"{', '.join(map(str, untried[:5]))}{' and others' if len(untried) > 5 else ''}. Set "
            "bounds='is' or 'positives', log these actions more often, or take them out.",
            PolicyWarning,
        )


def warn_of_value(selection: Bunch) -> None:
    """Warn if the chosen policy is not surely better than the log, or its value rests on little."""
    best = selection.best_index
    gain, error = selection.gain[best], selection.gain_standard_error[best]
    calm, calm_error = selection.calm_gain[best], selection.calm_gain_standard_error[best]
    # The best of several is over-estimated by what it was chosen by: there the level, of one side,
    # is shared among them. That alone would not do, as it has a bias where ratios are cut.
    level = 1 - CONFIDENCE_LEVEL
    sure = gain > ndtri(1 - level) * error
    if not (sure and calm > ndtri(1 - level / len(selection.calm_gain)) * calm_error):
        warn_user(
            f"The policy is not surely better than the log: its estimated value is "
            f"{selection.value[best]:.3g}, that of the log {selection.logged:.3g}, and the "
            f"standard error of the difference {error:.2g}; with large ratios cut the gain is "
            f"{calm:.3g} with {calm_error:.2g}. Log more rows, more at random, before you act on "
            "it.",
            PolicyWarning,
        )
    n_effective = selection.effective_sample_size[best]
    if n_effective < LEAST_EFFECTIVE_ROWS:
        warn_user(
            f"The policy's estimated value rests on an effective sample of {n_effective:.0f} rows, "
            "because the log hardly takes its actions. Log more rows, more at random.",
            PolicyWarning,
        )
