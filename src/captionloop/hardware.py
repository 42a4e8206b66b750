"""What this machine can compute with: its fast and working precisions, and its memory.

What works is tried, once for each process, with the very operations that captioners use. No list of
processors would do: a library may be held to older instructions than the processor has
(`ONEDNN_MAX_CPU_ISA`), and each operation has limits of its own. Memory is given back to the system when
nothing uses it, and shared out among large photos.
"""

import ctypes
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from captionloop.errors import first_line

Precision = Literal["float32", "bfloat16"]
PrecisionSetting = Literal["auto", "float32", "bfloat16"]

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)


def precision_here(wanted: Precision | Literal["auto"], device_type: str) -> Precision:
    """The precision that PyTorch computes in on `cpu` or `cuda`, where this one is asked for.

    `auto` is the faster one. bfloat16 becomes float32, with a line in the log, where it does not work.
    """
    if wanted == "auto":
        return "bfloat16" if bfloat16_is_fast(device_type) else "float32"
    if wanted == "bfloat16" and not bfloat16_works(device_type):
        warn_float32_fallback("PyTorch", device_type)
        return "float32"
    return wanted


@cache
def bfloat16_works(device_type: str) -> bool:
    """Whether PyTorch can do in bfloat16 on `cpu` or `cuda`, at whatever speed, what captioners do."""
    import torch

    if device_type == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    try:
        _multiply(prepacked=True)
        _multiply(prepacked=False)
    except RuntimeError as error:
        reason = first_line(error)[:200]
        logger.debug("bfloat16 does not work on this processor: %s", reason)
        return False
    return True


@cache
def bfloat16_is_fast(device_type: str) -> bool:
    """Whether bfloat16 products are several times faster than float32.

    They are on tensor cores, and on a CPU with AMX or AVX-512 BF16; an older GPU emulates them slowly.
    """
    import torch

    if device_type == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        features = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return (" amx_bf16" in features or " avx512_bf16" in features) and bfloat16_works(device_type)


def has_avx512() -> bool:
    """Whether the processor has AVX-512, and PyTorch may use it."""
    import torch

    return "AVX512" in torch.backends.cpu.get_cpu_capability()


@cache
def warn_float32_fallback(engine: str, device: str) -> None:
    """One line in the log, once for each engine."""
    logger.warning(
        "bfloat16 is asked for, which %s cannot compute on this machine's %s: it is computed in float32.",
        engine,
        "processor" if device == "cpu" else "GPU",
    )


def _multiply(*, prepacked: bool) -> None:
    """A product of matrices in bfloat16: laid out for oneDNN, or by the layers that a decoder is made of.

    Raises:
        RuntimeError: this processor, or oneDNN on it, has no such product.
    """
    import torch
    from torch import nn

    # Layers draw their weights: the random numbers of whoever asks stay as they are.
    with torch.random.fork_rng(devices=[]), torch.inference_mode(mode=False), torch.enable_grad():
        inputs = torch.zeros(2, 3, 32)
        if not prepacked:
            linear, recurrent = nn.Linear(32, 32), nn.LSTM(32, 32, batch_first=True)
            with torch.autocast("cpu", torch.bfloat16):
                states, _ = recurrent(linear(inputs))
            states.float().sum().backward()
            return
        operators = torch.ops.mkldnn
        if torch._C._has_mkldnn and hasattr(operators, "_reorder_linear_weight"):
            weight = operators._reorder_linear_weight(torch.zeros(32, 32, dtype=torch.bfloat16))
            operators._linear_pointwise(inputs[0].bfloat16(), weight, None, "none", [], "")


_MEMORY, _CONTAINER = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def available_memory() -> int | None:
    """Bytes of memory that this process can still take, of the machine and of its container (cgroup v2); None
    where neither is known.
    """
    free = [found for found in (_of_machine(_MEMORY), _of_container(_CONTAINER)) if found is not None]
    return min(free, default=None)


def _of_machine(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    except (OSError, ValueError, StopIteration):
        return None


def _of_container(group: Path) -> int | None:
    try:
        limit, used = (int((group / f"memory.{name}").read_text("ascii")) for name in ("max", "current"))
        lines = (group / "memory.stat").read_text("ascii").splitlines()
    except (OSError, ValueError):  # no cgroup v2, or "max": no limit
        return None
    # What files left in memory is given up where it is needed.
    files = sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    return max(0, limit - used + files)


_ENOUGH_ROWS = 32
"""Below it a product is bound by reading its weights, and casting them costs more than it saves."""


def fast_products(
    precision: PrecisionSetting, device: "torch.device", *, rows: int = _ENOUGH_ROWS
) -> AbstractContextManager[object]:
    """Autocast to bfloat16 where asked for, or where it pays for products of this many rows."""
    import torch

    pays = precision != "auto" or rows >= _ENOUGH_ROWS
    enabled = pays and precision_here(precision, device.type) == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def trim_memory() -> None:
    """Calls malloc_trim: glibc returns freed memory to the system. Does nothing without glibc.

    Captions of ever different lengths make tensors of ever different sizes, and glibc keeps the gaps between
    them: within 40 steps of Show, Attend and Tell at batch 160, 3.1 GB where 1.8 GB were in use.
    """
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def release_large_blocks() -> None:
    """Has glibc return blocks of 8 MiB and more as soon as they are freed. Does nothing without glibc.

    Left alone it raises that bound to 64 MB with the first large picture that is freed, for each thread, and
    `trim_memory` does not reach what lies at the top of a thread's memory.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, _LARGE_BLOCK)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGE_BLOCK: Final = 8 << 20


@cache
def _of_glibc(name: str) -> Callable[..., int] | None:
    try:
        function: Callable[..., int] = getattr(ctypes.CDLL("libc.so.6"), name)
    except (OSError, AttributeError):
        return None
    return function


class SharedMemory:
    """A limit on the bytes that several threads take together; waiters are served in order.

    Args:
        room: bytes in all.
        least: what takes fewer bytes waits for nobody.
    """

    def __init__(self, room: int, *, least: int = 0) -> None:
        self._room = self._free = room
        self._least = least
        self._first = threading.Lock()
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, weight: int) -> Iterator[None]:
        """Holds this many bytes (at most all there are) while the block runs."""
        if weight < self._least:
            yield
            return
        weight = min(weight, self._room)
        with self._first, self._changed:
            self._changed.wait_for(lambda: self._free >= weight)
            self._free -= weight
        try:
            yield
        finally:
            trim_memory()  # else each thread keeps what its largest photo took
            with self._changed:
                self._free += weight
                self._changed.notify_all()
