"""AUPRCClassifier against its peers: time, accuracy of the arithmetic, average precision.

Run `python -m benchmarks.auprc`. Times are medians of paired rounds (see `_harness.paired_ratio`);
each row's bar is the number that the project set itself.
"""

import os
import time
import warnings
from functools import partial

import joblib
import numba
import numpy as np
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler
from threadpoolctl import threadpool_limits

from benchmarks._harness import (
    BUNDLED,
    argument_parser,
    at_most,
    begin,
    format_table,
    load,
    mean_and_error,
    paired_ratio,
    pyplot,
    read_csv,
    write_csv,
)
from pnsklearn import AUPRCClassifier
from pnsklearn._auprc import _kernels
from pnsklearn._auprc._solver import loss_terms
from pnsklearn.metrics import average_precision_surrogate

PACKAGES = ("numpy", "scipy", "scikit-learn", "numba", "torch", "libauc", "lightgbm")
LOSSES = {"smooth": 0.5, "squared_hinge": 1.0}  # margins, in standard deviations of the scores
SMALL_SETS = ("ecoli4", "wine_red_ge7")
LIBAUC_SETS = ("mammography", "phoneme", "satimage_4", "page_blocks_not1", "creditcard_fraud")
REAL_SETS = (
    "mammography", "oil_spill", "phoneme", "abalone19", "yeast4", "yeast6", "ecoli4", "car_vgood",
    "wine_red_ge7", "page_blocks_not1", "sick", "credit_default", "creditcard_fraud", "sms_spam",
    "tox21_nr_ar", "satimage_4", "letter_a", "hiv", "adult",
)  # fmt: skip
TEST_SHARE = 0.3
MAX_TRAIN = 10_000


def kernel(options):
    """One value and gradient, one thread: time and error against sorting and brute force."""
    n, n_positive = (50_000, 500) if options.quick else (1_000_000, 10_000)
    few, few_positive = (5_000, 50) if options.quick else (100_000, 1_000)
    scores, y = _scores(n, n_positive)
    few_scores, few_y = _scores(few, few_positive)
    rows = []
    for loss, margin in LOSSES.items():
        run = {
            "kernel": lambda s, y, loss=loss, margin=margin: _bare(s, y, loss, margin),
            "metric": lambda s, y, loss=loss, margin=margin: average_precision_surrogate(
                y, s, loss=loss, margin=margin, return_gradient=True
            ),
        }
        with threadpool_limits(1):
            for name, function in run.items():
                timing = paired_ratio(
                    lambda function=function: function(scores, y),
                    lambda: np.argsort(scores),
                    rounds=options.rounds,
                )
                what = f"{loss} {name} / np.argsort, n={n} n+={n_positive}"
                rows.append(_judged({"what": what, **timing}, 0.35))
            ours = timing["ours"]
            timing = paired_ratio(
                lambda function=run["metric"]: function(few_scores, few_y),
                lambda loss=loss, margin=margin: _brute(few_scores, few_y, loss, margin),
                rounds=3,
            )
        what = f"{loss} metric / double loop, n={few} n+={few_positive}"
        rows.append({"what": what, **timing})
        expected = timing["reference"] * (n * n_positive) / (few * few_positive)
        what = f"{loss} metric / double loop extrapolated by pairs, n={n} n+={n_positive}"
        timing = {"ours": ours, "reference": expected, "ratio": ours / expected}
        rows.append(_judged({"what": what, **timing}, 0.01))
        rows += _errors(few_scores, few_y, loss, margin)
    return rows


def _scores(n, n_positive, seed=0):
    """Overlapping scores that stay exact when 1e8 is added: multiples of 2**-20."""
    rng = np.random.default_rng(seed)
    y = np.zeros(n, dtype=int)
    y[rng.choice(n, n_positive, replace=False)] = 1
    return np.round((rng.normal(size=n) + 1.5 * y) * 2**20) / 2**20, y


