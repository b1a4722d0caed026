"""
Words added to a search query
=============================

The model reads a query and writes words that are added to it; what they are worth is what a
search engine makes of them. The reward is the reciprocal rank of the right document, less that of
the bare query: below zero where the added words did harm. The index is a BM25 of the library
``bm25s``, which has no gradient and needs none.

Small: case reports name complaints by their medical terms, patients by everyday words. A
transformer over characters is first taught to write any two of the terms, whatever the query; which
term stands for which word it learns from the rewards. Large: SmolLM2-135M-Instruct adds words to
the question at the end of a problem of GSM8K, to find its worked solution among all of them.

One seed; :ref:`language_examples` says what that means, and what to install. From the root of a
clone:

.. code-block:: bash

   python -m docs.examples.language.query_expander
   python -m docs.examples.language.query_expander --size large --data-home DIR --device cuda
"""

import gzip
import json
import re
from itertools import combinations, product
from pathlib import Path

import bm25s
import numpy as np

from docs.examples.language.arithmetic import CharTokenizer
from docs.examples.language.problems import options, smollm2
from docs.examples.language.sums import char_model
from pnsklearn.language import TOPRLanguagePolicy

SMALL = {"n_taught": 4000, "n_train": 200, "n_test": 150, "n_samples": 8, "n_rounds": 4}
LARGE = {"n_train": 400, "n_test": 200, "n_samples": 8, "n_rounds": 2, "max_new_tokens": 32}
options = options(__doc__, SMALL, LARGE)
rng = np.random.RandomState(options.seed)

# %%
# Search
# ------
#
# Each query has one right document. Documents of equal score share the mean of their ranks.


def words(texts):
    return bm25s.tokenize(texts, return_ids=False, show_progress=False)


class Search:
    """Prompts, each with a query and the number of its document among `documents`."""

    def __init__(self, documents, prompts, queries, right):
        self.index = bm25s.BM25()
        self.index.index(words(documents), show_progress=False)
        self.wanted = dict(zip(prompts, zip(queries, right, strict=True), strict=True))

    def reciprocal_rank(self, prompts, added):
        """Return that of the right document for each query with words added to it."""
        queries, right = zip(*(self.wanted[prompt] for prompt in prompts), strict=True)
        texts = [f"{query} {more}" for query, more in zip(queries, added, strict=True)]
        scores = [self.index.get_scores(query) for query in words(texts)]
        ranks = [
            (s > s[i]).sum() + ((s == s[i]).sum() + 1) / 2
            for s, i in zip(scores, right, strict=True)
        ]
        return 1 / np.array(ranks)

    def gain(self, prompts, added):
        """Return the reward: what the words add to the reciprocal rank of the bare query."""
        bare = self.reciprocal_rank(prompts, [""] * len(prompts))
        return self.reciprocal_rank(prompts, added) - bare


# %%
# Small: complaints and their terms
# ---------------------------------
#
# A report has the terms of two complaints, and a place. A query has the place, and the everyday
# words of the complaints: without the terms it finds the reports from this place, in no order.

TERMS = {
    "fever": "pyrexia",
    "itch": "pruritus",
    "bruise": "contusion",
    "rash": "exanthema",
    "hives": "urticaria",
    "swelling": "edema",
    "fainting": "syncope",
    "baldness": "alopecia",
    "dizziness": "vertigo",
    "hiccups": "singultus",
    "sweating": "diaphoresis",
    "thirst": "polydipsia",
}
PLACES = ("home", "school", "office", "farm", "train", "beach", "market", "kitchen", "garden")


