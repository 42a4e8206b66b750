"""Drawing one thing on a small transparent sheet, in coordinates that do not know its size."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from PIL import Image, ImageChops, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]

INK: Final[Colour] = (46, 42, 52)
WOOD: Final[Colour] = (124, 84, 52)
LEAF: Final[Colour] = (72, 140, 62)
CREAM: Final[Colour] = (250, 240, 214)
GLASS: Final[Colour] = (196, 226, 240)


def blend(colour: Colour, other: Colour, amount: float) -> Colour:
    """`colour` with `amount` (0 to 1) of `other` mixed in."""
    red, green, blue = (round(a + (b - a) * amount) for a, b in zip(colour, other, strict=True))
    return red, green, blue


class Pen:
    """A square sheet on which a thing is sketched; (0, 0) is its upper left, (1, 1) its lower right corner.

    What is drawn as `body` takes the thing's colour, shading and pattern; `detail` keeps the colour it is
    given.
    """

    def __init__(self, side: int, colour: Colour) -> None:
        self.side = side
        self.colour = colour
        self._sheet = Image.new("RGBA", (side, side), (0, 0, 0, 0))
        self._mask = Image.new("L", (side, side), 0)
        self._draw = ImageDraw.Draw(self._sheet)
        self._draw_mask = ImageDraw.Draw(self._mask)
        self._edge = blend(colour, INK, 0.62)
        self._width = max(2, round(side * 0.022))

    def _scaled(self, *values: float) -> list[float]:
        return [value * (self.side - 1) for value in values]

    def _points(self, points: Sequence[Point]) -> list[float]:
        return self._scaled(*(value for point in points for value in point))

    def body_ellipse(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """Part of the body: an ellipse in the box from (x0, y0) to (x1, y1)."""
        box = self._scaled(x0, y0, x1, y1)
        self._draw.ellipse(box, fill=self.colour, outline=self._edge, width=self._width)
        self._draw_mask.ellipse(box, fill=255)

    def body_polygon(self, *points: Point) -> None:
        """Part of the body: a polygon."""
        flat = self._points(points)
        self._draw.polygon(flat, fill=self.colour, outline=self._edge, width=self._width)
        self._draw_mask.polygon(flat, fill=255)

    def body_box(self, x0: float, y0: float, x1: float, y1: float, *, rounding: float = 0.0) -> None:
        """Part of the body: a box, its corners rounded by `rounding`."""
        box, radius = self._scaled(x0, y0, x1, y1), rounding * self.side
        self._draw.rounded_rectangle(
            box, radius=radius, fill=self.colour, outline=self._edge, width=self._width
        )
        self._draw_mask.rounded_rectangle(box, radius=radius, fill=255)

    def body_pie(self, x0: float, y0: float, x1: float, y1: float, *, start: float, end: float) -> None:
        """Part of the body: a slice of an ellipse; angles in degrees, clockwise from three o'clock."""
        box = self._scaled(x0, y0, x1, y1)
        self._draw.pieslice(box, start, end, fill=self.colour, outline=self._edge, width=self._width)
        self._draw_mask.pieslice(box, start, end, fill=255)

    def ellipse(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        """A detail: an ellipse."""
        self._draw.ellipse(self._scaled(x0, y0, x1, y1), fill=colour)

    def polygon(self, colour: Colour, *points: Point) -> None:
        """A detail: a polygon."""
        self._draw.polygon(self._points(points), fill=colour)

    def box(
        self, x0: float, y0: float, x1: float, y1: float, colour: Colour, *, rounding: float = 0.0
    ) -> None:
        """A detail: a box."""
        self._draw.rounded_rectangle(self._scaled(x0, y0, x1, y1), radius=rounding * self.side, fill=colour)

    def line(self, colour: Colour, width: float, *points: Point) -> None:
        """A detail: a line through `points`, `width` in parts of the sheet."""
        self._draw.line(
            self._points(points), fill=colour, width=max(1, round(width * self.side)), joint="curve"
        )

    def arc(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        *,
        start: float,
        end: float,
        colour: Colour,
        width: float,
    ) -> None:
        """A detail: part of an ellipse's edge, angles in degrees."""
        thickness = max(1, round(width * self.side))
        self._draw.arc(self._scaled(x0, y0, x1, y1), start, end, fill=colour, width=thickness)

    def stripe(self) -> None:
        """Slanted stripes over all the body drawn so far."""
        pattern = Image.new("L", (self.side, self.side), 0)
        draw = ImageDraw.Draw(pattern)
        step, slant = 0.2 * self.side, 0.35 * self.side
        for start in np.arange(-self.side, 2 * self.side, step):
            draw.line((start, 0, start + slant, self.side), fill=255, width=round(step * 0.45))
        self._overlay(pattern)

    def spot(self) -> None:
        """Round spots over all the body drawn so far."""
        pattern = Image.new("L", (self.side, self.side), 0)
        draw = ImageDraw.Draw(pattern)
        step, radius = 0.2 * self.side, 0.058 * self.side
        for row in range(6):
            for column in range(6):
                x, y = (column + 0.5 * (row % 2)) * step, row * step
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        self._overlay(pattern)

    def _overlay(self, pattern: Image.Image) -> None:
        bright = sum(self.colour) > 560
        ink = blend(self.colour, INK, 0.7) if bright else (252, 250, 244)
        self._sheet.paste(ink, (0, 0), ImageChops.multiply(pattern, self._mask))

    def finish(self, light_colour: tuple[float, float, float]) -> Image.Image:
        """The sheet as RGBA, its body shaded from the upper left, in a light of this colour (1.0: white)."""
        ramp = np.linspace(0.0, 1.0, self.side, dtype=np.float32)
        light = 1.22 - 0.5 * (0.62 * ramp[:, None] + 0.38 * ramp[None, :])  # [side, side]
        body = np.where(np.asarray(self._mask) > 0, light, np.float32(1.0))
        pixels = np.array(self._sheet)  # [side, side, 4]
        tint = np.asarray(light_colour, np.float32)
        pixels[..., :3] = np.minimum(pixels[..., :3] * body[..., None] * tint, 255).astype(np.uint8)
        return Image.fromarray(pixels, "RGBA")
