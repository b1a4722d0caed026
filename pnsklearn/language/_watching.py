"""Watching a run of training: what it looks like while it runs, and the best of it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pnsklearn._typing import Array
from pnsklearn.language._model import trained

# How many nats good completions may lose on the best so far, in the mean, before it is a collapse,
# and how much larger the share of invalid samples may become.
COLLAPSED_NATS, COLLAPSED_SHARE = 10.0, 0.3


class TrainingMonitor:
    """Callback that tells how the training of a language policy goes, a line for each task.

    ``policy.set_callbacks(TrainingMonitor())``. A line for each epoch of a fit has the mean
    log-ratios of good and of bad completions; for each round the mean reward of its samples with
    its interval and their valid share, too. All have the tokens a second: read and learned from in
    an epoch, written in a round, of which the rewards and the learning take their time.

    Parameters
    ----------
    write : callable, default=print
        Gets each line.

    Examples
    --------
    >>> from pnsklearn.language import TrainingMonitor
    >>> lines = []
    >>> monitor = TrainingMonitor(lines.append)
    """

    def __init__(self, write: Callable[[str], Any] = print):
        self.write = write

    def setup(self, estimator: Any, context: Any) -> None:
        """Do nothing: the protocol asks for it."""

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any) -> None:
        """Write the line of an epoch or of a round."""
        if context.task_name in ("epoch", "round"):
            self.write(describe(fitted_estimator.history_))


def describe(history: list) -> str:
    """Return the last entry of a history as a line."""
    entry = history[-1]
    parts = []
    if "value" in entry:
        known = np.isfinite([entry.low, entry.high]).all()  # of one prompt it is not
        interval = f" ({entry.low:.3g} to {entry.high:.3g})" if known else ""
        parts += [f"reward {entry.value:.3g}{interval}", f"valid {1 - entry.invalid:.0%}"]
    ratios = {"good": entry.positive_log_ratio, "bad": entry.negative_log_ratio}
    parts += [f"log-ratio {of} {u:+.2g}" for of, u in ratios.items() if not np.isnan(u)]
    parts.append(f"{entry.tokens_per_second:.0f} tokens/s")
    return f"{'round' if 'value' in entry else 'epoch'} {len(history)}: " + ", ".join(parts)


def mean_log_ratio(log_ratio: Array, weight: Array, rows: Array) -> float:
    """Return the mean over the rows that are True, NaN if none is and has weight."""
    total = weight[rows].sum()
    return float(log_ratio[rows] @ weight[rows] / total) if total > 0 else float("nan")


class Best:
    """The trained weights of a model when it was best.

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    """

    def __init__(self, model: torch.nn.Module):
        self.model = model
        self.value = -np.inf
        self.weights: dict[str, torch.Tensor] = {}
        self.report: Any = None

    def offer(self, value: float, report: Any = None) -> None:
        """Keep the present weights if their value is the highest so far."""
        if value > self.value:
            self.value, self.report = value, report
            self.weights = {name: p.detach().clone() for name, p in trained(self.model).items()}

    @torch.no_grad()
    def restore(self) -> None:
        """Give the model the kept weights."""
        for name, parameter in trained(self.model).items():
            parameter.copy_(self.weights[name])
