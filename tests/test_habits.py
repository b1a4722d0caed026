"""What people type, from habit, and what they get: one table for all estimators.

A row works, or ends in an error that names the remedy. Where an estimator differs, its own entry
stands in the row.
"""

import re

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import pnsklearn
from pnsklearn import (
    AUPRCClassifier,
    AUPRCStackingClassifier,
    PUTrendClassifier,
    SMaLLClassifier,
    TOPRPolicy,
)

pd = pytest.importorskip("pandas")

rng = np.random.default_rng(0)
N = 60
Y = np.arange(N) % 2
X = rng.normal(size=(N, 4)) + Y[:, None]
FRAME = pd.DataFrame(X, columns=list("abcd"))
LOG = {"reward": np.where(rng.random(N) < 0.5, 1.0, -1.0), "propensity": 0.5}
MEMBERS = [("linear", LogisticRegression()), ("ranker", AUPRCClassifier(alpha=1.0))]
PU = {"final_estimator": "same", "n_snapshots": 2, "n_folds": 2, "random_state": 0}

ESTIMATORS = {
    "AUPRCClassifier": lambda **how: AUPRCClassifier(alpha=1.0, **how),
    "AUPRCStackingClassifier": lambda **how: AUPRCStackingClassifier(MEMBERS, cv=2, **how),
    "PUTrendClassifier": lambda **how: PUTrendClassifier("linear", **PU, **how),
    "SMaLLClassifier": lambda **how: SMaLLClassifier(1, 2, random_state=0, **how),
    "TOPRPolicy": lambda **how: TOPRPolicy(bounds="topr", **how),
}
WITH_SPLITTER = "AUPRCClassifier", "AUPRCStackingClassifier", "SMaLLClassifier", "TOPRPolicy"


def fit(X=X, y=Y, how=None, **fit_params):
    """Return a habit: make the estimator, and fit it to these."""

    def habit(make, log):
        return make(**(how or {})).fit(X, y, **log, **fit_params)

    return habit


def behind_a_scaler(method):
    """Return a habit: call a method of the pipeline's last step."""

    def habit(make, log):
        model = make_pipeline(StandardScaler(), make())
        name = model.steps[-1][0]
        model.fit(X, Y, **{f"{name}__{key}": value for key, value in log.items()})
        return method(model)

    return habit


def with_value(values, value):
    values = np.array(values, dtype=object if value is None else float)
    values[3] = value
    return values


