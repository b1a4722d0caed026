"""AUPRCClassifier against its peers: time, accuracy of the arithmetic, average precision."""

import time
from functools import partial

import numpy as np
import pandas as pd
from sklearn._loss import HalfBinomialLoss
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler
from threadpoolctl import threadpool_limits

from benchmarks import _engine as engine
from benchmarks._data import BUNDLED, load, shuffled
from benchmarks._parts import average_precision
from benchmarks.peers.auprc import by_pairs, libauc_coef, lightgbm, tuned_logistic
from pnsklearn import AUPRCClassifier
from pnsklearn.metrics import average_precision_surrogate

PACKAGES = ("numpy", "scipy", "scikit-learn", "numba", "torch", "libauc", "lightgbm")
LOSSES = {"smooth": 0.5, "squared_hinge": 1.0}  # margins, in standard deviations of the scores
LIBAUC_SETS = ("mammography", "phoneme", "satimage_4", "page_blocks_not1", "creditcard_fraud")
REAL_SETS = (
    "mammography", "oil_spill", "phoneme", "abalone19", "yeast4", "yeast6", "ecoli4", "car_vgood",
    "wine_red_ge7", "page_blocks_not1", "sick", "credit_default", "creditcard_fraud", "sms_spam",
    "tox21_nr_ar", "satimage_4", "letter_a", "hiv", "adult",
)  # fmt: skip
MAX_TRAIN = 10_000


