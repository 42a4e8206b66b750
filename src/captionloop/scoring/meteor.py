"""METEOR 1.5 (Denkowski and Lavie 2014), through pycocoevalcap's jar.

The jar aligns each caption with its references and prints 23 counts for the best one. The score of a
corpus comes from the *sums* of these counts, so they are all that a bootstrap needs; the formula is
applied here, in numpy, and equals what the jar prints for the same counts.

Most of the time goes into reading the table of 5 million paraphrases, once for each process: all captions,
of all systems, go through one.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captionloop.errors import ScoringError
from captionloop.scoring.java import JavaProgram, package_folder

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
        answers = self.answer(lines, seconds=_START_SECONDS + _SECONDS_PER_CAPTION * len(lines))
        try:
            counts = np.array([line.split() for line in answers], np.float64).reshape(-1, _COUNTS)
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
