"""Encoders from timm: any of its models that keeps a grid of places, by its name there.

`timm/vit_small_patch14_reg4_dinov2.lvd142m` is timm's model of that name and, behind the dot, the weights
that it has under that tag. How photos are fed to it is what timm says of these weights (`pretrained_cfg`).
timm is the extra `captionloop[timm]`: nothing here imports it before an encoder from it is asked for.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from captionloop.errors import EncoderError, in_a_line
from captionloop.preprocessing import Preprocessing
from captionloop.vision.architectures import timm_name

HUB: Final = "DEFAULT"
"""The weights that timm names for a tag; `DEFAULT@<commit>` is the hub repository at that commit."""


class TimmTrunk(nn.Module):
    """Normalised images `[B, 3, S, S]` to maps `[B, C, rows, columns]`, by one of timm's models.

    Prefix tokens (class token, registers) are no places and stay out of the grid. The project's pooled
    feature of a photo is the mean of its grid, everywhere: so where there is a class token, which is what the
    model pools into, the grid is moved as a whole until its mean is the class token.
    """

    def __init__(self, network: nn.Module, level: int | None) -> None:
        super().__init__()
        self.network = network
        self._level = level
        self._prefix: int = getattr(network, "num_prefix_tokens", 0)
        self._class_token = self._prefix > 0 and getattr(network, "cls_token", None) is not None
        self._frozen: list[nn.Module] = []

    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        maps, prefix = self._maps(images)
        if prefix is None or not self._class_token:
            return maps
        return maps - maps.mean((2, 3), keepdim=True) + prefix[:, 0, :, None, None]

    def freeze(self, layer: str) -> None:
        """Keeps the weights that the features behind this layer are computed with; also in training mode."""
        kept = set(_network_to(self.network, layer).state_dict())
        for name, weight in self.network.named_parameters():
            weight.requires_grad = name not in kept
        self._frozen = [
            module
            for module in self.network.modules()
            if (own := list(module.parameters(recurse=False))) and not any(w.requires_grad for w in own)
        ]

    def train(self, mode: bool = True) -> "TimmTrunk":
        """Frozen layers stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def _maps(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Maps `[B, C, rows, columns]`, and the prefix tokens `[B, n, C]` where there are any."""
        network: Any = self.network
        if self._level is None:
            return self._as_maps(network.forward_features(images))
        options = {"return_prefix_tokens": True} if self._prefix else {}
        (found,) = network.forward_intermediates(
            images, indices=[self._level], intermediates_only=True, output_fmt="NCHW", **options
        )
        return (found[0], found[1]) if self._prefix else (found, None)

    def _as_maps(self, features: Any) -> tuple[Tensor, Tensor | None]:
        if not isinstance(features, Tensor) or features.ndim not in {3, 4}:
            raise EncoderError("its features are no grid of places; take another model of timm")
        if features.ndim == 4:
            channels_last = str(getattr(self.network, "output_fmt", "NCHW")).endswith("NHWC")
            return (features.permute(0, 3, 1, 2) if channels_last else features), None
        tokens = features[:, self._prefix :]  # [B, rows * columns, C]
        side = math.isqrt(tokens.shape[1])
        if side * side != tokens.shape[1]:
            raise EncoderError("its features are no square grid of places; take another model of timm")
        maps = tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], side, side)
        return maps, features[:, : self._prefix] if self._prefix else None


def build_timm_trunk(
    architecture: str,
    layer: str | None,
    input_size: int,
    weights: Mapping[str, Tensor] | None,
    *,
    taken_at: int | None = None,
) -> TimmTrunk:
    """The model up to a layer, fed squares of `input_size` px, with these weights (by timm's names) or random
    ones.

    `taken_at` is the size that the weights are of, where that may be another one: position embeddings are
    resampled.

    Raises:
        EncoderError: the model has no grid or no such layer, is not of this input size, or the weights are
            another model's.
    """
    if weights is None:
        return _trunk(architecture, layer, input_size)
    wrong: list[str] = []
    own_size = default_input_size(architecture)
    for size in dict.fromkeys(each for each in (taken_at, input_size, own_size) if each):
        trunk = _trunk(architecture, layer, size)
        problems = _problems(trunk.network, weights)
        if not problems:
            expected = trunk.network.state_dict()
            kept = {name: tensor for name, tensor in weights.items() if name in expected}
            trunk.network.load_state_dict(kept, strict=False)
            return _resized(trunk, architecture, size, input_size)
        wrong = wrong or problems
    raise EncoderError(
        f"the weights do not belong to encoder '{architecture}': {'; '.join(wrong[:3])};"
        " give the weights of that model, or name theirs"
    )


def default_input_size(architecture: str) -> int:
    """Side of the square that the model's weights were trained on, px."""
    size: int = max(_pretrained_cfg(architecture).input_size[1:])
    return size


def timm_preprocessing(architecture: str, *, whole: bool = False) -> Preprocessing:
    """How timm says that photos are fed to this model; `whole` shows it all of a photo, squashed.

    Raises:
        EncoderError: in a way that is not built here.
    """
    known = _pretrained_cfg(architecture)
    if not whole and known.crop_mode not in {"center", "squash"}:
        raise EncoderError(
            f"encoder '{architecture}' is fed photos with a border ({known.crop_mode}), which is not built"
            " here; set encoder.crop to whole"
        )
    return Preprocessing(
        mean=known.mean,
        deviation=known.std,
        crop="squash" if whole else known.crop_mode,
        share=1.0 if whole else known.crop_pct,
        interpolation=known.interpolation,
    )


def timm_licence(architecture: str) -> str | None:
    """The licence of the weights of this tag as timm states it; None where it does not."""
    licence: str | None = _pretrained_cfg(architecture).license
    return licence


def hub_weights(architecture: str, source: str) -> Mapping[str, Tensor]:
    """The weights of a tag from the hub, by timm's names, as `DEFAULT` or `DEFAULT@<commit>`.

    timm takes safetensors where there are any; else tensors only are unpickled.

    Raises:
        EncoderError: there are none, or they are not here and cannot be downloaded.
    """
    import timm

    overlay = {}
    _, _, commit = source.partition("@")
    if commit:
        overlay["hf_hub_id"] = f"{_pretrained_cfg(architecture).hf_hub_id}@{commit}"
    try:
        network = timm.create_model(timm_name(architecture), pretrained=True, pretrained_cfg_overlay=overlay)
    except (OSError, RuntimeError, ValueError) as error:
        raise EncoderError(
            f"weights {source} of '{architecture}' are not here and could not be downloaded"
            f" ({in_a_line(error)}); put their model.safetensors somewhere and give its path"
        ) from error
    return dict(network.state_dict())


def _pretrained_cfg(architecture: str) -> Any:
    from timm.models import get_pretrained_cfg

    return get_pretrained_cfg(timm_name(architecture))


def _trunk(architecture: str, layer: str | None, size: int) -> TimmTrunk:
    import timm

    options: dict[str, Any] = {"img_size": size} if _pretrained_cfg(architecture).fixed_input_size else {}
    try:
        network: Any = timm.create_model(timm_name(architecture), **options)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise EncoderError(
            f"encoder '{architecture}' takes no photos of {size} px ({in_a_line(error)});"
            " give another input_size"
        ) from error
    _check_patches(architecture, network, size)
    if layer is None:
        _behead(network)
        return TimmTrunk(network, None)
    return TimmTrunk(_network_to(network, layer, architecture), _levels(network).index(layer))


def _behead(network: Any) -> None:
    """Takes the classifier off, and what pools for it."""
    try:
        network.reset_classifier(0, "")
    except AssertionError:  # it cannot be without pooling
        network.reset_classifier(0)


def _network_to(network: Any, layer: str, architecture: str = "") -> Any:
    """A copy of the network that ends with a layer; of another one EncoderError with those that it has."""
    import copy

    levels = _levels(network) if hasattr(network, "prune_intermediate_layers") else []
    if layer not in levels:
        raise EncoderError(
            f"encoder '{architecture}' has no layer '{layer}'; here it has {', '.join(levels) or 'none'}"
        )
    ended = copy.deepcopy(network)
    ended.prune_intermediate_layers([levels.index(layer)], prune_norm=True)
    return ended


def _levels(network: Any) -> list[str]:
    return [str(level["module"]) for level in network.feature_info]


def _check_patches(architecture: str, network: Any, size: int) -> None:
    """Refuses a size that would cut the last row and column of patches off."""
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    side = patch[0] if isinstance(patch, tuple) else patch
    if side and size % side:
        below = size - size % side
        raise EncoderError(
            f"input_size {size} is no multiple of the patches of '{architecture}' ({side} px);"
            f" take {below} or {below + side}"
        )


def _resized(trunk: TimmTrunk, architecture: str, size: int, wanted: int) -> TimmTrunk:
    if size == wanted or not _pretrained_cfg(architecture).fixed_input_size:
        return trunk
    network: Any = trunk.network
    if not hasattr(network, "set_input_size"):
        raise EncoderError(
            f"encoder '{architecture}' cannot be fed another size than {size} px; set input_size"
        )
    _check_patches(architecture, network, wanted)
    try:
        with torch.no_grad():
            network.set_input_size(img_size=(wanted, wanted))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise EncoderError(
            f"encoder '{architecture}' cannot be fed photos of {wanted} px ({in_a_line(error)}); give another"
            " input_size"
        ) from error
    return trunk


def _problems(network: nn.Module, found: Mapping[str, Tensor]) -> list[str]:
    problems = []
    for name, tensor in network.state_dict().items():
        if name not in found:
            if not name.endswith("num_batches_tracked"):
                problems.append(f"{name} is missing")
        elif found[name].shape != tensor.shape:
            problems.append(f"{name} has shape {tuple(found[name].shape)} instead of {tuple(tensor.shape)}")
    return problems
