"""
Noisy rewards: one log, or act and learn in rounds
==================================================

A quarter of the rewards are wrong, and the log prefers some actions. A single fit, which takes the
sign of each reward for the truth, does poorly. What helps is to act with the new policy, log what
comes of it and learn again: `improve`. How much of that is the better log, how much is only more
rewards, and what does a plain regression of the rewards make of both?
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge
from sklearn.model_selection import train_test_split

from pnsklearn import TOPRPolicy
from pnsklearn.datasets import make_logged_bandit

# %%
# One fit
# -------
#
# Handwritten digits are guessed; a right guess earns 1, a wrong one -1, and one time in four it is
# the other way round. So the best possible mean reward is 0.5, and the worst is -0.5. The log
# guesses small digits more often, whatever it sees.

NOISE, N_ROUNDS = 0.25, 6
digits, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    digits / 16, y, test_size=0.4, stratify=y, random_state=0
)


def make_log(X, y, logging="skewed"):
    return make_logged_bandit(X, y, logging=logging, noise=NOISE, random_state=0)


def fit(log, effective_positive=None):
    # Not the log's seed: the same random numbers would draw again what the policy has learned from.
    policy = TOPRPolicy(
        bounds="topr", baseline=0, effective_positive=effective_positive, random_state=1
    )
    return policy.fit(log.X, log.action, reward=log.reward, propensity=log.propensity)


def mean_reward(share_right):
    return (1 - 2 * NOISE) * (2 * share_right - 1)


def value(policy, X, y):
    """Return the mean reward of the policy as it stands, without the noise's own spread."""
    return mean_reward(policy.predict_proba(X)[np.arange(len(y)), y].mean())


def first_choice(policy):
    """Return the mean reward on new digits if the likeliest action is always taken."""
    return mean_reward(np.mean(policy.predict(X_test) == y_test))


log = make_log(X_train, y_train)
policy = fit(log)
print(f"mean reward of the log        {log.reward.mean():6.2f}")
print(f"of the policy, on new digits  {value(policy, X_test, y_test):6.2f}")
print(f"of its first choices          {first_choice(policy):6.2f}")

# %%
# Rounds
# ------
#
# `improve` needs the contexts and a function that acts: it returns a reward for each action. Ours
# also takes notes that only we can take, who know the labels: the true value of the policy that is
# acting. Each round is a fit to the new actions alone, from the weights of the last.


def improve(policy):
    """Refresh the policy, and return notes of each round and the actions with their rewards."""
    rng = np.random.default_rng(0)
    notes, tried = [], []

    def act(X, actions):
        new_digits = value(policy, X_test, y_test), first_choice(policy)
        notes.append((value(policy, X_train, y_train), *new_digits))
        right = (actions == y_train) ^ (rng.random(len(actions)) < NOISE)
        tried.append((actions, np.where(right, 1.0, -1.0)))
        return tried[-1][1]

    policy.improve(X_train, act, n_rounds=N_ROUNDS)
    return np.transpose(notes), tried


(truth, truth_new, choice_new), tried = improve(policy)
estimates = [entry.value for entry in policy.rounds_]
print("round   estimate               truth   on new digits   first choices")
for i, (estimate, _, low, high) in enumerate(estimates):
    interval = f"{estimate:5.2f} ({low:5.2f} to {high:5.2f})"
    print(f"{i}      {interval}{truth[i]:8.2f}{truth_new[i]:16.2f}{choice_new[i]:16.2f}")

# %%
# Is it the rounds, or the rewards?
# ---------------------------------
#
# In the last round six times as many rewards are known as at first. So compare with TOPR fitted to
# a skewed log that is as long. And with the direct method, on that log and on what the rounds have
# tried: a ridge regression of the reward on the pixels for each action, whose largest prediction is
# chosen. It keeps all rewards and averages the noise away.


