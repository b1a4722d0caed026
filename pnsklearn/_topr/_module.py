"""A torch module as the policy: it maps a batch of contexts to one logit for each action."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from pnsklearn._modules import in_chunks, seeded, tensor_of
from pnsklearn._optim import batches, half_cosine
from pnsklearn._topr._feedback import Feedback
from pnsklearn._topr._objective import Bounds
from pnsklearn._typing import Array
from pnsklearn.losses import topr_loss

ROWS_PER_FORWARD = 8192  # without gradients; bounds the memory for activations


def logits(module: torch.nn.Module, X: Array, device: str, n_actions: int) -> Array:
    """Return the logits of a trained module, of shape (n, n_actions), in float64."""
    # A copy: the module that is kept stays on the CPU.
    module = copy.deepcopy(module).to(device).eval()
    forward = partial(_forward, module, device=device, n_actions=n_actions)
    with torch.inference_mode():
        return in_chunks(forward, X, ROWS_PER_FORWARD).double().cpu().numpy()


def train_module(
    feedback: Feedback,
    baseline: float | None,
    *,
    module: torch.nn.Module,
    start: torch.nn.Module | None,
    C: float,
    bounds: Bounds,
    batch_size: int,
    learning_rate: float,
    n_epochs: int,
    device: str,
    rng: np.random.RandomState,
    on_iteration: Callable[[Callable[[], dict]], bool],
) -> tuple[dict[str, Any], int]:
    """Return the fitted attributes and the number of epochs, after training a copy of the module.

    Training starts from the weights of `start` if it is a module like `module`. The loss is the
    objective of a linear policy, with all parameters in the penalty. Everything random follows
    `rng`. ``on_iteration(attributes)`` is called after each epoch, with a function that returns the
    attributes so far, and returns True to stop.
    """
    module = start if start is not None and _is_alike(start, module) else module
    module = copy.deepcopy(module).to(device).train()
    weight = feedback.weight
    reward = np.ones_like(weight) if feedback.reward is None else feedback.reward - baseline
    size = float(weight @ np.abs(reward))
    optimizer = torch.optim.Adam(
        [p for p in module.parameters() if p.requires_grad], weight_decay=1 / (C * size)
    )
    n_rows = feedback.X.shape[0]
    rates = half_cosine(learning_rate, n_epochs * -(-n_rows // batch_size))
    own_randomness = seeded(rng, device)  # dropout follows random_state too
    for epoch in range(1, n_epochs + 1):  # noqa: B007
        with own_randomness:
            for rows in batches(n_rows, batch_size, rng):
                loss = _loss(module, feedback, reward, rows, bounds, size, device)
                optimizer.param_groups[0]["lr"] = next(rates)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        if on_iteration(partial(_attributes, module)):
            break
    return _attributes(module), epoch


def _loss(module, feedback, reward, rows, bounds, size, device):
    """Return the loss of some rows, each of which stands for as many as there are."""
    logits = _forward(module, feedback.X[rows], device=device, n_actions=len(feedback.classes))
    action = tensor_of(feedback.action[rows], device, torch.int64)[:, None]
    log_propensity = np.log(feedback.propensity[rows])
    return topr_loss(
        torch.log_softmax(logits, dim=1).gather(1, action)[:, 0],
        *(tensor_of(values, device) for values in (log_propensity, reward[rows])),
        positive_bounds=bounds[0],
        negative_bounds=bounds[1],
        sample_weight=tensor_of(feedback.weight[rows], device),
        denominator=len(rows) / feedback.X.shape[0] * size,
    )


def _attributes(module):
    return {"module_": copy.deepcopy(module).cpu().eval()}


def _is_alike(module, other):
    """Return whether two modules are of one class, with parameters of the same shapes."""
    shapes = [
        {name: value.shape for name, value in m.state_dict().items()} for m in (module, other)
    ]
    return type(module) is type(other) and shapes[0] == shapes[1]


def _forward(module, rows, device, n_actions):
    result = module(tensor_of(rows, device))
    if result.shape != (len(rows), n_actions):
        raise ValueError(
            f"module must return one logit for each of the {n_actions} actions, of shape "
            f"({len(rows)}, {n_actions}), but its shape is {tuple(result.shape)}."
        )
    return result
