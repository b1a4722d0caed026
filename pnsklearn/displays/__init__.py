"""Plots of the package's own objects, shaped like scikit-learn's displays."""

from pnsklearn.displays._policy_value import PolicyValueDisplay
from pnsklearn.displays._prototypes import PrototypeDisplay
from pnsklearn.displays._sensitivity import SensitivityDisplay
from pnsklearn.displays._stacking import StackingDisplay
from pnsklearn.displays._threshold import ThresholdDisplay
from pnsklearn.displays._trade_off import TradeOffDisplay
from pnsklearn.displays._training import TrainingDisplay
from pnsklearn.displays._trend import TrendDisplay

__all__ = [
    "PolicyValueDisplay",
    "PrototypeDisplay",
    "SensitivityDisplay",
    "StackingDisplay",
    "ThresholdDisplay",
    "TradeOffDisplay",
    "TrainingDisplay",
    "TrendDisplay",
]
