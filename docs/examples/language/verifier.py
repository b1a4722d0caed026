"""
A verifier that weighs the votes
================================

Several solutions of a problem can vote: the answer that most of them come to is usually right more
often than one of them is. A generative verifier is a language model that reads a solution and
writes a verdict. TOPR teaches it by what is known on the training problems, whether the verdict is
right: the reward is 1 or -1. Its probability of a "yes" then weighs the votes.

Small: sums, worked out digit by digit. The model that writes them is also the start of the
verifier, after it is taught to write "y" or "n", whatever the solution. Large: the word problems of
MultiArith, by SmolLM2-135M-Instruct, which is asked whether its solution is right. One seed;
:ref:`language_examples` says what that means, and what to install. From the root of a clone:

.. code-block:: bash

   python -m docs.examples.language.verifier
   python -m docs.examples.language.verifier --size large --data-home DIR --device cuda
"""

import numpy as np
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from docs.examples.language.arithmetic import weighted_vote
from docs.examples.language.problems import options, task

SMALL = {"n_worked": 10_000, "n_train": 320, "n_test": 200, "n_samples": 8, "n_rounds": 6}
LARGE = {"n_train": 400, "n_test": 200, "n_samples": 8, "n_rounds": 3, "max_new_tokens": 200}
options = options(__doc__, SMALL, LARGE)

# %%
# Solutions to judge
# ------------------
#
# The prompt of the verifier is the problem and a solution, followed by the question.

if options.size == "small":
    yes, no, question = "y", "n", "?"
    problems = task(options, more_characters="?yn")
else:
    yes, no = "Yes", "No"
    question = (
        "<|im_end|>\n<|im_start|>user\nIs this solution right? Answer Yes or No.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    problems = task(options)


def write(prompts, random_state):
    """Return solutions, and whether they are right; both with a row for each problem."""
    solutions, _ = problems.policy.sample(prompts, options.n_samples, random_state=random_state)
    right = [problems.right([p] * len(row), row) for p, row in zip(prompts, solutions, strict=True)]
    return solutions, np.array(right)


def ask(prompts, solutions):
    """Return the prompts of the verifier, for all solutions of all problems."""
    rows = zip(prompts, solutions, strict=True)
    return [prompt + solution + question for prompt, row in rows for solution in row]


prompts, new_prompts = list(problems.train), list(problems.test)
solutions, right = write(prompts, random_state=1)
new_solutions, new_right = write(new_prompts, random_state=2)
truth = dict(zip(ask(prompts, solutions), right.ravel(), strict=True))
print(f"{len(truth)} different solutions to learn from, {np.mean(list(truth.values())):.3f} right")

# %%
# The verifier
# ------------
#
# Each round samples verdicts of all solutions. They are compared with the truth on the solutions of
# new problems: the accuracy of the likelier verdict, beside that of always saying the same, and the
# area under the ROC curve of the probability of a "yes", which is what the votes need.


def reward(asked, verdicts):
    wanted = [yes if truth[text] else no for text in asked]
    said = [verdict.strip().rstrip(".") for verdict in verdicts]
    return [1.0 if a == b else -1.0 for a, b in zip(said, wanted, strict=True)]


def probability(verifier, asked):
    """Return that of a "yes", among "yes" and "no"."""
    log_odds = verifier.logprob(asked, [yes] * len(asked)) - verifier.logprob(
        asked, [no] * len(asked)
    )
    return 1 / (1 + np.exp(-log_odds))


def judge(name, verifier):
    """Print how good the verdicts are; return the probabilities, with a row for each problem."""
    belief = probability(verifier, ask(new_prompts, new_solutions))
    truly = new_right.ravel()
    accuracy, area = np.mean((belief > 0.5) == truly), roc_auc_score(truly, belief)
    print(f"{name:24s}{accuracy:10.3f}{area:10.3f}")
    return belief.reshape(new_right.shape)


verifier = clone(problems.policy).set_params(max_new_tokens=2)
if options.size == "small":
    verdicts = np.random.RandomState(options.seed).choice([yes, no], len(truth))
    verifier.fit(list(truth), verdicts)

print(f"\n{'verdicts':24s}{'accuracy':>10s}{'AUC':>10s}")
print(f"{'always the same':24s}{max(new_right.mean(), 1 - new_right.mean()):10.3f}{0.5:10.3f}")
judge("before", verifier)
verifier.improve(list(truth), reward, options.n_rounds, n_samples=2)
weights = judge("after", verifier)
print("mean reward by round    ", *(f"{entry.value.value:.3f}" for entry in verifier.rounds_))

# %%
# The votes
# ---------
#
# The mean of the single solutions is pass@1. An answer that no solution came to cannot win: the
# share of problems with at least one right solution is the most that a vote can reach.


def share_right(answers):
    return np.mean([a == b for a, b in zip(answers, problems.test.values(), strict=True)])


answers = [[problems.answer(text) for text in row] for row in new_solutions]
print(f"\npass@1             {new_right.mean():.3f}")
print(f"majority vote      {share_right(weighted_vote(answers)):.3f}")
print(f"weighted vote      {share_right(weighted_vote(answers, weights)):.3f}")
print(f"at least one right {new_right.any(axis=1).mean():.3f}")

# %%
# What it printed, at the small size:
#
# .. literalinclude:: ../../examples/language/output/verifier.txt
#    :language: text
