"""From the facts of a scene to the bytes of a picture."""

import io
import random
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from captionloop.corpus.scenes.backgrounds import LIGHTS, Stage
from captionloop.corpus.scenes.composition import Facts
from captionloop.corpus.scenes.domain import SceneDomain
from captionloop.corpus.scenes.pen import Pen
from captionloop.corpus.scenes.staging import Spot, stage_things
from captionloop.corpus.scenes.things import SKETCHES

_SUPERSAMPLING: Final = 2
_JPEG_QUALITY: Final = 92


def draw(domain: SceneDomain, facts: Facts, side: int, rng: random.Random) -> bytes:
    """The scene as a JPEG of `side` x `side` px: background, things from back to front, light, noise."""
    canvas = Image.new("RGB", (side * _SUPERSAMPLING,) * 2)
    stage = Stage(canvas, facts.light, facts.extras, rng.uniform(0.42, 0.52), rng)
    domain.places[facts.place].paint(stage)
    for spot in sorted(stage_things(domain, facts, rng), key=lambda spot: spot.y):
        _place(stage, domain, spot)
    return _encode(canvas.reduce(_SUPERSAMPLING), rng)


def _place(stage: Stage, domain: SceneDomain, spot: Spot) -> None:
    group = spot.group
    pixels = max(8, round(spot.side * stage.side))
    pen = Pen(pixels, domain.colours[group.colour])
    SKETCHES[group.noun](pen)
    if group.pattern == "striped":
        pen.stripe()
    elif group.pattern == "spotted":
        pen.spot()
    sheet = pen.finish(_near_light(stage.light))
    if stage.rng.random() < 0.5:
        sheet = sheet.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    sheet = sheet.rotate(stage.rng.uniform(-5, 5), Image.Resampling.BILINEAR)
    if group.home != "sky":
        _shadow(stage, spot)
    corner = (round(spot.x * stage.side - pixels / 2), round(spot.y * stage.side - pixels))
    stage.canvas.paste(sheet, corner, sheet)


def _near_light(light: str) -> tuple[float, float, float]:
    """Things keep a little more of their colour than the ground: they are nearer."""
    red, green, blue = (0.25 + 0.75 * part for part in LIGHTS[light].tint)
    return red, green, blue


def _shadow(stage: Stage, spot: Spot) -> None:
    width = round(spot.side * stage.side)
    dark = Image.new("L", (64, 32), 0)
    ImageDraw.Draw(dark).ellipse((17, 11, 48, 20), fill=105)
    dark = dark.filter(ImageFilter.GaussianBlur(1.3)).resize((2 * width, width), Image.Resampling.BILINEAR)
    corner = (round(spot.x * stage.side - width), round(spot.y * stage.side - 0.5 * width))
    stage.canvas.paste((22, 24, 40), corner, dark)


def _encode(picture: Image.Image, rng: random.Random) -> bytes:
    """Noise, brightness, contrast and a vignette as of a small camera, then JPEG."""
    side = picture.width
    pixels = np.asarray(picture, dtype=np.float32)
    pixels = (pixels - 128) * rng.uniform(0.92, 1.06) + 128 + rng.uniform(-8, 8)
    grid = np.linspace(-1, 1, side, dtype=np.float32)
    pixels *= 1 - rng.uniform(0.0, 0.16) * ((grid[:, None] ** 2 + grid[None, :] ** 2) / 2)[..., None]
    bits = np.frombuffer(rng.randbytes(3 * side * side), dtype=np.uint8).reshape(side, side, 3)
    pixels = pixels + (bits.astype(np.float32) / 127.5 - 1) * rng.uniform(2, 9)
    out = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8), "RGB").save(
        out, "JPEG", quality=_JPEG_QUALITY, subsampling=0
    )
    return out.getvalue()
