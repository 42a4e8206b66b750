"""One at a time changes which version is champion, on however many machines: a lock kept in the MLflow store.

Whoever wants to act takes a ticket, a version of the registered model `<name>.lock`, and waits until there
is no lower one. MLflow numbers versions in one transaction, on SQLite as on a server, so no two tickets are
alike; a ticket is given back by its own number, so nobody gives back another's. Whoever was killed leaves
its ticket: on the same machine others see at once that its process is gone, elsewhere after `LEASE_SECONDS`.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from captionloop.errors import RegistryError
from captionloop.leases import machine_place, process_is_gone
from captionloop.registry import tracking
from captionloop.registry.history import actor

if TYPE_CHECKING:
    from mlflow import MlflowClient

LEASE_SECONDS = 60.0
"""After which a ticket that nobody renewed counts as left behind."""
RENEW_SECONDS = 10.0
PATIENCE_SECONDS = 90.0
LOOK_SECONDS = 0.2
ATTEMPTS = 10
_NO_FILES = "none://captionloop/lock"
"""A version must have a source; a server asks of one that it keeps itself which run it belongs to."""
_BY, _PLACE, _PROCESS = "captionloop.by", "captionloop.place", "captionloop.process"
_DESCRIPTION = "No model: whoever changes the champion of {name} holds a version of this while it does."


class ChangeLock:
    """The lock of one registered model."""

    def __init__(self, client: "MlflowClient", name: str) -> None:
        self._client = client
        self._of, self._name = name, f"{name}.lock"
        self._ticket: str | None = None
        self._renewed = 0.0

    @contextmanager
    def held(self) -> Iterator["ChangeLock"]:
        """Alone within. Raises `RegistryError` where others do not end."""
        with tracking.readable_errors(f"take the lock of {self._of}"):
            self._take()
        try:
            with tracking.readable_errors(f"wait for the lock of {self._of}"):
                self._wait()
            yield self
        finally:
            self._release(self._ticket)

    def check(self) -> None:
        """Raises `RegistryError` where others may have taken the lock meanwhile: asked before what counts."""
        with tracking.readable_errors(f"hold the lock of {self._of}: it was lost"):
            self._client.get_model_version(self._name, str(self._ticket))
        if time.monotonic() - self._renewed > LEASE_SECONDS / 2:
            raise RegistryError(
                f"The MLflow store is too slow: changing {self._of} took more than {LEASE_SECONDS / 2:.0f} "
                "seconds; try again"
            )

    def _take(self) -> None:
        from mlflow.exceptions import MlflowException

        tags = {_BY: actor(), _PLACE: machine_place(), _PROCESS: str(os.getpid())}
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with _although_it_exists():
                    self._client.create_registered_model(
                        self._name, description=_DESCRIPTION.format(name=self._of)
                    )
                version = self._client.create_model_version(self._name, _NO_FILES, tags=tags)
                break
            except MlflowException:  # all wanted the same number
                if attempt == ATTEMPTS:
                    raise
                time.sleep(LOOK_SECONDS)
        self._ticket = str(version.version)

    def _wait(self) -> None:
        began = time.monotonic()
        while True:
            now = self._renew()
            while time.monotonic() - self._renewed < RENEW_SECONDS:
                earlier = self._before()
                if not earlier:
                    self._renew()
                    return
                store_time = now + time.monotonic() - self._renewed  # by the clock that dates the tickets
                for each in earlier:
                    if _is_gone(each.tags) or store_time - each.last_updated_timestamp / 1000 > LEASE_SECONDS:
                        self._release(each.version)
                if time.monotonic() - began > PATIENCE_SECONDS:
                    by = earlier[0].tags.get(_BY, "somebody")
                    raise RegistryError(f"{self._of} is being changed by {by}: try again when that has ended")
                time.sleep(LOOK_SECONDS)

    def _before(self) -> list[Any]:
        """The tickets lower than ours, the lowest first."""
        found = self._client.search_model_versions(f"name='{self._name}'")
        lower = [each for each in found if int(each.version) < int(str(self._ticket))]
        return sorted(lower, key=lambda each: int(each.version))

    def _renew(self) -> float:
        """Tells others that we are there; the time by the clock that dates the tickets."""
        self._renewed = time.monotonic()
        renewed = self._client.update_model_version(self._name, str(self._ticket), "held, or waiting")
        return (renewed.last_updated_timestamp or 0) / 1000

    def _release(self, version: Any) -> None:
        with suppress(Exception):  # it is gone already, or ends by itself when its time is over
            self._client.delete_model_version(self._name, str(version))


@contextmanager
def _although_it_exists() -> Iterator[None]:
    """Around making a registered model that may be there already."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _is_gone(tags: Any) -> bool:
    """Whether the ticket's process ran here and runs no more."""
    process = str(tags.get(_PROCESS, ""))
    return process.isdecimal() and process_is_gone(str(tags.get(_PLACE, "")), int(process))
