"""What LoRA teaches a pre-trained captioner of scenes whose words and things it has never seen.

    python -m benchmarks.model_from_nothing            # and so on: a model in data/01_raw/taught_model
    python -m benchmarks.adaptation                    # as it is
    python -m benchmarks.adaptation --taught all --rank 32 --layers all --rate 3e-3 --epochs 8
    python -m benchmarks.adaptation --taught corrections --rank 32 --layers all --rate 3e-3 --epochs 8

The captions are taught by the node of `retraining_training`, beside captions of the corpus. `all`: those of
all shifted scenes that would be sent. `corrections`: one caption of each of 240 of them, about as many as
five rounds of `benchmarks.loop` use, of which 13 % are of another scene. No queue, store, curation or gate is
part of it: `benchmarks.loop --env pretrained` plays these. The vision tower stays as it is. Measured on
*validation* scenes: 400 of the shifted world, 200 of the first.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from benchmarks.loop.project import configured
from benchmarks.loop.world import Picture, cider, scenes_world
from captionloop.captioner.captioner import Captioner
from captionloop.captioner.model_config import DecodingOptions, LoraOptions
from captionloop.feedback.retraining_data import RetrainingParameters, training_tables
from captionloop.photos import PhotoFolder
from captionloop.vision.feature_caching import CachingParameters, cache_folders
from captionloop.vision.feature_store import FeatureStore

ATTENTION: Final = LoraOptions().targets
LAYERS: Final = {"attention": ATTENTION, "all": (*ATTENTION, "c_proj", "c_fc", "lm_head")}
CORRECTED, WRONG = 240, 0.13


def all_captions(sent: Sequence[Picture]) -> pd.DataFrame:
    """Every caption of every picture (canonical columns)."""
    said = [(f"{one.name}#{n}", one.name, text) for one in sent for n, text in enumerate(one.captions)]
    return _captions(said, "human")


def corrections(sent: Sequence[Picture], count: int, wrong: float, seed: int = 0) -> pd.DataFrame:
    """One caption for each of `count` pictures; a share of about `wrong` is of any picture."""
    rng = random.Random(seed)
    said = []
    for one in rng.sample(list(sent), count):
        of = rng.choice(sent) if rng.random() < wrong else one
        said.append((f"{one.name}#0", one.name, rng.choice(of.captions)))
    return _captions(said, "correction")


def _captions(said: list[tuple[str, str, str]], source: str) -> pd.DataFrame:
    table = pd.DataFrame(said, columns=["caption_id", "image_id", "text"])
    return table.assign(source=source, weight=1.0)


def teach(
    start: Captioner, sent: Sequence[Picture], captions: pd.DataFrame, base: Path, changes: dict[str, Any]
) -> Captioner:
    """The captioner taught on with captions of what was sent, and the corpus of a workspace beside."""
    from captionloop.pipelines.retraining.nodes import train_candidate

    parameters = RetrainingParameters.model_validate(configured("retraining", "pretrained") | changes)
    tables = base / "02_intermediate/sample_scenes"
    corpus = pd.read_parquet(tables / "images.parquet"), pd.read_parquet(tables / "captions.parquet")
    corpus_photos = PhotoFolder(str(base / "01_raw/sample_scenes/photos"))
    with tempfile.TemporaryDirectory() as folder:
        photos = PhotoFolder(f"{folder}/photos")
        for one in sent:
            photos.write(one.name, one.photo)
        facts = [(one.name, one.name, one.sha256) for one in sent]
        images = pd.DataFrame(facts, columns=["image_id", "uri", "sha256"]).assign(
            width=128, height=128, split="train", source="feedback"
        )
        images = images[images["image_id"].isin(captions["image_id"])]
        store = FeatureStore(f"{folder}/store")
        folders = ((corpus_photos, corpus[0]), (photos, images))
        manifest, _ = cache_folders(folders, start.encoder, store, CachingParameters())
        lessons = training_tables(corpus, (images, captions), frozenset(), parameters)
        taught, _, _ = train_candidate(
            *lessons, manifest.open(), start.encoder, pd.DataFrame({"concept": [], "weights": []}), start,
            {"origin": 1}, {"until": None}, {"doubted": 0}, parameters, Path(folder) / "work",
        )  # fmt: skip
    return taught


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--captioner", default="data/01_raw/taught_model", help="folder of the model")
    arguments.add_argument("--taught", choices=["nothing", "all", "corrections"], default="nothing")
    arguments.add_argument("--rank", type=int, default=8)
    arguments.add_argument("--layers", choices=list(LAYERS), default="attention")
    arguments.add_argument("--rate", type=float, default=1e-3)
    arguments.add_argument("--epochs", type=int, default=6)
    arguments.add_argument("--base", type=Path, default=Path("data"))
    given = arguments.parse_args()
    from captionloop.captioner.pretrained.pretrained_family import open_captioner

    began, world = time.monotonic(), scenes_world(given.base, "val")
    lora = LoraOptions(rank=given.rank, alpha=2.0 * given.rank, targets=LAYERS[given.layers])
    decoding = DecodingOptions.model_validate(configured("pretrained")["decoding"])
    captioner = open_captioner(given.captioner, "pretrained", decoding, lora=lora)
    how = {"learning_rate": given.rate, "epochs": given.epochs}
    if given.taught == "all":
        how |= {"repeat": 1, "replay": 0.75, "min_captions": 2200}
        captioner = teach(captioner, world.sent, all_captions(world.sent), given.base, how)
    elif given.taught == "corrections":
        how |= {"repeat": 5, "replay": 1.0, "min_captions": 1000}
        said = corrections(world.sent, CORRECTED, WRONG)
        captioner = teach(captioner, world.sent, said, given.base, how)
    quality = {name: round(100 * cider(captioner, pictures), 1) for name, pictures in
               (("shifted", world.shifted_test), ("first", world.first_test))}  # fmt: skip
    print(json.dumps(quality | {"seconds": round(time.monotonic() - began)}))


if __name__ == "__main__":
    main()
