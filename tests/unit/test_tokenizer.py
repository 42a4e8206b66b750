import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captionloop.corpus.scenes import SceneParameters, draw_scenes
from captionloop.errors import BundleError, CorpusError
from captionloop.languages import language_of
from captionloop.tokenizer import SPECIALS, CaptionTokenizer, sentence, word_tokens

TEXTS = [
    "A man's tri-colored T-shirt!",
    'the boys\' dog , a "big" dog .',
    "A dog 's ball -- and a dog’s ball.",
]


@pytest.fixture(scope="module")
def tokenizer() -> CaptionTokenizer:
    return CaptionTokenizer.train(TEXTS, min_frequency=1)


def test_special_tokens_have_their_fixed_ids(tokenizer):
    assert tuple(tokenizer.words[:4]) == SPECIALS
    assert (tokenizer.PAD, tokenizer.BOS, tokenizer.EOS, tokenizer.UNK) == (0, 1, 2, 3)


def test_words_are_lower_case_without_punctuation(tokenizer):
    assert tokenizer.split('the boys\' dog , a "big" dog .') == ["the", "boys", "dog", "a", "big", "dog"]


def test_hyphens_inside_words_and_the_possessive_stay_as_the_metrics_keep_them(tokenizer):
    assert tokenizer.split(TEXTS[0]) == ["a", "man", "'s", "tri-colored", "t-shirt"]
    assert tokenizer.split("a dog's ball") == tokenizer.split("a dog 's ball") == ["a", "dog", "'s", "ball"]


def test_a_possessive_is_written_back_on_its_noun(tokenizer):
    assert sentence(tokenizer.decode(tokenizer.encode("A dog 's ball."))) == "a dog's ball"


def test_unknown_words_become_one_token_and_are_never_decoded(tokenizer):
    ids = tokenizer.encode("a zebra")
    assert ids[1] == CaptionTokenizer.UNK
    assert tokenizer.decode(ids) == ["a"]


def test_seldom_words_are_left_out():
    words = CaptionTokenizer.train(TEXTS, min_frequency=2).words
    assert "dog" in words
    assert "t-shirt" not in words


def test_the_vocabulary_does_not_depend_on_the_order_of_captions():
    assert CaptionTokenizer.train(reversed(TEXTS)).words == CaptionTokenizer.train(TEXTS).words


def test_captions_without_words_are_refused_in_one_line():
    with pytest.raises(CorpusError, match="no word occurs"):
        CaptionTokenizer.train(["...", ""])


def test_growing_keeps_old_ids_and_appends_new_words(tokenizer):
    extended = tokenizer.extended(["a zebra and a gnu", "zebra"])
    assert extended.words[: tokenizer.vocabulary_size] == tokenizer.words
    assert extended.words[tokenizer.vocabulary_size :] == ["zebra", "gnu"]
    assert extended.extended(["a zebra"]).words == extended.words


def test_it_is_the_same_after_saving_and_loading(tokenizer, tmp_path: Path):
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = CaptionTokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.words == tokenizer.words
    assert loaded.encode_all(TEXTS) == [tokenizer.encode(text) for text in TEXTS]


@pytest.mark.parametrize("content", ["", "{}", '{"version": "1.0"}', "\x00\x01"])
def test_a_file_that_is_no_tokenizer_is_a_bundle_error(tmp_path: Path, content: str):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(BundleError):
        CaptionTokenizer.load(tmp_path / "tokenizer.json")
    with pytest.raises(BundleError):
        CaptionTokenizer.load(tmp_path / "absent.json")


@given(st.lists(st.sampled_from(["man", "dog", "t-shirt", "'s", "ball"]), max_size=12))
def test_known_words_survive_encoding_and_decoding(words):
    tokenizer = CaptionTokenizer.train(["man dog t-shirt dog's ball"])
    words = [word for i, word in enumerate(words) if not (word == "'s" and i == 0)]
    assert tokenizer.decode(tokenizer.encode(" ".join(words))) == words


