"""Scores of a classifier where no negative is known: labeled positives and unlabeled rows.

Every score here is a function of three numbers: a mean over the labeled rows, the same mean over
the population, and the population's class prior. `_Sample` holds the rows that estimate them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit
from sklearn.metrics import make_scorer, roc_auc_score
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from pnsklearn._pu_trend._labels import fill_missing, filled_classes, positive_label
from pnsklearn._typing import Array
from pnsklearn._validation import check_weights

validate = partial(validate_params, prefer_skip_nested_validation=True)
PRIOR = {"class_prior": [Interval(Real, 0, 1, closed="left")]}
SCENARIO = {"scenario": [StrOptions({"single", "case-control"})]}
LABELS = {
    "s_true": ["array-like"],
    "pos_label": [Real, str, "boolean", None],
    "sample_weight": ["array-like", None],
}
PREDICTIONS = LABELS | {"y_pred": ["array-like"]}
SCORES = LABELS | {"y_score": ["array-like"]}


@dataclass(frozen=True)
class _Sample:
    """The weights of the rows that estimate the population's means."""

    positive_weight: Array  # sums to 1 over the labeled rows, 0 elsewhere
    unlabeled_weight: Array  # sums to 1 over the unlabeled rows, 0 elsewhere
    labeled_share: float  # of the labeled rows in the population's sample; 0 in case-control

    def positive_mean(self, values):
        """Return the mean of `values` over positives."""
        return float(self.positive_weight @ values)

    def population_mean(self, values):
        """Return the mean of `values` over the population."""
        share = self.labeled_share
        return float(
            share * (self.positive_weight @ values) + (1 - share) * (self.unlabeled_weight @ values)
        )

    def population_prior(self, class_prior):
        """Return the population's class prior, given that of the unlabeled rows."""
        return self.labeled_share + (1 - self.labeled_share) * class_prior


def _check_sample(s_true, values, sample_weight, scenario="single", pos_label=None):
    """Return (`_Sample`, (unlabeled, positive) label) of labels that go with an array `values`."""
    s_true, only_label = fill_missing(s_true)
    s_true = check_array(s_true, ensure_2d=False, dtype=None, input_name="s_true")
    if s_true.ndim != 1 or values.ndim != 1:
        raise ValueError(
            "s_true and the predictions must be of shape (n_samples,), got "
            f"{s_true.shape} and {values.shape}."
        )
    check_consistent_length(s_true, values)
    labels = np.unique(s_true)
    if labels.shape[0] != 2:
        raise ValueError(
            "s_true must have two values, one for labeled positives and one for unlabeled rows; "
            f"got {labels.shape[0]}."
        )
    weight = check_weights(sample_weight, s_true)
    if only_label is None:
        labels = positive_label(labels, pos_label)
        labeled = s_true == labels[1]
    else:
        labels, labeled = filled_classes(only_label, pos_label), s_true == 1
    totals = weight @ labeled, weight @ ~labeled
    for name, total in zip(("labeled", "unlabeled"), totals, strict=True):
        if total == 0:
            raise ValueError(f"No {name} row has a positive sample_weight; at least one is needed.")
    sample = _Sample(
        np.where(labeled, weight / totals[0], 0.0),
        np.where(labeled, 0.0, weight / totals[1]),
        totals[0] / (totals[0] + totals[1]) if scenario == "single" else 0.0,
    )
    return sample, labels


def _check_predictions(s_true, y_pred, *args):
    """Return (`_Sample`, recall, rate of positive predictions) of predicted labels."""
    y_pred = check_array(y_pred, ensure_2d=False, dtype=None, input_name="y_pred")
    sample, labels = _check_sample(s_true, y_pred, *args)
    predicted = y_pred == labels[1]
    unknown = y_pred[~predicted & (y_pred != labels[0])]
    if unknown.shape[0]:
        raise ValueError(
            f"y_pred must hold the two values of s_true, {labels[0]} and {labels[1]}, the second "
            f"for predicted positives; got {unknown[0]}."
        )
    return sample, sample.positive_mean(predicted), sample.population_mean(predicted)


