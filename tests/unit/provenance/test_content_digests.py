import os
import shutil
import socket
import time
from pathlib import Path

import pytest

from captionloop.corpus.photo_checks import PhotoLimits, PhotoState, inspect_photo
from captionloop.datasets.corpus_datasets import CorpusDataset, PhotoFolderDataset
from captionloop.datasets.model_datasets import PretrainedWeightsDataset
from captionloop.photos import PhotoFolder
from captionloop.provenance import output_records
from captionloop.provenance.output_records import FileDigests, content_of
from captionloop.provenance.recording import RunDigests

NOBODY = frozenset[str]()


def settled(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    time.sleep(0.06)  # what has just been written is not remembered
    return path


def reading(files: FileDigests, monkeypatch) -> list[str]:
    """The files that are read from now on."""
    read: list[str] = []
    real = output_records.hashlib.file_digest
    monkeypatch.setattr(
        output_records.hashlib, "file_digest", lambda file, name: read.append(file.name) or real(file, name)
    )
    return read


def test_what_was_hashed_is_not_read_again_by_the_next_process_either(tmp_path, monkeypatch):
    path, database = settled(tmp_path / "a.txt", "one"), tmp_path / "digests.sqlite"
    first = FileDigests(database)
    digest = first.of_file(path)
    first.save()
    path.rename(tmp_path / "b.txt")
    os.utime(tmp_path)
    second = FileDigests(database)
    read = reading(second, monkeypatch)
    moved = tmp_path / "further"
    moved.mkdir()
    assert second.of_file(tmp_path / "b.txt") == digest
    assert len(read) <= 1  # renaming a file itself touches its times, on some file systems
    assert second.of_file(tmp_path / "none.txt") == "missing"


def test_a_file_of_the_same_size_and_time_is_read_again(tmp_path):
    path, files = settled(tmp_path / "a.txt", "one"), FileDigests()
    before, digest = path.stat(), files.of_file(path)
    path.write_text("two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert files.of_file(path) != digest


def test_a_file_that_was_written_a_moment_ago_is_not_trusted(tmp_path, monkeypatch):
    files = FileDigests()
    path = tmp_path / "a.txt"
    path.write_text("one")
    files.of_file(path)
    read = reading(files, monkeypatch)
    files.of_file(path)
    assert read


def test_a_place_that_cannot_be_written_costs_time_only(tmp_path):
    (tmp_path / "file").touch()
    files = FileDigests(tmp_path / "file" / "digests.sqlite")
    assert files.of_file(settled(tmp_path / "a.txt", "one")) == files.of_file(tmp_path / "a.txt")


def test_a_folder_is_its_files_by_name_without_hidden_ones(tmp_path):
    files = FileDigests()
    settled(tmp_path / "a/one.txt", "1")
    settled(tmp_path / "a/.hidden", "x")
    before = files.of_folder(tmp_path / "a")
    settled(tmp_path / "a/.hidden", "y")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert files.of_folder(tmp_path / "a") == files.of_folder(tmp_path / "b") == before
    (tmp_path / "b/one.txt").rename(tmp_path / "b/two.txt")
    assert files.of_folder(tmp_path / "b") != before


def test_photos_count_where_no_table_names_them(tmp_path):
    files, photos = FileDigests(), PhotoFolderDataset(filepath=str(tmp_path / "photos"))
    settled(tmp_path / "photos/a.jpg", "not looked at")
    before = content_of(photos, files)
    assert content_of(photos, files, frozenset({"images"})) is None
    settled(tmp_path / "photos/a.jpg", "NOT looked at")
    assert content_of(photos, files) != before
    far = PhotoFolderDataset(filepath=(tmp_path / "photos").as_uri())
    once = content_of(far, files)
    assert content_of(far, files) == once
    settled(tmp_path / "photos/a.jpg", "not looked at, ever")
    assert content_of(far, files) != once


def test_captions_count_with_how_they_are_read(tmp_path):
    files = FileDigests()
    first, second = settled(tmp_path / "a.json", "{}"), settled(tmp_path / "b.json", "{}")

    def coco(path: Path, **folders: str) -> str | None:
        return content_of(CorpusDataset(format="coco", splits={"train": str(path)}, folders=folders), files)

    assert coco(first) == coco(second)
    assert coco(first) != coco(first, train="train2014")
    before = coco(first)
    settled(first, "[]")
    assert coco(first) != before


def test_weights_count_by_what_is_in_the_file(tmp_path):
    files, path = FileDigests(), settled(tmp_path / "weights.pth", "1")
    before = content_of(PretrainedWeightsDataset(source=str(path)), files)
    settled(path, "2")
    assert content_of(PretrainedWeightsDataset(source=str(path)), files) != before
    assert content_of(PretrainedWeightsDataset(source="none"), files) == "none"


def test_what_nobody_can_tell_is_never_the_same():
    class Elsewhere:
        def _describe(self):
            return {"filepath": "s3://bucket/table.parquet"}

    assert content_of(Elsewhere(), FileDigests()) != content_of(Elsewhere(), FileDigests())


def test_what_is_in_a_linked_folder_counts(tmp_path):
    """Whoever opens a photo by its path follows links; a folder that leads back to itself is entered once."""
    files = FileDigests()
    settled(tmp_path / "disk/a.jpg", "one")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/train").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/back").symlink_to(tmp_path / "photos")
    before = files.of_folder(tmp_path / "photos")
    assert PhotoFolder(str(tmp_path / "photos")).names() == ["train/a.jpg"]
    settled(tmp_path / "disk/a.jpg", "two")
    assert files.of_folder(tmp_path / "photos") != before


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "socket", "loop", "nowhere"])
def test_what_is_no_file_is_not_read_and_counts_by_its_kind(tmp_path, kind):
    files, place = FileDigests(), tmp_path / "photos"
    settled(place / "a.jpg", "one")
    before = files.of_folder(place)
    if kind == "pipe":
        os.mkfifo(place / "b.jpg")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(os.path.relpath(place / "b.jpg"))
    else:
        (place / "b.jpg").symlink_to("b.jpg" if kind == "loop" else kind)
    assert files.of_folder(place) == files.of_folder(place) != before
    folder = PhotoFolder(str(place))
    assert folder.names() == ["a.jpg", "b.jpg"]
    assert inspect_photo(folder, "b.jpg", PhotoLimits()).state is PhotoState.MISSING


def test_during_a_run_a_folder_is_looked_through_once_until_a_node_has_run(tmp_path: Path) -> None:
    digests, file = RunDigests(), tmp_path / "photos/a.jpg"
    file.parent.mkdir()
    file.write_bytes(b"before")
    first = digests.of_folder(file.parent)
    file.write_bytes(b"after, and longer")
    assert digests.of_folder(file.parent) == first
    digests.forget_folders()
    assert digests.of_folder(file.parent) == FileDigests().of_folder(file.parent) != first
