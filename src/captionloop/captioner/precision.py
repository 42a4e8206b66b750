"""When matrix products in bfloat16 pay: where the hardware has units for them, and the matrices are large
enough.
"""

from contextlib import AbstractContextManager
from typing import Literal

import torch

from captionloop.vision.arithmetic import precision_here

Precision = Literal["auto", "float32", "bfloat16"]

_ENOUGH_ROWS = (
    32  # below it a product is bound by reading its weights, and casting them costs more than it saves
)


def fast_products(
    precision: Precision, device: torch.device, *, rows: int = _ENOUGH_ROWS
) -> AbstractContextManager[object]:
    """Autocast to bfloat16 where asked for, or where it pays for products of this many rows."""
    pays = precision != "auto" or rows >= _ENOUGH_ROWS
    enabled = pays and precision_here(precision, device.type) == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
