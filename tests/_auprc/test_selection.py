"""The choice of the anchor and its strength."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold

from pnsklearn import AUPRCClassifier
from pnsklearn._auprc import _selection
from pnsklearn._auprc._selection import (
    ALPHA_GRID,
    C_GRID,
    average_precision,
    make_splits,
    select,
    strengths,
    thinned,
)
from pnsklearn._splits import usable_splits
from pnsklearn.datasets import make_rare_positives


def test_selection_does_not_depend_on_the_unit_of_the_scores():
    """Tiny scores rank as any others when the anchor and its strength are chosen."""
    X, y = make_rare_positives(400, 3, prior=0.2, random_state=0)
    positive, weight = y == 1, np.ones(400)
    splits = list(StratifiedKFold(3).split(X, y))
    good, bad = np.array([1.0, 0.5, 0.0]), np.array([0.0, 0.0, 1.0])

    def choose(unit):
        return select(
            positive,
            weight,
            splits,
            [1.0],
            anchors=lambda split: [unit * bad, unit * good],
            path=lambda split, anchor: [anchor],
            scores=lambda theta, test: X[test] @ theta,
        )[:2]

    assert choose(1.0) == choose(1e-20) == (1, 1.0)


def choose_among(n_anchors, alphas, quality, **options):
    """Return the choice; `quality` is how well the rows are ranked."""
    positive, weight = np.arange(60) % 4 == 0, np.ones(60)
    noise = np.random.default_rng(0).standard_normal(60)
    return select(
        positive,
        weight,
        list(StratifiedKFold(3).split(positive, positive)),
        alphas,
        anchors=lambda split: [(k, None, split) for k in range(n_anchors)],
        path=lambda split, anchor: [(anchor[0], alpha, split) for alpha in alphas],
        scores=lambda theta, test: noise[test] + 10 * quality(*theta) * positive[test],
        **options,
    )


def test_selection_takes_the_best_anchor_then_the_best_alpha():
    alphas = [8.0, 4.0, 2.0]
    choice = choose_among(3, alphas, lambda anchor, alpha, split: alpha == 4.0)
    assert choice[:2] == (0, 4.0)  # all anchors are alike, the first wins
    assert_array_equal(choice.precision, 1.0)
    choice = choose_among(3, alphas, lambda anchor, alpha, split: anchor == 1)
    assert choice[:2] == (1, 8.0)


def test_selection_by_one_standard_error_keeps_the_first_unless_the_gain_is_sure():
    def on_all(anchor, alpha, split):
        return alpha == 2.0

    def on_one(anchor, alpha, split):
        return alpha == 2.0 and split == 0

    assert choose_among(1, [8.0, 2.0], on_all, by_one_se=True).alpha == 2.0
    assert choose_among(1, [8.0, 2.0], on_one).alpha == 2.0
    assert choose_among(1, [8.0, 2.0], on_one, by_one_se=True).alpha == 8.0


def test_one_split_has_no_standard_error():
    """So that the first strength stays, whatever the gain; the others are chosen as ever."""
    X, y = make_rare_positives(400, 3, prior=0.2, random_state=0)
    positive, one = y == 1, [(np.arange(200), np.arange(200, 400))]
    rest = {
        "anchors": lambda split: [-np.ones(3)],
        "path": lambda split, anchor: [anchor, np.ones(3)],
        "scores": lambda theta, test: X[test] @ theta,
    }
    choices = [
        select(positive, np.ones(400), one, [8.0, 2.0], by_one_se=by_one_se, **rest)
        for by_one_se in (False, True)
    ]
    assert [choice.alpha for choice in choices] == [2.0, 8.0]
    model = AUPRCClassifier(alpha="cv-1se", cv=one).fit(X, y)
    assert model.alpha_ == np.inf
    assert model.cv_average_precision_.shape == (1,)


def precision_by_hand(X, y, weight, splits, alphas, **params):
    """Return the average precision of each split and alpha, by a loop of fits."""
    return np.array(
        [
            [
                average_precision_score(
                    y[test],
                    AUPRCClassifier(alpha=alpha, **params)
                    .fit(X[train], y[train], weight[train])
                    .decision_function(X[test]),
                    sample_weight=weight[test],
                )
                for alpha in alphas
            ]
            for train, test in splits
        ]
    )


@pytest.mark.parametrize("is_sure, seed", [(True, 1), (False, 0), (False, 2)])
def test_choice_of_alpha_by_hand(is_sure, seed):
    """A given anchor has no C to choose, so that the splits are plain fits."""
    X, y = make_rare_positives(600, 4, class_sep=2.0, prior=0.1, outliers=0.2, random_state=seed)
    weight = np.random.default_rng(seed).uniform(0.5, 2.0, 600)
    params = {"anchor": np.array([1.0, 0.5, 0.2, 0.1]), "tol": 1e-9}
    splits = list(StratifiedKFold(4).split(X, y))
    precision = precision_by_hand(X, y, weight, splits, ALPHA_GRID, **params)
    best = precision.mean(axis=0).argmax()
    gains = precision[:, best] - precision[:, 0]
    error = np.sqrt(np.sum((gains - gains.mean()) ** 2) / 3 / 4)
    assert best > 0
    assert (gains.mean() > error) == is_sure
    for alpha, expected in (("cv", best), ("cv-1se", best if is_sure else 0)):
        model = AUPRCClassifier(alpha=alpha, cv=4, **params).fit(X, y, weight)
        assert model.alpha_ == ALPHA_GRID[expected]
        assert_allclose(model.cv_average_precision_, precision[:, expected], atol=1e-7)


def test_choice_of_the_anchor_by_hand():
    """Of nine C's that with the best average precision; alpha is infinite by the few positives."""
    X, y = make_rare_positives(600, 4, prior=0.1, random_state=0)
    X[:, 1:] = np.random.default_rng(0).standard_normal((600, 3)) * [1, 10, 100]
    keep = (y == 0) | (np.cumsum(y) <= 9)
    X, y = X[keep], y[keep]
    splits = list(StratifiedKFold(3).split(X, y))
    precision = np.array(
        [
            [
                average_precision_score(
                    y[test],
                    LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10, max_iter=1000)
                    .fit(X[train], y[train])
                    .decision_function(X[test]),
                )
                for C in C_GRID
            ]
            for train, test in splits
        ]
    )
    best = np.round(precision.mean(axis=0), 9).argmax()
    assert 0 < best < 8
    with pytest.warns(UserWarning, match="Only 9 positive samples"):
        model = AUPRCClassifier(alpha="cv-1se", cv=3).fit(X, y)
    assert model.alpha_ == np.inf
    assert_allclose(model.cv_average_precision_, precision[:, best])
    expected = LogisticRegression(C=C_GRID[best]).fit(X, y).coef_[0]
    cosine = model.coef_[0] @ expected / np.linalg.norm(model.coef_) / np.linalg.norm(expected)
    assert cosine == pytest.approx(1, abs=1e-4)


