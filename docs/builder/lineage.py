"""The lineage view as static files: what `make viz` shows, without a server of Kedro's."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_WRITTEN: Final = ROOT / "build"  # where `kedro viz build` writes, whatever one wishes
_ELSEWHERE: Final = re.compile(r"\s*<link\b[^>]*https://fonts\.[^>]*/>", re.DOTALL)


def build(folder: Path) -> None:
    """Writes the view into `folder`, with previews of what has been made by a run before."""
    kedro = Path(sys.executable).with_name("kedro")
    command = [kedro, "viz", "build", "--include-previews"]
    with _set_aside(_WRITTEN):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
        page = _WRITTEN / "index.html"
        if done.returncode or not page.is_file():
            raise SystemExit(f"kedro viz build failed:\n{done.stdout}{done.stderr}")
        for name in ("telemetry.html", "autoreload.html"):  # parts of Kedro's own server
            (_WRITTEN / name).unlink(missing_ok=True)
        for each in (page, page.with_name("404.html")):
            each.write_text(_ELSEWHERE.sub("", each.read_text()))
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(_WRITTEN, folder)


@contextmanager
def _set_aside(place: Path) -> Iterator[None]:
    """Images and charts are built in the same folder: they must not become part of the site."""
    aside = place.with_name(f"{place.name}.aside")
    if place.exists() and not aside.exists():  # else a build was killed, and what is at the place is its own
        place.rename(aside)
    try:
        yield
    finally:
        if aside.exists():
            shutil.rmtree(place, ignore_errors=True)
            aside.rename(place)
