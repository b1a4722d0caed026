"""What the benchmarks of PUTrendClassifier share: the tasks, the peers, and ours."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from importlib import import_module
from zlib import crc32

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from benchmarks._data import load
from benchmarks._engine import is_installed
from benchmarks._parts import second_stage
from pnsklearn import PUTrendClassifier
from pnsklearn.datasets import make_pu
from pnsklearn.metrics import class_prior

# Names that end in "_flipped" take the other class as the positive one.
TASKS = (
    "australian_credit", "breast_w", "pima", "pima_flipped", "german_credit",
    "german_credit_flipped", "tic_tac_toe", "kr_vs_kp", "vote", "mushroom", "spambase", "banknote",
    "titanic3", "breast_cancer", "phoneme", "wine_red_ge7", "page_blocks_not1", "sick",
    "credit_default", "creditcard_fraud", "sms_spam", "hiv", "adult", "adult_flipped",
    "satimage_4", "satimage_grey", "letter_a", "digits_even", "fmnist_1", "fmnist_2",
)  # fmt: skip
IMAGES = ("fmnist_1", "fmnist_2")
# For the sweeps: enough rows of both classes, some sets separable, some not.
SWEPT = (
    "kr_vs_kp", "spambase", "banknote", "phoneme", "credit_default", "adult", "satimage_grey",
    "digits_even",
)  # fmt: skip
MAX_ROWS = 5_000  # of training and test together
FEWEST, MOST = 10, 500  # labeled positives


@cache
def load_task(name, data_home):
    """Return X and y of a task: pixels in [0, 1], and the classes exchanged for a flipped one."""
    base = name.removesuffix("_flipped")
    X, y = load(base, data_home)
    return X / 255 if base in IMAGES else X, y if base == name else 1 - y


@lru_cache(maxsize=1)
def make_task(
    name, seed, *, n_labeled=None, c=0.3, pi=None, bias=0.0, max_rows=MAX_ROWS, data_home=None
):
    """Split a set into equal halves and hide the labels of the training half.

    `n_labeled` positives of the training half stay labeled (by default the share `c` of them, 10
    to 500), the others join the negatives in U: one sample, of which some positives are known.
    With `pi`, U is itself a sample of the population, beside one of positives: rows of U and of the
    test half alike are dropped until `pi` is their share of positives. `bias` is `make_pu`'s.

    Return ``X_train``, ``s`` (1 labeled, 0 unlabeled), ``X_test``, ``y_test``, ``y_train`` and
    the share of positives in U.
    """
    X, y = load_task(name, data_home)
    half = min(len(y), max_rows) // 2
    train, test = train_test_split(
        np.arange(len(y)), train_size=half, test_size=half, stratify=y, random_state=seed
    )
    if n_labeled is None:
        n_labeled = int(np.clip(round(c * y[train].sum()), FEWEST, MOST))
    scenario = "single" if pi is None else "case-control"
    X_train, s, y_train = make_pu(
        X[train], y[train], n_labeled=n_labeled, scenario=scenario, bias=bias, random_state=seed
    )
    if pi is not None:
        rng = np.random.default_rng(seed)
        U = _with_prior(np.flatnonzero(s == 0), y_train, pi, rng)
        kept = np.sort(np.concatenate([np.flatnonzero(s), U]))
        X_train, s, y_train = X_train[kept], s[kept], y_train[kept]
        test = _with_prior(test, y, pi, rng)
    return X_train, s, X[test], y[test], y_train, y_train[s == 0].mean()


def some_columns(name, X):
    """Return a random quarter of the columns, at least two: without the rest classes overlap."""
    n = X.shape[1]
    return X[:, np.random.default_rng(crc32(name.encode())).permutation(n)[: max(2, n // 4)]]


def make_population(name, seed, *, pi, n_labeled, degraded=False, max_rows=1_500, data_home=None):
    """Return P, U and test rows of both scenarios where a share `pi` of U is positive, or None.

    U has up to `max_rows` rows, and the labeled positives are drawn beside it. Each scenario has a
    test half of its own population: "single" is P and U together, "case-control" is U.
    """
    X, y = load_task(name, data_home)
    X = some_columns(name, X) if degraded else X
    rng = np.random.default_rng([crc32(name.encode()), seed, round(1000 * pi), n_labeled])
    positive, negative = (rng.permutation(np.flatnonzero(y == label)) for label in (1, 0))
    P, positive = positive[:n_labeled], positive[n_labeled:]
    parts = [np.array_split(rows, 2) for rows in (positive, negative)]
    train, test = (np.concatenate(rows) for rows in zip(*parts, strict=True))
    if len(positive) < max(n_labeled / 2, 10):
        return None
    U = _with_prior(train, y, pi, rng, max_rows)
    share = y[U].mean()
    if len(U) < 150:
        return None
    population = {"single": (n_labeled + share * len(U)) / (n_labeled + len(U)),
                  "case-control": share}  # fmt: skip
    tests = {key: _with_prior(test, y, part, rng, 2_000) for key, part in population.items()}
    s = np.repeat([1, 0], [n_labeled, len(U)])
    rows = {key: (X[found], y[found]) for key, found in tests.items()}
    return X[np.concatenate([P, U])], s, share, rows


def _with_prior(rows, y, pi, rng, most=np.inf):
    """Return as many of the rows as can be kept for a share `pi` of positives."""
    positive, negative = rows[y[rows] == 1], rows[y[rows] == 0]
    n = min(len(positive) / pi, len(negative) / (1 - pi), most)
    kept = [
        rng.choice(part, max(round(n * share), 1), replace=False)
        for part, share in ((positive, pi), (negative, 1 - pi))
    ]
    return np.sort(np.concatenate(kept))


class _Scoring(ClassifierMixin, BaseEstimator):
    def predict(self, X):
        """Predict 1 or 0."""
        return (self.decision_function(X) > 0).astype(int)


def nnpu_loss(of_P, of_U, prior, share_P, share_U):
    """Return the sigmoid loss of scores, or its ascent where the negatives' part is below zero."""
    miss = of_P.neg().sigmoid().mean()
    negative = of_U.sigmoid().mean() - prior * (1 - miss)
    return share_P * miss + share_U * negative if negative >= 0 else -share_U * negative


