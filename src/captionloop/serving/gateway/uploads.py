"""A request in; its photo out (multipart, bytes, base64), checked and without metadata; and admission limits.

The middleware has already bounded the body's size and the time it may take.

An upload under way holds only the bytes that have arrived: a connection that announces a photo and sends
nothing costs nothing. A place is taken when the photo is there. Of both, one caller gets a share, so that no
caller alone can take all.
"""

import asyncio
import base64
import binascii
import hashlib
import json
import math
import string
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

from pydantic import TypeAdapter, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from captionloop.errors import ImageError, ImageLimitError
from captionloop.hardware import release_large_blocks
from captionloop.image_metadata import without_metadata
from captionloop.images import open_photo
from captionloop.preprocessing import SQUASHED, Preprocessing
from captionloop.ratings.rating_tables import PhotoFacts
from captionloop.serving.gateway.problems import (
    IMAGE_MISSING,
    IMAGE_TOO_LARGE,
    IMAGE_UNREADABLE,
    MALFORMED,
    MEDIA_TYPE_UNSUPPORTED,
    OVERLOADED,
    REQUEST_INVALID,
    FieldError,
    Problem,
)
from captionloop.serving.schemas import Base64Photo, PreparedImage
from captionloop.serving.telemetry import IN_FLIGHT, UPLOAD_BYTES


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo that can be captioned, and the file of it that may be kept: without metadata, upright.

    `sent_sha256` is that of the file that was sent.
    """

    prepared: PreparedImage
    facts: PhotoFacts
    stored: bytes
    sent_sha256: str


class PhotoReader:
    """Decodes photos, so many at once and no more: what a photo may take is bounded, and so is what all take
    together.

    Args:
        threads: photos decoded at once.
        max_pixels: the largest photo; found out from its header, before it is decoded. More than
            `images.MAX_PIXELS` are decoded nowhere.
    """

    def __init__(self, threads: int, max_pixels: int) -> None:
        release_large_blocks()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._max_pixels = max_pixels

    async def read(self, data: bytes, size: int, by: Preprocessing = SQUASHED) -> Photo:
        """Take a photo's metadata out, decode what is left and scale it to `size` x `size`.

        What is captioned is what is kept, so a retraining sees the same pixels.

        Raises:
            Problem: 422, if it cannot be decoded or is too large.
        """
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, data, size, by)

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, data: bytes, size: int, by: Preprocessing) -> Photo:
        try:
            sent = open_photo(data, max_pixels=self._max_pixels)
            stored = without_metadata(data, max_pixels=self._max_pixels)
            photo = sent if stored == data else open_photo(stored, max_pixels=self._max_pixels)
            (pixels,) = photo.squares(size, preprocessing=by)
        except ImageLimitError as error:
            raise Problem(IMAGE_TOO_LARGE, _sentence(str(error))) from None
        except ImageError as error:
            raise Problem(IMAGE_UNREADABLE, _sentence(str(error))) from None
        sha256 = hashlib.sha256(stored).hexdigest()
        sent_sha256 = sha256 if photo is sent else hashlib.sha256(data).hexdigest()
        facts = PhotoFacts(sha256, photo.media_type, len(stored), sent.width, sent.height)
        return Photo(PreparedImage(size=size, pixels=pixels.tobytes()), facts, stored, sent_sha256)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


FIELD = "image"
KEEP, SHARE = "keep", "share"
_JSON_FORM = f'The JSON must be {{"{FIELD}": "<base64>"}}, and may say "{KEEP}": false or "{SHARE}": true.'
_BOOL = TypeAdapter(bool)
SMALL_JSON = 10_000
_SPACES = string.whitespace.encode()
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
                "properties": {
                    FIELD: {"type": "string", "format": "binary"},
                    KEEP: {"type": "boolean"},
                    SHARE: {"type": "boolean"},
                },
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
                    SHARE: {"type": "boolean", "default": False},
                },
            },
            "example": {"image": EXAMPLE},
        },
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SentPhoto:
    """A photo's bytes, not looked at yet, and whether its sender lets it be kept, and shown to others."""

    data: bytes
    keep: bool = True
    share: bool = False


