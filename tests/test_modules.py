"""Random numbers of our own for torch, and passes in bounded memory."""

import numpy as np
import pytest
from sklearn.base import clone

torch = pytest.importorskip("torch")

from pnsklearn._modules import check_module, in_chunks, seeded, tensor_of  # noqa: E402
from tests.estimators import settings  # noqa: E402


def draws(n=3):
    return torch.rand(n).tolist()


def test_the_stream_outside_is_as_if_nothing_had_been_drawn():
    torch.manual_seed(1)
    expected = draws(), draws()
    torch.manual_seed(1)
    first = draws()
    stream = seeded(np.random.RandomState(0))
    with stream:
        draws(5)
    with stream:
        draws(5)
    assert (first, draws()) == expected


def test_the_stream_inside_goes_on_where_it_stopped():
    with seeded(np.random.RandomState(0)):
        expected = draws(6)
    stream = seeded(np.random.RandomState(0))
    with stream:
        found = draws(3)
    draws()
    torch.manual_seed(5)
    with stream:
        found += draws(3)
    assert found == expected


def test_the_seed_is_drawn_from_the_generator():
    rng = np.random.RandomState(3)
    one, two = seeded(rng), seeded(rng)
    seeds = np.random.RandomState(3).randint(2**31 - 1, size=2)
    for stream, seed in ((two, seeds[1]), (one, seeds[0])):
        with stream:
            found = draws()
        torch.manual_seed(int(seed))
        assert found == draws()


def test_the_stream_outside_returns_after_an_error():
    torch.manual_seed(1)
    expected = draws()
    torch.manual_seed(1)
    with pytest.raises(KeyError), seeded(np.random.RandomState(0)):
        draws()
        raise KeyError
    assert draws() == expected


def test_chunks_are_the_whole_in_order():
    X = np.arange(20.0).reshape(10, 2)
    sizes = []

    def forward(rows):
        sizes.append(len(rows))
        return tensor_of(rows.sum(axis=1), "cpu", torch.float64)

    assert in_chunks(forward, X, 4).tolist() == X.sum(axis=1).tolist()
    assert sizes == [4, 4, 2]


def test_tensors_are_copies():
    values = np.ones(3)
    values.setflags(write=False)
    tensor = tensor_of(values, "cpu")
    tensor += 1
    assert tensor.dtype == torch.float32
    assert values.tolist() == [1, 1, 1]


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match=r"module must be a torch\.nn\.Module instance, got int"):
        check_module(3)
    frozen = torch.nn.Linear(2, 1).requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter to train"):
        check_module(frozen)
    frozen.bias.requires_grad_(True)
    check_module(frozen)


@pytest.mark.parametrize("estimator", settings("common", random_state=0))
def test_tensor_with_gradient_is_refused(estimator, cancer):
    X, y = cancer
    with pytest.raises(TypeError, match=r"X\.detach\(\)"):
        clone(estimator).fit(torch.tensor(X, requires_grad=True), y)
