"""From the facts of scenes to JPEGs and a corpus, one scene after another."""

import io
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from captionloop.corpus.scenes.backgrounds import LIGHTS, Stage
from captionloop.corpus.scenes.layout import Facts, Spot, compose, stage_things
from captionloop.corpus.scenes.objects import SKETCHES
from captionloop.corpus.scenes.pen import Pen
from captionloop.corpus.scenes.phrases import phrases_of
from captionloop.corpus.scenes.scene_captions import describe, describe_in
from captionloop.corpus.scenes.world import DOMAINS, SceneDomain
from captionloop.corpus.tables import RawCorpus, Split
from captionloop.errors import CorpusError
from captionloop.languages import ENGLISH, Language

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


_FACTS = TypeAdapter(Facts)


def read_facts(kept: Mapping[str, Any]) -> dict[str, Facts]:
    """The facts of each scene by the name of its photo.

    Raises:
        CorpusError: what was kept is of another form.
    """
    try:
        return {name: _FACTS.validate_python(one) for name, one in kept.items()}
    except ValidationError as error:
        raise CorpusError(
            f"The facts of the scenes cannot be read ({error.errors()[0]['msg']}): "
            "draw the scenes again with kedro run --pipelines sample_scenes"
        ) from error


def domain_of(facts: Facts) -> SceneDomain | None:
    """The domain that a scene is of, told by its place; None where no domain has that."""
    return next((domain for domain in DOMAINS.values() if facts.place in domain.places), None)
