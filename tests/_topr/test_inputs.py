"""Logs as people have them, and fits that fail."""

import copy
import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import StandardScaler

from pnsklearn import TOPRPolicy
from pnsklearn.datasets import make_feedback, make_logged_bandit
from pnsklearn.exceptions import PolicyWarning

NAMES = ["length", "width", "height", "weight"]


@pytest.fixture(scope="module")
def log():
    X, y = load_iris(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    return make_logged_bandit(X, y, logging="good", random_state=0)


def metadata(log):
    return {"reward": log.reward, "propensity": log.propensity}


def everything(X, action, **feedback):
    """Return what a policy makes of a log: a choice, a fit, pieces, a score and an evaluation."""
    policy = TOPRPolicy().fit(X, action, **feedback)
    pieces = TOPRPolicy(bounds="topr", baseline=0, random_state=0)
    pieces.partial_fit(X, action, **feedback)
    report = policy.evaluate(X, action, **feedback)
    score = policy.score(X, action, **feedback)
    return policy, [policy.coef_, policy.selection_.value, pieces.coef_, report.dr, score]


def assert_same(one, other):
    for ours, theirs in zip(one[1], other[1], strict=True):
        assert_array_equal(ours, theirs)


# Propensities


@pytest.mark.parametrize("number", [0.25, np.float32(0.25), 1])
def test_one_propensity_for_all(log, number):
    expected = everything(log.X, log.action, reward=log.reward, propensity=np.full(150, number))
    assert_same(everything(log.X, log.action, reward=log.reward, propensity=number), expected)


@pytest.mark.parametrize("container", [np.asarray, list, "pandas"])
def test_propensities_of_all_actions(log, container):
    """The logged ones are taken; the columns are the actions in sorted order."""
    if container == "pandas":
        container = pytest.importorskip("pandas").DataFrame
    assert_array_equal(log.proba[np.arange(150), log.action], log.propensity)
    names = np.array(["b", "a", "c"])
    columns = log.proba[:, [1, 0, 2]]
    of_all = everything(
        log.X, names[log.action], reward=log.reward, propensity=container(columns)
    )  # fmt: skip
    assert_same(of_all, everything(log.X, names[log.action], **metadata(log)))


def test_propensities_of_all_actions_are_of_the_logged_ones(log):
    """What was not logged need not be known."""
    propensity = np.full((150, 3), np.nan)
    propensity[np.arange(150), log.action] = log.propensity
    found = everything(log.X, log.action, reward=log.reward, propensity=propensity)
    assert_same(found, everything(log.X, log.action, **metadata(log)))


def test_propensities_of_actions_that_a_piece_lacks(log):
    first = log.action < 2
    how = {"classes": [0, 1, 2], "reward": log.reward[first]}
    coef = []
    for propensity in (log.proba[first], log.propensity[first]):
        policy = TOPRPolicy(bounds="topr", baseline=0, random_state=0)
        policy.partial_fit(log.X[first], log.action[first], propensity=propensity, **how)
        coef.append(policy.coef_)
    assert_array_equal(*coef)
    with pytest.raises(ValueError, match="The action 3 is not among classes"):
        policy.partial_fit(log.X, log.action + 1, reward=log.reward, propensity=log.proba)


def test_one_column_is_one_number_a_row(log):
    found = everything(log.X, log.action, reward=log.reward, propensity=log.propensity[:, None])
    assert_same(found, everything(log.X, log.action, **metadata(log)))


# Columns by name


def frames(log, kind):
    """Return the contexts of a log as a frame, and with what came of the decisions."""
    library = pytest.importorskip(kind)
    frame = library.DataFrame(dict(zip(NAMES, log.X.T, strict=True)))
    columns = {"paid": log.reward, "chance": log.propensity}
    # In front, in between and at the end: positions of the features are not those of the columns.
    parts = {"paid": columns["paid"]} | {name: log.X[:, i] for i, name in enumerate(NAMES)}
    return frame, library.DataFrame(parts | {"chance": columns["chance"]})


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_columns_by_name(log, kind):
    frame, full = frames(log, kind)
    policy, found = everything(full, log.action, reward="paid", propensity="chance")
    assert_same((policy, found), everything(frame, log.action, **metadata(log)))
    assert_array_equal(policy.feature_names_in_, NAMES)
    assert policy.n_features_in_ == 4
    assert policy.predict(frame).shape == (150,)


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_one_column_by_name(log, kind):
    """The other stays a feature, if it is not named."""
    _, full = frames(log, kind)
    policy = TOPRPolicy().fit(full, log.action, reward="paid", propensity=log.propensity)
    assert_array_equal(policy.feature_names_in_, [*NAMES, "chance"])
    policy = TOPRPolicy().fit(full, log.action, reward="paid", propensity="estimate")
    assert_array_equal(policy.feature_names_in_, [*NAMES, "chance"])


def test_the_frame_is_not_changed(log):
    _, full = frames(log, "pandas")
    before = full.copy()
    everything(full, log.action, reward="paid", propensity="chance")
    assert before.equals(full)


def test_names_in_cross_validation(log):
    """A name is given to each fold as it is."""
    import sklearn

    frame, full = frames(log, "pandas")
    with sklearn.config_context(enable_metadata_routing=True):
        scores = [
            cross_val_score(TOPRPolicy(bounds="topr"), X, log.action, params=params, cv=3)
            for X, params in (
                (full, {"reward": "paid", "propensity": "chance"}),
                (frame, metadata(log)),
            )
        ]
    assert_array_equal(*scores)


@pytest.mark.parametrize("method", ["fit", "score", "evaluate", "partial_fit"])
def test_a_name_that_is_no_column(log, method):
    _, full = frames(log, "pandas")
    named = TOPRPolicy(bounds="topr", baseline=0)
    named.fit(full, log.action, reward="paid", propensity="chance")
    with pytest.raises(ValueError, match=r"^reward='pay' names no column of X\. Give the values"):
        getattr(named, method)(full, log.action, reward="pay", propensity="chance")
    with pytest.raises(ValueError, match="propensity='chance' names no column of X"):
        getattr(named, method)(log.X, log.action, reward=log.reward, propensity="chance")


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"propensity": np.full((150, 2), 0.5)}, r"shape \(150, 2\); needed are 150 rows and one"),
        ({"propensity": np.full((10, 3), 0.5)}, r"shape \(10, 3\); needed are 150 rows"),
        ({"propensity": np.full((150, 4), 0.5)}, "each of the 3 actions, in sorted order"),
        ({"propensity": np.zeros((150, 3))}, r"propensity must be in \(0, 1\]"),
        ({"propensity": 0}, r"propensity must be in \(0, 1\].*from 0 to 0"),
        ({"propensity": 1.5}, r"propensity must be in \(0, 1\].*from 1.5 to 1.5"),
        ({"propensity": float("nan")}, "propensity must be finite, but 150 of 150 are NaN"),
        ({"propensity": "by chance"}, "propensity='by chance' names no column of X"),
    ],
)
def test_bad_propensities(log, changes, message):
    for policy in (TOPRPolicy(), TOPRPolicy(bounds="is")):
        with pytest.raises(ValueError, match=message):
            policy.fit(log.X, log.action, **metadata(log) | changes)


