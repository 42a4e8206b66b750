"""Data validation as a pipeline: reports first, then the decision."""

import hashlib
import io
from pathlib import Path

import pandas as pd
import pytest
from captionloop.pipelines.data_validation import create_pipeline
from captionloop.pipelines.data_validation.nodes import ValidationParameters
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from PIL import Image

from captionloop.corpus.scenes import Scene, SceneParameters, as_corpus, draw_scenes
from captionloop.corpus.tables import RawCorpus
from captionloop.datasets.atomic_datasets import AtomicJSONDataset
from captionloop.errors import CorpusError
from captionloop.photos import PhotoFolder

pytestmark = pytest.mark.integration

OUTPUTS = ("images", "captions", "quarantine", "data_docs")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return list(draw_scenes(SceneParameters(train=5, val=2, test=2, side=64)))


@pytest.fixture
def photos(tmp_path: Path, scenes: list[Scene]) -> PhotoFolder:
    folder = PhotoFolder(str(tmp_path / "photos"))
    for scene in scenes:
        folder.write(scene.name, scene.photo)
    return folder


def run(corpus: RawCorpus, photos: PhotoFolder, **parameters: object) -> DataCatalog:
    catalog = catalog_for(corpus, photos, **parameters)
    SequentialRunner().run(create_pipeline(), catalog)
    return catalog


def catalog_for(corpus: RawCorpus, photos: PhotoFolder, **parameters: object) -> DataCatalog:
    return DataCatalog(
        {
            "raw_corpus": MemoryDataset(corpus, copy_mode="assign"),
            "raw_photos": MemoryDataset(photos, copy_mode="assign"),
            "params:data_validation": MemoryDataset(ValidationParameters(**parameters)),
            "params:language": MemoryDataset("en"),
            **{name: MemoryDataset(copy_mode="assign") for name in OUTPUTS},
            "validation_report": AtomicJSONDataset(filepath=str(Path(photos.root).parent / "report.json")),
        }
    )


def test_the_sample_scenes_are_sound(scenes: list[Scene], photos: PhotoFolder) -> None:
    catalog = run(as_corpus(scenes), photos, on_failure="stop")
    images = catalog["images"].load()
    assert images["sha256"].tolist() == [hashlib.sha256(scene.photo).hexdigest() for scene in scenes]
    assert set(images["width"]) == set(images["height"]) == {64}
    assert len(catalog["captions"].load()) == 45
    assert catalog["quarantine"].load().empty
    assert all(each["success"] for each in catalog["validation_report"].load()["expectations"])


def test_a_split_that_training_needs_and_nobody_named_is_told_at_once(
    photos: PhotoFolder, scenes: list[Scene], caplog: pytest.LogCaptureFixture
) -> None:
    run(as_corpus([scene for scene in scenes if scene.split != "val"]), photos)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [line for line in said if "no photo is in the split val" in line]
    assert not [line for line in said if "the split train" in line]


def test_quarantine_goes_on_without_the_rows_and_stop_does_not(
    scenes: list[Scene], photos: PhotoFolder, tmp_path: Path
) -> None:
    truncated = tmp_path / "photos" / scenes[0].name
    truncated.write_bytes(truncated.read_bytes()[:-300])
    assert len(run(as_corpus(scenes), photos)["images"].load()) == 8

    catalog = catalog_for(
        as_corpus(scenes), photos, on_failure="stop", report="reports/validation_report.json"
    )
    with pytest.raises(CorpusError) as error:
        SequentialRunner().run(create_pipeline(), catalog)
    message = str(error.value)
    assert "1 image: the photo cannot be decoded" in message
    assert "5 captions: its image is in quarantine" in message
    assert message.endswith("see reports/validation_report.json")
    assert "\n" not in message
    assert len(catalog["quarantine"].load()) == 6
    assert catalog["validation_report"].load()["quarantine"]["image"]
    assert "index.html" in catalog["data_docs"].load()


def test_a_corpus_of_which_nothing_is_left_stops_the_run_in_any_case(photos: PhotoFolder) -> None:
    images = pd.DataFrame({"image_id": ["x"], "uri": ["x"], "split": ["train"], "source": ["corpus"]})
    captions = as_corpus([]).captions
    with pytest.raises(CorpusError, match="Nothing is left of the corpus"):
        run(RawCorpus(images, captions), photos, on_failure="quarantine")


def copies(
    scenes: list[Scene], photos: PhotoFolder, count: int, split: str, quality: int | None
) -> RawCorpus:
    """The scenes, and copies of the first `count` of them in another split."""
    corpus = as_corpus(scenes)
    rows = list(corpus.images[["image_id", "uri", "split"]].itertuples(index=False, name=None))
    said = list(corpus.captions[["caption_id", "image_id", "text"]].itertuples(index=False, name=None))
    for scene in scenes[:count]:
        name = f"copy-{scene.name}"
        data = scene.photo
        if quality is not None:
            out = io.BytesIO()
            Image.open(io.BytesIO(data)).save(out, "JPEG", quality=quality)
            data = out.getvalue()
        photos.write(name, data)
        rows.append((name, name, split))
        said.append((f"{name}#0", name, "a copy"))
    return RawCorpus.from_rows(rows, said)


def test_a_run_that_would_lose_much_to_likeness_stops_and_says_what_to_do(
    scenes: list[Scene], photos: PhotoFolder
) -> None:
    corpus = copies(scenes, photos, 2, "val", quality=92)
    with pytest.raises(CorpusError) as error:
        run(corpus, photos)
    message = str(error.value)
    assert "2 images (18.2%) would be lost as they are like others" in message
    assert "\n" not in message
    # Each advice that it gives works.
    assert len(run(corpus, photos, similarity={"max_lost": 0.2})["images"].load()) == 9
    assert len(run(corpus, photos, similarity={"tone_difference": 0})["images"].load()) == 11


@pytest.mark.parametrize("quality", [None, 92])
def test_a_run_that_would_lose_a_whole_split_stops(
    scenes: list[Scene], photos: PhotoFolder, quality: int | None
) -> None:
    corpus = copies(scenes, photos, 5, "test", quality)  # all of train
    with pytest.raises(CorpusError, match="All photos of train would be lost as copies of others") as error:
        run(corpus, photos, similarity={"max_lost": 1.0})
    assert ("tone_difference=0" in str(error.value)) == (quality is not None)


def test_equal_copies_are_no_matter_of_likeness(scenes: list[Scene], photos: PhotoFolder) -> None:
    assert len(run(copies(scenes, photos, 2, "val", quality=None), photos)["images"].load()) == 9
