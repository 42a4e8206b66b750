"""The encoder: a network from pixels `[S, S, 3]` to a grid `[regions, channels]`, weights, fingerprint.

An `EncoderSpec` says which network and how it is fed; an `Encoder` is that network with its weights. Two
encoders with the same fingerprint give the same numbers, which is what the feature store keys its entries on.
"""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from captionloop.errors import EncoderError, first_line
from captionloop.files import write_file
from captionloop.hardware import Precision
from captionloop.images import PREPROCESSING
from captionloop.preprocessing import IMAGENET_DEVIATION, IMAGENET_MEAN, SQUASHED, WHOLE, Preprocessing, View
from captionloop.vision.architectures import OWN, check_architecture, is_of_timm

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

NONE: Final = "none"


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights to start from.

    `source` is `none` (random, seeded), a torchvision name (`IMAGENET1K_V2`, `DEFAULT`), for a model of timm
    `DEFAULT` or `DEFAULT@<commit>` (of its repository on the hub), or the path of a state_dict
    (`.safetensors`, or what `torch.save` wrote; nothing is unpickled but tensors).
    """

    source: str = NONE

    @property
    def path(self) -> Path | None:
        """The file, where it is one."""
        named = self.source != NONE and _looks_like_a_path(self.source)
        return Path(self.source) if named else None

    def tensors(self, architecture: str) -> Mapping[str, Tensor] | None:
        """The state_dict for this architecture, or None for random weights. `Encoder.build` checks the names.

        Raises:
            EncoderError: the file is missing or no state_dict, or torchvision has no such weights at hand.
        """
        check_architecture(architecture)
        if self.source == NONE:
            return None
        if self.path is not None:
            return _from_file(self.path)
        if is_of_timm(architecture):
            from captionloop.vision.timm_models import hub_weights

            return hub_weights(architecture, self.source)
        return _from_torchvision(architecture, self.source)

    def licence(self, architecture: str) -> str | None:
        """The licence of these weights, where the library that names them states one."""
        if self.source == NONE or not is_of_timm(architecture):
            return None
        from captionloop.vision.timm_models import timm_licence

        return timm_licence(architecture)


def not_finite(weights: Mapping[str, Tensor]) -> list[str]:
    """The names of those that hold a NaN or an infinity, in order."""
    import torch

    # A sum over all values is finite where each of them is, and quicker than asking each.
    return [
        name
        for name, weight in weights.items()
        if weight.is_floating_point()
        and not torch.isfinite(weight.sum(dtype=torch.float64))
        and not torch.isfinite(weight).all()
    ]


def _looks_like_a_path(source: str) -> bool:
    return "/" in source or Path(source).suffix != "" or Path(source).exists()


def _from_file(path: Path) -> Mapping[str, Tensor]:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise EncoderError(f"no weights at {path}; give the path of a state_dict, or 'none'") from error
    except (pickle.UnpicklingError, RuntimeError, SafetensorError, OSError, EOFError, ValueError) as error:
        raise EncoderError(
            f"{path} is not a plain state_dict of tensors; save one with torch.save(model.state_dict(), ...)"
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise EncoderError(
            f"{path} is more than a state_dict of tensors; save one with torch.save(model.state_dict(), ...)"
        )
    broken = not_finite(found)
    if broken:
        raise EncoderError(
            f"{path} holds weights that are not finite ({len(broken)} of {len(found)} tensors, the first is"
            f" {broken[0]}): take those of a training that did not diverge"
        )
    return found


def _from_torchvision(architecture: str, name: str) -> Mapping[str, Tensor]:
    from torchvision.models import get_model_weights

    if architecture in OWN:
        raise EncoderError(
            f"torchvision has no weights for '{architecture}'; use 'none' or the path of a file"
        )
    entries = get_model_weights(architecture)
    if name not in entries.__members__:
        known = ", ".join(entries.__members__)
        raise EncoderError(f"no weights '{name}' for encoder '{architecture}'; torchvision has {known}")
    try:
        tensors: Mapping[str, Tensor] = entries[name].get_state_dict(progress=True, check_hash=True)
    except (
        OSError,
        RuntimeError,
    ) as error:  # no network (URLError is an OSError), or a download that was cut off
        raise EncoderError(
            f"weights {name} of '{architecture}' are not here and could not be downloaded ({error});"
            f" put {entries[name].url.rsplit('/', 1)[-1]} somewhere and give its path"
        ) from error
    return tensors


ENCODER_FILE: Final = "encoder.safetensors"


class EncoderSpec(BaseModel):
    """What an encoder computes, but for its weights.

    Attributes:
        architecture: a torchvision name, `resnet8` or `resnet10`, or one of timm's behind `timm/`.
        input_size: side of the square it is fed, px.
        layer: the last module that is applied, by its name in its library (`layer3`, `features.13`,
            `blocks.8`); None for the whole trunk. An earlier layer has a finer grid.
        precision: of the arithmetic; weights are kept in float32, features in float16.
        preprocessing: what a photo becomes before the network sees it.
        licence: of the weights that it began with, where that is known; it changes no number.

    Raises:
        EncoderError: the architecture is unknown.
        ConfigurationError: it is of a library that is not installed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str
    input_size: int = Field(default=224, ge=32, le=1024)
    layer: str | None = None
    precision: Precision = "float32"
    preprocessing: Preprocessing = SQUASHED
    licence: str | None = None

    def recipe(self) -> dict[str, Any]:
        """What of it changes numbers, for a fingerprint."""
        # What came later is left out where it is as it always was: an encoder keeps its fingerprint.
        return self.model_dump(exclude=self._unsaid() | {"licence"})

    def header(self) -> str:
        """All of it as JSON, for the encoder's file."""
        return self.model_dump_json(exclude=self._unsaid())

    def _unsaid(self) -> set[str]:
        unsaid = {"licence"} if self.licence is None else set()
        return unsaid | ({"preprocessing"} if self.preprocessing == SQUASHED else set())

    def model_post_init(self, context: Any, /) -> None:  # noqa: ARG002
        """Refuses unknown architectures with the names that come close."""
        check_architecture(self.architecture)


