"""When matrix products in bfloat16 pay: where the hardware has units for them, and the matrices are large
enough.
"""

from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]

_ENOUGH_ROWS = (
    32  # below it a product is bound by reading its weights, and casting them costs more than it saves
)


@cache
def multiplies_bfloat16_fast(device_type: str) -> bool:
    """Whether bfloat16 products are several times faster than float32.

    They are on tensor cores, and on a CPU with AMX or AVX-512 BF16.
    """
    if device_type == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    try:
        features = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return " amx_bf16" in features or " avx512_bf16" in features


def fast_products(
    precision: Precision, device: torch.device, *, rows: int = _ENOUGH_ROWS
) -> AbstractContextManager[object]:
    """Autocast to bfloat16 where asked for, or where it pays for products of this many rows."""
    pays = precision == "auto" and rows >= _ENOUGH_ROWS and multiplies_bfloat16_fast(device.type)
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16" or pays)
