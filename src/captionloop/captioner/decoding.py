"""Captions from a decoder: greedy, beam search and sampling over one interface."""

from torch import Tensor

from captionloop.captioner.beam import beam_search
from captionloop.captioner.decoders.base import Decoder
from captionloop.captioner.hypotheses import Hypothesis
from captionloop.captioner.options import DecodingOptions
from captionloop.captioner.rollout import greedy, sample

__all__ = ["DecodingOptions", "Hypothesis", "beam_search", "decode", "greedy", "sample"]


def decode(decoder: Decoder, features: Tensor, options: DecodingOptions) -> list[list[Hypothesis]]:
    """For each image of `features` (float `[B, R, C]`) its hypotheses, best first, as the options say."""
    if options.method == "sample":
        drawn = sample(decoder, features, options, each=options.alternatives)
        return [sorted(of_image, key=lambda hypothesis: -hypothesis.score) for of_image in drawn]
    if options.beam_width == 1:
        return greedy(decoder, features, options)
    return beam_search(decoder, features, options)
