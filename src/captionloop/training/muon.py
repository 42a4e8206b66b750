"""Muon: gradients of matrices and convolutions in, orthogonal updates out; all else is left to AdamW.

torch.optim.Muon takes matrices alone and multiplies in bfloat16, which a CPU without instructions for it
emulates (`python -m benchmarks.first_encoder`; docs/decisions/0090).
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import torch
from torch import Tensor

_POLYNOMIAL: Final = (3.4445, -4.7750, 2.0315)
"""Of the odd quintic that drives all singular values towards 1 in few steps (Jordan et al. 2024)."""

_STEPS: Final = 5
_SMALLEST: Final = 1e-14


def orthogonalised(matrix: Tensor) -> Tensor:
    """U V^T, about, of a matrix `[m, n]` = U S V^T, by Newton-Schulz steps in its own precision.

    The singular values of the result lie between 0.7 and 1.2 (but those of a matrix that is nothing). All
    steps are polynomials of the Gram matrix, so they are multiplied there, where the matrix is small.
    """
    a, b, c = _POLYNOMIAL
    tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if tall else matrix
    gram = wide @ wide.T
    norm = gram.trace().clamp(min=_SMALLEST)  # the square of the matrix's own
    gram /= norm
    identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    product = identity * norm.rsqrt()
    for step in range(_STEPS):
        factor = torch.addmm(torch.add(a * identity, gram, alpha=b), gram, gram, alpha=c)
        product = factor @ product
        if step < _STEPS - 1:
            gram = factor @ gram @ factor
    wide = product @ wide
    return wide.T if tall else wide


def mixes_channels(weight: Tensor) -> bool:
    """Whether a weight is a matrix or a convolution, but not one of colours or of single channels."""
    colours = 3
    return weight.ndim in {2, 4} and weight.shape[1] > colours


class Muon(torch.optim.AdamW):
    """Muon (Jordan et al. 2024) for the groups that say `orthogonal: True`, AdamW for the others.

    Of a convolution `[out, in, h, w]` the matrix `[out, h * w * in]` is made orthogonal. Momentum is
    Nesterov's, 0.95; the update is sqrt(max(1, m / n)) * lr times the orthogonal matrix. What is orthogonal
    does not decay: normalisation follows those layers, and their scale means nothing.
    """

    MOMENTUM: Final = 0.95

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        super().__init__([{"orthogonal": False} | group for group in groups], fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of all groups; gradients of the orthogonal ones are used up."""
        for group in self.param_groups:
            for weight in group["params"] if group["orthogonal"] else ():
                if weight.grad is not None:
                    self._turn(weight, weight.grad, group["lr"])
                    weight.grad = None  # so that AdamW leaves it alone
        return super().step(closure)

    def _turn(self, weight: Tensor, gradient: Tensor, rate: float) -> None:
        state = self.state[weight]
        if not state:  # "step" because AdamW looks for it when it goes on from a checkpoint
            state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(weight)}
        state["step"] += 1
        average: Tensor = state["momentum"]
        average.lerp_(gradient, 1 - self.MOMENTUM)
        ahead = torch.lerp(gradient, average, self.MOMENTUM)
        rows = ahead.movedim(1, -1)  # channels last, as convolutions lie in memory here; a matrix as it is
        matrix = rows.flatten(1)
        update = orthogonalised(matrix).reshape(rows.shape)
        scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
        weight.sub_(update.movedim(-1, 1), alpha=rate * scale)
