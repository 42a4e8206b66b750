"""The folder of one training: checkpoint, best weights and curves; and the moving average of weights.

inputs.json         a digest of everything the result depends on; a folder of other inputs is emptied
last.ckpt           Lightning's checkpoint of the last whole epoch
best.safetensors    the weights that did best on validation so far
finished.json       the curves, once training is over: it is not done again
"""

import json
import logging
import math
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Self

import pandas as pd
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from captionloop.errors import first_line
from captionloop.files import write_file
from captionloop.vision.encoder import not_finite


@dataclass(frozen=True)
class EpochMetrics:
    """One point of the curves; `train_loss` is what was minimised, `val_loss` nats per token."""

    epoch: int
    train_loss: float
    val_loss: float
    val_cider: float
    learning_rate: float
    seconds: float


@dataclass
class TrainingCurves:
    """The epochs so far; part of every checkpoint."""

    records: list[EpochMetrics] = field(default_factory=list)
    best_cider: float = -math.inf
    best_epoch: int = -1

    def add(self, record: EpochMetrics) -> bool:
        """Take in an epoch; whether it is the best so far."""
        self.records.append(record)
        if not record.val_cider > self.best_cider:  # so that what is no number is never the best
            return False
        self.best_cider, self.best_epoch = record.val_cider, record.epoch
        return True

    def is_over(self, patience: int) -> bool:
        """Whether `patience` epochs went by without a better one."""
        return bool(self.records) and self.records[-1].epoch - self.best_epoch >= patience

    def to_frame(self) -> pd.DataFrame:
        """One row for each epoch."""
        columns = [item.name for item in fields(EpochMetrics)]
        return pd.DataFrame([asdict(record) for record in self.records], columns=columns)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint: numbers only."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """From a checkpoint."""
        records = [EpochMetrics(**record) for record in state["records"]]
        return cls(records, state["best_cider"], state["best_epoch"])


logger = logging.getLogger(__name__)

UNREADABLE: Final = (
    OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError, SafetensorError,
)  # fmt: skip
"""What PyTorch, safetensors and JSON raise at a file that is torn, or is another one."""


class TrainingRun:
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

    def save_best(self, weights: dict[str, Tensor]) -> None:
        """Replace the best weights."""
        self._write("best.safetensors", lambda path: save_file(weights, path))

    def best(self) -> dict[str, Tensor]:
        """The best weights."""
        return load_file(self.folder / "best.safetensors")

    def finish(self) -> TrainingCurves:
        """Mark training as over and return its curves, from the last checkpoint."""
        state = torch.load(self.folder / "last.ckpt", map_location="cpu", weights_only=True)["progress"]
        self._write("finished.json", lambda path: path.write_text(json.dumps(state), encoding="utf-8"))
        (self.folder / "last.ckpt").unlink()  # optimiser and averages: three times the model's size
        return TrainingCurves.from_state(state)

    def finished(self) -> TrainingCurves | None:
        """The curves, where training is over; else None."""
        path = self.folder / "finished.json"
        return (
            TrainingCurves.from_state(json.loads(path.read_text(encoding="utf-8")))
            if path.is_file()
            else None
        )

    def _is_damaged(self) -> bool:
        """Whether it cannot be gone on from, so that training begins anew: a file is torn or gone, or weights
        are not finite, as those of a training that diverged.
        """
        average = {}
        try:
            if self.checkpoint is not None:
                saved = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
                average = saved["average"]["average"]
            over = self.finished() is not None
            best = self.best() if over or self.has_best else {}
        except UNREADABLE as error:
            reason = first_line(error)[:200]
            logger.warning("%s cannot be read (%s): training begins anew there.", self.folder, reason)
            return True
        broken = not_finite(average) + not_finite(best)
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
        write_file(self.folder / name, write)


class AtomicCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints, written beside their place and renamed, and read without unpickling."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint; until it is whole, the one before it stays."""
        del storage_options
        write_file(Path(path), lambda partial: torch.save(checkpoint, partial))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint: numbers, strings and tensors, never code."""
        del weights_only
        loaded: dict[str, Any] = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        return loaded


class MovingAverage:
    """Follows the weights of a model; `decay` 0 is the weights themselves.

    The average is young at first: after n steps the decay is at most (1 + n) / (10 + n), so that the random
    weights of the beginning are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay, self._steps = model, decay, 0
        self._average = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps)) if self._decay else 0.0
        current = self._model.state_dict()
        averages = [self._average[name] for name in current]
        torch._foreach_lerp_(averages, list(current.values()), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it, the model has the averaged weights."""
        trained = {name: value.detach().clone() for name, value in self._model.state_dict().items()}
        self._model.load_state_dict(self._average)
        try:
            yield
        finally:
            self._model.load_state_dict(trained)

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights, on the CPU."""
        return {name: value.detach().cpu().contiguous() for name, value in self._average.items()}

    def not_finite(self) -> list[str]:
        """Names of weights that hold a NaN or an infinity, the model's own or averaged."""
        return not_finite(self._model.state_dict()) + not_finite(self._average)

    def state_dict(self) -> dict[str, object]:
        """For a checkpoint."""
        return {"steps": self._steps, "average": self._average}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """From a checkpoint."""
        steps, average = state["steps"], state["average"]
        if not isinstance(steps, int) or not isinstance(average, dict):
            raise TypeError("not the state of a moving average")
        self._steps = steps
        for name, value in average.items():
            self._average[name].copy_(value)

    def to(self, device: torch.device) -> None:
        """Move the average to where the model is."""
        self._average = {name: value.to(device) for name, value in self._average.items()}
