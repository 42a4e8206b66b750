"""Model servers that run apart, played by real HTTP servers on this machine."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.client_exceptions import ClientError
from pydantic import BaseModel

from captionloop.serving.gateway.model_client import RemoteModelServers, ServerUnavailableError
from captionloop.serving.schemas import CaptionResult, ModelDescription, PreparedImage

IMAGE = PreparedImage(size=2, pixels=bytes(range(244, 256)))
SAID = CaptionResult(model_name="captioner", model_version="3", caption="a red square")
READY = ModelDescription(ready=True, version="3")
Handler = Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]


def answer(message: BaseModel, status: int = 200) -> web.Response:
    return web.json_response(message.model_dump(mode="json"), status=status)


@asynccontextmanager
async def server(caption: Handler, description: ModelDescription = READY) -> AsyncIterator[str]:
    async def describe(_: web.Request) -> web.Response:
        return answer(description, status=200 if description.ready else 503)

    app = web.Application()
    app.add_routes([web.post("/caption", caption), web.post("/describe", describe)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def test_pixels_arrive_as_they_were_sent() -> None:
    seen: list[PreparedImage] = []

    async def caption(request: web.Request) -> web.Response:
        seen.append(PreparedImage.model_validate((await request.json())["image"]))
        return answer(SAID)

    async def story() -> None:
        async with server(caption) as url:
            model = RemoteModelServers(url)
            assert await model.caption(IMAGE) == SAID
            assert (await model.describe()).version == "3"

    asyncio.run(story())
    assert seen == [IMAGE]


def test_a_server_that_breaks_off_or_has_no_model_yet_is_asked_again() -> None:
    calls = 0

    async def caption(request: web.Request) -> web.StreamResponse:
        nonlocal calls
        calls += 1
        if calls == 1:
            assert request.transport is not None
            request.transport.abort()
        if calls == 3:
            return answer(SAID)
        return answer(CaptionResult(model_name="", model_version="", error="no model"), status=503)

    async def story() -> None:
        async with server(caption) as url:
            assert await RemoteModelServers(url).caption(IMAGE) == SAID

    asyncio.run(story())
    assert calls == 3


def test_where_no_server_has_a_model_the_gateway_is_told_why() -> None:
    waiting = ModelDescription(ready=False, reason="no model is registered yet")

    async def caption(_: web.Request) -> web.Response:
        raise web.HTTPServiceUnavailable

    async def story() -> None:
        async with server(caption, waiting) as url:
            assert await RemoteModelServers(url).describe() == waiting

    asyncio.run(story())


def test_after_three_tries_the_gateway_is_told() -> None:
    async def caption(_: web.Request) -> web.Response:
        raise web.HTTPServiceUnavailable

    async def story() -> None:
        async with server(caption) as url:
            with pytest.raises(ServerUnavailableError):
                await RemoteModelServers(url).caption(IMAGE)
        with pytest.raises(ClientError):
            await RemoteModelServers(url).caption(IMAGE)

    asyncio.run(story())


def test_connections_are_renewed_and_none_is_closed_under_a_request() -> None:
    peers = set()

    async def caption(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        await asyncio.sleep(0.05)
        return answer(SAID)

    async def story(renew_seconds: float) -> int:
        peers.clear()
        async with server(caption) as url:
            model = RemoteModelServers(url, renew_seconds)
            for _ in range(3):
                assert await asyncio.gather(model.caption(IMAGE), model.caption(IMAGE)) == [SAID, SAID]
        return len(peers)

    assert asyncio.run(story(60)) == 2, "kept"
    assert asyncio.run(story(0)) == 6, "every request on a new one"
