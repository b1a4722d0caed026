"""Warnings of the package."""


class PUWarning(UserWarning):
    """What `PUTrendClassifier` learned may be no better than calling every row the same.

    Given where that is likely (`doubt_`), where a given share of positives contradicts the data,
    for an inverted trend, for too few labeled positives for the folds, and for a run that has
    memorised its rows.
    """


class PolicyWarning(UserWarning):
    """A policy that was learned from a log may be no better than what was logged.

    Given by `TOPRPolicy` if its estimated value is not surely above the log's or rests on few rows,
    if it takes actions without one good outcome, if no action has outcomes of both kinds, and if it
    is scored without rewards.
    """
