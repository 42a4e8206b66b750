"""The model servers as the gateway sees them: one call, budgeted retries, here or behind an address.

If every caller of a service that is full asks three times, it is three times as full. With a budget callers
together ask hardly more often than once, and one that fails now and then is still tried again.

`bentoml.depends` gives a proxy whose client replaces its connections every hundred requests and closes the
old ones while other requests still wait on them (BentoML 1.4.39: with 32 callers, one answer in four is
lost). `keep_connections` turns that off; a call that fails because the model server was restarted is made
once more, for captioning changes nothing.

Connections are kept, for a new one for every photo costs more than the photo. They are renewed every half
minute all the same: a balancer that chooses a server by connection would never send a kept one to a server
that came later.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from time import monotonic
from typing import Any, Protocol, TypeVar

import numpy as np
import structlog
from aiohttp import ClientError, ClientSession, ClientTimeout
from pydantic import ValidationError

from captionloop.preprocessing import SQUASHED, Preprocessing
from captionloop.registry.trials import is_chosen
from captionloop.serving.gateway.model_servers import ModelServers
from captionloop.serving.gateway.problems import (
    IMAGE_UNREADABLE,
    MODEL_NOT_READY,
    VERSION_NOT_SERVED,
    Problem,
)
from captionloop.serving.schemas import CaptionResult, ModelDescription, PreparedImage, WordResult


class RetryBudget:
    """Grows a little with every request, and pays for every repetition.

    Args:
        share: repetitions for each request, in the long run.
        start: what is there at the beginning.
        maximum: what is saved at most.
    """

    def __init__(self, share: float = 0.1, start: float = 2.0, maximum: float = 10.0) -> None:
        self._share = share
        self._maximum = maximum
        self._balance = start
        self._lock = threading.Lock()

    def earn(self) -> None:
        """A request is made for the first time."""
        with self._lock:
            self._balance = min(self._maximum, self._balance + self._share)

    def spend(self) -> bool:
        """Whether one may be repeated; pays for it."""
        with self._lock:
            if self._balance < 1.0:
                return False
            self._balance -= 1.0
            return True


logger = structlog.get_logger(__name__)
T = TypeVar("T")

_budget = RetryBudget(share=0.2, start=64.0, maximum=64.0)
"""Saves enough for all captions under way when one of several model servers goes."""
RETRY_AFTER_SECONDS = 5
ATTEMPTS = 3
LOOK_SECONDS = 1.0
PINNED_ATTEMPTS = 8
"""Asked of a certain version, other servers are asked so often, while some serve another one."""
STALE_SECONDS = 30.0
"""Loading a model on a busy machine keeps the server silent for a while; captions have their own deadline."""
NOT_ASKED_YET = ModelDescription(ready=False, reason="the model server has not answered yet")


class CaptionModel(Protocol):
    """Whatever captions prepared images and says what it is."""

    async def caption(self, image: PreparedImage) -> CaptionResult:
        """Caption one image."""
        ...

    async def describe(self) -> ModelDescription:
        """What is being served."""
        ...


class ModelServerProxy:
    """The BentoML dependency as a `CaptionModel`."""

    def __init__(self, proxy: Any) -> None:
        self._client = keep_connections(proxy).to_async

    async def caption(self, image: PreparedImage) -> CaptionResult:
        """One image in, one outcome out; the model server puts images together to batches."""
        return CaptionResult.model_validate(await with_retries(lambda: self._client.caption(image=image)))

    async def describe(self) -> ModelDescription:
        """Asked every second: this is also the model server's sign that the gateway is still there."""
        return ModelDescription.model_validate(await self._client.describe())


def keep_connections(proxy: Any) -> Any:
    """Let the proxy keep its connections (see above)."""
    sessions = proxy.to_async._session_manager
    sessions.max_requests = 2**62
    sessions.max_age = float("inf")
    return proxy


