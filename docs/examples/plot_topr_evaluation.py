"""
What a policy is worth, before anybody acts on it
=================================================

Off-policy evaluation: a log of one policy's decisions says what another policy would be worth, with
an interval, as far as the other would have done the same. Here the truth is known, so the intervals
can be checked; and they are seen to fail where the policy is too far from the log. The same
estimates choose parameters in a grid search.
"""

# sphinx_gallery_thumbnail_number = 2

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn import config_context
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split

from pnsklearn import TOPRPolicy
from pnsklearn.datasets import make_logged_bandit
from pnsklearn.displays import PolicyValueDisplay
from pnsklearn.metrics import ope_scorer

# %%
# A policy and a held-out log
# ---------------------------
#
# Digits are guessed at random, and each guess is rewarded by 1 if right and -1 if wrong. The policy
# learns from the log of one half. Its value, the mean reward if it did the guessing, is known for
# the other half, since we have the labels.

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, test_size=0.5, stratify=y, random_state=0
)
log = make_logged_bandit(X_train, y_train, random_state=0)
policy = TOPRPolicy(bounds="topr")
policy.fit(log.X, log.action, reward=log.reward, propensity=log.propensity)


def true_value(policy):
    right = policy.predict_proba(X_test)[np.arange(len(y_test)), y_test]
    return 2 * right.mean() - 1


# %%
# A log of the other half, to which the policy was not fitted, has one random guess per digit. That
# is all that `evaluate` sees.

held_out = make_logged_bandit(X_test, y_test, random_state=1)
feedback = {"reward": held_out.reward, "propensity": held_out.propensity}
report = policy.evaluate(held_out.X, held_out.action, **feedback)
for name in ("logged", "ips", "snips", "clipped_ips", "dr"):
    estimate = report[name]
    print(f"{name:12}{estimate.value:6.2f}   ({estimate.low:5.2f} to {estimate.high:5.2f})")
print(f"truth       {true_value(policy):6.2f}")
print(f"effective sample size {report.effective_sample_size:.0f} of {len(y_test)}")

# %%
# Of 899 rows only those count where the random guess was one that the policy would have made: one
# in ten or so. The self-normalised estimate has the narrowest interval here. Right, how often the
# policy does what was logged, relative to the log: most guesses it would hardly ever make, and some
# ten times as often.

# Picture: Left, four estimates of the mean reward with their intervals, which cover the
#   truth and are above the log. Right, a histogram of the importance weights.
display = PolicyValueDisplay.from_estimator(policy, held_out.X, held_out.action, **feedback)
display.ax_[0].axhline(true_value(policy), color="C3", label="truth")
display.ax_[0].legend()

# %%
# Near and far
# ------------
#
# How good an estimate is depends on who made the log. Four do, twenty times each: the "good" and
# the "bad" guessers of :func:`~pnsklearn.datasets.make_logged_bandit`, the random one, and one that
# answers "7" in 99.1 of 100 cases and each other digit in one of a thousand.

stubborn = np.full((len(y_test), 10), 0.001)
stubborn[:, 7] = 0.991
logs = {"good": "good", "uniform": "uniform", "bad": "bad", "stubborn": stubborn}
N_LOGS = 20

truth = true_value(policy)
# Picture: Intervals of the value from twenty logs, one panel for each kind of log. The
#   worse the log, the wider they are; of the stubborn log many miss the truth, in red.
fig, axes = plt.subplots(1, 4, figsize=(10, 4), sharey=True, sharex=True, layout="constrained")
print("log        effective size   interval is     holds the truth   warnings")
for ax, (name, logging) in zip(axes, logs.items(), strict=True):
    sizes, widths, hits, n_warnings = [], [], [], 0
    for seed in range(N_LOGS):
        again = make_logged_bandit(X_test, y_test, logging=logging, random_state=seed)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            report = policy.evaluate(
                again.X, again.action, reward=again.reward, propensity=again.propensity
            )
        value, _, low, high = report.snips
        hits.append(low <= truth <= high)
        sizes.append(report.effective_sample_size)
        widths.append(high - low)
        n_warnings += len(caught)
        color = "C0" if hits[-1] else "C3"
        ax.plot([low, high], [seed, seed], color=color)
        ax.plot(value, seed, "o", color=color, markersize=4)
    ax.axvline(truth, color="0.4", linestyle="--")
    ax.set(title=f"{name} log, size {np.mean(sizes):.0f}", xlabel="Value by SNIPS")
    print(
        f"{name:9}{np.mean(sizes):16.0f}{np.mean(widths):11.2f} wide{sum(hits):16} of {N_LOGS}"
        f"{n_warnings:11}"
    )
