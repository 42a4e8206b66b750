"""A corpus of coloured things, and features made up so that the colours and things can be read from them."""

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import pandas as pd
import pytest
import torch

from captionloop.training.training_parameters import CrossEntropyParameters

COLOURS = ("red", "green", "blue", "yellow")
THINGS = ("ball", "box", "star", "ring")


class MadeUpFeatures:
    """What training reads of `CachedFeatures`: 2 x 3 regions with 12 channels for each photo and view."""

    fingerprint = "0" * 32
    rows, columns, channels = 2, 3, 12
    regions = 6
    views = ("whole", "mirrored")

    def __init__(self, grids: dict[str, np.ndarray]) -> None:
        self._grids = grids

    def grids(self, sha256s, view="whole"):
        grids = np.stack([self._grids[key] for key in sha256s]).astype(np.float16)
        return grids if view == "whole" else grids[:, ::-1].copy()

    def means(self, sha256s, view="whole"):
        return self.grids(sha256s, view).astype(np.float32).mean(1)


@dataclass(frozen=True)
class Corpus:
    images: pd.DataFrame
    captions: pd.DataFrame
    features: MadeUpFeatures


def draw_corpus(photos: int = 48) -> Corpus:
    random = np.random.default_rng(0)
    looks = random.normal(size=(8, 12)) * 2
    images, captions, grids = [], [], {}
    for number in range(photos):
        colour, thing = number % 4, (number // 4) % 4
        key = sha256(str(number).encode()).hexdigest()
        grid = random.normal(size=(6, 12)) * 0.1
        grid[random.integers(6)] += looks[colour] + looks[4 + thing]
        grids[key] = grid
        split = "val" if number % 6 == 5 else "train"
        images.append((f"p{number:03d}", f"p{number:03d}.png", key, 64, 64, split, "corpus"))
        name = f"{COLOURS[colour]} {THINGS[thing]}"
        for k, text in enumerate((f"A {name}.", f"there is a {name}", f"one {name} on the ground")):
            captions.append((f"c{number:03d}-{k}", f"p{number:03d}", text, "human", 1.0))
    return Corpus(
        pd.DataFrame(images, columns=["image_id", "uri", "sha256", "width", "height", "split", "source"]),
        pd.DataFrame(captions, columns=["caption_id", "image_id", "text", "source", "weight"]),
        MadeUpFeatures(grids),
    )


def small_training(**changes) -> CrossEntropyParameters:
    settings = {
        "decoder": {"kind": "show_attend_tell", "embedding": 24, "hidden": 24, "attention_size": 16},
        "epochs": 4,
        "batch_size": 15,
        "captions_per_photo": 3,
        "learning_rate": 0.02,
        "ema_decay": 0.5,
        "vocabulary": {"min_frequency": 1},
        "precision": "float32",
        "processes": {"accelerator": "cpu"},
    }
    return CrossEntropyParameters.model_validate(settings | changes)


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    return draw_corpus()


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
