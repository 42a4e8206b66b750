"""`/v1/ratings`: what a caller is shown to rate: photos that their owners agreed to show, and gold items."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from captionloop.serving.gateway.auth import CREDENTIALS
from captionloop.serving.gateway.caption_routes import checked_id, problems, unknown_caption
from captionloop.serving.gateway.dependencies import CallerDep, CountedRoute, ServicesDep
from captionloop.serving.gateway.storage import with_archive
from captionloop.serving.schemas import CaptionToRate, ImageSize

router = APIRouter(
    prefix="/v1/ratings", tags=["captions"], route_class=CountedRoute, dependencies=CREDENTIALS
)
ATTEMPTS = 3
"""What was found may be erased before it is noted that it is shown."""


@router.get(
    "/next",
    response_model=CaptionToRate,
    summary="What to rate next",
    responses={
        204: {"description": "There is nothing to rate at the moment"},
        **problems(401, 403, 404, 422, 429, 503),
    },
)
async def next_to_rate(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    skip: Annotated[
        str | None, Query(description="do not show this caption any more: another one", max_length=22)
    ] = None,
) -> CaptionToRate | Response:
    """A caption of somebody else's photo, to be rated as one's own are. The same one until it is rated or
    skipped. The caller may see its photo from now on, and rate it.
    """
    services.access.require(caller, "rate")
    if skip is not None:
        name = checked_id(skip)
        await services.write(lambda: services.queue.skip(name, caller.rater))
    for _ in range(ATTEMPTS):
        found = await services.read(services.queue.following, caller.rater)
        if found is None:
            break
        caption_id = found.caption_id
        if await services.write(lambda: services.queue.offer(caption_id, caller.rater)):  # noqa: B023 - awaited
            return CaptionToRate(
                caption_id=caption_id,
                caption=found.text,
                language=services.model.language,
                image=ImageSize(width=found.width, height=found.height),
                photo=f"{request.scope.get('root_path', '')}/v1/ratings/{caption_id}/photo",
            )
    return Response(status_code=204)


@router.get(
    "/{caption_id}/photo",
    summary="The photo of what is to be rated",
    response_class=Response,
    responses={
        200: {"content": {"image/*": {}}, "description": "The photo, without metadata"},
        **problems(401, 403, 404, 429, 503),
    },
)
async def read_photo(caption_id: str, services: ServicesDep, caller: CallerDep) -> Response:
    """For those whom it was shown to; anybody else is told that it does not exist."""
    services.access.require(caller, "rate")
    found = await services.read(services.queue.shown, checked_id(caption_id), caller.rater)
    if found is None:
        raise unknown_caption()
    photo = await with_archive(services.archive.read, found.photo_sha256)
    return Response(photo, media_type=found.media_type)
