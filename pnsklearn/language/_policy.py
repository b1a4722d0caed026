"""TOPRLanguagePolicy: the scikit-learn face of off-policy learning of a language model."""

import copy
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, _fit_context
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils._param_validation import Interval, StrOptions

from pnsklearn._device import check_device, check_installed
from pnsklearn._fitting import callback_tasks, replace_fitted, unchanged_on_error, warn_user
from pnsklearn._topr._feedback import check_contrast
from pnsklearn._typing import Array
from pnsklearn.language._checkpoint import Checkpoint
from pnsklearn.language._model import Runner, trainable_copy, trained
from pnsklearn.language._rounds import Task, rounds
from pnsklearn.language._sequences import Encoder, Sequences, check_list, check_log, sums
from pnsklearn.language._training import (
    OTHERS_MEAN,
    PROMPT_MEAN,
    Settings,
    informative_rows,
    make_log,
    train,
)
from pnsklearn.losses._topr import check_settings
from pnsklearn.metrics import effective_sample_size, snips_value

LEAST_EFFECTIVE_SHARE = (
    0.05  # share of the completions below which an off-policy value is warned of
)
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
        A tokenizer of Hugging Face, or an object with as much of one as is used:
        ``tokenizer(text, add_special_tokens=...)["input_ids"]``, ``decode(ids,
        skip_special_tokens=...)``, ``pad_token_id`` and ``eos_token_id``. None if prompts and
        completions are token ids.
    baseline : float, array-like of shape (n,), {"prompt-mean", "leave-one-out"}, default=0.0
        Subtracted from the rewards. A reward equal to it teaches nothing. An array has one for each
        completion of a fit; "prompt-mean" is the mean reward of the completions of the same prompt,
        and "leave-one-out" that of the others of them.
    effective_positive : float, default=None
        In place of `baseline`: the one for which good completions have this share in the sum of
        :math:`|R|`, computed from the rewards of each fit and each round.
    positive_bounds : (float, float), default=(1, 1)
        Bounds of the ratio where R ≥ 0.
    negative_bounds : (float, float), default=(0, 1)
        Bounds of the ratio where R < 0; with (0, 0) only good completions are learned from.
    ratio_level : {"sequence", "token"}, default="sequence"
        Whether the bounded ratio is that of the completion or, as in PPO, of each of its tokens.
    early_stopping : bool, default=False
        Whether to end a run whose policy collapses, with the best weights so far and a warning: if
        good completions of a fit lose more than 10 nats on the best epoch, for which the log is
        scored after each, or the share of invalid samples of a round grows by more than 0.3 on that
        of the round with the highest reward.
    optimizer : {"adamw", "adafactor"}, default="adamw"
        Both without weight decay. Adafactor keeps next to nothing for each weight; AdamW two
        numbers.
    learning_rate : float, default=1e-5
        Constant. For a model trained from nothing some 1e-3, for `lora` some 1e-4.
    n_epochs : int, default=1
        Passes over the completions, of a fit and of each round.
    batch_size : int, default=32
        Completions for each gradient step.
    shuffle : {"completions", "prompts"}, default="completions"
        What is put into random order for the batches. With "prompts" the completions of a prompt
        stay together, and the prompt is read once for all of them, see Notes.
    max_tokens : int, default=4096
        Tokens, with their padding, that go through the model at a time. It bounds the memory and
        does not change the steps of a fit; samples are drawn in such groups, and differ with it.
    temperature : float, default=1.0
        Divides the logits of the policy, where it is sampled and where it is trained.
    max_new_tokens : int, default=256
        Longest completion to write.
    lora : peft.PeftConfig, default=None
        Trains low-rank adapters in place of all weights, for example
        ``peft.LoraConfig(task_type="CAUSAL_LM", r=16)``.
    device : str, default="cpu"
        "cpu", "cuda" or "cuda:N", where the fitted model stays. On a GPU the passes are in
        bfloat16; the weights that are trained stay float32.
    random_state : int, RandomState instance or None, default=None
        Seed of the order of the completions and of the samples of `improve`.

    Attributes
    ----------
    model_ : torch.nn.Module
        The trained model, in evaluation mode; with `lora` that of peft.
    baseline_ : float or ndarray of shape (n,)
        The baseline, of the last round after `improve`; of each completion unless it is the same
        for all. Not there after a fit without rewards.
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
    history_ : list of Bunch
        What `TrainingMonitor` tells and ``TrainingDisplay`` shows: for each epoch of a fit, or each
        round of `improve`, ``n_steps``, ``positive_log_ratio`` and ``negative_log_ratio`` (means
        over the last epoch, each completion as it was learned from), ``seconds`` and
        ``tokens_per_second``; of rounds also ``value`` with ``low`` and ``high``, ``invalid`` and
        ``mean_length``.
    rounds_ : list of Bunch
        After `improve`, for each round what its samples were like, before it learned from them:
        ``value``, the mean reward as a named tuple (value, standard_error, low, high) with a 95 %
        interval, ``unfinished``, the share without an end, ``invalid``, ``mean_length`` in tokens,
        ``n_kept``, the completions learned from, and the ``diagnostics`` of its fit, or None if
        nothing could move the policy.

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

    A fit starts from `model`, and `improve` goes on from `model_`, if there is one. To go on with
    another log, make a policy of the fitted model: ``TOPRLanguagePolicy(policy.model_, ...)``. If
    it has adapters from `lora`, leave `lora` out: they are trained on.

    Gradients that are longer than 1 are cut to this length.

    A model of Hugging Face whose cache holds the keys and values of all tokens reads a prompt once
    for all of its completions that go through it at a time, in scoring, sampling and training. In
    a batch of random completions few have the same prompt; ``shuffle="prompts"`` keeps them
    together. Only those positions that predict a completion get logits, and no more than 128 MiB of
    them are kept for the backward pass.

    Memory, with P weights: 4 P bytes for `model`, 4 P for the copy that is trained, 4 P for its
    gradient and 8 P for AdamW, besides the activations of `max_tokens` tokens and their logits: of
    all of them, if the model has no such cache. `early_stopping` needs 4 P more. `lora` needs 4 P
    for the two models alone, if they are float16 or bfloat16.

    References
    ----------
    .. [1] N. Le Roux et al., "Tapered Off-Policy REINFORCE: Stable and efficient reinforcement
       learning for LLMs", NeurIPS 2025, equation 8.

    Examples
    --------
    A model that knows nothing learns to answer with a 7 from being told what was good. Its tokens
    are the digits, 10 for a question and 11 for the end:

    >>> import torch
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> from pnsklearn.language import TOPRLanguagePolicy
    >>> _ = torch.manual_seed(0)
    >>> config = LlamaConfig(
    ...     vocab_size=12, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
    ...     num_attention_heads=2, max_position_embeddings=8, bos_token_id=None, eos_token_id=11,
    ... )
    >>> policy = TOPRLanguagePolicy(
    ...     LlamaForCausalLM(config), learning_rate=1e-2, max_new_tokens=2, random_state=0
    ... )
    >>> def reward(prompts, completions):
    ...     return [1.0 if ids.tolist() == [7, 11] else -1.0 for ids in completions]
    >>> policy.improve([[10]], reward, n_rounds=10, n_samples=64).predict([[10]])
    array([array([ 7, 11])], dtype=object)
    """

    _parameter_constraints: dict = {  # noqa: RUF012, scikit-learn's form
        "model": "no_validation",
        "tokenizer": "no_validation",
        "baseline": [
            Interval(Real, None, None, closed="neither"),
            StrOptions({PROMPT_MEAN, OTHERS_MEAN}),
            "array-like",
        ],
        "effective_positive": [None, Interval(Real, 0, 1, closed="neither")],
        "positive_bounds": [tuple, list],
        "negative_bounds": [tuple, list],
        "ratio_level": [StrOptions({"sequence", "token"})],
        "early_stopping": ["boolean"],
        "optimizer": [StrOptions({"adamw", "adafactor"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "n_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "shuffle": [StrOptions({"completions", "prompts"})],
        "max_tokens": [Interval(Integral, 1, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "max_new_tokens": [Interval(Integral, 1, None, closed="left")],
        "lora": "no_validation",
        "device": [str],
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
        early_stopping=False,
        optimizer="adamw",
        learning_rate=1e-5,
        n_epochs=1,
        batch_size=32,
        shuffle="completions",
        max_tokens=4096,
        temperature=1.0,
        max_new_tokens=256,
        lora=None,
        device="cpu",
        random_state=None,
    ):
        self.model = model
        self.tokenizer = tokenizer
        self.baseline = baseline
        self.effective_positive = effective_positive
        self.positive_bounds = positive_bounds
        self.negative_bounds = negative_bounds
        self.ratio_level = ratio_level
        self.early_stopping = early_stopping
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.max_tokens = max_tokens
        self.temperature = temperature
        self.max_new_tokens = max_new_tokens
        self.lora = lora
        self.device = device
        self.random_state = random_state

    @unchanged_on_error
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        prompts: Any,
        completions: Any,
        sample_weight: Any = None,
        *,
        reward: Any = None,
        behavior_logprob: Any = None,
    ) -> Self:
        """Learn from completions that were written and what they were worth.

        Parameters
        ----------
        prompts : list of n strings, of n sequences of token ids, or of n lists of messages
            One for each completion. Messages, with "role" and "content", go through the tokenizer's
            chat template.
        completions : list of n strings, or of n sequences of token ids
            Strings get the tokenizer's end-of-sequence token, unless they are a
            :class:`TokenText` that was cut; token ids are taken as they are.
        sample_weight : array-like of shape (n,), default=None
            Non-negative weights.
        reward : array-like of shape (n,), default=None
            Rewards of the completions. None: all are equally good, which is supervised fine-tuning.
        behavior_logprob : array-like of shape (n,) or list of n lists, default=None
            Log-probability of each completion under the policy that wrote it, the sum over its
            tokens at the sampling temperature; or those of its tokens, as numbers or as a server
            returns them, see :func:`read_log`. None: it was the model before this fit, which
            scores them once.

        Returns
        -------
        self : TOPRLanguagePolicy
            The fitted policy.

        Raises
        ------
        ValueError
            If a prompt or a completion is empty or too long for the model's context, there are not
            as many prompts, weights, rewards or log-probabilities as completions, a reward is not
            finite or all equal the baseline, a log-probability is above 0, or the tokenizer has no
            pad token. All this is checked before any work. And if training diverges.
        TypeError
            If there are strings and no tokenizer, or neither strings nor token ids.
        """
        self._check_settings()
        sequences = self._encoder().sequences(prompts, completions)
        weight, reward, behavior_logprob = check_log(
            sequences, sample_weight, reward, behavior_logprob
        )
        if isinstance(behavior_logprob, np.ndarray) and self.ratio_level == "token":
            raise ValueError(
                "ratio_level='token' needs the log-probability of each token, not their sum in "
                "behavior_logprob. Give lists of them, or set ratio_level='sequence'."
            )
        settings = self._settings()
        if reward is None:  # all completions are good, and learned from whatever their ratio
            settings = settings._replace(positive_bounds=(1, 1))
        log = make_log(sequences, reward, weight, settings, behavior_logprob)
        check_contrast(reward, log.baseline)
        if not len(informative_rows(log, settings)):
            raise ValueError(
                "No completion can move the policy: the bounds of the ratio are (0, 0) where "
                "rewards are, or their weights are 0."
            )
        rng = check_random_state(self.random_state)
        runner = self._runner(self._start(rng))
        with callback_tasks(self, prompts, completions, self.n_epochs) as on_task:

            def after_epoch(history):
                so_far = {"model_": runner.model, "history_": history}
                return on_task("epoch", so_far.copy)

            fitted = train(runner, log, settings, rng, after_epoch)
            replace_fitted(self, {"model_": runner.model, **fitted})
        return self

    @unchanged_on_error
    @_fit_context(prefer_skip_nested_validation=True)
    def improve(
        self,
        prompts: Any,
        reward_fn: Any,
        n_rounds: int = 1,
        n_samples: int = 8,
        *,
        max_positive: int | None = None,
        is_valid: Any = None,
        checkpoint: Any = None,
    ) -> Self:
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
            as `sample` returns them, whose ``is_cut`` says whether they ran into
            `max_new_tokens`.
        n_rounds : int, default=1
            Number of rounds.
        n_samples : int, default=8
            Completions for each prompt and round.
        max_positive : int, default=None
            Learn from at most so many positive completions of a prompt, see
            :func:`cap_positives`; None for all.
        is_valid : callable, default=None
            ``is_valid(completion)`` returns whether a completion can be read at all, such as that
            there is an answer in it. Others count as invalid in `rounds_`, `history_` and for
            `early_stopping`. None: those that came to no end.
        checkpoint : str or Path, default=None
            Folder for the state after the last finished round, in a folder of its own:
            ``history.jsonl``, a line for each round, and the weights, as safetensors. If it has
            those of the same run, the call goes on from there, to what it would have come to
            without a break: a kill loses the round that was under way. Needs an integer
            `random_state`.

        Returns
        -------
        self : TOPRLanguagePolicy
            The policy, with `rounds_`.

        Raises
        ------
        ValueError
            If an argument is out of its range, `reward_fn` returns anything but one finite reward
            for each completion, or `checkpoint` is the folder of another run.
        TypeError
            If `reward_fn` is not a function, or a number of rounds or samples not an integer.
        """
        self._check_settings()
        prompts = check_list("prompts", prompts)
        if not isinstance(self.baseline, str) and np.ndim(self.baseline):
            raise ValueError(
                "baseline has one value for each completion of a log, but improve writes new ones. "
                "Set 'prompt-mean', 'leave-one-out' or a number."
            )
        ids = self._encoder().prompts(prompts, self.max_new_tokens)
        task = Task(prompts, ids, reward_fn, n_rounds, n_samples, max_positive, is_valid)
        settings, seed = self._settings(), check_random_state(self.random_state).randint(2**31 - 1)
        if hasattr(self, "model_"):
            model = copy.deepcopy(self.model_).to(self.device)
        else:
            model = self._start(np.random.RandomState(seed))
        saved = None if checkpoint is None else self._checkpoint(checkpoint, model, task)
        finished = {} if saved is None else saved.load(model)
        n_finished = len(finished.get("rounds_", []))
        if n_finished > n_rounds:
            raise ValueError(
                f"checkpoint has {n_finished} finished rounds, more than n_rounds={n_rounds}. "
                "Give an empty folder, or as many rounds."
            )
        with callback_tasks(self, prompts, None, n_rounds - n_finished) as on_task:
            fitted = finished
            for fitted in rounds(self._runner(model), task, settings, seed, finished, saved):
                if on_task("round", fitted.copy):
                    break
            replace_fitted(self, fitted)
        return self

    def sample(
        self, prompts: Any, n_samples: int = 1, *, as_tokens: bool = False, random_state: Any = None
    ) -> tuple[Array, Array]:
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
            Strings that remember their tokens, see :class:`TokenText`, or arrays of token ids.
        logprob : ndarray of shape (n_prompts, n_samples)
            Log-probability of each under the policy that wrote it.

        Raises
        ------
        ValueError
            If a prompt is empty, or leaves no room for `max_new_tokens` in the model's context.
        """
        self._check_settings()
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        encoder = self._encoder()
        ids = encoder.prompts(prompts, self.max_new_tokens)
        repeated = [tokens for tokens in ids for _ in range(n_samples)]
        runner = self._current_runner()
        tokens = runner.complete(repeated, check_random_state(random_state))
        logprob = runner.score(Sequences.join(repeated, tokens))
        texts = tokens if as_tokens else map(encoder.decode, tokens)
        shape = len(ids), n_samples
        return np.fromiter(texts, dtype=object).reshape(shape), logprob.reshape(shape)

    def predict(self, prompts: Any) -> Array:
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
        encoder = self._encoder()
        ids = encoder.prompts(prompts, self.max_new_tokens)
        return np.fromiter(map(encoder.decode, self._current_runner().complete(ids)), dtype=object)

    def logprob(self, prompts: Any, completions: Any, *, per_token: bool = False) -> Array:
        """Return the log-probability of each completion under the policy.

        Parameters
        ----------
        prompts, completions : list of n strings, or of n sequences of token ids
            As in `fit`.
        per_token : bool, default=False
            Return those of the tokens, which `fit` takes with ``ratio_level="token"``.

        Returns
        -------
        logprob : ndarray of shape (n,)
            Sums over the tokens, at `temperature`; with `per_token` arrays, dtype object.
        """
        self._check_settings()
        sequences, runner = self._encoder().sequences(prompts, completions), self._current_runner()
        if per_token:
            return np.fromiter(runner.score_tokens(sequences), dtype=object)
        return runner.score(sequences)

    def score(
        self,
        prompts: Any,
        completions: Any,
        sample_weight: Any = None,
        *,
        reward: Any = None,
        behavior_logprob: Any = None,
    ) -> float:
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
        sequences = self._encoder().sequences(prompts, completions)
        weight, reward, behavior_logprob = check_log(
            sequences, sample_weight, reward, behavior_logprob
        )
        if reward is None:
            raise ValueError("score needs the rewards of the completions.")
        if behavior_logprob is None:
            behavior_logprob = self._runner(self._start()).score(sequences)
        behavior_logprob = sums(behavior_logprob)
        kept = weight > 0
        weight, reward = weight[kept], reward[kept]
        log_ratio = (self._current_runner().score(sequences) - behavior_logprob)[kept]
        # Neither the size nor the value depends on the scale of the ratios, which may overflow.
        ratio, ones = np.exp(log_ratio - log_ratio.max()), np.ones_like(reward)
        size = effective_sample_size(ratio, ones, sample_weight=weight)
        if size < LEAST_EFFECTIVE_SHARE * weight.sum():
            warn_user(
                f"The value rests on an effective sample of {size:.1f} of {weight.sum():g} "
                "completions, because the policy writes others than those of the log. Do not trust "
                "it: sample from the policy, and take the mean of the rewards."
            )
        return float(snips_value(ratio, ones, reward, sample_weight=weight))

    def _check_settings(self):
        """Refuse what needs more than one parameter, or the machine, to be judged."""
        self._validate_params()
        check_device(self.device)
        if not isinstance(self.model, torch.nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {type(self.model).__name__}.")
        by_prompt = isinstance(self.baseline, str)
        check_settings(
            0.0 if by_prompt else self.baseline, self.positive_bounds, self.negative_bounds
        )
        if self.effective_positive is not None and (by_prompt or np.any(self.baseline)):
            raise ValueError("Set baseline or effective_positive, not both.")
        if self.lora is not None:
            check_installed("peft", "lora=", "llm")
            if not hasattr(self.lora, "peft_type"):
                raise TypeError(
                    f"lora must be a configuration of peft, got {type(self.lora).__name__}."
                )
        elif not trained(self.model):
            raise ValueError("model has no parameter to train (requires_grad=True).")
        if self.tokenizer is not None and self.tokenizer.pad_token_id is None:
            raise ValueError(
                "tokenizer has no pad token, which batches need. Set one, for example "
                "tokenizer.pad_token = tokenizer.eos_token."
            )

    def _settings(self):
        return Settings(**{name: getattr(self, name) for name in Settings._fields})

    def _encoder(self):
        return Encoder.of(self.model, self.tokenizer)

    def _start(self, rng=None):
        """Return a copy of the given model, ready to be trained."""
        return trainable_copy(self.model, self.lora, self.device, check_random_state(rng or 0))

    def _runner(self, model):
        limits = self.max_tokens, self.max_new_tokens
        return Runner(model, self.device, self._encoder(), self.temperature, *limits)

    def _current_runner(self):
        """Return what runs the fitted model, or the given one before a fit."""
        fitted = hasattr(self, "model_")
        return self._runner(self.model_.to(self.device) if fitted else self._start())

    def _checkpoint(self, folder, model, task):
        """Return the rounds of this run on disk."""
        if not isinstance(self.random_state, Integral):
            raise ValueError(
                "checkpoint needs an integer random_state, so that the rounds can go on as they "
                "would have."
            )
        settings = self.get_params(deep=False)
        for name in ("model", "tokenizer", "device", "lora"):
            del settings[name]
        lora = None if self.lora is None else self.lora.to_dict()
        run = settings, lora, task.ids, task.n_samples, task.max_positive
        return Checkpoint(folder, model, *run)

    def __getstate__(self):
        """Return the state for a pickle, which loads without the GPU that trained it too."""
        state = super().__getstate__()
        if "model_" in state and self.device != "cpu":
            state = {**state, "model_": copy.deepcopy(self.model_).cpu()}
        return state
