"""Prompts and completions as token ids: checked, padded, and in groups that one pass can take."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pnsklearn._typing import Array
from pnsklearn.losses._topr import NOISE


@dataclass(frozen=True)
class Sequences:
    """Prompts, each followed by its completion, as token ids."""

    tokens: list[Array]  # int64, those of the prompt and then those of the completion
    n_prompt: Array  # how many of them are the prompt's

    @classmethod
    def join(cls, prompts: list[Array], completions: list[Array]) -> "Sequences":
        """Return the sequences of prompts and completions, of which there are equally many."""
        pairs = zip(prompts, completions, strict=True)
        return cls([np.concatenate(pair) for pair in pairs], np.array([len(p) for p in prompts]))

    @property
    def sizes(self) -> Array:
        """Number of tokens of each sequence, prompt and completion together."""
        return np.array([len(tokens) for tokens in self.tokens])

    @property
    def lengths(self) -> Array:
        """Number of tokens of each completion."""
        return self.sizes - self.n_prompt

    def take(self, rows: Array) -> "Sequences":
        """Return some of the sequences."""
        return Sequences([self.tokens[i] for i in rows], self.n_prompt[rows])

    def pad(self, pad_id: int, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return token ids, attention mask and the mask of the completions, padded on the right."""
        sizes = self.sizes
        ids = np.full((len(sizes), sizes.max()), pad_id)
        for row, tokens in zip(ids, self.tokens, strict=True):
            row[: len(tokens)] = tokens
        place = np.arange(ids.shape[1])
        attention = place < sizes[:, None]
        completion = attention & (place >= self.n_prompt[:, None])
        return (
            torch.as_tensor(ids, device=device),
            torch.as_tensor(attention.astype(np.int64), device=device),
            torch.as_tensor(completion, device=device),
        )


def groups(sizes: Array, rows: Array, max_tokens: int) -> Iterator[Array]:
    """Yield `rows` in groups of similar size, of at most `max_tokens` with their padding.

    A row that is larger than that is a group of its own.
    """
    rows = rows[np.argsort(sizes[rows], kind="stable")]
    start = 0
    for stop in range(1, len(rows) + 1):
        # In ascending order the last row of a group is its longest.
        if stop == len(rows) or (stop + 1 - start) * sizes[rows[stop]] > max_tokens:
            yield rows[start:stop]
            start = stop


