"""PUTrendClassifier: positives and unlabelled rows, through predictive trends."""

from pnsklearn._pu_trend._estimator import PUTrendClassifier

__all__ = ["PUTrendClassifier"]
