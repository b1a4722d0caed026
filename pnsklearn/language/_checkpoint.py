"""Rounds on disk: the weights after the last finished one, and what is known of all."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import torch

from pnsklearn._device import check_installed

PREFIX = "round-"


def fingerprint(*parts):
    """Return a short text that differs for other prompts or settings."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def weights_fingerprint(weights):
    """Return a short text that differs for other weights: tensors by their names."""
    digest = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(weight.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


class Rounds:
    """A folder that holds the last finished round of a run.

    A round is written beside the one before and renamed when it is whole, so that a kill at any
    time leaves one that can be read.
    """

    def __init__(self, folder, run, weights):
        check_installed("safetensors", "checkpoint=", "llm")
        self.folder, self.run = Path(folder), run
        self.start = weights_fingerprint(weights)

    def _newest(self):
        finished = self.folder.glob(f"{PREFIX}*")
        return max(finished, key=lambda path: int(path.name.removeprefix(PREFIX)), default=None)

    def load(self):
        """Return the state of the last finished round and its weights, None without one.

        Raises
        ------
        ValueError
            If the folder holds rounds of another run.
        """
        newest = self._newest()
        if newest is None:
            return None
        from safetensors.torch import load_file

        state = json.loads((newest / "state.json").read_text())
        weights = load_file(newest / "model.safetensors")
        # The same call from the start, or the one that goes on from where the folder is.
        if self.start == weights_fingerprint(weights):
            self.start = state["start"]
        if (state["run"], state["start"]) != (self.run, self.start):
            raise ValueError(
                f"checkpoint={str(self.folder)!r} holds rounds of another run: the model, the "
                "prompts, the seed or a setting differ. Give an empty folder."
            )
        return state, weights

    def save(self, n_finished, state, weights):
        """Write the state after so many rounds, in the place of those before."""
        from safetensors.torch import save_file

        before = self._newest()
        partial = self.folder / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(weights, partial / "model.safetensors")
        (partial / "state.json").write_text(
            json.dumps(state | {"run": self.run, "start": self.start})
        )
        os.replace(partial, self.folder / f"{PREFIX}{n_finished}")
        if before is not None:
            shutil.rmtree(before)
