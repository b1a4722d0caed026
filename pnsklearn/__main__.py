"""The tour: what the package has, on real data, beside scikit-learn's own estimators.

``python -m pnsklearn`` prints one table per estimator and, where matplotlib is installed, saves one
figure per estimator in the working directory.
"""

from importlib.util import find_spec

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.validation import has_fit_parameter
from threadpoolctl import threadpool_limits

from pnsklearn import AUPRCClassifier, PUTrendClassifier, SMaLLClassifier, TOPRPolicy, displays
from pnsklearn.datasets import make_logged_bandit, make_pu

N_RARE = 40
N_LABELED = 50


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

    def predict_proba(self, X):
        return self.model_.predict_proba(X)


def _share_right(model, X, y):
    """Return the mean probability that the model gives to the right class."""
    return model.predict_proba(X)[y[:, None] == model.classes_].sum() / len(y)


def _compare(models, X, y, scoring):
    """Score the models on the same splits: one search, whose grid is the models themselves."""
    search = GridSearchCV(
        Pipeline([("scale", StandardScaler()), ("model", None)]),
        {"model": list(models.values())},
        scoring=scoring,
        cv=StratifiedShuffleSplit(n_splits=10, test_size=0.5, random_state=0),
        refit=False,
    )
    if find_spec("rich"):
        from sklearn.callback import ProgressBar

        search.set_callbacks(ProgressBar(max_propagation_depth=0))
    return search.fit(X, y).cv_results_


def _print_table(models, data_sets, scoring):
    """Print each model's scores on each data set, and what a fit takes."""
    results = {title: _compare(models, X, y, scoring) for title, (X, y) in data_sets.items()}
    headings = "".join(f"{name.replace('_', ' '):>18}" for name in scoring)
    print(f"\n{'data set':36}{'model':36}{headings}{'fit seconds':>13}")
    for title, result in results.items():
        _, y = data_sets[title]
        about = f"{y.sum()} positives of" if y.dtype == bool else f"{len(np.unique(y))} classes,"
        labels = [title, f"  {about} {len(y)}"] + [""] * (len(models) - 2)
        for row, (label, name) in enumerate(zip(labels, models, strict=True)):
            print(f"{label:36}{name:36}", end="")
            for score in scoring:
                mean, sd = result[f"mean_test_{score}"][row], result[f"std_test_{score}"][row]
                print(f"{f'{mean:.3f} ± {sd:.3f}':>18}", end="")
            print(f"{result['mean_fit_time'][row]:13.3f}")
    print()


def _save(what, path, draw):
    """Save the figure that `draw` returns, where matplotlib is installed."""
    if not find_spec("matplotlib"):
        print(f"Install matplotlib to also get {what} as a figure.")
        return
    import matplotlib

    matplotlib.use("Agg")
    draw().savefig(path, dpi=120, bbox_inches="tight")
    print(f"As a figure, {what} are in {path}.")


def _curves(models, data_sets):
    """Draw each model's precision-recall curve on one held-out half of each data set."""
    import matplotlib.pyplot as plt
    from sklearn.metrics import PrecisionRecallDisplay

    fig, axes = plt.subplots(1, len(data_sets), figsize=(6 * len(data_sets), 5), squeeze=False)
    for ax, (title, (X, y)) in zip(axes.flat, data_sets.items(), strict=True):
        X_train, X_test, y_train, y_test = train_test_split(
            X, y, test_size=0.5, stratify=y, random_state=0
        )
        for name, model in models.items():
            fitted = Pipeline([("scale", StandardScaler()), ("model", model)]).fit(X_train, y_train)
            PrecisionRecallDisplay.from_estimator(fitted, X_test, y_test, name=name, ax=ax)
        ax.set_title(title)
    return fig


def tour_auprc():
    """Average precision of AUPRCClassifier and of scikit-learn's classifiers."""
    data_sets = {
        "breast cancer, malignant made rare": _rare_breast_cancer(),
        "digits, 8 against the rest": _digit_eight(),
    }
    models = {
        "AUPRCClassifier": AUPRCClassifier(),
        "LogisticRegression": LogisticRegression(max_iter=1000),
        "LogisticRegression, C tuned": GridSearchCV(
            LogisticRegression(max_iter=1000),
            {"C": np.logspace(-3, 2, 6)},
            scoring="average_precision",
        ),
        "HistGradientBoosting": HistGradientBoostingClassifier(random_state=0),
    }
    print("AUPRCClassifier: rare positives")
    print("Average precision on the held-out half, mean ± sd of 10 random stratified splits.\n")
    models["AUPRCClassifier"].fit(*data_sets["digits, 8 against the rest"])  # compiles the kernels
    _print_table(models, data_sets, ["average_precision"])

    _save(
        "the precision-recall curves of one held-out half",
        "pnsklearn_tour_auprc.png",
        lambda: _curves(models, data_sets),
    )


