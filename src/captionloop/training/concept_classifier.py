"""An encoder with a classifier of visual concepts on top, its batch normalisation folded in or trained.

Few photos make poor batch statistics, and normalising costs more time on a CPU than convolving. So statistics
and scales stay as they were, a convolution takes them into its weights, and what is learnt is the
convolution's own weights and the normalisation's shift.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from captionloop.images import Pixels
from captionloop.training.training_parameters import AdaptationParameters
from captionloop.vision.architectures import is_of_timm
from captionloop.vision.encoder import Encoder
from captionloop.vision.runtimes import EncoderRuntime, make_runtime


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
        """The convolution and the normalisation it was made from, with the trained weights."""
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


def fix_scales(module: nn.Module) -> None:
    """Fixes the scales of batch normalisations, in place: what folding does to the layers of torchvision.

    timm's cannot be folded: some of its normalisations hold an activation, others stand before convolutions.
    """
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.affine:
            norm.weight.requires_grad = False


def unfold_norms(module: nn.Module) -> None:
    """Undoes `fold_norms`, keeping the trained weights."""
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


_SHARPNESS = 2.0


class ConceptModel(nn.Module):
    """The layers of an encoder that learn, and a linear classifier of their features.

    `base_rates` `[concepts]`, how often each is mentioned, is what the classifier says at first.
    """

    def __init__(
        self, encoder: Encoder, base_rates: NDArray[np.float32], parameters: AdaptationParameters
    ) -> None:
        super().__init__()
        self.body = encoder.trainable_layers(parameters.frozen)
        self._fixed = parameters.batch_norm == "frozen"
        if self._fixed and is_of_timm(encoder.spec.architecture):
            fix_scales(self.body)
        elif self._fixed:
            fold_norms(self.body)
        self._some = parameters.pooling == "log_sum_exp"
        self.dropout = nn.Dropout(parameters.dropout)
        self.head = nn.Linear(encoder.channels, len(base_rates))
        rates = torch.from_numpy(base_rates).clamp(1e-4, 0.99)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(parameters.seed)
            self.head.weight.normal_(std=0.01)
            self.head.bias.copy_(torch.log(rates / (1 - rates)))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images, or what the frozen layers gave, `[B, C, h, w]` to logits `[B, concepts]`."""
        regions = self.body(images).flatten(2).transpose(1, 2)  # [B, R, C]
        if not self._some:
            logits: Tensor = self.head(self.dropout(regions.float().mean(1)))
            return logits
        local = self.head(self.dropout(regions)).float()  # [B, R, concepts]
        return (torch.logsumexp(_SHARPNESS * local, 1) - math.log(local.shape[1])) / _SHARPNESS

    def train(self, mode: bool = True) -> "ConceptModel":
        """Normalisations that are fixed stay in evaluation mode."""
        super().train(mode)
        if self._fixed:
            for module in self.body.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def assemble(self, encoder: Encoder) -> Encoder:
        """The encoder with the trained layers. Do not use the model afterwards."""
        if self._fixed:
            unfold_norms(self.body)
        return encoder.with_trained_layers(self.body)


class FrozenLayers:
    """What comes before the layers that learn: normalisation, and the layers that stay as they are."""

    def __init__(self, encoder: Encoder, layer: str | None) -> None:
        self._runtime: EncoderRuntime | None = None
        if layer is not None and not is_of_timm(encoder.spec.architecture):
            self._stem = encoder.respecified(layer=layer)
            self._runtime = make_runtime(self._stem, purpose="throughput")
        fed = encoder.spec.preprocessing
        deviation = torch.tensor(fed.deviation)
        self._scale, self._shift = 1 / (255 * deviation), -torch.tensor(fed.mean) / deviation

    def __call__(self, pixels: Pixels) -> Tensor:
        """Pixels uint8 `[B, S, S, 3]` to the layers' input `[B, C, h, w]`, channels last in memory."""
        if self._runtime is None:
            count, rows, columns, _ = pixels.shape
            # A row of pixels at a time: of three channels alone a vector unit has little use.
            lines = torch.from_numpy(pixels).view(count, rows, -1).float()
            images = torch.addcmul(self._shift.repeat(columns), lines, self._scale.repeat(columns))
            return images.view(pixels.shape).permute(0, 3, 1, 2)
        grid = torch.from_numpy(self._runtime.encode(pixels)).float()  # [B, h * w, C]
        return grid.view(len(grid), self._stem.rows, self._stem.columns, -1).permute(0, 3, 1, 2)
