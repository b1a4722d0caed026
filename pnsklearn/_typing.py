"""Names for the types that cross rooms."""

from typing import Any, Protocol, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray
Matrix: TypeAlias = Any  # a NumPy array, or a SciPy CSR matrix, of shape (n_samples, n_features)
Tensor: TypeAlias = Any  # a NumPy array on the CPU, a torch tensor on a GPU


class Objective(Protocol):
    """What a solver needs of an objective: a function of one flat array of parameters."""

    def value_and_gradient(self, theta: Array) -> tuple[float, Array]:
        """Return the value, which is to be minimised, and its gradient, of the shape of theta."""
        ...
