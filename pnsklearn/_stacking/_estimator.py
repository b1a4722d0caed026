"""AUPRCStackingClassifier: different models, combined for average precision."""

from numbers import Integral, Real
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn import config_context
from sklearn.base import _fit_context
from sklearn.ensemble import StackingClassifier
from sklearn.metrics import average_precision_score
from sklearn.utils import Bunch, _safe_indexing, check_array, check_random_state, indexable
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils._repr_html.estimator import _VisualBlock
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    _routing_enabled,
    process_routing,
)
from sklearn.utils.validation import (
    _check_feature_names,
    _check_y,
    check_is_fitted,
)

from pnsklearn._auprc._anchors import check_anchor
from pnsklearn._auprc._estimator import AUPRCClassifier
from pnsklearn._auprc._selection import make_splits
from pnsklearn._auprc._threshold import check_threshold
from pnsklearn._fitting import callback_tasks, replace_fitted, unchanged_on_error, warn_user
from pnsklearn._habits import FitMixin
from pnsklearn._splits import split_metadata, usable_splits
from pnsklearn._stacking._members import MANY_ROWS, default_members
from pnsklearn._stacking._out_of_fold import (
    Member,
    held_out,
    log_odds,
    precisions,
    refitted,
    weighted,
)
from pnsklearn._typing import Array
from pnsklearn._validation import (
    check_binary_target,
    check_weighted_classes,
    check_weights,
    refuse_missing_labels,
    refuse_unreadable,
)


class _Rows(NamedTuple):
    """The rows of a fit: those of positive weight."""

    X: Any
    positive: Array
    weight: Array | None  # None where none was given
    classes: Array
    kept: Array  # which of all rows these are


