"""The tour: four problems on real data, each from the data to a decision.

``python -m pnsklearn`` prints a table for each, with scikit-learn's own estimators beside ours, and
what follows from it. Where matplotlib is installed it saves a figure each in the working directory,
and where rich is, a bar says how far it is.
"""

import contextlib
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.validation import has_fit_parameter
from threadpoolctl import threadpool_limits

from pnsklearn import (
    AUPRCStackingClassifier,
    PUTrendClassifier,
    SMaLLClassifier,
    TOPRPolicy,
    displays,
)
from pnsklearn.datasets import make_logged_bandit, make_pu

N_SPLITS = 3
N_RARE = 40
N_LABELED = 50
BUDGET = 0.1  # share of the rows that are looked at


# Data, and how they are shown to a model


def _rare_breast_cancer():
    """Return breast cancer with the benign tumours and a few of the malignant, positive ones."""
    X, y = load_breast_cancer(return_X_y=True)
    malignant, benign = np.flatnonzero(y == 0), np.flatnonzero(y == 1)
    rows = np.sort(np.r_[np.random.default_rng(0).permutation(malignant)[:N_RARE], benign])
    return X[rows], y[rows] == 0


def _digit_eight():
    """Return handwritten digits, where the positives are the eights."""
    X, y = load_digits(return_X_y=True)
    return X, y == 8


def _even_digits():
    """Return handwritten digits, where the positives are the even ones."""
    X, y = load_digits(return_X_y=True)
    return X, y % 2 == 0


def _halves(X, y):
    return train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)


class _LabelsHidden(ClassifierMixin, BaseEstimator):
    """A model that is shown the labels of a few positives only, and is tested on all labels."""

    def __init__(self, model):
        self.model = model

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        X, s, _ = make_pu(X, y, n_labeled=N_LABELED, random_state=0)
        self.model_ = clone(self.model).fit(X, s)
        return self

    def predict(self, X):
        return self.classes_[self.model_.predict(X)]


class _Logged(ClassifierMixin, BaseEstimator):
    """A model that is shown a log of guesses and their rewards, and is tested on all labels."""

    def __init__(self, model):
        self.model = model

    def fit(self, X, y):
        log = make_logged_bandit(X, y, logging="good", random_state=0)
        feedback = {}
        if has_fit_parameter(self.model, "reward"):
            feedback = {"reward": log.reward, "propensity": log.propensity}
        self.model_ = clone(self.model).fit(log.X, log.action, **feedback)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X):
        return self.model_.predict(X)


# Stories


@dataclass
class Story:
    """A problem: what is compared on what, and the decision at its end."""

    title: str
    about: str
    models: dict[str, Any]
    data: dict[str, Callable[[], tuple]]
    scoring: tuple[str, ...]
    decide: Callable[[], None]
    n_fits: int = field(init=False)

    def __post_init__(self) -> None:
        self.n_fits = N_SPLITS * len(self.models) * len(self.data)


def _scaled(model):
    return make_pipeline(StandardScaler(), model)


def rare_positives() -> Story:
    """Tell of AUPRCStackingClassifier, where few rows matter and someone looks at the top ones."""
    logistic, boosting = LogisticRegression(max_iter=1000), HistGradientBoostingClassifier
    return Story(
        "Rare positives: AUPRCStackingClassifier",
        "Average precision on the held-out half.",
        {
            "AUPRCStackingClassifier": AUPRCStackingClassifier(random_state=0),
            "HistGradientBoostingClassifier": boosting(random_state=0),
            "RandomForestClassifier": RandomForestClassifier(random_state=0),
            "LogisticRegression": _scaled(logistic),
        },
        {
            "digits, 8 against the rest": _digit_eight,
            "breast cancer, malignant made rare": _rare_breast_cancer,
        },
        ("average_precision",),
        _decide_whom_to_review,
    )


def _decide_whom_to_review():
    X_train, X_test, y_train, y_test = _halves(*_digit_eight())
    stack = AUPRCStackingClassifier(random_state=0).fit(X_train, y_train)
    n = round(BUDGET * len(y_test))
    top = np.argsort(-stack.decision_function(X_test))[:n]
    members = ", ".join(
        f"{name} {mean:.3f}" for name, (mean, _) in stack.oof_average_precision_.items()
    )
    _say(
        f"Held out inside the fit on the digits: {members}. Which member is the best is not known "
        "before. Where a line is, as for the tumours, take logistic regression."
    )
    _say(
        f"Decision: of {len(y_test)} images there is time to look at {n}. Among the first {n} of "
        f"the stack are {y_test[top].sum()} of the {y_test.sum()} eights."
    )
    _save("rare", lambda: displays.StackingDisplay.from_estimator(stack, y_train).figure_)


