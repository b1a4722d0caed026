"""
Digits from guesses that were right or wrong
============================================

Nobody says what a digit is. Somebody guesses, and is told whether that was right. From the log of
such guesses :class:`~pnsklearn.TOPRPolicy` learns to read digits: from the right guesses, and from
the wrong ones too. One parameter turns it into other methods, so they are easy to compare.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split

from pnsklearn import TOPRPolicy
from pnsklearn.datasets import make_logged_bandit

# %%
# Four logs
# ---------
#
# :func:`~pnsklearn.datasets.make_logged_bandit` makes the log of one half of the digits; the other
# half is the test. A guess is rewarded by 1 if right, by -1 if wrong. Four policies guess: "good"
# has seen a few digits with their labels and is right half the time, "uniform" draws at random,
# "skewed" prefers the small digits, and "bad" avoids what it holds to be right.

X, y = load_digits(return_X_y=True)
LOGGING, SEEDS = ("good", "uniform", "skewed", "bad"), range(3)


def halves(seed):
    return train_test_split(X / 16, y, test_size=0.5, stratify=y, random_state=seed)


def make_log(logging, seed):
    X_train, _, y_train, _ = halves(seed)
    return make_logged_bandit(X_train, y_train, logging=logging, random_state=seed)


for logging in LOGGING:
    log = make_log(logging, 0)
    right, guesses = (log.reward > 0).mean(), np.bincount(log.action, minlength=10)
    print(f"{logging:8} {right:4.0%} right; guesses of 0 to 9: {guesses}")

# %%
# Methods
# -------
#
# The weight of a guess in the gradient is the ratio of its probability under the new policy to that
# under the logging one, clipped to the bounds. The bounds of right and of wrong guesses make the
# method. By default they are chosen by the value that the policy is estimated to have.

BOUNDS = {
    "chosen": "cv",
    "TOPR": "topr",  # right guesses count once, wrong ones by their ratio, and at most once
    "right guesses only": "positives",
    "importance sampling": "is",
    "the same, truncated": "tis",
    "naive REINFORCE": ((1, 1), (1, 1)),  # of right guesses, of wrong ones: all count once
}


def fit_policy(log, **params):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # naive REINFORCE has no optimum to converge to
        return TOPRPolicy(**params).fit(
            log.X, log.action, reward=log.reward, propensity=log.propensity
        )


def judge(model, seed):
    """Return the mean probability of the right digit, and what the first choices are."""
    _, X_test, _, y_test = halves(seed)
    probability = model.predict_proba(X_test)[y_test[:, None] == model.classes_]
    first = model.predict(X_test)
    return probability.sum() / len(y_test), np.mean(first == y_test), 10 - len(np.unique(first))


# %%
# Beside them, a logistic regression of the guesses, which imitates the log without a look at the
# rewards; and, as a landmark, one on the true labels, which nobody has here.

results = {}
for logging in LOGGING:
    for seed in SEEDS:
        log = make_log(logging, seed)
        models = {name: fit_policy(log, bounds=bounds) for name, bounds in BOUNDS.items()}
        models["imitation"] = LogisticRegression(max_iter=1000).fit(log.X, log.action)
        models["true labels"] = LogisticRegression(max_iter=1000).fit(log.X, log.y)
        for name, model in models.items():
            results.setdefault((logging, name), []).append(judge(model, seed))

print(f"{'':22}{''.join(f'{logging:>14}' for logging in LOGGING)}")
for name in models:
    means = [np.mean(results[logging, name], axis=0) for logging in LOGGING]
    print(f"{name:22}{''.join(f'{p:8.2f} /{first:5.2f}' for p, first, _ in means)}")
print("digits that are never the first choice, of ten")
for name in models:
    means = [np.mean(results[logging, name], axis=0) for logging in LOGGING]
    print(f"{name:22}{''.join(f'{never:14.1f}' for *_, never in means)}")

# %%
# The true values on the test half, means of three repeats. Bars: the probability that the policy
# gives to the right digit, its value as it stands. Marks: how often its first choice is right.

COLORS = ("C5", "C0", "C2", "C1", "C4", "C3", "0.6", "0.85")
# Picture: Bars of the share of right choices after learning from a good, a uniform, a
#   skewed and a bad log, for eight ways to learn; a line marks the share in the log.
fig, ax = plt.subplots(figsize=(10, 4.2), layout="constrained")
width = 0.8 / len(models)
for i, (name, color) in enumerate(zip(models, COLORS, strict=True)):
    means = np.array([np.mean(results[logging, name], axis=0) for logging in LOGGING])
    place = np.arange(len(LOGGING)) + (i - (len(models) - 1) / 2) * width
    ax.bar(place, means[:, 0], 0.9 * width, color=color, label=name)
    ax.plot(place, means[:, 1], "_", color="black", markersize=9, markeredgewidth=2)
ax.plot([], [], "_", color="black", markersize=9, markeredgewidth=2, label="of the first choice")
for i, logging in enumerate(LOGGING):
    logged = np.mean([(make_log(logging, seed).reward > 0).mean() for seed in SEEDS])
    ax.plot([i - 0.45, i + 0.45], [logged, logged], color="black", linestyle=":", linewidth=1)
ax.plot([], [], color="black", linestyle=":", linewidth=1, label="of the log")
ax.set_xticks(range(len(LOGGING)), [f"{logging} log" for logging in LOGGING])
ax.set(ylabel="Share right on the test half", ylim=(0, 1), xlim=(-0.5, 3.5))
fig.legend(loc="outside right center", frameon=False)

# %%
# With the good log, TOPR's bar is nearly that of the true labels. It learns something even where
# 3 % of the guesses were right, for wrong guesses tell what a digit is not. But there, and with the
# skewed log, it gives up a digit or two.
#
# Right guesses only has lower bars, as it never learns to leave anything; its first choices come
# close.
#
# Importance sampling has the expected value itself as its objective. It is known to get stuck:
# where the policy has given up a digit, the ratio of its right guesses is near zero, and so is
# their weight. But here its objective is exact, and the fit keeps the better of two, one of which
# started from right guesses only. So it is ahead of TOPR on every log, most on the bad one.
#
# The naive gradient has no end: it pushes wrong guesses down for ever, and forgets the right ones
# over it.
#
# What is chosen among them, with C, by the value that it is estimated to have is never far from the
# best here.

# %%
# Others that come close
# ----------------------
#
# The penalty is part of the comparison: ``C=1`` is only the default. And there is the direct
# method, which is no policy: regress the reward on the pixels, once for each action, and choose the
# largest prediction.


def direct_share_right(log, seed):
    _, X_test, _, y_test = halves(seed)
    prediction = np.full((len(y_test), 10), -1.0)
    for action in np.unique(log.action):
        rows = log.action == action
        prediction[:, action] = Ridge().fit(log.X[rows], log.reward[rows]).predict(X_test)
    return np.mean(prediction.argmax(axis=1) == y_test)


def over_seeds(logging, C, bounds):
    judged = []
    for seed in SEEDS:
        log = make_log(logging, seed)
        judged.append(judge(fit_policy(log, C=C, bounds=BOUNDS[bounds]), seed))
    return np.mean(judged, axis=0)


PENALTIES = (0.1, 1, 10, 100)
# Picture: The share of right choices against C, one panel for each log, of TOPR and of
#   right guesses only. Both rise with C.
fig, axes = plt.subplots(1, 4, figsize=(10, 3), sharey=True, layout="constrained")
for ax, logging in zip(axes, LOGGING, strict=True):
    for name, color in (("TOPR", "C0"), ("right guesses only", "C2")):
        probability, first, _ = np.transpose([over_seeds(logging, C, name) for C in PENALTIES])
        ax.semilogx(PENALTIES, probability, "o-", color=color, label=name)
        ax.semilogx(PENALTIES, first, "_--", color=color, label="its first choice")
    direct = np.mean([direct_share_right(make_log(logging, seed), seed) for seed in SEEDS])
    ax.axhline(direct, color="0.5", linestyle=":", label="direct method")
    ax.set(title=f"{logging} log", xlabel="C")
axes[0].set(ylabel="Share right on the test half", ylim=(0, 1))
fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)

# %%
# With a weak penalty right guesses only comes near, though not with the bad log; with a strong one
# (``C=0.1``) its first choices are the better ones in most logs. The direct method chooses as well
# as TOPR does with ``C=1`` on the skewed and the bad log, and not as well as with ``C=10``. Which C
# to take, a held-out log can say: see :doc:`plot_topr_evaluation`.