@pytest.fixture
def fifty_rows(monkeypatch):
    monkeypatch.setattr(_selection, "MOST_ROWS", 50)


def test_many_rows_are_thinned(fifty_rows):
    positive = np.arange(300) % 5 == 0
    splits = list(StratifiedKFold(4).split(positive, positive))
    fewer, times = thinned(splits, positive)
    assert_array_equal(times, np.where(positive, 60 / 50, 240 / 50))
    rows = np.sort(fewer[0][0].tolist() + fewer[0][1].tolist())
    assert_array_equal(np.bincount(positive[rows]), [50, 50])
    assert np.diff(np.flatnonzero(np.isin(np.flatnonzero(~positive), rows))).max() == 5
    for split, sides in zip(splits, fewer, strict=True):
        for all_rows, side in zip(split, sides, strict=True):
            assert_array_equal(side, all_rows[np.isin(all_rows, rows)])


def test_a_side_that_would_lose_its_class_keeps_all_rows(fifty_rows):
    positive = np.arange(400) >= 200
    splits = [(np.r_[:150, 250:400], np.array([0, 201]))]  # every fourth stays, not the last
    fewer, times = thinned(splits, positive)
    assert fewer is splits
    assert_array_equal(times, 1.0)


def test_choice_on_some_rows_by_hand(fifty_rows):
    """Their weights go up, so that the classes keep their shares; the fit is on all rows."""
    X, y = make_rare_positives(600, 4, class_sep=2.0, prior=0.2, outliers=0.2, random_state=0)
    weight = np.random.default_rng(0).uniform(0.5, 2.0, 600)
    params = {"anchor": np.array([1.0, 0.5, 0.2, 0.1]), "tol": 1e-9}
    splits, times = thinned(list(StratifiedKFold(4).split(X, y)), y == 1)
    precision = precision_by_hand(X, y, weight * times, splits, ALPHA_GRID, **params)
    best = precision.mean(axis=0).argmax()
    model = AUPRCClassifier(cv=4, **params).fit(X, y, weight)
    assert model.alpha_ == ALPHA_GRID[best]
    assert_allclose(model.cv_average_precision_, precision[:, best], atol=1e-7)
    on_all = AUPRCClassifier(alpha=ALPHA_GRID[best], **params).fit(X, y, weight)
    assert_allclose(model.coef_, on_all.coef_)


