"""Ratings in; references with weights, held-out photos, a quarantine and a summary out.

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
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pandas as pd

from captionloop.corpus.tables import CAPTIONS, IMAGES, table
from captionloop.errors import ConfigurationError
from captionloop.evaluation.evaluation_set import EvaluationSet
from captionloop.feedback.feedback_parameters import FeedbackParameters, Weights
from captionloop.feedback.rater_reliability import RaterScores, believed, estimate_reliability, gold_items
from captionloop.feedback.rating_checks import IN_SHORT, STRIKES, RatingIssue
from captionloop.feedback.rating_filters import (
    AbuseList,
    beyond_cap,
    capped_shares,
    contradicting,
    in_burst,
    repeated_corrections,
    wording_fault,
)
from captionloop.languages import ENGLISH, Language
from captionloop.photos import archive_uri
from captionloop.ratings.reader import names_in_corpus

SPLIT = "feedback"


def held_out_set(corrections: pd.DataFrame, photos: int, language: Language = ENGLISH) -> EvaluationSet:
    """The newest `photos` photos that were corrected (columns of `REFERENCES`), ordered by their ids."""
    number = corrections["ratings"].astype("int64")
    newest = number.groupby(corrections["image_id"]).max().sort_values(ascending=False).index[:photos]
    references = {
        str(image_id): list(texts)
        for image_id, texts in corrections.sort_values("caption_id").groupby("image_id")["text"]
        if image_id in set(newest)
    }
    sha256s = [image_id.rsplit("-", 1)[1] for image_id in references]
    return EvaluationSet(
        split=SPLIT,
        image_ids=tuple(references),
        uris=tuple(map(archive_uri, sha256s)),
        sha256s=tuple(sha256s),
        references=references,
        language=language.code,
    )


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
    judged: RaterScores


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
        judged = estimate_reliability(
            good, gold, {str(k): int(n) for k, n in struck.items()}, parameters.reliability
        )
    else:
        judged = believed(good)
    weight = rows["rater"].map(dict(zip(judged.raters["rater"], judged.raters["weight"], strict=True)))
    unreliable = (reason == "") & (weight.fillna(0.0) < parameters.reliability.trusted) & parameters.defences
    reason[unreliable] = RatingIssue.UNRELIABLE
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

    reject(rows["image_id"].isin(photos.missing), RatingIssue.PHOTO_MISSING)
    reject(~rows["image_id"].isin(photos.usable), RatingIssue.PHOTO_BROKEN)
    if not parameters.defences:
        return reason
    faults = rows["correction"].map(
        lambda text: wording_fault(text, abuse, parameters.wording, language) or "", na_action="ignore"
    )
    for fault in (RatingIssue.ABUSE, RatingIssue.NOT_A_CAPTION):
        reject(faults == fault, fault)
    reject(in_burst(rows, parameters.caps), RatingIssue.BURST)
    reject(repeated_corrections(rows, parameters.copies, language), RatingIssue.COPY)
    reject(
        contradicting(rows, corpus_captions, parameters.contradiction, language), RatingIssue.CONTRADICTION
    )
    left = rows[reason == ""]
    reject(beyond_cap(left, parameters.caps).reindex(rows.index, fill_value=False), RatingIssue.CAP)
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


@dataclass(frozen=True)
class Window:
    """From when on ratings count as new: `since` (None: all are new), and where that comes from, in words."""

    since: datetime | None
    origin: str

    @classmethod
    def parse(cls, since: str | None, learnt: str | None, version: int | None) -> "Window":
        """The moment that was asked for, else up to when the champion (`version`) has learnt from ratings.

        Raises:
            ConfigurationError: it is not a moment in ISO 8601.
        """
        if since:
            return cls(_moment(since), f"since {since}")
        if learnt and version is not None:
            return cls(_moment(learnt), f"since those that version {version} learnt from")
        return cls(None, "so far")


def summary(
    ratings: pd.DataFrame, bad: pd.DataFrame, curated: Curated, window: Window, needed: int
) -> dict[str, Any]:
    """`feedback_report.json`.

    Args:
        ratings: all that were read.
        bad: those that broke a rule.
        curated: what became of the rest.
        window: which are new.
        needed: how many new ones are enough.
    """
    new = len(_new(ratings, window))
    set_aside = pd.concat([bad, curated.quarantine])
    quarantined = set_aside["reason"].value_counts().sort_index()
    sources = curated.references["source"].value_counts()
    listened = curated.judged.raters
    return {
        "new_ratings": new,
        "needed": needed,
        "enough": new >= needed and new > 0,
        "sentence": f"{new} new {'rating' if new == 1 else 'ratings'} {window.origin}, {needed} needed",
        "believed": _believed(new, len(ratings), _new(set_aside, window)["reason"], sources),
        "since": None if window.since is None else window.since.isoformat(),
        "until": None if ratings.empty else ratings["updated_at"].max().isoformat(),
        "ratings": len(ratings),
        "used": {
            "photos": len(curated.images),
            "corrections": int(sources.get("correction", 0)),
            "approved_captions": int(sources.get("approved", 0)),
            "rejected_captions": len(curated.rejections),
            "held_out_photos": int(curated.held_out["image_id"].nunique()),
            "held_out_corrections": len(curated.held_out),
        },
        "quarantined": {str(reason): int(count) for reason, count in quarantined.items()},
        "raters": {
            "all": len(listened),
            "mean_accuracy": None if listened.empty else round(float(listened["accuracy"].mean()), 3),
            "gold_ratings": int(listened["gold"].sum()),
        },
    }


def _new(rows: pd.DataFrame, window: Window) -> pd.DataFrame:
    return rows if window.since is None else rows[rows["updated_at"] > window.since]


def _believed(new: int, ratings: int, doubted: pd.Series, sources: pd.Series) -> str:
    """What became of the new ratings: how many are not believed and why; how many corrections are used."""
    counts = doubted.value_counts()
    said = [f"{new} new"]
    if len(counts):
        short = [IN_SHORT.get(str(reason), str(reason)) for reason in counts.index]
        why = (
            [f"{count} {text}" for count, text in zip(counts, short, strict=True)]
            if len(short) > 1
            else short
        )
        said.append(f"{len(doubted)} not believed: {' and '.join(why)}")
    corrections = int(sources.get("correction", 0))
    older = ", those of older ratings included" if ratings > new else ""
    said.append(f"{corrections} {'correction' if corrections == 1 else 'corrections'} used{older}")
    return ", ".join(said)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"since={text!r} is not a moment: write it as in 2026-11-24T18:00:00+00:00"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
