"""The web page and the API's description, served from this machine:
no page of ours loads anything from elsewhere.
"""

from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

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
