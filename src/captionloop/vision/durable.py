"""Files that are there whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path


def write_and_rename(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file beside its place, waits until the disk has it, and renames it onto its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    write(partial)
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)
