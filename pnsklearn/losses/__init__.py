"""Losses for torch training loops. Importing this module needs torch."""

from pnsklearn._device import check_torch

check_torch("pnsklearn.losses")

from pnsklearn.losses._average_precision import AUPRCLoss, SOAPLoss  # noqa: E402
from pnsklearn.losses._topr import TOPRLoss, sequence_logprob, topr_loss  # noqa: E402

__all__ = ["AUPRCLoss", "SOAPLoss", "TOPRLoss", "sequence_logprob", "topr_loss"]
