"""What training on every caption of the pictures that were sent reaches: ratings are compared with it."""

import pandas as pd
from benchmarks.loop.play import Play
from benchmarks.loop.world import World, cider

from captionloop.corpus.photos import PhotoFolder


def ceiling(game: Play, world: World, epochs: int, turn: int = 99) -> tuple[float, float]:
    """CIDEr (shifted, first) of the first champion taught on with every caption of all that was sent."""
    from captionloop.pipelines.retraining.nodes import teach_on

    from captionloop.feedback.replay import RetrainingParameters, training_tables
    from captionloop.vision.caching import CachingParameters, cache_features
    from captionloop.vision.store import FeatureStore

    champion = game.version(1)
    folder = game.folder / "fully_labelled"
    photos = PhotoFolder(str(folder / "photos"))
    for one in world.sent:
        photos.write(one.name, one.photo)
    sent = pd.DataFrame({"image_id": [one.name for one in world.sent]}).assign(
        uri=[one.name for one in world.sent], sha256=[one.sha256 for one in world.sent],
        width=128, height=128, split="train", source="feedback",
    )  # fmt: skip
    said = [(f"{one.name}#{n}", one.name, text) for one in world.sent for n, text in enumerate(one.captions)]
    labels = pd.DataFrame(said, columns=["caption_id", "image_id", "text"]).assign(source="human", weight=1.0)
    store = FeatureStore(str(game.base / "04_feature/store"))
    corpus = [
        pd.read_parquet(game.base / f"02_intermediate/sample_scenes/{name}.parquet")
        for name in ("images", "captions")
    ]
    manifest, _ = cache_features(sent, photos, champion.encoder, store, CachingParameters())
    everything = tuple(dict.fromkeys((*manifest.photos, *corpus[0]["sha256"])))
    parameters = RetrainingParameters.model_validate(
        {**game.configured("retraining"), "epochs": epochs, "repeat": 1, "replay": 0.75, "seed": turn}
    )
    images, captions = training_tables((corpus[0], corpus[1]), (sent, labels), frozenset(), parameters)
    report = {"until": None, "used": {"corrections": 0, "approved_captions": 0}}
    taught, _, _ = teach_on(
        images, captions, manifest.model_copy(update={"photos": everything}).open(), champion, {"version": 1},
        report, parameters, folder / "work",
    )  # fmt: skip
    return cider(taught, world.shifted_test), cider(taught, world.first_test)
