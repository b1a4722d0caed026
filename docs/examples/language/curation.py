"""
Fewer good completions of easy prompts
======================================

Easy prompts have many good completions, which say the same; hard ones have few. `cap_positives`
keeps at most so many good completions of each prompt and all the bad ones. The data set gets
smaller and its effective proportion of positives falls: of what moves the policy, more comes from
what went wrong, and of what went right, more from hard prompts. Does that make a better policy?

Small: sums, worked out digit by digit, by a transformer over characters. Large: the word problems
of MultiArith, by SmolLM2-135M-Instruct. One seed; :ref:`language_examples` says what that means,
and what to install. From the root of a clone:

.. code-block:: bash

   python -m docs.examples.language.curation
   python -m docs.examples.language.curation --size large --data-home DIR --device cuda
"""

import numpy as np
from sklearn.base import clone

from docs.examples.language.problems import options, task
from pnsklearn.language import cap_positives

SMALL = {"n_worked": 10_000, "n_train": 320, "n_test": 200, "n_samples": 8, "n_epochs": 2}
LARGE = {"n_train": 400, "n_test": 200, "n_samples": 8, "n_epochs": 2, "max_new_tokens": 200}
options = options(__doc__, SMALL, LARGE)

# %%
# How easy the problems are
# -------------------------
#
# The number of good completions of a prompt is what its difficulty is measured by. A prompt without
# any has nothing to imitate; its bad completions still say what not to write.

problems = task(options)
prompts, solutions, reward = problems.log(problems.policy, options.n_samples)
n_good = (reward.reshape(-1, options.n_samples) > 0).sum(axis=1)
counts = np.bincount(n_good, minlength=options.n_samples + 1)
print("good completions " + "".join(f"{i:5d}" for i in range(len(counts))))
print("prompts with them" + "".join(f"{count:5d}" for count in counts))

# %%
# With a cap and without
# ----------------------
#
# A cap leaves fewer completions, and so fewer gradient steps in an epoch: a small difference may be
# due to that alone. In rounds the same is done by ``improve(..., max_positive=2)``.

print(f"\n{'at most':>8s}{'kept':>7s}{'positive':>10s}{'steps':>7s}{'pass@1':>8s}{'invalid':>9s}")
right, invalid = problems.pass_at_1(problems.policy)
print(f"{'(base)':>8s}{'':24s}{right:8.3f}{invalid:9.3f}")
for cap in sorted({options.n_samples, 4, 2, 1}, reverse=True):
    kept = cap_positives(prompts, reward, cap, random_state=options.seed)
    policy = clone(problems.policy).set_params(n_epochs=options.n_epochs)
    policy.fit(prompts[kept], solutions[kept], reward=reward[kept])
    share = policy.diagnostics_.effective_positive
    right, invalid = problems.pass_at_1(policy)
    numbers = f"{kept.sum():7d}{share:10.3f}{policy.n_steps_:7d}{right:8.3f}{invalid:9.3f}"
    print(f"{cap:8d}{numbers}")

# %%
# What it printed, at the small size:
#
# .. literalinclude:: ../../examples/language/output/curation.txt
#    :language: text
