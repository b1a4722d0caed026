"""Fit the members of a stack on folds and on all rows, and return their held-out log-odds."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logit
from sklearn.base import clone
from sklearn.ensemble import BaggingClassifier, ExtraTreesClassifier, RandomForestClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import has_fit_parameter

from pnsklearn._auprc._selection import average_precision
from pnsklearn._typing import Array

VOTERS = RandomForestClassifier, ExtraTreesClassifier, BaggingClassifier


class Member(NamedTuple):
    """A model of the stack, and the metadata of its fits: arrays with a value for each row."""

    name: str
    estimator: Any
    metadata: dict[str, Any]


def weighted(name: str, estimator: Any, weight: Array | None) -> dict[str, Any]:
    """Return the argument by which weights reach a member, or the last step of a pipeline."""
    if weight is None:
        return {}
    prefix, last = "", estimator
    while isinstance(last, Pipeline):
        step, last = last.steps[-1]
        prefix += f"{step}__"
    if not has_fit_parameter(last, "sample_weight"):
        raise ValueError(
            f"Member {name!r}, {type(last).__name__}, takes no sample_weight; leave it out, or fit "
            "without weights."
        )
    return {f"{prefix}sample_weight": weight}


def fit_member(member: Member, X: Any, y: Array, rows: Array | None) -> Any:
    """Return the member fitted on some rows, or on all.

    Raises
    ------
    ValueError, TypeError or RuntimeError
        With the name of the member, if its fit fails.
    """
    metadata = member.metadata
    if rows is not None:
        X, y = _safe_indexing(X, rows), y[rows]
        metadata = {key: _safe_indexing(values, rows) for key, values in metadata.items()}
    try:
        return clone(member.estimator).fit(X, y, **metadata)
    except Exception as error:
        on = "all rows" if rows is None else "the training rows of a split"
        kinds = [kind for kind in (ValueError, TypeError) if isinstance(error, kind)]
        kind = kinds[0] if kinds else RuntimeError
        raise kind(f"Member {member.name!r} cannot be fitted on {on}: {error}") from error


def log_odds(name: str, estimator: Any, X: Any, n_train: int) -> Array:
    """Return what a fitted member says of some rows: log-odds, or any other decision function.

    The shares of a vote of m trees (of `n_train` rows, for models without votes) are smoothed to
    (m p + 1/2) / (m + 1), so that none is 0 or 1.
    """
    if hasattr(estimator, "decision_function"):
        scores = np.asarray(estimator.decision_function(X), dtype=np.float64)
        scores = scores.reshape(len(scores), -1)[:, -1]
    elif hasattr(estimator, "predict_proba"):
        share = np.asarray(estimator.predict_proba(X), dtype=np.float64)[:, 1]
        last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
        m = len(last.estimators_) if isinstance(last, VOTERS) else n_train
        scores = logit((m * share + 0.5) / (m + 1))
    else:
        raise ValueError(f"Member {name!r} has neither decision_function nor predict_proba.")
    if not np.isfinite(scores).all():
        raise ValueError(f"Member {name!r} predicts values that are NaN or infinite.")
    return scores


def held_out(
    members: list[Member],
    X: Any,
    y: Array,
    splits: list[tuple[Array, Array]],
    n_jobs: int | None,
    on_fit: Callable[[str], None],
) -> Array:
    """Return the log-odds of each member, of shape (n_samples, n_members).

    Each is of a fit without the row; the mean where several splits test it, NaN where none does.
    """
    total = np.zeros((len(y), len(members)))
    times = np.zeros((len(y), 1))
    tasks = [(column, split) for column in range(len(members)) for split in range(len(splits))]
    found = _in_order(n_jobs, [(_of_split, members[c], X, y, *splits[s]) for c, s in tasks])
    for (column, split), scores in zip(tasks, found, strict=True):
        test = splits[split][1]
        total[test, column] += scores
        times[test] += column == 0
        on_fit(f"{members[column].name}, split {split + 1} of {len(splits)}")
    with np.errstate(invalid="ignore"):
        return total / times


def _of_split(member, X, y, train, test):
    """Return the log-odds of the rows `test`, of a fit on the rows `train`."""
    fitted = fit_member(member, X, y, train)
    return log_odds(member.name, fitted, _safe_indexing(X, test), len(train))


def refitted(
    members: list[Member], X: Any, y: Array, n_jobs: int | None, on_fit: Callable[[str], None]
) -> list[Any]:
    """Return the members fitted on all rows."""
    estimators = []
    found = _in_order(n_jobs, [(fit_member, member, X, y, None) for member in members])
    for member, estimator in zip(members, found, strict=True):
        estimators.append(estimator)
        on_fit(f"{member.name}, all rows")
    return estimators


def precisions(
    names: list[str],
    Z: Array,
    positive: Array,
    weight: Array,
    splits: list[tuple[Array, Array]],
    head: Any,
) -> dict[str, tuple[float, float]]:
    """Return {name: (mean, standard error)} of average precision on the test rows of the splits.

    "stack" is the last: `head` fitted on the log-odds Z of the training rows, at its own alpha.
    """

    def precision_of(scores, test):
        return average_precision(positive[test], scores, weight[test])

    found = {
        name: [precision_of(Z[test, column], test) for _, test in splits]
        for column, name in enumerate(names)
    }
    found["stack"] = []
    fixed = clone(head).set_params(alpha=head.alpha_)
    for train, test in splits:
        fixed.fit(Z[train], positive[train], weight[train])
        found["stack"].append(precision_of(fixed.decision_function(Z[test]), test))
    return {
        name: (float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values))))
        for name, values in found.items()
        if len(values) > 1
    }


def _in_order(n_jobs: int | None, calls: list[tuple]) -> Iterator[Any]:
    """Yield the results of calls, `n_jobs` at a time."""
    parallel = Parallel(n_jobs=n_jobs, return_as="generator")
    return parallel(delayed(function)(*args) for function, *args in calls)
