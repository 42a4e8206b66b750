"""A small Transformer decoder over the grid (Vaswani et al. 2017), normalising before each sub-layer.

The keys and values of the grid are made once per image, those of the words said so far once per word: `step`
costs one position, not the whole caption again.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from captionloop.captioner.decoders.base import (
    Decoder,
    PackedCaptions,
    State,
    Step,
    TeacherForcingOutput,
    WordEmbedding,
    per_image,
    per_row,
)
from captionloop.captioner.model_config import TransformerConfig


@dataclass(frozen=True)
class TransformerState(State):
    """Keys and values of L layers with H heads of size d: of the grid `[B, L, H, R, d]`, of t words `[N, L,
    H, t, d]`.
    """

    grid_keys: Tensor = per_image()  # noqa: RUF009
    grid_values: Tensor = per_image()  # noqa: RUF009
    word_keys: Tensor = per_row()  # noqa: RUF009
    word_values: Tensor = per_row()  # noqa: RUF009


class _Layer(nn.Module):
    """Self-attention over the words so far, attention over the grid, feed-forward."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width, self.heads, self.rate = config.width, config.heads, config.dropout
        self.before_words, self.before_grid, self.before_mlp = (nn.LayerNorm(width) for _ in range(3))
        self.words_in, self.words_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.grid_in, self.grid_out = nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.grid_query = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, config.feedforward),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.feedforward, width),
        )
        self.dropout = nn.Dropout(config.dropout)

    def split(self, mapped: Tensor) -> Tensor:
        """`[A, T, width]` -> `[A, heads, T, width / heads]`."""
        return mapped.view(*mapped.shape[:2], self.heads, -1).transpose(1, 2)

    def keys_values(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the grid: `[B, R, width]` -> twice `[B, heads, R, d]`."""
        keys, contents = self.grid_in(values).chunk(2, -1)
        return self.split(keys), self.split(contents)

    def word_projections(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the words: `[A, T, width]` -> three times `[A, heads, T, d]`."""
        query, keys, values = self.words_in(self.before_words(x)).chunk(3, -1)
        return self.split(query), self.split(keys), self.split(values)

    def add_residual(self, x: Tensor, mixed: Tensor, out: nn.Linear) -> Tensor:
        """The residual connection around an attention: `mixed` is `[A, heads, T, d]`, `x` `[A, T, width]`."""
        added: Tensor = x + self.dropout(out(mixed.transpose(1, 2).flatten(2)))
        return added

    def query_of_grid(self, x: Tensor) -> Tensor:
        """The query for the grid: `[A, T, width]` -> `[A, heads, T, d]`."""
        return self.split(self.grid_query(self.before_grid(x)))

    def feed_forward(self, x: Tensor) -> Tensor:
        """The feed-forward sub-layer."""
        output: Tensor = x + self.dropout(self.mlp(self.before_mlp(x)))
        return output


class Transformer(Decoder):
    """A causal language model over words that attends to the grid in every layer."""

    attends = True
    config: TransformerConfig

    def __init__(self, config: TransformerConfig, vocabulary_size: int, channels: int) -> None:
        super().__init__()
        self.config, self.vocabulary_size, self.channels = config, vocabulary_size, channels
        self.feature_dropout = nn.Dropout(config.feature_dropout)
        self.project = nn.Sequential(nn.Linear(channels, config.width), nn.LayerNorm(config.width))
        self.words = WordEmbedding(vocabulary_size, config.width, tied=config.tied)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.last = nn.LayerNorm(config.width)

    def begin(self, features: Tensor) -> TransformerState:
        """The state before the first word."""
        values = self._values(features)
        grid = [layer.keys_values(values) for layer in self._layers]
        keys = torch.stack([keys for keys, _ in grid], 1)  # [B, L, H, R, d]
        contents = torch.stack([contents for _, contents in grid], 1)
        none = keys[:, :, :, :0]
        return TransformerState(grid_keys=keys, grid_values=contents, word_keys=none, word_values=none)

    def step(self, tokens: Tensor, state: TransformerState) -> Step:
        """One word further."""
        images, rows, position = state.grid_keys.shape[0], tokens.shape[0], state.word_keys.shape[3]
        x = self._embed(tokens[:, None], position)  # [N, 1, width]
        all_keys, all_values = [], []
        for number, layer in enumerate(self._layers):
            query, key, value = layer.word_projections(x)
            keys = torch.cat([state.word_keys[:, number], key], 2)
            values = torch.cat([state.word_values[:, number], value], 2)
            x = layer.add_residual(
                x, functional.scaled_dot_product_attention(query, keys, values), layer.words_out
            )
            # Hypotheses of one image are so many queries to its one grid: [B, H, K, d].
            grid_query = layer.query_of_grid(x).view(images, rows // images, layer.heads, -1).transpose(1, 2)
            scores = (
                grid_query @ state.grid_keys[:, number].transpose(-1, -2) / math.sqrt(grid_query.shape[-1])
            )
            attention = scores.float().softmax(-1)  # [B, H, K, R]
            mixed = attention.to(grid_query.dtype) @ state.grid_values[:, number]
            x = layer.add_residual(x, mixed.transpose(1, 2).flatten(0, 1)[:, :, None], layer.grid_out)
            x = layer.feed_forward(x)
            all_keys.append(keys)
            all_values.append(values)
        log_probs = self.words.logits(self.last(x[:, 0])).float().log_softmax(-1)
        state = TransformerState(
            grid_keys=state.grid_keys,
            grid_values=state.grid_values,
            word_keys=torch.stack(all_keys, 1),
            word_values=torch.stack(all_values, 1),
        )
        return Step(log_probs, state, attention.mean(1).flatten(0, 1))

    def forward(self, features: Tensor, captions: PackedCaptions) -> TeacherForcingOutput:
        """Teacher forcing."""
        values = self._values(features)
        x = self._embed(captions.padded(captions.inputs), 0)  # [N, T, width]
        rate = self.config.dropout if self.training else 0.0
        attend = functional.scaled_dot_product_attention
        for layer in self._layers:
            query, keys, contents = layer.word_projections(x)
            mixed = attend(query, keys, contents, dropout_p=rate, is_causal=True)
            x = layer.add_residual(x, mixed, layer.words_out)
            grid_query = captions.per_image(layer.query_of_grid(x).transpose(1, 2))  # [P, K, T, H, d]
            grid_query = grid_query.flatten(1, 2).transpose(1, 2)  # [P, H, K * T, d]
            mixed = attend(grid_query, *layer.keys_values(values), dropout_p=rate).transpose(1, 2)
            mixed = mixed.reshape(captions.images, -1, captions.steps, *mixed.shape[2:])
            mixed = captions.per_row(mixed, captions.rows)
            x = layer.add_residual(x, mixed.transpose(1, 2), layer.grid_out)
            x = layer.feed_forward(x)
        return TeacherForcingOutput(self.words.logits(self.dropout(self.last(captions.packed(x)))), None)

    def extend_vocabulary(self, vocabulary_size: int) -> None:
        """Make room for new words."""
        self.words.extend_vocabulary(vocabulary_size)
        self.vocabulary_size = vocabulary_size

    @property
    def _layers(self) -> list[_Layer]:
        return list(self.layers)  # type: ignore[arg-type]

    def _values(self, features: Tensor) -> Tensor:
        if self.config.feature_dropout and self.training:
            kept = self.feature_dropout(features.new_ones(features.shape[0], 1, features.shape[2]))
            features = features * kept
        projected: Tensor = self.project(features)
        return projected

    def _embed(self, tokens: Tensor, position: int) -> Tensor:
        """Word vectors with their places: int64 `[A, T]` -> `[A, T, width]`."""
        width = self.config.width
        vectors = self.words(tokens) * math.sqrt(width)
        embedded: Tensor = self.dropout(vectors + _places(position, tokens.shape[1], width, vectors.device))
        return embedded


def _places(start: int, count: int, width: int, device: torch.device) -> Tensor:
    """Sinusoidal positions `[count, width]`: section 3.5 of Vaswani et al. 2017."""
    place = torch.arange(start, start + count, device=device)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10000.0) / width))
    return torch.cat([(place * rate).sin(), (place * rate).cos()], -1)
