"""Getting a photo out of a request: multipart, the bytes themselves, or base64 in JSON. URLs are never
fetched.

The edge has already bounded the body's size and the time it may take (`captionloop.serving.edge`).
"""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from captionloop.serving.problems import (
    IMAGE_MISSING,
    MALFORMED,
    MEDIA_TYPE_UNSUPPORTED,
    REQUEST_INVALID,
    FieldError,
    Problem,
)
from captionloop.serving.schemas import Base64Photo

FIELD = "image"
KEEP = "keep"
_JSON_FORM = f'The JSON must be {{"{FIELD}": "<base64>"}}, and may say "{KEEP}": false.'
_TRUTH = TypeAdapter(bool)
SMALL_JSON = 10_000
MOST_MARKS = 64
EXAMPLE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
"""The smallest photo there is: one grey pixel as PNG."""
REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [FIELD],
                "properties": {FIELD: {"type": "string", "format": "binary"}, KEEP: {"type": "boolean"}},
            }
        },
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "application/json": {
            "schema": {
                "type": "object",
                "required": [FIELD],
                "additionalProperties": False,
                "properties": {
                    FIELD: {"type": "string", "contentEncoding": "base64", "description": "or a data: URL"},
                    KEEP: {"type": "boolean", "default": True},
                },
            },
            "example": {"image": EXAMPLE},
        },
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SentPhoto:
    """A photo's bytes, not looked at yet, and whether whoever sent it lets it be kept."""

    data: bytes
    keep: bool = True


def media_type(headers: Headers) -> str:
    """The media type of a body, however its header is written: in small letters, without parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


async def sent_photo(request: Request) -> SentPhoto:
    """The photo in a request's body.

    Raises:
        Problem: 400 if the body is broken, 415 if its type is none of ours, 422 if there is no photo in it.
    """
    sent_as = media_type(request.headers)
    if sent_as == "multipart/form-data":
        sent = await _from_form(request)
    elif sent_as == "application/json":
        # In a thread: a body of megabytes takes its time even if it is nothing but one string.
        sent = await run_in_threadpool(_from_json, await request.body())
    elif sent_as.startswith("image/") or sent_as == "application/octet-stream":
        sent = SentPhoto(await request.body())
    else:
        raise Problem(
            MEDIA_TYPE_UNSUPPORTED,
            "Send the photo as multipart/form-data, image/*, application/octet-stream or application/json.",
        )
    if not sent.data:
        raise Problem(IMAGE_MISSING, "The image is empty: choose a photo and send it again.")
    return sent


async def _from_form(request: Request) -> SentPhoto:
    parser = _FormParser(request.headers, request.stream(), max_files=1, max_fields=4, max_part_size=4096)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Problem(MALFORMED, f"The body is not valid multipart/form-data: {error.message}") from None
    try:
        part = form.get(FIELD)
        if not isinstance(part, UploadFile):
            raise Problem(IMAGE_MISSING, f"The form has no file field named '{FIELD}'.")
        return SentPhoto(await part.read(), all(_may_be_kept(said) for said in form.getlist(KEEP)))
    finally:
        await form.close()


class _FormParser(MultiPartParser):
    """Takes the photo for a file, whether or not its sender named one (by RFC 7578, 4.2, nobody must)."""

    def on_header_end(self) -> None:
        if self._current_partial_header_name.lower() == b"content-disposition":
            _, options = parse_options_header(self._current_partial_header_value)
            if options.get(b"name") == FIELD.encode() and b"filename" not in options:
                self._current_partial_header_value += b'; filename="photo"'
        super().on_header_end()


def _may_be_kept(said: object) -> bool:
    """A word that is not understood is refused: to keep a photo by mistake cannot be made good."""
    try:
        return _TRUTH.validate_python(said.strip() if isinstance(said, str) else said)
    except ValidationError:
        message = "must be true or false"
        raise Problem(REQUEST_INVALID, f"{KEEP}: {message}.", errors=[FieldError(KEEP, message)]) from None


def _from_json(body: bytes) -> SentPhoto:
    """The photo in `{"image": "<base64>"}`, parsed only if it can be that: in base64 there are no brackets,
    braces, quotes or commas, so a body with many of them would make a million objects for nothing.
    """
    if len(body) > SMALL_JSON and any(body.count(mark) > MOST_MARKS for mark in (b"[", b"{", b",", b'"')):
        raise Problem(IMAGE_MISSING, _JSON_FORM)
    try:
        given = Base64Photo.model_validate(json.loads(body, strict=False))
    except (ValueError, RecursionError) as error:
        if isinstance(error, ValidationError):
            raise Problem(IMAGE_MISSING, _JSON_FORM) from None
        raise Problem(MALFORMED, "The body is not valid JSON.") from None
    text = given.image
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        # Many encoders break lines.
        return SentPhoto(base64.b64decode("".join(text.split()), validate=True), given.keep)
    except (binascii.Error, ValueError):
        raise Problem(MALFORMED, f"'{FIELD}' is not valid base64.") from None