def _check_scores(s_true, y_score, *args):
    """Return (`_Sample`, float64 scores)."""
    scores = check_array(y_score, ensure_2d=False, dtype=np.float64, input_name="y_score")
    return _check_sample(s_true, scores, *args)[0], scores


def _clip(value):
    return float(min(max(value, 0.0), 1.0))


@validate(PREDICTIONS | SCENARIO)
def lee_liu_score(
    s_true: ArrayLike, y_pred: ArrayLike, *,
    scenario: str = "single", pos_label: Any = None,
    sample_weight: ArrayLike | None = None,
) -> float:  # fmt: skip
    r"""Compute the score of Lee and Liu, which ranks classifiers without negatives or a prior.

    .. math::

        \frac{r^2}{q} = \frac{\text{precision} \times \text{recall}}{\text{class prior}},
        \quad r = P(\hat y = 1 \mid y = 1), \quad q = P(\hat y = 1).

    r is the share of labeled rows that are predicted positive, q that share over the population.
    Like F1 it is high only where precision and recall both are.

    Parameters
    ----------
    s_true : array-like of shape (n_samples,)
        Two labels, of labeled positives and of unlabeled rows, see `pos_label`.
    y_pred : array-like of shape (n_samples,)
        Predictions, the same two values, read as positive and negative.
    scenario : {"single", "case-control"}, default="single"
        The population, over which q is taken: all rows, some positives of which were labeled
        ("single"), or the unlabeled rows only, the labeled ones being a sample of their own
        ("case-control").
    pos_label : int, float, bool, str or None, default=None
        The label of the labeled positives; None is 1 beside 0 or -1, and True beside False.
        Missing labels (None, NaN, `pandas.NA`) mean unlabeled.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights; a whole number counts as so many rows.

    Returns
    -------
    score : float
        At least 0 and, for a perfect classifier, one over the class prior; 0 where nothing is
        predicted positive.

    Raises
    ------
    ValueError
        If shapes differ, `s_true` has not two labels, or two of which neither is plainly the
        positive one and `pos_label` is None, `y_pred` has others, or weights are negative or zero
        for all labeled or all unlabeled rows.

    References
    ----------
    W. S. Lee, B. Liu, "Learning with Positive and Unlabeled Examples Using Weighted Logistic
    Regression", ICML 2003.

    Examples
    --------
    >>> from pnsklearn.metrics import lee_liu_score
    >>> lee_liu_score([1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0])
    2.0
    """
    _, recall, predicted = _check_predictions(s_true, y_pred, sample_weight, scenario, pos_label)
    return recall**2 / predicted if predicted > 0 else 0.0