axes[0].set(ylabel="Log", yticks=[])

# %%
# The nearer the log, the narrower the interval. Of the stubborn log only the few rows with another
# answer than "7" can tell anything, ten effective ones: the interval is four times as wide, and yet
# holds the truth less than half the time, for the rows that would widen it are not there. So look
# at the effective sample size before the interval. Below one row in twenty there is a warning. On
# the bad log it is too careful, on the stubborn one it is right.

# %%
# Choosing parameters by it
# -------------------------
#
# :func:`~pnsklearn.metrics.ope_scorer` makes the estimate a scorer, for searches and
# cross-validation. With metadata routing enabled they hand on rewards and propensities, as long as
# they are given to `fit`; TOPRPolicy and the scorer ask for them by themselves. Without a
# ``scoring`` the search would use `score` of the policy, which is the same estimate.
#
# (``TOPRPolicy()`` searches by itself, over C and what is optimised, and by another estimate: see
# its ``bounds``.)

GRID = {"C": [0.1, 1, 10, 100, 1000], "effective_positive": [None, 0.5]}
# Picture: Estimates of the mean reward against C with their intervals, beside the
#   truth, for two settings, after a uniform and a skewed log.
fig, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
for ax, logging in zip(axes, ("uniform", "skewed"), strict=True):
    log = make_logged_bandit(X_train, y_train, logging=logging, random_state=0)
    feedback = {"reward": log.reward, "propensity": log.propensity}
    search = GridSearchCV(TOPRPolicy(bounds="topr"), GRID, scoring=ope_scorer("snips"), cv=4)
    with config_context(enable_metadata_routing=True), warnings.catch_warnings():
        # Without one good outcome of "9" in some folds of the skewed log, policies still take it.
        warnings.simplefilter("ignore")
        search.fit(log.X, log.action, **feedback)
    results = search.cv_results_
    truths = [
        true_value(TOPRPolicy(bounds="topr", **params).fit(log.X, log.action, **feedback))
        for params in results["params"]
    ]
    for i, share in enumerate(GRID["effective_positive"]):
        rows = np.flatnonzero(
            [params["effective_positive"] == share for params in results["params"]]
        )
        mean, sd = results["mean_test_score"][rows], results["std_test_score"][rows]
        label, color = f"effective_positive={share}", f"C{i}"
        ax.errorbar(GRID["C"], mean, sd, fmt="o-", color=color, capsize=3, label=label)
        ax.plot(GRID["C"], np.take(truths, rows), "--", color=color, label="its truth")
    ax.set(xscale="log", xlabel="C", title=f"{logging} log")
    print(
        f"{logging}: chosen {search.best_params_}, estimate {search.best_score_:.2f}, "
        f"truth {truths[search.best_index_]:.2f}, best truth {max(truths):.2f}"
    )
axes[0].set(ylabel="Mean reward")
axes[1].legend(loc="lower right")

# %%
# Lines with bars are the estimates, mean and standard deviation of four folds, dashed lines the
# truth on the other half. With the uniform log they agree on what matters: a weak penalty is far
# better than a strong one, and ``effective_positive`` then hardly counts. The best estimate is
# above its truth, as that of a winner always is; the value to report is that on another log.
#
# With the skewed log the folds' spread is wider than what there is to choose from, and the search
# takes the wrong curve. What the spread does not separate, leave at its default.
