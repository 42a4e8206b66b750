"""The photos that a captioner is evaluated on, and what people said about them."""

from typing import Self

import pandas as pd
from pydantic import BaseModel, ConfigDict

from captionloop.errors import CorpusError
from captionloop.language.languages import ENGLISH, Language, language_of

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
    def spoken(self) -> Language:
        """The language that the references are in."""
        return language_of(self.language)

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
        have = ", ".join(sorted(present)) or "none"
        raise CorpusError(
            f"Split {chosen!r} has no photos to evaluate on (there are: {have}): set evaluation.split."
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
    ours = captions[captions["image_id"].isin(rows["image_id"]) & (captions["source"] != "approved")]
    texts = ours.sort_values("caption_id").groupby("image_id")["text"].agg(list)
    references = {str(image_id): list(texts.get(image_id, [])) for image_id in rows["image_id"]}
    bare = [image_id for image_id, found in references.items() if not found]
    if bare:
        raise CorpusError(
            f"{len(bare)} photos of split {chosen!r} have no reference, the first is {bare[0]!r}:"
            " run data_validation, which quarantines them."
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
