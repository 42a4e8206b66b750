import json

import pytest
from captionloop.pipelines.sample_scenes import create_pipeline
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog, MemoryDataset

from captionloop.corpus.scenes import SceneParameters
from captionloop.datasets.atomic_datasets import AtomicJSONDataset
from captionloop.datasets.corpus_datasets import CorpusDataset, PhotoFolderDataset
from captionloop.provenance.incremental import IncrementalRunner
from captionloop.provenance.recording import ProvenanceRecorder

pytestmark = pytest.mark.integration


def draw(folder, seed: int = 7) -> None:
    parameters = SceneParameters(train=2, val=1, test=1, side=32, seed=seed)
    catalog = DataCatalog(
        {
            "params:sample_scenes": MemoryDataset(parameters, copy_mode="assign"),
            "params:language": MemoryDataset("en"),
            "raw_photos": PhotoFolderDataset(filepath=str(folder / "photos")),
            "raw_corpus": CorpusDataset(format="karpathy", filepath=str(folder / "captions.json")),
            "scene_facts": AtomicJSONDataset(filepath=str(folder / "facts.json")),
        }
    )
    hooks, pipeline = _create_hook_manager(), create_pipeline()
    hooks.register(ProvenanceRecorder())
    begin = hooks.hook.before_pipeline_run
    begin(run_params={"project_path": folder}, pipeline=pipeline, catalog=catalog)
    IncrementalRunner().run(pipeline, catalog, hooks, only_missing_outputs=True)


def test_captions_and_photos_that_somebody_changed_are_not_drawn_over(tmp_path, caplog):
    draw(tmp_path)
    path = tmp_path / "captions.json"
    document = json.loads(path.read_text())
    document["images"][0]["sentences"][0]["raw"] = "my own words"
    path.write_text(json.dumps(document))
    photo = next((tmp_path / "photos").glob("*.*"))
    photo.write_bytes(b"my own photo")
    with caplog.at_level("INFO"):
        draw(tmp_path)
    assert "captions.json was changed since draw_sample_scenes wrote it: taken as it is" in caplog.text
    assert "my own words" in path.read_text() and photo.read_bytes() == b"my own photo"


def test_another_seed_draws_anew(tmp_path):
    draw(tmp_path)
    before = (tmp_path / "facts.json").read_text()
    draw(tmp_path, seed=8)
    assert (tmp_path / "facts.json").read_text() != before
