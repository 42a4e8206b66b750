"""Photos' SHA-256 as arrays: uint8 `[n, 32]` in, 64-bit hashes, indices and differences out.

A Python string of each hash takes 113 bytes, an entry here 16. The hash is multilinear (a sum of the key's
four words by odd multipliers, modulo 2^64); the multipliers are drawn anew in every process, so that nobody
can make two photos that are taken for one another. The odds that any two of 10 million agree by chance are
three in a million, and whoever reads an entry compares the whole key.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

KEY_BYTES: Final = 32
Keys = NDArray[np.uint8]
"""`[n, 32]`: the SHA-256 of n photos."""
Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]

_STORED: Final = np.uint64(1)
_MULTIPLIERS: Final[Hashes] = np.frombuffer(os.urandom(KEY_BYTES), np.uint64) | _STORED
_AT_ONCE: Final = 1 << 19


def keys_of(photos: Sequence[str]) -> Keys:
    """Hexadecimal SHA-256 to keys. Raises `ValueError` where one is none."""
    return np.frombuffer(bytes.fromhex("".join(photos)), np.uint8).reshape(-1, KEY_BYTES)


def hex_of(keys: Keys) -> list[str]:
    """Keys to hexadecimal SHA-256."""
    return [key.tobytes().hex() for key in keys]


def hashes_of(keys: Keys, multipliers: Hashes | None = None) -> Hashes:
    """`[n, 32]` to `[n]`; by this process's multipliers, or those of an index that another process made."""
    words = np.ascontiguousarray(keys).view("<u8").reshape(-1, KEY_BYTES // 8)
    hashed: Hashes = words @ (_MULTIPLIERS if multipliers is None else multipliers)
    return hashed


def in_blocks(keys: Keys) -> Iterator[Keys]:
    """An array in parts, so that what is computed of it is small."""
    return (keys[start : start + _AT_ONCE] for start in range(0, len(keys), _AT_ONCE))


def absent(photos: Iterable[Keys], stored: Iterable[Keys], stored_count: int) -> Keys:
    """Those of the photos that are not stored, each once, in their order.

    Both come in blocks; `photos` is gone through three times. Takes 8 bytes for each photo and each stored
    key: all hashes are sorted together, in place, and the lowest bit tells the stored ones.
    """
    together = np.empty(sum(map(len, photos)) + stored_count, np.uint64)
    filled = _fill(together, 0, (hashes_of(block) & ~_STORED for block in photos))
    filled = _fill(together, filled, (hashes_of(block) | _STORED for block in stored))
    together = together[:filled]
    together.sort()
    missing = np.concatenate([np.empty(0, np.uint64), *_unpaired(together)])
    del together
    if not len(missing):
        return np.empty((0, KEY_BYTES), np.uint8)
    found: dict[bytes, None] = {}
    for block in photos:
        for row in np.flatnonzero(_among(hashes_of(block) | _STORED, missing)):
            found[block[row].tobytes()] = None
    return np.frombuffer(b"".join(found), np.uint8).reshape(-1, KEY_BYTES)


def _fill(into: Hashes, start: int, blocks: Iterable[Hashes]) -> int:
    for block in blocks:
        into[start : start + len(block)] = block
        start += len(block)
    return start


def _unpaired(together: Hashes) -> Iterator[Hashes]:
    """The hashes, lowest bit set, of photos that no stored hash follows; a photo twice is looked at once."""
    for start in range(0, len(together), _AT_ONCE):
        part = together[start : start + _AT_ONCE]
        after = together[start + 1 : start + 1 + len(part)]
        if len(after) < len(part):
            after = np.append(after, ~part[-1])  # the end: what no hash is followed by
        alone = (part & _STORED == 0) & (after != part) & (after != part | _STORED)
        if alone.any():
            yield part[alone] | _STORED


def _among(hashes: Hashes, few: Hashes) -> NDArray[np.bool_]:
    """Which of the hashes are among these, which are sorted."""
    if not len(few):
        return np.zeros(len(hashes), np.bool_)
    places = np.searchsorted(few, hashes)
    places[places == len(few)] = 0
    found: NDArray[np.bool_] = few[places] == hashes
    return found


class KeyIndex:
    """Where keys are: sorted hashes and, beside them, places. Of a key twice, the first place counts.

    The hashes are of the process that made it, whose multipliers go with it to others (training in several
    processes hands them its features).
    """

    def __init__(self, hashes: Hashes, places: Places) -> None:
        self._multipliers = _MULTIPLIERS
        order = np.lexsort((places, hashes))
        ordered = hashes[order]
        first = np.ones(len(order), np.bool_)
        np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
        self.hashes: Hashes = ordered[first]
        self.places: Places = places[order][first]

    @classmethod
    def of(cls, blocks: Iterable[tuple[Keys, Places]], only: Keys | None = None) -> Self:
        """The index of keys that come in blocks with their places; of `only` these, if given."""
        wanted = None if only is None else np.unique(hashes_of(only))
        hashes, places = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
        for keys, where in blocks:
            hashed = hashes_of(keys)
            kept = slice(None) if wanted is None else _among(hashed, wanted)
            hashes.append(hashed[kept])
            places.append(where[kept])
        return cls(np.concatenate(hashes), np.concatenate(places))

    def __len__(self) -> int:
        return len(self.hashes)

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """Positions in this index; -1 where a key is not there."""
        hashed = hashes_of(keys, self._multipliers)
        found = np.minimum(np.searchsorted(self.hashes, hashed), max(0, len(self.hashes) - 1))
        if not len(self.hashes):
            return np.full(len(hashed), -1, np.int64)
        return np.where(self.hashes[found] == hashed, found, -1)
