"""
When the labels are not a fair sample, and when positives are rare
==================================================================

:class:`~pnsklearn.PUTrendClassifier` takes the labeled positives for a random sample of all
positives. Here they are not: easy ones are labeled first, or hard ones. What becomes of the class
prior, of the accuracy, and which split of the scores is the more robust? And what of a problem with
one positive in a hundred rows?
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import train_test_split

from pnsklearn import PUTrendClassifier
from pnsklearn.datasets import make_pu
from pnsklearn.displays import SensitivityDisplay
from pnsklearn.exceptions import PUWarning

# %%
# Biased labels
# -------------
#
# Even digits are positive, a third of them labeled. ``bias`` is how strongly their easiness counts
# in who gets a label: 0 is at random, a greater one prefers digits that a classifier on the true
# labels is sure of, a negative one those it doubts.
#
# Two splits of the scores: at the estimated share ("prior", the default), which compares the
# unlabeled digits with the labeled ones that were held out; and at their natural break, which
# does not. (The first stage is linear here, to save time.)

X, digit = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, digit % 2 == 0, stratify=digit, random_state=0)

BIASES, SPLITS = (-2, -1, 0, 1, 2), ("prior", "natural")
results = {split: [] for split in SPLITS}
print("bias  split    share of positives: true, called  ranking AUC   accuracy   warnings")
for bias in BIASES:
    X_pu, s, y_true = make_pu(X, y, label_frequency=0.3, bias=bias, random_state=0)
    hidden = y_true[s == 0]
    for split in SPLITS:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", PUWarning)
            model = PUTrendClassifier("linear", split=split, random_state=0).fit(X_pu, s)
        auc = roc_auc_score(hidden, model.trend_scores_)
        accuracy = np.mean(model.predict(X_test) == y_test)
        called = np.mean(model.transduction_)
        results[split].append((called, accuracy))
        print(
            f"{bias:4}  {split:8}{hidden.mean():22.2f}{called:8.2f}{auc:13.2f}"
            f"{accuracy:11.2f}{len(caught):11}"
        )

# Picture: The share that is called positive and the test accuracy, against the bias of
#   the labels, for three settings of the prior. Without bias all three are near the
#   truth; with a bias they fall, on one side almost to nothing.
fig, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
for split, values in results.items():
    for ax, column in zip(axes, np.transpose(values), strict=True):
        ax.plot(BIASES, column, marker="o", label=split)
axes[0].axhline(hidden.mean(), color="0.5", linestyle=":", label="truth")
axes[0].set(xlabel="Bias", ylabel="Share called positive of the unlabeled")
axes[1].set(xlabel="Bias", ylabel="Test accuracy")
for ax in axes:
    ax.set_xticks(BIASES)
    ax.legend()

# %%
# At random, all are right. With easy digits labeled the prior is far too small, since no
# unlabeled digit looks as positive as they do. The ranking stays good, so the natural break still
# finds most positives: it is the better choice where such a bias is likely. The harder the labeled
# digits, the worse the ranking itself, and no split repairs that.
#
# Look at the last column: bias may bring no warning at all. The data look as if fewer rows were
# positive. That the splits disagree is a hint, and comparing them costs one more fit.
#
# What if?
# --------
#
# One line says what would follow from a bias of each strength: the labeled positives are weighted
# by what would make them a fair sample again, and a classifier is trained. Here the labels were
# drawn with a strength of 1. The data cannot tell, but who knows how labels arose may.

X_pu, s, y_true = make_pu(X, y, label_frequency=0.3, bias=1, random_state=0)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", PUWarning)
    model = PUTrendClassifier("linear", random_state=0).fit(X_pu, s)
display = SensitivityDisplay.from_estimator(model, X_pu, s)
display.ax_[0].axhline(y_true[s == 0].mean(), color="0.5", linestyle="--")
# Picture: The estimated share of positives against the assumed strength of the bias: almost
#   zero without one, and close to the truth, a dashed line, at a strength of 1. Beside it
#   the share of predictions that change, which grows with the strength.
plt.show()

# %%
# One positive in a hundred
# -------------------------
#
# Without bias, the splits change places: the natural break prefers groups of similar size and
# cannot find a small one. The prior can. "variance" minimises the sum of both groups' variances
# instead of their squares, which allows for a small group.

rng = np.random.default_rng(0)
N_ROWS, N_FEATURES = 4000, 10
y = rng.random(N_ROWS) < 0.02
X = rng.normal(size=(N_ROWS, N_FEATURES))
X[y, :4] += 1.75
X_pu, s, y_true = make_pu(X, y, n_labeled=40, random_state=0)
print(f"{s.sum()} labeled; positives among the unlabeled: {y_true[s == 0].mean():.2%}")

print("split      called   called by predict     F1")
for split in (*SPLITS, "variance"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PUWarning)  # it doubts, with so few
        model = PUTrendClassifier(split=split, random_state=0).fit(X_pu, s)
    predicted = model.predict(X_pu)
    print(
        f"{split:10}{np.mean(model.transduction_):7.2%}{np.sum(predicted[s == 0]):21}"
        f"{f1_score(y_true[s == 0], predicted[s == 0]):7.2f}"
    )
