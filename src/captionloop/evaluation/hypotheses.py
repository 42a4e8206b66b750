"""What captioners said about every photo of a split, in a form to keep: `<model>.hypotheses`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from captionloop.errors import ConfigurationError, StoreError
from captionloop.evaluation.split import EvaluationSet

if TYPE_CHECKING:
    from captionloop.captioner.captioner import Caption, Captioned, Captioner
    from captionloop.captioner.options import DecodingOptions
    from captionloop.vision.features import CachedFeatures

GREEDY = "greedy"
_Record = ConfigDict(frozen=True, extra="forbid")


class SaidWord(BaseModel):
    """A word and the decoder's own probability for it, not calibrated."""

    model_config = _Record

    text: str
    confidence: float


class SaidCaption(BaseModel):
    """A caption and log P(caption | image)."""

    model_config = _Record

    caption: str
    log_probability: float


class Said(SaidCaption):
    """The best caption of a photo, its words, and what else was found."""

    words: tuple[SaidWord, ...]
    alternatives: tuple[SaidCaption, ...] = ()


class Hypotheses(BaseModel):
    """The captions of one model for one split, by decoding and image id.

    Decoding `greedy` takes the likeliest word at each step; `default` is how the bundle is set to search,
    `beam` words it for tables ("beam 5", "beam 5, consensus").
    """

    model_config = _Record

    model: str
    split: str
    beam: str
    vocabulary: int
    default: dict[str, Said]
    greedy: dict[str, Said]

    def systems(self) -> dict[str, dict[str, str]]:
        """The caption of each image by system: the model's name, and the same with `.greedy`."""
        return {
            self.model: {image_id: said.caption for image_id, said in self.default.items()},
            f"{self.model}.{GREEDY}": {image_id: said.caption for image_id, said in self.greedy.items()},
        }


def caption_split(
    captioner: "Captioner", features: "CachedFeatures", photos: EvaluationSet, *, batch_size: int
) -> Hypotheses:
    """Captions every photo from its cached features, with the bundle's own search and greedily.

    Raises:
        StoreError: the features were made by another encoder, or some are missing.
        ConfigurationError: the references are in another language than the captions will be.
    """
    if captioner.tokenizer.language != photos.spoken:
        raise ConfigurationError(
            f"{captioner.name!r} captions in {captioner.tokenizer.language}, but the references of"
            f" {photos.split!r} are in {photos.spoken}: set `language` to what the corpus is in, and run"
            " training and evaluation again."
        )
    if features.fingerprint != captioner.encoder.fingerprint:
        raise StoreError(
            f"The cached features ({features.fingerprint[:12]}) are not of the encoder of {captioner.name!r}"
            f" ({captioner.encoder.fingerprint[:12]}): run feature_caching and training again."
        )
    own = captioner.decoding
    plain = replace(captioner, calibration=None)
    return Hypotheses(
        model=captioner.name,
        split=photos.split,
        beam=_worded(own),
        vocabulary=captioner.tokenizer.vocabulary_size,
        default=_caption_all(plain, features, photos, own, batch_size),
        greedy=_caption_all(plain, features, photos, greedy(own), batch_size),
    )


def greedy(decoding: "DecodingOptions") -> "DecodingOptions":
    """The same search with a beam of one, which leaves nothing to find a consensus on."""
    alone = {"method": "beam", "beam_width": 1, "alternatives": 1, "consensus": None}
    return decoding.model_copy(update=alone)


def _worded(decoding: "DecodingOptions") -> str:
    if decoding.method != "beam":
        return decoding.method
    return f"beam {decoding.beam_width}{', consensus' if decoding.consensus else ''}"


def _caption_all(
    captioner: "Captioner",
    features: "CachedFeatures",
    photos: EvaluationSet,
    decoding: "DecodingOptions",
    batch_size: int,
) -> dict[str, Said]:
    said: dict[str, Said] = {}
    for start in range(0, len(photos.image_ids), batch_size):
        batch = slice(start, start + batch_size)
        captioned = captioner.caption_grids(features.grids(photos.sha256s[batch]), decoding)
        said.update(zip(photos.image_ids[batch], map(_said, captioned), strict=True))
    return said


def _said(captioned: "Captioned") -> Said:
    best = captioned.best
    return Said(
        caption=best.text,
        log_probability=_rounded(best.log_probability),
        words=tuple(SaidWord(text=word.text, confidence=_rounded(word.confidence)) for word in best.words),
        alternatives=tuple(_alternative(other) for other in captioned.alternatives[1:]),
    )


def _alternative(caption: "Caption") -> SaidCaption:
    return SaidCaption(caption=caption.text, log_probability=_rounded(caption.log_probability))


def _rounded(value: float) -> float:
    # Batches are summed in another order on another machine; what is kept should not differ by that.
    return round(float(value), 5)


def all_systems(hypotheses: Sequence[Hypotheses]) -> dict[str, Mapping[str, str]]:
    """The captions of every system of several models."""
    return {name: captions for one in hypotheses for name, captions in one.systems().items()}
