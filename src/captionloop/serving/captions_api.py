"""`/v1/captions`: make one, read it back, rate it, erase it."""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import perf_counter

from fastapi import APIRouter
from opentelemetry import trace
from starlette.requests import Request
from starlette.responses import Response

from captionloop.feedback.records import Opinion, ServedCaption, StoredRating
from captionloop.serving import metrics
from captionloop.serving.access import CREDENTIALS, Caller
from captionloop.serving.disconnects import unless_gone
from captionloop.serving.edge import Body
from captionloop.serving.parts import CallerDep, CountedRoute, Parts, PartsDep
from captionloop.serving.photos import Photo
from captionloop.serving.problems import NOT_FOUND, Problem
from captionloop.serving.schemas import (
    AlternativeBody,
    CaptionBody,
    CaptionWithRating,
    ImageSize,
    ModelRef,
    ProblemBody,
    RatingBody,
    RatingRequest,
    WordBody,
)
from captionloop.serving.storage import with_archive
from captionloop.serving.uploads import REQUEST_BODY, sent_photo
from captionloop.serving.wire import Outcome

tracer = trace.get_tracer("captionloop.gateway")
router = APIRouter(
    prefix="/v1/captions", tags=["captions"], route_class=CountedRoute, dependencies=CREDENTIALS
)

_CAPTION_ID = re.compile(r"[A-Za-z0-9_-]{22}")


def problems(*statuses: int) -> dict[int | str, dict[str, object]]:
    """The errors of a route, for its description."""
    return {
        status: {
            "model": ProblemBody,
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemBody"}}},
        }
        for status in statuses
    }


@router.post(
    "",
    status_code=201,
    response_model=CaptionBody,
    summary="Caption a photo",
    openapi_extra={"requestBody": REQUEST_BODY},
    responses=problems(400, 401, 403, 408, 413, 415, 422, 429, 503),
)
async def create_caption(
    request: Request, response: Response, parts: PartsDep, caller: CallerDep
) -> CaptionBody:
    """Send a photo as `multipart/form-data` (field `image`), as its bytes, or as base64 in JSON."""
    parts.access.require(caller, "caption")
    model = parts.model.require()
    with parts.admission.upload(caller.counted_as) as upload:
        body: Body = request.state.body
        body.arrived = upload.arrived
        with _stage("upload"):
            data = await sent_photo(request)
        with parts.admission.enter():
            photo, outcome = await unless_gone(request, _captioned(parts, data, model.input_size))
            with _stage("store"):
                served = _served(photo, outcome, caller)
                await _keep(parts, photo, data, served)
    _observe(served)
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/v1/captions/{served.caption_id}"
    return _body(served)


@router.get(
    "/{caption_id}",
    response_model=CaptionWithRating,
    summary="Read a caption back",
    responses=problems(401, 404, 429, 503),
)
async def read_caption(caption_id: str, parts: PartsDep, caller: CallerDep) -> CaptionWithRating:
    """For its owner (or an administrator); anybody else is told that it does not exist."""
    served = await parts.read(parts.store.find, _checked(caption_id))
    if served is None or not (caller.is_admin or served.owner == caller.rater):
        raise _unknown()
    rating = await parts.read(parts.store.rating, caption_id, caller.rater)
    body = _body(served).model_dump()
    return CaptionWithRating(**body, rating=None if rating is None else _rating_body(rating))


@router.delete(
    "/{caption_id}", status_code=204, summary="Erase a caption", responses=problems(401, 404, 429, 503)
)
async def erase_caption(caption_id: str, parts: PartsDep, caller: CallerDep) -> None:
    """Erases caption, ratings and photo, at once and for good. For its owner, or an administrator."""
    owner = None if caller.is_admin else caller.rater
    name = _checked(caption_id)
    photos = await parts.written(lambda: parts.store.erase(name, owner=owner))
    if photos is None:
        raise _unknown()
    for sha256 in photos:
        # If that fails, it is on the list of erasures: the hourly sweep tries again.
        await with_archive(parts.archive.erase, sha256)
    metrics.ERASURES.inc()


