"""Searching with a decoder as fast as its device can."""

import threading
from collections.abc import Callable

import torch
from torch import Tensor

from captionloop.captioner.decoders.base import Decoder
from captionloop.captioner.decoders.ensemble import Ensemble
from captionloop.captioner.decoding import DecodingOptions, Hypothesis, decode
from captionloop.captioner.packed import packed, packing
from captionloop.captioner.precision import fast_products


class Searcher:
    """Searches with a decoder whose weights no longer change; several threads may use it at once."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._packed: dict[torch.dtype, Decoder] = {}
        self._lock = threading.Lock()

    def decode(self, features: Tensor, options: DecodingOptions) -> list[list[Hypothesis]]:
        """For each image of `features` (float32 `[B, R, C]`) its hypotheses, best first."""
        return self._search(features, options, lambda decoder: [decoder])

    def decode_apart(self, features: Tensor, options: DecodingOptions) -> list[list[Hypothesis]]:
        """As `decode`, and then what else each member of an ensemble finds by itself."""
        return self._search(features, options, _together_and_apart)

    def _search(
        self, features: Tensor, options: DecodingOptions, choose: Callable[[Decoder], list[Decoder]]
    ) -> list[list[Hypothesis]]:
        number = packing(options.precision, features.device)
        if number is None:
            rows = len(features) * options.beam_width
            with fast_products(options.precision, features.device, rows=rows):
                return _joined([decode(one, features, options) for one in choose(self._decoder)])
        with torch.autocast("cpu", torch.bfloat16, enabled=number is torch.bfloat16):
            return _joined([decode(one, features, options) for one in choose(self._packed_in(number))])

    def _packed_in(self, number: torch.dtype) -> Decoder:
        """The decoder as it is searched with; made at the first search, from the weights of that moment."""
        with self._lock:
            if number not in self._packed:
                self._packed[number] = packed(self._decoder, number)
            return self._packed[number]


def _together_and_apart(decoder: Decoder) -> list[Decoder]:
    return [decoder, *decoder.decoders] if isinstance(decoder, Ensemble) else [decoder]


def _joined(found: list[list[list[Hypothesis]]]) -> list[list[Hypothesis]]:
    """What several searches found about each image; what is found again stays as it was found first."""
    first, *others = found
    for other in others:
        for of_image, more in zip(first, other, strict=True):
            said = {hypothesis.tokens for hypothesis in of_image}
            of_image += [hypothesis for hypothesis in more if hypothesis.tokens not in said]
    return first
