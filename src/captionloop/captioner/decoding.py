"""Decoder and features in, captions out: greedy, sampling or beam search, with weights prepacked for the
CPU.

A step of a search multiplies a few rows by large matrices, so it is bound by reading them. In oneDNN's own
order none of them has to be rearranged at every step, and in bfloat16 they are half as large and need no
cast. On an AMD EPYC, PyTorch's own product of 5 rows by 512 x 9,500 takes 4.5 ms in float32, the packed one
0.5 ms, and packed in bfloat16 0.2 ms.
"""

import copy
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captionloop.captioner.beam_search import EOS, Hypothesis, beam_search, finite, normalised, permitted
from captionloop.captioner.decoders.base import Decoder, WordEmbedding
from captionloop.captioner.model_config import DecodingOptions
from captionloop.hardware import PrecisionSetting, fast_products, precision_here
from captionloop.tokenizer import CaptionTokenizer


def prepack(decoder: Decoder, dtype: torch.dtype) -> Decoder:
    """A copy of a decoder for searching only, its linear layers prepacked for oneDNN in this dtype.

    In bfloat16 it is meant to run in `torch.autocast`, as the same decoder would. It computes the same but
    for the order of additions. What is no matrix product shares its weights with the decoder.
    """
    shared: dict[int, Any] = {id(weight): weight for weight in (*decoder.parameters(), *decoder.buffers())}
    clone = copy.deepcopy(decoder, shared)
    for module in list(clone.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, _PrepackedLinear(child.weight, child.bias, dtype))
            elif isinstance(child, WordEmbedding):
                setattr(module, name, _PrepackedWordEmbedding(child, dtype))
    return clone.eval()


def prepack_dtype(precision: PrecisionSetting, device: torch.device) -> torch.dtype | None:
    """The dtype in which to prepack a decoder for this precision; None where torch cannot prepack."""
    operators = torch.ops.mkldnn
    able = (
        device.type == "cpu"
        and torch._C._has_mkldnn
        and hasattr(operators, "_linear_pointwise")
        and hasattr(operators, "_reorder_linear_weight")
    )
    if not able:
        return None
    return torch.bfloat16 if precision_here(precision, device.type) == "bfloat16" else torch.float32


class _PrepackedLinear(nn.Module):
    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        # Attributes and no parameters: packed weights cannot be saved, moved, or trained.
        self._dtype = dtype
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(dtype))
        self._bias = None if bias is None else bias.detach().to(dtype)

    def forward(self, inputs: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            inputs.to(self._dtype), self._weight, self._bias, "none", [], ""
        )
        return product


class _PrepackedWordEmbedding(nn.Module):
    """`WordEmbedding`, its scores packed."""

    def __init__(self, words: WordEmbedding, dtype: torch.dtype) -> None:
        super().__init__()
        self.vectors = words.vectors
        scores = words.vectors if words.scores is None else words.scores
        self.logits = _PrepackedLinear(scores, words.bias, dtype)

    def forward(self, tokens: Tensor) -> Tensor:
        return nn.functional.embedding(tokens, self.vectors)


Choose = Callable[[Tensor], Tensor]


@torch.inference_mode()
def greedy(decoder: Decoder, features: Tensor, options: DecodingOptions) -> list[list[Hypothesis]]:
    """The likeliest word, every time: one hypothesis for each image of `features` (float `[B, R, C]`)."""
    return _generate(decoder, features, 1, lambda ranking: ranking.argmax(-1), options)


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

    return _generate(decoder, features, each, choose, options)


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


def _generate(
    decoder: Decoder, features: Tensor, each: int, choose: Choose, options: DecodingOptions
) -> list[list[Hypothesis]]:
    images, device = features.shape[0], features.device
    rows = images * each
    state = decoder.begin(features)
    if each > 1:
        state = state.select(torch.arange(images, device=device).repeat_interleave(each))
    prefixes = torch.empty(rows, 0, dtype=torch.int64, device=device)
    tokens = torch.full((rows,), CaptionTokenizer.BOS, device=device)
    log_probs, attention, ended = [], [], torch.zeros(rows, dtype=torch.bool, device=device)
    while not ended.all():
        step = decoder.step(tokens, state)
        state, likely = step.state, finite(step.log_probs)
        # Rows that have ended get further tokens until all have ended; `_read` cuts them off.
        tokens = choose(permitted(likely.clone(), prefixes, options))
        ended |= tokens == EOS
        prefixes = torch.cat([prefixes, tokens[:, None]], 1)
        log_probs.append(likely.gather(1, tokens[:, None])[:, 0])
        if step.attention is not None:
            attention.append(step.attention)
    found = _read(
        prefixes, torch.stack(log_probs, 1), torch.stack(attention, 1) if attention else None, options
    )
    return [found[image * each : (image + 1) * each] for image in range(images)]


def _read(
    tokens: Tensor, log_probs: Tensor, attention: Tensor | None, options: DecodingOptions
) -> list[Hypothesis]:
    ids = tokens.cpu().numpy()
    likely = log_probs.float().cpu().numpy()
    weights = None if attention is None else attention.float().cpu().numpy()
    lengths = np.argmax(ids == EOS, axis=1)
    return [
        Hypothesis(
            tokens=tuple(ids[row, :length].tolist()),
            token_log_probs=likely[row, : length + 1],
            attention=None if weights is None else weights[row, :length],
            score=normalised(float(likely[row, : length + 1].sum()), int(length) + 1, options),
        )
        for row, length in enumerate(lengths)
    ]


class PrepackedDecoder:
    """Searches with a decoder whose weights no longer change; several threads may use it at once."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._by_dtype: dict[torch.dtype, Decoder] = {}
        self._lock = threading.Lock()

    def decode(self, features: Tensor, options: DecodingOptions) -> list[list[Hypothesis]]:
        """For each image of `features` (float32 `[B, R, C]`) its hypotheses, best first."""
        dtype = prepack_dtype(options.precision, features.device) if self._decoder.prepackable else None
        if dtype is None:
            rows = len(features) * options.beam_width
            with fast_products(options.precision, features.device, rows=rows):
                return decode(self._decoder, features, options)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            return decode(self._prepacked(dtype), features, options)

    def _prepacked(self, dtype: torch.dtype) -> Decoder:
        """The decoder prepacked in this dtype; made at the first search, from the weights of that moment."""
        with self._lock:
            if dtype not in self._by_dtype:
                self._by_dtype[dtype] = prepack(self._decoder, dtype)
            return self._by_dtype[dtype]


def decode(decoder: Decoder, features: Tensor, options: DecodingOptions) -> list[list[Hypothesis]]:
    """For each image of `features` (float `[B, R, C]`) its hypotheses, best first, as the options say."""
    if options.method == "sample":
        drawn = sample(decoder, features, options, each=options.alternatives)
        return [sorted(of_image, key=lambda hypothesis: -hypothesis.score) for of_image in drawn]
    if options.beam_width == 1:
        return greedy(decoder, features, options)
    return beam_search(decoder, features, options)