def media_type(headers: Headers) -> str:
    """The media type of a body, however its header is written: in small letters, without parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


async def sent_photo(request: Request) -> SentPhoto:
    """The photo in a request's body.

    Raises:
        Problem: 400 if the body is broken, 415 if its type is none of ours, 422 if there is no photo in it.
    """
    content_type = media_type(request.headers)
    if content_type == "multipart/form-data":
        sent = await _from_form(request)
    elif content_type == "application/json":
        # In a thread: a body of megabytes takes its time even if it is nothing but one string.
        sent = await run_in_threadpool(_from_json, await request.body())
    elif content_type.startswith("image/") or content_type == "application/octet-stream":
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
        shared = [_parse_flag(SHARE, value) for value in form.getlist(SHARE)]
        keep = all(_parse_flag(KEEP, value) for value in form.getlist(KEEP))
        return SentPhoto(await part.read(), keep, bool(shared) and all(shared))
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


def _parse_flag(field: str, value: object) -> bool:
    """The boolean of a form field; anything else is refused: a photo kept by mistake cannot be made good."""
    try:
        return _BOOL.validate_python(value.strip() if isinstance(value, str) else value)
    except ValidationError:
        message = "must be true or false"
        raise Problem(REQUEST_INVALID, f"{field}: {message}.", errors=[FieldError(field, message)]) from None


def _from_json(body: bytes) -> SentPhoto:
    """The photo in `{"image": "<base64>"}`, parsed only if it can be that: in base64 there are no brackets,
    braces, quotes or commas, so a body with many of them would make a million objects for nothing.
    """
    if len(body) > SMALL_JSON and any(body.count(mark) > MOST_MARKS for mark in (b"[", b"{", b",", b'"')):
        raise Problem(IMAGE_MISSING, _JSON_FORM)
    try:
        document = Base64Photo.model_validate(json.loads(body, strict=False))
    except (ValueError, RecursionError) as error:
        if isinstance(error, ValidationError):
            raise Problem(IMAGE_MISSING, _JSON_FORM) from None
        raise Problem(MALFORMED, "The body is not valid JSON.") from None
    text = document.image
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        # Many encoders break lines. They are taken out in one go: a word for each would be millions.
        plain = text.encode("ascii").translate(None, _SPACES)
        return SentPhoto(base64.b64decode(plain, validate=True), document.keep, document.share)
    except (binascii.Error, ValueError):
        raise Problem(MALFORMED, f"'{FIELD}' is not valid base64.") from None


_DECAY = 0.9
"""How much of the mean duration is remembered when a new one is learnt."""
_SHARES = 4
"""Of the memory for bodies one caller gets one in so many, or room for one body."""


class Upload:
    """A caller's body under way; what has arrived of it is held until it is answered."""

    def __init__(self, admission: "Admission", caller: str) -> None:
        self._admission = admission
        self._caller = caller
        self.held = 0

    def arrived(self, size: int) -> None:
        """Hold so many bytes more.

        Raises:
            Problem: 503 with `Retry-After`, if there is no room.
        """
        self._admission.reserve(self._caller, size)
        self.held += size


class Admission:
    """Bounds the captions under way, and the memory that their bodies take.

    Args:
        at_once: captions under way at most.
        upload_memory: bytes of bodies under way at most.
        largest_body: bytes that one body may have.
        per_caller: uploads and captions of one caller under way at most; 0: half of all.
    """

    def __init__(self, at_once: int, upload_memory: int, largest_body: int = 0, per_caller: int = 0) -> None:
        self._at_once = at_once
        self._upload_memory = upload_memory
        self._bytes_per_caller = max(upload_memory // _SHARES, largest_body)
        self._per_caller = per_caller or max(1, at_once // 2)
        self._under_way = 0
        self._reserved = 0
        self._uploads: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._mean_seconds = 0.5

    @property
    def under_way(self) -> int:
        """Captions under way."""
        return self._under_way

    @contextmanager
    def upload(self, caller: str) -> Iterator[Upload]:
        """A body of `caller` is on its way, or being worked on, for as long as the block runs.

        Raises:
            Problem: 503 with `Retry-After`, if the caller has as many under way as one may.
        """
        if self._uploads[caller] >= self._per_caller:
            raise self._full("You have as many uploads under way as one caller may; try again shortly.")
        self._uploads[caller] += 1
        upload = Upload(self, caller)
        try:
            yield upload
        finally:
            self._release(self._uploads, caller, 1)
            self._release(self._bytes, caller, upload.held)
            self._reserved -= upload.held
            UPLOAD_BYTES.set(self._reserved)

    def reserve(self, caller: str, size: int) -> None:
        """Reserve memory for bytes that have arrived.

        Raises:
            Problem: 503 with `Retry-After`, if there is none.
        """
        if self._reserved + size > self._upload_memory or self._bytes[caller] + size > self._bytes_per_caller:
            raise self._full("There is no room for more uploads at the moment; try again shortly.")
        self._bytes[caller] += size
        self._reserved += size
        UPLOAD_BYTES.set(self._reserved)

    @contextmanager
    def acquire(self) -> Iterator[None]:
        """Hold a place for as long as the block runs.

        Raises:
            Problem: 503 with `Retry-After`, if there is none.
        """
        if self._under_way >= self._at_once:
            raise self._full("All places are taken at the moment; try again shortly.")
        began = monotonic()
        self._change(+1)
        try:
            yield
        finally:
            self._change(-1)
            self._mean_seconds = _DECAY * self._mean_seconds + (1 - _DECAY) * (monotonic() - began)

    def _full(self, detail: str) -> Problem:
        return Problem(OVERLOADED, detail, retry_after=math.ceil(min(30.0, 2 * self._mean_seconds)))

    def _change(self, places: int) -> None:
        self._under_way += places
        IN_FLIGHT.set(self._under_way)

    @staticmethod
    def _release(of: Counter[str], caller: str, amount: int) -> None:
        of[caller] -= amount
        if of[caller] <= 0:
            del of[caller]