async def with_retries(call: Callable[[], Awaitable[T]]) -> T:
    """The call's answer; made again where the connection to the model server was lost, or the server turned
    it away: another one may do. All calls share a budget for that, so that full servers are not asked thrice.
    """
    _budget.earn()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await call()
        except (OSError, ClientError) as error:
            if attempt == ATTEMPTS or not _budget.spend():
                raise
            logger.warning("model server connection lost, trying again", reason=type(error).__name__)
            await asyncio.sleep(0.1 * attempt)
    raise AssertionError("unreachable")


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """How a photo is made ready, and by which version it is captioned.

    Attributes:
        input_size: edge of the square, in pixels.
        version: it alone may caption the photo; empty: any.
        preferred: it should, and another one where it cannot.
        preprocessing: of the photo before the square is cut.
    """

    input_size: int
    version: str = ""
    preferred: str = ""
    preprocessing: Preprocessing = SQUASHED

    def apply(self, image: PreparedImage) -> PreparedImage:
        """The image, with what is wanted for it."""
        return image.model_copy(update={"version": self.version, "preferred": self.preferred})

    def over_photo(self, result: CaptionResult, width: int, height: int) -> CaptionResult:
        """The outcome with attention over all of a photo of `width` x `height` px, not what is seen of it."""
        if self.preprocessing.sees_everything:
            return result

        def rescaled(word: WordResult) -> WordResult:
            if word.attention is None:
                return word
            attention = self.preprocessing.over_photo(
                np.array(word.attention), width, height, self.input_size
            )
            return word.model_copy(update={"attention": attention.round(4).tolist()})

        return result.model_copy(update={"words": [rescaled(word) for word in result.words]})


