"""What metrics do not tell: how long captions are, and how much of the language they use."""

from collections.abc import Iterable, Mapping

import numpy as np

from captionloop.language.languages import ENGLISH, Language
from captionloop.language.words import words_of
from captionloop.scoring.bootstrap import RESAMPLES, Interval, mean_interval

__all__ = ["variety", "words_of"]


def variety(
    captions: Mapping[str, str],
    known: Iterable[str],
    vocabulary: int,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    language: Language = ENGLISH,
) -> dict[str, Interval]:
    """How varied captions are.

    Args:
        captions: by image id.
        known: the captions of the training split.
        vocabulary: how many words the model could say.
        seed: of the intervals.
        resamples: of the intervals.
        language: of the captions.

    Returns:
        `length`: words in a caption. `unseen`: the share of captions that are in no training caption word for
        word.
        `distinct_captions`: the share of photos' captions that differ. `distinct_words`: how many.
        `vocabulary_used`: their share of the vocabulary. The last three belong to these photos as a whole,
        not to a sample of them, so their `low` and `high` are the value.
    """
    said = [words_of(caption, language) for caption in captions.values()]
    seen = {tuple(words_of(caption, language)) for caption in known}
    words = {word for caption in said for word in caption}
    lengths = np.array([len(caption) for caption in said], float)
    unseen = np.array([tuple(caption) not in seen for caption in said], float)
    return {
        "length": mean_interval(lengths, seed=seed, resamples=resamples),
        "unseen": mean_interval(unseen, seed=seed, resamples=resamples),
        "distinct_captions": _exactly(len(set(map(tuple, said))) / len(said)),
        "distinct_words": _exactly(len(words)),
        "vocabulary_used": _exactly(len(words) / vocabulary),
    }


def _exactly(value: float) -> Interval:
    return Interval(float(value), float(value), float(value))
