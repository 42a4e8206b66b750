"""Decoded photos on disk in, augmented batches of pixels out: the same in the same epoch."""

import math
import os
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from captionloop.errors import ImageError
from captionloop.files import write_file
from captionloop.images import Pixels, load_square
from captionloop.photos import PhotoFolder
from captionloop.preprocessing import Preprocessing
from captionloop.progress import progress
from captionloop.training.training_parameters import AugmentationParameters
from captionloop.vision.runtimes import cores

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


class DecodedPhotos:
    """Squares uint8 `[n, size, size, 3]` of photos; read by position, so that memory stays free."""

    def __init__(self, path: Path, size: int) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        self._size = size

    def __getitem__(self, number: int) -> Pixels:
        pixels = np.empty((self._size, self._size, 3), np.uint8)
        os.preadv(self._descriptor, [pixels.data], number * pixels.nbytes)
        return pixels

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)


def decode_photos(
    photos: Sequence[tuple[PhotoFolder, str]], size: int, preprocessing: Preprocessing, path: Path
) -> DecodedPhotos:
    """The photos' squares in a file at `path`, which is there whole or not at all; made if it is not, and
    made anew if it is of another size: what is read beyond its end would be whatever lies in memory.

    A photo is a folder and a uri in it.

    Raises:
        ImageError: a photo cannot be decoded; the message begins with its uri.
        CorpusError: a photo is missing.
    """

    def write(partial: Path) -> None:
        with (
            ThreadPoolExecutor(cores()) as pool,
            partial.open("wb") as file,
            progress("Decoding", len(photos), "photos") as advance,
        ):
            for pixels in pool.map(lambda photo: _square(photo, size, preprocessing), photos):
                file.write(np.ascontiguousarray(pixels).data)
                advance(1)

    if not path.exists() or path.stat().st_size != len(photos) * size * size * 3:
        write_file(path, write)
    return DecodedPhotos(path, size)


def _square(photo: tuple[PhotoFolder, str], size: int, preprocessing: Preprocessing) -> Pixels:
    folder, uri = photo
    try:
        return load_square(folder.read(uri), size, by=preprocessing)
    except ImageError as error:
        raise ImageError(f"{uri}: {error}") from error
