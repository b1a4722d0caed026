"""A torch module as the policy: it maps a batch of contexts to one logit for each action."""

import copy

import numpy as np
import torch

from pnsklearn._topr._solver import batches, cosine
from pnsklearn.losses import topr_loss

CHUNK = 8192  # rows per forward pass without gradients; bounds the memory for activations


def logits(module, X, device, n_actions):
    """Return the logits of a trained module, of shape (n, n_actions), in float64."""
    # A copy: the module that is kept stays on the CPU.
    module = copy.deepcopy(module).to(device).eval()
    with torch.inference_mode():
        chunks = [
            _forward(module, X[a : a + CHUNK], device, n_actions)
            for a in range(0, X.shape[0], CHUNK)
        ]
    return torch.cat(chunks).double().cpu().numpy()


def is_alike(module, other):
    """Return whether two modules are of one class, with parameters of the same shapes."""
    shapes = [
        {name: value.shape for name, value in m.state_dict().items()} for m in (module, other)
    ]
    return type(module) is type(other) and shapes[0] == shapes[1]


def train_epochs(
    module, feedback, baseline, bounds, *, C, batch_size, learning_rate, n_epochs, rng, device
):
    """Train a copy of the module with Adam on batches; yield it after each epoch.

    The loss is the objective of `_solver`, with all parameters in the penalty. Everything random
    follows `rng`; torch's global generators are left as they were.
    """
    module = copy.deepcopy(module).to(device).train()
    X, weight, n_actions = feedback.X, feedback.weight, len(feedback.classes)
    log_behavior = np.log(feedback.propensity)
    reward = np.ones_like(weight) if baseline is None else feedback.reward - baseline
    size = float(weight @ np.abs(reward))
    optimizer = torch.optim.Adam(
        [p for p in module.parameters() if p.requires_grad], weight_decay=1 / (C * size)
    )
    n_rows = X.shape[0]
    rates = cosine(learning_rate, n_epochs * -(-n_rows // batch_size))
    cuda = [] if device == "cpu" else [device]
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(rng.randint(2**31 - 1))  # dropout follows random_state too
        for _ in range(n_epochs):
            for rows in batches(n_rows, batch_size, rng):
                log_pi = torch.log_softmax(_forward(module, X[rows], device, n_actions), dim=1)
                chosen = torch.as_tensor(feedback.action[rows], device=device)[:, None]
                loss = topr_loss(
                    log_pi.gather(1, chosen)[:, 0],
                    *(_tensor(values[rows], device) for values in (log_behavior, reward)),
                    positive_bounds=bounds[:2],
                    negative_bounds=bounds[2:],
                    sample_weight=_tensor(weight[rows], device),
                    denominator=len(rows) / n_rows * size,
                )
                optimizer.param_groups[0]["lr"] = next(rates)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            yield module


def _tensor(values, device):
    # A copy: torch warns of arrays that it cannot write to.
    return torch.tensor(np.asarray(values), dtype=torch.float32, device=device)


def _forward(module, rows, device, n_actions):
    result = module(_tensor(rows, device))
    if result.shape != (len(rows), n_actions):
        raise ValueError(
            f"module must return one logit for each of the {n_actions} actions, of shape "
            f"({len(rows)}, {n_actions}); got {tuple(result.shape)}."
        )
    return result
