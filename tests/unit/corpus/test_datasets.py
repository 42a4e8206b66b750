"""The catalog's photo folder, corpus and site: whole or not there."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from kedro.io import DatasetError

from captionloop.datasets.atomic_datasets import SiteDataset
from captionloop.datasets.corpus_datasets import CorpusDataset, PhotoFolderDataset
from captionloop.errors import ConfigurationError, CorpusError
from captionloop.photos import PhotoFolder

from .conftest import corpus_of


def test_photos_are_saved_from_a_generator_and_loaded_as_a_folder(tmp_path: Path) -> None:
    dataset = PhotoFolderDataset(filepath=str(tmp_path / "photos"))
    assert not dataset.exists()
    dataset.save((name, name.encode()) for name in ("b.jpg", "a.jpg"))
    assert dataset.exists()
    assert dataset.load().names() == ["a.jpg", "b.jpg"]
    assert dataset.load().read("b.jpg") == b"b.jpg"


def test_saving_again_replaces_the_whole_folder(tmp_path: Path) -> None:
    dataset = PhotoFolderDataset(filepath=str(tmp_path / "photos"))
    dataset.save([("old.jpg", b"old")])
    dataset.save([("new.jpg", b"new")])
    assert dataset.load().names() == ["new.jpg"]
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_save_that_breaks_off_leaves_the_old_folder(tmp_path: Path) -> None:
    def breaking() -> Iterator[tuple[str, bytes]]:
        yield "new.jpg", b"new"
        raise RuntimeError("killed")

    dataset = PhotoFolderDataset(filepath=str(tmp_path / "photos"))
    dataset.save([("old.jpg", b"old")])
    with pytest.raises(DatasetError):
        dataset.save(breaking())
    assert dataset.load().names() == ["old.jpg"]


def test_a_first_save_that_breaks_off_leaves_no_folder(tmp_path: Path) -> None:
    dataset = PhotoFolderDataset(filepath=str(tmp_path / "photos"))
    with pytest.raises(DatasetError):
        dataset.save(iter([("a.jpg", b"a"), ("../b.jpg", b"b")]))
    assert not dataset.exists()


def test_photos_that_were_not_written_here_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_bytes(b"mine")
    dataset = PhotoFolderDataset(filepath=str(tmp_path / "photos"))
    with pytest.raises(DatasetError, match="did not write, so they stay"):
        dataset.save([("drawn.jpg", b"drawn")])
    assert dataset.load().names() == ["mine.jpg"]


def test_photos_in_object_storage_are_whole_or_are_not_there(s3_server: str) -> None:
    def breaking() -> Iterator[tuple[str, bytes]]:
        yield "new.jpg", b"new"
        raise RuntimeError("killed")

    root = f"s3://captionloop/{uuid.uuid4().hex}/photos"
    dataset = PhotoFolderDataset(filepath=root)
    assert not dataset.exists()
    dataset.save((name, name.encode()) for name in ("b.jpg", "a.jpg"))
    assert dataset.exists() and dataset.load().names() == ["a.jpg", "b.jpg"]
    with pytest.raises(DatasetError, match="killed"):
        dataset.save(breaking())
    assert not dataset.exists(), "half of them are there"
    dataset.save([("new.jpg", b"new")])
    assert dataset.exists() and PhotoFolderDataset(filepath=root).load().names() == ["new.jpg"]
    PhotoFolder(f"{root}-mine").write("mine.jpg", b"mine")
    with pytest.raises(DatasetError, match="did not write, so they stay"):
        PhotoFolderDataset(filepath=f"{root}-mine").save([("drawn.jpg", b"drawn")])


def test_captions_that_were_not_written_here_are_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "dataset_flickr8k.json"
    path.write_text('{"images": [], "dataset": "flickr8k"}')
    dataset = CorpusDataset(format="karpathy", filepath=str(path))
    with pytest.raises(DatasetError, match="did not write, so they stay"):
        dataset.save(corpus_of([], []))
    assert path.read_text() == '{"images": [], "dataset": "flickr8k"}'


def test_a_missing_photo_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as error:
        PhotoFolderDataset(filepath=str(tmp_path / "absent")).load()
    assert isinstance(error.value.__cause__, CorpusError)


def test_a_corpus_is_saved_in_karpathys_form(tmp_path: Path) -> None:
    dataset = CorpusDataset(format="karpathy", filepath=str(tmp_path / "scenes" / "captions.json"))
    assert not dataset.exists()
    corpus = corpus_of([("a.jpg", "train")], [("a.jpg", "A dog")], ids=["a.jpg#0"])
    dataset.save(corpus)
    dataset.save(corpus)
    pd.testing.assert_frame_equal(dataset.load().images, corpus.images)
    pd.testing.assert_frame_equal(dataset.load().captions, corpus.captions)
    assert [path.name for path in (tmp_path / "scenes").iterdir()] == ["captions.json"]


@pytest.mark.parametrize(
    "settings",
    [
        {"format": "pickle", "filepath": "x"},
        {"format": "csv"},
        {"format": "flickr", "filepath": "x"},
        {"format": "coco"},
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="CorpusDataset"):
        CorpusDataset(**settings)


def test_only_karpathys_form_is_written(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="only saved in the karpathy format"):
        CorpusDataset(format="csv", filepath=str(tmp_path / "c.csv")).save(corpus_of([], []))


def test_every_form_loads_from_the_catalogs_settings(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("a.jpg#0\tA dog\n")
    (tmp_path / "train").write_text("a.jpg\n")
    (tmp_path / "c.csv").write_text("image,caption,split\na.jpg,A dog,train\n")
    (tmp_path / "coco").write_text(
        '{"images": [{"id": "a.jpg", "file_name": "a.jpg"}],'
        ' "annotations": [{"image_id": "a.jpg", "caption": "A dog"}]}'
    )
    train = str(tmp_path / "train")
    corpora = [
        CorpusDataset(format="flickr", filepath=str(tmp_path / "tokens"), splits={"train": train}).load(),
        CorpusDataset(format="csv", filepath=str(tmp_path / "c.csv")).load(),
        CorpusDataset(format="coco", splits={"train": [str(tmp_path / "coco")]}).load(),
    ]
    for corpus in corpora[1:]:
        pd.testing.assert_frame_equal(corpus.images, corpora[0].images)
        pd.testing.assert_frame_equal(corpus.captions, corpora[0].captions)


def test_a_site_is_loaded_as_it_was_saved_and_replaced_as_a_whole(tmp_path: Path) -> None:
    dataset = SiteDataset(filepath=str(tmp_path / "docs"))
    dataset.save({"index.html": b"old", "old/page.html": b"x"})
    pages = {"index.html": b"new", "deep/page.html": b"y"}
    dataset.save(pages)
    assert dataset.load() == pages
    assert dataset.exists()