class NNPU(_Scoring):
    """Non-negative risk (Kiryo et al., 2017) with the sigmoid loss.

    `prior` is the share of positives in U (None: estimated by `logistic_prior`). In a single sample
    the positives' share of the population and the weight of U follow from it and from the counts.
    `network` makes a torch module of the number of features, `transform` augments batches.
    """

    def __init__(
        self, prior=None, single=True, network=None, transform=None, rate=1e-3, n_steps=1000,
        random_state=None,
    ):  # fmt: skip
        self.prior, self.single, self.network, self.transform = prior, single, network, transform
        self.rate, self.n_steps, self.random_state = rate, n_steps, random_state

    def fit(self, X, s):
        """Minimise the risk over batches of 128 rows of P and of U by Adam."""
        import torch

        generator = torch.Generator().manual_seed(self.random_state)
        torch.manual_seed(self.random_state)
        self.classes_ = np.array([0, 1])
        self.prior_ = self.prior
        if self.prior is None:
            self.prior_ = logistic_prior(X, s, self.random_state)
        X = self._tensor(X)
        P, U = X[s == 1], X[s == 0]
        of_U = len(U) / len(X) if self.single else 1.0
        of_P = (1 - of_U) + of_U * self.prior_
        self.net_ = self.network(X.shape[1])
        optimizer = torch.optim.Adam(self.net_.parameters(), lr=self.rate, weight_decay=1e-4)

        def scores(rows):
            batch = rows[torch.randint(len(rows), (128,), generator=generator)]
            return self.net_(self.transform(batch) if self.transform else batch)

        for _ in range(self.n_steps):
            loss = nnpu_loss(scores(P), scores(U), self.prior_, of_P, of_U)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return self

    @staticmethod
    def _tensor(X):
        import torch

        return torch.as_tensor(X.toarray() if issparse(X) else X, dtype=torch.float32)

    def decision_function(self, X):
        """Return the score, above zero for positives."""
        import torch

        with torch.inference_mode():
            return self.net_(self._tensor(X)).numpy()[:, 0]


