"""Prompts and completions as token ids: checked, padded, and in groups that one pass can take."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from pnsklearn._typing import Array
from pnsklearn.language._data import TokenText, is_messages, one_message
from pnsklearn.losses._topr import LOGPROB_ROUNDING


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

    @cached_property
    def prompt_codes(self) -> Array:
        """A number for each sequence, the same for those with the same prompt."""
        pairs = zip(self.tokens, self.n_prompt, strict=True)
        codes: dict[bytes, int] = {}
        return np.array([codes.setdefault(ids[:n].tobytes(), len(codes)) for ids, n in pairs])

    @property
    def prompts(self) -> list[Array]:
        """The different prompts, in the order of `prompt_codes`."""
        _, first = np.unique(self.prompt_codes, return_index=True)
        return [self.tokens[i][: self.n_prompt[i]] for i in first]

    def take(self, rows: Array) -> "Sequences":
        """Return some of the sequences."""
        return Sequences([self.tokens[i] for i in rows], self.n_prompt[rows])

    def pad(self, pad_id: int, device: str) -> tuple[torch.Tensor, ...]:
        """Return token ids, attention mask and the mask of the completions, padded on the right."""
        ids, attention = pad(self.tokens, pad_id, device)
        place = torch.arange(ids.shape[1], device=device)
        first = torch.as_tensor(self.n_prompt, device=device)
        return ids, attention.long(), attention & (place >= first[:, None])


def pad(rows: list[Array], pad_id: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids, padded on the right, and a mask of those that are not padding."""
    sizes = np.array([len(row) for row in rows])
    counted = np.arange(sizes.max()) < sizes[:, None]
    ids = np.full(counted.shape, pad_id)
    ids[counted] = np.concatenate(rows)
    return torch.as_tensor(ids, device=device), torch.as_tensor(counted, device=device)


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
        config = getattr(model, "config", None)
        generation = getattr(model, "generation_config", None)
        ends = [getattr(source, "eos_token_id", None) for source in (tokenizer, config, generation)]
        end_ids = [int(end) for some in ends if some is not None for end in np.atleast_1d(some)]
        context = getattr(config, "max_position_embeddings", None)
        n_vocabulary = getattr(config, "vocab_size", None)
        return cls(tokenizer, tuple(dict.fromkeys(end_ids)), n_vocabulary, context)

    @property
    def pad_id(self) -> int:
        """The token that fills a batch up."""
        return getattr(self.tokenizer, "pad_token_id", 0)

    def prompts(self, prompts: Any, n_new: int) -> list[Array]:
        """Return the token ids of prompts that leave room for `n_new` tokens.

        Raises
        ------
        ValueError, TypeError
            With the number of the first that is too long, empty, or neither a string nor token ids.
        """
        ids = self._encode("prompts", prompts, self._prompt)
        sizes = np.array([len(tokens) + n_new for tokens in ids])
        self._check_sizes(ids, sizes, "prompts", "max_new_tokens")
        return ids

    def sequences(self, prompts: Any, completions: Any) -> Sequences:
        """Return prompts with their completions.

        A completion that is a string gets a token at its end that says so, if there is one and the
        completion was not cut; a prompt gets none, whatever the tokenizer adds.

        Raises
        ------
        ValueError, TypeError
            As for prompts, and if there are not as many of them as of completions.
        """
        of_prompts = self._encode("prompts", prompts, self._prompt)
        of_completions = self._encode("completions", completions, self._completion)
        if len(of_prompts) != len(of_completions):
            raise ValueError(
                f"prompts and completions must have the same length, got {len(of_prompts)} and "
                f"{len(of_completions)}. Repeat a prompt for each of its completions."
            )
        sequences = Sequences.join(of_prompts, of_completions)
        self._check_sizes(sequences.tokens, sequences.sizes, "completions", "its prompt")
        return sequences

    def decode(self, tokens: Array) -> Any:
        """Return the text of a completion with its tokens; without a tokenizer these alone."""
        if self.tokenizer is None:
            return tokens
        text = self.tokenizer.decode(tokens.tolist(), skip_special_tokens=True)
        return TokenText(text, tokens, is_cut=tokens[-1] not in self.end_ids)

    def _encode(self, name, texts, encode):
        texts = check_list(name, texts)
        if isinstance(texts[0], Mapping):
            raise TypeError(f"{name} is one conversation. Put it into a list: [messages].")
        # A text that remembers its tokens stands for them.
        ids = [getattr(text, "token_ids", None) for text in texts]
        texts = [text if some is None else some for text, some in zip(texts, ids, strict=True)]
        return [encode(f"{name}[{i}]", text) for i, text in enumerate(texts)]

    def _prompt(self, name, text):
        if is_messages(text):
            return self._ids(name, self._apply_template(name, list(text)), add_special_tokens=False)
        ids = self._ids(name, text, add_special_tokens=True)
        if isinstance(text, str):
            start = getattr(self.tokenizer, "bos_token_id", None)
            if start is not None and list(ids[:2]) == [start, start]:
                ids = ids[1:]  # a chat template had written it into the text
            if len(ids) > 1 and ids[-1] in self.end_ids:
                end = self.tokenizer.decode([int(ids[-1])], skip_special_tokens=False)
                ids = ids if text.endswith(end) else ids[:-1]  # the tokenizer ends all texts
        return ids

    def _apply_template(self, name, messages):
        """Return the text of a conversation, up to where the assistant goes on."""
        if getattr(self.tokenizer, "chat_template", None) is None:
            raise ValueError(
                f"{name} is a list of messages, which needs a tokenizer with a chat template. Set "
                "tokenizer.chat_template, or write the prompt as a text."
            )
        begun = messages[-1].get("role") == "assistant"
        how = {"continue_final_message": True} if begun else {"add_generation_prompt": True}
        return self.tokenizer.apply_chat_template(messages, tokenize=False, **how)

    def _completion(self, name, text):
        if is_messages(text):
            text = one_message(name, text)
        ids = self._ids(name, text, add_special_tokens=False)
        ended = not isinstance(text, str) or getattr(text, "is_cut", False)
        if not ended and self.end_ids and ids[-1] not in self.end_ids:
            ids = np.append(ids, self.end_ids[0])
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
                f"{name} must be a string or a list of token ids or of messages, got {text!r:.60}. "
                "Arrays of shape (n_prompts, n_samples) need ravel()."
            )
        if not ids.size:
            raise ValueError(
                f"{name} is empty. It needs at least one token, such as that for the beginning of "
                "a sequence in a prompt or for its end in a completion."
            )
        if ids.min() < 0:
            raise ValueError(f"{name} has a negative token id, {ids.min()}.")
        return ids.astype(np.int64)

    def _check_sizes(self, ids, sizes, name, beside):
        largest, longest = max(tokens.max() for tokens in ids), np.argmax(sizes)
        if self.n_vocabulary is not None and largest >= self.n_vocabulary:
            raise ValueError(
                f"Token id {largest} is not in the vocabulary of the model, which has "
                f"{self.n_vocabulary} tokens. Is the tokenizer that of the model?"
            )
        if self.context is not None and sizes[longest] > self.context:
            raise ValueError(
                f"{name}[{longest}] and {beside} make {sizes[longest]} tokens, but the context of "
                f"the model holds {self.context}. Shorten or drop it."
            )


