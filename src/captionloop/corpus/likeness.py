"""Finding the same photo twice, also where it was scaled or compressed again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from captionloop.corpus.inspection import PhotoFacts, outline
from captionloop.corpus.tables import SPLITS

#: When photos of two splits are the same, the one that serves to measure stays.
_KEPT_BEFORE: Final = {"train": 0, "val": 1, "test": 2}
_ROWS: Final = 256
_PAIRS: Final = 16384
_FIELDS: Final = 16
_SAME_TONE: Final = 4  # levels
_MAIN_SHARE: Final = 0.5  # of the fields: more of one colour, and the rest is too little to go by
_LEAST_CONTRAST: Final = 8.0  # levels: below it, the noise of compression is half of what there is to see
_CORPUS: Final = 20  # photos, from which on what they share can be told
_SAMPLE: Final = 2000  # photos that are asked what all share


class LikenessLimits(BaseModel):
    """How alike two photos are that count as one.

    The outline is a quick first look (differing bits of 64), the tones decide: the largest difference in any
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
class Twins:
    """Two rows that show the same photo; `exact` where even the bytes or all pixels are the same, `mirrored`
    where one is the mirror image of the other.
    """

    first: int
    second: int
    exact: bool
    mirrored: bool = False


def find_twins(photos: Sequence[PhotoFacts], limits: LikenessLimits) -> list[Twins]:
    """All pairs of the same photo, ordered by row.

    Compares every pair of outlines, 64 bits at a time, and once more with one of the two mirrored: 7,000
    photos take well under a second, COCO's 123,000 about two minutes. Only pairs of like outline are compared
    by their tones, and only photos whose tones say something: of a flat picture, a chart or a page, which
    look alike however different they are, only copies with the same bytes or pixels are found.
    """
    if not photos:
        return []
    twins = {(pair.first, pair.second): pair for pair in _copies(photos)}
    tones = np.frombuffer(b"".join(photo.tones for photo in photos), dtype=np.uint8)
    tones = tones.reshape(len(photos), _FIELDS, _FIELDS, 3)
    contrast = _contrast(tones)
    telling = np.flatnonzero(contrast >= _LEAST_CONTRAST)
    tones, allowed = (
        tones[telling],
        np.minimum(limits.tone_difference, limits.contrast_share * contrast)[telling],
    )
    outlines = np.array([photo.outline for photo in photos], dtype=np.uint64)[telling]
    for mirrored in (False, True):
        others = tones[:, :, ::-1] if mirrored else tones
        other_outlines = _outlines_mirrored(others) if mirrored else outlines
        for first, second in _candidates(outlines, other_outlines, limits.outline_bits):
            difference = np.abs(tones[first].astype(np.int16) - others[second]).max(axis=(1, 2, 3))
            for a, b in zip(
                *(
                    rows[difference <= np.minimum(allowed[first], allowed[second])]
                    for rows in (first, second)
                ),
                strict=True,
            ):
                pair = int(telling[a]), int(telling[b])
                twins.setdefault(pair, Twins(*pair, exact=False, mirrored=mirrored))
    return [twins[pair] for pair in sorted(twins)]


def _copies(photos: Sequence[PhotoFacts]) -> Iterator[Twins]:
    """Pairs with the same bytes, or the same pixels."""
    for name in ("sha256", "pixels"):
        groups: dict[str, list[int]] = {}
        for row, photo in enumerate(photos):
            if value := getattr(photo, name):
                groups.setdefault(value, []).append(row)
        for rows in groups.values():
            yield from (Twins(a, b, exact=True) for a, b in combinations(rows, 2))


def _contrast(tones: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How much each photo's fields differ from one another, in levels; 0 where that tells nothing.

    What all pictures of a corpus share (the axes of charts, a window's frame, the shape of a chest) tells
    them apart no better than white paper does, so it is taken off first. Nor do the few fields of a picture
    that are not of its main colour.
    """
    values = tones.reshape(len(tones), -1, 3).astype(np.float32)
    main = np.median(values, axis=1, keepdims=True)
    one_colour = (np.abs(values - main).max(axis=2) <= _SAME_TONE).mean(axis=1) > _MAIN_SHARE
    contrast = values.std(axis=1).max(axis=1)
    if len(values) >= _CORPUS:
        sample = values[:: max(1, len(values) // _SAMPLE)]
        contrast = np.minimum(contrast, (values - np.median(sample, axis=0)).std(axis=1).max(axis=1))
    contrast[one_colour] = 0
    found: NDArray[np.float32] = contrast
    return found


def _outlines_mirrored(tones: NDArray[np.uint8]) -> NDArray[np.uint64]:
    return np.array([outline(photo) for photo in tones], dtype=np.uint64)


def _candidates(
    outlines: NDArray[np.uint64], others: NDArray[np.uint64], bits: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Row numbers of pairs (first < second) whose outlines differ in at most `bits` bits, in portions."""
    for start in range(0, len(outlines), _ROWS):
        here = outlines[start : start + _ROWS, None]
        near = np.bitwise_count(here ^ others[None, start:]) <= bits  # [rows, rest]
        first, second = np.nonzero(np.triu(near, k=1))
        for portion in range(0, len(first), _PAIRS):
            part = slice(portion, portion + _PAIRS)
            yield first[part] + start, second[part] + start


def mark_twins(images: pd.DataFrame, twins: Sequence[Twins]) -> pd.DataFrame:
    """`images` with the columns `twin_elsewhere` and `twin_here`: the image_id of the copy that stays; and
    `twin_near`: whether all of a row's copies are like it, and none has the same bytes or pixels.

    Of copies in two splits the train one goes, so that nothing is measured on what was trained on (of val
    and test, the val one). Of copies in one split the later goes, where the parameters ask for that. Empty
    where the row itself may stay.
    """
    ids, splits = images["image_id"].tolist(), images["split"].tolist()
    elsewhere, here = [""] * len(images), [""] * len(images)
    near = [False] * len(images)
    for twin in sorted(twins, key=lambda twin: not twin.exact):
        first, second = twin.first, twin.second
        if splits[first] == splits[second]:
            near[second] |= not twin.exact and not (elsewhere[second] or here[second])
            here[second] = here[second] or ids[first]
            continue
        if _KEPT_BEFORE[splits[first]] > _KEPT_BEFORE[splits[second]]:
            first, second = second, first
        near[first] |= not twin.exact and not (elsewhere[first] or here[first])
        elsewhere[first] = elsewhere[first] or ids[second]
    return images.assign(twin_elsewhere=elsewhere, twin_here=here, twin_near=near)


def lost_to_twins(images: pd.DataFrame, kept: pd.DataFrame, rejected: pd.DataFrame) -> dict[str, Any]:
    """What the likeness of photos costs: `images` were compared, `rejected` went because of it, `kept` is
    left of them all. `near` counts those that are only like another, `splits` those of which nothing is left.
    """
    near = int(rejected["twin_near"].sum())
    emptied = [split for split in SPLITS if split in set(rejected["split"]) - set(kept["split"])]
    return {"near": near, "share": round(near / max(len(images), 1), 4), "splits": emptied}
