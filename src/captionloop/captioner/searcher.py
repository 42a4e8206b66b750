"""Searching with a decoder as fast as its device can."""

import threading

import torch
from torch import Tensor

from captionloop.captioner.decoders.base import Decoder
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
        number = packing(options.precision, features.device)
        if number is None:
            rows = len(features) * options.beam_width
            with fast_products(options.precision, features.device, rows=rows):
                return decode(self._decoder, features, options)
        with torch.autocast("cpu", torch.bfloat16, enabled=number is torch.bfloat16):
            return decode(self._packed_in(number), features, options)

    def _packed_in(self, number: torch.dtype) -> Decoder:
        """The decoder as it is searched with; made at the first search, from the weights of that moment."""
        with self._lock:
            if number not in self._packed:
                self._packed[number] = packed(self._decoder, number)
            return self._packed[number]
