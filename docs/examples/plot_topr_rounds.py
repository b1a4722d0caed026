"""
Noisy rewards: one log, or act and learn in rounds
==================================================

A quarter of the rewards are wrong, and the log prefers some actions. A single fit to it, which takes
the sign of each reward for the truth, does poorly. What helps is to act with the new policy, log
what comes of it and learn again: ``improve``. How much of that is the better log, how much is only
more rewards, and what does a plain regression of the rewards make of both?
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


def make_log(X, y):
    return make_logged_bandit(X, y, logging="skewed", noise=NOISE, random_state=0)


def fit(log, **params):
    policy = TOPRPolicy(random_state=0, **params)
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
# `improve` needs the contexts and a function that acts: it returns a reward for each action. Here
# it also takes notes that only we can take, who know the labels: the true value of the policy that
# is acting. Each round is a fit to the new actions alone, from the weights of the last.

rng = np.random.default_rng(0)
truth, truth_new, choice_new = [], [], []
tried = [(log.action, log.reward)]


def act(X, actions):
    truth.append(value(policy, X_train, y_train))
    truth_new.append(value(policy, X_test, y_test))
    choice_new.append(first_choice(policy))
    right = (actions == y_train) ^ (rng.random(len(actions)) < NOISE)
    rewards = np.where(right, 1.0, -1.0)
    tried.append((actions, rewards))
    return rewards


policy.improve(X_train, act, n_rounds=N_ROUNDS)
for i, entry in enumerate(policy.rounds_):
    print(
        f"round {i}: {entry.value.value:5.2f} ({entry.value.low:5.2f} to {entry.value.high:5.2f}), "
        f"truth {truth[i]:5.2f}, on new digits {truth_new[i]:5.2f}, first choices {choice_new[i]:5.2f}"
    )

# %%
# Is it the rounds, or the rewards?
# ---------------------------------
#
# After six rounds seven times as many rewards are known. So compare with a skewed log that is as
# long: TOPR fitted to that at once. And with the direct method, on the old log and on what the
# rounds have tried: a ridge regression of the reward on the pixels for each action, whose largest
# prediction is chosen. It keeps all rewards and averages the noise away.


def direct(actions, rewards):
    """Return the mean reward on new digits of the direct method."""
    X = np.tile(X_train, (len(actions) // len(X_train), 1))
    prediction = np.full((len(y_test), 10), -1.0)
    for action in np.unique(actions):
        rows = actions == action
        prediction[:, action] = Ridge(alpha=10).fit(X[rows], rewards[rows]).predict(X_test)
    return mean_reward(np.mean(prediction.argmax(axis=1) == y_test))


n_logs = np.arange(1, N_ROUNDS + 1)
old_topr, old_direct, tried_direct = [], [], []
for n in n_logs:
    old = make_log(np.tile(X_train, (n, 1)), np.tile(y_train, n))
    old_topr.append(first_choice(fit(old)))
    old_direct.append(direct(old.action, old.reward))
    tried_direct.append(direct(*map(np.concatenate, zip(*tried[:n], strict=True))))
for row in (choice_new, old_topr, old_direct, tried_direct): print(np.round(row,2))
