"""The choice of the anchor and its strength."""

import numpy as np
from sklearn.model_selection import StratifiedKFold

from pnsklearn._auprc._selection import select
from pnsklearn.datasets import make_rare_positives


def test_selection_does_not_depend_on_the_unit_of_the_scores():
    """Tiny scores rank as any others when the anchor and its strength are chosen."""
    X, y = make_rare_positives(400, 3, prior=0.2, random_state=0)
    positive, weight = y == 1, np.ones(400)
    splits = list(StratifiedKFold(3).split(X, y))
    good, bad = np.array([1.0, 0.5, 0.0]), np.array([0.0, 0.0, 1.0])

    def choose(unit):
        return select(
            positive,
            weight,
            splits,
            [1.0],
            anchors=lambda train: [unit * bad, unit * good],
            solve=lambda train, anchor, alpha, start: anchor,
            scores=lambda theta, test: X[test] @ theta,
        )

    assert choose(1.0) == choose(1e-20) == (1, 1.0)