def _bare(scores, y, loss, margin):
    """The kernel without checks: no weights, no ties."""
    positive, weight = y == 1, np.ones(len(y))
    margins, coefs, own = loss_terms(loss, margin * scores.std())
    n_positive = np.count_nonzero(positive)
    outer, own = np.full(n_positive, 1 / n_positive), np.full(n_positive, own)
    state = _kernels.surrogate(scores, positive, weight, outer, own, margins, coefs)
    return state.value, _kernels.gradient(state)


@numba.njit
def _pairs(scores, positive, t, smooth):
    """The definition, pair by pair: 1 - F and its gradient, from the positives' rows."""
    n = scores.shape[0]
    gradient = np.zeros(n)
    value = 0.0
    for i in np.flatnonzero(positive):
        P = N = slope_P = slope_N = 0.0
        for j in range(n):
            level, slope = _level(scores[i] - scores[j], t, smooth)
            if positive[j]:
                P += 1.0 if smooth and scores[j] == scores[i] else level
                slope_P += slope
            else:
                N += level
                slope_N += slope
        value += P / (P + N)
        of_P, of_N = N / (P + N) ** 2, -P / (P + N) ** 2
        gradient[i] += of_P * slope_P + of_N * slope_N
        for j in range(n):
            slope = _level(scores[i] - scores[j], t, smooth)[1]
            gradient[j] -= (of_P if positive[j] else of_N) * slope
    n_positive = positive.sum()
    return value / n_positive, gradient / n_positive


@numba.njit
def _level(d, t, smooth):
    """Return l(d) and its slope, t the half width of the step or the margin of the hinge."""
    if not smooth:
        return max(t - d, 0.0) ** 2, -2.0 * max(t - d, 0.0)
    a, b, c = max(t - d, 0.0), max(-d, 0.0), max(-t - d, 0.0)
    return (a * a - 2 * b * b + c * c) / (2 * t * t), (2 * b - a - c) / (t * t)


def _brute(scores, y, loss, margin):
    return _pairs(scores, y == 1, margin * scores.std(), loss == "smooth")


def _errors(scores, y, loss, margin):
    """Largest absolute errors of value and gradient, also of the same scores plus 1e8."""
    value, gradient = _brute(scores, y, loss, margin)
    for offset in (0.0, 1e8):
        ours = average_precision_surrogate(
            y, scores + offset, loss=loss, margin=margin, return_gradient=True
        )
        error = max(abs(ours[0] - value), np.abs(ours[1] - gradient).max())
        what = f"{loss} metric - double loop, scores + {offset:g}, n={len(y)}"
        yield {"what": what, "error": error, "bar": 1e-10, "reached": bool(error <= 1e-10)}


def fit(options):
    """A linear fit with fixed alpha, its logistic regression included, against that alone."""
    n = 20_000 if options.quick else 1_000_000
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 20))
    latent = X @ rng.normal(scale=0.4, size=20) + rng.logistic(size=n)
    y = (latent > np.quantile(latent, 0.99)).astype(int)
    rows = []
    for clock, limit, unit in (
        (time.process_time, 1, "CPU seconds, one thread"),
        (time.perf_counter, None, "wall seconds, all cores"),
    ):
        for loss in LOSSES:
            with threadpool_limits(limit):
                timing = paired_ratio(
                    lambda loss=loss: AUPRCClassifier(loss, alpha=0.1).fit(X, y),
                    lambda: LogisticRegression().fit(X, y),
                    rounds=options.rounds,
                    clock=clock,
                )
            what = f"fit {loss} / LogisticRegression, n={n} d=20, {unit}"
            rows.append(_judged({"what": what, **timing}, 2.0))
    return rows


