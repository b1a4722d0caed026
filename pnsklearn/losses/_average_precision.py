"""One minus the smooth average precision as a torch loss: exact, and SOAP's estimate."""

from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import nn

from pnsklearn._auprc._objective import DEFAULT_MARGIN, loss_terms, surrogate_of_scores


def _check_loss(loss, margin, prior=None):
    if loss not in DEFAULT_MARGIN:
        raise ValueError(f"loss must be 'smooth' or 'squared_hinge', got {loss!r}.")
    if margin != "auto" and not (isinstance(margin, Real) and 0 < float(margin) < np.inf):
        raise ValueError(f"margin must be 'auto' or a positive number, got {margin!r}.")
    if prior is not None and not 0 < prior < 1:
        raise ValueError(f"prior must be None or in (0, 1), got {prior!r}.")


def _check_batch(scores, y):
    if scores.ndim != 1 or scores.shape != y.shape:
        raise ValueError(
            "scores and y must both be of shape (n,), got "
            f"{tuple(scores.shape)} and {tuple(y.shape)}; squeeze the network's output."
        )
    if not bool(torch.isfinite(scores.detach()).all()):
        raise ValueError("scores contain NaN or infinity; lower the learning rate.")


class _Exact(torch.autograd.Function):
    """F with its exact gradient; once differentiable."""

    @staticmethod
    def forward(ctx, scores, positive, weight, loss, margin, prior):
        arrays = scores.detach().double().contiguous(), positive, weight
        if scores.device.type == "cpu":
            arrays = tuple(array.numpy() for array in arrays)
        value, slope = surrogate_of_scores(*arrays, loss=loss, margin=margin, prior=prior)
        ctx.save_for_backward(torch.as_tensor(slope()).to(scores))
        return torch.tensor(value, dtype=scores.dtype, device=scores.device)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream):
        (gradient,) = ctx.saved_tensors
        return upstream * gradient, *[None] * 5