def logistic_prior(X, s, seed):
    """Estimate the share of positives in U by a cross-fitted logistic regression."""
    folds = StratifiedKFold(int(min(5, np.count_nonzero(s))), shuffle=True, random_state=seed)
    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    scores = cross_val_predict(model, X, s, cv=folds, method="decision_function")
    return float(np.clip(class_prior(scores[s == 1], scores[s == 0], method="bbe"), 0.01, 0.99))


def lenet(_=None):
    """Return LeNet with one logit, whatever the number of features."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, 1),
    )  # fmt: skip


def shifted(batch, most=3):
    """Shift every image by up to `most` pixels (zeros come in), and mirror half of them."""
    import torch

    n, _, h, w = batch.shape
    padded = torch.nn.functional.pad(batch, (most,) * 4)
    down, right = torch.randint(0, 2 * most + 1, (2, n, 1, 1))
    rows = down + torch.arange(h)[None, :, None]
    columns = right + torch.arange(w)[None, None, :]
    moved = padded[torch.arange(n)[:, None, None], 0, rows, columns][:, None]
    return torch.where(torch.rand(n, 1, 1, 1) < 0.5, moved.flip(3), moved)


class CNN(_Scoring):
    """The network of our second stage, trained alike on labels that are all true."""

    def __init__(self, random_state=None):
        self.random_state = random_state

    def fit(self, X, y):
        """Train for 50 epochs."""
        self.net_ = second_stage(lenet, X, y, self.random_state, shifted)
        self.classes_ = np.array([0, 1])
        return self

    def decision_function(self, X):
        """Return the logits."""
        return self.net_.logits(X)[:, 0]


@dataclass(frozen=True)
class Case:
    """What a model may be told of a task: its prior only if its name says so."""

    n_P: int
    n_U: int
    prior: float
    single: bool
    seed: int


@dataclass(frozen=True)
class Model:
    """`build` makes it of a `Case`; an "oracle" is fitted to the true labels."""

    build: Callable
    group: str
    sparse: bool = True  # else it gets dense X
    max_features: int | None = None
    needs: str | None = None  # a package


def ours(preset=None, *args, told=False, **settings):
    """Return our estimator, or one of its presets, as a model."""

    def build(case):
        make = getattr(PUTrendClassifier, preset) if preset else PUTrendClassifier
        known = {"class_prior": case.prior if told else None, "random_state": case.seed}
        scenario = "single" if case.single else "case-control"
        return make(*args, scenario=scenario, **known, **settings)

    return Model(build, "published" if preset else "ours")


def _pulearn(name, group="pulearn", sparse=True, max_features=None, **settings):
    """Return a model of pulearn; functions among its settings are called with the case."""

    def build(case):
        values = {key: f(case) if callable(f) else f for key, f in settings.items()}
        return getattr(import_module("pulearn"), name)(**values)

    return Model(build, group, sparse, max_features, needs="pulearn")


def _nnpu(told, network, rate):
    def build(case):
        prior = case.prior if told else None
        return NNPU(prior, case.single, network, rate=rate, random_state=case.seed)

    return Model(build, "true prior" if told else "estimated prior", needs="torch")


def _network(n_features, n_hidden=None):
    from torch import nn

    if n_hidden is None:
        return nn.Linear(n_features, 1)
    return nn.Sequential(nn.Linear(n_features, n_hidden), nn.ReLU(), nn.Linear(n_hidden, 1))


def _logistic(case=None, **settings):
    return LogisticRegression(max_iter=1000, **settings)


def _forest(case, make=RandomForestClassifier):
    return make(random_state=case.seed)


def tree(case=None):
    """Return a tree."""
    return DecisionTreeClassifier()  # the bagging seeds it


_mlp = partial(_network, n_hidden=100)
_boosting = partial(_forest, make=HistGradientBoostingClassifier)


_seeded = {"random_state": lambda case: case.seed}
_counts = {"labeled": lambda case: case.n_P, "unlabeled": lambda case: case.n_U}
_bags = {**_seeded, "n_estimators": 100, "max_samples": lambda case: min(case.n_P, case.n_U)}
_held = {**_seeded, "estimator": _logistic, "hold_out_ratio": 0.2, "sparse": False}
_all_U = {**_seeded, "n_estimators": 30}
_told = {**_seeded, "sparse": False, "prior": lambda case: case.prior}
_naive = {"sparse": False}
_tan = {"sparse": False, "max_features": 120}

OURS = {
    "PUTrend": ours(), "PUTrend linear": ours(None, "linear"), "PUTrend mlp": ours(None, "mlp"),
    "PUTrend, true prior": ours(told=True),
}  # fmt: skip
# The published steps are hundreds of passes over sets of this size, and the trend inverts. Scaled
# to them, with a learning rate that suits it, the method is a better peer.
_scale = {"n_passes": 10, "learning_rate": 0.003}
PUBLISHED, SCALED = {}, {}
for _label, _preset in {"paper": "paper", "authors' code": "authors_code"}.items():
    for _kind in ("linear", "mlp"):
        PUBLISHED[f"{_label} {_kind}"] = ours(_preset, _kind)
        SCALED[f"{_label} {_kind}, scaled"] = ours(_preset, _kind, **_scale)
PEERS = {
    "U as N logistic": Model(_logistic, "plain"),
    "U as N balanced logistic": Model(partial(_logistic, class_weight="balanced"), "plain"),
    "U as N forest": Model(_forest, "plain"),
    "U as N boosting": Model(_boosting, "plain", sparse=False, max_features=1000),
    "Elkan-Noto logistic": _pulearn("ElkanotoPuClassifier", **_held),
    "Elkan-Noto forest": _pulearn("ElkanotoPuClassifier", **{**_held, "estimator": _forest}),
    "weighted Elkan-Noto logistic": _pulearn("WeightedElkanotoPuClassifier", **_held, **_counts),
    "bagging trees": _pulearn("BaggingPuClassifier", estimator=tree, **_bags),
    "bagging logistic": _pulearn("BaggingPuClassifier", estimator=_logistic, **_bags),
    "bagging trees, all U": _pulearn("BaggingPuClassifier", estimator=tree, **_all_U),
    "positive naive Bayes": _pulearn("PositiveNaiveBayesClassifier", **_naive),
    "weighted naive Bayes": _pulearn("WeightedNaiveBayesClassifier", **_naive),
    "positive TAN": _pulearn("PositiveTANClassifier", **_tan),
    "weighted TAN": _pulearn("WeightedTANClassifier", **_tan),
    "pulearn nnPU, true prior": _pulearn("NNPUClassifier", "true prior", **_told),
    "nnPU linear, true prior": _nnpu(True, _network, 1e-2),
    "nnPU MLP, true prior": _nnpu(True, _mlp, 1e-3),
    "nnPU linear, estimated prior": _nnpu(False, _network, 1e-2),
    "nnPU MLP, estimated prior": _nnpu(False, _mlp, 1e-3),
    "oracle logistic": Model(_logistic, "oracle"), "oracle forest": Model(_forest, "oracle"),
}  # fmt: skip
MODELS = {**OURS, **SCALED, **PUBLISHED, **PEERS}


def some(*labels):
    """Return some of the models."""
    return {label: MODELS[label] for label in labels}


def scaled(model, name, X):
    """Return the model behind what everybody gets: standard scores, or tf-idf if X is sparse."""
    if issparse(X):
        return make_pipeline(TfidfTransformer(), model)
    return make_pipeline("passthrough" if name in IMAGES else StandardScaler(), model)


def is_present(model):
    """Return whether the package that a model needs is installed."""
    return model.needs is None or is_installed(model.needs)


def prepared(model, name, task, seed, single):
    """Return the estimator behind its scaler, its case, and the labels that it may see."""
    X, s, _, _, y, prior = task
    n_P = int(s.sum())
    case = Case(n_P, len(s) - n_P, prior, single, seed)
    estimator = model.build(case)
    if issparse(X) and not model.sparse:
        estimator = make_pipeline(FunctionTransformer(lambda X: X.toarray()), estimator)
    return scaled(estimator, name, X), case, y if model.group == "oracle" else s


def outputs(model, X):
    """Return predicted labels, 1 or 0, and scores."""
    if hasattr(model, "predict_proba"):
        scores = model.predict_proba(X)[:, 1]
    else:
        scores = model.decision_function(X)
    return (np.asarray(model.predict(X)).ravel() > 0).astype(int), scores
