"""The choice of the shape and of the class: on folds, and by more than one standard error."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.metrics import average_precision_score, fbeta_score, make_scorer
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_score

from pnsklearn import SMaLLClassifier
from pnsklearn._small import _selection
from pnsklearn._small._selection import Candidate, best_of, make_splits, shapes_within

PAIRS = [(1, 2), (2, 1)]


@pytest.fixture(scope="module")
def rows():
    """A union of two half-spaces, which one rule misses."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((240, 3))
    return X, ((X[:, 0] > 1) | (X[:, 1] > 1)).astype(int)


def small(shapes=PAIRS, **params):
    return SMaLLClassifier(shapes, n_init=2, random_state=0, **params)


def split(positive, along, cv=5, kept=None, chosen=None, **metadata):
    kept = np.ones(len(positive), dtype=bool) if kept is None else kept
    chosen = np.arange(len(positive)) if chosen is None else chosen
    return make_splits(cv, positive, chosen, along, metadata, kept)


# Shapes


@pytest.mark.parametrize(
    ("n_terms", "shapes"),
    [
        (1, [(1, 1)]), (3, [(1, 3)]), (4, [(1, 4), (2, 2)]), (5, [(1, 5), (2, 2)]),
        (9, [(1, 9), (2, 4), (3, 3)]), (20, [(1, 20), (2, 10), (3, 6)]),
    ],
)  # fmt: skip
def test_shapes_within_a_budget(n_terms, shapes):
    assert shapes_within(n_terms) == shapes
    assert all(p * k <= n_terms for p, k in shapes)


def test_default_and_budget(rows):
    X, y = rows
    model = SMaLLClassifier(n_init=1, cv=2, random_state=0).fit(X[::2], y[::2])
    tried = zip(*(model.selection_[name] for name in ("n_prototypes", "n_nonzero")), strict=True)
    assert list(dict.fromkeys(tried)) == [(1, 9), (2, 4), (3, 3)]
    model.set_params(n_terms=4).fit(X, y)
    assert_array_equal(model.selection_.n_nonzero, [4, 2, 2])
    assert_array_equal(model.selection_.positive_class, [1, 1, 0])
    assert model.set_params(n_prototypes=2, n_nonzero=1).fit(X, y).n_prototypes_ <= 2
    assert not hasattr(model, "selection_")
    # One shape is no choice.
    assert not hasattr(model.set_params(n_prototypes="cv", n_terms=1).fit(X, y), "selection_")


@pytest.mark.parametrize(
    "shapes", [[], [(1, 0)], [(1, 2, 3)], [1, 2], [(1.0, 2)], [("a", 2)], [(2, 2), 3]]
)
def test_bad_shapes(shapes, rows):
    with pytest.raises(ValueError, match="list of pairs"):
        small(shapes).fit(*rows)


# One standard error


def shape_of(*unions):
    return [Candidate(p, 3, union) for p, union in unions]


@pytest.mark.parametrize(
    ("tried", "errors", "best"),
    [
        # More rules: lower on average, but not by one standard error; by more; in every fold alike.
        ([(1, 1), (2, 1)], [[3, 3, 3, 3], [4, 4, 4, -1]], 0),
        ([(1, 1), (2, 1)], [[3, 3, 3, 3], [3, 3, 3, 2]], 0),
        ([(1, 1), (2, 1)], [[3, 3, 3, 3], [3, 2, 3, 2]], 1),
        ([(1, 1), (2, 1)], [[3, 4, 5, 6], [2, 3, 4, 5]], 1),
        ([(1, 1), (2, 1)], [[3, 3, 3, 3], [3, 3, 3, 3]], 0),
        # Of two that are better the lower one; a lower one that is unsure does not count.
        ([(1, 1), (2, 1), (3, 1)], [[9, 9, 9, 9], [8, 8, 8, 8], [7, 7, 7, 7]], 2),
        ([(1, 1), (2, 1), (3, 1)], [[9, 9, 9, 9], [8, 8, 8, 8], [-30, 15, 15, 15]], 1),
        # The other class has to be better than the same shape for the first.
        ([(1, 1), (2, 1), (2, 0)], [[9, 9, 9, 9], [8, 7, 8, 7], [7, 8, 7, 7]], 1),
        ([(1, 1), (2, 1), (2, 0)], [[9, 9, 9, 9], [8, 7, 8, 7], [7, 6, 7, 7]], 2),
        ([(2, 1), (2, 0)], [[9, 9, 9, 9], [8, 8, 8, 8]], 1),
        ([(2, 1), (2, 0)], [[9, 9, 9, 9], [0, 9, 9, 9]], 0),
        # One fold leaves everything unsure.
        ([(1, 1), (2, 1)], [[9], [1]], 0),
    ],
)
def test_the_first_stays_unless_another_is_surely_better(tried, errors, best):
    assert best_of(shape_of(*tried), np.array(errors, dtype=float)) == best


