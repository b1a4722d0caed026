"""
Is it better than what we do today?
===================================

A shop shows each visitor one of four offers, mostly by a rule. A log of what was shown, with which
probability, and whether it was clicked answers three questions: what would a better rule be, what
would it be worth, and is that surely more than today? The answer is yes, no, or that the log cannot
tell.
"""

# sphinx_gallery_thumbnail_number = 1

import warnings

import matplotlib.pyplot as plt
import numpy as np

from pnsklearn import TOPRPolicy
from pnsklearn.displays import PolicyValueDisplay
from pnsklearn.exceptions import PolicyWarning
from pnsklearn.metrics import value_difference

# %%
# A log
# -----
#
# Of a visitor four numbers are known. Today's rule looks at the first alone, and in four of ten
# visits the offer is drawn at random instead. That share makes the log worth something: without it
# nobody could know what the other offers would have brought.

OFFERS = np.array(["discount", "gift", "new", "shipping"])
rng = np.random.default_rng(0)
taste = rng.normal(size=(4, 4))


def visits(n, taste=taste):
    """Return visitors, the offers that they saw, the chance of these, and clicks."""
    X = rng.normal(size=(n, 4))
    chance = np.full((n, 4), 0.1)
    chance[np.arange(n), np.where(X[:, 0] > 0, 0, 3)] += 0.6
    shown = (rng.uniform(size=(n, 1)) > chance.cumsum(axis=1)).sum(axis=1).clip(max=3)
    rows = np.arange(n)
    clicked = rng.uniform(size=n) < clicks(X, shown, taste)
    return X, OFFERS[shown], chance[rows, shown], clicked.astype(float)


def clicks(X, offer, taste=taste):
    """Return the chance of a click."""
    return 0.25 / (1 + np.exp(-2 * (X @ taste.T)[np.arange(len(X)), offer]))


X, shown, chance, clicked = visits(8000)
policy = TOPRPolicy().fit(X, shown, reward=clicked, propensity=chance)

# %%
# Each candidate has a cross-fitted value, with an interval, and the line is today's. What was taken
# gains most, by an estimate that trusts large ratios less.

# Picture: Intervals of the cross-fitted value of nine candidates, all of them above the line that
#   marks the value of the log.
PolicyValueDisplay.from_selection(policy)
plt.show()

# %%
# The answer
# ----------
#
# What counts is the gain over the log, whose interval is narrower than those of the two values.


def answer(gain, error):
    low, high = gain - 1.96 * error, gain + 1.96 * error
    verdict = "yes" if low > 0 else "no" if high < 0 else "cannot tell"
    return f"{verdict}: {gain:+.1%} of all visits have a click more ({low:+.1%} to {high:+.1%})"


def of_choice(policy):
    found, best = policy.selection_, policy.selection_.best_index
    return answer(found.gain[best], found.gain_standard_error[best])


print(of_choice(policy))

# %%
# Here the truth is known, and it is within the interval.

fresh = visits(200_000)[0]
best = np.searchsorted(OFFERS, policy.predict(fresh))
today = np.where(fresh[:, 0] > 0, 0, 3)
of_today = 0.6 * clicks(fresh, today).mean()
of_today += 0.1 * sum(clicks(fresh, np.full(len(fresh), k)).mean() for k in range(4))
print(f"in truth {clicks(fresh, best).mean() - of_today:+.1%}")

# %%
# A log that cannot tell
# ----------------------
#
# Of 150 visits with some twenty clicks something can be learned as well. But the fit warns that it
# is not surely better, and it is right not to be sure.

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", PolicyWarning)
    X_few, shown_few, chance_few, clicked_few = visits(150)
    hasty = TOPRPolicy().fit(X_few, shown_few, reward=clicked_few, propensity=chance_few)
print(of_choice(hasty))
print({warning.category.__name__ for warning in caught})

# %%
# No
# --
#
# A year later the visitors' taste has turned around. Nobody told the policy, and a new log tells
# that it should not be used any more. The function compares any two policies on one log, and with
# None what was done.

later = visits(4000, taste=-taste)
proba = np.eye(4)[np.searchsorted(OFFERS, policy.predict(later[0]))]
column = np.searchsorted(OFFERS, later[1])
gain = value_difference(proba, None, column, later[2], later[3])
print(answer(gain.value, gain.standard_error))