def libauc(options):
    """LibAUC's APLoss and SOAP for the same linear model, its learning rate and our alpha tuned.

    Its settings are those of the AUPRC recipes in its repository: start from cross-entropy,
    probabilities, margin 0.6, gamma 0.1, batches of 64 with half of them positive, Adam, 60 epochs,
    the rate divided by 10 after one half and three quarters. Batches are sliced from a tensor,
    which is faster than its DataLoader with DualSampler. Seconds are of one fit at the tuned
    setting, the logistic regression that both start from included.
    """
    try:
        from libauc.losses import APLoss  # noqa: F401
        from libauc.optimizers import SOAP  # noqa: F401
    except ModuleNotFoundError:
        raise
    except Exception as error:  # its imports reach far: a broken dependency is a row as well
        return [{"what": "LibAUC", "note": f"cannot be imported: {error!r}"}]
    n_epochs, seeds = (2, 1) if options.quick else (60, 5)
    rates, alphas = (1e-4, 1e-3, 1e-2, 1e-1), (0.001, 0.01, 0.1, 1.0)
    rows = []
    _fit_ours("smooth", *load(BUNDLED[0]), alpha=1.0, seed=0)  # compile
    for name in _sets(options, LIBAUC_SETS):
        try:
            X, y = load(name, options.data_home)
        except Exception as error:
            rows.append({"set": name, "note": f"cannot be loaded: {error!r}"})
            continue
        fits = {
            "smooth": (partial(_fit_ours, "smooth"), alphas),
            "squared_hinge": (partial(_fit_ours, "squared_hinge"), alphas),
            "libauc": (partial(_fit_libauc, n_epochs), rates),
        }
        with threadpool_limits(1):
            runs = np.array(
                [[_tuned(*fit, X, y, seed) for fit in fits.values()] for seed in range(seeds)]
            )
        rows += [_libauc_row(name, loss, runs[:, i], runs[:, -1]) for i, loss in enumerate(LOSSES)]
    return rows


def _tuned(fit, grid, X, y, seed):
    """Tune on a validation part: CPU seconds of the best's fit, its objective and test AP.

    The objective is the squared hinge surrogate of the training part, whose margin is one standard
    deviation of the scores, so that the scale of the model does not matter; more is better.
    """
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.2, stratify=y, random_state=seed)
    X, X_val, y, y_val = train_test_split(X, y, test_size=0.25, stratify=y, random_state=seed)
    scaler = StandardScaler().fit(X)
    X, X_val, X_test = map(scaler.transform, (X, X_val, X_test))
    best = -np.inf
    for value in grid:
        start = time.process_time()
        coef = fit(X, y, value, seed)
        seconds = time.process_time() - start
        precision = average_precision_score(y_val, X_val @ coef)
        if precision > best:
            objective = average_precision_surrogate(y, X @ coef, loss="squared_hinge")
            best, outcome = precision, (seconds, objective, X_test @ coef)
    return *outcome[:2], average_precision_score(y_test, outcome[2])


def _fit_ours(loss, X, y, alpha, seed):
    return AUPRCClassifier(loss, alpha=alpha, random_state=seed).fit(X, y).coef_[0]