@validate(PREDICTIONS | PRIOR | SCENARIO)
def pu_precision_score(
    s_true: ArrayLike, y_pred: ArrayLike, *,
    class_prior: float, scenario: str = "single", pos_label: Any = None,
    sample_weight: ArrayLike | None = None,
) -> float:  # fmt: skip
    r"""Estimate the precision on the population, given the class prior.

    .. math::

        P(y = 1 \mid \hat y = 1) = \frac{\alpha r}{q}, \qquad
        \alpha = \begin{cases} (n_P + \pi n_U) / (n_P + n_U) & \text{single} \\
                               \pi & \text{case-control} \end{cases}

    with r the rate of positive predictions over the labeled rows, q that over the population,
    and α the population's class prior. The labeled positives must be like the others (selected
    completely at random).

    Parameters
    ----------
    s_true : array-like of shape (n_samples,)
        Two labels, of labeled positives and of unlabeled rows, see `pos_label`.
    y_pred : array-like of shape (n_samples,)
        Predictions, the same two values, read as positive and negative.
    class_prior : float in [0, 1)
        π, the share of positives among the *unlabeled* rows, in both scenarios.
    scenario : {"single", "case-control"}, default="single"
        The population, for which the score is estimated. "single": labeled and unlabeled rows
        together, one sample in which some positives were labeled. "case-control": the unlabeled
        rows; the labeled ones are a sample of their own.
    pos_label : int, float, bool, str or None, default=None
        The label of the labeled positives; None is 1 beside 0 or -1, and True beside False.
        Missing labels (None, NaN, `pandas.NA`) mean unlabeled.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights; a whole number counts as so many rows.

    Returns
    -------
    precision : float
        Clipped into [0, 1], which the estimate may leave; 0 where nothing is predicted positive.

    Raises
    ------
    ValueError
        If `class_prior` is out of its range, or as :func:`lee_liu_score` does.

    Examples
    --------
    >>> from pnsklearn.metrics import pu_precision_score
    >>> s, y_pred = [1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0]
    >>> round(pu_precision_score(s, y_pred, class_prior=0.25), 4)  # 3 of the 6 rows are positive
    0.75
    >>> pu_precision_score(s, y_pred, class_prior=0.25, scenario="case-control")
    0.5
    """
    sample, recall, predicted = _check_predictions(
        s_true, y_pred, sample_weight, scenario, pos_label
    )
    prior = sample.population_prior(class_prior)
    return _clip(prior * recall / predicted) if predicted > 0 else 0.0


@validate(PREDICTIONS | PRIOR | SCENARIO)
def pu_f1_score(
    s_true: ArrayLike, y_pred: ArrayLike, *,
    class_prior: float, scenario: str = "single", pos_label: Any = None,
    sample_weight: ArrayLike | None = None,
) -> float:  # fmt: skip
    r"""Estimate F1 on the population, given the class prior.

    .. math::

        F_1 = \frac{2 P(\hat y = 1, y = 1)}{P(\hat y = 1) + P(y = 1)}
            = \frac{2 \alpha r}{q + \alpha}

    with r, q and α as in :func:`pu_precision_score`. The labeled positives must be like the
    others (selected completely at random).

    Parameters
    ----------
    s_true : array-like of shape (n_samples,)
        Two labels, of labeled positives and of unlabeled rows, see `pos_label`.
    y_pred : array-like of shape (n_samples,)
        Predictions, the same two values, read as positive and negative.
    class_prior : float in [0, 1)
        π, the share of positives among the *unlabeled* rows, in both scenarios.
    scenario : {"single", "case-control"}, default="single"
        The population, for which the score is estimated: all rows, or the unlabeled ones; see
        :func:`pu_precision_score`.
    pos_label : int, float, bool, str or None, default=None
        The label of the labeled positives; None is 1 beside 0 or -1, and True beside False.
        Missing labels (None, NaN, `pandas.NA`) mean unlabeled.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights; a whole number counts as so many rows.

    Returns
    -------
    f1 : float
        Clipped into [0, 1], which the estimate may leave; 0 where nothing is predicted positive.

    Raises
    ------
    ValueError
        If `class_prior` is out of its range, or as :func:`lee_liu_score` does.

    Examples
    --------
    >>> from pnsklearn.metrics import pu_f1_score
    >>> round(pu_f1_score([1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0], class_prior=0.25), 4)
    0.8571
    """
    sample, recall, predicted = _check_predictions(
        s_true, y_pred, sample_weight, scenario, pos_label
    )
    prior = sample.population_prior(class_prior)
    return _clip(2 * prior * recall / (predicted + prior)) if recall > 0 else 0.0


