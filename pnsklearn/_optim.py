"""Stochastic steps: Adam, a step size that falls along half a cosine, and shuffled batches."""

from collections.abc import Iterator

import numpy as np

from pnsklearn._typing import Array

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Adam:
    """Adam's moving averages of the gradient and of its square, for one flat array."""

    def __init__(self, size: int):
        self.mean, self.square, self.n_steps = np.zeros(size), np.zeros(size), 0

    def step(self, theta: Array, gradient: Array, rate: float) -> Array:
        """Return theta after a step."""
        self.n_steps += 1
        self.mean = BETA1 * self.mean + (1 - BETA1) * gradient
        self.square = BETA2 * self.square + (1 - BETA2) * gradient**2
        mean = self.mean / (1 - BETA1**self.n_steps)
        square = self.square / (1 - BETA2**self.n_steps)
        return theta - rate * mean / (np.sqrt(square) + EPSILON)


def half_cosine(rate: float, n_steps: int) -> Iterator[float]:
    """Yield step sizes that fall from `rate` to zero along half a cosine, over `n_steps`."""
    for step in range(n_steps):
        yield rate * 0.5 * (1 + np.cos(np.pi * step / n_steps))


def batches(n_rows: int, batch_size: int, rng: np.random.RandomState) -> list[Array]:
    """Return a shuffled division of the rows into batches of nearly equal size."""
    return np.array_split(rng.permutation(n_rows), -(-n_rows // batch_size))
