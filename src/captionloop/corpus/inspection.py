"""Looking at every photo once: is it there, can it be decoded, how large is it, what does it look like."""

import hashlib
import io
import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from PIL import Image, ImageFile, ImageOps
from pydantic import BaseModel, ConfigDict, Field

from captionloop.corpus.photos import PhotoFolder
from captionloop.errors import CorpusError

logger = logging.getLogger(__name__)

_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_DECODED_FOR_LOOKS: Final = 64  # px: as small as JPEG's own downscaling may make a photo that we only look at
_TONES: Final = 16
_BATCH: Final = 256
_SECONDS_BETWEEN_LINES: Final = 2.0
_TURNED: Final = frozenset({5, 6, 7, 8})
_ORIENTATION: Final = 0x0112


class PhotoState(StrEnum):
    """What was found in a photo's place."""

    GOOD = "good"
    MISSING = "missing"
    TOO_HEAVY = "too heavy"
    TOO_MANY_PIXELS = "too many pixels"
    UNDECODABLE = "undecodable"


class PhotoLimits(BaseModel):
    """How much of a photo we are willing to read and decode. Both are known before anything is decoded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: int = Field(100_000_000, ge=1)
    max_pixels: int = Field(64_000_000, ge=1)


@dataclass(frozen=True)
class PhotoFacts:
    """What one look at a photo tells.

    Width and height are in px, upright (EXIF), 0 where unknown. `outline` is a perceptual hash of 64 bits,
    `tones` the photo shrunk to 16 x 16 RGB; both are empty unless the state is good. `detail` says more about
    any other state.
    """

    state: PhotoState
    detail: str = ""
    sha256: str = ""
    width: int = 0
    height: int = 0
    outline: int = 0
    tones: bytes = b""


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
        return _look(data, sha256, limits)
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError, MemoryError) as error:
        return PhotoFacts(PhotoState.UNDECODABLE, str(error) or type(error).__name__, sha256)


def _look(data: bytes, sha256: str, limits: PhotoLimits) -> PhotoFacts:
    image = _open(data)
    width, height = image.size
    if width * height > limits.max_pixels:
        detail = f"{width} x {height} px, at most {limits.max_pixels:,} pixels"
        return PhotoFacts(PhotoState.TOO_MANY_PIXELS, detail, sha256, width, height)
    image.draft("RGB", (_DECODED_FOR_LOOKS, _DECODED_FOR_LOOKS))  # JPEG reads all of its bytes all the same
    image.load()
    if image.getexif().get(_ORIENTATION, 1) in _TURNED:
        width, height = height, width
    upright = ImageOps.exif_transpose(image).convert("RGB")
    tones = upright.resize((_TONES, _TONES), Image.Resampling.BOX)
    return PhotoFacts(PhotoState.GOOD, "", sha256, width, height, _outline(upright), tones.tobytes())


def _open(data: bytes) -> ImageFile.ImageFile:
    """Reads the header alone; `Image.open` would also warn or raise by a pixel limit of its own."""
    Image.preinit()
    Image.init()
    for name in _FORMATS:
        factory, accepts = Image.OPEN[name]
        if accepts is None or accepts(data[:16]) is True:
            return factory(io.BytesIO(data), "")
    raise ValueError(f"not a {', '.join(_FORMATS)} image")


def _outline(photo: Image.Image) -> int:
    """The difference hash (dHash): where the photo gets brighter from left to right, on a grid of 8 x 8."""
    grid = np.asarray(photo.convert("L").resize((9, 8), Image.Resampling.BOX))
    return int.from_bytes(np.packbits(grid[:, 1:] > grid[:, :-1]).tobytes(), "big")


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
