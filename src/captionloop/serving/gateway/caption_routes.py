"""`/v1/captions`: make one, read it back, rate it, erase it."""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from time import perf_counter
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from captionloop.ratings.idempotency_store import Claim
from captionloop.ratings.rating_tables import RatingInput, ServedCaption, StoredRating
from captionloop.serving import telemetry
from captionloop.serving.gateway.auth import CREDENTIALS, Caller
from captionloop.serving.gateway.dependencies import CallerDep, CountedRoute, Services, ServicesDep
from captionloop.serving.gateway.idempotency import IdempotencyKey, idempotent
from captionloop.serving.gateway.middleware import Body, unless_disconnected
from captionloop.serving.gateway.model_client import ModelChoice
from captionloop.serving.gateway.problems import NOT_FOUND, REQUEST_INVALID, FieldError, Problem
from captionloop.serving.gateway.retention import erase, erase_person
from captionloop.serving.gateway.retention import store_caption as keep_caption
from captionloop.serving.gateway.uploads import REQUEST_BODY, Photo, sent_photo
from captionloop.serving.logs import by_request
from captionloop.serving.schemas import (
    AlternativeBody,
    CaptionBody,
    CaptionResult,
    CaptionsPage,
    CaptionWithRating,
    ErasureUnderWay,
    ImageSize,
    ModelRef,
    ProblemBody,
    RatingBody,
    RatingRequest,
    UnkeptCaption,
    WordBody,
)
from captionloop.serving.telemetry import traced_stage

router = APIRouter(
    prefix="/v1/captions", tags=["captions"], route_class=CountedRoute, dependencies=CREDENTIALS
)

me = APIRouter(prefix="/v1/me", tags=["captions"], route_class=CountedRoute, dependencies=CREDENTIALS)

ERASED_LATER: dict[int | str, dict[str, object]] = {
    202: {"model": ErasureUnderWay, "description": "Erased; the photo is removed as soon as that can be done"}
}
MOST_LISTED = 50
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
    responses={
        200: {"model": UnkeptCaption, "description": "Captioned, and nothing of it is kept"},
        **problems(400, 401, 403, 408, 409, 410, 413, 415, 422, 429, 503),
    },
)
async def create_caption(  # noqa: PLR0917 - what a request may have
    request: Request,
    response: Response,
    services: ServicesDep,
    caller: CallerDep,
    keep: Annotated[bool, Query(description="false: caption it, and keep neither photo nor caption")] = True,
    share: Annotated[
        bool, Query(description="true: others may be shown the photo, to rate its caption")
    ] = False,
    idempotency_key: IdempotencyKey = None,
    version: Annotated[
        str, Query(description="caption it by this version of the model or not at all (409)", max_length=80)
    ] = "",
) -> CaptionBody | Response:
    """Send a photo as `multipart/form-data` (field `image`), as its bytes, or as base64 in JSON.

    Where `keep` is false (here, in the form or in the JSON), or the service keeps nothing, it is answered
    with 200 and a caption that has no id. `share` (in any of the three) lets others see the photo to rate its
    caption, for as long as it is kept.
    """
    services.access.require(caller, "caption")
    choice = services.model.choose(caller.rater, version)
    with services.admission.upload(caller.counted_as) as upload:
        body: Body = request.state.body
        body.arrived = upload.arrived
        with _stage("upload"):
            sent = await sent_photo(request)
        kept = keep and sent.keep and services.settings.keep
        async with idempotent(
            services, caller.rater, idempotency_key if kept else None, sent.data
        ) as request_claim:
            served = request_claim.earlier or await _create(
                request, services, caller, sent.data, choice, kept, share or sent.share, request_claim.claim
            )
    if request_claim.earlier is None and (
        kept or not version
    ):  # a canary of a deployment is no use by people
        _observe(served)
    if not kept:
        unkept = UnkeptCaption(**_captioned_photo(served, services.model.language))
        return Response(unkept.model_dump_json(), media_type="application/json")
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/v1/captions/{served.caption_id}"
    return _body(served, services.model.language)


