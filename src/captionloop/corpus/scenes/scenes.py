"""The corpus of sample scenes, one scene after another."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from captionloop.corpus.scenes.captions import describe, describe_in
from captionloop.corpus.scenes.composition import Facts, compose
from captionloop.corpus.scenes.domain import DOMAINS
from captionloop.corpus.scenes.drawing import draw
from captionloop.corpus.scenes.phrases import phrases_of
from captionloop.corpus.tables import RawCorpus, Split
from captionloop.language.languages import ENGLISH, Language


class SceneParameters(BaseModel):
    """How many scenes of which domain, and the seed that decides all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    domain: Literal["sample", "shifted"] = "sample"
    train: int = Field(1100, ge=1)
    val: int = Field(200, ge=0)
    test: int = Field(200, ge=0)
    side: int = Field(128, ge=32, le=512, description="width and height in px")
    captions: int = Field(5, ge=1, le=5)
    seed: int = 7


@dataclass(frozen=True)
class Scene:
    """One picture: its file name, its bytes (JPEG), what people say of it, and what is true of it."""

    name: str
    photo: bytes
    captions: tuple[str, ...]
    split: Split
    facts: Facts


def draw_scenes(parameters: SceneParameters, language: Language = ENGLISH) -> Iterator[Scene]:
    """Draws the scenes one by one: train, then val, then test.

    A scene depends on the seed, the domain and its own number only: the same parameters give the same bytes,
    and a larger split begins with the scenes of a smaller one. The pictures are the same in every language.

    Raises:
        ConfigurationError: the scenes are not described in this language.
    """
    phrases = phrases_of(language)
    domain = DOMAINS[parameters.domain]
    sizes: dict[Split, int] = {"train": parameters.train, "val": parameters.val, "test": parameters.test}
    for split, size in sizes.items():
        for number in range(size):
            key = f"{parameters.seed}/{domain.name}/{split}/{number}"
            rng = random.Random(key)  # noqa: S311 - not for secrets
            facts = compose(domain, rng)
            captions = describe(domain, facts, rng, parameters.captions)
            if phrases is not None:
                own = random.Random(f"{key}/{language.code}")  # noqa: S311 - not for secrets
                captions = describe_in(phrases, domain, facts, own, parameters.captions)
            photo = draw(domain, facts, parameters.side, rng)
            yield Scene(f"{domain.name}_{split}_{number:05d}.jpg", photo, captions, split, facts)


def as_corpus(scenes: Iterable[Scene]) -> RawCorpus:
    """The scenes' names, splits and captions as the corpus that a reader would give."""
    images: list[tuple[str, str, str]] = []
    captions: list[tuple[str, str, str]] = []
    for scene in scenes:
        images.append((scene.name, scene.name, scene.split))
        captions.extend(
            (f"{scene.name}#{place}", scene.name, text) for place, text in enumerate(scene.captions)
        )
    return RawCorpus.from_rows(images, captions)