class AUPRCLoss(nn.Module):
    r"""One minus the smooth average precision of a batch or of the full data, exactly.

    Value and gradient take :math:`O(n \log n_+)` on the CPU (numba) and on CUDA (torch). On a batch
    it is the average precision within that batch, which differs from the full data's; for small
    batches of rare positives use `SOAPLoss`.

    Parameters
    ----------
    loss : {"smooth", "squared_hinge"}, default="smooth"
        See :func:`pnsklearn.metrics.average_precision_surrogate`.
    margin : "auto" or float, default="auto"
        In standard deviations of the scores (treated as a constant); 0.5 for the step, 1
        for the hinge, where "auto".
    prior : float or None, default=None
        Share of the positives inside the sums; None keeps the batch's.

    Raises
    ------
    ValueError
        If a parameter is out of its range; in a call, if shapes differ, scores are not finite or
        a class is missing.

    References
    ----------
    Q. Qi et al., "Stochastic Optimization of Areas Under Precision-Recall Curves with Provable
    Convergence", NeurIPS 2021, equation 3.

    Examples
    --------
    >>> import torch
    >>> from pnsklearn.losses import AUPRCLoss
    >>> scores = torch.tensor([0.2, 2.0, -1.0, 0.5], requires_grad=True)
    >>> loss = AUPRCLoss()(scores, torch.tensor([0, 1, 0, 1]))
    >>> loss.backward()
    >>> bool(scores.grad[3] < 0)
    True
    """

    def __init__(
        self, loss: str = "smooth", margin: str | float = "auto", prior: float | None = None
    ):
        super().__init__()
        _check_loss(loss, margin, prior)
        self.loss = loss
        self.margin = margin
        self.prior = prior

    def forward(
        self, scores: torch.Tensor, y: torch.Tensor, sample_weight: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the loss.

        Parameters
        ----------
        scores : tensor of shape (n,)
            Scores, larger for positives.
        y : tensor of shape (n,)
            1 (or True) for positives, else 0 (or -1).
        sample_weight : tensor of shape (n,), default=None
            Non-negative weights.

        Returns
        -------
        loss : tensor of shape ()
            In [0, 1).
        """
        _check_batch(scores, y)
        positive = y > 0
        weight = torch.ones_like(scores, dtype=torch.float64)
        if sample_weight is not None:
            weight = sample_weight.detach().to(weight)
        if not bool((weight >= 0).all()):
            raise ValueError("sample_weight must not be negative or NaN.")
        if not bool(0 < weight[positive].sum() < weight.sum()):
            raise ValueError(
                "y needs a positive and a negative of non-zero weight; skip the batch, or draw "
                "batches that have both."
            )
        return _Exact.apply(scores, positive, weight, self.loss, self.margin, self.prior)


class SOAPLoss(nn.Module):
    r"""SOAP's estimate of one minus the average precision, for small batches.

    Keeps two moving averages per positive training row,

    .. math::

        u_i \leftarrow (1 - \gamma) u_i + \gamma \hat g_i,

    and its gradient is that of algorithm 1 of the paper. Differences from the published
    code: a batch's two strata weigh what they weigh in the training data, whatever the sampler,
    and the averages start at their first estimate instead of zero.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels of the whole training set: 1 (or True) for positives, else 0 (or -1).
    loss : {"smooth", "squared_hinge"}, default="squared_hinge"
        See :func:`pnsklearn.metrics.average_precision_surrogate`.
    margin : float, default=1.0
        In score units.
    gamma : float, default=0.9
        Rate of the moving averages, in (0, 1].
    sample_weight : array-like of shape (n_samples,), default=None
        Positive weights of the training rows.

    Raises
    ------
    ValueError
        If a parameter is out of its range or y has one class.

    References
    ----------
    Q. Qi et al., "Stochastic Optimization of Areas Under Precision-Recall Curves with Provable
    Convergence", NeurIPS 2021, algorithm 1.

    Examples
    --------
    >>> import torch
    >>> from pnsklearn.losses import SOAPLoss
    >>> criterion = SOAPLoss(y=[0, 0, 1, 0, 1, 0])
    >>> index = torch.tensor([1, 2, 5])
    >>> scores = torch.tensor([0.3, 0.1, -0.2], requires_grad=True)
    >>> criterion(scores, index).backward()
    >>> bool(scores.grad[1] < 0)
    True
    """

    def __init__(
        self,
        y: Any,
        *,
        loss: str = "squared_hinge",
        margin: float = 1.0,
        gamma: float = 0.9,
        sample_weight: Any = None,
    ):
        super().__init__()
        _check_loss(loss, margin)
        if margin == "auto":
            raise ValueError("margin must be a number in score units for SOAPLoss.")
        if not 0 < gamma <= 1:
            raise ValueError(f"gamma must be in (0, 1], got {gamma!r}.")
        positive = torch.as_tensor(y) > 0
        if positive.ndim != 1 or positive.all() or not positive.any():
            raise ValueError("y must be of shape (n_samples,) and have positives and negatives.")
        weight = torch.ones(positive.shape) if sample_weight is None else sample_weight
        weight = torch.as_tensor(weight, dtype=torch.float64)
        if weight.shape != positive.shape or not (weight > 0).all():
            raise ValueError("sample_weight must be positive and of the shape of y.")
        self.gamma = gamma
        self.n_positives = int(positive.sum())
        self.n_negatives = positive.shape[0] - self.n_positives
        margins, coefs, self.own = loss_terms(loss, margin)
        buffers = {
            "positive": positive,
            "weight": weight / weight.sum(),
            "outer_weight": weight / weight[positive].sum(),
            "margins": torch.as_tensor(margins),
            "coefs": torch.as_tensor(coefs),
            "u": torch.zeros(positive.shape[0], 2, dtype=torch.float64),
            "seen": torch.zeros(positive.shape[0], dtype=torch.bool),
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer)

    def forward(self, scores: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Return the estimate and update the moving averages of the batch's positives.

        Parameters
        ----------
        scores : tensor of shape (n,)
            Scores of the batch.
        index : integer tensor of shape (n,)
            Rows of the batch in the training set.

        Returns
        -------
        loss : tensor of shape ()
            The estimate; zero, with zero gradient, for a batch of one class.
        """
        _check_batch(scores, index)
        positives, weights, outer_weights, margins, coefs, averages, seen = self.buffers()
        positive, weight = positives[index], weights[index]
        pos, neg = scores[positive].double(), scores[~positive].double()
        if len(pos) == 0 or len(neg) == 0:
            return 0.0 * scores.sum()
        rows = index[positive]

        def losses(others):
            u = margins - (pos[:, None] - others[None, :])[:, :, None]
            return (coefs * u.clamp(min=0.0) ** 2).sum(-1)

        share = (self.n_positives - 1) / max(len(pos) - 1, 1)
        shares = torch.full((len(pos), len(pos)), share, dtype=torch.float64, device=pos.device)
        shares.fill_diagonal_(1.0)
        g_pos = (shares * weight[positive] * losses(pos)).sum(1) + self.own * weights[rows]
        g_neg = (weight[~positive] * losses(neg)).sum(1) * (self.n_negatives / len(neg))
        g = torch.stack([g_neg, g_pos], dim=1)
        with torch.no_grad():
            rate = 1.0 - (1.0 - self.gamma) * seen[rows].double()[:, None]
            u = averages[rows] + rate * (g - averages[rows])
            averages[rows], seen[rows] = u, True
            A = u.sum(1, keepdim=True)
            v = outer_weights[rows][:, None] * (self.n_positives / len(pos))
            c = v * torch.hstack([u[:, 1:], -u[:, :1]]) / A**2
            value = (v * u[:, :1] / A).sum()
        linear = (c * g).sum()
        return (value + linear - linear.detach()).to(scores.dtype)
