"""Paths as people write them: spelled out the same way wherever they come from.

A shell spells out `~` where it stands at the beginning of a word, and not in `workspace=~/x`, in
`--output=~/x`, in a file, or in a variable that a service manager sets.
"""

import os
import re
import tempfile
from pathlib import Path
from typing import Any, Final

from captionloop.errors import ConfigurationError

_BEFORE: Final = r"(?P<scheme>sqlite:///|file://)?"
_HOME: Final = re.compile(_BEFORE + r"(?P<begin>~[\w.-]*)(?=/|$)(?P<rest>.*)", re.DOTALL)
_VARIABLE: Final = re.compile(_BEFORE + r"(?P<begin>\$\w+|\$\{\w+\})(?P<rest>/.*)", re.DOTALL)
_SOCKET_BYTES: Final = 102
"""How long the path of a Unix socket may be for BentoML; for Linux 107, for macOS 103."""
_SOCKET_NAME: Final = len("/bentoml-uds-12345678/123456789012345.sock")


def expanded(path: str) -> str:
    """A path or URI with the `~`, `~user` or `$VARIABLE` that it begins with spelled out; else as it is.

    Raises:
        ConfigurationError: there is no such user, or the variable is not set.
    """
    found = _HOME.fullmatch(path)
    if found is not None:
        begin, complaint = _home_of(found["begin"]), "there is no such user"
    else:
        found = _VARIABLE.fullmatch(path)
        if found is None:
            return path
        begin, complaint = os.path.expandvars(found["begin"]), "the variable is not set"
    if begin == found["begin"] or not begin:
        raise ConfigurationError(
            f"The path {path!r} cannot be spelled out: {complaint} ({found['begin']}); write the whole path,"
            " or ./ before it where a folder is really called so"
        )
    return f"{found['scheme'] or ''}{begin}{found['rest']}"


def expanded_everywhere(configured: Any) -> Any:
    """The same configuration with every path in it `expanded`, however deep; what is no text stays.

    Raises:
        ConfigurationError: as `expanded`.
    """
    if isinstance(configured, str):
        return expanded(configured)
    if isinstance(configured, dict):
        return {name: expanded_everywhere(value) for name, value in configured.items()}
    if isinstance(configured, list):
        return [expanded_everywhere(value) for value in configured]
    return configured


def home_folder() -> Path:
    """The home folder of whoever runs this.

    Raises:
        ConfigurationError: there is none: a container's user without a name, and no `HOME`.
    """
    try:
        return Path.home()
    except RuntimeError:
        raise ConfigurationError(
            "There is no home folder to keep anything in: set HOME, or CAPTIONLOOP_STATE to a folder"
        ) from None


def make_room_for_sockets() -> None:
    """Puts temporary files into a folder whose path leaves room for a Unix socket, where `TMPDIR` has none.

    BentoML makes its sockets among temporary files, and the system takes no longer paths. Child processes
    follow, through their environment.

    Raises:
        ConfigurationError: no folder can be written to that is short enough.
    """
    if _fits(tempfile.gettempdir()):
        return
    for folder in (os.environ.get("XDG_RUNTIME_DIR"), "/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108 - mkdtemp's
        if folder and _fits(folder) and Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK):
            os.environ["TMPDIR"] = tempfile.tempdir = folder
            return
    raise ConfigurationError(
        f"TMPDIR={tempfile.gettempdir()} is too long for the service's sockets, and neither /tmp nor /var/tmp"
        f" can be written to: set TMPDIR to a folder of at most {_SOCKET_BYTES - _SOCKET_NAME} bytes"
    )


def _home_of(user: str) -> str:
    try:
        return str(Path(user).expanduser())
    except RuntimeError:  # as the text stays where a variable is not set
        return user


def _fits(folder: str) -> bool:
    return len(os.fsencode(folder)) + _SOCKET_NAME <= _SOCKET_BYTES


def printable(text: str) -> str:
    """The text; what cannot be written as UTF-8 (of a file's name in another encoding) is spelt out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
