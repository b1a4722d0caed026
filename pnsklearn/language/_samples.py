"""What is done with several completions of one prompt: curate them, or let them vote."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, column_or_1d


def cap_positives(prompt_id, reward, max_positive, *, baseline=0.0, random_state=None):
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
        Completions with a reward above the baseline to keep for each prompt, drawn at random.
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
        If lengths differ, a reward is NaN, or `max_positive` is not an integer of at least 0.

    Examples
    --------
    >>> from pnsklearn.language import cap_positives
    >>> cap_positives([0, 0, 0, 1, 1], [1, 1, -1, 1, -1], max_positive=1, random_state=0).sum()
    np.int64(4)
    """
    prompt_id, reward = column_or_1d(prompt_id), column_or_1d(reward)
    check_consistent_length(prompt_id, reward)
    if not isinstance(max_positive, Integral) or max_positive < 0:
        raise ValueError(f"max_positive must be an integer of at least 0, got {max_positive!r}.")
    if np.isnan(reward).any():
        raise ValueError("reward must not be NaN.")
    _, code = np.unique(prompt_id, return_inverse=True)
    positive = np.flatnonzero(reward > baseline)
    positive = check_random_state(random_state).permutation(positive)
    # Within each prompt, in random order: the place of each positive.
    positive = positive[np.argsort(code[positive], kind="stable")]
    first = np.searchsorted(code[positive], code[positive])
    kept = np.ones(len(reward), dtype=bool)
    kept[positive[np.arange(len(positive)) - first >= max_positive]] = False
    return kept


def weighted_vote(answers, weights=None):
    """Return the answer of each prompt that its completions vote for: self-consistency.

    With the judgements of a verifier as weights this is weighted self-consistency: an answer that
    many completions agree on, and that the verifier believes, wins.

    Parameters
    ----------
    answers : array-like of shape (n_prompts, n_samples)
        The answers that the completions of a prompt came to; None where one came to none.
    weights : array-like of shape (n_prompts, n_samples), default=None
        The votes that each has, such as the probability that it is right; by default one.

    Returns
    -------
    answers : ndarray of shape (n_prompts,), object
        The first of the answers with the most votes; None if no completion has an answer.

    Raises
    ------
    ValueError
        If the shapes differ, or a weight is negative or not finite.

    Examples
    --------
    >>> from pnsklearn.language import weighted_vote
    >>> weighted_vote([["7", "8", "8"], ["3", None, "2"]]).tolist()
    ['8', '3']
    >>> weighted_vote([["7", "8", "8"]], [[0.9, 0.1, 0.2]]).tolist()
    ['7']
    """
    answers = np.asarray(answers, dtype=object)
    if answers.ndim != 2:
        raise ValueError(f"answers must be of shape (n_prompts, n_samples), got {answers.shape}.")
    weights = np.ones(answers.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    if weights.shape != answers.shape:
        raise ValueError(
            f"weights must have one value for each answer, of shape {answers.shape}; got "
            f"{weights.shape}."
        )
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("weights must be finite and not negative.")
    winners = np.empty(len(answers), dtype=object)
    for i, (row, row_weights) in enumerate(zip(answers, weights, strict=True)):
        votes = {}
        for answer, weight in zip(row, row_weights, strict=True):
            if answer is not None:
                votes[answer] = votes.get(answer, 0.0) + weight
        winners[i] = max(votes, key=votes.get, default=None)
    return winners
