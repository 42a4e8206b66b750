"""The gallery: photos with their captions, and where the decoder looked for each word (Xu et al. 2015, figure
3).
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import shorten, wrap
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from captionloop.evaluation.figures import COLOURS, INK, MUTED, RULE, figure, fonts_for
from captionloop.preprocessing import SQUASHED, Preprocessing
from captionloop.tokenizer import is_unspaced

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from captionloop.captioner.captioner import Caption, Word

Floats = NDArray[np.float64]

_SIDE = 224  # px of a picture in the gallery
_FADED = 0.3  # how much of a photo is left where the decoder did not look
_CONTRAST = 1.6  # above 1: what it looked at half as much shows less than half its colour

# All in inches.
_PHOTO, _TILE, _GAP, _MARGIN = 1.75, 1.2, 0.08, 0.25
_TITLE, _HEAD, _FOOT = 0.55, 0.24, 0.4


@dataclass(frozen=True)
class Exhibit:
    """A row of the gallery. `photo`: uint8 `[height, width, 3]`; `rank`: why it is shown."""

    photo: NDArray[np.uint8]
    caption: "Caption"
    reference: str
    cider: float
    rank: str


def choose_exhibits(
    ciders: Mapping[str, float], captions: Mapping[str, str], each: int
) -> list[tuple[str, str]]:
    """Some of the best, the middle and the worst photos, as (rank, image id): no caption twice, always the
    same.

    Args:
        ciders: by image id.
        captions: by image id.
        each: how many of each rank; fewer where there are not enough photos.
    """
    ordered = sorted(ciders, key=lambda image_id: (-ciders[image_id], image_id))
    middle = len(ordered) // 2
    from_middle = sorted(ordered, key=lambda image_id: abs(ordered.index(image_id) - middle))
    chosen: list[tuple[str, str]] = []
    shown: set[str] = set()
    for rank, candidates in (("best", ordered), ("middle", from_middle), ("worst", ordered[::-1])):
        taken = 0
        for image_id in candidates:
            if taken < each and captions[image_id] not in shown:
                chosen.append((rank, image_id))
                shown.add(captions[image_id])
                taken += 1
    return chosen


def gallery_figure(exhibits: Sequence[Exhibit], *, title: str, widest: int) -> "Figure":
    """Rows of photos; beside each photo its words, each over what the decoder looked at, with its confidence.

    A decoder that does not attend shows the plain photo under every word. A caption of more than `widest`
    words is cut. Scripts that are read leftwards are.
    """
    texts = [text for exhibit in exhibits for text in (exhibit.caption.text, exhibit.reference)]
    with fonts_for([title, *texts]) as drawable:
        return _draw([_with_drawable_text(exhibit, drawable) for exhibit in exhibits], title, widest)


def _with_drawable_text(exhibit: Exhibit, drawable: Callable[[str], str]) -> Exhibit:
    """The exhibit with its texts made drawable."""
    words = tuple(replace(word, text=drawable(word.text)) for word in exhibit.caption.words)
    caption = replace(exhibit.caption, words=words)
    return replace(exhibit, caption=caption, reference=drawable(exhibit.reference))


def _draw(exhibits: Sequence[Exhibit], title: str, widest: int) -> "Figure":
    columns = min(widest, max(len(exhibit.caption.words) for exhibit in exhibits))
    width = 2 * _MARGIN + _PHOTO + columns * (_TILE + _GAP) + _GAP
    height = _TITLE + len(exhibits) * (_HEAD + _PHOTO + _FOOT)
    fig = figure(width, height)
    fig.set_layout_engine("none")
    fig.text(_MARGIN / width, 1 - 0.22 / height, title, va="top", color=INK, fontsize=12.5, fontweight="bold")
    for row, exhibit in enumerate(exhibits):
        top = _TITLE + row * (_HEAD + _PHOTO + _FOOT) + _HEAD
        _photo(_axes(fig, _MARGIN, top, _PHOTO), exhibit)
        words = exhibit.caption.words[:columns]
        for place, word in enumerate(words[::-1] if _is_read_leftwards(exhibit.caption.text) else words):
            left = _MARGIN + _PHOTO + 2 * _GAP + place * (_TILE + _GAP)
            _word(_axes(fig, left, top + (_PHOTO - _TILE) / 2, _TILE), exhibit.photo, word)
    return fig


def _axes(fig: "Figure", left: float, top: float, side: float) -> "Axes":
    """A square place on the figure, in inches from its upper left corner."""
    width, height = fig.get_size_inches()
    return fig.add_axes((left / width, 1 - (top + side) / height, side / width, side / height))


def highlight_attention(photo: NDArray[np.uint8], attention: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The photo in colour where the decoder attended, pale elsewhere: `attention` `[rows, columns]`.

    The place with the highest attention has its full colours, however far the attention is spread.
    """
    light = upsample(attention.astype(np.float64), photo.shape[:2])[..., None]
    light = (light / max(float(light.max()), 1e-12)) ** _CONTRAST
    grey = photo @ np.array([0.299, 0.587, 0.114])
    pale = 255 - _FADED * (255 - grey[..., None])
    return np.asarray(np.rint(pale + (photo - pale) * light), np.uint8)


