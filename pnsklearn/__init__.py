"""Learning from positive and negative examples when plain classifiers are the wrong tool.

A name is imported at its first use (PEP 562), so that ``import pnsklearn`` costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers, which do not run `__getattr__`
    from pnsklearn import (
        dask,
        datasets,
        displays,
        exceptions,
        inspection,
        language,
        losses,
        metrics,
        onnx,
    )
    from pnsklearn._auprc._estimator import AUPRCClassifier
    from pnsklearn._pu_trend._estimator import PUTrendClassifier
    from pnsklearn._show_versions import show_versions
    from pnsklearn._small._card import RuleCard
    from pnsklearn._small._estimator import SMaLLClassifier
    from pnsklearn._stacking._estimator import AUPRCStackingClassifier
    from pnsklearn._topr._estimator import TOPRPolicy

__version__ = "0.1.0"

__all__ = [
    "AUPRCClassifier",
    "AUPRCStackingClassifier",
    "PUTrendClassifier",
    "RuleCard",
    "SMaLLClassifier",
    "TOPRPolicy",
    "__version__",
    "show_versions",
]


def __getattr__(name):
    value: Any
    match name:
        case "AUPRCClassifier":
            from pnsklearn._auprc._estimator import AUPRCClassifier as value
        case "AUPRCStackingClassifier":
            from pnsklearn._stacking._estimator import AUPRCStackingClassifier as value
        case "PUTrendClassifier":
            from pnsklearn._pu_trend._estimator import PUTrendClassifier as value
        case "RuleCard":
            from pnsklearn._small._card import RuleCard as value
        case "SMaLLClassifier":
            from pnsklearn._small._estimator import SMaLLClassifier as value
        case "TOPRPolicy":
            from pnsklearn._topr._estimator import TOPRPolicy as value
        case "show_versions":
            from pnsklearn._show_versions import show_versions as value
        case "dask":
            import pnsklearn.dask as value
        case "datasets":
            import pnsklearn.datasets as value
        case "displays":
            import pnsklearn.displays as value
        case "exceptions":
            import pnsklearn.exceptions as value
        case "inspection":
            import pnsklearn.inspection as value
        case "language":
            import pnsklearn.language as value
        case "losses":
            import pnsklearn.losses as value
        case "metrics":
            import pnsklearn.metrics as value
        case "onnx":
            import pnsklearn.onnx as value
        case _:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    modules = [
        "dask",
        "datasets",
        "displays",
        "exceptions",
        "inspection",
        "language",
        "losses",
        "metrics",
        "onnx",
    ]
    return sorted(__all__ + modules)
