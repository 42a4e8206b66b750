"""Hallucinations: counts what each caption names that is not in its photo.

Of drawn scenes the facts are known, and the count is exact (`corpus.scenes.truth`). Of photos nobody knows
but the people who described them: there a visual word counts that none of them said, in any of its forms
(after CHAIR, Rohrbach et al. 2018, arXiv 1809.02156, which asks for objects of a list). Visual words are
those that people who describe the same photo agree on (`vision.concepts`), and those that no reference has.
A thing that is there and that nobody mentioned counts too, so this count is too high; but it is for both of
the models that are compared.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import snowballstemmer

from captionloop.corpus.scenes.layout import Facts
from captionloop.corpus.scenes.render import domain_of
from captionloop.corpus.scenes.scene_captions import untrue
from captionloop.languages import ENGLISH, Language
from captionloop.tokenizer import word_tokens
from captionloop.vision.concepts import ConceptParameters, rank_concepts

LIFT = 4.0
"""Of a visual word. More than an encoder is taught with: prepositions have up to 3 or so, nouns 4 to 50."""
Measure = Literal["facts", "references"]


@dataclass(frozen=True)
class HallucinationCounter:
    """Counts hallucinations: `count(image_id, caption)` is how many things a caption names that are not
    there.

    `measure` says whether by facts or by references.
    """

    measure: Measure
    count: Callable[[str, str], int]

    def counts(self, captions: Mapping[str, str]) -> dict[str, int]:
        """How many things each caption names that are not there."""
        return {image_id: self.count(image_id, caption) for image_id, caption in captions.items()}


def hallucination_counter(
    references: Mapping[str, Sequence[str]],
    facts: Mapping[str, Facts],
    language: Language = ENGLISH,
) -> HallucinationCounter:
    """A counter by the facts, where captions are English and all facts are known; else by the references.

    Args:
        references: what people said of each photo, by image id.
        facts: of drawn scenes, by image id; empty where photos are not drawn.
        language: of references and captions.
    """
    domains = {image_id: domain_of(facts[image_id]) for image_id in references if image_id in facts}
    if language == ENGLISH and len(domains) == len(references) and None not in domains.values():

        def by_facts(image_id: str, caption: str) -> int:
            domain = domains[image_id]
            return len(untrue(domain, facts[image_id], caption)) if domain is not None else 0

        return HallucinationCounter("facts", by_facts)
    stem = _stemmer_of(language)
    stems_by_photo = {
        image_id: {stem(word) for text in texts for word in word_tokens(text, language)}
        for image_id, texts in references.items()
    }
    all_stems = set().union(*stems_by_photo.values()) if stems_by_photo else set()
    visual_stems = {stem(word) for word in visual_words(references, language)}

    def by_references(image_id: str, caption: str) -> int:
        stems = {stem(word) for word in word_tokens(caption, language)}
        return sum(word in visual_stems or word not in all_stems for word in stems - stems_by_photo[image_id])

    return HallucinationCounter("references", by_references)


def visual_words(references: Mapping[str, Sequence[str]], language: Language = ENGLISH) -> list[str]:
    """The words of references that say what is in the picture, the most frequent first.

    Mostly nouns, colours and what is done; where photos have one reference each, every frequent word.
    """
    rows = [(image_id, text) for image_id, texts in references.items() for text in texts]
    if not rows:
        return []
    parameters = ConceptParameters(minimum_images=max(2, len(references) // 200), minimum_lift=LIFT)
    table = rank_concepts(pd.DataFrame(rows, columns=["image_id", "text"]), parameters, language)
    return [str(word) for word in table["concept"]]


def _stemmer_of(language: Language) -> Callable[[str], str]:
    if language.stemmer is None:
        return lambda word: word
    stemmer, known = snowballstemmer.stemmer(language.stemmer), dict[str, str]()

    def stem(word: str) -> str:
        if word not in known:
            known[word] = stemmer.stemWord(word)
        return known[word]

    return stem
