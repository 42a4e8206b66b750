"""The sample scenes in other languages: the same pictures, and everything that can be shown has its words."""

import json
import random

import pytest

from captionloop.corpus.readers import write_karpathy
from captionloop.corpus.scenes import DOMAINS, SceneParameters, draw_scenes
from captionloop.corpus.scenes.phrases import PHRASES
from captionloop.corpus.tables import RawCorpus
from captionloop.errors import ConfigurationError
from captionloop.languages import language_of

LITTLE = SceneParameters(train=60, val=2, test=2, side=32)


@pytest.mark.parametrize("code", sorted(PHRASES))
def test_every_thing_of_both_worlds_has_its_words(code):
    phrases = PHRASES[code]
    for domain in DOMAINS.values():
        assert {noun.name for noun in domain.nouns} <= set(phrases.nouns)
        assert {noun.posture for noun in domain.nouns} <= set(phrases.postures)
        assert set(domain.colours) <= set(phrases.colours)
        assert set(domain.places) <= set(phrases.where) & set(phrases.over)
        assert set(domain.light_phrases) <= set(phrases.lights)
        assert set(domain.extra_phrases) <= set(phrases.extras)
        assert set(domain.arrangements) - {"one", "several"} <= set(phrases.pairs)


@pytest.mark.parametrize("code", sorted(PHRASES))
@pytest.mark.parametrize("domain", sorted(DOMAINS))
def test_the_pictures_are_those_of_the_english_scenes(code, domain):
    parameters = LITTLE.model_copy(update={"domain": domain})
    english = list(draw_scenes(parameters))
    other = list(draw_scenes(parameters, language_of(code)))
    assert [scene.photo for scene in other] == [scene.photo for scene in english]
    assert all(len(set(scene.captions)) == 5 for scene in other)
    assert "{" not in "".join(text for scene in other for text in scene.captions)
    random.seed(0)  # nothing depends on it
    assert [scene.captions for scene in draw_scenes(parameters, language_of(code))] == [
        scene.captions for scene in other
    ]


def test_french_agrees_and_elides():
    all_text = " ".join(text for scene in draw_scenes(LITTLE, language_of("fr")) for text in scene.captions)
    assert "dans l'herbe" in all_text
    assert "de un" not in all_text
    assert "d'un" in all_text
    assert "un voiture" not in all_text


def test_a_language_without_phrases_is_one_line():
    with pytest.raises(ConfigurationError, match="only in en, fr, zh"):
        next(draw_scenes(LITTLE, language_of("de")))


def test_tokens_of_a_written_corpus_keep_the_marks_of_their_letters():
    corpus = RawCorpus.from_rows(
        [("a", "a.jpg", "train")], [("a#0", "a", "कुत्ता दौड़ रहा है।"), ("a#1", "a", "A dog's!")]
    )
    images = json.loads(write_karpathy(corpus, "little"))["images"]
    assert [one["tokens"] for one in images[0]["sentences"]] == [["कुत्ता", "दौड़", "रहा", "है"], ["a", "dogs"]]
