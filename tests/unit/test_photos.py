"""A photo folder reads and writes what lies inside it, and nothing else."""

from pathlib import Path

import fsspec
import pytest

from captionloop.errors import CorpusError
from captionloop.photos import PhotoFolder


@pytest.fixture(params=["local", "remote"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> PhotoFolder:
    if request.param == "local":
        return PhotoFolder(str(tmp_path))
    root = f"memory://{request.node.name}"
    fsspec.filesystem("memory").makedirs(root, exist_ok=True)
    return PhotoFolder(root)


def test_what_was_written_is_read(folder: PhotoFolder) -> None:
    folder.write("deep/in/a.jpg", b"photo")
    assert folder.read("deep/in/a.jpg") == b"photo"
    assert folder.size("deep/in/a.jpg") == 5


def test_names_are_sorted_and_leave_out_hidden_files(folder: PhotoFolder) -> None:
    for name in ("b.jpg", "a/c.jpg", ".hidden", "a/.partial/d.jpg"):
        folder.write(name, b"x")
    assert folder.names() == ["a/c.jpg", "b.jpg"]


@pytest.mark.parametrize("uri", ["../outside.jpg", "/etc/passwd", "a/../../b", "", "a\0b"])
def test_nothing_outside_is_read_or_written(folder: PhotoFolder, uri: str) -> None:
    with pytest.raises(CorpusError, match="not a photo inside"):
        folder.read(uri)
    with pytest.raises(CorpusError, match="not a photo inside"):
        folder.write(uri, b"x")


def test_a_missing_photo_is_one_clear_line(folder: PhotoFolder) -> None:
    with pytest.raises(CorpusError, match=r"^Photo absent\.jpg does not exist in .*$"):
        folder.read("absent.jpg")


def test_a_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"^There is no photo folder .*$"):
        PhotoFolder(str(tmp_path / "absent")).names()


def test_writing_leaves_nothing_but_the_photo(tmp_path: Path) -> None:
    PhotoFolder(str(tmp_path)).write("a.jpg", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]
