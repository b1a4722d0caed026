"""Torch modules as models: what all methods need of them. Importing this module needs torch."""

from collections.abc import Callable

import numpy as np
import torch

from pnsklearn._typing import Matrix


def check_module(module: object) -> None:
    """Refuse what is no module, or a module without a parameter to train."""
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module must be a torch.nn.Module instance, got {type(module).__name__}.")
    if not any(p.requires_grad for p in module.parameters()):
        raise ValueError("module has no parameter to train (requires_grad=True).")


def tensor_of(values: object, device: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return a copy on the device: torch warns of arrays that it cannot write to."""
    return torch.tensor(np.asarray(values), dtype=dtype, device=device)


def in_chunks(forward: Callable, X: Matrix, n_rows: int) -> torch.Tensor:
    """Return ``forward(X)``, computed for `n_rows` at a time, which bounds the memory it takes."""
    return torch.cat([forward(X[a : a + n_rows]) for a in range(0, X.shape[0], n_rows)])


class seeded:
    """A context in which torch draws random numbers from a stream of its own.

    The stream starts at a seed drawn from `rng`. The context may be entered again, and the stream
    then goes on where it stopped; between, and after, torch's own generators are as if nothing had
    been drawn. So a generator function must leave it before each ``yield``: the caller's draws are
    not ours.

    Parameters
    ----------
    rng : numpy.random.RandomState or numpy.random.Generator
        Source of the seed.
    device : str
        Where the model is: the generators of the CPU and of this device are seeded.
    """

    def __init__(self, rng, device="cpu"):
        self._gpus = [] if device == "cpu" else [torch.device(device)]
        self._seed: int | None = int(rng.choice(2**31 - 1))

    def __enter__(self):
        self._outside = self._states()
        if self._seed is not None:
            # Not torch.manual_seed, which would seed every GPU.
            torch.default_generator.manual_seed(self._seed)
            for gpu in self._gpus:
                with torch.cuda.device(gpu):
                    torch.cuda.manual_seed(self._seed)
            self._seed = None
        else:
            self._set(self._inside)
        return self

    def __exit__(self, *_):
        self._inside = self._states()
        self._set(self._outside)

    def _states(self):
        return [torch.get_rng_state(), *map(torch.cuda.get_rng_state, self._gpus)]

    def _set(self, states):
        torch.set_rng_state(states[0])
        for state, gpu in zip(states[1:], self._gpus, strict=True):
            torch.cuda.set_rng_state(state, gpu)
