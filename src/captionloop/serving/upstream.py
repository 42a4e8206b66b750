"""The model server as the gateway sees it: one call for a caption, one for what is being served.

`bentoml.depends` gives a proxy whose client replaces its connections every hundred requests and closes the
old ones while other requests still wait on them (BentoML 1.4.39: with 32 callers, one answer in four is
lost). `steady` turns that off; a call that fails because the model server was restarted is made once more,
for captioning changes nothing.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Protocol, TypeVar

import structlog
from aiohttp import ClientError

from captionloop.serving.problems import IMAGE_UNREADABLE, MODEL_NOT_READY, Problem
from captionloop.serving.retry_budget import RetryBudget
from captionloop.serving.wire import ModelDescription, Outcome, PreparedImage

logger = structlog.get_logger(__name__)
T = TypeVar("T")

_budget = RetryBudget(share=0.2, start=64.0, most=64.0)
"""Saves enough for all captions under way when one of several model servers goes."""
RETRY_AFTER_SECONDS = 5
ATTEMPTS = 3
LOOK_SECONDS = 1.0
STALE_SECONDS = 30.0
"""Loading a model on a busy machine keeps the server silent for a while; captions have their own deadline."""
NOTHING_YET = ModelDescription(ready=False, reason="the model server has not answered yet")


class CaptionModel(Protocol):
    """Whatever captions prepared images and says what it is."""

    async def caption(self, image: PreparedImage) -> Outcome:
        """Caption one image."""
        ...

    async def describe(self) -> ModelDescription:
        """What is being served."""
        ...


class ModelServerProxy:
    """The BentoML dependency as a `CaptionModel`."""

    def __init__(self, proxy: Any) -> None:
        self._remote = steady(proxy).to_async

    async def caption(self, image: PreparedImage) -> Outcome:
        """One image in, one outcome out; the model server puts images together to batches."""
        return Outcome.model_validate(await persistently(lambda: self._remote.caption(image=image)))

    async def describe(self) -> ModelDescription:
        """Asked every second: this is also the model server's sign that the gateway is still there."""
        return ModelDescription.model_validate(await self._remote.describe())


def steady(proxy: Any) -> Any:
    """Let the proxy keep its connections (see above)."""
    sessions = proxy.to_async._session_manager
    sessions.max_requests = 2**62
    sessions.max_age = float("inf")
    return proxy


async def persistently(call: Callable[[], Awaitable[T]]) -> T:
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


class ModelWatch:
    """Keeps an eye on the model server: what it serves, and whether it answers."""

    def __init__(self, model: CaptionModel, caption_seconds: float) -> None:
        self._model = model
        self._caption_seconds = caption_seconds
        self._latest = NOTHING_YET
        self._seen = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def latest(self) -> ModelDescription:
        """What the model server said last; not ready if that is too long ago."""
        if self._latest.ready and monotonic() - self._seen > STALE_SECONDS:
            return ModelDescription(ready=False, reason="the model server does not answer")
        return self._latest

    def require(self) -> ModelDescription:
        """What is being served.

        Raises:
            Problem: 503, if nothing is.
        """
        latest = self.latest
        if not latest.ready:
            raise not_ready(latest.reason)
        return latest

    async def caption(self, image: PreparedImage) -> Outcome:
        """One image in, its caption out.

        Raises:
            Problem: 503 if the model server does not answer in time, 422 if the model cannot caption this
            image.
        """
        try:
            async with asyncio.timeout(self._caption_seconds):
                outcome = await self._model.caption(image)
        except Exception as error:
            logger.warning("no caption", reason=type(error).__name__)
            raise not_ready("the model server did not answer") from error
        if outcome.caption is None:
            raise Problem(IMAGE_UNREADABLE, "The model could not caption this image; try another one.")
        return outcome

    async def look(self) -> None:
        """Ask once."""
        try:
            async with asyncio.timeout(STALE_SECONDS / 3):
                self._latest = await self._model.describe()
            self._seen = monotonic()
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
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)


def not_ready(reason: str) -> Problem:
    """503: there is no model to caption with at the moment."""
    return Problem(
        MODEL_NOT_READY,
        f"No caption is possible at the moment: {reason or 'no model is loaded'}. Try again shortly.",
        retry_after=RETRY_AFTER_SECONDS,
    )