@given(st.text(max_size=60))
def test_any_text_can_be_encoded_without_special_tokens_but_unknown(text):
    tokenizer = CaptionTokenizer.train(["a man"])
    assert all(i >= CaptionTokenizer.UNK for i in tokenizer.encode(text))


def test_subwords_are_put_together_to_words_with_their_spans():
    tokenizer = CaptionTokenizer.train(["a man walks"] * 5 + ["a woman walking"] * 5, subwords=32)
    ids = tokenizer.encode("a woman walks")
    assert len(ids) > 3
    assert tokenizer.decode(ids) == ["a", "woman", "walks"]
    spans = tokenizer.spans(ids)
    assert [span.start for span in spans[1:]] == [span.stop for span in spans[:-1]]


# Digests of what the code gave before there were languages: English must stay as it was to the byte.
ODD = [
    "A man's dog doesn't like T-shirts — 'really'!",
    "Don’t stop: the girls’ café, 10:30 a.m.",
    "naïve façade … ½ ＦＵＬＬ width",
    "一只狗 in the snow",
    "x'y'z o'clock rock-n-roll -dash- it's 's",
    "  ",
    "\u200b zero\u00adwidth",
    "हिन्दी में",
    "ÇELİK I İ ß ẞ Σ ΟΔΟΣ",
]
TOKENIZER = "ea85853cc048ff78e48fd6a75885b3c217757b718942e40579889009f12b5659"
ENCODED = "2c9911fbc347daf49abd7d8775d4738e4348f1829a9feeef64ba40c92a5d2140"
CAPTIONS = "47bfea028d603180c61beffd227ce72b85bbff2d0bf188b0c26a2a4589958bb5"


def test_english_is_cut_as_it_was_before_there_were_other_languages(tmp_path):
    scenes = draw_scenes(SceneParameters(train=150, val=1, test=1, side=32))
    texts = [text for scene in scenes for text in scene.captions]
    tokenizer = CaptionTokenizer.train(texts + ODD, min_frequency=1)
    tokenizer.save(tmp_path / "tokenizer.json")

    def digest(content: bytes) -> str:
        return hashlib.sha256(content).hexdigest()

    assert digest(json.dumps(texts).encode()) == CAPTIONS
    assert digest((tmp_path / "tokenizer.json").read_bytes()) == TOKENIZER
    assert digest(json.dumps(tokenizer.encode_all(texts + ODD)).encode()) == ENCODED
    assert tokenizer.split(ODD[0]) == ["a", "man", "'s", "dog", "doesnt", "like", "t-shirts", "really"]


@pytest.mark.parametrize(
    ("code", "text", "words"),
    [
        ("fr", "L'objet dans l’herbe", 5),
        ("zh", "一只红色的iPhone手机", 8),
        ("hi", "कुत्ता दौड़ रहा है।", 4),
        ("th", "ผู้หญิงนั่ง", 6),
    ],
)
def test_a_vocabulary_of_another_language_survives_its_file(tmp_path, code, text, words):
    language = language_of(code)
    CaptionTokenizer.train([text], language=language).save(tmp_path / "tokenizer.json")
    tokenizer = CaptionTokenizer.load(tmp_path / "tokenizer.json", language)
    ids = tokenizer.encode(text)
    assert len(ids) == words
    assert CaptionTokenizer.UNK not in ids
    assert tokenizer.decode(ids) == word_tokens(text, language) == tokenizer.split(text)
    extended = tokenizer.extended(["新 nouveau"])
    assert extended.language is language
    assert extended.encode(text) == ids


def test_sub_words_stay_in_their_words_in_every_language():
    language, text = language_of("fr"), "l'objet dans l'herbe d'une maison"
    tokenizer = CaptionTokenizer.train([text] * 5, subwords=60, language=language)
    assert tokenizer.decode(tokenizer.encode(text)) == word_tokens(text, language)
