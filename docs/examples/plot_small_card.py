"""
A rule card for a practice
==========================

For whom will diabetes get worse within a year? A practice wants an answer on paper: a few
measurements, in their units, with points to add up. :class:`~pnsklearn.SMaLLClassifier` makes such
a card from a frame with names, a category and gaps, says what the card costs in errors, and writes
it as SQL for the records that are there already.
"""

import sqlite3
from contextlib import closing

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_score

from pnsklearn import SMaLLClassifier
from pnsklearn.displays import PrototypeDisplay

# %%
# Records
# -------
#
# 442 patients with diabetes, ten measurements, and a measure of how far the disease had progressed
# a year later (Efron, Hastie, Johnstone and Tibshirani, *Least Angle Regression*, 2004). The third
# of the patients with the most progress is who the practice wants to see more often. Of one glucose
# value in ten we have lost the record.

NAMES = {
    "age": "age (years)",
    "bmi": "BMI (kg/m²)",
    "bp": "blood pressure (mmHg)",
    "s1": "cholesterol (mg/dl)",
    "s2": "LDL (mg/dl)",
    "s3": "HDL (mg/dl)",
    "s4": "cholesterol / HDL",
    "s5": "log triglycerides",
    "s6": "glucose (mg/dl)",
}
data = load_diabetes(as_frame=True, scaled=False)
X = data.data.rename(columns=NAMES)
X["sex"] = X["sex"].map({1: "F", 2: "M"})
lost = np.random.default_rng(0).random(len(X)) < 0.1
X.loc[lost, "glucose (mg/dl)"] = np.nan
y = np.where(data.target >= data.target.quantile(2 / 3), "worse", "stable")
print(X.head(4).T)

# %%
# A card
# ------
#
# With ``binarize="quantile"`` a rule is made of thresholds, and ``integer=True`` makes points of
# their weights. There may be six terms.

card = SMaLLClassifier(
    n_prototypes=1,
    n_nonzero=6,
    binarize="quantile",
    integer=True,
    pos_label="worse",
    random_state=0,
)
card.fit(X, y)
print(card.rules())

# %%
# Without thresholds and points, the terms are weights in the units of the measurements. The shape
# of the rules is then chosen too: one rule, or several joined by "or".

rules = SMaLLClassifier(n_terms=6, pos_label="worse", random_state=0).fit(X, y)
print(rules.rules())

# Picture: A table with a row for each rule and a column for each measurement that a rule reads.
PrototypeDisplay.from_estimator(rules, X)

# %%
# What paper costs
# ----------------
#
# Errors on patients that the models have not seen: of the card, of the rules, and of boosting,
# which nobody can read.

folds = StratifiedKFold(n_splits=5, shuffle=True, random_state=0)
X_coded = X.assign(sex=X["sex"] == "M")
models = {
    "always stable": None,
    "card": (card, X),
    "rules": (rules, X),
    "boosting": (HistGradientBoostingClassifier(random_state=0), X_coded),
}
for name, model in models.items():
    errors = (
        1 - cross_val_score(*model, y, cv=folds) if model else np.array([(y == "worse").mean()])
    )
    print(f"{name:15}{errors.mean():.1%} wrong")

# %%
# To the records
# --------------
#
# The card as an expression of the columns that are there, and its answers beside ``predict``.

sql = card.export_sql()
print(sql)
with closing(sqlite3.connect(":memory:")) as database:
    X.to_sql("patients", database, index=False)
    answers = [row[0] for row in database.execute(f"SELECT {sql} FROM patients ORDER BY rowid")]
print(f"the same for {np.mean(card.predict(X) == answers):.0%} of the patients")
