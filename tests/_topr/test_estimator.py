"""TOPRPolicy as its users meet it."""

import warnings
from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pnsklearn import TOPRPolicy
from pnsklearn._topr._feedback import estimate_propensity
from pnsklearn.datasets import make_feedback, make_logged_bandit
from pnsklearn.exceptions import PolicyWarning
from pnsklearn.metrics import ope_scorer


@pytest.fixture(scope="module")
def log():
    X, y = load_iris(return_X_y=True)
    return make_logged_bandit(StandardScaler().fit_transform(X), y, random_state=0)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return make_logged_bandit(X / 16, y, random_state=0)


def metadata(log):
    return {"reward": log.reward, "propensity": log.propensity}


def feedback(log):
    return make_feedback(log.action, log.reward, log.propensity)


def topr(**params):
    """The update of the paper, without a search."""
    return TOPRPolicy(**{"bounds": "topr", "baseline": 0, "random_state": 0, **params})


def accuracy(policy, log):
    return np.mean(policy.predict(log.X) == log.y)


# Learning


def test_learns_digits_from_random_guesses(digits):
    """One guess in ten is right, and the policy comes to be."""
    assert np.mean(digits.reward > 0) < 0.15
    policy = topr().fit(digits.X, digits.action, **metadata(digits))
    assert accuracy(policy, digits) > 0.9


def test_learns_what_the_true_labels_would_teach_from_a_bad_log(digits):
    """Where nearly every decision was bad, the bad ones teach: more than the good ones alone."""
    bad = make_logged_bandit(digits.X, digits.y, logging="bad", random_state=0)
    both = topr().fit(bad.X, bad.action, **metadata(bad))
    good = topr(bounds="positives").fit(bad.X, bad.action, **metadata(bad))
    assert accuracy(both, bad) > accuracy(good, bad)


@pytest.mark.parametrize("n_actions", [2, 3])
def test_without_rewards_it_is_logistic_regression(log, n_actions):
    rows = log.action < n_actions
    X, action = log.X[rows], log.action[rows]
    policy = topr(C=0.5, tol=1e-8).fit(X, action)
    peer = LogisticRegression(C=0.5, tol=1e-8).fit(X, action)
    assert policy.coef_.shape == peer.coef_.shape
    assert_allclose(policy.predict_proba(X), peer.predict_proba(X), atol=1e-6)
    assert_array_equal(policy.predict(X), peer.predict(X))
    with pytest.warns(PolicyWarning, match="not its value"):
        assert policy.score(X, action) == peer.score(X, action)
    assert not hasattr(policy, "baseline_")


def test_any_labels(log):
    names = np.array(["left", "right", "straight on"])
    expected = topr().fit(log.X, log.action, **metadata(log))
    policy = topr().fit(log.X, names[log.action], **metadata(log))
    assert_array_equal(policy.classes_, names)
    assert_array_equal(policy.predict(log.X), names[expected.predict(log.X)])


def test_order_of_the_actions_does_not_matter(log):
    expected = topr(tol=1e-9).fit(log.X, log.action, **metadata(log)).predict_proba(log.X)
    swapped = topr(tol=1e-9).fit(log.X, 2 - log.action, **metadata(log))
    assert_allclose(swapped.predict_proba(log.X)[:, ::-1], expected, atol=1e-6)


def test_weights_are_repetitions(log, global_random_seed):
    counts = np.random.default_rng(global_random_seed).integers(0, 3, size=len(log.X))
    repeated = np.repeat(np.arange(len(log.X)), counts)
    weighted = topr(tol=1e-9, effective_positive=0.3).fit(
        log.X, log.action, counts, **metadata(log)
    )
    expected = topr(tol=1e-9, effective_positive=0.3).fit(
        log.X[repeated],
        log.action[repeated],
        reward=log.reward[repeated],
        propensity=log.propensity[repeated],
    )
    assert weighted.baseline_ == pytest.approx(expected.baseline_)
    assert_allclose(weighted.predict_proba(log.X), expected.predict_proba(log.X), atol=1e-6)
    for key, value in expected.diagnostics_.items():
        assert weighted.diagnostics_[key] == pytest.approx(value, abs=1e-5)


