import numpy as np
import pandas as pd
import pytest

from captionloop.errors import CorpusError
from captionloop.languages import language_of
from captionloop.vision.concepts import ConceptParameters, choose_concepts, concept_targets, extend_concepts

RULES = ConceptParameters(minimum_images=3, minimum_lift=1.5)


def captions(photos: dict[str, list[str]]) -> pd.DataFrame:
    rows = [(image_id, text, 1.0) for image_id, texts in photos.items() for text in texts]
    return pd.DataFrame(rows, columns=["image_id", "text", "weight"])


@pytest.fixture
def zoo() -> pd.DataFrame:
    """Everyone agrees on the animal; `the` and `a` are chosen by taste."""
    animals = ["dog", "cat", "duck", "horse"] * 6
    return captions(
        {str(n): [f"a {animal}", f"the {animal}", f"A {animal}!"] for n, animal in enumerate(animals)}
    )


def test_concepts_are_the_words_that_people_agree_on(zoo: pd.DataFrame) -> None:
    table = choose_concepts(zoo, RULES)
    assert set(table["concept"]) == {"cat", "dog", "duck", "horse"}
    assert (table["images"] == 6).all()
    assert np.allclose(table["lift"], 4)  # one photo in four shows a dog; if one says so, all do


def test_rare_words_are_no_concepts(zoo: pd.DataFrame) -> None:
    rare = pd.concat([zoo, captions({"x": ["an emu", "an emu"], "y": ["an emu", "an emu"]})])
    assert "emu" not in set(choose_concepts(rare, RULES)["concept"])


def test_words_that_mirroring_turns_round_are_no_concepts() -> None:
    table = choose_concepts(
        captions({str(n): ["dog left", "dog left"] for n in range(4)}),
        ConceptParameters(minimum_images=3, minimum_lift=0),
    )
    assert table["concept"].tolist() == ["dog"]


def test_the_most_frequent_concepts_are_kept(zoo: pd.DataFrame) -> None:
    more = pd.concat([zoo, captions({"x": ["a duck", "the duck"]})])
    assert choose_concepts(more, RULES.model_copy(update={"maximum": 1}))["concept"].tolist() == ["duck"]


def test_with_one_caption_for_each_photo_every_frequent_word_counts() -> None:
    table = choose_concepts(captions({str(n): ["a dog"] for n in range(4)}), RULES)
    assert table["concept"].tolist() == ["a", "dog"]


def test_captions_without_a_concept_are_one_line(zoo: pd.DataFrame) -> None:
    with pytest.raises(CorpusError, match=r"epochs to 0"):
        choose_concepts(zoo, ConceptParameters(minimum_images=100))


def test_words_that_the_corpus_hardly_has_become_concepts_and_others_are_left_to_it(
    zoo: pd.DataFrame,
) -> None:
    corpus = pd.concat([zoo, captions({"x": ["an emu"]})])
    new = captions({str(n): ["a horse and the emu left"] for n in range(3)} | {"y": ["two emu", "zebra"]})
    found = extend_concepts(["duck", "dog"], corpus, new, minimum_images=3, corpus_images=6)
    assert found == ["duck", "dog", "emu", "and"]
    assert extend_concepts(["duck"], corpus, new.head(0), minimum_images=3, corpus_images=6) == ["duck"]


def test_forms_of_a_new_word_are_one_more_concept(zoo: pd.DataFrame) -> None:
    new = captions({"x": ["a yak"], "y": ["two yaks"], "z": ["three yaks"], "w": ["four zebras and a duck"]})
    found = extend_concepts(["duck"], zoo, new, minimum_images=2, corpus_images=6)
    assert found == ["duck", "yaks", "yak|yaks"]
    assert extend_concepts(["duck"], zoo, new, minimum_images=4, corpus_images=6) == ["duck"]
    targets = concept_targets(new, found, ["w", "x", "y", "z"])
    assert targets.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 1], [0, 1, 1]]


def test_a_caption_with_two_forms_of_a_concept_says_it_once() -> None:
    targets = concept_targets(captions({"a": ["a yak among yaks", "a cat"]}), ["yak|yaks"], ["a"])
    assert targets.tolist() == [[0.5]]


def test_targets_are_the_share_of_captions_by_weight() -> None:
    table = captions({"a": ["a dog", "a dog runs", "an animal"], "b": ["a cat"]})
    table.loc[0, "weight"] = 3.0
    targets = concept_targets(table, ["dog", "cat", "emu"], ["b", "a", "nobody wrote of this one"])
    np.testing.assert_allclose(targets, [[0, 1, 0], [0.8, 0, 0], [0, 0, 0]])


def test_a_word_said_twice_in_a_caption_counts_once() -> None:
    targets = concept_targets(captions({"a": ["dog beside dog", "cat"]}), ["dog"], ["a"])
    assert targets.tolist() == [[0.5]]


def test_forms_of_a_word_are_one_concept_in_its_language() -> None:
    corpus = captions({str(n): ["un chat noir", "le chat noir"] for n in range(6)})
    more = captions({f"f{n}": ["une guitare" if n % 2 else "deux guitares"] for n in range(8)})
    found = extend_concepts(
        ["chat"], corpus, more, minimum_images=3, corpus_images=3, language=language_of("fr")
    )
    assert "guitare|guitares" in found


def test_characters_are_concepts_where_there_are_no_spaces() -> None:
    animals = ["狗", "猫", "鸭", "马"] * 6
    zoo = captions(
        {str(n): [f"一只{animal}", f"有{animal}", f"看{animal}！"] for n, animal in enumerate(animals)}
    )
    chinese = language_of("zh")
    table = choose_concepts(zoo, RULES, chinese)
    assert set(table["concept"]) == {"狗", "猫", "鸭", "马"}
    targets = concept_targets(zoo, ["狗"], ["0", "1"], chinese)
    assert targets.ravel().tolist() == [1.0, 0.0]


def test_no_stems_are_made_up_where_no_stemmer_is() -> None:
    more = captions({f"f{n}": ["기타 하나"] for n in range(8)})
    corpus = captions({str(n): ["고양이 하나"] for n in range(6)})
    found = extend_concepts(
        ["고양이"], corpus, more, minimum_images=3, corpus_images=3, language=language_of("ko")
    )
    assert found == ["고양이", "기타"]
