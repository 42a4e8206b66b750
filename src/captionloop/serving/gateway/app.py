"""The gateway as a FastAPI application with its web page, put together as the settings say."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from captionloop import __version__
from captionloop.errors import CaptionloopError
from captionloop.paths import printable
from captionloop.photos import PhotoArchive
from captionloop.ratings.api_keys import ApiKeyStore
from captionloop.ratings.idempotency_store import IdempotencyStore
from captionloop.ratings.rating_queue import RatingQueue
from captionloop.ratings.rating_store import open_store
from captionloop.ratings.usage_statistics import statistics
from captionloop.serving.gateway import caption_routes, rating_queue_routes, service_routes
from captionloop.serving.gateway.auth import Access
from captionloop.serving.gateway.dependencies import Services
from captionloop.serving.gateway.http_protocol import TrustedProxies
from captionloop.serving.gateway.middleware import RequestMiddleware, count_refusal
from captionloop.serving.gateway.model_client import CaptionModel, ModelMonitor
from captionloop.serving.gateway.problems import (
    MALFORMED,
    REQUEST_INVALID,
    FieldError,
    Problem,
    document,
    from_status,
)
from captionloop.serving.gateway.retention import sweep_regularly
from captionloop.serving.gateway.storage import CachedAnswer, SharedCall, storage_unavailable
from captionloop.serving.gateway.uploads import Admission, PhotoReader
from captionloop.serving.service_settings import Settings

_ASSETS = "/docs/assets"
_DOCS_POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
)
_NO_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>captionloop</title>
<h1>captionloop</h1>
<p>The service runs. Its web page is not built; its API is described at <a href="docs">/docs</a>.</p>"""


class WebPage(StaticFiles):
    """The built page. Paths that are pages within it (no dot in their last part) give its `index.html`."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file with the right caching, or the page."""
        try:
            response = await super().get_response(path, scope)
        except HTTPException as error:
            if error.status_code != 404 or path.startswith("v1") or "." in path.rsplit("/", 1)[-1]:
                raise
            path = "index.html"
            response = await super().get_response(path, scope)
        # Vite names assets by their content; what is not named so may change under its name.
        lasting = path.startswith("assets/")
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if lasting else "no-cache"
        return response


def add_page(app: FastAPI, folder: Path | None) -> None:
    """Serve the page at `/`; a note in its place where it is not built.
    To be called after all other routes.
    """
    if folder is not None:
        app.mount("/", WebPage(directory=folder, html=True), name="page")
        return

    @app.get("/", include_in_schema=False)
    async def no_page() -> HTMLResponse:
        return HTMLResponse(_NO_PAGE)


def add_docs(app: FastAPI) -> None:
    """Serve the API's description at `/docs`, with the Swagger UI that BentoML carries."""
    assets = swagger_assets()
    if assets is not None:
        app.mount(_ASSETS, StaticFiles(directory=assets), name="docs-assets")

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        if assets is None:
            return HTMLResponse(
                '<!doctype html><title>API</title><p><a href="openapi.json">/openapi.json</a></p>'
            )
        before = request.scope.get("root_path", "")
        page = get_swagger_ui_html(
            openapi_url=f"{before}/openapi.json",
            title="captionloop API",
            swagger_js_url=f"{before}{_ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{before}{_ASSETS}/swagger-ui.css",
            swagger_favicon_url="data:,",
        )
        page.headers["Content-Security-Policy"] = _DOCS_POLICY
        return page


def swagger_assets() -> Path | None:
    """The folder with Swagger UI's files, if BentoML still carries them where it did."""
    spec = find_spec("bentoml")
    for place in spec.submodule_search_locations or [] if spec else []:
        folder = Path(place) / "_internal/server/static_content"
        if (folder / "swagger-ui-bundle.js").is_file() and (folder / "swagger-ui.css").is_file():
            return folder
    return None