def test_sparse_is_dense(digits):
    expected = topr(tol=1e-6).fit(digits.X, digits.action, **metadata(digits))
    policy = topr(tol=1e-6).fit(csr_matrix(digits.X), digits.action, **metadata(digits))
    assert_allclose(
        policy.predict_proba(csr_matrix(digits.X)), expected.predict_proba(digits.X), atol=1e-3
    )


def test_float32(log):
    policy = topr().fit(log.X.astype(np.float32), log.action, **metadata(log))
    assert policy.coef_.dtype == policy.predict_proba(log.X.astype(np.float32)).dtype == np.float32
    expected = topr().fit(log.X, log.action, **metadata(log))
    assert_allclose(policy.predict_proba(log.X), expected.predict_proba(log.X), atol=1e-3)


def test_adam_comes_near_lbfgs(digits):
    exact = topr().fit(digits.X, digits.action, **metadata(digits))
    adam = topr(solver="adam", random_state=0).fit(digits.X, digits.action, **metadata(digits))
    again = clone(adam).fit(digits.X, digits.action, **metadata(digits))
    assert_array_equal(adam.coef_, again.coef_)
    assert accuracy(adam, digits) > accuracy(exact, digits) - 0.03


def test_partial_fit(digits):
    policy = topr(learning_rate=0.02, batch_size=64, random_state=0)
    order = np.random.default_rng(0).permutation(len(digits.X))
    for _ in range(10):
        for rows in np.array_split(order, 6):
            policy.partial_fit(
                digits.X[rows],
                digits.action[rows],
                classes=np.arange(10),
                reward=digits.reward[rows],
                propensity=digits.propensity[rows],
            )
    assert policy.n_iter_ == 60
    assert accuracy(policy, digits) > 0.85


def test_partial_fit_knows_actions_that_come_later(log):
    first = log.action < 2
    policy = topr().partial_fit(log.X[first], log.action[first], classes=[0, 1, 2])
    assert policy.predict_proba(log.X).shape == (150, 3)
    policy.partial_fit(log.X, log.action)
    with pytest.raises(ValueError, match="The action 3 is not among classes"):
        policy.partial_fit(log.X, log.action + 1)
    with pytest.raises(ValueError, match="was \\[0 1 2\\] before"):
        policy.partial_fit(log.X, log.action, classes=[0, 1, 2, 3])


def test_partial_fit_takes_pieces_in_which_nothing_happened(log):
    policy = topr()
    quiet = {"reward": np.zeros(150), "propensity": log.propensity}
    policy.partial_fit(log.X, log.action, **quiet)
    assert_allclose(policy.predict_proba(log.X), 1 / 3, atol=1e-12)
    policy.partial_fit(log.X, log.action, **metadata(log))
    assert np.abs(policy.coef_).max() > 0
    with pytest.raises(ValueError, match="all pieces of a log have rewards, or none"):
        policy.partial_fit(log.X, log.action)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_unit_of_the_rewards_does_not_matter(digits, scale):
    expected = topr().fit(digits.X, digits.action, **metadata(digits))
    policy = topr(C=1 / scale).fit(
        digits.X, digits.action, reward=scale * digits.reward, propensity=digits.propensity
    )
    assert_allclose(policy.predict_proba(digits.X), expected.predict_proba(digits.X), atol=1e-6)


def test_rows_of_which_nothing_came_do_not_matter(log):
    expected = topr().fit(log.X, log.action, **metadata(log))
    n = 50_000
    policy = topr().fit(
        np.vstack([log.X, np.zeros((n, 4))]),
        np.append(log.action, np.arange(n) % 3),
        reward=np.append(log.reward, np.zeros(n)),
        propensity=np.append(log.propensity, np.full(n, 1 / 3)),
    )
    assert_allclose(policy.predict_proba(log.X), expected.predict_proba(log.X), atol=1e-6)


def test_a_first_fit_is_the_same_with_warm_start(digits):
    fits = [
        topr(bounds="is", warm_start=warm).fit(digits.X, digits.action, **metadata(digits))
        for warm in (False, True)
    ]
    assert_array_equal(fits[0].coef_, fits[1].coef_)


def test_warm_start_is_for_the_same_actions(log):
    policy = topr(warm_start=True, max_iter=1000).fit(log.X, log.action, **metadata(log))
    policy.fit(log.X, log.action + 1, **metadata(log))
    expected = topr().fit(log.X, log.action + 1, **metadata(log))
    assert_array_equal(policy.coef_, expected.coef_)


