import hashlib
from pathlib import Path

import pytest

from captionloop.photos import ArchiveError, PhotoArchive

DATA = b"some photo"
NAME = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(params=["local", "memory"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> PhotoArchive:
    return PhotoArchive(str(tmp_path / "photos") if request.param == "local" else f"memory://{tmp_path.name}")


def test_what_goes_in_comes_out(archive: PhotoArchive) -> None:
    archive.write(NAME, DATA)
    archive.write(NAME, DATA)
    assert archive.read(NAME) == DATA


def test_erased_is_gone_and_erasing_again_is_no_error(archive: PhotoArchive) -> None:
    archive.write(NAME, DATA)
    archive.erase(NAME)
    archive.erase(NAME)
    with pytest.raises(ArchiveError, match="erased"):
        archive.read(NAME)


def test_a_damaged_photo_is_not_handed_out(tmp_path: Path) -> None:
    archive = PhotoArchive(str(tmp_path))
    archive.write(NAME, DATA)
    (tmp_path / NAME[:2] / NAME).write_bytes(b"other")
    with pytest.raises(ArchiveError, match="damaged"):
        archive.read(NAME)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", NAME.upper(), NAME + "0"])
def test_only_hashes_are_names(archive: PhotoArchive, name: str) -> None:
    with pytest.raises(ArchiveError):
        archive.write(name, DATA)
