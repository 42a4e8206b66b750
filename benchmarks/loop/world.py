"""The pictures of a play, and how well a captioner speaks of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks.loop.project import configured
from captionloop.captioner.captioner import Captioner
from captionloop.corpus.scenes import SceneParameters, draw_scenes
from captionloop.corpus.scenes.render import Scene
from captionloop.photos import PhotoFolder
from captionloop.scoring.cider import CiderD
from captionloop.tokenizer import word_tokens


@dataclass(frozen=True)
class Picture:
    """A photo, its name, and what people say of it."""

    name: str
    photo: bytes
    captions: tuple[str, ...]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.photo).hexdigest()


@dataclass(frozen=True)
class World:
    """The pictures of a play: what is sent, which known ones are slipped in, what is tested on."""

    sent: Sequence[Picture]
    known: Sequence[Picture]
    shifted_test: Sequence[Picture]
    first_test: Sequence[Picture]
    corpus: dict[str, list[str]]


def scenes_world(base: Path, split: str) -> World:
    """Shifted scenes, and the sample scenes of the base workspace; `split` is for measuring quality."""
    shifted = list(draw_scenes(SceneParameters.model_validate(configured("shifted_scenes"))))
    images = pd.read_parquet(base / "02_intermediate/sample_scenes/images.parquet")
    captions = pd.read_parquet(base / "02_intermediate/sample_scenes/captions.parquet")
    texts = {str(key): list(group) for key, group in captions.groupby("image_id")["text"]}
    photos = PhotoFolder(str(base / "01_raw/sample_scenes/photos"))

    def corpus_pictures(name: str) -> list[Picture]:
        rows = images[images["split"] == name]
        return [
            Picture(image_id, photos.read(uri), tuple(texts[image_id]))
            for image_id, uri in zip(rows["image_id"], rows["uri"], strict=True)
        ]

    def scenes(name: str) -> list[Picture]:
        return [_picture(scene) for scene in shifted if scene.split == name]

    return World(scenes("train"), corpus_pictures("val"), scenes(split), corpus_pictures(split), texts)


def _picture(scene: Scene) -> Picture:
    return Picture(scene.name, scene.photo, scene.captions)


def cider(captioner: Captioner, pictures: Sequence[Picture]) -> float:
    """CIDEr (a fraction) of what a captioner says about the pictures."""
    return cider_of(
        [found.best.text for found in captioner.caption([one.photo for one in pictures])], pictures
    )


def cider_of(captions: Sequence[str], pictures: Sequence[Picture]) -> float:
    """CIDEr (a fraction) of one caption for each picture."""
    scorer = CiderD({one.name: [word_tokens(text) for text in one.captions] for one in pictures})
    spoken = [word_tokens(text) for text in captions]
    return float(scorer.rewards([one.name for one in pictures], spoken).mean())
