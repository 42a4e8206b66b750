"""Opening the ratings database: SQLite by default, PostgreSQL by URL, its schema kept by Alembic.

SQLite runs in WAL mode with `synchronous=FULL`, so that a commit which returned is on the disk, and readers
never wait for the writer. Writers take the lock when they begin (`BEGIN IMMEDIATE`): a transaction that first
reads and then finds another writer in its way would fail at once instead of waiting its turn.
"""

import sqlite3
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from captionloop.errors import CaptionloopError, without_passwords

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_MS = 20_000


class DatabaseError(CaptionloopError):
    """The ratings database cannot be reached, written, or is of another version."""


def normalise_url(url: str) -> str:
    """`postgresql://` and `postgres://` mean psycopg 3 here.

    Raises:
        DatabaseError: the URL cannot be read, or names a database that is not supported.
    """
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
        return url
    raise DatabaseError(
        f"database {parsed.render_as_string()!r} is not supported: use a SQLite file or PostgreSQL"
    )


def open_engine(url: str, *, pool_size: int = 4) -> Engine:
    """An engine whose transactions may write. The folder of a SQLite file is made."""
    url = normalise_url(url)
    if not url.startswith("sqlite"):
        return create_engine(
            url, pool_size=pool_size, max_overflow=0, hide_parameters=True, pool_pre_ping=True,
            pool_timeout=10,
            connect_args={"connect_timeout": 10, "options": "-c timezone=UTC"},
        )  # fmt: skip
    Path(str(make_url(url).database)).absolute().parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, pool_size=pool_size, max_overflow=0, pool_timeout=30, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def open_reader(url: str, *, pool_size: int = 4) -> Engine:
    """An engine for reading only: on SQLite it takes no lock, whatever is being written."""
    engine = open_engine(url, pool_size=pool_size)
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


def unreachable(error: DBAPIError) -> DatabaseError:
    """The one-line error for a database that does not answer.

    Without its URL, which may hold a password, and without what was to be written: only of errors that speak
    of the connection or the file is more told than their kind.
    """
    reason = type(error.orig or error).__name__
    if isinstance(error, OperationalError) and str(error.orig).strip():
        reason = without_passwords(str(error.orig).strip().splitlines()[0])
    return DatabaseError(
        f"the ratings database does not answer ({reason}); check CAPTIONLOOP_DATABASE and that it runs"
    )


def _alembic(connection: Connection) -> Any:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


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
