"""The feature store, photos and people's photos in S3, over HTTP, with a real driver."""

from pathlib import Path

import numpy as np
import pytest

from captionloop.errors import CorpusError, StoreError
from captionloop.photos import ArchiveError, PhotoArchive, PhotoFolder
from captionloop.vision.feature_store import FeatureStore, missing_from

pytestmark = pytest.mark.integration

PRINT = "cd" * 16
SHAPE = (4, 6)


def key(number: int) -> str:
    return f"{number:064x}"


def grid(number: int) -> np.ndarray:
    return np.random.default_rng(number).normal(size=SHAPE).astype(np.float16)


def store(bucket: str, cache: Path) -> FeatureStore:
    return FeatureStore(f"s3://captionloop/{bucket}", cache=cache, shard_bytes=3 * grid(0).nbytes)


def fill(store: FeatureStore, numbers: range, prefix: str) -> None:
    with store.writer(PRINT, prefix) as writer:
        for number in numbers:
            writer.add(key(number), grid(number))


def test_two_workers_fill_one_store_and_each_sees_what_the_other_wrote(
    s3_server: str, tmp_path: Path
) -> None:
    first, second = store("two", tmp_path / "first"), store("two", tmp_path / "second")
    keys = [key(number) for number in range(10)]
    assert missing_from(first.reader(PRINT), keys) == keys
    fill(first, range(5), "1of2")
    fill(second, range(5, 10), "2of2")
    for each in (first, second, store("two", tmp_path / "a third machine")):
        reader = each.reader(PRINT)
        assert missing_from(reader, keys) == []
        np.testing.assert_array_equal(reader.grids(keys), np.stack([grid(number) for number in range(10)]))


def test_what_another_process_adds_is_seen(s3_server: str, tmp_path: Path) -> None:
    """The driver remembers listings; the store must not."""
    import s3fs

    mine = store("later", tmp_path / "mine")
    fill(mine, range(3), "1of2")
    assert len(mine.reader(PRINT)) == 3
    fill(store("elsewhere", tmp_path / "other"), range(3, 6), "2of2")
    elsewhere = s3fs.S3FileSystem(skip_instance_cache=True)
    for path in elsewhere.ls(f"captionloop/elsewhere/{PRINT}"):
        elsewhere.copy(path, path.replace("elsewhere", "later"))
    assert len(mine.reader(PRINT)) == 6


def test_photos_are_taken_out_of_a_store_and_of_the_local_copy(s3_server: str, tmp_path: Path) -> None:
    from captionloop.vision import feature_store

    there = store("removal", tmp_path / "copy")
    fill(there, range(4), "1of1")
    assert feature_store.held(there, [key(1), key(9)]) == {key(1)}
    assert feature_store.drop_features(there, [key(1), key(9)]) == 1
    assert sorted(store("removal", tmp_path / "other").reader(PRINT)) == [key(0), key(2), key(3)]
    copies = b"".join(path.read_bytes() for path in (tmp_path / "copy").rglob("*.safetensors"))
    assert bytes.fromhex(key(1)) not in copies and bytes.fromhex(key(2)) in copies


def test_a_damaged_object_is_found(s3_server: str, tmp_path: Path) -> None:
    import s3fs

    fill(store("damaged", tmp_path / "writer"), range(3), "1of1")
    files = s3fs.S3FileSystem(skip_instance_cache=True)
    (path,) = files.ls(f"captionloop/damaged/{PRINT}")
    whole = files.cat_file(path)
    files.pipe_file(path, whole[:-40])
    with pytest.raises(StoreError, match="damaged"):
        store("damaged", tmp_path / "reader").reader(PRINT).grids([key(0), key(1), key(2)])


def test_storage_that_is_not_there_is_one_line(
    s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreError, match="s3://no-such-bucket/x"):
        fill(FeatureStore("s3://no-such-bucket/x", cache=tmp_path), range(3), "1of1")

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody listens there
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StoreError, match="check its address"):
        FeatureStore("s3://captionloop/x", cache=tmp_path).reader(PRINT)
    with pytest.raises(CorpusError, match="cannot be reached"):
        PhotoFolder("s3://captionloop/photos").exists()
    with pytest.raises(ArchiveError, match="cannot be written"):
        PhotoArchive("s3://captionloop/people").write("ab" * 32, b"photo")
    s3fs.S3FileSystem.clear_instance_cache()


def test_photos_are_read_written_and_erased(s3_server: str) -> None:
    import hashlib

    folder = PhotoFolder("s3://captionloop/photos")
    folder.write("dogs/rex.jpg", b"rex")
    assert (folder.exists(), folder.names(), folder.size("dogs/rex.jpg")) == (True, ["dogs/rex.jpg"], 3)
    assert folder.read("dogs/rex.jpg") == b"rex"
    with pytest.raises(CorpusError, match="does not exist"):
        folder.read("dogs/max.jpg")

    archive, name = PhotoArchive("s3://captionloop/people"), hashlib.sha256(b"photo").hexdigest()
    archive.write(name, b"photo")
    assert archive.read(name) == b"photo"
    assert archive.names(name[:2]) == [name] and archive.holds(name)
    archive.erase(name)
    archive.erase(name)
    assert archive.names(name[:2]) == [] and not archive.holds(name)
    with pytest.raises(ArchiveError):
        archive.read(name)
