"""The vision tower of a pre-trained model as an encoder: frozen (its features are cached), or trained.

A tower gives a vector for each part of a grid, and some before them for the photo as a whole. All are cached,
because the text side reads all; pictures of attention show the grid alone.

Trained, all weights of the tower learn, by whatever trains encoders. What comes out is a base like any other:
its files in a folder, known by their hashes. So all that is built on a base (cached features, adapters,
bundles) stays as it is.
"""

import copy
import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captionloop.captioner.model_config import BaseReference
from captionloop.captioner.pretrained.base_model import BaseModel, find_base, open_base
from captionloop.captioner.pretrained.text_sides import VisionSide
from captionloop.errors import EncoderError, first_line
from captionloop.files import begin_folder, replace_folder, write_file
from captionloop.hardware import Precision
from captionloop.images import PREPROCESSING
from captionloop.preprocessing import IMAGENET_DEVIATION, IMAGENET_MEAN
from captionloop.vision.encoder import ENCODER_FILE, Encoder, EncoderSpec
from captionloop.vision.runtimes import native_precision

_MAX_BEFORE: Final = 16


class TowerSpec(EncoderSpec):
    """Which model's tower: `architecture` is `transformers/<type>`."""

    base: BaseReference

    def model_post_init(self, context: Any, /) -> None:
        """Its architecture is none of `vision`'s."""


@dataclass(frozen=True, eq=False)
class VisionTower(Encoder):
    """An encoder whose weights are those of a pre-trained model; `columns` counts all vectors of a photo.

    Attributes:
        before: vectors that stand before those of the grid.
    """

    spec: TowerSpec
    before: int = 0
    base: BaseModel = field(kw_only=True)

    @classmethod
    def of(cls, base: BaseModel, precision: Precision = "float32") -> "VisionTower":
        """The tower of an open model."""
        spec = TowerSpec(
            architecture=f"transformers/{base.model.config.model_type}",
            input_size=base.input_size,
            precision=precision,
            base=base.reference,
        )
        module = (
            VisionSide(base, IMAGENET_MEAN, IMAGENET_DEVIATION).eval().requires_grad_(requires_grad=False)
        )
        with torch.inference_mode():
            count, channels = module(torch.zeros(1, 3, base.input_size, base.input_size)).shape[1:]
        return cls(spec, module, 1, count, channels, before=_before(count), base=base)

    @property
    def trainable(self) -> bool:
        """False: its features are cached once for all captioners built on it."""
        return False

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits covering the base's files, pixels and precision."""
        recipe = [self.spec.base.digest, self.spec.input_size, self.spec.precision, PREPROCESSING]
        return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:32]

    def weights(self) -> dict[str, torch.Tensor]:
        """None of its own: they are the base's."""
        return {}

    def respecified(self, **changes: object) -> "VisionTower":
        """The same tower in another precision."""
        changes = {name: value for name, value in changes.items() if getattr(self.spec, name) != value}
        if not changes:
            return self
        other = set(changes) - {"precision"}
        if other:
            raise EncoderError(
                f"a pre-trained vision tower keeps its {', '.join(sorted(other))}: leave it as it is"
            )
        return VisionTower.of(self.base, **changes)  # type: ignore[arg-type]

    @property
    def grid_rows(self) -> int:
        """Rows of what it sees as a picture: of a square where the vectors make one, else one row."""
        rows = math.isqrt(self.columns - self.before)
        return rows if rows * rows == self.columns - self.before else 1

    def picture(self, attention: NDArray[np.float32]) -> NDArray[np.float32]:
        """Attention over all vectors `[R]` as a grid that sums to one; what stands before it is left out."""
        grid = attention[self.before : self.columns]
        normalised = grid / max(float(grid.sum()), 1e-12)
        shaped: NDArray[np.float32] = normalised.reshape(self.grid_rows, -1)
        return shaped

    def save(self, folder: str | Path) -> None:
        """Writes `encoder.safetensors`, which refers to the base and holds no weights."""
        from safetensors.torch import save_file

        # The spec's tensor is there because safetensors writes several metadata keys in no fixed order.
        spec = torch.tensor(list(self.spec.model_dump_json().encode()), dtype=torch.uint8)
        header = {"family": "pretrained"}
        write_file(Path(folder) / ENCODER_FILE, lambda path: save_file({"spec": spec}, path, header))

    @classmethod
    def load(cls, folder: str | Path) -> "VisionTower":
        """Reads what `save` wrote, of a base that is open or where it was.

        Raises:
            EncoderError: the file is missing or damaged. BundleError: the base is.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = Path(folder) / ENCODER_FILE
        try:
            written = bytes(load_file(path)["spec"].tolist())
            spec = TowerSpec.model_validate_json(written)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise EncoderError(
                f"{path} is damaged or not a vision tower ({first_line(error)}); make it again"
            ) from error
        return cls.of(open_base(spec.base), spec.precision)


def _before(count: int) -> int:
    """How many vectors stand before a square grid; 0 where none is found."""
    return next((n for n in range(min(_MAX_BEFORE, count)) if math.isqrt(count - n) ** 2 == count - n), 0)


_WRITTEN_ANEW: Final = (".safetensors", "index.json")


class TrainableTowerModule(nn.Module):
    """A trainable copy of a vision tower: normalised pixels `[B, 3, S, S]` to its grid `[B, C, h, w]`."""

    def __init__(self, tower: VisionTower) -> None:
        super().__init__()
        self.side = copy.deepcopy(tower.module).requires_grad_(requires_grad=True)
        self.before, self.rows = tower.before, tower.grid_rows

    def forward(self, images: Tensor) -> Tensor:
        """What stands before the grid learns with it, as the tower's layers are all of one sequence."""
        grid: Tensor = self.side(images)[:, self.before :]
        return grid.transpose(1, 2).reshape(len(grid), grid.shape[2], self.rows, -1)


