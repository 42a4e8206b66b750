"""Soft attention over the regions of an image: where to look, given what has been said.

The keys (the part of the score that depends on the image alone) are projected once per image and shared by
all its hypotheses or captions. `AdditiveAttention` is that of Bahdanau et al. 2015 and of Xu et al. 2015
(f_att in equation 4); `DotAttention` that of Luong et al. 2015, scaled, which needs no pass over rows x
regions x size and is several times faster on a CPU.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from captionloop.captioner.architectures import AttentionKind
from captionloop.captioner.decoders.packing import PackedCaptions

Scores = Callable[[Tensor], Tensor]


class AdditiveAttention(nn.Module):
    """e = w . tanh(U a + W h), equation 4 of Xu et al. 2015; the bias before tanh is part of the query."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.keys = nn.Linear(channels, size, bias=False)
        self.weight = nn.Parameter(torch.empty(size).uniform_(-1, 1) / math.sqrt(size))

    def project(self, values: Tensor) -> Tensor:
        """The keys of annotation vectors: `[B, R, C]` gives float32 `[B, R, A]`, which tanh is fastest in."""
        keys: Tensor = self.keys(values).float()
        return keys

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """Of all hypotheses of each image: `[B, K, A]` and `[B, R, A]` give `[B, K, R]`."""
        with torch.autocast(query.device.type, enabled=False):
            mixed = keys[:, None] + query.float()[:, :, None]  # [B, K, R, A]
            return mixed.tanh_() @ self.weight

    def over_time(self, keys: Tensor, captions: PackedCaptions) -> Scores:
        """For teacher forcing: of the n rows still running, `[n, A]` gives `[n, R]`; keys are `[P, R, A]`."""
        return _AdditiveOverTime(keys, self.weight, captions.image)


class DotAttention(nn.Module):
    """e = (U a) . (W h) / sqrt(A)."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.keys = nn.Linear(channels, size, bias=False)
        self.scale = 1 / math.sqrt(size)

    def project(self, values: Tensor) -> Tensor:
        """The keys of annotation vectors: `[B, R, C]` gives `[B, R, A]`."""
        keys: Tensor = self.keys(values)
        return keys

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """Of all hypotheses of each image: `[B, K, A]` and `[B, R, A]` give `[B, K, R]`."""
        return (query @ keys.transpose(1, 2).to(query.dtype)).float() * self.scale

    def over_time(self, keys: Tensor, captions: PackedCaptions) -> Scores:
        """For teacher forcing: of the n rows still running, `[n, A]` gives `[n, R]`; keys are `[P, R, A]`."""

        def scores(query: Tensor) -> Tensor:
            dense = self.scores(captions.per_image(query), keys)
            return captions.per_row(dense, query.shape[0])

        return scores


class _AdditiveOverTime:
    """w . tanh(keys[image] + query) at every step of teacher forcing, its gradient written out.

    It is bound by memory, not arithmetic, so its one large tensor (n x R x A, in float32: tanh in bfloat16 is
    slower) is made, kept and consumed once, and all steps add to one gradient of the keys. Autograd's own
    version goes over tensors of that size more than twice as often.
    """

    def __init__(self, keys: Tensor, weight: Tensor, image: Tensor) -> None:
        self._weight, self._image = weight, image
        self._gradient = _KeysGradient(keys.shape)
        self._keys: Tensor = _Keys.apply(keys, weight, self._gradient)

    def __call__(self, query: Tensor) -> Tensor:
        image = self._image[: query.shape[0]]
        with torch.autocast(query.device.type, enabled=False):
            scores: Tensor = _AdditiveScores.apply(
                query.float(), self._keys, self._weight, image, self._gradient
            )
        return scores


class _KeysGradient:
    """The sum of what the steps contribute to the gradient of the keys.

    The graph holds it, so it must not hold a tensor of the graph: that circle would never be freed.
    """

    def __init__(self, shape: torch.Size) -> None:
        self._shape = shape
        self._sum: Tensor | None = None

    def note(self, image: Tensor, gradient: Tensor) -> None:
        """What one step, `[n, R, A]`, contributes."""
        if self._sum is None:
            self._sum = gradient.new_zeros(self._shape)
        self._sum.index_add_(0, image, gradient)

    def collect(self) -> Tensor | None:
        """The gradient of the keys, but for the factor w; what was noted is forgotten."""
        gradient, self._sum = self._sum, None
        return gradient


class _Keys(torch.autograd.Function):
    """Hands the keys to the steps; its backward runs once, after those of all of them."""

    @staticmethod
    def forward(ctx: Any, keys: Tensor, weight: Tensor, gradient: _KeysGradient) -> Tensor:
        ctx.gradient = gradient
        ctx.save_for_backward(weight)
        ctx.set_materialize_grads(False)
        return keys.view_as(keys)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[Tensor | None, None, None]:
        gradient = ctx.gradient.collect()
        return None if gradient is None else gradient.mul_(*ctx.saved_tensors), None, None


class _AdditiveScores(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917
        ctx: Any, query: Tensor, keys: Tensor, weight: Tensor, image: Tensor, gradient: _KeysGradient
    ) -> Tensor:
        mixed = keys.index_select(0, image)  # [n, R, A]
        mixed.add_(query[:, None]).tanh_()
        ctx.save_for_backward(mixed, weight, image)
        ctx.gradient = gradient
        return mixed @ weight

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor, None, None]:
        (towards,) = gradients  # [n, R]
        mixed, weight, image = ctx.saved_tensors
        d_weight = towards.flatten() @ mixed.flatten(0, 1)
        slope = torch.addcmul(mixed.new_ones(()), mixed, mixed, value=-1)  # tanh' = 1 - tanh^2
        slope.mul_(towards[..., None])
        ctx.gradient.note(image, slope)
        return slope.sum(1) * weight, None, d_weight, None, None


def build_attention(kind: AttentionKind, channels: int, size: int) -> AdditiveAttention | DotAttention:
    """Additive or dot-product attention over features of `channels`, with keys of `size`."""
    return AdditiveAttention(channels, size) if kind == "additive" else DotAttention(channels, size)
