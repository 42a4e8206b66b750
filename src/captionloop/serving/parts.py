"""The parts that the gateway is put together from, and how a route gets at them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response

from captionloop.feedback.archive import PhotoArchive
from captionloop.feedback.database import DatabaseError
from captionloop.feedback.store import RatingsStore
from captionloop.serving.access import COOKIE, COOKIE_SECONDS, Access, Caller
from captionloop.serving.admission import Admission
from captionloop.serving.metrics import WRITES_WAITING
from captionloop.serving.photos import PhotoReader
from captionloop.serving.settings import Settings
from captionloop.serving.storage import DATABASE_SECONDS, ask, storage_unavailable
from captionloop.serving.upstream import ModelWatch

T = TypeVar("T")


@dataclass
class Parts:
    """Everything a route may need. `draining` is set when the service has been asked to stop."""

    settings: Settings
    store: RatingsStore
    archive: PhotoArchive
    access: Access
    admission: Admission
    photos: PhotoReader
    model: ModelWatch
    draining: bool = field(default=False)

    async def written(self, write: Callable[[], "Future[T]"]) -> T:
        """Hand a change to the store and wait until it is on the disk.

        Raises:
            Problem: 503, if the database cannot take it.
        """
        try:
            pending = write()
            WRITES_WAITING.set(self.store.writer.waiting())
            async with asyncio.timeout(DATABASE_SECONDS):
                return await asyncio.wrap_future(pending)
        except (DatabaseError, SQLAlchemyError, TimeoutError) as error:
            raise storage_unavailable(error) from error

    async def read(self, question: Callable[..., T], *arguments: Any) -> T:
        """Ask the store something, in a thread.

        Raises:
            Problem: 503, if the database does not answer.
        """
        return await ask(question, *arguments)


async def _parts(request: Request) -> Parts:  # async: FastAPI would call it in a thread
    return cast(Parts, request.app.state.parts)


PartsDep = Annotated[Parts, Depends(_parts)]


async def _caller(request: Request, response: Response, parts: PartsDep) -> AsyncIterator[Caller]:
    caller = await parts.access.caller(request)
    if caller.cookie is not None:
        set_rater_cookie(request, response, caller.cookie)
    yield caller


CallerDep = Annotated[Caller, Depends(_caller)]


def set_rater_cookie(request: Request, response: Response, value: str) -> None:
    """Let a browser come back as who it is. Not readable by scripts, not sent by other sites' pages."""
    forwarded = request.headers.get("x-forwarded-proto", "")
    secure = "https" in (request.url.scheme, forwarded)
    response.set_cookie(
        COOKIE, value, max_age=COOKIE_SECONDS, httponly=True, samesite="strict", secure=secure, path="/"
    )
