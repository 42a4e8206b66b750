"""Feature stores side by side: random reads, writing, what a kill and a flipped bit leave, and code to own.

python -m benchmarks.stores                                # 2,000 grids of 49 x 1280, some minutes
python -m benchmarks.stores --grids 600 --kills 2          # a moment

Every store keeps float16 grids by key, uncompressed (features do not compress), and is to have on the disk
what it was given, every 64 MiB.
"""

import argparse
import inspect
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import lance
import numpy as np
import pyarrow as pa
import zarr

from benchmarks.timing import interleaved
from captionloop.vision import feature_rows, feature_store, feature_table, photo_keys
from captionloop.vision.feature_store import FeatureStore

REGIONS, CHANNELS = 49, 1280
BATCH = 32
FLUSHED: int = feature_store.FRAGMENT_BYTES // (REGIONS * CHANNELS * 2)
"""Grids between two flushes."""

Grids = np.ndarray
Read = Callable[[Sequence[str]], Grids]


class Store(Protocol):
    """What is compared. `write` adds to what is there, and says after each flush which number comes next."""

    def write(self, folder: Path, numbers: range) -> Iterator[int]: ...

    def open(self, folder: Path) -> tuple[list[str], Read]: ...


def key(number: int) -> str:
    return f"{number:064x}"


def grid(number: int) -> Grids:
    """Random bits of the number: a torn grid cannot be mistaken for another."""
    return np.random.default_rng(number).random((REGIONS, CHANNELS), np.float32).astype(np.float16)


def portions(numbers: range) -> Iterator[range]:
    for at in range(numbers.start, numbers.stop, FLUSHED):
        yield range(at, min(numbers.stop, at + FLUSHED))


class Ours:
    """The feature store: a Lance table with checksums, which waits for the disk and reads by key."""

    def write(self, folder: Path, numbers: range) -> Iterator[int]:
        for portion in portions(numbers):
            with FeatureStore(folder).writer("encoder") as writer:
                for number in portion:
                    writer.add(key(number), grid(number))
            yield portion.stop

    def open(self, folder: Path) -> tuple[list[str], Read]:
        reader = FeatureStore(folder).reader("encoder")
        return list(reader), reader.grids


class Lance:
    """Lance as it comes, appended to: lists of float16, no checksums, nothing that waits for the disk."""

    def write(self, folder: Path, numbers: range) -> Iterator[int]:
        for portion in portions(numbers):
            flat = np.concatenate([grid(number).ravel() for number in portion])
            grids = pa.FixedSizeListArray.from_arrays(pa.array(flat), REGIONS * CHANNELS)
            rows = pa.table({"key": [key(number) for number in portion], "grid": grids})
            lance.write_dataset(rows, str(folder / "features.lance"), mode="append")
            yield portion.stop

    def open(self, folder: Path) -> tuple[list[str], Read]:
        rows = lance.dataset(str(folder / "features.lance"))
        keys = rows.to_table(columns=["key"])["key"].to_pylist()
        places = {each: place for place, each in enumerate(keys)}

        def read(wanted: Sequence[str]) -> Grids:
            taken = rows.take([places[each] for each in wanted], columns=["grid"])["grid"]
            return taken.combine_chunks().flatten().to_numpy().reshape(-1, REGIONS, CHANNELS)

        return keys, read


class Zarr:
    """Zarr 3: a chunk for each grid, sharded by flush, with checksums; the keys in an array beside them."""

    def write(self, folder: Path, numbers: range) -> Iterator[int]:
        grids, keys = self._arrays(folder)
        for portion in portions(numbers):
            grids.append(np.stack([grid(number) for number in portion]))
            text = "".join(key(number) for number in portion).encode()
            keys.append(np.frombuffer(text, np.uint8).reshape(-1, 64))
            yield portion.stop

    @staticmethod
    def _arrays(folder: Path) -> tuple[zarr.Array, zarr.Array]:
        if (folder / "keys.zarr" / "zarr.json").exists():
            return zarr.open_array(str(folder / "grids.zarr")), zarr.open_array(str(folder / "keys.zarr"))
        grids = zarr.create_array(
            str(folder / "grids.zarr"), shape=(0, REGIONS, CHANNELS), dtype="float16",
            chunks=(1, REGIONS, CHANNELS), shards=(FLUSHED, REGIONS, CHANNELS),
            compressors=[zarr.codecs.Crc32cCodec()],
        )  # fmt: skip
        keys = zarr.create_array(
            str(folder / "keys.zarr"), shape=(0, 64), dtype="uint8", chunks=(FLUSHED, 64)
        )
        return grids, keys

    def open(self, folder: Path) -> tuple[list[str], Read]:
        grids = zarr.open_array(str(folder / "grids.zarr"), mode="r")
        keys = [
            bytes(row).decode() for row in np.asarray(zarr.open_array(str(folder / "keys.zarr"), mode="r")[:])
        ]
        places = {each: place for place, each in enumerate(keys)}

        def read(wanted: Sequence[str]) -> Grids:
            return np.asarray(grids.oindex[[places[each] for each in wanted]])

        return keys, read


