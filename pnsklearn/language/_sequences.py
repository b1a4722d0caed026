"""Prompts and completions as tokens, and batches of them of a bounded size."""

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch


@dataclass(frozen=True)
class Sequences:
    """Prompts, each followed by its completion, as token ids."""

    tokens: list  # int64 arrays, the prompt's and the completion's
    n_prompt: np.ndarray  # how many of them are the prompt's

    @classmethod
    def join(cls, prompts, completions):
        """Return the sequences of as many prompts as completions."""
        pairs = zip(prompts, completions, strict=True)
        return cls([np.concatenate(pair) for pair in pairs], np.array([len(p) for p in prompts]))

    @property
    def sizes(self):
        """Numbers of tokens, of prompt and completion together."""
        return np.array([len(tokens) for tokens in self.tokens])

    @property
    def lengths(self):
        """Numbers of tokens of the completions."""
        return self.sizes - self.n_prompt

    def take(self, rows):
        """Return some of the sequences."""
        return Sequences([self.tokens[i] for i in rows], self.n_prompt[rows])

    def pad(self, pad_id, device):
        """Return token ids, attention mask and the mask of the completions, padded on the right."""
        sizes = self.sizes
        ids = np.full((len(sizes), sizes.max()), pad_id)
        for row, tokens in zip(ids, self.tokens, strict=True):
            row[: len(tokens)] = tokens
        place = np.arange(ids.shape[1])
        attention = place < sizes[:, None]
        completion = attention & (place >= self.n_prompt[:, None])
        return [
            torch.as_tensor(values, device=device)
            for values in (ids, attention.astype(np.int64), completion)
        ]


def groups(sizes, rows, max_tokens):
    """Yield `rows` in groups of similar size, of at most `max_tokens` with their padding.

    A row that is larger is a group of its own.
    """
    rows = rows[np.argsort(sizes[rows], kind="stable")]
    start = 0
    for stop in range(1, len(rows) + 1):
        # In ascending order the last row of a group is its longest.
        if stop == len(rows) or (stop + 1 - start) * sizes[rows[stop]] > max_tokens:
            yield rows[start:stop]
            start = stop


def encode(name, texts, tokenizer, end_ids):
    """Return the token ids of prompts or completions.

    A completion that is a string ends with the first of `end_ids`, if there are any; a prompt does
    not, whatever the tokenizer adds.

    Raises
    ------
    ValueError, TypeError
        With the number of the first that is empty, or neither a string nor token ids.
    """
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        what = "one string" if isinstance(texts, str) else type(texts).__name__
        raise TypeError(f"{name} must be a list of strings or of token ids, got {what}.")
    encode_one = _encode_completion if name == "completions" else _encode_prompt
    encoded = [encode_one(f"{name}[{i}]", text, tokenizer, end_ids) for i, text in enumerate(texts)]
    if not encoded:
        raise ValueError(f"{name} is empty; at least one is needed.")
    return encoded


def _encode_prompt(name, text, tokenizer, end_ids):
    ids = _ids(name, text, tokenizer, add_special_tokens=True)
    if isinstance(text, str):
        start = getattr(tokenizer, "bos_token_id", None)
        if start is not None and list(ids[:2]) == [start, start]:
            ids = ids[1:]  # a chat template had written it
        if len(ids) > 1 and ids[-1] in end_ids and not text.endswith(_text(tokenizer, ids[-1])):
            ids = ids[:-1]  # the tokenizer ends all texts
    if not ids.size:
        raise ValueError(
            f"{name} is empty: the model needs a token to go on from, such as its "
            "beginning-of-sequence token."
        )
    return ids


def _encode_completion(name, text, tokenizer, end_ids):
    ids = _ids(name, text, tokenizer, add_special_tokens=False)
    if isinstance(text, str) and ids.size and end_ids and ids[-1] not in end_ids:
        ids = np.append(ids, end_ids[0])
    if not ids.size:
        raise ValueError(
            f"{name} is empty: drop it with its reward, or pass token ids that end with the "
            "end-of-sequence token."
        )
    if np.isin(ids[:-1], end_ids).any():
        raise ValueError(
            f"{name} goes on after its end-of-sequence token: cut it there, as padding would count."
        )
    return ids


def _text(tokenizer, token):
    return tokenizer.decode([int(token)], skip_special_tokens=False)


def _ids(name, text, tokenizer, add_special_tokens):
    """Return the token ids of one text, or those that were given."""
    if isinstance(text, str):
        if tokenizer is None:
            raise TypeError(
                f"{name} is a string, which needs a tokenizer; give one, or pass token ids."
            )
        text = tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"]
    try:
        ids = np.asarray(text)
    except ValueError:  # lists of several lengths
        ids = np.empty(())
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise TypeError(
            f"{name} must be a string or a list of token ids, got {text!r:.60}. Arrays of shape "
            "(n_prompts, n_samples) need ravel()."
        )
    if ids.size and ids.min() < 0:
        raise ValueError(f"{name} has a negative token id, {ids.min()}.")
    return ids.astype(np.int64)


def check_context(names, sizes, context, what):
    """Refuse sequences that are longer than the model's context."""
    longest = np.argmax(sizes)
    if context is not None and sizes[longest] > context:
        raise ValueError(
            f"{names}[{longest}] {what.format(size=sizes[longest])}, more than the {context} of "
            "the model's context. Shorten or drop it."
        )


def check_count(name, values, n):
    """Return finite float64 values, one for each completion."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
    try:
        values = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be numbers, got {values!r:.60}.") from None
    if values.shape != (n,):
        shape = f"an array of shape {values.shape}" if values.ndim != 1 else f"{len(values)}"
        raise ValueError(
            f"{name} must have one value for each of the {n} completions, got {shape}. "
            "Completions of shape (n_prompts, n_samples) and their rewards need ravel()."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite; it has NaN or infinite values.")
    return values


def check_positive_integer(name, value):
    """Refuse anything but an integer of at least 1."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}.")
