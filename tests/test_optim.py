"""Adam, the half cosine and the batches, against torch."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from pnsklearn._optim import Adam, batches, half_cosine


def test_adam_is_that_of_torch(global_random_seed):
    torch = pytest.importorskip("torch")
    rng = np.random.RandomState(global_random_seed)
    theta, A = rng.standard_normal(5), rng.standard_normal((5, 5))
    other = torch.tensor(theta, requires_grad=True)
    optimizer = torch.optim.Adam([other])
    adam = Adam(5)
    for step in range(30):
        rate = 0.1 / (1 + step)
        theta = adam.step(theta, A @ np.tanh(theta), rate)
        optimizer.param_groups[0]["lr"] = rate
        other.grad = torch.tensor(A @ np.tanh(other.detach().numpy()))
        optimizer.step()
    assert_allclose(theta, other.detach().numpy(), rtol=1e-12)
    assert adam.n_steps == 30


def test_first_step_of_adam_has_the_size_of_the_rate():
    """In closed form: both averages are corrected to the gradient itself and to its square."""
    theta = Adam(3).step(np.array([1.0, 2.0, 3.0]), np.array([1e-3, -5.0, 0.0]), 0.1)
    assert_allclose(theta, [0.9, 2.1, 3.0], rtol=2e-6)


def test_half_cosine_falls_from_the_rate_to_zero():
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=7)
    expected = []
    for _ in range(7):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert_allclose(list(half_cosine(0.3, 7)), expected, rtol=1e-12)
    assert_allclose(list(half_cosine(2.0, 2)), [2.0, 1.0])


@pytest.mark.parametrize(
    "n_rows, size, n_batches", [(10, 3, 4), (9, 3, 3), (2, 64, 1), (65, 64, 2)]
)
def test_batches_deal_out_every_row_once(n_rows, size, n_batches, global_random_seed):
    found = batches(n_rows, size, np.random.RandomState(global_random_seed))
    assert len(found) == n_batches
    lengths = [len(rows) for rows in found]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    rows = np.concatenate(found)
    assert sorted(rows) == list(range(n_rows))
    expected = np.random.RandomState(global_random_seed).permutation(n_rows)
    assert rows.tolist() == expected.tolist()
