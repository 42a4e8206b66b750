"""Feature caching as a pipeline: a manifest that counts as done only when every feature is there."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from captionloop.pipelines.feature_caching import create_pipeline
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from kedro.runner import SequentialRunner

from captionloop.corpus.scenes import SceneParameters, draw_scenes
from captionloop.datasets.model_datasets import FeaturesDataset, FeatureStoreDataset
from captionloop.errors import StoreError
from captionloop.photos import PhotoFolder
from captionloop.vision.encoder import Encoder, EncoderSpec
from captionloop.vision.feature_caching import CachingParameters

pytestmark = pytest.mark.integration

COUNT = 8


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.build(EncoderSpec(architecture="resnet10", input_size=32, layer="layer1"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def run(data: Path, encoder: Encoder, **parameters: object) -> DataCatalog:
    photos = PhotoFolder(str(data / "photos"))
    rows = []
    for scene in draw_scenes(SceneParameters(train=COUNT - 2, val=1, test=1, side=32)):
        photos.write(scene.name, scene.photo)
        rows.append((scene.name, hashlib.sha256(scene.photo).hexdigest()))
    catalog = DataCatalog(
        {
            "images": MemoryDataset(pd.DataFrame(rows, columns=["uri", "sha256"])),
            "raw_photos": MemoryDataset(photos, copy_mode="assign"),
            "encoder": MemoryDataset(encoder, copy_mode="assign"),
            "feature_store": FeatureStoreDataset(root=str(data / "store")),
            "params:feature_caching": MemoryDataset(CachingParameters(**parameters), copy_mode="assign"),
            "features": FeaturesDataset(filepath=str(data / "corpus" / "features.json")),
            "caching_report": MemoryDataset(),
        }
    )
    SequentialRunner().run(create_pipeline(), catalog)
    return catalog


def test_features_are_loaded_as_training_reads_them(data: Path, encoder: Encoder) -> None:
    catalog = run(data, encoder, views=("whole", "mirrored"))
    features, keys = catalog["features"].load(), catalog["images"].load()["sha256"].tolist()
    assert features.fingerprint == encoder.fingerprint
    assert features.grids(keys, "mirrored").shape == (COUNT, encoder.regions, encoder.channels)
    np.testing.assert_allclose(
        features.means(keys), features.grids(keys).astype(np.float32).mean(axis=1), rtol=1e-3, atol=1e-3
    )
    assert catalog["caching_report"].load()["encoded"] == 2 * COUNT


def test_features_exist_once_every_worker_is_done(data: Path, encoder: Encoder) -> None:
    first = run(data, encoder, shard="1/2")
    assert first["caching_report"].load()["missing"] > 0
    assert not first["features"].exists()
    with pytest.raises(DatasetError) as caught:
        first["features"].load()
    causes = (caught.value.__cause__, getattr(caught.value.__cause__, "__cause__", None))
    assert any(isinstance(cause, StoreError) and "are missing" in str(cause) for cause in causes)
    second = run(data, encoder, shard="2/2")
    assert second["features"].exists()


def test_the_data_folder_can_be_moved(data: Path, encoder: Encoder) -> None:
    catalog = run(data, encoder)
    keys = catalog["images"].load()["sha256"].tolist()
    before = catalog["features"].load().grids(keys)
    moved = Path(shutil.move(data, data.with_name("elsewhere")))
    features = FeaturesDataset(filepath=str(moved / "corpus" / "features.json"))
    assert features.exists()
    assert (features.load().grids(keys) == before).all()


def test_without_its_store_the_manifest_counts_as_missing(data: Path, encoder: Encoder) -> None:
    features = run(data, encoder)["features"]
    shutil.rmtree(data / "store")
    assert not features.exists()


def test_a_damaged_manifest_is_one_line(data: Path) -> None:
    path = data / "features.json"
    features = FeaturesDataset(filepath=str(path))
    for content, words in ((None, "no features at"), ("{", "is not a list of features")):
        if content:
            path.write_text(content)
        else:
            path.parent.mkdir(parents=True)
        assert not features.exists()
        with pytest.raises(DatasetError, match=words):
            features.load()
