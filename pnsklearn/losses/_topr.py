"""Tapered off-policy REINFORCE as a torch loss, and the log-probabilities that it takes."""

import math
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from pnsklearn._topr._objective import check_bounds, log_bounds
from pnsklearn._topr._torch import tapered

# The largest log-ratio that counts where the upper bound is infinite: e^60 times anything a batch
# may hold is finite, in float32 too.
LARGEST_LOG_RATIO = 60.0
LOGPROB_ROUNDING = 1e-4  # how far above zero a log-probability may be
# Logits in float32 at any one time in `sequence_logprob`: 16 MiB. More is slower on a CPU, less
# would leave a GPU idle.
LOGITS_AT_ONCE = 2**22


def check_settings(baseline: Any, positive_bounds: Any, negative_bounds: Any) -> None:
    """Raise ValueError unless the baseline is finite, one number or more, and bounds are bounds."""
    if isinstance(baseline, Real):
        finite = math.isfinite(baseline)
    else:
        try:
            values = torch.as_tensor(baseline)
            finite = values.ndim < 2 and bool(torch.isfinite(values).all())
        except (TypeError, ValueError, RuntimeError):
            finite = False
    if not finite:
        raise ValueError(
            f"baseline must be a finite number, or one for each sequence, got {baseline!r:.60}."
        )
    check_bounds("positive_bounds", positive_bounds)
    check_bounds("negative_bounds", negative_bounds)


def _like(logprob, name, values):
    """Return values, of the shape, dtype and device of logprob."""
    values = torch.as_tensor(values, dtype=logprob.dtype, device=logprob.device)
    if values.shape != logprob.shape:
        raise ValueError(
            f"{name} must have one value per sequence, of shape {tuple(logprob.shape)} like "
            f"logprob, but its shape is {tuple(values.shape)}."
        )
    return values


def _raise_failed(checks):
    """Raise the message of the first check that does not hold everywhere."""
    # One transfer for all of them: each transfer makes the CPU wait for the GPU.
    passed = torch.stack([check.all() for check in checks.values()]).tolist()
    if not all(passed):
        raise ValueError(list(checks)[passed.index(False)])


