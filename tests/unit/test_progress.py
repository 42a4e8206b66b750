"""What people read of a run: one line an event where there is no terminal."""

import io
import logging
from collections.abc import Iterator

import pytest
from rich.console import Console
from rich.logging import RichHandler

from captionloop.progress import log_in_lines

LONG = "Loaded " + " ".join(f"word{number}" for number in range(60))


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    before = logger.handlers[:]
    yield logger
    logger.handlers[:] = before


def rich(file: io.StringIO, *, terminal: bool) -> RichHandler:
    return RichHandler(level=logging.WARNING, console=Console(file=file, force_terminal=terminal))


def test_without_a_terminal_an_event_is_a_line(root, capsys) -> None:
    handler = rich(io.StringIO(), terminal=False)
    root.addHandler(handler)
    log_in_lines()
    assert handler not in root.handlers
    logging.getLogger("some.module").warning(LONG)
    lines = [line for line in capsys.readouterr().out.splitlines() if "word59" in line]
    assert lines and all(line.endswith(f"WARNING  {LONG}") for line in lines)


def test_the_level_of_the_handler_is_kept(root, capsys) -> None:
    root.addHandler(rich(io.StringIO(), terminal=False))
    log_in_lines()
    root.handlers[-1].handle(logging.makeLogRecord({"levelno": logging.WARNING, "msg": "seen"}))
    assert root.handlers[-1].level == logging.WARNING


def test_a_terminal_keeps_its_colours(root) -> None:
    handler = rich(io.StringIO(), terminal=True)
    root.addHandler(handler)
    log_in_lines()
    assert handler in root.handlers
