"""A torch module as the policy: it maps a batch of contexts to one logit for each action."""

import copy
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from pnsklearn._modules import in_chunks, seeded, tensor_of
from pnsklearn._optim import batches, half_cosine
from pnsklearn._topr._feedback import Feedback
from pnsklearn._typing import Array
from pnsklearn.losses import topr_loss

ROWS_PER_FORWARD = 8192  # without gradients; bounds the memory for activations


def logits(module: torch.nn.Module, X: Array, device: str, n_actions: int) -> Array:
    """Return the logits of a trained module, of shape (n, n_actions), in float64."""
    # A copy: the module that is kept stays on the CPU.
    module = copy.deepcopy(module).to(device).eval()
    forward = partial(_forward, module, device, n_actions)
    with torch.inference_mode():
        return in_chunks(forward, X, ROWS_PER_FORWARD).double().cpu().numpy()


def train_module(
    feedback: Feedback, module: torch.nn.Module, start: torch.nn.Module | None, *,
    C: float, device: str, batch_size: int, learning_rate: float, n_epochs: int,
    rng: np.random.RandomState, on_iteration: Callable[[Callable[[], dict]], bool],
) -> dict:  # fmt: skip
    """Return the fitted attributes, after training a copy of the module with Adam on batches.

    Training starts from the weights of `start` if it is a module like `module`. The loss is the
    objective of a linear policy, with all parameters in the penalty. Everything random follows
    `rng`. ``on_iteration(attributes)`` is called after each epoch, with a function that returns the
    attributes so far, and returns True to stop.
    """
    module = start if start is not None and _is_alike(start, module) else module
    module = copy.deepcopy(module).to(device).train()
    size = float(feedback.weight @ np.abs(feedback.advantage))
    trained = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, weight_decay=1 / (C * size))
    forward = partial(_forward, module, device, len(feedback.classes))
    log_propensity, advantage = np.log(feedback.propensity), feedback.advantage
    n_rows = feedback.X.shape[0]
    rates = half_cosine(learning_rate, n_epochs * -(-n_rows // batch_size))
    own_randomness = seeded(rng, device)  # dropout follows random_state too
    for epoch in range(1, n_epochs + 1):  # noqa: B007
        with own_randomness:
            for rows in batches(n_rows, batch_size, rng):
                log_policy = torch.log_softmax(forward(feedback.X[rows]), dim=1)
                action = tensor_of(feedback.action[rows], device, torch.int64)[:, None]
                loss = topr_loss(
                    log_policy.gather(1, action)[:, 0],
                    tensor_of(log_propensity[rows], device),
                    tensor_of(advantage[rows], device),
                    positive_bounds=feedback.bounds[0],
                    negative_bounds=feedback.bounds[1],
                    sample_weight=tensor_of(feedback.weight[rows], device),
                    denominator=len(rows) / n_rows * size,
                )
                optimizer.param_groups[0]["lr"] = next(rates)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        if on_iteration(partial(_attributes, module)):
            break
    return {**_attributes(module), "n_iter_": epoch}


def _attributes(module):
    return {"module_": copy.deepcopy(module).cpu().eval()}


def _is_alike(module, other):
    """Return whether two modules are of one class, with parameters of the same shapes."""
    shapes = [
        {name: value.shape for name, value in m.state_dict().items()} for m in (module, other)
    ]
    return type(module) is type(other) and shapes[0] == shapes[1]


def _forward(module, device, n_actions, rows):
    result = module(tensor_of(rows, device))
    if result.shape != (len(rows), n_actions):
        raise ValueError(
            f"module must return one logit for each of the {n_actions} actions, of shape "
            f"({len(rows)}, {n_actions}), but its shape is {tuple(result.shape)}."
        )
    return result
