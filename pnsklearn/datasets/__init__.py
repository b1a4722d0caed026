"""Generators of problems the package is for."""

from pnsklearn.datasets._bandit import make_feedback, make_logged_bandit
from pnsklearn.datasets._pu import make_pu
from pnsklearn.datasets._rare_positives import make_rare_positives

__all__ = [
    "make_feedback",
    "make_logged_bandit",
    "make_pu",
    "make_rare_positives",
]
