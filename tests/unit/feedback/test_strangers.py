"""One person who throws the cookie away after each photo, against curation."""

import random

import pandas as pd
import pytest
from ratings_for_tests import ratings, sha
from test_curation import ABUSE, facts

from captionloop.corpus.scenes.layout import compose
from captionloop.corpus.scenes.scene_captions import describe
from captionloop.corpus.scenes.world import DOMAINS
from captionloop.feedback.curation import Curated, curate
from captionloop.feedback.feedback_parameters import FeedbackParameters
from captionloop.feedback.feedback_report import Window, summary
from captionloop.feedback.rater_reliability import known_raters
from captionloop.feedback.rating_checks import RatingIssue

pytestmark = pytest.mark.integration

PEOPLE, EACH, PLANTED = 40, 5, 300
THINGS = ("dog", "red ball", "boat", "little tree", "green car", "child", "cup", "kite", "duck", "lamp")
PLACES = ("on the grass", "in the snow", "by the sea", "at night", "on a table", "in a street", "indoors")


def descriptions(world: str, count: int) -> list[tuple[str, ...]]:
    domain, texts_by_scene = DOMAINS[world], []
    for number in range(count):
        rng = random.Random(f"strangers/{world}/{number}")
        texts_by_scene.append(describe(domain, compose(domain, rng), rng, 5))
    return texts_by_scene


KNOWN = descriptions("sample", 80)
CORPUS = (
    pd.DataFrame(
        [{"image_id": f"k{n}", "sha256": sha(f"k{n}"), "source": "corpus"} for n in range(len(KNOWN))]
    ),
    pd.DataFrame(
        [
            {"image_id": f"k{n}", "text": text, "source": "human"}
            for n, said in enumerate(KNOWN)
            for text in said
        ]
    ),
)


def gold(rater: str, rng: random.Random, right: float, network: str | None) -> list[dict]:
    """One good and one bad caption of known photos, rated rightly with this chance."""
    rows = []
    for good in (True, False):
        photo = rng.randrange(len(KNOWN))
        text = KNOWN[photo][0] if good else KNOWN[(photo + 40) % len(KNOWN)][0]
        stars = 5 if good == (rng.random() < right) else 1
        row = {"photo": f"k{photo}", "caption": f"gold{photo}{good}", "text": text, "gold": True}
        rows.append({"rater": rater, "stars": stars, "network": network, **row})
    return rows


def honest(rng: random.Random) -> list[dict]:
    """200 corrections of 40 people of many networks, who rated gold items and err in one of twenty."""
    rows, scenes = [], descriptions("shifted", PEOPLE * EACH)
    for number in range(PEOPLE):
        rater, network = f"person:h{number}", f"net{number % 33}"
        rows += gold(rater, rng, 0.95, network)
        for photo in range(number * EACH, (number + 1) * EACH):
            row = {"photo": f"h{photo}", "caption": f"h{photo}", "correction": scenes[photo][0]}
            rows.append({"rater": rater, "stars": 2, "network": network, **row})
    return rows


def planted(rng: random.Random, *, passes_gold: bool, text) -> list[dict]:
    rows = []
    for number in range(PLANTED):
        rater = f"person:x{number}"
        rows += gold(rater, rng, 1.0, "evil") if passes_gold else []
        row = {"photo": f"x{number}", "caption": f"x{number}", "correction": text(rng)}
        rows.append({"rater": rater, "stars": 1, "network": "evil", **row})
    return rows


def template(rng: random.Random) -> str:
    return f"a {rng.choice(THINGS)} next to a cold can of zapcola {rng.choice(PLACES)}"


def made_up(rng: random.Random) -> str:
    """Planted as well, but no two alike."""
    words = rng.sample(
        ["with", "under", "near", "two", "old", "bright", "wooden", "small", "blue", "tall"], 4
    )
    return f"{words[0]} zapcola {rng.choice(THINGS)} {words[1]} {words[2]} {words[3]} {rng.choice(PLACES)}"


def curated(rows: list[dict], parameters: FeedbackParameters | None = None) -> Curated:
    rng = random.Random(1)
    shuffled = rng.sample(rows, len(rows))
    table = ratings(*({**row, "minutes": 3 * n} for n, row in enumerate(shuffled)))
    table = table.drop_duplicates(["rater", "caption_id"]).reset_index(drop=True)
    return curate(table, facts(table), *CORPUS, ABUSE, parameters or FeedbackParameters())


