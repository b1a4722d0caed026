"""What a fit is: all or nothing, watched by callbacks, with warnings at the line of the user."""

import contextlib
import functools
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from sklearn.base import BaseEstimator
from threadpoolctl import ThreadpoolController

# Frames of these packages are not the user's: they call us on the user's behalf.
LIBRARIES = {"pnsklearn", "sklearn", "joblib", "contextlib", "functools"}
FEATURE_ATTRIBUTES = ("n_features_in_", "feature_names_in_")


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")  # to look for the libraries takes long


def blas_threads(limit: int | None) -> Any:
    """Return a context in which NumPy's and SciPy's products use at most so many threads.

    Products of small blocks gain nothing from more than one: on two a fit was measured to take up
    to 25 times as long.
    """
    return _blas().limit(limits=limit)


def unchanged_on_error(fit: Callable) -> Callable:
    """Decorate a method so that, when it raises, the estimator is as it was before the call."""

    @functools.wraps(fit)
    def guarded(estimator, *args, **kwargs):
        before = vars(estimator).copy()
        try:
            return fit(estimator, *args, **kwargs)
        except BaseException as error:  # an interrupt too must not leave a half-fitted estimator
            vars(estimator).clear()
            vars(estimator).update(before)
            # numba makes a SystemError of an interrupt that comes as it returns, or one of that.
            first = error
            while isinstance(first, SystemError) and first.__cause__ is not None:
                first = first.__cause__
            if isinstance(first, KeyboardInterrupt) and first is not error:
                raise first from None
            raise

    return guarded


@contextlib.contextmanager
def callback_tasks(
    estimator: Any, X: Any, y: Any, n_tasks: int | None = None
) -> Iterator[Callable[[str, Callable[[], dict | None]], bool]]:
    """Open a fit to its callbacks; the block sets the fitted attributes before it ends.

    Provides ``on_task(name, attributes)``, to be called after each iteration, which returns whether
    a callback asks to stop. `attributes` is a function that returns the attributes of the model so
    far (None where it cannot predict yet), as most callbacks do not ask for them. `n_tasks` is the
    largest number of calls, where it is known.
    """
    context = estimator._init_callback_context(max_subtasks=n_tasks)
    context.call_on_fit_task_begin(estimator=estimator, X=X, y=y)

    def on_task(name, attributes):
        task = context.subcontext(task_name=name)
        task.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
        return task.call_on_fit_task_end(
            estimator=estimator, X=X, y=y, reconstruction_attributes=attributes
        )

    yield on_task
    context.call_on_fit_task_end(estimator=estimator, X=X, y=y, reconstruction_attributes={})


def replace_fitted(estimator: BaseEstimator, attributes: dict) -> None:
    """Set the fitted attributes in place of all that an earlier fit left.

    What ends in an underscore is fitted, private state too. Those of the features were set by the
    validation of X, and stay.
    """
    for name in [name for name in vars(estimator) if name.endswith("_")]:
        if name not in FEATURE_ATTRIBUTES and not name.startswith("__"):
            delattr(estimator, name)
    for name, value in attributes.items():
        setattr(estimator, name, value)


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line outside scikit-learn and this package that led to the call."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_library(frame):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _is_library(frame):
    return frame.f_globals.get("__name__", "").partition(".")[0] in LIBRARIES
