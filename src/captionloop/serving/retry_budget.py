"""How often to try again: a share of what succeeds to be asked, so that overload is not multiplied.

If every caller of a service that is full asks three times, it is three times as full. With a budget callers
together ask hardly more often than once, and one that fails now and then is still tried again.
"""

import threading


class RetryBudget:
    """Grows a little with every request, and pays for every repetition.

    Args:
        share: repetitions for each request, in the long run.
        start: what is there at the beginning.
        most: what is saved at most.
    """

    def __init__(self, share: float = 0.1, start: float = 2.0, most: float = 10.0) -> None:
        self._share = share
        self._most = most
        self._left = start
        self._lock = threading.Lock()

    def earn(self) -> None:
        """A request is made for the first time."""
        with self._lock:
            self._left = min(self._most, self._left + self._share)

    def spend(self) -> bool:
        """Whether one may be repeated; pays for it."""
        with self._lock:
            if self._left < 1.0:
                return False
            self._left -= 1.0
            return True
