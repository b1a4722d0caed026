"""TOPRPolicy: the scikit-learn face of off-policy learning from logged decisions."""

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.utils import Bunch, check_random_state, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from pnsklearn._device import check_device, check_torch
from pnsklearn._fitting import callback_tasks, replace_fitted, unchanged_on_error, warn_user
from pnsklearn._habits import FitMixin
from pnsklearn._logged import ROUTING, draw, refuse_score
from pnsklearn._optim import batches
from pnsklearn._splits import SplitterMixin, split_metadata
from pnsklearn._topr import _evaluation
from pnsklearn._topr._diagnostics import diagnose
from pnsklearn._topr._doubt import warn_of_outcomes, warn_of_value
from pnsklearn._topr._feedback import (
    Feedback,
    baseline_for,
    check_contrast,
    check_log,
    contrasting,
    read_log,
)
from pnsklearn._topr._rounds import ask, own_stream, value_of_round
from pnsklearn._topr._selection import (
    C_FACTORS,
    MEMBERS,
    acting,
    make_splits,
    resolve_bounds,
    select,
)
from pnsklearn._topr._training import (
    Training,
    linear_logits,
    log_softmax_of,
    make_objective,
    train_on_piece,
)
from pnsklearn._typing import Array, Matrix
from pnsklearn._validation import check_X
from pnsklearn.exceptions import PolicyWarning
from pnsklearn.metrics._off_policy import widen_policy

REQUESTS = {"reward": True, "propensity": True}


def _learns_by_piece(estimator):
    if estimator.bounds == "cv" or estimator.baseline == "auto":
        raise AttributeError(
            "partial_fit cannot choose from the whole log: set bounds='topr' and baseline=0, say."
        )
    if estimator.module is not None:
        raise AttributeError("partial_fit needs a linear policy, without a module.")
    if estimator.effective_positive is not None:
        raise AttributeError(
            "partial_fit cannot know effective_positive, which is of the whole log. Set baseline "
            "instead."
        )
    return True


