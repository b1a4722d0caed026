"""Groups reach the splitter of AUPRCClassifier, and only the splitter."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pnsklearn import AUPRCClassifier
from pnsklearn.datasets import make_rare_positives

X, y = make_rare_positives(240, 3, prior=0.3, random_state=0)
GROUPS = np.random.default_rng(0).integers(0, 24, 240)
ROWS = np.arange(240)


class Spy(StratifiedGroupKFold):
    """Keeps what it is given, and what it gives; of the class, as searches clone splitters."""

    seen: list = []  # noqa: RUF012

    def split(self, X, y=None, groups=None):
        for train, test in super().split(X, y, groups):
            Spy.seen.append((y, groups, train, test))
            yield train, test


@pytest.fixture(autouse=True)
def seen():
    Spy.seen.clear()
    return Spy.seen


def assert_apart(seen, groups, n_splits):
    """Assert that the spy got these groups, and that no group is on both sides of a split."""
    assert len(seen) == n_splits
    for _, given, train, test in seen:
        assert_array_equal(given, groups)
        assert not set(given[train]) & set(given[test])
        assert len(np.union1d(train, test)) == len(groups)


@pytest.mark.parametrize("is_routed", [False, True])
def test_groups_split_the_choice_of_alpha(is_routed, seen):
    with config_context(enable_metadata_routing=is_routed):
        model = AUPRCClassifier(cv=Spy(4)).fit(X, y, groups=GROUPS)
    assert_apart(seen, GROUPS, 4)
    assert_array_equal(seen[0][0], y == 1)
    expected = AUPRCClassifier(cv=[split[2:] for split in seen]).fit(X, y)
    assert_array_equal(model.coef_, expected.coef_)
    assert_array_equal(model.cv_average_precision_, expected.cv_average_precision_)
    mixed = AUPRCClassifier(cv=4).fit(X, y)
    assert not np.array_equal(mixed.cv_average_precision_, model.cv_average_precision_)


@pytest.mark.parametrize("is_routed", [False, True])
def test_groups_of_all_rows_where_some_weigh_nothing(is_routed, seen):
    weight = 1.0 * (ROWS % 3 > 0)
    with config_context(enable_metadata_routing=is_routed):
        model = AUPRCClassifier(cv=Spy(4)).fit(X, y, weight, groups=GROUPS)
    assert_apart(seen, GROUPS, 4)
    # The kept rows, in the same folds.
    position = np.cumsum(weight > 0) - 1
    folds = [[position[rows[weight[rows] > 0]] for rows in split[2:]] for split in seen]
    expected = AUPRCClassifier(cv=folds).fit(X[weight > 0], y[weight > 0])
    assert_array_equal(model.coef_, expected.coef_)


def test_groups_in_a_pipeline(seen):
    model = make_pipeline(StandardScaler(), AUPRCClassifier(cv=Spy(3)))
    expected = model.fit(X, y, auprcclassifier__groups=GROUPS)[-1].coef_
    assert_apart(seen, GROUPS, 3)
    seen.clear()
    with config_context(enable_metadata_routing=True):
        routed = model.fit(X, y, groups=GROUPS)[-1].coef_
    assert_apart(seen, GROUPS, 3)
    assert_array_equal(routed, expected)


def test_groups_and_weights_in_a_pipeline(seen):
    weight = 1.0 + ROWS % 2
    scaled = StandardScaler().fit_transform(X)
    plain = AUPRCClassifier(cv=Spy(3)).fit(scaled, y, weight, groups=GROUPS)
    with config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        last = AUPRCClassifier(cv=Spy(3)).set_fit_request(sample_weight=True)
        model = make_pipeline(scaler, last).fit(X, y, sample_weight=weight, groups=GROUPS)
    assert_array_equal(model[-1].coef_, plain.coef_)


def test_groups_in_a_search(seen):
    """The outer splits and the inner ones keep each group together."""
    model = make_pipeline(StandardScaler(), AUPRCClassifier(cv=Spy(3)))
    grid = {"auprcclassifier__anchor": ["logistic", "shrunk"]}
    with config_context(enable_metadata_routing=True):
        search = GridSearchCV(model, grid, cv=GroupKFold(2), scoring="average_precision")
        search.fit(X, y, groups=GROUPS)
    outer = [GROUPS[train] for train, _ in GroupKFold(2).split(X, y, GROUPS)]
    assert len(seen) == 3 * (2 * 2 + 1)
    for number, groups in enumerate([*outer, *outer, GROUPS]):
        assert_apart(seen[3 * number : 3 * number + 3], groups, 3)


@pytest.mark.parametrize("is_routed", [False, True])
@pytest.mark.parametrize("cv", [5, None])
def test_a_number_of_splits_knows_no_groups(cv, is_routed):
    model = AUPRCClassifier(cv=cv)
    with config_context(enable_metadata_routing=is_routed):
        with pytest.raises(ValueError, match=rf"cv={cv} does not split by groups; pass a splitter"):
            model.fit(X, y, groups=GROUPS)
    assert vars(model) == vars(AUPRCClassifier(cv=cv))


@pytest.mark.parametrize("is_routed", [False, True])
def test_what_no_one_asked_for_is_refused(is_routed):
    with config_context(enable_metadata_routing=is_routed):
        with pytest.raises(TypeError, match=r"unexpected argument.*times"):
            AUPRCClassifier(cv=Spy(3)).fit(X, y, times=ROWS)


def test_a_splitter_by_groups_needs_them():
    with pytest.raises(ValueError, match="The 'groups' parameter should not be None"):
        AUPRCClassifier(cv=GroupKFold(3)).fit(X, y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        AUPRCClassifier(cv=GroupKFold(3)).fit(X, y, groups=GROUPS[:-1])
