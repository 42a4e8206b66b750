import asyncio
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captionloop.serving.batching import Batcher, BatcherFullError


class Doubling:
    """Doubles numbers, and can be held up."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        if not held:
            self.go.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.go.wait(10)
        if 13 in items:
            raise RuntimeError("thirteen")
        return [2 * item for item in items]


async def under_way(run: Doubling) -> None:
    while not run.batches:
        await asyncio.sleep(0.001)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(14, 100), min_size=1, max_size=40), st.integers(1, 8))
def test_everybody_gets_their_own_result_and_no_batch_is_too_large(items: list[int], largest: int) -> None:
    run = Doubling()

    async def go() -> list[int]:
        batcher = Batcher(run, largest=largest, capacity=100)
        return list(await asyncio.gather(*(batcher.submit(item) for item in items)))

    assert asyncio.run(go()) == [2 * item for item in items]
    assert max(len(batch) for batch in run.batches) <= largest
    assert sorted(item for batch in run.batches for item in batch) == sorted(items)


def test_what_comes_while_the_model_is_busy_goes_in_together() -> None:
    async def go() -> None:
        run = Doubling(held=True)
        batcher = Batcher(run, largest=8, capacity=100)
        first = asyncio.create_task(batcher.submit(1))
        await under_way(run)
        others = [asyncio.create_task(batcher.submit(item)) for item in (2, 3, 4)]
        await asyncio.sleep(0)
        run.go.set()
        await asyncio.gather(first, *others)
        assert run.batches == [[1], [2, 3, 4]]

    asyncio.run(go())


def test_who_has_given_up_is_left_out() -> None:
    async def go() -> None:
        run = Doubling(held=True)
        batcher = Batcher(run, largest=8, capacity=100)
        first = asyncio.create_task(batcher.submit(1))
        await under_way(run)
        impatient, patient = asyncio.create_task(batcher.submit(2)), asyncio.create_task(batcher.submit(3))
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.sleep(0)
        run.go.set()
        assert await asyncio.gather(first, patient) == [2, 6]
        assert run.batches == [[1], [3]]

    asyncio.run(go())


def test_a_batch_that_fails_is_told_and_the_next_one_goes_on() -> None:
    async def go() -> None:
        batcher = Batcher(Doubling(), largest=1, capacity=100)
        failed, fine = await asyncio.gather(batcher.submit(13), batcher.submit(14), return_exceptions=True)
        assert isinstance(failed, RuntimeError) and fine == 28

    asyncio.run(go())


def test_too_many_are_refused_at_once() -> None:
    async def go() -> None:
        run = Doubling(held=True)
        batcher = Batcher(run, largest=1, capacity=2)
        first = asyncio.create_task(batcher.submit(1))
        await under_way(run)
        waiting = [asyncio.create_task(batcher.submit(item)) for item in (2, 3)]
        await asyncio.sleep(0)
        with pytest.raises(BatcherFullError):
            await batcher.submit(4)
        run.go.set()
        await asyncio.gather(first, *waiting)

    asyncio.run(go())


def test_as_many_batches_at_once_as_there_are_streams() -> None:
    async def go() -> None:
        run = Doubling(held=True)
        batcher = Batcher(run, largest=2, capacity=100, streams=2)
        asked = []
        for item in range(1, 8):
            asked.append(asyncio.create_task(batcher.submit(item)))
            await asyncio.sleep(0.01)
        assert run.batches == [[1], [2]]
        run.go.set()
        assert await asyncio.gather(*asked) == [2, 4, 6, 8, 10, 12, 14]
        assert sorted(run.batches[2:]) == [[3, 4], [5, 6], [7]]

    asyncio.run(go())
