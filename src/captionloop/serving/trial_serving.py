"""The version that is tried, on a model server: loaded when the registry says so, and never relied upon.

A photo that the canary should caption and does not, because it is not there, is full, hangs or ends, comes
back at once, for the champion. A shadow captions copies after their photos were answered, and none while the
champion is busy.
"""

import asyncio
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any, Protocol

import structlog

from captionloop.errors import CaptionloopError, first_line
from captionloop.registry.trials import Plan
from captionloop.serving import telemetry
from captionloop.serving.batching import Batcher, BatcherFullError
from captionloop.serving.model_sources import ModelReference, poll_in_thread
from captionloop.serving.schemas import CaptionResult, PreparedImage, TrialBody
from captionloop.serving.trial_process import (
    ANSWER_SECONDS,
    TrialGoneError,
    TrialProcess,
    TrialSpec,
)

logger = structlog.get_logger(__name__)

SHADOWS_WAITING = 8
"""Copies that may wait for the shadow; more are dropped."""
RETRY_SECONDS = 60.0
"""Until what could not be loaded, or ended, is loaded again; the first time it ends, that is at once."""

SHADOW_SECONDS = 60.0
"""Within which a shadow must have captioned a photo for it to count."""
_NO_TIME = (BatcherFullError, TimeoutError)


class TrialModel(Protocol):
    """A version that was loaded."""

    input_size: int
    preprocessing: dict[str, Any]

    @property
    def runs(self) -> bool:
        """Whether it answers still."""
        ...

    def caption(self, images: Sequence[PreparedImage]) -> list[CaptionResult]:
        """The images' outcomes. Raises `TrialGoneError`."""
        ...

    def stop(self) -> None:
        """End it."""
        ...


Start = Callable[[ModelReference, Path, Plan], TrialModel]


@dataclass
class _Trial:
    """One version while it is tried here."""

    reference: ModelReference
    plan: Plan
    process: TrialModel | None = None
    reason: str = "it is being loaded"
    again_at: float = 0.0
    captioned: int = 0
    failed: int = 0
    dropped: int = 0
    agreed: int = 0

    def count(self, status: str) -> None:
        """One photo more, here and for Prometheus."""
        telemetry.TRIALS.labels(self.plan.role, self.reference.version, status).inc()
        self.captioned += status == "captioned"
        self.failed += status == "failed"
        self.dropped += status == "dropped"

    def set_ready(self, ready: bool) -> None:
        """Told to Prometheus."""
        telemetry.TRIAL_READY.labels(self.plan.role, self.reference.version).set(ready)


class TrialPlanSource(Protocol):
    """Says which version shall be tried, and fetches it (`model_sources.TrialSource`)."""

    def current_trial(self) -> tuple[ModelReference, Plan] | None:
        """Which, and by which plan."""
        ...

    def fetch(self, reference: ModelReference) -> Path:
        """Its bundle, checked."""
        ...


