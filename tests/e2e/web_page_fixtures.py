"""Fixtures for the web page's tests: a real service, the built page, and Debian's Chromium.

`CAPTIONLOOP_E2E_URL` points the tests at a service that runs already (with the page built);
`CAPTIONLOOP_SCREENSHOTS` names a folder that keeps the pictures they take.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright
from service_process import ServiceProcess
from web_page import DESKTOP, Visit

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


@pytest.fixture(scope="session")
def page_url(request: pytest.FixtureRequest, page_folder: Path | None) -> str:
    """Where a service with the page answers."""
    if running := os.environ.get("CAPTIONLOOP_E2E_URL"):
        return running.rstrip("/")
    if page_folder is None:
        pytest.skip("the web page is not built (npm --prefix frontend ci && npm --prefix frontend run build)")
    service: ServiceProcess = request.getfixturevalue("service")
    return service.url


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no browser (Debian's package: chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visits(chromium: Browser, page_url: str, tmp_path: Path) -> Iterator[Callable[..., Visit]]:
    """Makes visits; at the end, none of them may have broken the page or the content security policy."""
    made: list[Visit] = []

    def visit(**options: Any) -> Visit:
        made.append(Visit(chromium, page_url, tmp_path, **{**DESKTOP, **options}))
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
def screenshots() -> Path | None:
    """Where screenshots go, if anybody wants to look at them."""
    wanted = os.environ.get("CAPTIONLOOP_SCREENSHOTS")
    if not wanted:
        return None
    folder = Path(wanted).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
