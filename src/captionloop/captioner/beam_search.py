"""Decoder and features of a batch of images in, the best hypotheses of each out: beam search.

At every step all continuations of an image's hypotheses are ranked together. Of the best `beam_width`, those
that end are finished; the best `beam_width` that go on make the next beam. An image is done when `beam_width`
hypotheses have finished, or as soon as nothing that is still running can be among the alternatives any more:
log-probabilities only fall, so a running hypothesis can at best keep its sum and reach the greatest length.
Images that are done leave the batch. A hypothesis that reaches `max_length` must end, and pays for it.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captionloop.captioner.decoders.base import Decoder
from captionloop.captioner.model_config import DecodingOptions
from captionloop.tokenizer import CaptionTokenizer

EOS: Final = CaptionTokenizer.EOS
FORBIDDEN_TOKENS: Final = [CaptionTokenizer.PAD, CaptionTokenizer.BOS, CaptionTokenizer.UNK]
LOG_PROB_FLOOR: Final = -1e4  # stands for log-probabilities that are no number, or minus infinity
REPEAT_PENALTY: Final = -1e6  # added to tokens that are chosen only when no other is left


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


def finite(log_probs: Tensor) -> Tensor:
    """Log-probabilities with `LOG_PROB_FLOOR` for NaN and infinities; in a new tensor."""
    return torch.nan_to_num(
        log_probs, nan=LOG_PROB_FLOOR, posinf=LOG_PROB_FLOOR, neginf=LOG_PROB_FLOOR
    ).clamp_(min=LOG_PROB_FLOOR)


def permitted(log_probs: Tensor, prefixes: Tensor, options: DecodingOptions) -> Tensor:
    """Log-probabilities of the next tokens `[N, V]` after `prefixes` (int64 `[N, t]`), constrained.

    Minus infinity for special tokens, for the end before `min_length` tokens, and for all but the end
    after `max_length`; a token that would repeat an n-gram is chosen only when no other is left. Changes
    `log_probs` in place and returns it.
    """
    length = prefixes.shape[1]
    log_probs[:, FORBIDDEN_TOKENS] = -torch.inf
    if length < options.min_length:
        log_probs[:, EOS] = -torch.inf
    if length >= options.max_length:
        end = log_probs[:, EOS].clone()
        log_probs.fill_(-torch.inf)[:, EOS] = end
    elif options.no_repeat_ngram and length >= options.no_repeat_ngram:
        _discourage_repeats(log_probs, prefixes, options.no_repeat_ngram)
    return log_probs


def _discourage_repeats(log_probs: Tensor, prefixes: Tensor, n: int) -> None:
    grams = prefixes.unfold(1, n, 1)  # [N, t - n + 1, n]
    recent = prefixes[:, prefixes.shape[1] - n + 1 :]  # the n - 1 words that the next one will follow
    repeats = (grams[:, :, :-1] == recent[:, None]).all(-1)
    penalty = repeats.to(log_probs.dtype) * REPEAT_PENALTY
    log_probs.scatter_add_(1, grams[:, :, -1], penalty)


def normalised(log_probability: float, tokens: int, options: DecodingOptions) -> float:
    """The score of a hypothesis of `tokens` tokens, the end counted: log P / tokens ** length_penalty."""
    return float(log_probability / tokens**options.length_penalty)


_BLOCK = 64


@torch.inference_mode()
def beam_search(decoder: Decoder, features: Tensor, options: DecodingOptions) -> list[list[Hypothesis]]:
    """The best `options.alternatives` hypotheses about each image of `features` (float `[B, R, C]`), best
    first.
    """
    images, width = features.shape[0], options.beam_width
    search = _Search(options, images)
    state = decoder.begin(features)
    tokens = torch.full((images,), CaptionTokenizer.BOS, device=features.device)
    prefixes = torch.empty(images, 0, dtype=torch.int64, device=features.device)
    total = torch.zeros(
        images, 1, device=features.device
    )  # [b, k]: b images still searched, k hypotheses of each
    while True:
        step = decoder.step(tokens, state)
        likely = finite(step.log_probs)
        best = _continuations(likely, prefixes, total, options)
        search.finish(best, step.attention)
        alive = best.running(width)
        total, tokens = alive.total, alive.tokens.flatten()
        search.advance(alive)
        kept = search.open_positions(total)
        if not len(kept):
            return [search.alternatives(image) for image in range(images)]
        rows = alive.rows.flatten()
        if len(kept) < total.shape[0]:
            positions = torch.tensor(kept, device=features.device)
            chosen = (positions[:, None] * width + torch.arange(width, device=features.device)).flatten()
            state = step.state.select(rows[chosen], positions)
            prefixes, tokens, total = prefixes[rows[chosen]], tokens[chosen], total[positions]
            search.keep_only(kept)
        else:
            state, prefixes = step.state.select(rows), prefixes[rows]
        prefixes = torch.cat([prefixes, tokens[:, None]], 1)


@dataclass(frozen=True)
class _Continuations:
    """Continuations of each image's hypotheses, best first: all `[b, n]`. `rows` are the hypotheses
    continued.
    """

    total: Tensor
    rows: Tensor
    tokens: Tensor
    log_probs: Tensor

    def running(self, width: int) -> "_Continuations":
        """The best `width` that do not end; where there are fewer, the rest is of total minus infinity."""
        total = self.total.masked_fill(self.tokens == EOS, -torch.inf)
        order = torch.argsort(total, dim=1, descending=True, stable=True)
        order = torch.cat([order, order[:, :1].expand(-1, max(0, width - order.shape[1]))], 1)[:, :width]
        running = _Continuations(
            *(part.gather(1, order) for part in (total, self.rows, self.tokens, self.log_probs))
        )
        if order.shape[1] > total.shape[1]:
            running.total[:, total.shape[1] :] = -torch.inf
        return running


def _continuations(
    likely: Tensor, prefixes: Tensor, total: Tensor, options: DecodingOptions
) -> _Continuations:
    """The best 2 x `beam_width` of all continuations of each image: enough to hold `beam_width` that do not
    end.
    """
    images, beams = total.shape
    wanted = 2 * options.beam_width
    ranking, words = largest(permitted(likely.clone(), prefixes, options), wanted)  # [b * k, n]
    n = words.shape[1]
    sums = (total[:, :, None] + ranking.view(images, beams, n)).flatten(1)  # [b, k * n]
    best, place = sums.topk(min(wanted, sums.shape[1]))
    rows = place // n + torch.arange(images, device=place.device)[:, None] * beams
    tokens = words.view(images, -1).gather(1, place)
    return _Continuations(best, rows, tokens, likely[rows.flatten(), tokens.flatten()].view_as(best))


def largest(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`scores.topk(count)` along the last of two axes, in about one pass over them.

    The `count` largest lie within the `count` blocks whose maxima are largest, so only those are looked into.
    """
    rows, columns = scores.shape
    count = min(count, columns)
    blocks = columns // _BLOCK
    if blocks < 4 * count:
        values, places = scores.topk(count)
        return values, places
    whole = scores[:, : blocks * _BLOCK].view(rows, blocks, _BLOCK)
    chosen = whole.amax(-1).topk(count).indices  # [N, count]
    within = torch.arange(_BLOCK, device=scores.device)
    candidates = (chosen[:, :, None] * _BLOCK + within).flatten(1)
    rest = torch.arange(blocks * _BLOCK, columns, device=scores.device).expand(rows, -1)
    candidates = torch.cat([candidates, rest], 1)
    values, places = scores.gather(1, candidates).topk(count)
    return values, candidates.gather(1, places)


