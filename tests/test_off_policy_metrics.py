"""Off-policy values against closed forms, SciPy, repetition and simulated logs."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose
from scipy.sparse import csr_array
from scipy.stats import norm, sem
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    RandomizedSearchCV,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pnsklearn.datasets import make_feedback
from pnsklearn.metrics import (
    dr_value,
    effective_sample_size,
    ips_value,
    ope_scorer,
    snips_value,
    value_difference,
)
from pnsklearn.metrics._off_policy import ValueEstimate, direct_rewards

# Two contexts, equally likely, and three actions: logging policy, evaluated policy, mean rewards.
MU = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
PI = np.array([[0.2, 0.2, 0.6], [0.6, 0.3, 0.1]])
Q = np.array([[1.0, -0.5, 2.0], [0.0, 3.0, 1.0]])
TRUE = (PI * Q).sum(axis=1).mean()
WRONG_Q = np.array([[0.0, 2.0, -1.0], [1.0, 0.0, 0.0]])


def simulate(seed, n):
    """Return (context, action, propensity, reward) of a log with normal noise."""
    rng = np.random.default_rng(seed)
    x = rng.integers(2, size=n)
    action = (rng.uniform(size=(n, 1)) >= np.cumsum(MU[x], axis=1)[:, :-1]).sum(axis=1)
    return x, action, MU[x, action], Q[x, action] + rng.standard_normal(n)


def estimates(x, action, propensity, reward, prediction=Q, **kwargs):
    """Return the three estimates by name; the prediction is per context and action."""
    logged = PI[x, action]
    return {
        "ips": ips_value(logged, propensity, reward, **kwargs),
        "snips": snips_value(logged, propensity, reward, **kwargs),
        "dr": dr_value(PI[x], action, propensity, reward, prediction[x], **kwargs),
    }


def test_values_by_hand():
    proba, propensity, reward = [0.9, 0.1, 0.5], [0.5, 0.5, 0.25], [1.0, -1.0, 1.0]
    assert ips_value(proba, propensity, reward) == pytest.approx((1.8 - 0.2 + 2.0) / 3)
    assert ips_value(proba, propensity, reward, clip=1.9) == pytest.approx((1.8 - 0.2 + 1.9) / 3)
    assert snips_value(proba, propensity, reward) == pytest.approx((1.8 - 0.2 + 2.0) / 4)
    assert effective_sample_size(proba, propensity) == pytest.approx(4**2 / (1.8**2 + 0.2**2 + 4))
    assert type(ips_value(proba, propensity, reward)) is float


def test_dr_by_loop(global_random_seed):
    x, action, propensity, reward = simulate(global_random_seed, 50)
    prediction = np.random.default_rng(1).normal(size=(2, 3))
    terms = []
    for i in range(50):
        term = sum(PI[x[i], a] * prediction[x[i], a] for a in range(3))
        weight = PI[x[i], action[i]] / propensity[i]
        terms.append(term + weight * (reward[i] - prediction[x[i], action[i]]))
    value, error, low, high = dr_value(
        PI[x], action, propensity, reward, prediction[x], confidence_level=0.9
    )
    assert value == pytest.approx(np.mean(terms))
    assert error == pytest.approx(sem(terms))
    assert_allclose([low, high], norm.interval(0.9, value, error))


def test_cut_weights_by_loop():
    """Of weights 0.4 to 3: clip sets the larger ones to 1.2, switch to 0."""
    x, action, propensity, reward = simulate(0, 50)
    weight = PI[x, action] / propensity
    direct = (PI[x] * WRONG_Q[x]).sum(axis=1)
    log = PI[x], action, propensity, reward, WRONG_Q[x]
    for cut, used in {"clip": np.minimum(weight, 1.2), "switch": weight * (weight <= 1.2)}.items():
        terms = [direct[i] + used[i] * (reward[i] - WRONG_Q[x[i], action[i]]) for i in range(50)]
        assert dr_value(*log, **{cut: 1.2}) == pytest.approx(np.mean(terms))
    assert dr_value(*log, switch=3.0) == dr_value(*log, clip=3.0) == dr_value(*log)
    with pytest.raises(ValueError, match="clip or switch, not both"):
        dr_value(*log, clip=2.0, switch=2.0)


def test_differences():
    x, action, propensity, reward = simulate(0, 50)
    log = action, propensity, reward, WRONG_Q[x]
    ours, other = dr_value(PI[x], *log), dr_value(MU[x], *log)
    assert value_difference(PI[x], MU[x], *log).value == pytest.approx(ours - other)
    assert value_difference(PI[x], PI[x], *log) == (0.0, 0.0, 0.0, 0.0)
    gain = value_difference(PI[x], None, *log, confidence_level=0.9)
    assert gain.value == pytest.approx(ours - reward.mean())
    back = value_difference(MU[x], PI[x], *log, switch=1.2)
    assert_allclose(
        value_difference(PI[x], MU[x], *log, switch=1.2),
        [-back.value, back.standard_error, -back.high, -back.low],
    )
    plain = value_difference(PI[x], None, *log[:3])
    ratio = PI[x, action] / propensity
    assert plain.value == pytest.approx(np.mean((ratio - 1) * (reward - reward.mean())))
    shares = value_difference(PI[x], None, *log, sample_weight=np.full(50, 0.02))
    assert shares.value == pytest.approx(gain.value) and shares.low == -np.inf
    with pytest.raises(ValueError, match="rows of policy_proba must sum to 1"):
        value_difference(PI[x], 2 * MU[x] / 3, *log)


@pytest.mark.parametrize("dtype", ["Int8", "UInt16", "Int64"])
def test_nullable_actions(dtype):
    x, action, propensity, reward = simulate(0, 50)
    rest = propensity, reward, WRONG_Q[x]
    assert dr_value(PI[x], pd.Series(action, dtype=dtype), *rest) == dr_value(PI[x], action, *rest)


def test_standard_errors(global_random_seed):
    """IPS: that of a mean. SNIPS: the delta method, with a numeric gradient of the ratio."""
    x, action, propensity, reward = simulate(global_random_seed, 400)
    ratio = PI[x, action] / propensity
    found = estimates(x, action, propensity, reward, confidence_level=0.95)
    assert found["ips"].standard_error == pytest.approx(sem(ratio * reward))
    means = np.array([np.mean(ratio * reward), np.mean(ratio)])
    step = 1e-6
    gradient = [
        ((means + d)[0] / (means + d)[1] - (means - d)[0] / (means - d)[1]) / (2 * step)
        for d in np.eye(2) * step
    ]
    variance = gradient @ np.cov([ratio * reward, ratio]) @ gradient / 400
    assert found["snips"].standard_error == pytest.approx(np.sqrt(variance), rel=1e-6)


def expected(cut, prediction):
    """Return the mean of the doubly robust terms with weights that `cut` changes."""
    direct, weight = (PI * prediction).sum(axis=1), cut(PI / MU)
    return (direct + (MU * weight * (Q - prediction)).sum(axis=1)).mean()


@sklearn.config_context(skip_parameter_validation=True, assume_finite=True)  # for speed
def test_unbiased_consistent_and_covered():
    """Nominal 90 % are 87 to 93, of what the mean is without and with cut weights."""
    n_logs, n = 400, 500
    truth = {
        **dict.fromkeys(("ips", "snips", "dr"), TRUE),
        "clipped": expected(lambda w: np.minimum(w, 1.2), WRONG_Q),
        "switch": expected(lambda w: np.where(w <= 1.2, w, 0), WRONG_Q),
        "difference": TRUE - (PI[::-1] * Q).sum(axis=1).mean(),
        "gain": TRUE - (MU * Q).sum(axis=1).mean(),
    }
    runs = []
    for i in range(n_logs):
        log = simulate([0, i], n)
        x, prediction = log[0], WRONG_Q[log[0]]
        how = {"confidence_level": 0.9}
        runs.append(estimates(*log, **how))
        runs[-1]["clipped"] = dr_value(PI[x], *log[1:], prediction, clip=1.2, **how)
        runs[-1]["switch"] = dr_value(PI[x], *log[1:], prediction, switch=1.2, **how)
        runs[-1]["difference"] = value_difference(PI[x], PI[1 - x], *log[1:], prediction, **how)
        runs[-1]["gain"] = value_difference(PI[x], None, *log[1:], prediction, **how)
    for name, true in truth.items():
        values = np.array([run[name].value for run in runs])
        slack = 0.01 if name == "snips" else 0.0  # its bias is of the order 1/n
        assert abs(values.mean() - true) < 4.5 * sem(values) + slack, name
        errors = [run[name].standard_error for run in runs]
        assert np.mean(errors) == pytest.approx(values.std(), rel=0.2)
        covered = np.mean([run[name].low <= true <= run[name].high for run in runs])
        assert 0.87 <= covered <= 0.93, name


def test_doubly_robust(global_random_seed):
    """Right with either the propensities or the predictions, and wrong with neither."""
    x, action, propensity, reward = simulate(global_random_seed, 200_000)
    wrong_mu, wrong_q = np.full(len(x), 1 / 3), WRONG_Q

    def distance(propensity, prediction):
        value, error, *_ = dr_value(
            PI[x], action, propensity, reward, prediction[x], confidence_level=0.9
        )
        return abs(value - TRUE) / error

    assert distance(propensity, wrong_q) < 4.5
    assert distance(wrong_mu, Q) < 4.5
    assert distance(wrong_mu, wrong_q) > 20


def test_dr_is_unbiased_with_cross_fitted_rewards(global_random_seed):
    values = []
    for i in range(300):
        x, action, propensity, reward = simulate([global_random_seed, i], 60)
        prediction = direct_rewards(np.eye(2)[x], action, reward, 3)
        values.append(dr_value(PI[x], action, propensity, reward, prediction))
    assert abs(np.mean(values) - TRUE) < 4.5 * sem(values)


def test_weights_are_repetitions(global_random_seed):
    log = simulate(global_random_seed, 200)
    times = np.arange(200) % 4
    weighted = estimates(*log, sample_weight=times, confidence_level=0.9)
    repeated = estimates(*(np.repeat(part, times) for part in log), confidence_level=0.9)
    for name in weighted:
        assert weighted[name] == pytest.approx(repeated[name], rel=1e-10)
    x, action, propensity, _ = log
    assert effective_sample_size(
        PI[x, action], propensity, sample_weight=times
    ) == pytest.approx(
        effective_sample_size(*(np.repeat(p, times) for p in (PI[x, action], propensity)))
    )  # fmt: skip


def test_effective_sample_size_limits():
    assert effective_sample_size(np.full(7, 0.3), np.full(7, 0.3)) == pytest.approx(7)
    assert effective_sample_size([1.0, 0.0, 0.0], [0.1, 0.5, 0.5]) == pytest.approx(1)
    assert effective_sample_size([0.0, 0.0], [0.5, 0.5]) == 0
    assert effective_sample_size([1e200, 1e200], [1.0, 1.0]) == pytest.approx(2)


def test_one_row_has_an_endless_interval():
    estimate = ips_value([0.5], [0.5], [2.0], confidence_level=0.9)
    assert estimate == ValueEstimate(2.0, np.inf, -np.inf, np.inf)


def test_invariance():
    """SNIPS moves with a constant that is added to the rewards; IPS does not."""
    x, action, propensity, reward = simulate(0, 100)
    before, after = (estimates(x, action, propensity, reward + c) for c in (0.0, 5.0))
    assert after["snips"] - before["snips"] == pytest.approx(5)
    assert abs(after["ips"] - before["ips"] - 5) > 0.01


OK = ([0.5, 0.5], [0.5, 0.5], [1.0, 0.0])


@pytest.mark.parametrize("function", [ips_value, snips_value])
@pytest.mark.parametrize(
    "position, values, message",
    [
        (0, [[0.5], [0.5]], r"policy_proba must be of shape \(n_samples,\)"),
        (0, [0.5, 1.5], r"policy_proba must be in \[0, 1\]"),
        (0, [-0.5, 0.5], r"policy_proba must be in \[0, 1\]"),
        (0, [np.nan, 0.5], "policy_proba contains NaN"),
        (1, [0.0, 0.5], r"propensity must be in \(0, 1\]"),
        (1, [0.5, 1.5], r"propensity must be in \(0, 1\]"),
        (1, [0.5, np.nan], "propensity must be finite, but 1 of 2"),
        (1, [0.5], "propensity must have one value for each action"),
        (1, "estimate", "'propensity' parameter"),
        (2, [1.0, np.nan], "reward must be finite"),
        (2, [1.0, np.inf], "reward must be finite"),
        (2, [1.0], "reward must have one value for each action"),
    ],
)
def test_bad_input(function, position, values, message):
    arguments = list(OK)
    arguments[position] = values
    with pytest.raises(ValueError, match=message):
        function(*arguments)


def test_bad_parameters():
    with pytest.raises(ValueError, match="'clip' parameter"):
        ips_value(*OK, clip=0.0)
    with pytest.raises(ValueError, match="'confidence_level' parameter"):
        ips_value(*OK, confidence_level=1.0)
    with pytest.raises(ValueError, match="Negative values"):
        ips_value(*OK, sample_weight=[-1.0, 1.0])
    with pytest.raises(ValueError, match="takes none of the logged actions"):
        snips_value([0.0, 0.0], [0.5, 0.5], [1.0, 1.0])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"policy_proba": [0.5, 0.5]}, r"policy_proba must be of shape \(n_samples, n_actions\)"),
        ({"policy_proba": [[0.5, 0.4], [1.0, 0.0]]}, "rows of policy_proba must sum to 1"),
        ({"action": [0, 2]}, "columns of policy_proba, 0 to 1"),
        ({"action": [0, -1]}, "columns of policy_proba, 0 to 1"),
        ({"action": [0.0, 1.0]}, "one integer for each row"),
        ({"action": [0]}, "one integer for each row"),
        ({"reward_prediction": [[0.0], [0.0]]}, "the shape of policy_proba"),
        ({"reward_prediction": [[0.0, np.nan], [0.0, 0.0]]}, "reward_prediction contains NaN"),
    ],
)
def test_bad_input_of_dr(change, message):
    good = {
        "policy_proba": [[0.5, 0.5], [1.0, 0.0]],
        "action": [0, 1],
        "propensity": [0.5, 0.5],
        "reward": [1.0, 0.0],
        "reward_prediction": [[0.0, 0.0], [0.0, 0.0]],
    }
    with pytest.raises(ValueError, match=message):
        dr_value(**good | change)


@pytest.mark.parametrize("container", [np.asarray, csr_array])
def test_direct_rewards_by_normal_equations(container, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    X, action = rng.normal(size=(80, 3)) * [0.1, 1, 30], rng.integers(3, size=80)
    reward, weight = rng.normal(size=80), rng.uniform(0, 2, size=80)
    found = direct_rewards(container(X), action, reward, 4, weight)
    half = np.random.default_rng(0).permutation(80) % 2
    Z = np.column_stack([np.ones(80), X])
    for seen in range(2):
        mean = np.average(reward[half == seen], weights=weight[half == seen])
        assert_allclose(found[half != seen, 3], mean)  # an action without rows
        for a in range(3):
            own = (half == seen) & (action == a)
            gram = Z[own].T @ (weight[own, None] * Z[own]) + np.eye(4)
            coef = np.linalg.solve(gram, Z[own].T @ (weight[own] * (reward[own] - mean)))
            assert_allclose(found[half != seen, a], mean + Z[half != seen] @ coef, rtol=1e-6)


def test_direct_rewards_do_not_see_the_row():
    x, action, _, reward = simulate(0, 40)
    changed = reward.copy()
    changed[7] += 100
    before, after = (direct_rewards(np.eye(2)[x], action, r, 3) for r in (reward, changed))
    assert_allclose(before[7], after[7])
    assert np.abs(before - after).max() > 1


def test_direct_rewards_of_one_row():
    assert_allclose(direct_rewards([[1.0]], np.array([0]), np.array([5.0]), 2), 0.0)


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.fixture(scope="module", params=[2, 3])
def log(request):
    """Contexts, actions named by letters, rewards and propensities, with two or three actions."""
    rng = np.random.default_rng(request.param)
    X = rng.normal(size=(240, 3))
    mu = rng.dirichlet(np.full(request.param, 3.0), size=240)
    code = (rng.uniform(size=(240, 1)) >= np.cumsum(mu, axis=1)[:, :-1]).sum(axis=1)
    reward = X[np.arange(240), code] + rng.normal(size=240)
    return X, np.array(["b", "a", "c"])[code], reward, mu[np.arange(240), code]


def by_hand(kind, model, X, action, reward, propensity, weight=None):
    """Return the value of a classifier's policy, with probabilities looked up one by one."""
    if weight is not None:
        kept = weight > 0
        X, action, reward, propensity, weight = (
            part[kept] for part in (X, action, reward, propensity, weight)
        )
    proba = model.predict_proba(X)
    names = sorted({*model.classes_, *action})
    full = np.zeros((len(X), len(names)))
    for column, name in enumerate(model.classes_):
        full[:, names.index(name)] = proba[:, column]
    code = np.array([names.index(name) for name in action])
    how = {"sample_weight": weight}
    if kind == "dr":
        prediction = direct_rewards(X, code, reward, len(names), weight)
        return dr_value(full, code, propensity, reward, prediction, **how)
    function = {"ips": ips_value, "snips": snips_value}[kind]
    return function(full[np.arange(len(X)), code], propensity, reward, **how)


