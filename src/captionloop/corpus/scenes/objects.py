"""The things that a scene can show, each sketched with a `Pen`. All stand on the sheet's lower edge."""

import math
from collections.abc import Callable
from typing import Final

from captionloop.corpus.scenes.pen import CREAM, GLASS, INK, LEAF, WOOD, Pen, blend

Sketch = Callable[[Pen], None]

_TYRE = (52, 50, 56)


def _ball(pen: Pen) -> None:
    pen.body_ellipse(0.06, 0.08, 0.96, 0.98)


def _box(pen: Pen) -> None:
    pen.body_box(0.06, 0.3, 0.74, 0.98)
    pen.body_polygon((0.06, 0.3), (0.26, 0.1), (0.94, 0.1), (0.74, 0.3))
    pen.body_polygon((0.74, 0.3), (0.94, 0.1), (0.94, 0.78), (0.74, 0.98))


def _cup(pen: Pen) -> None:
    pen.arc(0.58, 0.34, 0.96, 0.76, start=-100, end=110, colour=blend(pen.colour, INK, 0.3), width=0.08)
    pen.body_polygon((0.1, 0.2), (0.74, 0.2), (0.66, 0.97), (0.18, 0.97))
    pen.ellipse(0.1, 0.12, 0.74, 0.3, blend(pen.colour, INK, 0.5))
    pen.ellipse(0.16, 0.16, 0.68, 0.28, (92, 58, 38))


def _flower(pen: Pen) -> None:
    pen.line(LEAF, 0.06, (0.5, 0.45), (0.5, 0.99))
    pen.polygon(LEAF, (0.5, 0.88), (0.24, 0.72), (0.34, 0.9))
    pen.polygon(LEAF, (0.5, 0.84), (0.76, 0.66), (0.66, 0.86))
    for petal in range(6):
        x = 0.5 + 0.22 * math.cos(petal * math.pi / 3)
        y = 0.33 + 0.22 * math.sin(petal * math.pi / 3)
        pen.body_ellipse(x - 0.16, y - 0.16, x + 0.16, y + 0.16)
    pen.ellipse(0.38, 0.21, 0.62, 0.45, (250, 210, 90) if pen.colour[2] > 90 else (110, 70, 40))


def _mushroom(pen: Pen) -> None:
    pen.box(0.36, 0.45, 0.64, 0.98, CREAM, rounding=0.08)
    pen.line((222, 206, 176), 0.03, (0.58, 0.56), (0.58, 0.94))
    pen.body_pie(0.04, 0.06, 0.96, 1.06, start=180, end=360)


def _duck(pen: Pen) -> None:
    pen.polygon((244, 150, 40), (0.8, 0.26), (0.99, 0.34), (0.8, 0.42))
    pen.body_polygon((0.02, 0.44), (0.3, 0.62), (0.2, 0.86))
    pen.body_ellipse(0.08, 0.46, 0.84, 0.98)
    pen.body_ellipse(0.5, 0.1, 0.88, 0.5)
    pen.body_ellipse(0.24, 0.56, 0.6, 0.84)
    pen.ellipse(0.68, 0.2, 0.77, 0.29, (255, 255, 255))
    pen.ellipse(0.71, 0.22, 0.76, 0.27, INK)


def _umbrella(pen: Pen) -> None:
    pen.line(WOOD, 0.05, (0.5, 0.1), (0.5, 0.98))
    pen.body_pie(0.02, 0.04, 0.98, 1.0, start=180, end=360)
    seam = blend(pen.colour, INK, 0.45)
    pen.line(seam, 0.016, (0.5, 0.05), (0.27, 0.52))
    pen.line(seam, 0.016, (0.5, 0.05), (0.73, 0.52))
    pen.polygon(WOOD, (0.47, 0.06), (0.5, 0.0), (0.53, 0.06))


def _car(pen: Pen) -> None:
    pen.body_polygon((0.2, 0.56), (0.32, 0.3), (0.68, 0.3), (0.84, 0.56))
    pen.body_box(0.02, 0.54, 0.98, 0.84, rounding=0.08)
    pen.polygon(GLASS, (0.28, 0.54), (0.36, 0.36), (0.48, 0.36), (0.48, 0.54))
    pen.polygon(GLASS, (0.53, 0.54), (0.53, 0.36), (0.65, 0.36), (0.75, 0.54))
    for x in (0.24, 0.76):
        pen.ellipse(x - 0.13, 0.72, x + 0.13, 0.98, _TYRE)
        pen.ellipse(x - 0.055, 0.795, x + 0.055, 0.905, (204, 204, 208))
    pen.ellipse(0.9, 0.6, 0.97, 0.68, (255, 240, 170))


