"""SMaLLClassifier: a few sparse linear rules joined by "or"."""

from pnsklearn._small._estimator import SMaLLClassifier

__all__ = ["SMaLLClassifier"]