def check_list(name: str, texts: Any) -> list:
    """Return prompts or completions as a list; raise an error unless there is at least one."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        got = type(texts).__name__
        raise TypeError(f"{name} must be a list of strings or of token ids, got {got}.")
    texts = list(texts)
    if not texts:
        raise ValueError(f"{name} is empty; at least one is needed.")
    return texts


def check_numbers(name: str, values: Any, n: int, what: str = "completion") -> Array:
    """Return finite float64 values, one for each of the n completions."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
    try:
        values = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be numbers, got {values!r:.60}.") from None
    if values.shape != (n,):
        raise ValueError(
            f"{name} must have one value for each of the {n} {what}s, of shape ({n},); got "
            f"{values.shape}. Arrays of shape (n_prompts, n_samples) need ravel()."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite; it has NaN or infinite values.")
    return values


def check_log(
    sequences: Sequences, sample_weight: Any, reward: Any, behavior_logprob: Any
) -> tuple[Array, Array | None, Array | list[Array] | None]:
    """Return the weights, rewards and log-probabilities of n completions.

    Weights of None are ones; None in place of anything else stays None. The log-probabilities are
    one of each completion, or arrays with those of its tokens.

    Raises
    ------
    ValueError, TypeError
        If they are not one finite number each, a weight is negative or all are zero, a
        log-probability is above 0 or does not fit to the tokens, or there are log-probabilities and
        no rewards.
    """
    n = len(sequences.tokens)
    weight = np.ones(n)
    if sample_weight is not None:
        weight = check_numbers("sample_weight", sample_weight, n)
    if (weight < 0).any() or not weight.any():
        raise ValueError("sample_weight must not be negative, and at least one must be positive.")
    if reward is not None:
        reward = check_numbers("reward", reward, n)
    if behavior_logprob is not None:
        if reward is None:
            raise ValueError("behavior_logprob needs rewards: without them there is no ratio.")
        behavior_logprob = check_logprob(sequences, behavior_logprob)
    return weight, reward, behavior_logprob


def check_logprob(sequences: Sequences, logprob: Any) -> Array | list[Array]:
    """Return the log-probability of each completion, or those of the tokens of each."""
    if not _is_nested(logprob):
        logprob = check_numbers("behavior_logprob", logprob, len(sequences.tokens))
        _check_logprob_range(logprob)
        return logprob
    if len(logprob) != len(sequences.tokens):
        raise ValueError(
            f"behavior_logprob must be of the {len(sequences.tokens)} completions, got "
            f"{len(logprob)} lists. Arrays of shape (n_prompts, n_samples) need ravel()."
        )
    rows = zip(logprob, sequences.tokens, sequences.n_prompt, strict=True)
    tokens = [_token_logprob(f"behavior_logprob[{i}]", *row) for i, row in enumerate(rows)]
    _check_logprob_range(np.concatenate(tokens))
    return tokens


def sums(logprob: Array | list[Array]) -> Array:
    """Return the log-probability of each completion, from its own or from those of its tokens."""
    return np.array([np.sum(one) for one in logprob])


def _is_nested(values):
    """Return whether these are lists, one for each completion."""
    if isinstance(values, (torch.Tensor, np.ndarray)) and values.ndim != 1:
        return values.ndim > 1
    return any(isinstance(one, Iterable) and getattr(one, "ndim", 1) > 0 for one in values)


def _token_logprob(name, entries, tokens, n_prompt):
    """Return the log-probabilities of the tokens of one completion."""
    entries, n_tokens = list(entries), len(tokens) - n_prompt
    if len(entries) == len(tokens):  # of the prompt too, such as prompt_logprobs of vLLM
        entries = entries[n_prompt:]
    if len(entries) != n_tokens:
        raise ValueError(
            f"{name} has {len(entries)} log-probabilities, but its completion {n_tokens} tokens "
            "with its end. A text may be split otherwise than it was written: give token ids."
        )
    pairs = zip(entries, tokens[n_prompt:].tolist(), strict=True)
    return check_numbers(name, [_of_token(name, *pair) for pair in pairs], n_tokens, "token")


def _of_token(name, entry, token):
    """Return the log-probability of a token, from what vLLM or an OpenAI server says of it."""
    if isinstance(entry, Mapping) and "logprob" not in entry:  # of the likeliest tokens and this
        found = entry.get(token, entry.get(str(token)))
        if found is None:
            raise ValueError(
                f"{name} has no entry for the token {token}, which is in its completion. Give the "
                "token ids that were sampled as the completion."
            )
        entry = found
    return entry["logprob"] if isinstance(entry, Mapping) else getattr(entry, "logprob", entry)


def _check_logprob_range(logprob):
    if (above := logprob.max()) > LOGPROB_ROUNDING:
        raise ValueError(
            f"behavior_logprob must not exceed 0, got {above:g}: a log-probability is at most "
            "0. Are they probabilities, or negative log-probabilities?"
        )
