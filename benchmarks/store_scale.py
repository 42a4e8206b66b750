"""The feature store with very many photos: what is missing, what is erased, what training waits for.

python -m benchmarks.store_scale                             # 10 million keys, 1 million rows: minutes
python -m benchmarks.store_scale --keys 200000 --rows 50000  # a moment

Beside each figure stands that of a plain alternative in the same run: Python's sets of strings; a copy of the
whole table; a bare memory map. Grids of the first two are tiny: it is the books that are measured.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from captionloop.vision.feature_store import FeatureStore
from captionloop.vision.photo_keys import Keys, hex_of

PRINT = "encoder"
BATCH = 32
AT_ONCE = 1 << 19


@dataclass(frozen=True)
class KeysOfFile:
    """The keys of a corpus, read from a file in blocks, as often as they are asked for."""

    path: Path

    def __iter__(self) -> Iterator[Keys]:
        with self.path.open("rb") as file:
            while len(block := np.fromfile(file, np.uint8, AT_ONCE * 32)):
                yield block.reshape(-1, 32)


def draw_keys(count: int, path: Path) -> KeysOfFile:
    draw = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, count, AT_ONCE):
            file.write(draw.bytes(32 * min(AT_ONCE, count - start)))
    return KeysOfFile(path)


def fill(store: FeatureStore, keys: KeysOfFile, channels: int) -> None:
    for block in keys:
        store.table(PRINT).append(block, np.ones((len(block), 1, channels), np.float16))


def missing(way: str, folder: Path) -> dict[str, float]:
    """In a process of its own: seconds from opening the store to the answer, and memory at its peak."""
    keys = KeysOfFile(folder / "corpus.keys")
    began, of_cpu = time.perf_counter(), time.process_time()
    if way == "store":
        found = len(FeatureStore(folder / "store").missing_keys(PRINT, keys))
    else:
        rows = FeatureStore(folder / "store").table(PRINT).open()
        assert rows is not None
        stored = {key for block in rows.key_blocks() for key in hex_of(block)}
        found = sum(key not in stored for block in keys for key in hex_of(block))
    return {
        "found": found,
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - of_cpu,
        "MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def show_missing(count: int, folder: Path) -> None:
    fill(FeatureStore(folder / "store"), draw_keys(count, folder / "corpus.keys"), 4)
    with (folder / "corpus.keys").open("ab") as file:
        file.write(b"new!" * 8)
    print(f"What is missing of {count:,} photos and a new one")
    for way in ("store", "sets of strings"):
        command = [sys.executable, "-m", "benchmarks.store_scale", "--missing", way, str(folder)]
        report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        spent = f"{report['seconds']:8.2f} s ({report['cpu']:.2f} s of all cores)"
        print(f"  {way:18}{spent}{report['MiB']:9,.0f} MiB, {report['found']:.0f} missing", flush=True)


def show_erasure(count: int, erased: int, folder: Path) -> None:
    store = FeatureStore(folder / "store")
    fill(store, draw_keys(count, folder / "corpus.keys"), 64)
    draw = np.random.default_rng(1)
    everything = np.concatenate(list(KeysOfFile(folder / "corpus.keys")))
    photos = hex_of(everything[draw.choice(count, erased, replace=False)])
    table = store.table(PRINT)

    def size() -> float:
        return sum(file.stat().st_size for file in folder.rglob("*.lance") if file.is_file()) / 1e6

    before, began, of_cpu = size(), time.perf_counter(), time.process_time()
    deleted = table.delete(photos)
    after = time.perf_counter()
    left = table.holds(photos)
    proven, of_cpu = time.perf_counter(), time.process_time() - of_cpu
    print(f"{erased:,} photos erased of {count:,}, from the files as well")
    print(
        f"  deleted and compacted{after - began:8.2f} s, {deleted:,} rows, {before:,.0f} to {size():,.0f} MB"
    )
    print(f"  proof of absence     {proven - after:8.2f} s, {len(left)} left")
    print(f"  both, of all cores   {of_cpu:8.2f} s")
    began = time.perf_counter()
    rows = table.open()
    assert rows is not None
    import lance

    lance.write_dataset(rows.dataset.scanner().to_reader(), str(folder / "copy.lance"))
    print(f"  a copy of all of it  {time.perf_counter() - began:8.2f} s", flush=True)


def show_reads(grids: int, rates: list[float], rounds: int, folder: Path) -> None:
    """Seconds a batch takes from the store and from a memory map, and what training has of that."""
    from benchmarks.timing import interleaved  # which imports PyTorch: 300 MiB that nobody else here needs

    regions, channels = 49, 1280
    keys = draw_keys(grids, folder / "corpus.keys")
    (block,) = keys
    names, draw = hex_of(block), np.random.default_rng(2)
    mapped = np.lib.format.open_memmap(folder / "grids.npy", "w+", np.float16, (grids, regions, channels))
    with FeatureStore(folder / "store").writer(PRINT) as writer:
        for number, name in enumerate(names):
            mapped[number] = draw.random((regions, channels), np.float32)
            writer.add(name, mapped[number])
    mapped.flush()
    reader, bare = FeatureStore(folder / "store").reader(PRINT), np.load(folder / "grids.npy", mmap_mode="r")
    batches = [draw.integers(0, grids, BATCH).tolist() for _ in range(40)]

    def from_store() -> None:
        for batch in batches:
            reader.grids([names[number] for number in batch])

    def from_map() -> None:
        for batch in batches:
            bare[batch]

    from_store()
    seconds = interleaved({"store": partial(from_store), "memory map": partial(from_map)}, rounds)
    print(f"Random reads, batches of {BATCH} grids of {regions} x {channels} in memory")
    for name, spent in seconds.items():
        print(f"  {name:14}{len(batches) * BATCH / spent:10,.0f} grids/s")
    for rate in rates:
        each = {name: spent / len(batches) + BATCH / rate for name, spent in seconds.items()}
        print(f"  of a training that takes {rate:,.0f} photos/s and reads nothing ahead:"
              f" {each['memory map'] / each['store']:.3f} x the memory map")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--keys", type=int, default=10_000_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--erased", type=int, default=1_000)
    parser.add_argument("--grids", type=int, default=1_000)
    parser.add_argument("--rates", type=float, nargs="+", default=[180.0, 400.0, 1000.0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--missing", nargs=2, metavar=("WAY", "FOLDER"), help="the process that is measured")
    chosen = parser.parse_args()
    if chosen.missing:
        print(json.dumps(missing(chosen.missing[0], Path(chosen.missing[1]))))
        return
    for show in (
        partial(show_missing, chosen.keys),
        partial(show_erasure, chosen.rows, chosen.erased),
        partial(show_reads, chosen.grids, chosen.rates, chosen.rounds),
    ):
        with tempfile.TemporaryDirectory() as folder:
            show(Path(folder))


if __name__ == "__main__":
    main()
