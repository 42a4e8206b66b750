"""What administrators do, one line each: who did what, to what, and what came of it.

The service writes them to its log. Commands have none: they append theirs to a file, in the same form, one
line of JSON each (`CAPTIONLOOP_AUDIT_LOG`, else `audit.log` in the state folder). No line holds a secret, a
caption, or anything else that people wrote.
"""

import getpass
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import click
import structlog

from captionloop.serving.settings import Settings

EVENT = "audit"
FILE = "audit.log"


@dataclass(slots=True)
class Deed:
    """Something that an administrator does; what came of it is written when it is over.

    Attributes:
        actor: `key:<id>` of an API key, or `user:<name>` of whoever runs a command.
        action: what, `caption.erase`.
        subject: to what: the id of a caption or a key, a version.
        outcome: `nothing` where there was no such thing, `failed` where an error ended it.
    """

    actor: str
    action: str
    subject: str
    outcome: Literal["done", "nothing", "failed"] = "done"

    def line(self) -> dict[str, str]:
        """As it is written."""
        return {"actor": self.actor, "action": self.action, "object": self.subject, "outcome": self.outcome}


@contextmanager
def by_request(actor: str, action: str, subject: str) -> Iterator[Deed]:
    """Around what a request of an administrator does."""
    with _written(Deed(actor, action, subject), _to_log) as deed:
        yield deed


@contextmanager
def by_command(action: str, subject: str) -> Iterator[Deed]:
    """Around what a command does that is an administrator's."""
    with _written(Deed(f"user:{_user()}", action, subject), _to_file) as deed:
        yield deed


@contextmanager
def _written(deed: Deed, write: Callable[[Deed], None]) -> Iterator[Deed]:
    try:
        yield deed
    except BaseException:
        deed.outcome = "failed"
        raise
    finally:
        write(deed)


def _to_log(deed: Deed) -> None:
    structlog.get_logger("captionloop.audit").info(EVENT, **deed.line())


def _to_file(deed: Deed) -> None:
    """A line that cannot be written is told and stops nothing: a leaked key can be revoked on a full disk."""
    settings = Settings.from_environment()
    file = settings.audit_log or settings.state.absolute() / FILE
    line = {"timestamp": datetime.now(UTC).isoformat(), "event": EVENT, **deed.line()}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _append(file, json.dumps(line) + "\n")
    except OSError as error:
        click.echo(f"captionloop: {file} cannot be written ({error.strerror}): {json.dumps(line)}", err=True)


def _append(file: Path, text: str) -> None:
    """In one call, so that two commands do not mix their lines; readable by its owner and group."""
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
