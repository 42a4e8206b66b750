"""The model in the model server: loaded, warmed up, switched in one step, fed with batches that form by
themselves.

A batch works with the model that it found when it began, whatever is switched in between, and every outcome
names that model. An image that breaks a batch is found by captioning its batch mates one by one.
"""

import math
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog
from numpy.typing import NDArray
from PIL import Image

from captionloop.errors import CaptionloopError, RegistryError, SignatureError
from captionloop.ratings.rating_tables import now
from captionloop.serving import telemetry
from captionloop.serving.model_sources import ModelReference, ModelSource, poll_in_thread
from captionloop.serving.schemas import (
    CaptionResult,
    ModelDescription,
    OtherCaption,
    PreparedImage,
    WordResult,
)

if TYPE_CHECKING:
    from captionloop.captioner.captioner import Captioned, Captioner


logger = structlog.get_logger(__name__)

ALTERNATIVES = 4
RETRY_FAILED_LOAD_SECONDS = 60.0
REFUSED = "the champion is not signed by a trusted key"


class CaptionCounts:
    """Photos that a version captioned on this server, and those that it could not."""

    def __init__(self) -> None:
        self.captioned = self.failed = 0
        self._lock = threading.Lock()

    def add(self, version: str, captioned: int, failed: int) -> None:
        """Count a batch, here and for Prometheus."""
        with self._lock:
            self.captioned += captioned
            self.failed += failed
        telemetry.OUTCOMES.labels(version, "captioned").inc(captioned)
        telemetry.OUTCOMES.labels(version, "failed").inc(failed)


