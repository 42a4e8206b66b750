"""Views: the ways in which one photo is shown to an encoder.

Cached features cannot be augmented afterwards, so each augmentation is a view with cache entries of its own,
and training draws a view per photo and epoch.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

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