def tour_small():
    """Accuracy of SMaLLClassifier and of models of its size, and the rules it finds."""
    cancer = load_breast_cancer()
    data_sets = {
        "breast cancer, malignant": (cancer.data, cancer.target == 0),
        "digits, 8 against the rest": _digit_eight(),
    }
    models = {
        "SMaLLClassifier, 3 rules of 3": SMaLLClassifier(3, 3, random_state=0),
        "LogisticRegression, 9 best features": make_pipeline(
            VarianceThreshold(), SelectKBest(k=9), LogisticRegression(max_iter=1000)
        ),
        "decision tree, 5 leaves": DecisionTreeClassifier(max_leaf_nodes=5, random_state=0),
        "LogisticRegression, all features": LogisticRegression(max_iter=1000),
    }
    print("SMaLLClassifier: a model to read, or for the smallest device")
    print("Accuracy on the held-out half, mean ± sd of 10 random stratified splits.\n")
    model = SMaLLClassifier(3, 3, certify=True, random_state=0)
    model.fit(cancer.data, cancer.target_names[cancer.target])  # compiles the kernels
    _print_table(models, data_sets, ["accuracy"])

    print(model.rules(cancer.feature_names))
    print(
        f"\nThat is all of the model: {model.n_bytes_} bytes of parameters. export_c() and "
        "export_sql() write it as code.\nIts objective is "
        f"{model.objective_:.4f}, and none with the same assignment is below "
        f"{model.lower_bound_:.4f}."
    )
    _save(
        "the rules",
        "pnsklearn_tour_small.png",
        lambda: (
            displays.PrototypeDisplay.from_estimator(
                model, cancer.data, feature_names=cancer.feature_names
            ).figure_
        ),
    )


def tour_pu_trend():
    """Accuracy and F1 of PUTrendClassifier where only some positives are labelled."""
    cancer = load_breast_cancer()
    data_sets = {
        "breast cancer, malignant": (cancer.data, cancer.target == 0),
        "digits, even against odd": _even_digits(),
    }
    logistic = LogisticRegression(max_iter=1000)
    balanced = LogisticRegression(max_iter=1000, class_weight="balanced")
    models = {
        "PUTrendClassifier": _LabelsHidden(PUTrendClassifier(random_state=0)),
        "LogisticRegression": _LabelsHidden(logistic),
        "LogisticRegression, balanced": _LabelsHidden(balanced),
        "LogisticRegression, all labels": logistic,
        "ExtraTrees, all labels": ExtraTreesClassifier(random_state=0),
    }
    print("PUTrendClassifier: positives and unlabelled rows, no negatives")
    print(
        f"In the training half only {N_LABELED} positives keep their label. To the others, a row "
        "without one is negative.\nThe models of 'all labels' see them all. Scores on the held-out "
        "half, mean ± sd of 10 random stratified splits.\n"
    )
    X, s, y_true = make_pu(cancer.data, cancer.target == 0, n_labeled=N_LABELED, random_state=0)
    model = PUTrendClassifier(random_state=0).fit(X, s)  # compiles the kernels
    _print_table(models, data_sets, ["accuracy", "f1"])

    low, high = model.class_prior_interval_
    print(
        f"With {N_LABELED} labels on all of the breast cancer data, it estimates that "
        f"{model.class_prior_:.0%} of the unlabelled rows are\npositive (90 % interval {low:.0%} "
        f"to {high:.0%}); in truth {y_true[s == 0].mean():.0%} are."
    )
    _save(
        "the scores in training",
        "pnsklearn_tour_pu_trend.png",
        lambda: displays.TrendDisplay.from_estimator(model).figure_,
    )


def tour_topr():
    """What TOPRPolicy learns from logged guesses, and what another log says that it is worth."""
    digits = load_digits(return_X_y=True)
    data_sets = {"digits": digits, "wine": load_wine(return_X_y=True)}
    logistic = LogisticRegression(max_iter=1000)
    models = {
        "TOPRPolicy": _Logged(TOPRPolicy()),
        "TOPRPolicy, right guesses only": _Logged(TOPRPolicy(bounds="positives")),
        "LogisticRegression of the guesses": _Logged(logistic),
        "LogisticRegression, all labels": logistic,
    }
    print("TOPRPolicy: logged decisions and what came of them")
    print(
        "In the training half another policy guesses the class, three in ten at random, and it is "
        "logged whether it was right.\nOnly 'all labels' sees what would have been. Share right on "
        "the held-out half, of the policy as it stands and of its\nfirst choice, mean ± sd of 10 "
        "random stratified splits.\n"
    )
    X_train, X_test, y_train, y_test = train_test_split(
        *digits, test_size=0.5, stratify=digits[1], random_state=0
    )
    policy = Pipeline([("scale", StandardScaler()), ("model", models["TOPRPolicy"])])
    policy.fit(X_train, y_train)  # compiles the kernels
    _print_table(models, data_sets, {"share_right": _share_right, "first_choice": "accuracy"})

    scale, policy = policy[0], policy[1].model_
    log = make_logged_bandit(scale.transform(X_test), y_test, logging="good", random_state=1)
    feedback = {"reward": log.reward, "propensity": log.propensity}
    value = policy.evaluate(log.X, log.action, **feedback).snips
    print(
        "A log of the held-out digits, of right guesses (1) and wrong ones (-1), puts the policy's "
        f"mean reward at {value.value:.2f}\n(95 % interval {value.low:.2f} to {value.high:.2f}); "
        f"in truth it is {2 * _share_right(policy, log.X, log.y) - 1:.2f}. The log's own is "
        f"{log.reward.mean():.2f}."
    )
    _save(
        "the estimates of the value",
        "pnsklearn_tour_topr.png",
        lambda: (
            displays.PolicyValueDisplay.from_estimator(
                policy, log.X, log.action, **feedback
            ).figure_
        ),
    )


def main() -> None:
    """Take the whole tour, on one thread: more cost more than they bring on data this small."""
    with threadpool_limits(1):
        tour_auprc()
        print("\n")
        tour_small()
        print("\n")
        tour_pu_trend()
        print("\n")
        tour_topr()


if __name__ == "__main__":
    main()