def rules_to_read() -> Story:
    """Tell of SMaLLClassifier, where somebody must read the model."""
    nine = make_pipeline(VarianceThreshold(), SelectKBest(k=9), LogisticRegression(max_iter=1000))
    cancer = load_breast_cancer()
    return Story(
        "A model to read: SMaLLClassifier",
        "Accuracy on the held-out half, with nine terms or less.",
        {
            "SMaLLClassifier": SMaLLClassifier(random_state=0),
            "LogisticRegression, 9 best features": _scaled(nine),
            "DecisionTreeClassifier, 5 leaves": DecisionTreeClassifier(
                max_leaf_nodes=5, random_state=0
            ),
            "LogisticRegression, all 30 features": _scaled(LogisticRegression(max_iter=1000)),
        },
        {"breast cancer, malignant": lambda: (cancer.data, cancer.target == 0)},
        ("accuracy",),
        _decide_what_to_print,
    )


def _decide_what_to_print():
    cancer = load_breast_cancer()
    model = SMaLLClassifier(n_terms=4, random_state=0)
    model.fit(cancer.data, cancer.target_names[cancer.target])
    print("With four terms, on all rows:\n")
    for line in model.rules(cancer.feature_names).splitlines():
        print(textwrap.fill(line, 100, subsequent_indent="    "))
    print()
    _say(
        f"Decision: that fits on a card, and is all of the model, {model.n_bytes_} bytes; "
        "export_c() and export_sql() write it as code. If nobody has to read it, take the one of "
        "all features."
    )
    _save(
        "rules",
        lambda: (
            displays.PrototypeDisplay.from_estimator(
                model, cancer.data, feature_names=cancer.feature_names
            ).figure_
        ),
    )


def no_negatives() -> Story:
    """Tell of PUTrendClassifier, where some positives are known and nothing else."""
    cancer, logistic = load_breast_cancer(), LogisticRegression(max_iter=1000)
    balanced = clone(logistic).set_params(class_weight="balanced")
    return Story(
        "No negatives: PUTrendClassifier",
        f"In training only {N_LABELED} positives keep their label, and to the others a row without "
        "one is negative. Only 'all labels' sees them all. Scores on the held-out half.",
        {
            "PUTrendClassifier": _LabelsHidden(PUTrendClassifier(random_state=0)),
            "LogisticRegression": _scaled(_LabelsHidden(logistic)),
            "LogisticRegression, balanced": _scaled(_LabelsHidden(balanced)),
            "LogisticRegression, all labels": _scaled(logistic),
        },
        {
            "breast cancer, malignant": lambda: (cancer.data, cancer.target == 0),
            "digits, even against odd": _even_digits,
        },
        ("accuracy", "f1"),
        _decide_whether_to_trust,
    )


def _decide_whether_to_trust():
    cancer = load_breast_cancer()
    X, s, y_true = make_pu(cancer.data, cancer.target == 0, n_labeled=N_LABELED, random_state=0)
    model = PUTrendClassifier(random_state=0).fit(X, s)
    low, high = model.class_prior_interval_
    verdict = "use it" if model.doubt_ < 0.1 else "label some rows by hand first"
    _say(
        f"All breast cancer data, {N_LABELED} labels: {model.class_prior_:.0%} of the other rows "
        f"are positive, it says ({low:.0%} to {high:.0%}); in truth it is "
        f"{y_true[s == 0].mean():.0%}."
    )
    _say(
        "Decision: the probability that calling all rows the same would be as good is "
        f"{model.doubt_:.0%}: {verdict}."
    )
    _save("no_negatives", lambda: displays.TrendDisplay.from_estimator(model).figure_)


def logged_decisions() -> Story:
    """Tell of TOPRPolicy, which learns from a log, and says what it would have been worth."""
    logistic = LogisticRegression(max_iter=1000)
    return Story(
        "Logged decisions: TOPRPolicy",
        "In training another policy guesses the class, three in ten at random, and it is logged "
        "whether it was right. Only 'all labels' sees what would have been. Share right on the "
        "held-out half.",
        {
            "TOPRPolicy": _scaled(_Logged(TOPRPolicy())),
            "TOPRPolicy, right guesses only": _scaled(_Logged(TOPRPolicy(bounds="positives"))),
            "LogisticRegression of the guesses": _scaled(_Logged(logistic)),
            "LogisticRegression, all labels": _scaled(logistic),
        },
        {
            "digits": lambda: load_digits(return_X_y=True),
            "wine": lambda: load_wine(return_X_y=True),
        },
        ("accuracy",),
        _decide_whether_to_change,
    )


