from pathlib import Path

import numpy as np
import pytest

from captionloop.errors import StoreError
from captionloop.vision import feature_store
from captionloop.vision.feature_store import FeatureStore

from .test_store import PRINT, data_files, fill, grid, key, store  # noqa: F401 - a fixture

OTHER = "cd" * 16


def test_photos_that_are_taken_out_are_in_no_file_and_the_others_are_as_before(store: FeatureStore) -> None:  # noqa: F811
    fill(store, range(12))
    with store.writer(OTHER) as writer:
        writer.add(key(3), grid(3))
    assert feature_store.held(store, [key(3), key(11), key(99)]) == {key(3), key(11)}
    assert feature_store.drop_features(store, [key(3), key(11), key(99)]) == 3
    assert feature_store.held(store, [key(3), key(11)]) == set()
    reader, left = store.reader(PRINT), [number for number in range(12) if number not in {3, 11}]
    assert sorted(reader) == [key(number) for number in left]
    read = reader.grids([key(number) for number in left])
    assert (read == np.stack([grid(number) for number in left])).all()
    assert len(store.reader(OTHER)) == 0
    remains = b"".join(path.read_bytes() for path in Path(store.root).rglob("*") if path.is_file())
    assert grid(3).tobytes() not in remains and grid(4).tobytes() in remains


def test_files_without_one_of_the_photos_are_not_touched(store: FeatureStore) -> None:  # noqa: F811
    fill(store, range(12))
    before = {path.name: path.stat().st_mtime_ns for path in data_files(store)}
    feature_store.drop_features(store, [key(11)])
    after = {path.name: path.stat().st_mtime_ns for path in data_files(store)}
    assert len(before.items() & after.items()) == len(before) - 1


def test_killed_before_the_files_are_written_anew_the_rest_is_done_the_next_time(
    store: FeatureStore,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(store, range(5))

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("captionloop.vision.feature_table.FeatureTable.compact", kill)
        feature_store.drop_features(store, [key(2)])
    assert sorted(store.reader(PRINT)) == [key(number) for number in (0, 1, 3, 4)]
    feature_store.drop_features(store, [key(2)])
    remains = b"".join(path.read_bytes() for path in Path(store.root).rglob("*") if path.is_file())
    assert grid(2).tobytes() not in remains and grid(1).tobytes() in remains


def test_there_is_nothing_in_a_store_that_is_not_there(tmp_path: Path) -> None:
    nowhere = FeatureStore(tmp_path / "none")
    assert (
        feature_store.drop_features(nowhere, [key(1)]) == 0 and feature_store.held(nowhere, [key(1)]) == set()
    )
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_read_is_one_line() -> None:
    with pytest.raises(StoreError, match="feature store"):
        feature_store.held(FeatureStore("nothing://here"), [key(1)])
