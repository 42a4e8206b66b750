"""Dynamic batching: items that arrive while the model is busy form the next batch.

A lone image never waits for company, and under load batches grow to what the model likes. Nothing is
estimated, so nothing is dropped on an estimate; whoever has given up meanwhile is left out. Why this is not
BentoML's own batching is told in docs/decisions/0040-round-bentoml.md.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class BatcherFullError(Exception):
    """The queue of items is full."""


class Batcher(Generic[Item, Result]):
    """Collects items and runs them in batches, in threads of its own.

    Args:
        run: results of a batch, in its order; called from as many threads at once as there are streams.
        largest: items in a batch at most.
        capacity: items that may wait.
        streams: batches at a time.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        largest: int,
        capacity: int,
        streams: int = 1,
    ) -> None:
        self._run = run
        self._largest = largest
        self._capacity = capacity
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._threads = ThreadPoolExecutor(streams, thread_name_prefix="batches")
        self._streams = streams
        self._min_concurrent_batch = max(1, largest // 2)
        self._busy = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Items that no batch has taken yet."""
        return len(self._waiting)

    async def submit(self, item: Item) -> Result:
        """The item's result, when its batch is done.

        Raises:
            BatcherFullError: too many wait already.
        """
        if len(self._waiting) >= self._capacity:
            raise BatcherFullError(f"{self._capacity} images wait for the model already")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._busy < self._streams and self._should_start():
            self._busy += 1
            task = asyncio.create_task(self._run_stream())
            self._tasks.add(task)  # the loop itself holds tasks by weak references
            task.add_done_callback(self._tasks.discard)
        return await future

    def _should_start(self) -> bool:
        """Whether a free stream should take what waits.

        A small batch costs nearly as much as a large one: while another stream is busy, which will soon take
        what waits, a free one starts for half a batch and not for less.
        """
        return len(self._waiting) >= (self._min_concurrent_batch if self._busy else 1)

    async def _run_stream(self) -> None:
        """Runs batches until too few items wait; a busy stream takes the rest."""
        while True:
            await self._run_batch()
            self._busy -= 1
            if not self._should_start():
                return
            self._busy += 1

    async def _run_batch(self) -> None:
        batch = [(item, future) for item, future in self._waiting[: self._largest] if not future.done()]
        del self._waiting[: self._largest]
        if not batch:
            return
        items = [item for item, _ in batch]
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._threads, self._run, items)
        except Exception as error:  # the whole batch is told; the next one goes on
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