def _decide_whether_to_change():
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = _halves(StandardScaler().fit_transform(X), y)
    policy = _Logged(TOPRPolicy()).fit(X_train, y_train).model_
    log = make_logged_bandit(X_test, y_test, logging="good", random_state=1)
    feedback = {"reward": log.reward, "propensity": log.propensity}
    found = policy.evaluate(log.X, log.action, **feedback)
    better = "yes, change" if found.gain.low > 0 else "cannot tell; log more"
    _say(
        "By a log of the held-out digits (right is 1, wrong -1) the policy is worth "
        f"{found.dr.value:.2f} ({found.dr.low:.2f} to {found.dr.high:.2f}) where what is done "
        f"today is worth {found.logged.value:.2f}."
    )
    _say(
        f"Decision: it gains {found.gain.value:.2f} ({found.gain.low:.2f} to "
        f"{found.gain.high:.2f}), so is it better? {better}."
    )
    _save(
        "logged",
        lambda: (
            displays.PolicyValueDisplay.from_estimator(
                policy, log.X, log.action, **feedback
            ).figure_
        ),
    )


# How they are told


def _say(text):
    print(textwrap.fill(text, 100))


def _save(name, draw):
    """Save the figure that `draw` returns, where matplotlib is installed."""
    if find_spec("matplotlib"):
        import matplotlib

        matplotlib.use("Agg")
        path = f"pnsklearn_tour_{name}.png"
        draw().savefig(path, dpi=120, bbox_inches="tight")
        print(f"Figure: {path}")


@contextlib.contextmanager
def _bar(n_fits: int) -> Iterator[Callable[[str], None]]:
    """Show a bar below what is printed, where rich is installed; give what moves it by a fit."""
    if not find_spec("rich"):
        yield lambda what: None
        return
    from rich.progress import Progress

    with Progress() as progress:
        task = progress.add_task("", total=n_fits)
        yield lambda what: progress.update(task, advance=1, description=what)


def _compare(story: Story, X: Any, y: Any, advance: Callable[[str], None]) -> dict[str, list]:
    """Return for each model the scores on the same splits, and the seconds of its fits."""
    splits = StratifiedShuffleSplit(N_SPLITS, test_size=0.5, random_state=0)
    found: dict[str, list] = {name: [] for name in story.models}
    for train, test in splits.split(X, y):
        for name, model in story.models.items():
            start = time.perf_counter()
            fitted = clone(model).fit(X[train], y[train])
            seconds = time.perf_counter() - start
            scores = [get_scorer(score)(fitted, X[test], y[test]) for score in story.scoring]
            found[name].append([*scores, seconds])
            advance(story.title.split(": ")[1])
    return found


def tell(story: Story, advance: Callable[[str], None]) -> None:
    """Print a story: a table for each data set, and the decision."""
    print(f"\n{story.title}\n{'-' * len(story.title)}")
    _say(f"{story.about} Mean ± sd of {N_SPLITS} splits.")
    print()
    for title, data in story.data.items():
        X, y = data()
        about = f"{y.sum()} positives" if y.dtype == bool else f"{len(np.unique(y))} classes"
        columns = "".join(f"{name.replace('_', ' '):>20}" for name in story.scoring)
        print(f"{title}: {about}, {len(y)} rows\n{'':42}{columns}{'seconds':>10}")
        for name, runs in _compare(story, X, y, advance).items():
            mean, sd = np.mean(runs, axis=0), np.std(runs, axis=0)
            scores = "".join(
                f"{f'{m:.3f} ± {s:.3f}':>20}" for m, s in zip(mean[:-1], sd[:-1], strict=True)
            )
            print(f"  {name:40}{scores}{mean[-1]:10.2f}")
        print()
    story.decide()


def main() -> None:
    """Take the whole tour, on one thread: more cost more than they bring on data this small."""
    stories = [rare_positives(), rules_to_read(), no_negatives(), logged_decisions()]
    try:
        with threadpool_limits(1), _bar(sum(story.n_fits for story in stories)) as advance:
            for story in stories:
                tell(story, advance)
    except KeyboardInterrupt:
        sys.exit("\nStopped.")


if __name__ == "__main__":
    main()
