"""What machines share that share no disk: object storage and an MLflow server, real ones."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import fsspec
import httpx
from service_process import free_port

BUCKET = "captionloop"
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


def until(true: Callable[[], bool], seconds: float, what: str) -> None:
    """Waits for something."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


class Server:
    """A process that listens at an address.

    Args:
        command: what it is; `{host}` and `{port}` stand for where it listens.
        folder: its working folder and log.
        health: the path that answers once it is ready.
        host: its address.
        prefix: what to put before the command, to run it in a network namespace.
        settings: environment variables.
    """

    def __init__(
        self, command: tuple[str, ...], folder: Path, *, health: str, host: str = "127.0.0.1",
        port: int | None = None, prefix: tuple[str, ...] = (), settings: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        self.host, self.port, self.log = host, port or free_port(), folder / "log"
        self.url = f"http://{self.host}:{self.port}"
        self._health, self._prefix = health, prefix
        started = [each.format(host=host, port=self.port) for each in command]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*prefix, *started],
                cwd=folder,
                env={**os.environ, **(settings or {})},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_ready(self) -> "Server":
        until(self._answers, 300, f"it did not get ready:\n{self.log.read_text()[-3000:]}")
        return self

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()[-3000:]
        asked = subprocess.run(
            [*self._prefix, "curl", "-sf", "-o", "/dev/null", "--max-time", "5", self.url + self._health],
            check=False,
        )
        return asked.returncode == 0

    def stop(self) -> None:
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        with suppress(ProcessLookupError):  # and those that it started
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def object_storage(folder: Path, **where: object) -> Server:
    """A server that speaks S3."""
    command = (str(Path(sys.executable).with_name("moto_server")), "-H", "{host}", "-p", "{port}")
    return Server(command, folder, health="/moto-api/data.json", **where)  # type: ignore[arg-type]


def mlflow(folder: Path, storage: str, **where: object) -> Server:
    """An MLflow server whose artifacts lie in object storage."""
    command = (
        sys.executable, "-m", "mlflow", "server", "--host", "{host}", "--port", "{port}", "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--serve-artifacts",
        "--artifacts-destination", f"s3://{BUCKET}/mlflow", "--allowed-hosts", "*",
    )  # fmt: skip
    settings = {**KEYS, "AWS_ENDPOINT_URL": storage, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return Server(command, folder, health="/health", settings=settings, **where)  # type: ignore[arg-type]


def storage_of(url: str) -> fsspec.AbstractFileSystem:
    """The object storage as this process sees it."""
    return fsspec.filesystem(
        "s3", key="key", secret="secret", endpoint_url=url, use_listings_cache=False, skip_instance_cache=True
    )


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.HTTPError:
        return False
