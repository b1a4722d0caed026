"""How much to trust rules: which columns come back on other rows, and which would do as well."""

import copy
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.utils import Bunch, _safe_indexing, check_random_state, resample
from sklearn.utils.validation import check_is_fitted

from pnsklearn._small import _frame
from pnsklearn._small._estimator import SMaLLClassifier
from pnsklearn._small._selection import Candidate
from pnsklearn._small._solver import POLISH_MU, SEARCH_MU, descend

__all__ = ["rule_alternatives", "rule_stability"]

MAX_SWEEPS = 1000


def _check_rules(estimator):
    if not isinstance(estimator, SMaLLClassifier):
        raise TypeError(
            f"estimator must be a SMaLLClassifier, got a {type(estimator).__name__}. Of a "
            "pipeline, pass the last step, and X as that one sees it."
        )
    check_is_fitted(estimator)


def rule_stability(
    estimator: SMaLLClassifier, X: Any, y: Any, *, n_repeats: int = 20, random_state: Any = None,
    n_jobs: int | None = None,
) -> Bunch:  # fmt: skip
    """Fit rules of the same shape to bootstrap samples, and count the features they read.

    Parameters
    ----------
    estimator : SMaLLClassifier
        A fitted classifier.
    X : {frame, array-like, sparse matrix} of shape (n_samples, n_features)
        The rows of the fit.
    y : array-like of shape (n_samples,)
        Their labels.
    n_repeats : int, default=20
        Number of bootstrap samples; each has as many rows of each class as y.
    random_state : int, RandomState instance or None, default=None
        Seed of the samples.
    n_jobs : int or None, default=None
        Fits at the same time.

    Returns
    -------
    stability : Bunch
        Arrays with an entry per feature, those that come back most often first: `feature` is its
        name, `frequency` the share of the samples whose rules read it, `is_used` whether the rules
        of `estimator` do. And `agreement`, of shape (n_repeats,): the share of the rows of X that
        the rules of a sample label as those of `estimator`.

    Raises
    ------
    TypeError
        If `estimator` is no SMaLLClassifier.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from pnsklearn import SMaLLClassifier
    >>> from pnsklearn.inspection import rule_stability
    >>> X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    >>> model = SMaLLClassifier(1, 2, n_init=2, random_state=0).fit(X, y)
    >>> found = rule_stability(model, X, y, n_repeats=5, random_state=0)
    >>> print(found.feature[0])
    worst concave points
    """
    _check_rules(estimator)
    rng = check_random_state(random_state)
    model = clone(estimator).set_params(
        n_prototypes=estimator.n_prototypes_, n_nonzero=max(1, *map(len, estimator.support_)),
        positive_class=estimator.positive_class_, warm_start=False, certify=False,
    )  # fmt: skip
    labels, everything = np.asarray(y), np.arange(len(y))
    expected, used = estimator.predict(X), estimator._features_read()

    def fitted(rows):
        found = clone(model).fit(_safe_indexing(X, rows), labels[rows])
        return found._features_read(), np.mean(found.predict(X) == expected)

    samples = [resample(everything, stratify=labels, random_state=rng) for _ in range(n_repeats)]
    read, agreement = zip(*Parallel(n_jobs)(delayed(fitted)(rows) for rows in samples), strict=True)
    counts = np.bincount(np.concatenate(read), minlength=estimator.n_features_in_)
    order = np.argsort(-counts, kind="stable")
    return Bunch(
        feature=np.array(estimator._names(None))[order], frequency=counts[order] / n_repeats,
        is_used=np.isin(order, used), agreement=np.array(agreement),
    )  # fmt: skip