def topr_loss(
    logprob: Tensor, behavior_logprob: Any, reward: Any, *, baseline: Any = 0.0,
    positive_bounds: tuple[float, float] = (1, 1), negative_bounds: tuple[float, float] = (0, 1),
    lengths: Any = None, sample_weight: Any = None, denominator: Any = None,
) -> Tensor:  # fmt: skip
    r"""Return the tapered off-policy REINFORCE loss of sequences or actions from a log.

    With the policy's log-ratio :math:`u = \log \pi(y \mid x) - \log \mu(y \mid x)` to the policy
    μ that drew the log, R the reward less the baseline and [a, b] the bounds of its sign,

    .. math::

        L = -\frac{1}{N} \sum_i \frac{w_i}{l_i} R_i F(u_i), \qquad
        F(u) = e^v (1 + u - v), \quad v = \min(\max(u, \log a), \log b),

    whose gradient is the update of the paper (equation 7), as :math:`F'(u)` is the ratio
    :math:`e^u` clipped to [a, b]. F is :math:`e^u` between the bounds and its tangents beyond. By
    default R ≥ 0 counts R (1 + u), whatever the ratio, and R < 0 counts R (1 + ELU(u)), less and
    less as the policy leaves a bad sequence. Nothing in L is a constant to autograd except what
    you pass: the loss may be minimised by any method, with line search too.

    Other bounds give other methods:

    =================== =================== ================================================
    positive_bounds     negative_bounds     method
    =================== =================== ================================================
    (1, 1)              (0, 1)              TOPR
    (1, 1)              (1, 1)              REINFORCE that ignores the ratio; diverges
    (1, 1)              (0, 0)              positives only: supervised fine-tuning, STaR
    (0, inf)            (0, inf)            importance sampling
    (0, 1)              (0, 1)              truncated importance sampling
    =================== =================== ================================================

    Parameters
    ----------
    logprob : tensor of shape (n,)
        Log-probability of each sequence under the policy that is trained, the sum over its tokens;
        see :func:`sequence_logprob`. Half precision is converted to float32.
    behavior_logprob : tensor of shape (n,)
        The same under the policy that drew the log: a constant. Score it with the same model,
        dtype and sampling temperature as `logprob`; rounding of each token adds up in the ratio.
    reward : tensor of shape (n,)
        Reward of each sequence, of either sign. R = 0 contributes nothing: rewards of 0 and 1
        train on the positives only, unless there is a baseline.
    baseline : float or tensor of shape () or (n,), default=0.0
        Subtracted from the rewards; a tensor may have one for each sequence, such as the mean of
        its prompt.
    positive_bounds : (float, float), default=(1, 1)
        Bounds of the ratio where R ≥ 0; the second may be infinite. A ratio above e^60 counts as
        e^60 even then, so that the loss is finite.
    negative_bounds : (float, float), default=(0, 1)
        Bounds of the ratio where R < 0.
    lengths : tensor of shape (n,), default=None
        Numbers of tokens; each term is divided by its own, as the paper does. The ratio stays that
        of the whole sequence.
    sample_weight : tensor of shape (n,), default=None
        Non-negative weights.
    denominator : float or tensor of shape (), default=None
        N, by default the sum of the weights, or the number of sequences. When gradients are
        accumulated over micro-batches give the whole batch's: the sum of the micro-batches' losses
        is then the loss of the batch.

    Returns
    -------
    loss : tensor of shape ()
        To be minimised; float64 if `logprob` is, else float32.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, a log-probability exceeds 0 beyond rounding,
        a length is not positive, a weight is negative or all are zero, `behavior_logprob` requires
        a gradient, or a setting is out of its range. The values are read in one transfer from the
        GPU.

    References
    ----------
    N. Le Roux et al., "Tapered Off-Policy REINFORCE: Stable and efficient reinforcement learning
    for LLMs", NeurIPS 2025, equations 7 and 8.

    Examples
    --------
    The positive counts in full although its ratio is e; the negative, which the policy has all but
    left, counts e^-3:

    >>> import torch
    >>> from pnsklearn.losses import topr_loss
    >>> logprob = torch.tensor([-1.0, -5.0], requires_grad=True)
    >>> loss = topr_loss(logprob, torch.tensor([-2.0, -2.0]), torch.tensor([1.0, -1.0]))
    >>> loss.backward()
    >>> logprob.grad
    tensor([-0.5000,  0.0249])
    """
    check_settings(baseline, positive_bounds, negative_bounds)
    logprob, behavior_logprob, reward, scale, denominator = _check_batch(
        logprob, behavior_logprob, reward, lengths, sample_weight, denominator
    )
    baseline = torch.as_tensor(baseline, dtype=logprob.dtype, device=logprob.device)
    if baseline.ndim:
        baseline = _like(logprob, "baseline", baseline)
    gain, bounds = scale * (reward - baseline), (positive_bounds, negative_bounds)
    log_low, log_high = log_bounds(torch, gain, bounds, LARGEST_LOG_RATIO)
    terms, _ = tapered(logprob - behavior_logprob, gain, log_low, log_high)
    return -terms.sum() / denominator


def _check_batch(logprob, behavior_logprob, reward, lengths, sample_weight, denominator):
    """Return the tensors of a batch, checked: the first three, the scale of each term, and N."""
    if logprob.ndim != 1:
        raise ValueError(
            "logprob must have one value per sequence, of shape (n,), but its shape is "
            f"{tuple(logprob.shape)}. Sum over the tokens first."
        )
    logprob = logprob.to(torch.promote_types(logprob.dtype, torch.float32))
    behavior_logprob = _like(logprob, "behavior_logprob", behavior_logprob)
    if behavior_logprob.requires_grad:
        raise ValueError(
            "behavior_logprob must not require a gradient, which would cancel that of logprob. "
            "Pass behavior_logprob.detach()."
        )
    reward = _like(logprob, "reward", reward)
    ones = torch.ones_like(logprob)
    weight = ones if sample_weight is None else _like(logprob, "sample_weight", sample_weight)
    lengths = ones if lengths is None else _like(logprob, "lengths", lengths)
    denominator = weight.sum() if denominator is None else denominator
    denominator = torch.as_tensor(denominator, dtype=logprob.dtype, device=logprob.device)
    if denominator.ndim:
        raise ValueError(
            f"denominator must be one number, but its shape is {tuple(denominator.shape)}."
        )
    both = torch.stack([logprob, behavior_logprob])
    _raise_failed(
        {
            "logprob and behavior_logprob must be finite, but they have NaN or infinite values, "
            "as of a token with probability 0.": torch.isfinite(both),
            "logprob and behavior_logprob must not exceed 0, as no log-probability does.": both
            <= LOGPROB_ROUNDING,
            "reward must be finite, but it has NaN or infinite values.": torch.isfinite(reward),
            "sample_weight must be finite and not negative.": (weight >= 0) & (weight < math.inf),
            "lengths must be positive and finite. Drop the sequences without a token.": (
                (lengths > 0) & (lengths < math.inf)
            ),
            "denominator must be positive and finite. By default it is the sum of the weights, for "
            "which the batch needs a sequence of positive weight.": (
                (denominator > 0) & (denominator < math.inf)
            ),
        }
    )
    return logprob, behavior_logprob, reward, weight / lengths, denominator


