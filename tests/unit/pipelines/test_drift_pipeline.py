"""The node of drift, from a real ratings database, registry and captioner to a report."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from captionloop.pipelines.drift import nodes
from PIL import Image

from captionloop.captioner.captioner import Captioner
from captionloop.captioner.decoders import build_decoder
from captionloop.captioner.model_config import DecodingOptions, ShowAndTellConfig
from captionloop.errors import RegistryError
from captionloop.evaluation.drift import DriftLimits, DriftParameters
from captionloop.photos import PhotoFolder, archive_uri
from captionloop.ratings.database import upgrade
from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.rating_tables import PhotoFacts, RatingInput, ServedCaption
from captionloop.ratings.reader import RatingsDatabase
from captionloop.registry.model_registry import ModelRegistry
from captionloop.registry.scored_captions import save_training_data
from captionloop.tokenizer import CaptionTokenizer
from captionloop.vision.encoder import Encoder, EncoderSpec

pytestmark = pytest.mark.integration

PHOTOS = 24
PARAMETERS = DriftParameters(limits=DriftLimits(fewest=10))


def picture(seed: int, colour: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 60, (64, 64, 3)).astype(np.uint8)
    noise[..., colour] += 150
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    torch.manual_seed(0)
    encoder = Encoder.build(EncoderSpec(architecture="resnet10", input_size=64))
    tokenizer = CaptionTokenizer.train(["a red box under a blue one"], min_frequency=1)
    sizes = ShowAndTellConfig(embedding=12, hidden=12)
    decoder = build_decoder(sizes, vocabulary_size=tokenizer.vocabulary_size, channels=encoder.channels)
    return Captioner(
        "tiny", encoder, decoder, tokenizer, DecodingOptions(beam_width=1, alternatives=1, max_length=5)
    )


@pytest.fixture
def corpus(tmp_path: Path):
    """Red noise, half of it held out."""
    folder = PhotoFolder(str(tmp_path / "photos"))
    rows = []
    for number in range(2 * PHOTOS):
        folder.write(f"{number}.png", picture(number, colour=0))
        rows.append((str(number), f"{number}.png", "train" if number < PHOTOS else "test", "corpus"))
    images = pd.DataFrame(rows, columns=["image_id", "uri", "split", "source"])
    captions = pd.DataFrame({"image_id": images["image_id"], "text": "a red box"})
    held_out = [row[0] for row in rows[PHOTOS:]]
    evaluated = {
        "split": "test", "image_ids": held_out, "uris": [f"{one}.png" for one in held_out],
        "sha256s": held_out, "references": {one: ["a red box"] for one in held_out},
    }  # fmt: skip
    return images, captions, folder, evaluated


@pytest.fixture
def registry(mlflow_store: str, captioner: Captioner, tmp_path: Path) -> ModelRegistry:
    found = ModelRegistry(mlflow_store, name=f"captioner {tmp_path.name}", experiment="tests")
    captioner.save(tmp_path / "bundle")
    found.promote(found.register(tmp_path / "bundle").version)
    return found


def served(
    tmp_path: Path, captioner: Captioner, colour: int, correction: str | None = None
) -> RatingsDatabase:
    """What the service keeps of photos of one colour, which people may have corrected."""
    url = f"sqlite:///{tmp_path / 'ratings.db'}"
    upgrade(url)
    store = RatingsStore(url)
    for number in range(PHOTOS):
        (found,) = captioner.caption([picture(1000 + number, colour)])
        facts = PhotoFacts(f"{number:064d}", "image/png", 10, 64, 64)
        best, embedding = found.best, found.embedding.tolist()
        store.record(
            ServedCaption(
                f"c{number}",
                "me",
                facts,
                best.text,
                best.confidence,
                [],
                [],
                "tiny",
                "1",
                embedding=embedding,
            )
        ).result()
        if correction is not None:
            store.rate(f"c{number}", "me", RatingInput(2, correction)).result()
    store.close()
    return RatingsDatabase(url)


@pytest.mark.parametrize(("colour", "drifted"), [(0, False), (2, True)])
def test_photos_of_another_colour_are_noticed(tmp_path, registry, captioner, corpus, colour, drifted) -> None:
    images, captions, folder, evaluated = corpus
    database = served(tmp_path, captioner, colour)
    report, page, drawn = nodes.measure_drift(
        registry, database, images, captions, folder, evaluated, PARAMETERS
    )
    signals = {signal["name"]: signal for signal in report["signals"]}
    assert signals["photos"]["value"] is not None
    assert signals["photos"]["drifted"] is drifted
    assert signals["words"]["value"] is None, "nobody corrected anything"
    assert report["version"] == 1
    assert page.startswith("# Drift in photos" if drifted else "# No drift")
    assert len(drawn.axes) == 5


def test_without_a_champion_one_line_says_so(mlflow_store, tmp_path, corpus) -> None:
    images, captions, folder, evaluated = corpus
    empty = ModelRegistry(mlflow_store, name="nobody", experiment="tests")
    with pytest.raises(RegistryError, match="has no champion"):
        nodes.measure_drift(
            empty, RatingsDatabase("sqlite:///x"), images, captions, folder, evaluated, PARAMETERS
        )


def taught_on(registry: ModelRegistry, captioner: Captioner, folder: Path, data: dict) -> None:
    """A next champion, with what it was trained on."""
    captioner = replace(captioner, metrics={"CIDEr": 0.7})
    captioner.decoder.words.bias.data += 1e-6  # else it would be the same model
    captioner.save(folder / "next")
    (folder / "evidence").mkdir()
    save_training_data(data, folder / "evidence")
    registry.promote(registry.register(folder / "next", evidence=folder / "evidence").version)


def test_what_the_champion_has_learnt_from_corrections_is_no_drift_any_more(
    tmp_path, registry, captioner, corpus
) -> None:
    images, captions, folder, evaluated = corpus
    database = served(tmp_path, captioner, 2, correction="a blue guitar")
    archive = PhotoFolder(str(tmp_path / "archive"))
    keys = [f"{number:064d}" for number in range(PHOTOS)]
    for number, key in enumerate(keys):
        archive.write(archive_uri(key), picture(1000 + number, 2))
    before, _, _ = nodes.measure_drift(
        registry, database, images, captions, folder, evaluated, PARAMETERS, archive
    )
    assert {signal["name"] for signal in before["signals"] if signal["drifted"]} >= {"photos", "words"}
    words = {"a": 24 + PHOTOS, "red": 24, "box": 24, "blue": PHOTOS, "guitar": PHOTOS}
    taught_on(registry, captioner, tmp_path, {"words": words, "feedback_photos": keys})
    after, _, _ = nodes.measure_drift(
        registry, database, images, captions, folder, evaluated, PARAMETERS, archive
    )
    assert after["version"] == 2
    drifted = {signal["name"]: signal["drifted"] for signal in after["signals"]}
    assert not drifted["words"] and not drifted["photos"]
