"""Splits of the rows inside a fit."""

from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.model_selection import check_cv
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing

from pnsklearn._habits import PROGRESS
from pnsklearn._typing import Array


class SplitterMixin:
    """Metadata routing of an estimator whose `fit` splits the rows by its `cv`."""

    cv: Any

    def get_metadata_routing(self) -> MetadataRouter:
        """Return how `fit` hands on what it is given: `cv` gets what it splits by.

        Returns
        -------
        routing : MetadataRouter
            See scikit-learn's page on metadata routing.
        """
        mapping = MethodMapping().add(caller="fit", callee="split")
        router = MetadataRouter(owner=self).add_self_request(self)
        return router.add(splitter=self.cv, method_mapping=mapping)


def split_metadata(estimator: Any, params: dict) -> dict:
    """Return the arguments of `fit` by which the `cv` of an estimator splits.

    Raises
    ------
    ValueError
        If there are any, and `cv` is a number.
    TypeError
        If `verbose` is among them.
    """
    if "verbose" in params:
        raise TypeError(f"fit() takes no verbose. {PROGRESS}")
    if params and (estimator.cv is None or isinstance(estimator.cv, (Integral, str))):
        raise ValueError(
            f"cv={estimator.cv!r} does not split by {', '.join(params)}; pass a splitter that "
            "does, cv=StratifiedGroupKFold(5) say."
        )
    return process_routing(estimator, "fit", **params).splitter.split if params else {}


def deal_out(label: Array, n_folds: int) -> Array:
    """Return the fold of each row: the rows of each label are dealt out in turn.

    So every fold has its share of a label, also where that has fewer rows than there are folds.
    """
    fold = np.empty(len(label), dtype=int)
    fold[np.argsort(label, kind="stable")] = np.arange(len(label)) % n_folds
    return fold


def usable_splits(splits: Iterable, kept: Array, positive: Array) -> list[tuple[Array, Array]]:
    """Return the splits over the kept rows that have both classes on both sides."""
    position = np.cumsum(kept) - 1
    mapped = [(position[train[kept[train]]], position[test[kept[test]]]) for train, test in splits]
    return [split for split in mapped if all(has_both(positive[side]) for side in split)]


def has_both(positive: Array) -> bool:
    """Say whether there are rows of both classes."""
    return bool(positive.any() and not positive.all())


def given_splits(
    cv: Any, classes: Array, used: Array, metadata: dict, instead: str
) -> list[tuple[Array, Array]]:
    """Return the usable splits of a splitter or iterable, as positions among the rows in use.

    Parameters
    ----------
    cv : cross-validation generator or iterable
        Over all rows.
    classes : bool ndarray of shape (n_rows,)
    used : bool ndarray of shape (n_rows,)
    metadata : dict
        What the generator splits by besides: groups, say, of all rows.
    instead : str
        What the error advises besides ``cv=5``.

    Raises
    ------
    ValueError
        If it gives no rows, or no split with both classes on both sides.
    """
    try:
        splits = check_cv(cv).split(classes, classes, **metadata)
        usable = usable_splits(splits, used, classes[used])
    except (IndexError, TypeError) as error:
        raise ValueError(
            f"cv must give pairs of indices, to train and to test on, of the {len(used)} rows: "
            f"{error}."
        ) from error
    if not usable:
        raise ValueError(f"cv has no split with both classes on both sides; use cv=5 or {instead}.")
    return usable
