"""Draw the figure of the README: ``python docs/overview.py``.

The front page of the documentation has each picture of it on a card; its build calls `draw_cards`.
"""

from io import BytesIO
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, make_moons
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, precision_recall_curve
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pnsklearn import AUPRCClassifier, PUTrendClassifier, SMaLLClassifier, TOPRPolicy
from pnsklearn.datasets import make_logged_bandit, make_pu, make_rare_positives
from pnsklearn.displays import PrototypeDisplay

GREY, BLUE, RED = "0.6", "tab:blue", "tab:red"


def draw_ranking(ax):
    X, y = make_rare_positives(4000, class_sep=3.0, outliers=0.2, random_state=0)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
    models = {
        "LogisticRegression": (LogisticRegression(), GREY),
        "AUPRCClassifier": (AUPRCClassifier(random_state=0), BLUE),
    }
    for name, (model, color) in models.items():
        scores = make_pipeline(StandardScaler(), model).fit(X, y).decision_function(X_test)
        precision, recall, _ = precision_recall_curve(y_test, scores)
        label = f"{name}: {average_precision_score(y_test, scores):.2f}"
        ax.step(recall, precision, where="post", color=color, linewidth=2, label=label)
    ax.legend(title="average precision", loc="lower left")
    ax.set(
        ylim=(0, 1.03),
        xlabel="recall",
        ylabel="precision",
        title="AUPRCClassifier: positives to the top",
    )


def draw_unlabeled(ax):
    X, y = make_moons(800, noise=0.2, random_state=0)
    X, s, _ = make_pu(X, y, n_labeled=40, random_state=0)
    model = PUTrendClassifier(class_prior=0.47, random_state=0).fit(X, s)
    sides = [np.linspace(X[:, k].min() - 0.3, X[:, k].max() + 0.3, 120) for k in range(2)]
    grid = np.stack([side.ravel() for side in np.meshgrid(*sides)], axis=1)
    probability = model.predict_proba(grid)[:, 1].reshape(120, 120)
    ax.contourf(*sides, probability, [0.5, 1.01], colors=[RED], alpha=0.15)
    ax.contour(*sides, probability, [0.5], colors=[RED])
    ax.scatter(*X[s == 0].T, s=6, color=GREY, label="not labeled")
    ax.scatter(*X[s == 1].T, s=18, color=RED, label="labeled positive")
    ax.legend(loc="lower left")
    ax.set(xticks=[], yticks=[], title="PUTrendClassifier: no label for a negative")


def draw_rules(ax):
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(60, 20, 1200), rng.normal(3, 1, 1200)])
    temperature, pressure = X.T
    y = (temperature > 75) | (pressure > 3.8) | (temperature / 20 + pressure < 4)
    y ^= rng.random(1200) < 0.03
    model = SMaLLClassifier(3, 2, positive_class=True, random_state=0).fit(X, y)
    names = ["temperature", "pressure"]
    PrototypeDisplay.from_estimator(
        model, X, feature_names=names, features=names, colorbar=False, ax=ax
    )
    for label, color in ((True, "darkred"), (False, "navy")):
        ax.scatter(*X[:400][y[:400] == label].T, s=5, color=color, alpha=0.6)
    ax.set(xlim=(0, 120), ylim=(0, 6), title="SMaLLClassifier: alarm, if any rule fires")


def draw_policy(ax):
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, test_size=0.5, stratify=y, random_state=0)
    log, new = (make_logged_bandit(*part, random_state=0) for part in ((X, y), (X_test, y_test)))
    rows = []
    for name, bounds in (("good decisions only", "positives"), ("TOPRPolicy", "topr")):
        policy = TOPRPolicy(bounds=bounds)
        policy.fit(log.X, log.action, reward=log.reward, propensity=log.propensity)
        report = policy.evaluate(new.X, new.action, reward=new.reward, propensity=new.propensity)
        truth = 2 * policy.predict_proba(X_test)[np.arange(len(y_test)), y_test].mean() - 1
        rows.append((name, report.snips, truth))
    rows.insert(0, ("the log: guesses", report.logged, 2 / 10 - 1))
    for place, (name, estimate, truth) in enumerate(rows):
        ax.text(estimate.value, place + 0.22, name, ha="center")
        ax.plot([estimate.low, estimate.high], [place, place], color=BLUE, linewidth=6, alpha=0.4)
        ax.plot(estimate.value, place, "o", color=BLUE, markersize=8)
        ax.plot(truth, place, "x", color="black", markersize=9)
    ax.plot([], [], "o", color=BLUE, label="estimate from a log, 95 %")
    ax.plot([], [], "x", color="black", label="truth")
    ax.legend(loc="lower right")
    ax.set(
        xlim=(-1.2, 1),
        ylim=(-1, len(rows) - 0.2),
        xlabel="mean reward",
        yticks=[],
        title="TOPRPolicy: learn from logged decisions",
    )


PICTURES = {
    "ranking": draw_ranking,
    "unlabeled": draw_unlabeled,
    "rules": draw_rules,
    "policy": draw_policy,
}


def save(figure, path):
    """Save a figure with a palette, which makes the file half as large."""
    figure.savefig(pixels := BytesIO(), dpi=100)
    Image.open(pixels).convert("RGB").quantize(256).save(path, optimize=True)
    plt.close(figure)


def draw_cards(folder):
    """Draw each picture alone, without its title, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        figure, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
        draw(ax)
        ax.set_title("")
        save(figure, folder / f"{name}.png")


if __name__ == "__main__":
    figure, axes = plt.subplots(2, 2, figsize=(10, 7.5), layout="constrained")
    for draw, ax in zip(PICTURES.values(), axes.flat, strict=True):
        draw(ax)
    save(figure, Path(__file__).with_name("overview.png"))
