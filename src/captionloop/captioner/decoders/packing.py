"""Captions of several images laid out for teacher forcing without work on padding.

Rows are sorted by length, longest first, so that the rows that are still running at step t are a prefix. The
positions of all rows, step after step, make the *packed* order of `torch.nn.utils.rnn.PackedSequence`: first
the first words of all rows, then the second words of those that have one, and so on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from captionloop.language.tokenizer import CaptionTokenizer

BOS, EOS, PAD = CaptionTokenizer.BOS, CaptionTokenizer.EOS, CaptionTokenizer.PAD


@dataclass(frozen=True)
class PackedCaptions:
    """`rows` captions (N) of `images` images (P), at most `captions_per_image` (K) each; M positions
    altogether.

    The end token is a position like any other: a caption of n words has n + 1.
    """

    images: int
    captions_per_image: int
    batch_sizes: tuple[int, ...]  # rows that are running at each step; sums to M
    inputs: Tensor  # int64 [M]: BOS, then the words
    targets: Tensor  # int64 [M]: the words, then EOS
    row: Tensor  # int64 [M]: the row of a position
    time: Tensor  # int64 [M]: its step
    image: Tensor  # int64 [N]: the image of a row
    slot: Tensor  # int64 [N]: image * K + the row's number among the rows of its image
    weight: Tensor  # float [N]
    order: Tensor  # int64 [N]: which of the captions given became this row
    cut: Tensor  # bool [N]: whether the row was cut short, so that its end is nobody's choice

    @classmethod
    def pack(
        cls,
        captions: Sequence[Sequence[int]],
        image: Sequence[int],
        weight: Sequence[float] | None = None,
        *,
        images: int | None = None,
        cut: Sequence[bool] | None = None,
    ) -> Self:
        """Lay out token ids (without BOS and EOS); `image[i]` says which image caption i is of.

        `cut[i]`: caption i was cut at the greatest length, and did not end by itself; None: no caption was.
        """
        lengths = torch.tensor([len(caption) + 1 for caption in captions])
        order = torch.argsort(lengths, descending=True, stable=True)
        lengths = lengths[order]
        steps = int(lengths[0])
        words = torch.full((len(captions), steps + 1), PAD)
        for row, caption in enumerate(order.tolist()):
            words[row, : lengths[row] + 1] = torch.tensor([BOS, *captions[caption], EOS])
        running = torch.arange(steps)[:, None] < lengths[None, :]  # [T, N]
        time, row_of = running.nonzero(as_tuple=True)
        owner = torch.tensor(list(image))[order]
        number = _number_within(owner)
        per_image = int(number.max()) + 1
        return cls(
            images=images if images is not None else int(owner.max()) + 1,
            captions_per_image=per_image,
            batch_sizes=tuple(running.sum(1).tolist()),
            inputs=words[row_of, time],
            targets=words[row_of, time + 1],
            row=row_of,
            time=time,
            image=owner,
            slot=owner * per_image + number,
            weight=torch.ones(len(captions)) if weight is None else torch.tensor(list(weight))[order],
            order=order,
            cut=torch.zeros(len(captions), dtype=torch.bool)
            if cut is None
            else torch.tensor(list(cut))[order],
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same on another device."""
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=non_blocking)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)

    @property
    def rows(self) -> int:
        """How many captions there are (N)."""
        return self.batch_sizes[0]

    @property
    def chosen(self) -> Tensor:
        """Float [M]: 0 at the end token of a caption that was cut, which has no part in any loss, else 1."""
        return (~(self.cut[self.row] & (self.targets == EOS))).float()

    @property
    def mass(self) -> Tensor:
        """Float []: what all tokens weigh that were chosen."""
        return (self.weight[self.row] * self.chosen).sum()

    @property
    def steps(self) -> int:
        """How many steps the longest takes (T)."""
        return len(self.batch_sizes)

    def padded(self, packed: Tensor, fill: float = 0) -> Tensor:
        """`[M, ...]` as `[N, T, ...]`, with `fill` behind the end of each caption."""
        shape = (self.rows, self.steps, *packed.shape[1:])
        return packed.new_full(shape, fill).index_put((self.row, self.time), packed)

    def packed(self, padded: Tensor) -> Tensor:
        """`[N, T, ...]` as `[M, ...]`."""
        return padded[self.row, self.time]

    def per_image(self, rows: Tensor) -> Tensor:
        """`[n, ...]` of the n longest captions as `[P, K, ...]`, zero where there is none."""
        dense = rows.new_zeros(self.images * self.captions_per_image, *rows.shape[1:])
        dense = dense.index_copy(0, self.slot[: rows.shape[0]], rows)
        return dense.view(self.images, self.captions_per_image, *rows.shape[1:])

    def per_row(self, dense: Tensor, rows: int) -> Tensor:
        """`[P, K, ...]` as `[n, ...]` of the n longest captions: the inverse of `per_image`."""
        return dense.flatten(0, 1).index_select(0, self.slot[:rows])


def _number_within(owner: Tensor) -> Tensor:
    """For each entry, how many entries with the same owner stand before it."""
    order = torch.argsort(owner, stable=True)
    counts = torch.bincount(owner)
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    number = torch.empty_like(owner)
    number[order] = torch.arange(len(owner)) - starts
    return number
