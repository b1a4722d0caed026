"""The TOPR loss against its definition, other methods' gradients and plain log-softmax."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.special import log_softmax

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from pnsklearn.losses import TOPRLoss, _topr, sequence_logprob, topr_loss  # noqa: E402

INF = math.inf
BOUNDS = {
    "topr": ((1, 1), (0, 1)),
    "naive": ((1, 1), (1, 1)),
    "positives": ((1, 1), (0, 0)),
    "importance": ((0, INF), (0, INF)),
    "truncated": ((0, 1), (0, 1)),
    "mixed": ((0.5, 2), (0.1, 1.5)),
    "open": ((1, INF), (0, 0.7)),
}
every_bounds = pytest.mark.parametrize("bounds", BOUNDS.values(), ids=BOUNDS)


def keywords(bounds):
    return dict(zip(("positive_bounds", "negative_bounds"), bounds, strict=True))


def clipped(u, R, bounds):
    """Return e^u within the bounds of the sign of R."""
    low, high = np.where(R >= 0, *(np.array(pair, dtype=float)[:, None] for pair in bounds))
    return np.clip(np.exp(u), low, high)


def leaf(values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype, requires_grad=True)


def gradient(logprob, behavior_logprob, reward, **settings):
    """Return the gradient by logprob, from arrays."""
    logprob = leaf(logprob)
    topr_loss(logprob, torch.tensor(behavior_logprob), torch.tensor(reward), **settings).backward()
    return logprob.grad.numpy()


@pytest.fixture
def log(global_random_seed):
    """Log-probabilities under both policies, and rewards of both signs, of 60 sequences."""
    rng = np.random.default_rng(global_random_seed)
    behavior_logprob = rng.uniform(-9, -5, 60)
    return behavior_logprob + rng.uniform(-3, 3, 60), behavior_logprob, rng.standard_normal(60)


@every_bounds
def test_gradient_is_that_of_the_stop_gradient_form(bounds, log, global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    weight, lengths = rng.uniform(0, 2, 60), rng.integers(1, 30, 60)
    theta = leaf(rng.standard_normal(60))  # through something to be differentiated

    def loss(reward):
        logprob = torch.tensor(log[0]) * torch.exp(0.1 * theta.cumsum(0) / 60)
        u = (logprob - torch.tensor(log[1])).detach().numpy()
        ratio = torch.tensor(clipped(u, reward - 0.2, bounds))
        constant = torch.tensor(weight / lengths * (reward - 0.2)) * ratio
        return logprob, -(constant * logprob).sum() / weight.sum()

    logprob, expected = loss(log[2])
    value = topr_loss(
        logprob,
        torch.tensor(log[1]),
        torch.tensor(log[2]),
        baseline=0.2,
        lengths=torch.tensor(lengths),
        sample_weight=torch.tensor(weight),
        **keywords(bounds),
    )
    slopes = [torch.autograd.grad(loss, theta, retain_graph=True)[0] for loss in (value, expected)]
    assert slopes[1].abs().max() > 1e-4
    assert_allclose(slopes[0].numpy(), slopes[1].numpy(), rtol=1e-10, atol=1e-14)


@every_bounds
def test_gradient_is_that_of_the_value(bounds, log):
    """Finite differences: nothing in the value is hidden from autograd, or seen by it alone."""
    behavior_logprob, reward = torch.tensor(log[1]), torch.tensor(log[2])
    torch.autograd.gradcheck(
        lambda logprob: topr_loss(
            logprob, behavior_logprob, reward, denominator=1.0, **keywords(bounds)
        ),
        leaf(log[0]),
    )


@every_bounds
@pytest.mark.parametrize("reward", [2.0, -2.0])
def test_value_is_the_integral_of_the_clipped_ratio(bounds, reward):
    """From u = 0 on, across both bounds: so the value is continuous."""
    low, high = bounds[reward < 0]

    def value(u):
        tensors = torch.tensor([[u - 9], [-9], [reward]], dtype=torch.float64)
        return topr_loss(*tensors, **keywords(bounds)).item()

    kinks = [math.log(bound) for bound in (low, high) if 0 < bound < INF]
    for u in (-4.0, -0.5, 0.3, 4.0):
        area, _ = quad(lambda t: np.clip(np.exp(t), low, high), 0, u, points=kinks or None)
        assert value(u) - value(0.0) == pytest.approx(-reward * area, abs=1e-8)


def test_default_value_is_elu(log):
    logprob, behavior_logprob, reward = (torch.tensor(values) for values in log)
    u = logprob - behavior_logprob
    expected = torch.where(reward >= 0, reward * u, reward * torch.nn.functional.elu(u)) + reward
    assert_allclose(topr_loss(logprob, behavior_logprob, reward).item(), -expected.mean().item())


@pytest.mark.parametrize("name", ["topr", "naive", "importance", "truncated", "mixed"])
def test_on_policy_it_is_reinforce(name, global_random_seed):
    """At u = 0, which is on a bound of most, exactly one side counts."""
    rng = np.random.default_rng(global_random_seed)
    logits, reward = leaf(rng.standard_normal((30, 5))), torch.tensor(rng.standard_normal(30))
    logprob = torch.log_softmax(logits, dim=1)[:, 2]
    loss = topr_loss(logprob, logprob.detach(), reward, **keywords(BOUNDS[name]))
    reinforce = -(reward * logprob).mean()
    actual, expected = (
        torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (loss, reinforce)
    )
    assert_allclose(actual.numpy(), expected.numpy(), rtol=1e-12)


def test_positives_ignore_the_ratio(log):
    _, behavior_logprob, reward = log
    positive = reward > 0
    first = gradient(log[0], behavior_logprob, reward)
    second = gradient(log[0], behavior_logprob - 3, reward)
    assert_allclose(first[positive], -reward[positive] / 60)
    assert_allclose(second[positive], first[positive])
    assert (second[~positive] > first[~positive]).any()


def test_pulls_where_the_clipped_objective_of_ppo_does_not():
    u, reward = np.array([0.7, 3.0, -0.7, -3.0]), np.array([1.0, 2.0, -1.0, -2.0])
    logprob = leaf(-10 + u)
    ratio, R = torch.exp(logprob + 10), torch.tensor(reward)
    torch.minimum(ratio * R, ratio.clamp(0.8, 1.2) * R).sum().backward()
    assert_allclose(logprob.grad.numpy(), 0)
    actual = gradient(-10 + u, np.full(4, -10.0), reward, denominator=1)
    assert_allclose(actual, -reward * [1, 1, np.exp(-0.7), np.exp(-3)])


def test_bounds_the_importance_sampling_value_from_below(log):
    logprob, behavior_logprob, reward = log
    reward = np.abs(reward)
    for shift in (1.0, 0.1, 0.0):
        u = shift * (logprob - behavior_logprob)
        arrays = (torch.tensor(x) for x in (behavior_logprob + u, behavior_logprob, reward))
        gap = (reward * np.exp(u)).sum() + topr_loss(*arrays, denominator=1).item()
        assert gap > 0 if shift else gap == pytest.approx(0, abs=1e-12)


@every_bounds
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_extreme_ratios(bounds, dtype):
    u = np.array([-1e4, -1e4, 1e4, 1e4, -100.0, -100.0, 100.0, 100.0])
    reward = np.array([1.0, -1.0] * 4)
    logprob = leaf(np.minimum(u, 0), dtype)
    loss = topr_loss(
        logprob, torch.tensor(np.minimum(-u, 0)), torch.tensor(reward), **keywords(bounds)
    )
    loss.backward()
    assert math.isfinite(loss.item())
    expected = -reward * clipped(np.minimum(u, 60), reward, bounds) / 8
    tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-5
    assert_allclose(logprob.grad.double().numpy(), expected, rtol=tolerance, atol=1e-40)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype, log):
    logprob, behavior_logprob, reward = (torch.tensor(values).to(dtype) for values in log)
    logprob.requires_grad_()
    loss = topr_loss(logprob, behavior_logprob, reward)
    loss.backward()
    expected = topr_loss(*(x.detach().double() for x in (logprob, behavior_logprob, reward)))
    assert loss.dtype == torch.float32 and logprob.grad.dtype == dtype
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_weights_repeat_and_lengths_divide(log):
    times = np.arange(60) % 3
    repeated = [torch.tensor(np.repeat(values, times)) for values in log]
    weighted = topr_loss(*map(torch.tensor, log), sample_weight=torch.tensor(times))
    assert weighted.item() == pytest.approx(topr_loss(*repeated).item(), rel=1e-12)
    lengths = np.arange(1, 61)
    assert_allclose(
        gradient(*log, lengths=torch.tensor(lengths)), gradient(*log) / lengths, rtol=1e-12
    )


def test_baseline_decides_the_sign(log):
    """With a baseline below all rewards every sequence is a positive."""
    reward = log[2]
    assert_allclose(gradient(*log, baseline=-9.0), -(reward + 9) / 60)


@pytest.mark.parametrize("make", [float, np.float32, np.asarray, torch.tensor])
def test_a_baseline_is_one_number_of_any_kind(make, log):
    assert_allclose(gradient(*log, baseline=make(0.5)), gradient(*log, baseline=0.5))
    TOPRLoss(baseline=make(0.5))


@pytest.mark.parametrize("make", [list, np.asarray, torch.tensor])
def test_a_baseline_may_be_one_number_for_each_sequence(make, log):
    logprob, behavior_logprob, reward = log
    baseline = np.linspace(-1, 1, 60)
    found = gradient(*log, baseline=make(baseline))
    assert_allclose(found, gradient(logprob, behavior_logprob, reward - baseline))
    with pytest.raises(ValueError, match=r"baseline must have one value per sequence"):
        gradient(*log, baseline=make(baseline[:3]))


def test_torch_func_differentiates_what_backward_does(log):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(60, 7, 5, generator=generator, dtype=torch.float64)
    tokens = torch.randint(5, (60, 7), generator=generator)
    mask = torch.arange(7) < torch.randint(1, 8, (60, 1), generator=generator)
    mu, reward = -torch.tensor(log[1]).abs(), torch.tensor(log[2])

    def loss(logits):
        return topr_loss(sequence_logprob(logits, tokens, mask), mu, reward, baseline=mu / 9)

    leaf = logits.clone().requires_grad_()
    loss(leaf).backward()
    assert leaf.grad.abs().max() > 1e-3
    assert_allclose(torch.func.grad(loss)(logits), leaf.grad, rtol=1e-12)


def test_reward_at_the_baseline_contributes_nothing(log):
    reward = np.where(log[2] > 0, 1, 0)  # integers
    assert_allclose(gradient(*log[:2], reward), -reward / 60)


def test_module_is_the_function(log):
    tensors = [torch.tensor(values) for values in log]
    lengths, weight = torch.arange(1, 61), torch.arange(60.0)
    for settings in ({}, {"baseline": 0.3, **keywords(BOUNDS["mixed"])}):
        expected = topr_loss(
            *tensors, lengths=lengths, sample_weight=weight, denominator=7, **settings
        )
        assert TOPRLoss(**settings)(*tensors, lengths, weight, 7) == expected


@pytest.fixture
def sequences(global_random_seed):
    """Logits (6, 9, 11), tokens, and a mask with a prompt, a completion and padding."""
    rng = np.random.default_rng(global_random_seed)
    start, stop = rng.integers(0, 4, 6), rng.integers(5, 9, 6)
    mask = (np.arange(9) >= start[:, None]) & (np.arange(9) < stop[:, None])
    tokens = np.where(mask, rng.integers(0, 11, (6, 9)), -100)
    return 3 * rng.standard_normal((6, 9, 11)), torch.tensor(tokens), torch.tensor(mask)


def plain_logprob(logits, tokens, mask):
    """Return the sum of log-softmax over all of the logits at once."""
    log_pi = torch.log_softmax(logits, dim=2).gather(2, tokens.clamp(min=0)[:, :, None])[:, :, 0]
    return (log_pi * mask).sum(1)


@pytest.mark.parametrize("chunk", [1, 50, _topr.LOGITS_AT_ONCE])
def test_sequence_logprob(chunk, sequences, monkeypatch):
    monkeypatch.setattr(_topr, "LOGITS_AT_ONCE", chunk)
    logits, tokens, mask = sequences
    log_pi = log_softmax(logits, axis=2)
    expected = [sum(log_pi[i, t, tokens[i, t]] for t in range(9) if mask[i, t]) for i in range(6)]
    logits = leaf(logits)
    assert_allclose(sequence_logprob(logits, tokens, mask).detach().numpy(), expected, rtol=1e-12)
    assert_allclose(
        sequence_logprob(logits, tokens.int(), mask.long()).detach().numpy(), expected, rtol=1e-12
    )
    torch.autograd.gradcheck(lambda logits: sequence_logprob(logits, tokens, mask), logits)
    # A slice, as after the shift of a language model.
    torch.autograd.gradcheck(
        lambda logits: sequence_logprob(logits[:, :-1, 2:], tokens[:, 1:] // 2, mask[:, 1:]), logits
    )


@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)]
)
def test_sequence_logprob_in_low_precision(dtype, tolerance, sequences):
    logits, tokens, mask = sequences
    results = []
    for function in (sequence_logprob, plain_logprob):
        z = leaf(logits, dtype)
        logprob = function(z if function is sequence_logprob else z.double(), tokens, mask)
        (logprob * torch.arange(1, 7)).sum().backward()
        assert z.grad.dtype == dtype
        results.append((logprob.detach().double().numpy(), z.grad.double().numpy()))
    # The sums are exact to float32; only the gradient is rounded to the dtype of the logits.
    assert_allclose(results[0][0], results[1][0], rtol=1e-6)
    assert_allclose(results[0][1], results[1][1], rtol=tolerance, atol=6 * tolerance)
    assert sequence_logprob(z, tokens, mask).dtype == torch.float32


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -float("inf")])
def test_padding_is_never_looked_at(garbage, sequences):
    logits, tokens, mask = sequences
    expected = leaf(logits)
    plain_logprob(expected, tokens, mask).sum().backward()
    padded = torch.full((6, 14, 11), garbage, dtype=torch.float64)
    padded[:, 2:11][mask] = torch.tensor(logits)[mask]
    wide = [torch.nn.functional.pad(x, (2, 3), value=v) for x, v in ((tokens, 99), (mask, False))]
    padded.requires_grad_()
    logprob = sequence_logprob(padded, *wide)
    logprob.sum().backward()
    assert_allclose(logprob.detach(), plain_logprob(expected, tokens, mask).detach(), rtol=1e-12)
    assert_allclose(padded.grad[:, 2:11], expected.grad, atol=1e-14)
    assert padded.grad[:, :2].abs().max() == padded.grad[:, 11:].abs().max() == 0


def test_impossible_tokens_have_no_gradient(sequences):
    """Logits of -inf, as of a grammar that forbids tokens."""
    logits, tokens, mask = sequences
    z = leaf(np.concatenate([logits, np.full((6, 9, 2), -np.inf)], axis=2))
    logprob = sequence_logprob(z, tokens, mask)
    logprob.sum().backward()
    assert_allclose(logprob.detach(), plain_logprob(torch.tensor(logits), tokens, mask), rtol=1e-12)
    assert_allclose(z.grad[:, :, 11:], 0)
    assert torch.isfinite(z.grad).all()


def test_sequences_without_a_token(sequences):
    logits, tokens, mask = sequences
    z = leaf(logits)
    logprob = sequence_logprob(z, tokens, torch.zeros_like(mask))
    logprob.sum().backward()
    assert_allclose(logprob.detach(), np.zeros(6))
    assert_allclose(z.grad, 0)


class LargestFloat32(TorchDispatchMode):
    """Record the size of the largest float32 tensor that any operation returns."""

    size = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.float32:
            self.size = max(self.size, result.numel())
        return result


def test_no_float32_copy_of_the_logits(monkeypatch):
    monkeypatch.setattr(_topr, "LOGITS_AT_ONCE", 1000)
    tokens, mask = torch.ones(4, 50, dtype=torch.long), torch.ones(4, 50, dtype=torch.bool)
    logits = leaf(np.zeros((4, 50, 100)), torch.bfloat16)
    sizes = []
    for function in (sequence_logprob, plain_logprob):
        with LargestFloat32() as largest:
            z = logits if function is sequence_logprob else logits.float()
            function(z, tokens, mask).sum().backward()
        sizes.append(largest.size)
    assert sizes == [1000, 20000]


def test_micro_batches_sum_to_the_batch(sequences):
    """With the denominator of the whole batch, whatever the sizes of the parts."""
    logits, tokens, mask = sequences
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(6, generator=generator)
    reward = torch.randn(6, generator=generator)
    behavior_logprob = plain_logprob(torch.tensor(logits), tokens, mask) - reward.abs()

    def accumulate(parts, **settings):
        z = leaf(logits)
        for part in parts:
            logprob = sequence_logprob(z[part], tokens[part], mask[part])
            topr_loss(
                logprob,
                behavior_logprob[part],
                reward[part],
                lengths=mask[part].sum(1),
                sample_weight=weight[part],
                **settings,
            ).backward()
        return z.grad.numpy()

    whole = accumulate([slice(0, 6)])
    total = weight.sum()  # a tensor, as of an all-reduce
    for parts in ([slice(0, 1), slice(1, 6)], [slice(0, 0), slice(0, 2), slice(2, 4), slice(4, 6)]):
        for denominator in (total, total.item()):
            actual = accumulate(parts, denominator=denominator)
            assert_allclose(actual, whole, rtol=1e-7, atol=1e-14)
    assert np.abs(accumulate(parts[1:]) - whole).max() > 1e-3  # means of the parts are not


def test_training_leaves_the_negatives_and_stays_finite(global_random_seed):
    """Five actions, two of them rewarded: TOPR learns them and naive REINFORCE diverges."""
    rng = np.random.default_rng(global_random_seed)
    action = torch.tensor(rng.integers(0, 5, 200))
    reward = torch.where(action < 2, 1.0, -1.0)
    share, lowest = {}, {}
    for name in ("topr", "naive"):
        logits = torch.zeros(5, requires_grad=True)
        optimizer = torch.optim.Adam([logits], lr=0.1)
        for _ in range(500):
            optimizer.zero_grad()
            logprob = torch.log_softmax(logits, dim=0)[action]
            behavior_logprob = torch.full((200,), -math.log(5))
            topr_loss(logprob, behavior_logprob, reward, **keywords(BOUNDS[name])).backward()
            optimizer.step()
        log_pi = torch.log_softmax(logits.detach(), dim=0)
        share[name], lowest[name] = log_pi[:2].exp().sum().item(), log_pi.min().item()
    assert share["topr"] > 0.95
    assert lowest["topr"] > -15 > -40 > lowest["naive"]


@pytest.mark.parametrize(
    "bounds",
    [(1, 0), (-1, 1), (INF, INF), (float("nan"), 1), (0, float("nan")), (0,), 1, "ab", ("a", "b")],
)
@pytest.mark.parametrize("name", ["positive_bounds", "negative_bounds"])
def test_bad_bounds(name, bounds):
    with pytest.raises(ValueError, match=rf"{name} must be two numbers \(low, high\)"):
        TOPRLoss(**{name: bounds})
    with pytest.raises(ValueError, match=name):
        topr_loss(torch.zeros(1), torch.zeros(1), torch.zeros(1), **{name: bounds})


@pytest.mark.parametrize(
    "baseline", [float("nan"), INF, "mean", None, torch.tensor(INF), [[1.0]], [INF]]
)
def test_bad_baseline(baseline):
    with pytest.raises(ValueError, match="baseline must be a finite number"):
        TOPRLoss(baseline=baseline)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"logprob": [[-1.0, -2.0]]}, "Sum over the tokens"),
        ({"behavior_logprob": [-1.0]}, "behavior_logprob must have one value per sequence"),
        ({"behavior_logprob": [[-1.0, -1.0]]}, "behavior_logprob must have one value"),
        (
            {"reward": [1.0, 1.0, 1.0]},
            r"reward must have .* shape \(2,\) like logprob, but its shape is \(3,\)",
        ),
        ({"lengths": [1]}, "lengths must have one value"),
        ({"sample_weight": [[1.0], [1.0]]}, "sample_weight must have one value"),
        ({"logprob": [-1.0, float("nan")]}, "must be finite"),
        ({"logprob": [-1.0, -INF]}, "must be finite"),
        ({"behavior_logprob": [-1.0, -INF]}, "must be finite"),
        ({"behavior_logprob": [-1.0, 2e-4]}, "must not exceed 0"),
        ({"logprob": [0.3, -1.0]}, "must not exceed 0"),
        ({"reward": [1.0, float("nan")]}, "reward must be finite"),
        ({"reward": [-INF, 1.0]}, "reward must be finite"),
        ({"lengths": [3, 0]}, "lengths must be positive"),
        ({"lengths": [3.0, float("nan")]}, "lengths must be positive"),
        ({"sample_weight": [1.0, -1.0]}, "sample_weight must be finite and not negative"),
        ({"sample_weight": [1.0, INF]}, "sample_weight must be finite and not negative"),
        ({"sample_weight": [0.0, 0.0]}, "a sequence of positive weight"),
        ({"logprob": [], "behavior_logprob": [], "reward": []}, "a sequence of positive weight"),
        ({"denominator": 0.0}, "denominator must be positive"),
        ({"denominator": INF}, "denominator must be positive"),
        ({"denominator": [2.0, 2.0]}, "denominator must be one number"),
    ],
)
def test_bad_batch(change, message):
    batch = {
        "logprob": [-1.0, -2.0],
        "behavior_logprob": [-1.0, -1.0],
        "reward": [1.0, -1.0],
        **change,
    }
    with pytest.raises(ValueError, match=message):
        topr_loss(**{name: torch.tensor(values) for name, values in batch.items()})


def test_rounding_above_zero_is_accepted():
    loss = topr_loss(torch.tensor([5e-5]), torch.tensor([9e-5]), torch.tensor([1.0]))
    assert loss.item() == pytest.approx(-1, abs=1e-4)


def test_behavior_that_is_not_a_constant():
    logprob = leaf([-1.0])
    with pytest.raises(ValueError, match=r"Pass behavior_logprob.detach\(\)"):
        topr_loss(logprob, logprob, torch.tensor([1.0]))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"logits": torch.zeros(2, 4)}, r"got \(2, 4\), \(2, 3\) and \(2, 3\)"),
        ({"logits": torch.zeros(2, 4, 5)}, "tokens and mask of shape"),
        ({"mask": torch.ones(2, 2)}, "tokens and mask of shape"),
        ({"tokens": torch.zeros(2, 3)}, "integer tensor, got torch.float32"),
        ({"tokens": torch.ones(2, 3, dtype=torch.bool)}, "integer tensor, got torch.bool"),
        ({"tokens": torch.full((2, 3), 5)}, r"must be in \[0, 5\)"),
        ({"tokens": torch.full((2, 3), -100)}, r"must be in \[0, 5\)"),
    ],
)
def test_bad_sequences(change, message):
    batch = {
        "logits": torch.zeros(2, 3, 5),
        "tokens": torch.zeros(2, 3, dtype=torch.long),
        "mask": torch.ones(2, 3, dtype=torch.bool),
        **change,
    }
    with pytest.raises(ValueError, match=message):
        sequence_logprob(**batch)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_the_gpu(sequences):
    logits, tokens, mask = sequences
    reward = torch.tensor([1.0, -1.0] * 3)
    results = []
    for device in ("cpu", "cuda"):
        z = torch.tensor(logits, device=device, requires_grad=True)
        logprob = sequence_logprob(z, tokens.to(device), mask.to(device))
        loss = topr_loss(logprob, logprob.detach() + reward.to(device), reward.to(device))
        loss.backward()
        assert z.grad.device.type == loss.device.type == device
        results.append((loss.item(), z.grad.cpu().numpy()))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-10)
    assert_allclose(results[0][1], results[1][1], atol=1e-10)
