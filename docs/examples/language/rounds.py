"""
Several rounds, which survive a kill
====================================

A log grows old as the policy learns: what it would now write is not in it. `improve` samples anew
in each round, asks for the rewards, and learns from this round's samples alone. With a folder for
``checkpoint`` the state after each round is on disk, and the same call made again goes on from
there.

Small: sums, worked out digit by digit, by a transformer over characters. Large: the word problems
of MultiArith, by SmolLM2-135M-Instruct. One seed; :ref:`language_examples` says what that means,
and what to install. From the root of a clone:

.. code-block:: bash

   python -m docs.examples.language.rounds
   python -m docs.examples.language.rounds --size large --data-home DIR --device cuda
"""

from tempfile import TemporaryDirectory

from sklearn.base import clone

from docs.examples.language.problems import options, task

SMALL = {"n_worked": 10_000, "n_train": 320, "n_test": 200, "n_samples": 8, "n_rounds": 3}
LARGE = {"n_train": 400, "n_test": 200, "n_samples": 8, "n_rounds": 4, "max_new_tokens": 200}
options = options(__doc__, SMALL, LARGE)

# %%
# One round, a break, and the rest
# --------------------------------
#
# The reward takes note of how often it is asked: once a round. The second call starts from the base
# policy, as a program that was started anew does, and asks for all rounds; those on disk are not
# run again. Another policy, other prompts or other settings are refused: this is the folder of one
# run.

problems = task(options)
asked = []


def reward(prompts, completions):
    asked.append(len(completions))
    return problems.reward(prompts, completions)


def improve(n_rounds, folder):
    asked.clear()
    policy = clone(problems.policy)
    policy.improve(list(problems.train), reward, n_rounds, options.n_samples, checkpoint=folder)
    print(f"{n_rounds} round(s) are done; {len(asked)} of them in this call")
    return policy


with TemporaryDirectory() as folder:
    first = improve(1, folder)
    last = improve(options.n_rounds, folder)

# %%
# Round by round
# --------------
#
# ``rounds_`` says what the samples of each round were like, before the policy learned from them: so
# the first row is the base, and the last round's learning shows in no row. The value is the mean
# reward, here two times the share of right solutions less one, with a 95 % interval over the
# prompts. All of it is about the training problems; the last lines are about new ones.
#
# The share of good solutions is the effective proportion of positives. It rises as the policy does,
# until too few bad solutions are left to learn from.

print(f"\n{'round':>5s}{'value':>8s}{'95 % interval':>18s}{'positive':>10s}{'unfinished':>12s}")
for i, entry in enumerate(last.rounds_, start=1):
    interval = f"{entry.value.low:.3f} to {entry.value.high:.3f}"
    share = entry.diagnostics.effective_positive
    print(f"{i:5d}{entry.value.value:8.3f}{interval:>18s}{share:10.3f}{entry.unfinished:12.3f}")

print(f"\n{'on new problems':18s}{'pass@1':>8s}{'invalid':>9s}")
for name, policy in {"base": problems.policy, "one round": first, "all rounds": last}.items():
    right, invalid = problems.pass_at_1(policy)
    print(f"{name:18s}{right:8.3f}{invalid:9.3f}")

# %%
# What it printed, at the small size:
#
# .. literalinclude:: ../../examples/language/output/rounds.txt
#    :language: text
