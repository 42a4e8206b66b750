"""The two sides of a vocabulary: words as vectors, and vectors as scores of words."""

import torch
from torch import Tensor, nn
from torch.nn import functional


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
    def grow(self, size: int) -> None:
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
