"""The tour: what the package has, on real data, beside scikit-learn's own estimators.

``python -m pnsklearn`` prints one table per estimator and, where matplotlib is installed, saves one
figure per estimator in the working directory.
"""

from importlib.util import find_spec

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from pnsklearn import AUPRCClassifier, SMaLLClassifier

N_RARE = 40


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


def _print_table(models, data_sets, scoring, heading):
    """Print each model's score on each data set, and what a fit takes."""
    results = {title: _compare(models, X, y, scoring) for title, (X, y) in data_sets.items()}
    print(f"\n{'data set':36}{'model':36}{heading:>18}{'fit seconds':>13}")
    for title, result in results.items():
        _, y = data_sets[title]
        labels = [title, f"  {y.sum()} positives of {len(y)}"] + [""] * (len(models) - 2)
        for row, (label, name) in enumerate(zip(labels, models, strict=True)):
            mean, sd = result["mean_test_score"][row], result["std_test_score"][row]
            seconds = result["mean_fit_time"][row]
            print(f"{label:36}{name:36}{f'{mean:.3f} ± {sd:.3f}':>18}{seconds:13.3f}")
    print()


def _save_curves(models, data_sets, path):
    """Draw each model's precision-recall curve on one held-out half of each data set."""
    import matplotlib

    matplotlib.use("Agg")
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
    fig.savefig(path, dpi=120, bbox_inches="tight")
    print(f"The precision-recall curves of one held-out half are in {path}.")


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
    _print_table(models, data_sets, "average_precision", "average precision")

    if find_spec("matplotlib"):
        _save_curves(models, data_sets, "pnsklearn_tour_auprc.png")
    else:
        print("Install matplotlib to also get the precision-recall curves as a figure.")


def tour_small():
    """Accuracy of SMaLLClassifier and of models of its size, and the rules it finds."""
    cancer = load_breast_cancer()
    data_sets = {
        "breast cancer, malignant": (cancer.data, cancer.target == 0),
        "digits, 8 against the rest": _digit_eight(),
    }
    models = {
        "SMaLLClassifier, 3 rules of 3": SMaLLClassifier(random_state=0),
        "LogisticRegression, 9 best features": make_pipeline(
            VarianceThreshold(), SelectKBest(k=9), LogisticRegression(max_iter=1000)
        ),
        "decision tree, 5 leaves": DecisionTreeClassifier(max_leaf_nodes=5, random_state=0),
        "LogisticRegression, all features": LogisticRegression(max_iter=1000),
    }
    print("SMaLLClassifier: a model to read, or for the smallest device")
    print("Accuracy on the held-out half, mean ± sd of 10 random stratified splits.\n")
    model = SMaLLClassifier(certify=True, random_state=0)
    model.fit(cancer.data, cancer.target_names[cancer.target])  # compiles the kernels
    _print_table(models, data_sets, "accuracy", "accuracy")

    print(model.rules(cancer.feature_names))
    print(
        f"\nThat is all of the model: {model.n_bytes_} bytes of parameters. export_c() and "
        "export_sql() write it as code.\nIts objective is "
        f"{model.objective_:.4f}, and none with the same assignment is below "
        f"{model.lower_bound_:.4f}."
    )
    if find_spec("matplotlib"):
        _save_rules(model, cancer, "pnsklearn_tour_small.png")
    else:
        print("Install matplotlib to also get the rules as a figure.")


def _save_rules(model, data, path):
    """Draw the rules as a heat map."""
    import matplotlib

    matplotlib.use("Agg")
    from pnsklearn.displays import PrototypeDisplay

    display = PrototypeDisplay.from_estimator(model, data.data, feature_names=data.feature_names)
    display.figure_.savefig(path, dpi=120, bbox_inches="tight")
    print(f"The rules as a figure are in {path}.")


def main():
    """Take the whole tour, on one thread: more cost more than they bring on data this small."""
    with threadpool_limits(1):
        tour_auprc()
        print("\n")
        tour_small()


if __name__ == "__main__":
    main()
