"""Predictions: the captions of a split by a captioner, with their words and alternatives; their diversity."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from captionloop.errors import ConfigurationError, StoreError
from captionloop.evaluation.evaluation_set import EvaluationSet
from captionloop.languages import ENGLISH, Language
from captionloop.scoring.bootstrap import RESAMPLES, Interval, mean_interval
from captionloop.tokenizer import word_tokens

if TYPE_CHECKING:
    from captionloop.captioner.captioner import Caption, Captioned, Captioner
    from captionloop.captioner.model_config import DecodingOptions
    from captionloop.vision.feature_store import CachedFeatures


def diversity(
    captions: Mapping[str, str],
    known: Iterable[str],
    vocabulary: int,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    language: Language = ENGLISH,
) -> dict[str, Interval]:
    """Lengths and diversity of captions.

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
    tokenized = [word_tokens(caption, language) for caption in captions.values()]
    seen = {tuple(word_tokens(caption, language)) for caption in known}
    words = {word for caption in tokenized for word in caption}
    lengths = np.array([len(caption) for caption in tokenized], float)
    unseen = np.array([tuple(caption) not in seen for caption in tokenized], float)
    return {
        "length": mean_interval(lengths, seed=seed, resamples=resamples),
        "unseen": mean_interval(unseen, seed=seed, resamples=resamples),
        "distinct_captions": _exactly(len(set(map(tuple, tokenized))) / len(tokenized)),
        "distinct_words": _exactly(len(words)),
        "vocabulary_used": _exactly(len(words) / vocabulary),
    }


def _exactly(value: float) -> Interval:
    return Interval(float(value), float(value), float(value))


GREEDY = "greedy"
_Record = ConfigDict(frozen=True, extra="forbid")


class PredictedWord(BaseModel):
    """A word and the decoder's own probability for it, not calibrated."""

    model_config = _Record

    text: str
    confidence: float


class ScoredCaption(BaseModel):
    """A caption and log P(caption | image)."""

    model_config = _Record

    caption: str
    log_probability: float


class PredictedCaption(ScoredCaption):
    """The best caption of a photo, its words, and what else was found."""

    words: tuple[PredictedWord, ...]
    alternatives: tuple[ScoredCaption, ...] = ()


class Predictions(BaseModel):
    """The captions of one model for one split, by decoding and image id.

    Decoding `greedy` takes the likeliest word at each step; `default` is how the bundle is set to search,
    `beam` words it for tables ("beam 5", "beam 5, consensus").
    """

    model_config = _Record

    model: str
    split: str
    beam: str
    vocabulary: int
    default: dict[str, PredictedCaption]
    greedy: dict[str, PredictedCaption]

    def systems(self) -> dict[str, dict[str, str]]:
        """The caption of each image by system: the model's name, and the same with `.greedy`."""
        return {
            self.model: {image_id: prediction.caption for image_id, prediction in self.default.items()},
            f"{self.model}.{GREEDY}": {
                image_id: prediction.caption for image_id, prediction in self.greedy.items()
            },
        }


def caption_split(
    captioner: "Captioner", features: "CachedFeatures", photos: EvaluationSet, *, batch_size: int
) -> Predictions:
    """Captions every photo from its cached features, with the bundle's own search and greedily.

    Raises:
        StoreError: the features were made by another encoder, or some are missing.
        ConfigurationError: the references are in another language than the captions will be.
    """
    if captioner.tokenizer.language != photos.reference_language:
        raise ConfigurationError(
            f"{captioner.name!r} captions in {captioner.tokenizer.language}, but the references of"
            f" {photos.split!r} are in {photos.reference_language}: set `language` to what the corpus is in,"
            " and run training and evaluation again."
        )
    if features.fingerprint != captioner.encoder.fingerprint:
        raise StoreError(
            f"The cached features ({features.fingerprint[:12]}) are not of the encoder of {captioner.name!r}"
            f" ({captioner.encoder.fingerprint[:12]}): run feature_caching and training again."
        )
    own = captioner.decoding
    plain = replace(captioner, calibration=None)
    return Predictions(
        model=captioner.name,
        split=photos.split,
        beam=_decoding_label(own),
        vocabulary=captioner.tokenizer.vocabulary_size,
        default=_caption_all(plain, features, photos, own, batch_size),
        greedy=_caption_all(plain, features, photos, greedy(own), batch_size),
    )


def greedy(decoding: "DecodingOptions") -> "DecodingOptions":
    """The same search with a beam of one, which leaves nothing to find a consensus on."""
    alone = {"method": "beam", "beam_width": 1, "alternatives": 1, "consensus": None}
    return decoding.model_copy(update=alone)


def _decoding_label(decoding: "DecodingOptions") -> str:
    if decoding.method != "beam":
        return decoding.method
    return f"beam {decoding.beam_width}{', consensus' if decoding.consensus else ''}"


def _caption_all(
    captioner: "Captioner",
    features: "CachedFeatures",
    photos: EvaluationSet,
    decoding: "DecodingOptions",
    batch_size: int,
) -> dict[str, PredictedCaption]:
    predictions: dict[str, PredictedCaption] = {}
    for start in range(0, len(photos.image_ids), batch_size):
        batch = slice(start, start + batch_size)
        captioned = captioner.caption_grids(features.grids(photos.sha256s[batch]), decoding)
        predictions.update(zip(photos.image_ids[batch], map(_prediction, captioned), strict=True))
    return predictions


def _prediction(captioned: "Captioned") -> PredictedCaption:
    best = captioned.best
    return PredictedCaption(
        caption=best.text,
        log_probability=_rounded(best.log_probability),
        words=tuple(
            PredictedWord(text=word.text, confidence=_rounded(word.confidence)) for word in best.words
        ),
        alternatives=tuple(_alternative(other) for other in captioned.alternatives[1:]),
    )


def _alternative(caption: "Caption") -> ScoredCaption:
    return ScoredCaption(caption=caption.text, log_probability=_rounded(caption.log_probability))


def _rounded(value: float) -> float:
    # Batches are summed in another order on another machine; what is kept should not differ by that.
    return round(float(value), 5)


def all_systems(predictions: Sequence[Predictions]) -> dict[str, Mapping[str, str]]:
    """The captions of every system of several models."""
    return {name: captions for one in predictions for name, captions in one.systems().items()}
