"""
Solutions of problems, from one log
===================================

A model writes solutions of problems, and a program checks their answers: 1 for a right one, -1 for
any other. From this one log, without a new sample, TOPR learns from all solutions; "positives only"
from the right ones, which is supervised fine-tuning on them. What is each worth on new problems,
and how often is a solution invalid, that is, without an answer?

Small: sums, worked out digit by digit, by a transformer over characters. Large: the word problems
of MultiArith, by SmolLM2-135M-Instruct. One seed; :ref:`language_examples` says what that means,
and what to install. From the root of a clone:

.. code-block:: bash

   python -m docs.examples.language.solutions
   python -m docs.examples.language.solutions --size large --data-home DIR --device cuda
"""

from math import ceil

from sklearn.base import clone

from docs.examples.language.problems import options, task

SMALL = {"n_worked": 10_000, "n_train": 320, "n_test": 200, "n_samples": 8, "n_epochs": 2}
LARGE = {"n_train": 400, "n_test": 200, "n_samples": 8, "n_epochs": 2, "max_new_tokens": 200}
options = options(__doc__, SMALL, LARGE)

# %%
# The log
# -------
#
# ``problems.policy`` is not fitted: it asks the base model, which writes some solutions of each
# problem. They are token ids, so that the fit sees just what was written: of a text it could not
# tell whether the model ended it or ran out of tokens.

problems = task(options)
base = problems.policy
prompts, solutions, reward = problems.log(base, options.n_samples)
print(f"{len(reward)} solutions, {(reward > 0).mean():.3f} of them right; the first one:")
print(prompts[0] + base.tokenizer.decode(solutions[0].tolist()))

# %%
# Learning from it
# ----------------
#
# The policies differ only in the bounds of the ratio of bad solutions. Positives only has fewer
# completions to learn from, so an epoch is fewer gradient steps: it gets a second run with at least
# as many steps as TOPR.
#
# Read the shares of right and invalid solutions together. A policy that learns from bad solutions
# is told directly that an invalid one is bad; one that learns from good ones only makes it rarer as
# it makes the good ones likelier.


def learn(n_epochs=options.n_epochs, **bounds):
    policy = clone(base).set_params(n_epochs=n_epochs, **bounds)
    return policy.fit(prompts, solutions, reward=reward)


POSITIVES = {"negative_bounds": (0, 0)}
policies = {"TOPR": learn(), "positives only": learn(**POSITIVES)}
steps = {name: policy.n_steps_ for name, policy in policies.items()}
longer = ceil(options.n_epochs * steps["TOPR"] / steps["positives only"])
policies["... as many steps"] = learn(longer, **POSITIVES)

print(f"\n{'':20s}{'steps':>8s}{'pass@1':>8s}{'invalid':>9s}")
for name, policy in {"base": base, **policies}.items():
    right, invalid = problems.pass_at_1(policy)
    print(f"{name:20s}{getattr(policy, 'n_steps_', 0):8d}{right:8.3f}{invalid:9.3f}")

# %%
# What the fit says of itself
# ---------------------------
#
# ``diagnostics_`` describes the ratios of the new policy to the one that wrote the log.
#
# - ``effective_positive``: the share of good solutions in the sum of :math:`|R|`. With rewards of 1
#   and -1 it is their share in the log.
# - ``positive_log_ratio`` and ``negative_log_ratio``: by how much, in the mean, good and bad
#   solutions became likelier. The first should rise and the second fall. Both falling is the sign
#   of a collapse: the policy leaves everything that it has seen.
# - ``negative_spent``: the share of the bad solutions that are less than a hundredth as likely as
#   they were. They hardly move the policy any more; near 1 there is little left to learn from this
#   log, and it is time for a new one.
# - ``negative_above``: the share of the bad solutions that became likelier. Some do, being like
#   good ones; many are a reason to look at the rewards.
# - ``effective_sample_size``: how many solutions of the log could still judge the new policy by
#   importance weights; ``largest_ratio`` is the largest of these weights.
# - ``start_log_ratio``: 0 here, as the fit scores the log with the model that wrote it.

names = list(policies["TOPR"].diagnostics_)
names.remove("ratio_quantiles")
print("\n" + " " * 24 + "".join(f"{name:>20s}" for name in policies))
for name in names:
    values = (policy.diagnostics_[name] for policy in policies.values())
    print(f"{name:24s}" + "".join(f"{value:20.4g}" for value in values))

# %%
# What it printed, at the small size:
#
# .. literalinclude:: ../../examples/language/output/solutions.txt
#    :language: text
