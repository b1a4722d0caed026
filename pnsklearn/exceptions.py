"""Warnings of the package."""


class PUTrendWarning(UserWarning):
    """The data do not support what `PUTrendClassifier` was asked to learn from them.

    Given for an inverted trend, a degenerate split, a class prior that the data do not determine or
    that disagrees with the natural break, labelled positives that cannot be told from the
    unlabelled rows, too few of them for the folds, or a run that has memorised its rows.
    """


class PolicyWarning(UserWarning):
    """A policy that was learned from a log may be no better than what was logged.

    Given by `TOPRPolicy` if its estimated value is not surely above the log's or rests on few rows,
    if it takes actions without one good outcome, if no action has outcomes of both kinds, and if it
    is scored without rewards.
    """