WORKS = None
TOWN = FRAME.assign(town=np.where(Y == 1, "here", "there"))
# What is typed -> what comes of it: WORKS, or a part of the error's words; "..." is the name of
# the class. A dict has them by estimator, and says nothing of those that are not in it.
HABITS = {
    "lists": (fit(X.tolist(), Y.tolist()), WORKS),
    "a column as y": (fit(y=pd.DataFrame({"label": Y})), WORKS),
    "n_jobs": (fit(how={"n_jobs": 1}), WORKS),
    "sample_weight": (fit(sample_weight=np.ones(N)), WORKS),
    "verbose": (
        fit(how={"verbose": 1}),
        "... has no parameter verbose. Progress is a callback: set_callbacks(",
    ),
    "fit(verbose=)": (
        fit(verbose=1),
        dict.fromkeys(WITH_SPLITTER, "fit() takes no verbose. Progress is a callback"),
    ),
    "class_weight": (
        fit(how={"class_weight": "balanced"}),
        {
            "AUPRCClassifier": WORKS,
            "SMaLLClassifier": WORKS,
            **dict.fromkeys(
                ("AUPRCStackingClassifier", "PUTrendClassifier", "TOPRPolicy"),
                "no parameter class_weight. Weigh the rows instead",
            ),
        },
    ),
    "groups": (
        fit(groups=np.arange(N) // 4),
        dict.fromkeys(WITH_SPLITTER, "pass a splitter that does, cv=StratifiedGroupKFold"),
    ),
    "NaN": (
        fit(with_value(X.ravel(), np.nan).reshape(X.shape)),
        {
            **dict.fromkeys(
                ESTIMATORS, "Impute in front of ..., make_pipeline(SimpleImputer(), ...())"
            ),
            "AUPRCStackingClassifier": "LogisticRegression does not accept missing values",
            "SMaLLClassifier": WORKS,
        },
    ),
    "a text column": (
        fit(TOWN),
        {
            **dict.fromkeys(
                ESTIMATORS, "not numbers: ['town']. Encode them in front of ...: make_"
            ),
            "SMaLLClassifier": WORKS,
            "AUPRCStackingClassifier": "Member 'linear' cannot be fitted",
        },
    ),
    "a categorical column": (
        fit(TOWN.assign(town=TOWN["town"].astype("category"))),
        {
            **dict.fromkeys(
                ESTIMATORS, "not numbers: ['town']. Encode them in front of ...: make_"
            ),
            "SMaLLClassifier": WORKS,
            "AUPRCStackingClassifier": "Member 'linear' cannot be fitted",
        },
    ),
    "a name twice": (fit(TOWN.set_axis(list("abcdd"), axis=1)), "Expected unique column names"),
    "a column of dates": (
        fit(FRAME.assign(day=pd.Timestamp("2020-01-01"))),
        {
            **dict.fromkeys(
                ESTIMATORS, "dates or times: ['day']. Make numbers of them, X['day'].dt"
            ),
            "SMaLLClassifier": "turn it into numbers (its age in days, its hour, its weekday)",
            "AUPRCStackingClassifier": "Member 'linear' cannot be fitted",
        },
    ),
    "texts": (
        fit(["some words", "other words"] * (N // 2)),
        {
            **dict.fromkeys(ESTIMATORS, "X has text; encode it in front of ...: OneHotEncoder"),
            "AUPRCStackingClassifier": "Member 'linear' cannot be fitted",
        },
    ),
    "a boolean column": (fit(FRAME.assign(yes=Y == 1)), WORKS),
    "three classes": (
        fit(y=np.arange(N) % 3),
        {
            **dict.fromkeys(ESTIMATORS, "multiclass. Wrap the estimator in OneVsRestClassifier"),
            "PUTrendClassifier": "multiclass. Fit one estimator for each class",
            "TOPRPolicy": WORKS,
        },
    ),
    "one class": (fit(y=np.ones(N, int)), "y has only one class"),
    "numbers as classes": (fit(y=X[:, 0]), "Unknown label type: continuous"),
    "a missing label": (
        fit(y=with_value(Y, np.nan)),
        {
            **dict.fromkeys(ESTIMATORS, "Input y contains NaN"),
            "PUTrendClassifier": "Beside missing labels there must be one label",
        },
    ),
    "None as label": (
        fit(y=with_value(Y, None)),
        {
            **dict.fromkeys(ESTIMATORS, "1 of 60 labels are None, the first in row 3; drop"),
            "PUTrendClassifier": "Beside missing labels there must be one label",
        },
    ),
    "the name of y": (
        fit(FRAME.assign(y=Y), "y"),
        {
            name: "y is the name 'y'; pass the column itself, X['y']"
            for name in ESTIMATORS
            if name != "TOPRPolicy"
        },
    ),
    "one-hot labels": (fit(y=np.eye(2)[Y]), "y should be a 1d array"),
    "one feature as 1-D": (fit(X[:, 0]), "Reshape your data"),
    "an empty frame": (
        fit(FRAME[:0], Y[:0]),
        {name: "0 sample(s)" for name in ESTIMATORS if name != "TOPRPolicy"},
    ),
    "no columns": (fit(FRAME[[]]), "0 feature(s)"),
    "a row too few": (fit(X[:-1]), "inconsistent numbers of samples"),
    "a method of a step": (
        behind_a_scaler(lambda model: model[-1].rules()),
        {"SMaLLClassifier": WORKS},
    ),
    "a display of a pipeline": (
        behind_a_scaler(lambda model: pnsklearn.displays.TrendDisplay.from_estimator(model)),
        {
            **dict.fromkeys(ESTIMATORS, "estimator must be a PUTrendClassifier, got a ..."),
            "PUTrendClassifier": WORKS,
        },
    ),
}
CASES = [
    pytest.param(habit, outcome, name, id=f"{words}-{name}")
    for words, (habit, outcomes) in HABITS.items()
    for name, outcome in (
        outcomes if isinstance(outcomes, dict) else dict.fromkeys(ESTIMATORS, outcomes)
    ).items()
]


@pytest.mark.filterwarnings("ignore::pnsklearn.exceptions.PUWarning")  # the data are small
@pytest.mark.filterwarnings("ignore::pnsklearn.exceptions.PolicyWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")  # as everywhere
@pytest.mark.parametrize("habit, outcome, name", CASES)
def test_habit(habit, outcome, name):
    log = LOG if name == "TOPRPolicy" else {}
    if outcome is WORKS:
        assert habit(ESTIMATORS[name], log) is not None
        return
    with pytest.raises((ValueError, TypeError), match=re.escape(outcome.replace("...", name))):
        habit(ESTIMATORS[name], log)
