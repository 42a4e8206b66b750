"""A version that is tried, in a process of its own beside the model server: images in, outcomes out.

Whatever it does, hang or crash, the champion's process goes on. It ends with the model server, when the pipe
between them does. A shadow runs only while nobody else wants the processor.

    python -m captionloop.serving.trial_process <pipe> <what to load, as JSON>

is how the model server starts it.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from captionloop.errors import CaptionloopError
from captionloop.registry.trials import Role
from captionloop.serving.engine import Engine
from captionloop.serving.logs import configure_logs
from captionloop.serving.model_sources import ModelReference
from captionloop.serving.schemas import CaptionResult, PreparedImage

LOAD_SECONDS = 300.0
ANSWER_SECONDS = 8.0
"""Within which a batch must be captioned: those who wait for it still get an answer of the champion then."""
SHADOW_ANSWER_SECONDS = 600.0
"""The same of a shadow, for which nobody waits: on a busy machine it may have to."""


_RESULTS = TypeAdapter(list[CaptionResult])


class TrialGoneError(CaptionloopError):
    """The process of the version that is tried has ended, could not load it, or does not answer."""


@dataclass(frozen=True)
class TrialSpec:
    """The version that the process loads, and how.

    Attributes:
        name, version, mark: of the model (`ModelReference`).
        folder: its bundle, checked by whoever fetched it.
        max_batch: the largest batch.
        role: shadow, before which everybody else goes, or canary.
        log_level: of its log.
    """

    name: str
    version: str
    mark: str
    folder: str
    max_batch: int
    role: Role
    log_level: str = "INFO"


class TrialProcess:
    """The process, as the model server sees it. Making one starts it, and waits until it is ready.

    Raises:
        TrialGoneError: the version cannot be loaded.
    """

    def __init__(self, spec: TrialSpec) -> None:
        self._seconds = SHADOW_ANSWER_SECONDS if spec.role == "shadow" else ANSWER_SECONDS
        self._lock = threading.Lock()
        self._pipe, child_end = Pipe()
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
            [sys.executable, "-m", __name__, str(child_end.fileno()), json.dumps(asdict(spec))],
            env=_environment(), pass_fds=[child_end.fileno()], stdin=subprocess.DEVNULL,
        )  # fmt: skip
        child_end.close()
        with self._killed_after(LOAD_SECONDS):
            ready = json.loads(self._pipe.recv_bytes())
        if "reason" in ready:
            self.stop()
            raise TrialGoneError(ready["reason"])
        self.input_size = int(ready["input_size"])
        self.preprocessing: dict[str, Any] = ready["preprocessing"]

    @property
    def pid(self) -> int:
        """Its id."""
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def caption(self, images: Sequence[PreparedImage]) -> list[CaptionResult]:
        """The images' outcomes, in order.

        Raises:
            TrialGoneError: it has ended, or does not answer in time, and was ended for that.
        """
        message = pack_images(images)
        with self._lock, self._killed_after(self._seconds):
            self._pipe.send_bytes(message)
            answer = self._pipe.recv_bytes()
        return _RESULTS.validate_json(answer)

    @contextlib.contextmanager
    def _killed_after(self, seconds: float) -> Iterator[None]:
        """Kills the process after so many seconds, which ends whatever waits for it."""
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            yield
        except (OSError, EOFError) as error:
            late = not timer.is_alive()
            self.stop()
            reason = f"it did not answer within {seconds:.0f} s" if late else "it has ended"
            raise TrialGoneError(reason) from error
        finally:
            timer.cancel()

    def stop(self) -> None:
        """End it, and wait until it has. Whoever waits for an answer is told."""
        self._process.kill()
        self._process.wait()


def pack_images(images: Sequence[PreparedImage]) -> bytes:
    """Images as one message: a line with the sizes and lengths of their pixels, then these."""
    head = json.dumps([(image.size, len(image.pixels)) for image in images]).encode()
    return b"".join([head, b"\n", *(image.pixels for image in images)])


def unpack_images(message: bytes) -> list[PreparedImage]:
    """The images of a message."""
    head, _, pixels = message.partition(b"\n")
    images, place = [], 0
    for size, length in json.loads(head):
        images.append(PreparedImage(size=size, pixels=pixels[place : place + length]))
        place += length
    return images


def _environment() -> dict[str, str]:
    """The environment of this process, with its import path and without its Prometheus folder."""
    environment = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    places = [str(Path(__file__).resolve().parents[2]), environment.get("PYTHONPATH", "")]
    return {**environment, "PYTHONPATH": os.pathsep.join(place for place in places if place)}


class _FixedSource:
    """The one version that there is, as a source for the engine."""

    def __init__(self, spec: TrialSpec) -> None:
        self._reference = ModelReference(spec.name, spec.version, spec.mark)
        self._folder = Path(spec.folder)

    def newest(self) -> ModelReference | None:
        return self._reference

    def fetch(self, reference: ModelReference) -> Path:  # noqa: ARG002 - there is but one
        return self._folder

    def last_served(self) -> ModelReference | None:
        return None

    cached_bundle = fetch

    def record_served(self, reference: ModelReference) -> None:
        pass


def serve(pipe: "Connection", spec: TrialSpec) -> None:
    """Loads the version, says so, and captions what comes until nothing comes any more."""
    import torch

    from captionloop.captioner.model_memory import load_where_it_fits

    torch.set_num_threads(1)  # the champion has the others
    load = partial(load_where_it_fits, streams=1, batch=spec.max_batch)
    engine = Engine(_FixedSource(spec), load, max_batch=spec.max_batch)
    engine.refresh()
    description = engine.describe()
    inputs = {"input_size": description.input_size, "preprocessing": description.preprocessing}
    ready: dict[str, Any] = inputs if description.ready else {"reason": description.reason}
    pipe.send_bytes(json.dumps(ready).encode())
    with contextlib.suppress(EOFError):
        while description.ready:
            pipe.send_bytes(_RESULTS.dump_json(engine.caption(unpack_images(pipe.recv_bytes()))))


def lower_priority() -> None:
    """Gives this process the lowest priority (SCHED_IDLE on Linux)."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):  # not Linux, or not allowed
        os.nice(19)


def main() -> None:
    """The process itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the model server, with which it ends
    spec = TrialSpec(**json.loads(sys.argv[2]))
    configure_logs(spec.log_level, spec.role)
    if spec.role == "shadow":
        lower_priority()
    serve(Connection(int(sys.argv[1])), spec)


if __name__ == "__main__":
    main()
