"""Photos in; size, digests, dHash and thumbnail of each, and the pairs of near-duplicates out."""

import hashlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from captionloop.corpus.tables import SPLITS
from captionloop.errors import CorpusError, ImageError, ImageLimitError
from captionloop.images import MAX_PIXELS, Pixels, open_photo
from captionloop.photos import PhotoFolder

logger = logging.getLogger(__name__)

_THUMBNAIL_SIDE: Final = 32  # px a side
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
    """What decoding a photo once gives.

    Width and height are in px, upright (EXIF), 0 where unknown. `dhash` is a perceptual hash of 64 bits,
    `thumbnail` the photo shrunk to 16 x 16 RGB, `pixels` a hash of all of its pixels; all are empty unless
    the state is good, and `pixels` of large JPEGs also then. `detail` says more about any other state.
    """

    state: PhotoState
    detail: str = ""
    sha256: str = ""
    width: int = 0
    height: int = 0
    dhash: int = 0
    thumbnail: bytes = b""
    pixels: str = ""


def inspect_photos(photos: PhotoFolder, uris: Sequence[str], limits: PhotoLimits) -> list[PhotoFacts]:
    """The facts of every photo, in the order of `uris`. Reports its progress in the log every other second.

    Decoding and hashing run outside Python's lock, so threads use all cores.
    """
    if not photos.exists():
        raise CorpusError(f"There is no photo folder {photos.root}: check the path, see docs/data.md")
    found: list[PhotoFacts] = []
    progress = _ProgressLog(len(uris))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for batch in _batches(uris, _BATCH):
            found.extend(pool.map(lambda uri: inspect_photo(photos, uri, limits), batch))
            progress.reached(len(found))
    return found


def inspect_photo(photos: PhotoFolder, uri: str, limits: PhotoLimits) -> PhotoFacts:
    """The facts of one photo; never raises for what the photo is."""
    try:
        size = photos.size(uri)
        if size > limits.max_bytes:
            return PhotoFacts(PhotoState.TOO_HEAVY, f"{size:,} bytes, at most {limits.max_bytes:,}")
        data = photos.read(uri)
    except CorpusError as error:
        return PhotoFacts(PhotoState.MISSING, str(error))
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        photo = open_photo(data, max_pixels=limits.max_pixels)
        small, pixels = photo.shrunk_and_hash(_THUMBNAIL_SIDE)
    except ImageLimitError as error:
        return PhotoFacts(PhotoState.TOO_MANY_PIXELS, str(error), sha256)
    except ImageError as error:
        return PhotoFacts(PhotoState.UNDECODABLE, str(error), sha256)
    return PhotoFacts(
        PhotoState.GOOD, "", sha256, photo.width, photo.height, dhash(small), _thumbnail(small), pixels
    )


def dhash(small: Pixels) -> int:
    """The difference hash (dHash): whether each of 8 x 8 fields is brighter than its left neighbour."""
    grid = np.asarray(Image.fromarray(small).convert("L").resize((9, 8), Image.Resampling.BOX))
    return int.from_bytes(np.packbits(grid[:, 1:] > grid[:, :-1]).tobytes(), "big")


def _thumbnail(small: Pixels) -> bytes:
    thumbnail: Pixels = small.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    return thumbnail.tobytes()


def _batches(uris: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(uris), size):
        yield uris[start : start + size]


class _ProgressLog:
    """A line in the log every few seconds: how far, how fast, how long still."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._begun = self._last_line = time.monotonic()

    def reached(self, done: int) -> None:
        now = time.monotonic()
        if done == self._total or now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            rate = done / max(now - self._begun, 1e-6)
            left = (self._total - done) / max(rate, 1e-6)
            logger.info("Inspected %d of %d photos (%.0f/s, %.0f s left)", done, self._total, rate, left)


#: When photos of two splits are the same, the one that serves to measure stays.
_KEPT_BEFORE: Final = {"train": 0, "val": 1, "test": 2}
_ROWS: Final = 256
_PAIRS: Final = 16384
_FIELDS: Final = 16
_SAME_COLOUR: Final = 4  # levels
_FLAT_SHARE: Final = 0.5  # of the fields: more of one colour, and the rest is too little to go by
_LEAST_CONTRAST: Final = 8.0  # levels: below it, the noise of compression is half of what there is to see
_CORPUS: Final = 20  # photos, from which on what they share can be told
_SAMPLE: Final = 2000  # photos that are asked what all share


class SimilarityLimits(BaseModel):
    """How similar two photos are that count as one.

    The dHash selects candidates (differing bits of 64), the thumbnails decide: the largest difference in any
    colour of any of 16 x 16 fields, in levels (0 to 255) and as a share of the photo's own contrast. A small
    thing that differs shows in its field, new compression hardly in any.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    outline_bits: int = Field(12, ge=0, le=64)
    tone_difference: int = Field(32, ge=0, le=255)
    contrast_share: float = Field(0.6, ge=0, le=1)
    max_lost: float = Field(
        0.05, ge=0, le=1, description="share of images that may go for being like another; more ends the run"
    )


@dataclass(frozen=True)
class Duplicates:
    """Two rows that show the same photo; `exact` where even the bytes or all pixels are the same, `mirrored`
    where one is the mirror image of the other.
    """

    first: int
    second: int
    exact: bool
    mirrored: bool = False


