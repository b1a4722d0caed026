"""
A table as it comes, and a review budget
========================================

:class:`~pnsklearn.AUPRCStackingClassifier` combines trees, boosting and a smooth linear model for
average precision. It takes text, categories and missing values as they are, and its threshold can
be the share of cases that somebody has the time to look at.
"""

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split

from pnsklearn import AUPRCStackingClassifier
from pnsklearn.displays import StackingDisplay

# %%
# One invoice in 25 is wrong, and three things tell: the amount beside what is usual for the
# supplier, which is smooth; a country and a way of ordering that only together are suspicious; and
# an order that is missing, which counts towards the end of a month.

rng = np.random.default_rng(0)
n_invoices = 4000
amount, usual = np.exp(rng.normal(6, 1, (2, n_invoices)))
day = rng.integers(1, 31, n_invoices)
country = rng.choice(["AT", "CH", "DE", "FR", "NL", "PL"], n_invoices)
channel = rng.choice(["post", "mail", "portal"], n_invoices, p=[0.2, 0.5, 0.3])
order_age = np.where(rng.uniform(size=n_invoices) < 0.2, np.nan, rng.exponential(30, n_invoices))
risk = np.log(amount / usual) + 3.0 * ((country == "PL") & (channel == "mail"))
risk += 3.0 * (np.isnan(order_age) & (day > 20)) + 0.5 * rng.logistic(size=n_invoices)
y = np.where(risk >= np.quantile(risk, 0.96), "wrong", "fine")
X = pd.DataFrame(
    {
        "amount": amount,
        "usual amount": usual,
        "day": day,
        "country": pd.Categorical(country),
        "channel": channel,
        "age of the order": order_age,
    }
)
X.loc[rng.uniform(size=n_invoices) < 0.1, "channel"] = None
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
print(X_train.head())

# %%
# There is time to look at one invoice in 20. With ``threshold=("budget", 0.05)`` the model calls
# that many of the training rows wrong, by the log-odds of members that had not seen them. On new
# invoices the share is close to it.

model = AUPRCStackingClassifier(threshold=("budget", 0.05), random_state=0)
model.fit(X_train, y_train)
flagged, wrong = model.predict(X_test) == "wrong", y_test == "wrong"
print(f"looked at     {flagged.mean():.3f} of the test half")
print(f"found         {(flagged & wrong).sum()} of {wrong.sum()} wrong invoices")
print(f"by chance     {flagged.mean() * wrong.sum():.1f}")

# %%
# How the held-out rows were ranked: by each member, and by their weighted sum, with a band for the
# chance of the rows. The legend has the average precision on the splits and its standard error;
# that of the stack is measured with the weights of the other splits.

# Picture: Left, precision against recall of the four members and of the stack, with a
#   band around it; right, a bar for the weight of each member.
display = StackingDisplay.from_estimator(model, y_train)

# %%
# The same on the test half.

members = model.transform(X_test)
for name, log_odds in zip(model.named_estimators_, members.T, strict=True):
    print(f"{name:18}{average_precision_score(wrong, log_odds):.3f}")
print(f"{'stack':18}{average_precision_score(wrong, model.decision_function(X_test)):.3f}")