def rule_alternatives(
    estimator: SMaLLClassifier, X: Any, y: Any, *, sample_weight: Any = None,
    max_increase: float = 0.05, n_tried: int = 10,
) -> Bunch:  # fmt: skip
    """Put other terms in the place of each term, refit, and list the rules that are about as good.

    Parameters
    ----------
    estimator : SMaLLClassifier
        A fitted classifier.
    X : {frame, array-like, sparse matrix} of shape (n_samples, n_features)
        The rows of the fit.
    y : array-like of shape (n_samples,)
        Their labels.
    sample_weight : array-like of shape (n_samples,), default=None
        Their weights.
    max_increase : float, default=0.05
        Largest relative increase of the objective, weights not rounded, of what is listed.
    n_tried : int, default=10
        Terms tried in the place of one: those of the steepest gradient without it.

    Returns
    -------
    alternatives : Bunch
        Arrays with an entry per exchange, that of the lowest objective first: `rule`, counted from
        one as in ``estimator.rules()``; `term`, what it has; `instead`, what it may have;
        `increase` of the objective, relative to it; `error`, the weighted share of the rows that
        the rules then get wrong. `error_now` is that share with no exchange.

    Raises
    ------
    TypeError
        If `estimator` is no SMaLLClassifier.
    ValueError
        If X and y are not those of the fit.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from pnsklearn import SMaLLClassifier
    >>> from pnsklearn.inspection import rule_alternatives
    >>> X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    >>> model = SMaLLClassifier(1, 2, n_init=2, random_state=0).fit(X, y)
    >>> found = rule_alternatives(model, X, y, max_increase=0.1)
    >>> print(found.term[0], "->", found.instead[0])
    worst radius -> worst area
    """
    _check_rules(estimator)
    objective, start = _problem(estimator, X, y, sample_weight)
    base = _refitted(objective, *start)
    names, found = estimator._coef_names(), []
    for rule, term in np.argwhere(start[0]):
        without = start[0].copy()
        without[rule, term] = 0.0
        slopes = objective.coef_gradient(without, start[1])[rule]
        free = np.flatnonzero(start[0][rule] == 0)
        for other in free[np.argsort(-np.abs(slopes[free]), kind="stable")[:n_tried]]:
            coef = without.copy()
            coef[rule, other] = -1e-9 * np.sign(slopes[other])
            value, error = _refitted(objective, coef, start[1])
            if slopes[other] != 0 and value <= (1 + max_increase) * base[0]:
                found.append((value / base[0] - 1, rule + 1, names[term], names[other], error))
    found.sort(key=lambda each: each[0])
    columns = [np.array(column) for column in zip(*found, strict=True)] or [np.array([])] * 5
    parts = dict(zip(("increase", "rule", "term", "instead", "error"), columns, strict=True))
    return Bunch(**parts, error_now=base[1])


def _problem(estimator, X, y, sample_weight):
    """Return the objective of a fit, and its rules in standardised units."""
    model = copy.copy(estimator)
    levels = _frame.find_levels(X)
    X, _, positive, weight, classes, _ = model._check_data(X, y, sample_weight, levels)
    terms, data = model._terms(X, positive, weight, _frame.describe(X, levels))
    same = [np.array_equal(getattr(estimator, name, []), value) for name, value in terms.items()]
    if data.n_features != estimator.coef_.shape[1] or not all(same):
        raise ValueError("X and y must be those that estimator was fitted to.")
    union = int(estimator.positive_class_ == classes[1])
    shape = Candidate(estimator.n_prototypes_, data.n_features, union)
    unit = getattr(estimator, "multiplier_", 1.0)
    coef = estimator.coef_ / unit * data.scale
    intercept = (estimator.intercept_ + estimator.coef_ @ data.center) / unit
    return model._objective(data, positive, weight, shape), (coef, intercept)


def _refitted(objective, coef, intercept):
    """Return the objective, and the share of wrong rows, of rules with the given terms."""
    used = np.flatnonzero(coef.any(axis=0))
    block = objective.block(used)
    schedule = SEARCH_MU[1:] + POLISH_MU
    solution = descend(block, (coef[:, used], intercept), schedule, MAX_SWEEPS, n_tried=0)
    fires = block.margins(solution.coef, solution.intercept).max(axis=0) > 0
    return solution.objective, float(block.weight @ (fires != (block.sign > 0)))
