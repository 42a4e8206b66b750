"""Runs fits in other processes: one fit in several (data-parallel training), or several next to each other.

These processes do the fit and nothing else.

Left to itself, Lightning's `ddp` strategy runs the whole command again for each of its processes: a `kedro
run` would validate, evaluate and register as often as there are GPUs. So they are started otherwise:

- on one machine, by the process that runs the pipeline. It takes no part itself, and waits for them; where
  one is gone, it ends the others and says so (`_on_this_machine`);
- on several, by `torchrun`, as often as there are GPUs. The first process runs the pipeline and takes part in
  its fits; the others run nothing of the pipeline: they wait for fits to take part in (`follow`).

What a fit needs reaches them through a file in the folder that it works in, which several machines share.
"""

import atexit
import hashlib
import json
import logging
import logging.handlers
import multiprocessing
import os
import pickle
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from itertools import count, islice
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import torch

from captionloop.errors import CaptionloopError, ConfigurationError, TrainingError, first_line
from captionloop.files import write_file
from captionloop.training.training_parameters import ProcessParameters
from captionloop.vision.runtimes import cores

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

logger = logging.getLogger(__name__)
T = TypeVar("T")

_FILE: Final = "fit.pickle"
_MAX_TRACEBACK: Final = 8_000  # characters, which a pipe takes although nobody reads yet
_LONG: Final = timedelta(days=30)  # so long may what the first process does before a fit take


@dataclass(frozen=True)
class Member:
    """Which of a fit's processes this is, and where they meet."""

    rank: int
    local_rank: int
    devices: int
    nodes: int
    address: str
    port: int


Fit = Callable[[Member], None]
"""Takes part in a fit as one of its processes; it can be pickled."""


def run_together(fit: Fit, processes: ProcessParameters, folder: Path, name: str) -> None:
    """Run a fit in several processes, to its end.

    Args:
        fit: what each of them does.
        processes: how many there are.
        folder: that the fit works in; of several machines, the same for all.
        name: of the training, for people.

    Raises:
        TrainingError: one of the processes is gone. ConfigurationError: they are not as many as were started.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    wanted = processes.devices * processes.nodes
    if launched == 1 and processes.nodes > 1:
        raise ConfigurationError(
            f"Training '{name}': processes.nodes is {processes.nodes}, but this is one process of its own:"
            f" start it on each machine with torchrun --nnodes={processes.nodes}"
            f" --nproc-per-node={processes.devices} --no-python kedro run ..."
        )
    if launched not in {1, wanted}:
        raise ConfigurationError(
            f"Training '{name}': torchrun has started {launched} processes, but processes.devices x nodes is"
            f" {wanted}: make them the same"
        )
    with _written(fit, folder) as (path, digest):
        if launched == 1:
            _on_this_machine(path, digest, processes.devices, name)
        else:
            _with_followers(fit, path, digest, processes)


@contextmanager
def _written(fit: Fit, folder: Path) -> Iterator[tuple[Path, str]]:
    """The file that the fit is read from, and its digest."""
    content = pickle.dumps(fit)
    path = folder / _FILE
    write_file(path, lambda partial: partial.write_bytes(content))
    try:
        yield path, hashlib.sha256(content).hexdigest()
    finally:
        path.unlink(missing_ok=True)


def _read(path: Path, digest: str) -> Fit:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise TrainingError(f"{path} is not what was written: the folder is not the same on all machines")
    fit: Fit = pickle.loads(content)  # noqa: S301 - written by the process that says what its digest is
    return fit


# On one machine.


@dataclass(frozen=True)
class _Task:
    """What a process that is started here does, with how many threads, and what its log lines begin with.

    With None for `speaks_as` it has no log.
    """

    run: Callable[[], object]
    threads: int
    speaks_as: str | None


def _on_this_machine(path: Path, digest: str, devices: int, name: str) -> None:
    port, threads = _free_port(), max(1, cores() // devices)
    tasks = [
        _Task(
            partial(_take_part, path, digest, Member(rank, rank, devices, 1, "127.0.0.1", port)),
            threads,
            "" if rank == 0 else None,
        )
        for rank in range(devices)
    ]
    _run_tasks(tasks, devices, name)


def _take_part(path: Path, digest: str, member: Member) -> None:
    _read(path, digest)(member)


def run_side_by_side(fits: Mapping[str, Callable[[], object]], name: str) -> None:
    """Runs fits that do not need each other to their ends, on CPUs as many at once as there are cores.

    A small model gains little from a second thread, and two of them next to each other all of it. Each fit
    leaves in a folder what it comes to, so that the same call, made again, returns at once: nothing else
    comes back from its process. On GPUs, under `torchrun`, with one core or one fit nothing is run here.

    Args:
        fits: by what their log lines begin with; they can be pickled.
        name: of all of it, for people.

    Raises:
        TrainingError: one of the processes is gone. And what a fit raises of captionloop's own errors.
    """
    here = cores()
    at_once = min(here, len(fits))
    if at_once < 2 or torch.cuda.is_available() or "RANK" in os.environ:
        return
    tasks = [_Task(fit, here // at_once, f"{label}: ") for label, fit in fits.items()]
    _run_tasks(tasks, at_once, name)


def results_side_by_side(fits: Mapping[str, Callable[[], T]], name: str) -> list[T]:
    """What each of the fits comes to, in their order, after `run_side_by_side`, which says what they are."""
    run_side_by_side(fits, name)
    return [fit() for fit in fits.values()]  # from its folder, where it has been run


def _run_tasks(tasks: Sequence[_Task], at_once: int, name: str) -> None:
    """Runs tasks in processes of their own; where one fails, all others are ended."""
    context = multiprocessing.get_context("spawn")
    records, faults = context.Queue(), context.SimpleQueue()
    workers: list[BaseProcess] = [
        context.Process(target=_work, args=(task, number, os.getpid(), records, faults))
        for number, task in enumerate(tasks)
    ]
    listener = logging.handlers.QueueListener(records, _Relay())
    listener.start()
    try:
        failed = _first_failure(workers, at_once)
        if failed is None:
            return
    finally:
        for worker in workers:
            if worker.pid is not None:
                worker.kill()  # not asked to end: it may wait for one that is gone
                worker.join()
        listener.stop()
    while not faults.empty():
        fault = faults.get()
        if isinstance(fault, CaptionloopError):
            raise fault
        if fault[0] == failed:  # the others only say that this one is gone
            logger.error("Process %d of %d:\n%s", failed + 1, len(tasks), fault[1])
    code = workers[failed].exitcode or 0
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    raise TrainingError(
        f"Training '{name}': process {failed + 1} of {len(tasks)} {how}. Run the same command again with"
        " --only-missing-outputs: it goes on from the last whole epoch; if memory ran out, lower batch_size"
    )


def _first_failure(workers: Sequence[BaseProcess], at_once: int) -> int | None:
    """Starts them, so many at once, and waits: which process failed; None once all have ended well."""
    running: dict[int, int] = {}
    waiting = iter(enumerate(workers))
    while True:
        for rank, worker in islice(waiting, at_once - len(running)):
            worker.start()
            running[worker.sentinel] = rank
        if not running:
            return None
        ended = sorted(running.pop(sentinel) for sentinel in wait(list(running)) if isinstance(sentinel, int))
        for rank in ended:
            workers[rank].join()
        failed = [rank for rank in ended if workers[rank].exitcode != 0]
        if failed:
            # One that was killed is the cause; what the others say of it, that it is gone, is not.
            return min(failed, key=lambda rank: workers[rank].exitcode or 0)


def _work(task: _Task, number: int, parent: int, records: Any, faults: Any) -> None:
    """What a process that was started here does."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends all
    torch.set_num_threads(task.threads)
    if task.speaks_as is not None:
        handler = logging.handlers.QueueHandler(records)
        handler.addFilter(partial(_begin_with, task.speaks_as))
        logging.root.addHandler(handler)
        logging.root.setLevel(logging.INFO)
    try:
        task.run()
    except CaptionloopError as error:
        faults.put(error)
        os._exit(1)
    except Exception:  # the cause, or what follows from the end of another: the parent knows
        faults.put((number, traceback.format_exc()[-_MAX_TRACEBACK:]))
        os._exit(1)


