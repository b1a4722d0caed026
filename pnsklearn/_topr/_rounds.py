"""Acting: actions drawn from a policy, and their rewards asked for."""

from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import Bunch, check_random_state

from pnsklearn._logged import check_feedback
from pnsklearn._topr._evaluation import CONFIDENCE_LEVEL
from pnsklearn._topr._feedback import Feedback
from pnsklearn._typing import Array, Matrix
from pnsklearn.metrics import ips_value


def check_count(name: str, count: Any) -> None:
    """Raise ValueError unless `count` is a positive integer."""
    if not isinstance(count, Integral) or count < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {count!r}.")


def own_stream(random_state: Any) -> np.random.RandomState:
    """Return a generator for actions that shares no draws with the log's.

    Logs are often simulated with the same seed; the same uniform numbers for both would tie the
    policy's actions to the logged ones, and bias their value.
    """
    return np.random.RandomState(check_random_state(random_state).randint(2**31 - 1))


def draw(policy: Array, n_samples: int, rng: np.random.RandomState) -> tuple[Array, Array]:
    """Return the columns of actions drawn from the rows of a policy, and their probabilities.

    Both are of shape (n, n_samples).
    """
    policy = policy.astype(np.float64)
    above = np.cumsum(policy, axis=1)
    draws = rng.random_sample((policy.shape[0], n_samples)) * above[:, -1:]
    column = (draws[:, :, None] >= above[:, None, :-1]).sum(axis=2)
    return column, np.take_along_axis(policy, column, axis=1)


def ask(
    reward_fn: Callable, X: Matrix, column: Array, propensity: Array, classes: Array
) -> Feedback:
    """Return the log of the drawn actions with their rewards, for which `reward_fn` is asked."""
    X = X[np.repeat(np.arange(X.shape[0]), column.shape[1])]
    code = column.ravel()
    action = classes[code]
    # Copies: the function may do with its arguments what it likes.
    reward = reward_fn(X.copy(), action.copy())
    _, reward, propensity = check_feedback(action, reward, propensity.ravel())
    if reward is None:
        raise ValueError("reward_fn must return one reward for each row, got None.")
    return Feedback(X, code, reward, propensity, np.ones_like(reward), classes)


def value_of_round(policy: Array, feedback: Feedback, n_samples: int) -> Bunch:
    """Return the value of a policy by actions that were drawn `n_samples` times for each context.

    `policy` may be another than the one that drew, at another temperature say.
    """
    chosen = policy[np.arange(len(policy)), feedback.action]
    # The samples of a context are no independent rows: their mean is one.
    terms = (chosen / feedback.propensity * feedback.reward).reshape(-1, n_samples)
    ones = np.ones(len(terms))
    value = ips_value(ones, ones, terms.mean(axis=1), confidence_level=CONFIDENCE_LEVEL)
    return Bunch(value=value)
