"""The gateway as a FastAPI application, put together from parts that are handed in."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from captionloop import __version__
from captionloop.errors import CaptionloopError
from captionloop.paths import printable
from captionloop.serving import captions_api, insight_api
from captionloop.serving.edge import Edge, count_refusal
from captionloop.serving.page import add_docs, add_page
from captionloop.serving.parts import Parts
from captionloop.serving.problems import (
    MALFORMED,
    REQUEST_INVALID,
    FieldError,
    Problem,
    document,
    from_status,
)
from captionloop.serving.proxies import TrustedProxies
from captionloop.serving.settings import Settings
from captionloop.serving.storage import storage_unavailable
from captionloop.serving.sweeping import sweep_regularly


def create_app(settings: Settings) -> FastAPI:
    """The application. Its parts must be put into `app.state.parts` before it starts."""
    app = FastAPI(
        title="captionloop",
        version=__version__,
        summary="Captions for photos, and what people think of them",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        lifespan=_lifespan,
    )
    app.include_router(captions_api.router)
    app.include_router(captions_api.me)
    app.include_router(insight_api.counted)
    app.include_router(insight_api.router)
    if settings.anonymous:
        _say_that_keys_are_optional(app)
    add_docs(app)
    add_page(app, settings.page_folder)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(CaptionloopError, _on_storage_error)
    app.add_exception_handler(SQLAlchemyError, _on_storage_error)
    app.add_middleware(Edge, settings=settings)
    app.add_middleware(  # outermost: everybody else sees the caller, and not the proxy
        TrustedProxies, trusted=settings.trusted_proxies, root_path=settings.root_path
    )
    return app


def _say_that_keys_are_optional(app: FastAPI) -> None:
    """In the description: `{}` among the ways to show who one is means that none is needed (OpenAPI 3)."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            for operations in describe()["paths"].values():
                for operation in operations.values():
                    if "security" in operation:
                        operation["security"].append({})
        return describe()

    app.openapi = openapi  # type: ignore[method-assign]


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    parts: Parts = app.state.parts
    parts.model.start()
    sweeper = asyncio.create_task(sweep_regularly(parts))
    try:
        yield
    finally:
        sweeper.cancel()
        await parts.model.stop()
        parts.photos.close()
        await run_in_threadpool(parts.store.close)


def _answer(request: Request, problem: Problem) -> Response:
    count_refusal(problem)
    problem.headers = {**getattr(request.state, "limit_headers", {}), **(problem.headers or {})}
    return document(problem, path=request.url.path, request_id=request.state.request_id)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    if isinstance(error, Problem):
        return _answer(request, error)
    assert isinstance(error, HTTPException)
    return _answer(request, from_status(error.status_code, _detail(error), error.headers))


def _detail(error: HTTPException) -> str:
    if error.status_code == 404:
        return "There is nothing at this path; see /docs."
    if error.status_code == 405:
        return "This path does not take this method; see /docs."
    return str(error.detail)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    """What the caller sent is never repeated: only which field breaks which rule."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(each["type"] == "json_invalid" for each in found):
        return _answer(request, Problem(MALFORMED, "The body is not valid JSON."))
    errors = [
        FieldError(".".join(str(part) for part in each["loc"][1:]) or "body", printable(each["msg"]))
        for each in found
    ]
    detail = "; ".join(f"{each.field}: {each.message}" for each in errors[:3]) + "."
    return _answer(request, Problem(REQUEST_INVALID, detail, errors=errors))


async def _on_storage_error(request: Request, error: Exception) -> Response:
    return _answer(request, storage_unavailable(error))
