"""
An "or" that no single rule can say
===================================

Something is wrong if the temperature is too high, *or* the pressure, *or* if both are too low. One
linear rule has to cut the safe region somewhere; three rules are its three sides.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split

from pnsklearn import SMaLLClassifier
from pnsklearn.displays import PrototypeDisplay

rng = np.random.default_rng(0)
X = np.column_stack([rng.normal(60, 20, 1200), rng.normal(3, 1, 1200)])
temperature, pressure = X.T
alarm = (temperature > 75) | (pressure > 3.8) | (temperature / 20 + pressure < 4)
y = np.where(alarm ^ (rng.random(1200) < 0.03), "alarm", "normal")  # 3 % are wrong
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

# %%
# The same budget per rule, two features, for one rule and for at most three:

names = ["temperature", "pressure"]
# Picture: Temperature and pressure. One line cuts the points badly; three lines enclose
#   the region without an alarm.
fig, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
for ax, n_prototypes in zip(axes, (1, 3), strict=True):
    model = SMaLLClassifier(n_prototypes, 2, positive_class="alarm", random_state=0)
    model.fit(X_train, y_train)
    PrototypeDisplay.from_estimator(
        model, X, feature_names=names, features=names, colorbar=n_prototypes == 3, ax=ax
    )
    for label, color in (("alarm", "darkred"), ("normal", "navy")):
        ax.scatter(*X_test[y_test == label].T, color=color, s=8, alpha=0.6)
    error = 1 - model.score(X_test, y_test)
    ax.set_title(f"n_prototypes={n_prototypes}: {error:.1%} test error")

# %%
# The three rules, as text; 3 % of the labels cannot be right.

print(model.rules(names))

# %%
# More rules are no remedy for everything. Where one line is the truth, further ones find nothing
# to do, or fit noise:

scores = X @ [0.1, 2.0] - 12 + rng.logistic(size=len(X))
X_train, X_test, y_train, y_test = train_test_split(X, scores > 0, random_state=0)
for n_prototypes in (1, 3):
    model = SMaLLClassifier(n_prototypes, 2, random_state=0).fit(X_train, y_train)
    error = 1 - model.score(X_test, y_test)
    print(
        f"n_prototypes={n_prototypes}: {error:.1%} test error, {model.n_prototypes_} rule(s) left"
    )