def find_duplicates(photos: Sequence[PhotoFacts], limits: SimilarityLimits) -> list[Duplicates]:
    """All pairs of the same photo, ordered by row.

    Compares every pair of dHashes, 64 bits at a time, and once more with one of the two mirrored: 7,000
    photos take well under a second, COCO's 123,000 about two minutes. Only pairs of similar dHash are
    compared by their thumbnails, and only photos with enough contrast: of a flat picture, a chart or a page,
    which look alike however different they are, only copies with the same bytes or pixels are found.
    """
    if not photos:
        return []
    duplicates = {(pair.first, pair.second): pair for pair in _exact_duplicates(photos)}
    thumbnails = np.frombuffer(b"".join(photo.thumbnail for photo in photos), dtype=np.uint8)
    thumbnails = thumbnails.reshape(len(photos), _FIELDS, _FIELDS, 3)
    contrast = _contrast(thumbnails)
    comparable = np.flatnonzero(contrast >= _LEAST_CONTRAST)
    thumbnails, allowed = (
        thumbnails[comparable],
        np.minimum(limits.tone_difference, limits.contrast_share * contrast)[comparable],
    )
    hashes = np.array([photo.dhash for photo in photos], dtype=np.uint64)[comparable]
    for mirrored in (False, True):
        others = thumbnails[:, :, ::-1] if mirrored else thumbnails
        other_hashes = _dhashes(others) if mirrored else hashes
        for first, second in _candidates(hashes, other_hashes, limits.outline_bits):
            difference = np.abs(thumbnails[first].astype(np.int16) - others[second]).max(axis=(1, 2, 3))
            for a, b in zip(
                *(
                    rows[difference <= np.minimum(allowed[first], allowed[second])]
                    for rows in (first, second)
                ),
                strict=True,
            ):
                pair = int(comparable[a]), int(comparable[b])
                duplicates.setdefault(pair, Duplicates(*pair, exact=False, mirrored=mirrored))
    return [duplicates[pair] for pair in sorted(duplicates)]


def _exact_duplicates(photos: Sequence[PhotoFacts]) -> Iterator[Duplicates]:
    """Pairs with the same bytes, or the same pixels."""
    for name in ("sha256", "pixels"):
        groups: dict[str, list[int]] = {}
        for row, photo in enumerate(photos):
            if value := getattr(photo, name):
                groups.setdefault(value, []).append(row)
        for rows in groups.values():
            yield from (Duplicates(a, b, exact=True) for a, b in combinations(rows, 2))


def _contrast(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How much each photo's fields differ from one another, in levels `[photos]`; 0 for a flat picture.

    What all pictures of a corpus share (the axes of charts, a window's frame, the shape of a chest) tells
    them apart no better than white paper does, so it is taken off first. Nor do the few fields of a picture
    that are not of its main colour.
    """
    values = thumbnails.reshape(len(thumbnails), -1, 3).astype(np.float32)
    main = np.median(values, axis=1, keepdims=True)
    one_colour = (np.abs(values - main).max(axis=2) <= _SAME_COLOUR).mean(axis=1) > _FLAT_SHARE
    contrast = values.std(axis=1).max(axis=1)
    if len(values) >= _CORPUS:
        sample = values[:: max(1, len(values) // _SAMPLE)]
        contrast = np.minimum(contrast, (values - np.median(sample, axis=0)).std(axis=1).max(axis=1))
    contrast[one_colour] = 0
    found: NDArray[np.float32] = contrast
    return found


def _dhashes(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint64]:
    return np.array([dhash(photo) for photo in thumbnails], dtype=np.uint64)


def _candidates(
    hashes: NDArray[np.uint64], others: NDArray[np.uint64], bits: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Row numbers of pairs (first < second) whose hashes differ in at most `bits` bits, in portions."""
    for start in range(0, len(hashes), _ROWS):
        here = hashes[start : start + _ROWS, None]
        near = np.bitwise_count(here ^ others[None, start:]) <= bits  # [rows, rest]
        first, second = np.nonzero(np.triu(near, k=1))
        for portion in range(0, len(first), _PAIRS):
            part = slice(portion, portion + _PAIRS)
            yield first[part] + start, second[part] + start


def mark_duplicates(images: pd.DataFrame, duplicates: Sequence[Duplicates]) -> pd.DataFrame:
    """`images` with columns `duplicate_elsewhere` and `duplicate_here`, the image_id of the copy that stays,
    and `near_duplicate`, whether all of a row's copies are similar, and none has the same bytes or pixels.

    Of copies in two splits the train one goes, so that nothing is measured on what was trained on (of val
    and test, the val one). Of copies in one split the later goes, where the parameters ask for that. Empty
    where the row itself may stay.
    """
    ids, splits = images["image_id"].tolist(), images["split"].tolist()
    elsewhere, here = [""] * len(images), [""] * len(images)
    near = [False] * len(images)
    for pair in sorted(duplicates, key=lambda pair: not pair.exact):
        first, second = pair.first, pair.second
        if splits[first] == splits[second]:
            near[second] |= not pair.exact and not (elsewhere[second] or here[second])
            here[second] = here[second] or ids[first]
            continue
        if _KEPT_BEFORE[splits[first]] > _KEPT_BEFORE[splits[second]]:
            first, second = second, first
        near[first] |= not pair.exact and not (elsewhere[first] or here[first])
        elsewhere[first] = elsewhere[first] or ids[second]
    return images.assign(duplicate_elsewhere=elsewhere, duplicate_here=here, near_duplicate=near)


def lost_to_duplicates(images: pd.DataFrame, kept: pd.DataFrame, rejected: pd.DataFrame) -> dict[str, Any]:
    """How many of `images` were lost to duplicates: `rejected` went as duplicates, `kept` is left.

    `near` counts those that are only similar to another, `share` is its part of all, `splits` names those of
    which nothing is left.
    """
    near = int(rejected["near_duplicate"].sum())
    emptied = [split for split in SPLITS if split in set(rejected["split"]) - set(kept["split"])]
    return {"near": near, "share": round(near / max(len(images), 1), 4), "splits": emptied}