class TOPRPolicy(FitMixin, SplitterMixin, ClassifierMixin, BaseEstimator):
    r"""Policy learned off-line from logged decisions and their rewards.

    A log holds contexts x, the action a that was taken, the probability with which it was taken
    (its propensity :math:`\mu(a \mid x)`) and the reward r. The policy :math:`\pi(a \mid x)` is a
    softmax of linear scores (or of a torch module's). Good decisions are imitated whatever their
    ratio :math:`\pi / \mu`, bad ones are unlearned only in so far as the policy still makes them
    [1]_:

    .. math::

        \nabla J = \sum_{R \ge 0} R \, \nabla \log \pi
                   + \sum_{R < 0} \min(\pi / \mu, 1) \, R \, \nabla \log \pi,
        \qquad R = r - \text{baseline}.

    That is ``bounds="topr"``, the gradient of a scalar objective that is bounded above (with
    :math:`u = \log \pi / \mu`, R (1 + u) for R >= 0 and R e^u for R < 0 while u <= 0), and is
    maximised to the end, without a learning rate. While no bad decision has :math:`\pi > \mu`, it
    is a lower bound of the inverse propensity estimate of the policy's mean R. Other bounds of the
    ratio make other objectives; by default they are chosen by the cross-fitted value of the policy.

    The actions are the labels y, so the policy is a classifier to scikit-learn. Rewards and
    propensities are metadata, requested by default: with
    ``sklearn.set_config(enable_metadata_routing=True)`` searches and cross-validation take them as
    ``params=`` or keywords. Without routing, give a y of
    :func:`pnsklearn.datasets.make_feedback`. Read more in the :ref:`User Guide <topr>`.

    Parameters
    ----------
    bounds : {"cv", "topr", "is", "tis", "positives"} or pair of pairs, default="cv"
        What is optimised: the ratio :math:`\pi / \mu` is clipped to the first pair (low, high) for
        R >= 0 and to the second for R < 0 [1, equation 7]; high may be infinite.

        - "topr": (1, 1) and (0, 1), the update above;
        - "is": (0, inf) twice, importance sampling, whose optimum is the best policy if the log is
          large; with many local optima, of which L-BFGS keeps the better of two, from the uniform
          policy and from that of the good decisions only;
        - "tis": (0, 1) twice, its truncated form, which noise disturbs least;
        - "positives": (1, 1) and (0, 0), imitates good decisions.

        "cv" chooses among the first three, and "topr" with the baseline at which good and bad
        decisions have equal size, together with `C`, by the cross-fitted doubly robust value of the
        policy, see `selection_`. A `module` is trained twelve times for it, at the given `C`.

    C : float, default=1.0
        Inverse strength of the L2 penalty, as in logistic regression: it multiplies the *sum* over
        the rows. ``bounds="cv"`` tries 0.1, 1 and 10 times it, but with a `module`.

    act : {"best", "sample"}, default="best"
        How the policy will act, which ``bounds="cv"`` judges it by: as `predict` or as `sample`.

    cv : int, cross-validation generator or iterable, default=3
        Splits for ``bounds="cv"``; an int deals out the rows of each action.

    n_jobs : int or None, default=None
        Splits fitted at a time; None is one, -1 is one for each core. The result is the same.

    baseline : "auto" or float, default="auto"
        What is subtracted from the rewards. A decision is good if its reward is larger. "auto" is 0
        if there are rewards above and below it, and else, for clicks or costs, their mean.

    effective_positive : float or None, default=None
        Chooses the baseline so that the good decisions have this share, in (0, 1), of all
        :math:`|R|`; ``baseline=mean`` has one half.

    fit_intercept : bool, default=True
        Whether the linear scores have an intercept, which is not penalised.

    solver : {"auto", "lbfgs", "adam"}, default="auto"
        L-BFGS on all rows, or Adam on batches of `batch_size` rows. "auto" is "lbfgs" for a linear
        policy, and "adam" for a module, which has no other.

    max_iter : int, default=1000
        Most iterations of L-BFGS.

    tol : float, default=1e-4
        Largest entry of the gradient, for the sum over the rows divided by C times the sum of
        :math:`|R|`, at which L-BFGS stops.

    batch_size : int, default=64
        Rows in a step of "adam".

    learning_rate : float, default=0.02
        First step size of "adam"; it falls to zero along a cosine, but not in `partial_fit`.

    n_epochs : int, default=20
        Passes of "adam" over the rows.

    module : torch.nn.Module or None, default=None
        Network that maps a batch of contexts to one logit for each action, in sorted order. It is
        copied, never changed.

    device : str, default="cpu"
        "cpu", "cuda" or "cuda:N". Fitted attributes are on the CPU in any case.

    warm_start : bool, default=False
        Whether to start from the last fit's weights.

    random_state : int, RandomState instance or None, default=None
        Seed of "adam", and of the samples of `improve`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_actions,)
        The actions that occur in the log.

    coef_ : ndarray of shape (n_actions, n_features), or (1, n_features) for two actions
        Weights of the scores; absent with a `module`.

    intercept_ : ndarray of shape (n_actions,), or (1,) for two actions
        Intercepts of the scores; absent with a `module`.

    module_ : torch.nn.Module
        The trained network, on the CPU; only with a `module`.

    baseline_ : float
        The baseline that was used; absent if there were no rewards.

    bounds_ : str or pair of pairs
        The bounds that were used.

    C_ : float
        The C that was used.

    selection_ : Bunch
        Of ``bounds="cv"``, with an entry for each candidate: its ``bounds``, ``baseline`` and
        ``C``, its cross-fitted ``value`` with ``standard_error``, and its ``gain`` over the log
        with ``gain_standard_error``, by ratios cut at the root of the number of rows; the same as
        ``calm_gain`` and ``calm_gain_standard_error`` by ratios cut at the cube root, with less
        noise and more bias; and its ``effective_sample_size``. Further the value of the log,
        ``logged``, and ``best_index``, the candidate with the largest ``calm_gain``, which was
        taken.

    diagnostics_ : Bunch
        Of the last fit to rewards. ``n_positive`` and ``n_negative``: weight of the rows with R > 0
        and R < 0; ``effective_positive``: share of the former in the sum of :math:`|R|`;
        ``effective_sample_size`` and ``largest_ratio`` of :math:`\pi / \mu`; of the bad decisions
        the shares with a ratio above 1 (``negative_above``; the bound need not hold there) and
        below 0.01 (``negative_spent``; nothing is left to unlearn); the mean log-ratio of good and
        bad decisions (``positive_log_ratio``, ``negative_log_ratio``; if both are far below zero,
        the policy has left the log); and the mean ``entropy`` of the policy in nats.

    rounds_ : list of Bunch
        Of `improve` only: for each round the ``value`` of the policy that was sampled; the last
        policy is not among them.

    n_iter_ : int
        Iterations, or epochs.

    n_features_in_ : int
        Number of features seen during `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X has string names.

    Warns
    -----
    ConvergenceWarning
        If L-BFGS ends with a gradient far above `tol`.
    PolicyWarning
        If the chosen policy is not surely better than the log, takes actions without one good
        outcome for many rows, or rests on few rows, or if no action has outcomes of both kinds.
    UserWarning
        If no reward is below a given baseline, or if an off-policy value rests on few rows.

    See Also
    --------
    pnsklearn.metrics.ope_scorer : Off-policy values as `scoring`, for any classifier.
    pnsklearn.datasets.make_logged_bandit : Logs with known truth.
    pnsklearn.losses.TOPRLoss : The objective for your own torch training loop.

    References
    ----------
    .. [1] N. Le Roux, M. G. Bellemare, J. Lebensold, A. Bergeron, J. Greaves, A. Frechette,
       C. Pelletier, E. Thibodeau-Laufer, S. Toth, S. Work, "Tapered Off-Policy REINFORCE: Stable
       and efficient reinforcement learning for LLMs", NeurIPS 2025.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from pnsklearn import TOPRPolicy
    >>> from pnsklearn.datasets import make_logged_bandit
    >>> X, y = load_digits(return_X_y=True)
    >>> log = make_logged_bandit(X / 16, y, random_state=0)  # random guesses, and which were right
    >>> policy = TOPRPolicy()
    >>> _ = policy.fit(log.X, log.action, reward=log.reward, propensity=log.propensity)
    >>> bool((policy.predict(log.X) == y).mean() > 0.9)
    True
    """

    _parameter_constraints: dict = {  # noqa: RUF012, scikit-learn's form
        "bounds": [StrOptions({"cv", *MEMBERS}), tuple, list],
        "C": [Interval(Real, 0, None, closed="neither")],
        "act": [StrOptions({"best", "sample"})],
        "cv": ["cv_object"],
        "n_jobs": [Integral, None],
        "baseline": [StrOptions({"auto"}), Interval(Real, None, None, closed="neither")],
        "effective_positive": [None, Interval(Real, 0, 1, closed="neither")],
        "fit_intercept": ["boolean"],
        "solver": [StrOptions({"auto", "lbfgs", "adam"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "n_epochs": [Interval(Integral, 1, None, closed="left")],
        "module": "no_validation",
        "device": [str],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
    }

    __metadata_request__fit = REQUESTS
    __metadata_request__partial_fit = REQUESTS
    __metadata_request__score = REQUESTS

    _doc_link_module = "pnsklearn"
    _doc_link_template = "generated/pnsklearn.{estimator_name}.html"

    def __init__(
        self,
        *,
        bounds: Any = "cv",
        C: float = 1.0,
        act: str = "best",
        cv: Any = 3,
        n_jobs: int | None = None,
        baseline: str | float = "auto",
        effective_positive: float | None = None,
        fit_intercept: bool = True,
        solver: str = "auto",
        max_iter: int = 1000,
        tol: float = 1e-4,
        batch_size: int = 64,
        learning_rate: float = 0.02,
        n_epochs: int = 20,
        module: Any = None,
        device: str = "cpu",
        warm_start: bool = False,
        random_state: Any = None,
    ):
        self.bounds = bounds
        self.C = C
        self.act = act
        self.cv = cv
        self.n_jobs = n_jobs
        self.baseline = baseline
        self.effective_positive = effective_positive
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.n_epochs = n_epochs
        self.module = module
        self.device = device
        self.warm_start = warm_start
        self.random_state = random_state

    @unchanged_on_error
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *,
        reward: Any = None, propensity: Any = None, **params: Any,
    ) -> Self:  # fmt: skip
        """Learn the policy from a log.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Contexts; with a `module`, any dense array whose first axis is the rows.

        y : array-like of shape (n_samples,)
            The actions that were taken, any labels; or what
            :func:`pnsklearn.datasets.make_feedback` returns, with rewards and propensities.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights; a weight of two is the same as a row given twice.

        reward : array-like of shape (n_samples,) or str, default=None
            What came of the actions. None means that all are 1: the policy imitates the log, and is
            multinomial logistic regression with an L2 penalty. A string names a column of the frame
            X, which is then no feature.

        propensity : array-like of shape (n_samples,) or (n_samples, n_actions), float or str, \
                default=None
            Probability, in (0, 1], with which the action was taken, or those of all actions, in
            sorted order; one number, as 0.25 for random choices among four. "estimate" takes it
            from cross-fitted logistic regressions of the actions on X, any other string from a
            column of the frame X, which is then no feature. Needed with rewards.

        **params : dict
            What `cv` splits by, ``groups`` say.

        Returns
        -------
        self : TOPRPolicy
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, X, a reward, propensity or weight is out of its range, there are rewards
            without propensities, only one action, or all rewards equal the baseline.
        ImportError
            If a module or a GPU is asked for and torch is not installed.
        """
        self._check_settings()
        metadata = split_metadata(self, params)
        bounds = "topr" if self.bounds == "cv" else self.bounds
        C, selection = self.C, None
        feedback = self._check_log(X, y, sample_weight, reward, propensity)
        feedback = self._weigh(feedback, bounds)
        check_contrast(feedback.reward, feedback.baseline)
        rng = check_random_state(self.random_state)
        with callback_tasks(self, feedback.X, feedback.classes[feedback.action]) as on_task:
            if self.bounds == "cv" and feedback.reward is not None:
                splits = make_splits(self.cv, feedback, metadata)
                Cs = [C * factor for factor in (C_FACTORS if self.module is None else (1.0,))]
                path = partial(self._training(C).path, seed=rng.randint(2**31 - 1))
                member, C, selection = select(
                    feedback, splits, Cs, path=path, act=self.act, n_jobs=self.n_jobs
                )
                bounds = member.name
                feedback = replace(feedback, bounds=member.bounds, baseline=member.baseline)
            self._train(feedback, rng, on_task, warm=self.warm_start, bounds=bounds, C=C)
            if feedback.reward is not None:
                warn_of_outcomes(acting(self._log_policy(feedback.X), self.act), feedback)
            if selection is not None:
                self.selection_ = selection
                warn_of_value(selection)
        return self

    @available_if(_learns_by_piece)
    @unchanged_on_error
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None, *,
        reward: Any = None, propensity: Any = None,
    ) -> Self:  # fmt: skip
        """Take one pass of Adam steps over a piece of a log, at the constant `learning_rate`.

        The first call, and the first after `fit`, starts from the uniform policy.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Contexts.

        y : array-like of shape (n_samples,)
            The actions that were taken, or a y of `make_feedback` as in `fit`.

        classes : array-like of shape (n_actions,), default=None
            All actions; needed in the first call unless this piece has every one.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights.

        reward, propensity : array-like of shape (n_samples,), default=None
            As in `fit`; propensities cannot be estimated here.

        Returns
        -------
        self : TOPRPolicy
            The estimator.

        Raises
        ------
        AttributeError
            If a module or `effective_positive` is set, which needs the whole log.
        ValueError
            If a parameter, X, a reward, propensity or weight is out of its range, or an action is
            not among `classes`.
        """
        self._check_settings()
        if isinstance(propensity, str) and propensity == "estimate":
            raise ValueError("partial_fit needs the propensities, as it cannot estimate them.")
        stream = getattr(self, "_stream_", None)
        if classes is not None:
            classes = np.unique(classes)
        elif stream is not None:
            classes = self.classes_
        feedback = self._check_log(
            X, y, sample_weight, reward, propensity, classes=classes, reset=stream is None
        )
        feedback = self._weigh(feedback, self.bounds)
        n_iter = 1
        if stream is not None:
            if not np.array_equal(feedback.classes, self.classes_):
                raise ValueError(f"classes is {feedback.classes}, but was {self.classes_} before.")
            if (feedback.reward is not None) != hasattr(self, "baseline_"):
                raise ValueError("Either all pieces of a log have rewards, or none has.")
            n_iter += self.n_iter_
        objective = make_objective(feedback, self.C, self.fit_intercept)
        rng = check_random_state(self.random_state)
        parts = batches(len(feedback.action), self.batch_size, rng)
        stream = train_on_piece(objective, stream, self.learning_rate, parts)
        weights = objective.linear.fitted(stream.theta)
        fitted = {"n_iter_": n_iter, "bounds_": self.bounds, "C_": self.C, "_stream_": stream}
        self._set_fitted(feedback, weights | fitted)
        return self

    @unchanged_on_error
    @_fit_context(prefer_skip_nested_validation=True)
    def improve(
        self, X: Any, reward_fn: Callable, n_rounds: int = 5, n_samples: int = 1, *,
        temperature: float = 1.0,
    ) -> Self:  # fmt: skip
        """Refresh the policy: sample actions from it, ask for their rewards, and fit to these.

        Each round is a fit to the samples of that round alone, started from the present weights, so
        X should be as many contexts as a log would have. Calls with the same integer
        `random_state` draw alike.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Contexts.

        reward_fn : callable
            ``reward_fn(X, actions)`` returns one reward for each row. It gets X as an array (a data
            frame without its names) whose rows are repeated `n_samples` times, one after the other.

        n_rounds : int, default=5
            Number of rounds.

        n_samples : int, default=1
            Actions to sample for each row.

        temperature : float, default=1.0
            Of the samples; see `sample`.

        Returns
        -------
        self : TOPRPolicy
            The estimator, with `rounds_`.

        Raises
        ------
        NotFittedError
            If the policy was not fitted.
        ValueError
            If an argument is out of its range, or `reward_fn` returns anything but one finite
            reward for each row.
        """
        check_is_fitted(self)
        self._check_settings()
        if not isinstance(n_rounds, Integral) or n_rounds < 1:
            raise ValueError(f"n_rounds must be an integer of at least 1, got {n_rounds!r}.")
        rng, rounds = own_stream(self.random_state), []
        X = self._check_X(X)
        with callback_tasks(self, X, None) as on_task:
            for _ in range(n_rounds):
                column, propensity = self._draw(X, n_samples, temperature, rng)
                feedback = ask(reward_fn, X, column, propensity, self.classes_)
                policy = np.exp(self._log_policy(feedback.X))
                rounds.append(value_of_round(policy, feedback, n_samples))
                feedback = self._weigh(feedback, self.bounds_)
                if feedback.advantage.any():  # else there is nothing to learn
                    self._train(feedback, rng, on_task, warm=True, bounds=self.bounds_, C=self.C_)
            self.rounds_ = rounds
        return self

    def decision_function(self, X: Any) -> Array:
        """Return the logits of the policy.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Contexts.

        Returns
        -------
        logits : ndarray of shape (n_samples, n_actions), or (n_samples,) for two actions
            For two, the log-odds of ``classes_[1]``.
        """
        check_is_fitted(self)
        return self._logits(self._check_X(X))

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithms of the policy's probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Contexts.

        Returns
        -------
        log_probability : ndarray of shape (n_samples, n_actions)
            Columns in the order of `classes_`.
        """
        check_is_fitted(self)
        return self._log_policy(self._check_X(X))

    def predict_proba(self, X: Any) -> Array:
        """Return the policy: the probability of each action.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Contexts.

        Returns
        -------
        probability : ndarray of shape (n_samples, n_actions)
            Columns in the order of `classes_`.
        """
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any) -> Array:
        """Return the likeliest action of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Contexts.

        Returns
        -------
        actions : ndarray of shape (n_samples,)
            Entries of `classes_`.
        """
        Z = self.decision_function(X)
        return self.classes_[(Z > 0).astype(int) if Z.ndim == 1 else Z.argmax(axis=1)]

    def sample(
        self, X: Any, n_samples: int = 1, *, temperature: float = 1.0, random_state: Any = None
    ) -> tuple[Array, Array]:
        """Draw actions from the policy, to act on, with the propensities to log.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Contexts.

        n_samples : int, default=1
            Actions for each row.

        temperature : float, default=1.0
            Divides the logits: below 1 the likelier actions become likelier still.

        random_state : int, RandomState instance or None, default=None
            Seed.

        Returns
        -------
        actions : ndarray of shape (n_samples, n_draws)
            Entries of `classes_`.
        propensity : ndarray of shape (n_samples, n_draws)
            The probability with which each was drawn.

        Raises
        ------
        ValueError
            If `n_samples` is less than 1, or `temperature` is not a positive number.
        """
        check_is_fitted(self)
        column, propensity = self._draw(
            self._check_X(X), n_samples, temperature, own_stream(random_state)
        )
        return self.classes_[column], propensity

    def score(
        self, X: Any, y: Any, sample_weight: Any = None, *,
        reward: Any = None, propensity: Any = None,
    ) -> float:  # fmt: skip
        """Return the off-policy estimate of the policy's value: its mean reward.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Contexts of a log that the policy was not fitted to.

        y : array-like of shape (n_samples,)
            The actions that were taken, or a y of `make_feedback` as in `fit`. An action that the
            policy does not know has probability 0.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights.

        reward, propensity : array-like of shape (n_samples,), default=None
            As in `fit`. Without rewards, in `fit` as well, the score is the share of actions that
            the policy would have chosen: the accuracy.

        Returns
        -------
        value : float
            The self-normalised estimate; :func:`pnsklearn.metrics.ope_scorer` gives others.

        Raises
        ------
        ValueError
            If the policy was fitted to rewards and there are none here, or no propensities.
        """
        check_is_fitted(self)
        X, y, reward, propensity = read_log(X, y, reward, propensity, self.classes_)
        if reward is None:
            if hasattr(self, "baseline_"):
                return refuse_score(
                    "This policy was fitted to rewards, so its score needs reward and propensity. "
                    f"With {ROUTING} searches and cross-validation pass them on. Otherwise use a y "
                    "of pnsklearn.datasets.make_feedback."
                )
            agreement = accuracy_score(y, self.predict(X), sample_weight=sample_weight)
            warn_user(
                "Without rewards the score is how often the policy takes the action of the log, "
                "not its value.",
                PolicyWarning,
            )
            return agreement
        return _evaluation.score(*self._held_out(X, y, sample_weight, reward, propensity))

    def evaluate(
        self, X: Any, y: Any, sample_weight: Any = None, *,
        reward: Any = None, propensity: Any = None,
    ) -> Bunch:  # fmt: skip
        """Return off-policy estimates of the policy's value, with intervals and diagnostics.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Contexts of a log that the policy was not fitted to.

        y : array-like of shape (n_samples,)
            The actions that were taken, or a y of `make_feedback` as in `fit`.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights.

        reward, propensity : array-like of shape (n_samples,), default=None
            As in `fit`, and needed here.

        Returns
        -------
        evaluation : Bunch
            ``ips``, ``snips``, ``clipped_ips`` (weights cut at the square root of the number of
            rows) and ``dr``, ``logged``, the mean reward of the log, and ``gain``, the difference
            of ``dr`` to it: each a named tuple (value, standard_error, low, high) with a 95 %
            interval; see :func:`pnsklearn.metrics.ips_value`. And ``effective_sample_size`` and
            ``largest_weight`` of the ratios of the policy to the propensities.

        Raises
        ------
        ValueError
            If there are no rewards or no propensities, or they are out of their range.
        """
        check_is_fitted(self)
        X, y, reward, propensity = read_log(X, y, reward, propensity, self.classes_)
        if reward is None:
            raise ValueError("evaluate needs reward and propensity, or a y of make_feedback.")
        return _evaluation.evaluate(*self._held_out(X, y, sample_weight, reward, propensity))

    def _check_settings(self) -> None:
        """Refuse what needs more than one parameter, or the machine, to be judged."""
        check_device(self.device)
        if self.bounds != "cv":
            resolve_bounds(self.bounds)
        if self.effective_positive is not None and self.baseline not in ("auto", 0):
            raise ValueError("Set baseline or effective_positive, not both.")
        if self.module is not None:
            check_torch("module=")
            from pnsklearn._modules import check_module

            check_module(self.module)
            if self.solver == "lbfgs":
                raise ValueError("solver='lbfgs' needs a linear policy. Use 'adam' with a module.")
        elif self.solver == "adam" and self.device != "cpu":
            raise ValueError("solver='adam' of a linear policy runs on the CPU. Use device='cpu'.")

    def _check_X(self, X: Any) -> Matrix:
        return check_X(self, X, reset=False, deep=self.module is not None)

    def _check_log(self, *log: Any, **how: Any) -> Feedback:
        return check_log(self, *log, deep=self.module is not None, **how)

    def _held_out(self, X: Any, y: Any, *log: Any) -> tuple[Array, Feedback]:
        """Return the probabilities of the policy on a log, and the log; for all actions of both."""
        known = np.union1d(self.classes_, column_or_1d(y))
        feedback = self._check_log(X, y, *log, classes=known, reset=False)
        policy = np.exp(self._log_policy(feedback.X))
        return widen_policy(policy, self.classes_, known), feedback

    def _weigh(self, feedback: Feedback, bounds: Any) -> Feedback:
        """Return the feedback with the baseline and the bounds of its rewards."""
        if feedback.reward is None:
            return feedback
        if self.effective_positive is not None:
            baseline = baseline_for(feedback.reward, self.effective_positive, feedback.weight)
        elif self.baseline == "auto":
            baseline = contrasting(feedback.reward, feedback.weight)
        else:
            baseline = float(self.baseline)
        return replace(feedback, baseline=baseline, bounds=resolve_bounds(bounds))

    def _training(self, C: float) -> Training:
        """Return how a policy is fitted."""
        names = (field.name for field in fields(Training))
        return replace(Training(*(getattr(self, name) for name in names)), C=C)

    def _train(
        self, feedback: Feedback, rng: np.random.RandomState, on_task: Callable, *, warm: bool,
        bounds: Any, C: float,
    ) -> None:  # fmt: skip
        """Fit to checked feedback, from the present weights if `warm`, and set what was fitted."""

        def on_iteration(attributes):
            return on_task("iteration", lambda: {"classes_": feedback.classes, **attributes()})

        start = self._start(feedback.classes, feedback.X.shape[1]) if warm else None
        attributes = self._training(C).train(feedback, start, rng, on_iteration)
        self._set_fitted(feedback, {**attributes, "bounds_": bounds, "C_": C})

    def _start(self, classes: Array, n_features: int) -> Any:
        """Return the present weights; None if they are of other actions, or features."""
        if not np.array_equal(getattr(self, "classes_", ()), classes):
            return None
        if self.module is not None:
            return getattr(self, "module_", None)
        if hasattr(self, "coef_") and self.coef_.shape[1] == n_features:
            return self.coef_, self.intercept_
        return None

    def _set_fitted(self, feedback: Feedback, attributes: dict) -> None:
        """Set the fitted attributes, and after rewards the diagnostics too."""
        replace_fitted(self, {"classes_": feedback.classes, **attributes})
        if feedback.reward is not None:
            self.baseline_ = feedback.baseline
            self.diagnostics_ = diagnose(self._log_policy(feedback.X), feedback)

    def _logits(self, X: Matrix) -> Array:
        """Return `decision_function` of checked X."""
        if hasattr(self, "module_"):
            from pnsklearn._topr._module import logits

            Z = logits(self.module_, X, self.device, len(self.classes_))
            return Z[:, 1] - Z[:, 0] if Z.shape[1] == 2 else Z
        return linear_logits(X, self.coef_, self.intercept_)

    def _log_policy(self, X: Matrix, temperature: float = 1.0) -> Array:
        """Return the logarithms of the probabilities of all actions, for checked X."""
        return log_softmax_of(self._logits(X) / temperature)

    def _draw(
        self, X: Matrix, n_samples: Any, temperature: Any, rng: np.random.RandomState
    ) -> tuple[Array, Array]:
        """Return the columns of sampled actions, and their probabilities, for checked X."""
        if not isinstance(n_samples, Integral) or n_samples < 1:
            raise ValueError(f"n_samples must be an integer of at least 1, got {n_samples!r}.")
        if not 0 < temperature < np.inf:
            raise ValueError(f"temperature must be a positive number, got {temperature!r}.")
        return draw(np.exp(self._log_policy(X, temperature)), int(n_samples), rng)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self.module is None
        return tags
