"""Text becomes words, and words text, in every script."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from captionloop.errors import ConfigurationError
from captionloop.languages import ENGLISH, LANGUAGES, language_of
from captionloop.tokenizer import length_in_words, sentence, word_tokens

CUT = [
    ("fr", "L’objet, dans l'herbe !", ["l'", "objet", "dans", "l'", "herbe"]),
    ("fr", "Qu'est-ce qu'il 'voit' à 10:30 ?", ["qu'", "est-ce", "qu'", "il", "voit", "à", "10:30"]),
    ("it", "Un po' d'acqua nell'armadio", ["un", "po'", "d'", "acqua", "nell'", "armadio"]),
    ("ca", "El col·legi de l'avi", ["el", "col·legi", "de", "l'", "avi"]),
    ("nl", "'s Avonds: 'mooie' foto's", ["'s", "avonds", "mooie", "foto's"]),
    ("de", "Die STRASSE, die Straße", ["die", "strasse", "die", "straße"]),
    ("tr", "IŞIK, İstanbul'da", ["ışık", "istanbul'da"]),
    ("el", "ΟΔΟΣ: «οδός»", ["οδος", "οδός"]),
    ("el", "Μ’ ένα σκύλο κι απ' το σπίτι", ["μ'", "ένα", "σκύλο", "κι", "απ'", "το", "σπίτι"]),
    ("hy", "Ի՞նչ է սա, ինչո՜ւ։", ["ինչ", "է", "սա", "ինչու"]),
    ("ar", "كـــلب على الـعشب", ["كلب", "على", "العشب"]),
    ("uk", "Об’єкт", ["об'єкт"]),
    ("ar", "كَلْبٌ، يَجْري؟", ["كَلْبٌ", "يَجْري"]),
    ("he", 'צה"ל, שָׁלוֹם', ["צה״ל", "שָׁלוֹם"]),
    ("fa", "می\u200cروم به خانه\u200cها؛", ["می\u200cروم", "به", "خانه\u200cها"]),
    ("hi", "कुत्ता दौड़ रहा है।", ["कुत्ता", "दौड़", "रहा", "है"]),
    ("ko", "남자가 공을 던진다.", ["남자가", "공을", "던진다"]),
    ("zh", "３只iPhone，在草地上。", ["3", "只", "iphone", "在", "草", "地", "上"]),
    ("ja", "ｺｰﾋｰを「飲む」", ["コ", "ー", "ヒ", "ー", "を", "飲", "む"]),
    ("th", "ผู้ชาย 2 คน", ["ผู้", "ช", "า", "ย", "2", "ค", "น"]),
    ("km", "ខ្មែរ។", ["ខ្មែ", "រ"]),
    ("ru", "ёлка ❤️ 👩‍👩‍👧 и мяч", ["ёлка", "и", "мяч"]),
]


@pytest.mark.parametrize(("code", "text", "words"), CUT)
def test_text_is_cut_as_the_language_is_written(code, text, words):
    assert word_tokens(text, language_of(code)) == words


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("en", "a dog's ball"),
        ("fr", "l'objet dans l'herbe d'aujourd'hui"),
        ("it", "un po' d'acqua nell'armadio"),
        ("el", "μ' ένα σκύλο απ' το σπίτι"),
        ("zh", "一只红色的狗在草地上"),
        ("th", "ผู้ชายกับ cat 2 ตัว"),
        ("hi", "एक कुत्ता घास पर"),
    ],
)
def test_words_are_joined_as_people_write_them(code, text):
    language = language_of(code)
    assert sentence(word_tokens(text, language), language) == text


OTHERS = sorted(set(LANGUAGES) - {"en"})


@given(st.text(max_size=60), st.sampled_from(OTHERS))
def test_cutting_what_was_joined_gives_the_same_words(text, code):
    language = language_of(code)
    words = word_tokens(text, language)
    assert word_tokens(sentence(words, language), language) == words


SIGNS = st.text(st.sampled_from("aß'’-·.0\u0387\u200d\u0301\u0345\u00adל׳ส一İ "), max_size=12)


@given(st.text(max_size=60) | SIGNS, st.sampled_from(OTHERS))
@example("a·一", "ja")
@example("ส-a", "th")
@example("׳׳", "he")
@example("a\u00ad\u0301", "de")
@example("İ\u0301", "tr")
@example("0'a", "fr")
def test_a_word_is_itself_when_it_is_cut_alone(text, code):
    language = language_of(code)
    for word in word_tokens(text, language):
        assert word_tokens(word, language) == [word]


def test_length_is_in_words_where_text_is_cut_into_characters():
    assert length_in_words("a dog runs") == 3
    assert length_in_words("一只狗在草地上奔跑", language_of("zh")) == 6


def test_a_region_or_script_does_not_matter():
    assert language_of("zh-Hans").code == "zh"
    assert language_of("pt_BR").code == "pt"
    assert language_of("EN") is ENGLISH


@pytest.mark.parametrize(
    ("code", "nearest"),
    [("french", "fr, French"), ("ger", "de, German"), ("chinesse", "zh, Chinese"), ("fre", "fr")],
)
def test_an_unknown_language_is_one_line_with_the_nearest(code, nearest):
    with pytest.raises(ConfigurationError, match=nearest) as raised:
        language_of(code)
    assert "\n" not in str(raised.value)


def test_every_stemmer_and_code_is_one_that_exists():
    import snowballstemmer

    named = {language.stemmer for language in LANGUAGES.values()} - {None}
    assert named <= set(snowballstemmer.algorithms())
