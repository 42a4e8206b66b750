"""Show and Tell: an LSTM whose first input is the projected image (Vinyals et al. 2015; im2txt)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from captionloop.captioner.decoders.base import (
    Decoder,
    PackedCaptions,
    State,
    Step,
    TeacherForcingOutput,
    WordEmbedding,
    per_row,
)
from captionloop.captioner.model_config import ShowAndTellConfig


@dataclass(frozen=True)
class ShowAndTellState(State):
    """The state of the recurrent layers L: float `[N, L, H]` each."""

    hidden: Tensor = per_row()  # noqa: RUF009
    cell: Tensor = per_row()  # noqa: RUF009


class ShowAndTell(Decoder):
    """x_-1 = CNN(I); x_t = W_e S_t; p_t+1 = LSTM(x_t): equations 10 to 12. The CNN's features are the grid's
    mean.
    """

    attends = False
    config: ShowAndTellConfig

    def __init__(self, config: ShowAndTellConfig, vocabulary_size: int, channels: int) -> None:
        super().__init__()
        self.config, self.vocabulary_size, self.channels = config, vocabulary_size, channels
        self.feature_dropout = nn.Dropout(config.feature_dropout)
        self.image = nn.Linear(channels, config.embedding)
        self.words = WordEmbedding(vocabulary_size, config.embedding, tied=config.tied)
        self.dropout = nn.Dropout(config.dropout)
        between = config.dropout if config.layers > 1 else 0.0
        self.lstm = nn.LSTM(
            config.embedding, config.hidden, num_layers=config.layers, dropout=between, batch_first=True
        )
        self.output = (
            nn.Linear(config.hidden, config.embedding) if config.hidden != config.embedding else None
        )

    def begin(self, features: Tensor) -> ShowAndTellState:
        """The state before the first word."""
        _, (hidden, cell) = self.lstm(self._image_as_word(features)[:, None])
        return ShowAndTellState(hidden=hidden.transpose(0, 1), cell=cell.transpose(0, 1))

    def step(self, tokens: Tensor, state: ShowAndTellState) -> Step:
        """One word further."""
        before = (state.hidden.transpose(0, 1).contiguous(), state.cell.transpose(0, 1).contiguous())
        outputs, (hidden, cell) = self.lstm(self.words(tokens)[:, None].to(before[0].dtype), before)
        log_probs = self._logits(outputs[:, 0]).float().log_softmax(-1)
        state = ShowAndTellState(hidden=hidden.transpose(0, 1), cell=cell.transpose(0, 1))
        return Step(log_probs, state, None)

    def forward(self, features: Tensor, captions: PackedCaptions) -> TeacherForcingOutput:
        """Teacher forcing."""
        _, before = self.lstm(self._image_as_word(features)[:, None])
        rows = (before[0].index_select(1, captions.image), before[1].index_select(1, captions.image))
        inputs = self.dropout(self.words(captions.inputs)).to(rows[0].dtype)
        running = torch.tensor(captions.batch_sizes)
        outputs, _ = self.lstm(PackedSequence(inputs, running), rows)
        return TeacherForcingOutput(self._logits(outputs.data), None)

    def extend_vocabulary(self, vocabulary_size: int) -> None:
        """Make room for new words."""
        self.words.extend_vocabulary(vocabulary_size)
        self.vocabulary_size = vocabulary_size

    def _image_as_word(self, features: Tensor) -> Tensor:
        image: Tensor = self.image(self.feature_dropout(features.mean(1)))  # [B, C] -> [B, E]
        return image

    def _logits(self, hidden: Tensor) -> Tensor:
        hidden = self.dropout(hidden)
        return self.words.logits(hidden if self.output is None else self.output(hidden))
