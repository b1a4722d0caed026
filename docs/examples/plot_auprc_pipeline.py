"""
Average precision against the log-loss
======================================

:class:`~pnsklearn.AUPRCClassifier` in a pipeline, beside logistic regression: once on data where
the two losses disagree, and once on real data where there is little to disagree about.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import PrecisionRecallDisplay
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pnsklearn import AUPRCClassifier
from pnsklearn.datasets import make_rare_positives

# %%
# In the generated data one sample in 20 is positive. Along the first feature most positives lie
# above the negatives, and a fifth of them are mirrored to below. No linear model can rank both
# kinds first. The log-loss pays for each positive that it misses in proportion to how far, and
# tilts the model towards the mirrored ones; the smooth step is bounded, and gives them up.

generated = make_rare_positives(4000, class_sep=3.0, outliers=0.2, random_state=0)

# %%
# The real data are digits, of which the 8 are positive: one in ten.

pixels, digit = load_digits(return_X_y=True)
data_sets = {"generated": generated, "digits, 8 against the others": (pixels, digit == 8)}

# %%
# Both models are linear and see the same standardised features.

# Picture: Precision against recall of LogisticRegression and AUPRCClassifier, on
#   generated data and on digits. On the generated data AUPRCClassifier is higher up to
#   two thirds of the recall.
fig, axes = plt.subplots(1, 2, figsize=(10, 4.5), sharey=True, layout="constrained")
for ax, (title, (X, y)) in zip(axes, data_sets.items(), strict=True):
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.5, stratify=y, random_state=0
    )
    for model, color in ((LogisticRegression(), "0.6"), (AUPRCClassifier(random_state=0), "C0")):
        pipeline = make_pipeline(StandardScaler(), model).fit(X_train, y_train)
        name = type(model).__name__
        curve_kwargs = {"color": color, "linewidth": 2}
        PrecisionRecallDisplay.from_estimator(
            pipeline, X_test, y_test, name=name, curve_kwargs=curve_kwargs, ax=ax
        )
    ax.set(title=f"{title}\nalpha_ = {model.alpha_:g}", xlabel="recall", ylabel="precision")

# %%
# ``alpha_`` says how close to logistic regression the inner cross-validation chose to stay.
# Infinity is the ranking of logistic regression itself (with its ``C`` tuned): what the estimator
# falls back on where the other loss has nothing to give.
