"""Model servers that run apart from the gateway, behind one address: a Kubernetes service, or nginx.

Connections are kept, for a new one for every photo costs more than the photo. They are renewed every half
minute all the same: a balancer that chooses a server by connection would never send a kept one to a server
that came later.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from time import monotonic
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout
from pydantic import ValidationError

from captionloop.serving.upstream import persistently
from captionloop.serving.wire import ModelDescription, Outcome, PreparedImage

RENEW_SECONDS = 30.0
CONNECT_SECONDS = 2.0


class TurnedAwayError(ClientError):
    """A model server that is full, stopping, or has no model yet: another one may do."""


@dataclass
class _Line:
    session: ClientSession
    opened: float
    users: int = 0


class RemoteModelServers:
    """Whatever answers at `url`, as a `CaptionModel`.

    Args:
        url: without a path, for example `http://model-server:3000`.
        renew_seconds: how old connections get.
    """

    def __init__(self, url: str, renew_seconds: float = RENEW_SECONDS) -> None:
        self._url = url.rstrip("/")
        self._renew_seconds = renew_seconds
        self._line: _Line | None = None

    async def caption(self, image: PreparedImage) -> Outcome:
        """One image in, one outcome out; tried on another server where one is lost or not ready."""
        body = {"image": image.model_dump(mode="json")}

        async def attempt() -> Outcome:
            status, answer = await self._post("caption", body)
            if status != HTTPStatus.OK:
                raise TurnedAwayError(f"model server answered {status}")
            return Outcome.model_validate_json(answer)

        return await persistently(attempt)

    async def describe(self) -> ModelDescription:
        """What the server that answers is serving; behind a balancer, one that is ready if there is one."""
        status, answer = await self._post("describe", {})
        try:
            return ModelDescription.model_validate_json(answer)
        except ValidationError as error:
            raise TurnedAwayError(f"model server answered {status}") from error

    async def _post(self, route: str, body: dict[str, Any]) -> tuple[int, bytes]:
        async with (
            self._session() as session,
            session.post(f"{self._url}/{route}", json=body) as answer,
        ):
            return answer.status, await answer.read()

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[ClientSession]:
        old, line = self._line, self._current_line()
        line.users += 1  # before anything is awaited: an unused line may be closed
        try:
            if old is not None and old is not line:
                await self._close_unused(old)
            yield line.session
        finally:
            line.users -= 1
            await self._close_unused(line)

    async def _close_unused(self, line: _Line) -> None:
        if line is not self._line and not line.users:
            await line.session.close()

    def _current_line(self) -> _Line:
        if self._line is None or monotonic() - self._line.opened >= self._renew_seconds:
            timeout = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
            self._line = _Line(ClientSession(timeout=timeout), monotonic())
        return self._line