class AUPRCStackingClassifier(FitMixin, StackingClassifier):
    r"""Different classifiers, combined by weights that maximise average precision.

    Each member is fitted on cross-validation folds; its log-odds on the held-out rows,
    standardised, are the features of an :class:`AUPRCClassifier` whose weights are not negative.
    With few positives the weights are pulled to the equal average, with many to a logistic
    regression,

    .. math::

        w_0 = \lambda \frac{a}{\|a\|_1} + (1 - \lambda) \frac{1}{M},
        \qquad \lambda = \frac{n_+}{n_+ + 30},

    with :math:`a` the non-negative logistic regression of the M members; they move on from
    :math:`w_0` towards a better average precision where that gains more than a standard error in
    cross-validation. The members are then fitted again on all rows.

    Without `estimators` there are four that take a table as it comes, with missing values,
    categories, text and booleans. Read more in the :ref:`User Guide <stacking>`.

    Parameters
    ----------
    estimators : list of (str, estimator) or None, default=None
        The members: classifiers with `decision_function` or `predict_proba`, or "drop". None
        stands for two gradient boosted trees (`HistGradientBoostingClassifier`), one deep and one
        shallow, extremely randomised trees, and logistic regression on splines and a kernel; for a
        sparse X one boosting sees the columns most correlated with the class, the other the
        leading singular vectors, and the fourth is logistic regression.

    anchor : {"shrunk", "logistic", "average"} or array-like of shape (n_members,), default="shrunk"
        The weights to start from, and stay near: :math:`w_0` above, :math:`a`, equal weights, or
        given ones.

    alpha : "cv-1se", "cv" or float, default="cv-1se"
        Strength of the anchor, see :class:`AUPRCClassifier`. "cv-1se" keeps the anchor unless
        another strength gains more than one standard error of the splits; infinity keeps it.

    margin : "auto" or float, default="auto"
        Half width of the step, see :class:`AUPRCClassifier`.

    threshold : str, tuple (str, float) or float, default="proba"
        Probability above which `predict` says positive, see :class:`AUPRCClassifier`; chosen on the
        held-out log-odds.

    cv : int, cross-validation generator, iterable, "prefit" or None, default=None
        Splits for the held-out log-odds; an int is stratified, and at most the number of positives.
        None is 5, and 3 for more than 10,000 rows. They need not cover all rows, nor each once:
        splits by time do. With "prefit" the members are fitted already, on other rows than those
        given to `fit`.

    n_jobs : int or None, default=None
        Fits at a time; None is one, -1 is one for each core. The result is the same.

    random_state : int, RandomState instance or None, default=None
        Seed of the default members.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The labels; ``classes_[1]`` is the positive class.

    estimators_ : list of estimators
        The members, fitted on all rows; without those that were dropped.

    named_estimators_ : Bunch
        The same by name.

    coef_ : ndarray of shape (1, n_members)
        Weights of the standardised log-odds of the members, in the order of `estimators_`.

    intercept_ : ndarray of shape (1,)
        Intercept of the log-odds.

    alpha_ : float
        The strength that was used.

    threshold_ : float
        The probability above which `predict` says positive.

    center_, scale_ : ndarray of shape (n_members,)
        Means and standard deviations of the held-out log-odds.

    oof_decision_function_ : ndarray of shape (n_samples, n_members)
        The held-out log-odds of the members; NaN for rows that no split tests, and for those of
        weight zero.

    oof_average_precision_ : dict of str to (float, float)
        Mean average precision of each member, and of "stack", on the held-out rows of the splits,
        and its standard error. The stack's weights are those of the other splits.

    final_estimator_ : AUPRCClassifier
        The combination of the standardised log-odds.

    n_features_in_ : int
        Number of features seen during `fit`; where a member tells it.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X has string names.

    Warns
    -----
    UserWarning
        If a given member predicts a constant, which drops it, or all do; or one that was fitted
        before ranks the rows without an error.

    See Also
    --------
    AUPRCClassifier : One linear model, or a network, and how the members are combined.
    sklearn.ensemble.StackingClassifier : For any number of classes and any final estimator.

    References
    ----------
    D. H. Wolpert, "Stacked Generalization", Neural Networks 5, 1992.

    L. Breiman, "Stacked Regressions", Machine Learning 24, 1996: why weights are not negative.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.metrics import average_precision_score
    >>> from sklearn.model_selection import train_test_split
    >>> from pnsklearn import AUPRCStackingClassifier
    >>> X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    >>> model = AUPRCStackingClassifier(random_state=0).fit(X_train, y_train)
    >>> average_precision_score(y_test, model.decision_function(X_test)) > 0.99
    True
    >>> list(model.named_estimators_)
    ['boosting', 'shallow_boosting', 'extra_trees', 'splines']
    """

    _parameter_constraints: dict = {  # noqa: RUF012, scikit-learn's form
        "estimators": [list, None],
        "anchor": [StrOptions({"shrunk", "logistic", "average"}), "array-like"],
        "alpha": [
            StrOptions({"cv", "cv-1se"}),
            Interval(Real, 0, None, closed="left"),
            Options(Real, {np.inf}),
        ],
        "margin": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "threshold": [StrOptions({"proba", "f1"}), tuple, Interval(Real, 0, 1, closed="both")],
        "cv": ["cv_object", StrOptions({"prefit"})],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    _doc_link_module = "pnsklearn"
    _doc_link_template = "generated/pnsklearn.{estimator_name}.html"

    def __init__(
        self,
        estimators: list[tuple[str, Any]] | None = None,
        *,
        anchor: Any = "shrunk",
        alpha: str | float = "cv-1se",
        margin: str | float = "auto",
        threshold: str | tuple[str, float] | float = "proba",
        cv: Any = None,
        n_jobs: int | None = None,
        random_state: Any = None,
    ):
        self.estimators = estimators
        self.anchor = anchor
        self.alpha = alpha
        self.margin = margin
        self.threshold = threshold
        self.cv = cv
        self.n_jobs = n_jobs
        self.random_state = random_state

    @property
    def named_estimators(self) -> Bunch:
        """The given members by name, unfitted."""
        return Bunch(**dict(self.estimators or []))

    @property
    def final_estimator(self) -> AUPRCClassifier:
        """What combines the members, unfitted."""
        return AUPRCClassifier(
            alpha=self.alpha,
            anchor=self.anchor,
            margin=self.margin,
            threshold=self.threshold,
            positive=True,
        )

    @unchanged_on_error
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, **params: Any) -> Self:
        """Fit the members and their weights.

        Parameters
        ----------
        X : {array-like, sparse matrix, frame} of shape (n_samples, n_features)
            Training data; whatever the members take. The default ones take numbers, booleans, text
            and categories, also missing ones.

        y : array-like of shape (n_samples,)
            Labels of two classes; the larger in sorted order is the positive one.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights, for the members (of a pipeline its last step) and for the stack.

        **params : dict
            What `cv` splits by, ``groups`` say; and what members ask for by metadata routing.

        Returns
        -------
        self : AUPRCStackingClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, X, y or a weight is out of its range, a class has fewer than two
            samples, or a member takes no weights.
        ValueError, TypeError or RuntimeError
            If the fit of a member fails; it is named.
        """
        check_threshold(self.threshold)
        rows = self._check_data(X, y, sample_weight)
        routed, metadata = self._route(rows, params)
        if isinstance(self.cv, str):  # "prefit"
            members = self._members(rows, routed)
            Z = self._predicted(members, rows)
            used = self._varying(members, Z, [np.arange(len(Z))])
            return self._finish(members, [m.estimator for m in members], Z, used, rows, [])
        n_folds = 3 if len(rows.positive) > MANY_ROWS else 5
        cv = n_folds if self.cv is None else self.cv
        splits = make_splits(cv, rows.positive, rows.kept, metadata)
        if not splits:
            raise ValueError("A class has one sample; held-out rows need at least two of each.")
        members = self._members(rows, routed, min(len(train) for train, _ in splits))
        target, n_tasks = rows.positive.astype(int), len(members) * (len(splits) + 1)
        with (
            callback_tasks(self, rows.X, target, n_tasks) as on_task,
            config_context(enable_metadata_routing=self._routes()),
        ):

            def on_fit(name):  # before the last fit, there is no estimator that could predict
                on_task(name, lambda: None)

            Z = held_out(members, rows.X, target, splits, self.n_jobs, on_fit)
            used = self._varying(members, Z, [test for _, test in splits])
            kept = [members[column] for column in used]
            estimators = refitted(kept, rows.X, target, self.n_jobs, on_fit)
            return self._finish(kept, estimators, Z[:, used], used, rows, splits)

    def transform(self, X: Any) -> Array:
        """Return the standardised log-odds of the members.

        Parameters
        ----------
        X : {array-like, sparse matrix, frame} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        log_odds : ndarray of shape (n_samples, n_members)
            In the order of `estimators_`.
        """
        check_is_fitted(self)
        X = self._check_X(X, reset=False)
        members = self.named_estimators_.items()
        Z = [log_odds(name, member, X, self._n_train_) for name, member in members]
        return (np.column_stack(Z) - self.center_) / self.scale_

    def decision_function(self, X: Any) -> Array:
        """Return the log-odds of the positive class.

        Parameters
        ----------
        X : {array-like, sparse matrix, frame} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        log_odds : ndarray of shape (n_samples,)
            Positive where the probability is above one half.
        """
        Z = self.transform(X)
        return self.final_estimator_.decision_function(Z)

    def predict_proba(self, X: Any) -> Array:
        """Return the probabilities of both classes.

        Parameters
        ----------
        X : {array-like, sparse matrix, frame} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        probability : ndarray of shape (n_samples, 2)
            Columns in the order of `classes_`.
        """
        Z = self.transform(X)
        return self.final_estimator_.predict_proba(Z)

    def predict(self, X: Any) -> Array:
        """Return the label of each sample: positive above `threshold_`.

        Parameters
        ----------
        X : {array-like, sparse matrix, frame} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Entries of `classes_`.
        """
        Z = self.transform(X)
        return self.final_estimator_.predict(Z)

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return the names of the columns of `transform`.

        Parameters
        ----------
        input_features : None
            Ignored, as scikit-learn's stacking does.

        Returns
        -------
        names : ndarray of str
            The class's name and the member's.
        """
        check_is_fitted(self)
        names = [f"auprcstackingclassifier_{name}" for name in self.named_estimators_]
        return np.array(names, dtype=object)

    def _check_X(self, X, reset):
        """Return X as the members take it; check its names."""
        refuse_unreadable(X)
        _check_feature_names(self, X, reset=reset)
        if self.estimators is None and not hasattr(X, "columns"):
            X = check_array(X, accept_sparse="csr", dtype=None, ensure_all_finite="allow-nan")
        return X

    def _check_data(self, X, y, sample_weight):
        """Return the rows of positive weight."""
        refuse_unreadable(X, y)
        X, y = indexable(self._check_X(X, reset=True), _check_y(y))
        if not len(y):
            raise ValueError("X has 0 sample(s); both classes need at least two.")
        refuse_missing_labels(y)
        classes, positive = check_binary_target(y)
        if sample_weight is None:
            return _Rows(X, positive, None, classes, np.ones(len(y), dtype=bool))
        weight = check_weights(sample_weight, y.reshape(-1, 1))
        check_weighted_classes(positive, weight)
        kept = weight > 0
        if not kept.all():
            X = _safe_indexing(X, np.flatnonzero(kept))
        return _Rows(X, positive[kept], weight[kept], classes, kept)

    def _routes(self):
        """Return whether metadata reach the members as scikit-learn's routing says."""
        return _routing_enabled() and self.estimators is not None

    def _named(self):
        """Return names and members, checked by scikit-learn; "stack" is the name of the whole."""
        given: Any = self.estimators
        if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in given):
            raise ValueError("estimators must be a list of pairs (name, estimator).")
        if "stack" in dict(given):
            raise ValueError("A member cannot be named 'stack'; give it another name.")
        return zip(*self._validate_estimators(), strict=True)

    def _route(self, rows, params):
        """Return {member: arguments of its fit}, None without routing; and what `cv` splits by."""
        if not self._routes():
            return None, split_metadata(self, params)
        if rows.weight is not None:
            params = {**params, "sample_weight": np.zeros(len(rows.kept))}
            params["sample_weight"][rows.kept] = rows.weight
        routed, kept = process_routing(self, "fit", **params), np.flatnonzero(rows.kept)
        return {
            name: {key: _safe_indexing(values, kept) for key, values in routed[name].fit.items()}
            for name, _ in self.estimators or []
        }, routed.splitter.split

    def _members(self, rows, routed, n_fewest=0):
        """Return the members, and what their fits are given beside X and y."""
        named: Any
        if self.estimators is not None:
            named = self._named()
        elif not isinstance(self.cv, str):
            seed = check_random_state(self.random_state).randint(2**31 - 1)
            named = default_members(rows.X, n_fewest, seed)
        else:
            raise ValueError("cv='prefit' needs estimators, which were fitted.")
        # Members that were fitted before are given no weights.
        weight = None if isinstance(self.cv, str) else rows.weight
        members = [
            Member(
                name,
                member,
                weighted(name, member, weight) if routed is None else routed[name],
            )
            for name, member in named
            if not isinstance(member, str)  # "drop"
        ]
        if not isinstance(self.anchor, str):
            check_anchor(self.anchor, len(members), nonnegative=True)
        return members

    def _predicted(self, members, rows):
        """Return the log-odds of members that were fitted before."""
        columns = []
        for name, member, _ in members:
            check_is_fitted(member)
            if list(member.classes_) not in (rows.classes.tolist(), [0, 1]):
                raise ValueError(
                    f"Member {name!r} was fitted with the labels {member.classes_}, but y has "
                    f"{rows.classes}."
                )
            columns.append(log_odds(name, member, rows.X, len(rows.positive)))
            if average_precision_score(rows.positive, columns[-1]) == 1:
                warn_user(
                    f"Member {name!r} ranks the rows without an error. With cv='prefit' they must "
                    "be others than those of its fit."
                )
        return np.column_stack(columns)

    def _varying(self, members, Z, tests):
        """Return the columns that are not constant on all the tests; warn of the others."""
        parts = [Z[test] for test in tests]
        varies = [np.ptp(part, axis=0) > 1e-12 * np.abs(part).max(axis=0) for part in parts]
        varies = np.any(varies, axis=0)
        constant = [member.name for member, kept in zip(members, varies, strict=True) if not kept]
        if not varies.any():
            warn_user("All members predict a constant: there is nothing to rank the rows by.")
            return np.arange(len(members))
        if constant and self.estimators is not None:
            warn_user(f"Dropped members that predict a constant: {', '.join(constant)}.")
        return np.flatnonzero(varies)

    def _finish(self, members, estimators, Z, used, rows, splits):
        """Combine the members, the `used` ones of all, and set the fitted attributes."""
        tested = ~np.isnan(Z[:, 0])
        positive, weight = rows.positive[tested], rows.weight
        weight = np.ones(len(positive)) if weight is None else weight[tested]
        center = np.average(Z[tested], axis=0, weights=weight)
        scale = np.sqrt(np.average((Z[tested] - center) ** 2, axis=0, weights=weight))
        scale[scale == 0] = 1.0
        features = (Z[tested] - center) / scale
        splits = usable_splits(splits, tested, positive)
        head = self.final_estimator.set_params(cv=splits or 5, n_jobs=self.n_jobs)
        if not isinstance(self.anchor, str):
            head.set_params(anchor=np.asarray(self.anchor)[used])
        head.fit(features, rows.classes[positive.astype(int)], weight)
        everyone = np.full((len(rows.kept), len(members)), np.nan)
        everyone[rows.kept] = Z
        names = [member.name for member in members]
        attributes = {
            "classes_": rows.classes,
            "estimators_": estimators,
            "named_estimators_": Bunch(**dict(zip(names, estimators, strict=True))),
            "final_estimator_": head,
            "coef_": head.coef_,
            "intercept_": head.intercept_,
            "alpha_": head.alpha_,
            "threshold_": head.threshold_,
            "center_": center,
            "scale_": scale,
            "oof_decision_function_": everyone,
            "oof_average_precision_": precisions(names, features, positive, weight, splits, head),
            "_n_train_": len(rows.positive),
        }
        replace_fitted(self, attributes)
        return self

    def get_metadata_routing(self) -> MetadataRouter:
        """Return how `fit` hands on what it is given: to the members and to `cv`.

        Returns
        -------
        routing : MetadataRouter
            See scikit-learn's page on metadata routing.
        """
        router = MetadataRouter(owner=self).add_self_request(self)
        router.add(
            splitter=self.cv, method_mapping=MethodMapping().add(caller="fit", callee="split")
        )
        for name, member in self.estimators or []:
            mapping = MethodMapping().add(caller="fit", callee="fit")
            router.add(**{name: member}, method_mapping=mapping)
        return router

    def _sk_visual_block_(self):
        if self.estimators is None:
            return _VisualBlock("single", self, names=type(self).__name__, name_details=str(self))
        return self._sk_visual_block_with_final_estimator(self.final_estimator)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        if self.estimators is None:
            tags.input_tags.sparse = tags.input_tags.allow_nan = True
            tags.input_tags.string = tags.input_tags.categorical = True
        # scikit-learn's checks want the likelier class from predict, and know no threshold.
        tags._skip_test = self.threshold not in ("proba", 0.5)
        return tags
