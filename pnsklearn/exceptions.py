"""Warnings of the package."""


class PUTrendWarning(UserWarning):
    """The data do not support what `PUTrendClassifier` was asked to learn from them.

    Given for an inverted trend, a degenerate split, a class prior that the data do not determine or
    that disagrees with the natural break, labelled positives that cannot be told from the
    unlabelled rows, too few of them for the folds, or a run that has memorised its rows.
    """
