"""Show, Attend and Tell: soft attention over the grid at every word (Xu et al. 2015).

The three linear maps of the hidden state (attention query, gate, recurrence) are one matrix product; the
words' part of the LSTM's input, and the output layer, are done for all positions at once, outside the loop
over steps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from captionloop.captioner.architectures import ShowAttendTellConfig
from captionloop.captioner.decoders.attention import build_attention
from captionloop.captioner.decoders.base import Decoder, State, Step, Taught, per_image, per_row
from captionloop.captioner.decoders.packing import PackedCaptions
from captionloop.captioner.decoders.recurrent import RecurrentLinear
from captionloop.captioner.decoders.words import WordEmbedding


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

    def forward(self, features: Tensor, captions: PackedCaptions) -> Taught:
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
        spent = captions.padded(torch.cat(attended)).sum(1)  # [N, R]
        unattended = (1 - spent).square().sum(-1).mean()
        return Taught(self._logits(words, torch.cat(hiddens), torch.cat(contexts)), unattended)

    def grow(self, vocabulary_size: int) -> None:
        """Make room for new words."""
        self.words.grow(vocabulary_size)
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