def direct(actions, rewards):
    """Return the mean reward on new digits of the direct method."""
    X = np.tile(X_train, (len(actions) // len(X_train), 1))
    prediction = np.full((len(y_test), 10), -1.0)
    for action in np.unique(actions):
        rows = actions == action
        prediction[:, action] = Ridge(alpha=10).fit(X[rows], rewards[rows]).predict(X_test)
    return mean_reward(np.mean(prediction.argmax(axis=1) == y_test))


tried = [(log.action, log.reward), *tried]
old_topr, old_direct, tried_direct = [], [], []
for n in range(1, N_ROUNDS + 1):
    old = make_log(np.tile(X_train, (n, 1)), np.tile(y_train, n))
    old_topr.append(first_choice(fit(old)))
    old_direct.append(direct(old.action, old.reward))
    tried_direct.append(direct(*map(np.concatenate, zip(*tried[:n], strict=True))))

# Picture: Mean reward against the round and against the rewards seen. Acting in rounds
#   raises it from below zero to near its maximum; the same number of rewards from the
#   skewed log gains less.
fig, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
mean, _, low, high = np.transpose(estimates)
rounds = np.arange(N_ROUNDS)
axes[0].errorbar(
    rounds, mean, (mean - low, high - mean), fmt="o", color="C0", capsize=4, label="estimate"
)
axes[0].plot(rounds, truth, color="C0", label="truth")
axes[0].plot(rounds, truth_new, "--", color="C0", label="truth on new digits")
axes[0].set(title="The policy that acts", xlabel="Round", ylabel="Mean reward")
n_rewards = (rounds + 1) * len(y_train)
axes[1].plot(n_rewards, choice_new, "o-", color="C0", label="TOPR, rounds")
axes[1].plot(n_rewards, tried_direct, "s-", color="C1", label="direct, what the rounds tried")
axes[1].plot(n_rewards, old_topr, "o:", color="C0", label="TOPR, skewed log")
axes[1].plot(n_rewards, old_direct, "s:", color="C1", label="direct, skewed log")
axes[1].set(title="First choices on new digits", xlabel="Rewards seen")
for ax in axes:
    ax.axhline(log.reward.mean(), color="0.5", linestyle="--", linewidth=1)
    ax.axhline(mean_reward(1), color="0.5", linestyle=":", linewidth=1)
    ax.legend()

# %%
# Left, the estimates of the rounds follow the truth. No ratios are in them, as the policy that is
# judged is the one that acts. (Grey: the mean reward of the log, and the best there is.)
#
# Right, rewards of the policy's own actions are worth far more than as many of the old log. But the
# direct method makes as much of them: TOPR found the actions worth trying, and a regression of all
# that was tried reads them as well as TOPR does.

# %%
# The share of good decisions
# ---------------------------
#
# ``effective_positive`` moves the baseline, so that good decisions make up this share of the sum.
# Left, one fit to each of four noisy logs, with marks for the default (no baseline), and dotted for
# the direct method. Right, the rounds again.

SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
# Picture: Mean reward after one fit, against effective_positive, a line for each log,
#   whose best places differ; and against the round, a line for each setting.
fig, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
for i, logging in enumerate(("good", "uniform", "skewed", "bad")):
    log = make_log(X_train, y_train, logging)
    default = fit(log)
    share = default.diagnostics_.effective_positive
    choices = [first_choice(fit(log, share)) for share in SHARES]
    axes[0].semilogx(SHARES, choices, color=f"C{i}", label=f"{logging} log")
    axes[0].plot(share, first_choice(default), "o", color=f"C{i}")
    axes[0].axhline(direct(log.action, log.reward), color=f"C{i}", linestyle=":")
axes[0].set_xticks(SHARES, SHARES)
axes[0].set(title="One fit", xlabel="effective_positive", ylabel="Mean reward of first choices")
axes[1].plot(rounds, choice_new, "o-", color="black", label="None")
for i, share in enumerate((0.1, 0.3, 0.5, 0.7), start=4):
    (_, _, choices), _ = improve(fit(make_log(X_train, y_train), share))
    axes[1].plot(rounds, choices, "o-", color=f"C{i}", label=str(share))
axes[1].set(title="Rounds, from the skewed log, by effective_positive", xlabel="Round")
below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.15), "ncols": 5, "columnspacing": 1}
for ax in axes:
    ax.legend(**below)

# %%
# One fit: of a log that is mostly wrong, 0.1 or 0.2 makes a better policy than the default, and a
# larger share a worse one. The good log wants a half, and 0.1 ruins it. The direct method is better
# than the default on the uniform and the bad log, on the latter at any share; TOPR is better on the
# good log, and on the skewed one they are level.
#
# Rounds: each makes the log better, so a share that helped with the first log hurts with the next.
# With None, a fixed baseline of 0, the share grows as the policy does, and that is the best here.
