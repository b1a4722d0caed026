"""
Choosing the threshold
======================

A ranking becomes decisions through a threshold. With rare positives one half is seldom the right
one; ``threshold=("recall", 0.9)`` asks for at least 90 % of the (training) positives instead, and
:class:`~pnsklearn.displays.ThresholdDisplay` shows what that costs.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.metrics import precision_score, recall_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pnsklearn import AUPRCClassifier
from pnsklearn.displays import ThresholdDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y == 8, test_size=0.5, stratify=y, random_state=0
)

# %%
# The threshold lies midway between two of the training probabilities. To keep the example fast,
# ``alpha`` is given and not cross-validated.

model = make_pipeline(StandardScaler(), AUPRCClassifier(alpha=0.1, threshold=("recall", 0.9)))
model.fit(X_train, y_train)
predicted = model.predict(X_test)
print(f"threshold {model[-1].threshold_:.3f}")
print(f"recall    {recall_score(y_test, predicted):.3f} on the test half")
print(f"precision {precision_score(y_test, predicted):.3f} on the test half")

# %%
# Recall on new data may fall short of the level that was asked for: the threshold knows the
# training data only. For a threshold from held-out data, use
# :class:`sklearn.model_selection.TunedThresholdClassifierCV` around the pipeline.

# Picture: Precision, recall and F1 against the threshold, in training and in test. The
#   threshold in use is left of where the curves cross; recall there is lower in test.
fig, axes = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True)
ThresholdDisplay.from_estimator(model, X_train, y_train, ax=axes[0])
ThresholdDisplay.from_estimator(model, X_test, y_test, ax=axes[1])
axes[0].set_title("training half")
axes[1].set_title("test half")
fig.tight_layout()
