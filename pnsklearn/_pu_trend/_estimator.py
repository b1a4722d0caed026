"""PUTrendClassifier: the scikit-learn face of learning from positives and unlabelled rows."""

import math
import warnings
from functools import partial
from numbers import Integral, Real

import numpy as np
from scipy.sparse import issparse
from scipy.special import logit
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context, clone
from sklearn.callback import CallbackSupportMixin
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from pnsklearn._device import check_device, check_torch
from pnsklearn._fitting import unchanged_on_error
from pnsklearn._pu_trend._learners import (
    WHOLE,
    NetworkLearner,
    PartialFitLearner,
    fit_network,
)
from pnsklearn._pu_trend._networks import MeanProbability, Plan
from pnsklearn._pu_trend._scores import PAIRED_TRENDS, TRENDS
from pnsklearn._pu_trend._solver import (
    content_groups,
    cross_fit,
    final_sample,
    first_stage,
    mean_auc,
    posterior,
    snapshot_quantiles,
    split_trends,
)
from pnsklearn._validation import (
    check_binary_target,
    check_weighted_classes,
    check_weights,
    refuse_huge,
    refuse_unreadable,
)
from pnsklearn.exceptions import PUTrendWarning

MIN_STEPS = 20  # per snapshot
CHANGES = ("simple", "slope", "pairwise", "mann-kendall")  # which one snapshot does not have
# The default trees: least weight of a leaf, least features to choose a split from, and the rows
# beyond which each tree gets a sample of as many. Not a whole weight, where rounding would decide.
LEAF_WEIGHT, FEW_FEATURES, MAX_ROWS = 2.9, 16, 10_000
# What the published method has in place of our defaults.
_PUBLISHED = {
    "final_estimator": "same",
    "pseudo_labels": "ramped",
    "n_snapshots": 15,
    "steps_per_snapshot": 512,
    "n_folds": None,
    "ema": 0.999,
}


def default_trees(X, weight, n_jobs):
    """Return the classifier of the second stage, for rows X and their weights."""
    many = X.shape[0] > MAX_ROWS
    total = MAX_ROWS if many else weight.sum()  # a bootstrap sample counts rows
    trees = ExtraTreesClassifier(
        max_features=min(X.shape[1], max(FEW_FEATURES, int(math.sqrt(X.shape[1])))),
        min_weight_fraction_leaf=LEAF_WEIGHT / max(total, 2 * LEAF_WEIGHT),
        bootstrap=many,
        max_samples=MAX_ROWS if many else None,
        n_jobs=n_jobs,
    )
    # Trees work in 32 bits: without scaling, tiny or far-off features would be constant.
    scaler = StandardScaler(with_mean=isinstance(X, np.ndarray)).set_output(transform="default")
    return make_pipeline(scaler, trees)


def with_short_indices(X):
    """Return a CSR matrix with 32-bit indices, which trees need, where these suffice."""
    if X.nnz > np.iinfo(np.int32).max:
        return X
    indices, starts = X.indices.astype(np.int32), X.indptr.astype(np.int32)
    return type(X)((X.data, indices, starts), shape=X.shape)


def takes_weights(model):
    """Return whether a classifier, or the last step of a pipeline, takes sample weights."""
    return has_fit_parameter(model[-1] if isinstance(model, Pipeline) else model, "sample_weight")


def fit_weighted(model, X, y, weight):
    """Fit a classifier, or every step of a pipeline, with weights where it takes them."""
    if isinstance(model, Pipeline):
        names = [name for name, step in model.steps if has_fit_parameter(step, "sample_weight")]
        weights = {f"{name}__sample_weight": weight for name in names}
    else:
        weights = {"sample_weight": weight} if takes_weights(model) else {}
    # The names of the steps are our own matter, whatever the user routes.
    with config_context(enable_metadata_routing=False):
        return model.fit(X, y, **weights)