@dataclass(frozen=True)
class ServedModel:
    """A captioner in service."""

    reference: ModelReference
    captioner: "Captioner"
    loaded_at: datetime
    """When it took over here, the last time."""
    counts: CaptionCounts = field(default_factory=CaptionCounts)

    @property
    def input_size(self) -> int:
        """Edge of the square it sees, in pixels."""
        return self.captioner.input_size

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What a photo becomes before the square is seen."""
        return self.captioner.encoder.spec.preprocessing.model_dump(mode="json", exclude_defaults=True)


class Engine:
    """Captions with the model that its source says should be served.

    Args:
        source: says which model that is.
        load: makes a captioner of a bundle.
        max_batch: the largest batch, with which a new model is warmed up.
    """

    def __init__(
        self, source: ModelSource, load: Callable[[Path], "Captioner"], *, max_batch: int = 16
    ) -> None:
        self._source = source
        self._load = load
        self._max_batch = max_batch
        self._served: ServedModel | None = None
        self._previous: ServedModel | None = None
        self._failed: tuple[str, float] | None = None
        self._refused: ModelReference | None = None
        self.server = secrets.token_hex(4)
        """Tells this server from the others behind one address; of no meaning, and new at every start."""
        self._reason = "no model is registered yet"
        self._notice = ""
        self._stopped = threading.Event()
        telemetry.MODEL_READY.set(0)

    @property
    def served(self) -> ServedModel | None:
        """What is being served."""
        return self._served

    def follow(self, seconds: float) -> None:
        """Look for another model every `seconds`, in a thread of its own, until `stop`."""
        poll_in_thread(self.refresh, seconds, self._stopped, "follow-model")

    def stop(self) -> None:
        """Stop following."""
        self._stopped.set()

    def refresh(self) -> None:
        """Serve what should be served. Whatever goes wrong with that, what is served now stays."""
        wanted: ModelReference | None = None
        try:
            wanted = self._source.newest()
            if wanted is None or self._is_served(wanted):
                self._refused, self._notice = None, ""
                return
            if self._failed_lately(wanted):
                return
            self._reason = f"version {wanted.version} is being loaded"
            same = _same(self._previous, wanted)
            self._switch(self._restored(now()) if same else self._loaded(wanted, self._source.fetch))
            self._source.record_served(wanted)
            self._failed, self._refused, self._notice = None, None, ""
        except RegistryError as error:
            self._not_loaded(str(error))
            refused = isinstance(error, SignatureError)
            if refused:
                self._refused = wanted
            self._serve_last_known(REFUSED if refused else "the registry does not answer")
        except CaptionloopError as error:
            self._refused = wanted
            self._not_loaded(str(error))
        except Exception:
            logger.exception("model not loaded")
            self._refused = wanted
            self._not_loaded("the model could not be loaded; see the log")

    def caption(self, images: Sequence[PreparedImage]) -> list[CaptionResult]:
        """Caption prepared images, in order. Never raises:
        an image without a caption has an outcome that says so.
        """
        model = self._served
        if model is None:
            return [
                CaptionResult(model_name="", model_version="", error="no model is loaded") for _ in images
            ]
        began = perf_counter()
        own = {"", model.reference.version}
        squares = [_square(image, model.input_size) if image.version in own else None for image in images]
        captions = self._caption_squares(model, [square for square in squares if square is not None])
        captioned = iter(captions)
        results = [
            _caption_result(model, None if square is None else next(captioned), self.server)
            for square in squares
        ]
        failed = captions.count(None)
        model.counts.add(model.reference.version, len(captions) - failed, failed)
        telemetry.BATCH.observe(len(images))
        telemetry.BATCH_SECONDS.observe(perf_counter() - began)
        return results

    def describe(self) -> ModelDescription:
        """What is being served, or why nothing is."""
        model = self._served
        if model is None:
            return ModelDescription(ready=False, reason=self._reason)
        captioner = model.captioner
        return ModelDescription(
            ready=True,
            notice=self._notice,
            name=model.reference.name,
            version=model.reference.version,
            previous_version=self._previous.reference.version if self._previous else None,
            loaded_at=model.loaded_at,
            language=captioner.tokenizer.language.code,
            input_size=model.input_size,
            preprocessing=model.preprocessing,
            decoding=captioner.decoding.model_dump(mode="json"),
            metrics=dict(captioner.metrics),
            lineage=dict(captioner.lineage),
            card=captioner.card,
            server=self.server,
            captioned=model.counts.captioned,
            failed=model.counts.failed,
            refused_version=self._refused.version if self._refused else None,
        )

    def _restored(self, moment: datetime) -> ServedModel | None:
        """The previous model, loaded at this moment and with new counts."""
        previous = self._previous
        return previous and replace(previous, loaded_at=moment, counts=CaptionCounts())

    def _caption_squares(
        self, model: ServedModel, squares: list[NDArray[np.uint8]]
    ) -> "list[Captioned | None]":
        if not squares:
            return []
        try:
            return list(model.captioner.caption_arrays(np.stack(squares)))
        except Exception:
            if len(squares) == 1:
                logger.exception("image not captioned")
                return [None]
        telemetry.BATCH_FALLBACKS.inc()
        return [self._caption_squares(model, [square])[0] for square in squares]

    def _serve_last_known(self, why: str) -> None:
        """Loads the model that was served here last, where the registry does not answer or its champion is
        refused.
        """
        if self._served is not None:
            if self._notice:
                self._notice = _notice(why, self._served.reference)
            return
        last = self._source.last_served()
        if last is None:
            return
        try:
            self._switch(self._loaded(last, self._source.cached_bundle))
        except CaptionloopError as error:
            logger.error("the model served last is not loaded", reason=str(error))  # noqa: TRY400 - it is told
            self._reason += f"; the model served last cannot be loaded: {error}"
            return
        except Exception as error:
            logger.exception("the model served last is not loaded")
            self._reason += f"; the model served last cannot be loaded ({type(error).__name__})"
            return
        self._notice = _notice(why, last)
        logger.warning("serving the last model", version=last.version, reason=self._reason)

    def _loaded(self, wanted: ModelReference, fetch: Callable[[ModelReference], Path]) -> ServedModel:
        began = perf_counter()
        captioner = self._load(fetch(wanted))
        size = captioner.input_size
        for batch in _sizes(self._max_batch):  # compile, allocate, fill caches: not while somebody waits
            captioner.caption_arrays(np.full((batch, size, size, 3), 127, np.uint8))
        telemetry.LOAD_SECONDS.observe(perf_counter() - began)
        return ServedModel(wanted, captioner, now())

    def _switch(self, model: ServedModel | None) -> None:
        assert model is not None
        previous = self._served
        self._previous, self._served = previous, model
        telemetry.MODEL_READY.set(1)
        if previous is not None:
            telemetry.SWAPS.inc()
            telemetry.MODEL_INFO.labels(previous.reference.name, previous.reference.version).set(0)
        telemetry.MODEL_INFO.labels(model.reference.name, model.reference.version).set(1)
        logger.info(
            "serving model",
            version=model.reference.version,
            before=previous.reference.version if previous else None,
        )

    def _is_served(self, wanted: ModelReference) -> bool:
        return _same(self._served, wanted)

    def _failed_lately(self, wanted: ModelReference) -> bool:
        """A bundle that could not be loaded is not read again every few seconds."""
        if self._failed is None or self._failed[0] != wanted.mark:
            self._failed = (wanted.mark, -math.inf)
        return perf_counter() - self._failed[1] < RETRY_FAILED_LOAD_SECONDS

    def _not_loaded(self, reason: str) -> None:
        self._reason = reason
        if self._failed is not None:
            self._failed = (self._failed[0], perf_counter())
        telemetry.LOAD_FAILURES.inc()
        logger.error("no other model taken over", reason=reason)


def _notice(why: str, served: ModelReference) -> str:
    return f"{why}; version {served.version} was served here last"


def _sizes(largest: int) -> list[int]:
    """The sizes of batch that a runtime tells apart: powers of two up to the largest, and that."""
    return [1 << power for power in range(largest.bit_length()) if 1 << power < largest] + [largest]


def _same(model: ServedModel | None, wanted: ModelReference) -> bool:
    return model is not None and model.reference == wanted


def _square(image: PreparedImage, size: int) -> NDArray[np.uint8] | None:
    """The image at the model's size; it was prepared for another's if the model changed on its way here."""
    if image.size <= 0 or len(image.pixels) != 3 * image.size**2:
        return None
    pixels = np.frombuffer(image.pixels, np.uint8).reshape(image.size, image.size, 3)
    if image.size == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))


def _caption_result(model: ServedModel, captioned: "Captioned | None", server: str) -> CaptionResult:
    reference = model.reference
    if captioned is None or not captioned.alternatives:
        return CaptionResult(
            model_name=reference.name, model_version=reference.version, error="not captioned", server=server
        )
    best, likeness = captioned.best, captioned.familiarity
    others: dict[str, float] = {}
    for caption in captioned.alternatives[1:]:
        if caption.text != best.text:
            others.setdefault(caption.text, _fraction(caption.confidence))
    return CaptionResult(
        model_name=reference.name,
        model_version=reference.version,
        caption=best.text,
        confidence=_fraction(best.confidence),
        words=[
            WordResult(text=word.text, confidence=_fraction(word.confidence), attention=_grid(word.attention))
            for word in best.words
        ],
        alternatives=[
            OtherCaption(caption=text, confidence=confidence)
            for text, confidence in list(others.items())[:ALTERNATIVES]
        ],
        embedding=None if captioned.embedding is None else captioned.embedding.tolist(),
        familiarity=None if likeness is None else _fraction(likeness.share),
        familiar=None if likeness is None else likeness.familiar,
        server=server,
    )


def _grid(attention: NDArray[Any] | None) -> list[list[float]] | None:
    if attention is None:
        return None
    rounded: list[list[float]] = np.nan_to_num(np.asarray(attention, np.float64)).round(4).tolist()
    return rounded


def _fraction(value: float) -> float:
    return round(min(1.0, max(0.0, value)), 4) if math.isfinite(value) else 0.0