@router.get(
    "",
    response_model=CaptionsPage,
    summary="Read one's own captions",
    responses=problems(401, 422, 429, 503),
)
async def list_captions(
    services: ServicesDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED, description="how many at most")] = 20,
    before: Annotated[str | None, Query(description="`next` of the page before", max_length=80)] = None,
) -> CaptionsPage:
    """The newest first, with one's own ratings: what the service keeps of the caller."""
    start = None if before is None else _page_start(before)
    found = await services.read(services.store.of_owner, caller.rater, limit + 1, start)
    shown = found[:limit]
    last = shown[-1][0] if len(found) > limit else None
    return CaptionsPage(
        captions=[_body_with_rating(served, rating, services.model.language) for served, rating in shown],
        next=None if last is None else f"{last.created_at:%Y%m%dT%H%M%S.%f}-{last.caption_id}",
    )


@router.get(
    "/{caption_id}",
    response_model=CaptionWithRating,
    summary="Read a caption back",
    responses=problems(401, 404, 429, 503),
)
async def read_caption(caption_id: str, services: ServicesDep, caller: CallerDep) -> CaptionWithRating:
    """For its owner (or an administrator); anybody else is told that it does not exist."""
    served = await services.read(services.store.find, checked_id(caption_id))
    if served is None or not (caller.is_admin or served.owner == caller.rater):
        raise unknown_caption()
    if served.owner != caller.rater:
        with by_request(caller.rater, "caption.read", caption_id):
            pass
    rating = await services.read(services.store.rating, caption_id, caller.rater)
    return _body_with_rating(served, rating, services.model.language)


@router.delete(
    "/{caption_id}",
    status_code=204,
    summary="Erase a caption",
    responses=ERASED_LATER | problems(401, 404, 429, 503),
)
async def erase_caption(caption_id: str, services: ServicesDep, caller: CallerDep) -> Response:
    """Erases caption, ratings and photo, at once and for good. For its owner, or an administrator.

    Where the photo cannot be removed at the moment, the rest is gone, and it is removed as soon as that can
    be done: 202.
    """
    name = checked_id(caption_id)
    if caller.is_admin:
        with by_request(caller.rater, "caption.erase", name) as entry:
            is_complete = await erase(services, name, owner=None)
            if is_complete is None:
                entry.result = "nothing"
    else:
        is_complete = await erase(services, name, owner=caller.rater)
    if is_complete is None:
        raise unknown_caption()
    telemetry.ERASURES.inc()
    return _erased(is_complete)


@router.put(
    "/{caption_id}/rating",
    response_model=RatingBody,
    summary="Rate a caption",
    responses=problems(400, 401, 403, 404, 413, 422, 429, 503),
)
async def rate_caption(
    caption_id: str, rating: RatingRequest, services: ServicesDep, caller: CallerDep
) -> RatingBody:
    """One rating per rater and caption: sending another replaces it. Answered when it is on the disk."""
    services.access.require(caller, "rate")
    name = checked_id(caption_id)
    rating_input = RatingInput(rating.stars, rating.correction, rating.comment)
    stored = await services.write(lambda: services.store.rate(name, caller.rater, rating_input, caller.block))
    if stored is None:
        raise unknown_caption()
    if stored.is_new or stored.adds_correction:
        await _count(services, stored)
    return _rating_body(stored)


@router.delete(
    "/{caption_id}/rating",
    status_code=204,
    summary="Take one's rating back",
    responses=problems(401, 404, 429, 503),
)
async def withdraw_rating(caption_id: str, services: ServicesDep, caller: CallerDep) -> None:
    """Erases the caller's own rating of a caption, with its correction and comment; the caption stays."""
    name = checked_id(caption_id)
    if not await services.write(lambda: services.store.withdraw(name, caller.rater)):
        raise Problem(NOT_FOUND, "There is no such caption, or no rating of yours for it.")


@me.delete(
    "",
    status_code=204,
    summary="Erase everything of mine",
    responses=ERASED_LATER | problems(401, 429, 503),
)
async def erase_me(services: ServicesDep, caller: CallerDep) -> Response:
    """Erases the caller's own captions with their photos and ratings, and the caller's ratings of others'."""
    return _erased(await erase_person(services, caller.rater))


def _erased(is_complete: bool) -> Response:
    if is_complete:
        return Response(status_code=204)
    body = ErasureUnderWay(remaining=["photo archive"])
    return Response(body.model_dump_json(), status_code=202, media_type="application/json")


async def _count(services: Services, stored: StoredRating) -> None:
    """Ratings are counted, not requests: one that is sent again, or changed, is still one."""
    with suppress(Problem):  # it is on the disk, whatever becomes of its count
        served = await services.read(services.store.find, stored.caption_id)
        if served is not None and served.known_good is not None:
            return  # it says something of the rater, and of no version
        version = served.model_version if served else "erased"
        if stored.is_new:
            telemetry.RATINGS.labels(version, str(stored.stars)).inc()
        if stored.adds_correction:
            telemetry.CORRECTIONS.labels(version).inc()


