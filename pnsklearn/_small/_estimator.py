"""SMaLLClassifier: the scikit-learn face of sparse multi-prototype linear rules."""

import copy
from functools import partial
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from scipy.sparse import issparse
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring, get_scorer_names
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    check_is_fitted,
)

from pnsklearn._device import check_device, check_installed
from pnsklearn._fitting import callback_tasks, replace_fitted, unchanged_on_error, warn_user
from pnsklearn._habits import FitMixin
from pnsklearn._small import _frame, _selection
from pnsklearn._small._data import quantile_steps, standardised, step_values
from pnsklearn._small._export import parameter_bytes
from pnsklearn._small._objective import Objective
from pnsklearn._small._points import in_points, training_error
from pnsklearn._small._solver import IDLE_INTERCEPT, certified, sampled_rows, solve
from pnsklearn._small._texts import TextsMixin
from pnsklearn._splits import SplitterMixin, split_metadata
from pnsklearn._typing import Array, Matrix
from pnsklearn._validation import (
    check_binary_target,
    check_weighted_classes,
    check_weights,
    check_X,
    class_weighted,
    refuse_overflow,
    without_weightless,
)

LARGEST_COUNT = 2**31 - 1  # of iterations
# Of a rule that reads a missing value which the fit has not seen: it may fire, and does not.
UNKNOWN_SCORE = -float(np.finfo(np.float32).tiny)
AT_LEAST_ONE = Interval(Integral, 1, None, closed="left")


def _attributes(classes, terms, dtype, objective, solution):
    """Return the fitted attributes of a solution, its rules back in the original units."""
    coef, intercept = objective.without_idle(solution.coef, solution.intercept)
    coef = coef / objective.data.scale
    intercept = intercept - coef @ objective.data.center
    if solution.multiplier is not None:  # but for the rounding, integers already
        coef = np.rint(solution.multiplier * coef)
        intercept = np.rint(solution.multiplier * intercept + 0.5) - 0.5
        terms = terms | {"multiplier_": solution.multiplier}
    return terms | {
        "classes_": classes,
        "positive_class_": classes[objective.union],
        "coef_": coef.astype(dtype),
        "intercept_": intercept.astype(dtype),
    }


def _bounds(solution):
    return {
        "objective_": float(solution.objective),
        "lower_bound_": float(solution.lower_bound),
        "gap_": float(solution.gap),
    }


