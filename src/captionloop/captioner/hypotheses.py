"""What decoding gives, and what it may not do whatever a model says."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captionloop.captioner.options import DecodingOptions
from captionloop.language.tokenizer import CaptionTokenizer

EOS: Final = CaptionTokenizer.EOS
NEVER_SAID: Final = [CaptionTokenizer.PAD, CaptionTokenizer.BOS, CaptionTokenizer.UNK]
FLOOR: Final = -1e4  # stands for log-probabilities that are no number, or minus infinity
DISCOURAGED: Final = -1e6  # added to what may be said only when nothing else is left


@dataclass(frozen=True)
class Hypothesis:
    """A caption in tokens.

    `tokens`: the L words, without begin and end. `token_log_probs` `[L + 1]`: log P of each, the end token
    last. `attention` `[L, R]`: where the decoder looked for each word, None where it does not attend.
    `score`: what hypotheses were ranked by.
    """

    tokens: tuple[int, ...]
    token_log_probs: NDArray[np.float32]
    attention: NDArray[np.float32] | None
    score: float

    @property
    def log_probability(self) -> float:
        """Log P(caption | image), the end token counted."""
        return float(self.token_log_probs.sum(dtype=np.float64))


def sound(log_probs: Tensor) -> Tensor:
    """Log-probabilities without NaN and infinities, so that a broken model still says something."""
    return torch.nan_to_num(log_probs, nan=FLOOR, posinf=FLOOR, neginf=FLOOR).clamp_(min=FLOOR)


def permitted(log_probs: Tensor, said: Tensor, options: DecodingOptions) -> Tensor:
    """How the next words `[N, V]` may be ranked after `said` (int64 `[N, t]`).

    Special tokens are never said; the end not before `min_length` words, and nothing else after `max_length`;
    what would repeat an n-gram only when nothing else is left. Changes `log_probs` in place and returns it.
    """
    length = said.shape[1]
    log_probs[:, NEVER_SAID] = -torch.inf
    if length < options.min_length:
        log_probs[:, EOS] = -torch.inf
    if length >= options.max_length:
        end = log_probs[:, EOS].clone()
        log_probs.fill_(-torch.inf)[:, EOS] = end
    elif options.no_repeat_ngram and length >= options.no_repeat_ngram:
        _discourage_repeats(log_probs, said, options.no_repeat_ngram)
    return log_probs


def _discourage_repeats(log_probs: Tensor, said: Tensor, n: int) -> None:
    grams = said.unfold(1, n, 1)  # [N, t - n + 1, n]
    recent = said[:, said.shape[1] - n + 1 :]  # the n - 1 words that the next one will follow
    repeats = (grams[:, :, :-1] == recent[:, None]).all(-1)
    penalty = repeats.to(log_probs.dtype) * DISCOURAGED
    log_probs.scatter_add_(1, grams[:, :, -1], penalty)


def normalised(log_probability: float, tokens: int, options: DecodingOptions) -> float:
    """The worth of a hypothesis of `tokens` tokens, the end token counted."""
    return float(log_probability / tokens**options.length_penalty)
