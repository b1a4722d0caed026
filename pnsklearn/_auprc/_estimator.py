"""AUPRCClassifier: the scikit-learn face of average precision maximisation."""

import copy
import dataclasses
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from pnsklearn._auprc._anchors import check_anchor, make_anchors
from pnsklearn._auprc._calibration import linear_attributes, platt
from pnsklearn._auprc._objective import LinearModel, make_objective, number_equal_rows
from pnsklearn._auprc._selection import (
    C_GRID,
    ENOUGH_POSITIVES,
    make_splits,
    select,
    strengths,
    thinned,
)
from pnsklearn._auprc._soap import Schedule
from pnsklearn._auprc._solver import solve
from pnsklearn._auprc._threshold import check_threshold, choose_threshold
from pnsklearn._device import check_device, check_torch
from pnsklearn._fitting import (
    blas_threads,
    callback_tasks,
    replace_fitted,
    unchanged_on_error,
    warn_user,
)
from pnsklearn._habits import FitMixin
from pnsklearn._splits import SplitterMixin, split_metadata
from pnsklearn._typing import Array
from pnsklearn._validation import (
    check_binary_target,
    check_weighted_classes,
    check_weights,
    check_X,
    class_weighted,
    refuse_huge,
    refuse_overflow,
    without_weightless,
)

# Entries of X up to which BLAS threads cost the small fits of a cross-validation more than they
# bring, and very much more on a busy machine.
LARGEST_SERIAL_SIZE = 10_000_000


def _streams(estimator):
    if estimator.module is None and str(estimator.solver).startswith("soap-"):
        return True
    raise AttributeError("partial_fit needs a linear model and solver='soap-adam' or 'soap-sgd'.")