class SMaLLClassifier(TextsMixin, FitMixin, SplitterMixin, ClassifierMixin, BaseEstimator):
    r"""A few sparse linear rules joined by "or".

    The model is small enough to be read by a person and to run on the smallest device:

    .. math::

        f(x) = \max_{j = 1..p} (w_j \cdot x + b_j), \quad \|w_j\|_0 \le k, \quad
        P(\text{union class} \mid x) = 1 / (1 + e^{-f(x)}),

    `n_prototypes` rules :math:`p` of at most `n_nonzero` features :math:`k` each; a row belongs to
    the class that is the union when any rule fires. Minimises, on standardised features, the mean
    logistic loss of :math:`f` plus :math:`\frac{\lambda}{2} \sum_j \|w_j\|^2`, with
    :math:`\lambda = 1 / (C \sum_i s_i)` and the sample weights :math:`s_i`. Implements the model,
    the Boolean relaxation and the saddle-point approach of [1]_, and a local search that is faster
    and ends lower.

    Frames are taken as they come: a term may be a condition on a group of levels of a category, or
    that a value is missing.

    Read more in the :ref:`User Guide <small>`.

    Parameters
    ----------
    n_prototypes : "cv", int or list of (int, int), default="cv"
        Most rules. Rules that never decide a training row are dropped. "cv" chooses the shape by
        cross-validation: one rule of `n_terms` features, unless two rules of half as many, or
        three of a third, are better by more than one standard error. A list of pairs
        (`n_prototypes`, `n_nonzero`) is chosen from alike, towards the first.

    n_nonzero : int, default=3
        Most features per rule where `n_prototypes` is a number; never exceeded.

    n_terms : int, default=9
        Most features of all rules together with ``n_prototypes="cv"``.

    C : float, default=1.0
        Inverse of the strength of the squared penalty, as in logistic regression.

    solver : {"auto", "swap", "fista", "saddle", "reference"}, default="auto"
        "swap" refits and exchanges single features from many starts; "auto" also starts, with one
        prototype, from all features, those of least use left out one by one. "saddle" is the
        paper's approach: the convex relaxation by mirror-prox, reassignment, rounding and a refit;
        "fista" is the same by a faster method and "reference" by cvxpy.

    positive_class : "auto" or label, default="auto"
        The class that is the union of the rules. "auto" is `pos_label`, unless rules for the other
        class are better by more than one standard error: of the errors over the folds where there
        is a choice of shapes, else of the training losses. One rule describes `pos_label`.

    pos_label : label, default=None
        The class that is looked for; None is ``classes_[1]``.

    scoring : str, callable or None, default=None
        What the choice of the shape goes by, a scorer of scikit-learn's. None is the error, in
        which rows count by `sample_weight` and `class_weight`.

    cv : int, cross-validation generator or iterable, default=5
        Splits for the choice of the shape; an int is stratified, with equal rows together. Beyond
        10,000 rows a sample of so many is split.

    n_init : "auto" or int, default="auto"
        Number of starts. "auto" is 10 for the solvers "auto" and "swap", 30 if X has no more than
        10,000 entries, and 1 for the relaxed solvers.

    standardize : bool, default=True
        Whether to penalise in units of standard deviations (a sparse X is scaled but not centred).
        `coef_` and all exports are in the original units in any case.

    binarize : {"quantile"} or None, default=None
        "quantile" replaces each feature by steps at its training deciles, so that rules add up
        points such as "+0.8 if age > 42". X must be dense.

    integer : bool, default=False
        Whether to round the weights to points, integers of at most ten, as on a score card. Needs
        terms that are on or off, ``binarize="quantile"``, and intercepts.

    fit_intercept : bool, default=True
        Whether rules have intercepts.

    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied with `sample_weight`.

    certify : bool, default=False
        Whether to compute `lower_bound_` and `gap_` by solving the relaxation at the solution.

    max_iter : int, default=1000
        Most iterations of a relaxed problem, and sweeps of a search, which are not warned of.

    tol : float, default=1e-3
        Relative duality gap at which a relaxed problem is solved.

    warm_start : bool, default=False
        Whether to use the last fit's rules as a further start.

    random_state : int, RandomState instance or None, default=None
        Seed of the starts.

    n_jobs : int or None, default=None
        Threads over the starts of "auto" and "swap".

    device : str, default="cpu"
        Where the relaxed problems are solved: "cpu", "cuda" or "cuda:N". Fitted attributes are on
        the CPU in any case.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The labels.

    positive_class_ : label
        The class that is the union of the rules.

    union_reason_ : str
        Why the rules are not for the class that is looked for; empty where they are, or where
        `positive_class` says so.

    coef_ : ndarray of shape (`n_prototypes_`, n_terms)
        Weights in the original units. n_terms is n_features; or, where X has categories or missing
        values, the number of columns and conditions that came of it, which `rules` names; or the
        number of thresholds with `binarize`.

    intercept_ : ndarray of shape (`n_prototypes_`,)
        Intercepts in the original units.

    selection_ : Bunch
        Where the shape was chosen only: arrays with an entry per candidate. `n_prototypes`,
        `n_nonzero` and `positive_class` say which it is, `error` is the mean of its row of
        `fold_errors`, of shape (n_candidates, n_splits), and `gain` how much lower that is than
        the first one's, with its standard error `gain_standard_error` over the splits. With
        `scoring`, errors are minus the score. A candidate that is behind by one standard error
        after three splits is left, and has NaN for the others. `best_index` is the candidate
        chosen.

    multiplier_, rounding_errors_ : float, ndarray of shape (2,)
        With `integer` only. `coef_` are points, so many of which are one unit of log-odds; a rule
        fires from ``0.5 - intercept_`` points on. The errors are the weighted shares of the
        training rows that the rules get wrong, before and after the rounding.

    support_ : list of ndarray
        For each rule the terms with non-zero weights.

    step_feature_, step_threshold_ : ndarray of shape (n_terms,)
        With `binarize` only: term t is 1 where feature ``step_feature_[t]`` is above
        ``step_threshold_[t]``, and 0 elsewhere.

    n_prototypes_ : int
        Rules left.

    coverage_, precision_ : ndarray of shape (`n_prototypes_`,)
        Weighted share of the training rows on which each rule fires, and share of the union's
        class among these (NaN where there are none).

    objective_ : float
        The objective, in standardised units.

    lower_bound_, gap_ : float
        With `certify` only. A lower bound of the objective over all weights and all features, and
        the relative distance to it. With one prototype it holds for any model, with more for
        those of `n_prototypes_` rules that assign the union's training rows in the same way.

    n_iter_ : int
        Sweeps of the best start, or iterations of the relaxed problems.

    n_bytes_ : int
        Size of the parameters: 4 bytes for a weight, threshold or intercept, and 1, 2 or 4 for an
        index.

    n_features_in_ : int
        Number of features seen during `fit`.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X has string names.

    Warns
    -----
    ConvergenceWarning
        If a relaxed problem, or the certificate, does not reach `tol` within `max_iter`.

    See Also
    --------
    pnsklearn.displays.PrototypeDisplay : A picture of the rules.
    sklearn.linear_model.LogisticRegression : One dense rule.

    References
    ----------
    .. [1] V. K. Garg, O. Dekel, L. Xiao, "Learning SMaLL Predictors", NeurIPS 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from pnsklearn import SMaLLClassifier
    >>> data = load_breast_cancer()
    >>> X, y = data.data, data.target_names[data.target]
    >>> model = SMaLLClassifier(n_prototypes=2, n_nonzero=1, random_state=0).fit(X, y)
    >>> print(model.rules(data.feature_names))
    malignant if any of these rules fires, otherwise benign:
    1.  worst concave points > 0.1539
        fires on 28.5 % of the training rows, right on 96.3 % of them
    2.  worst radius > 17.75
        fires on 28.3 % of the training rows, right on 98.1 % of them
    >>> model.score(X, y) > 0.9
    True
    """

    _parameter_constraints: dict = {  # noqa: RUF012, scikit-learn's form
        "n_prototypes": [AT_LEAST_ONE, StrOptions({"cv"}), "array-like"],
        "n_nonzero": [AT_LEAST_ONE],
        "n_terms": [AT_LEAST_ONE],
        "C": [Interval(Real, 0, None, closed="neither")],
        "solver": [StrOptions({"auto", "swap", "fista", "saddle", "reference"})],
        "positive_class": "no_validation",
        "pos_label": "no_validation",
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "cv": ["cv_object"],
        "n_init": [StrOptions({"auto"}), AT_LEAST_ONE],
        "standardize": ["boolean"],
        "binarize": [StrOptions({"quantile"}), None],
        "integer": ["boolean"],
        "fit_intercept": ["boolean"],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "certify": ["boolean"],
        "max_iter": [AT_LEAST_ONE],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "n_jobs": [None, AT_LEAST_ONE, Interval(Integral, None, -1, closed="right")],
        "device": [str],
    }

    _doc_link_module = "pnsklearn"
    _doc_link_template = "generated/pnsklearn.{estimator_name}.html"

    def __init__(
        self,
        n_prototypes: Any = "cv",
        n_nonzero: int = 3,
        *,
        n_terms: int = 9,
        C: float = 1.0,
        solver: str = "auto",
        positive_class: Any = "auto",
        pos_label: Any = None,
        scoring: Any = None,
        cv: Any = 5,
        n_init: Any = "auto",
        standardize: bool = True,
        binarize: Any = None,
        integer: bool = False,
        fit_intercept: bool = True,
        class_weight: Any = None,
        certify: bool = False,
        max_iter: int = 1000,
        tol: float = 1e-3,
        warm_start: bool = False,
        random_state: Any = None,
        n_jobs: Any = None,
        device: str = "cpu",
    ):
        self.n_prototypes = n_prototypes
        self.n_nonzero = n_nonzero
        self.n_terms = n_terms
        self.C = C
        self.solver = solver
        self.positive_class = positive_class
        self.pos_label = pos_label
        self.scoring = scoring
        self.cv = cv
        self.n_init = n_init
        self.standardize = standardize
        self.binarize = binarize
        self.integer = integer
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.certify = certify
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.device = device

    @unchanged_on_error
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, **params: Any) -> Self:
        """Fit the rules.

        Parameters
        ----------
        X : {frame, array-like, sparse matrix} of shape (n_samples, n_features)
            Training data. Text and categories of a frame become conditions on groups of their
            levels, missing numbers count as their mean and as a condition. A sparse X has neither.

        y : array-like of shape (n_samples,)
            Labels of two classes.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights; a weight of two is the same as a row given twice, up to the
            number of starts that ``n_init="auto"`` takes and the sampling above 10,000 rows.

        **params : dict
            What `cv` splits by, ``groups`` say.

        Returns
        -------
        self : SMaLLClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, X, y or a weight is out of its range, or a class has no weight.
        ImportError
            If ``solver="reference"`` and cvxpy, or `device` is a GPU and torch, is not installed.
        """
        check_device(self.device)
        if self.solver == "reference":
            check_installed("cvxpy", "solver='reference'", "reference")
        metadata, shapes = split_metadata(self, params), self._shapes()
        booleans, levels = _frame.boolean_columns(X), _frame.find_levels(X)
        X, y, positive, weight, classes, kept = self._check_data(X, y, sample_weight, levels)
        unions = _selection.unions(self.positive_class, self.pos_label, classes)
        columns = _frame.describe(X, levels)
        terms, data = self._terms(X, positive, weight, columns)
        rng = check_random_state(self.random_state)
        with callback_tasks(self, X, y) as on_task:
            tried, reason = _selection.candidates(shapes, unions), ""
            selection: dict = {} if columns is None else {"_levels_": columns.levels}
            if len(shapes) > 1:
                rows = X, y, positive, weight, classes
                given = None if sample_weight is None else np.asarray(sample_weight)[kept]
                splits = partial(_selection.make_splits, self.cv, metadata=metadata, kept=kept)
                found = self._select(tried, rows, given, (columns, data), splits, rng)
                tried, reason = [tried[found.best_index]], _selection.reason(found)
                selection["selection_"] = found
            objectives = [self._objective(data, positive, weight, how) for how in tried]

            def attributes(objective, solution):
                return _attributes(classes, terms, X.dtype, objective, solution)

            def on_iteration(*state):
                return on_task("iteration", lambda: attributes(*state) | _bounds(state[1]))

            objective, solution = solve(
                objectives, **self._how(), start=self._start(objectives[0], classes), rng=rng,
                callback=on_iteration, n_rows=weight.sum(),
            )  # fmt: skip
            if solution.gain is not None:
                reason = _selection.reason_of(classes[unions[0]], "training loss", *solution.gain)
            self._warn(solution, f"solver={self.solver!r}", "or use solver='auto'")
            solution, errors = self._finished(objective, solution)
            replace_fitted(self, attributes(objective, solution) | selection | errors)
            bounds = _bounds(solution)
            for name in bounds if self.certify else ("objective_",):
                setattr(self, name, bounds[name])
            self.union_reason_, self._booleans_ = reason, booleans
            self._describe(X, objective, solution)
        return self

    def _finished(self, objective, solution):
        """Return the solution with what was asked for besides, and what that cost."""
        if self.certify:
            solution = certified(
                objective, solution, max_iter=self._max_iter(), tol=self.tol, device=self.device
            )
            self._warn(solution, "The certificate", "for a better lower_bound_")
        if not self.integer:
            return solution, {}
        both = solution, in_points(objective, solution)
        errors = [training_error(objective, each) for each in both]
        return both[1], {"rounding_errors_": np.array(errors)}

    def _describe(self, X, objective, solution):
        """Set the attributes that follow from the rules."""
        self.n_prototypes_ = self.coef_.shape[0]
        self.support_ = [np.flatnonzero(row) for row in self.coef_]
        self.n_iter_ = solution.n_iter
        rules = self._rules()
        fires = rules.fires(rules.scores(self._encoded(X)))
        self.coverage_ = objective.weight @ fires
        with np.errstate(invalid="ignore"):
            self.precision_ = (objective.weight * (objective.sign > 0)) @ fires / self.coverage_
        self.n_bytes_ = parameter_bytes(rules)

    def _select(self, tried, rows, given, learned, make_splits, rng):
        """Return what the candidates are on the folds, see `_selection.select`.

        Of `rng` copies are used, so that all fits, and that which follows, are those of a number.
        """
        (X, y, positive, weight, classes), (columns, data) = rows, learned
        draw = copy.deepcopy(rng)
        if columns is not None:  # some rows with different levels have the same terms
            data = _frame.told_apart(X)
        along = _selection.projection(data.X, data.scale, draw)
        chosen = np.arange(len(y))[sampled_rows(positive, draw)]
        splits, how = make_splits(positive, chosen, along), self._how()
        model = clone(self, safe=False)  # of arrays, which have no names
        model.n_features_in_ = self.n_features_in_
        scorer = check_scoring(self, self.scoring) if self.scoring is not None else None

        def errors(train, test, tried):
            part = X[train], positive[train], weight[train]
            terms, data = self._terms(*part, columns)
            for candidate in tried:
                objective, solution = solve(
                    [self._objective(data, *part[1:], candidate)], **how, start=None,
                    rng=copy.deepcopy(rng), callback=lambda *state: False,
                )  # fmt: skip
                if self.integer:
                    solution = in_points(objective, solution)
                replace_fitted(model, _attributes(classes, terms, X.dtype, objective, solution))
                if scorer is None:
                    yield np.average(model.predict(X[test]) != y[test], weights=weight[test])
                else:
                    weights = {} if given is None else {"sample_weight": given[test]}
                    yield -scorer(model, X[test], y[test], **weights)

        return _selection.select(tried, classes, splits, errors)

    def decision_function(self, X: Any) -> Array:
        """Return the log-odds of ``classes_[1]``: the largest score of the rules, or minus it.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        log_odds : ndarray of shape (n_samples,)
            Minus the largest score where `positive_class_` is ``classes_[0]``.
        """
        rules, scores = self._scores(X)
        return (rules.decision(scores) / getattr(self, "multiplier_", 1.0)).astype(self.coef_.dtype)

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
        """Return the label of each sample: the union's where any rule fires.

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
        return self.classes_[(log_odds > 0).astype(int)]

    def apply(self, X: Any) -> Array:
        """Return which rule decided each sample.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        rule : ndarray of shape (n_samples,)
            Number of the rule with the largest score, or -1 where no rule fires.
        """
        rules, scores = self._scores(X)
        return np.where(rules.fires(scores).any(axis=1), scores.argmax(axis=1), -1)

    def _scores(self, X):
        check_is_fitted(self)
        X = self._check_X(X)
        rules = self._rules()
        scores = rules.scores(X)
        if not issparse(X):  # a rule that reads what is missing does not fire
            scores[np.isnan(scores) & np.isnan(X).any(axis=1, keepdims=True)] = UNKNOWN_SCORE
        return rules, refuse_overflow(scores)

    def _check_X(self, X: Any) -> Matrix:
        """Return the terms of X, validated against the features of the fit."""
        levels = getattr(self, "_levels_", None)
        if levels is not None:
            if _frame.is_frame(X):
                _check_feature_names(self, X, reset=False)
            _check_n_features(self, X, reset=False)
        X = _frame.read(X, levels)
        X = check_X(self, X, reset=False, sparse=self.binarize is None, missing=True)
        return self._encoded(X)

    def _encoded(self, X):
        """Return the columns that rules are over, of those of X."""
        if not hasattr(self, "_terms_"):
            return X
        return _frame.values(X, self._term_feature_, self._terms_)

    def _check_data(self, X, y, sample_weight, levels):
        """Return X, y, positives and weights without the rows of weight zero; classes."""
        X, sparse = _frame.read(X, levels), self.binarize is None
        X, y = check_X(self, X, y, reset=True, sparse=sparse, missing=True)
        classes, positive = check_binary_target(y)
        weight = check_weights(sample_weight, X)
        check_weighted_classes(positive, weight)
        weight = class_weighted(self.class_weight, classes, positive, weight)
        with np.errstate(over="ignore", divide="ignore"):
            lam = 1 / (self.C * weight.sum())
        if not 0 < lam < np.inf:
            raise ValueError(
                "C times the sum of the weights must be a positive, finite number. Rescale the "
                "weights or change C."
            )
        weight, X, y, positive, kept = without_weightless(weight, X, y, positive)
        return X, y, positive, weight, classes, kept

    def _shapes(self):
        """Return the shapes to choose from, the base first."""
        if self.integer and (self.binarize is None or not self.fit_intercept):
            raise ValueError(
                "integer=True needs terms that are on or off, and intercepts; set "
                "binarize='quantile' and fit_intercept=True."
            )
        if isinstance(self.n_prototypes, Integral):
            return [(self.n_prototypes, self.n_nonzero)]
        if isinstance(self.n_prototypes, str):
            return _selection.shapes_within(int(self.n_terms))
        return _selection.check_shapes(self.n_prototypes)

    def _terms(self, X, positive, weight, columns):
        """Return what the terms are, as attributes, and their standardised Data."""
        found: dict = {}
        if columns is not None:
            features, terms = _frame.learn(X, positive, weight, columns)
            X = _frame.values(X, features, terms)
            found |= {"_term_feature_": features, "_terms_": terms}
        if self.binarize is not None:
            steps = quantile_steps(X, weight)
            X = step_values(X, *steps)
            found |= dict(zip(("step_feature_", "step_threshold_"), steps, strict=True))
        return found, standardised(
            X, weight, standardize=self.standardize, centered=self.fit_intercept
        )

    def _objective(self, data, positive, weight, candidate):
        """Return the objective of a shape and a class that is the union."""
        n_rows, total = len(weight), weight.sum()
        # Plain integers for the kernels; and a row has one largest rule.
        return Objective(
            candidate.union, data, np.where(positive == candidate.union, 1.0, -1.0),
            weight / total, int(min(candidate.n_prototypes, n_rows)),
            int(min(candidate.n_nonzero, data.n_features)), 1 / (self.C * total),
            self.fit_intercept,
        )  # fmt: skip

    def _max_iter(self):
        return int(min(self.max_iter, LARGEST_COUNT))

    def _how(self):
        """Return how `solve` is to go about it."""
        return {
            "solver": self.solver, "n_init": self.n_init, "max_iter": self._max_iter(),
            "tol": self.tol, "n_jobs": self.n_jobs, "device": self.device,
        }  # fmt: skip

    def _start(self, objective, classes):
        """Return the last fit's (union, coef, intercept) in standardised units, or None."""
        if not self.warm_start or not hasattr(self, "coef_"):
            return None
        data, n_prototypes = objective.data, objective.n_prototypes
        n_rules, n_terms = self.coef_.shape
        if n_terms != data.n_features or n_rules > n_prototypes:
            return None
        if max(map(len, self.support_)) > self.n_nonzero or self.positive_class_ not in classes:
            return None
        if not self.fit_intercept and (n_rules < n_prototypes or self.intercept_.any()):
            return None  # without intercepts no rule can be idle
        coef = np.zeros((n_prototypes, n_terms))
        intercept = np.full(n_prototypes, IDLE_INTERCEPT)
        unit = getattr(self, "multiplier_", 1.0)
        coef[:n_rules] = self.coef_ / unit * data.scale
        intercept[:n_rules] = (self.intercept_ + self.coef_ @ data.center) / unit
        return int(self.positive_class_ == classes[1]), coef, intercept

    def _warn(self, solution, what, remedy):
        if not solution.converged:
            warn_user(
                f"{what} stopped at max_iter={self.max_iter} before its duality gap reached "
                f"tol={self.tol}. Increase max_iter or tol, {remedy}.",
                ConvergenceWarning,
            )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.sparse = self.binarize is None
        tags.input_tags.allow_nan = tags.input_tags.categorical = True
        return tags
