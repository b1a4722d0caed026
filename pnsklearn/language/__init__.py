"""Off-policy learning of language models from good and bad completions. Importing needs torch."""

from pnsklearn._device import check_torch

check_torch("pnsklearn.language")

from pnsklearn.language._data import TokenText, read_log  # noqa: E402
from pnsklearn.language._policy import TOPRLanguagePolicy  # noqa: E402
from pnsklearn.language._rounds import cap_positives  # noqa: E402
from pnsklearn.language._watching import TrainingMonitor  # noqa: E402

__all__ = ["TOPRLanguagePolicy", "TokenText", "TrainingMonitor", "cap_positives", "read_log"]
