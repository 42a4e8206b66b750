"""Captions in; visual concepts (words that name what a picture shows) and targets by photo out.

They are found by a property and not by a list: people who describe the same photo agree on its visual words.
A word's *lift* is how much likelier it becomes in a caption once another caption of the same photo has it.
`dog` becomes several times likelier, `the` and `is` do not. See Fang et al. 2015, From Captions to Visual
Concepts and Back (arXiv 1411.4952), and Wu et al. 2016 (arXiv 1506.01144), who take the most frequent words.

A concept is a word, or several joined by `|`: forms of one word, any of which says it.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import sparse

from captionloop.errors import CorpusError
from captionloop.languages import ENGLISH, Language
from captionloop.tokenizer import CaptionTokenizer

_OR: Final = "|"


class ConceptParameters(BaseModel):
    """Which words are concepts.

    Attributes:
        minimum_images: training photos that have the word in a caption, at least.
        minimum_lift: see the module; 1 is what chance gives.
        maximum: the most frequent ones are kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    minimum_images: int = Field(default=20, ge=1)
    minimum_lift: float = Field(default=1.5, ge=0)
    maximum: int = Field(default=1000, ge=1)


def choose_concepts(
    captions: pd.DataFrame, parameters: ConceptParameters, language: Language = ENGLISH
) -> pd.DataFrame:
    """The concepts of training captions (columns `image_id`, `text`): rows of `concept`, `images`, `lift`.

    The most frequent come first. Where no photo has two captions there is no agreement to ask for, and every
    frequent word is a concept.

    Raises:
        CorpusError: no word is left.
    """
    chosen = rank_concepts(captions, parameters, language)
    if chosen.empty:
        raise CorpusError(
            f"no word of the captions is a visual concept in {parameters.minimum_images} photos:"
            " lower encoder_adaptation.concepts.minimum_images, or set encoder_adaptation.epochs to 0"
        )
    return chosen


def rank_concepts(
    captions: pd.DataFrame, parameters: ConceptParameters, language: Language = ENGLISH
) -> pd.DataFrame:
    """As `choose_concepts`, for an encoder that is not trained: there may be none."""
    words, per_image = _captions_with_words(captions, language)
    captions_of = np.asarray(captions.groupby("image_id", sort=True).size(), dtype=np.float64)
    table = pd.DataFrame(
        {
            "concept": words,
            "images": np.asarray((per_image > 0).sum(axis=0)).ravel(),
            "lift": _lift(per_image, captions_of),
        }
    )
    wanted = (table["images"] >= parameters.minimum_images) & (table["lift"] >= parameters.minimum_lift)
    chosen = table[wanted & ~table["concept"].isin(language.sides)]
    ordered = chosen.sort_values(["images", "concept"], ascending=[False, True])
    return ordered.head(parameters.maximum).reset_index(drop=True)


def extend_concepts(
    concepts: Sequence[str],
    captions: pd.DataFrame,
    more: pd.DataFrame,
    *,
    minimum_images: int,
    corpus_images: int,
    language: Language = ENGLISH,
) -> list[str]:
    """`concepts`, then the frequent words of `more` that are rare in `captions`, then their stems.

    Where a photo has one caption only, as after most corrections, there is no agreement to ask for. So a word
    that the corpus knows stays what the corpus made of it, and one that it hardly knows is a concept. Photos
    of a `guitar` and photos of `guitars` are negatives of each other while both are concepts of their own; so
    the forms of a word together are one more concept (Snowball's stems, where it knows the language). The
    most frequent words come first.

    Args:
        concepts: of `captions`, as `choose_concepts` chose them.
        captions: of the corpus, columns `image_id` and `text`.
        more: other captions.
        minimum_images: photos of `more` in which somebody says the word, at least.
        corpus_images: a word said of so many photos of the corpus is left to `choose_concepts`.
        language: of the captions.
    """
    if more.empty:
        return list(concepts)
    in_corpus, new = _photos_with_words(captions, language), _photos_with_words(more, language)
    candidates = new[in_corpus.reindex(new.index, fill_value=0) < corpus_images]
    candidates = candidates.drop(candidates.index.intersection([*concepts, *language.sides]))
    ordered = candidates.sort_index().sort_values(ascending=False, kind="stable")
    stems = _stems(ordered.index.tolist(), language)
    ids = sorted(more["image_id"].unique())
    images_of_stem = (concept_targets(more.assign(weight=1.0), stems, ids, language) > 0).sum(axis=0)
    frequent = [stem for stem, count in zip(stems, images_of_stem, strict=True) if count >= minimum_images]
    return [*concepts, *ordered.index[ordered >= minimum_images], *frequent]


