"""What every fit shares: all or nothing, callbacks, fitted attributes, the line of a warning."""

import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits

from pnsklearn import TOPRPolicy, _fitting
from pnsklearn._fitting import blas_threads, callback_tasks, replace_fitted, unchanged_on_error
from tests.callbacks import Callback

X = np.random.RandomState(0).standard_normal((60, 3))
Y = (X[:, 0] > 0).astype(int)
POLICY = TOPRPolicy(max_iter=1, tol=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda: POLICY.fit(X, Y),
        lambda: make_pipeline(StandardScaler(), POLICY).fit(X, Y),
        lambda: GridSearchCV(POLICY, {"C": [1.0]}, cv=2).fit(X, Y),
        lambda: cross_val_score(make_pipeline(StandardScaler(), POLICY), X, Y, cv=2),
    ],
    ids=["alone", "pipeline", "search", "cross-validation"],
)
def test_a_warning_points_at_the_line_of_the_user(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    caught = [warning for warning in caught if warning.category is ConvergenceWarning]
    assert caught
    assert {warning.filename for warning in caught} == {__file__}


class Estimator(CallbackSupportMixin, BaseEstimator):
    """Counts to three, one task each."""

    def __init__(self, fails=False):
        self.fails = fails

    @unchanged_on_error
    def fit(self, X, y=None):
        self.n_features_in_ = 3
        with callback_tasks(self, X, y) as on_task:
            for number in range(1, 4):
                if on_task("step", lambda number=number: {"number_": number}):
                    break
            replace_fitted(self, {"number_": number, "_state_": [number]})
            if self.fails:
                raise ValueError("after the attributes were set")
        return self


class Watcher(Callback):
    """Records what a callback is told."""

    def __init__(self, stop_at=None):
        self.stop_at, self.numbers, self.ended = stop_at, [], []

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        if context.task_name == "step":
            self.numbers.append(fitted_estimator.number_)
            return len(self.numbers) == self.stop_at
        self.ended.append(fitted_estimator.number_)
        return False


def test_callbacks_see_each_task_and_the_end():
    watcher = Watcher()
    Estimator().set_callbacks(watcher).fit(X)
    assert watcher.numbers == [1, 2, 3]
    assert watcher.ended == [3]  # the attributes are set before the fit ends


def test_a_callback_stops_the_fit():
    assert Estimator().set_callbacks(Watcher(stop_at=2)).fit(X).number_ == 2


def test_a_refit_drops_what_it_does_not_set():
    estimator = Estimator()
    estimator.feature_names_in_ = ["a", "b", "c"]
    estimator.other_ = estimator._other_ = estimator.__dict__["__odd_"] = 1
    estimator.fit(X)
    assert vars(estimator).keys() == {
        "fails", "n_features_in_", "feature_names_in_", "__odd_", "number_", "_state_",
        *(name for name in vars(Estimator().fit(X)) if not name.endswith("_")),
    }  # fmt: skip


def test_a_failed_fit_changes_nothing():
    estimator = Estimator().fit(X)
    before = vars(estimator).copy()
    with pytest.raises(ValueError, match="after the attributes"):
        estimator.set_params(fails=True).fit(X)
    assert vars(estimator) == before | {"fails": True}
    assert estimator._state_ is before["_state_"]


def test_an_interrupt_that_a_library_wraps_is_an_interrupt():
    """numba makes a SystemError of a KeyboardInterrupt that comes as a kernel returns."""

    class Interrupted:
        @unchanged_on_error
        def fit(self):
            self.fitted_ = True
            inner = SystemError("returned a result with an exception set")
            inner.__cause__ = KeyboardInterrupt()
            raise SystemError("returned a result with an exception set") from inner

    estimator = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        estimator.fit()
    assert not vars(estimator)


def test_blas_threads():
    def threads():
        return [found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas"]

    _fitting._blas.cache_clear()  # other tests may have loaded further libraries since
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        assert 2 in before
        with blas_threads(1):
            assert set(threads()) == {1}
            with blas_threads(None):
                assert set(threads()) == {1}
        assert threads() == before