@dataclass(frozen=True)
class _Finished:
    """A hypothesis that ended: `row` of step `step - 1` was continued by the end token."""

    score: float
    step: int
    row: int
    end_log_prob: float


@dataclass
class _Search:
    """One search: tokens, parents and attention of the rows at each step, and the finished hypotheses."""

    options: DecodingOptions
    images: int
    finished: list[list[_Finished]] = field(init=False)
    open: list[int] = field(init=False)  # the images still searched, by position in the batch
    row_ids: NDArray[np.int64] = field(init=False)  # rows of the batch as rows of the last step kept
    tokens: list[NDArray[np.int64]] = field(default_factory=list)
    parents: list[NDArray[np.int64]] = field(default_factory=list)
    log_probs: list[NDArray[np.float32]] = field(default_factory=list)
    attention: list[NDArray[np.float32] | None] = field(default_factory=list)
    attended_as: list[NDArray[np.int64]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.finished = [[] for _ in range(self.images)]
        self.open = list(range(self.images))
        self.row_ids = np.arange(self.images)

    def finish(self, best: _Continuations, attention: Tensor | None) -> None:
        """Keep the hypotheses that ended among the best `beam_width`."""
        self.attention.append(None if attention is None else attention.float().cpu().numpy())
        width, step = self.options.beam_width, len(self.tokens)
        ended = (best.tokens[:, :width] == EOS) & best.total[:, :width].isfinite()
        if not ended.any():
            return
        total, rows, log_probs = (part.cpu().numpy() for part in (best.total, best.rows, best.log_probs))
        for position, rank in ended.nonzero().tolist():
            self.finished[self.open[position]].append(
                _Finished(
                    score=normalised(float(total[position, rank]), step + 1, self.options),
                    step=step,
                    row=int(self.row_ids[rows[position, rank]]),
                    end_log_prob=float(log_probs[position, rank]),
                )
            )

    def advance(self, alive: _Continuations) -> None:
        """Keep the last token, parent and log-probability of the running hypotheses."""
        parents = alive.rows.flatten().cpu().numpy()
        self.parents.append(self.row_ids[parents])
        self.attended_as.append(parents)
        self.tokens.append(alive.tokens.flatten().cpu().numpy())
        self.log_probs.append(alive.log_probs.flatten().float().cpu().numpy())
        self.row_ids = np.arange(len(parents))

    def open_positions(self, total: Tensor) -> list[int]:
        """The positions of images whose search is not over."""
        best_running = total[:, 0].tolist()
        longest = self.options.max_length + 1
        return [
            position
            for position, image in enumerate(self.open)
            if not self._is_over(image, normalised(best_running[position], longest, self.options))
        ]

    def _is_over(self, image: int, bound: float) -> bool:
        scores = sorted((hypothesis.score for hypothesis in self.finished[image]), reverse=True)
        wanted = min(self.options.alternatives, self.options.beam_width)
        if bound == -np.inf or len(scores) >= self.options.beam_width:
            return True
        return len(scores) >= wanted and scores[wanted - 1] >= bound

    def keep_only(self, kept: list[int]) -> None:
        """Go on with the images at these positions only."""
        width = self.options.beam_width
        self.open = [self.open[position] for position in kept]
        self.row_ids = np.concatenate([np.arange(p * width, (p + 1) * width) for p in kept])

    def alternatives(self, image: int) -> list[Hypothesis]:
        """The best finished hypotheses about an image, best first."""
        best = sorted(self.finished[image], key=lambda hypothesis: -hypothesis.score)
        return [self._read(hypothesis) for hypothesis in best[: self.options.alternatives]]

    def _read(self, finished: _Finished) -> Hypothesis:
        tokens, log_probs, attended = [], [finished.end_log_prob], []
        row = finished.row
        for step in reversed(range(finished.step)):
            tokens.append(int(self.tokens[step][row]))
            log_probs.append(float(self.log_probs[step][row]))
            attention = self.attention[step]
            if attention is not None:
                attended.append(attention[self.attended_as[step][row]])
            row = int(self.parents[step][row])
        return Hypothesis(
            tokens=tuple(reversed(tokens)),
            token_log_probs=np.array(log_probs[::-1], np.float32),
            attention=np.stack(attended[::-1]) if attended else None,
            score=finished.score,
        )