async def _create(  # noqa: PLR0917
    request: Request,
    services: Services,
    caller: Caller,
    data: bytes,
    choice: ModelChoice,
    kept: bool,
    shared: bool,
    claim: Claim | None,
) -> ServedCaption:
    """A photo's caption, kept where it may be; erased again if nobody waits for it any more."""
    with services.admission.acquire():
        photo, result = await unless_disconnected(request, _caption(services, data, choice))
        served = _served(photo, result, caller, shared)
        if kept:
            with _stage("store"):
                await keep_caption(services, photo, served, claim)
            if await request.is_disconnected():
                await erase(services, served.caption_id, owner=None)
                if claim is not None:
                    services.repeats.release(claim, even_if_done=True)
                raise ClientDisconnect
        return served


async def _caption(services: Services, data: bytes, choice: ModelChoice) -> tuple[Photo, CaptionResult]:
    with _stage("decode"):
        photo = await services.photos.read(data, choice.input_size, choice.preprocessing)
    with _stage("model"):
        result = await services.model.caption(choice.apply(photo.prepared))
    return photo, choice.over_photo(result, photo.facts.width, photo.facts.height)


@contextmanager
def _stage(name: str) -> Iterator[None]:
    began = perf_counter()
    with traced_stage(name):
        yield
    telemetry.STAGE.labels(name).observe(perf_counter() - began)


def _served(photo: Photo, result: CaptionResult, caller: Caller, shared: bool) -> ServedCaption:
    return ServedCaption(
        caption_id=secrets.token_urlsafe(16),
        owner=caller.rater,
        photo=photo.facts,
        text=result.caption or "",
        confidence=result.confidence,
        words=[word.model_dump() for word in result.words],
        alternatives=[other.model_dump() for other in result.alternatives],
        model_name=result.model_name,
        model_version=result.model_version,
        embedding=result.embedding,
        familiarity=result.familiarity,
        familiar=result.familiar,
        sent_sha256=photo.sent_sha256,
        shared=shared,
    )


def _body(served: ServedCaption, language: str | None) -> CaptionBody:
    return CaptionBody(
        caption_id=served.caption_id, shared=served.shared, **_captioned_photo(served, language)
    )


def _body_with_rating(
    served: ServedCaption, rating: StoredRating | None, language: str | None
) -> CaptionWithRating:
    body = _body(served, language).model_dump()
    return CaptionWithRating(**body, rating=None if rating is None else _rating_body(rating))


def _page_start(before: str) -> tuple[datetime, str]:
    moment, _, caption_id = before.partition("-")
    with suppress(ValueError):
        at = datetime.strptime(moment, "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
        if _CAPTION_ID.fullmatch(caption_id):  # PostgreSQL takes no text with a NUL in it
            return at, caption_id
    message = "must be what `next` of a page said"
    raise Problem(REQUEST_INVALID, f"before: {message}.", errors=[FieldError("before", message)])


def _captioned_photo(served: ServedCaption, language: str | None) -> dict[str, Any]:
    return {
        "caption": served.text,
        "language": language,
        "confidence": served.confidence,
        "familiarity": served.familiarity,
        "familiar": served.familiar,
        "words": [WordBody(**word) for word in served.words],
        "alternatives": [AlternativeBody(**other) for other in served.alternatives],
        "model": ModelRef(name=served.model_name, version=served.model_version),
        "image": ImageSize(width=served.photo.width, height=served.photo.height),
        "created_at": served.created_at,
    }


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
    telemetry.CAPTIONS.labels(served.model_version).inc()
    telemetry.CONFIDENCE.labels(served.model_version).observe(served.confidence)
    telemetry.UNFAMILIAR.labels(served.model_version).inc(served.familiar is False)  # 0 is told as well
    telemetry.LENGTH.labels(served.model_version).observe(len(served.words))


def checked_id(caption_id: str) -> str:
    """The id, if it can be one. Raises `Problem` (404) where not."""
    if _CAPTION_ID.fullmatch(caption_id) is None:
        raise unknown_caption()
    return caption_id


def unknown_caption() -> Problem:
    """404, whether there is no such caption or it is not the caller's."""
    return Problem(NOT_FOUND, "There is no such caption, or it is not yours.")
