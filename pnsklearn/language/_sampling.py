"""Completions that a model writes, token after token."""

from typing import Any

import numpy as np
import torch

from pnsklearn._typing import Array
from pnsklearn.language._decoder import Prefix
from pnsklearn.language._sequences import Sequences


def generate(runner: Any, prompts: list[Array], *, greedy: bool) -> torch.Tensor:
    """Return a row of token ids for each prompt; what comes after the first end is anything."""
    if runner.decoder is not None:
        return _generate_shared(runner, prompts, greedy)
    if hasattr(runner.model, "generation_config"):
        return _generate_hugging_face(runner, prompts, greedy)
    return _generate_plain(runner, prompts, greedy)


def _choose(logits, greedy):
    """Return a token for each row of logits."""
    if greedy:
        return logits.argmax(dim=1)
    return torch.multinomial(logits.float().softmax(dim=1), 1)[:, 0]


def _generate_shared(runner, prompts, greedy):
    """Generate with each prompt read once, and without the rows that have come to their end."""
    device, decoder = runner.device, runner.decoder
    sequences = Sequences.join(prompts, [prompts[0][:0]] * len(prompts))
    ids = torch.full((len(prompts), runner.max_new_tokens), runner.encoder.pad_id, device=device)
    end_ids, rows = ids.new_tensor(runner.encoder.end_ids), torch.arange(len(ids), device=device)
    with runner.autocast():
        codes = sequences.prompt_codes
        prefix = Prefix(decoder, sequences.prompts, codes, runner.encoder.pad_id, device)
        token = _choose(decoder.logits(prefix.last, runner.temperature), greedy)
        for place in range(runner.max_new_tokens):
            ids[rows, place] = token
            going = (~torch.isin(token, end_ids)).nonzero()[:, 0]
            if not len(going) or place + 1 == runner.max_new_tokens:
                break
            if len(going) < len(rows):
                rows, token = rows[going], token[going]
                prefix.keep(going)
            states = prefix.read(token[:, None], torch.ones_like(token[:, None]).bool())[:, 0]
            token = _choose(decoder.logits(states, runner.temperature), greedy)
    return ids


def _generate_hugging_face(runner, prompts, greedy):
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
        logits = runner.logits(ids[:, :width], attention)[rows, end - 1]
        token = _choose(logits, greedy)
        ids[rows, end] = token  # what comes after the end of a row is cut off later
        ended |= torch.isin(token, end_ids)
        if ended.all():
            break
    return ids[completion].reshape(len(prompts), -1)
