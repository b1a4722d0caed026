"""Acting: actions drawn from a policy, and their rewards asked for."""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils import Bunch, check_random_state

from pnsklearn._logged import check_feedback
from pnsklearn._topr._evaluation import CONFIDENCE_LEVEL
from pnsklearn._topr._feedback import Feedback
from pnsklearn._typing import Array, Matrix
from pnsklearn.metrics import ips_value


def own_stream(random_state: Any) -> np.random.RandomState:
    """Return a generator for actions that shares no draws with the log's.

    Logs are often simulated with the same seed; the same uniform numbers for both would tie the
    policy's actions to the logged ones, and bias their value.
    """
    return np.random.RandomState(check_random_state(random_state).randint(2**31 - 1))


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
    """Return the value of a policy from actions drawn `n_samples` times for each context.

    The policy that drew may be another one, at another temperature.
    """
    chosen = policy[np.arange(len(policy)), feedback.action]
    # The samples of a context are no independent rows: their mean is one.
    terms = (chosen / feedback.propensity * feedback.reward).reshape(-1, n_samples)
    ones = np.ones(len(terms))
    value = ips_value(ones, ones, terms.mean(axis=1), confidence_level=CONFIDENCE_LEVEL)
    return Bunch(value=value)
