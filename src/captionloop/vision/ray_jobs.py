"""Runs work on photos as a Ray Data job: photos in, in tasks to a pool of actors; how many were done out.

The actors store what they make themselves, so that nothing large passes between processes, and what was
stored is the checkpoint: a task whose actor was killed is done again by another, and a job that was killed
begins with what the store lacks. An actor is given its next task when it has done one: nobody runs ahead.
"""

import fcntl
import logging
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from captionloop import errors
from captionloop.errors import CaptionloopError, ConfigurationError, in_a_line

logger = logging.getLogger(__name__)

Photo = tuple[str, str, Sequence[str]]
"""Its uri, its SHA-256 and the views of it that are asked for."""

_TASKS_AHEAD: Final = 2


class RayOptions(BaseModel):
    """How a job is laid out.

    Attributes:
        address: of a Ray cluster (`auto`, `ray://host:10001`). None: that of RAY_ADDRESS, which a job has
            that was submitted with `ray job submit`; else a cluster of this machine alone, for this run.
        actors: how many processes encode at most; None for as many as the cluster has cores or GPUs for.
        cpus: cores of each actor.
        gpus: GPUs of each, or the fraction of one.
        photos: how many photos a task has: what a killed actor has to do again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str | None = None
    actors: int | None = Field(default=None, ge=1)
    cpus: float = Field(default=1.0, gt=0)
    gpus: float = Field(default=0.0, ge=0)
    photos: int = Field(default=256, ge=1)


def run_on_ray(
    actor: type[Any],
    arguments: tuple[Any, ...],
    photos: Sequence[Photo],
    options: RayOptions,
    advance: Callable[[int], object],
) -> None:
    """Hands all photos to actors `actor(*arguments)`, a task at a time; `advance(n)` is called after each.

    Raises:
        ConfigurationError: Ray is not installed, the cluster does not answer, or has no room for an actor.
        CaptionloopError: what an actor raised.
    """
    ray = _ray()
    import pyarrow as pa

    with _cluster(ray, options) as actors:
        uris, keys, views = zip(*photos, strict=True)
        table = pa.table({"uri": uris, "key": keys, "views": [list(each) for each in views]})
        starts = range(0, len(table), options.photos)
        tasks = ray.data.from_arrow([table.slice(start, options.photos) for start in starts])
        done = tasks.map_batches(
            _Worker,
            fn_constructor_args=(actor, ray.put(arguments), options.cpus if not options.gpus else None),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                min_size=1,
                max_size=min(actors, len(starts)),
                max_tasks_in_flight_per_actor=_TASKS_AHEAD,
            ),
            num_cpus=options.cpus,
            num_gpus=options.gpus or None,
        )
        try:
            for batch in done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for count, kind, message in zip(*batch.to_pydict().values(), strict=True):
                    if kind:
                        raise getattr(errors, kind, CaptionloopError)(message)
                    advance(count)
        except ray.exceptions.RayError as error:
            raise CaptionloopError(
                f"the Ray job failed ({in_a_line(error)}); run it again: it goes on from what is stored"
            ) from error


class _Worker:
    """What Ray starts: an actor on cores of its own, that is given tables and gives tables."""

    def __init__(self, actor: type[Any], arguments: Any, cpus: float | None) -> None:
        self._cores = None if cpus is None else _take_cores(math.ceil(cpus))
        self._kind, self._arguments = actor, arguments
        self._actor: Any = None

    def __call__(self, batch: Any) -> Any:
        """How much was done, or what was wrong: Ray would wrap an error in pages of its own."""
        import pyarrow as pa

        count, kind, message = 0, "", ""
        try:
            if self._actor is None:
                self._actor = self._kind(*_ray().get(self._arguments))
            count = self._actor(list(zip(*batch.to_pydict().values(), strict=True)))
        except CaptionloopError as error:
            kind, message = type(error).__name__, str(error)
        return pa.table({"count": [count], "kind": [kind], "message": [message]})


def _take_cores(wanted: int) -> IO[bytes] | None:
    """Keeps this process to cores that no other actor of this machine has; None where it may use all.

    The cores are divided into seats; a seat is a locked file, and free again when its process is no more.
    """
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    for seat in range(len(allowed) // wanted):
        path = Path(tempfile.gettempdir()) / f"captionloop-cores-{os.getuid()}-{wanted}-{seat}"
        file = path.open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        os.sched_setaffinity(0, allowed[seat * wanted : (seat + 1) * wanted])
        return file
    return None


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
        import ray.exceptions
    except ImportError as error:
        raise ConfigurationError(
            "engine=ray needs Ray: install captionloop[ray], or leave engine out"
        ) from error
    return ray


@contextmanager
def _cluster(ray: Any, options: RayOptions) -> Iterator[int]:
    """Connects to a Ray cluster and yields the number of actors it has room for; ends what it started."""
    begun = not ray.is_initialized()
    if begun:
        try:
            ray.init(
                address=options.address, include_dashboard=False, log_to_driver=False,
                logging_level=logging.WARNING,
            )  # fmt: skip
        except Exception as error:  # of many kinds, by what is wrong with the address
            raise ConfigurationError(
                f"no Ray cluster at {options.address or 'this machine'} ({in_a_line(error)}); check"
                " feature_caching.ray.address"
            ) from error
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        there = ray.cluster_resources()
        room = [there.get("CPU", 0) / options.cpus]
        room += [there.get("GPU", 0) / options.gpus] if options.gpus else []
        if min(room) < 1:
            raise ConfigurationError(
                f"the Ray cluster has {there.get('CPU', 0):g} cores and {there.get('GPU', 0):g} GPUs, but an"
                " actor needs more; lower feature_caching.ray.cpus or gpus"
            )
        yield min(options.actors or math.inf, math.floor(min(room)))
    finally:
        if begun:
            ray.shutdown()
