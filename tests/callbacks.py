"""A callback for tests to derive from."""


class Callback:
    """Sees a fit and does nothing; the methods are those that scikit-learn calls."""

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        return False


class Draws(Callback):
    """Draws from torch's generator at each call, if it is active."""

    def __init__(self, active):
        self.active, self.drawn = active, []

    def on_fit_task_begin(self, estimator, context, *, X):
        self._draw()

    def on_fit_task_end(self, estimator, context):
        self._draw()

    def _draw(self):
        if self.active:
            import torch

            self.drawn.append(torch.rand(1).item())
