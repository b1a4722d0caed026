"""Scores that scikit-learn lacks."""

from pnsklearn.metrics._average_precision import average_precision_surrogate

__all__ = ["average_precision_surrogate"]
