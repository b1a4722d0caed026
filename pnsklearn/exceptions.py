"""Warnings of the package."""


class PUTrendWarning(UserWarning):
    """The data do not support what `PUTrendClassifier` was asked to learn from them.

    Raised for an inverted trend, a degenerate split, a class prior that the data do not determine,
    or labelled positives that cannot be told from the unlabelled rows.
    """