@validate(PREDICTIONS | PRIOR | SCENARIO)
def pu_accuracy_score(
    s_true: ArrayLike, y_pred: ArrayLike, *,
    class_prior: float, scenario: str = "single", pos_label: Any = None,
    sample_weight: ArrayLike | None = None,
) -> float:  # fmt: skip
    r"""Estimate the accuracy on the population, given the class prior.

    .. math::

        P(\hat y = y) = 1 - P(y = 1) - P(\hat y = 1) + 2 P(\hat y = 1, y = 1)
                      = 1 - \alpha - q + 2 \alpha r

    with r, q and α as in :func:`pu_precision_score`. The labeled positives must be like the
    others (selected completely at random).

    Parameters
    ----------
    s_true : array-like of shape (n_samples,)
        Two labels, of labeled positives and of unlabeled rows, see `pos_label`.
    y_pred : array-like of shape (n_samples,)
        Predictions, the same two values, read as positive and negative.
    class_prior : float in [0, 1)
        π, the share of positives among the *unlabeled* rows, in both scenarios.
    scenario : {"single", "case-control"}, default="single"
        The population, for which the score is estimated: all rows, or the unlabeled ones; see
        :func:`pu_precision_score`.
    pos_label : int, float, bool, str or None, default=None
        The label of the labeled positives; None is 1 beside 0 or -1, and True beside False.
        Missing labels (None, NaN, `pandas.NA`) mean unlabeled.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights; a whole number counts as so many rows.

    Returns
    -------
    accuracy : float
        Clipped into [0, 1], which the estimate may leave.

    Raises
    ------
    ValueError
        If `class_prior` is out of its range, or as :func:`lee_liu_score` does.

    Examples
    --------
    >>> from pnsklearn.metrics import pu_accuracy_score
    >>> s, y_pred = [1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0]
    >>> round(pu_accuracy_score(s, y_pred, class_prior=0.25), 4)
    0.8333
    """
    sample, recall, predicted = _check_predictions(
        s_true, y_pred, sample_weight, scenario, pos_label
    )
    prior = sample.population_prior(class_prior)
    return _clip(1 - prior - predicted + 2 * prior * recall)


@validate(SCORES | PRIOR)
def pu_roc_auc_score(
    s_true: ArrayLike, y_score: ArrayLike, *,
    class_prior: float, pos_label: Any = None, sample_weight: ArrayLike | None = None,
) -> float:  # fmt: skip
    r"""Estimate the area under the ROC curve of positives against negatives, given the class prior.

    Against a share π of positives among the unlabeled rows a positive wins half of the time:

    .. math::

        A_{PU} = \frac{\pi}{2} + (1 - \pi) A_{PN}
        \quad \Longrightarrow \quad
        A_{PN} = \frac{A_{PU} - \pi / 2}{1 - \pi}

    with the plain AUC of labeled against unlabeled rows, :func:`sklearn.metrics.roc_auc_score`.
    The formula is the same in both scenarios, as an AUC does not depend on the population's class
    prior. The labeled positives must be like the others (selected completely at random).

    Parameters
    ----------
    s_true : array-like of shape (n_samples,)
        Two labels, of labeled positives and of unlabeled rows, see `pos_label`.
    y_score : array-like of shape (n_samples,)
        Finite scores, larger for positives.
    class_prior : float in [0, 1)
        π, the share of positives among the *unlabeled* rows, not in the population.
    pos_label : int, float, bool, str or None, default=None
        The label of the labeled positives; None is 1 beside 0 or -1, and True beside False.
        Missing labels (None, NaN, `pandas.NA`) mean unlabeled.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights; a whole number counts as so many rows.

    Returns
    -------
    auc : float
        Clipped into [0, 1], which the estimate may leave.

    Raises
    ------
    ValueError
        If `class_prior` is out of its range, shapes differ, `s_true` has not two values, scores are
        not finite, or weights are negative or zero for all labeled or all unlabeled rows.

    References
    ----------
    A. Menon, B. van Rooyen, C. S. Ong, R. C. Williamson, "Learning from Corrupted Binary Labels
    via Class-Probability Estimation", ICML 2015.

    Examples
    --------
    >>> from pnsklearn.metrics import pu_roc_auc_score
    >>> pu_roc_auc_score([1, 1, 0, 0, 0, 0], [5, 4, 4.5, 3, 2, 1], class_prior=0.25)
    1.0
    """
    sample, scores = _check_scores(s_true, y_score, sample_weight, "single", pos_label)
    weight = sample.positive_weight + sample.unlabeled_weight
    auc = roc_auc_score(sample.positive_weight > 0, scores, sample_weight=weight)
    return _clip((auc - class_prior / 2) / (1 - class_prior))


