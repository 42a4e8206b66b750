"""The vision tower of a pre-trained model as an encoder: frozen, its features cached like any other's.

A tower gives a vector for each part of a grid, and some before them for the photo as a whole. All are cached,
because the text side reads all; pictures of attention show the grid alone.
"""

import hashlib
import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from captionloop.captioner.model_config import BaseReference
from captionloop.captioner.pretrained.base_model import BaseModel, open_base
from captionloop.captioner.pretrained.text_sides import VisionSide
from captionloop.errors import EncoderError, first_line
from captionloop.files import write_file
from captionloop.hardware import Precision
from captionloop.images import PREPROCESSING
from captionloop.preprocessing import IMAGENET_DEVIATION, IMAGENET_MEAN
from captionloop.vision.encoder import ENCODER_FILE, Encoder, EncoderSpec

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
