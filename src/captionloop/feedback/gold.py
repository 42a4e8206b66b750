"""Gold items: rated captions of photos of the corpus, which people have described before."""

import numpy as np
import pandas as pd

from captionloop.feedback.reading import names_in_corpus
from captionloop.language.languages import ENGLISH, Language
from captionloop.language.words import words_of
from captionloop.scoring.cider import CiderD


def gold_items(
    ratings: pd.DataFrame,
    images: pd.DataFrame,
    captions: pd.DataFrame,
    *,
    good: float,
    bad: float,
    language: Language = ENGLISH,
) -> dict[str, bool]:
    """Whether a rated caption is good or bad, by caption id, where that is known beyond doubt.

    A caption is as good as its CIDEr, as a share of what people's own captions of the photo reach against the
    others: from `good` upwards it is good, up to `bad` it is bad, and between them it is no gold item.

    Args:
        ratings: `caption_id`, `text`, `image_id` and `sent_sha256` (SHA-256 of the photo).
        images: of the corpus.
        captions: of the corpus.
        good: see above.
        bad: see above.
        language: of the captions.
    """
    shown = ratings.drop_duplicates("caption_id")
    shown = shown.assign(image_id=names_in_corpus(shown, images))
    known = images[images["sha256"].isin(shown["image_id"]) & (images["source"] == "corpus")]
    if known.empty:
        return {}
    human = captions[captions["source"] == "human"]
    said = {
        str(key): [words_of(text, language) for text in texts]
        for key, texts in human.groupby("image_id")["text"]
    }
    photos = {
        sha256: image_id
        for sha256, image_id in zip(known["sha256"], known["image_id"], strict=True)
        if len(said.get(image_id, ())) >= 2
    }
    if not photos:
        return {}
    people = _what_people_reach({image_id: said[image_id] for image_id in photos.values()}, said)
    judged = shown[shown["image_id"].isin(photos)]
    ids = [photos[sha256] for sha256 in judged["image_id"]]
    cider = CiderD({image_id: said[image_id] for image_id in photos.values()}, corpus=said)
    values = cider.rewards(ids, [words_of(text, language) for text in judged["text"]])
    found = {}
    for caption_id, image_id, value in zip(judged["caption_id"], ids, values, strict=True):
        share = float(value) / max(people[image_id], 1e-9)
        if share >= good or share <= bad:
            found[str(caption_id)] = share >= good
    return found


def _what_people_reach(
    wanted: dict[str, list[list[str]]], corpus: dict[str, list[list[str]]]
) -> dict[str, float]:
    """The mean CIDEr of a photo's captions, each against the others."""
    references, ids, left_out = {}, [], []
    for image_id, texts in wanted.items():
        for number, text in enumerate(texts):
            references[f"{image_id} {number}"] = [other for k, other in enumerate(texts) if k != number]
            ids.append(image_id)
            left_out.append(text)
    values = CiderD(references, corpus=corpus).rewards(list(references), left_out)
    table = pd.Series(values, dtype=np.float64).groupby(ids).mean()
    return {str(image_id): float(value) for image_id, value in table.items()}
