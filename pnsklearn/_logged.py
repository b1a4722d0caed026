"""Logged decisions: what policies, metrics, data sets and displays check of them alike."""

import sys
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import _num_samples

from pnsklearn._typing import Array
from pnsklearn._validation import LARGEST, refuse_masked

FIELDS = ("action", "reward", "propensity")
# Those that look at the labels in order to split, and pass all of y on.
SPLITTERS = ("sklearn.model_selection._split.", "sklearn.model_selection._search_successive_")
SCORING = "sklearn.model_selection._validation._score"
ROUTING = "sklearn.set_config(enable_metadata_routing=True)"


class FeedbackArray:
    """Actions, rewards and propensities in one array-like of shape (n_samples,) that stands for y.

    ``y["reward"]`` is one of the three, ``y[rows]`` a part of all. As an array it is the actions,
    for splitters of scikit-learn alone: others would go on with these and lose the rewards.
    """

    def __init__(self, action: Array, reward: Array, propensity: Array):
        self.columns = dict(zip(FIELDS, (action, reward, propensity), strict=True))
        self.shape = action.shape
        self.dtype = np.dtype([(name, column.dtype) for name, column in self.columns.items()])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self.columns[key]
        rows = key[0] if isinstance(key, tuple) else key
        return FeedbackArray(*(np.atleast_1d(column[rows]) for column in self.columns.values()))

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        if not is_asked_by(*SPLITTERS):
            raise ValueError(
                "A y of make_feedback is for tools that pass it on as it is. This one takes it for "
                "labels and would lose the rewards: give the actions, y['action'], and reward and "
                f"propensity by name with {ROUTING}."
            )
        return np.array(self.columns["action"], dtype=dtype)


def is_asked_by(*names: str) -> bool:
    """Return whether a function whose full name begins with one of these is on the stack."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}".startswith(names):
            return True
        frame = frame.f_back
    return False


class _NoScore:
    """What searches of scikit-learn refuse to take for a score, in the words of its `repr`."""

    def __init__(self, message: str):
        self.message = message

    def __repr__(self) -> str:
        return self.message


def refuse_score(message: str) -> Any:
    """Raise ValueError; where scikit-learn would make that a NaN, return what it raises itself."""
    if is_asked_by(SCORING):
        return _NoScore(message)
    raise ValueError(message)


def check_feedback(y: Any, reward: Any = None, propensity: Any = None) -> tuple[Any, Any, Any]:
    """Return (action, reward, propensity) of logged decisions.

    `y` holds the actions, or all three, as `make_feedback` or a structured array. A reward of None
    stays None, as does a propensity of None or "estimate". A propensity may be one number for all.

    Raises
    ------
    ValueError
        If a reward or propensity is not a number, a reward is not finite, a propensity is not in
        (0, 1], there is not one of each for every action, or they are given beside a structured
        array, which has them.
    """
    if y is None:
        raise ValueError("It requires y to be passed, but the target y is None: give the actions.")
    names = getattr(getattr(y, "dtype", None), "names", None)
    if names is not None:
        if not set(FIELDS) <= set(names):
            raise ValueError(
                "A structured y needs the fields action, reward and propensity, as "
                f"pnsklearn.datasets.make_feedback makes them; got {', '.join(names)}."
            )
        if reward is not None or propensity is not None:
            raise ValueError(
                "y has rewards and propensities of its own. Leave out reward and propensity, or "
                "pass y['action'] as y."
            )
        y, reward, propensity = (y[name].ravel() for name in FIELDS)
    if reward is not None:
        reward = _check_column(reward, "reward", y)
        _refuse_missing(reward, "reward")
        if np.abs(reward).max() > LARGEST:
            raise ValueError(f"reward has values beyond {LARGEST:g}. Rescale the rewards.")
    if propensity is not None and not isinstance(propensity, str):
        if isinstance(propensity, Real):
            propensity = np.full(_num_samples(y), float(propensity))
        propensity = _check_column(propensity, "propensity", y)
        _refuse_missing(propensity, "propensity")
        if not np.all((propensity > 0) & (propensity <= 1)):
            raise ValueError(
                "propensity must be in (0, 1], as it is the probability with which the logging "
                "policy took the action of the row, but it has values from "
                f"{propensity.min():g} to {propensity.max():g}."
            )
        if propensity.min() < 1 / LARGEST:
            raise ValueError(
                f"propensity has values below {1 / LARGEST:g}, whose ratios would overflow. Drop "
                "these rows, which the logging policy would never have taken."
            )
    elif propensity not in (None, "estimate"):
        raise ValueError(
            f"propensity must be an array, a number or 'estimate', got {propensity!r}."
        )
    return y, reward, propensity


def _refuse_missing(values: Array, name: str) -> None:
    """Raise ValueError if values are NaN or infinite."""
    n_missing = np.count_nonzero(~np.isfinite(values))
    if n_missing:
        raise ValueError(
            f"{name} must be finite, but {n_missing} of {len(values)} are NaN or infinite. Drop "
            "these rows, or wait for their outcomes."
        )


def _check_column(values: Any, name: str, y: Any) -> Array:
    """Return a float64 array of shape (n_samples,)."""
    refuse_masked(**{name: values})
    values = check_array(
        values, ensure_2d=False, dtype=np.float64, ensure_all_finite=False, input_name=name
    )
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    n_samples = _num_samples(y)
    if values.shape != (n_samples,):
        raise ValueError(
            f"{name} must have one value for each action, of shape ({n_samples},), but its shape "
            f"is {values.shape}."
        )
    return values


def draw(policy: Array, n_samples: int, rng: np.random.RandomState) -> tuple[Array, Array]:
    """Return the columns of actions drawn from the rows of a policy, and their probabilities.

    Both are of shape (n, n_samples).
    """
    policy = policy.astype(np.float64)
    above = np.cumsum(policy, axis=1)
    draws = rng.random_sample((policy.shape[0], n_samples)) * above[:, -1:]
    column = (draws[:, :, None] >= above[:, None, :-1]).sum(axis=2)
    return column, np.take_along_axis(policy, column, axis=1)