@dataclass(frozen=True)
class Encoder:
    """How texts become token ids that the model can take, and token ids texts."""

    tokenizer: Any  # None if prompts and completions are token ids already
    end_ids: tuple[int, ...]  # tokens that end a completion, that of the tokenizer first
    n_vocabulary: int | None  # None if the model does not say
    context: int | None  # the most tokens that a sequence may have, None if the model does not say

    @classmethod
    def of(cls, model: torch.nn.Module, tokenizer: Any) -> "Encoder":
        """Return the encoder of a model and its tokenizer."""
        ends = [getattr(tokenizer, "eos_token_id", None)]
        for name in ("config", "generation_config"):
            configured = getattr(getattr(model, name, None), "eos_token_id", None)
            ends += configured if isinstance(configured, list) else [configured]
        config = getattr(model, "config", None)
        return cls(
            tokenizer,
            tuple(dict.fromkeys(end for end in ends if end is not None)),
            getattr(config, "vocab_size", None),
            getattr(config, "max_position_embeddings", None),
        )

    @property
    def pad_id(self) -> int:
        """The token that fills a batch up."""
        return getattr(self.tokenizer, "pad_token_id", 0)

    def prompts(self, prompts: Iterable, n_new: int) -> list[Array]:
        """Return the token ids of prompts that leave room for `n_new` tokens.

        Raises
        ------
        ValueError, TypeError
            With the number of the first that is too long, empty, or neither a string nor token ids.
        """
        prompts = check_list("prompts", prompts)
        ids = [self._prompt(f"prompts[{i}]", text) for i, text in enumerate(prompts)]
        self._check_vocabulary(ids)
        sizes = np.array([len(tokens) + n_new for tokens in ids])
        self._check_context("prompts", sizes, "max_new_tokens")
        return ids

    def sequences(self, prompts: Iterable, completions: Iterable) -> Sequences:
        """Return prompts with their completions.

        A completion that is a string gets a token at its end that says so, if there is one; a
        prompt gets none, whatever the tokenizer adds.

        Raises
        ------
        ValueError, TypeError
            As for prompts, and if there are not as many of them as of completions.
        """
        prompts = check_list("prompts", prompts)
        completions = check_list("completions", completions)
        if len(prompts) != len(completions):
            raise ValueError(
                f"prompts and completions must have the same length, got {len(prompts)} and "
                f"{len(completions)}. Repeat a prompt for each of its completions."
            )
        sequences = Sequences.join(
            [self._prompt(f"prompts[{i}]", text) for i, text in enumerate(prompts)],
            [self._completion(f"completions[{i}]", text) for i, text in enumerate(completions)],
        )
        self._check_vocabulary(sequences.tokens)
        self._check_context("completions", sequences.sizes, "its prompt")
        return sequences

    def decode(self, tokens: Array) -> Any:
        """Return the text of a completion; without a tokenizer its token ids."""
        if self.tokenizer is None:
            return tokens
        return self.tokenizer.decode(tokens.tolist(), skip_special_tokens=True)

    def _prompt(self, name, text):
        ids = self._ids(name, text, add_special_tokens=True)
        if isinstance(text, str):
            start = getattr(self.tokenizer, "bos_token_id", None)
            if start is not None and list(ids[:2]) == [start, start]:
                ids = ids[1:]  # a chat template had written it into the text
            if len(ids) > 1 and ids[-1] in self.end_ids and not text.endswith(self._text(ids[-1])):
                ids = ids[:-1]  # the tokenizer adds an end to all texts
        if not ids.size:
            raise ValueError(
                f"{name} is empty, but the model needs a token to go on from, such as its "
                "beginning-of-sequence token."
            )
        return ids

    def _completion(self, name, text):
        ids = self._ids(name, text, add_special_tokens=False)
        if isinstance(text, str) and ids.size and self.end_ids and ids[-1] not in self.end_ids:
            ids = np.append(ids, self.end_ids[0])
        if not ids.size:
            raise ValueError(
                f"{name} is empty. Drop it and its reward, or pass token ids that end with the "
                "end-of-sequence token."
            )
        if np.isin(ids[:-1], self.end_ids).any():
            raise ValueError(
                f"{name} goes on after its end-of-sequence token. Cut it there, because padding "
                "would count."
            )
        return ids

    def _ids(self, name, text, add_special_tokens):
        """Return the token ids of one text, or those that were given."""
        if isinstance(text, str):
            if self.tokenizer is None:
                raise TypeError(
                    f"{name} is a string, which needs a tokenizer. Give one, or pass token ids."
                )
            text = self.tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"]
        try:
            ids = np.asarray(text)
        except ValueError:  # lists of several lengths
            ids = np.empty(())
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise TypeError(
                f"{name} must be a string or a list of token ids, got {text!r:.60}. Arrays of "
                "shape (n_prompts, n_samples) need ravel()."
            )
        if ids.size and ids.min() < 0:
            raise ValueError(f"{name} has a negative token id, {ids.min()}.")
        return ids.astype(np.int64)

    def _text(self, token):
        return self.tokenizer.decode([int(token)], skip_special_tokens=False)

    def _check_vocabulary(self, ids):
        largest = max(tokens.max() for tokens in ids)
        if self.n_vocabulary is not None and largest >= self.n_vocabulary:
            raise ValueError(
                f"Token id {largest} is not in the vocabulary of the model, which has "
                f"{self.n_vocabulary} tokens. Is the tokenizer that of the model?"
            )

    def _check_context(self, names, sizes, beside):
        longest = np.argmax(sizes)
        if self.context is not None and sizes[longest] > self.context:
            raise ValueError(
                f"{names}[{longest}] and {beside} make {sizes[longest]} tokens, but the context "
                f"of the model holds {self.context}. Shorten or drop it."
            )


def check_list(name: str, texts: Any) -> list:
    """Return prompts or completions as a list; raise an error unless there is at least one."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        what = "one string" if isinstance(texts, str) else type(texts).__name__
        raise TypeError(f"{name} must be a list of strings or of token ids, got {what}.")
    texts = list(texts)
    if not texts:
        raise ValueError(f"{name} is empty; at least one is needed.")
    return texts


def check_numbers(name: str, values: Any, n: int) -> Array:
    """Return finite float64 values, one for each of the n completions."""
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


def check_weight(sample_weight: Any, n: int) -> Array:
    """Return the weights of the n completions, which are not negative and not all zero."""
    if sample_weight is None:
        return np.ones(n)
    weight = check_numbers("sample_weight", sample_weight, n)
    if (weight < 0).any() or not weight.any():
        raise ValueError("sample_weight must not be negative, and at least one must be positive.")
    return weight


def check_behavior(
    behavior_logprob: Any, reward: Array | None, ratio_level: str, n: int
) -> Array | None:
    """Return the log-probabilities of the n completions where they were written; None stays None.

    Raises
    ------
    ValueError
        If one is above 0, or there is no ratio that could be computed with them.
    """
    if behavior_logprob is None:
        return None
    if reward is None:
        raise ValueError("behavior_logprob needs rewards: without them there is no ratio.")
    if ratio_level == "token":
        raise ValueError(
            "ratio_level='token' needs the log-probability of each token, not their sum in "
            "behavior_logprob. Leave it out, or set ratio_level='sequence'."
        )
    behavior_logprob = check_numbers("behavior_logprob", behavior_logprob, n)
    if (above := behavior_logprob.max()) > NOISE:
        raise ValueError(
            f"behavior_logprob must not exceed 0, got {above:g}, because a log-probability is at "
            "most 0. Are they probabilities, or negative log-probabilities?"
        )
    return behavior_logprob