@dataclass(frozen=True, eq=False)
class TrainableTower(VisionTower):
    """A vision tower that writes its model, with the trained tower, into `folder`."""

    folder: Path = field(kw_only=True)

    @classmethod
    def in_folder(cls, base: BaseModel, folder: Path) -> "TrainableTower":
        """That of an open model, in the precision in which this machine learns fastest."""
        tower = VisionTower.of(base, native_precision())
        return cls(
            tower.spec, tower.module, 1, tower.columns, tower.channels,
            before=tower.before, base=base, folder=folder,
        )  # fmt: skip

    def trainable_layers(self, frozen: str | None) -> nn.Module:
        """See `Encoder`."""
        if frozen is not None:
            raise EncoderError("a vision tower learns as a whole: leave pretrained.tower.frozen out")
        return TrainableTowerModule(self)

    def with_trained_layers(self, trainable_layers: nn.Module) -> Encoder:
        """The tower of the model written to `folder`, with the trained weights."""
        assert isinstance(trainable_layers, TrainableTowerModule)
        write_model(self.base, trainable_layers.side.cpu(), self.folder)
        return VisionTower.of(open_base(find_base(str(self.folder))), self.spec.precision)


def write_model(base: BaseModel, side: nn.Module, folder: Path) -> None:
    """Writes the base's files into `folder`, with the weights of this vision side; atomically."""
    model = copy.deepcopy(base.model)
    own = VisionSide(replace(base, model=model), IMAGENET_MEAN, IMAGENET_DEVIATION)
    own.load_state_dict(side.state_dict())
    partial = begin_folder(folder)
    model.save_pretrained(partial)
    for name in base.reference.files:
        if not name.endswith(_WRITTEN_ANEW) and not (partial / name).exists():
            (partial / name).write_bytes((base.folder / name).read_bytes())
    replace_folder(partial, folder)
