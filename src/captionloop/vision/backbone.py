"""Networks of torchvision and timm without their classifier, as modules from images to a grid of features."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final

import torch
from torch import Tensor, nn
from torchvision.models import ResNet, get_model
from torchvision.models.resnet import BasicBlock

from captionloop.errors import EncoderError
from captionloop.vision.architectures import is_of_timm
from captionloop.vision.timm_models import TimmTrunk, build_timm_trunk

_HEADS: Final = {"avgpool", "classifier", "fc", "head"}
"""The first of torchvision's children that no longer keeps the grid."""


def _resnet8() -> nn.Sequential:
    """ResNet up to its third stage, one basic block in each, of 32, 64 and 192 channels (He et al. 2015)."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(3, 32, 7, stride=2, padding=3, bias=False),
        bn1=nn.BatchNorm2d(32),
        relu=nn.ReLU(inplace=True),
        maxpool=nn.MaxPool2d(3, stride=2, padding=1),
        layer1=nn.Sequential(BasicBlock(32, 32)),
        layer2=nn.Sequential(BasicBlock(32, 64, 2, _shortcut(32, 64))),
        layer3=nn.Sequential(BasicBlock(64, 192, 2, _shortcut(64, 192))),
    )
    network = nn.Sequential(layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def _shortcut(channels: int, wider: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, wider, 1, stride=2, bias=False), nn.BatchNorm2d(wider))


_OWN: Final[dict[str, Callable[[], nn.Module]]] = {
    "resnet8": _resnet8,
    "resnet10": lambda: ResNet(BasicBlock, [1, 1, 1, 1]),
}


class GridModule(nn.Module):
    """Normalised images `[B, 3, S, S]` to grid features `[B, R, C]`; the trunk gives maps `[B, C, h, w]`."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        grid: Tensor = self.trunk(images)  # [B, C, rows, columns]
        return grid.flatten(2).transpose(1, 2)  # [B, rows * columns, C]


def build_grid_module(
    architecture: str,
    layer: str | None,
    weights: Mapping[str, Tensor] | None,
    seed: int,
    *,
    input_size: int,
    taken_at: int | None = None,
) -> GridModule:
    """The trunk of an architecture up to a layer, with the given weights or with random ones.

    `taken_at` is the input size that the weights are of, where they depend on it and it may be another one.

    Raises:
        EncoderError: the layer does not exist, or the weights are of another architecture.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if is_of_timm(architecture):
            of_timm = build_timm_trunk(architecture, layer, input_size, weights, taken_at=taken_at)
            return GridModule(of_timm).eval()
        network = _OWN[architecture]() if architecture in _OWN else get_model(architecture, weights=None)
    trunk = _until(architecture, _trunk(network), layer)
    if weights is not None:
        _load(architecture, trunk, network, weights)
    return GridModule(trunk).eval()


def grid_shape(architecture: str, module: GridModule, input_size: int) -> tuple[int, int, int]:
    """Rows, columns and channels of the grid at this input size, found by trying.

    Raises:
        EncoderError: the network shrinks a photo of that size to nothing, or keeps no places.
    """
    with torch.inference_mode():
        try:
            grid = module.trunk(torch.zeros(1, 3, input_size, input_size))
        except EncoderError as error:
            raise EncoderError(f"encoder '{architecture}': {error}") from error
        except RuntimeError as error:
            raise EncoderError(
                f"photos of {input_size} px are too small for this encoder; raise input_size"
            ) from error
    channels, rows, columns = grid.shape[1:]
    return rows, columns, channels


def _trunk(network: nn.Module) -> nn.Sequential:
    kept: OrderedDict[str, nn.Module] = OrderedDict()
    for name, child in network.named_children():
        if name in _HEADS:
            break
        kept[name] = child
    return nn.Sequential(kept)


def _until(architecture: str, trunk: nn.Sequential, layer: str | None) -> nn.Sequential:
    """Cuts the trunk behind a layer named with dots, at whatever depth the sequence has it."""
    if layer is None:
        return trunk
    name, _, inner = layer.partition(".")
    children = dict(trunk.named_children())
    child = children.get(name)
    if child is None or (inner and not isinstance(child, nn.Sequential)):
        known = ", ".join(children)
        raise EncoderError(f"encoder '{architecture}' has no layer '{layer}'; here it has {known}")
    kept = OrderedDict(islice(children.items(), list(children).index(name) + 1))
    if isinstance(child, nn.Sequential):
        kept[name] = _until(architecture, child, inner or None)
    return nn.Sequential(kept)


def weights_of(trunk: nn.Module) -> Mapping[str, Tensor]:
    """The trunk's tensors by the names that its library gives them."""
    network = trunk.network if isinstance(trunk, TimmTrunk) else trunk
    weights: Mapping[str, Tensor] = network.state_dict()
    return weights


def divide(architecture: str, trunk: nn.Module, layer: str | None) -> nn.Module:
    """What learns where a layer is frozen: all that comes behind it, by the same names and sharing weights.

    A model of timm is no sequence of layers: it stays whole, and the weights up to the layer are fixed.

    Raises:
        EncoderError: there is no such layer, or nothing behind it.
    """
    if is_of_timm(architecture):
        return _with_fixed(architecture, trunk, layer)
    assert isinstance(trunk, nn.Sequential)
    rest = _beyond(trunk, layer) if layer and _until(architecture, trunk, layer) else trunk
    if not len(rest):
        raise EncoderError(f"nothing in '{architecture}' comes behind '{layer}'; freeze an earlier layer")
    return rest


def _with_fixed(architecture: str, trunk: nn.Module, layer: str | None) -> nn.Module:
    assert isinstance(trunk, TimmTrunk)
    if layer is not None:
        trunk.freeze(layer)
    if not any(weight.requires_grad for weight in trunk.parameters()):
        raise EncoderError(f"nothing in '{architecture}' comes behind '{layer}'; freeze an earlier layer")
    return trunk


def _beyond(trunk: nn.Sequential, layer: str) -> nn.Sequential:
    name, _, inner = layer.partition(".")
    children = dict(trunk.named_children())
    at = list(children).index(name)
    kept = OrderedDict(islice(children.items(), at + 1, None))
    child = children[name]
    if inner and isinstance(child, nn.Sequential):
        rest = _beyond(child, inner)
        kept = OrderedDict([(name, rest), *kept.items()] if len(rest) else kept.items())
    return nn.Sequential(kept)


def _load(architecture: str, trunk: nn.Module, network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    expected = trunk.state_dict()
    wrong = list(islice(_mismatches(expected, set(network.state_dict()), weights), 3))
    if wrong:
        raise EncoderError(
            f"the weights do not belong to encoder '{architecture}': {'; '.join(wrong)};"
            " give the weights of that architecture, or name theirs"
        )
    trunk.load_state_dict({name: weights[name] for name in expected if name in weights}, strict=False)


def _mismatches(
    expected: Mapping[str, Tensor], ignored: Iterable[str], found: Mapping[str, Tensor]
) -> Iterator[str]:
    for name, tensor in expected.items():
        if name not in found:
            if not name.endswith(
                "num_batches_tracked"
            ):  # older checkpoints have none, and inference needs none
                yield f"{name} is missing"
        elif found[name].shape != tensor.shape:
            yield f"{name} has shape {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
    for name in found.keys() - expected.keys() - set(ignored):
        yield f"{name} is unknown"
