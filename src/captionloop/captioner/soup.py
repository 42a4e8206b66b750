"""The mean of decoders' weights: one decoder that is as good as several, and as fast as one.

Decoders that were taught on from the same weights, with photos in another order and other things dropped, lie
in one valley of the loss; their mean lies nearer its bottom than any of them (Wortsman et al. 2022, "Model
Soups", arXiv 2203.05482). With few captions, where they differ most, it is worth most.
"""

import copy
from collections.abc import Sequence

import torch

from captionloop.captioner.decoders import Decoder


@torch.no_grad()
def mean_of_weights(decoders: Sequence[Decoder]) -> Decoder:
    """A decoder of the mean weights; the decoders stay as they are.

    Args:
        decoders: one or more, of the same architecture and vocabulary, taught on from the same weights. Of
            decoders with beginnings of their own the mean says nothing that anybody could read.
    """
    found = copy.deepcopy(decoders[0])
    weights = [decoder.state_dict() for decoder in decoders]
    for name, mean in found.state_dict().items():
        mean.copy_(torch.stack([each[name].to(mean.device) for each in weights]).double().mean(0))
    return found
