"""The outermost layer, alone."""

import asyncio

from prometheus_client import REGISTRY
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from captionloop.serving.gateway.middleware import RequestMiddleware
from captionloop.serving.service_settings import Settings


def test_a_caller_who_hangs_up_is_no_error_of_ours() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ClientDisconnect

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    def counted(status: str) -> float:
        labels = {"method": "other", "route": "other", "status": status}
        return REGISTRY.get_sample_value("captionloop_requests_total", labels) or 0.0

    before = counted("499"), counted("500")
    scope = {"type": "http", "method": "POST", "path": "/v1/captions", "headers": []}
    asyncio.run(RequestMiddleware(app, Settings())(scope, receive, send))
    assert sent == [] and (counted("499"), counted("500")) == (before[0] + 1, before[1])
