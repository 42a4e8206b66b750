"""Looking at every photo once: is it there, can it be decoded, how large is it, what does it look like."""

import hashlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from captionloop.corpus.photos import PhotoFolder
from captionloop.errors import CorpusError, ImageError, ImageLimitError
from captionloop.images import MAX_PIXELS, Pixels, open_photo

logger = logging.getLogger(__name__)

_LOOK: Final = 32  # px a side
_BATCH: Final = 256
_SECONDS_BETWEEN_LINES: Final = 2.0


class PhotoState(StrEnum):
    """What was found in a photo's place."""

    GOOD = "good"
    MISSING = "missing"
    TOO_HEAVY = "too heavy"
    TOO_MANY_PIXELS = "too many pixels"
    UNDECODABLE = "undecodable"


class PhotoLimits(BaseModel):
    """How much of a photo we are willing to read and decode. Both are known before anything is decoded.

    The encoder decodes no more than `images.MAX_PIXELS`, so nothing larger is let through here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: int = Field(100_000_000, ge=1)
    max_pixels: int = Field(MAX_PIXELS, ge=1, le=MAX_PIXELS)


@dataclass(frozen=True)
class PhotoFacts:
    """What one look at a photo tells.

    Width and height are in px, upright (EXIF), 0 where unknown. `outline` is a perceptual hash of 64 bits,
    `tones` the photo shrunk to 16 x 16 RGB, `pixels` a hash of all of its pixels; all are empty unless the
    state is good, and `pixels` of large JPEGs also then. `detail` says more about any other state.
    """

    state: PhotoState
    detail: str = ""
    sha256: str = ""
    width: int = 0
    height: int = 0
    outline: int = 0
    tones: bytes = b""
    pixels: str = ""


def inspect_photos(photos: PhotoFolder, uris: Sequence[str], limits: PhotoLimits) -> list[PhotoFacts]:
    """The facts of every photo, in the order of `uris`. Reports its progress in the log every other second.

    Decoding and hashing run outside Python's lock, so threads use all cores.
    """
    if not photos.exists():
        raise CorpusError(f"There is no photo folder {photos.root}: check the path, see docs/data.md")
    found: list[PhotoFacts] = []
    progress = _Progress(len(uris))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for batch in _batches(uris, _BATCH):
            found.extend(pool.map(lambda uri: inspect_photo(photos, uri, limits), batch))
            progress.reached(len(found))
    return found


def inspect_photo(photos: PhotoFolder, uri: str, limits: PhotoLimits) -> PhotoFacts:
    """The facts of one photo; never raises for what the photo is."""
    try:
        weight = photos.size(uri)
        if weight > limits.max_bytes:
            return PhotoFacts(PhotoState.TOO_HEAVY, f"{weight:,} bytes, at most {limits.max_bytes:,}")
        data = photos.read(uri)
    except CorpusError as error:
        return PhotoFacts(PhotoState.MISSING, str(error))
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        photo = open_photo(data, max_pixels=limits.max_pixels)
        small, pixels = photo.look(_LOOK)
    except ImageLimitError as error:
        return PhotoFacts(PhotoState.TOO_MANY_PIXELS, str(error), sha256)
    except ImageError as error:
        return PhotoFacts(PhotoState.UNDECODABLE, str(error), sha256)
    return PhotoFacts(
        PhotoState.GOOD, "", sha256, photo.width, photo.height, outline(small), _tones(small), pixels
    )


def outline(small: Pixels) -> int:
    """The difference hash (dHash): where a photo gets brighter from left to right, on a grid of 8 x 8."""
    grid = np.asarray(Image.fromarray(small).convert("L").resize((9, 8), Image.Resampling.BOX))
    return int.from_bytes(np.packbits(grid[:, 1:] > grid[:, :-1]).tobytes(), "big")


def _tones(small: Pixels) -> bytes:
    tones: Pixels = small.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    return tones.tobytes()


def _batches(uris: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(uris), size):
        yield uris[start : start + size]


class _Progress:
    """A line in the log every few seconds: how far, how fast, how long still."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._begun = self._told = time.monotonic()

    def reached(self, done: int) -> None:
        now = time.monotonic()
        if done == self._total or now - self._told >= _SECONDS_BETWEEN_LINES:
            self._told = now
            rate = done / max(now - self._begun, 1e-6)
            left = (self._total - done) / max(rate, 1e-6)
            logger.info("Inspected %d of %d photos (%.0f/s, %.0f s left)", done, self._total, rate, left)
