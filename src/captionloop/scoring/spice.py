"""SPICE (Anderson et al. 2016), where its models are at hand.

pycocoevalcap ships the program but not the Stanford parser's models (about 400 MB), and fetches them when
first used. Nothing is fetched here: put `stanford-corenlp-3.6.0.jar` and
`stanford-corenlp-3.6.0-models.jar` into `pycocoevalcap/spice/lib/`, and SPICE joins the metrics.
"""

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captionloop.errors import ScoringError
from captionloop.scoring.java import JavaProgram, package_folder

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
            program.answer([], seconds=_SECONDS)
        try:
            results = {
                row["image_id"]: row["scores"]["All"]["f"]
                for row in json.loads(made.read_text(encoding="utf-8"))
            }
            return np.array([results[i] for i in range(len(captions))], np.float64)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ScoringError(f"what it wrote cannot be read ({error}).") from error
