import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from captionloop.errors import RegistryError
from captionloop.registry import tracking

pytestmark = pytest.mark.integration

CREATE = "import sys; from captionloop.registry import tracking; tracking.create(sys.argv[1])"


def tables(path: Path) -> set[str]:
    with sqlite3.connect(path) as database:
        return {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}


@pytest.mark.e2e
@pytest.mark.named_use
@pytest.mark.parametrize("tables_before", [1, 20])
def test_a_store_whose_making_is_killed_can_be_made_again(tmp_path: Path, tables_before: int) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with subprocess.Popen([sys.executable, "-c", CREATE, uri], stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not any(
            len(tables(path)) >= tables_before for path in tmp_path.glob(".mlflow.db.*/mlflow.db")
        ):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "killed in the midst of it"
    assert not tracking.exists(uri)

    found = tracking.connect(uri).search_experiments()
    assert [experiment.name for experiment in found] == ["Default"]
    assert {"experiments", "model_versions"} < tables(tmp_path / "mlflow.db")


def test_the_store_that_another_process_made_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = tmp_path / "mlflow.db"

    def made_meanwhile(*_: object) -> None:
        final.write_text("theirs")

    monkeypatch.setattr(os, "fsync", made_meanwhile)
    tracking.create(f"sqlite:///{final}")
    assert final.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [final], "nothing is left beside it"


def test_a_store_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("theirs")
    tracking.create(f"sqlite:///{tmp_path / 'mlflow.db'}")
    tracking.create("http://mlflow:5000")
    assert (tmp_path / "mlflow.db").read_text() == "theirs"


def test_where_no_store_can_be_made_one_line_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryError, match="Could not make the MLflow store"):
        tracking.create(f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}")


@pytest.mark.parametrize(
    "uri", ["postgres://user:secret@x/y", "mlruns", "http://127.0.0.1:1", "sqlite:///{}/text.db", "foo://bar"]
)
def test_a_store_that_cannot_be_used_is_told_at_once_in_one_line(tmp_path: Path, uri: str) -> None:
    """Before hours of computing, and not after MLflow has tried for four minutes."""
    (tmp_path / "text.db").write_text("not a database, though it is there")
    begun = time.monotonic()
    with pytest.raises(RegistryError, match=r"^The MLflow store .* correct MLFLOW_TRACKING_URI or") as raised:
        tracking.check(uri.format(tmp_path))
    assert "\n" not in str(raised.value) and "secret" not in str(raised.value)
    assert time.monotonic() - begun < 30


def test_a_store_that_is_asked_is_made_where_there_is_none(tmp_path: Path) -> None:
    tracking.check(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert (tmp_path / "mlflow.db").is_file()


def test_a_database_that_takes_connections_and_says_nothing_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "SECONDS_TO_ANSWER", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"postgresql+psycopg://somebody@127.0.0.1:{server.getsockname()[1]}/mlflow"
        with pytest.raises(RegistryError, match="does not answer"):
            tracking.connect(uri)


def test_a_database_that_says_whether_it_speaks_tls_is_there() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"N")
        tracking._probe_postgresql(ours)
        assert theirs.recv(8) == b"\0\0\0\x08\x04\xd2\x16\x2f", "as PostgreSQL's protocol writes it"
