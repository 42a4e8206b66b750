"""Opening the ratings database: SQLite by default, PostgreSQL by URL, its schema kept by Alembic.

SQLite runs in WAL mode with `synchronous=FULL`, so that a commit which returned is on the disk, and readers
never wait for the writer. Writers take the lock when they begin (`BEGIN IMMEDIATE`): a transaction that first
reads and then finds another writer in its way would fail at once instead of waiting its turn.
"""

import re
import sqlite3
from functools import cache
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import ConnectionPoolEntry

from captionloop.errors import CaptionloopError, without_passwords

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_MS = 20_000
SQLITE = "sqlite:///"


CONNECT_SECONDS = 2
SILENCE_SECONDS = 4
"""After which a connection whose other end says nothing counts as lost."""
STATEMENT_SECONDS = 4
LOCK_SECONDS = 2
SERVER_LOST_CODES = {"25006", "57P01", "57P02", "57P03"}
"""PostgreSQL's codes of a server that became read-only or is going down: others may have taken over."""


class DatabaseError(CaptionloopError):
    """The ratings database cannot be reached, written, or is of another version."""


class SchemaError(DatabaseError):
    """The ratings database has no tables, or those of another version."""


def normalise_url(url: str) -> str:
    """`postgresql://` and `postgres://` mean psycopg 3 here.

    Raises:
        DatabaseError: the URL cannot be read, or names a database that is not supported.
    """
    file = sqlite_file(url)
    if file is not None and re.search(r"\?\w+=[^/]*$", file):
        raise DatabaseError(
            "CAPTIONLOOP_DATABASE takes no options for a SQLite file: leave out what follows ?"
        )
    if file not in {None, "", ":memory:"}:
        return url
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise DatabaseError(
            "CAPTIONLOOP_DATABASE is not a database URL; write sqlite:///path/to/ratings.db or "
            "postgresql://user:password@host/name"
        ) from None
    backend = parsed.get_backend_name()
    if backend in {"postgresql", "postgres"}:
        return parsed.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    if backend == "sqlite" and parsed.database not in {None, "", ":memory:"}:
        return f"{SQLITE}{parsed.database}"
    raise DatabaseError(
        f"database {parsed.render_as_string()!r} is not supported: use a SQLite file or PostgreSQL"
    )


def sqlite_file(url: str) -> str | None:
    """The path after `sqlite:///`, whatever letters are in it; None where the URL is no such.

    SQLAlchemy would end it at a `?`.
    """
    return url.removeprefix(SQLITE) if url.startswith(SQLITE) else None


def open_engine(url: str, *, pool_size: int = 4, deadlines: bool = False) -> Engine:
    """An engine whose transactions may write. The folder of a SQLite file is made.

    A PostgreSQL server that falls silent is noticed within seconds. With `deadlines` no statement takes
    longer either: for the service, whose callers wait; a pipeline may read for minutes.
    """
    url = normalise_url(url)
    if not url.startswith("sqlite"):
        options = "-c timezone=UTC"
        if deadlines:
            options += f" -c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout={LOCK_SECONDS}s"
            options += f" -c idle_in_transaction_session_timeout={2 * STATEMENT_SECONDS}s"
        engine = create_engine(
            url, pool_size=pool_size, max_overflow=0, hide_parameters=True, pool_pre_ping=True,
            pool_timeout=SILENCE_SECONDS if deadlines else 10,
            connect_args={
                "connect_timeout": CONNECT_SECONDS if deadlines else 10, "options": options, "keepalives": 1,
                "keepalives_idle": 2, "keepalives_interval": 1, "keepalives_count": 2,
                "tcp_user_timeout": 1000 * SILENCE_SECONDS,
            },
        )  # fmt: skip
        event.listen(engine, "handle_error", _invalidate_lost_server)
        return engine
    file = Path(str(sqlite_file(url))).absolute()
    file.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        URL.create("sqlite", database=str(file)),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=30,
        hide_parameters=True,
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def open_reader(url: str, *, pool_size: int = 4, deadlines: bool = False) -> Engine:
    """An engine for reading only: on SQLite it takes no lock, whatever is being written."""
    engine = open_engine(url, pool_size=pool_size, deadlines=deadlines)
    if engine.dialect.name == "sqlite":
        event.remove(engine, "begin", _begin_immediate)
        event.listen(engine, "begin", _begin_deferred)
    return engine


def upgrade(url: str) -> None:
    """Bring the schema to the newest version; safe to call from several processes at once.

    Raises:
        DatabaseError: the database cannot be reached or its schema is from a newer captionloop.
    """
    engine = open_engine(url, pool_size=1)
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                # Two gateways starting together take turns; the lock goes with the transaction.
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7242086)")
            command.upgrade(_alembic(connection), "head")
    except CommandError as error:
        raise DatabaseError(
            f"the ratings database is of a version that this captionloop does not know ({error}); "
            "upgrade captionloop"
        ) from None
    except DBAPIError as error:
        raise unreachable(error) from error
    finally:
        engine.dispose()


def check_schema(connection: Connection) -> None:
    """Check that the tables exist and are of this version or a newer one. Newer ones pass: while a cluster
    is upgraded, gateways of the version before still run.

    Raises:
        SchemaError: they are not; it says what to run.
    """
    found = MigrationContext.configure(connection).get_current_revision()
    if found is None:
        raise SchemaError("the ratings database has no tables: run captionloop database upgrade")
    revisions = _revisions()
    if found in revisions[1:]:
        raise SchemaError(
            f"the ratings database is of revision {found}, and {revisions[0]} is needed: "
            "run captionloop database upgrade"
        )


@cache
def _revisions() -> tuple[str, ...]:
    """The revisions of all migrations, the newest first."""
    scripts = ScriptDirectory(str(MIGRATIONS))
    return tuple(script.revision for script in scripts.walk_revisions())


def unreachable(error: DBAPIError) -> DatabaseError:
    """The one-line error for a database that does not answer.

    Without its URL, which may hold a password, and without what was to be written: only of errors that speak
    of the connection or the file is more told than their kind.
    """
    reason = type(error.orig or error).__name__
    if isinstance(error, OperationalError) and str(error.orig).strip():
        reason = without_passwords(str(error.orig).strip().splitlines()[0])
    if isinstance(error, ProgrammingError):
        return DatabaseError(f"the ratings database refuses ({reason}): run captionloop database upgrade")
    return DatabaseError(
        f"the ratings database does not answer ({reason}); check CAPTIONLOOP_DATABASE and that it runs"
    )


def _alembic(connection: Connection) -> Any:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _invalidate_lost_server(context: ExceptionContext) -> None:
    """All connections to a server that another one replaces are given up, not only the one that noticed."""
    if getattr(context.original_exception, "sqlstate", None) in SERVER_LOST_CODES:
        context.is_disconnect = True


def _prepare_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # Python must not begin transactions of its own
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_deferred(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def insert_into(dialect: str, table: type[DeclarativeBase]) -> "postgresql.Insert | sqlite.Insert":
    """An insert in the dialect of `sqlite` or `postgresql`: both know `ON CONFLICT`."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
