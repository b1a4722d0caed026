"""Learn from positives and unlabeled rows: held-out scores, their trends, a split, a classifier.

X. Wang, W. Wan, C. Geng, S.-Y. Li, S. Chen, "Beyond Myopia: Learning from Positive and Unlabeled
Data through Holistic Predictive Trends", NeurIPS 2023; here with cross-fitted runs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.random import RandomState
from scipy.sparse import issparse
from sklearn.utils import check_random_state

from pnsklearn._fitting import warn_user
from pnsklearn._pu_trend._diagnostics import Diagnostics, diagnose
from pnsklearn._pu_trend._first_stage import FirstStage, first_stage
from pnsklearn._pu_trend._learners import NetworkLearner, PartialFitLearner
from pnsklearn._pu_trend._presets import LARGEST_WHOLE_BATCH, Plan, schedule
from pnsklearn._pu_trend._sample import some_rows, split_sample
from pnsklearn._pu_trend._second_stage import (
    choose_cut,
    fit_classifier,
    fit_network,
    fit_trees,
    second_stage,
)
from pnsklearn._pu_trend._share import (
    doubt,
    estimated_share,
    known_share,
    posterior_of,
    two_views,
)
from pnsklearn._pu_trend._split import Split, choose_ranking, split_trends
from pnsklearn._pu_trend._table import Table
from pnsklearn._typing import Array, Matrix
from pnsklearn.exceptions import PUWarning

MOST_ROWS = 20_000  # of each sample that are used: more add little to curves and trees


@dataclass(frozen=True)
class Solution:
    """The scores in training, their split, and the final classifier for the labels 0 and 1."""

    stage: FirstStage
    split: Split
    final_estimator: Any
    threshold: float  # of its probability
    rows: Array  # that were used
    posterior: Any  # of the share of positives; None where it is not estimated
    doubt: float
    diagnostics: Diagnostics


def solve(
    X: Matrix, labeled: Array, weight: Array, whole_table: Any,
    on_snapshot: Callable[[Any], bool], *,
    estimator: Any, final_estimator: Any, trend: str, split: str, class_prior: Any,
    scenario: str, threshold: Any, pseudo_labels: str, n_snapshots: int, n_passes: float | str,
    n_folds: int | None, batch_size: int, learning_rate: float, transforms: Any, device: str,
    n_jobs: int | None, random_state: Any,
) -> Solution:  # fmt: skip
    """Learn from rows of positive weight, of which some are labeled positives.

    The final classifier gets the same rows of `whole_table`, which may be X.
    `on_snapshot` is called with the learner after each snapshot, and ends the first stage if it
    returns True. The other parameters are those of `PUTrendClassifier`.
    """
    rng = check_random_state(random_state)
    share_seed, final_seed = rng.randint(2**31 - 1, size=2)
    most = X.shape[0] if n_folds is None or is_module_factory(estimator) else MOST_ROWS
    rows, weight = some_rows(labeled, weight, most, rng)
    if rows.shape[0] < X.shape[0]:
        X, labeled = X[rows], labeled[rows]
    table = Table(whole_table, np.concatenate([rows[labeled], rows[~labeled]]))
    several = n_folds is not None and not issparse(X)
    models = make_models(estimator, several, transforms, device)

    # Both samples, and which of the runs trains on which of their rows.
    whole = X.shape[0] <= LARGEST_WHOLE_BATCH and not is_module_factory(estimator)
    sample = split_sample(X, labeled, weight, n_folds, rng, whole=whole)
    del X  # its rows are in the sample

    # The held-out scores of all rows at each snapshot, by the better one of the models.
    steps, decay = schedule(n_passes, sample.unlabeled.n, batch_size * n_snapshots)
    plan = Plan(sample.n_runs, n_snapshots, steps, batch_size, learning_rate, decay)
    learners = {name: learner for name, (learner, _) in models.items()}
    early = split != "authors"  # their code uses all snapshots
    stage = first_stage(
        sample, learners, plan, rng, trend=trend, stop_early=early, on_snapshot=on_snapshot
    )

    # A trend score for each row; the share of positives among the unlabeled rows; and the
    # threshold above which these are called positive.
    ranking = choose_ranking(stage, sample, trend)
    given = None if class_prior is None else bounds(class_prior)
    views, share = None, known_share(*given) if given else None
    if sample.held_out:
        trends = [ranking.positives, ranking.unlabeled]
        views = two_views(trends, sample, RandomState(share_seed), whole=whole)
        share = estimated_share(views, *(given or (0, 1)))
    cut = split_trends(ranking, sample, split, share)

    # A classifier for the labels 0 and 1, trained on both samples, and how doubtful it is.
    fit = second_fit(estimator, final_estimator, models[stage.name][1], n_jobs)
    scheme = {"pseudo_labels": pseudo_labels, "scenario": scenario, "seed": final_seed}
    final = second_stage(sample, cut, plan, fit, table, **scheme)
    above = choose_cut(threshold, final, sample, scenario, table)
    chance = np.nan
    if views is not None and share is not None:
        rows_of_U = table.take(sample.positives.n + views.rows)
        positive = final.predict_proba(rows_of_U)[:, 1] > 0.5
        called = float(np.average(positive, weights=views.weight[1]))
        chance = doubt(share, views, called, scenario)
    diagnostics, sentences = diagnose(cut, sample, share, chance, given)
    for sentence in sentences:
        warn_user(sentence, PUWarning)
    return Solution(stage, cut, final, above, rows, posterior_of(share), chance, diagnostics)


def second_fit(estimator: Any, final_estimator: Any, same: Callable, n_jobs: Any) -> Callable:
    """Return how the final classifier is trained; `same` trains that of the first stage."""
    if trains_same(estimator, final_estimator):
        return same
    if final_estimator is None:
        return partial(fit_trees, n_jobs)
    return partial(fit_classifier, final_estimator)


def bounds(class_prior: Any) -> tuple[float, float]:
    """Return the bounds of a share that is known, exactly or within a range."""
    low, high = class_prior if np.ndim(class_prior) else (class_prior, class_prior)
    return float(low), float(high)


def is_module_factory(estimator: Any) -> bool:
    """Return whether an estimator is a function that makes torch modules."""
    return not isinstance(estimator, str) and not hasattr(estimator, "fit")


def trains_same(estimator: Any, final_estimator: Any) -> bool:
    """Return whether the second stage trains the model of the first one afresh."""
    return isinstance(final_estimator, str) or (
        final_estimator is None and is_module_factory(estimator)
    )


def make_models(estimator: Any, several: bool, transforms: Any, device: str) -> dict[str, tuple]:
    """Return by name how a model learns in the first stage, and how in the second.

    Of "auto" there are `several`, which can be compared where rows are held out.
    """
    if is_module_factory(estimator):
        from pnsklearn._pu_trend._module import ModuleLearner, fit_module

        weak, strong = transforms if isinstance(transforms, tuple) else (transforms, None)
        module = partial(ModuleLearner, estimator, weak, device)
        return {"module": (module, partial(fit_module, estimator, weak, strong, device))}
    if not isinstance(estimator, str):
        learner = partial(PartialFitLearner, estimator)
        return {"partial_fit": (learner, partial(fit_classifier, estimator))}
    names = [estimator]
    if estimator == "auto":
        names = ["linear", "mlp"] if several else ["linear"]
    return {name: (partial(NetworkLearner, name), partial(fit_network, name)) for name in names}
