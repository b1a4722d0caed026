"""What a log is before a fit: checked rows, estimated propensities and the baseline of rewards."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import expectile
from sklearn.linear_model import LogisticRegression
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from pnsklearn._fitting import warn_user
from pnsklearn._logged import check_feedback
from pnsklearn._splits import deal_out
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
    kept: Array | None = None  # which of all given rows these are

    def rows(self, rows: Array) -> "Feedback":
        """Return a part of the log."""
        columns = ("X", "action", "reward", "propensity", "weight")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})

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
    X, y, reward, propensity = read_log(X, y, reward, propensity, classes)
    if reward is not None and propensity is None:
        raise ValueError(
            "Rewards need propensities: the probability of each logged action under the policy "
            "that took it. If it is not known, set propensity='estimate'."
        )
    X, action = check_X(estimator, X, y, reset=reset, deep=deep)
    check_classification_targets(action)
    weight, X, action, reward, propensity, kept = without_weightless(
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
    return Feedback(X, code, reward, propensity, weight, classes, kept=kept)


def read_log(
    X: Any, y: Any, reward: Any, propensity: Any, classes: Array | None = None
) -> tuple[Any, Any, Any, Any]:
    """Return contexts, actions, rewards and propensities of a log as people have it.

    Rewards and propensities may be columns of the frame X, the latter those of all actions.
    """
    X, reward, propensity = _take_columns(X, reward, propensity)
    if not isinstance(propensity, str) and np.ndim(propensity) == 2:
        propensity = _of_logged(np.asarray(propensity), column_or_1d(y), classes)
    return X, *check_feedback(y, reward, propensity)


def _take_columns(X, reward, propensity):
    """Return X without the columns that `reward` and `propensity` name, and these columns."""
    found = {"reward": reward, "propensity": propensity}
    named = {
        name: column
        for name, column in found.items()
        if isinstance(column, str) and column != "estimate"
    }
    if not named:
        return X, reward, propensity
    columns = list(getattr(X, "columns", []))
    for name, column in named.items():
        if column not in columns:
            raise ValueError(
                f"{name}={column!r} names no column of X. Give the values, or X as a data frame "
                "with that column."
            )
        found[name] = np.asarray(X[column])
    kept = [column for column in columns if column not in named.values()]
    return X[kept], found["reward"], found["propensity"]


def _of_logged(propensity, action, classes):
    """Return the propensities of the logged actions from those of all, columns in sorted order."""
    known = np.unique(action) if classes is None else classes
    if propensity.shape[1] == 1:
        return propensity
    if propensity.shape != (len(action), len(known)):
        raise ValueError(
            f"propensity has the shape {propensity.shape}; needed are {len(action)} rows and one "
            f"column for each of the {len(known)} actions, in sorted order; or one number a row, "
            "of its action."
        )
    column = np.minimum(np.searchsorted(known, action), len(known) - 1)
    return propensity[np.arange(len(action)), column]


def estimate_propensity(X: Matrix, action: Array, weight: Array) -> Array:
    """Return cross-fitted probabilities of the logged actions by logistic regression.

    Each action's rows are dealt out to the folds in turn, so that every fold has its share of them.
    An action that the other folds lack has probability zero there; the least is one in n.
    """
    n_rows, counts = action.shape[0], np.bincount(action)
    if np.count_nonzero(counts > 1) < 2:
        raise ValueError("propensity='estimate' needs two actions with two rows or more.")
    fold = deal_out(action, N_FOLDS)
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


def contrasting(reward: Array, weight: Array) -> float:
    """Return the baseline that leaves both good and bad decisions: 0, or the mean reward."""
    return contrast_of(reward.min(), reward.max(), np.average(reward, weights=weight))


def contrast_of(lowest: float, highest: float, mean: float) -> float:
    """Return the same from what the rewards are like."""
    if lowest < 0 < highest:
        return 0.0
    return float(lowest if lowest == highest else mean)  # that of a constant may be rounded


def check_contrast(reward: Array | None, baseline: float | Array | None) -> None:
    """Refuse rewards that all equal the baseline; warn if none is below it."""
    if reward is None or baseline is None:
        return
    which = f"the baseline, {baseline:g}" if np.ndim(baseline) == 0 else "their baselines"
    if (reward == baseline).all():
        raise ValueError(
            f"All rewards equal {which}, so there is nothing to learn. Check "
            "the rewards, or set another baseline."
        )
    if (reward >= baseline).all():
        warn_user(
            f"There are no negative rewards after {which}, so the policy learns "
            "from good decisions only. Set effective_positive=0.5, or a baseline above the rewards "
            "of bad decisions."
        )
