"""Stores of safetensors files, as versions before 0.2 wrote them."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from captionloop.cli import main
from captionloop.errors import StoreError
from captionloop.vision.feature_store import FeatureStore, held
from captionloop.vision.legacy_shards import migrate_shards
from captionloop.vision.photo_keys import keys_of

from .test_store import PRINT, grid, key


def write_shard(root: Path, name: str, numbers: range, broken: int | None = None) -> None:
    grids = np.stack([grid(number) for number in numbers])
    means = grids.mean(axis=1, dtype=np.float32)
    sums = [
        zlib.crc32(mean.tobytes(), zlib.crc32(each.tobytes()))
        for each, mean in zip(grids, means, strict=True)
    ]
    if broken is not None:
        grids[broken] += 1
    tensors = {
        "keys": keys_of([key(number) for number in numbers]),
        "grids": grids,
        "means": means,
        "checksums": np.array(sums, np.uint32),
    }
    (root / PRINT).mkdir(parents=True, exist_ok=True)
    save_file(tensors, root / PRINT / f"1of1-{name}.safetensors", {"fingerprint": PRINT})


def test_an_older_store_is_refused_with_the_command_that_moves_it(tmp_path: Path) -> None:
    write_shard(tmp_path, "a", range(3))
    store = FeatureStore(tmp_path)
    for attempt in (
        lambda: store.reader(PRINT),
        lambda: store.missing(PRINT, [key(1)]),
        lambda: held(store, [key(1)]),
    ):
        with pytest.raises(StoreError, match="run captionloop features migrate"):
            attempt()


def test_what_an_older_store_holds_is_moved_and_what_is_damaged_left_out(tmp_path: Path) -> None:
    write_shard(tmp_path, "a", range(5), broken=2)
    write_shard(tmp_path, "b", range(5, 9))
    (tmp_path / PRINT / "1of1-c.safetensors").write_bytes(b"torn")
    command = CliRunner().invoke(main, ["features", "migrate", "--feature-store", str(tmp_path)])
    assert command.output.splitlines()[-1] == f"{tmp_path}: 8 features moved"
    store = FeatureStore(tmp_path)
    assert store.missing(PRINT, [key(number) for number in range(9)]) == [key(2)]
    kept = [number for number in range(9) if number != 2]
    read = store.reader(PRINT).grids([key(number) for number in kept])
    assert (read == np.stack([grid(number) for number in kept])).all()
    assert [path.name for path in tmp_path.iterdir()] == [f"{PRINT}.lance"]


def test_killed_in_between_the_rest_is_moved_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shard(tmp_path, "a", range(5))

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    store = FeatureStore(tmp_path)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("fsspec.implementations.local.LocalFileSystem.rm_file", kill)
        migrate_shards(store)
    write_shard(tmp_path, "b", range(3, 8))
    assert migrate_shards(store) == 3
    rows = store.table(PRINT).open()
    assert rows is not None and len(rows) == 8


@pytest.mark.integration
def test_an_older_store_in_object_storage_is_moved(s3_server: str, tmp_path: Path) -> None:
    import s3fs

    write_shard(tmp_path, "a", range(5))
    s3fs.S3FileSystem(skip_instance_cache=True).put(
        str(tmp_path / PRINT), "captionloop/older/", recursive=True
    )
    store = FeatureStore("s3://captionloop/older", cache=tmp_path / "cache")
    with pytest.raises(StoreError, match="run captionloop features migrate"):
        store.reader(PRINT)
    assert migrate_shards(store) == 5
    assert (store.reader(PRINT)[key(4)] == grid(4)).all()
    assert [table.fingerprint for table in store.tables()] == [PRINT]