@router.put(
    "/{caption_id}/rating",
    response_model=RatingBody,
    summary="Rate a caption",
    responses=problems(400, 401, 403, 404, 413, 422, 429, 503),
)
async def rate_caption(
    caption_id: str, rating: RatingRequest, parts: PartsDep, caller: CallerDep
) -> RatingBody:
    """One rating per rater and caption: sending another replaces it. Answered when it is on the disk."""
    parts.access.require(caller, "rate")
    name = _checked(caption_id)
    opinion = Opinion(rating.stars, rating.correction, rating.comment)
    stored = await parts.written(lambda: parts.store.rate(name, caller.rater, opinion))
    if stored is None:
        raise _unknown()
    if stored.is_new or stored.adds_correction:
        await _count(parts, stored)
    return _rating_body(stored)


async def _count(parts: Parts, stored: StoredRating) -> None:
    """Ratings are counted, not requests: one that is sent again, or changed, is still one."""
    with suppress(Problem):  # it is on the disk, whatever becomes of its count
        served = await parts.read(parts.store.find, stored.caption_id)
        version = served.model_version if served else "erased"
        if stored.is_new:
            metrics.RATINGS.labels(version, str(stored.stars)).inc()
        if stored.adds_correction:
            metrics.CORRECTIONS.labels(version).inc()


async def _captioned(parts: Parts, data: bytes, input_size: int) -> tuple[Photo, Outcome]:
    with _stage("decode"):
        photo = await parts.photos.read(data, input_size)
    with _stage("model"):
        return photo, await parts.model.caption(photo.prepared)


async def _keep(parts: Parts, photo: Photo, data: bytes, served: ServedCaption) -> None:
    """First the photo, then the caption that names it; a caption that is answered is on the disk."""
    await with_archive(parts.archive.write, photo.facts.sha256, data)
    await parts.written(lambda: parts.store.record(served))


@contextmanager
def _stage(name: str) -> Iterator[None]:
    began = perf_counter()
    with tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as span:
        try:
            yield
        except Exception:
            span.set_status(trace.StatusCode.ERROR)  # without words: the error's may be the caller's
            raise
    metrics.STAGE.labels(name).observe(perf_counter() - began)


def _served(photo: Photo, outcome: Outcome, caller: Caller) -> ServedCaption:
    return ServedCaption(
        caption_id=secrets.token_urlsafe(16),
        owner=caller.rater,
        photo=photo.facts,
        text=outcome.caption or "",
        confidence=outcome.confidence,
        words=[word.model_dump() for word in outcome.words],
        alternatives=[other.model_dump() for other in outcome.alternatives],
        model_name=outcome.model_name,
        model_version=outcome.model_version,
        embedding=outcome.embedding,
    )


def _body(served: ServedCaption) -> CaptionBody:
    return CaptionBody(
        caption_id=served.caption_id,
        caption=served.text,
        confidence=served.confidence,
        words=[WordBody(**word) for word in served.words],
        alternatives=[AlternativeBody(**other) for other in served.alternatives],
        model=ModelRef(name=served.model_name, version=served.model_version),
        image=ImageSize(width=served.photo.width, height=served.photo.height),
        created_at=served.created_at,
    )


def _rating_body(stored: StoredRating) -> RatingBody:
    return RatingBody(
        caption_id=stored.caption_id,
        stars=stored.stars,
        correction=stored.correction,
        comment=stored.comment,
        created_at=stored.created_at,
        updated_at=stored.updated_at,
    )


def _observe(served: ServedCaption) -> None:
    metrics.CAPTIONS.labels(served.model_version).inc()
    metrics.CONFIDENCE.labels(served.model_version).observe(served.confidence)
    metrics.LENGTH.labels(served.model_version).observe(len(served.words))


def _checked(caption_id: str) -> str:
    if _CAPTION_ID.fullmatch(caption_id) is None:
        raise _unknown()
    return caption_id


def _unknown() -> Problem:
    return Problem(NOT_FOUND, "There is no such caption, or it is not yours.")
