"""The sample scenes as a pipeline: photos, captions and facts go together."""

import pytest
from captionloop.pipelines.sample_scenes import create_pipeline, create_shifted_pipeline
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from captionloop.corpus.scenes import SceneParameters
from captionloop.datasets.corpus_datasets import PhotoFolderDataset

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("pipeline", "prefix", "parameters"),
    [
        (create_pipeline(), "raw", "sample_scenes"),
        (create_shifted_pipeline(), "shifted", "shifted_scenes"),
    ],
)
def test_a_drawn_corpus_is_complete(tmp_path, pipeline, prefix: str, parameters: str) -> None:
    facts = "scene_facts" if prefix == "raw" else "shifted_facts"
    domain = "sample" if prefix == "raw" else "shifted"
    outputs = {f"{prefix}_corpus": MemoryDataset(), facts: MemoryDataset()}
    catalog = DataCatalog(
        {
            "params:language": MemoryDataset("en"),
            f"params:{parameters}": MemoryDataset(SceneParameters(domain=domain, train=4, val=2, test=1)),
            f"{prefix}_photos": PhotoFolderDataset(filepath=str(tmp_path / "photos")),
            **outputs,
        }
    )
    SequentialRunner().run(pipeline, catalog)
    corpus = catalog[f"{prefix}_corpus"].load()
    photos = catalog[f"{prefix}_photos"].load()
    assert photos.names() == sorted(corpus.images["uri"])
    assert corpus.images["split"].value_counts().to_dict() == {"train": 4, "val": 2, "test": 1}
    assert corpus.captions["image_id"].value_counts().eq(5).all()
    assert list(catalog[facts].load()) == corpus.images["image_id"].tolist()