def kernel(options, report):
    """One value and gradient, one thread: time and error against sorting and brute force."""
    n, n_positive = options.pick((1_000_000, 10_000), (50_000, 500))
    few, few_positive = n // 10, n_positive // 10
    scores, y = _scores(n, n_positive)
    few_scores, few_y = _scores(few, few_positive)
    rows = []
    for loss, margin in LOSSES.items():
        metric = partial(_metric, loss=loss, margin=margin)
        functions = {"kernel": partial(average_precision, loss=loss, margin=margin)}
        for name, function in (functions | {"metric": metric}).items():
            timing = engine.paired_ratio(
                partial(function, scores, y), partial(np.argsort, scores), rounds=_rounds(options)
            )
            what = f"{loss} {name} / np.argsort, n={n} n+={n_positive}"
            rows.append(engine.judged({"what": what, **timing}, 0.35))
        ours = timing["ours"]
        brute = partial(by_pairs, few_scores, few_y, loss, margin)
        timing = engine.paired_ratio(partial(metric, few_scores, few_y), brute, rounds=3)
        what = f"{loss} metric / double loop, n={few} n+={few_positive}"
        rows.append({"what": what, **timing})
        expected = timing["reference"] * (n * n_positive) / (few * few_positive)
        what = f"{loss} metric / double loop extrapolated by pairs, n={n} n+={n_positive}"
        timing = {"ours": ours, "reference": expected, "ratio": ours / expected}
        rows.append(engine.judged({"what": what, **timing}, 0.01))
        value, gradient = brute()
        for offset in (0.0, 1e8):
            found = metric(few_scores + offset, few_y)
            error = max(abs(found[0] - value), np.abs(found[1] - gradient).max())
            what = f"{loss} metric - double loop, scores + {offset:g}, n={few}"
            rows.append({"what": what, "error": error, "bar": 1e-10, "reached": error <= 1e-10})
    for n_positive, bar in ((n // 100, 1.0), (n // 10, 2.0)):
        scores, y = _scores(n, n_positive)
        timing = engine.paired_ratio(
            partial(average_precision, scores, y, loss="smooth", margin=LOSSES["smooth"]),
            partial(HalfBinomialLoss().loss_gradient, y.astype(float), scores),
            rounds=_rounds(options),
        )
        what = f"smooth kernel / scikit-learn's log loss and gradient, n={n} n+={n_positive}"
        rows.append(engine.judged({"what": what, **timing}, bar))
    report.table("kernel", rows)


def _rounds(options):
    return options.pick(7, 2)


def _scores(n, n_positive, seed=0):
    """Overlapping scores that stay exact when 1e8 is added: multiples of 2**-20."""
    rng = np.random.default_rng(seed)
    y = np.zeros(n, dtype=int)
    y[rng.choice(n, n_positive, replace=False)] = 1
    return np.round((rng.normal(size=n) + 1.5 * y) * 2**20) / 2**20, y


def _metric(scores, y, loss, margin):
    return average_precision_surrogate(y, scores, loss=loss, margin=margin, return_gradient=True)


def fit(options, report):
    """Linear fits, their logistic regression included, against that alone and boosting."""
    n = options.pick(1_000_000, 20_000)
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
                timing = engine.paired_ratio(
                    partial(AUPRCClassifier(loss, alpha=0.1).fit, X, y),
                    partial(LogisticRegression().fit, X, y),
                    rounds=_rounds(options),
                    clock=clock,
                )
            what = f"fit {loss} / LogisticRegression, n={n} d=20, {unit}"
            rows.append(engine.judged({"what": what, **timing}, 2.0))
    for n in options.pick([100_000, 1_000_000], [5_000]):
        for name, reference in (
            ("LogisticRegression", LogisticRegression()),
            ("HistGradientBoostingClassifier", HistGradientBoostingClassifier(random_state=0)),
        ):
            with threadpool_limits(1):
                timing = engine.paired_ratio(
                    partial(AUPRCClassifier().fit, X[:n], y[:n]),
                    partial(reference.fit, X[:n], y[:n]),
                    rounds=options.pick(3, 1),
                    clock=time.process_time,
                )
            what = f"fit with defaults / {name}, n={n} d=20, CPU seconds, one thread"
            rows.append({"what": what, **timing})
    report.table("fit", rows)


def libauc(options, report):
    """LibAUC's APLoss and SOAP for the same linear model, its learning rate and our alpha tuned."""
    if not engine.is_installed("torch", "libauc"):
        return
    alphas, rates = (0.001, 0.01, 0.1, 1.0), (1e-4, 1e-3, 1e-2, 1e-1)
    fits = {loss: (partial(_fit_ours, loss), alphas) for loss in LOSSES}
    fits["libauc"] = partial(libauc_coef, n_epochs=options.pick(60, 2)), rates
    _fit_ours("smooth", *load(BUNDLED[0]), alpha=1.0, seed=0)  # compile

    def run(set, seed, model):
        return _tuned(*fits[model], *load(set, options.data_home), seed)

    sets = options.pick(LIBAUC_SETS, BUNDLED)
    cells = engine.grid(set=sets, seed=options.seeds_of(5), model=fits)
    rows = report.runs("libauc_runs", cells, run)
    report.table("libauc", [row for loss in LOSSES for row in _libauc_rows(rows, loss)])


def _tuned(fit, grid, X, y, seed):
    """Tune on a validation part: seconds of the best's fit, its objective in training, test AP."""
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.2, stratify=y, random_state=seed)
    X, X_val, y, y_val = train_test_split(X, y, test_size=0.25, stratify=y, random_state=seed)
    scaler = StandardScaler().fit(X)
    X, X_val, X_test = map(scaler.transform, (X, X_val, X_test))
    found = [engine.seconds_of(fit, X, y, value, seed) for value in grid]
    precision = [average_precision_score(y_val, X_val @ coef) for coef, _ in found]
    coef, seconds = found[int(np.argmax(precision))]
    return {
        "seconds": seconds,
        "objective": average_precision_surrogate(y, X @ coef, loss="squared_hinge"),
        "AP": average_precision_score(y_test, X_test @ coef),
    }


def _fit_ours(loss, X, y, alpha, seed):
    return AUPRCClassifier(loss, alpha=alpha, random_state=seed).fit(X, y).coef_[0]


def _libauc_rows(rows, loss):
    """Compare a loss of ours, split by split, on each set."""
    for name, of_set in rows.groupby("set", sort=False):
        runs = of_set.pivot(index="seed", columns="model")
        (seconds, objective, precision) = (
            runs[key][[loss, "libauc"]].set_axis(["ours", "libauc"], axis=1)
            for key in ("seconds", "objective", "AP")
        )
        speed = seconds["libauc"] / seconds["ours"]
        gain, error = engine.mean_se(precision["ours"] - precision["libauc"])
        yield {
            "set": name, "loss": loss, **seconds.median().add_prefix("seconds "),
            "times faster": speed.median(), "range": f"{speed.min():.3g}-{speed.max():.3g}",
            **objective.mean().add_prefix("objective "), **precision.mean().add_prefix("AP "),
            "difference": gain, "se": error, "15 times faster": speed.median() >= 15,
            "better objective": objective["ours"].mean() > objective["libauc"].mean(),
            "AP no worse": gain >= 0, "lost by 2 se": gain < -2 * error,
        }  # fmt: skip


def real(options, report):
    """Test AP against logistic regression tuned for AP, on stratified 70/30 splits of real sets."""
    n_folds = options.pick(5, 2)
    models = {"LR": tuned_logistic(n_folds), "LR converged": tuned_logistic(n_folds, tol=1e-6)}
    models["ours"] = AUPRCClassifier(cv=n_folds, random_state=0)
    if engine.is_installed("lightgbm"):
        models["LightGBM"] = lightgbm()

    def run(set, split, model):
        X, y = load(set, options.data_home)
        train, test = shuffled(y, split, MAX_TRAIN)
        probability, seconds = probabilities(models[model], X, y, train, test)
        return {
            "n": len(y), "d": X.shape[1], "n+": y.sum(), "n train": len(train), "n test": len(test),
            "AP": average_precision_score(y[test], probability), "seconds": seconds,
            "alpha": getattr(models[model], "alpha_", np.nan),
        }  # fmt: skip

    sets, n_splits = options.pick((REAL_SETS, options.seeds or 10), (BUNDLED, 2))
    cells = engine.grid(set=sets, split=range(n_splits), model=models)
    table = _real_table(report.runs("real_runs", cells, run))
    report.figure(_plot_real, table)
    report.table("real", pd.concat([table, _real_summary(table)]))


def probabilities(model, X, y, train, test):
    """Fit a model to scaled features; return the probabilities of test rows, and CPU seconds."""
    scaler = StandardScaler() if isinstance(X, np.ndarray) else MaxAbsScaler()
    scaled = make_pipeline(scaler, model)
    return engine.seconds_of(lambda: scaled.fit(X[train], y[train]).predict_proba(X[test])[:, 1])


def _real_table(rows):
    """Return one row for each set; the corrected error is Nadeau and Bengio's (2003)."""
    precision, seconds = (engine.wide(rows, key, "set", "split") for key in ("AP", "seconds"))
    gain, error = engine.differences(precision, "ours")
    of_set = rows.groupby("set", sort=False)
    table = of_set[["n", "d", "n+", "n train"]].first()
    means = engine.by_unit(precision).mean()
    for model in ("LR", "LR converged", "ours", "LightGBM"):
        table[f"AP {model}"] = means.get(model)
    table["difference"], table["se"] = gain["LR"], error["LR"]
    first = of_set[["n train", "n test"]].first()
    ratio = of_set["split"].nunique() * first["n test"] / first["n train"]
    table["corrected se"] = table["se"] * np.sqrt(1 + ratio)
    table["lost by 2 se"] = table["difference"] < -2 * table["se"]
    table["alpha"] = of_set["alpha"].median()
    for model in ("LR", "ours"):
        table[f"seconds {model}"] = engine.by_unit(seconds[model]).median()
    return table.reset_index()


def _real_summary(table):
    gain, error = engine.mean_se(table["difference"])
    lost = table.loc[table["lost by 2 se"], "set"]
    converged = (table["AP ours"] - table["AP LR converged"]).mean()
    note = (
        f"{(table['difference'] < 0).sum()} of {len(table)} sets below LR; lost by more than 2 se: "
        f"{', '.join(lost) or '-'}; mean difference to LR with tol=1e-6: {converged:.4f}"
    )
    summary = {"set": "mean", "difference": gain, "se": error, "note": note}
    return pd.DataFrame([summary | {"reached": gain > 0 and not len(lost) and len(table) >= 12}])


def _plot_real(plt, table):
    table = table.sort_values("difference")
    figure, axes = plt.subplots(figsize=(6, 1 + 0.25 * len(table)), layout="constrained")
    axes.errorbar(table["difference"], table["set"], xerr=2 * table["se"], fmt="o", capsize=3)
    axes.axvline(0, color="grey", linewidth=1)
    axes.set_xlabel("test AP, ours - tuned LR (± 2 standard errors)")
    return figure


def deep(options, report):
    """One full-data step of a network on the CPU with the exact loss, against cross-entropy."""
    if not engine.is_installed("torch"):
        return
    import torch

    from pnsklearn.losses import AUPRCLoss

    n, d = options.pick(100_000, 5_000), 50
    torch.manual_seed(0)
    X = torch.randn(n, d)
    y = (X[:, 0] + torch.randn(n)).argsort().argsort() >= 0.99 * n
    rows = []
    cross_entropy = _step(torch.nn.BCEWithLogitsLoss(), X, y.float())
    for loss in LOSSES:
        ours = _step(AUPRCLoss(loss=loss), X, y.float())
        timing = engine.paired_ratio(
            ours, cross_entropy, rounds=_rounds(options), clock=time.perf_counter
        )
        what = f"step {loss} / BCEWithLogitsLoss, n={n}, MLP {d}-256-256-1, wall seconds"
        rows.append(engine.judged({"what": what, **timing}, 1.3))
    report.table("deep", rows)


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


def gpu(options, report):
    """Exact loss and gradient on a GPU against torch.sort of the same scores."""
    if not engine.is_installed("torch"):
        return
    import torch

    from pnsklearn.losses import AUPRCLoss

    if not torch.cuda.is_available():
        report.table("gpu", [{"what": "loss and gradient / torch.sort", "note": "no CUDA device"}])
        return
    n, n_positive = options.pick((10_000_000, 100_000), (100_000, 1_000))
    scores, y = (torch.tensor(part, device="cuda") for part in _scores(n, n_positive))

    def gradient(loss, leaf):
        torch.autograd.grad(loss(leaf, y), leaf)
        torch.cuda.synchronize()

    def sort(leaf):
        torch.sort(leaf)
        torch.cuda.synchronize()

    rows = []
    for dtype in (torch.float32, torch.float64):
        leaf = scores.to(dtype).requires_grad_()
        for name in LOSSES:
            functions = partial(gradient, AUPRCLoss(loss=name), leaf), partial(sort, leaf.detach())
            timing = engine.paired_ratio(
                *functions, rounds=_rounds(options), clock=time.perf_counter
            )
            what = f"{name} loss and gradient / torch.sort, n={n} n+={n_positive}, {dtype}"
            rows.append(engine.judged({"what": what, **timing}, 3.0))
    report.table("gpu", rows)


SECTIONS = {section.__name__: section for section in (kernel, fit, libauc, real, deep, gpu)}
ALL_CORES = ("fit", "deep", "gpu")
