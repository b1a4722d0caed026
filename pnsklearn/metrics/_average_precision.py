"""The smooth average precision of any scores, with its gradient."""

from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from pnsklearn._auprc._objective import surrogate_of_scores
from pnsklearn._validation import check_weighted_classes, check_weights


@validate_params(
    {
        "y_true": ["array-like"],
        "y_score": ["array-like"],
        "loss": [StrOptions({"smooth", "squared_hinge"})],
        "margin": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "prior": [None, Interval(Real, 0, 1, closed="neither")],
        "pos_label": [Real, str, "boolean"],
        "sample_weight": ["array-like", None],
        "return_gradient": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def average_precision_surrogate(
    y_true: Any,
    y_score: Any,
    *,
    loss: str = "smooth",
    margin: str | float = "auto",
    prior: float | None = None,
    pos_label: Any = 1,
    sample_weight: Any = None,
    return_gradient: bool = False,
) -> Any:
    r"""Smooth average precision, exact in :math:`O(n \log n_+)`.

    .. math::

        1 - F = \sum_{i \in P} v_i \frac{\sum_{j \in P} w_j \ell(s_i - s_j)}
                                         {\sum_j w_j \ell(s_i - s_j)}

    With ``loss="smooth"``,
    :math:`\ell_t(d) = [(t-d)_+^2 - 2(-d)_+^2 + (-t-d)_+^2] / (2t^2)`, and positives of equal score
    count in full, so that the value tends to
    :func:`~sklearn.metrics.average_precision_score` as t falls, where no negative ties with a
    positive. With ``loss="squared_hinge"``, :math:`\ell_m(d) = \max(0, m - d)^2`.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels.
    y_score : array-like of shape (n_samples,)
        Finite scores, larger for the positive class.
    loss : {"smooth", "squared_hinge"}, default="smooth"
        The stand-in for "j is ranked at or above i".
    margin : "auto" or float, default="auto"
        t or m, in weighted standard deviations of the scores (in score units where all scores are
        equal). "auto" is 0.5 for the step and 1 for the hinge; at least 1e-3 and at most 1e6.
    prior : float or None, default=None
        Share of the positives inside the sums; None keeps that of the data.
    pos_label : int, float, bool or str, default=1
        The positive label; all others are negative.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights.
    return_gradient : bool, default=False
        Whether to return the gradient in the scores too, the width t or m held fixed.

    Returns
    -------
    value : float
        In (0, 1], larger is better.
    gradient : ndarray of shape (n_samples,)
        Only with ``return_gradient=True``.

    Raises
    ------
    ValueError
        If shapes differ, scores or weights are not finite, a weight is negative, or a class has
        no weight.

    References
    ----------
    Q. Qi, Y. Luo, Z. Xu, S. Ji, T. Yang, "Stochastic Optimization of Areas Under Precision-Recall
    Curves with Provable Convergence", NeurIPS 2021, equation 3.

    Examples
    --------
    >>> from sklearn.metrics import average_precision_score
    >>> from pnsklearn.metrics import average_precision_surrogate
    >>> y, s = [0, 1, 0, 1, 1], [0.1, 0.3, 0.4, 0.8, 0.9]
    >>> float(round(average_precision_score(y, s), 4))
    0.9167
    >>> round(average_precision_surrogate(y, s, margin=0.01), 4)
    0.9167
    """
    scores = check_array(y_score, ensure_2d=False, dtype=np.float64, input_name="y_score")
    y_true = check_array(y_true, ensure_2d=False, dtype=None, input_name="y_true")
    if scores.ndim != 1 or y_true.ndim != 1:
        raise ValueError(
            f"y_true and y_score must be of shape (n_samples,), got {y_true.shape} and "
            f"{scores.shape}."
        )
    check_consistent_length(y_true, scores)
    weight = check_weights(sample_weight, scores)
    positive = y_true == pos_label
    check_weighted_classes(positive, weight)
    value, slope = surrogate_of_scores(
        scores, positive, weight, loss=loss, margin=margin, prior=prior
    )
    return (1.0 - value, -slope()) if return_gradient else 1.0 - value
