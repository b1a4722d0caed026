"""
Rules that a person can read
============================

:class:`~pnsklearn.SMaLLClassifier` on real data: at most two rules of at most three measurements
each, instead of one coefficient for each of thirty. :class:`~pnsklearn.displays.PrototypeDisplay`
is the picture of them.
"""

from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pnsklearn import SMaLLClassifier
from pnsklearn.displays import PrototypeDisplay

data = load_breast_cancer()
X, y, names = data.data, data.target_names[data.target], data.feature_names
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

# %%
# The estimator standardises by itself and gives the rules back in the original units, so it needs
# no scaler in front. Which class is the union of the rules was found by fitting both.

model = SMaLLClassifier(n_prototypes=2, n_nonzero=3, random_state=0).fit(X_train, y_train)
print(model.rules(names))

# %%
# What reading costs, in test errors:

dense = make_pipeline(StandardScaler(), LogisticRegression()).fit(X_train, y_train)
for name, classifier in {"rules": model, "logistic regression": dense}.items():
    wrong = (classifier.predict(X_test) != y_test).sum()
    print(f"{name:<20} {wrong} of {len(y_test)} wrong")
print(f"the rules take {model.n_bytes_} bytes")

# %%
# The table prints the coefficients in the original units, which do not compare: a symmetry of 0.02
# needs a large one to count. The colours do; they are coefficients times the standard deviation
# of their feature in the rows given.

# Picture: A table with a row for each rule and a column for each feature that a rule
#   reads. Its cells have the coefficients; colours show how much a standard deviation
#   changes the score.
PrototypeDisplay.from_estimator(model, X_train, feature_names=names)

# %%
# With two features, by name or index, the display shows where the rules fire in their plane. All
# other features are held at their medians, so a tumour that is unusual in those may lie on the
# wrong side of this line and be classified well.

features = model.support_[model.coverage_.argmax()][[0, -1]]
# Picture: The plane of two features, coloured by the probability of malignant, with the
#   line of the first rule between the benign and the malignant tumours.
display = PrototypeDisplay.from_estimator(model, X_train, feature_names=names, features=features)
for label, color in (("malignant", "darkred"), ("benign", "navy")):
    rows = X_test[y_test == label]
    display.ax_.scatter(*rows[:, features].T, color=color, s=12, alpha=0.7, label=label)
