"""What training on every caption of the pictures that were sent reaches: ratings are compared with it."""

import pandas as pd

from benchmarks.loop.play import Play
from benchmarks.loop.world import World, cider
from captionloop.photos import PhotoFolder
from captionloop.ratings.reader import RatingsDatabase


def ceiling(game: Play, world: World, epochs: int, round_number: int = 99) -> tuple[float, float]:
    """CIDEr (shifted, first) of the first champion taught on with every caption of all that was sent.

    Its encoder is taught on as with ratings; a photo has all its captions instead of being repeated with one.
    """
    from captionloop.pipelines.retraining.encoding import finetune_encoder
    from captionloop.pipelines.retraining.nodes import train_candidate

    from captionloop.feedback.retraining_data import (
        EncoderRetrainingParameters,
        RetrainingParameters,
        training_tables,
    )
    from captionloop.vision.feature_caching import CachingParameters, cache_folders
    from captionloop.vision.feature_store import FeatureStore

    champion, version = game.version(1), {"version": round_number}
    folder = game.folder / "fully_labelled"
    photos = PhotoFolder(str(folder / "photos"))
    for one in world.sent:
        photos.write(one.name, one.photo)
    sent = pd.DataFrame({"image_id": [one.name for one in world.sent]}).assign(
        uri=[one.name for one in world.sent], sha256=[one.sha256 for one in world.sent],
        width=128, height=128, split="train", source="feedback",
    )  # fmt: skip
    label_rows = [
        (f"{one.name}#{n}", one.name, text) for one in world.sent for n, text in enumerate(one.captions)
    ]
    labels = pd.DataFrame(label_rows, columns=["caption_id", "image_id", "text"]).assign(
        source="human", weight=1.0
    )
    tables = game.base / "02_intermediate/sample_scenes"
    corpus = pd.read_parquet(tables / "images.parquet"), pd.read_parquet(tables / "captions.parquet")
    corpus_photos = PhotoFolder(str(game.base / "01_raw/sample_scenes/photos"))
    encoder, concept_weights, *_ = finetune_encoder(
        champion, version, *corpus, corpus_photos,
        pd.read_parquet(game.base / "03_primary/sample_scenes/concepts.parquet"),
        sent, labels, photos, RatingsDatabase(game.ratings),
        EncoderRetrainingParameters.model_validate(game.configured("retraining_encoder")), folder / "encoder",
    )  # fmt: skip
    store = FeatureStore(str(folder / "store"))
    manifest, _ = cache_folders(
        ((corpus_photos, corpus[0]), (photos, sent)), encoder, store, CachingParameters()
    )
    parameters = RetrainingParameters.model_validate(
        {**game.configured("retraining"), "epochs": epochs, "repeat": 1, "replay": 0.75, "seed": round_number}
    )
    images, captions = training_tables(corpus, (sent, labels), frozenset(), parameters)
    report = {"until": None, "used": {"corrections": 0, "approved_captions": 0}}
    trained, _, _ = train_candidate(
        images,
        captions,
        manifest.open(),
        encoder,
        concept_weights,
        champion,
        {"origin": 1},
        report,
        {"doubted": 0},
        parameters,
        folder / "work",
    )
    return cider(trained, world.shifted_test), cider(trained, world.first_test)
