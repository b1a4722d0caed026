"""Parameters that other estimators have and ours do not, and what there is instead."""

import inspect

from sklearn.callback import CallbackSupportMixin

PROGRESS = (
    "Progress is a callback: set_callbacks(ProgressBar()), which sklearn.callback has, before fit."
)
HABITS = {
    "verbose": PROGRESS,
    "class_weight": "Weigh the rows instead: fit(X, y, sample_weight=...).",
}


class FitMixin(CallbackSupportMixin):
    """Callbacks for a fit, and an answer to the parameters of others."""

    def __new__(cls, *args, **params):
        for name, answer in HABITS.items():
            if name in params and name not in inspect.signature(cls.__init__).parameters:
                raise TypeError(f"{cls.__name__} has no parameter {name}. {answer}")
        return super().__new__(cls)