def test_without_rewards_bounds_do_not_matter(log):
    policy = topr(bounds="is").fit(log.X, log.action)
    assert_array_equal(policy.coef_, topr().fit(log.X, log.action).coef_)


def test_rows_of_weight_zero_are_absent_from_values(log):
    policy = topr().fit(log.X, log.action, **metadata(log))
    weight = (np.arange(150) % 3 > 0).astype(float)
    kept = weight > 0
    some = {key: value[kept] for key, value in metadata(log).items()}
    noisy = {**metadata(log), "propensity": np.where(kept, log.propensity, 1e-9)}
    report = policy.evaluate(log.X, log.action, weight, **noisy)
    expected = policy.evaluate(log.X[kept], log.action[kept], **some)
    for key, value in expected.items():
        assert_allclose(report[key], value)
    scorer = ope_scorer("dr")
    assert_allclose(
        scorer(policy, log.X, log.action, sample_weight=weight, **noisy), expected.dr.value
    )


def test_frames_with_rewards(log):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(log.X, columns=list("abcd"))
    policy = topr(random_state=0).fit(frame, log.action, **metadata(log))
    expected = topr(random_state=0).fit(log.X, log.action, **metadata(log))
    report = policy.evaluate(frame, log.action, **metadata(log))
    assert report.dr == expected.evaluate(log.X, log.action, **metadata(log)).dr
    assert policy.score(frame, pandas.Series(log.action), **metadata(log)) == report.snips.value
    actions, _ = policy.sample(frame, random_state=0)
    assert actions.shape == (150, 1)
    policy.improve(frame, lambda X, actions: np.where(actions == log.y, 1.0, -1.0), n_rounds=2)
    assert_array_equal(policy.feature_names_in_, list("abcd"))


def test_warm_start(log):
    policy = topr(warm_start=True, tol=1e-6).fit(log.X, log.action, **metadata(log))
    n_iter = policy.n_iter_
    policy.fit(log.X, log.action, **metadata(log))
    assert policy.n_iter_ < n_iter / 2


def test_a_refit_leaves_nothing_behind(log):
    policy = topr().fit(log.X, log.action, **metadata(log))
    assert policy.baseline_ == 0
    policy.improve(log.X, lambda X, actions: np.where(actions == 0, 1.0, -1.0), n_rounds=1)
    assert len(policy.rounds_) == 1
    other = topr().fit(log.X, log.action, **metadata(log))
    other.improve(log.X, lambda X, actions: np.where(actions == 0, 1.0, -1.0), n_rounds=1)
    assert not hasattr(other.partial_fit(log.X, log.action), "rounds_")
    policy.fit(log.X, log.action)
    expected = topr().fit(log.X, log.action)
    assert vars(policy).keys() == vars(expected).keys()


