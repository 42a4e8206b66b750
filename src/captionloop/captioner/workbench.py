"""The folder that a training works in: what it has reached so far, safe against being killed at any moment.

inputs.json         a digest of everything the result depends on; a folder of other inputs is emptied
last.ckpt           Lightning's checkpoint of the last whole epoch
best.safetensors    the weights that did best on validation so far
finished.json       the curves, once training is over: it is not done again
"""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from safetensors.torch import load_file, save_file
from torch import Tensor

from captionloop.captioner.progress import Progress
from captionloop.vision.durable import write_and_rename
from captionloop.vision.weights import not_finite

logger = logging.getLogger(__name__)


class Workbench:
    """One training's folder. `digest` says what the training's result depends on."""

    def __init__(self, folder: Path, digest: str) -> None:
        self.folder = folder
        if self._digest() != digest or self._is_damaged():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self._write(
                "inputs.json", lambda path: path.write_text(json.dumps({"digest": digest}), encoding="utf-8")
            )

    @property
    def checkpoint(self) -> Path | None:
        """The last whole epoch, where there is one to go on from."""
        path = self.folder / "last.ckpt"
        return path if path.is_file() else None

    @property
    def has_best(self) -> bool:
        """Whether there are best weights so far."""
        return (self.folder / "best.safetensors").is_file()

    def keep(self, weights: dict[str, Tensor]) -> None:
        """Replace the best weights."""
        self._write("best.safetensors", lambda path: save_file(weights, path))

    def best(self) -> dict[str, Tensor]:
        """The best weights."""
        return load_file(self.folder / "best.safetensors")

    def finish(self) -> Progress:
        """Mark training as over, as far as the last checkpoint says."""
        state = torch.load(self.folder / "last.ckpt", map_location="cpu", weights_only=True)["progress"]
        self._write("finished.json", lambda path: path.write_text(json.dumps(state), encoding="utf-8"))
        (self.folder / "last.ckpt").unlink()  # optimiser and averages: three times the model's size
        return Progress.from_state(state)

    def finished(self) -> Progress | None:
        """What was reached, where training is over."""
        path = self.folder / "finished.json"
        return Progress.from_state(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None

    def _is_damaged(self) -> bool:
        """Whether weights in it are not finite, as those of a training that diverged; it begins anew then."""
        averages = {}
        if self.checkpoint is not None:
            averages = torch.load(self.checkpoint, map_location="cpu", weights_only=True)["average"][
                "average"
            ]
        best = self.best() if self.has_best else {}
        broken = not_finite(averages) + not_finite(best)
        if broken:
            logger.warning("%s holds weights that are not finite: training begins anew there.", self.folder)
        return bool(broken)

    def _digest(self) -> str | None:
        try:
            found = json.loads((self.folder / "inputs.json").read_text(encoding="utf-8"))["digest"]
        except (OSError, ValueError, KeyError):
            return None
        return str(found)

    def _write(self, name: str, write: Callable[[Path], object]) -> None:
        write_and_rename(self.folder / name, write)


class AtomicCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints, written beside their place and renamed, and read without unpickling."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint; until it is whole, the one before it stays."""
        del storage_options
        write_and_rename(Path(path), lambda partial: torch.save(checkpoint, partial))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint: numbers, strings and tensors, never code."""
        del weights_only
        loaded: dict[str, Any] = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        return loaded
