"""Rounds: sample completions, ask for their rewards, keep some of them, and learn from these."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import Bunch, check_random_state, check_scalar
from sklearn.utils.validation import check_consistent_length, column_or_1d

from pnsklearn._fitting import warn_user
from pnsklearn._topr._evaluation import CONFIDENCE_LEVEL
from pnsklearn._topr._feedback import check_contrast
from pnsklearn._typing import Array
from pnsklearn.language._checkpoint import Checkpoint
from pnsklearn.language._model import Runner
from pnsklearn.language._sequences import Sequences, check_numbers
from pnsklearn.language._training import Log, Settings, informative_rows, make_log, train
from pnsklearn.language._watching import COLLAPSED_SHARE, Best
from pnsklearn.metrics import ips_value


@dataclass(frozen=True)
class Task:
    """What the rounds are about: the prompts, and what their completions are worth."""

    prompts: list  # as they were given
    ids: list[Array]  # the same as tokens
    reward_fn: Callable
    n_rounds: int
    n_samples: int  # completions of each prompt
    max_positive: int | None  # positive ones of each prompt that are learned from, None for all
    is_valid: Callable | None = None  # of a completion; None: whether it came to an end

    def __post_init__(self):
        check_scalar(self.n_rounds, "n_rounds", Integral, min_val=1)
        check_scalar(self.n_samples, "n_samples", Integral, min_val=1)
        if self.max_positive is not None:
            check_scalar(self.max_positive, "max_positive", Integral, min_val=1)
        if not callable(self.reward_fn):
            raise TypeError(f"reward_fn must be a function, got {type(self.reward_fn).__name__}.")
        if self.is_valid is not None and not callable(self.is_valid):
            raise TypeError(f"is_valid must be a function, got {type(self.is_valid).__name__}.")


def rounds(
    runner: Runner,
    task: Task,
    settings: Settings,
    seed: int,
    fitted: dict[str, Any],
    checkpoint: Checkpoint | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the fitted attributes after each round, which is saved then.

    The rounds that `fitted` has are not run again.
    """
    best = Best(runner.model)
    if checkpoint is not None and settings.early_stopping:
        checkpoint.load_best(best)
    for i in range(len(fitted.get("rounds_", [])), task.n_rounds):
        began = time.perf_counter()
        # A seed for each round, so that none depends on whether those before were run or loaded.
        rng = np.random.RandomState((seed + i) % 2**32)
        samples = _sample(runner, task, settings, rng)
        if settings.early_stopping and _collapses(best, samples.report, i + 1):
            return  # with what was fitted before, and the best weights in the model
        learned = _learn(runner, task, settings, rng, samples, is_first=i == 0)
        learned["rounds_"] = [*fitted.get("rounds_", []), samples.report]
        entry = _entry(samples, learned.pop("history_", []), time.perf_counter() - began)
        learned["history_"] = [*fitted.get("history_", []), entry]
        if checkpoint is not None:
            checkpoint.save(runner.model, learned, best)
        fitted = {"model_": runner.model, **learned}
        yield fitted


def _collapses(best, report, number):
    """Return whether samples are invalid that were valid before; then restore the best weights."""
    if best.weights and report.invalid > best.report + COLLAPSED_SHARE:
        best.restore()
        warn_user(
            f"Training has collapsed: {report.invalid:.0%} of the samples of round {number} "
            f"are invalid. It has ended with the best weights before, of which {best.report:.0%} "
            "were. Lower learning_rate."
        )
        return True
    best.offer(report.value.value, report.invalid)
    return False


def _entry(samples, epochs, seconds):
    """Return what is told of a round; see `TOPRLanguagePolicy.history_`."""
    report, ratios = samples.report, ("positive_log_ratio", "negative_log_ratio")
    return Bunch(
        n_steps=sum(epoch.n_steps for epoch in epochs),
        **{name: epochs[-1][name] if epochs else float("nan") for name in ratios},
        seconds=seconds,
        tokens_per_second=float(samples.log.sequences.lengths.sum() / seconds),
        value=report.value.value,
        low=report.value.low,
        high=report.value.high,
        invalid=report.invalid,
        mean_length=report.mean_length,
    )


class Samples(NamedTuple):
    """The samples of a round: which prompt each has, what they are worth, what they were like."""

    prompt: Array
    reward: Array
    log: Log
    report: Bunch