class ModelMonitor:
    """Polls the model server: what it serves, and whether it answers."""

    def __init__(self, model: CaptionModel, caption_seconds: float) -> None:
        self._model = model
        self._caption_seconds = caption_seconds
        self._latest = NOT_ASKED_YET
        self._answered_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self.servers = ModelServers()

    @property
    def latest(self) -> ModelDescription:
        """What the model server said last; not ready if that is too long ago."""
        if self._latest.ready and monotonic() - self._answered_at > STALE_SECONDS:
            return ModelDescription(ready=False, reason="the model server does not answer")
        return self._latest

    @property
    def language(self) -> str | None:
        """What captions are in: all that a service keeps are in the language of its model. None where the
        model server does not say; one that does not answer any more is believed.
        """
        return self._latest.language

    def require(self) -> ModelDescription:
        """What is being served.

        Raises:
            Problem: 503, if nothing is.
        """
        latest = self.latest
        if not latest.ready:
            raise not_ready(latest.reason)
        return latest

    def choose(self, rater: str, version: str = "") -> ModelChoice:
        """What captions somebody's photo: the version asked for, the canary for its people, or the champion.

        Raises:
            Problem: 503, if nothing is served.
        """
        model = self.require()
        trial, preprocessing = model.trial, Preprocessing(**model.preprocessing)
        if version or trial is None or trial.role != "canary":
            return ModelChoice(model.input_size, version, preprocessing=preprocessing)
        if not is_chosen(rater, model.name, trial.version, trial.share):
            return ModelChoice(model.input_size, preprocessing=preprocessing)
        if not trial.input_size:
            return ModelChoice(model.input_size, preferred=trial.version, preprocessing=preprocessing)
        return ModelChoice(
            trial.input_size, preferred=trial.version, preprocessing=Preprocessing(**trial.preprocessing)
        )

    async def caption(self, image: PreparedImage) -> CaptionResult:
        """One image in, its caption out.

        Raises:
            Problem: 503 if the model server does not answer in time, 409 if none serves the version that is
            asked for, 422 if the model cannot caption this image.
        """
        if image.version and not self.servers.may_serve(image.version):
            detail = f"No model server serves version {image.version}."
            raise Problem(VERSION_NOT_SERVED, detail, retry_after=RETRY_AFTER_SECONDS)
        try:
            async with asyncio.timeout(self._caption_seconds):
                result = await self._request(image)
        except Exception as error:
            logger.warning("no caption", reason=type(error).__name__)
            raise not_ready("the model server did not answer") from error
        if image.version not in {"", result.model_version}:
            raise not_ready(f"version {image.version} did not answer, version {result.model_version} did")
        if result.caption is None:
            raise Problem(IMAGE_UNREADABLE, "The model could not caption this image; try another one.")
        return result

    async def _request(self, image: PreparedImage) -> CaptionResult:
        """What a model server answers, of the version that is asked for if there is one of it."""
        for _ in range(PINNED_ATTEMPTS if image.version else 1):
            result = await self._model.caption(image)
            self.servers.record_result(result)
            if image.version in {"", result.model_version}:
                break
            await asyncio.sleep(0.05)
        return result

    async def poll(self) -> None:
        """Ask the model server once what it serves."""
        try:
            async with asyncio.timeout(STALE_SECONDS / 3):
                self._latest = await self._model.describe()
            self._answered_at = monotonic()
            self.servers.record_description(self._latest)
        except Exception as error:
            logger.debug("model server not reached", reason=type(error).__name__)

    def start(self) -> None:
        """Ask every second from now on."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            await self.poll()
            await asyncio.sleep(LOOK_SECONDS)


def not_ready(reason: str) -> Problem:
    """503: there is no model to caption with at the moment."""
    return Problem(
        MODEL_NOT_READY,
        f"No caption is possible at the moment: {reason or 'no model is loaded'}. Try again shortly.",
        retry_after=RETRY_AFTER_SECONDS,
    )


RENEW_SECONDS = 30.0
CONNECT_SECONDS = 2.0
_TIMEOUT = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)


class ServerUnavailableError(ClientError):
    """A model server that is full, stopping, or has no model yet: another one may do."""


@dataclass
class _Connection:
    session: ClientSession
    opened: float
    users: int = 0


class RemoteModelServers:
    """Whatever answers at `url`, as a `CaptionModel`.

    Args:
        url: without a path, for example `http://model-server:3000`.
        renew_seconds: how old connections get.
    """

    def __init__(self, url: str, renew_seconds: float = RENEW_SECONDS) -> None:
        self._url = url.rstrip("/")
        self._renew_seconds = renew_seconds
        self._connection: _Connection | None = None

    async def caption(self, image: PreparedImage) -> CaptionResult:
        """One image in, one outcome out; tried on another server where one is lost or not ready."""
        body = {"image": image.model_dump(mode="json")}
        session = self._new_session if image.version else self._session

        async def attempt() -> CaptionResult:
            status, body_text = await self._post("caption", body, session)
            if status != HTTPStatus.OK:
                raise ServerUnavailableError(f"model server answered {status}")
            return CaptionResult.model_validate_json(body_text)

        return await with_retries(attempt)

    async def describe(self) -> ModelDescription:
        """What the server that answers is serving; behind a balancer, one that is ready if there is one.

        Asked by a new connection each time, so that it is not always the same server.
        """
        status, answer = await self._post("describe", {}, self._new_session)
        try:
            return ModelDescription.model_validate_json(answer)
        except ValidationError as error:
            raise ServerUnavailableError(f"model server answered {status}") from error

    async def _post(
        self,
        route: str,
        body: dict[str, Any],
        opened: Callable[[], AbstractAsyncContextManager[ClientSession]],
    ) -> tuple[int, bytes]:
        async with (
            opened() as session,
            session.post(f"{self._url}/{route}", json=body) as answer,
        ):
            return answer.status, await answer.read()

    @asynccontextmanager
    async def _new_session(self) -> AsyncIterator[ClientSession]:
        async with ClientSession(timeout=_TIMEOUT) as session:
            yield session

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[ClientSession]:
        old, connection = self._connection, self._current_connection()
        connection.users += 1  # before anything is awaited: an unused line may be closed
        try:
            if old is not None and old is not connection:
                await self._close_unused(old)
            yield connection.session
        finally:
            connection.users -= 1
            await self._close_unused(connection)

    async def _close_unused(self, connection: _Connection) -> None:
        if connection is not self._connection and not connection.users:
            await connection.session.close()

    def _current_connection(self) -> _Connection:
        if self._connection is None or monotonic() - self._connection.opened >= self._renew_seconds:
            self._connection = _Connection(ClientSession(timeout=_TIMEOUT), monotonic())
        return self._connection
