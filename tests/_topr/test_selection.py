"""The choice of bounds, baseline and C, recomputed by hand and in closed form."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix
from sklearn import config_context
from sklearn.datasets import load_iris
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pnsklearn import TOPRPolicy
from pnsklearn.datasets import make_feedback, make_logged_bandit
from pnsklearn.metrics import dr_value, effective_sample_size, value_difference

INF = np.inf
CS = (0.1, 1.0, 10.0)
pytestmark = pytest.mark.filterwarnings("ignore::pnsklearn.exceptions.PolicyWarning")


@pytest.fixture(scope="module")
def log():
    X, y = load_iris(return_X_y=True)
    return make_logged_bandit(StandardScaler().fit_transform(X), y, random_state=0)


def metadata(log):
    return {"reward": log.reward, "propensity": log.propensity}


def fit(log, rows=slice(None), **params):
    """Return a policy of a part of a log."""
    how = {name: column[rows] for name, column in metadata(log).items()}
    return TOPRPolicy(**params).fit(log.X[rows], log.action[rows], **how)


def thirds(n_rows):
    """Return three splits, of rows in turn."""
    fold = np.arange(n_rows) % 3
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(3)]


# What each bound optimises: one context, two actions

MU, RIGHT = np.array([0.1, 0.9]), np.array([0.9, 0.6])
FIXED_POINTS = {
    # mu_a p_a / (Z + 1 - p_a) up to mu_a, mu_a (2 p_a - 1) / Z beyond: Z^2 - 0.22 Z - 0.032 = 0
    "topr": [0.25, 0.75],
    "tis": [0.4, 0.6],  # the action beyond mu has mu_a (2 p_a - 1) / Z, with Z = 2 p_b - 1
    "positives": [1 / 7, 6 / 7],  # mu_a p_a, normalised
    "is": [1.0, 0.0],  # the best action
}


@pytest.fixture(scope="module")
def population():
    """A log in which every share is that of the population: rewards of 1 with chance p_a, or -1."""
    n = 20_000
    counts = np.rint(n * np.stack([MU * RIGHT, MU * (1 - RIGHT)], axis=1)).astype(int).ravel()
    action, reward = np.repeat([0, 0, 1, 1], counts), np.repeat([1.0, -1.0, 1.0, -1.0], counts)
    order = np.random.default_rng(0).permutation(n)
    return {
        "X": np.zeros((n, 1)), "action": action[order], "reward": reward[order],
        "propensity": MU[action[order]],
    }  # fmt: skip


def learn(population, **params):
    log = dict(population)
    return TOPRPolicy(**params).fit(log.pop("X"), log.pop("action"), **log)


@pytest.mark.parametrize("bounds", FIXED_POINTS)
def test_fixed_points(population, bounds):
    policy = learn(population, bounds=bounds, tol=1e-8)
    assert_allclose(policy.predict_proba([[0.0]])[0], FIXED_POINTS[bounds], atol=1e-3)
    assert policy.bounds_ == bounds


@pytest.mark.parametrize("act", ["best", "sample"])
def test_the_better_action_is_chosen(population, act):
    """It was logged once in ten, and all members but one prefer what was logged often."""
    policy = learn(population, act=act)
    assert policy.bounds_ == "is"
    assert policy.predict([[0.0]]) == [0]
    best = policy.selection_.best_index
    # The value of a population is what it says, 2 p - 1.
    assert policy.selection_.value[best] == pytest.approx(0.8, abs=0.01)
    assert policy.selection_.logged == pytest.approx(0.26)
    expected = dict.fromkeys(("topr", "tis"), 0.2)
    if act == "sample":
        expected = {name: FIXED_POINTS[name] @ (2 * RIGHT - 1) for name in expected}
    for name, baseline, value in zip(
        policy.selection_.bounds, policy.selection_.baseline, policy.selection_.value, strict=True
    ):
        if name in expected and baseline == 0:
            assert value == pytest.approx(expected[name], abs=0.01)


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("topr", ((1, 1), (0, 1))),
        ("is", ((0, INF), (0, INF))),
        ("tis", ([0, 1], [0, 1])),
        ("positives", [(1, 1), (0, 0)]),
    ],
)
def test_names_are_pairs(log, name, pairs):
    named, paired = fit(log, bounds=name), fit(log, bounds=pairs)
    assert_array_equal(named.coef_, paired.coef_)
    assert (named.bounds_, paired.bounds_) == (name, pairs)


# The choice


def dealt(action):
    """Return three splits, dealing the rows of one action after those of the one before."""
    order = [i for a in np.unique(action) for i in range(len(action)) if action[i] == a]
    fold = np.empty(len(action), dtype=int)
    for hand, i in enumerate(order):
        fold[i] = hand % 3
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(3)]


def ridge_rewards(X, action, reward, n_actions, X_new, weight=None):
    """Return the predicted rewards by normal equations: a penalty of 10, on the constant too."""
    weight = np.ones(len(X)) if weight is None else weight
    X, X_new = (np.column_stack([part, np.ones(len(part))]) for part in (X, X_new))
    mean = np.average(reward, weights=weight)
    q = np.full((len(X_new), n_actions), mean)
    for column in range(n_actions):
        own = action == column
        weighted = X[own].T * weight[own]
        gram = weighted @ X[own] + 10 * np.eye(X.shape[1])
        q[:, column] += X_new @ np.linalg.solve(gram, weighted @ (reward[own] - mean))
    return q


def cross_fitted(log, splits, act, **params):
    """Return, for each C, the policy of the held-out rows, their order, and predicted rewards.

    The fits along C each start from the last.
    """
    n_actions = len(np.unique(log.action))
    found = [[] for _ in CS]
    for train, test in splits:
        learner = TOPRPolicy(warm_start=True, **params)
        log_of_part = log.X[train], log.action[train], log.reward[train]
        q = ridge_rewards(*log_of_part, n_actions, log.X[test])
        how = {"reward": log.reward[train], "propensity": log.propensity[train]}
        for C, parts in zip(CS, found, strict=True):
            learner.set_params(C=C).fit(log.X[train], log.action[train], **how)
            if act == "sample":
                policy = learner.predict_proba(log.X[test])
            else:
                policy = (learner.predict(log.X[test])[:, None] == range(n_actions)) * 1.0
            parts.append((policy, test, q))
    return [[np.concatenate(part) for part in zip(*parts, strict=True)] for parts in found]


@pytest.mark.parametrize("act", ["best", "sample"])
@pytest.mark.parametrize("cv", [3, "thirds"])
def test_the_values_by_hand(log, act, cv):
    splits = dealt(log.action) if cv == 3 else thirds(150)
    policy = fit(log, act=act, cv=3 if cv == 3 else iter(splits))
    found, mean = policy.selection_, log.reward.mean()
    members = [("topr", 0.0), ("topr", mean), ("is", 0.0), ("tis", 0.0)]
    assert found.bounds == [name for name, _ in members for _ in CS]
    assert_allclose(found.baseline, np.repeat([baseline for _, baseline in members], 3), atol=1e-9)
    assert_array_equal(found.C, [*CS] * 4)
    assert found.logged == mean
    for k, (name, baseline) in enumerate(members):
        # Not the mean itself: it is found as an expectile, and rounds otherwise.
        params = {"bounds": name, "baseline": float(found.baseline[3 * k])}
        assert params["baseline"] == pytest.approx(baseline, abs=1e-9)
        for i, (proba, rows, q) in enumerate(cross_fitted(log, splits, act, **params)):
            at = 3 * k + i
            action, mu, reward = log.action[rows], log.propensity[rows], log.reward[rows]
            log_of_rows, clip = (action, mu, reward, q), np.sqrt(150)
            value = dr_value(proba, *log_of_rows, clip=clip, confidence_level=0.95)
            assert found.value[at] == pytest.approx(value.value, rel=1e-9)
            assert found.standard_error[at] == pytest.approx(value.standard_error, rel=1e-9)
            chosen = proba[np.arange(150), action]
            for name, root in ("gain", np.sqrt), ("calm_gain", np.cbrt):
                gain, error, *_ = value_difference(proba, None, *log_of_rows, clip=root(150))
                assert found[name][at] == pytest.approx(gain, rel=1e-9)
                assert found[f"{name}_standard_error"][at] == pytest.approx(error, rel=1e-9)
            size = effective_sample_size(chosen, mu)
            assert found.effective_sample_size[at] == pytest.approx(size)


def test_the_first_C_is_a_plain_fit(log):
    """Whose policy in the other C is the same to the solver's tolerance."""
    found = fit(log, cv=thirds(150), act="sample", tol=1e-9).selection_
    for i, C in enumerate(CS):
        terms = np.empty(150)
        for train, test in thirds(150):
            part = log.X[train], log.action[train], log.reward[train]
            q = ridge_rewards(*part, 3, log.X[test])
            policy = fit(log, train, bounds="topr", baseline=0, C=C, tol=1e-9)
            log_of_rest = log.action[test], log.propensity[test], log.reward[test]
            value = dr_value(policy.predict_proba(log.X[test]), *log_of_rest, q, clip=np.sqrt(150))
            terms[test] = value
        assert found.value[i] == pytest.approx(terms.mean(), rel=1e-12 if i == 0 else 1e-5)


