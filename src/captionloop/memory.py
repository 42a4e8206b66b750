"""Memory: given back to the system when nothing uses it, and shared out among large photos."""

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final


def trim_memory() -> None:
    """Have the C library return what it keeps of freed tensors and pictures; without glibc, nothing.

    Captions of ever different lengths make tensors of ever different sizes, and glibc keeps the gaps between
    them: within 40 steps of Show, Attend and Tell at batch 160, 3.1 GB where 1.8 GB were in use.
    """
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def keep_no_large_blocks() -> None:
    """Have the C library return blocks of megabytes as soon as they are freed; without glibc, nothing.

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
    """Memory that large photos share: one waits, in the order they come, until there is enough.

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
