"""Learning from positive and negative examples when plain classifiers are the wrong tool."""

from pnsklearn._auprc import AUPRCClassifier
from pnsklearn._pu_trend import PUTrendClassifier
from pnsklearn._show_versions import show_versions
from pnsklearn._small import SMaLLClassifier
from pnsklearn._topr import TOPRPolicy

__version__ = "0.1.0"

__all__ = [
    "AUPRCClassifier",
    "PUTrendClassifier",
    "SMaLLClassifier",
    "TOPRPolicy",
    "__version__",
    "show_versions",
]
