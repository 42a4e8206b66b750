"""Tiny photos and a tiny encoder."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from captionloop.photos import PhotoFolder
from captionloop.vision.encoder import Encoder, EncoderSpec

SIDE = 32


def picture(seed: int, width: int = 40, height: int = 30, **save: object) -> bytes:
    """A smooth random picture as a JPEG, so that decoding and scaling hardly change it."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=95, **save)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    return Encoder.build(EncoderSpec(architecture="resnet10", input_size=SIDE, layer="layer1"), seed=1)


@pytest.fixture
def corpus(tmp_path: Path) -> Callable[[int], tuple[pd.DataFrame, PhotoFolder]]:
    """Makes a folder of that many photos, and their images table."""

    def make(count: int) -> tuple[pd.DataFrame, PhotoFolder]:
        folder = PhotoFolder(str(tmp_path / "photos"))
        rows = []
        for number in range(count):
            data = picture(number)
            folder.write(f"{number}.jpg", data)
            rows.append((f"image{number}", f"{number}.jpg", hashlib.sha256(data).hexdigest(), "train"))
        return pd.DataFrame(rows, columns=["image_id", "uri", "sha256", "split"]), folder

    return make
