"""Reliability of raters, estimated from gold items and agreement.

Dawid and Skene 1979 ("Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm"), with
one accuracy for each rater: 4 and 5 stars vote for a caption, 1 and 2 against it, 3 abstain. Three things are
added. Each accuracy has a Beta prior, so that somebody with three ratings is not judged by them alone. Gold
items, captions whose quality is known, are not estimated but given. And a rater is compared with what
*others* say of a caption, as far as they say something: a vote that stands alone proves nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from captionloop.feedback.feedback_parameters import Reliability
from captionloop.feedback.rating_filters import KEY
from captionloop.languages import ENGLISH, Language
from captionloop.ratings.reader import names_in_corpus
from captionloop.scoring.cider import CiderD
from captionloop.tokenizer import word_tokens


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
    rated_captions = ratings.drop_duplicates("caption_id")
    rated_captions = rated_captions.assign(image_id=names_in_corpus(rated_captions, images))
    known = images[images["sha256"].isin(rated_captions["image_id"]) & (images["source"] == "corpus")]
    if known.empty:
        return {}
    human = captions[captions["source"] == "human"]
    references = {
        str(key): [word_tokens(text, language) for text in texts]
        for key, texts in human.groupby("image_id")["text"]
    }
    photos = {
        sha256: image_id
        for sha256, image_id in zip(known["sha256"], known["image_id"], strict=True)
        if len(references.get(image_id, ())) >= 2
    }
    if not photos:
        return {}
    human_cider = _human_cider({image_id: references[image_id] for image_id in photos.values()}, references)
    candidates = rated_captions[rated_captions["image_id"].isin(photos)]
    ids = [photos[sha256] for sha256 in candidates["image_id"]]
    cider = CiderD({image_id: references[image_id] for image_id in photos.values()}, corpus=references)
    values = cider.rewards(ids, [word_tokens(text, language) for text in candidates["text"]])
    quality = {}
    for caption_id, image_id, value in zip(candidates["caption_id"], ids, values, strict=True):
        share = float(value) / max(human_cider[image_id], 1e-9)
        if share >= good or share <= bad:
            quality[str(caption_id)] = share >= good
    return quality


def _human_cider(photos: dict[str, list[list[str]]], corpus: dict[str, list[list[str]]]) -> dict[str, float]:
    """The mean CIDEr of a photo's captions, each against the others."""
    references, ids, left_out = {}, [], []
    for image_id, texts in photos.items():
        for number, text in enumerate(texts):
            references[f"{image_id} {number}"] = [other for k, other in enumerate(texts) if k != number]
            ids.append(image_id)
            left_out.append(text)
    values = CiderD(references, corpus=corpus).rewards(list(references), left_out)
    table = pd.Series(values, dtype=np.float64).groupby(ids).mean()
    return {str(image_id): float(value) for image_id, value in table.items()}


def known_raters(ratings: pd.DataFrame, gold: Mapping[str, bool], needed: int) -> frozenset[str]:
    """The raters who count: keys, and people who rated `needed` gold items rightly, good and bad captions
    among them.

    Whoever finds everything bad is right about half of them, hence both kinds. Only those count that the
    service chose (`gold`): whoever has the corpus could send its photos, and know what to say of them.

    Args:
        ratings: `caption_id`, `rater`, `stars`, `gold`.
        gold: the gold items by caption id: whether they are good.
        needed: 0 lets everybody count.
    """
    raters = set(ratings["rater"])
    if needed == 0:
        return frozenset(raters)
    gold_ratings = ratings[ratings["gold"] & (ratings["stars"] != 3) & ratings["caption_id"].isin(list(gold))]
    good = gold_ratings["caption_id"].map(gold).astype(bool)
    correct = gold_ratings[good == (gold_ratings["stars"] > 3)]
    rated = correct.assign(good=good).groupby("rater")["good"].agg(["size", "nunique"])
    passed = rated[(rated["size"] >= needed) & (rated["nunique"] >= min(2, needed))]
    return frozenset({*passed.index, *(rater for rater in raters if rater.startswith(KEY))})


ROUNDS = 30
_LOWEST, _HIGHEST = 0.05, 0.95


