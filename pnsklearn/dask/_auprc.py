"""DaskAUPRCClassifier: average precision maximised where the rows are."""

from functools import partial
from numbers import Integral, Real
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn.base import _fit_context

from pnsklearn._auprc._anchors import (
    anchors_of,
    check_anchor,
    is_small,
    log_loss,
    logistic_path,
    path_of_sums,
)
from pnsklearn._auprc._calibration import linear_attributes, log_loss_terms, platt_of_sums
from pnsklearn._auprc._estimator import AUPRCClassifier
from pnsklearn._auprc._objective import number_equal_rows
from pnsklearn._auprc._selection import make_splits, thinned
from pnsklearn._auprc._threshold import choose_threshold
from pnsklearn._fitting import callback_tasks, unchanged_on_error
from pnsklearn._typing import Array
from pnsklearn._validation import (
    check_binary_target,
    check_weighted_classes,
    check_weights,
    check_X,
    class_weighted,
    refuse_huge,
    without_weightless,
)
from pnsklearn.dask._blocks import Blocks, aligned, among, is_dask, read
from pnsklearn.dask._lazy import (
    LazyMixin,
    accuracy,
    check_features,
    check_supported,
    for_workers,
)
from pnsklearn.dask._pairs import Rows, make_objective, spread

MOST_POSITIVES = 1_000_000
MOST_LABELS = 1_000  # of a block, of which two are right


class Table(NamedTuple):
    """Blocks of rows, and what the driver knows of all: weights are sums, (negative, positive)."""

    rows: Blocks
    n_rows: int
    classes: Array
    weights: Array
    X: Array  # of the positives, with their weights
    weight: Array
    dtype: Any


# Functions of a block


def check_rows(estimator, dtype, X, y, sample_weight=None):
    """Return checked (X, y, weights) of a block, which may have no rows."""
    if len(X) == 0:
        return np.empty((0, estimator.n_features_in_), dtype), np.empty(0), np.empty(0)
    X, y = check_X(estimator, X, y, reset=False)
    refuse_huge(X)
    return aligned(X, dtype), y, aligned(check_weights(sample_weight, X))


def survey(block):
    """Return the labels of a block, the sums of their weights, and their numbers of rows."""
    _, y, weight = block
    labels, number = np.unique(y, return_inverse=True)
    sums, counts = (np.bincount(number, w, len(labels)) for w in (weight, weight > 0))
    return labels[:MOST_LABELS], sums[:MOST_LABELS], counts[:MOST_LABELS]


def label(block, classes, factors):
    """Return the Rows of a block, without those of weight zero."""
    X, y, given = block
    given, X, y, _ = without_weightless(given, X, y)
    positive = y == classes[1]
    weight = given if (factors == 1).all() else given * factors[positive.astype(int)]
    return Rows(X, positive, weight, given)


def positives_of(rows):
    """Return the positives of a block and their weights."""
    return rows.X[rows.positive], rows.weight[rows.positive]


def labels_of(rows):
    """Return which rows are positive."""
    return rows.positive


def rows_at(rows, where):
    """Return some rows of a block."""
    return rows.X[where], rows.positive[where], rows.weight[where], rows.given[where]


def log_loss_of(rows, theta):
    """Return the log loss of a block and its gradient."""
    return log_loss(rows.X, rows.positive, rows.weight, theta)


def platt_terms_of(rows, theta, *where):
    """Return the terms of a Platt fit of a block."""
    return log_loss_terms(rows.scores(theta), rows.positive, rows.weight, *where)


