"""A mutual-exclusion lease between machines: an object in object storage, kept by conditional writes.

The lease is an object that says who holds it. It is made only where there is none, and replaced only while it
is what the writer saw (`If-None-Match`, `If-Match`), so that of two who want it one gets it. The holder
writes it anew every few seconds. Who waits takes it over when it has not changed for a whole lease by the
waiter's own clock: clocks of machines need not agree. On the machine of a holder that was killed it is seen
at once that its process is gone.
"""

import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

import fsspec

from captionloop.errors import reason_of, without_passwords
from captionloop.workspaces import WorkspaceError

LEASE_SECONDS: Final = 60.0
"""After which a lease that nobody renewed counts as left behind."""
RENEW_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.5
PATIENCE: Final = "CAPTIONLOOP_LOCK_SECONDS"
_PATIENCE_SECONDS: Final = 3600.0
_OTHERWISE: Final = ("NoSuchKey", "404", "PreconditionFailed", "412", "ConditionalRequestConflict", "409")
"""S3's codes for an object that is not there, or not as the condition says."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """The content of a lease's object (who holds it, where, since when), and the entity tag of the object."""

    tag: str
    token: str
    by: str
    place: str
    process: int
    moment: float
    free: bool


class Lease:
    """The lease at a URI, as one process asks for it. `by` is for those who wait.

    `seconds` is how long it is believed in unrenewed; `patience` how long to wait for it.
    """

    def __init__(
        self, uri: str, by: str, *, seconds: float = LEASE_SECONDS, patience: float | None = None
    ) -> None:
        self._uri, self._by, self._seconds = uri, by, seconds
        self._patience = patience_seconds() if patience is None else patience
        self._token = uuid.uuid4().hex
        self._tag = ""
        self._renewed = 0.0
        self._lost = False
        self._ended = Event()

    @contextmanager
    def held(self) -> Iterator["Lease"]:
        """Alone within. Raises `WorkspaceError` where others do not end."""
        self.take()
        try:
            yield self
        finally:
            self.release()

    def take(self) -> None:
        """Waits until it is ours, and renews it from then on."""
        began = since = time.monotonic()
        seen = ""
        while not self._taken(holder := self.holder(), abandoned=time.monotonic() - since > self._seconds):
            if holder is not None and holder.tag != seen:
                seen, since = holder.tag, time.monotonic()
            if time.monotonic() - began > self._patience:
                by = holder.by if holder else "somebody"
                raise WorkspaceError(
                    f"{without_passwords(self._uri)} has been held by {by} for {self._patience:.0f} s now: "
                    f"end its processes, or wait longer ({PATIENCE})"
                )
            time.sleep(LOOK_SECONDS)
        Thread(target=self._renew_until_ended, name="lease", daemon=True).start()

    def _taken(self, holder: Holder | None, *, abandoned: bool) -> bool:
        if holder is None:
            return self._write(IfNoneMatch="*")
        if self._is_ours(holder):
            return True
        if holder.free or process_is_gone(holder.place, holder.process) or abandoned:
            if not holder.free:
                logger.info("%s was left behind by %s: taken over.", self._uri, holder.by)
            return self._write(IfMatch=holder.tag)
        return False

    def check(self) -> None:
        """Raises `WorkspaceError` where somebody may have taken it over meanwhile: ask before what counts."""
        if self._lost or time.monotonic() - self._renewed > self._seconds / 2:
            raise WorkspaceError(
                f"{without_passwords(self._uri)} could not be renewed in time, and others may be at work "
                "there: run the same command again"
            )

    def release(self) -> None:
        """Ends the lease, so that another process can take it; does nothing where it is lost already."""
        self._ended.set()
        try:
            self._write(free=True, IfMatch=self._tag)
        except WorkspaceError as error:  # it ends by itself
            logger.info("%s", error)

    def holder(self) -> Holder | None:
        """Who holds it now, read from the storage; None where there is no lease."""
        found = self._call("get_object")
        if found is None:
            return None
        body, tag = found
        try:
            content = json.loads(body)
            return Holder(tag=tag, **content)
        except (ValueError, TypeError):  # not written here: it is taken over like one that was left behind
            return Holder(tag, "", "somebody", "", 0, 0.0, free=False)

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(RENEW_SECONDS * self._seconds / LEASE_SECONDS):
            try:
                self._lost = not (self._write(IfMatch=self._tag) or self._is_ours() or self._ended.is_set())
            except WorkspaceError as error:
                logger.warning("%s", error)
            if self._lost:
                return

    def _is_ours(self, holder: Holder | None = None) -> bool:
        """Whether the lease is ours although a writing was refused: its answer was lost on the way."""
        holder = holder or self.holder()
        if holder is None or holder.token != self._token or holder.free:
            return False
        self._tag, self._renewed = holder.tag, time.monotonic()
        return True

    def _write(self, *, free: bool = False, **condition: str) -> bool:
        """Whether the lease was as the condition says, and is now ours (or free)."""
        # The moment makes each writing another object: by its entity tag others see that we are there.
        holder = Holder("", self._token, self._by, machine_place(), os.getpid(), time.time(), free)
        body = json.dumps({name: value for name, value in asdict(holder).items() if name != "tag"})
        before = time.monotonic()
        found = self._call("put_object", Body=body.encode(), **condition)
        if found is None:
            return False
        self._tag, self._renewed = found[1], before
        return True

    def _call(self, method: str, **arguments: Any) -> tuple[bytes, str] | None:
        """Body and entity tag; None where there is no object, or it is not as the condition says."""
        files, path = fsspec.core.url_to_fs(self._uri)
        if not hasattr(files, "call_s3"):
            raise WorkspaceError(
                f"{without_passwords(self._uri)}: a workspace must be s3:// or local: how to write under "
                "a condition is known here of no other storage"
            )
        bucket, key, _ = files.split_path(path)
        try:
            response = files.call_s3(method, Bucket=bucket, Key=key, **arguments)
            body = fsspec.asyn.sync(files.loop, response["Body"].read) if "Body" in response else b""
        except Exception as error:
            if _code(error) in _OTHERWISE:
                return None
            raise WorkspaceError(
                f"{without_passwords(self._uri)} cannot be written ({reason_of(error)}): check the address, "
                "the credentials and the network"
            ) from error
        return body, response["ETag"]


def patience_seconds() -> float:
    """How long a step waits for an earlier try of it to end."""
    try:
        return float(os.environ.get(PATIENCE) or _PATIENCE_SECONDS)
    except ValueError:
        return _PATIENCE_SECONDS


def _code(error: BaseException | None) -> str:
    """S3's own code of an error, which its driver puts into others."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        error = error.__cause__ or error.__context__
    return ""


def machine_place() -> str:
    """Host name, boot id and process namespace, in one text; empty where they cannot be read."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def process_is_gone(place: str, process: int) -> bool:
    """Whether a process ran here and runs no more."""
    if not place or place != machine_place() or process <= 0:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