# Baseline


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.9])
def test_effective_positive_proportion(share, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    X, action, reward = rng.normal(size=(80, 2)), rng.integers(3, size=80), rng.normal(size=80)
    weight = rng.uniform(0.5, 2, size=80)
    policy = topr(effective_positive=share)
    policy.fit(X, action, weight, reward=reward, propensity=np.full(80, 1 / 3))
    R = reward - policy.baseline_
    found = np.sum(weight * np.maximum(R, 0)) / np.sum(weight * np.abs(R))
    assert found == pytest.approx(share, abs=1e-6)
    assert policy.diagnostics_.effective_positive == pytest.approx(share, abs=1e-6)


def test_baseline_of_signs_in_closed_form():
    """c = (p - s) / (p + s - 2 p s) for rewards of +-1, with p positives and the share s."""
    p, s = 0.2, 0.4
    reward = np.repeat([1.0, -1.0], [20, 80])
    X, action = np.zeros((100, 1)), np.arange(100) % 2
    policy = topr(effective_positive=s).fit(X, action, reward=reward, propensity=np.full(100, 0.5))
    assert policy.baseline_ == pytest.approx((p - s) / (p + s - 2 * p * s))


def test_half_is_the_mean(log):
    policy = topr(effective_positive=0.5).fit(log.X, log.action, **metadata(log))
    assert policy.baseline_ == pytest.approx(log.reward.mean())


def test_rewards_of_zero_teach_nothing(log):
    """Rewards in {0, 1} with c = 0: positives only, and a warning."""
    with pytest.warns(UserWarning, match="no negative rewards after the baseline, 0"):
        policy = topr(tol=1e-8).fit(
            log.X, log.action, reward=log.reward > 0, propensity=log.propensity
        )
    good = log.reward > 0
    # C counts the rows that are left, so the fits are the same problem.
    expected = topr(tol=1e-8).fit(log.X[good], log.action[good])
    assert_allclose(policy.coef_, expected.coef_, atol=1e-5)


# Acting


def test_samples_follow_the_policy(log):
    policy = topr().fit(log.X, log.action, **metadata(log))
    X = log.X[:3]
    actions, propensity = policy.sample(X, 20_000, random_state=0)
    assert actions.shape == propensity.shape == (3, 20_000)
    proba = policy.predict_proba(X)
    share = np.stack([(actions == k).mean(axis=1) for k in range(3)], axis=1)
    assert_allclose(share, proba, atol=5 * np.sqrt(0.25 / 20_000))
    assert_allclose(propensity, np.take_along_axis(proba, actions, axis=1))
    again, _ = policy.sample(X, 20_000, random_state=0)
    assert_array_equal(actions, again)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature(log, temperature):
    policy = topr().fit(log.X, log.action, **metadata(log))
    actions, propensity = policy.sample(log.X, 3, temperature=temperature, random_state=0)
    heated = policy.predict_proba(log.X) ** (1 / temperature)
    heated /= heated.sum(axis=1, keepdims=True)
    assert_allclose(propensity, np.take_along_axis(heated, actions, axis=1), rtol=1e-6)


def test_two_actions(log):
    rows = log.action < 2
    policy = topr().fit(log.X[rows], log.action[rows])
    scores = policy.decision_function(log.X)
    assert scores.ndim == 1
    assert_allclose(policy.predict_proba(log.X)[:, 1], 1 / (1 + np.exp(-scores)))
    assert_array_equal(policy.predict(log.X), scores > 0)
    _, propensity = policy.sample(log.X, random_state=0)
    assert propensity.shape == (150, 1)


# Value


def test_score_and_evaluate_are_near_the_truth(digits):
    train, test = np.arange(900), np.arange(900, len(digits.X))
    policy = topr().fit(
        digits.X[train],
        digits.action[train],
        reward=digits.reward[train],
        propensity=digits.propensity[train],
    )
    X, held_out = digits.X[test], {key: value[test] for key, value in metadata(digits).items()}
    chance = policy.predict_proba(X)[np.arange(len(X)), digits.y[test]].mean()
    truth = 2 * chance - 1
    report = policy.evaluate(X, digits.action[test], **held_out)
    assert policy.score(X, digits.action[test], **held_out) == report.snips.value
    for kind in ("ips", "snips", "dr"):
        assert report[kind].low < truth < report[kind].high
        scorer = ope_scorer(kind)
        assert scorer(policy, X, digits.action[test], **held_out) == report[kind].value
    assert report.logged.value == pytest.approx(digits.reward[test].mean())
    assert 0 < report.effective_sample_size < len(test)


def test_an_unseen_action_has_probability_zero(log):
    policy = topr().fit(log.X, log.action, **metadata(log))
    action = np.where(np.arange(150) < 30, 7, log.action)
    report = policy.evaluate(log.X, action, **metadata(log))
    kept = action != 7
    chosen = policy.predict_proba(log.X)[np.arange(150), log.action]
    expected = np.sum((chosen / log.propensity * log.reward)[kept]) / 150
    assert report.ips.value == pytest.approx(expected)
    assert np.isfinite(policy.score(log.X, action, **metadata(log)))


def test_a_value_from_few_rows_warns(log):
    policy = topr().fit(log.X, log.action, **metadata(log))
    rare = np.where(np.arange(150) == 0, 1e-6, 1.0)
    with pytest.warns(UserWarning, match="effective sample of 1.0 of 150 rows"):
        policy.score(log.X, log.action, reward=log.reward, propensity=rare)


def test_estimated_propensities(log):
    """A log whose policy depends on x: estimated propensities come near the true ones, held out."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 2))
    mu = np.exp(X @ np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]]))
    mu /= mu.sum(axis=1, keepdims=True)
    action = (rng.random((2000, 1)) > np.cumsum(mu, axis=1)).sum(axis=1)
    reward = np.where(action == (X[:, 0] > 0), 1.0, -1.0)
    true = mu[np.arange(2000), action]
    estimated = estimate_propensity(X, action, np.ones(2000))
    assert np.sqrt(np.mean((estimated - true) ** 2)) < 0.03
    values = [
        topr().fit(X, action, reward=reward, propensity=p).score(
            X, action, reward=reward, propensity=p
        )
        for p in (true, "estimate")
    ]  # fmt: skip
    assert values[0] == pytest.approx(values[1], abs=0.02)


def test_rewards_at_fit_are_asked_for_at_score(log):
    policy = topr().fit(log.X, log.action, **metadata(log))
    with pytest.raises(ValueError, match="fitted to rewards, so its score needs reward"):
        policy.score(log.X, log.action)
    with pytest.raises(ValueError, match="Rewards need propensities"):
        policy.score(log.X, log.action, reward=log.reward)
    with pytest.raises(ValueError, match="evaluate needs reward and propensity"):
        policy.evaluate(log.X, log.action)
    imitation = topr().fit(log.X, log.action)
    with pytest.warns(PolicyWarning, match="how often the policy takes the action of the log"):
        score = imitation.score(log.X, log.action)
    assert score == accuracy_score(log.action, imitation.predict(log.X))
    report = imitation.evaluate(log.X, log.action, **metadata(log))
    assert imitation.score(log.X, log.action, **metadata(log)) == report.snips.value


# Refresh rounds


def test_improve_repairs_a_skewed_log(digits):
    """One fit to a skewed and noisy log, then four rounds in which it may ask."""
    skewed = make_logged_bandit(digits.X, digits.y, logging="skewed", noise=0.25, random_state=0)
    rng = np.random.default_rng(0)

    def ask(X, actions):
        right = actions == digits.y
        return np.where(right ^ (rng.random(len(actions)) < 0.25), 1.0, -1.0)

    policy = topr(random_state=0).fit(skewed.X, skewed.action, **metadata(skewed))
    before = accuracy(policy, digits)
    policy.improve(digits.X, ask, n_rounds=4)
    assert len(policy.rounds_) == 4
    assert accuracy(policy, digits) > before
    assert policy.rounds_[-1].value.value > policy.rounds_[0].value.value
    assert policy.rounds_[0].value.low < policy.rounds_[0].value.high


def test_samples_are_not_tied_to_a_log_of_the_same_seed():
    X, y = np.zeros((500, 1)), np.arange(500) % 4
    log = make_logged_bandit(X, y, random_state=0)
    policy = topr().partial_fit(X, log.action, reward=np.zeros(500), propensity=log.propensity)
    actions, _ = policy.sample(X, random_state=0)
    assert abs(np.mean(actions[:, 0] == log.action) - 0.25) < 0.1


def test_improve_sees_repeated_rows_and_labels(log):
    policy = topr(random_state=0).fit(log.X, log.action, **metadata(log))
    seen = []

    def ask(X, actions):
        seen.append((X.copy(), actions.copy()))
        return np.where(actions == 0, 1.0, -1.0) + 0.01 * (X[:, 0] > 0)

    policy.improve(log.X, ask, n_rounds=2, n_samples=3, temperature=2.0)
    assert len(seen) == 2
    assert_array_equal(seen[0][0], np.repeat(log.X, 3, axis=0))
    assert set(seen[0][1]) <= set(policy.classes_)
    assert np.mean(policy.predict(log.X) == 0) > 0.95


def test_samples_of_a_context_are_not_independent_rows(log):
    """A reward that depends on the context only: more samples of it are no more information."""
    errors = []
    for n_samples in (1, 50):
        policy = topr(random_state=0).fit(log.X, log.action, **metadata(log))
        policy.improve(log.X, lambda X, actions: X[:, 0], n_rounds=1, n_samples=n_samples)
        errors.append(policy.rounds_[0].value.standard_error)
    assert errors[0] == pytest.approx(errors[1])
    assert errors[0] == pytest.approx(log.X[:, 0].std(ddof=1) / np.sqrt(150))


def test_a_reward_function_may_write_to_its_arguments(log):
    def ask(X, actions):
        reward = np.where(actions == log.y, 1.0, -1.0)
        X *= 0
        actions[:] = 0
        return reward

    policy = topr(random_state=0).fit(log.X, log.action, **metadata(log))
    policy.improve(log.X, ask, n_rounds=3)
    assert accuracy(policy, log) > 0.9


def test_rounds_in_which_nothing_came_are_rounds(log):
    policy = topr(random_state=0).fit(log.X, log.action, **metadata(log))
    before = policy.coef_
    policy.improve(log.X, lambda X, actions: np.zeros(len(actions)), n_rounds=3)
    assert len(policy.rounds_) == 3
    assert_array_equal(policy.coef_, before)


def test_a_failing_reward_leaves_the_policy(log):
    policy = topr(random_state=0).fit(log.X, log.action, **metadata(log))
    before = policy.predict_proba(log.X)
    calls = []

    def ask(X, actions):
        calls.append(1)
        return np.full(len(actions), np.nan) if len(calls) == 2 else np.sign(actions - 0.5)

    with pytest.raises(ValueError, match="reward must be finite"):
        policy.improve(log.X, ask, n_rounds=3)
    assert_array_equal(policy.predict_proba(log.X), before)
    with pytest.raises(ValueError, match="one reward for each row, got None"):
        policy.improve(log.X, lambda X, actions: None)
    with pytest.raises(ValueError, match="reward must have one value for each action"):
        policy.improve(log.X, lambda X, actions: [1.0])
    with pytest.raises(NotFittedError):
        topr().improve(log.X, ask)


# scikit-learn's tools


@pytest.fixture
def routing():
    with config_context(enable_metadata_routing=True):
        yield


GRID = {"C": [0.01, 1.0]}


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("scoring", [None, "scorer"])
@pytest.mark.parametrize("search", [GridSearchCV, RandomizedSearchCV, HalvingGridSearchCV])
def test_searches_route(log, search, scoring):
    settings = {"cv": KFold(3, shuffle=True, random_state=0)}
    if search is RandomizedSearchCV:
        settings["n_iter"] = 2
    if search is HalvingGridSearchCV:
        settings |= {"min_resources": 60, "random_state": 0}
    scoring = ope_scorer("snips") if scoring else None
    found = search(topr(), GRID, scoring=scoring, **settings)
    found.fit(log.X, log.action, **metadata(log))
    scores = found.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert -1 <= scores.min() < scores.max() <= 1
    if search is GridSearchCV:
        train, test = next(settings["cv"].split(log.X))
        data = log.X, log.action, log.reward, log.propensity
        X, action, reward, propensity = (part[train] for part in data)
        policy = topr(C=0.01).fit(X, action, reward=reward, propensity=propensity)
        X, action, reward, propensity = (part[test] for part in data)
        expected = policy.score(X, action, reward=reward, propensity=propensity)
        assert found.cv_results_["split0_test_score"][0] == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore::pnsklearn.exceptions.PolicyWarning")  # of 12 rows
@pytest.mark.usefixtures("routing")
def test_cross_validation_routes(log):
    pipeline = make_pipeline(StandardScaler(), topr())
    scores = cross_val_score(pipeline, log.X, log.action, params=metadata(log))
    assert np.isfinite(scores).all()
    both = cross_validate(
        pipeline,
        log.X,
        log.action,
        params=metadata(log),
        scoring={"snips": ope_scorer("snips"), "ips": ope_scorer("ips")},
    )
    assert_allclose(both["test_snips"], scores)
    proba = cross_val_predict(
        pipeline, log.X, log.action, params=metadata(log), method="predict_proba"
    )
    assert_allclose(proba.sum(axis=1), 1)
    sizes, _, test = learning_curve(
        pipeline, log.X, log.action, params=metadata(log), shuffle=True, random_state=0
    )
    assert np.isfinite(test).all()
    assert len(sizes) == 5


@pytest.mark.usefixtures("routing")
def test_pipeline_routes(log):
    pipeline = make_pipeline(StandardScaler(), topr())
    pipeline.fit(log.X, log.action, **metadata(log))
    alone = topr().fit(StandardScaler().fit_transform(log.X), log.action, **metadata(log))
    assert_allclose(pipeline[-1].coef_, alone.coef_)
    assert pipeline.score(log.X, log.action, **metadata(log)) == pytest.approx(
        alone.score(StandardScaler().fit_transform(log.X), log.action, **metadata(log))
    )


def test_structured_y_without_routing(log):
    y = feedback(log)
    policy = topr().fit(log.X, y)
    expected = topr().fit(log.X, log.action, **metadata(log))
    assert_array_equal(policy.coef_, expected.coef_)
    structured = np.empty(150, dtype=y.dtype)
    for name in y.dtype.names:
        structured[name] = y[name]
    assert_array_equal(topr().fit(log.X, structured).coef_, expected.coef_)
    assert policy.score(log.X, y) == expected.score(log.X, log.action, **metadata(log))
    folds = KFold(3, shuffle=True, random_state=0)
    with config_context(enable_metadata_routing=True):
        routed = cross_val_score(topr(), log.X, log.action, params=metadata(log), cv=folds)
    assert_array_equal(cross_val_score(topr(), log.X, y, cv=folds), routed)
    pipeline = make_pipeline(StandardScaler(), topr())
    search = GridSearchCV(pipeline, {"toprpolicy__C": [0.1, 1]}).fit(log.X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.predict(log.X).shape == (150,)


@pytest.mark.parametrize("error_score", [np.nan, "raise"])
@pytest.mark.parametrize("scoring", [None, ope_scorer(), {"dr": ope_scorer("dr")}], ids=str)
@pytest.mark.parametrize(
    "make",
    [
        lambda **kwargs: GridSearchCV(topr(), GRID, refit=False, **kwargs).fit,
        lambda **kwargs: (
            RandomizedSearchCV(topr(), GRID, n_iter=1, random_state=0, refit=False, **kwargs).fit
        ),
        lambda **kwargs: partial(routeless, cross_validate, **kwargs),
    ],
    ids=["GridSearchCV", "RandomizedSearchCV", "cross_validate"],
)
def test_without_routing_an_error_says_what_is_missing(log, make, scoring, error_score):
    """Rewards reach fit and not score, which would be a NaN."""
    tool = make(scoring=scoring, error_score=error_score)
    with pytest.raises(ValueError, match="enable_metadata_routing=True"):
        tool(log.X, log.action, **metadata(log))


def routeless(function, X, y, reward, propensity, **kwargs):
    return function(topr(), X, y, params={"reward": reward, "propensity": propensity}, **kwargs)


def test_without_rewards_a_scorer_ends_a_search(log):
    with pytest.raises(ValueError, match="enable_metadata_routing=True"):
        cross_val_score(LogisticRegression(), log.X, log.action, scoring=ope_scorer())
    model = LogisticRegression().fit(log.X, log.action)
    with pytest.raises(ValueError, match="ope_scorer got no reward"):
        ope_scorer()(model, log.X, log.action)


# Bad input


def fit(log, y=None, **changes):
    y = log.action if y is None else y
    return topr().fit(log.X, y, **{**metadata(log), **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"propensity": None}, "Rewards need propensities"),
        ({"reward": np.full(150, np.nan)}, "reward must be finite"),
        ({"reward": np.full(150, np.inf)}, "reward must be finite"),
        ({"propensity": np.zeros(150)}, r"propensity must be in \(0, 1\]"),
        ({"propensity": np.full(150, 1.5)}, r"propensity must be in \(0, 1\]"),
        ({"propensity": np.full(150, np.nan)}, "propensity must be finite, but 150 of 150"),
        ({"propensity": "guess"}, "propensity='guess' names no column of X"),
        ({"reward": np.full(150, 1e200)}, "reward has values beyond 1e[+]100"),
        ({"reward": np.full(150, 1j)}, "Complex data not supported"),
        ({"reward": np.ma.masked_equal(np.arange(150.0), 3)}, "reward has masked entries"),
        ({"propensity": np.ma.masked_equal(np.ones(150), 1)}, "propensity has masked entries"),
        ({"reward": np.ones(3)}, "reward must have one value for each action"),
        ({"propensity": np.ones((150, 2))}, "one column for each of the 3 actions"),
        ({"propensity": np.ones(3)}, "propensity must have one value for each action"),
        ({"reward": np.zeros(150)}, "All rewards equal the baseline, 0"),
        ({"y": np.zeros(150)}, "only one class, the action 0"),
        ({"sample_weight": np.zeros(150)}, "at least one non-zero"),
        ({"sample_weight": np.full(150, -1.0)}, "Negative values"),
    ],
)
def test_bad_feedback(log, changes, message):
    with pytest.raises(ValueError, match=message):
        fit(log, **changes)


@pytest.mark.parametrize("y", [1, np.array(1), iter([0, 1]), object()])
def test_actions_without_a_length(log, y):
    with pytest.raises(TypeError, match=r"sequence or array-like|at least 1 dimension"):
        fit(log, y)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bounds": ((2, 1), (0, 1))}, "bounds of the good decisions must be two numbers"),
        ({"bounds": ((1, 1), (-1, 1))}, "bounds of the bad decisions must be two numbers"),
        ({"bounds": ((1, 1), (0, 1, 2))}, "bounds of the bad decisions must be two numbers"),
        ({"bounds": ((1, 1), ("a", 1))}, "bounds of the bad decisions must be two numbers"),
        ({"bounds": (0, 1)}, "bounds of the good decisions must be two numbers"),
        ({"bounds": ((1, 1),)}, "a name or two pairs"),
        ({"bounds": "naive"}, "'bounds' parameter of TOPRPolicy must be"),
        ({"baseline": 1.0, "effective_positive": 0.5}, "not both"),
        ({"effective_positive": 1.0}, "effective_positive"),
        ({"bounds": ((np.inf, np.inf), (0, 1))}, "finite low"),
        ({"C": 0}, "'C' parameter of TOPRPolicy must be"),
        ({"device": "tpu"}, "device must be"),
    ],
)
def test_bad_settings(log, settings, message):
    with pytest.raises((ValueError, ImportError), match=message):
        topr(**settings).fit(log.X, log.action, **metadata(log))


def test_bad_structured_y(log):
    with pytest.raises(ValueError, match="needs the fields action, reward and propensity"):
        topr().fit(log.X, np.zeros(150, dtype=[("action", int), ("reward", float)]))
    with pytest.raises(ValueError, match="rewards and propensities of its own"):
        topr().fit(log.X, feedback(log), reward=log.reward)


@pytest.mark.parametrize("n_samples", [0, 1.5])
def test_bad_samples(log, n_samples):
    policy = topr().fit(log.X, log.action)
    with pytest.raises(ValueError, match="n_samples must be an integer"):
        policy.sample(log.X, n_samples)
    with pytest.raises(ValueError, match="temperature must be a positive number"):
        policy.sample(log.X, temperature=0)


def test_partial_fit_refuses_what_needs_the_whole_log(log):
    with pytest.raises(AttributeError, match="partial_fit"):
        topr(effective_positive=0.5).partial_fit(log.X, log.action, **metadata(log))
    with pytest.raises(ValueError, match="cannot estimate"):
        topr().partial_fit(log.X, log.action, reward=log.reward, propensity="estimate")


def test_not_converged(log):
    with pytest.warns(ConvergenceWarning, match="after 1 iterations, where"):
        topr(max_iter=1).fit(log.X, log.action, **metadata(log))


def test_tiny_propensities(log):
    """Those whose ratios are still numbers are taken, others are refused."""
    policy = topr(bounds="is").fit(log.X, log.action, reward=log.reward, propensity=1e-100)
    assert_allclose(policy.predict_proba(log.X).sum(axis=1), 1)
    with pytest.raises(ValueError, match="whose ratios would overflow"):
        policy.fit(log.X, log.action, reward=log.reward, propensity=np.full(150, 1e-300))


def test_lengths_differ(log):
    policy = topr().fit(log.X, log.action, **metadata(log))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        policy.score(log.X[:10], log.action, **metadata(log))
    with pytest.raises(ValueError, match="target y is None"):
        topr().fit(log.X, None, **metadata(log))


def test_inputs_are_not_changed(log):
    copies = {key: log[key].copy() for key in ("X", "action", "reward", "propensity")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(log)
    for key, copy in copies.items():
        assert_array_equal(log[key], copy)
