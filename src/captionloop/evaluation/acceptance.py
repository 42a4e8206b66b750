"""Which captions a person would accept, told from what people said of the same photos.

A caption is accepted that agrees with people nearly as well as they agree among themselves
(`scoring/agreement.py`): the measure by which curation knows good captions of known photos, the same for
every corpus and language. On the generated scenes, whose facts are known, `benchmarks.reliability` compares
it with what is really there.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from captionloop.language.languages import ENGLISH, Language
from captionloop.language.words import words_of
from captionloop.scoring.agreement import agreement


def acceptable(
    said: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    least: float,
    language: Language = ENGLISH,
) -> NDArray[np.float64] | None:
    """For each caption 1 where a person would accept it, else 0.

    None where that cannot be told: where not every photo was described by two people at least, or there is
    one photo only.

    Args:
        said: one caption of each photo.
        references: what people said of these photos, and perhaps of others.
        least: the share of what people reach from which a caption is accepted.
        language: of all of them.
    """
    people = {photo: [words_of(text, language) for text in texts] for photo, texts in references.items()}
    asked = {photo: people[photo] for photo in said}
    if len(asked) < 2 or min(map(len, asked.values())) < 2:
        return None
    spoken = {photo: words_of(caption, language) for photo, caption in said.items()}
    return (agreement(spoken, asked, people) >= least).astype(np.float64)