def test_large_ratios_are_cut(log):
    """At the root of the number of rows, and the cube root."""
    propensity = np.where(np.arange(150) % 10 == 0, 1e-3, log.propensity)
    rare = type(log)(**{**log, "propensity": propensity})
    found = fit(rare, cv=thirds(150)).selection_
    proba, rows, q = cross_fitted(rare, thirds(150), "best", bounds="topr", baseline=0)[0]
    action, reward, order = rare.action[rows], rare.reward[rows], np.arange(150)
    ratio = proba[order, action] / propensity[rows]
    assert ratio.max() > 100
    for root, value in (np.sqrt, found.value[0]), (np.cbrt, found.calm_gain[0] + found.logged):
        cut = np.minimum(ratio, root(150))
        terms = (proba * q).sum(axis=1) + cut * (reward - q[order, action])
        assert value == pytest.approx(terms.mean(), rel=1e-9)


@pytest.mark.parametrize("logging", ["good", "uniform", "skewed", "bad"])
@pytest.mark.parametrize("act", ["best", "sample"])
def test_a_choice_is_the_policy_of_its_parameters(log, logging, act):
    of = make_logged_bandit(log.X, log.y, logging=logging, random_state=0)
    chosen = fit(of, act=act)
    again = fit(of, bounds=chosen.bounds_, baseline=chosen.baseline_, C=chosen.C_)
    assert_array_equal(chosen.coef_, again.coef_)
    assert_array_equal(chosen.intercept_, again.intercept_)
    assert not hasattr(again, "selection_")
    found, best = chosen.selection_, chosen.selection_.best_index
    assert found.calm_gain[best] == pytest.approx(found.calm_gain.max())
    assert (chosen.bounds_, chosen.C_) == (found.bounds[best], found.C[best])
    assert chosen.baseline_ == found.baseline[best]