def upsample(grid: Floats, shape: Sequence[int]) -> Floats:
    """A grid `[rows, columns]` as a smooth picture of `shape`; where it is flat it stays flat, and never
    below 0.
    """
    from scipy.ndimage import gaussian_filter, map_coordinates

    rows, columns = (
        (np.arange(size) + 0.5) * cells / size - 0.5 for size, cells in zip(shape, grid.shape, strict=True)
    )
    smooth = map_coordinates(grid, np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest")
    blur = [0.35 * size / cells for size, cells in zip(shape, grid.shape, strict=True)]
    return np.maximum(gaussian_filter(smooth, blur, mode="nearest"), 0.0)


def square(photo: bytes, preprocessing: Preprocessing = SQUASHED) -> NDArray[np.uint8]:
    """The square of a photo that the encoder sees, at the gallery's size.

    Raises:
        ImageError: it cannot be decoded.
    """
    from captionloop.images import load_square

    return load_square(photo, _SIDE, by=preprocessing)


def _photo(panel: "Axes", exhibit: Exhibit) -> None:
    _picture(panel, exhibit.photo)
    rank = f"{exhibit.rank} · CIDEr {100 * exhibit.cider:.0f}"
    panel.set_title(rank, loc="left", color=INK, fontsize=9, pad=4)
    panel.set_xlabel(_wrap(exhibit.reference, 34), color=MUTED, fontsize=7, loc="left", labelpad=4)


def _word(panel: "Axes", photo: NDArray[np.uint8], word: "Word") -> None:
    _picture(panel, photo if word.attention is None else highlight_attention(photo, word.attention))
    panel.set_title(word.text, color=INK, fontsize=10, pad=4)
    below = photo.shape[0] * 1.045
    for share, paint in ((1.0, RULE), (word.confidence, COLOURS[0])):
        ends = [0, share * (photo.shape[1] - 1)]
        panel.plot(ends, [below, below], color=paint, linewidth=2.6, clip_on=False, solid_capstyle="butt")
    panel.set_xlabel(f"{100 * word.confidence:.0f} %", color=MUTED, fontsize=7.5, labelpad=8)


def _picture(panel: "Axes", picture: NDArray[np.uint8]) -> None:
    panel.imshow(picture, interpolation="antialiased")
    panel.set_xticks([])
    panel.set_yticks([])
    panel.set_xlim(-0.5, picture.shape[1] - 0.5)
    panel.set_ylim(picture.shape[0] - 0.5, -0.5)
    for spine in panel.spines.values():
        spine.set_visible(False)


def _wrap(text: str, width: int) -> str:
    line_text = re.sub(r"\s+([.,;:!?])", r"\1", text)
    longest = max(map(len, line_text.split()), default=0)
    if is_unspaced(line_text) or longest > width:  # no spaces to break lines at, and letters that are wider
        max_length, line_length = int(0.9 * width), width // 2
        line_text = line_text if len(line_text) <= max_length else f"{line_text[:max_length]} ..."
        return "\n".join(
            line_text[start : start + line_length] for start in range(0, len(line_text), line_length)
        )
    return "\n".join(wrap(shorten(line_text, int(1.9 * width), placeholder=" ..."), width))


def _is_read_leftwards(text: str) -> bool:
    """Whether the first letter is Arabic, Hebrew or the like."""
    first = next((character for character in text if character.isalpha()), "")
    return bool(first) and unicodedata.bidirectional(first) in {"R", "AL"}