def of_attack(made: Curated) -> tuple[float, int, int]:
    """Its share of the references' weight, its held-out corrections, and how many honest ones are used."""
    bad = made.references["text"].str.contains("zapcola")
    weight = made.references["weight"]
    tested = made.held_out["text"].str.contains("zapcola")
    used = int((~bad).sum() + (~tested).sum())
    return float(weight[bad].sum() / weight.sum()), int(tested.sum()), used


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("passes_gold", [False, True])
def test_three_hundred_templates_of_strangers_weigh_nothing(seed: int, passes_gold: bool) -> None:
    """Before: 57.5 % of the weight, 28 of 56 held-out photos (reported; no gold item was rated then)."""
    rng = random.Random(seed)
    made = curated([*honest(rng), *planted(rng, passes_gold=passes_gold, text=template)])
    share, held_out, used = of_attack(made)
    assert share < 0.05 and held_out == 0
    assert used >= 0.8 * PEOPLE * EACH
    alone = of_attack(curated(honest(random.Random(seed))))
    assert used >= alone[2] - 4  # what honest people lose, they lose to the gold items and not to the attack


def test_without_gold_items_and_templates_the_attack_takes_what_it_took() -> None:
    rng = random.Random(0)
    before = FeedbackParameters.model_validate(
        {
            "gold_items": 0,
            "repeated_corrections": {"template_share": 1.0},
            "rater_limits": {"network_share": 1.0},
        }
    )
    share, held_out, _ = of_attack(
        curated([*honest(rng), *planted(rng, passes_gold=False, text=template)], before)
    )
    assert share > 0.5 and held_out > 20


def test_a_network_that_passes_every_gold_item_and_repeats_nothing_has_its_share_and_no_more() -> None:
    rng = random.Random(0)
    made = curated([*honest(rng), *planted(rng, passes_gold=True, text=made_up)])
    share, held_out, _ = of_attack(made)
    assert 0 < share <= 0.15 and held_out <= 0.15 * len(made.held_out)


def test_what_strangers_say_speaks_against_nobody() -> None:
    """Whoever repeats an honest correction under many names must not make it a copy."""
    rng = random.Random(0)
    rows = honest(rng)
    framed = next(row["correction"] for row in rows if row.get("correction"))
    made = curated([*rows, *planted(rng, passes_gold=False, text=lambda _: framed)])
    assert framed in {*made.references["text"], *made.held_out["text"]}


def test_enough_ratings_are_those_that_count() -> None:
    rng = random.Random(0)
    rows = planted(rng, passes_gold=False, text=template)
    made = curated(rows)
    table = ratings(*rows)
    report = summary(table, table.head(0).assign(reason=""), made, Window.parse(None, None, None), 50)
    assert (
        report["sentence"] == "300 new ratings so far, of which 0 count, 50 needed" and not report["enough"]
    )
    assert report["quarantined"][RatingIssue.COPY] == 300 or report["raters"]["strangers"] > 0


def rated(*rows: tuple[str, str, int]) -> pd.DataFrame:
    return ratings(
        *({"rater": who, "caption": what, "stars": stars, "gold": True} for who, what, stars in rows)
    )


def test_two_gold_items_of_both_kinds_make_somebody_known() -> None:
    known = {"good": True, "good2": True, "bad": False, "bad2": False}
    table = rated(
        ("person:right", "good", 5), ("person:right", "bad", 1),
        ("person:hater", "bad", 1), ("person:hater", "bad2", 1), ("person:hater", "good", 1),
        ("person:half", "good", 5), ("person:half", "bad", 4),
        ("person:shy", "good", 3), ("person:shy", "bad", 1),
        ("person:new", "other", 5), ("key:shop", "other", 5),
    )  # fmt: skip
    assert known_raters(table, known, 2) == {"person:right", "key:shop"}
    assert known_raters(table, known, 1) == {
        "person:right",
        "person:hater",
        "person:half",
        "person:shy",
        "key:shop",
    }
    assert known_raters(table, known, 0) == set(table["rater"])


def test_gold_items_that_somebody_picked_are_none() -> None:
    """Whoever has the corpus could send its photos, whose captions are known."""
    table = rated(("person:a", "good", 5), ("person:a", "bad", 1)).assign(gold=False)
    assert known_raters(table, {"good": True, "bad": False}, 2) == frozenset()
