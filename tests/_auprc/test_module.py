"""AUPRCClassifier with a torch module."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import average_precision_score

from pnsklearn import AUPRCClassifier
from pnsklearn._auprc._objective import loss_terms, make_objective, number_equal_rows, weighted_std

torch = pytest.importorskip("torch")

from pnsklearn._auprc import _module  # noqa: E402
from tests.callbacks import Draws  # noqa: E402


def network(n_outputs=1, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.nn.Sequential(
            torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, n_outputs)
        ).double()


@pytest.fixture(scope="module")
def moons():
    X, y = make_moons(400, noise=0.25, random_state=0)
    kept = (y == 0) | (np.arange(400) < 120)
    return X[kept], y[kept]


@pytest.fixture(scope="module")
def model():
    return AUPRCClassifier(
        module=network(), alpha=0.01, max_iter=300, tol=1e-4, n_epochs=40, random_state=0,
        learning_rate=0.05,
    )  # fmt: skip


@pytest.mark.parametrize("loss", ["smooth", "squared_hinge"])
@pytest.mark.parametrize("chunk", [7, 10**6])
def test_objective_and_gradient_by_autograd(loss, chunk, moons, monkeypatch):
    """Scores and backward passes in chunks are one backward pass through the definition."""
    X, y = moons
    positive, weight = y == 1, np.linspace(0.5, 2.0, len(y))
    monkeypatch.setattr(_module, "ROWS_PER_PASS", chunk)
    model = _module.ModuleModel(network(), X, "cpu")
    theta = model.get()
    anchor = np.full_like(theta, 0.1)
    problem = make_objective(
        model, positive, weight, number_equal_rows(X[positive]), anchor=anchor, alpha=0.2,
        loss=loss, margin=0.3 / weighted_std(model.scores(anchor), weight), prior=None,
    )  # fmt: skip
    value, gradient = problem.value_and_gradient(theta)

    reference = network()
    scores = reference(torch.as_tensor(X))[:, 0]
    margins, coefs, constant = loss_terms(loss, 0.3)
    d = scores[torch.as_tensor(positive)][:, None] - scores
    pairs = sum(a * (m - d).clamp(min=0) ** 2 for a, m in zip(coefs, margins, strict=True))
    pairs = pairs * torch.as_tensor(weight)
    pos = torch.as_tensor(weight[positive])
    P, N = pairs[:, positive].sum(1) + constant * pos, pairs[:, ~positive].sum(1)
    parameters = torch.nn.utils.parameters_to_vector(reference.parameters())
    penalty = 0.2 * ((parameters - 0.1) ** 2).sum() / (0.1**2 * len(theta))
    objective = (pos / pos.sum()) @ (N / (P + N)) + penalty
    slopes = torch.autograd.grad(objective, list(reference.parameters()))
    assert value == pytest.approx(objective.item(), abs=1e-12)
    expected = torch.cat([slope.ravel() for slope in slopes])
    assert_allclose(gradient, expected.numpy(), atol=1e-12)


@pytest.mark.parametrize("solver", ["lbfgs", "soap-adam", "soap-sgd"])
def test_learns_what_a_line_cannot(solver, moons, model):
    X, y = moons
    module = network().train()
    before = copy.deepcopy(module.state_dict())
    fitted = clone(model).set_params(module=module, solver=solver).fit(X, y)
    linear = AUPRCClassifier(alpha=np.inf).fit(X, y)
    reached, expected = (
        average_precision_score(y, m.decision_function(X)) for m in (fitted, linear)
    )
    assert reached > expected
    # The module given is as it was.
    assert fitted.module_ is not module
    assert module.training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert not hasattr(fitted, "coef_")
    # The log-odds are an increasing function of the network's scores.
    with torch.no_grad():
        raw = fitted.module_(torch.as_tensor(X))[:, 0].numpy()
    assert fitted.calibration_[0] > 0
    log_odds = fitted.decision_function(X)
    assert_allclose(log_odds, fitted.calibration_[0] * raw + fitted.calibration_[1], atol=1e-12)
    probability = fitted.predict_proba(X)[:, 1]
    assert probability.mean() == pytest.approx(y.mean(), abs=0.02)
    assert_array_equal(fitted.predict(X), probability > 0.5)


def test_exact_training_improves_on_cross_entropy(moons, model):
    values = [
        clone(model).set_params(alpha=alpha).fit(*moons).surrogate_ for alpha in (np.inf, 0.01)
    ]
    assert values[0] < values[1]


def test_chunks_change_nothing(moons, model, monkeypatch):
    X, y = moons
    whole = clone(model).fit(X, y).decision_function(X)
    monkeypatch.setattr(_module, "ROWS_PER_PASS", 50)
    assert_allclose(clone(model).fit(X, y).decision_function(X), whole, atol=1e-4)


def test_alpha_by_cross_validation(moons, model):
    fitted = clone(model).set_params(alpha="cv", cv=2, max_iter=5, n_epochs=2)
    with pytest.warns(UserWarning, match="max_iter=5"):
        fitted.set_params(solver="lbfgs").fit(*moons)
    assert fitted.alpha_ > 0


def test_jobs_change_nothing(moons, model):
    """Dropout draws random numbers at each step."""
    X, y = moons
    module = torch.nn.Sequential(
        torch.nn.Linear(2, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1)
    ).double()
    settings = {"module": module, "alpha": "cv-1se", "cv": 2, "n_epochs": 3, "max_iter": 20}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        one, two = (
            clone(model).set_params(n_jobs=n_jobs, **settings).fit(X, y) for n_jobs in (None, 2)
        )
    assert_array_equal(two.decision_function(X), one.decision_function(X))
    assert_array_equal(two.cv_average_precision_, one.cv_average_precision_)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_and_shape_of_the_output(dtype, moons, model):
    """One-dimensional output and either precision are fine; so is a tensor as X."""
    X, y = moons
    module = torch.nn.Sequential(network(), torch.nn.Flatten(0)).to(dtype)
    deep = clone(model).set_params(module=module, tol=1e-3).fit(torch.as_tensor(X), y)
    assert next(deep.module_.parameters()).dtype == dtype
    assert np.isfinite(deep.predict_proba(X.astype(np.float32))).all()


def test_images_as_input():
    """Arrays of any number of dimensions reach the module as they are."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((80, 1, 4, 4)), np.arange(80) < 20
    X[y] += 0.7
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(8, 1)
    )
    deep = AUPRCClassifier(module=module, alpha=0.1, tol=1e-3, random_state=0).fit(X, y)
    assert average_precision_score(y, deep.decision_function(X)) > 0.5