def test_the_unit_of_C_is_kept(log):
    policy = fit(log, C=0.02)
    assert_allclose(policy.selection_.C[:3], [0.002, 0.02, 0.2])
    assert policy.C_ in policy.selection_.C


def test_a_member_is_not_tried_twice(log):
    """With the mean as the baseline, TOPR is TOPR with good and bad decisions of equal size."""
    clicks = (log.reward > 0) * 1.0
    policy = TOPRPolicy().fit(log.X, log.action, reward=clicks, propensity=log.propensity)
    assert policy.selection_.bounds == ["topr"] * 3 + ["is"] * 3 + ["tis"] * 3
    assert_allclose(policy.selection_.baseline, clicks.mean())


def test_how_it_acts_is_how_it_is_judged(log):
    """A strongly penalised policy hardly differs from the uniform one, and its best actions do."""
    values = {
        act: fit(log, act=act, C=1e-2, cv=thirds(150)).selection_.value[1]
        for act in ("best", "sample")
    }
    assert values["sample"] == pytest.approx(log.reward.mean(), abs=0.4)
    assert values["best"] > values["sample"] + 0.3


def test_without_rewards_nothing_is_chosen(log):
    policy = TOPRPolicy().fit(log.X, log.action)
    assert_array_equal(policy.coef_, TOPRPolicy(bounds="topr").fit(log.X, log.action).coef_)
    assert not hasattr(policy, "selection_")


