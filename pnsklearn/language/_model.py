"""What the policy asks of a causal language model: logits, log-probabilities, completions."""

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pnsklearn._modules import seeded
from pnsklearn._typing import Array
from pnsklearn.language._sequences import Encoder, Sequences, groups
from pnsklearn.losses._topr import sequence_logprob, token_logprob


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

    def groups(self, sizes: Array, rows: Array | None = None) -> Iterator[Array]:
        """Yield rows, all by default, in groups that one pass can take."""
        return groups(sizes, np.arange(len(sizes)) if rows is None else rows, self.max_tokens)

    def logits(self, ids: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        """Return the logits of the policy; position t predicts the token at t + 1."""
        with self.autocast():
            output = self.model(ids, attention_mask=attention)
        logits = getattr(output, "logits", output)
        if not isinstance(logits, torch.Tensor) or logits.shape[:-1] != ids.shape:
            got = getattr(logits, "shape", type(logits).__name__)
            raise ValueError(
                "model(input_ids, attention_mask=...) must return logits of shape (n, n_tokens, "
                f"n_vocabulary), or an object with them as .logits; got {got} for "
                f"input_ids of shape {tuple(ids.shape)}."
            )
        return logits if self.temperature == 1 else logits / self.temperature

    def sequence_logprob(self, sequences: Sequences) -> torch.Tensor:
        """Return the log-probability of each completion, differentiable."""
        return sequence_logprob(*self._predictions(sequences))

    def token_logprob(self, sequences: Sequences) -> tuple[torch.Tensor, Array]:
        """Return the log-probabilities of all tokens of the completions, and their rows."""
        logp, rows, _ = token_logprob(*self._predictions(sequences))
        return logp, rows.cpu().numpy()

    def _predictions(self, sequences):
        ids, attention, completion = sequences.pad(self.encoder.pad_id, self.device)
        return self.logits(ids, attention)[:, :-1], ids[:, 1:], completion[:, 1:]

    @torch.no_grad()
    def score(self, sequences: Sequences) -> Array:
        """Return the log-probability of each completion, float64."""
        score = np.empty(len(sequences.tokens))
        for rows in self.groups(sequences.sizes):
            score[rows] = self.sequence_logprob(sequences.take(rows)).double().cpu()
        return score

    @torch.no_grad()
    def score_tokens(self, sequences: Sequences) -> list[Array]:
        """Return the log-probabilities of the tokens of each completion."""
        score = [np.empty(0)] * len(sequences.tokens)
        for rows in self.groups(sequences.sizes):
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
        generate = _generate if hasattr(self.model, "generation_config") else _generate_plain
        sizes = np.array([len(prompt) + self.max_new_tokens for prompt in prompts])
        with contextlib.nullcontext() if rng is None else seeded(rng, self.device):
            for rows in self.groups(sizes):
                ids = generate(self, [prompts[i] for i in rows], greedy=rng is None)
                for i, row in zip(rows, ids.cpu().numpy(), strict=True):
                    ends = np.flatnonzero(np.isin(row, self.encoder.end_ids))
                    completions[i] = row[: ends[0] + 1] if len(ends) else row
        return completions


def _generate(runner, prompts, greedy):
    """Generate with a Hugging Face model, which keeps keys and values of what it has read."""
    from transformers import GenerationConfig

    pad_id, end_ids = runner.encoder.pad_id, list(runner.encoder.end_ids)
    sizes = np.array([len(prompt) for prompt in prompts])
    # The padding is on the left, so that all go on from the same place.
    attention = np.arange(sizes.max()) >= sizes.max() - sizes[:, None]
    ids = np.full(attention.shape, pad_id)
    ids[attention] = np.concatenate(prompts)
    how = {} if greedy else {"temperature": runner.temperature, "top_k": 0, "top_p": 1.0}
    config = GenerationConfig(
        do_sample=not greedy,
        max_new_tokens=runner.max_new_tokens,
        pad_token_id=pad_id,
        eos_token_id=end_ids or None,
        **how,
    )
    # What is not set here, such as a penalty, would be taken from the model's own configuration,
    # which is that of the model inside of adapters.
    model = getattr(runner.model, "get_base_model", lambda: runner.model)()
    own, model.generation_config = model.generation_config, config
    try:
        with runner.autocast():
            output = runner.model.generate(
                torch.as_tensor(ids, device=runner.device),
                attention_mask=torch.as_tensor(attention.astype(np.int64), device=runner.device),
                generation_config=config,
            )
    finally:
        model.generation_config = own
    return output[:, sizes.max() :]


def _generate_plain(runner, prompts, greedy):
    """Generate with a module that has a forward pass and nothing else."""
    pad_id, end_ids = runner.encoder.pad_id, runner.encoder.end_ids
    sequences = Sequences.join(prompts, [np.full(runner.max_new_tokens, pad_id)] * len(prompts))
    ids, _, completion = sequences.pad(pad_id, runner.device)
    rows, place = (torch.arange(n, device=runner.device) for n in ids.shape)
    first = torch.as_tensor(sequences.n_prompt, device=runner.device)
    ended, end_ids = torch.zeros_like(first, dtype=torch.bool), ids.new_tensor(end_ids)
    for end in (first + i for i in range(runner.max_new_tokens)):
        width = int(end.max())
        # Padding is on the right, where a causal model does not see it: each row grows at its end.
        attention = (place[:width] < end[:, None]).long()
        logits = runner.logits(ids[:, :width], attention)[rows, end - 1].float()
        if greedy:
            token = logits.argmax(dim=1)
        else:
            token = torch.multinomial(logits.softmax(dim=1), 1)[:, 0]
        ids[rows, end] = token  # what comes after the end of a row is cut off later
        ended |= torch.isin(token, end_ids)
        if ended.all():
            break
    return ids[completion].reshape(len(prompts), -1)