def create_app(settings: Settings) -> FastAPI:
    """The application. Its services must be put into `app.state.services` before it starts."""
    app = FastAPI(
        title="captionloop",
        version=__version__,
        summary="Captions for photos, and what people think of them",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        lifespan=_lifespan,
    )
    app.include_router(caption_routes.router)
    app.include_router(caption_routes.me)
    app.include_router(rating_queue_routes.router)
    app.include_router(service_routes.counted)
    app.include_router(service_routes.router)
    if settings.anonymous:
        _mark_keys_optional(app)
    add_docs(app)
    add_page(app, settings.page_folder)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(CaptionloopError, _on_storage_error)
    app.add_exception_handler(SQLAlchemyError, _on_storage_error)
    app.add_middleware(RequestMiddleware, settings=settings)
    app.add_middleware(  # outermost: everybody else sees the caller, and not the proxy
        TrustedProxies, trusted=settings.trusted_proxies, root_path=settings.root_path
    )
    return app


def _mark_keys_optional(app: FastAPI) -> None:
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
    services: Services = app.state.services
    services.model.start()
    sweeper = asyncio.create_task(sweep_regularly(services))
    try:
        yield
    finally:
        sweeper.cancel()
        await services.model.stop()
        services.photos.close()
        await run_in_threadpool(services.store.close)


def _problem_response(request: Request, problem: Problem) -> Response:
    count_refusal(problem)
    problem.headers = {**getattr(request.state, "limit_headers", {}), **(problem.headers or {})}
    return document(problem, path=request.url.path, request_id=request.state.request_id)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    if isinstance(error, Problem):
        return _problem_response(request, error)
    assert isinstance(error, HTTPException)
    return _problem_response(request, from_status(error.status_code, _detail(error), error.headers))


def _detail(error: HTTPException) -> str:
    if error.status_code == 404:
        return "There is nothing at this path; see /docs."
    if error.status_code == 405:
        return "This path does not take this method; see /docs."
    return str(error.detail)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    """What the caller sent is never repeated: only which field breaks which rule."""
    assert isinstance(error, RequestValidationError)
    failures = error.errors()
    if any(each["type"] == "json_invalid" for each in failures):
        return _problem_response(request, Problem(MALFORMED, "The body is not valid JSON."))
    errors = [
        FieldError(".".join(str(part) for part in each["loc"][1:]) or "body", printable(each["msg"]))
        for each in failures
    ]
    detail = "; ".join(f"{each.field}: {each.message}" for each in errors[:3]) + "."
    return _problem_response(request, Problem(REQUEST_INVALID, detail, errors=errors))


async def _on_storage_error(request: Request, error: Exception) -> Response:
    return _problem_response(request, storage_unavailable(error))


STATISTICS_SECONDS = 60.0
STORING_SECONDS = 30.0
"""Which a request that was captioned may still take, before it counts as given up."""


def build_services(settings: Settings, model: CaptionModel) -> Services:
    """All parts of a gateway in front of `model`."""
    store = open_store(settings.database_url, is_embedded=settings.embedded_database)
    return Services(
        settings=settings,
        store=store,
        queue=RatingQueue(store.reader, store.writer, settings.gold_share),
        repeats=IdempotencyStore(store.writer, settings.caption_seconds + STORING_SECONDS),
        archive=PhotoArchive(settings.photo_root),
        access=Access(settings, ApiKeyStore(store)),
        admission=Admission(
            settings.captions_at_once,
            settings.upload_memory_bytes,
            largest_body=2 * settings.max_body_bytes,
            per_caller=settings.captions_at_once_per_caller,
        ),
        photos=PhotoReader(settings.decode_threads, settings.max_pixels),
        model=ModelMonitor(model, settings.caption_seconds),
        statistics=CachedAnswer(partial(statistics, store.reader), STATISTICS_SECONDS),
        database_trouble=SharedCall(partial(service_routes.database_trouble, store)),
        metrics=SharedCall(service_routes.exposition),
    )
