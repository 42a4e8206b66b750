"""Ratings in; references with weights, held-out photos, a quarantine and a summary out.

What becomes of a rating:

- a correction is a new reference for its photo, as heavy as its rater is reliable;
- a caption that several reliable raters found good is a weak reference (`approved`);
- a caption that is probably bad is evidence of what not to say (`rejections`);
- a caption that was rated was accepted, or was not (`verdicts`): that is what confidence means;
- a photo that is held out gives none of these: its corrections test the candidate;
- a photo of the corpus gives none either: its ratings tell how reliable the raters are.

What a stranger says, who has not rated known photos rightly, neither counts nor speaks against others: names
cost nothing, so a thousand of them must be able to do no more than one.

The result does not depend on the order of the rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from captionloop.corpus.tables import CAPTIONS, IMAGES, table
from captionloop.evaluation.evaluation_set import EvaluationSet
from captionloop.feedback.feedback_parameters import FeedbackParameters, Weights
from captionloop.feedback.rater_reliability import (
    RaterScores,
    estimate_reliability,
    gold_items,
    known_raters,
    trust_everyone,
)
from captionloop.feedback.rating_checks import STRIKES, RatingIssue
from captionloop.feedback.rating_filters import (
    AbuseList,
    beyond_cap,
    beyond_network,
    capped_networks,
    capped_shares,
    contradicting,
    in_burst,
    repeated_corrections,
    usual_similarity,
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
    """The result of curation.

    Attributes:
        images: the photos to learn from (columns of `IMAGES`; the id is `feedback-<sha256>`).
        references: corrections and approved captions for them (`REFERENCES`).
        rejections: captions that are probably bad, for the same photos or others (`REJECTIONS`).
        verdicts: of each caption that was rated, 1 where people accepted it, else 0 (`VERDICTS`).
        held_out: corrections of the photos that are held out (`REFERENCES`), the newest last.
        quarantine: ratings that count for nothing, each with its `reason`.
        counted: the ratings that all of the others are made of; those of the corpus's photos are not.
        rater_scores: how reliable raters, and how good captions, are.
    """

    images: pd.DataFrame
    references: pd.DataFrame
    rejections: pd.DataFrame
    verdicts: pd.DataFrame
    held_out: pd.DataFrame
    quarantine: pd.DataFrame
    counted: pd.DataFrame
    rater_scores: RaterScores


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
    reason = _faults(rows, photos, abuse, parameters, language)
    of_corpus = names_in_corpus(rows, corpus_images).isin(corpus_images["sha256"])
    if parameters.defences:
        gold = gold_items(
            rows[reason == ""],
            corpus_images,
            corpus_captions,
            good=parameters.known_good,
            bad=parameters.known_bad,
            language=language,
        )
        known = rows["rater"].isin(known_raters(rows[reason == ""], gold, parameters.gold_items))
        usual = usual_similarity(corpus_captions, parameters.repeated_corrections, language)
        reasons = [
            _cross_checks(group, reason[group.index], corpus_captions, usual, parameters, language)
            for group in (rows[known], rows)  # strangers speak against nobody else
        ]
        reason = reasons[0].reindex(rows.index).where(known, reasons[1])
        reason[(reason == "") & ~known & ~of_corpus] = RatingIssue.UNKNOWN
        strikes = rows.loc[known & reason.isin(STRIKES), "rater"].value_counts()
        rater_scores = estimate_reliability(
            rows[known & (reason == "")],
            gold,
            {str(k): int(n) for k, n in strikes.items()},
            parameters.reliability,
        )
    else:
        known, rater_scores = pd.Series(True, index=rows.index), trust_everyone(rows[reason == ""])
    weight = rows["rater"].map(
        dict(zip(rater_scores.raters["rater"], rater_scores.raters["weight"], strict=True))
    )
    weight = weight.astype(float).fillna(0.0)
    unreliable = known & (weight < parameters.reliability.trusted) & parameters.defences
    reason[(reason == "") & unreliable] = RatingIssue.UNRELIABLE
    counts = (reason == "") & ~of_corpus
    counted = rows[counts].assign(rater_weight=weight[counts])
    is_test = counted["image_id"].map(lambda sha256: is_held_out(sha256, parameters.held_out)).astype(bool)
    training, test = counted[~is_test], counted[is_test]
    references = _references(training, rater_scores.good, parameters)
    return Curated(
        images=_images(references, photos),
        references=references,
        rejections=_rejections(training, rater_scores.good, parameters.weights),
        verdicts=_verdicts(counted, references),
        held_out=_held_out(test, parameters),
        quarantine=rows[reason != ""].assign(reason=reason[reason != ""]),
        counted=counted,
        rater_scores=rater_scores,
    )


def is_held_out(sha256: str, share: float) -> bool:
    """Whether a photo is among the share that never enters training; the same answer in every run."""
    return int(sha256[-8:], 16) < share * 16**8


def image_id(sha256: str) -> str:
    """The id of a photo that came with feedback."""
    return f"feedback-{sha256}"


def _faults(
    rows: pd.DataFrame, photos: Photos, abuse: AbuseList, parameters: FeedbackParameters, language: Language
) -> pd.Series:
    """The issue of each row by itself, whatever other raters say; empty where there is none."""
    reason = pd.Series("", index=rows.index, dtype=object)

    def reject(where: pd.Series, why: str) -> None:
        reason[(reason == "") & where] = why

    reject(rows["image_id"].isin(photos.missing), RatingIssue.PHOTO_MISSING)
    reject(~rows["image_id"].isin(photos.usable), RatingIssue.PHOTO_BROKEN)
    if not parameters.defences:
        return reason
    faults = rows["correction"].map(
        lambda text: wording_fault(text, abuse, parameters.correction_text, language) or "",
        na_action="ignore",
    )
    for fault in (RatingIssue.ABUSE, RatingIssue.NOT_A_CAPTION):
        reject(faults == fault, fault)
    reject(in_burst(rows, parameters.rater_limits), RatingIssue.BURST)
    return reason


def _cross_checks(  # noqa: PLR0917
    rows: pd.DataFrame,
    faults: pd.Series,
    corpus_captions: pd.DataFrame,
    usual: float,
    parameters: FeedbackParameters,
    language: Language,
) -> pd.Series:
    """The issues of rows, and those that follow from comparing rows; empty where there is none."""
    reason = faults.copy()

    def reject(where: pd.Series, why: str) -> None:
        reason[(reason == "") & where] = why

    reject(repeated_corrections(rows, parameters.repeated_corrections, language, usual), RatingIssue.COPY)
    reject(
        contradicting(rows, corpus_captions, parameters.contradiction, language), RatingIssue.CONTRADICTION
    )
    remaining = rows[reason == ""]
    reject(
        beyond_cap(remaining, parameters.rater_limits).reindex(rows.index, fill_value=False), RatingIssue.CAP
    )
    return reason


def _references(
    rows: pd.DataFrame, good: Mapping[str, float], parameters: FeedbackParameters
) -> pd.DataFrame:
    corrections = _corrections(rows, parameters.weights.correction, parameters)
    approved = _approved(rows, good, parameters.weights)
    return table(pd.concat([corrections, approved]).sort_values("caption_id"), REFERENCES)


def _corrections(rows: pd.DataFrame, weight: float, parameters: FeedbackParameters | None) -> pd.DataFrame:
    """Corrections as captions; by `parameters`, no rater and no network has too much of their weight."""
    corrected = rows[rows["correction"].notna()]
    weights = weight * corrected["rater_weight"].astype(float)
    if parameters is not None and parameters.defences:
        caps = parameters.rater_limits
        weights = capped_shares(weights, corrected["rater"], caps.largest_share)
        weights = capped_networks(weights, corrected["network"], caps.network_share, caps.network_free)
    corrections = pd.DataFrame(
        {
            "caption_id": [f"correction-{number}" for number in corrected["rating_id"]],
            "image_id": corrected["image_id"].map(image_id),
            "text": corrected["correction"],
            "source": "correction",
            "weight": weights,
            "ratings": corrected["rating_id"].astype(str),
            "rater": corrected["rater"],
        }
    )
    return table(corrections[corrections["weight"] > 0], REFERENCES)


def _held_out(rows: pd.DataFrame, parameters: FeedbackParameters) -> pd.DataFrame:
    """Corrections to test with: no network has too many of them, nor more than its share of what is free."""
    corrected, caps = rows[rows["correction"].notna()], parameters.rater_limits
    if parameters.defences:
        free = caps.network_free * parameters.held_out
        corrected = corrected[~beyond_network(corrected["network"], caps.network_share, free)]
    return _corrections(corrected, 1.0, None)


def _approved(rows: pd.DataFrame, good: Mapping[str, float], weights: Weights) -> pd.DataFrame:
    """Captions that enough raters found good; the same words about the same photo are one caption."""
    found = []
    if weights.approved > 0:
        for (photo, text), votes in rows.groupby(["image_id", "text"]):
            positive = votes[votes["stars"] >= GOOD_STARS]
            likely = [good.get(caption_id, 0.5) for caption_id in votes["caption_id"].unique()]
            if positive["rater"].nunique() >= weights.approvals and min(likely) >= weights.certain:
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
        caption = image_id(str(votes["image_id"].iloc[0])), votes["text"].iloc[0]
        good = np.average(votes["stars"] >= GOOD_STARS, weights=votes["rater_weight"].astype(float) + 1e-9)
        is_approved = (approved["image_id"] == caption[0]) & (approved["text"] == caption[1])
        found.append({"caption_id": caption_id, "accepted": float(good > 0.5 or is_approved.any())})
    return table(pd.DataFrame(found, columns=list(VERDICTS)), VERDICTS)


def _images(references: pd.DataFrame, photos: Photos) -> pd.DataFrame:
    facts = photos.facts.assign(image_id=photos.facts["sha256"].map(image_id))
    used = facts[facts["image_id"].isin(references["image_id"])].sort_values("image_id")
    return table(used.assign(uri=used["sha256"].map(archive_uri), split="train", source="feedback"), IMAGES)