def _sample(runner, task, settings, rng):
    """Return samples of the policy, with their rewards."""
    prompt = np.repeat(np.arange(len(task.ids)), task.n_samples)
    ids = [task.ids[i] for i in prompt]
    completions = runner.complete(ids, rng)
    texts = [runner.encoder.decode(tokens) for tokens in completions]
    reward = task.reward_fn([task.prompts[i] for i in prompt], texts)
    if reward is None:
        raise ValueError("reward_fn must return one reward for each completion, got None.")
    reward = check_numbers("The result of reward_fn", reward, len(texts))
    report = _describe_samples(completions, reward, task.n_samples, runner.encoder.end_ids)
    report.invalid = report.unfinished
    if task.is_valid is not None:
        report.invalid = float(np.mean([not task.is_valid(text) for text in texts]))
    log = make_log(Sequences.join(ids, completions), reward, np.ones_like(reward), settings)
    return Samples(prompt, reward, log, report)


def _learn(runner, task, settings, rng, samples, *, is_first):
    """Learn from samples; return the fitted attributes beside the model, and add to the report."""
    prompt, reward, log, report = samples
    if is_first and log.gain.any():
        check_contrast(reward, log.baseline)
    if task.max_positive is not None:
        kept = cap_positives(prompt, log.gain, task.max_positive, random_state=rng)
        kept = np.flatnonzero(kept)
        log = log.take(kept)
        if settings.effective_positive is not None:  # the share is that of the kept ones
            log = make_log(log.sequences, reward[kept], log.weight, settings)
    if len(informative_rows(log, settings)):
        learned = train(runner, log, settings, rng)
    else:
        learned = {"baseline_": log.baseline, "n_steps_": 0}
    report.update(n_kept=len(log.weight), diagnostics=learned.get("diagnostics_"))
    return learned


def _describe_samples(completions, reward, n_samples, end_ids):
    """Return what the samples of a round were like; see `TOPRLanguagePolicy.rounds_`."""
    # The samples of one prompt are not independent, so that each prompt counts as one, their mean.
    mean = reward.reshape(-1, n_samples).mean(axis=1)
    ones = np.ones_like(mean)
    return Bunch(
        value=ips_value(ones, ones, mean, confidence_level=CONFIDENCE_LEVEL),
        unfinished=float(np.mean([tokens[-1] not in end_ids for tokens in completions])),
        mean_length=float(np.mean([len(tokens) for tokens in completions])),
    )


def cap_positives(
    prompt_id: Any,
    reward: Any,
    max_positive: int,
    *,
    baseline: float = 0.0,
    random_state: Any = None,
) -> Array:
    """Return which completions to keep so that no prompt has too many positive ones.

    Easy prompts have many good completions that say the same; hard ones few. With a cap the easy
    ones no longer fill the data set, and its effective positive proportion falls. All completions
    with a reward up to the baseline are kept.

    Parameters
    ----------
    prompt_id : array-like of shape (n,)
        Which prompt each completion answers: numbers or the prompts themselves.
    reward : array-like of shape (n,)
        Their rewards.
    max_positive : int
        Number of completions with a reward above the baseline to keep for each prompt. They are
        drawn at random.
    baseline : float, default=0.0
        Rewards above it are positive.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    kept : ndarray of shape (n,), bool
        True for the completions to keep, in their order.

    Raises
    ------
    ValueError
        If lengths differ, a reward is NaN, or `max_positive` is negative.
    TypeError
        If `max_positive` is not an integer.

    Examples
    --------
    >>> from pnsklearn.language import cap_positives
    >>> cap_positives([0, 0, 0, 1, 1], [1, 1, -1, 1, -1], max_positive=1, random_state=0).sum()
    np.int64(4)
    """
    prompt_id, reward = column_or_1d(prompt_id), column_or_1d(reward)
    check_consistent_length(prompt_id, reward)
    check_scalar(max_positive, "max_positive", Integral, min_val=0)
    if np.isnan(reward).any():
        raise ValueError("reward must not be NaN.")
    _, code = np.unique(prompt_id, return_inverse=True)
    positive = np.flatnonzero(reward > baseline)
    positive = check_random_state(random_state).permutation(positive)
    # Bring those of a prompt together, in random order, and count from the first of each prompt.
    positive = positive[np.argsort(code[positive], kind="stable")]
    first = np.searchsorted(code[positive], code[positive])
    kept = np.ones(len(reward), dtype=bool)
    kept[positive[np.arange(len(positive)) - first >= max_positive]] = False
    return kept
