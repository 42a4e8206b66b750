"""Which ratings a retraining counts as new, and whose features it need not compute again."""

import hashlib

import pandas as pd
import pytest
from captionloop.pipelines.feedback.nodes import fetch_champion
from captionloop.pipelines.retraining.encoding import cache
from neighbours import module_of

from captionloop.evaluation.evaluation_set import evaluation_set
from captionloop.feedback.retraining_data import RetrainingParameters
from captionloop.photos import PhotoFolder
from captionloop.ratings.database import upgrade
from captionloop.ratings.reader import RatingsDatabase
from captionloop.registry.model_registry import ModelRegistry
from captionloop.vision.feature_caching import CachingParameters, cache_features
from captionloop.vision.feature_store import FeatureStore

toys = module_of("evaluation")
images, captions, encoder = toys.images, toys.captions, toys.encoder
make_captioner, photo_folder = toys.make_captioner, toys.photo_folder

pytestmark = pytest.mark.integration


@pytest.fixture
def registry(mlflow_store, request, make_captioner, tmp_path) -> ModelRegistry:
    """Version 1 is the champion; version 2 learnt from ratings and waits."""
    made = ModelRegistry(mlflow_store, f"window {request.node.name}"[:80], "tests")
    first = make_captioner("show_and_tell")
    first.save(tmp_path / "first")
    made.promote(made.register(tmp_path / "first").version)
    taught = make_captioner("show_attend_tell")
    taught.lineage.update({"feedback_until": "2026-11-20T12:00:00+00:00", "parent_version": "1"})
    taught.save(tmp_path / "second")
    assert made.register(tmp_path / "second", lineage=taught.lineage).version == 2
    return made


def counted_from(registry: ModelRegistry) -> tuple[int | None, str | None]:
    known = fetch_champion(registry)[2]
    return known["retrained_version"], known["feedback_until"]


def test_a_version_that_is_not_served_uses_up_no_ratings(registry: ModelRegistry) -> None:
    """Refused by the gate or tried in a dry run: it stays challenger, and what people said is still new."""
    assert counted_from(registry) == (None, None)


def test_a_version_that_was_rolled_back_gives_its_ratings_back(registry: ModelRegistry) -> None:
    registry.promote(2)
    assert counted_from(registry) == (2, "2026-11-20T12:00:00+00:00")
    registry.rollback()
    assert counted_from(registry) == (None, None)


def test_with_the_encoder_as_it_is_nothing_is_encoded_again(
    images, captions, photo_folder, encoder, make_captioner, tmp_path
) -> None:
    upgrade(url := f"sqlite:///{tmp_path}/ratings.db")
    base, own = FeatureStore(tmp_path / "base"), FeatureStore(tmp_path / "run")
    cache_features(images, photo_folder, encoder, base, CachingParameters())
    frozen = evaluation_set(images, captions, "val").model_dump(mode="json")
    (tmp_path / "archive").mkdir()
    data = (tmp_path / "archive").parent / "archive/new"
    some = images.iloc[0]
    data.write_bytes(photo_folder.read(some["uri"]) + b" ")  # another photo, which nobody has encoded
    sha256 = hashlib.sha256(data.read_bytes()).hexdigest()
    new = pd.DataFrame([{**some, "image_id": f"feedback-{sha256}", "sha256": sha256, "uri": "new",
                         "split": "train", "source": "feedback"}])  # fmt: skip
    said = captions.head(1).assign(
        image_id=f"feedback-{sha256}", source="correction", caption_id="correction-1", ratings="1", rater="a"
    )
    held_out = {**frozen, "sha256s": [], "uris": [], "image_ids": [], "references": {}}

    def encoded(store: FeatureStore) -> int:
        *_, report = cache(
            encoder, make_captioner("show_and_tell"), {"version": 1}, images, captions, photo_folder, frozen,
            frozen, new, said, held_out, PhotoFolder(str(tmp_path / "archive")), RatingsDatabase(url), store,
            base, CachingParameters(), RetrainingParameters(min_captions=4, min_frequency=1),
        )  # fmt: skip
        return sum(each["encoded"] for each in report["candidate"])

    assert encoded(own) == 1, "the photo of the feedback alone"
    assert encoded(FeatureStore(tmp_path / "next run")) == 0
    assert not (tmp_path / "run").exists() and not (tmp_path / "next run").exists()
