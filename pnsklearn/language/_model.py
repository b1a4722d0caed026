"""What the policy asks of a causal language model: logits, log-probabilities, completions."""

import contextlib
import copy
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from pnsklearn._modules import seeded
from pnsklearn._typing import Array
from pnsklearn.language._decoder import Decoder, find_decoder, shared_groups
from pnsklearn.language._sampling import generate
from pnsklearn.language._sequences import Encoder, Sequences, groups
from pnsklearn.losses._topr import token_logprob


def trainable_copy(
    model: torch.nn.Module, lora: Any, device: str, rng: np.random.RandomState
) -> torch.nn.Module:
    """Return a copy of the model, ready to be trained; with `lora`, with adapters from `rng`."""
    model = copy.deepcopy(model)
    if lora is not None:
        from peft import get_peft_model

        with seeded(rng, device):
            model = get_peft_model(model, lora)
    elif any(p.dtype in (torch.float16, torch.bfloat16) for p in trained(model).values()):
        # Steps of a small rate are lost in the rounding of half precision.
        model.float()
    return model.to(device).eval()


def trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the parameters that are trained, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


@dataclass(frozen=True)
class Runner:
    """A model with how it is run: all its passes, of training too, go through `logits`.

    The ratio of two probabilities of a long sequence is that of many small differences: it means
    something only if both come from the same computation, without dropout.
    """

    model: torch.nn.Module
    device: str
    encoder: Encoder
    temperature: float  # divides the logits, of samples and of probabilities
    max_tokens: int  # of a pass, with the padding
    max_new_tokens: int  # of a completion that the model writes

    def autocast(self) -> contextlib.AbstractContextManager:
        """Return the context of every pass: bfloat16 on a GPU."""
        if self.device == "cpu":
            return contextlib.nullcontext()
        return torch.autocast("cuda", dtype=torch.bfloat16)

    @cached_property
    def decoder(self) -> Decoder | None:
        """The parts of the model, if it has such that give what it returns."""
        with self.autocast():
            return find_decoder(self.model, self.device, self._forward)

    def groups(self, sequences: Sequences, rows: Array | None = None) -> Iterable[Array]:
        """Return rows, all by default, in groups that one pass can take."""
        rows = np.arange(len(sequences.tokens)) if rows is None else rows
        if self.decoder is None:
            return groups(sequences.sizes, rows, self.max_tokens)
        return shared_groups(sequences, rows, self.max_tokens)

    def logits(self, ids: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        """Return the logits of the policy; position t predicts the token at t + 1."""
        with self.autocast():
            logits = self._forward(ids, attention)
        if not isinstance(logits, torch.Tensor) or logits.shape[:-1] != ids.shape:
            got = getattr(logits, "shape", type(logits).__name__)
            raise ValueError(
                "model(input_ids, attention_mask=...) must return logits of shape (n, n_tokens, "
                f"n_vocabulary), or an object with them as .logits; got {got} for "
                f"input_ids of shape {tuple(ids.shape)}."
            )
        return logits if self.temperature == 1 else logits / self.temperature

    def _forward(self, ids, attention):
        output = self.model(ids, attention_mask=attention)
        return getattr(output, "logits", output)

    def sequence_logprob(self, sequences: Sequences) -> torch.Tensor:
        """Return the log-probability of each completion, differentiable."""
        logp, counted = self._token_logprob(sequences)
        return logp.new_zeros(counted.shape).masked_scatter(counted, logp).sum(1)

    def token_logprob(self, sequences: Sequences) -> tuple[torch.Tensor, Array]:
        """Return the log-probabilities of all tokens of the completions, and their rows."""
        logp, counted = self._token_logprob(sequences)
        return logp, counted.nonzero()[:, 0].cpu().numpy()

    def _token_logprob(self, sequences):
        """Return the log-probabilities of all tokens, row by row, and the mask of their places."""
        pad_id, device = self.encoder.pad_id, self.device
        if self.decoder is None:
            ids, attention, completion = sequences.pad(pad_id, device)
            counted = completion[:, 1:]
            logits = self.logits(ids, attention)[:, :-1]
            return token_logprob(logits, ids[:, 1:], counted)[0], counted
        with self.autocast():
            states, tokens, counted = self.decoder.hidden(sequences, pad_id, device)
            rows = states[counted], tokens[counted]
            return self.decoder.token_logprob(*rows, self.temperature), counted

    @torch.no_grad()
    def score(self, sequences: Sequences) -> Array:
        """Return the log-probability of each completion, float64."""
        score = np.empty(len(sequences.tokens))
        for rows in self.groups(sequences):
            score[rows] = self.sequence_logprob(sequences.take(rows)).double().cpu()
        return score

    @torch.no_grad()
    def score_tokens(self, sequences: Sequences) -> list[Array]:
        """Return the log-probabilities of the tokens of each completion."""
        score = [np.empty(0)] * len(sequences.tokens)
        for rows in self.groups(sequences):
            logp, row = self.token_logprob(sequences.take(rows))
            parts = np.split(logp.double().cpu().numpy(), np.cumsum(np.bincount(row))[:-1])
            for i, part in zip(rows, parts, strict=True):
                score[i] = part
        return score

    @torch.no_grad()
    def complete(
        self, prompts: list[Array], rng: np.random.RandomState | None = None
    ) -> list[Array]:
        """Return a completion of each prompt: token ids, up to and with the first end.

        They are samples of the policy itself: no truncation, no penalty, whatever the model's own
        settings for generation are. Without `rng` each token is the likeliest.
        """
        completions = [np.empty(0, dtype=np.int64)] * len(prompts)
        sizes = np.array([len(prompt) + self.max_new_tokens for prompt in prompts])
        with contextlib.nullcontext() if rng is None else seeded(rng, self.device):
            for rows in groups(sizes, np.arange(len(sizes)), self.max_tokens):
                ids = generate(self, [prompts[i] for i in rows], greedy=rng is None)
                for i, row in zip(rows, ids.cpu().numpy(), strict=True):
                    ends = np.flatnonzero(np.isin(row, self.encoder.end_ids))
                    completions[i] = row[: ends[0] + 1] if len(ends) else row
        return completions
