"""The interface of decoders and what they share: word embedding, packed captions, linear layers over time.

Autograd would make a gradient as large as the weight at every step, from a product with as few rows as there
are captions, and add it to the sum so far: most of the time that training a recurrent decoder takes on a CPU.
Here every step keeps its input and the gradient of its output, and after the last step one product gives the
gradient of all of them.

Rows are sorted by length, longest first, so that the rows that are still running at step t are a prefix. The
positions of all rows, step after step, make the *packed* order of `torch.nn.utils.rnn.PackedSequence`: first
the first words of all rows, then the second words of those that have one, and so on.

Greedy decoding, beam search and sampling are written once over `begin` and `step` (captioner/decoding.py),
training once over `forward`. Whatever depends on the image alone is computed once, in `begin`, and shared by
all hypotheses about it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from captionloop.captioner.model_config import DecoderConfig
from captionloop.tokenizer import CaptionTokenizer


class WordEmbedding(nn.Module):
    """Word vectors `[V, E]` at the input and, when `tied`, at the output too (Press and Wolf 2017)."""

    def __init__(self, vocabulary_size: int, size: int, *, tied: bool) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.empty(vocabulary_size, size).uniform_(-0.1, 0.1))
        self.scores = None if tied else nn.Parameter(torch.empty(vocabulary_size, size).uniform_(-0.1, 0.1))
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))

    def forward(self, tokens: Tensor) -> Tensor:
        """int64 `[...]` -> `[..., E]`."""
        return functional.embedding(tokens, self.vectors)

    def logits(self, outputs: Tensor) -> Tensor:
        """`[..., E]` -> a score for every word `[..., V]`."""
        return functional.linear(outputs, self.vectors if self.scores is None else self.scores, self.bias)

    @torch.no_grad()
    def extend_vocabulary(self, size: int) -> None:
        """`size` words, the new ones starting as the average word, and as unlikely as the rarest."""
        new = size - len(self.bias)
        if new <= 0:
            return
        self.vectors = _extended(self.vectors, self.vectors[4:].mean(0).expand(new, -1))
        if self.scores is not None:
            self.scores = _extended(self.scores, self.scores[4:].mean(0).expand(new, -1))
        self.bias = _extended(self.bias, self.bias[4:].min().expand(new))


def _extended(old: nn.Parameter, rows: Tensor) -> nn.Parameter:
    return nn.Parameter(torch.cat([old, rows]).contiguous(), requires_grad=old.requires_grad)


class RecurrentLinear:
    """A linear layer during one pass of teacher forcing; make a new one for every pass."""

    def __init__(self, layer: nn.Linear) -> None:
        kind = layer.weight.device.type
        self._accumulator = _GradientAccumulator(kind)
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else layer.weight.dtype
        bias = layer.bias if layer.bias is not None else layer.weight.new_zeros(layer.out_features)
        self._weight, self._bias = _Collect.apply(layer.weight, bias, dtype, self._accumulator)

    def __call__(self, inputs: Tensor) -> Tensor:
        """`[n, in]` -> `[n, out]`."""
        output: Tensor = _Step.apply(inputs, self._weight, self._bias, self._accumulator)
        return output


class _GradientAccumulator:
    """Inputs and gradients of the steps so far.

    The graph holds them, so they must not hold a tensor of the graph: that circle would never be freed.
    """

    def __init__(self, device_type: str) -> None:
        self.device_type = device_type
        self._inputs: list[Tensor] = []
        self._gradients: list[Tensor] = []

    def add(self, inputs: Tensor, gradient: Tensor) -> None:
        """What one step contributes to the gradient."""
        self._inputs.append(inputs)
        self._gradients.append(gradient)

    def collect(self) -> tuple[Tensor, Tensor]:
        """The gradients of weight and bias; what was kept is dropped."""
        inputs, gradients = torch.cat(self._inputs), torch.cat(self._gradients)
        self._inputs.clear()
        self._gradients.clear()
        return (gradients.T @ inputs).float(), gradients.float().sum(0)


class _Collect(torch.autograd.Function):
    """Hands the weight to the steps; its backward runs once, after those of all of them."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, dtype: torch.dtype, accumulator: _GradientAccumulator
    ) -> tuple[Tensor, Tensor]:
        ctx.accumulator = accumulator
        ctx.set_materialize_grads(False)
        return weight.to(dtype, copy=True), bias.to(dtype, copy=True)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[Tensor, Tensor, None, None]:
        with torch.autocast(ctx.accumulator.device_type, enabled=False):
            return *ctx.accumulator.collect(), None, None


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, accumulator: _GradientAccumulator
    ) -> Tensor:
        ctx.accumulator, ctx.dtype = accumulator, inputs.dtype
        inputs = inputs.to(weight.dtype)
        ctx.save_for_backward(inputs, weight)
        return functional.linear(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = gradients
        inputs, weight = ctx.saved_tensors
        ctx.accumulator.add(inputs, gradient)
        return (gradient @ weight).to(ctx.dtype), None, None, None


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


def per_image() -> Any:
    """A field of a `State` whose first axis is images: what was computed once for each image."""
    return field(metadata={"level": "image"})


def per_row() -> Any:
    """A field of a `State` whose first axis is rows: hypotheses, those about one image next to each other."""
    return field(metadata={"level": "row"})


@dataclass(frozen=True)
class State:
    """What a decoder keeps between two words: tensors, `per_image` ([B, ...]) or `per_row` ([N, ...])."""

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
    """One word further: log P(next word) `[N, V]`, the state after it, and attention `[N, R]` or None."""

    log_probs: Tensor
    state: Any
    attention: Tensor | None


class TeacherForcingOutput(NamedTuple):
    """The result of teacher forcing: `logits` `[M, V]` in packed order, and a penalty of the attention.

    `attention_penalty` is the mean over rows of sum_i (1 - sum_t alpha_ti)^2, the doubly stochastic
    regularisation of Xu et al. 2015, equation 14; None for decoders that it does not apply to.
    """

    logits: Tensor
    attention_penalty: Tensor | None


class Decoder(nn.Module, ABC):
    """A model of captions given a grid of features `[B, regions, channels]`."""

    attends: bool  # whether it attends to the grid, or takes its mean only
    family: str = "trained"  # of captioners, by which a bundle keeps its parts: captioner/families.py
    prepackable: bool = True  # whether its linear layers may be packed for searching: captioner/decoding.py
    config: DecoderConfig
    vocabulary_size: int
    channels: int

    @abstractmethod
    def begin(self, features: Tensor) -> Any:
        """The state before the first word: one row per image. `features`: float `[B, R, C]`."""

    @abstractmethod
    def step(self, tokens: Tensor, state: Any) -> Step:
        """Feed the last token of each row (BOS at first): int64 `[N]`, a multiple of the images B."""

    @abstractmethod
    def forward(self, features: Tensor, captions: PackedCaptions) -> TeacherForcingOutput:
        """Teacher forcing: the scores of every next word, given the true words before it.

        `features`: float `[P, R, C]`; `captions` may be several of each image, which then shares its keys.
        """

    @abstractmethod
    def extend_vocabulary(self, vocabulary_size: int) -> None:
        """Make room for new words behind the old ones, whose rows stay as they are."""
