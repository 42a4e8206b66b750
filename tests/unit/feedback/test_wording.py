import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captionloop.feedback.parameters import Wording
from captionloop.feedback.reasons import Reason
from captionloop.feedback.wording import AbuseList, wording_fault

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
    assert wording_fault(text, LIST, Wording()) == Reason.ABUSE


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
    assert wording_fault(text, LIST, Wording()) == Reason.NOT_A_CAPTION


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=80))
def test_any_text_gets_an_answer(text: str) -> None:
    assert wording_fault(text, LIST, Wording()) in {None, Reason.ABUSE, Reason.NOT_A_CAPTION}


def test_the_list_of_the_project_lets_the_captions_of_the_scenes_through(project_root) -> None:
    import random

    from captionloop.corpus.scenes.captions import describe
    from captionloop.corpus.scenes.composition import compose
    from captionloop.corpus.scenes.domain import DOMAINS

    listed = AbuseList.parse((project_root / "conf/base/abuse.txt").read_text())
    for name, domain in DOMAINS.items():
        for number in range(100):
            rng = random.Random(f"{name}{number}")
            for caption in describe(domain, compose(domain, rng), rng, 5):
                assert wording_fault(caption, listed, Wording()) is None, caption
