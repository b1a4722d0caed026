"""What the policy asks of a causal language model: logits, log-probabilities, completions."""

import contextlib
from dataclasses import dataclass

import numpy as np
import torch

from pnsklearn.language._sequences import Sequences, groups
from pnsklearn.losses._topr import sequence_logprob, token_logprob


@dataclass(frozen=True)
class Runner:
    """A model with how it is run: all its passes, of training too, go through `logits`.

    The ratio of two probabilities of a long sequence is that of many small differences: it means
    something only if both come from the same computation, without dropout.
    """

    model: torch.nn.Module
    device: str
    pad_id: int
    end_ids: tuple  # tokens that end a completion
    temperature: float  # divides the logits, of samples and of probabilities
    max_tokens: int  # of a pass, with the padding
    mixed_precision: bool

    def autocast(self):
        """Return the context of every pass: bfloat16 on a GPU."""
        if self.device == "cpu" or not self.mixed_precision:
            return contextlib.nullcontext()
        return torch.autocast("cuda", dtype=torch.bfloat16)

    def groups(self, sizes, rows=None):
        """Yield rows in groups that one pass can take."""
        rows = np.arange(len(sizes)) if rows is None else rows
        return groups(sizes, rows, self.max_tokens)

    def logits(self, ids, attention):
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

    def sequence_logprob(self, sequences):
        """Return the log-probability of each completion, differentiable."""
        return sequence_logprob(*self._predictions(sequences))

    def token_logprob(self, sequences):
        """Return the log-probabilities of all tokens of the completions, and their rows."""
        logp, rows, _ = token_logprob(*self._predictions(sequences))
        return logp, rows

    def _predictions(self, sequences):
        ids, attention, completion = sequences.pad(self.pad_id, self.device)
        return self.logits(ids, attention)[:, :-1], ids[:, 1:], completion[:, 1:]

    @torch.no_grad()
    def score(self, sequences):
        """Return the log-probability of each completion, float64."""
        score = np.empty(len(sequences.tokens))
        for rows in self.groups(sequences.sizes):
            score[rows] = self.sequence_logprob(sequences.take(rows)).double().cpu()
        return score

    @torch.no_grad()
    def score_tokens(self, sequences):
        """Return the log-probabilities of the tokens of each completion, a list of arrays."""
        score = [None] * len(sequences.tokens)
        for rows in self.groups(sequences.sizes):
            logp, row = self.token_logprob(sequences.take(rows))
            parts = np.split(logp.double().cpu().numpy(), np.cumsum(np.bincount(row.cpu()))[:-1])
            for i, part in zip(rows, parts, strict=True):
                score[i] = part
        return score

    @torch.no_grad()
    def complete(self, prompts, max_new_tokens, *, greedy, seed):
        """Return a completion of each prompt: token ids, up to and with the first end.

        Sampling is from the policy itself: no truncation, no penalty, whatever the model's own
        settings for generation are.
        """
        completions = [None] * len(prompts)
        of_library = hasattr(self.model, "generation_config")
        generate = _generate if of_library else _generate_plain
        sizes = np.array([len(prompt) + max_new_tokens for prompt in prompts])
        # All generators: manual_seed seeds all.
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            for rows in self.groups(sizes):
                ids = generate(self, [prompts[i] for i in rows], max_new_tokens, greedy)
                for i, row in zip(rows, ids.cpu().numpy(), strict=True):
                    completions[i] = self._until_end(row)
        return completions

    def _until_end(self, ids):
        ends = np.flatnonzero(np.isin(ids, self.end_ids))
        return ids[: ends[0] + 1] if len(ends) else ids


def _generate(runner, prompts, max_new_tokens, greedy):
    """Generate with a Hugging Face model, which keeps keys and values of what it has read."""
    from transformers import GenerationConfig

    width = max(map(len, prompts))
    ids = np.full((len(prompts), width), runner.pad_id)
    attention = np.zeros_like(ids)
    for i, prompt in enumerate(prompts):  # on the left, so that all go on from the same place
        ids[i, width - len(prompt) :] = prompt
        attention[i, width - len(prompt) :] = 1
    how = {} if greedy else {"temperature": runner.temperature, "top_k": 0, "top_p": 1.0}
    config = GenerationConfig(
        do_sample=not greedy,
        max_new_tokens=max_new_tokens,
        pad_token_id=runner.pad_id,
        eos_token_id=list(runner.end_ids) or None,
        **how,
    )
    # Else what is not set here is taken from the model's own configuration, such as penalties.
    own, runner.model.generation_config = runner.model.generation_config, config
    try:
        with runner.autocast():
            output = runner.model.generate(
                torch.as_tensor(ids, device=runner.device),
                attention_mask=torch.as_tensor(attention, device=runner.device),
                generation_config=config,
            )
    finally:
        runner.model.generation_config = own
    return output[:, width:]


def _generate_plain(runner, prompts, max_new_tokens, greedy):
    """Generate with a module that has a forward pass and nothing else."""
    sequences = Sequences(prompts, np.array([len(prompt) for prompt in prompts]))
    ids, attention, _ = sequences.pad(runner.pad_id, runner.device)
    # Padding stays on the right, where a causal model does not see it: each row grows at its end.
    room = (0, max_new_tokens)
    ids = torch.nn.functional.pad(ids, room, value=runner.pad_id)
    attention = torch.nn.functional.pad(attention, room)
    rows = torch.arange(len(prompts), device=runner.device)
    end = first = torch.as_tensor(sequences.n_prompt, device=runner.device)
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=runner.device)
    end_ids = ids.new_tensor(runner.end_ids)
    for _ in range(max_new_tokens):
        width = int(end.max())
        logits = runner.logits(ids[:, :width], attention[:, :width])[rows, end - 1].float()
        if greedy:
            token = logits.argmax(dim=1)
        else:
            token = torch.multinomial(logits.softmax(dim=1), 1)[:, 0]
        ids[rows, end] = torch.where(ended, runner.pad_id, token)
        attention[rows, end] = 1
        end = end + 1
        ended |= torch.isin(token, end_ids)
        if ended.all():
            break
    return ids[rows[:, None], first[:, None] + torch.arange(int(max_new_tokens), device=ids.device)]
