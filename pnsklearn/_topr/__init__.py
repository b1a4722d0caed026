"""TOPRPolicy: off-policy learning from logged decisions."""

from pnsklearn._topr._estimator import TOPRPolicy

__all__ = ["TOPRPolicy"]
