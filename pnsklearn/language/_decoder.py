"""Passes of a model of Hugging Face that read a prompt once for all of its completions."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from pnsklearn._typing import Array
from pnsklearn.language._sequences import Sequences, groups, pad
from pnsklearn.losses._topr import token_logprob

# Logits that are kept for the backward pass, 128 MiB in float32. Beyond it they are made twice, so
# many at a time.
MOST_LOGITS = 2**25
# What settings call the number of tokens that a token sees: those of the padding would count.
WINDOWS = ("sliding_window", "window_size", "attention_window")
# How far the logits of the two ways may be apart, relative to the largest: rounding of float32, and
# of bfloat16 on a GPU.
TOLERANCE = {"cpu": 1e-3, "cuda": 0.05}


class Decoder:
    """The two parts of a causal language model: what reads tokens, and the head that predicts.

    The keys and values that a prompt left are repeated for its completions, which are then read as
    the model reads what it writes. The head sees those positions alone that predict a completion,
    and of their logits a part at a time.

    Parameters
    ----------
    model : torch.nn.Module
        A causal language model of Hugging Face; with adapters too.

    Raises
    ------
    AttributeError, TypeError
        If it does not have these parts.
    """

    def __init__(self, model: Any):
        model = getattr(model, "get_base_model", lambda: model)()  # the adapters are inside of it
        self.body, self.head = model.base_model, model.get_output_embeddings()
        names = inspect.signature(self.body.forward).parameters
        if "position_ids" not in names or self.head is None:
            raise TypeError("The positions of tokens cannot be given, or there is no head.")
        self.cache_name = "cache" if "cache" in names else "past_key_values"

    def read(
        self, ids: torch.Tensor, attention: torch.Tensor, positions: torch.Tensor, **how: Any
    ) -> Any:
        """Return what the model makes of tokens at given positions."""
        return self.body(
            input_ids=ids, attention_mask=attention.long(), position_ids=positions, **how
        )

    def hidden(
        self, sequences: Sequences, pad_id: int, device: str
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the hidden states that predict the completions, their tokens and a mask."""
        together, apart = n_read(sequences.prompt_codes, sequences.n_prompt, sequences.lengths)
        if apart <= together:
            ids, attention, completion = sequences.pad(pad_id, device)
            place = torch.arange(ids.shape[1], device=device).expand_as(ids)
            states = self.read(ids, attention, place, use_cache=False).last_hidden_state
            return states[:, :-1], ids[:, 1:], completion[:, 1:]
        rows = zip(sequences.tokens, sequences.n_prompt, strict=True)
        tokens, counted = pad([ids[n:] for ids, n in rows], pad_id, device)
        prefix = Prefix(self, sequences.prompts, sequences.prompt_codes, pad_id, device)
        states = prefix.last[:, None]
        if tokens.shape[1] > 1:  # the last of them predicts nothing
            states = torch.cat([states, prefix.read(tokens[:, :-1], counted[:, :-1])], dim=1)
        return states, tokens, counted

    def logits(self, states: torch.Tensor, temperature: float) -> torch.Tensor:
        """Return the logits of the policy at some positions."""
        logits = self.head(states)
        return logits if temperature == 1 else logits / temperature

    def token_logprob(
        self, states: torch.Tensor, tokens: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        """Return the log-probability of one token at each of some positions."""

        def part(states, tokens):
            logits, tokens = self.logits(states, temperature)[None], tokens[None]
            return token_logprob(logits, tokens, torch.ones_like(tokens))[0]

        step = max(1, MOST_LOGITS // self.head.weight.shape[0])
        if len(tokens) <= step:
            return part(states, tokens)
        # They are made again for the backward pass, rather than kept.
        parts = zip(states.split(step), tokens.split(step), strict=True)
        return torch.cat([checkpoint(part, *pair, use_reentrant=False) for pair in parts])


class Prefix:
    """What was read of some rows so far: at first a prompt, once for all the rows that have it.

    Parameters
    ----------
    decoder : Decoder
        What reads.
    prompts : list of arrays
        Different prompts.
    codes : array of shape (n_rows,)
        Which of them each row has.
    pad_id, device : int, str
        As of the runner.

    Attributes
    ----------
    last : tensor of shape (n_rows, n_hidden)
        The states that predict the first token after the prompts.
    """

    def __init__(
        self, decoder: Decoder, prompts: list[Array], codes: Array, pad_id: int, device: str
    ):
        from transformers.cache_utils import DynamicLayer

        # Padding is on the right of a prompt, which does not see it there. What follows does not
        # either, as the mask hides it; and its positions go on where the prompt ends.
        ids, attention = pad(prompts, pad_id, device)
        place = torch.arange(ids.shape[1], device=device).expand_as(ids)
        output = decoder.read(ids, attention, place, use_cache=True)
        states, self.cache = output.last_hidden_state, getattr(output, decoder.cache_name)
        if not all(type(layer) is DynamicLayer for layer in self.cache.layers):
            raise TypeError("The cache is not the keys and values of all tokens.")
        sizes = attention.sum(dim=1)
        last = states[torch.arange(len(ids), device=device), sizes - 1]
        self.decoder, self.attention, self.sizes = decoder, attention, sizes
        rows = torch.as_tensor(codes, device=device)
        self.keep(rows)
        self.last = last[rows]

    def read(self, ids: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        """Return the states at tokens that follow in each row; what is not counted is padding."""
        place = self.sizes[:, None] + torch.arange(ids.shape[1], device=ids.device)
        self.attention = torch.cat([self.attention, counted], dim=1)
        how = {self.decoder.cache_name: self.cache, "use_cache": True}  # which grows in place
        self.sizes = self.sizes + counted.sum(dim=1)
        return self.decoder.read(ids, self.attention, place, **how).last_hidden_state

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with some of the rows alone, each as often as it is named."""
        self.attention, self.sizes = self.attention[rows], self.sizes[rows]
        self.cache.batch_select_indices(rows)


def n_read(codes: Array, n_prompt: Array, lengths: Array) -> tuple[int, int]:
    """Return how many tokens a pass reads, padding too, with each prompt once, and without."""
    together = len(np.unique(codes)) * n_prompt.max() + len(codes) * lengths.max()
    return int(together), int(len(codes) * (n_prompt + lengths).max())


def shared_groups(sequences: Sequences, rows: Array, max_tokens: int) -> list[Array]:
    """Return `rows` in groups of at most `max_tokens` that read as few tokens as they can.

    Of two orders: by their sizes, which needs the least padding, and by their prompts, of which
    each is then read once.
    """
    by_size = list(groups(sequences.sizes, rows, max_tokens))
    sizes = sequences.prompt_codes, sequences.n_prompt, sequences.lengths
    codes, n_prompt, lengths = sizes
    if len(np.unique(codes[rows])) == len(rows):
        return by_size
    by_prompt: list[list[int]] = [[]]
    n_prompts = longest = 0
    for i in rows[np.lexsort((lengths[rows], codes[rows], n_prompt[rows]))]:
        group = by_prompt[-1]
        more = n_prompts + (not group or codes[i] != codes[group[-1]])
        # In ascending order the last prompt is the longest.
        size = more * n_prompt[i] + (len(group) + 1) * max(longest, lengths[i])
        if group and size > max_tokens:
            by_prompt.append([])
            more, longest = 1, 0
        by_prompt[-1].append(i)
        n_prompts, longest = more, max(longest, lengths[i])

    def cost(found):
        return sum(min(n_read(*(size[group] for size in sizes))) for group in found)

    return min(by_size, [np.array(group) for group in by_prompt], key=cost)


@torch.no_grad()
def find_decoder(model: Any, device: str, logits: Callable[..., torch.Tensor]) -> Decoder | None:
    """Return the parts of a model, or None if it has none that give the logits that it returns.

    That is tried on three short sequences; `logits` returns those of the model, from token ids and
    an attention mask.
    """
    if not hasattr(model, "generation_config"):
        return None
    if not _is_plain(model.config):
        return None
    # Prompts of different lengths, one of which is there twice.
    tokens = [np.arange(4), np.array([0, 3, 2, 1]), np.array([2, 1, 3, 0])]
    tokens = [np.minimum(ids, model.config.vocab_size - 1) for ids in tokens]
    sequences = Sequences(tokens, np.array([1, 1, 2]))
    try:
        decoder = Decoder(model)
        states, _, counted = decoder.hidden(sequences, 0, device)
        found = decoder.head(states)[counted]
    except (AttributeError, TypeError):
        return None
    ids, attention, completion = sequences.pad(0, device)
    expected = logits(ids, attention)[:, :-1][completion[:, 1:]]
    if found.shape != expected.shape:
        return None
    tolerance = TOLERANCE[device.partition(":")[0]] * float(expected.abs().max())
    return decoder if float((found - expected).abs().max()) <= tolerance else None


def _is_plain(config):
    """Return whether each token sees all before it, and logits are what the head makes them."""
    config = config.get_text_config()
    if getattr(config, "final_logit_softcapping", None) is not None:
        return False  # which changes small logits too little for a trial to show it
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return set(kinds) == {"full_attention"}
    return all(getattr(config, name, None) is None for name in WINDOWS)
