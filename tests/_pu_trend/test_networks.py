"""Networks against numerical derivatives and the update written out in NumPy."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix
from scipy.special import expit
from sklearn.preprocessing import StandardScaler

from pnsklearn._pu_trend._networks import HIDDEN_WIDTH, NETWORKS, MeanProbability, Scaler
from pnsklearn._pu_trend._presets import Plan, schedule

KINDS = ["linear", "mlp"]


def make_plan(**changes):
    plan = {
        "n_runs": 3, "n_snapshots": 4, "steps": 10, "batch_size": 16, "learning_rate": 0.05,
        "decay": 0.8,
    }  # fmt: skip
    return Plan(**(plan | changes))


def problem(seed, n=30, d=4, n_runs=3):
    """Return X, shares of rows in runs (some are zero) and soft targets."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * np.geomspace(0.3, 3, d) + 1
    share = rng.uniform(0, 2 / n, (n, n_runs)) * (rng.uniform(size=(n, n_runs)) < 0.7)
    return X, share, rng.uniform(size=n)


def make_network(kind, X, plan, seed=0, dtype=np.float64):
    return NETWORKS[kind](X, np.ones(X.shape[0]), plan, np.random.RandomState(seed), dtype)


def plain_logits(kind, parameters, X):
    """Return the logits of all runs, by plain NumPy: scaled rows times each run's weights."""
    if kind == "linear":
        (weights,) = parameters
        return X @ weights
    first, bias, output = parameters
    columns = []
    for k, last in enumerate(output):
        unit = slice(k * HIDDEN_WIDTH, (k + 1) * HIDDEN_WIDTH)
        columns.append(np.maximum(X @ first[:, unit] + bias[unit], 0) @ last[:-1] + last[-1])
    return np.stack(columns, axis=1)


def plain_loss(kind, parameters, X, share, target):
    z = plain_logits(kind, parameters, X)
    return np.sum(share * (np.logaddexp(0, z) - target[:, None] * z))


def numerical_gradient(kind, parameters, X, share, target, h=1e-6):
    gradients = []
    for array in parameters:
        gradient = np.empty_like(array)
        for at in np.ndindex(array.shape):
            value, sides = array[at], []
            for step in (h, -h):
                array[at] = value + step
                sides.append(plain_loss(kind, parameters, X, share, target))
            array[at] = value
            gradient[at] = (sides[0] - sides[1]) / (2 * h)
        gradients.append(gradient)
    return gradients


