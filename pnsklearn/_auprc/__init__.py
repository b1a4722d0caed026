"""AUPRCClassifier: average precision maximisation."""

from pnsklearn._auprc._estimator import AUPRCClassifier

__all__ = ["AUPRCClassifier"]
