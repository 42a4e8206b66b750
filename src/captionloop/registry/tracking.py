"""The MLflow store: its address, its errors as one line, and several pipeline runs as one MLflow run."""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from captionloop.errors import RegistryError, first_line, without_passwords
from captionloop.files import beside
from captionloop.paths import SQLITE

if TYPE_CHECKING:
    from mlflow import MlflowClient

PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306}
SECONDS_TO_ANSWER = 5.0


def exists(uri: str) -> bool:
    """Whether there is a store already. Looking at a registry must not create one."""
    return not uri.startswith(SQLITE) or Path(uri.removeprefix(SQLITE)).is_file()


def create(uri: str) -> None:
    """Makes the SQLite file of a store that has none yet: whole, or not at all.

    MLflow makes the tables in their place, which takes seconds: killed then, or on a full disk, it leaves a
    file that no later run can open. So they are made beside it. Where another process was first, its file
    stays.

    Raises:
        RegistryError: the file cannot be written.
    """
    if exists(uri) or not uri.startswith(SQLITE):
        return
    file_path = Path(uri.removeprefix(SQLITE))
    with (
        readable_errors(f"make the MLflow store {file_path}"),
        beside(file_path) as folder,
        suppress(FileExistsError),
    ):
        from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        partial = folder / file_path.name
        store = SqlAlchemyStore(f"{SQLITE}{partial}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)  # type: ignore[no-untyped-call]
        store.engine.dispose()
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        file_path.hardlink_to(partial)  # unlike a renaming, it replaces nothing


def connect(uri: str) -> "MlflowClient":
    """A client for the store. Raises `RegistryError` within seconds where no server answers.

    MLflow itself would go on trying a server that is away for some minutes.
    """
    address = urlsplit(uri)
    if address.hostname and not uri.startswith(SQLITE):
        port = address.port or PORTS.get(address.scheme.split("+")[0], 80)
        try:
            with socket.create_connection((address.hostname, port), timeout=SECONDS_TO_ANSWER) as connection:
                if address.scheme.startswith("postgresql"):
                    _probe_postgresql(connection)
        except OSError as error:
            raise RegistryError(
                f"The MLflow store {address.scheme}://{address.hostname}:{port} does not answer ({error}): "
                "start it, or correct MLFLOW_TRACKING_URI or conf/*/mlflow.yml"
            ) from error
    create(uri)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # A server that takes the connection and says nothing would be waited for over a quarter of an hour.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    with readable_errors(f"open the MLflow store {without_password(uri)}"):
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _probe_postgresql(connection: socket.socket) -> None:
    """Asks PostgreSQL whether it speaks TLS: a server that hangs accepts connections without answering, and
    its driver would wait for ever. Raises `OSError` where no answer comes in time.
    """
    connection.sendall(struct.pack("!II", 8, 80877103))  # SSLRequest
    if not connection.recv(1):
        raise ConnectionError("it ended the connection")


def check(uri: str) -> None:
    """Asks the store something, and makes it where there is none: whoever computes for hours asks first.

    Raises `RegistryError` where it cannot be used: it is away, no store, or of an unknown kind.
    """
    try:
        with readable_errors("use it"):
            connect(uri).search_experiments(max_results=1)
    except RegistryError as error:
        if not isinstance(error.__cause__, Exception) or str(error).startswith("The MLflow store"):
            raise
        raise RegistryError(
            f"The MLflow store {without_password(uri)} cannot be used"
            f" ({without_passwords(first_line(error.__cause__))}): correct MLFLOW_TRACKING_URI or"
            " conf/*/mlflow.yml"
        ) from error


@contextmanager
def readable_errors(attempt: str) -> Iterator[None]:
    """Turns what MLflow, its database and its network raise into one line."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, RequestException, OSError, ImportError) as error:
        raise RegistryError(f"Could not {attempt}: {without_passwords(first_line(error))}") from error


def without_password(uri: str) -> str:
    """The address as it may be shown."""
    return without_passwords(uri)


TAG = "captionloop.run"


@dataclass(frozen=True)
class NamedRun:
    """An MLflow run: its id, and where its page is below MLflow's address."""

    run_id: str
    page: str


def find_run(tracking_uri: str, name: str) -> NamedRun | None:
    """The first MLflow run of this name in any experiment; None where there is none.

    Raises `RegistryError` where the store cannot be reached.
    """
    if not exists(tracking_uri):
        return None
    with readable_errors(f"look for the MLflow run {name}"):
        client = connect(tracking_uri)
        experiments = [each.experiment_id for each in client.search_experiments()]
        found = client.search_runs(
            experiments, f"tags.`{TAG}` = '{name}'", max_results=1, order_by=["attributes.start_time ASC"]
        )
    if not found:
        return None
    info = found[0].info
    return NamedRun(info.run_id, f"/#/experiments/{info.experiment_id}/runs/{info.run_id}")


def ensure_experiment(tracking_uri: str, name: str) -> None:
    """Makes an experiment where there is none; of several processes that want to, each finds it then.

    Raises `RegistryError` where the store cannot be reached.
    """
    from mlflow.exceptions import MlflowException

    with readable_errors(f"make the MLflow experiment {name}"):
        client = connect(tracking_uri)
        if client.get_experiment_by_name(name) is not None:
            return
        try:
            client.create_experiment(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def find_or_begin_run(tracking_uri: str, experiment: str, name: str) -> str:
    """Id of the MLflow run of this name; begun in `experiment`, which exists, where there is none yet.

    Raises `RegistryError` where the store cannot be reached.
    """
    found = find_run(tracking_uri, name)
    if found is not None:
        return found.run_id
    with readable_errors(f"begin the MLflow run {name}"):
        client = connect(tracking_uri)
        known = client.get_experiment_by_name(experiment)
        if known is None:
            raise RegistryError(f"There is no MLflow experiment {experiment} to begin the run {name} in")
        begun = client.create_run(known.experiment_id, run_name=name, tags={TAG: name})
    return str(begun.info.run_id)
