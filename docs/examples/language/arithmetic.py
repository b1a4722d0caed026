"""
Sums, which a small model can learn
===================================

What the examples in this folder share: sums with worked solutions, a tokenizer with a token for
each character, and the vote of several solutions. They are small enough for a model that is trained
from nothing on a CPU; take them along, or write your own in their place. Nothing runs here:

.. code-block:: python

   from docs.examples.language.arithmetic import CharTokenizer, make_arithmetic, weighted_vote
"""

import numpy as np
from sklearn.utils import Bunch, check_random_state

# %%
# Problems
# --------
#
# ``784+659=`` is worked out from the units up, digit by digit with the carry, and the answer comes
# after a colon: ``4+9+0=13,8+5+1=14,7+6+1=14:1443``.


def make_arithmetic(n_problems, *, n_digits=3, random_state=None):
    """Return prompts, solutions and answers of sums of two numbers, and the characters in them."""
    rng = check_random_state(random_state)
    numbers = rng.randint(10 ** (n_digits - 1), 10**n_digits, size=(n_problems, 2))
    steps = [work_out(str(a), str(b)) for a, b in numbers]
    return Bunch(
        prompt=[f"{a}+{b}=" for a, b in numbers],
        solution=[f"{text}:{a + b}" for text, (a, b) in zip(steps, numbers, strict=True)],
        answer=[f"{a + b}" for a, b in numbers],
        alphabet="0123456789+=,:",
    )


def work_out(a, b):
    """Return the steps of a sum, from the units up."""
    steps, carry = [], 0
    for digit, other in zip(reversed(a), reversed(b), strict=True):
        total = int(digit) + int(other) + carry
        steps.append(f"{digit}+{other}+{carry}={total}")
        carry = total // 10
    return ",".join(steps)


# %%
# Tokens
# ------
#
# This is all that :class:`~pnsklearn.language.TOPRLanguagePolicy` asks of a tokenizer. Token 0 is
# the padding, and token 1 ends a sequence.


class CharTokenizer:
    """Tokenizer with one token for each character of an alphabet."""

    pad_token_id = 0
    eos_token_id = 1

    def __init__(self, alphabet):
        self.alphabet = alphabet
        self._ids = {character: i for i, character in enumerate(alphabet, start=2)}

    def __len__(self):
        """Return the number of tokens, for the vocabulary of a model."""
        return len(self.alphabet) + 2

    def __call__(self, text, add_special_tokens=False):
        """Return the token ids of a text; no special token is added, whatever is asked for."""
        return {"input_ids": [self._ids[character] for character in text]}

    def decode(self, ids, skip_special_tokens=True):
        """Return the text of token ids, without padding and end."""
        return "".join(self.alphabet[i - 2] for i in ids if i >= 2)


# %%
# Votes
# -----
#
# An answer that many solutions of a problem come to is usually right more often than one of them
# is: self-consistency. With the belief of a verifier in each solution as weights, it is weighted
# self-consistency.


def weighted_vote(answers, weights=None):
    """Return the answer of each problem with the most votes, None where no solution has one.

    Both are of shape (n_problems, n_solutions). An answer of None has no vote; of equal answers the
    first wins.
    """
    weights = np.ones(np.shape(answers)) if weights is None else weights
    winners = []
    for row, row_weights in zip(answers, weights, strict=True):
        votes = {}
        for answer, weight in zip(row, row_weights, strict=True):
            if answer is not None:
                votes[answer] = votes.get(answer, 0.0) + weight
        winners.append(max(votes, key=votes.get, default=None))
    return winners