@dataclass(frozen=True, eq=False)
class Encoder:
    """A network with its weights: normalised float `[B, 3, S, S]` in, grid `[B, regions, channels]` out.

    Build one with `Encoder.build` or `Encoder.load`. Regions are `rows * columns` places in reading order.
    Encoders of one fingerprint are equal.
    """

    spec: EncoderSpec
    module: nn.Module
    rows: int
    columns: int
    channels: int

    def __eq__(self, other: object) -> bool:
        """Whether both give the same numbers."""
        return isinstance(other, Encoder) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        """Of the fingerprint."""
        return hash(self.fingerprint)

    @property
    def regions(self) -> int:
        """How many places of the photo have a feature vector."""
        return self.rows * self.columns

    @property
    def trainable(self) -> bool:
        """Whether encoder adaptation may train it."""
        return True

    def trainable_layers(self, frozen: str | None) -> nn.Module:
        """A copy of its layers behind the layer `frozen` (None: all): their input to `[B, C, h, w]`.

        Raises:
            EncoderError: there is no such layer, or nothing behind it.
        """
        from captionloop.vision.backbone import divide

        trunk = copy.deepcopy(self.module.get_submodule("trunk"))
        return divide(self.spec.architecture, trunk, frozen)

    def with_trained_layers(self, trainable_layers: nn.Module) -> Encoder:
        """The encoder with the weights of such a copy after training; do not use the copy afterwards."""
        from captionloop.vision.backbone import weights_of

        return Encoder.build(self.spec, {**self.weights(), **weights_of(trainable_layers.cpu())})

    def picture(self, attention: NDArray[np.float32]) -> NDArray[np.float32]:
        """Attention over its regions `[R]` as a grid `[rows, columns]`."""
        return attention.reshape(self.rows, self.columns)

    @classmethod
    def build(
        cls,
        spec: EncoderSpec,
        weights: Mapping[str, torch.Tensor] | None = None,
        seed: int = 0,
        *,
        taken_at: int | None = None,
    ) -> Encoder:
        """An encoder with these weights (by their library's names; a classifier's are ignored), or random
        ones. Weights of another input size, `taken_at`, are resampled where they depend on it.

        Raises:
            EncoderError: the weights belong to another architecture, or the input size is too small for it.
        """
        from captionloop.vision.backbone import build_grid_module, grid_shape

        module = build_grid_module(
            spec.architecture, spec.layer, weights, seed, input_size=spec.input_size, taken_at=taken_at
        )
        rows, columns, channels = grid_shape(spec.architecture, module, spec.input_size)
        return cls(spec, module, rows, columns, channels)

    def respecified(self, **changes: object) -> Encoder:
        """The same weights by another spec: the fields of `spec` named are changed.

        Raises:
            EncoderError: as `build`.
        """
        spec = self.spec.model_copy(update=changes)
        return Encoder.build(spec, self.weights(), taken_at=self.spec.input_size)

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits covering all that changes the numbers: network, weights, layer, pixels, precision."""
        digest = hashlib.sha256()
        recipe = [self.spec.recipe(), PREPROCESSING, IMAGENET_MEAN, IMAGENET_DEVIATION]
        digest.update(json.dumps(recipe, sort_keys=True).encode())
        for name, tensor in sorted(self.weights().items()):
            if not name.endswith("num_batches_tracked"):
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()[:32]

    def fingerprint_of(self, view: View) -> str:
        """The fingerprint of this encoder looking at one view; `fingerprint` is that of the whole photo."""
        if view == WHOLE:
            return self.fingerprint
        recipe = f"{self.fingerprint} {view.left} {view.top} {view.extent} {view.mirrored}"
        return hashlib.sha256(recipe.encode()).hexdigest()[:32]

    def weights(self) -> dict[str, torch.Tensor]:
        """The tensors by their library's names, on the CPU."""
        from captionloop.vision.backbone import weights_of

        tensors = weights_of(self.module.get_submodule("trunk"))
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def save(self, folder: str | Path) -> None:
        """Writes `encoder.safetensors` into the folder; its header carries the spec.

        Raises:
            EncoderError: its weights are not finite.
        """
        from safetensors.torch import save_file

        _refuse_not_finite(self.weights(), f"{Path(folder) / ENCODER_FILE} is not written")

        # One metadata key only: safetensors writes several in no fixed order; equal encoders are equal files.
        header = {"encoder": self.spec.header()}
        write_file(Path(folder) / ENCODER_FILE, lambda path: save_file(self.weights(), path, header))

    @classmethod
    def load(cls, folder: str | Path) -> Encoder:
        """Reads what `save` wrote.

        Raises:
            EncoderError: the file is missing, damaged, not an encoder's, or its weights are not finite.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(folder) / ENCODER_FILE
        try:
            with safe_open(path, "pt") as file:
                spec = EncoderSpec.model_validate_json((file.metadata() or {}).get("encoder", ""))
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError as error:
            raise EncoderError(
                f"no encoder in {folder}: {ENCODER_FILE} is missing; run encoder_adaptation"
            ) from error
        except (SafetensorError, OSError, ValidationError) as error:
            reason = first_line(error)
            raise EncoderError(f"{path} is damaged or not an encoder ({reason}); make it again") from error
        _refuse_not_finite(weights, f"{path} is no use")
        return cls.build(spec, weights)


def _refuse_not_finite(weights: Mapping[str, torch.Tensor], what: str) -> None:
    broken = not_finite(weights)
    if broken:
        raise EncoderError(
            f"{what}: the encoder's weights are not finite ({len(broken)} of {len(weights)} tensors, first"
            f" {broken[0]}); teach it again with a lower encoder_adaptation.learning_rate"
        )
