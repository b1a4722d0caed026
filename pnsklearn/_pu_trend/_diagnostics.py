"""What was looked at after a fit, and the warnings that follow."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pnsklearn._pu_trend._sample import Sample
from pnsklearn._pu_trend._share import BOUND_ERROR, Share
from pnsklearn._pu_trend._split import Split

# Limit of the doubt with 100 labels, and the power of their number with which it grows: few labels
# leave failures that look less doubtful. Chosen so that a silent failure, of all fits, counts as
# three false alarms, of the fits that are fine.
DOUBT_LIMIT, LIMIT_POWER, LARGEST_LIMIT = 0.2, 0.3, 0.5
FEWEST_POSITIVES = 20  # below, a share is hardly determined
FAIR_AUC = 0.6  # of the labeled positives against the unlabeled rows, in one run on all rows
AUC_TOLERANCE = 0.05  # over what scores can reach that were not trained on their rows


class Diagnostic(NamedTuple):
    """One thing that was looked at."""

    what: str
    value: float
    limit: float
    verdict: str


class Diagnostics(tuple):
    """Rows (what, value, limit, verdict), shown as a table."""

    __slots__ = ()

    def __repr__(self) -> str:
        cells = [Diagnostic._fields, *((w, f"{v:.3g}", f"{m:.3g}", d) for w, v, m, d in self)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)
        return "\n".join(lines)


def doubt_limit(n_positives: float) -> float:
    """Return the doubt from which on a fit is warned of, given the number of labels."""
    return min(DOUBT_LIMIT * (n_positives / 100) ** LIMIT_POWER, LARGEST_LIMIT)


def diagnose(
    split: Split, sample: Sample, share: Share | None, doubt: float, given: tuple | None
) -> tuple[Diagnostics, list[str]]:
    """Return the table, and the sentences to warn with.

    `given` are the bounds of the share that the user knows.
    """
    n_P = float(sample.positives.weight.sum())
    limit = doubt_limit(n_P)
    rows = [
        Diagnostic("doubt", doubt, limit,
                   _verdict(doubt > limit, "in doubt", np.isnan(doubt))),
        Diagnostic("labeled positives", n_P, FEWEST_POSITIVES,
                   _verdict(n_P < FEWEST_POSITIVES, "few")),
        Diagnostic("held-out AUC", split.ranking.auc, 0.5,
                   _verdict(split.ranking.auc <= 0.5, "no better than chance")),
    ]  # fmt: skip
    sentences = list(_doubts(split, sample, doubt > limit, doubt))
    if share is not None and given is not None and sample.held_out:
        bound = BOUND_ERROR * share.bound
        rows.append(Diagnostic("given share", given[0], bound,
                               _verdict(given[0] > bound, "labels may be biased")))  # fmt: skip
        if given[0] > bound:
            sentences.append(
                f"The data hold at most {share.bound:.2f} positives among the unlabeled rows if "
                f"labels are random, and class_prior is {given[0]:.2f}. The labeled positives may "
                "be the easy ones: label a random sample, or try split='natural'."
            )
    return Diagnostics(rows), sentences


def _verdict(bad, word, unknown=False):
    return "not estimated" if unknown else word if bad else "fine"


def _doubts(split: Split, sample: Sample, warned: bool, doubt: float) -> Iterator[str]:
    """Yield a sentence for each reason not to trust the fit."""
    auc, share = split.ranking.auc, split.share
    if warned:
        yield (
            "Calling every row the same would be more accurate with probability "
            f"{doubt:.2f}. The labeled positives rank above the unlabeled rows with probability "
            f"{auc:.2f}, and {share:.2f} of these count as positive. The ranking may still be of "
            "use; see diagnostics_. Set class_prior if the share is known, or label more."
        )
    if sample.held_out:
        return
    if auc > 1 - share / 2 + AUC_TOLERANCE:
        yield (
            f"The labeled positives rank above the unlabeled rows with probability {auc:.2f}. "
            f"With a share of positives of {share:.2f}, no more than {1 - share / 2:.2f} is "
            "possible, so the run has memorised its rows. Set n_folds, or train for less."
        )
    elif auc < FAIR_AUC:
        yield (
            "The labeled positives can hardly be told from the unlabeled rows: they rank above "
            f"them with probability {auc:.2f}. Predictions may be no better than chance."
        )
