"""Generators of problems the package is for."""

from pnsklearn.datasets._pu import make_pu
from pnsklearn.datasets._rare_positives import make_rare_positives

__all__ = ["make_pu", "make_rare_positives"]
