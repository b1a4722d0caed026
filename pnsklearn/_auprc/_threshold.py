"""Decision thresholds from training probabilities."""

from numbers import Real
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve

from pnsklearn._typing import Array


def check_threshold(rule: Any) -> None:
    """Raise ValueError if a rule is a tuple that says nothing."""
    if not isinstance(rule, tuple):
        return
    kind, level = rule if len(rule) == 2 else (None, None)
    is_level = isinstance(level, Real) and 0 < float(level) <= 1
    if kind not in ("precision", "recall", "budget") or not is_level:
        raise ValueError(
            "threshold must be 'proba', 'f1', ('precision', p), ('recall', r), ('budget', b) or a "
            f"probability, with p, r and b in (0, 1]; got {rule!r}."
        )


def choose_threshold(rule: Any, positive: Array, probability: Array, weight: Array) -> float:
    """Return the probability above which a sample is called positive.

    Parameters
    ----------
    rule : "proba", "f1", ("precision", p), ("recall", r), ("budget", b) or float
        One half; the best F1; the largest recall at precision >= p (the highest precision where
        none reaches p); the highest precision at recall >= r; the lowest threshold with at most a
        share b of the weight above it; the number itself. A threshold chosen from the data lies
        midway between two samples, out of the reach of rounding.
    """
    if rule == "proba":
        return 0.5
    if not isinstance(rule, (tuple, str)):
        return float(rule)
    if rule[0] == "budget":
        return _within_budget(probability, weight, rule[1])
    precision, recall, thresholds = precision_recall_curve(
        positive, probability, sample_weight=weight
    )
    precision, recall = precision[:-1], recall[:-1]  # the last point has no threshold
    if rule == "f1":
        best = np.argmax(2 * precision * recall / np.maximum(precision + recall, 1e-300))
    elif rule[0] == "precision":
        reached = np.flatnonzero(precision >= rule[1])
        best = reached[0] if len(reached) else np.argmax(precision)
    else:
        reached = np.flatnonzero(recall >= rule[1])
        best = reached[np.argmax(precision[reached])]
    below = thresholds[best - 1] if best > 0 else 0.0
    return float((below + thresholds[best]) / 2)


def _within_budget(probability, weight, share):
    """Return a threshold that at most a share of the weight is above."""
    values, number = np.unique(probability, return_inverse=True)
    weights = np.bincount(number, weight)[::-1]
    # The share is rounded, so that ten weights of 0.1 are one.
    fits = np.round(np.cumsum(weights) / weights.sum(), 12) <= share
    n_above = np.count_nonzero(fits)
    if n_above == len(values):
        return 0.0
    below = values[-n_above - 1]
    return float((below + (values[-n_above] if n_above else 1.0)) / 2)