@validate(SCORES | PRIOR | SCENARIO)
def pu_average_precision_score(
    s_true: ArrayLike, y_score: ArrayLike, *,
    class_prior: float, scenario: str = "single", pos_label: Any = None,
    sample_weight: ArrayLike | None = None,
) -> float:  # fmt: skip
    r"""Estimate average precision on the population, given the class prior.

    .. math::

        AP = E_P\left[\min\left\{1,\; \frac{\alpha r(g)}{q(g)}\right\}\right]

    the mean, over the labeled rows and their scores g, of the precision of "score at least g",
    estimated as in :func:`pu_precision_score`: r and q are the shares of the labeled rows and of
    the population that score so. The labeled positives must be like the others (selected
    completely at random). With few labeled rows the precision of the first ranks is noisy, and
    cutting it at 1 makes the estimate a little too small.

    Parameters
    ----------
    s_true : array-like of shape (n_samples,)
        Two labels, of labeled positives and of unlabeled rows, see `pos_label`.
    y_score : array-like of shape (n_samples,)
        Finite scores, larger for positives.
    class_prior : float in [0, 1)
        π, the share of positives among the *unlabeled* rows, in both scenarios.
    scenario : {"single", "case-control"}, default="single"
        The population, for which the score is estimated: all rows, or the unlabeled ones; see
        :func:`pu_precision_score`.
    pos_label : int, float, bool, str or None, default=None
        The label of the labeled positives; None is 1 beside 0 or -1, and True beside False.
        Missing labels (None, NaN, `pandas.NA`) mean unlabeled.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights; a whole number counts as so many rows.

    Returns
    -------
    average_precision : float
        In [0, 1].

    Raises
    ------
    ValueError
        If `class_prior` is out of its range, or as :func:`pu_roc_auc_score` does.

    Examples
    --------
    >>> from pnsklearn.metrics import pu_average_precision_score
    >>> s, scores = [1, 1, 0, 0, 0, 0], [4, 3, 5, 2, 1, 0]
    >>> round(pu_average_precision_score(s, scores, class_prior=0.25), 4)
    0.875
    """
    sample, scores = _check_scores(s_true, y_score, sample_weight, scenario, pos_label)
    prior = sample.population_prior(class_prior)
    order = np.argsort(-scores)
    last = np.searchsorted(-scores[order], -scores, side="right") - 1  # rank of the last tie
    recall = np.cumsum(sample.positive_weight[order])[last]
    unlabeled = np.cumsum(sample.unlabeled_weight[order])[last]
    share = sample.labeled_share
    predicted = share * recall + (1 - share) * unlabeled
    precision = np.divide(prior * recall, predicted, out=np.ones_like(recall), where=predicted > 0)
    return _clip(sample.positive_mean(np.minimum(precision, 1.0)))


# The loss of a margin, decreasing.
LOSSES = {"sigmoid": lambda margin: expit(-margin), "logistic": lambda m: np.logaddexp(0.0, -m)}


