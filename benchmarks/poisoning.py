"""What gets past the curation of ratings when 30 % of the raters collude. Takes minutes: nothing is trained.

    python -m benchmarks.poisoning
    python -m benchmarks.poisoning --only "another name"      # of the attacks those whose name says so

Scenes of the shifted world are described, not drawn. In five rounds of 200 ratings a make-believe captioner
says something of the wrong world, or, more often from round to round, what a person said of the scene. What
people rate is what the service's own queue shows them, gold items among it, and ratings go through its store.
Honest raters rate and correct as in `benchmarks.loop`; the colluders praise one wrong caption, give it as a
correction, and "correct" to abuse, some of which no list of words knows. What is left is trained on by
`benchmarks.loop --colluding 0.3`.
"""

import argparse
import hashlib
import random
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from benchmarks.loop.people import is_harmful, rate_from_queue
from captionloop.corpus.scenes.layout import compose
from captionloop.corpus.scenes.scene_captions import describe
from captionloop.corpus.scenes.world import DOMAINS
from captionloop.feedback.curation import Curated, Photos, curate
from captionloop.feedback.feedback_parameters import FeedbackParameters
from captionloop.feedback.rating_filters import AbuseList
from captionloop.feedback.simulation import ABUSE, SimulatedItem, SimulatedQuality, SimulatedRaters
from captionloop.ratings.database import upgrade
from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.rating_tables import CORPUS, PhotoFacts, ServedCaption
from captionloop.ratings.reader import RATINGS as COLUMNS
from captionloop.ratings.reader import RatingsDatabase

ROUNDS, RATINGS, SCENES, GOLD = 5, 200, 80, 60
RIGHT = (0.0, 0.3, 0.5, 0.6, 0.7)  # how often the captioner is right, round by round
UNLISTED = ABUSE[3:]


@dataclass(frozen=True)
class Attack:
    """The colluders: seconds between two ratings, ratings for each of an honest rater's, and words."""

    name: str
    seconds: float
    flood: int
    abuse: tuple[str, ...] = ABUSE
    colluding: float = 0.3
    fresh: bool = False


ATTACKS = (
    Attack("nobody colludes", 90, 1, colluding=0.0),
    Attack("flooding, fast", 1, 3),
    Attack("flooding, slowly", 90, 3),
    Attack("no faster and no more than others", 90, 1),
    Attack("the same, with no word of the list", 90, 1, UNLISTED),
    Attack("the same, another name for every rating", 90, 1, UNLISTED, fresh=True),
    Attack("the same, by 45 % of the raters", 90, 1, UNLISTED, colluding=0.45),
)


def descriptions(world: str, split: str, count: int) -> list[tuple[str, ...]]:
    """What people say of the scenes of a world."""
    domain, texts_by_scene = DOMAINS[world], []
    for number in range(count):
        rng = random.Random(f"7/{world}/{split}/{number}")
        texts_by_scene.append(describe(domain, compose(domain, rng), rng, 5))
    return texts_by_scene


