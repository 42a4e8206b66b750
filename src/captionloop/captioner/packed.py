"""A decoder's matrix products laid out for the CPU's bfloat16 units, once and for all steps.

A step of a search multiplies a few rows by large matrices, so it is bound by reading them. In bfloat16 they
are half as large, and in oneDNN's own order none of them has to be cast or rearranged at every step.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from captionloop.captioner.decoders.base import Decoder
from captionloop.captioner.decoders.words import WordEmbedding
from captionloop.captioner.precision import Precision, multiplies_bfloat16_fast


def packed(decoder: Decoder) -> Decoder:
    """A copy for searching only, with the decoder's weights as they are now.

    It is meant to run in `torch.autocast` to bfloat16, as the same decoder would, and computes the same but
    for the order of additions. What is no matrix product shares its weights with the decoder.
    """
    shared: dict[int, Any] = {id(weight): weight for weight in (*decoder.parameters(), *decoder.buffers())}
    clone = copy.deepcopy(decoder, shared)
    for module in list(clone.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, _PackedLinear(child.weight, child.bias))
            elif isinstance(child, WordEmbedding):
                setattr(module, name, _PackedWords(child))
    return clone.eval()


def pays(precision: Precision, device: torch.device) -> bool:
    """Whether a search in this precision is faster packed, however few its rows, and torch can pack here."""
    operators = torch.ops.mkldnn
    return (
        precision != "float32"
        and device.type == "cpu"
        and multiplies_bfloat16_fast(device.type)
        and torch._C._has_mkldnn
        and hasattr(operators, "_linear_pointwise")
        and hasattr(operators, "_reorder_linear_weight")
    )


class _PackedLinear(nn.Module):
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        # Attributes and no parameters: packed weights cannot be saved, moved, or taught.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().bfloat16())
        self._bias = None if bias is None else bias.detach().bfloat16()

    def forward(self, inputs: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            inputs.bfloat16(), self._weight, self._bias, "none", [], ""
        )
        return product


class _PackedWords(nn.Module):
    """`WordEmbedding`, its scores packed."""

    def __init__(self, words: WordEmbedding) -> None:
        super().__init__()
        self.vectors = words.vectors
        self.logits = _PackedLinear(words.vectors if words.scores is None else words.scores, words.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        return nn.functional.embedding(tokens, self.vectors)
