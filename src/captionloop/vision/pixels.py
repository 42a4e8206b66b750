"""Decoded photos on disk: training passes over them many times, and decodes them once."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from captionloop.corpus.photos import PhotoFolder
from captionloop.errors import ImageError
from captionloop.images import Pixels, load_square
from captionloop.vision.durable import write_and_rename
from captionloop.vision.progress import progress
from captionloop.vision.runtimes import cores


class PixelFile:
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


def decode_photos(photos: Sequence[tuple[PhotoFolder, str]], size: int, path: Path) -> PixelFile:
    """The photos' squares in a file at `path`, which is there whole or not at all; made if it is not.

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
            for pixels in pool.map(lambda photo: _square(photo, size), photos):
                file.write(np.ascontiguousarray(pixels).data)
                advance(1)

    if not path.exists():
        write_and_rename(path, write)
    return PixelFile(path, size)


def _square(photo: tuple[PhotoFolder, str], size: int) -> Pixels:
    folder, uri = photo
    try:
        return load_square(folder.read(uri), size)
    except ImageError as error:
        raise ImageError(f"{uri}: {error}") from error