class DaskAUPRCClassifier(LazyMixin, AUPRCClassifier):
    """AUPRCClassifier for Dask arrays and frames, fitted where their rows are.

    The same model as :class:`~pnsklearn.AUPRCClassifier` makes of the same rows in memory, but for
    rounding: the same solver sees sums over blocks of rows. It runs on the cluster of the current
    client, and without one on Dask's own scheduler. The positives, at most a million, are held in
    the process that calls `fit`; the other rows stay on the workers, or are read again and again
    where they do not fit into the memory of these. Read more in the :ref:`User Guide <dask>`.

    The parameters are those of :class:`~pnsklearn.AUPRCClassifier`, of which these are limited:
    `solver` is "lbfgs" or "trust-ncg", `threshold` "proba" or a number, `cv` an int or None,
    `device` "cpu", and `module` None. `alpha` and `C` are chosen on at most 10,000 rows of each
    class, as there.

    The attributes are those of :class:`~pnsklearn.AUPRCClassifier`. Predictions of Dask collections
    are lazy Dask arrays, and of other data arrays.

    See Also
    --------
    pnsklearn.AUPRCClassifier : The plain estimator, which `to_local` returns.

    Examples
    --------
    >>> import dask.array as da
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from pnsklearn.dask import DaskAUPRCClassifier
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X, y = da.from_array(scale(X), chunks=(200, -1)), da.from_array(y, chunks=200)
    >>> model = DaskAUPRCClassifier(alpha=0.1).fit(X, y)
    >>> model.predict_proba(X)
    dask.array<predict_block, shape=(569, 2), dtype=float64, chunksize=(200, 2), \
chunktype=numpy.ndarray>
    >>> model.score(X, y) > 0.98
    True
    >>> model.to_local()
    AUPRCClassifier(alpha=0.1)
    """

    _local = AUPRCClassifier

    @unchanged_on_error
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : Dask array or frame of shape (n_samples, n_features)
            Training data, each chunk of which has whole rows.

        y : Dask array or series of shape (n_samples,)
            Labels of two classes in the partitions of X; the larger in sorted order is the positive
            one.

        sample_weight : Dask array or series of shape (n_samples,), default=None
            Non-negative weights.

        Returns
        -------
        self : DaskAUPRCClassifier
            The fitted estimator.

        Raises
        ------
        TypeError
            If X, y or the weights are no Dask collections.
        ValueError
            If a parameter, X, y or a weight is out of its range, their partitions do not belong
            together, a class has no weight, or there are more than a million positives.
        RuntimeError
            If the cluster has no workers, or they die again and again.
        """
        self._check_settings()
        dtype = check_features(self, X)
        if self._anchor_kind == "given":
            check_anchor(self.anchor, self.n_features_in_, self.positive)
        schedule = self._schedule(self.n_epochs)
        columns = {"X": X, "y": y, "sample_weight": sample_weight}
        with (
            callback_tasks(self, X, y) as on_task,
            read(check_rows, for_workers(self), dtype, **columns) as blocks,
        ):
            table = self._tabulate(blocks, dtype)
            anchor, alpha, precision = self._choose_of(table, schedule)
            objective = make_objective(
                table.rows, table.X, table.weight, table.weights[0],
                ties=number_equal_rows(table.X),
                anchor=None if self._anchor_kind == "zero" else anchor,
                alpha=alpha, loss=self.loss, margin=self.margin, prior=self.prior,
            )  # fmt: skip
            attributes = partial(self._attributes_of, table)
            self._train(objective, anchor, schedule, on_task, attributes)
            self.alpha_, self.cv_average_precision_ = alpha, precision
        return self

    def _tabulate(self, blocks, dtype):
        """Return the Table of checked blocks."""
        found = blocks.map(survey)
        counts = [counts.sum() for *_, counts in found]
        found = [part for part in found if len(part[0])]
        if not found:
            raise ValueError("X has no rows.")
        labels, sums, numbers = (np.concatenate(column) for column in zip(*found, strict=True))
        labels, number = np.unique(labels, return_inverse=True)
        classes, codes = check_binary_target(labels)
        sums, numbers = (np.bincount(number, column) for column in (sums, numbers))
        check_weighted_classes(codes, sums)
        self._warn_of_few(int(numbers[1]))
        if numbers[1] > MOST_POSITIVES:
            raise ValueError(
                f"There are {numbers[1]:g} positives, more than the {MOST_POSITIVES:g} that can be "
                "held in one process; make the rarer class the larger label, or take a sample."
            )
        weights = class_weighted(self.class_weight, classes, codes, sums)
        blocks.keep([count > 0 for count in counts])
        blocks.transform(label, classes, weights / sums)
        X, weight = (np.concatenate(part) for part in zip(*blocks.map(positives_of), strict=True))
        return Table(blocks, int(numbers.sum()), classes, weights, X, weight, dtype)

    def _choose_of(self, table, schedule):
        """Return (anchor, alpha, average precision of the splits); see `_choose`."""
        Cs, alpha, precision = (1.0,), self._alphas(np.ones(len(table.X)))[0], np.array([])
        if isinstance(self.alpha, str):
            labels = table.rows.map(labels_of)
            positive = np.concatenate(labels)
            if splits := make_splits(self.cv, positive, positive):
                splits, times = thinned(splits, positive)
                used = np.unique(np.concatenate([rows for split in splits for rows in split]))
                X, positive, weight, given = self._sample(table, used, list(map(len, labels)))
                splits = [
                    (np.searchsorted(used, train), np.searchsorted(used, test))
                    for train, test in splits
                ]
                times = times[used]
                Cs, alpha, precision = self._select(
                    X, positive, weight * times, given * times, splits, schedule
                )
        path = partial(self._path, table, Cs)
        anchors = anchors_of(self.anchor, self.n_features_in_, table.weights[1], path)
        return anchors[-1], alpha, precision

    def _sample(self, table, used, lengths):
        """Return X, positives, weights and given weights of the rows that are used."""
        parts = table.rows.map(rows_at, each=among(used, lengths))
        return (np.concatenate(part) for part in zip(*parts, strict=True))

    def _path(self, table, Cs):
        """Return logistic regressions along C, by the ways of the plain estimator."""
        rows, total = table.rows, table.weights.sum()
        if not self.positive and is_small(table.n_rows, self.n_features_in_):
            parts = rows.map(rows_at, slice(None))
            X, positive, weight, _ = (np.concatenate(part) for part in zip(*parts, strict=True))
            return logistic_path(X, positive, weight, Cs)
        share = table.weights[1] / total if self.positive else None
        return path_of_sums(partial(rows.sum, log_loss_of), self.n_features_in_, total, Cs, share)

    def _attributes_of(self, table, theta):
        """Return the attributes with which theta predicts."""
        (scores,) = table.rows.sum(spread, theta)
        terms = partial(table.rows.sum, platt_terms_of, theta)
        total, n_positive = table.weights.sum(), table.weights[1]
        line = platt_of_sums(terms, total, n_positive, (scores.mean, scores.deviation))
        threshold = choose_threshold(self.threshold, *[np.empty(0)] * 3)
        attributes = {"classes_": table.classes, "threshold_": threshold}
        return attributes | linear_attributes(theta, *line, table.dtype)

    def _check_settings(self):
        """Refuse what needs all rows in one place, besides what makes no sense."""
        check_supported(
            self,
            module=(self.module is None, "None"),
            device=(self.device == "cpu", "'cpu'"),
            solver=(self.solver in ("lbfgs", "trust-ncg"), "'lbfgs' or 'trust-ncg'"),
            threshold=(
                self.threshold == "proba" or isinstance(self.threshold, Real),
                "'proba' or a number",
            ),
            cv=(self.cv is None or isinstance(self.cv, Integral), "None or an int"),
        )
        super()._check_settings()

    def decision_function(self, X: Any) -> Any:
        """Return the log-odds of the positive class.

        Parameters
        ----------
        X : Dask array or frame, or array-like, of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        log_odds : Dask array or ndarray of shape (n_samples,)
            Positive where the probability is above one half.
        """
        return self._predicted("decision_function", X)

    def predict_proba(self, X: Any) -> Any:
        """Return the probabilities of both classes.

        Parameters
        ----------
        X : Dask array or frame, or array-like, of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        probability : Dask array or ndarray of shape (n_samples, 2)
            Columns in the order of `classes_`.
        """
        return self._predicted("predict_proba", X)

    def predict(self, X: Any) -> Any:
        """Return the label of each sample: positive above `threshold_`.

        Parameters
        ----------
        X : Dask array or frame, or array-like, of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        labels : Dask array or ndarray of shape (n_samples,)
            Entries of `classes_`.
        """
        return self._predicted("predict", X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy.

        Parameters
        ----------
        X : Dask array or frame, or array-like, of shape (n_samples, n_features)
            Samples.

        y : Dask array or series, or array-like, of shape (n_samples,)
            Labels.

        sample_weight : Dask array or series, or array-like, of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        accuracy : float
            The share of the samples that `predict` gets right.
        """
        local = self.to_local()
        if not is_dask(X):
            return local.score(X, y, sample_weight)
        return accuracy(local, X=X, y=y, sample_weight=sample_weight)