def gold_of(known: list[tuple[str, ...]]) -> dict[str, SimulatedItem]:
    """Right and wrong captions of known scenes in turn, by caption id; the number is the scene's."""
    found = {}
    for number, texts in enumerate(known):
        text = texts[0] if number % 2 == 0 else known[(number + len(known) // 2) % len(known)][0]
        found[f"known {number}"] = SimulatedItem(f"known {number}", text, texts)
    return found


def ratings_of(
    attack: Attack, seed: int, known: list[tuple[str, ...]]
) -> tuple[pd.DataFrame, SimulatedRaters]:
    """All ratings of five rounds; photos are named by what they are of."""
    people = SimulatedRaters(
        raters=40, seed=seed, colluding=attack.colluding, flood=attack.flood, abuse=attack.abuse,
        fresh=attack.fresh,
    )  # fmt: skip
    scenes = descriptions("shifted", "train", ROUNDS * SCENES)
    taste = SimulatedQuality({f"known {n}": texts for n, texts in enumerate(known)})
    rng, gold, sent = random.Random(seed), gold_of(known), {}
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/ratings.db"
        upgrade(url)
        store = RatingsStore(url)
        for number, item in enumerate(gold.values()):
            keep(store, item, CORPUS, known_good=number % 2 == 0)
        for round_number in range(ROUNDS):
            for number in range(round_number * SCENES, (round_number + 1) * SCENES):
                right = rng.random() < RIGHT[round_number]
                text = rng.choice(scenes[number]) if right else rng.choice(rng.choice(known))
                item = sent[f"new {number}"] = SimulatedItem(f"new {number}", text, scenes[number])
                keep(store, item, "key:demo")
            rate_from_queue(store, people, taste, gold, sent, RATINGS, round_number)
        store.close()
        table = RatingsDatabase(url).ratings()
    return at_their_pace(table, attack, people), people


def keep(store: RatingsStore, item: SimulatedItem, owner: str, known_good: bool | None = None) -> None:
    sha256 = hashlib.sha256(item.caption_id.encode()).hexdigest()
    facts = PhotoFacts(sha256, "image/jpeg", 1, 128, 128)
    store.record(
        ServedCaption(
            item.caption_id, owner, facts, item.text, 0.5, [], [], "captioner", "1", sent_sha256=sha256,
            shared=True, known_good=known_good,
        )
    ).result(30)  # fmt: skip


def at_their_pace(table: pd.DataFrame, attack: Attack, people: SimulatedRaters) -> pd.DataFrame:
    """The ratings with moments as if people had looked at the photos; colluders take as long as they like."""
    begin = pd.Timestamp("2026-11-01 08:00", tz="UTC")
    slow = [attack.seconds if is_harmful(people, rater) else 90 for rater in table["rater"]]
    number = table.groupby("rater").cumcount() + 1
    day = (np.arange(len(table)) * ROUNDS // max(1, len(table))).astype("timedelta64[D]")
    moment = begin + pd.to_timedelta(day) + pd.to_timedelta(number * slow, unit="s")
    return table.assign(created_at=moment, updated_at=moment).astype(COLUMNS)


def curated(ratings: pd.DataFrame, known: list[tuple[str, ...]], abuse: AbuseList, defences: bool) -> Curated:
    """What the pipeline makes of it."""
    seen = sorted(set(ratings["image_id"]))
    facts = pd.DataFrame({"sha256": seen, "width": 128, "height": 128, "good": True, "missing": False})
    shas = [hashlib.sha256(f"known {n}".encode()).hexdigest() for n in range(len(known))]
    images = pd.DataFrame({"image_id": [f"known {n}" for n in range(len(known))], "sha256": shas})
    captions = pd.DataFrame(
        [(f"known {n}", text) for n, texts in enumerate(known) for text in texts],
        columns=["image_id", "text"],
    )
    images, captions = images.assign(source="corpus"), captions.assign(source="human")
    parameters = FeedbackParameters(defences=defences)
    return curate(
        ratings,
        Photos(facts),
        images.assign(source="corpus"),
        captions.assign(source="human"),
        abuse,
        parameters,
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--only", default="", help="attacks whose name has this in it")
    given = arguments.parse_args()
    with open("conf/base/abuse.txt", encoding="utf-8") as file:  # noqa: PTH123
        abuse = AbuseList.parse(file.read())
    known = descriptions("sample", "val", GOLD)
    print(
        "| the colluders | defences | abuse used | praised used | of the weight | held out | honest used "
        "| colluders trusted |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for attack in (each for each in ATTACKS if given.only in each.name):
        played = [ratings_of(attack, seed, known) for seed in range(given.seeds)]
        for defences in (True, False):
            found = []
            for ratings, people in played:
                made = curated(ratings, known, abuse, defences)
                used = pd.concat([made.references, made.held_out])
                bad = {rater for rater in set(ratings["rater"]) if is_harmful(people, rater)}
                new = ~ratings["image_id"].isin(
                    [hashlib.sha256(f"known {n}".encode()).hexdigest() for n in range(len(known))]
                )
                honest = ratings[new & ratings["correction"].notna() & ~ratings["rater"].isin(bad)]
                raters = made.rater_scores.raters
                trusted = raters[raters["rater"].isin(bad) & (raters["weight"] >= 0.35)]
                kept = used["ratings"].isin(honest["rating_id"].astype(str)) & (
                    used["source"] == "correction"
                )
                harmful = made.references["text"].isin([*attack.abuse, people.praised])
                tested = made.held_out["text"].isin([*attack.abuse, people.praised])
                weight = made.references["weight"]
                found.append(
                    (
                        used["text"].isin(attack.abuse).sum(),
                        (used["text"] == people.praised).sum(),
                        weight[harmful].sum() / max(1e-9, weight.sum()),
                        tested.sum(),
                        kept.sum() / max(1, len(honest)),
                        len(trusted) / max(1, len(bad)),
                    )
                )
            abusive, praised, heavy, held_out, honestly, trusting = np.array(found, float).mean(0)
            print(
                f"| {attack.name} | {'on' if defences else 'off'} | {abusive:.1f} | {praised:.1f} "
                f"| {100 * heavy:.1f} % | {held_out:.1f} | {100 * honestly:.0f} % | {100 * trusting:.0f} % |",
                flush=True,
            )


if __name__ == "__main__":
    main()
