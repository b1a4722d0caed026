"""Choose the member of TOPR's family, and its C, by the cross-fitted value of the policy.

The bounds of the ratio say what a policy optimises. On logged decisions no choice of them is best:
it depends on how often each action was logged, and on the noise of the rewards. So members are
fitted to parts of the log, and judged on the rest by the doubly robust estimate of the value,

    V = mean of sum_a pi(a | x_i) q(x_i, a) + min(pi(a_i | x_i) / mu_i, c) (r_i - q(x_i, a_i)),

with rewards q predicted from the same part by ridge regressions. What is judged is the policy that
acts: the best action, or a draw. The ratios are cut at c, the cube root of the number of rows for
the choice, which should not follow a few large ones; and the square root for the value that is
reported, which has less of a bias.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from sklearn.model_selection import check_cv
from sklearn.utils import Bunch
from sklearn.utils.parallel import Parallel, delayed

from pnsklearn._splits import deal_out
from pnsklearn._topr._feedback import Feedback, baseline_for
from pnsklearn._topr._objective import Bounds, check_bounds
from pnsklearn._typing import Array
from pnsklearn._validation import refuse_huge
from pnsklearn.metrics._off_policy import predict_rewards

MEMBERS: dict[str, Bounds] = {
    "topr": ((1, 1), (0, 1)),
    "is": ((0, np.inf), (0, np.inf)),
    "tis": ((0, 1), (0, 1)),
    "positives": ((1, 1), (0, 0)),
}
CANDIDATES = "topr", "is", "tis"
C_FACTORS = 0.1, 1.0, 10.0
RIDGE = 10.0  # of the predicted rewards; chosen with the cut on four sets, confirmed on three


class Candidate(NamedTuple):
    """A member of the family at a baseline."""

    name: str
    bounds: Bounds
    baseline: float


def resolve_bounds(bounds: Any) -> Bounds:
    """Return the bounds of a named member, or a checked pair of pairs.

    Raises
    ------
    ValueError
        If they are neither.
    """
    if isinstance(bounds, str):
        return MEMBERS[bounds]
    if len(bounds) != 2:
        raise ValueError(
            "bounds must be a name or two pairs, of the good and of the bad decisions; got "
            f"{bounds!r}."
        )
    for name, pair in zip(("good", "bad"), bounds, strict=True):
        check_bounds(f"The bounds of the {name} decisions", pair)
    good, bad = bounds
    return tuple(good), tuple(bad)


def candidates(feedback: Feedback) -> list[Candidate]:
    """Return the members to choose from; TOPR also with good and bad decisions of equal size."""
    baseline: Any = feedback.baseline
    found = [Candidate(name, MEMBERS[name], baseline) for name in CANDIDATES]
    half = baseline_for(feedback.reward, 0.5, feedback.weight)
    # With the same baseline it would be the same member twice.
    if not np.isclose(half, baseline, rtol=1e-9, atol=1e-12):
        found.insert(1, Candidate("topr", MEMBERS["topr"], half))
    return found


def make_splits(cv: Any, feedback: Feedback, metadata: dict) -> list[tuple[Array, Array]]:
    """Return the splits of the rows; an int, None is 3, deals out the rows of each action."""
    if cv is None or isinstance(cv, Integral):
        n_folds = 3 if cv is None else int(cv)
        fold = deal_out(feedback.action, n_folds)
        return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(n_folds)]
    kept: Any = feedback.kept
    action = np.full(len(kept), -1)
    action[kept] = feedback.action
    position = np.cumsum(kept) - 1
    splits = [
        (position[train[kept[train]]], position[test[kept[test]]])
        for train, test in check_cv(cv).split(action, action, **metadata)
    ]
    if not all(len(train) and len(test) for train, test in splits) or not splits:
        raise ValueError("cv has no split, or one without rows for training or test; use cv=3.")
    return splits


def select(
    feedback: Feedback,
    splits: list[tuple[Array, Array]],
    Cs: list[float],
    *,
    path: Callable[[Feedback, list[float]], Iterator[Callable[[Any], Array]]],
    act: str,
    n_jobs: int | None,
) -> tuple[Candidate, float, Bunch]:
    """Return the best candidate, its C, and what was found.

    See `TOPRPolicy.selection_`.

    Parameters
    ----------
    path : callable (feedback, Cs) -> for each C a function of contexts to log-probabilities
    act : {"best", "sample"}
    """
    refuse_huge(feedback.X)
    if not min(Cs) * np.abs(feedback.gain).sum() > np.finfo(float).tiny:
        raise ValueError("The rewards are so small that C times their sum vanishes; rescale them.")
    members = candidates(feedback)
    n = feedback.weight.sum()

    def judge(train, test):
        part, held_out = feedback.rows(train), feedback.rows(test)
        log = part.X, part.action, part.reward
        n_actions = len(feedback.classes)
        q = predict_rewards(*log, n_actions, part.weight, held_out.X, alpha=RIDGE)
        return [
            _terms(acting(policy(held_out.X), act), held_out, q, n)
            for member in members
            for policy in path(replace(part, bounds=member.bounds, baseline=member.baseline), Cs)
        ]

    found = Parallel(n_jobs=n_jobs)(delayed(judge)(*split) for split in splits)
    rows = np.concatenate([test for _, test in splits])
    weight, reward = feedback.weight[rows], feedback.reward[rows]
    if weight.mean() < 1:  # shares, not numbers of rows
        weight = weight / weight.mean()
    summaries = [
        _summary(np.concatenate(parts, axis=1), reward, weight)
        for parts in zip(*found, strict=True)
    ]
    selection = Bunch(
        bounds=[member.name for member in members for _ in Cs],
        baseline=np.repeat([member.baseline for member in members], len(Cs)),
        C=np.tile(Cs, len(members)),
        **{key: np.array([of[key] for of in summaries]) for key in summaries[0]},
        logged=float(np.average(reward, weights=weight)),
    )
    best = int(np.argmax(np.round(selection.calm_gain, 12)))
    selection.best_index = best
    return members[best // len(Cs)], Cs[best % len(Cs)], selection


def acting(log_policy: Array, act: str) -> Array:
    """Return the probabilities with which a policy acts."""
    if act == "sample":
        return np.exp(log_policy)
    return np.eye(log_policy.shape[1])[log_policy.argmax(axis=1)]


def _terms(policy, log, q, n):
    """Return the terms of the doubly robust value, those of ratios cut earlier, and the ratios."""
    rows = np.arange(len(log.action))
    ratio = policy[rows, log.action] / log.propensity
    direct, rest = (policy * q).sum(axis=1), log.reward - q[rows, log.action]
    cut = (direct + np.minimum(ratio, clip) * rest for clip in (np.sqrt(n), np.cbrt(n)))
    return np.stack([*cut, ratio])


def _summary(columns, reward, weight):
    """Return value, errors and effective sample size of one candidate."""
    terms, calm, ratio = columns
    total = weight.sum()

    def estimate(values):
        mean = np.average(values, weights=weight)
        return mean, np.sqrt((values - mean) ** 2 @ weight / (total - 1) / total)

    value, error = estimate(terms)
    gain, gain_error = estimate(terms - reward)
    calm_gain, calm_error = estimate(calm - reward)
    squares = ratio**2 @ weight
    return {
        "value": value,
        "standard_error": error,
        "gain": gain,
        "gain_standard_error": gain_error,
        "calm_gain": calm_gain,
        "calm_gain_standard_error": calm_error,
        "effective_sample_size": (ratio @ weight) ** 2 / squares if squares > 0 else 0.0,
    }