class PUTrendClassifier(CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    r"""Binary classifier for labelled positives and unlabelled rows.

    There are no labelled negatives: ``classes_[1]`` marks the labelled positives, the other label
    the unlabelled rows, of which some are positive too. `predict` returns the same two labels, read
    as positive and negative.

    First stage, after [1]_: models learn to tell labelled from unlabelled rows on batches of equal
    halves, and snapshots in training give each unlabelled row a curve of scores; `trend` turns it
    into one number, and a split of these numbers into pseudo-labels. Second stage: a classifier is
    trained on them. Where the published method trains one model on all rows, here each of
    ``2 * n_folds`` runs holds out some positives and half of the unlabelled rows, and all scores
    are held-out ones. That makes the class prior estimable, the training stoppable and failures
    visible. `paper` and `authors_code` return the published method.

    Read more in the :ref:`User Guide <pu_trend>`.

    Parameters
    ----------
    estimator : {"auto", "linear", "mlp"}, classifier or callable, default="auto"
        The model of the first stage: logistic regression, a network of one hidden layer, a
        scikit-learn classifier with `partial_fit` (with a learning rate of its own), or a function
        that returns a new `torch.nn.Module` with one logit per row. "auto" trains the first two and
        keeps the one that ranks the held-out positives higher; for sparse X or ``n_folds=None`` it
        is "linear".

    final_estimator : None, "same" or classifier, default=None
        The model of the second stage. None is extremely randomised trees (for a torch module:
        "same"); "same" is the model of the first stage, trained afresh. With soft pseudo-labels it
        needs a `fit` that takes `sample_weight`.

    trend : {"auto", "mean", "last", "simple", "slope", "pairwise", "mann-kendall"}, default="auto"
        How a curve of scores becomes one number: its mean, its end, the authors' code, the slope,
        the paper's equations 4 and 5, or the share of rises less that of falls. "auto" is the mean,
        or the one of the first four that ranks the held-out positives clearly higher. The last two
        need all snapshots in memory.

    split : {"auto", "prior", "natural", "variance", "authors"}, default="auto"
        How many unlabelled rows count as positive: the class prior; or those above the natural
        break of the trend scores, with the criterion of Fisher and Jenks, that of the paper's
        equation 8, or the authors' code (which has no weights). "auto" is "prior" if `class_prior`
        is given; else the geometric mean of the estimated prior and of the share above the natural
        break, which err in different ways, weighted by how certain the prior is; and "natural"
        alone if the prior cannot be estimated because there are fewer than 20 labelled positives or
        ``n_folds=None``.

    class_prior : float or None, default=None
        Share of positives among the unlabelled rows, in (0, 1), where it is known; for `split`
        "auto" or "prior". None estimates it; see :func:`pnsklearn.metrics.class_prior`.

    scenario : {"single", "case-control"}, default="single"
        What the population is: both samples together, one sample of which some positives are
        labelled; or the unlabelled rows alone, beside a separate sample of positives.

    pseudo_labels : {"soft", "hard", "ramped"}, default="soft"
        What the second stage is trained on: probabilities, the split, or the split with targets
        that rise from zero in the first 25 epochs, as published (for ``final_estimator="same"``).

    n_snapshots : int, default=15
        Snapshots of the first stage.

    n_passes : int, default=10
        Passes over the unlabelled rows in all; at least 20 steps are taken for each snapshot.

    steps_per_snapshot : "auto" or int, default="auto"
        Steps between snapshots, instead of `n_passes`.

    n_folds : int or None, default=5
        Folds of the labelled positives: each is held out twice. None trains one model on all rows.

    early_stopping : bool, default=True
        Whether to use the snapshots up to the smallest held-out loss only.

    ema : "auto" or float, default="auto"
        Decay per step of the averaged weights that are scored, in [0, 1). "auto" averages over
        about two snapshot periods. A classifier with `partial_fit` has none.

    label_smoothing : float, default=0.1
        Smoothing of the labelled positives' targets, in [0, 1).

    batch_size : int, default=64
        Labelled positives, and as many unlabelled rows, in a step. A sample of up to 256 rows is
        one batch.

    learning_rate : float, default=0.03
        Initial step size; it falls along a cosine.

    weak_transform, strong_transform : callable or None, default=None
        For torch modules: maps a batch to an augmented one of the same shape. Training sees weakly
        transformed rows; with both, the second stage has the FixMatch term.

    store_history : bool, default=False
        Whether to keep `score_history_`.

    device : str, default="cpu"
        For torch modules: "cpu", "cuda" or "cuda:N". Fitted attributes are on the CPU in any case.

    n_jobs : int or None, default=None
        Threads of the default second stage. Results do not depend on it.

    random_state : int, RandomState instance or None, default=None
        Seed of the runs, the folds and the second stage.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The labels; ``classes_[1]`` marks the labelled positives.

    class_prior_ : float
        Share of positives among the unlabelled rows, as given or estimated.

    class_prior_interval_ : tuple of float
        90 % bootstrap interval of the estimate; it shows the spread, not a bias. NaN if the prior
        is only that of a natural break.

    positive_share_ : float
        Share of the unlabelled rows that `split` counts as positive, which the predictions follow.

    final_estimator_ : object
        The classifier of the second stage, for the labels 0 and 1.

    trend_scores_ : ndarray of shape (n_unlabelled,)
        Trend scores of the unlabelled rows of positive weight, in order.

    heldout_trend_scores_ : ndarray of shape (n_positives,)
        Trend scores of the labelled positives, held out of training unless ``n_folds=None``.

    split_threshold_ : float
        Unlabelled rows with a larger trend score are called positive.

    transduction_ : ndarray of shape (n_unlabelled,)
        Labels of the unlabelled rows by that threshold.

    heldout_auc_ : float
        Probability that a held-out positive has a larger trend score than an unlabelled row. At
        best ``1 - class_prior_ / 2``.

    selected_estimator_ : str
        The model of the first stage.

    selected_trend_ : str
        The trend score.

    stop_snapshot_ : int
        Index of the last snapshot in use.

    n_iter_ : int
        Snapshots that were trained.

    snapshot_quantiles_ : ndarray of shape (3, n_snapshots, 3)
        For the held-out positives and the unlabelled rows called positive and negative the 10 %
        quantile, mean and 90 % quantile of the scores at each snapshot; of U at most 2,000 rows.

    score_history_ : ndarray of shape (n_snapshots, n_unlabelled)
        With `store_history` only: the scores of the unlabelled rows at the snapshots in use.

    n_features_in_ : int
        Number of features seen during `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X has string names.

    Warns
    -----
    PUTrendWarning
        If the trend is inverted, the split degenerate, the prior undetermined, the labelled
        positives cannot be told from the unlabelled rows, or there are too few for the folds.

    See Also
    --------
    pnsklearn.metrics.make_pu_scorer : Scores that need no negatives, for model selection.
    pnsklearn.metrics.class_prior : The estimate of the prior.
    pnsklearn.displays.TrendDisplay : A picture of the first stage.

    References
    ----------
    .. [1] X. Wang, W. Wan, C. Geng, S.-Y. Li, S. Chen, "Beyond Myopia: Learning from Positive and
       Unlabeled Data through Holistic Predictive Trends", NeurIPS 2023.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from pnsklearn import PUTrendClassifier
    >>> from pnsklearn.datasets import make_pu
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X, s, y_true = make_pu(X, y, n_labeled=100, random_state=0)
    >>> model = PUTrendClassifier(random_state=0).fit(X, s)
    >>> bool((model.predict(X) == y_true).mean() > 0.85)
    True
    """

    _parameter_constraints: dict = {  # noqa: RUF012, scikit-learn's form
        "estimator": [StrOptions({"auto", "linear", "mlp"}), HasMethods("fit"), callable],
        "final_estimator": [None, StrOptions({"same"}), HasMethods(["fit", "predict_proba"])],
        "trend": [StrOptions({"auto", *TRENDS})],
        "split": [StrOptions({"auto", "prior", "natural", "variance", "authors"})],
        "class_prior": [None, Interval(Real, 0, 1, closed="neither")],
        "scenario": [StrOptions({"single", "case-control"})],
        "pseudo_labels": [StrOptions({"soft", "hard", "ramped"})],
        "n_snapshots": [Interval(Integral, 1, None, closed="left")],
        "n_passes": [Interval(Integral, 1, None, closed="left")],
        "steps_per_snapshot": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "n_folds": [None, Interval(Integral, 2, None, closed="left")],
        "early_stopping": ["boolean"],
        "ema": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left")],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "weak_transform": [None, callable],
        "strong_transform": [None, callable],
        "store_history": ["boolean"],
        "device": [str],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    _doc_link_module = "pnsklearn"
    _doc_link_template = "generated/pnsklearn.{estimator_name}.html"

    def __init__(
        self,
        estimator="auto",
        *,
        final_estimator=None,
        trend="auto",
        split="auto",
        class_prior=None,
        scenario="single",
        pseudo_labels="soft",
        n_snapshots=15,
        n_passes=10,
        steps_per_snapshot="auto",
        n_folds=5,
        early_stopping=True,
        ema="auto",
        label_smoothing=0.1,
        batch_size=64,
        learning_rate=0.03,
        weak_transform=None,
        strong_transform=None,
        store_history=False,
        device="cpu",
        n_jobs=None,
        random_state=None,
    ):
        self.estimator = estimator
        self.final_estimator = final_estimator
        self.trend = trend
        self.split = split
        self.class_prior = class_prior
        self.scenario = scenario
        self.pseudo_labels = pseudo_labels
        self.n_snapshots = n_snapshots
        self.n_passes = n_passes
        self.steps_per_snapshot = steps_per_snapshot
        self.n_folds = n_folds
        self.early_stopping = early_stopping
        self.ema = ema
        self.label_smoothing = label_smoothing
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weak_transform = weak_transform
        self.strong_transform = strong_transform
        self.store_history = store_history
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state

    @classmethod
    def paper(cls, estimator="mlp", **params):
        """Return the method as the paper has it: one run, pairwise trend, variance criterion.

        Parameters
        ----------
        estimator : str, classifier or callable, default="mlp"
            The model of both stages.
        **params : dict
            Further parameters, in place of the published ones.

        Returns
        -------
        classifier : PUTrendClassifier
            Not fitted.
        """
        published = {"trend": "pairwise", "split": "variance", "early_stopping": True}
        return cls(estimator, **(_PUBLISHED | published | params))

    @classmethod
    def authors_code(cls, estimator="mlp", **params):
        """Return the method as the authors' code has it, without its use of the test labels.

        Parameters
        ----------
        estimator : str, classifier or callable, default="mlp"
            The model of both stages.
        **params : dict
            Further parameters, in place of the authors'.

        Returns
        -------
        classifier : PUTrendClassifier
            Not fitted.
        """
        published = {"trend": "simple", "split": "authors", "early_stopping": False}
        return cls(estimator, **(_PUBLISHED | published | params))

    @unchanged_on_error
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the classifier.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data. With a torch module of shape (n_samples, ...).

        y : array-like of shape (n_samples,)
            Two labels; the larger one marks the labelled positives, the other unlabelled rows.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of rows. A weight of two is the same as a row given twice for the
            built-in models and up to 256 rows in all; beyond, folds and batches are drawn by row.
            Weights that sum to less than the number of rows are scaled up to it.

        Returns
        -------
        self : PUTrendClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, X, y or a weight is out of its range, there is no labelled positive or
            no unlabelled row, or `estimator` has no `partial_fit` or no probability.
        ImportError
            If a torch module is asked for and torch is not installed.
        """
        self._check_settings()
        X, y, labeled, weight, classes = self._check_data(X, y, sample_weight)
        rng = check_random_state(self.random_state)
        context = self._init_callback_context(max_subtasks=None)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)

        stopped = []

        def on_snapshot(learner):
            task = context.subcontext(task_name="snapshot")
            task.call_on_fit_task_begin(estimator=self, X=X, y=y)
            stop = task.call_on_fit_task_end(
                estimator=self,
                X=X,
                y=y,
                reconstruction_attributes=lambda: {
                    "classes_": classes,
                    "_trained_on_sparse": issparse(X),
                    "final_estimator_": MeanProbability(learner),
                },
            )
            stopped.extend([True] if stop else [])
            return stop

        prior_seed, final_seed = rng.randint(2**31 - 1, size=2)
        X_P, X_U, weight_P, weight_U = X[labeled], X[~labeled], weight[labeled], weight[~labeled]
        sees_P, sees_U = self._cross_fit(X_P, X_U, rng)
        samples = [(X_P, weight_P, sees_P), (X_U, weight_U, sees_U)]
        plan = self._plan(sees_P.shape[1], X_U.shape[0])
        stages = {}
        for name, make_learner in self._learners(X).items():
            learner = make_learner(
                X_P, X_U, weight_P[:, None] * sees_P, weight_U[:, None] * sees_U, plan, rng
            )
            stages[name] = first_stage(
                learner,
                samples,
                plan,
                early_stopping=self.early_stopping,
                min_snapshots=2 if self.trend in CHANGES else 1,
                store_history=self.store_history or self.trend in PAIRED_TRENDS,
                callback=partial(on_snapshot, learner),
            )
            if stopped:
                break
        name, stage = max(stages.items(), key=lambda item: mean_auc(item[1], weight_P, weight_U))
        held_out = sees_P.shape[1] > 1
        # Without averaged weights, or held-out positives to judge by, only the mean is safe.
        safe = held_out and name != "partial_fit"
        split = split_trends(
            stage,
            "mean" if self.trend == "auto" and not safe else self.trend,
            self.split,
            self.class_prior,
            held_out=held_out,
            weight_P=weight_P,
            weight_U=weight_U,
            seed=prior_seed,
        )
        positive = split.unlabeled > split.threshold
        soft = self.pseudo_labels == "soft"
        target = posterior(split, weight_P, weight_U) if soft else positive.astype(np.float64)
        sample = final_sample(X_P, X_U, weight_P, weight_U, target, split.share, self.scenario)
        unlabeled = np.arange(sample[0].shape[0]) >= X_P.shape[0]
        final = self._fit_final(name, *sample, unlabeled, plan, final_seed)

        vars(self).pop("score_history_", None)  # a refit may go without
        self._trained_on_sparse = issparse(X)
        self.classes_ = classes
        self.class_prior_ = split.prior
        self.positive_share_ = split.share
        self.class_prior_interval_ = split.interval
        self.final_estimator_ = final
        self.trend_scores_ = split.unlabeled
        self.heldout_trend_scores_ = split.positives
        self.split_threshold_ = split.threshold
        self.transduction_ = classes[positive.astype(int)]
        self.heldout_auc_ = split.auc
        self.selected_estimator_ = name
        self.selected_trend_ = split.kind
        self.stop_snapshot_ = stage.stop
        self.n_iter_ = len(stage.curves)
        self.snapshot_quantiles_ = snapshot_quantiles(stage, positive)
        if self.store_history:
            self.score_history_ = stage.unlabeled.history
        return self

    def decision_function(self, X):
        """Return the log-odds of the positive class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        log_odds : ndarray of shape (n_samples,)
            Between -20.7 and 20.7: probabilities are kept 1e-9 away from zero and one.
        """
        positive = self.predict_proba(X)[:, 1]
        return logit(np.clip(positive, 1e-9, 1 - 1e-9))

    def predict_proba(self, X):
        """Return the probabilities of negative and positive in the population; see `scenario`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        probability : ndarray of shape (n_samples, 2)
            Columns in the order of `classes_`.
        """
        check_is_fitted(self)
        X = self._check_X(X, reset=False)
        if issparse(X):  # as the models were trained: some centre dense data, and cannot sparse
            X = with_short_indices(X) if self._trained_on_sparse else X.toarray()
        return self.final_estimator_.predict_proba(X)

    def predict(self, X):
        """Return the label of each sample: ``classes_[1]`` where positive is the likelier.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Entries of `classes_`.
        """
        positive = self.predict_proba(X)[:, 1] > 0.5
        return self.classes_[positive.astype(int)]

    def _check_settings(self):
        """Refuse what needs more than one parameter, or the machine, to be judged."""
        check_device(self.device)
        if self._is_module:
            check_torch("A torch module as the estimator")
        elif not isinstance(self.estimator, str):
            if isinstance(self.estimator, type):
                raise TypeError(
                    f"estimator must be an instance, not a class: use {self.estimator.__name__}()."
                )
            if not hasattr(self.estimator, "partial_fit"):
                raise ValueError(
                    f"estimator must have partial_fit, and {type(self.estimator).__name__} has "
                    "not. Use estimator='auto', and this one as final_estimator."
                )
            if not any(hasattr(self.estimator, m) for m in ("predict_proba", "decision_function")):
                raise ValueError(
                    f"estimator must have predict_proba or decision_function, and "
                    f"{type(self.estimator).__name__} has neither with these parameters."
                )
            if self._final_is_same and not hasattr(self.estimator, "predict_proba"):
                raise ValueError(
                    f"final_estimator='same' needs an estimator with predict_proba, which "
                    f"{type(self.estimator).__name__} has not with these parameters."
                )
        if self.device != "cpu" and not self._is_module:
            raise ValueError(f"device={self.device!r} needs a torch module as the estimator.")
        if not self._is_module and (self.weak_transform or self.strong_transform):
            raise ValueError("weak_transform and strong_transform need a torch module.")
        if self.strong_transform and not self.weak_transform:
            raise ValueError("strong_transform needs weak_transform as well.")
        if self.split == "prior" and self.n_folds is None and self.class_prior is None:
            raise ValueError(
                "With n_folds=None no positive is held out, so the prior cannot be estimated. "
                "Set class_prior or n_folds, or split='natural'."
            )
        if isinstance(self.final_estimator, type):
            raise TypeError(
                "final_estimator must be an instance, not a class: use "
                f"{self.final_estimator.__name__}()."
            )
        final = self.estimator if self._final_is_same else self.final_estimator
        needed = self.pseudo_labels == "soft" or self.scenario == "case-control"
        if needed and hasattr(final, "fit") and not takes_weights(final):
            raise ValueError(
                f"The fit of {type(final).__name__} takes no sample_weight, which the second stage "
                "needs with pseudo_labels='soft' or scenario='case-control'."
            )
        if self.class_prior is not None and self.split not in ("auto", "prior"):
            raise ValueError(f"class_prior has no use with split={self.split!r}; use split='auto'.")
        if self.n_snapshots == 1 and self.trend in CHANGES:
            raise ValueError(f"trend={self.trend!r} needs n_snapshots of 2 or more.")
        if self.pseudo_labels == "ramped" and not self._final_is_same:
            raise ValueError("pseudo_labels='ramped' needs final_estimator='same'.")

    @property
    def _is_module(self):
        return not isinstance(self.estimator, str) and not hasattr(self.estimator, "fit")

    @property
    def _final_is_same(self):
        return isinstance(self.final_estimator, str) or (
            self.final_estimator is None and self._is_module
        )

    def _check_X(self, X, reset, y="no_validation"):
        refuse_unreadable(X, y)
        return validate_data(
            self,
            X,
            y,
            reset=reset,
            accept_sparse=False if self._is_module else "csr",
            allow_nd=self._is_module,
            dtype=[np.float64, np.float32],
            order="C",
        )

    def _check_data(self, X, y, sample_weight):
        """Return X, y, labelled positives, weights without rows of weight zero; classes."""
        X, y = self._check_X(X, True, y)
        refuse_huge(X)
        X = with_short_indices(X) if issparse(X) else X
        classes, labeled = check_binary_target(
            y,
            "labelled positives and unlabelled rows",
            "Fit one estimator for each class: its labelled rows against the unlabelled ones.",
        )
        if str(classes[1]).lower() in ("u", "unk") or str(classes[1]).lower().startswith("un"):
            raise ValueError(
                f"The larger label marks the labelled positives, and here that is {classes[1]!r}. "
                "Use 1 for labelled positives and 0 for unlabelled rows."
            )
        weight = check_weights(sample_weight, X)
        check_weighted_classes(labeled, weight, "unlabelled")
        # Weights count rows; those that are shares of one count as many rows as there are.
        weight = weight * max(1.0, np.count_nonzero(weight) / weight.sum())
        kept = weight > 0
        if not kept.all():
            X, y, labeled, weight = X[kept], y[kept], labeled[kept], weight[kept]
        return X, y, labeled, weight, classes

    def _cross_fit(self, X_P, X_U, rng):
        """Return which run sees which row."""
        whole = X_P.shape[0] + X_U.shape[0] <= WHOLE and not self._is_module
        groups = [content_groups(X) if whole else np.arange(X.shape[0]) for X in (X_P, X_U)]
        n_P, n_U = (group.max() + 1 for group in groups)
        if self.n_folds is None or min(n_P, n_U) == 1:
            n_folds = None
        else:
            n_folds = min(self.n_folds, int(n_P))
        if n_folds != self.n_folds:
            warnings.warn(
                f"n_folds={n_folds} is used instead of {self.n_folds}: the number of different "
                f"labelled positives is {n_P}, and of different unlabelled rows {n_U}.",
                PUTrendWarning,
                stacklevel=5,
            )
        if n_folds is None:
            return tuple(np.ones((X.shape[0], 1), dtype=bool) for X in (X_P, X_U))
        return cross_fit(*groups, n_folds, rng)

    def _plan(self, n_runs, n_unlabeled):
        steps = self.steps_per_snapshot
        if steps == "auto":
            passes = self.n_passes * n_unlabeled / (self.batch_size * self.n_snapshots)
            steps = max(MIN_STEPS, round(passes))
        return Plan(
            n_runs=n_runs,
            n_snapshots=self.n_snapshots,
            steps=steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            label_smoothing=self.label_smoothing,
            ema=1 - 1 / (2 * steps) if self.ema == "auto" else self.ema,
        )

    def _learners(self, X):
        """Return the learners to try, by name."""
        if self._is_module:
            from pnsklearn._pu_trend._module import ModuleLearner

            options = {"device": self.device, "weak_transform": self.weak_transform}
            return {"module": partial(ModuleLearner, self.estimator, **options)}
        if not isinstance(self.estimator, str):
            return {"partial_fit": partial(PartialFitLearner, self.estimator)}
        names = [self.estimator]
        if self.estimator == "auto":
            choice = isinstance(X, np.ndarray) and self.n_folds is not None
            names = ["linear", "mlp"] if choice else ["linear"]
        return {name: partial(NetworkLearner, name) for name in names}

    def _fit_final(self, name, X, y, weight, unlabeled, plan, seed):
        """Return the classifier of the second stage."""
        rng = np.random.RandomState(seed)
        if self._final_is_same and name != "partial_fit":
            sample, ramped = (X, y, weight, unlabeled), self.pseudo_labels == "ramped"
            if name != "module":
                return MeanProbability(fit_network(name, *sample, plan, rng, ramped=ramped))
            from pnsklearn._pu_trend._module import fit_module

            module = fit_module(
                self.estimator,
                *sample,
                plan,
                rng,
                ramped=ramped,
                device=self.device,
                weak_transform=self.weak_transform,
                strong_transform=self.strong_transform,
            )
            return MeanProbability(module)
        if self.final_estimator is None:
            final = default_trees(X, weight, self.n_jobs)
        else:
            final = clone(self.estimator if self._final_is_same else self.final_estimator)
        states = {
            name: int(rng.randint(2**31 - 1))
            for name, value in sorted(final.get_params().items())
            if name.rpartition("__")[2] == "random_state" and value is None
        }
        final.set_params(**states)
        return fit_weighted(final, X, y, weight)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.sparse = not self._is_module
        return tags