class MemoryMap:
    """One .npy file of full size, mapped into memory; the keys, a line each, say what is there."""

    def write(self, folder: Path, numbers: range) -> Iterator[int]:
        file, shape = folder / "grids.npy", (numbers.stop, REGIONS, CHANNELS)
        mode: Literal["r+", "w+"] = "r+" if file.exists() else "w+"
        grids = np.lib.format.open_memmap(file, mode, np.float16, shape)
        with (folder / "keys.txt").open("a") as keys:
            for portion in portions(numbers):
                for number in portion:
                    grids[number] = grid(number)
                grids.flush()
                keys.writelines(key(number) + "\n" for number in portion)
                keys.flush()
                os.fsync(keys.fileno())
                yield portion.stop

    def open(self, folder: Path) -> tuple[list[str], Read]:
        grids = np.load(folder / "grids.npy", mmap_mode="r")
        keys = (folder / "keys.txt").read_text().split("\n")[:-1]
        places = {each: place for place, each in enumerate(keys)}

        def read(wanted: Sequence[str]) -> Grids:
            return grids[[places[each] for each in wanted]]

        return keys, read


STORES: dict[str, Store] = {"ours": Ours(), "lance": Lance(), "zarr": Zarr(), "memory map": MemoryMap()}


def lines_to_own(each: Store) -> int:
    """Lines of code that would be ours: the adapter above, and for our own store all of it."""
    lines = len(inspect.getsource(type(each)).splitlines())
    if isinstance(each, Ours):
        lines += sum(
            len(inspect.getsource(module).splitlines())
            for module in (feature_store, feature_table, feature_rows, photo_keys)
        )
    return lines


