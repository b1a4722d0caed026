"""What a log is before a fit: checked rows, estimated propensities and the baseline of rewards."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import expectile
from sklearn.linear_model import LogisticRegression
from sklearn.utils.multiclass import check_classification_targets

from pnsklearn._fitting import warn_user
from pnsklearn._logged import check_feedback
from pnsklearn._topr._objective import Bounds
from pnsklearn._typing import Array, Matrix
from pnsklearn._validation import check_weights, check_X, without_weightless

N_FOLDS = 5  # for estimated propensities


@dataclass(frozen=True)
class Feedback:
    """A checked log: contexts, the codes of the actions, what came of them; and the actions.

    Without rewards, all decisions are as good: `reward` and `baseline` are None, and as there are
    no ratios, the `bounds` are those by which the policy imitates the log.
    """

    X: Matrix
    action: Array
    reward: Any
    propensity: Array
    weight: Array
    classes: Array
    baseline: float | None = None
    bounds: Bounds = ((1, 1), (0, 1))

    @property
    def advantage(self) -> Array:
        """The rewards less the baseline, or ones."""
        return np.ones_like(self.weight) if self.reward is None else self.reward - self.baseline

    @property
    def gain(self) -> Array:
        """The advantages times the weights."""
        return self.weight * self.advantage


def check_log(
    estimator: Any, X: Any, y: Any, sample_weight: Any, reward: Any, propensity: Any, *,
    deep: bool, classes: Array | None = None, reset: bool = True,
) -> Feedback:  # fmt: skip
    """Return the checked feedback, without rows of weight zero.

    `classes` are the actions, by default those of the log; `deep` and `reset` are for `check_X`.
    """
    y, reward, propensity = check_feedback(y, reward, propensity)
    if reward is not None and propensity is None:
        raise ValueError(
            "Rewards need propensities: the probability of each logged action under the policy "
            "that took it. If it is not known, set propensity='estimate'."
        )
    X, action = check_X(estimator, X, y, reset=reset, deep=deep)
    check_classification_targets(action)
    weight, X, action, reward, propensity, _ = without_weightless(
        check_weights(sample_weight, X), X, action, reward, propensity
    )
    if classes is None:
        classes = np.unique(action)
    code = np.searchsorted(classes, action)
    known = classes[np.minimum(code, len(classes) - 1)] == action
    if not known.all():
        raise ValueError(f"The action {action[~known][0]} is not among classes.")
    if len(classes) == 1:
        raise ValueError(
            f"y has only one class, the action {classes[0]}; a policy needs two to choose from."
        )
    if propensity is None:
        propensity = np.ones_like(weight)
    elif isinstance(propensity, str):
        propensity = estimate_propensity(X, code, weight)
    return Feedback(X, code, reward, propensity, weight, classes)


def estimate_propensity(X: Matrix, action: Array, weight: Array) -> Array:
    """Return cross-fitted probabilities of the logged actions by logistic regression.

    Each action's rows are dealt out to the folds in turn, so that every fold has its share of them.
    An action that the other folds lack has probability zero there; the least is one in n.
    """
    n_rows, counts = action.shape[0], np.bincount(action)
    if np.count_nonzero(counts > 1) < 2:
        raise ValueError("propensity='estimate' needs two actions with two rows or more.")
    fold = np.empty(n_rows, dtype=int)
    fold[np.argsort(action, kind="stable")] = np.arange(n_rows) % N_FOLDS
    propensity = np.empty(n_rows)
    for k in range(min(N_FOLDS, n_rows)):
        held_out = fold == k
        model = LogisticRegression(max_iter=1000)
        model.fit(X[~held_out], action[~held_out], weight[~held_out])
        logged = action[held_out][:, None] == model.classes_
        propensity[held_out] = (model.predict_proba(X[held_out]) * logged).sum(axis=1)
    return np.maximum(propensity, 1 / n_rows)


def baseline_for(reward: Array, effective_positive: float, weight: Array) -> float:
    """Return the baseline c for which sum (r - c)^+ / sum |r - c| is the wanted share.

    That is the expectile of the rewards at one minus the share.
    """
    return float(expectile(reward, 1 - effective_positive, weights=weight))


def check_contrast(reward: Array | None, baseline: float | None) -> None:
    """Refuse rewards that all equal the baseline; warn if none is below it."""
    if reward is None or baseline is None:
        return
    if (reward == baseline).all():
        raise ValueError(
            f"All rewards equal the baseline, {baseline:g}, so there is nothing to learn. Check "
            "the rewards, or set another baseline."
        )
    if (reward >= baseline).all():
        warn_user(
            f"There are no negative rewards after the baseline, {baseline:g}, so the policy learns "
            "from good decisions only. Set effective_positive=0.5, or a baseline above the rewards "
            "of bad decisions."
        )
