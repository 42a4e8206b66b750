"""A folder on a disk of its own that is soon full, and can be made larger."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """A file system in memory, mounted on a folder."""

    def __init__(self, folder: Path, kib: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._mount("-t", "tmpfs", "-o", f"size={kib}k", "tmpfs")

    def resize(self, kib: int) -> None:
        """What is on it stays."""
        self._mount("-o", f"remount,size={kib}k")

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True, timeout=60)

    def _mount(self, *options: str) -> None:
        subprocess.run(["mount", *options, str(self.folder)], check=True, capture_output=True, timeout=60)


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[SmallDisk]:
    """The disk, gone afterwards with all that was on it; skips the test where none can be mounted."""
    try:
        disk = SmallDisk(folder, kib)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no disk can be mounted here (that takes root)")
    try:
        yield disk
    finally:
        disk.unmount()
