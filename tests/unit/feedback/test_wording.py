import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captionloop.feedback.feedback_parameters import Wording
from captionloop.feedback.rating_checks import RatingIssue
from captionloop.feedback.rating_filters import AbuseList, wording_fault
from captionloop.languages import language_of

LIST = AbuseList.parse("# a comment\nidiot\nass # with a comment\nmoron\n\n")


@pytest.mark.parametrize(
    "text",
    [
        "you are an idiot",
        "you are IDIOTS all",
        "you are an 1d10t",
        "you are an idiooooot",
        "such an ïdiot here",
        "what an i d i o t",
        "kiss my a$$ now please",
        "what a m.o.r.o.n took it",
    ],
)
def test_abuse_is_found_however_it_is_spelt(text: str) -> None:
    assert wording_fault(text, LIST, Wording()) == RatingIssue.ABUSE


@pytest.mark.parametrize(
    "text",
    [
        "a dog as big as a horse",
        "a class of children passes a glass house",
        "four spotted turquoise rockets around a pink cat",
        "Zwei Hündchen im Schnee",
        "a dog's ball on a t-shirt",
        "two dogs and two cats and two birds",
        "a b c d painted on a wall",
        "子供 が 公園 で 遊ぶ",
    ],
)
def test_a_caption_is_a_caption(text: str) -> None:
    assert wording_fault(text, LIST, Wording()) is None


@pytest.mark.parametrize(
    "text",
    [
        "dog",
        "",
        "see http://example.org for more dogs",
        "write to me at a@b.example please now",
        "<b>a dog on the grass</b>",
        "spam spam spam spam spam spam",
        "12345 67890 12345 11111",
        "!!! ??? ... --- ===",
        "a " + "x" * 60 + " dog on grass",
        " ".join(["word"] * 3 + [f"w{n}" for n in range(50)]),
    ],
)
def test_what_is_no_sentence_is_not_a_caption(text: str) -> None:
    assert wording_fault(text, LIST, Wording()) == RatingIssue.NOT_A_CAPTION


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=80))
def test_any_text_gets_an_answer(text: str) -> None:
    assert wording_fault(text, LIST, Wording()) in {None, RatingIssue.ABUSE, RatingIssue.NOT_A_CAPTION}


def test_the_list_of_the_project_lets_the_captions_of_the_scenes_through(project_root) -> None:
    import random

    from captionloop.corpus.scenes.layout import compose
    from captionloop.corpus.scenes.scene_captions import describe
    from captionloop.corpus.scenes.world import DOMAINS

    listed = AbuseList.parse((project_root / "conf/base/abuse.txt").read_text())
    for name, domain in DOMAINS.items():
        for number in range(100):
            rng = random.Random(f"{name}{number}")
            for caption in describe(domain, compose(domain, rng), rng, 5):
                assert wording_fault(caption, listed, Wording()) is None, caption


IN_OTHER_LANGUAGES = [
    ("fr", "l'homme jette un ballon dans l'herbe"),
    ("de", "ein Schild der Donaudampfschifffahrtsgesellschaft"),
    ("ru", "собака бежит"),
    ("hi", "एक कुत्ता घास पर दौड़ रहा है"),
    ("ar", "كَلْبٌ يَجْري في الحَديقَةِ"),
    ("he", "הכלב רץ בגינה"),
    ("zh", "一只红色的狗在草地上奔跑"),
    ("ja", "コーヒーを飲む男"),
    ("th", "ผู้หญิงกำลังนั่งบนเก้าอี้"),
    ("ko", "개가 달린다"),
    ("fa", "سگ به خانه می\u200cرود"),
    ("ta", "ஒரு நாய் புல்லில் ஓடுகிறது"),
]


@pytest.mark.parametrize(("code", "text"), IN_OTHER_LANGUAGES)
def test_a_caption_is_a_caption_in_every_script(code: str, text: str) -> None:
    assert wording_fault(text, LIST, Wording(), language_of(code)) is None


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("zh", "狗"),
        ("zh", "哈哈哈哈哈哈哈哈"),
        ("zh", "红球红球红球红球红球"),
        ("zh", "看ｗｗｗ．example上的狗和猫"),
        ("hi", "कुत्ता कुत्ता कुत्ता कुत्ता कुत्ता"),
        ("ko", "공 공 공 공 공"),
        ("ru", "собака"),
        ("fr", "l'herbe"),
        ("th", "5555 5555 5555 5555"),
        ("zh", "一" * 80),
    ],
)
def test_what_is_no_sentence_is_none_in_every_script(code: str, text: str) -> None:
    assert wording_fault(text, LIST, Wording(), language_of(code)) == RatingIssue.NOT_A_CAPTION


FOREIGN = AbuseList.parse("白痴\nidiote\nपागल\nไอ้โง่\nأحمق")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("zh", "这个人真是白痴对不对"),
        ("zh", "这个人真是白 痴"),
        ("fr", "ce sont des idiotes dans l'herbe"),
        ("hi", "यह आदमी पागल है"),
        ("th", "ผู้ชายคนนี้ไอ้โง่จริงๆ"),
        ("ar", "هذا الرجل أَحْمَق جدا"),
    ],
)
def test_abuse_is_found_in_every_script(code: str, text: str) -> None:
    assert wording_fault(text, FOREIGN, Wording(), language_of(code)) == RatingIssue.ABUSE


def test_letters_of_other_words_do_not_make_up_an_abuse() -> None:
    # पा and गल, at the end of one word and the beginning of the next
    assert wording_fault("वह छापा गली में पड़ा", FOREIGN, Wording(), language_of("hi")) is None
    assert wording_fault("दो नावें पानी में हैं", FOREIGN, Wording(), language_of("hi")) is None
