"""Encoder adaptation as a pipeline: from weights or from nothing, taught or left alone."""

import hashlib
from pathlib import Path

import pytest
import torch
from captionloop.pipelines.encoder_adaptation import create_pipeline
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from captionloop.corpus.scenes import SceneParameters, as_corpus, draw_scenes
from captionloop.datasets.atomic_datasets import AtomicParquetDataset, CheckpointFolderDataset
from captionloop.datasets.mlflow_datasets import histories
from captionloop.datasets.model_datasets import EncoderDataset, PretrainedWeightsDataset
from captionloop.errors import EncoderError
from captionloop.photos import PhotoFolder
from captionloop.training.training_parameters import AdaptationParameters, EncoderParameters

pytestmark = pytest.mark.integration

ENCODER = {"architecture": "resnet10", "input_size": 32, "layer": "layer1", "precision": "float32"}


def catalog_for(folder: Path, weights: str = "none", epochs: int = 1, **encoder: object) -> DataCatalog:
    scenes = list(draw_scenes(SceneParameters(train=12, val=4, test=1, side=32)))
    photos = PhotoFolder(str(folder / "photos"))
    for scene in scenes:
        photos.write(scene.name, scene.photo)
    raw = as_corpus(scenes)
    hashes = {scene.name: hashlib.sha256(scene.photo).hexdigest() for scene in scenes}
    parameters = AdaptationParameters(
        epochs=epochs, batch_size=4, concepts={"minimum_images": 3, "minimum_lift": 1.0}
    )
    return DataCatalog(
        {
            "training_images": MemoryDataset(raw.images.assign(sha256=raw.images["uri"].map(hashes))),
            "training_captions": MemoryDataset(raw.captions.assign(weight=1.0)),
            "raw_photos": MemoryDataset(photos, copy_mode="assign"),
            "pretrained_weights": PretrainedWeightsDataset(source=weights),
            "params:encoder": MemoryDataset(EncoderParameters(**ENCODER, **encoder), copy_mode="assign"),
            "params:encoder_adaptation": MemoryDataset(parameters, copy_mode="assign"),
            "params:language": MemoryDataset("en"),
            "encoder_checkpoints": CheckpointFolderDataset(filepath=str(folder / "work")),
            # What a later node reads is kept in files: Kedro lets go of what lies in memory once it is used.
            "concepts": AtomicParquetDataset(filepath=str(folder / "concepts.parquet")),
            "initial_encoder": EncoderDataset(filepath=str(folder / "initial_encoder")),
            "encoder": EncoderDataset(filepath=str(folder / "encoder")),
            "encoder_curves": AtomicParquetDataset(filepath=str(folder / "curves.parquet")),
            "encoder_metrics": MemoryDataset(copy_mode="assign"),
            "encoder_curves_figure": MemoryDataset(copy_mode="assign"),
        }
    )


def run(catalog: DataCatalog) -> DataCatalog:
    SequentialRunner().run(create_pipeline(), catalog)
    return catalog


def test_an_encoder_is_taught_and_kept(tmp_path: Path) -> None:
    catalog = run(catalog_for(tmp_path))
    taught, initial = catalog["encoder"].load(), catalog["initial_encoder"].load()
    assert taught.fingerprint != initial.fingerprint
    assert taught.spec == initial.spec
    assert len(catalog["encoder_curves"].load()) == 1
    assert "concept" in catalog["concepts"].load()


def test_without_epochs_the_encoder_stays_as_it_is(tmp_path: Path) -> None:
    catalog = run(catalog_for(tmp_path, epochs=0))
    assert catalog["encoder"].load().fingerprint == catalog["initial_encoder"].load().fingerprint
    assert catalog["encoder_curves"].load().empty
    assert histories(catalog["encoder_metrics"].load()) == {}  # MLflow takes no metric without a value


def test_teaching_begins_with_the_weights_it_is_given(tmp_path: Path) -> None:
    first = run(catalog_for(tmp_path / "a", seed=7))["initial_encoder"].load()
    path = tmp_path / "weights.pth"
    torch.save(first.weights(), path)
    second = run(catalog_for(tmp_path / "b", weights=str(path)))["initial_encoder"].load()
    assert second.fingerprint == first.fingerprint


def test_weights_of_another_architecture_stop_the_run_with_one_line(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "weights.pth")
    with pytest.raises(EncoderError, match="do not belong to encoder 'resnet10'"):
        run(catalog_for(tmp_path, weights=str(tmp_path / "weights.pth")))


def test_no_weights_named_means_torchvisions_best() -> None:
    for nothing in ("", None):
        assert PretrainedWeightsDataset(source=nothing).load().source == "DEFAULT"