def forget(folder: Path) -> None:
    """Asks the kernel to drop what it keeps of these files, so that the disk is read."""
    for file in folder.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def speed(folder: Path, count: int, rounds: int) -> dict[str, list[float]]:
    """Grids a second of each: written, read at random from memory, read at random from the disk."""
    written: dict[str, float] = {}
    for name, each in STORES.items():
        (folder / name).mkdir()
        began = time.perf_counter()
        for _ in each.write(folder / name, range(count)):
            pass
        written[name] = count / (time.perf_counter() - began)
    draw = random.Random(0)
    batches = [[key(draw.randrange(count)) for _ in range(BATCH)] for _ in range(max(4, count // BATCH // 4))]
    readers = {name: each.open(folder / name)[1] for name, each in STORES.items()}

    def read_all(read: Read) -> None:
        for batch in batches:
            read(batch)  # each gives an array of its own: a map, indexed by numbers, copies as well

    grids = BATCH * len(batches)
    from_memory = interleaved({name: partial(read_all, read) for name, read in readers.items()}, rounds)
    readers.clear()
    from_disk: dict[str, float] = {}
    for name in STORES:
        seconds = []
        for _ in range(rounds):
            forget(folder / name)
            began = time.perf_counter()
            read_all(STORES[name].open(folder / name)[1])
            seconds.append(time.perf_counter() - began)
        from_disk[name] = statistics.median(seconds)
    return {name: [written[name], grids / from_memory[name], grids / from_disk[name]] for name in STORES}


def read_back(name: str, folder: Path) -> tuple[int, int]:
    """How many grids the store says it has, and how many of those are wrong without its saying so."""
    keys, read = STORES[name].open(folder)
    wrong = 0
    for each in keys:
        expected = grid(int(each, 16))
        wrong += not np.array_equal(np.asarray(read([each]))[0].view(np.uint16), expected.view(np.uint16))
    return len(keys), wrong


def writer(name: str, folder: Path, numbers: range) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.stores", "--write", name, str(folder)]
    command += [str(numbers.start), str(numbers.stop)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def verdict(name: str, folder: Path, least: int) -> str:
    """What somebody would find who opened the store now and knew that `least` grids were on the disk."""
    try:
        found, wrong = read_back(name, folder)
    except Exception:  # whatever a library raises
        return "unreadable"
    return f"{wrong} wrong, {least - found} lost" if wrong or found < least else "whole"


def killed(name: str, folder: Path, count: int, moment: float) -> str:
    """What is there after SIGKILL `moment` seconds past the first flush, and after the rest was added."""
    with writer(name, folder, range(count)) as process:
        assert process.stdout
        durable = int(process.stdout.readline())
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        durable = max([durable, *(int(line) for line in process.stdout.read().split())])
    after = verdict(name, folder, durable)
    if after != "whole":
        return after
    with writer(name, folder, range(len(STORES[name].open(folder)[0]), count)) as process:
        process.communicate()
    resumed = verdict(name, folder, count)
    return "whole, and whole when finished" if resumed == "whole" else f"whole, but when finished {resumed}"


def together(name: str, folder: Path, count: int) -> str:
    """What two writers leave that fill a store at the same time, half each."""
    halves = [range(count // 2), range(count // 2, count)]
    for process in [writer(name, folder, numbers) for numbers in halves]:
        process.communicate()
    return verdict(name, folder, count)


def flipped(name: str, folder: Path) -> str:
    """Whether a byte that changed in the largest file is noticed when everything is read."""
    largest = max(
        (file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size
    )
    with largest.open("r+b") as file:
        file.seek(largest.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    try:
        return "not noticed" if read_back(name, folder)[1] else "without effect"
    except Exception:  # whatever a library raises
        return "noticed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--grids", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=3, help="of each store's writer, at random moments")
    parser.add_argument(
        "--write", nargs=4, metavar=("STORE", "FOLDER", "FROM", "TO"), help="only write: the process to kill"
    )
    chosen = parser.parse_args()
    if chosen.write:
        name, to, first, last = chosen.write
        for durable in STORES[name].write(Path(to), range(int(first), int(last))):
            print(durable, flush=True)
        return
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        figures = speed(folder, chosen.grids, chosen.rounds)
        print(f"{chosen.grids} grids of {REGIONS} x {CHANNELS}, batches of {BATCH} at random; grids a second")
        print(f"  {'':12}{'written':>9}{'from memory':>13}{'ratio':>8}{'from disk':>11}{'ratio':>8}"
              f"{'MB on disk':>12}{'lines to own':>14}  a flipped bit")  # fmt: skip
        ours = figures["ours"]
        for name, (written, memory, disk) in figures.items():
            size = sum(file.stat().st_blocks * 512 for file in (folder / name).rglob("*") if file.is_file())
            print(f"  {name:12}{written:9,.0f}{memory:13,.0f}{memory / ours[1]:7.2f}x{disk:11,.0f}"
                  f"{disk / ours[2]:7.2f}x{size / 1e6:12,.0f}{lines_to_own(STORES[name]):14}"
                  f"  {flipped(name, folder / name)}", flush=True)  # fmt: skip
            shutil.rmtree(folder / name)
        print(f"\nAfter SIGKILL, {chosen.kills} times each, up to 2 s past the first flush:")
        draw, count = random.Random(1), 4 * FLUSHED
        for name in STORES:
            ends = []
            for _ in range(chosen.kills):
                (folder / "killed").mkdir()
                ends.append(killed(name, folder / "killed", count, draw.uniform(0, 2)))
                shutil.rmtree(folder / "killed")
            summary = ", ".join(f"{ends.count(end)} x {end}" for end in sorted(set(ends)))
            print(f"  {name:12}{summary}", flush=True)
        print("\nAfter two writers at once:")
        for name in STORES:
            (folder / "together").mkdir()
            print(f"  {name:12}{together(name, folder / 'together', count)}", flush=True)
            shutil.rmtree(folder / "together")


if __name__ == "__main__":
    main()
