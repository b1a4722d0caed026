"""PUTrendClassifier: the scikit-learn face of learning from positives and unlabeled rows."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy.sparse import issparse
from scipy.special import logit
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from pnsklearn._auprc._threshold import check_threshold
from pnsklearn._device import check_device, check_torch
from pnsklearn._fitting import callback_tasks, replace_fitted, unchanged_on_error
from pnsklearn._habits import FitMixin
from pnsklearn._pu_trend._labels import fill_missing, filled_classes, positive_label
from pnsklearn._pu_trend._learners import SMALLEST_PROBABILITY
from pnsklearn._pu_trend._networks import MeanProbability
from pnsklearn._pu_trend._presets import AUTHORS_CODE, PAPER
from pnsklearn._pu_trend._second_stage import takes_weights, with_short_indices
from pnsklearn._pu_trend._solver import is_module_factory, solve, trains_same
from pnsklearn._pu_trend._table import is_table, numeric_view, takes_gaps
from pnsklearn._pu_trend._trend import TRENDS, TRENDS_OF_CHANGE
from pnsklearn._typing import Array
from pnsklearn._validation import (
    check_binary_target,
    check_weighted_classes,
    check_weights,
    check_X,
    refuse_huge,
    refuse_unreadable,
    without_weightless,
)


class PUTrendClassifier(FitMixin, ClassifierMixin, BaseEstimator):
    r"""Binary classifier for labeled positives and unlabeled rows.

    There are no labeled negatives: one label (1, True, or `pos_label`) marks the labeled
    positives, the other, or a missing label, the unlabeled rows, of which some are positive too.
    `predict` returns the same two labels, read as positive and negative.

    First stage, after [1]_: models learn to tell labeled from unlabeled rows on batches of equal
    halves, and snapshots in training give each unlabeled row a curve of scores; `trend` turns it
    into one number, and a split of these numbers into pseudo-labels. Second stage: a classifier is
    trained on them. Where the published method trains one model on all rows, here each of
    ``2 * n_folds`` runs holds out some positives and half of the unlabeled rows, and all scores
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
        needs a `fit` that takes `sample_weight`. A classifier, or pipeline, gets a frame as it
        comes: names, text, categories, dates, missing values; and an array with NaN if it takes
        them. The first stage then sees the numbers, booleans, and the twenty commonest levels of
        text and categories, with medians for what is missing.

    trend : {"auto", "mean", "last", "simple", "slope", "pairwise", "mann-kendall"}, default="auto"
        How a curve of scores becomes one number: its mean, its end, the authors' code, the slope,
        the paper's equations 4 and 5, or the share of rises less that of falls. "auto" is the mean,
        or the one of the first four that ranks the held-out positives clearly higher. The last two
        need all snapshots in memory.

    split : {"auto", "prior", "natural", "variance", "authors"}, default="auto"
        How many unlabeled rows count as positive: "auto" and "prior" are the share of positives,
        given or estimated; the others those above the natural break of the trend scores, with the
        criterion of Fisher and Jenks, that of the paper's equation 8, or the authors' code (which
        has no weights, and uses all snapshots: the others use those up to the smallest held-out
        loss). "auto" is "natural" where the share cannot be estimated, because no labeled positive
        is held out: ``n_folds=None``, or a single one.

    class_prior : float, tuple (low, high) or None, default=None
        What you know of the share of positives among the unlabeled rows: its value, in (0, 1), or
        bounds, in [0, 1]. None estimates it freely; see `class_prior_`.

    pos_label : int, float, bool, str or None, default=None
        The label of the labeled positives. None: 1 beside 0 or -1, and True beside False; other
        labels must be named. Missing labels (None, NaN, `pandas.NA`) mean unlabeled, whatever the
        only other label is.

    scenario : {"single", "case-control"}, default="single"
        What the population is: both samples together, one sample of which some positives are
        labeled; or the unlabeled rows alone, beside a separate sample of positives.

    threshold : str, tuple (str, float) or float, default="proba"
        Probability above which `predict` says positive, as for
        :class:`~pnsklearn.AUPRCClassifier`: "proba" is one half, which is best for accuracy; "f1"
        has the best F1, ("precision", p) and ("recall", r) what they say, by the estimated
        probabilities; ("budget", b) calls a share b of the population positive (the 50 likeliest of
        1,000 are 0.05), and needs the ranking only; and a number is that number.

    pseudo_labels : {"soft", "hard", "ramped"}, default="soft"
        What the second stage is trained on: probabilities; the split; or, as published and for
        ``final_estimator="same"`` only, the split with targets that rise from zero in the first 25
        epochs, and weights that are averaged with a decay of 0.999.

    n_snapshots : int, default=15
        Snapshots of the first stage.

    n_passes : float, "auto" or "published", default="auto"
        Passes over the unlabeled rows in all; at least 20 steps are taken for each snapshot.
        "auto" is 10, with at most 100 steps for each; "published" takes 512, whatever the number
        of rows.

    n_folds : int or None, default=5
        Folds of the labeled positives: each is held out twice. None trains one model on all rows.

    batch_size : int, default=64
        Labeled positives, and as many unlabeled rows, in a step. A sample of up to 256 rows is
        one batch.

    learning_rate : float, default=0.03
        Initial step size; it falls along a cosine.

    transforms : None, callable or tuple of two callables, default=None
        For torch modules: functions that map a batch to an augmented one of the same shape. One is
        the weak transform of the training batches. With a pair (weak, strong), the second stage has
        the FixMatch term: it must say the same of both views of an unlabeled row.

    device : str, default="cpu"
        For torch modules: "cpu", "cuda" or "cuda:N". Fitted attributes are on the CPU in any case.

    n_jobs : int or None, default=None
        Threads of the default second stage. Results do not depend on it.

    random_state : int, RandomState instance or None, default=None
        Seed of the runs, the folds and the second stage.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The labels; ``classes_[1]`` marks the labeled positives. Where the others were missing, the
        negative label is 0, or "not ..." for text.

    class_prior_ : float
        Share of positives among the unlabeled rows, as given or estimated. Without assumptions the
        data identify only an upper bound: negatives that look exactly like positives count as such.
        The estimate is the smallest of three: the median of a posterior given the trend scores;
        that given these and the scores of a forest; and an upper bound, which needs no more than
        labels at random. See :func:`pnsklearn.metrics.class_prior_posterior` for what the first
        two assume.

    class_prior_interval_ : tuple of float
        5 and 95 % quantiles of that posterior, cut at the upper bound. It holds under the same
        assumptions. NaN if the share is only that of a natural break.

    class_prior_posterior_ : PriorPosterior or None
        The posterior given both scores, without the cut, by which the doubt is measured: shares,
        `share`, and their `probability`. None where no labeled positive is held out and no share
        is given.

    doubt_ : float
        Probability that calling every row the same would be more accurate than calling positive
        what is likelier so than not, given the posterior of both. NaN where no labeled positive is
        held out.

    diagnostics_ : tuple of (what, value, limit, verdict)
        What was looked at; printed, it is a table.

    final_estimator_ : object
        The classifier of the second stage, for the labels 0 and 1.

    threshold_ : float
        Probability above which `predict` says positive.

    trend_scores_ : ndarray of shape (n_unlabeled,)
        Trend scores of the unlabeled rows of positive weight, in order; see `rows_`.

    heldout_trend_scores_ : ndarray of shape (n_positives,)
        Trend scores of the labeled positives, held out of training unless ``n_folds=None``.

    rows_ : ndarray of shape (n_used,)
        Indices of the rows that were used, in order: those of positive weight; and of more than
        20,000 labeled positives or unlabeled rows a random sample of as many, unless
        ``n_folds=None`` or the model is a torch module. What has one entry per labeled positive or
        unlabeled row has it for these.

    split_threshold_ : float
        Unlabeled rows with a larger trend score are called positive.

    transduction_ : ndarray of shape (n_unlabeled,)
        Labels of the unlabeled rows by that threshold.

    heldout_auc_ : float
        Probability that a held-out positive has a larger trend score than an unlabeled row. At
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
        For the held-out positives and the unlabeled rows called positive and negative the 10 %
        quantile, mean and 90 % quantile of the scores at each snapshot; of U at most 2,000 rows.

    n_features_in_ : int
        Number of features seen during `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X has string names.

    Warns
    -----
    PUWarning
        If `doubt_` is large, a given `class_prior` contradicts the data, a trend that was asked for
        is inverted, there are too few labeled positives for the folds, or, for ``n_folds=None``,
        the run has memorised its rows.

    See Also
    --------
    pnsklearn.metrics.make_pu_scorer : Scores that need no negatives, for model selection.
    pnsklearn.metrics.class_prior_posterior : What scores say of the share of positives.
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
        "class_prior": [None, Interval(Real, 0, 1, closed="neither"), tuple, list],
        "pos_label": [Real, str, "boolean", None],
        "scenario": [StrOptions({"single", "case-control"})],
        "threshold": [StrOptions({"proba", "f1"}), tuple, Interval(Real, 0, 1, closed="both")],
        "pseudo_labels": [StrOptions({"soft", "hard", "ramped"})],
        "n_snapshots": [Interval(Integral, 1, None, closed="left")],
        "n_passes": [StrOptions({"auto", "published"}), Interval(Real, 0, None, closed="neither")],
        "n_folds": [None, Interval(Integral, 2, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "transforms": [None, callable, tuple],
        "device": [str],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    _doc_link_module = "pnsklearn"
    _doc_link_template = "generated/pnsklearn.{estimator_name}.html"

    def __init__(
        self, estimator: Any = "auto", *, final_estimator: Any = None, trend: str = "auto",
        split: str = "auto", class_prior: Any = None, pos_label: Any = None,
        scenario: str = "single", threshold: Any = "proba", pseudo_labels: str = "soft",
        n_snapshots: int = 15, n_passes: float | str = "auto", n_folds: int | None = 5,
        batch_size: int = 64, learning_rate: float = 0.03, transforms: Any = None,
        device: str = "cpu", n_jobs: int | None = None, random_state: Any = None,
    ):  # fmt: skip
        self.estimator = estimator
        self.final_estimator = final_estimator
        self.trend = trend
        self.split = split
        self.class_prior = class_prior
        self.pos_label = pos_label
        self.scenario = scenario
        self.threshold = threshold
        self.pseudo_labels = pseudo_labels
        self.n_snapshots = n_snapshots
        self.n_passes = n_passes
        self.n_folds = n_folds
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.transforms = transforms
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state

    @classmethod
    def paper(cls, estimator: Any = "mlp", **params: Any) -> "PUTrendClassifier":
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
        return cls(estimator, **(PAPER | params))

    @classmethod
    def authors_code(cls, estimator: Any = "mlp", **params: Any) -> "PUTrendClassifier":
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
        return cls(estimator, **(AUTHORS_CODE | params))

    @unchanged_on_error
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "PUTrendClassifier":
        """Fit the classifier.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data. With a torch module of shape (n_samples, ...).

        y : array-like of shape (n_samples,)
            Two labels, see `pos_label`, or one label and missing ones.

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
            If a parameter, X, y or a weight is out of its range, there is no labeled positive or
            no unlabeled row, or `estimator` has no `partial_fit` or no probability.
        ImportError
            If a torch module is asked for and torch is not installed.
        """
        self._check_settings()
        X, y, labeled, weight, classes, rows, view, table = self._check_data(X, y, sample_weight)
        always = {"classes_": classes, "_trained_on_sparse_": issparse(X), "_view_": view}
        with callback_tasks(self, table, y) as on_task:

            def on_snapshot(learner):
                return on_task(
                    "snapshot",
                    lambda: (
                        always | {"final_estimator_": MeanProbability(learner), "threshold_": 0.5}
                    ),
                )

            params = self.get_params(deep=False)
            del params["pos_label"]
            solution = solve(X, labeled, weight, table, on_snapshot, **params)
            stage, split = solution.stage, solution.split
            fitted = {
                "class_prior_": split.share,
                "class_prior_interval_": split.interval,
                "class_prior_posterior_": solution.posterior,
                "doubt_": solution.doubt,
                "diagnostics_": solution.diagnostics,
                "final_estimator_": solution.final_estimator,
                "threshold_": solution.threshold,
                "rows_": rows[solution.rows],
                "trend_scores_": split.ranking.unlabeled,
                "heldout_trend_scores_": split.ranking.positives,
                "split_threshold_": split.threshold,
                "transduction_": classes[split.called_positive.astype(int)],
                "heldout_auc_": split.ranking.auc,
                "selected_estimator_": stage.name,
                "selected_trend_": split.ranking.trend,
                "stop_snapshot_": stage.last,
                "n_iter_": len(stage.curves),
                "snapshot_quantiles_": stage.quantiles(split.called_positive),
            }
            replace_fitted(self, always | fitted)
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
            Between -20.7 and 20.7: probabilities are kept 1e-9 away from zero and one.
        """
        positive = self.predict_proba(X)[:, 1]
        return logit(np.clip(positive, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY))

    def predict_proba(self, X: Any) -> Array:
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
        if self._view_ is not None:
            validate_data(self, X, reset=False, skip_check_array=True)
            numbers = isinstance(self.final_estimator_, MeanProbability)  # of a callback
            return self.final_estimator_.predict_proba(self._view_.transform(X) if numbers else X)
        X = check_X(self, X, reset=False, deep=is_module_factory(self.estimator))
        if issparse(X):  # as the models were trained: some centre dense data, and cannot sparse
            X = with_short_indices(X) if self._trained_on_sparse_ else X.toarray()
        return self.final_estimator_.predict_proba(X)

    def predict(self, X: Any) -> Array:
        """Return the label of each sample: ``classes_[1]`` above `threshold_`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Entries of `classes_`.
        """
        positive = self.predict_proba(X)[:, 1] > self.threshold_
        return self.classes_[positive.astype(int)]

    def _check_settings(self):
        """Refuse what needs more than one parameter, or the machine, to be judged."""
        check_device(self.device)
        check_threshold(self.threshold)
        self._check_estimator()
        self._check_final_estimator()
        if self.split == "prior" and self.n_folds is None and self.class_prior is None:
            raise ValueError(
                "With n_folds=None no positive is held out, so the class prior cannot be "
                "estimated. Set class_prior or n_folds, or split='natural'."
            )
        given = self.class_prior
        if np.ndim(given) and not (len(given) == 2 and 0 <= given[0] < given[1] <= 1):
            raise ValueError(
                "The 'class_prior' parameter must be None, a number in (0, 1), or two numbers, a "
                f"lower and an upper bound in [0, 1]; got {given!r}."
            )
        if given is not None and self.split not in ("auto", "prior"):
            raise ValueError(
                f"class_prior is not used with split={self.split!r}. Set split='auto'."
            )
        if self.n_snapshots == 1 and self.trend in TRENDS_OF_CHANGE:
            raise ValueError(f"trend={self.trend!r} needs n_snapshots=2 or more.")

    def _check_estimator(self):
        """Refuse what cannot be the model of the first stage, or has no use with it."""
        estimator = self.estimator
        if is_module_factory(estimator):
            check_torch("A torch module as the estimator")
            given = self.transforms
            if isinstance(given, tuple) and (len(given) != 2 or not all(map(callable, given))):
                raise ValueError(
                    "transforms must be None, a function, or a tuple of two functions, the weak "
                    f"and the strong one; got {given!r}."
                )
            return
        if self.device != "cpu":
            raise ValueError(f"device={self.device!r} needs a torch module as the estimator.")
        if self.transforms is not None:
            raise ValueError("transforms need a torch module as the estimator.")
        if isinstance(estimator, str):
            return
        name = type(estimator).__name__
        if isinstance(estimator, type):
            raise TypeError(
                f"estimator must be an instance, not a class. Use {estimator.__name__}()."
            )
        if not hasattr(estimator, "partial_fit"):
            final = f" and pass {name} as final_estimator" * hasattr(estimator, "predict_proba")
            raise ValueError(
                f"{name} cannot be the first-stage estimator because it has no partial_fit. "
                f"Use estimator='auto'{final}."
            )
        if not hasattr(estimator, "predict_proba") and not hasattr(estimator, "decision_function"):
            raise ValueError(
                f"{name} cannot be the first-stage estimator because, with these parameters, it "
                "has neither predict_proba nor decision_function."
            )

    def _check_final_estimator(self):
        """Refuse what cannot be the model of the second stage."""
        same = trains_same(self.estimator, self.final_estimator)
        final = self.estimator if same else self.final_estimator
        if isinstance(final, type):
            raise TypeError(
                f"final_estimator must be an instance, not a class. Use {final.__name__}()."
            )
        if hasattr(final, "fit") and not hasattr(final, "predict_proba"):
            raise ValueError(
                f"final_estimator='same' needs an estimator with predict_proba, which "
                f"{type(final).__name__} does not have with these parameters."
            )
        weighted = self.pseudo_labels == "soft" or self.scenario == "case-control"
        if weighted and hasattr(final, "fit") and not takes_weights(final):
            raise ValueError(
                f"{type(final).__name__} cannot be the final estimator because its fit takes no "
                "sample_weight, which pseudo_labels='soft' and scenario='case-control' need."
            )
        if self.pseudo_labels == "ramped" and not same:
            raise ValueError("pseudo_labels='ramped' needs final_estimator='same'.")

    def _check_data(self, X, y, sample_weight):
        """Return the data without rows of weight zero, and what it was read from."""
        refuse_unreadable(X, y)
        view, given = None, X
        if is_table(X, self.final_estimator):
            counted = np.flatnonzero(check_weights(sample_weight, X))
            view = numeric_view(X).fit(_safe_indexing(X, counted))
            X = view.transform(X)
        y, only_label = fill_missing(y)
        X, y = check_X(self, X, y, reset=True, deep=is_module_factory(self.estimator))
        refuse_huge(X)
        classes, labeled = check_binary_target(
            y,
            "labeled positives and unlabeled rows",
            "Fit one estimator for each class: its labeled rows against the unlabeled ones.",
        )
        if only_label is None:
            classes = positive_label(classes, self.pos_label)
            labeled = y == classes[1]
        else:
            classes = filled_classes(only_label, self.pos_label)
        weight = check_weights(sample_weight, X)
        check_weighted_classes(labeled, weight, "unlabeled")
        # Weights count rows; those that are shares of one count as many rows as there are.
        weight = weight * max(1.0, np.count_nonzero(weight) / weight.sum())
        weight, X, y, labeled, kept = without_weightless(weight, with_short_indices(X), y, labeled)
        rows, table = np.flatnonzero(kept), X
        if view is not None:
            validate_data(self, given, skip_check_array=True)  # its names and columns
            table = given if kept.all() else _safe_indexing(given, rows)
        return X, y, labeled, weight, classes, rows, view, table

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        # scikit-learn's checks want the likelier class from predict, and know no threshold.
        tags._skip_test = self.threshold not in ("proba", 0.5)
        # There the population is the unlabeled rows alone, not all that a score is taken over.
        tags.classifier_tags.poor_score = self.scenario == "case-control"
        tags.input_tags.allow_nan = takes_gaps(self.final_estimator)
        tags.input_tags.sparse = not is_module_factory(self.estimator)
        return tags
