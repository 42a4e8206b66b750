"""Errors that callers get to see: RFC 9457 problem documents,
one kind per thing that a caller can do about it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: its name in the `type` URN, its status, its title."""

    name: str
    status: int
    title: str


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field of a request."""

    field: str
    message: str


MALFORMED = Kind("request-malformed", 400, "The request cannot be read")
KEY_REQUIRED = Kind("key-required", 401, "An API key is needed")
KEY_INVALID = Kind("key-invalid", 401, "The API key is not valid")
KEY_EXPIRED = Kind("key-expired", 401, "The API key has ended")
SCOPE_MISSING = Kind("scope-missing", 403, "The API key does not allow this")
ORIGIN_REFUSED = Kind("origin-refused", 403, "Pages of this origin may not do this")
NOT_FOUND = Kind("not-found", 404, "Not found")
METHOD_NOT_ALLOWED = Kind("method-not-allowed", 405, "The method is not allowed here")
STILL_UNDER_WAY = Kind("request-under-way", 409, "The same request is under way")
CAPTION_ERASED = Kind("caption-erased", 410, "The caption was erased")
UPLOAD_TOO_SLOW = Kind("upload-too-slow", 408, "The upload took too long")
BODY_TOO_LARGE = Kind("body-too-large", 413, "The body is too large")
MEDIA_TYPE_UNSUPPORTED = Kind("media-type-unsupported", 415, "The content type is not supported")
REQUEST_INVALID = Kind("request-invalid", 422, "A field breaks its rule")
KEY_REUSED = Kind("idempotency-key-reused", 422, "The Idempotency-Key belongs to another request")
VERSION_NOT_SERVED = Kind("version-not-served", 409, "No model server serves this version")
IMAGE_MISSING = Kind("image-missing", 422, "There is no image in the request")
IMAGE_UNREADABLE = Kind("image-unreadable", 422, "The image cannot be read")
IMAGE_TOO_LARGE = Kind("image-too-large", 422, "The image has too many pixels")
HEAD_TOO_LARGE = Kind("head-too-large", 431, "The request's headers are too large")
RATE_LIMITED = Kind("rate-limited", 429, "Too many requests")
INTERNAL = Kind("internal-error", 500, "Something went wrong here")
OVERLOADED = Kind("overloaded", 503, "The service is full")
MODEL_NOT_READY = Kind("model-not-ready", 503, "The model is not ready")
STORAGE_UNAVAILABLE = Kind("storage-unavailable", 503, "The storage does not answer")

_BY_STATUS = {400: MALFORMED, 404: NOT_FOUND, 405: METHOD_NOT_ALLOWED, 415: MEDIA_TYPE_UNSUPPORTED}


class Problem(HTTPException):
    """Raised anywhere in a request to end it with a problem document.

    Args:
        kind: what sort of problem.
        detail: one sentence for a person: what, and what to do.
        retry_after: whole seconds after which it makes sense to try again.
        headers: further headers of the answer.
        errors: what is wrong with which field.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[FieldError] = (),
    ) -> None:
        all_headers = dict(headers or {})
        if retry_after is not None:
            all_headers["Retry-After"] = str(max(1, retry_after))
        super().__init__(kind.status, detail, all_headers)
        self.kind = kind
        self.errors = tuple(errors)


def from_status(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Problem:
    """The problem for an error that the framework found (unknown path, wrong method, broken multipart)."""
    kind = _BY_STATUS.get(status, Kind("request-refused", status, "The request was refused"))
    return Problem(kind, detail, headers=headers)


def document(problem: Problem, *, path: str, request_id: str) -> JSONResponse:
    """The answer that carries it."""
    content: dict[str, object] = {
        "type": f"urn:captionloop:problem:{problem.kind.name}",
        "title": problem.kind.title,
        "status": problem.kind.status,
        "detail": problem.detail,
        "instance": path,
        "request_id": request_id,
    }
    if problem.errors:
        content["errors"] = [{"field": error.field, "message": error.message} for error in problem.errors]
    return JSONResponse(content, problem.kind.status, dict(problem.headers or {}), media_type=MEDIA_TYPE)
