"""Convolutions with the batch normalisation behind them folded in, for teaching a pretrained network on.

Few photos make poor batch statistics, and normalising costs more time on a CPU than convolving. So statistics
and scales stay as they were, a convolution takes them into its weights, and what is learnt is the
convolution's own weights and the normalisation's shift.
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear


class FoldedConvolution(nn.Module):
    """`BatchNorm(Conv(x))` with fixed statistics: weights `w * scale`, bias `shift`."""

    scale: Tensor
    offset: Tensor

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d, norm_name: str) -> None:
        super().__init__()
        self.originals = (convolution, norm)  # a tuple, so that their parameters are not this module's
        self.norm_name = norm_name
        variance, mean = _statistics(norm)
        scale = norm.weight.detach() / torch.sqrt(variance + norm.eps)
        offset = 0.0 if convolution.bias is None else convolution.bias.detach()
        self.register_buffer("scale", scale)
        self.register_buffer("offset", (mean - offset) * scale)
        self.weight = nn.Parameter(convolution.weight.detach().clone())
        self.shift = nn.Parameter(norm.bias.detach() - self.offset)
        self._pointwise = (
            convolution.kernel_size == (1, 1) and convolution.stride == (1, 1) and convolution.groups == 1
        )
        if convolution.groups == convolution.in_channels:  # depthwise: few weights, and costly gradients
            self.weight.requires_grad = False

    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        convolution = self.originals[0]
        weight = self.weight * self.scale.view(-1, 1, 1, 1)
        if self._pointwise:  # a matrix product over the channels, which lie last in memory
            return linear(images.permute(0, 2, 3, 1), weight.flatten(1), self.shift).permute(0, 3, 1, 2)
        return conv2d(
            images,
            weight,
            self.shift,
            convolution.stride,
            convolution.padding,
            convolution.dilation,
            convolution.groups,
        )

    def unfold(self) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
        """The convolution and the normalisation it was made from, with what was learnt."""
        convolution, norm = self.originals
        with torch.no_grad():
            convolution.weight.copy_(self.weight)
            norm.bias.copy_(self.shift + self.offset)
        return convolution, norm


def fold_norms(module: nn.Module) -> None:
    """Replaces, in place, each convolution followed by a batch normalisation."""
    for parent, first, second in list(_pairs(module)):
        setattr(parent, first, FoldedConvolution(getattr(parent, first), getattr(parent, second), second))
        setattr(parent, second, nn.Identity())


def unfold_norms(module: nn.Module) -> None:
    """Undoes `fold_norms`, keeping what was learnt."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, FoldedConvolution):
                convolution, norm = child.unfold()
                setattr(parent, name, convolution)
                setattr(parent, child.norm_name, norm)


def _pairs(module: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Neighbours that torchvision's networks run one after the other: in a sequence, or as convN and bnN."""
    for parent in module.modules():
        children = dict(parent.named_children())
        names = list(children)
        pairs = pairwise(names) if isinstance(parent, nn.Sequential) else _numbered(names)
        for first, second in pairs:
            if isinstance(children[first], nn.Conv2d) and isinstance(children[second], nn.BatchNorm2d):
                yield parent, first, second


def _numbered(names: list[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        norm = name.replace("conv", "bn", 1)
        if name.startswith("conv") and norm in names:
            yield name, norm


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    if norm.running_var is None or norm.running_mean is None:
        raise TypeError("a normalisation without running statistics cannot be folded")
    return norm.running_var, norm.running_mean
