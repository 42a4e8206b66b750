"""A pre-trained model in; a trainable encoder out, and after training, the base model with its new tower.

All weights of the tower are trained, as those of any encoder. What comes out is a base like any other: its
files in a folder, known by their hashes. So all that is built on a base (cached features, adapters, bundles)
stays as it is.
"""

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from torch import Tensor, nn

from captionloop.captioner.pretrained.base_model import BaseModel, find_base, open_base
from captionloop.captioner.pretrained.text_sides import VisionSide
from captionloop.captioner.pretrained.vision_tower import VisionTower
from captionloop.errors import EncoderError
from captionloop.files import begin_folder, replace_folder
from captionloop.preprocessing import IMAGENET_DEVIATION, IMAGENET_MEAN
from captionloop.vision.encoder import Encoder
from captionloop.vision.runtimes import native_precision

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
