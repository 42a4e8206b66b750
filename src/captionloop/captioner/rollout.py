"""Saying one word after the other without looking back: greedy decoding and sampling, for many images at
once.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from captionloop.captioner.decoders.base import Decoder
from captionloop.captioner.hypotheses import EOS, Hypothesis, normalised, permitted, sound
from captionloop.captioner.options import DecodingOptions
from captionloop.language.tokenizer import CaptionTokenizer

Choose = Callable[[Tensor], Tensor]


@torch.inference_mode()
def greedy(decoder: Decoder, features: Tensor, options: DecodingOptions) -> list[list[Hypothesis]]:
    """The likeliest word, every time: one hypothesis for each image of `features` (float `[B, R, C]`)."""
    return _roll_out(decoder, features, 1, lambda ranking: ranking.argmax(-1), options)


@torch.inference_mode()
def sample(
    decoder: Decoder,
    features: Tensor,
    options: DecodingOptions,
    *,
    each: int = 1,
    generator: torch.Generator | None = None,
) -> list[list[Hypothesis]]:
    """`each` hypotheses for each image, drawn at random with the options' temperature, `top_k` and `top_p`.

    Without a generator, one seeded with `options.seed` is used: the same call gives the same captions.
    """
    if generator is None:
        generator = torch.Generator(features.device).manual_seed(options.seed)

    def choose(ranking: Tensor) -> Tensor:
        return torch.multinomial(_truncated(ranking, options), 1, generator=generator)[:, 0]

    return _roll_out(decoder, features, each, choose, options)


def _truncated(ranking: Tensor, options: DecodingOptions) -> Tensor:
    """Probabilities `[N, V]` to draw from: sharpened, then cut to the `top_k` and to the nucleus `top_p`."""
    ranking = ranking / options.temperature
    if 0 < options.top_k < ranking.shape[1]:
        least = ranking.topk(options.top_k).values[:, -1:]
        ranking = ranking.masked_fill(ranking < least, -torch.inf)
    probabilities = ranking.softmax(-1)
    if options.top_p < 1:
        ordered, words = probabilities.sort(descending=True)
        outside = ordered.cumsum(-1) - ordered >= options.top_p  # the likeliest word is always inside
        ordered = ordered.masked_fill(outside, 0)
        probabilities = torch.zeros_like(probabilities).scatter_(1, words, ordered)
    return probabilities


def _roll_out(
    decoder: Decoder, features: Tensor, each: int, choose: Choose, options: DecodingOptions
) -> list[list[Hypothesis]]:
    images, device = features.shape[0], features.device
    rows = images * each
    state = decoder.begin(features)
    if each > 1:
        state = state.select(torch.arange(images, device=device).repeat_interleave(each))
    said = torch.empty(rows, 0, dtype=torch.int64, device=device)
    tokens = torch.full((rows,), CaptionTokenizer.BOS, device=device)
    log_probs, attention, ended = [], [], torch.zeros(rows, dtype=torch.bool, device=device)
    while not ended.all():
        step = decoder.step(tokens, state)
        state, likely = step.state, sound(step.log_probs)
        # Rows that have ended go on saying something until all have; it is cut off below.
        tokens = choose(permitted(likely.clone(), said, options))
        ended |= tokens == EOS
        said = torch.cat([said, tokens[:, None]], 1)
        log_probs.append(likely.gather(1, tokens[:, None])[:, 0])
        if step.attention is not None:
            attention.append(step.attention)
    found = _read(said, torch.stack(log_probs, 1), torch.stack(attention, 1) if attention else None, options)
    return [found[image * each : (image + 1) * each] for image in range(images)]


def _read(
    said: Tensor, log_probs: Tensor, attention: Tensor | None, options: DecodingOptions
) -> list[Hypothesis]:
    words = said.cpu().numpy()
    likely = log_probs.float().cpu().numpy()
    looked = None if attention is None else attention.float().cpu().numpy()
    lengths = np.argmax(words == EOS, axis=1)
    return [
        Hypothesis(
            tokens=tuple(words[row, :length].tolist()),
            token_log_probs=likely[row, : length + 1],
            attention=None if looked is None else looked[row, :length],
            score=normalised(float(likely[row, : length + 1].sum()), int(length) + 1, options),
        )
        for row, length in enumerate(lengths)
    ]
