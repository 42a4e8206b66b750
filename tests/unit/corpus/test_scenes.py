"""Sample scenes: the same for the same seed, alike in what people say of them, and true."""

import hashlib
import io
import random
from collections.abc import Iterable
from itertools import islice

import pytest
from PIL import Image

from captionloop.corpus.readers import write_karpathy
from captionloop.corpus.scenes import SAMPLE, SHIFTED, Facts, Scene, SceneParameters, as_corpus, draw_scenes
from captionloop.corpus.scenes.layout import compose
from captionloop.corpus.scenes.objects import SKETCHES
from captionloop.corpus.scenes.scene_captions import describe, domain_words
from captionloop.scoring.cider import CiderD


def drawn(domain: str = "sample", train: int = 12, **others: int) -> list[Scene]:
    return list(draw_scenes(SceneParameters(domain=domain, train=train, **{"val": 3, "test": 2} | others)))


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return drawn()


def facts_and_captions(domain, count: int) -> Iterable[tuple[Facts, tuple[str, ...]]]:
    for number in range(count):
        rng = random.Random(f"test/{number}")
        facts = compose(domain, rng)
        yield facts, describe(domain, facts, rng)


def test_the_same_seed_gives_the_same_bytes(scenes: list[Scene]) -> None:
    assert drawn() == scenes


def test_another_seed_gives_other_scenes(scenes: list[Scene]) -> None:
    assert not {s.photo for s in drawn(seed=8)} & {s.photo for s in scenes}


def test_a_larger_split_begins_with_the_smaller_one(scenes: list[Scene]) -> None:
    larger = draw_scenes(SceneParameters(train=14, val=3, test=2))
    assert list(islice(larger, 12)) == scenes[:12]


def test_splits_have_their_sizes_and_no_photo_twice(scenes: list[Scene]) -> None:
    assert [s.split for s in scenes] == ["train"] * 12 + ["val"] * 3 + ["test"] * 2
    assert len({hashlib.sha256(s.photo).digest() for s in scenes}) == len(scenes)


def test_a_photo_has_the_size_that_was_asked_for() -> None:
    (scene,) = drawn(train=1, val=0, test=0, side=96)
    assert Image.open(io.BytesIO(scene.photo)).size == (96, 96)


@pytest.mark.parametrize("domain", [SAMPLE, SHIFTED])
def test_every_scene_has_five_different_captions_that_name_its_things(domain) -> None:
    words = {noun.name: set(noun.words) for noun in domain.nouns}
    for facts, captions in facts_and_captions(domain, 150):
        assert len(set(captions)) == 5
        for group in facts.groups:
            plural = {"box": "boxes", "cactus": "cactuses"}
            names = {plural.get(w, f"{w}s") if group.count > 1 else w for w in words[group.noun]}
            assert all(names & set(caption.split()) for caption in captions)
            assert sum(group.colour in caption.split() for caption in captions) >= 2


@pytest.mark.parametrize("domain", [SAMPLE, SHIFTED])
def test_every_noun_colour_place_and_arrangement_is_shown(domain) -> None:
    scenes = [facts for facts, _ in facts_and_captions(domain, 600)]
    groups = [group for facts in scenes for group in facts.groups]
    assert {group.noun for group in groups} == {noun.name for noun in domain.nouns} <= set(SKETCHES)
    assert {group.colour for group in groups} == set(domain.colours)
    assert {facts.place for facts in scenes} == set(domain.places)
    assert {facts.arrangement for facts in scenes} == set(domain.arrangements)


def test_the_shifted_domain_shares_no_word_of_substance_with_the_first() -> None:
    words = {
        word for _, captions in facts_and_captions(SAMPLE, 600) for text in captions for word in text.split()
    }
    assert not domain_words(SHIFTED) & words
    assert not domain_words(SHIFTED) & domain_words(SAMPLE)


def test_people_agree_enough_for_a_seeing_model_to_score_well() -> None:
    """A caption scores far more against the others of its scene than against another scene's."""
    everyone = [captions for _, captions in facts_and_captions(SAMPLE, 120)]
    cider = CiderD({str(n): captions[1:] for n, captions in enumerate(everyone)})
    agreeing = cider.rewards(cider.image_ids, [captions[0] for captions in everyone]).mean()
    strangers = cider.rewards(
        cider.image_ids, [captions[0] for captions in everyone[1:] + everyone[:1]]
    ).mean()
    assert agreeing > 2.5
    assert strangers < 0.5


def test_the_corpus_holds_every_caption_under_its_scene(scenes: list[Scene]) -> None:
    corpus = as_corpus(scenes)
    assert corpus.images["image_id"].tolist() == [scene.name for scene in scenes]
    texts = corpus.captions.groupby("image_id", sort=False)["text"].agg(tuple).to_dict()
    assert texts == {scene.name: scene.captions for scene in scenes}
    assert write_karpathy(corpus, "x") == write_karpathy(as_corpus(drawn()), "x")
