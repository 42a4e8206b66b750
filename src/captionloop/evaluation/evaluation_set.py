"""The photos that a captioner is evaluated on, their references, and the parameters of an evaluation."""

from typing import Literal, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from captionloop.corpus.tables import Split
from captionloop.errors import CorpusError
from captionloop.languages import ENGLISH, Language, language_of
from captionloop.scoring.bootstrap import RESAMPLES


class PublishedRow(BaseModel):
    """A row of somebody else's results, x100 as papers print them; a metric that was not reported is left
    out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    split: str = "test"
    values: dict[str, float]


class CalibrationParameters(BaseModel):
    """How word confidences are calibrated. Always on `split`, so that a test split stays untouched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: Split = "val"
    method: Literal["isotonic", "temperature"] = "isotonic"
    bins: int = Field(default=10, ge=2, description="of the expected calibration error, equally wide")
    folds: int = Field(default=5, ge=2, description="for the error after calibration, by photo")
    acceptable: float = Field(
        default=1.05,
        gt=0,
        description="a caption counts as accepted by a person if people said so much of it, too, as a"
        " multiple of the mean of their own captions",
    )
    least_ratings: int = Field(
        default=100, ge=1, description="rated captions from which on ratings have a say in confidences"
    )


class LatencyParameters(BaseModel):
    """How much is captioned to measure speed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    photos: int = Field(default=20, ge=1, description="captioned one by one, bytes to caption")
    batch: int = Field(default=32, ge=1)
    batches: int = Field(
        default=4, ge=1, description="captioned from features and from bytes, for throughput"
    )


class GalleryParameters(BaseModel):
    """Which photos are shown: this many of the best, the middle and the worst by CIDEr."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    each: int = Field(default=2, ge=1)
    widest: int = Field(default=12, ge=4, description="words in a row; a longer caption is cut")


class ImageTextParameters(BaseModel):
    """Which pair of models scores, and how.

    Attributes:
        model: a folder, or `<hub id>@<revision>`; weights are read from safetensors only, and no code is run
            that comes with them.
        prompt: what a caption is put into.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    prompt: str = "A photo depicts {}"
    batch_size: int = Field(default=32, ge=1, json_schema_extra={"affects_result": False})


class EvaluationParameters(BaseModel):
    """All of `params:evaluation`.

    Attributes:
        corpus: its name, for people.
        split: which photos: `auto` is `test` where there is one, else `val`; or the name of any split.
        photos: of the split in one evaluation set, in the order of their ids; None: all.
        draw: which set of so many: 0 is the first, 1 the photos after these, none of them twice.
        batch_size: images decoded together.
        seed, resamples: of the bootstrap.
        image_text: a pair of models that tells how well captions go with their photos; None: nobody is asked.
        reference_points, published: rows set beside ours in the table; values x100.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    corpus: str = "corpus"
    split: Split | Literal["auto"] = "auto"
    photos: int | None = Field(default=None, ge=2)
    draw: int = Field(default=0, ge=0)
    batch_size: int = Field(default=64, ge=1, json_schema_extra={"affects_result": False})
    seed: int = 0
    resamples: int = Field(default=RESAMPLES, ge=1)
    calibration: CalibrationParameters = CalibrationParameters()
    latency: LatencyParameters = LatencyParameters()
    gallery: GalleryParameters = GalleryParameters()
    image_text: ImageTextParameters | None = None
    reference_points: tuple[PublishedRow, ...] = ()
    published: tuple[PublishedRow, ...] = ()


AUTO = "auto"