def test_candidates_that_are_surely_behind_are_left():
    """After three folds, by one standard error of the leader; the first one stays."""
    table = np.array(
        [[5, 5, 6, 5, 5], [4, 4, 4, 4, 4], [4.1, 4.2, 4.1, 0, 0], [6, 3, 4, 4, 4], [4, 4, 4, 3, 3]],
        dtype=float,
    )
    tried = shape_of((1, 1), (2, 1), (3, 1), (4, 1), (5, 1))
    splits = [(np.array([fold]), np.array([fold])) for fold in range(5)]

    def errors(train, test, alive):
        return (table[tried.index(candidate), test[0]] for candidate in alive)

    found = _selection.select(tried, np.array([0, 1]), splits, errors)
    assert_array_equal(np.isnan(found.fold_errors).sum(axis=1), [0, 0, 2, 0, 0])
    assert found.best_index == 4
    assert found.gain[2] == pytest.approx(np.mean([0.9, 0.8, 1.9]))
    assert_allclose(found.error[[0, 2]], [5.2, np.mean([4.1, 4.2, 4.1])])


def test_errors_are_those_of_fits_on_the_folds(rows):
    X, y = rows
    cv = StratifiedKFold(3, shuffle=True, random_state=1)
    model = small(cv=cv).fit(X, y)
    chosen = model.selection_
    for number in range(3):
        shape = {"n_prototypes": chosen.n_prototypes[number], "n_nonzero": chosen.n_nonzero[number]}
        fixed = small().set_params(positive_class=chosen.positive_class[number], **shape)
        errors = 1 - cross_val_score(fixed, X, y, cv=cv)
        assert_allclose(chosen.fold_errors[number], errors, atol=1e-12)
        assert chosen.error[number] == pytest.approx(errors.mean())
        if number == chosen.best_index:
            assert_array_equal(model.coef_, fixed.fit(X, y).coef_)
    gains = chosen.fold_errors[0] - chosen.fold_errors
    assert_allclose(chosen.gain, gains.mean(axis=1))
    assert_allclose(chosen.gain_standard_error, gains.std(axis=1, ddof=1) / np.sqrt(3))
    assert chosen.best_index > 0  # two rules


def test_one_rule_for_one_line():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 3))
    y = X[:, 0] - X[:, 1] + 0.5 * rng.standard_normal(300) > 0
    assert small([(1, 2), (2, 2)]).fit(X, y).selection_.best_index == 0


def test_weights_count_in_the_errors(rows):
    X, y = rows
    weight = np.random.default_rng(1).integers(1, 4, len(y)).astype(float)
    cv = StratifiedKFold(2)
    fixed = small().set_params(n_prototypes=1, n_nonzero=2)
    for class_weight in (None, {0: 1.0, 1: 5.0}):
        total = weight * np.where(y == 1, 5.0, 1.0) if class_weight else weight
        chosen = small(cv=cv, class_weight=class_weight).fit(X, y, weight).selection_
        for (train, test), found in zip(cv.split(X, y), chosen.fold_errors[0], strict=True):
            wrong = fixed.fit(X[train], y[train], total[train]).predict(X[test]) != y[test]
            assert found == pytest.approx(total[test] @ wrong / total[test].sum())


def test_scorers(rows):
    X, y = rows
    weight = np.random.default_rng(1).integers(1, 4, len(y)).astype(float)
    cv = StratifiedKFold(2)
    of_ranking = small(cv=cv, scoring="average_precision").fit(X, y, weight).selection_
    scorer = make_scorer(fbeta_score, beta=2)
    of_labels = small(cv=cv, scoring=scorer).fit(X, y).selection_
    fixed = small().set_params(n_prototypes=1, n_nonzero=2)
    for number, (train, test) in enumerate(cv.split(X, y)):
        score = fixed.fit(X[train], y[train], weight[train]).decision_function(X[test])
        expected = average_precision_score(y[test], score, sample_weight=weight[test])
        assert of_ranking.fold_errors[0, number] == pytest.approx(-expected)
        predicted = fixed.fit(X[train], y[train]).predict(X[test])
        expected = fbeta_score(y[test], predicted, beta=2)
        assert of_labels.fold_errors[0, number] == pytest.approx(-expected)


# Splits


def test_equal_rows_share_a_fold_and_classes_are_in_all(global_random_seed):
    rng = np.random.RandomState(global_random_seed)
    along = rng.randint(30, size=200) * 1.0
    positive = rng.rand(200) < 0.3
    splits = split(positive, along)
    assert len(splits) == 5
    assert_array_equal(np.sort(np.concatenate([test for _, test in splits])), np.arange(200))
    for train, test in splits:
        assert_array_equal(np.sort(np.append(train, test)), np.arange(200))
        for side in (positive, ~positive):
            assert not set(along[train[side[train]]]) & set(along[test[side[test]]])
            assert side[train].any() and side[test].any()


