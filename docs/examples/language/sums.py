"""
A small model that solves some sums
===================================

What the small examples in this folder share: problems with answers that can be checked, what a
policy learns from and is measured by, and a transformer of 0.4 million weights, taught on few
worked solutions. Nothing runs here.
"""

from dataclasses import dataclass

import numpy as np
import torch

from docs.examples.language.arithmetic import CharTokenizer, make_arithmetic
from pnsklearn.language import TOPRLanguagePolicy


@dataclass(frozen=True)
class Problems:
    """Prompts with answers and a policy that writes solutions, whose answers `answer` returns."""

    policy: TOPRLanguagePolicy
    train: dict  # answer by prompt
    test: dict

    def right(self, prompts, completions):
        """Return whether each solution comes to the right answer."""
        answers = self.train | self.test
        pairs = zip(prompts, completions, strict=True)
        return np.array([self.answer(text) == answers[prompt] for prompt, text in pairs])

    def reward(self, prompts, completions):
        """Return 1 for a right solution, -1 for any other."""
        return np.where(self.right(prompts, completions), 1.0, -1.0)

    def log(self, policy, n_samples, random_state=0):
        """Return training prompts, solutions that the policy wrote, and rewards."""
        # As text, one that the model did not end could not be told from one that it did.
        prompts = list(self.train)
        how = {"as_tokens": True, "random_state": random_state}
        solutions = policy.sample(prompts, n_samples, **how)[0].ravel()
        prompts = np.repeat(prompts, n_samples)
        decode = policy.tokenizer.decode
        texts = [decode(ids.tolist(), skip_special_tokens=True) for ids in solutions]
        return prompts, solutions, self.reward(prompts, texts)

    def pass_at_1(self, policy, n_samples=4, random_state=0):
        """Return the shares of right and of invalid solutions of the test problems."""
        prompts = list(self.test)
        completions = policy.sample(prompts, n_samples, random_state=random_state)[0].ravel()
        right = self.right(np.repeat(prompts, n_samples), completions).mean()
        return right, np.mean([self.answer(text) is None for text in completions])


class Sums(Problems):
    """Sums whose worked solution ends with a colon and the answer."""

    def answer(self, completion):
        """Return the answer that a solution comes to, None if it comes to none: it is invalid."""
        _, _, answer = completion.partition(":")
        return answer if answer.isdigit() else None


def char_model(tokenizer, hidden_size=96, n_layers=3, n_positions=64, seed=0):
    """Return an untrained transformer over characters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=hidden_size, intermediate_size=4 * hidden_size,
        num_hidden_layers=n_layers, num_attention_heads=4, max_position_embeddings=n_positions,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def sums(
    n_worked=14_000, n_train=320, n_test=200, n_digits=3, learning_rate=5e-4, *,
    more_characters="", device="cpu", seed=0,
):  # fmt: skip
    """Return the task: a model after one pass over `n_worked` worked solutions."""
    worked, *problems = (
        make_arithmetic(n, n_digits=n_digits, random_state=3 * seed + i)
        for i, n in enumerate((n_worked, n_train, n_test))
    )
    tokenizer = CharTokenizer(worked.alphabet + more_characters)
    longest = max(map(len, worked.solution)) + 2
    base = TOPRLanguagePolicy(
        char_model(tokenizer, seed=seed), tokenizer, learning_rate=2e-3, batch_size=64,
        max_tokens=8192, max_new_tokens=longest, device=device, random_state=seed,
    )  # fmt: skip
    base.fit(worked.prompt, worked.solution)
    settings = {**base.get_params(deep=False), "model": base.model_, "learning_rate": learning_rate}
    policy = TOPRLanguagePolicy(**settings)
    return Sums(policy, *(dict(zip(of.prompt, of.answer, strict=True)) for of in problems))
