"""Gradient steps of a language model on completions with rewards."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.utils import Bunch

from pnsklearn._fitting import warn_user
from pnsklearn._optim import batches
from pnsklearn._topr._diagnostics import LARGEST_LOG_RATIO, describe_ratios
from pnsklearn._topr._feedback import baseline_for
from pnsklearn._typing import Array
from pnsklearn.language._model import Runner, trained
from pnsklearn.language._sequences import Sequences, check_numbers, sums
from pnsklearn.language._watching import COLLAPSED_NATS, Best, mean_log_ratio
from pnsklearn.losses import topr_loss

PROMPT_MEAN, OTHERS_MEAN = "prompt-mean", "leave-one-out"  # baselines of each prompt
LONGEST_GRADIENT = 1.0  # longer ones are cut to this length
SAME_MODEL = 0.1  # mean |log-ratio| up to which the model itself may have written the completions
RATIO_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
DIVERGED = "Training has diverged. Lower learning_rate."


class Settings(NamedTuple):
    """What is learned from rewards, and by which steps; see `TOPRLanguagePolicy`."""

    baseline: Any
    effective_positive: float | None
    positive_bounds: tuple[float, float]
    negative_bounds: tuple[float, float]
    ratio_level: str
    optimizer: str
    learning_rate: float
    n_epochs: int
    batch_size: int
    shuffle: str = "completions"
    early_stopping: bool = False


@dataclass(frozen=True)
class Log:
    """Completions with what they were worth."""

    sequences: Sequences
    gain: Array  # the rewards less the baseline; ones if there are no rewards
    weight: Array
    baseline: Any  # a number, or one for each completion; None if there are no rewards
    # Of the completions, or arrays with those of their tokens. None: the model that is trained
    # wrote them.
    behavior_logprob: Any = None

    def take(self, rows: Array) -> "Log":
        """Return some of the completions, whose log-probabilities are not known."""
        baseline = self.baseline if np.ndim(self.baseline) == 0 else self.baseline[rows]
        return Log(self.sequences.take(rows), self.gain[rows], self.weight[rows], baseline)


def make_log(
    sequences: Sequences,
    reward: Array | None,
    weight: Array,
    settings: Settings,
    behavior_logprob: Any = None,
) -> Log:
    """Return the log of completions and their rewards; without rewards all are equally good."""
    if reward is None:
        return Log(sequences, np.ones_like(weight), weight, None)
    baseline: Any
    if settings.effective_positive is not None:
        baseline = baseline_for(reward, settings.effective_positive, weight)
    elif isinstance(settings.baseline, str):
        baseline = prompt_means(
            sequences.prompt_codes, reward, weight, without_own=settings.baseline != PROMPT_MEAN
        )
    elif np.ndim(settings.baseline) == 0:
        baseline = float(settings.baseline)
    else:
        baseline = check_numbers("baseline", settings.baseline, len(reward))
    return Log(sequences, reward - baseline, weight, baseline, behavior_logprob)


def prompt_means(prompt: Array, reward: Array, weight: Array, *, without_own: bool) -> Array:
    """Return the mean reward of the completions of each one's prompt, or of the others of them.

    It is the own reward where these are all alike, or there are none: then nothing is learned.
    """
    _, prompt = np.unique(prompt, return_inverse=True)
    own = weight * reward
    total, size = (np.bincount(prompt, values)[prompt] for values in (own, weight))
    if without_own:
        total, size = total - own, size - weight
    order = np.lexsort((reward, prompt))
    starts = np.flatnonzero(np.diff(prompt[order], prepend=-1))
    # A mean of equal numbers may be rounded, and Adam makes full steps of the least gradient.
    alike = np.minimum.reduceat(reward[order], starts) == np.maximum.reduceat(reward[order], starts)
    return np.where(alike[prompt] | (size <= 0), reward, total / np.where(size > 0, size, 1))


def informative_rows(log: Log, settings: Settings) -> Array:
    """Return the rows that can move the policy: their ratio is not bounded by zero."""
    highest_ratio = np.where(log.gain > 0, settings.positive_bounds[1], settings.negative_bounds[1])
    return np.flatnonzero((log.weight > 0) & (log.gain != 0) & (highest_ratio > 0))


def train(
    runner: Runner,
    log: Log,
    settings: Settings,
    rng: np.random.RandomState,
    after_epoch: Callable[[list], bool] = lambda history: False,
) -> dict[str, Any]:
    """Train the runner's model in place; return the fitted attributes beside the model.

    Training ends early where `after_epoch` returns True, or if the policy collapses, which is
    looked for with early stopping.

    Raises
    ------
    ValueError
        If training diverges.
    """
    # Without rewards the ratio is not bounded, and its value is of no consequence.
    start = np.zeros_like(log.gain) if log.baseline is None else runner.score(log.sequences)
    given = log.behavior_logprob
    behavior_logprob = start if given is None else sums(given)
    start_log_ratio = np.abs(start - behavior_logprob)
    _warn_of_another_behavior(start_log_ratio.mean())

    rows = informative_rows(log, settings)
    sequences = log.sequences.take(rows)
    of_steps = behavior_logprob[rows]
    if settings.ratio_level == "token":
        of_steps = runner.score_tokens(sequences) if given is None else [given[i] for i in rows]
    informative = Log(sequences, log.gain[rows], log.weight[rows], log.baseline, of_steps)
    optimizer, history = _make_optimizer(settings, runner.model), []
    collapses = _collapse_of(runner, log, behavior_logprob, settings)
    for _ in range(settings.n_epochs):
        history.append(_train_epoch(runner, informative, settings, optimizer, rng))
        if after_epoch(history) or collapses():
            break
    runner.model.zero_grad(set_to_none=True)

    about = {"n_steps_": sum(entry.n_steps for entry in history), "history_": history}
    if log.baseline is None:
        return about
    log_ratio = runner.score(log.sequences) - behavior_logprob
    diagnostics = _diagnose(log_ratio, start_log_ratio, log.gain, log.weight)
    return {**about, "baseline_": log.baseline, "diagnostics_": diagnostics}


def _warn_of_another_behavior(distance):
    if distance > SAME_MODEL:
        warn_user(
            f"behavior_logprob differs from the model's own log-probabilities by {distance:.2g} "
            "in the mean before the first step. If the model wrote the completions, leave "
            "behavior_logprob out: it was computed with another dtype, temperature or chat "
            "template. If another model did, nothing is wrong."
        )


def _make_optimizer(settings, model):
    """Return the optimizer of the parameters that are trained."""
    make = {"adamw": torch.optim.AdamW, "adafactor": torch.optim.Adafactor}[settings.optimizer]
    # Adafactor scales its steps by the size of the weights, so that it needs a rate like that of
    # AdamW, and not its usual 0.01.
    return make(trained(model).values(), lr=settings.learning_rate, weight_decay=0.0)


def _collapse_of(runner, log, behavior_logprob, settings):
    """Return a function that says whether good completions were lost; it then restores the best."""
    good = (log.gain > 0) & (log.weight > 0)
    if not settings.early_stopping or log.baseline is None or not good.any():
        return lambda: False
    best, sequences = Best(runner.model), log.sequences.take(np.flatnonzero(good))
    best.offer(0.0)

    def collapses():
        log_ratio = runner.score(sequences) - behavior_logprob[good]
        value = float(np.average(log_ratio, weights=log.weight[good]))
        best.offer(value)
        if value > best.value - COLLAPSED_NATS:
            return False
        best.restore()
        warn_user(
            f"Training has collapsed: good completions lost {best.value - value:.3g} nats in the "
            "mean. It has ended with the best weights before. Lower learning_rate."
        )
        return True

    return collapses


def _train_epoch(runner, log, settings, optimizer, rng):
    """Take the steps of one pass over the log; return how many, and what was seen on the way."""
    began = time.perf_counter()
    log_ratio, n_steps, mean_weight = np.zeros_like(log.gain), 0, log.weight.mean()
    parameters = list(trained(runner.model).values())
    for rows in _batches(log.sequences, settings, rng):
        optimizer.zero_grad(set_to_none=True)
        # The sum over the groups is the loss of the batch, whatever the groups are. The weights are
        # relative to those in the log, and not to those in the batch.
        for group in runner.groups(log.sequences, rows):
            _loss(runner, log, group, settings, len(rows) * mean_weight, log_ratio).backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, LONGEST_GRADIENT)
        if not torch.isfinite(norm):
            raise ValueError(DIVERGED)
        optimizer.step()
        n_steps += 1
    seconds = time.perf_counter() - began
    # Without rewards there is no ratio.
    known = log.weight if log.baseline is not None else np.zeros_like(log.weight)
    return Bunch(
        n_steps=n_steps,
        positive_log_ratio=mean_log_ratio(log_ratio, known, log.gain > 0),
        negative_log_ratio=mean_log_ratio(log_ratio, known, log.gain < 0),
        seconds=seconds,
        tokens_per_second=float(log.sequences.sizes.sum() / seconds),
    )


def _batches(sequences, settings, rng):
    """Return a shuffled division of the completions, or of the prompts with all of theirs."""
    rows = batches(len(sequences.tokens), settings.batch_size, rng)
    if settings.shuffle == "completions":
        return rows
    codes = sequences.prompt_codes
    place = rng.permutation(codes.max() + 1)[codes]
    return np.array_split(np.argsort(place, kind="stable"), len(rows))


def _loss(runner, log, rows, settings, denominator, log_ratio=None):
    """Return the loss of some rows, each divided by the number of its tokens.

    With ``ratio_level="token"`` each token has a ratio of its own, in place of that of the
    sequence. The log-ratios of the rows are written into `log_ratio`.
    """
    sequences = log.sequences.take(rows)
    lengths, gain, weight = sequences.lengths, log.gain[rows], log.weight[rows]
    if settings.ratio_level == "sequence":
        logprob, behavior_logprob = runner.sequence_logprob(sequences), log.behavior_logprob[rows]
        row = np.arange(len(rows))
    else:
        logprob, row = runner.token_logprob(sequences)
        behavior_logprob = np.concatenate([log.behavior_logprob[i] for i in rows])
        lengths, gain, weight = lengths[row], gain[row], weight[row]
    if not torch.isfinite(logprob).all():
        raise ValueError(DIVERGED)
    if log_ratio is not None:
        difference = logprob.detach().double().cpu().numpy() - behavior_logprob
        log_ratio[rows] = np.bincount(row, difference, minlength=len(rows))
    return topr_loss(
        logprob,
        behavior_logprob,
        gain,
        positive_bounds=settings.positive_bounds,
        negative_bounds=settings.negative_bounds,
        lengths=lengths,
        sample_weight=weight,
        denominator=denominator,
    )


def _diagnose(log_ratio, start_log_ratio, gain, weight):
    """Return what the log-ratios after a fit say; see `TOPRLanguagePolicy.diagnostics_`."""
    if not np.isfinite(log_ratio).all():
        raise ValueError(DIVERGED)
    counted = weight > 0
    log_ratio, gain, weight = log_ratio[counted], gain[counted], weight[counted]
    quantiles = np.minimum(np.quantile(log_ratio, RATIO_QUANTILES), LARGEST_LOG_RATIO)
    return Bunch(
        **describe_ratios(log_ratio, weight * gain, weight),
        ratio_quantiles=np.exp(quantiles).tolist(),
        start_log_ratio=float(start_log_ratio[counted].mean()),
    )