class TOPRLoss(nn.Module):
    """The loss of :func:`topr_loss` as a module that holds its settings.

    Parameters
    ----------
    baseline : float or tensor of shape (), default=0.0
        Subtracted from the rewards.
    positive_bounds : (float, float), default=(1, 1)
        Bounds of the ratio where the reward is not below the baseline.
    negative_bounds : (float, float), default=(0, 1)
        Bounds of the ratio where it is.

    Raises
    ------
    ValueError
        If a setting is out of its range; in a call, see :func:`topr_loss`.

    References
    ----------
    N. Le Roux et al., "Tapered Off-Policy REINFORCE: Stable and efficient reinforcement learning
    for LLMs", NeurIPS 2025, equations 7 and 8.

    Examples
    --------
    >>> import torch
    >>> from pnsklearn.losses import TOPRLoss
    >>> criterion = TOPRLoss(baseline=-0.5)
    >>> logprob = torch.tensor([-1.0, -5.0], requires_grad=True)
    >>> criterion(logprob, torch.tensor([-2.0, -2.0]), torch.tensor([1.0, 0.0])).backward()
    >>> logprob.grad
    tensor([-0.7500, -0.2500])
    """

    def __init__(
        self, baseline: Any = 0.0, positive_bounds: tuple[float, float] = (1, 1),
        negative_bounds: tuple[float, float] = (0, 1),
    ):  # fmt: skip
        super().__init__()
        check_settings(baseline, positive_bounds, negative_bounds)
        self.baseline = baseline
        self.positive_bounds = positive_bounds
        self.negative_bounds = negative_bounds

    def forward(
        self, logprob: Tensor, behavior_logprob: Any, reward: Any, lengths: Any = None,
        sample_weight: Any = None, denominator: Any = None,
    ) -> Tensor:  # fmt: skip
        """Return the loss.

        Parameters
        ----------
        logprob : tensor of shape (n,)
            Log-probability of each sequence under the policy that is trained.
        behavior_logprob : tensor of shape (n,)
            The same under the policy that drew the log.
        reward : tensor of shape (n,)
            Reward of each sequence.
        lengths : tensor of shape (n,), default=None
            Numbers of tokens, by which the terms are divided.
        sample_weight : tensor of shape (n,), default=None
            Non-negative weights.
        denominator : float or tensor of shape (), default=None
            By default the sum of the weights.

        Returns
        -------
        loss : tensor of shape ()
            To be minimised.
        """
        return topr_loss(
            logprob,
            behavior_logprob,
            reward,
            baseline=self.baseline,
            positive_bounds=self.positive_bounds,
            negative_bounds=self.negative_bounds,
            lengths=lengths,
            sample_weight=sample_weight,
            denominator=denominator,
        )


