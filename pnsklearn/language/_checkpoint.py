"""Rounds on disk: the weights after the last finished one, and what is known of all."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils import Bunch

from pnsklearn._device import check_installed
from pnsklearn.language._model import trained
from pnsklearn.language._watching import Best
from pnsklearn.metrics._off_policy import ValueEstimate

PREFIX = "round-"
WEIGHTS, BEST = "model.safetensors", "best.safetensors"


class Checkpoint:
    """A folder that holds the last finished round of a run.

    A round is written beside the one before and renamed when it is whole, so that a kill at any
    time leaves one that can be read.

    Parameters
    ----------
    folder : str or Path
        Where the rounds are.
    model : torch.nn.Module
        The model at the start of the call.
    *run : objects
        What makes this run another than others: prompts and settings.
    """

    def __init__(self, folder: str | Path, model: torch.nn.Module, *run: Any):
        check_installed("safetensors", "checkpoint=", "llm")
        self.folder = Path(folder)
        text = json.dumps(run, sort_keys=True, default=_plain)
        self.run = hashlib.sha256(text.encode()).hexdigest()
        self.start = _fingerprint(_weights(model))

    def load(self, model: torch.nn.Module) -> dict[str, Any]:
        """Set the model's weights to those of the last round; return the fitted attributes.

        Without a finished round nothing is set, and they are empty.

        Raises
        ------
        ValueError
            If the folder holds rounds of another run.
        """
        newest = self._newest()
        if newest is None:
            return {}
        state, weights = _read_state(newest / "state.json"), _read_weights(newest / WEIGHTS)
        # The same call as at the start of the run, or one that goes on from where the folder is.
        if self.start == _fingerprint(weights):
            self.start = state["start"]
        if (state["run"], state["start"]) != (self.run, self.start):
            raise ValueError(
                f"checkpoint={str(self.folder)!r} holds rounds of another run: the model, the "
                "prompts, the seed or a setting differ. Give an empty folder."
            )
        _check_weights(newest / WEIGHTS, weights, model)
        with torch.no_grad():
            for name, parameter in trained(model).items():
                parameter.copy_(weights[name])
        for report in state["fitted"]["rounds_"]:
            report["value"] = ValueEstimate(*report["value"])
        if isinstance(baselines := state["fitted"].get("baseline_"), list):
            state["fitted"]["baseline_"] = np.array(baselines)
        return {"model_": model, **state["fitted"]}

    def load_best(self, best: Best) -> None:
        """Set the best weights to those of the folder, if it has any."""
        newest = self._newest()
        if newest is not None and (newest / BEST).exists():
            state, best.weights = _read_state(newest / "state.json"), _read_weights(newest / BEST)
            _check_weights(newest / BEST, best.weights, best.model)
            best.value, best.report = state["best"]

    def save(self, model: torch.nn.Module, fitted: dict[str, Any], best: Best) -> None:
        """Write the model and the attributes after a round, in the place of those before."""
        from safetensors.torch import save_file

        before = self._newest()
        partial = self.folder / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(_weights(model), partial / WEIGHTS)
        if best.weights:
            save_file({name: w.cpu() for name, w in best.weights.items()}, partial / BEST)
        state = {"run": self.run, "start": self.start, "fitted": fitted}
        state["best"] = best.value, best.report
        (partial / "state.json").write_text(json.dumps(state, default=_plain))
        lines = [json.dumps(entry, default=_plain) for entry in fitted["history_"]]
        (partial / "history.jsonl").write_text("\n".join(lines) + "\n")
        os.replace(partial, self.folder / f"{PREFIX}{len(fitted['rounds_'])}")
        if before is not None:
            shutil.rmtree(before)

    def _newest(self):
        paths = self.folder.glob(f"{PREFIX}*")
        finished = [path for path in paths if path.name.removeprefix(PREFIX).isdecimal()]
        return max(finished, key=lambda path: int(path.name.removeprefix(PREFIX)), default=None)


def _read_state(path):
    """Return what is known of a run."""
    try:
        state = json.loads(path.read_text(), object_hook=lambda entries: Bunch(**entries))
        if not {"run", "start", "fitted"} <= state.keys():
            raise ValueError("it lacks what a run has")
    except (OSError, ValueError, AttributeError) as error:
        raise _unreadable(path, error) from None
    return state


def _read_weights(path):
    """Return the weights of a file of safetensors; nothing else is read, and nothing run."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from None


def _check_weights(path, weights, model):
    """Refuse weights that are not those of the model."""
    expected = {name: p.shape for name, p in trained(model).items()}
    if {name: weight.shape for name, weight in weights.items()} != expected:
        raise _unreadable(path, "its weights have other names or shapes than those of the model")


def _unreadable(path, error):
    return ValueError(
        f"{path} is no file that a run wrote ({error}). Remove the folder {path.parent.name}, or "
        "give an empty one."
    )


def _weights(model):
    """Return the parameters that are trained, on the CPU."""
    return {name: p.detach().cpu().contiguous() for name, p in trained(model).items()}


def _fingerprint(weights):
    """Return a short text that differs for other weights."""
    digest = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(weight.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _plain(value):
    """Return something that JSON has in place of what it has not."""
    if isinstance(value, set):
        return sorted(value)
    return value.tolist() if hasattr(value, "tolist") else str(value)
