"""A corpus in, gold items out: captions known to be good, or bad (of another photo)."""

import hashlib
import random
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from captionloop.feedback.feedback_parameters import FeedbackParameters
from captionloop.feedback.rater_reliability import gold_items
from captionloop.image_metadata import without_metadata
from captionloop.images import open_photo
from captionloop.languages import ENGLISH, Language
from captionloop.photos import PhotoArchive
from captionloop.ratings.photo_removal import WRITE_SECONDS
from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.rating_tables import CORPUS, PhotoFacts, ServedCaption

LOOK_SECONDS = 0.1
PREFERRED_SPLIT = "val"
CANDIDATES_PER_ITEM = 3
"""Candidates for one gold item: not every caption of a person is like the others of the photo."""


@dataclass(frozen=True)
class GoldItem:
    """A photo of the corpus (`uri` in its folder), a caption, and whether that is a good one."""

    sha256: str
    uri: str
    text: str
    good: bool


def choose_gold_items(
    images: pd.DataFrame,
    captions: pd.DataFrame,
    count: int,
    parameters: FeedbackParameters,
    *,
    seed: int,
    language: Language = ENGLISH,
) -> list[GoldItem]:
    """Up to `count` gold items, half of them good, each of another photo; the same for the same seed.

    Curation uses the same measure, so nothing is chosen that it would not take for gold.
    Photos that nothing was trained on come first: the corpus's validation split.

    Args:
        images: of the corpus (columns of `IMAGES`).
        captions: of the corpus (columns of `CAPTIONS`).
        count: how many.
        parameters: when a caption is known to be good, or bad.
        seed: of the choice.
        language: of the captions.
    """
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    human = captions[captions["source"] == "human"]
    texts = {str(key): sorted(group) for key, group in human.groupby("image_id")["text"]}
    known = images[(images["source"] == "corpus") & images["image_id"].isin(list(texts))]
    known = known.drop_duplicates("sha256").sort_values("image_id")
    validation = known[known["split"] == PREFERRED_SPLIT]
    first, rest = (validation.index.tolist(), known.index.difference(validation.index).tolist())
    rng.shuffle(first)
    rng.shuffle(rest)
    rows = known.loc[[*first, *rest][: CANDIDATES_PER_ITEM * count]].to_dict("records")
    if len(rows) < 2:
        return []
    ids, candidates = [str(row["image_id"]) for row in rows], []
    for number, row in enumerate(rows):
        other = ids[(number + 1 + rng.randrange(len(ids) - 1)) % len(ids)]
        candidates.append((f"{number} good", rng.choice(texts[ids[number]]), row["sha256"], None))
        candidates.append((f"{number} bad", rng.choice(texts[other]), row["sha256"], None))
    table = pd.DataFrame(candidates, columns=["caption_id", "text", "image_id", "sent_sha256"])
    table["sent_sha256"] = table["sent_sha256"].astype(object)
    quality = gold_items(
        table, images, captions, good=parameters.known_good, bad=parameters.known_bad, language=language
    )
    text_of = dict(zip(table["caption_id"], table["text"], strict=True))
    chosen: dict[bool, list[GoldItem]] = {True: [], False: []}
    for number, row in enumerate(rows):
        good = len(chosen[True]) <= len(chosen[False])
        name = f"{number} {'good' if good else 'bad'}"
        if quality.get(name) is good and len(chosen[True]) + len(chosen[False]) < count:
            chosen[good].append(GoldItem(str(row["sha256"]), str(row["uri"]), text_of[name], good))
    return [*chosen[True], *chosen[False]]


def add_gold_items(
    items: Sequence[GoldItem], read: Callable[[str], bytes], store: RatingsStore, archive: PhotoArchive
) -> list[str]:
    """Keep gold items as captions that may be shown to everybody, as the service keeps those it makes; their
    ids. `read` gives the photo at a `uri` of the corpus.

    Raises:
        CorpusError: a photo of the corpus cannot be read.
        ArchiveError: the photo archive cannot be written.
        DatabaseError: the ratings database cannot.
    """
    added = []
    for item in items:
        data = without_metadata(read(item.uri))
        photo, sha256 = open_photo(data), hashlib.sha256(data).hexdigest()
        caption_id = secrets.token_urlsafe(16)
        while store.ledger.begin(caption_id, sha256).result(WRITE_SECONDS):
            time.sleep(LOOK_SECONDS)  # somebody is removing the same photo
        archive.write(sha256, data)
        served = ServedCaption(
            caption_id=caption_id,
            owner=CORPUS,
            photo=PhotoFacts(sha256, photo.media_type, len(data), photo.width, photo.height),
            text=item.text,
            confidence=1.0,
            words=[],
            alternatives=[],
            model_name=CORPUS,
            model_version=CORPUS,
            sent_sha256=item.sha256,
            shared=True,
            known_good=item.good,
        )
        store.record(served).result(WRITE_SECONDS)
        added.append(caption_id)
    return added
