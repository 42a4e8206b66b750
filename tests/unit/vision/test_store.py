import errno
import fcntl
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from captionloop.errors import StoreError
from captionloop.vision import shards
from captionloop.vision.feature_store import FeatureStore

PRINT = "ab" * 16
SHAPE = (4, 6)


def key(number: int) -> str:
    return f"{number:064x}"


def grid(number: int) -> np.ndarray:
    return np.random.default_rng(number).normal(size=SHAPE).astype(np.float16)


def fill(store: FeatureStore, numbers: range | list[int], prefix: str = "1of1") -> None:
    with store.writer(PRINT, prefix) as writer:
        for number in numbers:
            writer.add(key(number), grid(number))


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "store", shard_bytes=5 * grid(0).nbytes)


def shard_files(store: FeatureStore) -> list[Path]:
    return sorted((Path(store.root) / PRINT).glob("*.safetensors"))


@given(st.lists(st.integers(0, 11), min_size=1, max_size=20))
@settings(max_examples=25, deadline=None)
def test_any_selection_in_any_order_reads_back(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int]
) -> None:
    store = FeatureStore(tmp_path_factory.mktemp("store"), shard_bytes=5 * grid(0).nbytes)
    fill(store, range(12))
    read = store.reader(PRINT).grids([key(number) for number in numbers])
    assert (read == np.stack([grid(number) for number in numbers])).all()


def test_means_are_those_of_the_grids(store: FeatureStore) -> None:
    fill(store, range(7))
    means = store.reader(PRINT).means([key(6), key(2)])
    expected = np.stack([grid(number).mean(axis=0, dtype=np.float32) for number in (6, 2)])
    np.testing.assert_allclose(means, expected, rtol=1e-6)


def test_a_shard_is_a_safetensors_file_that_tells_what_it_is(store: FeatureStore) -> None:
    fill(store, range(3))
    tensors = load_file(shard_files(store)[0])
    assert {name: array.shape for name, array in tensors.items()} == {
        "keys": (3, 32),
        "grids": (3, *SHAPE),
        "means": (3, SHAPE[1]),
        "checksums": (3,),
    }
    assert tensors["keys"][2].tobytes().hex() == key(2)


def test_an_empty_store_holds_nothing(store: FeatureStore) -> None:
    reader = store.reader(PRINT)
    assert len(reader) == 0
    assert key(1) not in reader
    with pytest.raises(StoreError, match="has no cached features; run feature_caching"):
        reader.grids([key(1)])


def test_encoders_are_kept_apart(store: FeatureStore) -> None:
    fill(store, range(3))
    assert len(store.reader("cd" * 16)) == 0


def test_several_workers_fill_one_store(store: FeatureStore) -> None:
    first, second = store.writer(PRINT, "1of2"), store.writer(PRINT, "2of2")
    with first, second:
        for number in range(20):
            (first, second)[number % 2].add(key(number), grid(number))
    assert set(store.reader(PRINT)) == {key(number) for number in range(20)}


def test_the_same_photos_written_twice_take_no_more_room(store: FeatureStore) -> None:
    fill(store, range(8))
    before = shard_files(store)
    fill(store, range(8))
    assert shard_files(store) == before
    assert len(store.reader(PRINT)) == 8


def test_a_reader_sees_the_store_as_it_was_when_it_was_opened(store: FeatureStore) -> None:
    fill(store, range(3))
    reader = store.reader(PRINT)
    fill(store, range(3, 6))
    assert len(reader) == 3
    assert len(store.reader(PRINT)) == 6


def test_what_was_computed_is_kept_when_something_else_fails(store: FeatureStore) -> None:
    with pytest.raises(KeyError), store.writer(PRINT) as writer:
        writer.add(key(1), grid(1))
        raise KeyError
    assert key(1) in store.reader(PRINT)


def test_a_full_disk_is_one_line_and_loses_nothing_written(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, range(5))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(shards.os, "posix_fallocate", full)
        with pytest.raises(
            StoreError, match=r"No space left on device.*those written before are safe"
        ) as caught:
            fill(store, range(5, 12))
    assert "\n" not in str(caught.value)
    assert set(store.reader(PRINT)) == {key(number) for number in range(5)}
    assert [path for path in (Path(store.root) / PRINT).iterdir() if path.suffix != ".safetensors"] == []
    fill(store, range(5, 12))
    assert len(store.reader(PRINT)) == 12


@pytest.mark.parametrize("cut", [1, 100, 10_000])
def test_a_shard_that_was_cut_off_is_found_when_the_store_is_opened(store: FeatureStore, cut: int) -> None:
    fill(store, range(5))
    path = shard_files(store)[0]
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(StoreError, match=r"is damaged.*delete it and run feature_caching again"):
        store.reader(PRINT)


@given(st.integers(0, 10**9), st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_no_flipped_byte_goes_unnoticed(
    tmp_path_factory: pytest.TempPathFactory, position: int, change: int
) -> None:
    store = FeatureStore(tmp_path_factory.mktemp("store"))
    fill(store, range(3))
    path = shard_files(store)[0]
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= change
    path.write_bytes(content)
    try:
        read = store.reader(PRINT).grids([key(number) for number in range(3)])
    except StoreError:
        return
    assert (read == np.stack([grid(number) for number in range(3)])).all()  # a byte that says nothing


def test_a_shard_that_disappears_is_an_error_and_not_a_crash(store: FeatureStore) -> None:
    fill(store, range(3))
    reader = store.reader(PRINT)
    shard_files(store)[0].unlink()
    with pytest.raises(StoreError, match="run feature_caching again"):
        reader.grids([key(0)])


def test_grids_that_float16_cannot_hold_are_refused(store: FeatureStore) -> None:
    with pytest.raises(StoreError, match="overflow float16"), store.writer(PRINT) as writer:
        writer.add(key(0), np.full(SHAPE, np.inf, np.float16))


def test_leftovers_of_a_killed_writer_go_and_those_of_a_living_one_stay(store: FeatureStore) -> None:
    folder = Path(store.root) / PRINT
    folder.mkdir(parents=True)
    dead, alive = (folder / f".1of1-{name}.safetensors.7.partial" for name in ("dead", "alive"))
    other = folder / ".2of9-x.safetensors.7.partial"
    for path in (dead, alive, other):
        path.touch()
    with alive.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        fill(store, range(1))
    assert not dead.exists()
    assert alive.exists()
    assert other.exists()


def test_a_store_in_object_storage_is_read_through_local_copies(tmp_path: Path) -> None:
    store = FeatureStore(
        "memory://captions/features", cache=tmp_path / "writer", shard_bytes=5 * grid(0).nbytes
    )
    fill(store, range(12))
    elsewhere = FeatureStore("memory://captions/features", cache=tmp_path / "reader")
    for _ in range(2):
        assert (elsewhere.reader(PRINT).grids([key(11), key(0)]) == np.stack([grid(11), grid(0)])).all()
    assert len(list((tmp_path / "reader").rglob("*.safetensors"))) == 3


def test_an_unknown_file_system_is_one_line() -> None:
    with pytest.raises(StoreError, match="cannot use 'floppy://a'"):
        FeatureStore("floppy://a").reader(PRINT)
