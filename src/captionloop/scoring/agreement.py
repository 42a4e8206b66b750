"""How well a caption agrees with what people said of a photo, as a share of how well they agree themselves.

CIDEr-D of a caption means little by itself: people agree about some photos and corpora more than about
others. As a share of what people's own captions reach, each against the others, it is the same in all: about
1 for a caption as a person would write it, 0 for one that has nothing to do with the photo.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from captionloop.scoring.cider import CiderD
from captionloop.scoring.ngrams import Tokens

Words = Mapping[str, Sequence[Tokens]]
"""Of each photo its captions, in words."""


def what_people_reach(photos: Words, corpus: Words) -> dict[str, float]:
    """The mean CIDEr of a photo's captions, each against the others; each photo has two at least."""
    references, ids, left_out = {}, [], []
    for image_id, texts in photos.items():
        for number, text in enumerate(texts):
            references[f"{image_id} {number}"] = [other for k, other in enumerate(texts) if k != number]
            ids.append(image_id)
            left_out.append(text)
    values = CiderD(references, corpus=corpus).rewards(list(references), left_out)
    reached: dict[str, list[float]] = {image_id: [] for image_id in photos}
    for image_id, value in zip(ids, values, strict=True):
        reached[image_id].append(float(value))
    return {image_id: float(np.mean(of_photo)) for image_id, of_photo in reached.items()}


def agreement(said: Mapping[str, Tokens], photos: Words, corpus: Words) -> NDArray[np.float64]:
    """Of one caption for each photo the CIDEr, as a share of the mean that people reach about all of these.

    Args:
        said: the captions, in words.
        photos: what people said of these photos, two captions at least of each.
        corpus: all captions there are, which tell how rare words are.
    """
    people = float(np.mean(list(what_people_reach(photos, corpus).values())))
    reached = CiderD(photos, corpus=corpus).rewards(list(said), list(said.values()))
    return np.asarray(reached / max(people, 1e-9), np.float64)
