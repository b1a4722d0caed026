"""TOPRPolicy with a torch module."""

import copy

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_iris
from sklearn.preprocessing import StandardScaler

from pnsklearn import TOPRPolicy
from pnsklearn.datasets import make_logged_bandit
from pnsklearn.metrics._off_policy import predict_rewards
from tests.callbacks import Callback, Draws

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def log():
    X, y = load_iris(return_X_y=True)
    return make_logged_bandit(StandardScaler().fit_transform(X), y, random_state=0)


def metadata(log):
    return {"reward": log.reward, "propensity": log.propensity}


def topr(**params):
    return TOPRPolicy(bounds="topr", baseline=0, **params)


def network(n_out=3, dropout=0.0):
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Dropout(dropout),
        torch.nn.Linear(16, n_out),
    )  # fmt: skip


def linear():
    module = torch.nn.Linear(4, 3, bias=False)
    torch.nn.init.zeros_(module.weight)
    return module


def test_learns(log):
    policy = topr(module=network(), n_epochs=50, random_state=0)
    policy.fit(log.X, log.action, **metadata(log))
    assert np.mean(policy.predict(log.X) == log.y) > 0.9
    assert_allclose(policy.predict_proba(log.X).sum(axis=1), 1)
    assert policy.n_iter_ == 50
    assert not hasattr(policy, "coef_")


@pytest.mark.filterwarnings("ignore::pnsklearn.exceptions.PolicyWarning")
@pytest.mark.parametrize("shape", [(4,), (2, 2)])
def test_the_choice_by_hand(log, shape):
    """Of four members at one C, each trained on two thirds; in one batch nothing is random."""
    X = log.X.reshape(150, *shape)
    params = {
        "module": torch.nn.Sequential(torch.nn.Flatten(), linear()),
        "n_epochs": 5, "batch_size": 150, "learning_rate": 0.1, "C": 2.0,
    }  # fmt: skip
    splits = [(np.flatnonzero(np.arange(150) % 3 != k), np.arange(k, 150, 3)) for k in range(3)]
    policy = TOPRPolicy(cv=splits, act="sample", **params).fit(X, log.action, **metadata(log))
    found = policy.selection_
    assert found.bounds == ["topr", "topr", "is", "tis"]
    assert_array_equal(found.C, 2.0)
    for k, (bounds, baseline) in enumerate(zip(found.bounds, found.baseline, strict=True)):
        terms = np.empty(150)
        for train, test in splits:
            part = TOPRPolicy(bounds=bounds, baseline=float(baseline), **params)
            how = {name: column[train] for name, column in metadata(log).items()}
            proba = part.fit(X[train], log.action[train], **how).predict_proba(X[test])
            q = predict_rewards(
                log.X[train], log.action[train], log.reward[train], 3, np.ones(100), log.X[test],
                alpha=10.0,
            )  # fmt: skip
            own = np.arange(50), log.action[test]
            ratio = proba[own] / log.propensity[test]
            terms[test] = (proba * q).sum(axis=1)
            terms[test] += np.minimum(ratio, np.sqrt(150)) * (log.reward[test] - q[own])
        assert found.value[k] == pytest.approx(terms.mean(), abs=1e-6)
    assert policy.bounds_ == found.bounds[found.best_index]
    assert policy.C_ == 2.0


def test_a_linear_module_comes_to_the_linear_policy(log):
    """The same objective from two implementations, penalty and all."""
    exact = topr(fit_intercept=False, tol=1e-8).fit(log.X, log.action, **metadata(log))
    policy = topr(module=linear(), n_epochs=600, batch_size=150, learning_rate=0.1)
    policy.fit(log.X, log.action, **metadata(log))
    assert_allclose(policy.module_.weight.detach(), exact.coef_, atol=0.01)


def test_weights_count_rows(log):
    """With one batch, weights of two are the rows given twice."""
    settings = {"module": linear(), "n_epochs": 30, "batch_size": 1000, "random_state": 0}
    twice = np.arange(150) % 2 == 0
    rows = np.repeat(np.arange(150), 1 + twice)
    weighted = topr(**settings).fit(log.X, log.action, 1.0 + twice, **metadata(log))
    repeated = topr(**settings).fit(
        log.X[rows],
        log.action[rows],
        reward=log.reward[rows],
        propensity=log.propensity[rows],
    )
    assert_allclose(weighted.predict_proba(log.X), repeated.predict_proba(log.X), atol=1e-4)


