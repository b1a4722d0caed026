"""Learn from positives and unlabelled rows: held-out scores, their trends, a split, a classifier.

X. Wang, W. Wan, C. Geng, S.-Y. Li, S. Chen, "Beyond Myopia: Learning from Positive and Unlabeled
Data through Holistic Predictive Trends", NeurIPS 2023; here with cross-fitted runs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import issparse

from pnsklearn._pu_trend._first_stage import FirstStage, first_stage
from pnsklearn._pu_trend._learners import Learner, is_module_factory, make_learners
from pnsklearn._pu_trend._plan import LARGEST_WHOLE_BATCH, make_plan
from pnsklearn._pu_trend._sample import split_sample
from pnsklearn._pu_trend._second_stage import second_stage
from pnsklearn._pu_trend._split import Split, split_trends
from pnsklearn._pu_trend._trend import PAIRED_TRENDS, TRENDS_OF_CHANGE
from pnsklearn._typing import Array, Matrix


@dataclass(frozen=True)
class Solution:
    """The scores in training, their split, and the final classifier for the labels 0 and 1."""

    stage: FirstStage
    split: Split
    final_estimator: Any


def solve(
    X: Matrix,
    labeled: Array,
    weight: Array,
    *,
    estimator: Any,
    final_estimator: Any,
    trend: str,
    split: str,
    class_prior: float | None,
    scenario: str,
    pseudo_labels: str,
    n_snapshots: int,
    n_passes: int | str,
    n_folds: int | None,
    batch_size: int,
    learning_rate: float,
    transforms: tuple[Callable | None, Callable | None],
    device: str,
    n_jobs: int | None,
    rng: np.random.RandomState,
    on_snapshot: Callable[[Learner], bool],
) -> Solution:
    """Learn from rows of positive weight, of which some are labelled positives.

    The parameters are those of `PUTrendClassifier`, with `transforms` as the pair of the weak and
    the strong one. `on_snapshot` is called after each snapshot, and ends the training if it returns
    True.
    """
    prior_seed, final_seed = rng.randint(2**31 - 1, size=2)

    # Both samples, and which of the runs trains on which of their rows.
    by_content = X.shape[0] <= LARGEST_WHOLE_BATCH and not is_module_factory(estimator)
    sample = split_sample(X, labeled, weight, n_folds, rng, by_content=by_content)

    # The held-out scores of all rows at each snapshot, by the better of the models.
    plan = make_plan(
        sample.n_runs,
        sample.unlabeled.n,
        n_snapshots=n_snapshots,
        n_passes=n_passes,
        batch_size=batch_size,
        learning_rate=learning_rate,
    )
    choice = n_folds is not None and not issparse(X)
    learners = make_learners(estimator, choice=choice, device=device, weak_transform=transforms[0])
    stage = first_stage(
        sample,
        learners,
        plan,
        rng,
        stop_early=split != "authors",  # their code uses all snapshots
        fewest_snapshots=2 if trend in TRENDS_OF_CHANGE else 1,
        keep_history=trend in PAIRED_TRENDS,
        on_snapshot=on_snapshot,
    )

    # A trend score for each row, and the threshold above which unlabelled rows are called positive.
    cut = split_trends(
        stage, sample, trend=trend, method=split, class_prior=class_prior, seed=prior_seed
    )

    # A classifier trained on both samples, for the labels 0 and 1.
    final = second_stage(
        sample,
        cut,
        stage.name,
        plan,
        estimator=estimator,
        final_estimator=final_estimator,
        pseudo_labels=pseudo_labels,
        scenario=scenario,
        device=device,
        transforms=transforms,
        n_jobs=n_jobs,
        seed=final_seed,
    )
    return Solution(stage, cut, final)