class AUPRCClassifier(FitMixin, SplitterMixin, ClassifierMixin, BaseEstimator):
    r"""Binary classifier that maximises average precision.

    Fits a linear model (or a torch module) by minimising one minus a smooth average precision,

    .. math::

        F(s) = \sum_{i \in P} v_i \frac{\sum_{j \notin P} w_j \ell(s_i - s_j)}
                                       {\sum_j w_j \ell(s_i - s_j)},

    whose value, gradient and Hessian products are computed exactly in
    :math:`O(n \log n_+)`, plus a penalty ``alpha * ||w - w_LR||^2 / ||w_LR||^2`` that anchors the
    weights at those of a logistic regression. With ``alpha=inf`` the model ranks exactly as
    that logistic regression does, so cross-validating `alpha` (the default) is close to free of
    regret. A Platt fit makes the decision function a log-odds without changing the ranking.

    Evaluate with ``scoring="average_precision"``; `score` is accuracy, as everywhere in
    scikit-learn. Read more in the :ref:`User Guide <auprc>`.

    Parameters
    ----------
    loss : {"smooth", "squared_hinge"}, default="smooth"
        Stand-in :math:`\ell` for "j is ranked at or above i". "smooth" is a bounded step of half
        width `margin`, with which `surrogate_` tends to average precision as the width shrinks;
        "squared_hinge" is the loss of the paper.

    margin : "auto" or float, default="auto"
        Half width of the step, or margin of the hinge, in standard deviations of the anchor's
        scores (score units with ``anchor="zero"``). "auto" is 0.5 for the step and 1 for the hinge;
        values below 1e-3 count as 1e-3, and values above 1e6 as 1e6.

    alpha : "cv", "cv-1se" or float, default="cv"
        Strength of the anchor, from 0 to infinity inclusive. "cv" chooses it by cross-validated
        average precision; with fewer than 10 positives only among strong anchors, and with more
        than 10,000 rows of a class on so many of them, weighted up. "cv-1se" keeps
        the anchor itself unless another strength gains more than one standard error of the splits.
        Either chooses the `C` of ``anchor="logistic"`` too; otherwise `C` is 1.

    anchor : str or array-like of shape (n_features,), default="logistic"
        What the penalty pulls towards: with "logistic" logistic regression's weights (for a
        `module`: its weights after training with cross-entropy); with "zero" zero (then the penalty
        is ``alpha * ||w||^2``); with "average" equal weights, for features on one scale of which
        more means positive, scores of other models say; with "shrunk" a mean of the first and the
        third, in which logistic regression counts ``n_positives / (n_positives + 30)``; or given
        weights.

    positive : bool, default=False
        Whether no weight may be below zero, the anchor's too. Needs a linear model and
        ``solver="lbfgs"``.

    prior : float or None, default=None
        Share of the positives inside the sums, in (0, 1). A share above the true one acts as
        a regulariser when there are very few positives. None keeps the share of the data.

    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, as in logistic regression; "balanced" makes their sums equal. They
        change the anchor, the objective and the probabilities. Average precision does not gain
        by them as a rule: they make it the precision at another share of positives.

    solver : {"lbfgs", "trust-ncg", "soap-adam", "soap-sgd"}, default="lbfgs"
        The first two are SciPy's, with exact derivatives; "trust-ncg" needs a linear model. The
        last two are the stochastic algorithm of the paper.

    max_iter : int, default=1000
        Most iterations of "lbfgs" and "trust-ncg".

    tol : float, default=1e-5
        Bound on the gradient (relative to the anchor's norm) at which these two stop.

    gamma : float, default=0.9
        SOAP only: rate of the moving averages, in (0, 1]. 1 forgets at once.

    batch_size : int, default=128
        Rows per step of SOAP, and of a module's cross-entropy training.

    learning_rate : float, default=0.01
        Step size of SOAP, and of a module's cross-entropy training.

    n_epochs : int, default=20
        Passes of SOAP, and of a module's cross-entropy training.

    threshold : str, tuple (str, float) or float, default="proba"
        Probability above which `predict` says positive: "proba" is one half, "f1" has the best F1
        on the training data, ("precision", p) the largest recall at a training precision of at
        least p, ("recall", r) the highest precision at a training recall of at least r, ("budget",
        b) is the lowest that at most a share b of the training data is above (100 of 20,000 a day
        is 0.005), and a number is that number. With any
        but one half, `predict` no longer follows the sign of `decision_function`, nor the larger
        probability, as with :class:`~sklearn.model_selection.FixedThresholdClassifier`.

    module : torch.nn.Module or None, default=None
        Network that maps a batch to one score per row; trained instead of a linear model. It is
        copied, never changed.

    device : str, default="cpu"
        "cpu", "cuda" or "cuda:N". Fitted attributes are on the CPU in any case.

    warm_start : bool, default=False
        Whether to start from the last fit's weights.

    cv : int, cross-validation generator or iterable, default=5
        Splits for ``alpha="cv"``; an int is stratified, and at most the number of positives.

    n_jobs : int or None, default=None
        Splits fitted at a time; None is one, -1 is one for each core. The result is the same.

    random_state : int, RandomState instance or None, default=None
        Seed of the inner splits' shuffling and of the stochastic parts.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The labels; ``classes_[1]`` is the positive class.

    coef_ : ndarray of shape (1, n_features)
        Weights of the log-odds; absent with a `module`.

    intercept_ : ndarray of shape (1,)
        Intercept of the log-odds; absent with a `module`.

    module_ : torch.nn.Module
        The trained network, on the CPU; only with a `module`.

    calibration_ : ndarray of shape (2,)
        Slope and intercept from the network's score to the log-odds; only with a `module`.

    alpha_ : float
        The strength that was used.

    n_iter_ : int
        Iterations, or epochs of SOAP; at least 1, also where the start was the solution.

    cv_average_precision_ : ndarray of shape (n_splits,)
        Average precision of the chosen `alpha` on the splits; empty if none was chosen.

    surrogate_ : float
        The smooth average precision on the training data, 1 - F, comparable with
        :func:`sklearn.metrics.average_precision_score`.

    threshold_ : float
        The probability above which `predict` says positive.

    n_features_in_ : int
        Number of features seen during `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X has string names.

    Warns
    -----
    ConvergenceWarning
        If `max_iter` is reached.
    UserWarning
        If there are fewer than 10 positives, and `anchor` is neither "average" nor "shrunk".

    See Also
    --------
    pnsklearn.metrics.average_precision_surrogate : The objective, for any scores.
    sklearn.linear_model.LogisticRegression : The anchor.

    References
    ----------
    Q. Qi, Y. Luo, Z. Xu, S. Ji, T. Yang, "Stochastic Optimization of Areas Under Precision-Recall
    Curves with Provable Convergence", NeurIPS 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.metrics import average_precision_score
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from pnsklearn import AUPRCClassifier
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), AUPRCClassifier()).fit(X, y)
    >>> average_precision_score(y, model.decision_function(X)) > 0.99
    True
    """

    _parameter_constraints: dict = {  # noqa: RUF012, scikit-learn's form
        "loss": [StrOptions({"smooth", "squared_hinge"})],
        "margin": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "alpha": [
            StrOptions({"cv", "cv-1se"}),
            Interval(Real, 0, None, closed="left"),
            Options(Real, {np.inf}),
        ],
        "anchor": [StrOptions({"logistic", "zero", "average", "shrunk"}), "array-like"],
        "positive": ["boolean"],
        "prior": [None, Interval(Real, 0, 1, closed="neither")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "solver": [StrOptions({"lbfgs", "trust-ncg", "soap-adam", "soap-sgd"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "gamma": [Interval(Real, 0, 1, closed="right")],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "n_epochs": [Interval(Integral, 1, None, closed="left")],
        "threshold": [StrOptions({"proba", "f1"}), tuple, Interval(Real, 0, 1, closed="both")],
        "module": "no_validation",
        "device": [str],
        "warm_start": ["boolean"],
        "cv": ["cv_object"],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    _doc_link_module = "pnsklearn"
    _doc_link_template = "generated/pnsklearn.{estimator_name}.html"

    def __init__(
        self,
        loss: str = "smooth",
        *,
        margin: str | float = "auto",
        alpha: str | float = "cv",
        anchor: Any = "logistic",
        positive: bool = False,
        prior: float | None = None,
        class_weight: Any = None,
        solver: str = "lbfgs",
        max_iter: int = 1000,
        tol: float = 1e-5,
        gamma: float = 0.9,
        batch_size: int = 128,
        learning_rate: float = 0.01,
        n_epochs: int = 20,
        threshold: str | tuple[str, float] | float = "proba",
        module: Any = None,
        device: str = "cpu",
        warm_start: bool = False,
        cv: Any = 5,
        n_jobs: int | None = None,
        random_state: Any = None,
    ):
        self.loss = loss
        self.margin = margin
        self.alpha = alpha
        self.anchor = anchor
        self.positive = positive
        self.prior = prior
        self.class_weight = class_weight
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol
        self.gamma = gamma
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.n_epochs = n_epochs
        self.threshold = threshold
        self.module = module
        self.device = device
        self.warm_start = warm_start
        self.cv = cv
        self.n_jobs = n_jobs
        self.random_state = random_state

    @unchanged_on_error
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, **params: Any) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data; with a `module`, any dense array whose first axis is the samples.

        y : array-like of shape (n_samples,)
            Labels of two classes; the larger in sorted order is the positive one.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights; a weight of two is the same as a row given twice (with a SOAP
            solver on average, as its batches are random).

        **params : dict
            What `cv` splits by, ``groups`` say.

        Returns
        -------
        self : AUPRCClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, X, y or a weight is out of its range, or a class has no weight.
        ImportError
            If a module or a GPU is asked for and torch is not installed.
        """
        self._check_settings()
        metadata = split_metadata(self, params)
        X, positive, given, classes, kept = self._check_data(X, y, sample_weight)
        weight = class_weighted(self.class_weight, classes, positive, given)
        schedule = self._schedule(self.n_epochs)
        with callback_tasks(self, X, np.asarray(y)[kept]) as on_task:
            splits = []
            if isinstance(self.alpha, str):
                splits = make_splits(self.cv, positive, kept, metadata)
            anchor, alpha, precision = self._choose(X, positive, weight, given, splits, schedule)
            objective = self._objective(X, positive, weight, anchor, alpha)

            def attributes(theta):
                return self._attributes(objective.model, theta, positive, weight, classes)

            self._train(objective, anchor, schedule, on_task, attributes)
            self.alpha_, self.cv_average_precision_ = alpha, precision
        return self

    @available_if(_streams)
    @unchanged_on_error
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Take one pass of SOAP steps over a batch, for data that come in pieces.

        Starts from zero weights at the first call and uses no anchor: `margin` is in score units,
        a finite `alpha` is the strength of ``alpha * ||w||^2``. Probabilities and
        threshold are those of the latest batch.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            A batch, best of a few hundred rows or more.

        y : array-like of shape (n_samples,)
            Labels; each batch needs a positive and a negative.

        classes : array-like of shape (2,), default=None
            The labels; may be left out, as each batch has both.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights.

        Returns
        -------
        self : AUPRCClassifier
            The estimator.

        Raises
        ------
        AttributeError
            If `solver` is not a SOAP solver, or a module is set.
        ValueError
            If a parameter, X, y or a weight is out of its range, or the batch has one class.
        """
        self._check_settings()
        first = not hasattr(self, "_stream_coef_")
        X, positive, weight, seen, _ = self._check_data(X, y, sample_weight, reset=first)
        expected = np.unique(classes) if classes is not None else getattr(self, "classes_", seen)
        if not np.array_equal(expected, seen):
            raise ValueError(f"y has the labels {seen}, but {expected} are expected.")

        weight = class_weighted(self.class_weight, seen, positive, weight)
        alpha = 0.0 if isinstance(self.alpha, str) or np.isinf(self.alpha) else self.alpha
        start = np.zeros(X.shape[1]) if first else self._stream_coef_
        objective = self._objective(X, positive, weight, None, alpha)
        solution = self._solve(objective, start, self._schedule(n_epochs=1))
        attributes = self._attributes(objective.model, solution.theta, positive, weight, seen)
        n_iter = 1 if first else self.n_iter_ + 1
        results = {"alpha_": alpha, "n_iter_": n_iter, "surrogate_": solution.surrogate}
        replace_fitted(self, attributes | results | {"_stream_coef_": solution.theta})
        return self

    def decision_function(self, X: Any) -> Array:
        """Return the log-odds of the positive class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        log_odds : ndarray of shape (n_samples,)
            Positive where the probability is above one half.
        """
        check_is_fitted(self)
        X = check_X(self, X, reset=False, deep=self.module is not None)
        if not hasattr(self, "module_"):
            products = safe_sparse_dot(X, self.coef_[0], dense_output=True)
            return refuse_overflow(products + self.intercept_[0])
        from pnsklearn._auprc._module import ModuleModel

        model = ModuleModel(self.module_, X, "cpu")
        return model.scores(model.get()) * self.calibration_[0] + self.calibration_[1]

    def predict_proba(self, X: Any) -> Array:
        """Return the probabilities of both classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        probability : ndarray of shape (n_samples, 2)
            Columns in the order of `classes_`.
        """
        log_odds = self.decision_function(X)
        return np.stack([expit(-log_odds), expit(log_odds)], axis=1)

    def predict(self, X: Any) -> Array:
        """Return the label of each sample: positive above `threshold_`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Entries of `classes_`.
        """
        log_odds = self.decision_function(X)
        return self.classes_[(log_odds > logit(self.threshold_)).astype(int)]

    def _check_settings(self):
        """Refuse what needs more than one parameter, or the machine, to be judged."""
        check_device(self.device)
        if self.module is not None:
            check_torch("module=")
            from pnsklearn._modules import check_module

            check_module(self.module)
            if self.solver == "trust-ncg":
                raise ValueError("solver='trust-ncg' needs a linear model; use 'lbfgs'.")
            if self.positive or self._anchor_kind not in ("logistic", "zero"):
                raise ValueError("A module takes positive=False and anchor='logistic' or 'zero'.")
        if self.positive and self.solver != "lbfgs":
            raise ValueError(f"positive=True needs solver='lbfgs', not {self.solver!r}.")
        if self._anchor_kind == "zero" and self.alpha == np.inf:
            raise ValueError("alpha=inf with anchor='zero' leaves nothing to fit; lower alpha.")
        check_threshold(self.threshold)

    @property
    def _anchor_kind(self):
        return self.anchor if isinstance(self.anchor, str) else "given"

    def _check_data(self, X, y, sample_weight, reset=True):
        """Return X, positives, weights without the rows of weight zero; classes; kept rows."""
        X, y = check_X(self, X, y, reset=reset, deep=self.module is not None)
        refuse_huge(X)
        classes, positive = check_binary_target(y)
        weight = check_weights(sample_weight, X)
        check_weighted_classes(positive, weight)
        if self._anchor_kind == "given":
            check_anchor(self.anchor, X.shape[1], self.positive)
        weight, X, positive, kept = without_weightless(weight, X, positive)
        if reset:
            self._warn_of_few(positive.sum())
        return X, positive, weight, classes, kept

    def _warn_of_few(self, n_positives):
        """Warn where there are few positives, and the anchor does not bear it."""
        if n_positives < ENOUGH_POSITIVES and self._anchor_kind not in ("average", "shrunk"):
            warn_user(
                f"Only {n_positives} positive samples: average precision can hardly be learned "
                "from so few. Consider alpha=float('inf') or prior=0.1."
            )

    def _schedule(self, n_epochs, seed=None):
        """Return how the stochastic solvers go through the rows."""
        rng = check_random_state(self.random_state if seed is None else seed)
        return Schedule(self.batch_size, self.learning_rate, n_epochs, rng)

    def _model(self, X):
        """Return the model on some rows, on its device."""
        if self.module is not None:
            from pnsklearn._auprc._module import ModuleModel

            return ModuleModel(self.module, X, self.device)
        # SOAP's batches for a linear model are too small for a GPU to be of use.
        return LinearModel(X, "cpu" if self.solver.startswith("soap-") else self.device)

    def _objective(self, X, positive, weight, anchor, alpha):
        """Return the objective on some rows; without an anchor where it is None."""
        return make_objective(
            self._model(X),
            positive,
            weight,
            number_equal_rows(X[positive]),
            anchor=None if self._anchor_kind == "zero" else anchor,
            alpha=alpha,
            loss=self.loss,
            margin=self.margin,
            prior=self.prior,
        )

    def _solve(self, objective, start, schedule, on_iteration=None):
        """Return the Solution from `start`."""
        return solve(
            objective,
            start,
            schedule,
            on_iteration,
            solver=self.solver,
            tol=self.tol,
            max_iter=self.max_iter,
            gamma=self.gamma,
            nonnegative=self.positive,
        )

    def _train(self, objective, anchor, schedule, on_task, attributes):
        """Solve from the anchor, or the last fit's weights, and set the fitted attributes.

        `attributes(theta)` makes a Platt fit, for which most callbacks do not ask.
        """
        solution = self._solve(
            objective, self._start(anchor), schedule,
            lambda theta: on_task("iteration", lambda: attributes(theta)),
        )  # fmt: skip
        if not solution.converged:
            warn_user(
                f"{self.solver} stopped at max_iter={self.max_iter} before reaching "
                f"tol={self.tol}. Increase max_iter or alpha, or scale the features, with "
                "StandardScaler say.",
                ConvergenceWarning,
            )
        results = {"n_iter_": solution.n_iter, "surrogate_": solution.surrogate}
        replace_fitted(self, attributes(solution.theta) | results)

    def _fit_anchors(self, X, positive, weight, schedule, Cs=(1.0,)):
        """Return the candidate anchors, or starts: one for each C, or one cross-entropy fit."""
        if self.module is None:
            return make_anchors(
                X, positive, weight, Cs, anchor=self.anchor, nonnegative=self.positive
            )
        from pnsklearn._auprc._module import fit_cross_entropy

        model = self._model(X)
        if self.anchor == "zero":
            return [model.get()]
        return [fit_cross_entropy(model, positive, weight, schedule)]

    def _choose(self, X, positive, weight, given, splits, schedule):
        """Return (anchor or start, alpha, average precision of the splits).

        That is measured with the weights without those of the classes, `given`.
        """
        if not splits:
            anchor = self._fit_anchors(X, positive, weight, schedule)[0]
            return anchor, self._alphas(positive)[0], np.array([])
        fewer, times = thinned(splits, positive)
        with blas_threads(1 if X.size < LARGEST_SERIAL_SIZE else None):
            Cs, alpha, precision = self._select(
                X, positive, weight * times, given * times, fewer, schedule
            )
            # The path is warm-started, so that C is reached as it was on the splits.
            candidates = self._fit_anchors(X, positive, weight, schedule, Cs)
        return candidates[-1], alpha, precision

    def _alphas(self, positive):
        """Return the strengths to choose from."""
        if isinstance(self.alpha, str):
            return strengths(positive, self._anchor_kind != "zero")
        return (float(self.alpha),)

    def _select(self, X, positive, weight, given, splits, schedule):
        """Return (the Cs up to the best, alpha, average precision of the splits)."""
        alphas = self._alphas(positive)
        # Features on one scale, which the other anchors are for, leave C little to do.
        Cs = C_GRID if self._anchor_kind == "logistic" else (1.0,)
        # A seed for each split, so that n_jobs changes nothing.
        seeds = schedule.rng.randint(2**31 - 1, size=len(splits))

        def part(number: int) -> tuple[Any, Any, Any]:
            rows = splits[number][0]
            return X[rows], positive[rows], weight[rows]

        def anchors(number):
            schedule = self._schedule(self.n_epochs, seeds[number])
            return self._fit_anchors(*part(number), schedule, Cs)

        def path(number, anchor):
            schedule = self._schedule(self.n_epochs, seeds[number])
            objective, theta = self._objective(*part(number), anchor, alphas[0]), anchor
            for alpha in alphas:
                anchored = dataclasses.replace(objective, alpha=alpha)
                theta = self._solve(anchored, theta, schedule).theta
                yield theta

        def scores(theta, rows):
            model = self._model(X[rows])
            return model.kernels.to_numpy(model.scores(theta))

        best, alpha, precision = select(
            positive, given, splits, alphas, anchors=anchors, path=path, scores=scores,
            by_one_se=self.alpha == "cv-1se", n_jobs=self.n_jobs,
        )  # fmt: skip
        return Cs[: best + 1], alpha, precision

    def _start(self, anchor):
        """Return the weights to start from: the anchor's, or the last fit's at its scale."""
        if not (self.warm_start and hasattr(self, "coef_" if self.module is None else "module_")):
            return anchor
        if self.module is not None:
            from pnsklearn._auprc._module import ModuleModel

            start = ModuleModel(self.module_, None, "cpu").get()
        else:
            start = self.coef_[0].astype(np.float64)
            norm, anchor_norm = np.linalg.norm(start), np.linalg.norm(anchor)
            if norm > 0 and anchor_norm > 0:
                start *= anchor_norm / norm
        return start if start.shape == anchor.shape else anchor

    def _attributes(self, model, theta, positive, weight, classes):
        """Return the attributes with which a parameter vector predicts."""
        scores = model.kernels.to_numpy(model.scores(theta))
        slope, intercept = platt(scores, positive, weight)
        probability = expit(slope * scores + intercept)
        threshold = choose_threshold(self.threshold, positive, probability, weight)
        attributes = {"classes_": classes, "threshold_": threshold}
        if model.is_linear:
            return attributes | linear_attributes(theta, slope, intercept, model.dtype)
        model.set(theta)
        attributes["module_"] = copy.deepcopy(model.module).cpu().eval()
        attributes["calibration_"] = np.array([slope, intercept])
        return attributes

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        # scikit-learn's checks want the likelier class from predict, and know no threshold.
        tags._skip_test = self.threshold not in ("proba", 0.5)
        tags.input_tags.sparse = self.module is None
        # Of features of which less means positive, weights of at least zero learn nothing.
        tags.classifier_tags.poor_score = self.positive
        return tags
