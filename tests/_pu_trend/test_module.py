"""Torch modules as the model of both stages."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from sklearn.datasets import load_digits, make_moons
from sklearn.metrics import roc_auc_score

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from pnsklearn._pu_trend import _module  # noqa: E402
from pnsklearn._pu_trend._module import ModuleLearner, TrainedModule, fit_module  # noqa: E402
from pnsklearn._pu_trend._presets import Plan  # noqa: E402
from pnsklearn._pu_trend._sample import FinalRows, Rows, Sample  # noqa: E402


def make_plan(**changes):
    plan = {
        "n_runs": 2, "n_snapshots": 4, "steps": 10, "batch_size": 16, "learning_rate": 0.05,
        "decay": 0.95, "momentum": 0.9, "weight_decay": 5e-4,
    }  # fmt: skip
    return Plan(**(plan | changes))


def linear():
    return nn.Linear(2, 1)


def perceptron():
    return nn.Sequential(nn.Linear(2, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 1))


def small_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 16, 1),
    )  # fmt: skip


def random_shift(batch):
    """Move all images of the batch by up to one pixel."""
    down, right = torch.randint(-1, 2, (2,)).tolist()
    return torch.roll(batch, (down, right), dims=(2, 3))


def random_erase(batch):
    """Shift, and blank a square of every image."""
    batch = random_shift(batch).clone()
    row, column = torch.randint(0, 6, (2,)).tolist()
    batch[:, :, row : row + 3, column : column + 3] = 0
    return batch


@pytest.fixture(scope="module")
def moons():
    """Two moons: 60 labeled positives, 300 unlabeled rows, and which of these are positive."""
    X, y = make_moons(360, noise=0.15, random_state=0)
    labeled = (y == 1) & (np.cumsum(y == 1) <= 60)
    return X[labeled], X[~labeled], y[~labeled]


def make_learner(factory, X_P, X_U, plan, seed=0, fold=None, weights=None, weak=None, device="cpu"):
    """Return a learner whose run k holds out the positives of fold k (-1 is never held out)."""
    fold = np.arange(len(X_P)) % plan.n_runs if fold is None else fold
    seen_P, seen_U = fold[:, None] != np.arange(plan.n_runs), np.ones((len(X_U), plan.n_runs))
    weight_P, weight_U = weights or (np.ones(len(X_P)), np.ones(len(X_U)))
    if weight_U.ndim == 2:
        weight_U, seen_U = np.ones(len(X_U)), weight_U
    sample = Sample(Rows(X_P, weight_P, seen_P), Rows(X_U, weight_U, seen_U))
    return ModuleLearner(factory, weak, device, sample, plan, np.random.RandomState(seed))


def fit(
    factory,
    X,
    target,
    weight,
    unlabeled,
    plan,
    rng,
    weak=None,
    strong=None,
    device="cpu",
    **changes,
):
    rows = FinalRows(X, target, weight, unlabeled)
    plan = replace(plan, **changes)
    return fit_module(factory, weak, strong, device, rows, plan, rng).model


def parameters_of(module):
    return np.r_[module.weight.detach().numpy()[0], module.bias.detach().numpy()].astype(float)


def nesterov_path(X, gradient_of, theta, plan, n_steps):
    """Yield (weights, average of the weights) by the textbook update, in float64."""
    velocity, average = np.zeros_like(theta), theta.copy()
    Z = np.c_[X, np.ones(len(X))]
    for step in range(n_steps):
        gradient = Z.T @ gradient_of(expit(Z @ theta)) + plan.weight_decay * theta
        velocity = plan.momentum * velocity + gradient
        rate = plan.learning_rate * np.cos(7 * np.pi * step / (16 * plan.n_steps))
        theta = theta - rate * (gradient + plan.momentum * velocity)
        decay = min(plan.decay, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * theta
        yield theta, average


def test_steps_are_the_written_update(moons):
    """Batches that hold all rows have no chance in them: compare with NumPy."""
    X_P, X_U = moons[0][:12], moons[1][:12]
    weight_U = np.linspace(0.5, 2, 12)
    plan = make_plan(n_runs=1, batch_size=12, steps=5, decay=0.2, weight_decay=0.01)
    learner = make_learner(
        linear, X_P, X_U, plan, fold=np.full(12, -1), weights=(np.full(12, 3.0), weight_U)
    )
    run = learner._runs[0]
    start = parameters_of(run.module)
    assert_allclose(
        learner.logits(X_U)[:, 0], X_U @ start[:2] + start[2], rtol=1e-4, atol=1e-6
    )  # the initial snapshot

    share = np.r_[np.full(12, 1 / 24), weight_U / weight_U.sum() / 2]
    target = np.r_[np.full(12, 0.95), np.zeros(12)]
    path = nesterov_path(
        np.r_[X_P, X_U], lambda p: share * (p - target), start, plan, 2 * plan.steps
    )
    for _ in range(2):
        learner.advance()
        *_, (theta, average) = itertools.islice(path, plan.steps)
        assert_allclose(parameters_of(run.module), theta, rtol=1e-4, atol=1e-6)
        assert_allclose(parameters_of(run.average), average, rtol=1e-4, atol=1e-6)
    logits = learner.logits(X_U)
    assert logits.shape == (12, 1) and logits.dtype == np.float64
    assert_allclose(logits[:, 0], X_U @ average[:2] + average[2], rtol=1e-4, atol=1e-5)


def test_second_stage_is_the_written_update(moons):
    X = moons[1][:20]
    target, weight = np.linspace(0, 1, 20), np.linspace(1, 3, 20)
    unlabeled = np.arange(20) >= 5
    plan = make_plan(batch_size=20)
    made = []

    def factory():
        made.append(linear())
        return made[-1]

    trained = fit(factory, X, target, weight, unlabeled, plan, np.random.RandomState(0), n_epochs=6)
    plan = make_plan(n_snapshots=2, steps=6)
    share = weight / weight.sum()
    *_, (_, average) = nesterov_path(
        X, lambda p: share * (p - target), parameters_of(made[0]), plan, 6
    )
    assert_allclose(parameters_of(trained.module), average, rtol=1e-4, atol=1e-6)
    assert not trained.module.training
    logits = trained.logits(X)
    assert logits.shape == (20, 1) and logits.dtype == np.float64
    assert_allclose(logits[:, 0], X @ average[:2] + average[2], rtol=1e-4, atol=1e-5)


def test_runs_skip_their_fold(moons):
    """A held-out row is never in a batch of its run, nor is a row without weight."""
    X_P, X_U, _ = moons
    weight_P, weight_U = np.ones(60), np.ones((300, 3))
    weight_P[7], weight_U[:10], weight_U[10:150, 1] = 0, 0, 0
    fold = np.arange(60) % 3
    fold[0] = -1
    learner = make_learner(
        linear, X_P, X_U, make_plan(n_runs=3), fold=fold, weights=(weight_P, weight_U)
    )
    for k, (positives, unlabeled) in enumerate(learner._batches):
        allowed = np.flatnonzero((fold != k) & (weight_P > 0))
        drawn = np.concatenate(list(itertools.islice(positives, 5 * len(allowed))))
        assert_array_equal(np.unique(drawn), allowed)
        # 16 complete passes make up every len(allowed) batches of 16.
        assert_array_equal(np.bincount(drawn)[allowed], 5 * 16)
        assert_array_equal(np.sort(drawn[: len(allowed)]), allowed)
        allowed = np.flatnonzero(weight_U[:, k])
        drawn = np.concatenate(list(itertools.islice(unlabeled, len(allowed))))
        assert_array_equal(np.bincount(drawn)[allowed], 16)
        assert len(drawn) == 16 * len(allowed)


def test_weights_of_positives_are_sampling_probabilities():
    rng = np.random.RandomState(0)
    batches = _module._cycle(np.array([1.0, 2.0, 0.0, 5.0]), 8, rng)
    drawn = np.concatenate(list(itertools.islice(batches, 2000)))
    assert_allclose(np.bincount(drawn) / len(drawn), [1 / 8, 2 / 8, 0, 5 / 8], atol=0.02)


def test_reproducible_and_global_generators_untouched(moons, global_random_seed):
    X_P, X_U, _ = moons

    def factory():
        return nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def train(seed):
        def noisy(batch):
            return batch + 0.1 * torch.randn_like(batch)

        learner = make_learner(factory, X_P, X_U, make_plan(), seed, weak=noisy)
        learner.advance()
        trained = fit(
            factory, X_U, np.linspace(0, 1, 300), np.ones(300), np.ones(300, bool), make_plan(),
            np.random.RandomState(seed), n_epochs=2, weak=noisy, strong=noisy,
        )  # fmt: skip
        return learner.logits(X_U), trained.logits(X_U)

    before = torch.get_rng_state()
    first = train(global_random_seed)
    assert_array_equal(torch.get_rng_state(), before)
    torch.rand(3)  # must not matter
    for again, reference in zip(train(global_random_seed), first, strict=True):
        assert_array_equal(again, reference)
    assert np.abs(train(global_random_seed + 1)[0] - first[0]).max() > 1e-3
    assert np.abs(first[0][:, 0] - first[0][:, 1]).max() > 1e-3  # the runs differ


def test_a_generator_will_do(moons):
    X_P, X_U, _ = moons
    sample = Sample(*(Rows(X, np.ones(len(X)), np.ones((len(X), 2))) for X in (X_P, X_U)))
    learners = [
        ModuleLearner(linear, None, "cpu", sample, make_plan(), np.random.default_rng(0))
        for _ in range(2)
    ]
    for learner in learners:
        learner.advance()
    assert_array_equal(learners[0].logits(X_U), learners[1].logits(X_U))


def test_a_shared_module_does_not_tie_the_runs(moons):
    """A factory may return one pretrained object: each run then starts from a copy of it."""
    X_P, X_U, _ = moons
    pretrained = linear()
    start = parameters_of(pretrained)
    learner = make_learner(lambda: pretrained, X_P, X_U, make_plan())
    learner.advance()
    assert_array_equal(parameters_of(pretrained), start)
    logits = learner.logits(X_U)
    assert np.abs(logits[:, 0] - logits[:, 1]).max() > 1e-4


def test_chunks_do_not_matter(moons, monkeypatch):
    X_P, X_U, _ = moons
    learner = make_learner(perceptron, X_P, X_U, make_plan())
    learner.advance()
    whole = learner.logits(X_U)
    monkeypatch.setattr(_module, "ROWS_PER_PASS", 7)
    assert_allclose(learner.logits(X_U), whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("n_P, n_U", [(2, 1), (3, 65), (40, 3)])
def test_few_rows_and_batch_normalisation(n_P, n_U):
    """Fewer rows than a batch, or one row more: never a batch of one row in training mode."""
    rng = np.random.RandomState(0)
    X_P, X_U = rng.normal(1, 1, (n_P, 2)), rng.normal(-1, 1, (n_U, 2))
    for batch_size in (1, 2, 64):
        plan = make_plan(batch_size=batch_size)
        learner = make_learner(perceptron, X_P, X_U, plan)
        learner.advance()
        assert np.isfinite(learner.logits(X_U)).all()
        for n in (2, 3, n_P + n_U):
            trained = fit(
                perceptron, np.r_[X_P, X_U][:n], np.full(n, 0.5), np.ones(n), np.arange(n) >= n_P,
                plan, rng, n_epochs=2,
            )  # fmt: skip
            assert np.isfinite(trained.logits(X_U)).all()


def test_statistics_of_batch_normalisation_are_averaged(moons):
    X_P, X_U, _ = moons
    learner = make_learner(perceptron, X_P + 10, X_U + 10, make_plan(steps=1, n_snapshots=20))
    run = learner._runs[0]
    expected = np.zeros(32)
    for step in range(20):
        learner.advance()
        current, mean = (dict(m.named_buffers()) for m in (run.module, run.average))
        decay = min(0.95, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * current["1.running_mean"].numpy()
        assert_allclose(mean["1.running_mean"], expected, rtol=1e-4, atol=1e-5)
    assert current["1.num_batches_tracked"] == mean["1.num_batches_tracked"] == 20


def heldout_auc(learner, X_P, X_U, fold):
    """AUC of the labeled positives, each scored by the run that held it out, against U."""
    heldout = learner.logits(X_P)[np.arange(len(X_P)), fold]
    unlabeled = learner.logits(X_U).mean(axis=1)
    return roc_auc_score(
        np.r_[np.ones(len(heldout)), np.zeros(len(unlabeled))], np.r_[heldout, unlabeled]
    )


def test_moons_are_learnt(moons, global_random_seed):
    X_P, X_U, y_U = moons
    fold = np.arange(60) % 3
    plan = make_plan(n_runs=3, steps=40)
    learner = make_learner(perceptron, X_P, X_U, plan, global_random_seed, fold=fold)
    for _ in range(3):
        learner.advance()
    # U has 40 % positives: 0.8 is the most that held-out positives can reach.
    assert heldout_auc(learner, X_P, X_U, fold) > 0.72
    p_U = expit(learner.logits(X_U)).mean(axis=1)
    assert roc_auc_score(y_U, p_U) > 0.9

    guess = p_U > np.quantile(p_U, 0.6)
    trained = fit(
        perceptron, np.r_[X_P, X_U], np.r_[np.ones(60), guess], np.ones(360), np.arange(360) >= 60,
        plan, np.random.RandomState(global_random_seed), n_epochs=20,
    )  # fmt: skip
    assert np.mean((trained.logits(X_U)[:, 0] > 0) == y_U) > 0.8


def test_images_are_learnt(global_random_seed):
    """Even digits from 100 labeled ones; 8-bit images of shape (1, 8, 8), both transforms."""
    images, digit = load_digits(return_X_y=True)
    images, even = images.reshape(-1, 1, 8, 8).astype(np.uint8), digit % 2 == 0
    order = np.random.RandomState(global_random_seed).permutation(len(digit))
    images, even = images[order], even[order]
    labeled = even & (np.cumsum(even) <= 100)
    X_P, X_U, y_U = images[labeled], images[~labeled], even[~labeled]
    fold = np.arange(100) % 2
    plan = make_plan(steps=60, batch_size=32, learning_rate=0.01)
    learner = make_learner(
        small_cnn, X_P, X_U, plan, global_random_seed, fold=fold, weak=random_shift
    )  # fmt: skip
    learner.advance()
    learner.advance()
    p_U = expit(learner.logits(X_U)).mean(axis=1)
    assert heldout_auc(learner, X_P, X_U, fold) > 0.65
    assert roc_auc_score(y_U, p_U) > 0.93

    guess = p_U > np.median(p_U)
    trained = fit(
        small_cnn, np.r_[X_P, X_U], np.r_[np.ones(100), guess], np.ones(len(images)),
        np.arange(len(images)) >= 100, plan, np.random.RandomState(0), n_epochs=2,
        weak=random_shift, strong=random_erase,
    )  # fmt: skip
    assert np.mean((trained.logits(X_U)[:, 0] > 0) == y_U) > 0.8


def test_transforms_see_training_batches_only(moons):
    X_P, X_U, _ = moons
    seen = []

    def weak(batch):
        seen.append(batch.shape)
        return batch

    learner = make_learner(linear, X_P, X_U, make_plan(), weak=weak)
    learner.advance()
    assert seen == [(32, 2)] * 20  # two runs of ten steps on 16 + 16 rows
    learner.logits(X_U)
    assert len(seen) == 20


def test_agreement_of_the_views_by_its_formula():
    rng = np.random.RandomState(0)
    X = rng.normal(0, 2, (40, 2)).astype(np.float32)
    target, share, unlabeled = rng.uniform(size=40), rng.uniform(0.5, 2, 40), np.arange(40) > 8
    torch.manual_seed(1)
    module = linear()
    theta = parameters_of(module)

    def logits(Z):
        return Z @ theta[:2] + theta[2]

    def cross_entropy(goal, z):
        return np.logaddexp(0, z) - goal * z

    p = expit(logits(X[unlabeled] + 1))
    sure = np.maximum(p, 1 - p) > 0.9
    assert 0 < sure.mean() < 1
    strong_logits = logits(-X[unlabeled])
    expected = np.mean(share * cross_entropy(target, logits(X + 1))) + np.mean(
        share[unlabeled] * sure * cross_entropy(p > 0.5, strong_logits)
    )
    tensors = [torch.tensor(a, dtype=torch.float32) for a in (X, target, share)]
    loss = _module._soft_loss(
        module, *tensors, torch.tensor(unlabeled), weak=lambda b: b + 1, strong=lambda b: -b
    )
    assert_allclose(loss.item(), expected, rtol=1e-5)

    # No gradient flows through the pseudo-label.
    loss.backward()
    slope = share * (expit(logits(X + 1)) - target) / 40
    slope_strong = share[unlabeled] * sure * (expit(strong_logits) - (p > 0.5)) / len(p)
    gradient = (X + 1).T @ slope - X[unlabeled].T @ slope_strong
    assert_allclose(module.weight.grad[0], gradient, rtol=1e-4, atol=1e-6)

    # Without unlabeled rows in the batch, or without the transform, the first term is left.
    for rows, strong in (torch.zeros(40, dtype=bool), lambda b: -b), (torch.ones(40) > 0, None):
        loss = _module._soft_loss(module, *tensors, rows, weak=lambda b: b + 1, strong=strong)
        assert_allclose(
            loss.item(), np.mean(share * cross_entropy(target, logits(X + 1))), rtol=1e-5
        )


def test_ramp(moons):
    """In its first epoch a ramped fit is the fit with targets of zero; in the second no more."""
    X, plan = moons[1], make_plan()
    target, unlabeled = np.ones(300), np.arange(300) >= 50
    for n_epochs, same in (1, True), (2, False):
        ramped, zero = (
            fit(
                linear, X, goal, np.ones(300), unlabeled, plan, np.random.RandomState(0),
                ramp=ramp, n_epochs=n_epochs,
            )
            for goal, ramp in ((target, True), (target * ~unlabeled, False))
        )  # fmt: skip
        assert (ramped.logits(X) == zero.logits(X)).all() == same


def test_scoring_leaves_the_module_alone():
    module = perceptron().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    X = np.random.RandomState(0).normal(size=(5, 2))
    logits = TrainedModule(module, "cpu").logits(X)
    assert module.training
    for name, value in module.state_dict().items():
        assert_array_equal(value, before[name])
    with torch.no_grad():
        assert_allclose(logits, module.eval()(torch.tensor(X).float()), rtol=1e-5)


def test_wrong_factories(moons):
    X_P, X_U, _ = moons
    for factory in (linear(), lambda: "linear"):
        with pytest.raises(TypeError, match="must be a function or a class that returns a new"):
            make_learner(factory, X_P, X_U, make_plan())
    learner = make_learner(lambda: nn.Linear(2, 2), X_P, X_U, make_plan())
    with pytest.raises(ValueError, match=r"one logit per row.* got \(32, 2\) for 32 rows"):
        learner.advance()


def test_divergence_is_an_error(moons):
    X_P, X_U, _ = moons
    learner = make_learner(perceptron, X_P, X_U * 1e30, make_plan(learning_rate=1e20))
    learner.advance()
    with pytest.raises(ValueError, match="Lower learning_rate"):
        learner.logits(X_U)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees_with_cpu(moons):
    X_P, X_U, y_U = moons
    states = torch.get_rng_state(), torch.cuda.get_rng_state()
    learner = make_learner(perceptron, X_P, X_U, make_plan(steps=60), device="cuda")
    learner.advance()
    assert roc_auc_score(y_U, learner.logits(X_U).mean(axis=1)) > 0.9
    trained = fit(
        perceptron, X_U, y_U.astype(float), np.ones(300), np.ones(300, bool), make_plan(),
        np.random.RandomState(0), device="cuda", n_epochs=2,
    )  # fmt: skip
    assert {p.device.type for p in trained.module.parameters()} == {"cpu"}
    on_cpu = TrainedModule(trained.module, "cpu")
    assert_allclose(trained.logits(X_U), on_cpu.logits(X_U), atol=1e-3)
    assert_array_equal(torch.get_rng_state(), states[0])
    assert_array_equal(torch.cuda.get_rng_state(), states[1])
