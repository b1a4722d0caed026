"""A torch module as the model: exact full-data derivatives in bounded memory, and SOAP."""

import copy

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from pnsklearn.losses import SOAPLoss

# Rows per forward and backward pass of the exact solver; bounds the memory for activations.
CHUNK = 8192


class ModuleModel:
    """Scores of a torch module as a function of its flattened parameters.

    Dropout is off and batch normalisation uses its running statistics: the scores and their
    derivative come from two passes, which must see the same function.
    """

    is_linear = False

    def __init__(self, module, X, device, kernels):
        self.module = copy.deepcopy(module).to(device)
        self.X = X
        self.device = device
        self.kernels = kernels
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.dtype = self.parameters[0].dtype

    def get(self):
        """Return the parameters as one float64 array."""
        vector = torch.nn.utils.parameters_to_vector(self.parameters)
        return vector.detach().cpu().numpy().astype(np.float64)

    def set(self, theta):
        vector = torch.as_tensor(theta, dtype=self.dtype, device=self.device)
        torch.nn.utils.vector_to_parameters(vector, self.parameters)

    def batch(self, rows):
        # A copy: torch warns of arrays that it cannot write to.
        return torch.tensor(self.X[rows], dtype=self.dtype, device=self.device)

    def forward(self, rows):
        scores = self.module(self.batch(rows))
        n_rows = scores.shape[0]
        if scores.numel() != n_rows:
            raise ValueError(
                "module must return one score per row, of shape (n,) or (n, 1); got "
                f"{tuple(scores.shape)}."
            )
        return scores.reshape(n_rows)

    def chunks(self):
        return (slice(a, a + CHUNK) for a in range(0, self.X.shape[0], CHUNK))

    def scores(self, theta):
        self.set(theta)
        self.module.eval()
        with torch.no_grad():
            scores = torch.cat([self.forward(rows) for rows in self.chunks()]).double()
        return self.kernels.as_array(scores.cpu().numpy(), self.device)

    def pull_back(self, theta, slope):
        self.set(theta)
        self.module.eval()
        self.module.zero_grad()
        slope = torch.as_tensor(slope).to(self.device, self.dtype)
        for rows in self.chunks():
            self.forward(rows).backward(slope[rows])
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        vector = torch.nn.utils.parameters_to_vector(gradients)
        return vector.cpu().numpy().astype(np.float64)


def minibatch_epochs(model, theta, loss, *, use_adam, batch_size, learning_rate, n_epochs, rng,
                     penalty=None):  # fmt: skip
    """Yield the parameters after each epoch of minimising ``loss(scores, rows)`` over batches."""
    model.set(theta)
    kind = torch.optim.Adam if use_adam else torch.optim.SGD
    optimizer = kind(model.parameters, lr=learning_rate)
    n_rows = model.X.shape[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.randint(2**31 - 1))  # dropout follows random_state too
        for _ in range(n_epochs):
            model.module.train()
            for rows in np.array_split(rng.permutation(n_rows), -(-n_rows // batch_size)):
                optimizer.zero_grad()
                loss(model.forward(rows), rows).backward()
                if penalty is not None:
                    slope = torch.as_tensor(penalty(model.get())[1])
                    parts = slope.split([p.numel() for p in model.parameters])
                    for p, part in zip(model.parameters, parts, strict=True):
                        p.grad += part.reshape(p.shape).to(p)
                optimizer.step()
            yield model.get()


def fit_cross_entropy(model, positive, weight, **training):
    """Return the parameters of the module trained for classification: the anchor."""
    target = torch.as_tensor(positive, dtype=model.dtype, device=model.device)
    weight = torch.as_tensor(weight / weight.mean(), dtype=model.dtype, device=model.device)

    def loss(scores, rows):
        return binary_cross_entropy_with_logits(scores, target[rows], weight[rows])

    *_, theta = minibatch_epochs(model, model.get(), loss, use_adam=True, **training)
    return theta


def module_soap_epochs(problem, theta, *, use_adam, gamma, **training):
    """Yield the parameters after each SOAP epoch; see `losses.SOAPLoss` for the estimates."""
    model = problem.model
    criterion = SOAPLoss(
        problem.positive,
        loss="squared_hinge" if len(problem.margins) == 1 else "smooth",
        margin=float(problem.margins[0]),
        gamma=gamma,
        sample_weight=problem.weight,
    ).to(model.device)

    def batch_loss(scores, rows):
        return criterion(scores, torch.as_tensor(rows, device=scores.device))

    yield from minibatch_epochs(
        model, theta, batch_loss, use_adam=use_adam, penalty=problem.penalty, **training
    )
