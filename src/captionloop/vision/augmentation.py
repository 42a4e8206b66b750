"""Augmentation: each epoch sees each photo a little differently, and always the same in the same epoch."""

import math
import random

import numpy as np
from PIL import Image, ImageEnhance

from captionloop.images import Pixels
from captionloop.vision.parameters import AugmentationParameters

_SHAPES = (math.log(0.8), math.log(1.25))


def augment(pixels: Pixels, size: int, parameters: AugmentationParameters, seed: str) -> Pixels:
    """A random part of a photo uint8 `[S, S, 3]`, squashed to `[size, size, 3]`; `seed` decides which."""
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    photo = Image.fromarray(pixels)
    if parameters.smallest_area < 1:
        photo = photo.resize(
            (size, size), Image.Resampling.BILINEAR, box=_part(photo.width, parameters, chance)
        )
    elif photo.width != size:
        photo = photo.resize((size, size), Image.Resampling.BILINEAR)
    if parameters.brightness:
        factor = chance.uniform(1 - parameters.brightness, 1 + parameters.brightness)
        photo = ImageEnhance.Brightness(photo).enhance(factor)
    if parameters.saturation:
        factor = chance.uniform(1 - parameters.saturation, 1 + parameters.saturation)
        photo = ImageEnhance.Color(photo).enhance(factor)
    seen = np.asarray(photo)
    return seen[:, ::-1] if parameters.mirror and chance.random() < 0.5 else seen


def _part(
    side: int, parameters: AugmentationParameters, chance: random.Random
) -> tuple[float, float, float, float]:
    area = chance.uniform(parameters.smallest_area, 1.0)
    shape = math.exp(chance.uniform(*_SHAPES))
    width = min(side, side * math.sqrt(area * shape))
    height = min(side, side * math.sqrt(area / shape))
    left, top = chance.uniform(0, side - width), chance.uniform(0, side - height)
    return (left, top, left + width, top + height)
