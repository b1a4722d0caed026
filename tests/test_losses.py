"""The torch losses against the definition over all pairs."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from pnsklearn._auprc._objective import Pairs
from pnsklearn._auprc._soap import batch_slopes, start_averages
from tests import brute_force

torch = pytest.importorskip("torch")

from pnsklearn.losses import AUPRCLoss, SOAPLoss  # noqa: E402

LOSSES = ["smooth", "squared_hinge"]


@pytest.fixture
def data(global_random_seed):
    rng = np.random.default_rng(global_random_seed)
    y = np.arange(40) % 4 == 0
    return y, rng.standard_normal(40) + y, rng.uniform(0.5, 2.0, 40)


def definition(y, scores, weight, loss, margin, prior=None):
    """Return (F, dF/ds), the margin in score units."""
    inner = weight.copy()
    if prior is not None:
        inner[y] *= prior / (1 - prior) * weight[~y].sum() / weight[y].sum()
    own = (0.5 if loss == "smooth" else 0.0) * inner[y]
    rest = (y, inner, weight[y] / weight[y].sum(), own, loss, margin)
    return brute_force.value(scores, *rest), brute_force.gradient(scores, *rest)


def weighted_std(scores, weight):
    return np.sqrt(np.average((scores - np.average(scores, weights=weight)) ** 2, weights=weight))


@pytest.mark.parametrize("prior", [None, 0.4])
@pytest.mark.parametrize("loss", LOSSES)
def test_auprc_loss_against_the_definition(loss, prior, data):
    y, scores, weight = data
    s = torch.tensor(scores, requires_grad=True)
    value = AUPRCLoss(loss, margin=0.3, prior=prior)(s, torch.tensor(y), torch.tensor(weight))
    (3 * value).backward()
    expected, slope = definition(y, scores, weight, loss, 0.3 * weighted_std(scores, weight), prior)
    assert value.item() == pytest.approx(expected, abs=1e-12)
    assert_allclose(s.grad.numpy(), 3 * slope, atol=1e-11)


def test_auprc_loss_takes_any_sign_convention_and_dtype(data):
    y, scores, _ = data
    expected = AUPRCLoss()(torch.tensor(scores), torch.tensor(y)).item()
    for labels in (y.astype(int), np.where(y, 1, -1), y.astype(float)):
        assert AUPRCLoss()(torch.tensor(scores), torch.tensor(labels)).item() == expected
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float16, 2e-2), (torch.bfloat16, 1e-1)):
        s = torch.tensor(scores, dtype=dtype, requires_grad=True)
        value = AUPRCLoss()(s, torch.tensor(y))
        value.backward()
        assert value.dtype == s.grad.dtype == dtype
        assert value.item() == pytest.approx(expected, abs=tolerance)


def test_auprc_loss_zero_weights_drop_samples(data):
    y, scores, weight = data
    weight[:8] = 0.0
    s = torch.tensor(scores, requires_grad=True)
    AUPRCLoss()(s, torch.tensor(y), torch.tensor(weight)).backward()
    t = torch.tensor(scores[8:], requires_grad=True)
    AUPRCLoss()(t, torch.tensor(y[8:]), torch.tensor(weight[8:])).backward()
    assert_allclose(s.grad[8:].numpy(), t.grad.numpy(), atol=1e-12)
    assert_allclose(s.grad[:8].numpy(), 0)


def test_auprc_loss_trains_a_network(data):
    y, _, _ = data
    torch.manual_seed(0)
    X = torch.randn(40, 3) + torch.tensor(y)[:, None]
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        value = AUPRCLoss()(model(X).squeeze(1), torch.tensor(y))
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0] - 0.01


@pytest.mark.parametrize("loss", LOSSES)
def test_soap_loss_on_the_full_data_is_exact(loss, data):
    y, scores, weight = data
    criterion = SOAPLoss(y, loss=loss, margin=0.5, gamma=0.3, sample_weight=weight)
    s = torch.tensor(scores, requires_grad=True)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    value = criterion(s[order], order)
    value.backward()
    expected, slope = definition(y, scores, weight, loss, 0.5)
    assert value.item() == pytest.approx(expected, abs=1e-12)
    assert_allclose(s.grad.numpy(), slope, atol=1e-12)
    # Averages: the second estimate counts gamma.
    criterion(torch.tensor(-scores), torch.arange(40))
    own = (0.5 if loss == "smooth" else 0.0) * weight[y]
    sums = [
        np.stack(brute_force.inner_sums(x, y, weight, own, loss, 0.5), axis=1) / weight.sum()
        for x in (scores, -scores)
    ]
    assert_allclose(criterion.u[torch.tensor(y)].numpy(), 0.7 * sums[0] + 0.3 * sums[1], rtol=1e-11)


def test_soap_loss_agrees_with_the_linear_solver(data):
    """The numba steps and the torch loss are the same estimate on the same batches."""
    y, scores, weight = data
    criterion = SOAPLoss(y, sample_weight=weight)
    pos_rows, neg_rows = np.flatnonzero(y), np.flatnonzero(~y)
    outer, rng = weight[y] / weight[y].sum(), np.random.default_rng(0)
    pairs = Pairs(y, weight, outer, np.zeros(len(pos_rows)), np.ones(1), np.ones(1))
    state = start_averages(pairs, 0.9)
    for _ in range(5):
        draw, neg = rng.permutation(len(pos_rows))[:4], rng.permutation(neg_rows)[:9]
        rows = np.r_[pos_rows[draw], neg]
        slope = batch_slopes(scores[rows], weight[rows], draw, pairs, state)
        s = torch.tensor(scores[rows], requires_grad=True)
        criterion(s, torch.tensor(rows)).backward()
        assert_allclose(s.grad.numpy(), slope, rtol=1e-10, atol=1e-14)


def test_soap_loss_state_dict(data):
    y, scores, _ = data
    first, second = SOAPLoss(y), SOAPLoss(y)
    index = torch.arange(0, 20)
    first(torch.tensor(scores[:20]), index)
    second.load_state_dict(first.state_dict())
    values = [c(torch.tensor(scores[:20] ** 2), index).item() for c in (first, second, SOAPLoss(y))]
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize("rows", [[0, 4, 8], [1, 2, 3]])
def test_soap_loss_of_a_one_class_batch_is_zero(rows, data):
    y, scores, _ = data
    criterion = SOAPLoss(y)
    s = torch.tensor(scores[rows], requires_grad=True)
    value = criterion(s, torch.tensor(rows))
    value.backward()
    assert value.item() == 0
    assert_allclose(s.grad.numpy(), 0)
    assert not criterion.seen.any()


def test_soap_loss_of_a_single_positive():
    """With one positive in all, the own pair is the only positive one."""
    scores = torch.tensor([0.0, 1.0, 0.5], dtype=torch.float64)
    value = SOAPLoss([0, 1, 0])(scores, torch.arange(3))
    # l(1) = 0 and l(1/2) = 1/4 over that and l(0) = 1.
    assert value.item() == pytest.approx(0.25 / 1.25)


@pytest.mark.parametrize("make", [AUPRCLoss, lambda **params: SOAPLoss([0, 1], **params)])
@pytest.mark.parametrize("params", [{"loss": "log"}, {"margin": -1.0}, {"margin": "wide"}])
def test_bad_parameters(make, params):
    with pytest.raises(ValueError, match=next(iter(params))):
        make(**params)


@pytest.mark.parametrize(
    "params, message",
    [
        ({"y": [1, 1]}, "positives and negatives"),
        ({"y": [0, 0]}, "positives and negatives"),
        ({"y": [[0], [1]]}, "shape"),
        ({"y": [0, 1], "gamma": 0.0}, "gamma"),
        ({"y": [0, 1], "margin": "auto"}, "margin"),
        ({"y": [0, 1], "sample_weight": [1.0, 0.0]}, "sample_weight"),
        ({"y": [0, 1], "sample_weight": [1.0]}, "sample_weight"),
    ],
)
def test_bad_training_set(params, message):
    with pytest.raises(ValueError, match=message):
        SOAPLoss(**params)


@pytest.mark.parametrize(
    "scores, y, message",
    [
        ([0.0, 1.0], [1, 1], "a positive and a negative"),
        ([0.0, 1.0], [0, 0], "a positive and a negative"),
        ([0.0, float("nan")], [0, 1], "NaN or infinity"),
        ([[0.0], [1.0]], [0, 1], "squeeze"),
        ([0.0, 1.0, 2.0], [0, 1], "shape"),
    ],
)
def test_bad_batch(scores, y, message):
    with pytest.raises(ValueError, match=message):
        AUPRCLoss()(torch.tensor(scores), torch.tensor(y))


def test_negative_weights():
    with pytest.raises(ValueError, match="sample_weight"):
        AUPRCLoss()(torch.tensor([0.0, 1.0]), torch.tensor([0, 1]), torch.tensor([1.0, -1.0]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("make", [lambda y: AUPRCLoss(), SOAPLoss])
def test_on_the_gpu(make, data):
    y, scores, _ = data
    results = []
    for device in ("cpu", "cuda"):
        s = torch.tensor(scores, device=device, requires_grad=True)
        criterion = make(y).to(device)
        other = torch.arange(40) if isinstance(criterion, SOAPLoss) else torch.tensor(y)
        value = criterion(s, other.to(device))
        value.backward()
        assert s.grad.device.type == value.device.type == device
        results.append((value.item(), s.grad.cpu().numpy()))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-10)
    assert_allclose(results[0][1], results[1][1], atol=1e-10)
