"""
Positives and unlabeled rows, in a pipeline
============================================

Eighty malignant tumours are labeled, the others of both kinds are not. Measurements are missing
here and there, and range from thousandths to thousands. :class:`~pnsklearn.PUTrendClassifier` at
the end of a pipeline learns from that, and estimates how many of the unlabeled tumours are
malignant.
"""

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer

from pnsklearn import PUTrendClassifier
from pnsklearn.datasets import make_pu
from pnsklearn.displays import TrendDisplay
from pnsklearn.metrics import pu_f1_score

# %%
# The data. :func:`~pnsklearn.datasets.make_pu` hides all labels but 80, and keeps the truth aside.

data = load_breast_cancer()
X, malignant = data.data.copy(), data.target == 0
X[np.random.default_rng(0).random(X.shape) < 0.02] = np.nan
X_train, X_test, y_train, y_test = train_test_split(
    X, malignant, stratify=malignant, random_state=0
)
X_pu, s, y_true = make_pu(X_train, y_train, n_labeled=80, random_state=0)
spread = np.nanstd(X_pu, axis=0)
print(f"standard deviations of the measurements: {spread.min():.4f} to {spread.max():.0f}")
print(f"{s.sum()} labeled as malignant, {(s == 0).sum()} without a label")

# %%
# The classifier standardises by itself. What it cannot do is to impute, and a transformation of
# skewed measurements helps its linear model.


def pipeline(classifier):
    return make_pipeline(SimpleImputer(), PowerTransformer(), classifier)


model = pipeline(PUTrendClassifier(random_state=0)).fit(X_pu, s)
classifier = model[-1]
low, high = classifier.class_prior_interval_
print(f"malignant among the unlabeled: {classifier.class_prior_:.0%} ({low:.0%} to {high:.0%})")
print(f"in truth: {y_true[s == 0].mean():.0%}")

# %%
# On the tumours kept for the test, beside models that take the unlabeled for benign, and one that
# was told all the labels.

models = {
    "PUTrendClassifier": model,
    "logistic regression": pipeline(LogisticRegression()).fit(X_pu, s),
    "the same, balanced": pipeline(LogisticRegression(class_weight="balanced")).fit(X_pu, s),
    "trees": pipeline(ExtraTreesClassifier(random_state=0)).fit(X_pu, s),
    "trees, all labels": pipeline(ExtraTreesClassifier(random_state=0)).fit(X_train, y_train),
}
print(f"{'':22}accuracy    F1")
for name, fitted in models.items():
    predicted = fitted.predict(X_test)
    accuracy, f1 = accuracy_score(y_test, predicted), f1_score(y_test, predicted)
    print(f"{name:22}{accuracy:8.3f}{f1:8.3f}")

# %%
# What happened in the first stage. Left, the scores at each snapshot of training: tumours called
# positive must go with the labeled ones that were held out. Right, the scores by which the
# unlabeled are split.

# Picture: Scores of held-out positives and of unlabeled rows in training, which stay
#   level, and the histogram of their trend scores with the threshold between two heaps.
TrendDisplay.from_estimator(model)

# %%
# Without the true labels, F1 can still be estimated from labeled and unlabeled tumours that were
# not in the training, given the share of positives among the latter.

X_new, s_new, y_new = make_pu(X_test, y_test, n_labeled=25, random_state=1)
predicted = model.predict(X_new)
estimate = pu_f1_score(s_new, predicted, class_prior=y_new[s_new == 0].mean())
print(f"F1 estimated from {s_new.sum()} labels: {estimate:.3f}")
print(f"F1 by the true labels:     {f1_score(y_new, predicted):.3f}")
