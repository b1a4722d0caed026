"""Scores that scikit-learn lacks."""

from pnsklearn.metrics._average_precision import average_precision_surrogate
from pnsklearn.metrics._class_prior import PriorPosterior, class_prior, class_prior_posterior
from pnsklearn.metrics._off_policy import (
    dr_value,
    effective_sample_size,
    ips_value,
    ope_scorer,
    snips_value,
    value_difference,
)
from pnsklearn.metrics._pu import (
    lee_liu_score,
    make_pu_scorer,
    nnpu_risk,
    pu_accuracy_score,
    pu_average_precision_score,
    pu_f1_score,
    pu_precision_score,
    pu_roc_auc_score,
)

__all__ = [
    "PriorPosterior",
    "average_precision_surrogate",
    "class_prior",
    "class_prior_posterior",
    "dr_value",
    "effective_sample_size",
    "ips_value",
    "lee_liu_score",
    "make_pu_scorer",
    "nnpu_risk",
    "ope_scorer",
    "pu_accuracy_score",
    "pu_average_precision_score",
    "pu_f1_score",
    "pu_precision_score",
    "pu_roc_auc_score",
    "snips_value",
    "value_difference",
]
