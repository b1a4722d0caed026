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
# Left, what each loss makes of a difference: j counts in full where it is ahead of i by more than
# the margin, and not at all where it is behind by more. The squared hinge goes on to grow.
#
# Right, the average precision that they give. The smooth step, with half width ``margin`` in
# standard deviations of the scores, tends to the exact one. The squared hinge does not: however
# small the margin, a sample that is ahead counts with the square of its lead, so that a few that
# are far ahead outweigh many that are a little ahead.

# Picture: Left, the loss of a pair against the difference of its scores: a step, two
#   smooth steps and a squared hinge. Right, the surrogate against the margin: the
#   smooth one meets average precision at small margins.
fig, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
difference = np.linspace(-2, 2, 401)
axes[0].step(difference, difference <= 0, color="0.4", linestyle="--", label="j at or above i")
for t, width in ((1, 1), (0.5, 2)):
    smooth = (
        np.maximum(t - difference, 0) ** 2
        - 2 * np.maximum(-difference, 0) ** 2
        + np.maximum(-t - difference, 0) ** 2
    ) / (2 * t**2)
    label = f'loss="smooth", margin {t}'
    axes[0].plot(difference, smooth, color="C0", linewidth=width, label=label)
hinge = np.maximum(1 - difference, 0) ** 2
axes[0].plot(difference, hinge, color="C1", label='loss="squared_hinge", margin 1')
axes[0].set(ylim=(-0.1, 2.5), xlabel="score of i less that of j", ylabel="loss")
axes[0].legend(loc="center right")

margins = np.geomspace(1e-3, 3, 30)
for loss in ("smooth", "squared_hinge"):
    values = [average_precision_surrogate(y, scores, loss=loss, margin=m) for m in margins]
    axes[1].semilogx(margins, values, label=f'loss="{loss}"')
axes[1].axhline(exact, color="0.4", linestyle="--", label="average_precision_score")
axes[1].set(xlabel="margin, in standard deviations of the scores", ylabel="average precision")
axes[1].legend()

# %%
# A wide step is easier to optimise, as more pairs have a gradient; a narrow one is closer to the
# goal. The default of 0.5 lies between.

for margin in (0.5, 0.1, 0.01):
    value = average_precision_surrogate(y, scores, margin=margin)
    print(f"margin {margin:<5} surrogate {value:.4f}, average precision {exact:.4f}")