def _begin_with(words: str, record: logging.LogRecord) -> bool:
    record.msg, record.args = words + record.getMessage(), None
    return True


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


class _Relay(logging.Handler):
    """Hands records of another process to this one's loggers."""

    def emit(self, record: logging.LogRecord) -> None:
        found = logging.getLogger(record.name)
        if found.isEnabledFor(record.levelno):
            found.handle(record)


# On several, started by torchrun.


def follow() -> None:
    """Take part in the fits of the first process until it ends: for all others that torchrun has started.

    Raises:
        TrainingError: the first process is gone.
    """
    for number in count(1):
        try:
            announced = json.loads(_store().get(f"fit/{number}"))
        except (RuntimeError, torch.distributed.DistStoreError) as error:
            reason = first_line(error)
            raise TrainingError(f"The process that runs the pipeline is gone ({reason})") from error
        if announced is None:
            return
        fit = _read(Path(announced["path"]), announced["digest"])
        member = _launched_member(announced["devices"], announced["nodes"])
        with _group(member, number):
            fit(member)


def _with_followers(fit: Fit, path: Path, digest: str, processes: ProcessParameters) -> None:
    """Takes part in the fit as the first process, and has the others take part."""
    member = _launched_member(processes.devices, processes.nodes)
    what = {"path": str(path.absolute()), "digest": digest, "devices": member.devices, "nodes": member.nodes}
    with _group(member, _announce(what)):
        fit(member)


def release_followers() -> None:
    """Have the others end with this process, the first that torchrun has started, whenever it ends."""
    _store()
    atexit.register(_announce, None)


_announced = 0


def _announce(what: dict[str, Any] | None) -> int:
    """Announces the next fit (None: the end) to the other processes; its number."""
    global _announced  # noqa: PLW0603 - as many as this process has told the others
    _announced += 1
    _store().set(f"fit/{_announced}", json.dumps(what))
    return _announced


@contextmanager
def _group(member: Member, number: int) -> Iterator[None]:
    """The process group of one fit. Lightning takes the one that is there.

    It would meet at a port that it believes the first process to listen at, where torchrun does.
    """
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        store=torch.distributed.PrefixStore(f"group/{number}", _store()),  # type: ignore[attr-defined]
        rank=member.rank,
        world_size=member.devices * member.nodes,
    )
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def _launched_member(devices: int, nodes: int) -> Member:
    environment = os.environ
    place = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
    return Member(int(environment["RANK"]), int(environment["LOCAL_RANK"]), devices, nodes, *place)


@cache
def _store() -> "Store":
    """The key-value store that the processes started by torchrun share."""
    environment = os.environ
    of_agent = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = torch.distributed.TCPStore(  # type: ignore[attr-defined] # not in its stubs
        environment["MASTER_ADDR"],
        int(environment["MASTER_PORT"]),
        is_master=environment["RANK"] == "0" and not of_agent,
        timeout=_LONG,
        wait_for_workers=False,
    )
    return torch.distributed.PrefixStore("captionloop", store)  # type: ignore[attr-defined]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        port: int = free.getsockname()[1]
    return port
