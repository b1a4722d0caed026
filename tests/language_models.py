"""Small causal language models, a tokenizer, and a log, for the tests of language policies."""

import numpy as np
import pytest
import torch

from pnsklearn.language import TOPRLanguagePolicy

ALPHABET = "abcde"


class CharTokenizer:
    """As much of a tokenizer as is used: one token for each letter."""

    pad_token_id, eos_token_id = 0, 1

    def __len__(self):
        return len(ALPHABET) + 2

    def __call__(self, text, add_special_tokens=False):
        return {"input_ids": [ALPHABET.index(letter) + 2 for letter in text]}

    def decode(self, ids, skip_special_tokens=True):
        return "".join(ALPHABET[i - 2] for i in ids if i >= 2)


TOKENIZER = CharTokenizer()
PROMPTS = ["a", "bcd", "ea", "a", "bcd"]
COMPLETIONS = ["bb", "c", "deab", "e", "dd"]
REWARD = np.array([1.0, -1.0, 0.5, -0.5, 1.0])


class Plain(torch.nn.Module):
    """A causal model with nothing but a forward pass: each token sees the mean of those so far."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(len(TOKENIZER), 8)
        self.dropout = torch.nn.Dropout(0.5)
        self.out = torch.nn.Linear(8, len(TOKENIZER))

    def forward(self, input_ids, attention_mask):
        x = self.embed(input_ids) * attention_mask[:, :, None]
        return self.out(self.dropout(torch.tanh(x.cumsum(1))))


def plain(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Plain()


def llama(seed=0):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=len(TOKENIZER),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        initializer_range=0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return transformers.LlamaForCausalLM(config)


def gpt2(seed=0):
    """A model with absolute positions, tied weights and dropout."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=len(TOKENIZER),
        n_positions=32,
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=0.5,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return transformers.GPT2LMHeadModel(config)


def make_policy(model=None, tokenizer=TOKENIZER, **settings):
    settings = {"max_new_tokens": 6, "random_state": 0, "learning_rate": 1e-2, **settings}
    return TOPRLanguagePolicy(plain() if model is None else model, tokenizer, **settings)


def weights_of(policy):
    return [p.detach().numpy() for p in policy.model_.parameters()]


def likes_a(prompts, completions):
    return [2.0 * (text.count("a") > 0) - 1 for text in completions]