# Splits


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_jobs_change_nothing(log, solver):
    params = {"solver": solver, "n_epochs": 2, "random_state": 0}
    one, two = (fit(log, n_jobs=n_jobs, **params) for n_jobs in (None, 2))
    assert_array_equal(one.coef_, two.coef_)
    for name in ("value", "standard_error", "gain_standard_error", "effective_sample_size"):
        assert_array_equal(one.selection_[name], two.selection_[name])


class Recorder(GroupKFold):
    """Splits by groups, and keeps them."""

    def split(self, X, y=None, groups=None):
        self.groups = groups
        return super().split(X, y, groups)


@pytest.mark.parametrize("routing", [False, True])
def test_groups_reach_the_splitter(log, routing):
    groups = np.arange(150) % 7
    by_hand = fit(log, cv=list(GroupKFold(3).split(log.X, groups=groups)))
    with config_context(enable_metadata_routing=routing):
        splitter = Recorder(3)
        policy = TOPRPolicy(cv=splitter)
        policy.fit(log.X, log.action, groups=groups, **metadata(log))
        assert_array_equal(splitter.groups, groups)
        assert_array_equal(policy.selection_.value, by_hand.selection_.value)
        assert_array_equal(policy.coef_, by_hand.coef_)
        with pytest.raises(ValueError, match="cv=3 does not split by groups"):
            TOPRPolicy().fit(log.X, log.action, groups=groups, **metadata(log))


def test_groups_pass_through_a_pipeline(log):
    groups = np.arange(150) % 7
    with config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(StandardScaler(with_mean=False), TOPRPolicy(cv=GroupKFold(3)))
        pipeline.fit(log.X, log.action, groups=groups, **metadata(log))
    splits = list(GroupKFold(3).split(log.X, groups=groups))
    scaled = type(log)(**{**log, "X": pipeline[0].transform(log.X)})
    assert_array_equal(pipeline[-1].selection_.value, fit(scaled, cv=splits).selection_.value)


def test_a_splitter_stratifies_by_the_actions(log):
    splits = list(StratifiedKFold(4).split(log.X, log.action))
    found = [fit(log, cv=cv).selection_.value for cv in (StratifiedKFold(4), splits)]
    assert_array_equal(*found)


def with_weightless(log):
    """Return a log with rows of weight zero among its own, its weights, and where its own are."""
    n = 200
    own = np.sort(np.random.default_rng(0).permutation(n)[:150])
    weight, X = np.zeros(n), np.full((n, 4), 99.0)
    action, reward, propensity = np.arange(n) % 3, np.full(n, -50.0), np.full(n, 1e-6)
    weight[own] = 1 + np.arange(150) % 3
    X[own], action[own], reward[own] = log.X, log.action, log.reward
    propensity[own] = log.propensity
    return (X, action, weight), {"reward": reward, "propensity": propensity}, own


@pytest.mark.parametrize("cv", ["int", "list"])
def test_rows_of_weight_zero_change_nothing(log, cv):
    data, how, own = with_weightless(log)
    splits = thirds(200)
    place = np.full(200, -1)
    place[own] = np.arange(150)
    of_own = [tuple(place[rows[data[2][rows] > 0]] for rows in split) for split in splits]
    wide = TOPRPolicy(cv=splits if cv == "list" else 3).fit(*data, **how)
    narrow = TOPRPolicy(cv=of_own if cv == "list" else 3)
    narrow.fit(log.X, log.action, data[2][own], **metadata(log))
    assert_array_equal(wide.coef_, narrow.coef_)
    for name, values in narrow.selection_.items():
        assert_array_equal(wide.selection_[name], values)


def test_weights_are_those_of_the_values(log):
    """By hand for the first candidate."""
    weight = 1.0 + np.arange(150) % 3
    policy = TOPRPolicy(cv=thirds(150)).fit(log.X, log.action, weight, **metadata(log))
    parts = []
    for train, test in thirds(150):
        model = TOPRPolicy(bounds="topr", baseline=0, C=0.1)
        how = {"reward": log.reward[train], "propensity": log.propensity[train]}
        model.fit(log.X[train], log.action[train], weight[train], **how)
        part = log.X[train], log.action[train], log.reward[train]
        q = ridge_rewards(*part, 3, log.X[test], weight[train])
        parts.append(((model.predict(log.X[test])[:, None] == range(3)) * 1.0, test, q))
    proba, rows, q = (np.concatenate(part) for part in zip(*parts, strict=True))
    log_of_rows = log.action[rows], log.propensity[rows], log.reward[rows]
    how = {"sample_weight": weight[rows], "confidence_level": 0.95, "clip": np.sqrt(weight.sum())}
    value = dr_value(proba, *log_of_rows, q, **how)
    assert policy.selection_.value[0] == pytest.approx(value.value, rel=1e-9)
    assert policy.selection_.standard_error[0] == pytest.approx(value.standard_error, rel=1e-9)
    assert policy.selection_.logged == np.average(log.reward, weights=weight)


