"""Progress and log lines for people: bars and colours on a terminal, a line for each event elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 15.0


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:,.0f} {self._unit}/s")


@contextmanager
def progress(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Yields `advance(n)`, to be called when `n` more of the `total` units are done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(label, total, unit)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)


def _lines(label: str, total: int, unit: str) -> Callable[[int], None]:
    begin = last = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES or done == total:
            last, rate = now, done / max(now - begin, 1e-9)
            left = (total - done) / rate
            logger.info("%s: %d of %d %s, %.0f %s/s, %.0f s left", label, done, total, unit, rate, unit, left)

    return advance


def log_in_lines() -> None:
    """Where standard output is no terminal, the root logger's rich handlers become one line for each event.

    Rich breaks lines at the width of the terminal, and at 80 columns where there is none: in a file, an event
    would be several lines that no search finds.
    """
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, RichHandler)]:
        if handler.console.is_terminal:
            continue
        lines = logging.StreamHandler(sys.stdout)
        lines.setLevel(handler.level)
        lines.setFormatter(logging.Formatter("%(asctime)s %(levelname)-8s %(message)s", "%H:%M:%S"))
        root.removeHandler(handler)
        root.addHandler(lines)
