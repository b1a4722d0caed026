"""
From the surrogate to average precision
=======================================

What :class:`~pnsklearn.AUPRCClassifier` maximises is average precision with the comparison "j is
ranked at or above i" replaced by a smooth function of the difference of their scores. Here we watch
both losses as the margin shrinks.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from pnsklearn.datasets import make_rare_positives
from pnsklearn.metrics import average_precision_surrogate

# %%
# The scores of a logistic regression on data with 5 % positives.

X, y = make_rare_positives(2000, class_sep=2.0, random_state=0)
scores = LogisticRegression().fit(X, y).decision_function(X)
exact = average_precision_score(y, scores)

# %%
# The smooth step, with half width ``margin`` in standard deviations of the scores, tends to
# average precision. The squared hinge does not: however small the margin, a sample that is ahead
# counts with the square of its lead, so that a few that are far ahead outweigh many that are a
# little ahead.

margins = np.geomspace(1e-3, 3, 30)
for loss in ("smooth", "squared_hinge"):
    values = [average_precision_surrogate(y, scores, loss=loss, margin=m) for m in margins]
    plt.semilogx(margins, values, label=f'loss="{loss}"')
plt.axhline(exact, color="0.4", linestyle="--", label="average_precision_score")
plt.xlabel("margin, in standard deviations of the scores")
plt.ylabel("(smooth) average precision")
plt.legend()
plt.tight_layout()

# %%
# A wide step is easier to optimise, as more pairs have a gradient; a narrow one is closer to the
# goal. The default of 0.5 lies between.

for margin in (0.5, 0.1, 0.01):
    value = average_precision_surrogate(y, scores, margin=margin)
    print(f"margin {margin:<5} surrogate {value:.4f}, average precision {exact:.4f}")
