"""Second stage: trend scores become pseudo-labels, on which the final classifier is trained."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.random import RandomState
from scipy.sparse import issparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import has_fit_parameter

from pnsklearn._auprc._threshold import choose_threshold
from pnsklearn._pu_trend._networks import NETWORKS, MeanProbability
from pnsklearn._pu_trend._presets import LARGEST_WHOLE_BATCH, PUBLISHED_DECAY, Plan
from pnsklearn._pu_trend._sample import FinalRows, Sample
from pnsklearn._pu_trend._split import Split
from pnsklearn._pu_trend._table import Table
from pnsklearn._typing import Array, Matrix

# Pseudo-labels are multiples of it: with a power of two the sums of weights, and so the ties of a
# tree, are exact.
TARGET_STEP = 2.0**-10
SMALLEST_NEGATIVE_WEIGHT = 1e-6  # of a row where all are positive: both classes are needed
# The default trees: least weight of a leaf, least features to choose a split from, and the rows
# beyond which each tree gets a sample of as many. Not a whole weight, where rounding would decide.
LEAF_WEIGHT, FEWEST_FEATURES, LARGEST_TREE_SAMPLE = 2.9, 16, 10_000


def second_stage(
    sample: Sample, split: Split, plan: Plan, fit: Callable, table: Table, *,
    pseudo_labels: str, scenario: str, seed: int,
) -> Any:  # fmt: skip
    """Return the final classifier, which `fit` trains on both samples."""
    soft = pseudo_labels == "soft"
    target = posterior(split, sample) if soft else split.called_positive.astype(np.float64)
    rows = final_rows(sample, target, split.share, scenario, table)
    if pseudo_labels == "ramped":  # as published
        plan = replace(plan, ramp=True, decay=PUBLISHED_DECAY)
    return fit(rows, plan, RandomState(seed))


def posterior(split: Split, sample: Sample) -> Array:
    """Return for each unlabeled row the probability that it is positive.

    By Bayes P(y = 1 | score) = min(1, share f_P / f_U), with the ratio of the scores' densities in
    both samples. The ratio is the odds of "labeled" when both weigh the same, fitted as a
    nondecreasing function of the score; then all are scaled so that their mean is the share.
    """
    from sklearn.isotonic import IsotonicRegression

    ranking = split.ranking
    scores, labeled, weight = sample.pooled([ranking.positives, ranking.unlabeled])
    model = IsotonicRegression(out_of_bounds="clip").fit(scores, labeled, sample_weight=weight)
    labeled_share = np.minimum(model.predict(ranking.unlabeled), 1 - 1e-9)
    ratio = labeled_share / (1 - labeled_share)
    return scaled_to_mean(split.share * ratio, split.share, sample.unlabeled.weight)


def scaled_to_mean(values: Array, mean: float, weight: Array) -> Array:
    """Return min(1, c v) for v = min(1, values), with the c of which the mean is `mean`."""
    for _ in range(100):
        values = np.minimum(values, 1.0)
        current = np.average(values, weights=weight)
        if current == 0 or abs(current - mean) <= 1e-6:
            break
        values = values * (mean / current)
    return np.minimum(values, 1.0)


def final_rows(
    sample: Sample, target: Array, share: float, scenario: str, table: Table
) -> FinalRows:
    """Return what the final classifier is trained on: a soft target becomes two rows.

    In the "single" scenario both samples together are the population. In the "case-control"
    scenario U is, and the positives of both samples are scaled to its share of positives.
    """
    positives, unlabeled = sample
    target = np.round(target / TARGET_STEP) * TARGET_STEP
    yes, no = target > 0, target < 1
    no |= ~no.any()  # both classes are needed
    rows = np.flatnonzero(yes), np.flatnonzero(no)
    weight_yes = np.concatenate([positives.weight, (unlabeled.weight * target)[yes]])
    weight_no = (unlabeled.weight * np.maximum(1 - target, SMALLEST_NEGATIVE_WEIGHT))[no]
    if scenario == "case-control":
        weight_yes = weight_yes * (share * unlabeled.weight.sum() / weight_yes.sum())
    weight = np.concatenate([weight_yes, weight_no])
    return FinalRows(
        X=table.take(np.concatenate([np.arange(positives.n), *(positives.n + r for r in rows)])),
        target=np.repeat([1, 0], [weight_yes.shape[0], weight_no.shape[0]]),
        weight=weight,
        unlabeled=np.arange(weight.shape[0]) >= positives.n,
    )


def choose_cut(rule: Any, final: Any, sample: Sample, scenario: str, table: Table) -> float:
    """Return the probability above which rows are called positive, by a rule of `AUPRCClassifier`.

    An unlabeled row of probability p counts as p positives and 1 - p negatives.
    """
    if not isinstance(rule, (str, tuple)) or rule == "proba":
        return choose_threshold(rule, *np.empty((3, 0)))
    positives, unlabeled = sample
    every = final.predict_proba(table.take(np.arange(positives.n + unlabeled.n)))[:, 1]
    p = every[positives.n :]
    positive, probability = np.repeat([1, 0], p.shape[0]), np.tile(p, 2)
    weight = np.concatenate([unlabeled.weight * p, unlabeled.weight * (1 - p)])
    if scenario == "single":
        positive = np.append(np.ones(positives.n, dtype=int), positive)
        probability = np.append(every[: positives.n], probability)
        weight = np.append(positives.weight, weight)
    return choose_threshold(rule, positive, probability, weight)


def fit_network(kind: str, rows: FinalRows, plan: Plan, rng: RandomState) -> MeanProbability:
    """Train one fresh network on the rows."""
    n = rows.X.shape[0]
    whole = n <= LARGEST_WHOLE_BATCH
    n_batches = max(1, round(max(n, LARGEST_WHOLE_BATCH) / plan.batch_size))
    plan = replace(plan, n_runs=1, n_snapshots=plan.n_epochs, steps=n_batches)
    dtype = np.float64 if whole and rows.X.dtype == np.float64 else np.float32
    network = NETWORKS[kind](rows.X, rows.weight, plan, rng, dtype)
    X = network.scaled(rows.X)
    mean_batch = n if whole else n / n_batches
    share = (rows.weight / rows.weight.mean() / mean_batch).astype(dtype)[:, np.newaxis]
    for epoch in range(plan.n_epochs):
        target = plan.targets(rows.target, rows.unlabeled, epoch).astype(dtype)
        if whole:
            for _ in range(n_batches):
                network.step(X, share, target)
        else:
            for batch in np.array_split(rng.permutation(n), n_batches):
                network.step(X[batch], share[batch], target[batch])
    network.check_finite()
    return MeanProbability(network)


def fit_trees(n_jobs: int | None, rows: FinalRows, plan: Plan, rng: RandomState) -> Pipeline:
    """Train the default trees. The rows, which nobody else has, are scaled in place."""
    model = default_trees(rows.X, rows.weight, n_jobs)
    fitted = fit_classifier(model.set_params(standardscaler__copy=False), rows, plan, rng)
    return fitted.set_params(standardscaler__copy=True)


def default_trees(X: Matrix, weight: Array, n_jobs: int | None) -> Pipeline:
    """Return the default classifier, for rows X and their weights."""
    from sklearn.ensemble import ExtraTreesClassifier

    many = X.shape[0] > LARGEST_TREE_SAMPLE
    total = LARGEST_TREE_SAMPLE if many else weight.sum()  # a bootstrap sample counts rows
    trees = ExtraTreesClassifier(
        max_features=min(X.shape[1], max(FEWEST_FEATURES, int(math.sqrt(X.shape[1])))),
        min_weight_fraction_leaf=LEAF_WEIGHT / max(total, 2 * LEAF_WEIGHT),
        bootstrap=many,
        max_samples=LARGEST_TREE_SAMPLE if many else None,
        n_jobs=n_jobs,
    )
    # Trees work in 32 bits: without scaling, tiny or far-off features would be constant.
    scaler = StandardScaler(with_mean=not issparse(X)).set_output(transform="default")
    return make_pipeline(scaler, trees)


def with_short_indices(X: Matrix) -> Matrix:
    """Return X; a CSR matrix with 32-bit indices, which trees need, where these suffice."""
    if not issparse(X) or X.nnz > np.iinfo(np.int32).max:
        return X
    indices, starts = X.indices.astype(np.int32), X.indptr.astype(np.int32)
    return type(X)((X.data, indices, starts), shape=X.shape)


def takes_weights(model: Any) -> bool:
    """Return whether a classifier, or the last step of a pipeline, takes sample weights."""
    return has_fit_parameter(model[-1] if isinstance(model, Pipeline) else model, "sample_weight")


def fit_classifier(model: Any, rows: FinalRows, plan: Plan, rng: RandomState) -> Any:
    """Train a clone of a classifier, or every step of a pipeline, with weights where it takes them.

    The plan is for models that have none of their own.
    """
    model = clone(model)
    states = {
        name: int(rng.randint(2**31 - 1))
        for name, value in sorted(model.get_params().items())
        if name.rpartition("__")[2] == "random_state" and value is None
    }
    model.set_params(**states)
    if isinstance(model, Pipeline):
        names = [name for name, step in model.steps if has_fit_parameter(step, "sample_weight")]
        weights = {f"{name}__sample_weight": rows.weight for name in names}
    else:
        weights = {"sample_weight": rows.weight} if takes_weights(model) else {}
    # The names of the steps are our own matter, whatever the user routes.
    with config_context(enable_metadata_routing=False):
        return model.fit(rows.X, rows.target, **weights)
