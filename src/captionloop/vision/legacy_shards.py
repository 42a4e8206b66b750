"""Stores of versions before 0.2: safetensors files in, rows of the Lance table out, the files removed.

Such a file holds `keys` (uint8 [n, 32]), `grids` (float16 [n, R, C]), `means` and `checksums` (CRC-32 of grid
and mean). What is damaged in it is left out, and encoded again when it is needed.
"""

import logging
import zlib
from pathlib import PurePosixPath

import fsspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from captionloop.errors import StoreError, in_a_line
from captionloop.vision.feature_store import FeatureStore
from captionloop.vision.feature_table import SHARD_SUFFIX
from captionloop.vision.photo_keys import hex_of

logger = logging.getLogger(__name__)


def migrate_shards(store: FeatureStore) -> int:
    """Moves what such files hold into the store's tables; how many features those were.

    Killed at any moment, the next call goes on from there.

    Raises:
        StoreError: the store cannot be read or written.
    """
    try:
        files, root = fsspec.url_to_fs(store.root)
        found = sorted(files.glob(f"{root}/*/*{SHARD_SUFFIX}"))
        moved = 0
        for path in found:
            moved += _move(store, PurePosixPath(path).parent.name, path, files.cat_file(path))
            files.rm_file(path)
        for folder in {str(PurePosixPath(path).parent) for path in found}:
            if files.isdir(folder) and not files.ls(folder, detail=False):
                files.rmdir(folder)
    except StoreError:
        raise
    except Exception as error:  # each storage's driver has errors of its own kind
        raise StoreError(
            f"the feature store {store.root} cannot be migrated ({in_a_line(error)}); run it again: what was"
            " moved is safe"
        ) from error
    return moved


def _move(store: FeatureStore, fingerprint: str, path: str, content: bytes) -> int:
    try:
        tensors = load(content)
        keys, grids = tensors["keys"], tensors["grids"]
        rows = zip(grids, tensors["means"], tensors["checksums"], strict=True)
        valid = [
            zlib.crc32(mean.tobytes(), zlib.crc32(grid.tobytes())) == checksum
            for grid, mean, checksum in rows
        ]
    except (SafetensorError, KeyError, ValueError) as error:
        logger.warning("%s is damaged, and left out: %s", path, in_a_line(error))
        return 0
    if not all(valid):
        logger.warning("%s: %d of %d entries are damaged, and left out", path, valid.count(False), len(valid))
    names = hex_of(keys)
    intact = {name for name, fits in zip(names, valid, strict=True) if fits}
    wanted = intact - store.table(fingerprint).holds(intact)
    with store.writer(fingerprint) as writer:
        for name, grid in zip(names, grids, strict=True):
            if name in wanted:
                writer.add(name, np.asarray(grid))
    return len(wanted)
