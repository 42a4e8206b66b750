"""Calls to the database and the photo archive, in threads and with deadlines.

A server that is away answers with an error. One whose packets are lost answers nothing, and the thread that
waits for it cannot be stopped: so nobody waits for the thread longer than the deadline, and such threads are
counted apart, that everything else still finds one.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, Generic, TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError

from captionloop.errors import CaptionloopError, reason_of
from captionloop.ratings.database import DatabaseError, SchemaError
from captionloop.serving.gateway.problems import STORAGE_UNAVAILABLE, Problem

logger = structlog.get_logger(__name__)
T = TypeVar("T")

DATABASE_SECONDS = 4.0
"""Within which the database must have answered; with all else, a request is answered within five."""
ARCHIVE_SECONDS = 8.0
"""Photos are larger than rows, and object storage is farther away."""
HEALTH_SECONDS = 2.0
RETRY_AFTER_SECONDS = 5
_THREADS = 16


class Threads:
    """Threads for one kind of storage."""

    def __init__(self, name: str, seconds: float) -> None:
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=name)

    async def run(self, question: Callable[..., T], *arguments: Any, seconds: float | None = None) -> T:
        """The question's answer.

        Raises:
            TimeoutError: it takes longer than it may; what its thread still does counts for nothing.
        """
        async with asyncio.timeout(seconds or self._seconds):
            return await asyncio.get_running_loop().run_in_executor(self._threads, question, *arguments)


_database = Threads("database", DATABASE_SECONDS)
_archive = Threads("archive", ARCHIVE_SECONDS)


async def ask(question: Callable[..., T], *arguments: Any, seconds: float | None = None) -> T:
    """Ask the database something that only reads.

    Raises:
        SchemaError: it is not of our version.
        Problem: 503, if it does not answer in time.
    """
    try:
        return await _database.run(question, *arguments, seconds=seconds)
    except SchemaError:
        raise
    except (DatabaseError, SQLAlchemyError, TimeoutError) as error:
        raise storage_unavailable(error) from error


async def with_archive(action: Callable[..., T], *arguments: Any) -> T:
    """Let the photo archive do something.

    Raises:
        Problem: 503, if it fails, or not in time.
    """
    try:
        return await _archive.run(action, *arguments)
    except (CaptionloopError, TimeoutError) as error:
        raise storage_unavailable(error) from error


class CachedAnswer(Generic[T]):
    """A cache of the database's answers for some seconds, filled by one query at a time.

    Args:
        question: what to ask, given the arguments of `get`.
        seconds: how old an answer may get.
    """

    def __init__(self, question: Callable[..., T], seconds: float) -> None:
        self._question = question
        self._seconds = seconds
        self._answers: dict[tuple[Hashable, ...], tuple[float, T]] = {}
        self._asking = asyncio.Lock()

    async def get(self, *arguments: Hashable) -> T:
        """The answer. Raises `Problem` (503), if there is none to be had."""
        if (known := self._fresh(arguments)) is not None:
            return known
        try:
            async with asyncio.timeout(DATABASE_SECONDS), self._asking:
                return await self._ask(arguments)
        except TimeoutError as error:  # others are asking, and are not answered
            raise storage_unavailable(error) from error

    async def _ask(self, arguments: tuple[Hashable, ...]) -> T:
        if (known := self._fresh(arguments)) is not None:
            return known
        answer = await ask(self._question, *arguments)
        now = monotonic()
        self._answers = {key: value for key, value in self._answers.items() if value[0] > now}
        self._answers[arguments] = (now + self._seconds, answer)
        return answer

    def _fresh(self, arguments: tuple[Hashable, ...]) -> T | None:
        until, answer = self._answers.get(arguments, (0.0, None))
        return answer if until > monotonic() else None


class SharedCall(Generic[T]):
    """One call shared by all who ask while it runs: health and metrics are requested without any limit."""

    def __init__(self, find: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._find = find
        self._finding: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """The result of the call under way, or of a new one."""
        if self._finding is None:
            self._finding = asyncio.create_task(self._find())
            self._finding.add_done_callback(self._found)
        return await asyncio.shield(self._finding)  # who hangs up takes the answer from nobody else

    def _found(self, _: "asyncio.Task[T]") -> None:
        self._finding = None


def storage_unavailable(error: Exception) -> Problem:
    """503: what went wrong is in the log, for it may name hosts."""
    reason = str(error) if isinstance(error, CaptionloopError) else reason_of(error)
    logger.warning("storage unavailable", reason=reason)
    return Problem(
        STORAGE_UNAVAILABLE,
        "The service cannot store anything at the moment; try again shortly.",
        retry_after=RETRY_AFTER_SECONDS,
    )
