"""A person's visit to the web page, as the browser tests see it."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Locator, Page
from service_process import photo

FRONTEND = Path(__file__).resolve().parents[2] / "frontend"

DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 860}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 360, "height": 760},
    "has_touch": True,
    "is_mobile": True,
    "device_scale_factor": 2,
}


def built_page() -> Path | None:
    """The built page, built here when it is older than its source; `None` where it cannot be."""
    index = FRONTEND / "dist/index.html"
    sources = (path for part in ("src", "public") for path in (FRONTEND / part).rglob("*") if path.is_file())
    if index.is_file() and index.stat().st_mtime > max(path.stat().st_mtime for path in sources):
        return index.parent
    if not (FRONTEND / "node_modules").is_dir() or shutil.which("npm") is None:
        return None
    subprocess.run(["npm", "run", "build"], cwd=FRONTEND, check=True, capture_output=True, timeout=300)
    return index.parent


def keep_screenshot(page: Page, folder: Path | None, name: str) -> None:
    """The whole page as a picture, where anybody wants to look at it."""
    if folder is not None:
        page.screenshot(path=folder / name, full_page=True)


class Visit:
    """One person's visit: a browser with nothing remembered, and what went wrong in it."""

    def __init__(self, browser: Browser, url: str, photos: Path, **options: Any) -> None:
        self.url = url
        self.context: BrowserContext = browser.new_context(**{"reduced_motion": "reduce", **options})
        self.context.set_default_timeout(30_000)
        self.page: Page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console", lambda m: self.complaints.append(m.text) if m.type in {"error", "warning"} else None
        )
        self._photos = photos
        self.page.goto(url)
        self.page.get_by_role("heading", level=1).wait_for()

    @property
    def words(self) -> Locator:
        """The caption's words, once there is a caption."""
        return self.page.get_by_role("toolbar").get_by_role("button")

    @property
    def overlay(self) -> Locator:
        return self.page.locator("canvas[data-lit]")

    def photo(self, name: str = "photo.jpg", seed: int = 0, content: bytes | None = None) -> Path:
        """A file to be chosen; noise of 320 x 240 px, if nothing else is asked for."""
        path = self._photos / name
        path.write_bytes(photo(seed) if content is None else content)
        return path

    def choose(self, path: Path) -> None:
        self.page.locator("input[type=file]").first.set_input_files(path)

    def caption(self, seed: int = 0) -> str:
        """Has a photo captioned; gives the caption as shown."""
        self.choose(self.photo(seed=seed))
        self.words.first.wait_for()
        return " ".join(self.words.locator(".text").all_inner_texts()).lower()

    def stars(self, stars: int) -> None:
        """Rates, and waits until it is saved."""
        with self.page.expect_response(lambda answer: answer.request.method == "PUT") as saved:
            self.page.get_by_role("radio", name=re.compile(rf"^{stars} (of|von) 5")).check(force=True)
        assert saved.value.ok
