"""TOPRLanguagePolicy: the scikit-learn face of off-policy learning of a language model."""

import contextlib
import copy
import warnings
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, _fit_context
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from pnsklearn._device import check_device, check_installed
from pnsklearn._fitting import unchanged_on_error
from pnsklearn._topr._feedback import (
    LARGEST,
    LEVEL,
    baseline_for,
    check_contrast,
    describe_ratios,
)
from pnsklearn.language._checkpoint import Rounds, fingerprint
from pnsklearn.language._model import Runner
from pnsklearn.language._samples import cap_positives
from pnsklearn.language._sequences import (
    Sequences,
    check_context,
    check_count,
    check_positive_integer,
    encode,
)
from pnsklearn.language._training import DIVERGED, Log, Settings, make_optimizer, train_epoch
from pnsklearn.losses._topr import NOISE, _check_settings
from pnsklearn.metrics import ips_value, snips_value

FAR = 0.1  # mean |log-ratio| above which the behaviour was another model, or scored otherwise
FEW_EFFECTIVE = 0.05  # share of the completions below which an off-policy value is warned of
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
TRAINED = ("model_", "baseline_", "diagnostics_", "n_steps_", "rounds_")
REQUESTS = {"reward": True, "behavior_logprob": True}


class TOPRLanguagePolicy(CallbackSupportMixin, BaseEstimator):
    r"""Causal language model that learns from good and bad completions, off-policy.

    A log holds prompts x, completions y and their rewards, such as +1 for a right answer and -1 for
    a wrong one. With R the reward less the baseline and :math:`u = \log \pi(y \mid x) - \log \mu(y
    \mid x)`, the log-ratio of the whole completion to the policy μ that wrote it, each gradient
    step goes up [1]_

    .. math::

        \frac{1}{N} \sum_i \frac{w_i R_i}{l_i} \begin{cases} u_i & R_i \ge 0 \\
        \mathrm{ELU}(u_i) & R_i < 0 \end{cases}

    where l is the number of tokens of the completion: good completions are learned whatever their
    ratio, bad ones only in so far as the policy still writes them. There is no reference model
    beside μ, no penalty and no reward model. It is the loss of :func:`pnsklearn.losses.topr_loss`.

    Without a fit the methods that ask the policy, such as `sample`, ask `model` itself.

    Parameters
    ----------
    model : torch.nn.Module
        A causal language model of Hugging Face, or any module for which ``model(input_ids,
        attention_mask=attention_mask)`` returns logits of shape (n, n_tokens, n_vocabulary), or an
        object with them as ``.logits``; padding is on the right. It is left as it is. Weights in
        half precision are trained in float32.
    tokenizer : object, default=None
        A tokenizer of Hugging Face, or :class:`CharTokenizer`; None if prompts and completions are
        token ids.
    baseline : float, default=0.0
        Subtracted from the rewards. A reward equal to it teaches nothing.
    effective_positive : float, default=None
        In place of `baseline`: the one for which good completions have this share in the sum of
        :math:`|R|`, computed from the rewards of each fit and each round.
    positive_bounds : (float, float), default=(1, 1)
        Bounds of the ratio where R ≥ 0.
    negative_bounds : (float, float), default=(0, 1)
        Bounds of the ratio where R < 0; with (0, 0) only good completions are learned from.
    ratio_level : {"sequence", "token"}, default="sequence"
        Whether the bounded ratio is that of the completion or, as in PPO, of each of its tokens.
    optimizer : {"adamw", "adafactor"}, default="adamw"
        Both without weight decay. Adafactor keeps next to nothing for each weight; AdamW two
        numbers.
    learning_rate : float, default=1e-5
        Constant. For a model trained from nothing some 1e-3, for `lora` some 1e-4.
    n_epochs : int, default=1
        Passes over the completions, of a fit and of each round.
    batch_size : int, default=32
        Completions for each gradient step.
    max_tokens : int, default=4096
        Tokens, with their padding, that go through the model at a time. It bounds the memory and
        does not change the steps of a fit; samples are drawn in such groups, and differ with it.
    max_grad_norm : float, default=1.0
        Longer gradients are cut to this length.
    temperature : float, default=1.0
        Divides the logits of the policy, where it is sampled and where it is trained.
    max_new_tokens : int, default=256
        Longest completion to write.
    lora : peft.PeftConfig, default=None
        Trains low-rank adapters in place of all weights, for example
        ``peft.LoraConfig(task_type="CAUSAL_LM", r=16)``.
    mixed_precision : bool, default=True
        Run the passes in bfloat16 on a GPU; the weights that are trained stay float32.
    device : str, default="cpu"
        "cpu", "cuda" or "cuda:N", where the fitted model stays.
    warm_start : bool, default=False
        Go on from the fitted weights, whatever `model` is now, so that they are the behaviour
        policy too.
    random_state : int, RandomState instance or None, default=None
        Seed of the order of the completions and of the samples of `improve`.

    Attributes
    ----------
    model_ : torch.nn.Module
        The trained model, in evaluation mode; with `lora` that of peft.
    baseline_ : float
        The baseline, of the last round after `improve`. Not there after a fit without rewards.
    diagnostics_ : Bunch
        Of the last fit to rewards: the numbers of positives and negatives, ``effective_positive``,
        ``effective_sample_size``; of the ratios π / μ after the fit ``ratio_quantiles`` (at 5, 25,
        50, 75 and 95 %), ``largest_ratio``, the shares of the negatives above 1
        (``negative_above``) and below 0.01 (``negative_spent``); ``positive_log_ratio`` and
        ``negative_log_ratio``, means, of which both fall if the policy collapses; and
        ``start_log_ratio``, the mean of \|u\| before the first step, 0 unless `behavior_logprob`
        was given.
    n_steps_ : int
        Gradient steps of the last fit or round.
    rounds_ : list of Bunch
        After `improve`, for each round what its samples were like, before it learned from them:
        ``value``, the mean reward as a :class:`pnsklearn.metrics.ValueEstimate` with a 95 %
        interval, ``unfinished``, the share without an end, ``mean_length`` in tokens,
        ``n_kept``, the completions learned from, and the ``diagnostics`` of its fit, or None.

    Warns
    -----
    UserWarning
        If no reward is below the baseline, so that only good completions are learned from; if
        `behavior_logprob` is far from the model's own; in `score`, if the value rests on few
        completions.

    See Also
    --------
    pnsklearn.TOPRPolicy : The same for a choice among a few actions.
    pnsklearn.losses.topr_loss : The same for your own training loop.

    Notes
    -----
    Dropout is off, in training as well: it would change the ratio at random. The samples of
    `improve` and a fit without `behavior_logprob` take the log-probabilities of μ from the same
    computation as those of π, so that the ratio is 1, up to rounding, before the first step.

    Memory, with P weights: 4 P bytes for `model`, 4 P for the copy that is trained, 4 P for its
    gradient and 8 P for AdamW, besides the activations of `max_tokens` tokens and their logits, of
    `max_tokens` times the vocabulary. `lora` needs 4 P for the two models alone, if they are
    float16 or bfloat16.

    References
    ----------
    .. [1] N. Le Roux et al., "Tapered Off-Policy REINFORCE: Stable and efficient reinforcement
       learning for LLMs", NeurIPS 2025, equation 8.

    Examples
    --------
    A model that knows nothing learns to answer with a 7 from being told what was good:

    >>> import torch
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> from pnsklearn.language import CharTokenizer, TOPRLanguagePolicy
    >>> tokenizer = CharTokenizer("0123456789?")
    >>> _ = torch.manual_seed(0)
    >>> config = LlamaConfig(
    ...     vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
    ...     num_attention_heads=2, max_position_embeddings=8, pad_token_id=0, bos_token_id=None,
    ...     eos_token_id=1,
    ... )
    >>> policy = TOPRLanguagePolicy(
    ...     LlamaForCausalLM(config), tokenizer, learning_rate=1e-2, max_new_tokens=2,
    ...     random_state=0,
    ... )
    >>> def reward(prompts, completions):
    ...     return [1.0 if completion == "7" else -1.0 for completion in completions]
    >>> policy.improve(["?"], reward, n_rounds=10, n_samples=64).predict(["?"])
    array(['7'], dtype=object)
    """

    _parameter_constraints: dict = {  # noqa: RUF012, scikit-learn's form
        "model": "no_validation",
        "tokenizer": "no_validation",
        "baseline": [Interval(Real, None, None, closed="neither")],
        "effective_positive": [None, Interval(Real, 0, 1, closed="neither")],
        "positive_bounds": [tuple, list],
        "negative_bounds": [tuple, list],
        "ratio_level": [StrOptions({"sequence", "token"})],
        "optimizer": [StrOptions({"adamw", "adafactor"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "n_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_tokens": [Interval(Integral, 1, None, closed="left")],
        "max_grad_norm": [Interval(Real, 0, None, closed="neither")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "max_new_tokens": [Interval(Integral, 1, None, closed="left")],
        "lora": "no_validation",
        "mixed_precision": ["boolean"],
        "device": [str],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
    }

    __metadata_request__fit = REQUESTS
    __metadata_request__score = REQUESTS

    _doc_link_module = "pnsklearn"
    _doc_link_template = "generated/pnsklearn.language.{estimator_name}.html"

    def __init__(
        self,
        model,
        tokenizer=None,
        *,
        baseline=0.0,
        effective_positive=None,
        positive_bounds=(1, 1),
        negative_bounds=(0, 1),
        ratio_level="sequence",
        optimizer="adamw",
        learning_rate=1e-5,
        n_epochs=1,
        batch_size=32,
        max_tokens=4096,
        max_grad_norm=1.0,
        temperature=1.0,
        max_new_tokens=256,
        lora=None,
        mixed_precision=True,
        device="cpu",
        warm_start=False,
        random_state=None,
    ):
        self.model = model
        self.tokenizer = tokenizer
        self.baseline = baseline
        self.effective_positive = effective_positive
        self.positive_bounds = positive_bounds
        self.negative_bounds = negative_bounds
        self.ratio_level = ratio_level
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.max_tokens = max_tokens
        self.max_grad_norm = max_grad_norm
        self.temperature = temperature
        self.max_new_tokens = max_new_tokens
        self.lora = lora
        self.mixed_precision = mixed_precision
        self.device = device
        self.warm_start = warm_start
        self.random_state = random_state

    @unchanged_on_error
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, prompts, completions, sample_weight=None, *, reward=None, behavior_logprob=None):
        """Learn from completions that were written and what they were worth.

        Parameters
        ----------
        prompts : list of n strings, or of n sequences of token ids
            One for each completion.
        completions : list of n strings, or of n sequences of token ids
            Strings get the tokenizer's end-of-sequence token; token ids are taken as they are.
        sample_weight : array-like of shape (n,), default=None
            Non-negative weights.
        reward : array-like of shape (n,), default=None
            Rewards of the completions. None: all are equally good, which is supervised fine-tuning.
        behavior_logprob : array-like of shape (n,), default=None
            Log-probability of each completion under the policy that wrote it, the sum over its
            tokens at the sampling temperature. None: it was the model before this fit, which
            scores them once.

        Returns
        -------
        self : TOPRLanguagePolicy
            The fitted policy.

        Raises
        ------
        ValueError
            If a prompt or a completion is empty or too long for the model's context, numbers
            differ, a reward is not finite or all equal the baseline, a log-probability is above 0,
            or the tokenizer has no pad token. Before any work.
        TypeError
            If there are strings and no tokenizer, or neither strings nor token ids.
        """
        self._check_settings()
        sequences = self._encode(prompts, completions)
        weight = self._check_weight(sample_weight, len(sequences.tokens))
        if reward is not None:
            reward = check_count("reward", reward, len(weight))
        behavior = self._check_behavior(behavior_logprob, reward, len(weight))
        baseline = self._baseline(reward, weight)
        check_contrast(reward, baseline)
        if not len(self._movers(reward, baseline, weight)):
            raise ValueError(
                "No completion can move the policy: the bounds of the ratio are (0, 0) where "
                "rewards are, or their weights are 0."
            )
        rng = check_random_state(self.random_state)
        go_on = self.warm_start and hasattr(self, "model_")
        runner = self._runner(self._copy(self.model_) if go_on else self._start(rng))
        with self._tasks(self.n_epochs, prompts, completions) as on_task:
            fitted = self._train(
                runner, sequences, reward, baseline, weight, behavior, rng, "epoch", on_task
            )
        self._set(fitted)
        return self

    @unchanged_on_error
    @_fit_context(prefer_skip_nested_validation=True)
    def improve(
        self, prompts, reward_fn, n_rounds=1, n_samples=8, *, max_positive=None, checkpoint=None
    ):
        """Sample completions from the policy, ask for their rewards, and learn from them.

        Each round learns from its own samples alone, goes on from the present weights, and starts
        a new optimizer. It draws from a seed of its own. Calls with the same integer `random_state`
        draw alike.

        Parameters
        ----------
        prompts : list of strings, or of sequences of token ids
            The prompts, each once.
        reward_fn : callable
            ``reward_fn(prompts, completions)`` returns one reward for each completion. It gets two
            lists of equal length, each prompt `n_samples` times, one after the other; completions
            as `sample` returns them. A text does not show whether it was cut off at
            `max_new_tokens`: let the form of an answer do so, or work with token ids.
        n_rounds : int, default=1
            Number of rounds.
        n_samples : int, default=8
            Completions for each prompt and round.
        max_positive : int, default=None
            Learn from at most so many positive completions of a prompt, see
            :func:`cap_positives`; None for all.
        checkpoint : str or Path, default=None
            Folder for the state after the last finished round. If it has one of the same run, the
            call goes on from there, to what it would have come to without a break: a kill loses
            the round that was under way. Needs an integer `random_state`.

        Returns
        -------
        self : TOPRLanguagePolicy
            The policy, with `rounds_`.

        Raises
        ------
        ValueError
            If an argument is out of its range, `reward_fn` returns anything but one finite reward
            for each completion, or `checkpoint` is the folder of another run.
        """
        self._check_settings()
        check_positive_integer("n_rounds", n_rounds)
        check_positive_integer("n_samples", n_samples)
        if max_positive is not None:
            check_positive_integer("max_positive", max_positive)
        if not callable(reward_fn):
            raise TypeError(f"reward_fn must be a function, got {type(reward_fn).__name__}.")
        prompts = prompts if isinstance(prompts, str) else list(prompts)
        ids = self._encode_prompts(prompts)
        # One seed for each round, so that a round does not depend on how the others were run.
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        runner = self._runner(
            self._copy(self.model_)
            if hasattr(self, "model_")
            else self._start(np.random.RandomState(seed))
        )
        on_disk = self._open(checkpoint, runner.model, ids, n_samples, max_positive)
        fitted, rounds = {}, []
        if on_disk is not None and (found := on_disk.load()) is not None:
            state, weights = found
            if len(state["rounds"]) > n_rounds:
                raise ValueError(
                    f"checkpoint has {len(state['rounds'])} finished rounds, more than n_rounds="
                    f"{n_rounds}. Give an empty folder, or as many rounds."
                )
            _set_weights(runner.model, weights)
            rounds = [_from_json(entry) for entry in state["rounds"]]
            fitted = {"model_": runner.model, **_from_json(state["fitted"])}
        with self._tasks(n_rounds - len(rounds), prompts, None) as on_task:
            for i in range(len(rounds), n_rounds):
                rng = np.random.RandomState((seed + i) % 2**32)
                learned, entry = self._round(
                    runner, prompts, ids, reward_fn, n_samples, max_positive, rng, first=i == 0
                )
                rounds.append(entry)
                fitted = {"model_": runner.model, **learned}
                if on_disk is not None:
                    state = {"rounds": rounds, "fitted": learned}
                    on_disk.save(i + 1, state, _weights(runner.model))
                if on_task("round", {**fitted, "rounds_": list(rounds)}):
                    break
        self._set({**fitted, "rounds_": rounds})
        return self

    def _round(self, runner, prompts, ids, reward_fn, n_samples, max_positive, rng, first):
        """Return the fitted attributes after a round, and what is to know about it."""
        order = np.repeat(np.arange(len(ids)), n_samples)
        drawn = runner.complete(
            [ids[i] for i in order],
            self.max_new_tokens,
            greedy=False,
            seed=rng.randint(2**31 - 1),
        )
        reward = reward_fn([prompts[i] for i in order], [self._decode(tokens) for tokens in drawn])
        if reward is None:
            raise ValueError("reward_fn must return one reward for each completion, got None.")
        reward = check_count("reward_fn's result", reward, len(drawn))
        # The samples of a prompt are no independent rows: their mean is one.
        mean, ones = reward.reshape(-1, n_samples).mean(axis=1), np.ones(len(ids))
        entry = Bunch(
            value=ips_value(ones, ones, mean, confidence_level=LEVEL),
            unfinished=float(np.mean([tokens[-1] not in runner.end_ids for tokens in drawn])),
            mean_length=float(np.mean([len(tokens) for tokens in drawn])),
        )
        weight = np.ones(len(reward))
        baseline = self._baseline(reward, weight)
        if first and (reward != baseline).any():
            check_contrast(reward, baseline)
        kept = np.ones(len(reward), dtype=bool)
        if max_positive is not None:
            kept = cap_positives(order, reward, max_positive, baseline=baseline, random_state=rng)
            baseline = self._baseline(reward[kept], weight[kept])
        entry.n_kept = int(kept.sum())
        if not len(self._movers(reward[kept], baseline, weight[kept])):
            learned = {"baseline_": baseline, "n_steps_": 0}
        else:
            rows = np.flatnonzero(kept)
            sequences = Sequences.join([ids[i] for i in order[rows]], [drawn[i] for i in rows])
            learned = self._train(
                runner, sequences, reward[rows], baseline, weight[rows], None, rng
            )
            del learned["model_"]
        entry.diagnostics = learned.get("diagnostics_")
        return learned, entry

    def _train(
        self, runner, sequences, reward, baseline, weight, behavior, rng, name=None, on_task=None
    ):
        """Train the runner's model in place; return the fitted attributes."""
        gain, bounds = self._gain_and_bounds(reward, baseline, weight)
        rows = self._movers(reward, baseline, weight)
        # Without rewards there is no bounded ratio, and its value is of no consequence.
        start = np.zeros_like(gain) if reward is None else runner.score(sequences)
        if behavior is None:
            behavior = start
        else:
            _warn_far(start - behavior)
        moving = sequences.take(rows)
        of_log = runner.score_tokens(moving) if self.ratio_level == "token" else behavior[rows]
        log = Log(moving, gain[rows], weight[rows], of_log)
        settings = Settings(
            bounds,
            self.ratio_level,
            self.optimizer,
            self.learning_rate,
            self.batch_size,
            self.max_grad_norm,
        )
        optimizer, n_steps = make_optimizer(settings, runner.model), 0
        for _ in range(self.n_epochs):
            n_steps += train_epoch(runner, log, settings, optimizer, rng)
            if on_task is not None and on_task(name, {"model_": runner.model}):
                break
        runner.model.zero_grad(set_to_none=True)
        fitted = {"model_": runner.model, "n_steps_": n_steps}
        if reward is not None:
            log_ratio = runner.score(sequences) - behavior
            if not np.isfinite(log_ratio).all():
                raise ValueError(DIVERGED)
            counted = weight > 0
            fitted["baseline_"] = baseline
            fitted["diagnostics_"] = Bunch(
                **describe_ratios(log_ratio[counted], (weight * gain)[counted], weight[counted]),
                ratio_quantiles=np.exp(
                    np.minimum(np.quantile(log_ratio[counted], QUANTILES), LARGEST)
                ).tolist(),
                start_log_ratio=float(np.abs(start - behavior)[counted].mean()),
            )
        return fitted

    def sample(self, prompts, n_samples=1, *, as_tokens=False, random_state=None):
        """Write completions, with the log-probabilities to log beside them.

        Parameters
        ----------
        prompts : list of strings, or of sequences of token ids
            Prompts.
        n_samples : int, default=1
            Completions of each.
        as_tokens : bool, default=False
            Return token ids, with the end-of-sequence token where there is one, in place of text,
            which a tokenizer may split otherwise than it was written.
        random_state : int, RandomState instance or None, default=None
            Seed.

        Returns
        -------
        completions : ndarray of shape (n_prompts, n_samples), object
            Strings, or arrays of token ids.
        logprob : ndarray of shape (n_prompts, n_samples)
            Log-probability of each under the policy that wrote it.

        Raises
        ------
        ValueError
            If a prompt is empty, or leaves no room for `max_new_tokens` in the model's context.
        """
        self._check_settings()
        check_positive_integer("n_samples", n_samples)
        ids = self._encode_prompts(prompts)
        repeated = [tokens for tokens in ids for _ in range(n_samples)]
        runner = self._current()
        seed = check_random_state(random_state).randint(2**31 - 1)
        drawn = runner.complete(repeated, self.max_new_tokens, greedy=False, seed=seed)
        logprob = runner.score(Sequences.join(repeated, drawn))
        shape = len(ids), n_samples
        written = drawn if as_tokens else [self._decode(tokens) for tokens in drawn]
        return _objects(written).reshape(shape), logprob.reshape(shape)

    def predict(self, prompts):
        """Write the completion of each prompt whose every token is the likeliest.

        Parameters
        ----------
        prompts : list of strings, or of sequences of token ids
            Prompts.

        Returns
        -------
        completions : ndarray of shape (n_prompts,), object
            Strings; arrays of token ids without a tokenizer.
        """
        self._check_settings()
        ids = self._encode_prompts(prompts)
        drawn = self._current().complete(ids, self.max_new_tokens, greedy=True, seed=0)
        return _objects([self._decode(tokens) for tokens in drawn])

    def logprob(self, prompts, completions):
        """Return the log-probability of each completion under the policy.

        Parameters
        ----------
        prompts, completions : list of n strings, or of n sequences of token ids
            As in `fit`.

        Returns
        -------
        logprob : ndarray of shape (n,)
            Sums over the tokens, at `temperature`.
        """
        self._check_settings()
        return self._current().score(self._encode(prompts, completions))

    def score(
        self, prompts, completions, sample_weight=None, *, reward=None, behavior_logprob=None
    ):
        """Return the off-policy estimate of the policy's value: its mean reward.

        It is the self-normalised mean of the rewards, weighted with the ratios of the policy to the
        one that wrote the completions. It means something for a policy near to that one, and says
        so; else sample and count.

        Parameters
        ----------
        prompts, completions : list of n strings, or of n sequences of token ids
            A log that the policy was not fitted to.
        sample_weight : array-like of shape (n,), default=None
            Non-negative weights.
        reward : array-like of shape (n,)
            Rewards of the completions.
        behavior_logprob : array-like of shape (n,), default=None
            As in `fit`; None: `model`, as it was given, wrote them.

        Returns
        -------
        value : float
            The estimate.

        Raises
        ------
        ValueError
            If there are no rewards, and as in `fit`.
        """
        self._check_settings()
        sequences = self._encode(prompts, completions)
        weight = self._check_weight(sample_weight, len(sequences.tokens))
        if reward is None:
            raise ValueError("score needs the rewards of the completions.")
        reward = check_count("reward", reward, len(weight))
        behavior = self._check_behavior(behavior_logprob, reward, len(weight), level="sequence")
        if behavior is None:
            behavior = self._runner(self._start(check_random_state(0))).score(sequences)
        kept = weight > 0
        log_ratio = (self._current().score(sequences) - behavior)[kept]
        # The estimate does not depend on the scale of the ratios, which may overflow.
        ratio, ones = np.exp(log_ratio - log_ratio.max()), np.ones(kept.sum())
        found = describe_ratios(log_ratio, reward[kept], weight[kept])
        size = found.effective_sample_size
        if size < FEW_EFFECTIVE * weight.sum():
            warnings.warn(
                f"The value rests on an effective sample of {size:.1f} of {weight.sum():g} "
                "completions: the policy writes others than the log has. Do not trust it; sample "
                "from the policy and take the mean of the rewards.",
                UserWarning,
                stacklevel=2,
            )
        return float(snips_value(ratio, ones, reward[kept], sample_weight=weight[kept]))

    def _check_settings(self):
        """Refuse what needs more than one parameter, or the machine, to be judged."""
        self._validate_params()
        check_device(self.device)
        if not isinstance(self.model, torch.nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {type(self.model).__name__}.")
        _check_settings(self.baseline, self.positive_bounds, self.negative_bounds)
        if self.effective_positive is not None and self.baseline != 0:
            raise ValueError("Set baseline or effective_positive, not both.")
        if self.lora is not None:
            check_installed("peft", "lora=", "llm")
            if not hasattr(self.lora, "peft_type"):
                raise TypeError(
                    f"lora must be a configuration of peft, got {type(self.lora).__name__}."
                )
        elif not any(p.requires_grad for p in self.model.parameters()):
            raise ValueError("model has no parameter to train (requires_grad=True).")
        if self.tokenizer is not None and self.tokenizer.pad_token_id is None:
            raise ValueError(
                "tokenizer has no pad token, which batches need. Set one, for example "
                "tokenizer.pad_token = tokenizer.eos_token."
            )

    def _check_weight(self, sample_weight, n):
        weight = (
            np.ones(n) if sample_weight is None else check_count("sample_weight", sample_weight, n)
        )
        if (weight < 0).any() or not weight.any():
            raise ValueError("sample_weight must not be negative, and positive for a completion.")
        return weight

    def _check_behavior(self, behavior_logprob, reward, n, level=None):
        """Return the checked log-probabilities; None stays None."""
        if behavior_logprob is None:
            return None
        if reward is None:
            raise ValueError("behavior_logprob needs rewards: without them there is no ratio.")
        if (level or self.ratio_level) == "token":
            raise ValueError(
                "ratio_level='token' needs the log-probability of each token, not their sum in "
                "behavior_logprob. Leave it out, or set ratio_level='sequence'."
            )
        behavior = check_count("behavior_logprob", behavior_logprob, n)
        if (above := behavior.max()) > NOISE:
            raise ValueError(
                f"behavior_logprob must not exceed 0, got {above:g}: a log-probability is at most "
                "0. Are they probabilities, or negative log-probabilities?"
            )
        return behavior

    def _baseline(self, reward, weight):
        """Return the baseline, None without rewards."""
        if reward is None:
            return None
        if self.effective_positive is None:
            return float(self.baseline)
        return baseline_for(reward, self.effective_positive, weight)

    def _gain_and_bounds(self, reward, baseline, weight):
        """Return the rewards less the baseline, and the bounds of the ratio."""
        if reward is None:  # all are good
            return np.ones_like(weight), {"positive_bounds": (1, 1), "negative_bounds": (0, 1)}
        names = "positive_bounds", "negative_bounds"
        return reward - baseline, {name: getattr(self, name) for name in names}

    def _movers(self, reward, baseline, weight):
        """Return the rows that can move the policy: their ratio is not bounded by zero."""
        gain, bounds = self._gain_and_bounds(reward, baseline, weight)
        high = np.where(gain > 0, *(high for _, high in bounds.values()))
        return np.flatnonzero((weight > 0) & (gain != 0) & (high > 0))

    def _end_ids(self):
        """Return the tokens that end a completion, the tokenizer's first."""
        ends = [getattr(self.tokenizer, "eos_token_id", None)]
        for config in ("config", "generation_config"):
            configured = getattr(getattr(self.model, config, None), "eos_token_id", None)
            ends += configured if isinstance(configured, list) else [configured]
        return tuple(dict.fromkeys(end for end in ends if end is not None))

    def _context(self):
        """Return the most tokens that the model takes, None if it does not say."""
        return getattr(getattr(self.model, "config", None), "max_position_embeddings", None)

    def _encode(self, prompts, completions):
        """Return the checked sequences of a log."""
        ends = self._end_ids()
        prompts = encode("prompts", prompts, self.tokenizer, ends)
        completions = encode("completions", completions, self.tokenizer, ends)
        if len(prompts) != len(completions):
            raise ValueError(
                f"prompts and completions must be as many, got {len(prompts)} and "
                f"{len(completions)}. Repeat a prompt for each of its completions."
            )
        sequences = Sequences.join(prompts, completions)
        self._check_vocabulary(sequences.tokens)
        check_context(
            "completions",
            sequences.sizes,
            self._context(),
            "has {size} tokens with its prompt",
        )
        return sequences

    def _encode_prompts(self, prompts):
        """Return the checked prompts, with room for their completions."""
        ids = encode("prompts", prompts, self.tokenizer, self._end_ids())
        self._check_vocabulary(ids)
        check_context(
            "prompts",
            np.array([len(tokens) + self.max_new_tokens for tokens in ids]),
            self._context(),
            "has {size} tokens with max_new_tokens",
        )
        return ids

    def _check_vocabulary(self, ids):
        size = getattr(getattr(self.model, "config", None), "vocab_size", None)
        largest = max(tokens.max() for tokens in ids)
        if size is not None and largest >= size:
            raise ValueError(
                f"There is a token id {largest}, and the model knows those below {size}. Is the "
                "tokenizer that of the model?"
            )

    def _decode(self, tokens):
        """Return the text of a completion; without a tokenizer its token ids."""
        if self.tokenizer is None:
            return tokens
        return self.tokenizer.decode(tokens.tolist(), skip_special_tokens=True)

    def _start(self, rng):
        """Return a copy of the given model, ready to be trained."""
        model = copy.deepcopy(self.model)
        if self.lora is not None:
            from peft import get_peft_model

            with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
                torch.manual_seed(rng.randint(2**31 - 1))
                model = get_peft_model(model, self.lora)
        elif any(p.dtype in (torch.float16, torch.bfloat16) for p in model.parameters()):
            # Steps of a small rate are lost in the rounding of half precision.
            model.float()
        return model.to(self.device).eval()

    def _copy(self, model):
        return copy.deepcopy(model).to(self.device)

    def _current(self):
        """Return what runs the fitted model, or the given one."""
        if hasattr(self, "model_"):
            return self._runner(self.model_.to(self.device))
        return self._runner(self._start(check_random_state(0)))

    def __getstate__(self):
        """Return the state for a pickle, which loads without the GPU that trained it too."""
        state = super().__getstate__()
        if "model_" in state and self.device != "cpu":
            state = {**state, "model_": copy.deepcopy(self.model_).cpu()}
        return state

    def _runner(self, model):
        return Runner(
            model,
            self.device,
            getattr(self.tokenizer, "pad_token_id", 0),
            self._end_ids(),
            self.temperature,
            self.max_tokens,
            self.mixed_precision,
        )

    def _open(self, checkpoint, model, ids, n_samples, max_positive):
        """Return the rounds of this run on disk, None without a folder."""
        if checkpoint is None:
            return None
        if not isinstance(self.random_state, Integral):
            raise ValueError(
                "checkpoint needs an integer random_state, so that the rounds can go on as they "
                "would have."
            )
        settings = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in self.get_params(deep=False).items()
            if name not in ("model", "tokenizer", "device", "lora")
        }
        prompts = [tokens.tolist() for tokens in ids]
        lora = {} if self.lora is None else self.lora.to_dict()
        lora = {k: sorted(v) if isinstance(v, set) else str(v) for k, v in lora.items()}
        run = fingerprint(settings, lora, prompts, n_samples, max_positive)
        return Rounds(checkpoint, run, _weights(model))

    @contextlib.contextmanager
    def _tasks(self, n, X, y):
        """Provide ``on_task(name, attributes)``, which callbacks answer: True to stop."""
        context = self._init_callback_context(max_subtasks=n)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)

        def on_task(name, attributes):
            task = context.subcontext(task_name=name)
            task.call_on_fit_task_begin(estimator=self, X=X, y=y)
            return task.call_on_fit_task_end(
                estimator=self, X=X, y=y, reconstruction_attributes=lambda: attributes
            )

        yield on_task
        context.call_on_fit_task_end(estimator=self, X=X, y=y, reconstruction_attributes={})

    def _set(self, fitted):
        for name in TRAINED:
            vars(self).pop(name, None)
        for name, value in fitted.items():
            setattr(self, name, value)


def _warn_far(log_ratio):
    distance = np.abs(log_ratio).mean()
    if distance > FAR:
        warnings.warn(
            f"behavior_logprob differs from the model's own log-probabilities by {distance:.2g} in "
            "the mean before the first step. If the model wrote the completions, leave "
            "behavior_logprob out: it was computed with another dtype, temperature or chat "
            "template. If another did, nothing is wrong.",
            UserWarning,
            stacklevel=5,
        )


def _objects(values):
    """Return a one-dimensional array of objects, also of arrays of equal length."""
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array


def _weights(model):
    """Return the parameters that are trained."""
    return {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


@torch.no_grad()
def _set_weights(model, weights):
    for name, parameter in model.named_parameters():
        if name in weights:
            parameter.copy_(weights[name])


def _from_json(entry):
    """Return a round, or fitted attributes, as they were before they were written."""
    from pnsklearn.metrics._off_policy import ValueEstimate

    entry = Bunch(**entry)
    for name, value in entry.items():
        if name == "value":
            entry[name] = ValueEstimate(*value)
        elif isinstance(value, dict):
            entry[name] = Bunch(**value)
    return entry