@dataclass(frozen=True)
class RaterScores:
    """Raters: `accuracy`, `weight` (0 to 1), `ratings`, `gold`, `strikes`. Captions: P(good)."""

    raters: pd.DataFrame
    good: dict[str, float]


def estimate_reliability(
    ratings: pd.DataFrame,
    known: Mapping[str, bool],
    strikes: Mapping[str, int],
    parameters: Reliability,
) -> RaterScores:
    """Estimates the accuracy of raters and the probability that captions are good.

    Args:
        ratings: `caption_id`, `rater`, `stars`, in any order.
        known: gold items by caption id: whether they are good.
        strikes: by rater, how many of their rows were abuse, copies or bursts.
        parameters: the priors.
    """
    votes = ratings[ratings["stars"] != 3].sort_values(["caption_id", "rater"])
    raters = sorted({*ratings["rater"], *strikes})
    captions = sorted(set(votes["caption_id"]))
    rater_index = votes["rater"].map({name: number for number, name in enumerate(raters)}).to_numpy(np.int64)
    caption_index = (
        votes["caption_id"].map({name: number for number, name in enumerate(captions)}).to_numpy(np.int64)
    )
    vote = np.where(votes["stars"].to_numpy() > 3, 1.0, -1.0)
    gold = np.array([{None: 0.0, True: 1.0, False: -1.0}[known.get(name)] for name in captions])
    strike_counts = np.array([strikes.get(name, 0) for name in raters], float)
    accuracy = np.full(len(raters), parameters.agreed / (parameters.agreed + parameters.differed))
    consensus = np.zeros(len(votes))
    for _ in range(ROUNDS):
        prior = _logit(_prevalence(vote, rater_index, accuracy))
        evidence = vote * _logit(accuracy)[rater_index]
        total = prior + np.bincount(caption_index, evidence, len(captions)) if captions else np.zeros(0)
        consensus = np.tanh((total[caption_index] - evidence) / 2)  # 2 P(good) - 1, by everybody else
        certain = np.where(gold[caption_index] != 0, parameters.gold, np.abs(consensus))
        truth = np.where(gold[caption_index] != 0, gold[caption_index], np.sign(consensus))
        right = np.bincount(rater_index, certain * (truth == vote), len(raters))
        wrong = np.bincount(rater_index, certain * (truth == -vote), len(raters))
        against = parameters.differed + wrong + parameters.strike * strike_counts
        accuracy = (parameters.agreed + right) / (parameters.agreed + right + against)
        accuracy = np.clip(accuracy, _LOWEST, _HIGHEST)
    good = 1 / (1 + np.exp(-total)) if captions else np.zeros(0)
    good = np.where(gold != 0, gold > 0, good)
    table = pd.DataFrame(
        {
            "rater": raters,
            "accuracy": accuracy,
            "weight": np.clip((accuracy - 0.5) / (parameters.full - 0.5), 0.0, 1.0),
            "ratings": [int((ratings["rater"] == name).sum()) for name in raters],
            "gold": np.bincount(rater_index, gold[caption_index] != 0, len(raters)).astype(int),
            "strikes": strike_counts.astype(int),
        }
    )
    return RaterScores(table, dict(zip(captions, good.tolist(), strict=True)))


def trust_everyone(ratings: pd.DataFrame) -> RaterScores:
    """As `estimate_reliability`, but every rater has full weight: the baseline without defences."""
    raters = sorted(set(ratings["rater"]))
    counts = ratings["rater"].value_counts()
    table = pd.DataFrame(
        {
            "rater": raters,
            "accuracy": 1.0,
            "weight": 1.0,
            "ratings": [int(counts[name]) for name in raters],
            "gold": 0,
            "strikes": 0,
        }
    )
    votes = ratings[ratings["stars"] != 3]
    good = (votes["stars"] > 3).groupby(votes["caption_id"]).mean()
    return RaterScores(table, {str(name): float(value) for name, value in good.items()})


def _prevalence(vote: np.ndarray, rater_index: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """How many captions are good, by weighted votes, shrunk to a half."""
    trust = np.maximum(accuracy[rater_index] - 0.5, 0)
    return np.asarray((1 + np.sum(trust * (vote > 0))) / (2 + np.sum(trust)))


def _logit(probability: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(probability) - np.log1p(-probability))
