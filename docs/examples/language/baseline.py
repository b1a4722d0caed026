"""
The baseline, which weighs good against bad
===========================================

The baseline c is subtracted from the rewards. In the usual REINFORCE it only makes the gradient
less noisy. Here it does more: for rewards of 1 and -1 it makes good completions count 1 - c and bad
ones 1 + c, and good and bad are learned from in different ways. ``effective_positive`` asks for the
baseline at which good completions have a given share in the sum of :math:`|R|`. How much does it
matter?

Small: sums, worked out digit by digit, by a transformer over characters. Large: the word problems
of MultiArith, by SmolLM2-135M-Instruct. One seed; :ref:`language_examples` says what that means,
and what to install. From the root of a clone:

.. code-block:: bash

   python -m docs.examples.language.baseline
   python -m docs.examples.language.baseline --size large --data-home DIR --device cuda
"""

from sklearn.base import clone

from docs.examples.language.problems import options, task

SMALL = {"n_worked": 10_000, "n_train": 320, "n_test": 200, "n_samples": 8, "n_epochs": 2}
LARGE = {"n_train": 400, "n_test": 200, "n_samples": 8, "n_epochs": 2, "max_new_tokens": 200}
options = options(__doc__, SMALL, LARGE)

# %%
# The same log with other baselines
# ---------------------------------
#
# The first row is c = 0: the effective proportion of positives is their share in the log. The other
# rows ask for a proportion, and the fit finds the baseline from the rewards.
#
# Look at the two log-ratios, by how much good and bad completions of the log became likelier. At a
# small proportion the bad ones decide, and the good ones may fall with them; at a large one the fit
# is near to imitation of the good ones. The learning rate and the number of steps are those of all
# rows: where the rows differ by little, another rate may turn them round.

problems = task(options)
prompts, solutions, reward = problems.log(problems.policy, options.n_samples)

columns = f"{'c':>8s}{'positive':>10s}{'pass@1':>8s}{'invalid':>9s}{'good':>9s}{'bad':>9s}"
print(columns + "   (log-ratios)")
right, invalid = problems.pass_at_1(problems.policy)
print(f"{'(base)':>8s}{'':10s}{right:8.3f}{invalid:9.3f}")
for share in (None, 0.1, 0.2, 0.5, 0.7):
    policy = clone(problems.policy).set_params(effective_positive=share, n_epochs=options.n_epochs)
    policy.fit(prompts, solutions, reward=reward)
    found = policy.diagnostics_
    right, invalid = problems.pass_at_1(policy)
    ratios = f"{found.positive_log_ratio:9.2f}{found.negative_log_ratio:9.2f}"
    values = f"{policy.baseline_:8.3f}{found.effective_positive:10.3f}{right:8.3f}{invalid:9.3f}"
    print(values + ratios)

# %%
# What it printed, at the small size:
#
# .. literalinclude:: ../../examples/language/output/baseline.txt
#    :language: text
