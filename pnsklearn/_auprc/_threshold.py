"""Decision thresholds from training probabilities."""

from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve

from pnsklearn._typing import Array


def choose_threshold(rule: Any, positive: Array, probability: Array, weight: Array) -> float:
    """Return the probability above which a sample is called positive.

    Parameters
    ----------
    rule : "proba", "f1", ("precision", p), ("recall", r) or float
        One half; the best F1; the largest recall at precision >= p (the highest precision where
        none reaches p); the highest precision at recall >= r; the number itself. A threshold
        chosen from the data lies midway between two samples, out of the reach of rounding.
    """
    if rule == "proba":
        return 0.5
    if not isinstance(rule, (tuple, str)):
        return float(rule)
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
