"""One line of JSON per event, with the request's id; and the audit lines of what administrators do.

An exception is logged as its kind and the lines of code it came through: no values of variables, and its
message only where it is one of ours, for the messages of libraries quote what they were given.

The service writes them to its log. Commands have none: they append theirs to a file, in the same form, one
line of JSON each (`CAPTIONLOOP_AUDIT_LOG`, else `audit.log` in the state folder). No line holds a secret, a
caption, or anything else that people wrote.
"""

import getpass
import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import click
import structlog
from sqlalchemy.exc import DBAPIError

from captionloop.errors import CaptionloopError, reason_of, without_passwords
from captionloop.serving.service_settings import Settings

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]
_QUOTING = {"asyncio", "py.warnings"}
"""Loggers whose first line says what happened, and whose further lines quote exceptions and values."""
_MOST_CAUSES = 8


def configure_logs(level: str, service: str) -> None:
    """Send our lines, and those of BentoML, uvicorn and the rest, to standard error as JSON."""
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _service_name(service),
            structlog.processors.ExceptionRenderer(_exception_chain),
            _redact,
            structlog.processors.JSONRenderer(),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries that are asked for details tell what they work on: rows, statements, parts of bodies.
    root.setLevel(max(logging.INFO, logging.getLevelNamesMapping()[level]))
    logging.getLogger("captionloop").setLevel(level)
    logging.getLogger("captionloop.audit").setLevel(logging.INFO)  # whatever else is left out
    logging.raiseExceptions = False  # it would print the line that could not be formatted, whole
    for name in ("bentoml", "uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
    for noisy in (
        "httpx",
        "httpx2",
        "alembic",
        "uvicorn.access",
        "fsspec",
        "asyncio",
        "PIL",
        "sqlalchemy",
        "python_multipart",
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    _log_uncaught_exceptions()


def _log_uncaught_exceptions() -> None:
    """Python itself prints warnings, and exceptions that end a thread or the process, with their messages."""
    logging.captureWarnings(True)
    logger = logging.getLogger("captionloop.uncaught")

    def in_thread(failure: threading.ExceptHookArgs) -> None:
        if failure.exc_value is not None:
            logger.error("a thread ended", exc_info=failure.exc_value)

    def in_main(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        else:
            logger.critical("the process ends", exc_info=error)

    threading.excepthook = in_thread
    sys.excepthook = in_main
    sys.unraisablehook = lambda failure: (
        logger.error("ignored", exc_info=failure.exc_value) if failure.exc_value else None
    )


def _service_name(service: str) -> Any:
    def add_service(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
        return {"service": service, **event}

    return add_service


def _exception_chain(exc_info: Any) -> list[dict[str, Any]]:
    """An exception and what caused it, the newest first."""
    causes: list[dict[str, Any]] = []
    error: BaseException | None = exc_info[1]
    while error is not None and len(causes) < _MOST_CAUSES:
        frames = traceback.extract_tb(error.__traceback__)
        causes.append(
            {
                "exc_type": type(error).__name__,
                "exc_value": _message(error),
                "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
            }
        )
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return causes


def _message(error: BaseException) -> str:
    if isinstance(error, CaptionloopError):
        return str(error)
    if isinstance(error, DBAPIError):
        return type(error.orig).__name__  # psycopg has a class for each of PostgreSQL's error codes
    return reason_of(error)


def _redact(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    if event.get("logger") in _QUOTING:
        event["event"] = str(event.get("event", "")).partition("\n")[0]
    return {name: _without_passwords(value) for name, value in event.items()}


def _without_passwords(value: Any) -> Any:
    if isinstance(value, str):
        return without_passwords(value)
    if isinstance(value, list):
        return [_without_passwords(each) for each in value]
    if isinstance(value, dict):
        return {name: _without_passwords(each) for name, each in value.items()}
    return value


EVENT = "audit"
FILE = "audit.log"


@dataclass(slots=True)
class AuditEntry:
    """An action of an administrator for the audit log, with its result.

    Attributes:
        actor: `key:<id>` of an API key, or `user:<name>` of whoever runs a command.
        action: what, `caption.erase`.
        subject: to what: the id of a caption or a key, a version.
        result: `nothing` where there was no such thing, `failed` where an error ended it.
    """

    actor: str
    action: str
    subject: str
    result: Literal["done", "nothing", "failed"] = "done"

    def line(self) -> dict[str, str]:
        """The fields of the audit line."""
        return {"actor": self.actor, "action": self.action, "object": self.subject, "outcome": self.result}


@contextmanager
def by_request(actor: str, action: str, subject: str) -> Iterator[AuditEntry]:
    """Around what a request of an administrator does."""
    with _written(AuditEntry(actor, action, subject), _to_log) as entry:
        yield entry


@contextmanager
def by_command(action: str, subject: str) -> Iterator[AuditEntry]:
    """Around what a command does that is an administrator's."""
    with _written(AuditEntry(f"user:{_user()}", action, subject), _to_file) as entry:
        yield entry


@contextmanager
def _written(entry: AuditEntry, write: Callable[[AuditEntry], None]) -> Iterator[AuditEntry]:
    try:
        yield entry
    except BaseException:
        entry.result = "failed"
        raise
    finally:
        write(entry)


def _to_log(entry: AuditEntry) -> None:
    structlog.get_logger("captionloop.audit").info(EVENT, **entry.line())


def _to_file(entry: AuditEntry) -> None:
    """A line that cannot be written is told and stops nothing: a leaked key can be revoked on a full disk."""
    settings = Settings.from_environment()
    file = settings.audit_log or settings.state.absolute() / FILE
    line = {"timestamp": datetime.now(UTC).isoformat(), "event": EVENT, **entry.line()}
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