def randomise(network, seed):
    """Give a network weights in which no part is zero."""
    rng = np.random.default_rng(seed)
    for array in network.parameters:
        array += 0.3 * rng.standard_normal(array.shape)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind, global_random_seed):
    X, share, target = problem(global_random_seed, n=12, d=2)
    network = make_network(kind, X, make_plan())
    randomise(network, global_random_seed)
    X = network.scaled(X)
    gradients = network._gradients(X, share, target)
    expected = numerical_gradient(kind, network.parameters, X, share, target)
    for gradient, numerical in zip(gradients, expected, strict=True):
        assert gradient.shape == numerical.shape
        assert_allclose(gradient, numerical, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_the_written_update(kind, global_random_seed):
    """Nesterov's momentum, weight decay, the cosine, and the average that forgets its start."""
    X, share, target = problem(global_random_seed)
    plan = make_plan(n_runs=3, decay=0.6)
    network = make_network(kind, X, plan)
    randomise(network, global_random_seed)
    X = network.scaled(X)
    theta = [array.copy() for array in network.parameters]
    average = [array.copy() for array in network.average]
    velocity = [np.zeros_like(array) for array in theta]
    for step in range(25):
        network.parameters, kept = theta, network.parameters
        gradients = network._gradients(X, share, target)
        network.parameters = kept
        network.step(X, share, target)
        rate = 0.05 * np.cos(7 * np.pi * step / (16 * 40))
        decay = min(0.6, (1 + step) / (10 + step))
        for j, gradient in enumerate(gradients):
            gradient = gradient + 5e-4 * theta[j]
            velocity[j] = 0.9 * velocity[j] + gradient
            theta[j] = theta[j] - rate * (gradient + 0.9 * velocity[j])
            average[j] = decay * average[j] + (1 - decay) * theta[j]
    for result, expected in ((network.parameters, theta), (network.average, average)):
        for array, wanted in zip(result, expected, strict=True):
            assert_allclose(array, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_runs_at_once_are_runs_alone(kind, sparse, global_random_seed):
    X, share, target = problem(global_random_seed)
    X = csr_matrix(np.maximum(X, 0)) if sparse else X
    together = make_network(kind, X, make_plan())
    randomise(together, global_random_seed)
    alone = []
    for k in range(3):
        network = make_network(kind, X, make_plan(n_runs=1))
        if kind == "linear":
            parts = [together.parameters[0][:, [k]]]
        else:
            first, bias, output = together.parameters
            unit = slice(k * HIDDEN_WIDTH, (k + 1) * HIDDEN_WIDTH)
            parts = [first[:, unit], bias[unit], output[[k]]]
        network.parameters = [np.array(part, order="C") for part in parts]
        network.average = [array.copy() for array in network.parameters]
        alone.append(network)
    together.average = [array.copy() for array in together.parameters]
    scaled = together.scaled(X)
    for _ in range(20):
        together.step(scaled, share, target)
        for k, network in enumerate(alone):
            network.step(scaled, share[:, [k]], target)
    logits = together.logits(X)
    assert logits.shape == (X.shape[0], 3)
    for k, network in enumerate(alone):
        assert_allclose(logits[:, [k]], network.logits(X), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_ignores_rows_without_share(kind):
    X, share, target = problem(0)
    share[:, 0] = 1 / 30
    share[3, 1:] = 0
    changed = X.copy()
    logits = []
    for rows in (X, changed):
        network = make_network(kind, X, make_plan())  # the same scaling
        for _ in range(10):
            network.step(network.scaled(rows), share, target)
        logits.append(network.logits(X))
        changed[3] = 1e3
    assert_array_equal(logits[0][:, 1:], logits[1][:, 1:])
    assert np.abs(logits[0][:, 0] - logits[1][:, 0]).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_sparse_is_dense(kind):
    X, share, target = problem(0)
    X = np.maximum(X, 0)
    sparse, dense = (
        make_network(kind, csr_matrix(X), make_plan()),
        make_network(kind, X, make_plan()),
    )
    # Dense columns are centred: take the sparse rows' scaling, and the same initial weights.
    dense.scaler = Scaler(csr_matrix(X), np.ones(len(X)))
    dense.parameters = [array.copy() for array in sparse.parameters]
    dense.average = [array.copy() for array in sparse.parameters]
    assert_allclose(sparse.scaled(csr_matrix(X)).toarray(), dense.scaled(X), rtol=1e-12)
    for _ in range(20):
        sparse.step(sparse.scaled(csr_matrix(X)), share, target)
        dense.step(dense.scaled(X), share, target)
    assert_allclose(sparse.logits(csr_matrix(X)), dense.logits(X), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_in_chunks_of_averaged_weights(kind, monkeypatch):
    X, share, target = problem(0)
    network = make_network(kind, X, make_plan())
    network.step(network.scaled(X), share, target)
    whole = network.logits(X)
    assert_allclose(whole, plain_logits(kind, network.average, network.scaled(X)), atol=1e-12)
    monkeypatch.setattr("pnsklearn._pu_trend._networks.ROWS_PER_PASS", 7)
    assert_allclose(network.logits(X), whole, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_float32(kind):
    X, share, target = problem(0)
    double = make_network(kind, X, make_plan())
    single = make_network(kind, X.astype(np.float32), make_plan(), dtype=np.float32)
    for _ in range(20):
        double.step(double.scaled(X), share, target)
        batch = share.astype(np.float32), target.astype(np.float32)
        single.step(single.scaled(X.astype(np.float32)), *batch)
    assert {array.dtype for array in single.parameters} == {np.dtype(np.float32)}
    assert single.logits(X.astype(np.float32)).dtype == np.float64
    assert_allclose(single.logits(X.astype(np.float32)), double.logits(X), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_divergence_is_an_error(kind):
    X, share, target = problem(0)
    network = make_network(kind, X, make_plan(learning_rate=1e300))
    for _ in range(10):
        network.step(network.scaled(X), share, target)
    with pytest.raises(ValueError, match=r"has diverged\. Lower learning_rate"):
        network.logits(X)


def test_scaler_weights(global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    X = rng.standard_normal((50, 3)) * [1, 10, 1e-3] + [0, 5, 1e3]
    weight = rng.uniform(0, 2, 50) * (rng.uniform(size=50) < 0.8)
    expected = StandardScaler().fit(X, sample_weight=weight).transform(X)
    assert_allclose(Scaler(X, weight).transform(X, np.float64), expected, rtol=1e-6, atol=1e-8)
    whole = rng.integers(0, 4, 50)
    repeated = Scaler(np.repeat(X, whole, axis=0), np.ones(whole.sum()))
    assert_allclose(Scaler(X, whole).center, repeated.center, rtol=1e-12)
    assert_allclose(Scaler(X, whole).scale, repeated.scale, rtol=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e8 / 3])
def test_scaler_of_constant_columns(value):
    X = np.full((1000, 1), value)
    scaled = Scaler(X, np.random.default_rng(0).uniform(size=1000)).transform(X, np.float64)
    assert np.abs(scaled).max() < 1e-6


def test_sparse_scaler_makes_rows_of_length_one():
    X = csr_matrix(np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 10.0]]))
    scaler = Scaler(X, np.array([2.0, 5.0, 1.0]))
    lengths = np.array([5.0, 0.0, 10.0]) / np.sqrt((2 * 25 + 100) / 8)
    scaled = scaler.transform(X, np.float32)
    assert scaled.dtype == np.float32
    assert_allclose(np.sqrt(scaled.multiply(scaled).sum(axis=1)).A1, lengths, rtol=1e-6)
    empty = csr_matrix((3, 2))
    assert Scaler(empty, np.ones(3)).transform(empty, np.float64).nnz == 0


def test_plan():
    plan = make_plan()
    assert plan.n_steps == 40
    assert plan.rate(0) == 0.05
    assert plan.rate(40) == pytest.approx(0.05 * np.cos(7 * np.pi / 16))
    assert plan.decay_at(0) == 0.1 and plan.decay_at(5) == 0.4
    assert plan.decay_at(35) == pytest.approx(0.8) and plan.decay_at(36) == 0.8


def test_schedule():
    assert schedule("published", 10**6, 64 * 15) == (512, 0.999)
    assert schedule(10, 9600, 64 * 15) == (100, 0.995)
    assert schedule(0.5, 9600, 64) == (75, pytest.approx(1 - 1 / 150))
    assert schedule(10, 500, 64 * 15) == (20, 0.975)
    for n_rows in (500, 5000, 9600):
        assert schedule("auto", n_rows, 64 * 15) == schedule(10, n_rows, 64 * 15)
    assert schedule("auto", 10**6, 64 * 15) == (100, 0.995)


def test_targets():
    target, unlabeled = np.array([1.0, 0.8, 0.3]), np.array([False, True, True])
    for epoch, factor in ((0, 0), (10, 0.4**0.8), (25, 1), (40, 1)):
        rising = make_plan(ramp=True).targets(target, unlabeled, epoch)
        assert_allclose(rising, [1, 0.8 * factor, 0.3 * factor])
        assert_array_equal(make_plan().targets(target, unlabeled, epoch), target)


def test_mean_probability():
    class Model:
        def logits(self, X):
            return X

    logits = np.random.default_rng(0).normal(size=(20, 3)) * 5
    probability = MeanProbability(Model()).predict_proba(logits)
    assert_allclose(probability[:, 1], expit(logits).mean(axis=1))
    assert_allclose(probability.sum(axis=1), 1)
