"""Writes files and folders atomically: to a temporary path in the same folder, fsync, rename."""

import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_CANNOT_EXCHANGE: Final = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EXDEV)


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file beside its place, waits until the disk has it, and renames it onto its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    write(partial)
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def begin_folder(final: Path) -> Path:
    """An empty folder beside `final`, to be filled and handed to `replace_folder`.

    What an earlier one left there that was killed is removed.
    """
    partial, old = _beside(final)
    if os.path.lexists(old) and not os.path.lexists(final):
        old.rename(final)  # killed between the two renames: see replace_folder
    for rest in (partial, old):
        _remove(rest)
    partial.mkdir(parents=True)
    return partial


def replace_folder(partial: Path, final: Path) -> None:
    """Puts a finished folder on the same file system in the place of `final`, in one step.

    The two change places (Linux: renameat2 with RENAME_EXCHANGE), so that at every moment the old folder or
    the new one is at `final`, whole. Where the system or the file system cannot do that (NFS, FUSE, macOS),
    the old one steps aside first. Killed in between, there is none, and `begin_folder` puts the old one back.
    """
    if not os.path.lexists(final):
        partial.rename(final)
    elif _exchange(partial, final):
        _remove(partial)
    else:
        _, old = _beside(final)
        _remove(old)
        final.rename(old)
        partial.rename(final)
        _remove(old)
    to_disk(final.parent)


def files_below(folder: Path) -> list[str]:
    """The paths of all that is no folder below a folder, with forward slashes, sorted.

    Linked folders are entered, as whoever opens a file by its path does; one that leads back to a folder that
    it lies in is not.
    """
    return sorted(_below(folder, "", ()))


def _below(folder: Path, prefix: str, entered: tuple[tuple[int, int], ...]) -> Iterator[str]:
    try:
        place = folder.stat()
        entries = list(os.scandir(folder))
    except OSError:  # gone meanwhile, or not for us to read
        return
    if (place.st_dev, place.st_ino) in entered:
        return
    for entry in entries:
        if _is_folder(entry):
            inner = (*entered, (place.st_dev, place.st_ino))
            yield from _below(folder / entry.name, f"{prefix}{entry.name}/", inner)
        else:
            yield f"{prefix}{entry.name}"


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def flush_folder(folder: Path) -> None:
    """Waits until the disk has the files of a folder, and their names."""
    for file in folder.iterdir():
        (flush_folder if file.is_dir() else to_disk)(file)
    to_disk(folder)


def _beside(final: Path) -> tuple[Path, Path]:
    return final.with_name(f".{final.name}.partial"), final.with_name(f".{final.name}.old")


def _exchange(one: Path, other: Path) -> bool:
    """Has two names change places; False where that cannot be done here."""
    rename = _renameat2()
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(other))


@cache
def _renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    try:
        found: Callable[[int, bytes, int, bytes, int], int] = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    return found


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def to_disk(path: Path) -> None:
    """Waits until the disk has a file's content, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def beside(place: Path) -> Iterator[Path]:
    """A temporary folder on the same file system as a file or folder that is to be made."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as folder:
        yield Path(folder)