def _tree(pen: Pen) -> None:
    pen.polygon(WOOD, (0.42, 0.99), (0.45, 0.5), (0.55, 0.5), (0.58, 0.99))
    pen.body_ellipse(0.06, 0.26, 0.56, 0.72)
    pen.body_ellipse(0.44, 0.26, 0.94, 0.72)
    pen.body_ellipse(0.2, 0.02, 0.8, 0.6)


def _house(pen: Pen) -> None:
    pen.box(0.7, 0.1, 0.8, 0.34, (150, 92, 78))
    pen.body_box(0.12, 0.42, 0.88, 0.98)
    pen.polygon((112, 72, 66), (0.02, 0.46), (0.5, 0.06), (0.98, 0.46))
    pen.box(0.42, 0.64, 0.6, 0.98, (96, 64, 46))
    for x in (0.2, 0.66):
        pen.box(x, 0.54, x + 0.15, 0.7, (255, 240, 186))
        pen.line(WOOD, 0.014, (x + 0.075, 0.54), (x + 0.075, 0.7))


def _boat(pen: Pen) -> None:
    pen.line(WOOD, 0.035, (0.48, 0.04), (0.48, 0.74))
    pen.polygon((250, 248, 240), (0.51, 0.08), (0.51, 0.64), (0.86, 0.64))
    pen.polygon((232, 230, 224), (0.45, 0.18), (0.45, 0.64), (0.2, 0.64))
    pen.body_polygon((0.03, 0.7), (0.97, 0.7), (0.8, 0.96), (0.2, 0.96))


def _balloon(pen: Pen) -> None:
    pen.line(INK, 0.014, (0.5, 0.72), (0.46, 0.84), (0.54, 0.92), (0.5, 1.0))
    pen.body_polygon((0.44, 0.76), (0.56, 0.76), (0.5, 0.68))
    pen.body_ellipse(0.18, 0.02, 0.82, 0.72)
    pen.ellipse(0.3, 0.12, 0.4, 0.28, blend(pen.colour, (255, 255, 255), 0.6))


def _kite(pen: Pen) -> None:
    pen.line(INK, 0.016, (0.5, 0.7), (0.62, 0.8), (0.44, 0.88), (0.58, 1.0))
    for x, y in ((0.62, 0.8), (0.44, 0.88)):
        pen.polygon(
            (240, 240, 236),
            (x - 0.07, y - 0.04),
            (x + 0.07, y + 0.04),
            (x + 0.07, y - 0.04),
            (x - 0.07, y + 0.04),
        )
    pen.body_polygon((0.5, 0.0), (0.88, 0.28), (0.5, 0.74), (0.12, 0.28))
    seam = blend(pen.colour, INK, 0.5)
    pen.line(seam, 0.018, (0.5, 0.0), (0.5, 0.74))
    pen.line(seam, 0.018, (0.12, 0.28), (0.88, 0.28))


def _cat(pen: Pen) -> None:
    pen.arc(0.62, 0.4, 1.0, 1.0, start=60, end=290, colour=pen.colour, width=0.08)
    pen.body_ellipse(0.18, 0.42, 0.78, 0.98)
    pen.body_polygon((0.24, 0.26), (0.28, 0.02), (0.46, 0.14))
    pen.body_polygon((0.72, 0.26), (0.68, 0.02), (0.5, 0.14))
    pen.body_ellipse(0.2, 0.1, 0.76, 0.54)
    for x in (0.34, 0.54):
        pen.ellipse(x, 0.25, x + 0.09, 0.36, (250, 250, 210))
        pen.ellipse(x + 0.03, 0.26, x + 0.065, 0.35, INK)
    pen.polygon((228, 120, 130), (0.45, 0.38), (0.52, 0.38), (0.485, 0.43))


def _rocket(pen: Pen) -> None:
    pen.polygon((250, 170, 50), (0.4, 0.82), (0.6, 0.82), (0.5, 1.0))
    pen.body_polygon((0.34, 0.56), (0.14, 0.88), (0.36, 0.82))
    pen.body_polygon((0.66, 0.56), (0.86, 0.88), (0.64, 0.82))
    pen.body_polygon(
        (0.5, 0.0), (0.64, 0.2), (0.68, 0.5), (0.62, 0.84), (0.38, 0.84), (0.32, 0.5), (0.36, 0.2)
    )
    pen.ellipse(0.4, 0.28, 0.6, 0.48, (244, 244, 240))
    pen.ellipse(0.43, 0.31, 0.57, 0.45, (92, 150, 190))


def _cactus(pen: Pen) -> None:
    pen.body_box(0.38, 0.04, 0.62, 0.8, rounding=0.12)
    pen.body_box(0.1, 0.24, 0.26, 0.56, rounding=0.08)
    pen.body_box(0.14, 0.44, 0.46, 0.58, rounding=0.06)
    pen.body_box(0.74, 0.16, 0.9, 0.48, rounding=0.08)
    pen.body_box(0.54, 0.36, 0.86, 0.5, rounding=0.06)
    pen.polygon((186, 104, 70), (0.26, 0.76), (0.74, 0.76), (0.66, 0.99), (0.34, 0.99))


