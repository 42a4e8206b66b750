"""From a photo's bytes to what the model server takes and what the database remembers,
in a bounded set of threads.
"""

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from captionloop.errors import ImageError, ImageLimitError
from captionloop.feedback.records import PhotoFacts
from captionloop.image_metadata import without_metadata
from captionloop.images import open_photo
from captionloop.memory import keep_no_large_blocks
from captionloop.serving.problems import IMAGE_TOO_LARGE, IMAGE_UNREADABLE, Problem
from captionloop.serving.wire import PreparedImage


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo that can be captioned, and the file of it that may be kept: without metadata, upright.

    `sent_sha256` is that of the file that was sent.
    """

    prepared: PreparedImage
    facts: PhotoFacts
    kept: bytes
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
        keep_no_large_blocks()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._max_pixels = max_pixels

    async def read(self, data: bytes, size: int) -> Photo:
        """Take a photo's metadata out, decode what is left and squash it to `size` x `size`.

        What is captioned is what is kept, so a retraining sees the same pixels.

        Raises:
            Problem: 422, if it cannot be decoded or is too large.
        """
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, data, size)

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, data: bytes, size: int) -> Photo:
        try:
            sent = open_photo(data, max_pixels=self._max_pixels)
            kept = without_metadata(data, max_pixels=self._max_pixels)
            photo = open_photo(kept, max_pixels=self._max_pixels)
            (pixels,) = photo.squares(size)
        except ImageLimitError as error:
            raise Problem(IMAGE_TOO_LARGE, _sentence(str(error))) from None
        except ImageError as error:
            raise Problem(IMAGE_UNREADABLE, _sentence(str(error))) from None
        sha256 = hashlib.sha256(kept).hexdigest()
        facts = PhotoFacts(sha256, photo.media_type, len(kept), sent.width, sent.height)
        return Photo(
            PreparedImage(size=size, pixels=pixels.tobytes()), facts, kept, hashlib.sha256(data).hexdigest()
        )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
