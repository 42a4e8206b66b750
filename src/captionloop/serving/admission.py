"""How much work is let in: what is more is told at once when to come again,
instead of waiting until nobody wants it.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from captionloop.serving.metrics import IN_FLIGHT, UPLOAD_BYTES
from captionloop.serving.problems import OVERLOADED, Problem

_MEMORY = 0.9
"""How much of the mean duration is remembered when a new one is learnt."""


class Admission:
    """Bounds the captions under way, and the memory that their bodies take.

    Args:
        at_once: captions under way at most.
        upload_memory: bytes of bodies under way at most.
    """

    def __init__(self, at_once: int, upload_memory: int) -> None:
        self._at_once = at_once
        self._upload_memory = upload_memory
        self._under_way = 0
        self._reserved = 0
        self._mean_seconds = 0.5

    @property
    def under_way(self) -> int:
        """Captions under way."""
        return self._under_way

    @contextmanager
    def enter(self, body_bytes: int) -> Iterator[None]:
        """Hold a place, and memory for a body of `body_bytes`, for as long as the block runs.

        Raises:
            Problem: 503 with `Retry-After`, if there is no place.
        """
        if self._under_way >= self._at_once or self._reserved + body_bytes > self._upload_memory:
            raise Problem(
                OVERLOADED,
                "All places are taken at the moment; try again shortly.",
                retry_after=math.ceil(min(30.0, 2 * self._mean_seconds)),
            )
        began = monotonic()
        self._change(+1, +body_bytes)
        try:
            yield
        finally:
            self._change(-1, -body_bytes)
            self._mean_seconds = _MEMORY * self._mean_seconds + (1 - _MEMORY) * (monotonic() - began)

    def _change(self, places: int, body_bytes: int) -> None:
        self._under_way += places
        self._reserved += body_bytes
        IN_FLIGHT.set(self._under_way)
        UPLOAD_BYTES.set(self._reserved)