@pytest.mark.parametrize(("n_missing", "value"), [(1, np.nan), (7, np.nan), (3, np.inf)])
def test_missing_rewards_are_counted(log, n_missing, value):
    """Outcomes that are not there yet: one sentence, and what to do."""
    reward = log.reward.copy()
    reward[:n_missing] = value
    message = rf"reward must be finite, but {n_missing} of 150 are NaN or infinite\. Drop these row"
    with pytest.raises(ValueError, match=message):
        TOPRPolicy().fit(log.X, log.action, reward=reward, propensity=log.propensity)
    with pytest.raises(ValueError, match=message):
        make_feedback(log.action, reward, log.propensity)
    pandas = pytest.importorskip("pandas")
    column = pandas.Series(reward, dtype="Float64").where(np.isfinite(reward))
    frame = pandas.DataFrame(log.X, columns=NAMES).assign(paid=column)
    with pytest.raises(ValueError, match=message):
        TOPRPolicy().fit(frame, log.action, reward="paid", propensity=log.propensity)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "cannot choose from the whole log: set bounds='topr' and baseline=0"),
        ({"bounds": "topr"}, "cannot choose from the whole log"),
        ({"baseline": 0}, "cannot choose from the whole log"),
        (
            {"bounds": "topr", "baseline": 0, "effective_positive": 0.5},
            "effective_positive, which is of the whole log",
        ),
    ],
)
def test_pieces_of_a_log_choose_nothing(params, message):
    policy = TOPRPolicy(**params)
    assert not hasattr(policy, "partial_fit")
    with pytest.raises(AttributeError) as error:
        _ = policy.partial_fit
    assert message in f"{error.value} {error.value.__cause__}"


