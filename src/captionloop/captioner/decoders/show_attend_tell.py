"""Show, Attend and Tell: soft attention over the grid at every word (Xu et al. 2015).

The three linear maps of the hidden state (attention query, gate, recurrence) are one matrix product; the
words' part of the LSTM's input, and the output layer, are done for all positions at once, outside the loop
over steps.

The keys (the part of the score that depends on the image alone) are projected once per image and shared by
all its hypotheses or captions. `AdditiveAttention` is that of Bahdanau et al. 2015 and of Xu et al. 2015
(f_att in equation 4); `DotAttention` that of Luong et al. 2015, scaled, which needs no pass over rows x
regions x size and is several times faster on a CPU.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captionloop.captioner.decoders.base import (
    Decoder,
    PackedCaptions,
    RecurrentLinear,
    State,
    Step,
    TeacherForcingOutput,
    WordEmbedding,
    per_image,
    per_row,
)
from captionloop.captioner.model_config import AttentionKind, ShowAttendTellConfig

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

    def add(self, image: Tensor, gradient: Tensor) -> None:
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
        ctx.gradient.add(image, slope)
        return slope.sum(1) * weight, None, d_weight, None, None


def build_attention(kind: AttentionKind, channels: int, size: int) -> AdditiveAttention | DotAttention:
    """Additive or dot-product attention over features of `channels`, with keys of `size`."""
    return AdditiveAttention(channels, size) if kind == "additive" else DotAttention(channels, size)


@dataclass(frozen=True)
class ShowAttendTellState(State):
    """Annotation vectors `[B, R, C]`, their keys `[B, R, A]`; hidden and cell state `[N, H]`."""

    values: Tensor = per_image()  # noqa: RUF009
    keys: Tensor = per_image()  # noqa: RUF009
    hidden: Tensor = per_row()  # noqa: RUF009
    cell: Tensor = per_row()  # noqa: RUF009


class ShowAttendTell(Decoder):
    """Soft attention with the gating scalar beta (section 4.2.1) and the deep output layer (equation 7)."""

    attends = True
    config: ShowAttendTellConfig

    def __init__(self, config: ShowAttendTellConfig, vocabulary_size: int, channels: int) -> None:
        super().__init__()
        self.config, self.vocabulary_size, self.channels = config, vocabulary_size, channels
        hidden, size = config.hidden, config.feature_size or channels
        self.feature_dropout = nn.Dropout(config.feature_dropout)
        self.project = None
        if config.feature_size is not None:
            self.project = nn.Sequential(nn.Linear(channels, size), nn.LayerNorm(size), nn.ReLU())
        self.attention = build_attention(config.attention, size, config.attention_size)
        self.initial = nn.Linear(size, 2 * hidden)
        self.words = WordEmbedding(vocabulary_size, config.embedding, tied=config.tied)
        self.from_word = nn.Linear(config.embedding, 4 * hidden)
        self.from_hidden = nn.Linear(hidden, config.attention_size + 1 + 4 * hidden)
        self.from_context = nn.Linear(size, 4 * hidden, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        self.output_hidden = nn.Linear(hidden, config.embedding)
        self.output_context = nn.Linear(size, config.embedding, bias=False)
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Recurrent weights orthogonal, and the forget gate open, so that memory lasts from the start."""
        hidden = self.config.hidden
        recurrent = self.from_hidden.weight[self.config.attention_size + 1 :]
        for gate in range(4):
            nn.init.orthogonal_(recurrent[gate * hidden : (gate + 1) * hidden])
        self.from_word.bias[hidden : 2 * hidden].add_(1)

    def begin(self, features: Tensor) -> ShowAttendTellState:
        """The state before the first word."""
        values = self._values(features)  # [B, R, C]
        hidden, cell = self.initial(values.mean(1)).tanh().float().chunk(2, -1)
        keys = self.attention.project(values)
        return ShowAttendTellState(values=values, keys=keys, hidden=hidden, cell=cell)

    def step(self, tokens: Tensor, state: ShowAttendTellState) -> Step:
        """One word further."""
        images, rows = state.keys.shape[0], tokens.shape[0]
        word = self.words(tokens)
        query, gate, recurrent = self._split(self.from_hidden(state.hidden))
        scores = self.attention.scores(query.view(images, rows // images, -1), state.keys)
        attention = scores.softmax(-1)  # [B, K, R]
        context = attention.to(state.values.dtype) @ state.values  # [B, K, C]
        context = gate.sigmoid() * context.flatten(0, 1)
        gates = self.from_word(word) + recurrent + self.from_context(context)
        hidden, cell = _lstm_cell(gates, state.cell)
        log_probs = self._logits(word, hidden, context).float().log_softmax(-1)
        state = ShowAttendTellState(values=state.values, keys=state.keys, hidden=hidden, cell=cell)
        return Step(log_probs, state, attention.flatten(0, 1))

    def forward(self, features: Tensor, captions: PackedCaptions) -> TeacherForcingOutput:
        """Teacher forcing."""
        start = self.begin(features)
        values, scores = start.values, self.attention.over_time(start.keys, captions)
        from_hidden, from_context = RecurrentLinear(self.from_hidden), RecurrentLinear(self.from_context)
        hidden, cell = start.hidden[captions.image], start.cell[captions.image]
        words = self.dropout(self.words(captions.inputs))  # [M, E]
        from_words = self.from_word(words).split(captions.batch_sizes)
        hiddens, contexts, attended = [], [], []
        for from_word in from_words:
            running = from_word.shape[0]
            query, gate, recurrent = self._split(from_hidden(hidden[:running]))
            attention = scores(query).softmax(-1)  # [n, R]
            context = captions.per_image(attention).to(values.dtype) @ values  # [P, K, C]
            context = gate.sigmoid() * captions.per_row(context, running)
            hidden, cell = _lstm_cell(from_word + recurrent + from_context(context), cell[:running])
            hiddens.append(hidden)
            contexts.append(context)
            attended.append(attention)
        attention_sum = captions.padded(torch.cat(attended)).sum(1)  # [N, R]
        attention_penalty = (1 - attention_sum).square().sum(-1).mean()
        return TeacherForcingOutput(
            self._logits(words, torch.cat(hiddens), torch.cat(contexts)), attention_penalty
        )

    def extend_vocabulary(self, vocabulary_size: int) -> None:
        """Make room for new words."""
        self.words.extend_vocabulary(vocabulary_size)
        self.vocabulary_size = vocabulary_size

    def _values(self, features: Tensor) -> Tensor:
        """The annotation vectors a_i: the grid, or its projection."""
        if self.config.feature_dropout and self.training:
            kept = self.feature_dropout(features.new_ones(features.shape[0], 1, features.shape[2]))
            features = features * kept
        if self.project is None:
            return (
                features.to(torch.get_autocast_dtype(features.device.type))
                if _autocast(features)
                else features
            )
        projected: Tensor = self.project(features)
        return projected

    def _split(self, mapped: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The attention's query, the logit of the gate beta, and the recurrent part of the LSTM's gates."""
        sizes = [self.config.attention_size, 1, 4 * self.config.hidden]
        query, gate, recurrent = torch.split(mapped, sizes, -1)
        return query, gate, recurrent

    def _logits(self, word: Tensor, hidden: Tensor, context: Tensor) -> Tensor:
        """Equation 7: L_o (E y_t-1 + L_h h_t + L_z z_t)."""
        deep = word + self.output_hidden(self.dropout(hidden)) + self.output_context(context)
        return self.words.logits(self.dropout(deep))


def _autocast(tensor: Tensor) -> bool:
    return torch.is_autocast_enabled(tensor.device.type)


def _lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Equations 1 to 3 from the summed gates `[n, 4H]` (input, forget, candidate, output) and the cell `[n,
    H]`.
    """
    insert, forget, candidate, emit = gates.float().chunk(4, -1)
    cell = forget.sigmoid() * cell + insert.sigmoid() * candidate.tanh()
    return emit.sigmoid() * cell.tanh(), cell
