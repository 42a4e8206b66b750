"""How a photo becomes an encoder's input: which views of it, what part, how it is scaled and normalised.

Cached features cannot be augmented afterwards, so each augmentation is a view with cache entries of its own,
and training draws a view per photo and epoch.

The default is the project's own recipe: all of the photo, squashed to a square, so that attention can look at
all of it. A model that was trained elsewhere wants what it was trained on: timm keeps that with the weights,
and the two modes here give the pixels of timm's own transform (and torchvision's `Resize` and `CenterCrop`).
"""

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from captionloop.errors import ConfigurationError


@dataclass(frozen=True)
class View:
    """A part of a photo, mirrored or not.

    `left`, `top`, `extent` are fractions of the photo's width and height; `extent` is the same for both.
    """

    name: str
    left: float = 0.0
    top: float = 0.0
    extent: float = 1.0
    mirrored: bool = False

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part in pixels of a photo of that size: left, top, right, bottom."""
        left, top = self.left * width, self.top * height
        return (left, top, left + self.extent * width, top + self.extent * height)


WHOLE: Final = View("whole")
_CROP: Final = 0.84
_MARGIN: Final = 1 - _CROP
_UPRIGHT: Final = (
    WHOLE,
    View("centre", _MARGIN / 2, _MARGIN / 2, _CROP),
    View("upper-left", 0.0, 0.0, _CROP),
    View("upper-right", _MARGIN, 0.0, _CROP),
    View("lower-left", 0.0, _MARGIN, _CROP),
    View("lower-right", _MARGIN, _MARGIN, _CROP),
)


def _mirrored(view: View) -> View:
    name = "mirrored" if view is WHOLE else f"{view.name}-mirrored"
    return View(name, view.left, view.top, view.extent, mirrored=True)


VIEWS: Final[dict[str, View]] = {
    view.name: view for upright in _UPRIGHT for view in (upright, _mirrored(upright))
}
"""Every view by its name: the whole photo, five crops of 84 %, and the mirror image of each."""


def views_named(names: Iterable[str]) -> tuple[View, ...]:
    """The views of these names, in this order.

    Raises:
        ConfigurationError: a name is not a view.
    """
    return tuple(_view_named(name) for name in names)


def _view_named(name: str) -> View:
    if name not in VIEWS:
        close = difflib.get_close_matches(name, VIEWS, n=3) or list(VIEWS)
        raise ConfigurationError(f"unknown view '{name}' of a photo; did you mean {', '.join(close)}?")
    return VIEWS[name]


IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION: Final = (0.229, 0.224, 0.225)

Grid = NDArray[Any]
Box = tuple[float, float, float, float]
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]


class Preprocessing(BaseModel):
    """What an encoder is fed.

    Attributes:
        mean, deviation: of the red, green and blue values, which go from 0 to 1.
        crop: `squash` scales width and height alike to the square; `center` keeps the shape, and loses what
            lies outside the square in the middle.
        share: side of what is kept, as a share of what was scaled (timm's `crop_pct`).
        interpolation: Pillow's, by its name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mean: tuple[float, float, float] = IMAGENET_MEAN
    deviation: tuple[float, float, float] = IMAGENET_DEVIATION
    crop: Literal["squash", "center"] = "squash"
    share: float = Field(default=1.0, gt=0, le=1)
    interpolation: Interpolation = "bilinear"

    @property
    def scales_roughly(self) -> bool:
        """Whether a JPEG decoder may halve the photo first: our recipe says so, no other does."""
        return (self.crop, self.share, self.interpolation) == ("squash", 1.0, "bilinear")

    @property
    def sees_everything(self) -> bool:
        """Whether the square shows the photo to its edges."""
        return self.crop == "squash" and self.share == 1.0

    def visible_box(self, width: int, height: int, size: int) -> Box:
        """The part of a photo of `width` x `height` px that becomes the square of `size` px, in photo px."""
        scale = math.floor(size / self.share)
        across, down = self._scaled(width, height, scale)
        left, top = round((across - size) / 2), round((down - size) / 2)
        each_way = width / across, height / down
        return (
            left * each_way[0],
            top * each_way[1],
            (left + size) * each_way[0],
            (top + size) * each_way[1],
        )

    def box(self, width: int, height: int, size: int, view: View) -> Box:
        """The part that a view of what is seen shows."""
        if self.sees_everything:
            return view.box(width, height)
        left, top, right, bottom = self.visible_box(width, height, size)
        across, down = right - left, bottom - top
        return (
            left + view.left * across,
            top + view.top * down,
            left + (view.left + view.extent) * across,
            top + (view.top + view.extent) * down,
        )

    def over_photo(self, grid: Grid, width: int, height: int, size: int) -> Grid:
        """A grid `[rows, columns]` of shares over what is seen as one over all of the photo, in cells about
        as large; where nothing is seen it is 0.
        """
        if self.sees_everything:
            return grid
        left, top, right, bottom = self.visible_box(width, height, size)
        down = _spread(grid.shape[0], top, bottom, height)
        across = _spread(grid.shape[1], left, right, width)
        return (down @ grid @ across.T).astype(grid.dtype)

    def _scaled(self, width: int, height: int, side: int) -> tuple[int, int]:
        """Width and height before the square is cut out: torchvision cuts fractions of the longer one off."""
        if self.crop == "squash":
            return side, side
        if width <= height:
            return side, int(side * height / width)
        return int(side * width / height), side


def _spread(cells: int, begin: float, end: float, length: int) -> NDArray[np.float64]:
    """The share of each cell from `begin` to `end` that falls to each from 0 to `length`: `[new, old]`."""
    side = (end - begin) / cells
    new = np.linspace(0, length, max(cells, round(length / side)) + 1)
    old = begin + side * np.arange(cells + 1)
    overlap = np.minimum(new[1:, None], old[None, 1:]) - np.maximum(new[:-1, None], old[None, :-1])
    shares: NDArray[np.float64] = overlap.clip(0) / side
    return shares


SQUASHED: Final = Preprocessing()
"""The project's own recipe; encoders from elsewhere may have another."""