def test_fewer_distinct_rows_than_folds():
    positive = np.arange(40) < 4
    along = np.where(positive, np.arange(40) // 2, np.arange(40))
    assert len(split(positive, along * 1.0)) == 2
    assert split(positive, np.zeros(40)) == []
    assert len(split(positive, np.arange(40.0), cv=3)) == 3


def test_splitters_see_all_rows_and_the_chosen_are_split(rows):
    kept, chosen = np.arange(60) % 3 > 0, np.arange(0, 40, 2)
    positive, groups = np.arange(40) % 4 > 1, np.arange(60) // 6
    for train, test in split(positive, None, GroupKFold(2), kept, chosen, groups=groups):
        assert set(train) | set(test) == set(chosen)
        of_rows = groups[kept]
        assert not set(of_rows[train]) & set(of_rows[test])


def test_groups_are_routed(rows):
    X, y = rows
    groups = np.arange(len(y)) // 12
    by_hand = list(GroupKFold(2).split(X, y, groups))
    expected = small(cv=by_hand).fit(X, y).selection_
    found = small(cv=GroupKFold(2)).fit(X, y, groups=groups).selection_
    assert_array_equal(found.fold_errors, expected.fold_errors)
    with config_context(enable_metadata_routing=True):
        routed = small(cv=GroupKFold(2).set_split_request(groups=True))
        assert_array_equal(
            routed.fit(X, y, groups=groups).selection_.fold_errors, expected.fold_errors
        )
    with pytest.raises(ValueError, match="cv=5 does not split by groups"):
        small().fit(X, y, groups=groups)


def test_bad_splits(rows):
    X, y = rows
    with pytest.raises(ValueError, match="cv has no split with both classes"):
        small(cv=[(np.flatnonzero(y == 1), np.flatnonzero(y == 0))]).fit(X, y)
    with pytest.raises(ValueError, match="pairs of indices"):
        small(cv=[(np.array([999]), np.array([0]))]).fit(X, y)


def test_many_rows_are_sampled(monkeypatch, rows):
    X, y = rows
    seen = []
    monkeypatch.setattr("pnsklearn._small._solver.MAX_SAMPLED_ROWS", 100)
    original = _selection.select

    def spy(tried, classes, splits, errors):
        seen.extend(np.concatenate([test for _, test in splits]))
        return original(tried, classes, splits, errors)

    monkeypatch.setattr(_selection, "select", spy)
    small(cv=2).fit(X, y)
    assert len(set(seen)) == len(seen) == 100
    assert np.mean(y[seen]) == pytest.approx(y.mean(), abs=0.01)


def test_repeated_and_reordered_rows(rows, global_random_seed):
    X, y = rows
    rng = np.random.RandomState(global_random_seed)
    weight = rng.randint(0, 3, len(y)).astype(float)
    repeated = rng.permutation(np.repeat(np.arange(len(y)), weight.astype(int)))
    a, b = small().fit(X, y, weight), small().fit(X[repeated], y[repeated])
    assert_allclose(a.selection_.fold_errors, b.selection_.fold_errors, atol=1e-12)
    assert_allclose(a.coef_, b.coef_, rtol=1e-4)


# The class


def rare(seed=0, n=400):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 4))
    return X, (X[:, 0] + 0.7 * rng.standard_normal(n) > 2.5).astype(int)


def test_rules_are_for_the_rare_class():
    X, y = rare()
    assert 0.01 < y.mean() < 0.04
    model = SMaLLClassifier(n_init=1, cv=2, random_state=0).fit(X, y)
    assert model.rules().startswith("1 if ")
    flipped = SMaLLClassifier(pos_label=0, n_init=1, cv=2, random_state=0).fit(X, 1 - y)
    assert flipped.rules().startswith("0 if ")
    assert_array_equal(flipped.predict(X), 1 - model.predict(X))


@pytest.mark.parametrize(
    "params", [{"class_weight": "balanced"}, {"class_weight": {0: 1, 1: 30}, "scoring": "recall"}]
)
def test_rare_positives_are_found_where_they_weigh(params):
    X, y = rare()
    model = small([(1, 4), (2, 2)], **params).fit(X, y)
    assert model.positive_class_ == 1
    assert np.mean(model.predict(X)[y == 1]) > 0.8


@pytest.mark.parametrize("shapes", [2, [(1, 2), (2, 1)]])
def test_the_other_class_has_to_be_surely_better_and_is_explained(shapes, rows):
    X, y = rows
    label = np.where(y == 1, "alarm", "ok")  # "ok" comes last, and is no union
    params = {"n_nonzero": 1, "n_init": 2, "random_state": 0}
    model = SMaLLClassifier(shapes, **params).fit(X, label)
    assert model.positive_class_ == "alarm"
    what = "error over 3 folds" if isinstance(shapes, list) else "training loss"
    assert model.rules().splitlines()[-1] == model.union_reason_
    assert model.union_reason_.startswith(f"Rules for ok have a higher {what}: by 0.")
    for asked in ({"pos_label": "alarm"}, {"positive_class": "ok"}):
        again = SMaLLClassifier(shapes, **params, **asked).fit(X, label)
        assert again.positive_class_ == next(iter(asked.values()))
        assert again.union_reason_ == ""
        assert again.rules().splitlines()[-1].startswith("    fires")


@pytest.mark.parametrize("shapes", [1, 2, PAIRS])
def test_unknown_pos_label(shapes, rows):
    with pytest.raises(ValueError, match=r"pos_label='no' is not one of the labels \[0, 1\]"):
        small(shapes, pos_label="no").fit(*rows)