def test_reproducible_and_leaves_the_global_generator(moons, model):
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    module = torch.nn.Sequential(torch.nn.Dropout(0.3), network())
    soap = clone(model).set_params(module=module, solver="soap-adam", n_epochs=3)
    results = [clone(soap).fit(*moons).decision_function(moons[0]) for _ in range(2)]
    assert_array_equal(results[0], results[1])
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    "params",
    [
        {"solver": "soap-adam"},
        {"solver": "soap-sgd", "anchor": "zero"},
        {"solver": "lbfgs", "max_iter": 3},
        {"solver": "soap-adam", "alpha": "cv", "cv": 2},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:lbfgs stopped")
def test_user_and_fit_do_not_share_random_numbers(params, moons, model):
    """A callback that draws changes nothing, and draws as if there were no fit."""
    X, y = moons
    module = torch.nn.Sequential(
        torch.nn.Linear(2, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1)
    )
    model = clone(model).set_params(module=module, n_epochs=2, batch_size=64, **params)
    torch.manual_seed(3)
    expected = [torch.rand(1).item() for _ in range(100)]
    log_odds = []
    for active in (False, True):
        callback = Draws(active)
        torch.manual_seed(3)
        fitted = clone(model).set_callbacks(callback).fit(X, y)
        log_odds.append(fitted.decision_function(X))
        assert callback.drawn == expected[: len(callback.drawn)]
        assert torch.rand(1).item() == expected[len(callback.drawn)]
    assert len(callback.drawn) > 4
    assert_array_equal(log_odds[0], log_odds[1])


def test_random_state_of_dropout(moons, model):
    """The draws go on between epochs, from a stream that `random_state` starts."""
    X, y = moons
    module = torch.nn.Sequential(torch.nn.Dropout(0.5), network())
    soap = clone(model).set_params(module=module, solver="soap-adam", n_epochs=2)
    results = [clone(soap).set_params(random_state=s).fit(X, y).module_ for s in (0, 0, 1)]
    weights = [next(iter(result.parameters())).detach().numpy() for result in results]
    assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_read_only_input(moons, model):
    X, y = (part.copy() for part in moons)
    X.flags.writeable = y.flags.writeable = False
    deep = clone(model).set_params(solver="soap-adam", n_epochs=2).fit(X, y)
    assert np.isfinite(deep.decision_function(X)).all()


def test_warm_start(moons, model):
    warm = clone(model).set_params(warm_start=True).fit(*moons)
    cold, surrogate = warm.n_iter_, warm.surrogate_
    warm.fit(*moons)
    assert warm.n_iter_ < cold
    assert warm.surrogate_ >= surrogate - 1e-3


def test_pickle(moons, model):
    fitted = clone(model).fit(*moons)
    loaded = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(loaded.predict_proba(moons[0]), fitted.predict_proba(moons[0]))


def test_from_module_to_linear_and_back(moons, model):
    refitted = clone(model).fit(*moons).set_params(module=None).fit(*moons)
    assert not hasattr(refitted, "module_")
    expected = clone(model).set_params(module=None).fit(*moons)
    assert_array_equal(refitted.decision_function(moons[0]), expected.decision_function(moons[0]))


@pytest.mark.parametrize(
    "params, error, message",
    [
        ({"module": network(2)}, ValueError, "one score per row"),
        ({"module": torch.nn.Linear}, TypeError, "torch.nn.Module instance"),
        ({"module": "net"}, TypeError, "torch.nn.Module instance"),
        ({"solver": "trust-ncg"}, ValueError, "needs a linear model"),
        ({"module": torch.nn.Flatten()}, ValueError, "parameter"),
    ],
)
def test_refused_modules(params, error, message, moons, model):
    refused = clone(model).set_params(**params)
    before = vars(refused).copy()
    with pytest.raises(error, match=message):
        refused.fit(*moons)
    assert vars(refused) == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("deep", [False, True])
def test_on_the_gpu(deep, moons, model):
    X, y = moons
    if not deep:
        model = AUPRCClassifier(alpha=0.1)
    cpu = clone(model).fit(X, y)
    gpu = clone(model).set_params(device="cuda").fit(X, y)
    assert gpu.surrogate_ == pytest.approx(cpu.surrogate_, abs=1e-2 if deep else 1e-6)
    if deep:
        assert next(gpu.module_.parameters()).device.type == "cpu"
    else:
        assert_allclose(gpu.predict_proba(X), cpu.predict_proba(X), atol=1e-4)
