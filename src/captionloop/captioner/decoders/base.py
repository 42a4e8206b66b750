"""What every decoder can do: begin with an image, say how likely each next word is, and be taught.

Greedy decoding, beam search and sampling are written once over `begin` and `step` (captioner/decoding.py),
training once over `forward`. Whatever depends on the image alone is computed once, in `begin`, and shared by
all hypotheses about it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple, Self

from torch import Tensor, nn

from captionloop.captioner.architectures import DecoderConfig
from captionloop.captioner.decoders.packing import PackedCaptions


def per_image() -> Any:
    """A field of a `State` whose first axis is images: what was computed once for each image."""
    return field(metadata={"level": "image"})


def per_row() -> Any:
    """A field of a `State` whose first axis is rows: hypotheses, those about one image next to each other."""
    return field(metadata={"level": "row"})


@dataclass(frozen=True)
class State:
    """What a decoder knows between two words: tensors, `per_image` ([B, ...]) or `per_row` ([N, ...])."""

    def select(self, rows: Tensor, images: Tensor | None = None) -> Self:
        """The state of hypotheses `rows` (int64 [N']), in that order; `images` (int64 [B']) where images drop
        out.

        The rows selected must again lie image after image, equally many for each.
        """
        chosen = {}
        for item in fields(self):
            index = rows if item.metadata["level"] == "row" else images
            if index is not None:
                chosen[item.name] = getattr(self, item.name).index_select(0, index)
        return replace(self, **chosen)


class Step(NamedTuple):
    """One word further: log P(next word) `[N, V]`, the state after it, and where it looked `[N, R]` (or
    None).
    """

    log_probs: Tensor
    state: Any
    attention: Tensor | None


class Taught(NamedTuple):
    """What teacher forcing gives: `logits` `[M, V]` in packed order, and attention that was left over or
    overspent.

    `unattended` is the mean over rows of sum_i (1 - sum_t alpha_ti)^2, the doubly stochastic regularisation
    of Xu et al. 2015, equation 14; None for decoders that it does not apply to.
    """

    logits: Tensor
    unattended: Tensor | None


class Decoder(nn.Module, ABC):
    """A model of captions given a grid of features `[B, regions, channels]`."""

    attends: bool  # whether it looks at the grid, or at its mean only
    config: DecoderConfig
    vocabulary_size: int
    channels: int

    @abstractmethod
    def begin(self, features: Tensor) -> Any:
        """The state before the first word: one row per image. `features`: float `[B, R, C]`."""

    @abstractmethod
    def step(self, tokens: Tensor, state: Any) -> Step:
        """Feed the word that each row said last (BOS at first): int64 `[N]`, a multiple of the images B."""

    @abstractmethod
    def forward(self, features: Tensor, captions: PackedCaptions) -> Taught:
        """Teacher forcing: the scores of every next word, given the true words before it.

        `features`: float `[P, R, C]`; `captions` may be several of each image, which then shares its keys.
        """

    @abstractmethod
    def grow(self, vocabulary_size: int) -> None:
        """Make room for new words behind the old ones, whose rows stay as they are."""
