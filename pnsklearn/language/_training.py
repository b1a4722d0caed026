"""Gradient steps of a language model on completions with rewards."""

from dataclasses import dataclass

import numpy as np
import torch

from pnsklearn._topr._solver import batches
from pnsklearn.language._sequences import Sequences
from pnsklearn.losses import topr_loss

DIVERGED = "Training has diverged: lower learning_rate."


@dataclass(frozen=True)
class Log:
    """Completions that change the policy, their rewards less the baseline, and weights."""

    sequences: Sequences
    reward: np.ndarray
    weight: np.ndarray
    behavior: object  # log-probabilities: (n,), or a list with those of the tokens


@dataclass(frozen=True)
class Settings:
    """How to train."""

    bounds: dict  # positive_bounds and negative_bounds
    ratio_level: str
    optimizer: str
    learning_rate: float
    batch_size: int
    max_grad_norm: float


def make_optimizer(settings, model):
    """Return the optimizer of the parameters that are trained."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if settings.optimizer == "adafactor":
        # Its steps are relative to the size of a weight: the rate is that of AdamW, not 0.01.
        return torch.optim.Adafactor(parameters, lr=settings.learning_rate, weight_decay=0.0)
    return torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.0)


def train_epoch(runner, log, settings, optimizer, rng):
    """Take the steps of one pass over the log; return how many."""
    n_steps = 0
    mean_weight = log.weight.mean()
    sizes = log.sequences.sizes
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for rows in batches(len(sizes), settings.batch_size, rng):
        optimizer.zero_grad(set_to_none=True)
        # The sum over the groups is the loss of the batch, whatever the groups are; and the weights
        # are those in the log, not in the batch.
        for group in runner.groups(sizes, rows):
            _loss(runner, log, group, settings, len(rows) * mean_weight).backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
        if not torch.isfinite(norm):
            raise ValueError(DIVERGED)
        optimizer.step()
        n_steps += 1
    return n_steps


def _loss(runner, log, rows, settings, denominator):
    r"""Return the loss of some rows, each divided by the number of its tokens.

    With `ratio_level="token"` each token has a ratio of its own, in place of that of the sequence.
    """
    sequences = log.sequences.take(rows)
    lengths, reward, weight = sequences.lengths, log.reward[rows], log.weight[rows]
    if settings.ratio_level == "sequence":
        logp, behavior = runner.sequence_logprob(sequences), log.behavior[rows]
    else:
        logp, row = runner.token_logprob(sequences)
        behavior = np.concatenate([log.behavior[i] for i in rows])
        row = row.cpu().numpy()
        lengths, reward, weight = lengths[row], reward[row], weight[row]
    if not torch.isfinite(logp).all():
        raise ValueError(DIVERGED)
    return topr_loss(
        logp,
        behavior,
        reward,
        lengths=lengths,
        sample_weight=weight,
        denominator=denominator,
        **settings.bounds,
    )
