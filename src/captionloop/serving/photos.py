"""From a photo's bytes to what the model server takes and what the database remembers,
in a bounded set of threads.
"""

import asyncio
import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from PIL import Image

from captionloop.errors import ImageError
from captionloop.feedback.records import PhotoFacts
from captionloop.serving.problems import IMAGE_TOO_LARGE, IMAGE_UNREADABLE, Problem
from captionloop.serving.wire import PreparedImage
from captionloop.vision.images import load_square

_ORIENTATION: Final = 0x0112
_TURNED: Final = {5, 6, 7, 8}


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo that can be captioned."""

    prepared: PreparedImage
    facts: PhotoFacts


class PhotoReader:
    """Decodes photos, so many at once and no more: what a photo may take is bounded, and so is what all take
    together.

    Args:
        threads: photos decoded at once.
        max_pixels: the largest photo; found out from its header, before it is decoded.
    """

    def __init__(self, threads: int, max_pixels: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._max_pixels = max_pixels

    async def read(self, data: bytes, size: int) -> Photo:
        """Decode a photo upright and squash it to `size` x `size`.

        Raises:
            Problem: 422, if it cannot be decoded or is too large.
        """
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, data, size)

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, data: bytes, size: int) -> Photo:
        try:
            facts = photo_facts(data, self._max_pixels)
            pixels = load_square(data, size, max_pixels=self._max_pixels)
        except ImageError as error:
            raise Problem(IMAGE_UNREADABLE, _sentence(str(error))) from None
        return Photo(PreparedImage(size=size, pixels=pixels.tobytes()), facts)


def photo_facts(data: bytes, max_pixels: int) -> PhotoFacts:
    """What the header tells: type and upright size.

    Raises:
        ImageError: it has no header that we know.
        Problem: 422, if it has more than `max_pixels`.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP", "GIF", "BMP")) as image:
            width, height = image.size
            media_type = Image.MIME.get(image.format or "", "application/octet-stream")
            turned = width * height <= max_pixels and image.getexif().get(_ORIENTATION) in _TURNED
    except Exception as error:
        raise ImageError(
            "not an image of a kind that is accepted (JPEG, PNG, WebP, GIF, BMP), or damaged"
        ) from error
    if width * height > max_pixels:
        raise Problem(
            IMAGE_TOO_LARGE,
            f"The image has {width} x {height} pixels; at most {max_pixels // 1_000_000} megapixels "
            "are taken. Make it smaller and send it again.",
        )
    if turned:
        width, height = height, width
    return PhotoFacts(hashlib.sha256(data).hexdigest(), media_type, len(data), width, height)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