def test_a_fixed_alpha_has_no_precision_of_splits():
    X, y = make_rare_positives(200, 3, prior=0.2, random_state=0)
    assert AUPRCClassifier(alpha=0.1).fit(X, y).cv_average_precision_.shape == (0,)


def test_a_sure_gain_moves():
    """Mirrored positives mislead logistic regression, and not the bounded step."""
    X, y = make_rare_positives(2000, class_sep=3.0, outliers=0.2, random_state=1)
    assert AUPRCClassifier(alpha="cv-1se").fit(X, y).alpha_ < 1


def test_strengths():
    """Few positives try the strongest only; without an anchor, infinity has no meaning."""
    many, few = np.ones(10, dtype=bool), np.ones(9, dtype=bool)
    full = strengths(many, True)
    assert full[:2] == (np.inf, 1.0)
    assert list(full) == sorted(full, reverse=True)
    assert strengths(many, False) == full[1:]
    assert strengths(few, True) == (np.inf, 1.0)
    assert strengths(few, False) == (1.0, 0.3)


def test_splits_of_the_kept_rows():
    kept = np.array([True, False, True, True, True, False, True])
    positive = np.array([True, False, True, False, True])  # of rows 0, 2, 3, 4, 6
    rows = np.array
    splits = [
        (rows([0, 1, 2]), rows([3, 4, 5])),
        (rows([0, 2, 5]), rows([3, 4])),
        (rows([0, 3]), rows([2, 4, 6])),  # no positive in training
        (rows([0, 2]), rows([4, 1])),  # no negative on test
    ]
    positive[[0, 1]] = True, False
    (train, test), second = usable_splits(splits, kept, positive)
    assert_array_equal(train, [0, 1])
    assert_array_equal(test, [2, 3])
    assert_array_equal(second[0], [0, 1])
    usable = make_splits(splits[:1], positive, kept)
    assert_array_equal(usable[0][1], [2, 3])
    with pytest.raises(ValueError, match="both classes on both sides"):
        make_splits(splits[3:], positive, kept)


@pytest.mark.parametrize("cv", [b"auto", [1, 2], [([0, 1, 2], [3, 99])], [([0.5], [1.5])]])
def test_splits_that_are_no_rows(cv):
    with pytest.raises(ValueError, match=r"cv must give pairs of indices, .* of the 30 rows"):
        make_splits(cv, np.arange(30) % 2 == 0, np.ones(30, dtype=bool))


@pytest.mark.parametrize(
    "cv, n_positives, n_splits", [(3, 9, 3), (5, 3, 3), (None, 9, 5), (5, 1, 0)]
)
def test_number_of_splits(cv, n_positives, n_splits):
    positive = np.arange(30) < n_positives
    assert len(make_splits(cv, positive, np.ones(30, dtype=bool))) == n_splits


def test_grids_reach_from_end_to_end_in_even_steps():
    """C takes decades between the ends that LogisticRegressionCV has, alpha half decades."""
    assert_allclose(C_GRID, 10.0 ** np.arange(-4, 5))
    assert ALPHA_GRID[:2] == (np.inf, 1.0)
    assert_allclose(ALPHA_GRID[1:], 10.0 ** np.arange(0, -3.5, -0.5), rtol=0.06)


@pytest.mark.parametrize("n_levels", [1, 3, 1000])
def test_average_precision_is_that_of_scikit_learn(n_levels, global_random_seed):
    """With ties and weights, of which some are zero."""
    rng = np.random.default_rng(global_random_seed)
    positive, scores = rng.random(60) < 0.3, rng.integers(n_levels, size=60).astype(float)
    for weight in (np.ones(60), rng.random(60) * rng.integers(2, size=60)):
        expected = average_precision_score(positive, scores, sample_weight=weight)
        assert average_precision(positive, scores, weight) == pytest.approx(expected, rel=1e-14)