class EvaluationSet(BaseModel):
    """One split of a corpus, ordered by image id. `uris` and `sha256s` go with `image_ids`.

    `language` is the code of the language that the references are in.
    """

    model_config = ConfigDict(frozen=True)

    split: str
    image_ids: tuple[str, ...]
    uris: tuple[str, ...]
    sha256s: tuple[str, ...]
    references: dict[str, list[str]]
    language: str = ENGLISH.code

    @property
    def reference_language(self) -> Language:
        """The language that the references are in."""
        return language_of(self.language)

    def drawn(self, photos: int | None, draw: int) -> Self:
        """The set number `draw` of so many photos each, in the order of their ids; None: all are one set.

        The first may be smaller, where there are not so many.

        Raises:
            CorpusError: there are not enough photos for it.
        """
        available = len(self.image_ids)
        begin = draw * (photos or available)
        if draw and begin + (photos or available) > available:
            size = f"{photos:,}" if photos else "all"
            raise CorpusError(
                f"There is no evaluation set number {draw} in {self.split!r} ({available:,} photos, {size}"
                " in a set): set evaluation.photos, or add photos to the split, whose names come after those"
                " there (sample scenes: sample_scenes.test)."
            )
        chosen = slice(begin, begin + (photos or available))
        return self.model_copy(
            update={
                "image_ids": self.image_ids[chosen],
                "uris": self.uris[chosen],
                "sha256s": self.sha256s[chosen],
                "references": {image_id: self.references[image_id] for image_id in self.image_ids[chosen]},
            }
        )

    def without(self, sha256s: frozenset[str]) -> Self:
        """The set without photos of these contents."""
        kept = [
            photo
            for photo in zip(self.image_ids, self.uris, self.sha256s, strict=True)
            if photo[2] not in sha256s
        ]
        return self.model_copy(
            update={
                "image_ids": tuple(image_id for image_id, _, _ in kept),
                "uris": tuple(uri for _, uri, _ in kept),
                "sha256s": tuple(sha256 for _, _, sha256 in kept),
                "references": {image_id: self.references[image_id] for image_id, _, _ in kept},
            }
        )


def choose_split(images: pd.DataFrame, split: str) -> str:
    """The split's name: `auto` is `test` where the corpus has one, else `val`.

    Raises:
        CorpusError: no image is in it.
    """
    present = set(images.loc[images["source"] == "corpus", "split"])
    chosen = split
    if split == AUTO:
        chosen = "test" if "test" in present else "val"
    if chosen not in present:
        names = ", ".join(sorted(present)) or "none"
        raise CorpusError(
            f"Split {chosen!r} has no photos to evaluate on (there are: {names}): set evaluation.split."
        )
    return chosen


def evaluation_set(
    images: pd.DataFrame, captions: pd.DataFrame, split: str, language: Language = ENGLISH
) -> EvaluationSet:
    """The photos of a split and their references, as they came with the corpus.

    Photos that came in as feedback stay out, so that the set is the same before and after retraining; so do
    captions that a model wrote and a person only approved, since they would make that model look right.

    Raises:
        CorpusError: the split has no photos, or a photo has no reference.
    """
    chosen = choose_split(images, split)
    rows = images[(images["split"] == chosen) & (images["source"] == "corpus")].sort_values("image_id")
    corpus_captions = captions[
        captions["image_id"].isin(rows["image_id"]) & (captions["source"] != "approved")
    ]
    texts = corpus_captions.sort_values("caption_id").groupby("image_id")["text"].agg(list)
    references = {str(image_id): list(texts.get(image_id, [])) for image_id in rows["image_id"]}
    undescribed = [image_id for image_id, found in references.items() if not found]
    if undescribed:
        raise CorpusError(
            f"{len(undescribed)} photos of split {chosen!r} have no reference, the first is"
            f" {undescribed[0]!r}: run data_validation, which quarantines them."
        )
    return EvaluationSet(
        split=chosen,
        image_ids=tuple(references),
        uris=tuple(rows["uri"]),
        sha256s=tuple(rows["sha256"]),
        references=references,
        language=language.code,
    )


def training_captions(images: pd.DataFrame, captions: pd.DataFrame) -> list[str]:
    """All captions that a model could have learnt from."""
    train = images.loc[images["split"] == "train", "image_id"]
    return list(captions.loc[captions["image_id"].isin(train), "text"])
