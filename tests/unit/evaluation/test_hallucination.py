"""What captions name that is not there, and which kinds of photos there are."""

import json
import random
from dataclasses import asdict

import numpy as np
import pytest

from captionloop.corpus.scenes.layout import Facts, Group, compose
from captionloop.corpus.scenes.render import domain_of, read_facts
from captionloop.corpus.scenes.scene_captions import describe
from captionloop.corpus.scenes.world import DOMAINS, SAMPLE
from captionloop.errors import CorpusError
from captionloop.evaluation.hallucination import hallucination_counter, visual_words
from captionloop.evaluation.subgroups import CONCEPTS, subgroups
from captionloop.languages import language_of

RED_BALL = Facts("meadow", "day", "one", (Group("ball", 1, "red", "plain", "medium", "ground"),), ())
SAID = {"1": ["a red ball on the grass", "a ball in a meadow"], "2": ["a blue box", "a box on the sand"]}


def scenes(count: int) -> tuple[dict[str, Facts], dict[str, list[str]]]:
    facts, captions = {}, {}
    for number in range(count):
        rng = random.Random(number)
        facts[str(number)] = compose(SAMPLE, rng)
        captions[str(number)] = list(describe(SAMPLE, facts[str(number)], rng, 5))
    return facts, captions


def test_of_scenes_the_facts_say_what_is_not_there_whatever_the_references_say() -> None:
    truth = hallucination_counter({"1": ["nothing"]}, {"1": RED_BALL})
    assert truth.measure == "facts"
    assert truth.counts({"1": "a red ball on the grass"}) == {"1": 0}
    assert truth.counts({"1": "a blue ball on the beach at night"}) == {"1": 3}


def test_what_people_say_of_scenes_is_never_untrue() -> None:
    facts, captions = scenes(60)
    truth = hallucination_counter(captions, facts)
    for place in range(5):
        assert set(
            truth.counts({image_id: texts[place] for image_id, texts in captions.items()}).values()
        ) == {0}


def test_of_other_photos_words_count_that_no_reference_has() -> None:
    animals = ("dog", "cat", "cow", "duck", "horse", "sheep")
    references = {
        f"{animal} {n}": [f"a {animal} runs", f"the {animal} is outside"]
        for animal in animals
        for n in range(9)
    }
    truth = hallucination_counter(references, {})
    assert truth.measure == "references"
    assert truth.count("dog 0", "a dog is outside") == 0
    assert truth.count("dog 0", "the dogs run") == 0, "another form of a word that was said"
    assert truth.count("dog 0", "a cat is outside") == 1
    assert truth.count("dog 0", "a giraffe beside a cat") == 3, (
        "giraffe and beside are in no reference at all"
    )
    assert truth.count("dog 0", "") == 0


def test_facts_of_some_photos_only_or_of_captions_in_another_language_are_not_used() -> None:
    assert hallucination_counter(SAID, {"1": RED_BALL}).measure == "references"
    assert (
        hallucination_counter({"1": ["un ballon rouge"]}, {"1": RED_BALL}, language_of("fr")).measure
        == "references"
    )


def test_facts_come_back_as_they_were_kept_and_know_their_domain() -> None:
    kept = json.loads(json.dumps({"a.jpg": asdict(RED_BALL)}))
    assert read_facts(kept) == {"a.jpg": RED_BALL}
    for domain in DOMAINS.values():
        assert domain_of(compose(domain, random.Random(0))) is domain


def test_facts_of_another_form_are_one_clear_line() -> None:
    with pytest.raises(CorpusError, match="The facts of the scenes cannot be read") as error:
        read_facts({"a.jpg": {"place": 3}})
    assert "\n" not in str(error.value)


def test_visual_words_are_those_that_people_agree_on() -> None:
    _, captions = scenes(200)
    words = visual_words(captions)
    assert {"red", "ball", "night"} <= set(words) and not {"a", "the", "is", "in", "of"} & set(words)


def test_scenes_are_looked_at_by_light_place_number_length_and_concept() -> None:
    facts, captions = scenes(400)
    kinds = subgroups(list(captions), captions, facts, 40)
    assert {kind.by for kind in kinds} == {"light", "place", "things", "length", "concept"}
    assert all(kind.member.sum() >= 40 for kind in kinds)
    night = next(kind for kind in kinds if (kind.by, kind.name) == ("light", "night"))
    assert list(night.member) == [facts[image_id].light == "night" for image_id in captions]
    assert sum(kind.by == "concept" for kind in kinds) <= CONCEPTS


def test_other_photos_are_looked_at_by_length_and_concept() -> None:
    _, captions = scenes(400)
    kinds = subgroups(list(captions), captions, {}, 40)
    assert {kind.by for kind in kinds} == {"length", "concept"}
    thirds = [kind.member for kind in kinds if kind.by == "length"]
    assert np.sum(thirds, axis=0).tolist() == [1] * 400


def test_too_few_photos_are_no_kind() -> None:
    assert subgroups(list(SAID), SAID, {}, 30) == []
