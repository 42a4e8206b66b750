"""The services of the gateway, and the dependencies by which routes get them."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends
from fastapi.routing import APIRoute
from fastapi.security.base import SecurityBase
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response

from captionloop.photos import PhotoArchive
from captionloop.ratings.database import DatabaseError
from captionloop.ratings.idempotency_store import IdempotencyStore
from captionloop.ratings.rating_queue import RatingQueue
from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.usage_statistics import Statistics
from captionloop.serving.gateway.auth import COOKIE, COOKIE_SECONDS, Access, Caller
from captionloop.serving.gateway.model_client import ModelMonitor
from captionloop.serving.gateway.storage import (
    DATABASE_SECONDS,
    CachedAnswer,
    SharedCall,
    ask,
    storage_unavailable,
)
from captionloop.serving.gateway.uploads import Admission, PhotoReader
from captionloop.serving.service_settings import Settings
from captionloop.serving.telemetry import WRITES_WAITING

T = TypeVar("T")


@dataclass
class Services:
    """Everything a route may need.

    `is_stopping` is set when the service has been asked to stop; `abandoned` are captions that nobody was
    told of, and that may have been stored all the same.
    """

    settings: Settings
    store: RatingsStore
    queue: RatingQueue
    repeats: IdempotencyStore
    archive: PhotoArchive
    access: Access
    admission: Admission
    photos: PhotoReader
    model: ModelMonitor
    statistics: CachedAnswer[Statistics]
    database_trouble: SharedCall[str]
    metrics: SharedCall[bytes]
    is_stopping: bool = field(default=False)
    abandoned: set[str] = field(default_factory=set)

    async def write(self, submit: Callable[[], "Future[T]"]) -> T:
        """Hand a change to the store and wait until it is on the disk.

        Raises:
            Problem: 503, if the database cannot take it.
        """
        try:
            pending = submit()
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


async def _services(request: Request) -> Services:  # async: FastAPI would call it in a thread
    return cast(Services, request.app.state.services)


ServicesDep = Annotated[Services, Depends(_services)]


class CountedRoute(APIRoute):
    """A route whose every call is counted, before its body is looked at: one that is refused as well."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request."""
        dependant = self.dependant
        # `CREDENTIALS` are there for the description: solving them takes a tenth of a request's time.
        dependencies = [each for each in dependant.dependencies if not isinstance(each.call, SecurityBase)]
        self.dependant = replace(dependant, dependencies=dependencies)
        handle = super().get_route_handler()
        self.dependant = dependant
        makes_caption = "POST" in (self.methods or ())

        async def counted(request: Request) -> Response:
            services = await _services(request)
            caller = await services.access.caller(request)
            request.state.caller = caller
            limits = await services.access.count(caller, makes_caption=makes_caption)
            request.state.limit_headers = limits  # for the answers that handlers of errors make
            response = await handle(request)
            response.headers.update(limits)
            if caller.cookie is not None:
                set_rater_cookie(request, response, caller.cookie)
            return response

        return counted


async def _caller(request: Request) -> Caller:
    return cast(Caller, request.state.caller)


CallerDep = Annotated[Caller, Depends(_caller)]


def set_rater_cookie(request: Request, response: Response, value: str) -> None:
    """Let a browser come back as who it is. Not readable by scripts, not sent by other sites' pages."""
    forwarded = request.headers.get("x-forwarded-proto", "")
    secure = "https" in (request.url.scheme, forwarded)
    response.set_cookie(
        COOKIE, value, max_age=COOKIE_SECONDS, httponly=True, samesite="strict", secure=secure, path="/"
    )
