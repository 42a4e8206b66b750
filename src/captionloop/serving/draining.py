"""Stopping without letting anybody down: on SIGTERM (or Ctrl-C) first say so, then wait, then let the server
stop.

Uvicorn stops taking connections the moment it gets the signal, and all processes get it together. The gateway
turns unready first, so that whoever balances load looks elsewhere; the model server stays until no gateway
asks it any more. A second signal stops at once.
"""

import signal
import threading
from collections.abc import Callable
from time import monotonic
from types import FrameType

POLL_SECONDS = 0.05


class StopSignal:
    """Stands between a signal and uvicorn's handler of it.

    Args:
        begin: called at the signal.
        may_stop: asked until it says yes, given the seconds since the signal.
        force_after: seconds after which requests that are still under way are cut off.
    """

    def __init__(
        self,
        begin: Callable[[], None],
        may_stop: Callable[[float], bool],
        *,
        force_after: float | None = None,
    ) -> None:
        self._begin = begin
        self._may_stop = may_stop
        self._force_after = force_after
        self._began: float | None = None
        self._handlers: dict[int, Callable[[int, FrameType | None], object]] = {}

    def install(self) -> None:
        """Take over SIGTERM and SIGINT. Does nothing outside the main thread,
        or where no server handles them.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            handler = signal.getsignal(number)
            if callable(handler):
                self._handlers[number] = handler
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        stop = self._handlers[number]
        if self._began is not None:
            stop(number, frame)
            return
        self._began = monotonic()
        self._begin()
        threading.Thread(target=self._wait, args=(number,), name="draining", daemon=True).start()

    def _wait(self, number: int) -> None:
        began = self._began or monotonic()
        while not self._may_stop(monotonic() - began):
            threading.Event().wait(POLL_SECONDS)
        self._handlers[number](number, None)
        if self._force_after is None:
            return
        threading.Event().wait(max(0.0, self._force_after - (monotonic() - began)))
        # Uvicorn cuts requests off at a second SIGINT.
        self._handlers.get(signal.SIGINT, self._handlers[number])(signal.SIGINT, None)
