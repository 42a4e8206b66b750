"""An encoder with a classifier of visual concepts on top, and the encoder without it again."""

import copy
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captionloop.images import Pixels
from captionloop.vision.encoder import IMAGENET_DEVIATION, IMAGENET_MEAN, Encoder
from captionloop.vision.fixed_norms import fold_norms, unfold_norms
from captionloop.vision.parameters import AdaptationParameters
from captionloop.vision.runtimes import EncoderRuntime, make_runtime
from captionloop.vision.trunks import divide

_SHARPNESS = 2.0


class ConceptModel(nn.Module):
    """The layers of an encoder that learn, and a linear classifier of their features.

    `base_rates` `[concepts]`, how often each is mentioned, is what the classifier says at first.
    """

    def __init__(
        self, encoder: Encoder, base_rates: NDArray[np.float32], parameters: AdaptationParameters
    ) -> None:
        super().__init__()
        trunk = copy.deepcopy(encoder.module.get_submodule("trunk"))
        self.body = divide(encoder.spec.architecture, trunk, parameters.frozen)  # type: ignore[arg-type]
        self._fixed = parameters.norms == "fixed"
        if self._fixed:
            fold_norms(self.body)
        self._some = parameters.pooling == "some"
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
        """The encoder with the layers that learnt. The model itself is no use afterwards."""
        if self._fixed:
            unfold_norms(self.body)
        return Encoder.build(encoder.spec, {**encoder.weights(), **self.body.cpu().state_dict()})


class FrozenLayers:
    """What comes before the layers that learn: normalisation, and the layers that stay as they are."""

    def __init__(self, encoder: Encoder, layer: str | None) -> None:
        self._runtime: EncoderRuntime | None = None
        if layer is not None:
            self._stem = encoder.respecified(layer=layer)
            self._runtime = make_runtime(self._stem, purpose="throughput")
        self._mean = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255
        self._deviation = torch.tensor(IMAGENET_DEVIATION).view(1, 3, 1, 1) * 255

    def __call__(self, pixels: Pixels) -> Tensor:
        """Pixels uint8 `[B, S, S, 3]` to the layers' input `[B, C, h, w]`, channels last in memory."""
        if self._runtime is None:
            images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
            return (images.float() - self._mean) / self._deviation
        grid = torch.from_numpy(self._runtime.encode(pixels)).float()  # [B, h * w, C]
        return grid.view(len(grid), self._stem.rows, self._stem.columns, -1).permute(0, 3, 1, 2)
