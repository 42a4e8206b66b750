"""JPEG files to measure on: those of a folder, or drawn ones that are as much work to decode as photos."""

import io
import random
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = ((224, 224), (320, 240), (500, 375), (375, 500))


def draw_jpeg(width: int, height: int, seed: int) -> bytes:
    """Noise with as much power at every scale, as photos have: about 0.6 bits a pixel."""
    random_numbers = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 128.0, np.float32)
    for octave in range(6):
        shape = (max(2, height >> octave), max(2, width >> octave), 3)
        noise = random_numbers.normal(0, 4.0 * 1.6**octave, shape).astype(np.float32)
        planes = [
            np.asarray(Image.fromarray(noise[..., i]).resize((width, height), Image.Resampling.BICUBIC))
            for i in range(3)
        ]
        pixels += np.stack(planes, -1) * (octave > 0 or 0.5)
    data = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=85)
    return data.getvalue()


def jpeg_files(folder: Path, count: int, photos: Path | None) -> list[Path]:
    """`count` files: some of `photos`, the same in every run, or else drawn into `folder`."""
    if photos is not None:
        found = sorted(photos.glob("*.jpg"))
        return random.Random(0).choices(found, k=count)
    files = []
    for number in range(count):
        path = folder / f"{number}.jpg"
        if number < 64:
            path.write_bytes(draw_jpeg(*SIZES[number % len(SIZES)], seed=number))
        else:  # the same again: drawing takes longer than what is measured
            path.write_bytes(files[number % 64].read_bytes())
        files.append(path)
    return files
