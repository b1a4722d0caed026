"""A torch module as the model: exact full-data derivatives in bounded memory, and SOAP."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from pnsklearn._auprc._objective import AnchoredObjective, get_kernels
from pnsklearn._auprc._soap import Schedule
from pnsklearn._modules import seeded, tensor_of
from pnsklearn._optim import batches
from pnsklearn._typing import Array, Tensor
from pnsklearn.losses import SOAPLoss

# Rows per forward and backward pass of the exact solver; bounds the memory for activations.
ROWS_PER_PASS = 8192


class ModuleModel:
    """Scores of a torch module as a function of its flattened parameters.

    Dropout is off and batch normalisation uses its running statistics: the scores and their
    derivative come from two passes, which must see the same function.
    """

    is_linear = False

    def __init__(self, module: torch.nn.Module, X: Any, device: str):
        self.module = copy.deepcopy(module).to(device)
        self.X = X
        self.device = device
        self.kernels = get_kernels(device)
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.dtype = self.parameters[0].dtype

    def get(self) -> Array:
        """Return the parameters as one float64 array."""
        vector = torch.nn.utils.parameters_to_vector(self.parameters)
        return vector.detach().cpu().numpy().astype(np.float64)

    def set(self, theta: Array) -> None:
        """Set the parameters."""
        vector = torch.as_tensor(theta, dtype=self.dtype, device=self.device)
        torch.nn.utils.vector_to_parameters(vector, self.parameters)

    def forward(self, rows: Any) -> torch.Tensor:
        """Return the scores of some rows, which can be differentiated."""
        scores = self.module(tensor_of(self.X[rows], self.device, self.dtype))
        shape = tuple(scores.shape)
        if scores.numel() != shape[0]:
            raise ValueError(
                f"module must return one score per row, of shape (n,) or (n, 1); got {shape}."
            )
        return scores.reshape(shape[0])

    def _passes(self, theta):
        self.set(theta)
        self.module.eval()
        return (slice(a, a + ROWS_PER_PASS) for a in range(0, self.X.shape[0], ROWS_PER_PASS))

    def scores(self, theta: Array) -> Tensor:
        """Return the float64 scores of all rows."""
        passes = self._passes(theta)
        with torch.no_grad():
            scores = torch.cat([self.forward(rows) for rows in passes]).double()
        return scores.numpy() if self.device == "cpu" else scores

    def pull_back(self, theta: Array, slope: Tensor) -> Array:
        """Return the gradient in theta of a function whose gradient in the scores is `slope`."""
        passes = self._passes(theta)
        self.module.zero_grad()
        slope = torch.as_tensor(slope).to(self.device, self.dtype)
        for rows in passes:
            self.forward(rows).backward(slope[rows])
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        vector = torch.nn.utils.parameters_to_vector(gradients)
        return vector.cpu().numpy().astype(np.float64)


def _minibatch_epochs(model, theta, schedule, loss, *, use_adam=True, penalty=None):
    """Yield the parameters after each epoch of minimising ``loss(scores, rows)`` over batches."""
    model.set(theta)
    kind = torch.optim.Adam if use_adam else torch.optim.SGD
    optimizer = kind(model.parameters, lr=schedule.learning_rate)
    stream = seeded(schedule.rng, model.device)  # dropout follows random_state too
    for _ in range(schedule.n_epochs):
        with stream:
            model.module.train()
            for rows in batches(model.X.shape[0], schedule.batch_size, schedule.rng):
                optimizer.zero_grad()
                loss(model.forward(rows), rows).backward()
                if penalty is not None:
                    slope = torch.as_tensor(penalty(model.get())[1])
                    parts = slope.split([p.numel() for p in model.parameters])
                    for p, part in zip(model.parameters, parts, strict=True):
                        p.grad += part.reshape(p.shape).to(p)
                optimizer.step()
        yield model.get()


def fit_cross_entropy(
    model: ModuleModel, positive: Array, weight: Array, schedule: Schedule
) -> Array:
    """Return the parameters of the module trained for classification: the anchor."""
    target = torch.as_tensor(positive, dtype=model.dtype, device=model.device)
    weights = torch.as_tensor(weight / weight.mean(), dtype=model.dtype, device=model.device)

    def loss(scores, rows):
        return binary_cross_entropy_with_logits(scores, target[rows], weights[rows])

    *_, theta = _minibatch_epochs(model, model.get(), schedule, loss)
    return theta


def module_soap_epochs(
    objective: AnchoredObjective, theta: Array, schedule: Schedule, *, use_adam: bool, gamma: float
) -> Iterator[Array]:
    """Yield theta after each SOAP epoch; see `losses.SOAPLoss` for the estimates."""
    model, pairs = objective.model, objective.pairs
    criterion = SOAPLoss(
        pairs.positive,
        loss="squared_hinge" if len(pairs.margins) == 1 else "smooth",
        margin=float(pairs.margins[0]),
        gamma=gamma,
        sample_weight=pairs.weight,
    ).to(model.device)

    def loss(scores, rows):
        return criterion(scores, torch.as_tensor(rows, device=scores.device))

    return _minibatch_epochs(
        model, theta, schedule, loss, use_adam=use_adam, penalty=objective.penalty
    )