def complaints(n):
    """Return a search for n reports, and a policy that writes two terms, whichever."""
    cases = list(product(combinations(TERMS, 2), PLACES))
    cases = [cases[i] for i in rng.permutation(len(cases))[:n]]
    reports = [f"{TERMS[a]} and {TERMS[b]}, seen at the {place}" for (a, b), place in cases]
    queries = [f"{a} {b} {place}" for (a, b), place in cases]
    prompts = [f"{query}:" for query in queries]
    tokenizer = CharTokenizer("abcdefghijklmnopqrstuvwxyz :")
    policy = TOPRLanguagePolicy(
        char_model(tokenizer, hidden_size=64, n_layers=2, seed=options.seed),
        tokenizer,
        learning_rate=3e-3,
        max_new_tokens=24,
        device=options.device,
        random_state=options.seed,
    )
    taught = rng.choice(prompts, options.n_taught)
    terms = [" ".join(rng.choice(list(TERMS.values()), 2, replace=False)) for _ in taught]
    policy.fit(taught, terms)
    policy.set_params(learning_rate=1e-3, n_epochs=2)
    return Search(reports, prompts, queries, range(n)), policy


# %%
# Large: questions and their solutions
# ------------------------------------
#
# The model sees what the search engine gets, the question without the story before it: the whole
# problem finds its solution nearly always.


def questions(n):
    """Return a search for the solutions of n problems of GSM8K, and the policy of SmolLM2."""
    with gzip.open(Path(options.data_home) / "gsm8k_train.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    right = rng.permutation(len(rows))[:n]
    queries = [re.split(r"(?<=[.?!])\s+", rows[i]["question"].strip())[-1] for i in right]
    tokenizer, model = smollm2()
    asks = [f"Which words does the answer to this use? List ten words.\n{q}" for q in queries]
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": ask}], tokenize=False, add_generation_prompt=True
        )
        for ask in asks
    ]
    policy = TOPRLanguagePolicy(
        model,
        tokenizer,
        max_new_tokens=options.max_new_tokens,
        device=options.device,
        random_state=options.seed,
    )
    return Search([row["answer"] for row in rows], prompts, queries, right), policy


n = options.n_train + options.n_test
search, policy = complaints(n) if options.size == "small" else questions(n)
prompts = list(search.wanted)
prompts, new_prompts = prompts[: options.n_train], prompts[options.n_train :]

# %%
# Before and after
# ----------------
#
# On new queries: the mean reciprocal rank of the bare query, and with what the policy adds, in the
# mean over samples and for its likeliest words. The bare query is the mark to beat, not the policy
# before: words that are no help do harm, as the search engine looks for them too.


def evaluate(name, policy):
    added = policy.sample(new_prompts, 4, random_state=0)[0].ravel()
    sampled = search.reciprocal_rank(np.repeat(new_prompts, 4), added).mean()
    likeliest = search.reciprocal_rank(new_prompts, policy.predict(new_prompts)).mean()
    print(f"{name:12s}{sampled:10.3f}{likeliest:12.3f}")


print(f"{'':12s}{'sampled':>10s}{'likeliest':>12s}")
bare = search.reciprocal_rank(new_prompts, [""] * len(new_prompts)).mean()
print(f"{'bare query':12s}{bare:10.3f}{bare:12.3f}")
evaluate("before", policy)
before = policy.predict(new_prompts[:3])
policy.improve(prompts, search.gain, options.n_rounds, options.n_samples)
evaluate("after", policy)

print("\nround, mean reward of its samples, their effective proportion of positives")
for i, entry in enumerate(policy.rounds_, start=1):
    # None if nothing that was added changed a rank.
    share = entry.diagnostics.effective_positive if entry.diagnostics else np.nan
    print(f"{i:5d}{entry.value.value:10.3f}{share:10.3f}")

# %%
# Rewards of any size are taken as they are: a query that was found on top counts more than one that
# rose from the tenth place to the fifth. So few rewards of nearly 1 can outweigh many that are just
# below 0, and the effective proportion of positives may be large although most words did harm.

print("\nquery, words added before and after")
after = policy.predict(new_prompts[:3])
for prompt, old, new in zip(new_prompts[:3], before, after, strict=True):
    print(f"- {search.wanted[prompt][0]}\n  {old!r}\n  {new!r}")

# %%
# What it printed, at the small size:
#
# .. literalinclude:: ../../examples/language/output/query_expander.txt
#    :language: text