def _fit_libauc(n_epochs, X, y, learning_rate, seed):
    import torch
    from libauc.losses import APLoss
    from libauc.optimizers import SOAP

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    start = LogisticRegression().fit(X, y)
    layer = torch.nn.Linear(X.shape[1], 1)
    layer.load_state_dict(
        {"weight": torch.tensor(start.coef_), "bias": torch.tensor(start.intercept_)}
    )
    data, target = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
    loss = APLoss(data_len=len(y), margin=0.6, gamma=0.1, device="cpu")
    optimizer = SOAP(
        layer.parameters(), lr=learning_rate, mode="adam", weight_decay=1e-5, verbose=False,
        device="cpu",
    )  # fmt: skip
    for epoch in range(n_epochs):
        if epoch in (n_epochs // 2, 3 * n_epochs // 4):
            optimizer.param_groups[0]["lr"] /= 10
        for rows in _balanced_batches(y, 64, rng):
            index = torch.from_numpy(rows)
            optimizer.zero_grad()
            loss(torch.sigmoid(layer(data[index])), target[index], index).backward()
            optimizer.step()
    return layer.weight.detach().numpy()[0].astype(np.float64)


class LibAUC(ClassifierMixin, BaseEstimator):
    """LibAUC's linear model; the learning rate is chosen by average precision on a quarter."""

    def __init__(self, n_epochs=60, rates=(1e-3, 1e-1), random_state=None):
        self.n_epochs = n_epochs
        self.rates = rates
        self.random_state = random_state

    def fit(self, X, y):
        """Fit the coefficients."""
        part, held_out = train_test_split(
            np.arange(len(y)), test_size=0.25, stratify=y, random_state=self.random_state
        )

        def precision(rate):
            coef = _fit_libauc(self.n_epochs, X[part], y[part], rate, self.random_state)
            return average_precision_score(y[held_out], X[held_out] @ coef)

        self.classes_ = np.unique(y)
        best = max(self.rates, key=precision)
        self.coef_ = _fit_libauc(self.n_epochs, X, y, best, self.random_state)
        return self

    def predict_proba(self, X):
        """Return sigmoids of the scores, which rank; they are not calibrated."""
        positive = expit(X @ self.coef_)
        return np.column_stack([1 - positive, positive])


def _balanced_batches(y, batch_size, rng):
    """Return an epoch of batches, half of each positive; the rarer class is repeated."""
    half = batch_size // 2
    pools = [np.flatnonzero(y == label) for label in (1, 0)]
    n_batches = max(1, *(len(pool) // half for pool in pools))
    columns = []
    for pool in pools:
        repeats = -(-n_batches * half // len(pool))
        rows = np.concatenate([rng.permutation(pool) for _ in range(repeats)])
        columns.append(rows[: n_batches * half].reshape(n_batches, half))
    return np.hstack(columns)


def _libauc_row(name, loss, ours, theirs):
    """Compare runs of shape (seeds, [seconds, objective, AP]), split by split."""
    gain, error = mean_and_error(ours[:, 2] - theirs[:, 2])
    speed = theirs[:, 0] / ours[:, 0]
    return {
        "set": name,
        "loss": loss,
        "seconds ours": np.median(ours[:, 0]),
        "seconds libauc": np.median(theirs[:, 0]),
        "times faster": np.median(speed),
        "range": f"{speed.min():.3g}-{speed.max():.3g}",
        "objective ours": ours[:, 1].mean(),
        "objective libauc": theirs[:, 1].mean(),
        "AP ours": ours[:, 2].mean(),
        "AP libauc": theirs[:, 2].mean(),
        "difference": gain,
        "se": error,
        "15 times faster": bool(np.median(speed) >= 15),
        "better objective": bool(ours[:, 1].mean() > theirs[:, 1].mean()),
        "AP no worse": bool(gain >= 0),
        "lost by 2 se": bool(gain < -2 * error),
    }


def real(options):
    """Test AP against logistic regression tuned for AP, on stratified 70/30 splits of real sets.

    The splits of each set are kept in ``real_splits.csv`` as they complete, and read from there
    when the benchmark is started again; delete the file to start from nothing.
    """
    n_splits = 2 if options.quick else 10
    path = options.path("real_splits.csv")
    done = [] if options.quick else read_csv(path)
    failed = []
    for name in _sets(options, REAL_SETS):
        if any(row["set"] == name for row in done):
            continue
        try:
            X, y = load(name, options.data_home)
        except Exception as error:
            failed.append({"set": name, "note": f"cannot be loaded: {error!r}"})
            continue
        splitter = StratifiedShuffleSplit(n_splits, test_size=TEST_SHARE, random_state=0)
        done += joblib.Parallel(n_jobs=1 if options.quick else os.cpu_count())(
            joblib.delayed(_split)(name, X, y, train, test, options.quick)
            for train, test in splitter.split(y, y)
        )
        write_csv(path, done, options.header)
    chosen = [name for name in _sets(options, REAL_SETS) if any(row["set"] == name for row in done)]
    rows = [_real_row(name, [row for row in done if row["set"] == name]) for name in chosen]
    _plot_real(rows, options.path("real.png"))
    return [*rows, *failed, *_real_summary(rows)]


def _split(name, X, y, train, test, quick):
    """Return AP and CPU seconds of each model on one split."""
    train = at_most(MAX_TRAIN, train, y)
    folds = 2 if quick else 5
    logistic = tuned_logistic(folds)
    models = {
        "LR": logistic,
        "LR converged": clone(logistic).set_params(tol=1e-6),
        "ours": AUPRCClassifier(cv=folds, random_state=0),
        "LightGBM": lightgbm(),
    }
    row = {
        "set": name, "n": len(y), "d": X.shape[1], "n+": int(y.sum()), "n train": len(train),
        "n test": len(test),
    }  # fmt: skip
    for label, model in models.items():
        row[f"AP {label}"] = row[f"seconds {label}"] = np.nan
        if model is None:
            continue
        probability, row[f"seconds {label}"] = probabilities(model, X, y, train, test)
        row[f"AP {label}"] = average_precision_score(y[test], probability)
        if label == "ours":
            row["alpha"] = model.alpha_
    return row


def probabilities(model, X, y, train, test):
    """Fit a model to scaled features; return the probabilities of test rows, and CPU seconds."""
    scaler = StandardScaler() if isinstance(X, np.ndarray) else MaxAbsScaler()
    scaled = make_pipeline(scaler, model)
    start = time.process_time()
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        probability = scaled.fit(X[train], y[train]).predict_proba(X[test])[:, 1]
    return probability, time.process_time() - start


def tuned_logistic(folds):
    """Return logistic regression with a penalty chosen by average precision."""
    return LogisticRegressionCV(
        Cs=np.logspace(-4, 4, 9), cv=folds, scoring="average_precision", max_iter=1000,
        l1_ratios=(0,), use_legacy_attributes=False,
    )  # fmt: skip


def lightgbm():
    """Return LightGBM at its defaults, None if it is not installed."""
    try:
        from lightgbm import LGBMClassifier
    except ImportError:
        return None
    return LGBMClassifier(n_jobs=1, random_state=0, verbose=-1)


def _real_row(name, splits):
    """Summarise the splits of one set; the corrected error is Nadeau and Bengio's (2003)."""

    def column(key):
        return np.array([float(row[key]) for row in splits])

    difference = column("AP ours") - column("AP LR")
    gain, error = mean_and_error(difference)
    correction = 1 + len(splits) * column("n test")[0] / column("n train")[0]
    return {
        "set": name,
        **{key: int(splits[0][key]) for key in ("n", "d", "n+", "n train")},
        "AP LR": column("AP LR").mean(),
        "AP LR converged": column("AP LR converged").mean(),
        "AP ours": column("AP ours").mean(),
        "AP LightGBM": column("AP LightGBM").mean(),
        "difference": gain,
        "se": error,
        "corrected se": error * np.sqrt(correction),
        "lost by 2 se": bool(gain < -2 * error),
        "alpha": np.median(column("alpha")),
        "seconds LR": np.median(column("seconds LR")),
        "seconds ours": np.median(column("seconds ours")),
    }


def _real_summary(rows):
    if not rows:
        return []
    gain, error = mean_and_error(np.array([row["difference"] for row in rows]))
    lost = [row["set"] for row in rows if row["lost by 2 se"]]
    worse = sum(row["difference"] < 0 for row in rows)
    note = f"{worse} of {len(rows)} sets below LR; lost by more than 2 se: {', '.join(lost) or '-'}"
    note += f"; at most {MAX_TRAIN} training rows; the error is over the sets"
    converged = np.mean([row["AP ours"] - row["AP LR converged"] for row in rows])
    note += f"; mean difference to LR with tol=1e-6: {converged:.4f}"
    if all(np.isnan(row["AP LightGBM"]) for row in rows):
        note += "; lightgbm is not installed"
    summary = {"set": "mean", "difference": gain, "se": error, "note": note}
    return [{**summary, "reached": bool(gain > 0 and not lost and len(rows) >= 12)}]


def _plot_real(rows, path):
    plt = pyplot()
    if plt is None:
        return
    rows = sorted(rows, key=lambda row: row["difference"])
    figure, axes = plt.subplots(figsize=(6, 1 + 0.25 * len(rows)), layout="constrained")
    axes.errorbar(
        [row["difference"] for row in rows],
        [row["set"] for row in rows],
        xerr=[2 * row["se"] for row in rows],
        fmt="o",
        capsize=3,
    )
    axes.axvline(0, color="grey", linewidth=1)
    axes.set_xlabel("test AP, ours - tuned LR (± 2 standard errors)")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def deep(options):
    """One full-data step of a network on the CPU with the exact loss, against cross-entropy."""
    import torch

    from pnsklearn.losses import AUPRCLoss

    n, d = (5_000 if options.quick else 100_000), 50
    torch.manual_seed(0)
    X = torch.randn(n, d)
    y = (X[:, 0] + torch.randn(n)).argsort().argsort() >= 0.99 * n
    rows = []
    cross_entropy = _step(torch.nn.BCEWithLogitsLoss(), X, y.float())
    for loss in LOSSES:
        timing = paired_ratio(
            _step(AUPRCLoss(loss=loss), X, y.float()), cross_entropy,
            rounds=options.rounds, clock=time.perf_counter,
        )  # fmt: skip
        what = f"step {loss} / BCEWithLogitsLoss, n={n}, MLP {d}-256-256-1, wall seconds"
        rows.append(_judged({"what": what, **timing}, 1.3))
    return rows


def _step(loss, X, y):
    """Return a function that takes one full-data step of a small network."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = nn.Linear(X.shape[1], 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()
    network = nn.Sequential(*layers, nn.Linear(256, 1), nn.Flatten(0))
    optimizer = torch.optim.Adam(network.parameters())

    def step():
        optimizer.zero_grad()
        loss(network(X), y).backward()
        optimizer.step()

    return step


def gpu(options):
    """Exact loss and gradient on a GPU against torch.sort of the same scores."""
    import torch

    from pnsklearn.losses import AUPRCLoss

    if not torch.cuda.is_available():
        return [{"what": "loss and gradient / torch.sort", "note": "no CUDA device"}]
    n, n_positive = (100_000, 1_000) if options.quick else (10_000_000, 100_000)
    scores, y = (torch.tensor(part, device="cuda") for part in _scores(n, n_positive))
    rows = []
    for dtype in (torch.float32, torch.float64):
        leaf = scores.to(dtype).requires_grad_()
        for name in LOSSES:
            loss = AUPRCLoss(loss=name)
            timing = paired_ratio(
                _synchronised(
                    lambda loss=loss, leaf=leaf: torch.autograd.grad(loss(leaf, y), leaf)
                ),
                _synchronised(lambda leaf=leaf: torch.sort(leaf.detach())),
                rounds=options.rounds,
                clock=time.perf_counter,
            )
            what = f"{name} loss and gradient / torch.sort, n={n} n+={n_positive}, {dtype}"
            rows.append(_judged({"what": what, **timing}, 3.0))
    return rows


def _synchronised(function):
    import torch

    def run():
        function()
        torch.cuda.synchronize()

    return run


def _judged(row, bar):
    return {**row, "bar": bar, "reached": bool(row["ratio"] <= bar)}


def _sets(options, names):
    if not options.quick:
        return names
    return SMALL_SETS if options.data_home else BUNDLED


ROWS = {function.__name__: function for function in (kernel, fit, libauc, real, deep, gpu)}


def main():
    """Run the chosen rows, print their tables and write their CSV files."""
    parser = argument_parser("python -m benchmarks.auprc", __doc__)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME")
    options = parser.parse_args()
    begin(options, PACKAGES)
    options.rounds = 2 if options.quick else 7
    print(options.header)
    for name in options.rows:
        print(f"\n{name}: {ROWS[name].__doc__.splitlines()[0]}", flush=True)
        try:
            rows = ROWS[name](options)
        except ModuleNotFoundError as error:
            if error.name.startswith("pnsklearn"):
                raise
            rows = [{"what": name, "note": f"{error.name} is not installed"}]
        print(format_table(rows), flush=True)
        write_csv(options.path(f"{name}.csv"), rows, options.header)


if __name__ == "__main__":
    main()
