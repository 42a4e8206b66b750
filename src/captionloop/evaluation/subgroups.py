"""Subgroups of an evaluation set: photos and their references in, groups with something in common out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from captionloop.corpus.scenes.layout import Facts
from captionloop.evaluation.hallucination import visual_words
from captionloop.languages import ENGLISH, Language
from captionloop.tokenizer import word_tokens

CONCEPTS = 12
"""The most frequent ones are looked at: each more makes the test of all of them harder to pass."""


@dataclass(frozen=True)
class Subgroup:
    """Photos of one kind: `by` says what of (`light`, `concept`), `name` which (`night`, `dog`).

    `member` says of each photo, in the order that was asked for, whether it is one of them.
    """

    by: str
    name: str
    member: NDArray[np.bool_]


def subgroups(
    image_ids: Sequence[str],
    references: Mapping[str, Sequence[str]],
    facts: Mapping[str, Facts],
    min_photos: int,
    language: Language = ENGLISH,
) -> list[Subgroup]:
    """The subgroups with at least `min_photos` photos inside and outside of them.

    By light, place and number of things where the facts of all photos are known; by how much people said of
    a photo, in thirds; and by the visual words that half of a photo's references have.

    Args:
        image_ids: the photos, in the order of `Subgroup.member`.
        references: what people said of each.
        facts: of drawn scenes, by image id.
        min_photos: in a subgroup, and outside of it.
        language: of the references.
    """
    found: list[Subgroup] = []
    if all(image_id in facts for image_id in image_ids):
        known = [facts[image_id] for image_id in image_ids]
        found += _by("light", [one.light for one in known])
        found += _by("place", [one.place for one in known])
        found += _by("things", [_counted(sum(group.count for group in one.groups)) for one in known])
    words = [[word_tokens(text, language) for text in references[image_id]] for image_id in image_ids]
    found += _by("length", _thirds([float(np.mean([len(text) for text in texts])) for texts in words]))
    shares = [_shares(texts) for texts in words]
    wanted = visual_words({image_id: references[image_id] for image_id in image_ids}, language)
    concepts = (
        Subgroup("concept", word, np.array([share.get(word, 0.0) >= 0.5 for share in shares], bool))
        for word in wanted
    )
    frequent = [one for one in concepts if min_photos <= one.member.sum()]
    found += sorted(frequent, key=lambda one: (-int(one.member.sum()), one.name))[:CONCEPTS]
    max_photos = len(image_ids) - min_photos
    return [one for one in found if min_photos <= one.member.sum() <= max_photos]


def _by(what: str, values: Sequence[str]) -> list[Subgroup]:
    kinds = np.array(values)
    return [Subgroup(what, str(name), kinds == name) for name in dict.fromkeys(sorted(values))]


def _counted(things: int) -> str:
    return str(things) if things < 4 else "4 and more"


def _thirds(lengths: Sequence[float]) -> list[str]:
    low, high = np.percentile(lengths, [100 / 3, 200 / 3])
    names = np.where(np.array(lengths) <= low, "short", np.where(np.array(lengths) > high, "long", "medium"))
    return [str(name) for name in names]


def _shares(texts: Sequence[Sequence[str]]) -> dict[str, float]:
    """For each word the share of a photo's references that have it."""
    counts: dict[str, float] = {}
    for text in texts:
        for word in set(text):
            counts[word] = counts.get(word, 0.0) + 1 / len(texts)
    return counts
