"""Work is cancelled when nobody waits for it any more, and only then."""

import asyncio
import threading

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from captionloop.serving.batching import Batcher
from captionloop.serving.gateway.middleware import unless_disconnected


def request(hangs_up: asyncio.Event) -> Request:
    async def receive() -> Message:
        await hangs_up.wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http", "headers": []}, receive)


def test_work_that_is_waited_for_is_done() -> None:
    async def story() -> None:
        never = asyncio.Event()
        assert await unless_disconnected(request(never), asyncio.sleep(0.01, "done")) == "done"

        async def broken() -> None:
            raise ValueError("mine")

        with pytest.raises(ValueError, match="mine"):
            await unless_disconnected(request(never), broken())

    asyncio.run(story())


def test_who_hangs_up_leaves_the_queue() -> None:
    async def story() -> None:
        ran: list[int] = []
        gate = threading.Event()

        def run(items):
            gate.wait(10)
            ran.extend(items)
            return items

        batcher = Batcher(run, largest=1, capacity=10)
        busy = asyncio.ensure_future(batcher.submit(1))
        await asyncio.sleep(0.01)
        hung_up = asyncio.Event()
        gone = asyncio.ensure_future(unless_disconnected(request(hung_up), batcher.submit(2)))
        stays = asyncio.ensure_future(unless_disconnected(request(asyncio.Event()), batcher.submit(3)))
        await asyncio.sleep(0.01)
        hung_up.set()
        with pytest.raises(ClientDisconnect):
            await gone
        gate.set()
        assert (await busy, await stays) == (1, 3)
        assert ran == [1, 3]

    asyncio.run(story())
