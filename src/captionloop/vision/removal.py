"""Taking photos out of a feature store: shards are immutable, so those that hold one are written anew."""

from collections.abc import Collection
from pathlib import Path

import fsspec
import numpy as np

from captionloop.errors import StoreError
from captionloop.vision.shard_folders import ShardFolder
from captionloop.vision.shards import SUFFIX, Shard
from captionloop.vision.store import FeatureStore


def drop_features(store: FeatureStore, photos: Collection[str]) -> int:
    """Removes what the store holds of these photos, of every encoder and view; how many entries those were.

    First a shard without them appears, then the one with them goes: killed in between, both are there, and
    the next time the rest is done. Who has opened the store before finds an entry of such a shard gone.

    Raises:
        StoreError: the store cannot be read or written, or a shard is damaged.
    """
    wanted = frozenset(photos)
    return sum(_drop(store.shards(name), name, wanted) for name in _fingerprints(store.root))


def held(store: FeatureStore, photos: Collection[str]) -> set[str]:
    """Those of these photos of which the store holds something.

    Raises:
        StoreError: as `drop_features`.
    """
    found: set[str] = set()
    for fingerprint in _fingerprints(store.root):
        folder = store.shards(fingerprint)
        for name in folder.names():
            found.update(set(photos).intersection(Shard.open(folder.fetch(name), fingerprint).keys))
    return found


def _drop(folder: ShardFolder, fingerprint: str, photos: frozenset[str]) -> int:
    dropped = 0
    for name in folder.names():
        shard = Shard.open(folder.fetch(name), fingerprint)
        kept = [row for row, key in enumerate(shard.keys) if key not in photos]
        if len(kept) == len(shard.keys):
            continue
        if kept:
            grids = np.empty((len(kept), shard.regions, shard.channels), np.float16)
            shard.read_grids(kept, grids, range(len(kept)))
            try:
                folder.write(name.rpartition("-")[0], [shard.keys[row] for row in kept], grids)
            except OSError as error:
                raise StoreError(f"shard {name} cannot be written anew: {error.strerror or error}") from error
        folder.remove(name)
        dropped += len(shard.keys) - len(kept)
    return dropped


def _fingerprints(root: str) -> list[str]:
    """The folders of a store."""
    try:
        files, path = fsspec.url_to_fs(root)
        found = files.ls(path, detail=True)
    except FileNotFoundError:
        return []
    except Exception as error:  # each storage's driver has errors of its own kind
        raise StoreError(f"the feature store {root} cannot be read ({type(error).__name__})") from error
    names = (Path(str(each["name"])).name for each in found if each["type"] == "directory")
    return sorted(name for name in names if not name.startswith(".") and not name.endswith(SUFFIX))