class TrialServing:
    """What is tried on this model server.

    Args:
        source: says what, and fetches it.
        start: loads it.
        max_batch: the largest batch.
        champion_waits: whether photos wait for the champion.
        chance: a number from 0 to 1, for the share of photos that a shadow captions.
    """

    def __init__(
        self,
        source: TrialPlanSource,
        start: Start,
        *,
        max_batch: int,
        champion_waits: Callable[[], bool],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._source, self._start = source, start
        self._champion_waits, self._chance = champion_waits, chance
        self._batcher = Batcher(self._run, largest=max_batch, capacity=4 * max_batch)
        self._trial: _Trial | None = None
        self._shadows: set[asyncio.Task[None]] = set()
        self._stopped = threading.Event()

    def follow(self, seconds: float) -> None:
        """Look what shall be tried every `seconds`, in a thread of its own, until `stop`."""
        poll_in_thread(self.refresh, seconds, self._stopped, "follow-trial")

    def stop(self) -> None:
        """Stop following. What is tried ends with this process."""
        self._stopped.set()

    def refresh(self) -> None:
        """Try what shall be tried. Whatever goes wrong with that, the champion serves."""
        try:
            wanted = self._source.current_trial()
        except CaptionloopError as error:  # the registry is away: nothing changes
            logger.debug("registry not asked for a trial", reason=str(error))
            return
        trial = self._trial
        if trial is not None and (wanted is None or not _same(trial, wanted)):
            self._end(trial)
            trial = None
        if wanted is None:
            return
        if trial is None:
            trial = self._trial = _Trial(*wanted)
        trial.plan = wanted[1]
        if trial.process is not None and not trial.process.runs:
            trial.process, trial.reason = None, "it has ended"
            self._failed(trial)
        if trial.process is None and monotonic() >= trial.again_at:
            self._load(trial)

    def _load(self, trial: _Trial) -> None:
        trial.again_at = monotonic() + RETRY_SECONDS
        began = perf_counter()
        try:
            folder = self._source.fetch(trial.reference)
            trial.process = self._start(trial.reference, folder, trial.plan)
        except CaptionloopError as error:
            trial.reason = first_line(error)
        except Exception as error:  # a version that was never served may fail in any way
            logger.exception("version not tried")
            trial.reason = f"it cannot be loaded ({type(error).__name__}); see the log"
        if trial.process is None:
            self._failed(trial)
            return
        trial.reason = ""
        trial.set_ready(True)
        logger.info(
            "trying a version", role=trial.plan.role, version=trial.reference.version, share=trial.plan.share,
            seconds=round(perf_counter() - began, 1),
        )  # fmt: skip

    def _failed(self, trial: _Trial) -> None:
        trial.set_ready(False)
        telemetry.TRIAL_FAILURES.labels(trial.reference.version).inc()
        logger.error(
            "version not tried", role=trial.plan.role, version=trial.reference.version, reason=trial.reason
        )

    def _end(self, trial: _Trial) -> None:
        self._trial = None
        trial.set_ready(False)
        if trial.process is not None:
            trial.process.stop()
        logger.info("trial ended", role=trial.plan.role, version=trial.reference.version)

    async def caption(self, image: PreparedImage) -> CaptionResult | None:
        """The outcome of an image that this version should caption; None where the champion has to.

        An image that no other version may caption (`version`) has an outcome without a caption, too.
        """
        trial = self._trial
        wanted = image.version or image.preferred
        if trial is None or not wanted or wanted != trial.reference.version:
            return None
        try:
            result = await self._request(trial, image, ANSWER_SECONDS)
        except _NO_TIME as error:
            logger.warning("the version that is tried is late", reason=first_line(error))
            result = None
        if result is not None and result.caption is None and not image.version:
            result = None
        trial.count("failed" if result is None or result.caption is None else "captioned")
        return result

    def shadow(self, image: PreparedImage, champion_result: CaptionResult) -> None:
        """Has a photo that was answered captioned once more, if it is of the share and nobody waits."""
        trial = self._trial
        if trial is None or trial.plan.role != "shadow" or trial.process is None or image.version:
            return
        if champion_result.caption is None or self._chance() >= trial.plan.share:
            return
        if self._champion_waits() or len(self._shadows) >= SHADOWS_WAITING:
            trial.count("dropped")
            return
        task = asyncio.create_task(self._compare(trial, image, champion_result.caption))
        self._shadows.add(task)  # the loop itself holds tasks by weak references
        task.add_done_callback(self._shadows.discard)

    async def _compare(self, trial: _Trial, image: PreparedImage, champion_caption: str) -> None:
        try:
            result = await self._request(trial, image, SHADOW_SECONDS)
        except _NO_TIME:  # everybody else went first
            trial.count("dropped")
            return
        if result is None or result.caption is None:
            trial.count("failed")
            return
        trial.count("captioned")
        if result.caption == champion_caption:
            trial.agreed += 1
            telemetry.SHADOW_AGREED.labels(trial.reference.version).inc()

    async def _request(self, trial: _Trial, image: PreparedImage, seconds: float) -> CaptionResult | None:
        """Its outcome; None where it gives none. Raises one of `_NO_TIME` where it gives none in time."""
        if trial.process is None:
            return None
        try:
            async with asyncio.timeout(seconds):
                result = await self._batcher.submit(image)
        except _NO_TIME:
            raise
        except TrialGoneError as error:
            logger.warning("not captioned by the version that is tried", reason=first_line(error))
            return None
        except Exception:
            logger.exception("not captioned by the version that is tried")
            return None
        return result if result.model_version == trial.reference.version else None

    def _run(self, images: Sequence[PreparedImage]) -> list[CaptionResult]:
        trial = self._trial
        if trial is None or trial.process is None:
            raise TrialGoneError("the trial has ended")
        began = perf_counter()
        results = trial.process.caption(images)
        telemetry.TRIAL_SECONDS.labels(trial.plan.role).observe(perf_counter() - began)
        return [result.model_copy(update={"tried": True}) for result in results]

    def describe(self) -> TrialBody | None:
        """What is tried, for the gateway."""
        trial = self._trial
        if trial is None:
            return None
        process = trial.process
        return TrialBody(
            role=trial.plan.role,
            version=trial.reference.version,
            share=trial.plan.share,
            ready=process is not None and process.runs,
            reason=trial.reason,
            input_size=process.input_size if process is not None else 0,
            preprocessing=process.preprocessing if process is not None else {},
            captioned=trial.captioned,
            failed=trial.failed,
            dropped=trial.dropped,
            agreed=trial.agreed,
        )


def _same(trial: _Trial, wanted: tuple[ModelReference, Plan]) -> bool:
    """Whether it is the same version in the same trial."""
    reference, plan = wanted
    return (trial.reference, trial.plan.role, trial.plan.began) == (reference, plan.role, plan.began)


def in_a_process(max_batch: int, log_level: str) -> Start:
    """Loads a version in a process of its own."""

    def start(reference: ModelReference, folder: Path, plan: Plan) -> TrialModel:
        return TrialProcess(
            TrialSpec(
                reference.name,
                reference.version,
                reference.mark,
                str(folder),
                max_batch,
                plan.role,
                log_level,
            )
        )

    return start