@pytest.mark.parametrize("kind", ["snips", "ips", "dr"])
def test_scorer_directly(log, kind):
    X, action, reward, propensity = log
    weight = np.arange(240) % 3
    model = LogisticRegression().fit(X, action)
    scorer = ope_scorer(kind)
    found = scorer(model, X, action, reward=reward, propensity=propensity, sample_weight=weight)
    assert found == pytest.approx(by_hand(kind, model, *log, weight))
    assert scorer(model, X, make_feedback(action, reward, propensity)) == pytest.approx(
        by_hand(kind, model, *log)
    )


@pytest.mark.parametrize("kind", ["snips", "ips", "dr"])
def test_actions_that_the_model_or_the_log_lacks(log, kind):
    X, action, reward, propensity = log
    lacks = action != "a"
    labels = np.where(np.arange(240) % 2, "b", "z")  # "z" is in no log, "a" unknown
    model = LogisticRegression().fit(X, labels)
    found = ope_scorer(kind)(model, X, action, reward=reward, propensity=propensity)
    assert found == pytest.approx(by_hand(kind, model, *log))
    if kind == "ips":
        known = ope_scorer(kind)(
            model, X[lacks], action[lacks], reward=reward[lacks], propensity=propensity[lacks]
        )
        assert found == pytest.approx(known * lacks.mean())  # the others weigh nothing


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("kind", ["snips", "ips", "dr"])
def test_routing(log, kind):
    """No set_score_request; the classifier's fit asks for nothing."""
    X, action, reward, propensity = log
    params, cv = {"reward": reward, "propensity": propensity}, KFold(3)
    scorer = ope_scorer(kind)
    expected = []
    for train, test in cv.split(X):
        model = LogisticRegression().fit(X[train], action[train])
        expected.append(by_hand(kind, model, *(part[test] for part in log)))
    how = {"params": params, "cv": cv, "scoring": scorer}
    assert_allclose(cross_val_score(LogisticRegression(), X, action, **how), expected)
    assert_allclose(cross_validate(LogisticRegression(), X, action, **how)["test_score"], expected)
    both = how | {"scoring": {"value": scorer, "accuracy": "accuracy"}}
    assert_allclose(cross_validate(LogisticRegression(), X, action, **both)["test_value"], expected)
    for search in (
        GridSearchCV(LogisticRegression(), {"C": [1.0, 0.1]}, cv=cv, scoring=scorer),
        RandomizedSearchCV(LogisticRegression(), {"C": [1.0]}, n_iter=1, cv=cv, scoring=scorer),
    ):
        search.fit(X, action, **params)
        first = search.cv_results_["params"].index({"C": 1.0})
        assert search.cv_results_["mean_test_score"][first] == pytest.approx(np.mean(expected))
        assert search.score(X, action, **params) == pytest.approx(
            by_hand(kind, search, *log)
        )  # fmt: skip
    sizes, _, scores = learning_curve(
        make_pipeline(StandardScaler(), LogisticRegression()), X, action, **how
    )
    assert scores.shape == (len(sizes), 3) and np.isfinite(scores).all()