@pytest.mark.parametrize("cv", [3, "thirds"])
def test_an_action_that_one_fold_has(log, cv):
    """The fits without it give it next to nothing; the last one knows it."""
    action = np.where(log.action == 2, 1, log.action)
    action[7] = 2
    odd = type(log)(**{**log, "action": action})
    policy = fit(odd, cv=thirds(150) if cv == "thirds" else cv)
    assert_array_equal(policy.classes_, [0, 1, 2])
    assert np.isfinite(policy.selection_.value).all()
    assert np.isfinite(policy.selection_.gain_standard_error).all()


@pytest.mark.parametrize("n_rows", [2, 5])
def test_fewer_rows_than_folds(log, n_rows):
    action, reward = np.arange(n_rows) % 2, np.where(np.arange(n_rows) % 3, 1.0, -1.0)
    policy = TOPRPolicy(cv=4).fit(log.X[:n_rows], action, reward=reward, propensity=0.5)
    assert np.isfinite(policy.selection_.value).all()


def test_any_log(log):
    """A structured y, labels and sparse contexts, and the same choice."""
    expected, names = fit(log), np.array(["left", "right", "stay"])
    y = make_feedback(names[log.action], log.reward, log.propensity)
    for X in (log.X, csr_matrix(log.X)):
        policy = TOPRPolicy().fit(X, y)
        assert_allclose(policy.selection_.value, expected.selection_.value, rtol=1e-6)
        assert_array_equal(policy.predict(X), names[expected.predict(log.X)])


def test_a_refit_forgets_the_choice(log):
    policy = fit(log)
    policy.set_params(bounds="tis").fit(log.X, log.action, **metadata(log))
    assert not hasattr(policy, "selection_")
    assert policy.bounds_ == "tis"
    policy.set_params(bounds="cv").fit(log.X, log.action)
    assert not hasattr(policy, "selection_")


def test_rounds_go_on_with_the_chosen_bounds(log):
    policy = TOPRPolicy(random_state=0).fit(log.X, log.action, **metadata(log))
    bounds, C = policy.bounds_, policy.C_
    expected = TOPRPolicy(bounds=bounds, C=C, random_state=0, baseline=policy.baseline_)
    expected.fit(log.X, log.action, **metadata(log))
    expected.set_params(baseline="auto")

    def ask(X, action):
        right = euclidean_distances(X, log.X).argmin(axis=1)
        return np.where(action == log.y[right], 1.0, -1.0)

    for model in (policy, expected):
        model.improve(log.X, ask, n_rounds=2)
    assert_array_equal(policy.coef_, expected.coef_)
    assert (policy.bounds_, policy.C_) == (bounds, C)


@pytest.mark.filterwarnings("ignore::pnsklearn.exceptions.PolicyWarning")
def test_a_part_without_good_or_bad_decisions_is_a_uniform_policy():
    """Two outcomes in thirty rows leave a split with none; the others are at the baseline."""
    rng = np.random.RandomState(0)
    X, action, reward = rng.randn(30, 2), np.arange(30) % 2, np.zeros(30)
    reward[:2] = 1.0, -1.0
    test = np.arange(30) < 15
    splits = [
        (np.flatnonzero(~test), np.flatnonzero(test)),
        (np.flatnonzero(test), np.flatnonzero(~test)),
    ]
    policy = TOPRPolicy(cv=splits).fit(X, action, reward=reward, propensity=0.5)
    assert np.isfinite(policy.selection_.value).all()
    with pytest.raises(ValueError, match="rewards are so small"):
        policy.fit(X, action, reward=reward * 5e-324, propensity=0.5)