class _TokenLogProb(torch.autograd.Function):
    """Log-probability of one token at each of the positions logits[rows, columns]."""

    # By hand, because autograd would keep a float32 copy of the logits for the backward pass, or,
    # with checkpoints, make a gradient of the size of all logits for each chunk.

    @staticmethod
    def _chunks(logits, tokens, rows, columns):
        """Yield slices of the positions with their logits, in float32 or better."""
        dtype = torch.promote_types(logits.dtype, torch.float32)
        step = max(1, LOGITS_AT_ONCE // logits.shape[2])
        for start in range(0, len(tokens), step):
            part = slice(start, start + step)
            # A copy of these positions alone, whatever the strides of the logits.
            yield part, logits[rows[part], columns[part]].to(dtype)

    @staticmethod
    def forward(logits, tokens, rows, columns):
        dtype = torch.promote_types(logits.dtype, torch.float32)
        chosen, total = torch.empty(2, len(tokens), dtype=dtype, device=logits.device)
        for part, z in _TokenLogProb._chunks(logits, tokens, rows, columns):
            chosen[part] = z.gather(1, tokens[part, None])[:, 0]
            total[part] = torch.logsumexp(z, dim=1)
        return chosen - total, total

    # Apart from the forward pass, without which torch.func would not take it.
    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs, output[1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream, _):
        logits, tokens, rows, columns, total = ctx.saved_tensors
        gradient = torch.zeros_like(logits)
        for part, z in _TokenLogProb._chunks(logits, tokens, rows, columns):
            slope = upstream[part, None]
            z = z.sub_(total[part, None]).exp_().mul_(-slope)
            z.scatter_add_(1, tokens[part, None], slope)
            gradient[rows[part], columns[part]] = z.to(gradient.dtype)
        return gradient, None, None, None


def sequence_logprob(logits: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """Return the log-probability of each sequence: the sum over its tokens that the mask marks.

    ``logits[:, t]`` must predict ``tokens[:, t]``. A causal language model predicts at each
    position the *next* token, so the caller shifts; with a model of Hugging Face, and a mask that
    is 1 on the tokens of the completion and 0 on the prompt and the padding::

        logits = model(input_ids, attention_mask=attention_mask).logits
        logprob = sequence_logprob(logits[:, :-1], input_ids[:, 1:], completion_mask[:, 1:])

    Softmax and sums are in float32 (float64 for float64 logits), for a part of the positions at a
    time. Beyond the logits and, in the backward pass, their gradient, both in the dtype of the
    logits, no array of their size is made.

    Parameters
    ----------
    logits : tensor of shape (n, n_positions, n_tokens)
        Unnormalised log-probabilities of the tokens, of any floating dtype.
    tokens : integer tensor of shape (n, n_positions)
        The tokens that were drawn.
    mask : tensor of shape (n, n_positions)
        True, or not zero, at the positions that count. Logits and tokens at the others are never
        looked at: they may be anything, such as -100 or NaN, and get a gradient of zero.

    Returns
    -------
    logprob : tensor of shape (n,)
        float64 if the logits are, else float32; 0 for a sequence without a token. Differentiable
        once.

    Raises
    ------
    ValueError
        If shapes do not match, `tokens` is not an integer tensor, or a token that counts is not in
        [0, n_tokens).

    Examples
    --------
    >>> import torch
    >>> from pnsklearn.losses import sequence_logprob
    >>> logits = torch.zeros(2, 3, 4)  # four tokens, each of probability 1/4
    >>> tokens = torch.tensor([[2, 0, 1], [3, -100, -100]])
    >>> sequence_logprob(logits, tokens, mask=tokens >= 0).exp()
    tensor([0.0156, 0.2500])
    """
    logprob, rows, columns = token_logprob(logits, tokens, mask)
    return logprob.new_zeros(mask.shape).index_put((rows, columns), logprob).sum(1)


def token_logprob(logits: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the log-probabilities of the tokens that the mask marks, their rows and columns."""
    if logits.ndim != 3 or not logits.shape[:2] == tokens.shape == mask.shape:
        raise ValueError(
            "logits must be of shape (n, n_positions, n_tokens), tokens and mask of shape "
            f"(n, n_positions); got {tuple(logits.shape)}, {tuple(tokens.shape)} and "
            f"{tuple(mask.shape)}."
        )
    if tokens.is_floating_point() or tokens.dtype == torch.bool:
        raise ValueError(f"tokens must be an integer tensor, got {tokens.dtype}.")
    rows, columns = mask.nonzero(as_tuple=True)
    counted = tokens[rows, columns].long()
    # On a GPU a bad index would otherwise end the process's use of it.
    _raise_failed(
        {
            f"tokens where mask is True must be in [0, {logits.shape[2]}), the last axis of "
            "logits.": ((counted >= 0) & (counted < logits.shape[2])).all()
        }
    )
    return _TokenLogProb.apply(logits, counted, rows, columns)[0], rows, columns
