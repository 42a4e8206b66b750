"""A corpus of coloured squares and a captioner with random weights: everything real but the learning."""

import hashlib
import io
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from captionloop.captioner.captioner import Captioner
from captionloop.captioner.decoders import build_decoder
from captionloop.captioner.model_config import DecodingOptions, ShowAndTellConfig, ShowAttendTellConfig
from captionloop.tokenizer import CaptionTokenizer
from captionloop.vision.encoder import Encoder, EncoderSpec

COLOURS = ["red", "green", "blue", "yellow", "black", "white"]
SPLITS = ["train", "train", "train", "val", "val", "val", "val", "val"]


def png(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize((48, 40)).save(out, "PNG")
    return out.getvalue()


@dataclass(frozen=True)
class Photos:
    """Stands for a PhotoFolder."""

    def read(self, uri: str) -> bytes:
        return png(int(uri.removesuffix(".png")))


@dataclass(frozen=True)
class Features:
    """Stands for cached features: a grid that only the photo decides."""

    fingerprint: str
    regions: int
    channels: int

    def means(self, sha256s, view="whole"):
        return self.grids(sha256s, view).astype(np.float32).mean(1)

    def grids(self, sha256s, view="whole"):
        seeds = [int(sha[:8], 16) for sha in sha256s]
        shape = (self.regions, self.channels)
        return np.stack([np.random.default_rng(seed).normal(size=shape) for seed in seeds]).astype(np.float16)


@pytest.fixture(scope="session")
def images() -> pd.DataFrame:
    rows = [
        {
            "image_id": f"i{n}",
            "uri": f"{n}.png",
            "sha256": hashlib.sha256(png(n)).hexdigest(),
            "width": 48,
            "height": 40,
            "split": split,
            "source": "corpus",
        }
        for n, split in enumerate(SPLITS)
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def captions(images) -> pd.DataFrame:
    rows = [
        {
            "caption_id": f"{image_id}-{k}",
            "image_id": image_id,
            "text": f"A {COLOURS[n % 6]} box {'above' if k else 'under'} a {COLOURS[(n + k + 1) % 6]} one.",
            "source": "human",
            "weight": 1.0,
        }
        for n, image_id in enumerate(images["image_id"])
        for k in range(2)
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    return Encoder.build(EncoderSpec(architecture="resnet10", input_size=64))


@pytest.fixture(scope="session")
def make_captioner(captions, encoder):
    def make(kind: str) -> Captioner:
        torch.manual_seed(1)
        tokenizer = CaptionTokenizer.train(captions["text"])
        sizes = {"embedding": 12, "hidden": 12}
        config = (
            ShowAndTellConfig(**sizes)
            if kind == "show_and_tell"
            else ShowAttendTellConfig(**sizes, attention_size=8)
        )
        decoder = build_decoder(config, vocabulary_size=tokenizer.vocabulary_size, channels=encoder.channels)
        decoding = DecodingOptions(beam_width=2, alternatives=2, max_length=7)
        return Captioner(kind, encoder, decoder, tokenizer, decoding, lineage={"git_commit": "abc"})

    return make


@pytest.fixture(scope="session")
def captioner(make_captioner) -> Captioner:
    return make_captioner("show_attend_tell")


@pytest.fixture(scope="session")
def features(encoder) -> Features:
    return Features(encoder.fingerprint, encoder.rows * encoder.columns, encoder.channels)


@pytest.fixture(scope="session")
def photo_folder() -> Photos:
    return Photos()
