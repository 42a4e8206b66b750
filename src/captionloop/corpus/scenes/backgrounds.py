"""Where a scene takes place: sky, ground, textures and the light over them."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from captionloop.corpus.scenes.pen import Colour, blend

Paint = Callable[["Stage"], None]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Light:
    """The sky's colours from the zenith to the horizon, and what the light does to everything below."""

    zenith: Colour
    horizon: Colour
    tint: tuple[float, float, float]


LIGHTS: Final = {
    "day": Light((112, 180, 240), (218, 238, 250), (1.0, 1.0, 1.0)),
    "sunset": Light((104, 72, 134), (255, 164, 88), (1.0, 0.84, 0.72)),
    "night": Light((10, 14, 44), (48, 58, 112), (0.56, 0.62, 0.84)),
    "fog": Light((196, 202, 206), (222, 226, 228), (0.94, 0.96, 0.97)),
    "starlight": Light((6, 6, 18), (22, 20, 46), (0.86, 0.86, 0.98)),
}


@dataclass
class Stage:
    """The canvas of one scene while its background is painted. Lengths are parts of `side`."""

    canvas: Image.Image
    light: str
    extras: tuple[str, ...]
    horizon: float
    rng: random.Random

    def __post_init__(self) -> None:
        self.side = self.canvas.width

    def px(self, *values: float) -> list[float]:
        """Lengths in pixels of the canvas."""
        return [value * self.side for value in values]

    def lit(self, colour: Colour) -> Colour:
        """`colour` as the light of this scene shows it."""
        red, green, blue = (
            round(min(255, c * t)) for c, t in zip(colour, LIGHTS[self.light].tint, strict=True)
        )
        return red, green, blue

    def gradient(
        self, top: float, bottom: float, above: Colour, below: Colour, *, grain: float = 0.0
    ) -> None:
        """Fills the rows from `top` to `bottom`, with soft irregular patches of strength `grain`."""
        first, last = round(top * self.side), round(bottom * self.side)
        height, width = max(1, (last - first) // 2), self.side // 2  # soft as it is, half the size will do
        ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
        rows = np.asarray(above, np.float32) * (1 - ramp) + np.asarray(below, np.float32) * ramp
        area = np.clip(rows + grain * self._patches(height, width), 0, 255).astype(np.uint8)
        filled = Image.fromarray(area, "RGB").resize((self.side, last - first), Image.Resampling.BILINEAR)
        self.canvas.paste(filled, (0, first))

    def _patches(self, height: int, width: int) -> FloatArray:
        """Noise that is alike nearby, about -1 to 1: [height, width, 1]."""
        coarse = np.frombuffer(self.rng.randbytes(14 * 10), dtype=np.uint8).reshape(10, 14)
        fine = np.frombuffer(self.rng.randbytes(56 * 40), dtype=np.uint8).reshape(40, 56)
        soft = np.asarray(Image.fromarray(coarse).resize((56, 40), Image.Resampling.BICUBIC), np.float32)
        mixed = Image.fromarray(((0.6 * soft + 0.4 * fine) / 127.5 - 1.0).astype(np.float32))
        return np.asarray(mixed.resize((width, height), Image.Resampling.BILINEAR), np.float32)[..., None]

    def pen(self) -> ImageDraw.ImageDraw:
        """What draws on the canvas."""
        return ImageDraw.Draw(self.canvas)


def paint_sky(stage: Stage) -> None:
    """Sky down to the horizon, with its sun, moon, stars, clouds, hills and birds."""
    light = LIGHTS[stage.light]
    stage.gradient(0, stage.horizon + 0.02, light.zenith, light.horizon, grain=5)
    draw, rng = stage.pen(), stage.rng
    if stage.light in {"night", "starlight"}:
        for _ in range(34):
            x, y, r = rng.random(), rng.uniform(0, stage.horizon), rng.uniform(0.002, 0.006)
            draw.ellipse(stage.px(x - r, y - r, x + r, y + r), fill=(236, 236, 214))
    _sun_or_moon(stage)
    if "mountains" in stage.extras:
        _mountains(stage)
    if "clouds" in stage.extras:
        _clouds(stage)
    if "birds" in stage.extras:
        ink = blend(light.zenith, (20, 20, 30), 0.7)
        for _ in range(3):
            x, y, s = rng.uniform(0.1, 0.9), rng.uniform(0.06, 0.22), rng.uniform(0.018, 0.028)
            for offset in (-s, s):
                draw.arc(stage.px(x + offset - s, y - s, x + offset + s, y + s), 200, 340, fill=ink, width=3)


def _sun_or_moon(stage: Stage) -> None:
    draw, rng = stage.pen(), stage.rng
    x = rng.choice((rng.uniform(0.08, 0.2), rng.uniform(0.8, 0.92)))
    if stage.light == "sunset":
        y, r = stage.horizon - 0.02, 0.1
        glow = blend(LIGHTS["sunset"].horizon, (255, 226, 130), 0.5)
        draw.ellipse(stage.px(x - 1.5 * r, y - 1.5 * r, x + 1.5 * r, y + 1.5 * r), fill=glow)
        draw.ellipse(stage.px(x - r, y - r, x + r, y + r), fill=(255, 238, 160))
    elif stage.light == "night":
        y, r = rng.uniform(0.1, 0.18), 0.062
        draw.ellipse(stage.px(x - r, y - r, x + r, y + r), fill=(246, 242, 214))
        behind = stage.canvas.getpixel((round(x * stage.side), round((y - 1.5 * r) * stage.side)))
        draw.ellipse(stage.px(x - 0.3 * r, y - 1.1 * r, x + 1.4 * r, y + 0.6 * r), fill=behind)
    elif "sun" in stage.extras:
        y, r = rng.uniform(0.1, 0.16), 0.075
        draw.ellipse(stage.px(x - 1.4 * r, y - 1.4 * r, x + 1.4 * r, y + 1.4 * r), fill=(246, 240, 190))
        draw.ellipse(stage.px(x - r, y - r, x + r, y + r), fill=(255, 222, 92))


def _mountains(stage: Stage) -> None:
    draw, rng = stage.pen(), stage.rng
    for contrast, height in ((0.42, 0.26), (0.6, 0.17)):
        colour = blend(LIGHTS[stage.light].horizon, stage.lit((84, 98, 128)), contrast)
        peaks = [(-0.1, 0.0)]
        while peaks[-1][0] < 1.1:
            peaks.append((peaks[-1][0] + rng.uniform(0.12, 0.22), rng.uniform(0.35, 1.0) * height))
        ridge = [value for x, y in peaks for value in stage.px(x, stage.horizon - y)]
        draw.polygon([*ridge, *stage.px(1.2, stage.horizon + 0.03, -0.1, stage.horizon + 0.03)], fill=colour)


def _clouds(stage: Stage) -> None:
    rng = stage.rng
    veil = Image.new("L", stage.canvas.size, 0)
    draw = ImageDraw.Draw(veil)
    for _ in range(rng.randint(2, 3)):
        x, y, s = rng.uniform(0.05, 0.95), rng.uniform(0.06, 0.24), rng.uniform(0.05, 0.08)
        for dx, dy, r in ((-1.1, 0.2, 0.6), (0, 0, 1.0), (1.1, 0.15, 0.7), (0.5, -0.4, 0.7)):
            cx, cy, radius = x + dx * s, y + dy * s, r * s
            draw.ellipse(stage.px(cx - radius, cy - 0.8 * radius, cx + radius, cy + 0.8 * radius), fill=215)
    bright = blend(LIGHTS[stage.light].horizon, (255, 255, 255), 0.25 if stage.light == "night" else 0.6)
    stage.canvas.paste(bright, (0, 0), veil.filter(ImageFilter.GaussianBlur(stage.side * 0.008)))


def _shades(stage: Stage, colours: tuple[Colour, Colour]) -> list[Colour]:
    return [stage.lit(blend(*colours, step / 6)) for step in range(7)]


def _strokes(stage: Stage, colours: tuple[Colour, Colour], count: int, length: float, lean: float) -> None:
    draw, rng, shades = stage.pen(), stage.rng, _shades(stage, colours)
    for _ in range(count):
        depth = rng.random() ** 0.8
        x, y = rng.random(), stage.horizon + 0.02 + depth * (0.98 - stage.horizon)
        size = length * (0.35 + depth)
        tip = x + rng.uniform(-lean, lean) * size
        draw.line(stage.px(x, y, tip, y - size), fill=rng.choice(shades), width=2)


def _specks(stage: Stage, colours: tuple[Colour, Colour], count: int, top: float) -> None:
    draw, rng, shades = stage.pen(), stage.rng, _shades(stage, colours)
    for _ in range(count):
        x, y = rng.random(), rng.uniform(top, 1.0)
        r = rng.uniform(0.002, 0.007) * (0.4 + y)
        colour = rng.choice(shades)
        draw.ellipse(stage.px(x - r, y - 0.6 * r, x + r, y + 0.6 * r), fill=colour)


def _waves(stage: Stage, top: float, bottom: float, count: int, colour: Colour) -> None:
    draw, rng = stage.pen(), stage.rng
    for _ in range(count):
        depth = rng.random()
        x, y, w = rng.random(), top + depth * (bottom - top), 0.02 + 0.05 * depth
        draw.arc(stage.px(x - w, y, x + w, y + 0.5 * w), 20, 160, fill=stage.lit(colour), width=2)


def paint_meadow(stage: Stage) -> None:
    """Grass."""
    paint_sky(stage)
    stage.gradient(stage.horizon, 1, stage.lit((136, 190, 98)), stage.lit((86, 150, 66)), grain=12)
    _strokes(stage, ((70, 132, 54), (160, 204, 104)), 240, 0.05, 0.5)


def paint_beach(stage: Stage) -> None:
    """A strip of sea, foam, and sand."""
    paint_sky(stage)
    shore = stage.horizon + 0.11
    stage.gradient(stage.horizon, shore, stage.lit((56, 132, 178)), stage.lit((92, 178, 200)), grain=6)
    _waves(stage, stage.horizon, shore, 26, (190, 226, 236))
    stage.gradient(shore, 1, stage.lit((246, 224, 170)), stage.lit((228, 194, 130)), grain=9)
    stage.pen().line(stage.px(0, shore, 1, shore), fill=stage.lit((250, 250, 246)), width=5)
    _specks(stage, ((206, 170, 110), (252, 238, 200)), 150, shore + 0.03)


def paint_snow(stage: Stage) -> None:
    """Snow on the ground, and sometimes in the air."""
    paint_sky(stage)
    stage.gradient(stage.horizon, 1, stage.lit((232, 240, 250)), stage.lit((206, 220, 240)), grain=9)
    _specks(stage, ((190, 206, 232), (255, 255, 255)), 90, stage.horizon + 0.04)


def paint_street(stage: Stage) -> None:
    """A road with its kerb and dashes, and the town's outline behind."""
    paint_sky(stage)
    draw, rng, x = stage.pen(), stage.rng, -0.02
    while x < 1.0:
        width, height = rng.uniform(0.08, 0.16), rng.uniform(0.06, 0.2)
        wall = blend(LIGHTS[stage.light].horizon, stage.lit((150, 142, 150)), rng.uniform(0.45, 0.7))
        draw.rectangle(stage.px(x, stage.horizon - height, x + width, stage.horizon), fill=wall)
        x += width
    stage.gradient(
        stage.horizon, stage.horizon + 0.08, stage.lit((190, 186, 180)), stage.lit((204, 200, 192))
    )
    stage.gradient(stage.horizon + 0.08, 1, stage.lit((116, 116, 124)), stage.lit((92, 92, 100)), grain=7)
    middle = (stage.horizon + 1.1) / 2
    for start in np.arange(rng.uniform(-0.2, 0.0), 1.0, 0.26):
        draw.rectangle(stage.px(start, middle, start + 0.14, middle + 0.022), fill=stage.lit((238, 232, 206)))


def paint_table(stage: Stage) -> None:
    """A wooden table before a papered wall."""
    rng = stage.rng
    wall = rng.choice(((216, 204, 186), (186, 204, 206), (214, 192, 194), (196, 208, 186)))
    stage.gradient(0, stage.horizon + 0.02, blend(wall, (255, 255, 255), 0.2), wall, grain=5)
    draw = stage.pen()
    for x in np.arange(rng.uniform(0, 0.1), 1.0, 0.125):
        draw.rectangle(stage.px(x, 0, x + 0.05, stage.horizon), fill=blend(wall, (255, 255, 255), 0.32))
    stage.gradient(stage.horizon, 1, (186, 132, 84), (158, 106, 64), grain=8)
    for _ in range(26):
        y, x, w = rng.uniform(stage.horizon + 0.02, 1.0), rng.uniform(-0.2, 0.9), rng.uniform(0.1, 0.4)
        draw.line(stage.px(x, y, x + w, y + rng.uniform(-0.006, 0.006)), fill=(142, 94, 56), width=2)
    draw.line(stage.px(0, stage.horizon, 1, stage.horizon), fill=(120, 78, 46), width=4)


def paint_lake(stage: Stage) -> None:
    """Water up to a wooded shore."""
    paint_sky(stage)
    draw, rng = stage.pen(), stage.rng
    for _ in range(30):
        x, r = rng.random(), rng.uniform(0.025, 0.05)
        colour = stage.lit(blend((60, 110, 74), (90, 140, 92), rng.random()))
        draw.ellipse(stage.px(x - r, stage.horizon - r, x + r, stage.horizon + r), fill=colour)
    stage.gradient(stage.horizon, 1, stage.lit((104, 168, 206)), stage.lit((44, 112, 170)), grain=9)
    _waves(stage, stage.horizon + 0.02, 1.0, 70, (176, 214, 236))


def paint_desert(stage: Stage) -> None:
    """Dunes."""
    paint_sky(stage)
    stage.gradient(stage.horizon, 1, stage.lit((232, 158, 92)), stage.lit((196, 116, 62)), grain=10)
    draw, rng = stage.pen(), stage.rng
    for offset in (0.1, 0.2, 0.3):
        x, y, w = rng.uniform(0, 1), stage.horizon + offset, rng.uniform(0.4, 0.7)
        colour = stage.lit(blend((226, 148, 84), (180, 100, 54), offset * 2))
        draw.chord(stage.px(x - w, y - 0.07, x + w, y + 0.25), 180, 360, fill=colour)


def paint_moon(stage: Stage) -> None:
    """Grey ground with craters under a black sky."""
    paint_sky(stage)
    draw, rng = stage.pen(), stage.rng
    x = rng.uniform(0.15, 0.85)
    draw.ellipse(stage.px(x - 0.09, 0.06, x + 0.09, 0.24), fill=(84, 140, 196))
    draw.chord(stage.px(x - 0.08, 0.08, x + 0.05, 0.22), 60, 250, fill=(120, 170, 120))
    stage.gradient(stage.horizon, 1, (150, 150, 158), (112, 112, 122), grain=12)
    for _ in range(9):
        x, y = rng.random(), rng.uniform(stage.horizon + 0.05, 0.98)
        w = rng.uniform(0.03, 0.08) * (0.5 + y)
        draw.ellipse(stage.px(x - w, y - 0.35 * w, x + w, y + 0.35 * w), fill=(98, 98, 108))
        draw.arc(stage.px(x - w, y - 0.35 * w, x + w, y + 0.35 * w), 0, 180, fill=(186, 186, 194), width=3)


def paint_carpet(stage: Stage) -> None:
    """A patterned carpet before a wall of bricks."""
    draw, rng = stage.pen(), stage.rng
    stage.gradient(0, stage.horizon + 0.02, (196, 112, 88), (176, 96, 76), grain=8)
    for row, y in enumerate(np.arange(0, stage.horizon, 0.07)):
        draw.line(stage.px(0, y, 1, y), fill=(222, 186, 166), width=3)
        for x in np.arange(-0.07 * (row % 2), 1.0, 0.15):
            draw.line(stage.px(x, y, x, y + 0.07), fill=(222, 186, 166), width=3)
    base = rng.choice(((78, 98, 140), (120, 70, 96), (70, 110, 104)))
    stage.gradient(stage.horizon, 1, base, blend(base, (20, 20, 30), 0.25), grain=8)
    for row, y in enumerate(np.arange(stage.horizon + 0.07, 1.0, 0.1)):
        for x in np.arange(0.06 * (row % 2), 1.05, 0.12):
            diamond = stage.px(x, y - 0.022, x + 0.024, y, x, y + 0.022, x - 0.024, y)
            draw.polygon(diamond, fill=blend(base, (240, 220, 170), 0.55))
