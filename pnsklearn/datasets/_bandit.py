"""Logs of decisions: put together, and made of a labeled set."""

from numbers import Real
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch, _safe_indexing, check_array, check_random_state, indexable
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.validation import column_or_1d

from pnsklearn._logged import FeedbackArray, check_feedback, draw

TAUGHT_SHARE, FEWEST_TAUGHT = 0.05, 30  # of the rows that a logging policy has learned from
RANDOM_SHARE = 0.3  # of its decisions
SKEW = 0.75  # ratio of one action's probability to that of the one before


@validate_params(
    {"action": ["array-like"], "reward": ["array-like"], "propensity": ["array-like"]},
    prefer_skip_nested_validation=True,
)
def make_feedback(action: Any, reward: Any, propensity: Any) -> FeedbackArray:
    """Put actions, rewards and propensities into one array-like that can stand for y.

    For tools that pass y on and nothing else. Splitters of scikit-learn see the actions, and so
    stratify by them. What takes y for labels (``cross_val_predict(method="predict_proba")``,
    bagging, calibration, stacking) gets an error: it would lose the rewards.

    Parameters
    ----------
    action : array-like of shape (n_samples,)
        The actions that were taken, any labels.
    reward : array-like of shape (n_samples,)
        What came of them.
    propensity : array-like of shape (n_samples,)
        Probability, in (0, 1], with which they were taken.

    Returns
    -------
    y : array-like of shape (n_samples,)
        ``y["action"]``, ``y["reward"]`` and ``y["propensity"]`` are its parts.

    Raises
    ------
    ValueError
        If the lengths differ, a reward is not finite, or a propensity is not in (0, 1].

    Examples
    --------
    >>> from pnsklearn.datasets import make_feedback
    >>> y = make_feedback(["left", "right"], [1.0, 0.0], [0.5, 0.25])
    >>> y["reward"]
    array([1., 0.])
    """
    action = column_or_1d(action)
    _, reward, propensity = check_feedback(action, reward, propensity)
    return FeedbackArray(action, reward, propensity)


@validate_params(
    {
        "X": ["array-like", "sparse matrix"],
        "y": ["array-like"],
        "logging": [StrOptions({"uniform", "good", "skewed", "bad"}), "array-like"],
        "noise": [Interval(Real, 0, 1, closed="both")],
        "rewards": [tuple, list],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_logged_bandit(
    X: Any, y: Any, *, logging: Any = "uniform", noise: float = 0.0,
    rewards: tuple[float, float] = (-1.0, 1.0), random_state: Any = None,
) -> Bunch:  # fmt: skip
    r"""Make a log of decisions of a labeled set: a policy guesses the class and is told if right.

    The actions are the classes. What the right one would have been is not in the log, as in life,
    but it is returned beside it, so that any policy's true value can be computed.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        The contexts.
    y : array-like of shape (n_samples,)
        Their classes.
    logging : str or array-like of shape (n_samples, n_classes), default="uniform"
        The policy that decides, or the probabilities themselves. "uniform": all actions are equally
        likely. "skewed": each action is three quarters as likely as the one before, whatever x.
        "good": a logistic regression that was taught on a random twentieth of the rows (30 at
        least). "bad": with the same scores, negated. These two decide at random in three of ten
        rows.
    noise : float, default=0.0
        Probability with which a reward is the wrong one of the two.
    rewards : tuple of two floats, default=(-1.0, 1.0)
        Of a wrong and of a right decision.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    log : Bunch
        ``X``, and of shape (n_samples,) the ``action``, ``reward`` and ``propensity`` of the log.
        Not for learning: ``y``, and ``proba`` of shape (n_samples, n_classes), the logging
        policy's probabilities of ``classes``.

    Raises
    ------
    ValueError
        If there is one class only, or a parameter is out of its range.

    References
    ----------
    A. Beygelzimer, J. Langford, "The Offset Tree for Learning with Partial Labels", KDD 2009.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from pnsklearn.datasets import make_logged_bandit
    >>> log = make_logged_bandit(*load_iris(return_X_y=True), random_state=0)
    >>> bool(abs((log.reward > 0).mean() - 1 / 3) < 0.1)  # a guess in three is right
    True
    """
    X, y = indexable(X, y)
    classes, code = np.unique(column_or_1d(y), return_inverse=True)
    n_rows, n_classes = code.shape[0], classes.shape[0]
    if n_classes < 2:
        raise ValueError(f"y has only one class, {classes[0]}, but a decision needs two.")
    if len(rewards) != 2 or not all(isinstance(r, Real) and abs(r) < np.inf for r in rewards):
        raise ValueError(
            f"rewards must be two finite numbers (of wrong, of right), got {rewards!r}."
        )
    rng = check_random_state(random_state)
    if not isinstance(logging, str):
        proba = _check_proba(logging, n_rows, n_classes)
    elif logging == "uniform":
        proba = np.full((n_rows, n_classes), 1 / n_classes)
    elif logging == "skewed":
        weight = SKEW ** np.arange(n_classes)
        proba = np.tile(weight / weight.sum(), (n_rows, 1))
    else:
        proba = _taught(X, code, n_classes, 1 if logging == "good" else -1, rng)
    column, propensity = draw(proba, 1, rng)
    chosen = column[:, 0]
    right = (chosen == code) ^ (rng.random_sample(n_rows) < noise)
    return Bunch(
        X=X,
        action=classes[chosen],
        reward=np.where(right, *map(float, rewards[::-1])),
        propensity=propensity[:, 0],
        y=classes[code],
        proba=proba,
        classes=classes,
    )


def _check_proba(proba, n_rows, n_classes):
    proba = check_array(proba, dtype=np.float64, input_name="logging")
    if proba.shape != (n_rows, n_classes):
        raise ValueError(
            f"logging must be of shape ({n_rows}, {n_classes}), with one probability for each "
            f"class, not {proba.shape}."
        )
    if proba.min() < 0 or not np.allclose(proba.sum(axis=1), 1):
        raise ValueError("logging must hold probabilities that add up to 1 in each row.")
    return proba


def _taught(X, code, n_classes, sign, rng):
    """Return the probabilities of a logistic regression on a few rows, or of its opposite."""
    n_rows = code.shape[0]
    rows = rng.permutation(n_rows)[: max(FEWEST_TAUGHT, round(TAUGHT_SHARE * n_rows))]
    first = np.unique(code, return_index=True)[1]  # of every class, so that it knows them all
    rows = np.union1d(rows, first)
    model = make_pipeline(StandardScaler(with_mean=False), LogisticRegression(max_iter=1000))
    model.fit(_safe_indexing(X, rows), code[rows])
    scores = sign * model.decision_function(X)
    if scores.ndim == 1:
        scores = np.stack([-scores / 2, scores / 2], axis=1)
    proba = np.exp(scores - scores.max(axis=1, keepdims=True))
    proba /= proba.sum(axis=1, keepdims=True)
    return (1 - RANDOM_SHARE) * proba + RANDOM_SHARE / n_classes
