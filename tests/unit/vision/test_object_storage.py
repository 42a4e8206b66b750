"""The feature store, photos and people's photos in S3, over HTTP, with a real driver."""

from pathlib import Path

import numpy as np
import pytest

from captionloop.errors import CorpusError, StoreError
from captionloop.photos import ArchiveError, PhotoArchive, PhotoFolder
from captionloop.vision.feature_store import FeatureStore

pytestmark = pytest.mark.integration

PRINT = "cd" * 16
SHAPE = (4, 6)


def key(number: int) -> str:
    return f"{number:064x}"


def grid(number: int) -> np.ndarray:
    return np.random.default_rng(number).normal(size=SHAPE).astype(np.float16)


def store(bucket: str, cache: Path) -> FeatureStore:
    return FeatureStore(f"s3://captionloop/{bucket}", cache=cache, fragment_bytes=3 * grid(0).nbytes)


def fill(store: FeatureStore, numbers: range) -> None:
    with store.writer(PRINT) as writer:
        for number in numbers:
            writer.add(key(number), grid(number))


def test_two_workers_fill_one_store_and_each_sees_what_the_other_wrote(
    s3_server: str, tmp_path: Path
) -> None:
    first, second = store("two", tmp_path / "first"), store("two", tmp_path / "second")
    keys = [key(number) for number in range(10)]
    assert first.missing(PRINT, keys) == keys
    fill(first, range(5))
    fill(second, range(5, 10))
    for each in (first, second, store("two", tmp_path / "a third machine")):
        reader = each.reader(PRINT)
        assert each.missing(PRINT, keys) == []
        np.testing.assert_array_equal(reader.grids(keys), np.stack([grid(number) for number in range(10)]))


def test_writers_that_commit_at_once_lose_nothing(s3_server: str, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    there = store("at-once", tmp_path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda start: fill(there, range(start, start + 6)), range(0, 24, 6)))
    assert sorted(there.reader(PRINT)) == [key(number) for number in range(24)]


def test_of_grids_only_the_files_that_are_read_are_copied(s3_server: str, tmp_path: Path) -> None:
    fill(store("few", tmp_path / "writer"), range(9))
    reader = store("few", tmp_path / "reader").reader(PRINT)
    assert len(reader) == 9 and list((tmp_path / "reader").rglob("*.lance")) == []
    for _ in range(2):
        np.testing.assert_array_equal(reader[key(4)], grid(4))
        copies = [path for path in (tmp_path / "reader").rglob("*.lance") if path.is_file()]
        assert len(copies) == 1 and grid(4).tobytes() in copies[0].read_bytes()


def test_photos_are_taken_out_of_a_store_and_of_the_local_copies(s3_server: str, tmp_path: Path) -> None:
    import s3fs

    from captionloop.vision import feature_store

    there, elsewhere = store("removal", tmp_path / "copy"), store("removal", tmp_path / "other")
    fill(there, range(4))
    for each in (there, elsewhere):
        each.reader(PRINT).grids([key(number) for number in range(4)])
    assert feature_store.held(there, [key(1), key(9)]) == {key(1)}
    assert feature_store.drop_features(there, [key(1), key(9)]) == 1
    reader = elsewhere.reader(PRINT)
    assert sorted(reader) == [key(0), key(2), key(3)]
    np.testing.assert_array_equal(reader[key(2)], grid(2))
    files = s3fs.S3FileSystem(skip_instance_cache=True)
    remains = [files.cat_file(path) for path in files.find("captionloop/removal")]
    remains += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert bytes.fromhex(key(1)) not in b"".join(remains) and bytes.fromhex(key(2)) in b"".join(remains)
    assert grid(1).tobytes() not in b"".join(remains)


def test_a_damaged_object_is_found(s3_server: str, tmp_path: Path) -> None:
    import s3fs

    fill(store("damaged", tmp_path / "writer"), range(3))
    files = s3fs.S3FileSystem(skip_instance_cache=True)
    (path,) = files.ls(f"captionloop/damaged/{PRINT}.lance/data")
    whole = files.cat_file(path)
    files.pipe_file(path, whole[:-40])
    with pytest.raises(StoreError, match="cannot be used"):
        store("damaged", tmp_path / "reader").reader(PRINT).grids([key(0), key(1), key(2)])
    files.pipe_file(path, whole.replace(grid(1).tobytes(), grid(7).tobytes()))
    reader = store("damaged", tmp_path / "reader").reader(PRINT)
    with pytest.raises(StoreError, match="do not match their checksum"):
        reader.grids([key(0), key(1), key(2)])


def test_storage_that_is_not_there_is_one_line(
    s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreError, match="s3://no-such-bucket/x"):
        fill(FeatureStore("s3://no-such-bucket/x", cache=tmp_path), range(3))

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
