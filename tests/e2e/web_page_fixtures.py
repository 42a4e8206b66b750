"""Fixtures for the web page's tests: a real service, the built page, and Debian's Chromium.

`CAPTIONLOOP_E2E_URL` points the tests at a service that runs already (with the page built);
`CAPTIONLOOP_SCREENSHOTS` names a folder that keeps the pictures they take.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright
from service_process import ServiceProcess, make_bundle
from web_page import DESKTOP, FRONTEND, Visit

CHROMIUM = shutil.which("chromium")
# Without these, Chromium looks for hosts of its own at every start.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def _newest(folder: Path) -> float:
    return max(path.stat().st_mtime for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="session")
def built_page() -> Path:
    """The folder with the built page; built here when it is older than its source."""
    index = FRONTEND / "dist/index.html"
    if index.is_file() and index.stat().st_mtime > max(
        _newest(FRONTEND / "src"), _newest(FRONTEND / "public")
    ):
        return index.parent
    if not (FRONTEND / "node_modules").is_dir() or shutil.which("npm") is None:
        pytest.skip("the web page is not built (npm --prefix frontend ci && npm --prefix frontend run build)")
    subprocess.run(["npm", "run", "build"], cwd=FRONTEND, check=True, capture_output=True, timeout=300)
    return index.parent


@pytest.fixture(scope="session")
def page_service(built_page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a service answers, with a tiny model that says nonsense through the whole machinery."""
    if running := os.environ.get("CAPTIONLOOP_E2E_URL"):
        yield running.rstrip("/")
        return
    folder = tmp_path_factory.mktemp("web-page")
    bundle = make_bundle(folder / "bundle")
    service = ServiceProcess(folder, CAPTIONLOOP_MODEL=str(bundle), CAPTIONLOOP_PAGE=str(built_page))
    try:
        yield service.wait_until_ready().url
    finally:
        service.stop()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no browser (Debian's package: chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visits(chromium: Browser, page_service: str, tmp_path: Path) -> Iterator[Callable[..., Visit]]:
    """Makes visits; at the end, none of them may have broken the page or the content security policy."""
    made: list[Visit] = []

    def visit(**options: Any) -> Visit:
        made.append(Visit(chromium, page_service, tmp_path, **{**DESKTOP, **options}))
        return made[-1]

    yield visit
    complaints = [text for one in made for text in one.complaints if "Failed to load resource" not in text]
    for one in made:
        one.context.close()
    assert complaints == []


@pytest.fixture
def visit(visits: Callable[..., Visit]) -> Visit:
    """A visit with a desktop's browser."""
    return visits()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go."""
    wanted = os.environ.get("CAPTIONLOOP_SCREENSHOTS")
    folder = Path(wanted).resolve() if wanted else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
