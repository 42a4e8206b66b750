"""From ratings to what a captioner may learn from: references with weights, evidence, and a quarantine.

What becomes of a rating:

- a correction is a new reference for its photo, as heavy as its rater is reliable;
- a caption that several reliable raters found good is a weak reference (`approved`);
- a caption that is probably bad is evidence of what not to say (`rejections`);
- a caption that was rated was accepted, or was not (`verdicts`): that is what confidence means;
- a photo that is held out gives none of these: its corrections test the candidate;
- a photo of the corpus gives none either: its ratings tell how reliable the raters are.

The result does not depend on the order of the rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from captionloop.corpus.tables import CAPTIONS, IMAGES, table
from captionloop.feedback.archive import archive_uri
from captionloop.feedback.caps import beyond_cap, capped_shares, in_burst
from captionloop.feedback.contradiction import contradicting
from captionloop.feedback.copies import copied
from captionloop.feedback.gold import gold_items
from captionloop.feedback.parameters import FeedbackParameters, Weights
from captionloop.feedback.reading import names_in_corpus
from captionloop.feedback.reasons import STRIKES, Reason
from captionloop.feedback.reliability import Judged, believed, judge
from captionloop.feedback.wording import AbuseList, wording_fault
from captionloop.language.languages import ENGLISH, Language

REFERENCES: Final = CAPTIONS | {"ratings": "str", "rater": "str"}
"""Captions with their provenance: the ratings that they come from, and the rater (of a correction)."""
GOOD_STARS: Final = 4
"""From so many stars on, a rating says that the caption is good."""
VERDICTS: Final = {"caption_id": "str", "accepted": "float64"}
REJECTIONS: Final = {"image_id": "str", "text": "str", "good": "float64", "ratings": "str"}


@dataclass(frozen=True)
class Photos:
    """What is known of the rated photos: `sha256`, `width`, `height`, `good` (it can be decoded)."""

    facts: pd.DataFrame

    @property
    def usable(self) -> frozenset[str]:
        """The photos that can be learnt from."""
        return frozenset(self.facts.loc[self.facts["good"], "sha256"])

    @property
    def missing(self) -> frozenset[str]:
        """The photos that are not in the archive."""
        return frozenset(self.facts.loc[self.facts["missing"], "sha256"])


@dataclass(frozen=True)
class Curated:
    """What came of the ratings.

    Attributes:
        images: the photos to learn from (columns of `IMAGES`; the id is `feedback-<sha256>`).
        references: corrections and approved captions for them (`REFERENCES`).
        rejections: captions that are probably bad, for the same photos or others (`REJECTIONS`).
        verdicts: of each caption that was rated, 1 where people accepted it, else 0 (`VERDICTS`).
        held_out: corrections of the photos that are held out (`REFERENCES`), the newest last.
        quarantine: ratings that count for nothing, each with its `reason`.
        judged: how reliable raters, and how good captions, are.
    """

    images: pd.DataFrame
    references: pd.DataFrame
    rejections: pd.DataFrame
    verdicts: pd.DataFrame
    held_out: pd.DataFrame
    quarantine: pd.DataFrame
    judged: Judged


def curate(  # noqa: PLR0917
    ratings: pd.DataFrame,
    photos: Photos,
    corpus_images: pd.DataFrame,
    corpus_captions: pd.DataFrame,
    abuse: AbuseList,
    parameters: FeedbackParameters,
    language: Language = ENGLISH,
) -> Curated:
    """Sorts ratings (columns of `RATINGS`, each sound by itself) into what `Curated` holds.

    `language` is what captions and corrections are in.
    """
    rows = ratings.sort_values(["created_at", "rating_id"]).reset_index(drop=True)
    reason = _reasons(rows, photos, corpus_captions, abuse, parameters, language)
    good = rows[reason == ""]
    if parameters.defences:
        gold = gold_items(
            good,
            corpus_images,
            corpus_captions,
            good=parameters.known_good,
            bad=parameters.known_bad,
            language=language,
        )
        struck = rows.loc[reason.isin(STRIKES), "rater"].value_counts()
        judged = judge(good, gold, {str(k): int(n) for k, n in struck.items()}, parameters.reliability)
    else:
        judged = believed(good)
    weight = rows["rater"].map(dict(zip(judged.raters["rater"], judged.raters["weight"], strict=True)))
    unreliable = (reason == "") & (weight.fillna(0.0) < parameters.reliability.trusted) & parameters.defences
    reason[unreliable] = Reason.UNRELIABLE
    listened = rows[reason == ""].assign(rater_weight=weight[reason == ""])
    listened = listened[~names_in_corpus(listened, corpus_images).isin(corpus_images["sha256"])]
    out = listened["image_id"].map(lambda sha256: is_held_out(sha256, parameters.held_out)).astype(bool)
    taught, tested = listened[~out], listened[out]
    references = _references(taught, judged.good, parameters)
    return Curated(
        images=_images(references, photos),
        references=references,
        rejections=_rejections(taught, judged.good, parameters.weights),
        verdicts=_verdicts(listened, references),
        held_out=_corrections(tested, 1.0, 1.0),
        quarantine=rows[reason != ""].assign(reason=reason[reason != ""]),
        judged=judged,
    )


def is_held_out(sha256: str, share: float) -> bool:
    """Whether a photo is among the share that never enters training; the same answer in every run."""
    return int(sha256[-8:], 16) < share * 16**8


def image_id(sha256: str) -> str:
    """The id of a photo that came with feedback."""
    return f"feedback-{sha256}"


def _reasons(  # noqa: PLR0917
    rows: pd.DataFrame,
    photos: Photos,
    corpus_captions: pd.DataFrame,
    abuse: AbuseList,
    parameters: FeedbackParameters,
    language: Language,
) -> pd.Series:
    """Why each row is in quarantine, so far; empty where it is not."""
    reason = pd.Series("", index=rows.index, dtype=object)

    def reject(where: pd.Series, why: str) -> None:
        reason[(reason == "") & where] = why

    reject(rows["image_id"].isin(photos.missing), Reason.PHOTO_MISSING)
    reject(~rows["image_id"].isin(photos.usable), Reason.PHOTO_BROKEN)
    if not parameters.defences:
        return reason
    faults = rows["correction"].map(
        lambda text: wording_fault(text, abuse, parameters.wording, language) or "", na_action="ignore"
    )
    for fault in (Reason.ABUSE, Reason.NOT_A_CAPTION):
        reject(faults == fault, fault)
    reject(in_burst(rows, parameters.caps), Reason.BURST)
    reject(copied(rows, parameters.copies, language), Reason.COPY)
    reject(contradicting(rows, corpus_captions, parameters.contradiction, language), Reason.CONTRADICTION)
    left = rows[reason == ""]
    reject(beyond_cap(left, parameters.caps).reindex(rows.index, fill_value=False), Reason.CAP)
    return reason


def _references(
    rows: pd.DataFrame, good: Mapping[str, float], parameters: FeedbackParameters
) -> pd.DataFrame:
    largest = parameters.caps.largest_share if parameters.defences else 1.0
    corrections = _corrections(rows, parameters.weights.correction, largest)
    approved = _approved(rows, good, parameters.weights)
    return table(pd.concat([corrections, approved]).sort_values("caption_id"), REFERENCES)


def _corrections(rows: pd.DataFrame, weight: float, largest: float) -> pd.DataFrame:
    given = rows[rows["correction"].notna()]
    weights = capped_shares(weight * given["rater_weight"].astype(float), given["rater"], largest)
    found = pd.DataFrame(
        {
            "caption_id": [f"correction-{number}" for number in given["rating_id"]],
            "image_id": given["image_id"].map(image_id),
            "text": given["correction"],
            "source": "correction",
            "weight": weights,
            "ratings": given["rating_id"].astype(str),
            "rater": given["rater"],
        }
    )
    return table(found[found["weight"] > 0], REFERENCES)


def _approved(rows: pd.DataFrame, good: Mapping[str, float], weights: Weights) -> pd.DataFrame:
    """Captions that enough raters found good; the same words about the same photo are one caption."""
    found = []
    if weights.approved > 0:
        for (photo, text), votes in rows.groupby(["image_id", "text"]):
            praise = votes[votes["stars"] >= GOOD_STARS]
            likely = [good.get(caption_id, 0.5) for caption_id in votes["caption_id"].unique()]
            if praise["rater"].nunique() >= weights.approvals and min(likely) >= weights.certain:
                numbers = sorted(votes["rating_id"])
                found.append(
                    {
                        "caption_id": f"approved-{numbers[0]}",
                        "image_id": image_id(str(photo)),
                        "text": text,
                        "source": "approved",
                        "weight": weights.approved,
                        "ratings": " ".join(map(str, numbers)),
                        "rater": "",
                    }
                )
    return table(pd.DataFrame(found, columns=list(REFERENCES)), REFERENCES)


def _rejections(rows: pd.DataFrame, good: Mapping[str, float], weights: Weights) -> pd.DataFrame:
    found = []
    for (photo, text), votes in rows.groupby(["image_id", "text"]):
        likely = max(good.get(caption_id, 0.5) for caption_id in votes["caption_id"].unique())
        if likely <= weights.rejected:
            numbers = " ".join(map(str, sorted(votes["rating_id"])))
            found.append({"image_id": image_id(str(photo)), "text": text, "good": likely, "ratings": numbers})
    return table(pd.DataFrame(found, columns=list(REJECTIONS)), REJECTIONS)


def _verdicts(rows: pd.DataFrame, references: pd.DataFrame) -> pd.DataFrame:
    """Accepted is what was approved, or got 4 stars or more from most, each counting as it is reliable."""
    approved = references.loc[references["source"] == "approved", ["image_id", "text"]]
    found = []
    for caption_id, votes in rows.groupby("caption_id"):
        said = image_id(str(votes["image_id"].iloc[0])), votes["text"].iloc[0]
        good = np.average(votes["stars"] >= GOOD_STARS, weights=votes["rater_weight"].astype(float) + 1e-9)
        agreed = (approved["image_id"] == said[0]) & (approved["text"] == said[1])
        found.append({"caption_id": caption_id, "accepted": float(good > 0.5 or agreed.any())})
    return table(pd.DataFrame(found, columns=list(VERDICTS)), VERDICTS)


def _images(references: pd.DataFrame, photos: Photos) -> pd.DataFrame:
    facts = photos.facts.assign(image_id=photos.facts["sha256"].map(image_id))
    used = facts[facts["image_id"].isin(references["image_id"])].sort_values("image_id")
    return table(used.assign(uri=used["sha256"].map(archive_uri), split="train", source="feedback"), IMAGES)
