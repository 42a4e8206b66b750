"""Putting a finished folder in its place."""

import shutil
from pathlib import Path


def replace_folder(partial: Path, final: Path) -> None:
    """Renames `partial`, a complete folder beside `final`, onto it.

    A folder cannot be renamed onto one that holds files, so the old one steps aside first. Killed in between,
    there is no folder at `final`, never a part of one: the next run finds the output missing and makes it
    again.
    """
    old = final.with_name(f".{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.replace(old)
    partial.replace(final)
    shutil.rmtree(old, ignore_errors=True)