@validate(
    SCORES | PRIOR | SCENARIO | {"loss": [StrOptions(set(LOSSES))], "non_negative": ["boolean"]}
)
def nnpu_risk(
    s_true: ArrayLike, y_score: ArrayLike, *, class_prior: float, loss: str = "sigmoid",
    non_negative: bool = True, scenario: str = "single", pos_label: Any = None,
    sample_weight: ArrayLike | None = None,
) -> float:  # fmt: skip
    r"""Estimate the risk of a decision function without negatives, given the class prior.

    .. math::

        R(g) = \alpha E_P[\ell(g)] + \max\{0,\; E[\ell(-g)] - \alpha E_P[\ell(-g)]\}

    :math:`E_P` is the mean over the labeled rows, E that over the population, α the population's
    class prior, all as in :func:`pu_precision_score`. The second term estimates the negatives'
    part of the risk, which cannot be negative; without the maximum the estimate is unbiased.
    The labeled positives must be like the others (selected completely at random).

    Parameters
    ----------
    s_true : array-like of shape (n_samples,)
        Two labels, of labeled positives and of unlabeled rows, see `pos_label`.
    y_score : array-like of shape (n_samples,)
        Finite values g of a decision function, positive for predicted positives. Probabilities
        must be turned into log odds.
    class_prior : float in [0, 1)
        π, the share of positives among the *unlabeled* rows, in both scenarios.
    loss : {"sigmoid", "logistic"}, default="sigmoid"
        ℓ of a margin z: :math:`1 / (1 + e^z)` or :math:`\log(1 + e^{-z})`.
    non_negative : bool, default=True
        Whether to cut the negatives' part at 0.
    scenario : {"single", "case-control"}, default="single"
        The population, for which the risk is estimated: all rows, or the unlabeled ones; see
        :func:`pu_precision_score`.
    pos_label : int, float, bool, str or None, default=None
        The label of the labeled positives; None is 1 beside 0 or -1, and True beside False.
        Missing labels (None, NaN, `pandas.NA`) mean unlabeled.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights; a whole number counts as so many rows.

    Returns
    -------
    risk : float
        Smaller is better; negative only with ``non_negative=False``.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or as :func:`pu_roc_auc_score` does.

    References
    ----------
    R. Kiryo, G. Niu, M. C. du Plessis, M. Sugiyama, "Positive-Unlabeled Learning with
    Non-Negative Risk Estimator", NeurIPS 2017, equation 6.

    Examples
    --------
    >>> from pnsklearn.metrics import nnpu_risk
    >>> s, g = [1, 1, 0, 0, 0, 0], [2.0, 1.0, 2.0, -1.0, -2.0, -3.0]
    >>> round(nnpu_risk(s, g, class_prior=0.25), 4)
    0.1821
    """
    sample, scores = _check_scores(s_true, y_score, sample_weight, scenario, pos_label)
    prior = sample.population_prior(class_prior)
    against = LOSSES[loss](-scores)
    negative = sample.population_mean(against) - prior * sample.positive_mean(against)
    if non_negative:
        negative = max(negative, 0.0)
    return float(prior * sample.positive_mean(LOSSES[loss](scores)) + negative)


def _labeled_recall(s_true, y_pred, *, pos_label=None, sample_weight=None):
    """Return the recall of the labeled positives."""
    return _check_predictions(s_true, y_pred, sample_weight, "single", pos_label)[1]


def _labeled_auc(s_true, y_score, *, pos_label=None, sample_weight=None):
    """Return the area under the ROC curve of labeled against unlabeled rows."""
    return pu_roc_auc_score(
        s_true, y_score, class_prior=0.0, pos_label=pos_label, sample_weight=sample_weight
    )


RANKING = ("decision_function", "predict_proba")
# name: (function, response of the estimator, takes class_prior, takes scenario)
SCORERS = {
    "lee_liu": (lee_liu_score, "predict", False, True),
    "recall": (_labeled_recall, "predict", False, False),
    "precision": (pu_precision_score, "predict", True, True),
    "f1": (pu_f1_score, "predict", True, True),
    "accuracy": (pu_accuracy_score, "predict", True, True),
    "labeled_auc": (_labeled_auc, RANKING, False, False),
    "roc_auc": (pu_roc_auc_score, RANKING, True, False),
    "average_precision": (pu_average_precision_score, RANKING, True, True),
    "nnpu_risk": (nnpu_risk, "decision_function", True, True),
}