def _lamp(pen: Pen) -> None:
    pen.line((96, 92, 100), 0.05, (0.5, 0.4), (0.5, 0.94))
    pen.box(0.28, 0.9, 0.72, 0.99, (96, 92, 100), rounding=0.03)
    pen.polygon((255, 244, 190), (0.18, 0.5), (0.82, 0.5), (0.94, 0.7), (0.06, 0.7))
    pen.body_polygon((0.34, 0.06), (0.66, 0.06), (0.86, 0.52), (0.14, 0.52))


def _clock(pen: Pen) -> None:
    for x in (0.22, 0.7):
        pen.box(x, 0.86, x + 0.08, 0.99, INK)
    pen.body_ellipse(0.05, 0.04, 0.95, 0.94)
    pen.ellipse(0.17, 0.16, 0.83, 0.82, (252, 250, 242))
    for hour in range(12):
        x, y = 0.5 + 0.27 * math.cos(hour * math.pi / 6), 0.49 + 0.27 * math.sin(hour * math.pi / 6)
        pen.ellipse(x - 0.018, y - 0.018, x + 0.018, y + 0.018, INK)
    pen.line(INK, 0.045, (0.5, 0.49), (0.5, 0.27))
    pen.line(INK, 0.035, (0.5, 0.49), (0.66, 0.56))


def _robot(pen: Pen) -> None:
    pen.line((120, 120, 128), 0.03, (0.5, 0.16), (0.5, 0.03))
    pen.ellipse(0.45, 0.0, 0.55, 0.09, (236, 80, 70))
    pen.body_box(0.3, 0.14, 0.7, 0.42, rounding=0.05)
    pen.body_box(0.06, 0.48, 0.2, 0.76, rounding=0.05)
    pen.body_box(0.8, 0.48, 0.94, 0.76, rounding=0.05)
    pen.body_box(0.3, 0.78, 0.44, 0.98)
    pen.body_box(0.56, 0.78, 0.7, 0.98)
    pen.body_box(0.22, 0.44, 0.78, 0.84, rounding=0.04)
    for x in (0.36, 0.54):
        pen.ellipse(x, 0.21, x + 0.1, 0.31, (250, 250, 240))
        pen.ellipse(x + 0.03, 0.24, x + 0.07, 0.28, INK)
    pen.box(0.34, 0.54, 0.66, 0.7, (70, 74, 84), rounding=0.02)
    pen.ellipse(0.39, 0.58, 0.46, 0.65, (120, 220, 140))
    pen.ellipse(0.54, 0.58, 0.61, 0.65, (250, 200, 90))


def _pumpkin(pen: Pen) -> None:
    pen.polygon((94, 112, 58), (0.44, 0.3), (0.42, 0.08), (0.56, 0.06), (0.56, 0.3))
    pen.body_ellipse(0.02, 0.24, 0.5, 0.96)
    pen.body_ellipse(0.5, 0.24, 0.98, 0.96)
    pen.body_ellipse(0.16, 0.22, 0.6, 0.98)
    pen.body_ellipse(0.4, 0.22, 0.84, 0.98)
    pen.body_ellipse(0.34, 0.22, 0.66, 0.98)


def _guitar(pen: Pen) -> None:
    pen.box(0.45, 0.02, 0.55, 0.6, (92, 62, 44))
    pen.box(0.41, 0.0, 0.59, 0.12, (70, 48, 36), rounding=0.02)
    pen.body_ellipse(0.26, 0.38, 0.74, 0.74)
    pen.body_ellipse(0.18, 0.58, 0.82, 0.99)
    pen.ellipse(0.4, 0.56, 0.6, 0.74, (60, 44, 38))
    pen.box(0.38, 0.84, 0.62, 0.88, (60, 44, 38))
    pen.line((240, 236, 220), 0.012, (0.48, 0.04), (0.48, 0.86))
    pen.line((240, 236, 220), 0.012, (0.52, 0.04), (0.52, 0.86))


#: Every sketch by the noun that names it.
SKETCHES: Final[dict[str, Sketch]] = {
    "ball": _ball,
    "box": _box,
    "cup": _cup,
    "flower": _flower,
    "mushroom": _mushroom,
    "duck": _duck,
    "umbrella": _umbrella,
    "car": _car,
    "tree": _tree,
    "house": _house,
    "boat": _boat,
    "balloon": _balloon,
    "kite": _kite,
    "cat": _cat,
    "rocket": _rocket,
    "cactus": _cactus,
    "lamp": _lamp,
    "clock": _clock,
    "robot": _robot,
    "pumpkin": _pumpkin,
    "guitar": _guitar,
}