@pytest.mark.usefixtures("routing")
def test_missing_metadata(log):
    X, action, reward, propensity = log
    for params, name in (
        ({"propensity": propensity}, "reward"),
        ({"reward": reward}, "propensity"),
    ):
        with pytest.raises(ValueError, match=f"got no {name}"):
            cross_val_score(
                LogisticRegression(),
                X,
                action,
                scoring=ope_scorer(),
                params=params,
                error_score="raise",
            )


class ByAction(LogisticRegression):
    """A classifier of the logged actions that reads a y of make_feedback."""

    def fit(self, X, y):
        return super().fit(X, y["action"])


@pytest.mark.parametrize("kind", ["snips", "dr"])
def test_structured_y_without_routing(log, kind):
    X, action, reward, propensity = log
    y = make_feedback(action, reward, propensity)
    search = GridSearchCV(ByAction(), {"C": [1.0]}, cv=3, scoring=ope_scorer(kind)).fit(X, y)
    expected = [
        by_hand(
            kind,
            LogisticRegression().fit(X[train], action[train]),
            *(part[test] for part in log),
        )
        for train, test in StratifiedKFold(3).split(X, action)
    ]
    assert search.best_score_ == pytest.approx(np.mean(expected))


def test_scorer_is_a_plain_object(log):
    X, action, reward, propensity = log
    model = LogisticRegression().fit(X, action)
    metadata = {"reward": reward, "propensity": propensity}
    scorer = ope_scorer("ips", clip=2.0)
    assert repr(scorer) == "ope_scorer('ips', clip=2.0)"
    search = clone(GridSearchCV(model, {}, scoring=scorer))
    for copy in (pickle.loads(pickle.dumps(scorer)), search.scoring):
        assert copy(model, X, action, **metadata) == scorer(model, X, action, **metadata)
    proba = model.predict_proba(X)[np.arange(240), np.searchsorted(model.classes_, action)]
    assert scorer(model, X, action, **metadata) == pytest.approx(
        ips_value(proba, propensity, reward, clip=2.0)
    )


def test_scorer_parameters():
    with pytest.raises(ValueError, match="clip is for kind='ips'"):
        ope_scorer("snips", clip=2.0)
    with pytest.raises(ValueError, match="'kind' parameter"):
        ope_scorer("dm")