@validate(
    SCENARIO
    | {
        "name": [StrOptions(set(SCORERS))],
        "class_prior": [*PRIOR["class_prior"], None],
        "pos_label": LABELS["pos_label"],
    }
)
def make_pu_scorer(
    name: str, *, class_prior: float | None = None, scenario: str = "single", pos_label: Any = None
) -> Callable[..., float]:
    """Make a scorer for scikit-learn's searches where y says who is labeled.

    The result is a scorer of :func:`sklearn.metrics.make_scorer`: a callable
    ``scorer(estimator, X, y, sample_weight=None)`` for the `scoring` of
    :class:`~sklearn.model_selection.GridSearchCV`,
    :class:`~sklearn.model_selection.TunedThresholdClassifierCV` and the like, with scikit-learn's
    metadata routing. y has two labels, of labeled positives and of unlabeled rows: `pos_label`.

    Parameters
    ----------
    name : str
        Which score.

        - "lee_liu" (:func:`lee_liu_score`), "recall" (:func:`sklearn.metrics.recall_score` of the
          labeled positives) and "labeled_auc" (:func:`sklearn.metrics.roc_auc_score` of labeled
          against unlabeled rows) need no class prior. "lee_liu" is the one to
          start with: in a study it preferred the more accurate of two models in 72 % of the pairs
          and that of the higher F1 in 75 %; "labeled_auc" that of the higher AUC in 79 %;
        - "precision", "f1", "accuracy", "roc_auc" and "average_precision"
          (:func:`pu_precision_score` and so on) do;
        - "nnpu_risk" (:func:`nnpu_risk` with the sigmoid loss, negated so that greater is better)
          does too, and an estimator that has a `decision_function`.
    class_prior : float in [0, 1) or None, default=None
        The share of positives among the *unlabeled* rows, in both scenarios. Stratified folds keep
        it. Scores that do not need it ignore it.
    scenario : {"single", "case-control"}, default="single"
        The population, for which the score is estimated: all rows, or the unlabeled ones; see
        :func:`pu_precision_score`. Scores that do not depend on it ignore it.
    pos_label : int, float, bool, str or None, default=None
        The label of the labeled positives; None is 1 beside 0 or -1, and True beside False.
        Missing labels (None, NaN, `pandas.NA`) mean unlabeled.

    Returns
    -------
    scorer : callable
        Greater is better.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or the score needs a `class_prior` and none is given.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import GridSearchCV
    >>> from pnsklearn.datasets import make_pu
    >>> from pnsklearn.metrics import make_pu_scorer
    >>> X, y = make_classification(random_state=0)
    >>> X, s, _ = make_pu(X, y, label_frequency=0.5, random_state=0)
    >>> scorer = make_pu_scorer("roc_auc", class_prior=1 / 3)
    >>> search = GridSearchCV(LogisticRegression(), {"C": [0.01, 1.0]}, scoring=scorer).fit(X, s)
    >>> bool(search.best_score_ > 0.8)
    True
    """
    score, response, takes_prior, takes_scenario = SCORERS[name]
    kwargs: dict[str, Any] = {"scenario": scenario} if takes_scenario else {}
    if takes_prior:
        if class_prior is None:
            raise ValueError(
                f"The scorer {name!r} needs class_prior, the share of positives among the "
                "unlabeled rows; pnsklearn.metrics.class_prior estimates it."
            )
        kwargs["class_prior"] = class_prior
    if pos_label is not None:
        kwargs["pos_label"] = pos_label
    greater = name != "nnpu_risk"
    return make_scorer(score, response_method=response, greater_is_better=greater, **kwargs)