@pytest.mark.parametrize("bounds", ["topr", "is", ((1, 1), (0, 1))])
def test_pieces_of_a_log_with_a_choice_made(bounds):
    assert hasattr(TOPRPolicy(bounds=bounds, baseline=0.5), "partial_fit")


def test_a_module_takes_no_pieces_of_a_log():
    torch = pytest.importorskip("torch")
    policy = TOPRPolicy(bounds="topr", baseline=0, module=torch.nn.Linear(4, 3))
    assert not hasattr(policy, "partial_fit")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"bounds": "all"}, "'bounds' parameter"),
        ({"bounds": None}, "'bounds' parameter"),
        ({"bounds": ("is", "tis")}, "bounds of the good decisions must be two numbers"),
        ({"act": "mean"}, "'act' parameter"),
        ({"cv": 1}, "'cv' parameter"),
        ({"cv": "groups"}, "'cv' parameter"),
        ({"n_jobs": 1.5}, "'n_jobs' parameter"),
        ({"baseline": "mean"}, "'baseline' parameter"),
        ({"baseline": 0.5, "effective_positive": 0.5}, "not both"),
    ],
)
def test_bad_parameters(log, params, message):
    with pytest.raises(ValueError, match=message):
        TOPRPolicy(**params).fit(log.X, log.action, **metadata(log))


# A fit that fails leaves the policy as it was


class Broken:
    """A splitter that fails, or splits too far."""

    def __init__(self, splits=None):
        self.splits = splits

    def get_n_splits(self, X=None, y=None, groups=None):
        return 2

    def split(self, X, y=None, groups=None):
        if self.splits is None:
            raise RuntimeError("no such split")
        return iter(self.splits)


@pytest.mark.parametrize(
    ("params", "changes", "error"),
    [
        ({}, {"reward": np.full(150, np.nan)}, ValueError),
        ({}, {"reward": "paid"}, ValueError),
        ({}, {"propensity": np.ones((150, 2))}, ValueError),
        ({}, {"groups": np.zeros(150)}, ValueError),
        ({"cv": Broken()}, {}, RuntimeError),
        ({"cv": Broken([(np.arange(100), np.arange(100, 999))])}, {}, IndexError),
        ({"bounds": ((1, 0), (0, 1))}, {}, ValueError),
    ],
)
def test_unchanged_on_error(log, params, changes, error):
    policy = TOPRPolicy().fit(log.X, log.action, **metadata(log))
    before = copy.deepcopy(vars(policy))
    policy.set_params(**params)
    with pytest.raises(error):
        policy.fit(log.X[:, :2], log.action, **metadata(log) | changes)
    policy.set_params(**{name: before[name] for name in params})
    assert vars(policy).keys() == before.keys()
    for name, value in before.items():
        if name not in ("selection_", "diagnostics_"):
            assert_array_equal(getattr(policy, name), value)
    assert_array_equal(policy.selection_.value, before["selection_"].value)


def test_a_warning_made_an_error_leaves_the_policy(log):
    """So that a job that learns anew each night keeps the policy that it had."""
    policy = TOPRPolicy().fit(log.X, log.action, **metadata(log))
    before, value = policy.coef_, policy.selection_.value
    coin = np.random.default_rng(1).choice([-1.0, 1.0], size=150)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PolicyWarning)
        with pytest.raises(PolicyWarning, match="not surely better"):
            policy.fit(log.X, log.action, reward=coin, propensity=1 / 3)
    assert policy.coef_ is before
    assert policy.selection_.value is value
