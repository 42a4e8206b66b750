"""The way to an MLflow store: where it is, whether it answers, and its errors as lines for people."""

import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from captionloop.errors import RegistryError, without_passwords
from captionloop.registry.scratch import beside

if TYPE_CHECKING:
    from kedro.config import OmegaConfigLoader
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306}
SECONDS_TO_ANSWER = 5.0


def project_tracking_uri(project: Path, env: str | None = None) -> str:
    """The store of a project: `MLFLOW_TRACKING_URI` if it is set, else what the project's `mlflow.yml` says.

    `env` is the Kedro environment (default: `KEDRO_ENV`, else `local`). Raises `RegistryError` where
    neither says.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI") or _configured_uri(
        project, env or os.environ.get("KEDRO_ENV")
    )
    if given is None:
        raise RegistryError(
            f"No MLflow store is configured in {project / 'conf'}: "
            "run the command inside the project's folder, or set MLFLOW_TRACKING_URI"
        )
    return anchored(given, project)


def _configured_uri(project: Path, env: str | None) -> str | None:
    from kedro.config import OmegaConfigLoader

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Kedro uses a name that OmegaConf is giving up
        loader = OmegaConfigLoader(
            conf_source=str(project / "conf"),
            env=env,
            base_env="base",
            default_run_env="local",
        )
        return configured_uri(loader)


def configured_uri(loader: "OmegaConfigLoader") -> str | None:
    """What `mlflow.yml` says, read by Kedro's loader; None where it says nothing, or there is none."""
    from kedro.config import MissingConfigException

    loader.config_patterns.setdefault("mlflow", ["mlflow*", "mlflow*/**", "**/mlflow*"])
    try:
        uri = loader["mlflow"].get("server", {}).get("mlflow_tracking_uri")
    except MissingConfigException:
        return None
    return str(uri) if uri else None


def anchored(uri: str, project: Path) -> str:
    """The same store from wherever it is called: a relative SQLite file lies in the project's folder."""
    if not uri.startswith(SQLITE):
        return uri
    return SQLITE + str(project.resolve() / uri.removeprefix(SQLITE))


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
    final = Path(uri.removeprefix(SQLITE))
    with for_people(f"make the MLflow store {final}"), beside(final) as folder, suppress(FileExistsError):
        from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        partial = folder / final.name
        made = SqlAlchemyStore(f"{SQLITE}{partial}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)  # type: ignore[no-untyped-call]
        made.engine.dispose()
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        final.hardlink_to(partial)  # unlike a renaming, it replaces nothing


def connect(uri: str) -> "MlflowClient":
    """A client for the store. Raises `RegistryError` within seconds where no server answers.

    MLflow itself would go on trying a server that is away for some minutes.
    """
    address = urlsplit(uri)
    if address.hostname and not uri.startswith(SQLITE):
        port = address.port or PORTS.get(address.scheme.split("+")[0], 80)
        try:
            socket.create_connection((address.hostname, port), timeout=SECONDS_TO_ANSWER).close()
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
    with for_people(f"open the MLflow store {without_password(uri)}"):
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def for_people(attempt: str) -> Iterator[None]:
    """Turns what MLflow, its database and its network raise into one line."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, RequestException, OSError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RegistryError(f"Could not {attempt}: {without_passwords(first_line)}") from error


def without_password(uri: str) -> str:
    """The address as it may be shown."""
    return without_passwords(uri)