def test_reproducible_and_harmless(log):
    module = network(dropout=0.2)
    before = copy.deepcopy(module.state_dict())
    state = torch.random.get_rng_state()
    policies = [
        topr(module=module, n_epochs=3, random_state=seed).fit(log.X, log.action, **metadata(log))
        for seed in (0, 0, 1)
    ]
    proba = [policy.predict_proba(log.X) for policy in policies]
    assert_array_equal(proba[0], proba[1])
    assert np.abs(proba[0] - proba[2]).max() > 1e-6
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_two_actions_and_images(log):
    rows = log.action < 2
    images = log.X[rows].reshape(-1, 1, 2, 2)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    policy = topr(module=module, n_epochs=2, random_state=0).fit(images, log.action[rows])
    assert policy.decision_function(images).shape == (len(images),)
    assert policy.predict_proba(images).shape == (len(images), 2)
    report = policy.evaluate(
        images, log.action[rows], reward=log.reward[rows], propensity=log.propensity[rows]
    )
    chosen = policy.predict_proba(images)[np.arange(len(images)), log.action[rows]]
    expected = np.mean(chosen / log.propensity[rows] * log.reward[rows])
    assert report.ips.value == pytest.approx(expected)


def test_improve_goes_on_from_the_trained_module(log):
    policy = topr(module=network(), n_epochs=5, random_state=0)
    policy.fit(log.X, log.action, **metadata(log))
    policy.improve(log.X, lambda X, actions: np.where(actions == log.y, 1.0, -1.0), n_rounds=5)
    values = [entry.value.value for entry in policy.rounds_]
    assert values[-1] > values[0]


def test_a_new_module_is_trained_from_its_own_weights(log):
    policy = topr(module=network(), n_epochs=2, warm_start=True, random_state=0)
    policy.fit(log.X, log.action, **metadata(log))
    policy.set_params(module=linear()).fit(log.X, log.action, **metadata(log))
    assert isinstance(policy.module_, torch.nn.Linear)
    expected = topr(module=linear(), n_epochs=2, random_state=0)
    expected.fit(log.X, log.action, **metadata(log))
    assert_array_equal(policy.predict_proba(log.X), expected.predict_proba(log.X))


def test_callbacks_see_a_policy_each_epoch(log):
    shapes = []

    class Watch(Callback):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator, X, y):
            if context.task_name == "iteration":
                shapes.append(fitted_estimator.predict_proba(X).shape)
            return len(shapes) == 3

    policy = topr(module=network(), n_epochs=20, random_state=0).set_callbacks(Watch())
    policy.fit(log.X, log.action, **metadata(log))
    assert shapes == [(150, 3)] * 3
    assert policy.n_iter_ == 3


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"module": "net"}, TypeError, "must be a torch.nn.Module"),
        ({"module": torch.nn.ReLU()}, ValueError, "no parameter to train"),
        ({"module": network(), "solver": "lbfgs"}, ValueError, "needs a linear policy"),
        ({"module": network(5)}, ValueError, "one logit for each of the 3 actions"),
    ],
)
def test_bad_modules(log, settings, error, message):
    with pytest.raises(error, match=message):
        topr(**settings).fit(log.X, log.action, **metadata(log))


def test_partial_fit_is_for_linear_policies(log):
    assert not hasattr(topr(module=network()), "partial_fit")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("module", [None, network()])
def test_cuda(log, module):
    settings = {"module": module, "n_epochs": 3, "random_state": 0}
    expected = topr(**settings).fit(log.X, log.action, **metadata(log))
    policy = topr(**settings, device="cuda").fit(log.X, log.action, **metadata(log))
    assert_allclose(policy.predict_proba(log.X), expected.predict_proba(log.X), atol=1e-3)


@pytest.mark.parametrize("sparse", [False, True])
def test_linear_fit_on_tensors(log, sparse, monkeypatch):
    """The path of a CUDA device, with tensors on the CPU."""
    from scipy.sparse import csr_matrix

    from pnsklearn._topr import _objective, _torch

    X = csr_matrix(log.X) if sparse else log.X
    expected = topr(tol=1e-8).fit(X, log.action, **metadata(log))
    monkeypatch.setattr(_objective, "get_kernels", lambda device: _torch)
    policy = topr(tol=1e-8).fit(X, log.action, **metadata(log))
    assert_allclose(policy.coef_, expected.coef_, atol=1e-6)


def test_a_callback_that_draws_changes_nothing(log):
    """Neither the model, nor what the user's generator would have given without the fit."""
    module, proba = network(dropout=0.5), []
    torch.manual_seed(7)
    free = [torch.rand(1).item() for _ in range(50)]
    for callback in (Draws(False), Draws(True)):
        policy = topr(module=module, n_epochs=3, random_state=0).set_callbacks(callback)
        torch.manual_seed(7)
        policy.fit(log.X, log.action, **metadata(log))
        proba.append(policy.predict_proba(log.X))
    assert_array_equal(proba[0], proba[1])
    assert len(callback.drawn) >= 3
    assert callback.drawn == free[: len(callback.drawn)]