def forms_of(concept: str) -> list[str]:
    """The word that a concept is, or the forms that it joins."""
    return concept.split(_OR)


def concept_targets(
    captions: pd.DataFrame,
    concepts: Sequence[str],
    image_ids: Sequence[str],
    language: Language = ENGLISH,
) -> NDArray[np.float32]:
    """How much of a photo's captions has each concept, float32 `[images, concepts]` between 0 and 1.

    Captions count by their `weight`. Soft targets keep what is mentioned by everyone apart from what is
    mentioned by one.
    """
    words, occurs = _occurrences(captions["text"].tolist(), language)
    place = {word: row for row, word in enumerate(words)}
    rows = pd.Index(image_ids).get_indexer(pd.Index(captions["image_id"]))
    weights = np.where(rows >= 0, captions["weight"], 0.0)
    members = sparse.csr_matrix(
        (weights, (rows.clip(0), np.arange(len(captions)))), (len(image_ids), len(captions))
    )
    forms = [
        (place[word], column)
        for column, concept in enumerate(concepts)
        for word in forms_of(concept)
        if word in place
    ]
    word_rows, columns = np.array(forms, dtype=np.int64).reshape(-1, 2).T
    concept_of_word = sparse.csr_matrix(
        (np.ones(len(forms)), (word_rows, columns)), (len(words), len(concepts))
    )
    has_concept = occurs @ concept_of_word
    has_concept.data[:] = 1.0
    targets = (members @ has_concept).toarray()
    total = np.asarray(members.sum(axis=1)).ravel()
    shares: NDArray[np.float32] = (targets / np.maximum(total, 1e-9)[:, None]).astype(np.float32)
    return shares


def _stems(words: Sequence[str], language: Language) -> list[str]:
    """The stems that several of the words have, each as these words joined by `|`; none without a stemmer."""
    if language.stemmer is None:
        return []
    import snowballstemmer  # its Serbian alone takes a sixth of a second

    stemmer = snowballstemmer.stemmer(language.stemmer)
    forms: dict[str, list[str]] = {}
    for word, stem in zip(words, stemmer.stemWords(list(words)), strict=True):
        forms.setdefault(stem, []).append(word)
    return [_OR.join(sorted(several)) for several in forms.values() if len(several) > 1]


def _occurrences(texts: list[str], language: Language) -> tuple[list[str], sparse.csr_matrix]:
    """Which caption has which word: 0 or 1, `[captions, words]`."""
    tokenizer = CaptionTokenizer.train(texts, language=language)
    ids = tokenizer.encode_all(texts)
    rows = np.repeat(np.arange(len(ids)), [len(each) for each in ids])
    flat = np.fromiter((token for each in ids for token in each), np.int64, len(rows))
    shape = (len(texts), tokenizer.vocabulary_size)
    occurs = sparse.csr_matrix((np.ones(len(rows)), (rows, flat)), shape)
    occurs.data[:] = 1.0
    special = CaptionTokenizer.UNK + 1
    return tokenizer.words[special:], occurs[:, special:]


def _captions_with_words(captions: pd.DataFrame, language: Language) -> tuple[list[str], sparse.csr_matrix]:
    """The words, and how many captions of each photo have each, `[images, words]`."""
    words, occurs = _occurrences(captions["text"].tolist(), language)
    return words, _by_image(captions["image_id"]) @ occurs


def _photos_with_words(captions: pd.DataFrame, language: Language) -> "pd.Series[int]":
    """The number of photos with a caption that has the word, by word."""
    words, per_image = _captions_with_words(captions, language)
    return pd.Series(np.asarray((per_image > 0).sum(axis=0)).ravel(), index=words)


def _by_image(image_ids: pd.Series) -> sparse.csr_matrix:
    codes, _ = pd.factorize(image_ids, sort=True)
    count = int(codes.max(initial=-1)) + 1
    return sparse.csr_matrix((np.ones(len(codes)), (codes, np.arange(len(codes)))), (count, len(codes)))


def _lift(per_image: sparse.csr_matrix, captions_of: NDArray[np.float64]) -> NDArray[np.float64]:
    squares = per_image.multiply(per_image)
    pairs = np.asarray(
        (squares - per_image).sum(axis=0)
    ).ravel()  # a caption and another one, both with the word
    others = np.asarray(per_image.multiply((captions_of - 1)[:, None]).sum(axis=0)).ravel()
    if not others.any():
        return np.full(per_image.shape[1], np.inf)
    base = np.asarray(per_image.sum(axis=0)).ravel() / captions_of.sum()
    lift: NDArray[np.float64] = np.divide(pairs, others * base, out=np.zeros_like(base), where=others > 0)
    return lift
