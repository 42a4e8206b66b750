"""Which captions a person would accept, told from what people said of the same photos.

A caption is accepted that names hardly anything that nobody named: whose words, each counted as it is rare,
people said of this photo, too, in a larger share than other people did of a person's own caption in the mean.
People agree about some corpora more than about others, and are asked less where they do: it is one measure
for every corpus and language.

CIDEr will not do: a caption that names a kite where there is a balloon is in all else as people say it. Of
1,000 generated scenes, whose facts are known, this measure was right about 915, and two thirds was the best
that CIDEr did with what is asked elsewhere (`benchmarks.reliability`).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from captionloop.language.languages import ENGLISH, Language
from captionloop.scoring.rarity import Rarity


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
        references: what people said of these photos.
        least: how much of a caption people must have said too, as a multiple of the mean of their own.
        language: of all of them.
    """
    asked = {photo: references[photo] for photo in said}
    if len(asked) < 2 or min(map(len, asked.values())) < 2:
        return None
    rarity = Rarity(asked.values(), language)
    people = np.mean(
        [
            rarity.support(text, [*texts[:place], *texts[place + 1 :]])
            for texts in asked.values()
            for place, text in enumerate(texts)
        ]
    )
    support = np.array([rarity.support(said[photo], texts) for photo, texts in asked.items()])
    # What people said word for word is enough, however much they agree.
    return (support >= min(1.0, least * people)).astype(np.float64)
