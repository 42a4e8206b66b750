"""`Idempotency-Key`: a request that is sent again, for its answer was lost, is done once.

As the IETF's draft has it (draft-ietf-httpapi-idempotency-key-header): the same key with the same photo gives
the same caption, with another photo 422, and while the first request is under way 409.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from fastapi import Header
from starlette.concurrency import run_in_threadpool

from captionloop.ratings.database import DatabaseError
from captionloop.ratings.idempotency_store import Claim, ClaimLostError, EarlierRequest
from captionloop.ratings.rating_tables import ServedCaption
from captionloop.serving.gateway.dependencies import Services
from captionloop.serving.gateway.problems import CAPTION_ERASED, KEY_REUSED, STILL_UNDER_WAY, Problem

RETRY_AFTER_SECONDS = 1
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="made up by the caller, once a photo: sent again within 24 hours with the same photo, it "
        "gives the same caption and makes no second one. Of no effect where nothing is kept.",
        examples=["8e03978e-40d5-43e8-bc93-6894a57f9324"],
    ),
]


@dataclass(frozen=True, slots=True)
class RequestClaim:
    """A request's claim to make a caption, or the earlier caption of its key."""

    claim: Claim | None = None
    earlier: ServedCaption | None = None


@asynccontextmanager
async def idempotent(
    services: Services, caller: str, key: str | None, content: bytes
) -> AsyncIterator[RequestClaim]:
    """The claim of a request with this key; whatever fails within, the key can be used again.

    Raises:
        Problem: 409 while another request with this key is under way, 410 if what it made was erased, 422 if
            it asked for something else.
    """
    if key is None:
        yield RequestClaim()
        return
    content_sha256 = await run_in_threadpool(lambda: sha256(content).digest())  # megabytes
    claim = await services.write(lambda: services.repeats.begin(caller, key.strip('"'), content_sha256))
    if isinstance(claim, EarlierRequest):
        yield RequestClaim(earlier=await _repeated(services, claim))
        return
    try:
        yield RequestClaim(claim=claim)
    except BaseException as error:
        with suppress(DatabaseError):  # then it is given up in a while
            services.repeats.release(claim)
        if isinstance(error, ClaimLostError):
            raise _still_under_way() from error
        raise


async def _repeated(services: Services, earlier: EarlierRequest) -> ServedCaption:
    if not earlier.is_same:
        raise Problem(
            KEY_REUSED,
            "This Idempotency-Key was sent with another photo: make up a new one for each photo.",
        )
    if earlier.caption_id is None:
        raise _still_under_way()
    served = await services.read(services.store.find, earlier.caption_id)
    if served is None:
        raise Problem(
            CAPTION_ERASED,
            "What was captioned under this Idempotency-Key was erased: make up another to caption it again.",
        )
    return served


def _still_under_way() -> Problem:
    return Problem(
        STILL_UNDER_WAY,
        "A request with this Idempotency-Key is under way: send it again in a moment for its answer.",
        retry_after=RETRY_AFTER_SECONDS,
    )
