"""Linear maps inside a loop over time, whose weight gradient is one matrix product for all steps together.

Autograd would make a gradient as large as the weight at every step, from a product with as few rows as there
are captions, and add it to the sum so far: most of the time that teaching a recurrent decoder takes on a CPU.
Here every step notes its input and the gradient of its output, and when the last has been through, one
product does it for all of them.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class RecurrentLinear:
    """A linear layer during one pass of teacher forcing; make a new one for every pass."""

    def __init__(self, layer: nn.Linear) -> None:
        kind = layer.weight.device.type
        self._notes = _Notes(kind)
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else layer.weight.dtype
        bias = layer.bias if layer.bias is not None else layer.weight.new_zeros(layer.out_features)
        self._weight, self._bias = _Collect.apply(layer.weight, bias, dtype, self._notes)

    def __call__(self, inputs: Tensor) -> Tensor:
        """`[n, in]` -> `[n, out]`."""
        output: Tensor = _Step.apply(inputs, self._weight, self._bias, self._notes)
        return output


class _Notes:
    """Inputs and gradients of the steps so far.

    The graph holds them, so they must not hold a tensor of the graph: that circle would never be freed.
    """

    def __init__(self, device_type: str) -> None:
        self.device_type = device_type
        self._inputs: list[Tensor] = []
        self._gradients: list[Tensor] = []

    def note(self, inputs: Tensor, gradient: Tensor) -> None:
        """What one step contributes to the gradient."""
        self._inputs.append(inputs)
        self._gradients.append(gradient)

    def collect(self) -> tuple[Tensor, Tensor]:
        """The gradients of weight and bias; what was noted is forgotten."""
        inputs, gradients = torch.cat(self._inputs), torch.cat(self._gradients)
        self._inputs.clear()
        self._gradients.clear()
        return (gradients.T @ inputs).float(), gradients.float().sum(0)


class _Collect(torch.autograd.Function):
    """Hands the weight to the steps; its backward runs once, after those of all of them."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, dtype: torch.dtype, notes: _Notes
    ) -> tuple[Tensor, Tensor]:
        ctx.notes = notes
        ctx.set_materialize_grads(False)
        return weight.to(dtype, copy=True), bias.to(dtype, copy=True)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[Tensor, Tensor, None, None]:
        with torch.autocast(ctx.notes.device_type, enabled=False):
            return *ctx.notes.collect(), None, None


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, notes: _Notes) -> Tensor:
        ctx.notes, ctx.dtype = notes, inputs.dtype
        inputs = inputs.to(weight.dtype)
        ctx.save_for_backward(inputs, weight)
        return functional.linear(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = gradients
        inputs, weight = ctx.saved_tensors
        ctx.notes.note(inputs, gradient)
        return (gradient @ weight).to(ctx.dtype), None, None, None
