"""Rounds on disk: the weights after the last finished one, and what is known of all."""

import hashlib
import json
import os
import shutil
from pathlib import Path

from pnsklearn._device import check_module

PREFIX = "round-"


def fingerprint(*parts):
    """Return a short text that differs for other prompts, settings or models."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


class Rounds:
    """A folder that holds the last finished round of a run.

    A round is written beside the one before and renamed when it is whole, so that a kill at any
    time leaves one that can be read.
    """

    def __init__(self, folder, run):
        check_module("safetensors", "checkpoint=", "llm")
        self.folder, self.run = Path(folder), run

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
        if state["run"] != self.run:
            raise ValueError(
                f"checkpoint={str(self.folder)!r} holds rounds of another run: the model, the "
                "prompts, the seed or a setting differ. Give an empty folder."
            )
        return state, load_file(newest / "model.safetensors")

    def save(self, n_finished, state, weights):
        """Write the state after so many rounds, in the place of those before."""
        from safetensors.torch import save_file

        before = self._newest()
        partial = self.folder / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(weights, partial / "model.safetensors")
        (partial / "state.json").write_text(json.dumps(state | {"run": self.run}))
        os.replace(partial, self.folder / f"{PREFIX}{n_finished}")
        if before is not None:
            shutil.rmtree(before)
