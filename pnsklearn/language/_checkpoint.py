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
from pnsklearn.metrics._off_policy import ValueEstimate

PREFIX = "round-"


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
        from safetensors.torch import load_file

        text = (newest / "state.json").read_text()
        state = json.loads(text, object_hook=lambda entries: Bunch(**entries))
        weights = load_file(newest / "model.safetensors")
        # The same call as at the start of the run, or one that goes on from where the folder is.
        if self.start == _fingerprint(weights):
            self.start = state["start"]
        if (state["run"], state["start"]) != (self.run, self.start):
            raise ValueError(
                f"checkpoint={str(self.folder)!r} holds rounds of another run: the model, the "
                "prompts, the seed or a setting differ. Give an empty folder."
            )
        with torch.no_grad():
            for name, parameter in trained(model).items():
                parameter.copy_(weights[name])
        for report in state["fitted"]["rounds_"]:
            report["value"] = ValueEstimate(*report["value"])
        if isinstance(baselines := state["fitted"].get("baseline_"), list):
            state["fitted"]["baseline_"] = np.array(baselines)
        return {"model_": model, **state["fitted"]}

    def save(self, model: torch.nn.Module, fitted: dict[str, Any]) -> None:
        """Write the model and the attributes after a round, in the place of those before."""
        from safetensors.torch import save_file

        before = self._newest()
        partial = self.folder / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(_weights(model), partial / "model.safetensors")
        state = {"run": self.run, "start": self.start, "fitted": fitted}
        (partial / "state.json").write_text(json.dumps(state, default=_plain))
        os.replace(partial, self.folder / f"{PREFIX}{len(fitted['rounds_'])}")
        if before is not None:
            shutil.rmtree(before)

    def _newest(self):
        finished = self.folder.glob(f"{PREFIX}*")
        return max(finished, key=lambda path: int(path.name.removeprefix(PREFIX)), default=None)


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
