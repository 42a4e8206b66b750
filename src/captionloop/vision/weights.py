"""Where an encoder's first weights come from: nowhere, torchvision by name, or a file of the user's."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from captionloop.errors import EncoderError
from captionloop.vision.architectures import OWN, check_architecture

if TYPE_CHECKING:
    from torch import Tensor

NONE: Final = "none"


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights to start from.

    `source` is `none` (random, seeded), a torchvision name (`IMAGENET1K_V2`, `DEFAULT`), or the path of
    a state_dict (`.safetensors`, or what `torch.save` wrote; nothing is unpickled but tensors).
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
        return _from_torchvision(architecture, self.source)


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
