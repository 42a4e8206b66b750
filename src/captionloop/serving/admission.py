"""How much work is let in: what is more is told at once when to come again,
instead of waiting until nobody wants it.

An upload under way holds only the bytes that have arrived: a connection that announces a photo and sends
nothing costs nothing. A place is taken when the photo is there. Of both, one caller gets a share, so that no
caller alone can take all.
"""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from captionloop.serving.metrics import IN_FLIGHT, UPLOAD_BYTES
from captionloop.serving.problems import OVERLOADED, Problem

_MEMORY = 0.9
"""How much of the mean duration is remembered when a new one is learnt."""
_SHARES = 4
"""Of the memory for bodies one caller gets one in so many, or room for one body."""


class Upload:
    """A caller's body under way; what has arrived of it is held until it is answered."""

    def __init__(self, admission: "Admission", caller: str) -> None:
        self._admission = admission
        self._caller = caller
        self.held = 0

    def arrived(self, size: int) -> None:
        """Hold so many bytes more.

        Raises:
            Problem: 503 with `Retry-After`, if there is no room.
        """
        self._admission.hold(self._caller, size)
        self.held += size


class Admission:
    """Bounds the captions under way, and the memory that their bodies take.

    Args:
        at_once: captions under way at most.
        upload_memory: bytes of bodies under way at most.
        largest_body: bytes that one body may have.
        per_caller: uploads and captions of one caller under way at most; 0: half of all.
    """

    def __init__(self, at_once: int, upload_memory: int, largest_body: int = 0, per_caller: int = 0) -> None:
        self._at_once = at_once
        self._upload_memory = upload_memory
        self._bytes_per_caller = max(upload_memory // _SHARES, largest_body)
        self._per_caller = per_caller or max(1, at_once // 2)
        self._under_way = 0
        self._reserved = 0
        self._uploads: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._mean_seconds = 0.5

    @property
    def under_way(self) -> int:
        """Captions under way."""
        return self._under_way

    @contextmanager
    def upload(self, caller: str) -> Iterator[Upload]:
        """A body of `caller` is on its way, or being worked on, for as long as the block runs.

        Raises:
            Problem: 503 with `Retry-After`, if the caller has as many under way as one may.
        """
        if self._uploads[caller] >= self._per_caller:
            raise self._full("You have as many uploads under way as one caller may; try again shortly.")
        self._uploads[caller] += 1
        upload = Upload(self, caller)
        try:
            yield upload
        finally:
            self._let_go(self._uploads, caller, 1)
            self._let_go(self._bytes, caller, upload.held)
            self._reserved -= upload.held
            UPLOAD_BYTES.set(self._reserved)

    def hold(self, caller: str, size: int) -> None:
        """Reserve memory for bytes that have arrived.

        Raises:
            Problem: 503 with `Retry-After`, if there is none.
        """
        if self._reserved + size > self._upload_memory or self._bytes[caller] + size > self._bytes_per_caller:
            raise self._full("There is no room for more uploads at the moment; try again shortly.")
        self._bytes[caller] += size
        self._reserved += size
        UPLOAD_BYTES.set(self._reserved)

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Hold a place for as long as the block runs.

        Raises:
            Problem: 503 with `Retry-After`, if there is none.
        """
        if self._under_way >= self._at_once:
            raise self._full("All places are taken at the moment; try again shortly.")
        began = monotonic()
        self._change(+1)
        try:
            yield
        finally:
            self._change(-1)
            self._mean_seconds = _MEMORY * self._mean_seconds + (1 - _MEMORY) * (monotonic() - began)

    def _full(self, detail: str) -> Problem:
        return Problem(OVERLOADED, detail, retry_after=math.ceil(min(30.0, 2 * self._mean_seconds)))

    def _change(self, places: int) -> None:
        self._under_way += places
        IN_FLIGHT.set(self._under_way)

    @staticmethod
    def _let_go(of: Counter[str], caller: str, amount: int) -> None:
        of[caller] -= amount
        if of[caller] <= 0:
            del of[caller]
