"""What gets past the curation of ratings when 30 % of the raters collude. Takes seconds: nothing is trained.

    python -m benchmarks.poisoning

Scenes of the shifted world are described, not drawn. In five rounds of 200 ratings a make-believe captioner
says something of the wrong world, or, more often from round to round, what a person said of the scene; 15 %
of what is rated are known scenes. Honest raters rate and correct as in `benchmarks.loop`; the colluders
praise one wrong caption, give it as a correction, and "correct" to abuse, some of which no list of words
knows. What is left is trained on by `benchmarks.loop --colluding 0.3`.
"""

import argparse
import hashlib
import random
from dataclasses import dataclass

import numpy as np
import pandas as pd

from captionloop.corpus.scenes.layout import compose
from captionloop.corpus.scenes.scene_captions import describe
from captionloop.corpus.scenes.world import DOMAINS
from captionloop.feedback.curation import Curated, Photos, curate
from captionloop.feedback.feedback_parameters import FeedbackParameters
from captionloop.feedback.rating_filters import AbuseList
from captionloop.feedback.simulation import ABUSE, SimulatedItem, SimulatedQuality, SimulatedRaters
from captionloop.ratings.reader import ratings_table

ROUNDS, RATINGS, SCENES, GOLD = 5, 200, 80, 14
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


ATTACKS = (
    Attack("nobody colludes", 90, 1, colluding=0.0),
    Attack("flooding, fast", 1, 3),
    Attack("flooding, slowly", 90, 3),
    Attack("no faster and no more than others", 90, 1),
    Attack("the same, with no word of the list", 90, 1, UNLISTED),
    Attack("the same, by 45 % of the raters", 90, 1, UNLISTED, colluding=0.45),
)


def descriptions(world: str, split: str, count: int) -> list[tuple[str, ...]]:
    """What people say of the scenes of a world."""
    domain, said = DOMAINS[world], []
    for number in range(count):
        rng = random.Random(f"7/{world}/{split}/{number}")
        said.append(describe(domain, compose(domain, rng), rng, 5))
    return said


def ratings_of(
    attack: Attack, seed: int, known: list[tuple[str, ...]]
) -> tuple[pd.DataFrame, SimulatedRaters]:
    """All ratings of five rounds; photos are named by what they are of."""
    people = SimulatedRaters(seed=seed, colluding=attack.colluding, flood=attack.flood, abuse=attack.abuse)
    scenes = descriptions("shifted", "train", ROUNDS * SCENES)
    taste = SimulatedQuality({f"known {n}": said for n, said in enumerate(known)})
    begin, rows, given = pd.Timestamp("2026-11-01 08:00", tz="UTC"), [], {}
    rng = random.Random(seed)
    for turn in range(ROUNDS):
        new = [(f"new {n}", scenes[n]) for n in range(turn * SCENES, (turn + 1) * SCENES)]
        gold = [(f"known {n}", known[n]) for n in range(turn * GOLD, (turn + 1) * GOLD)]
        shown, photo = [], {}
        for name, said in [*new, *gold]:
            right = rng.random() < (RIGHT[turn] if name.startswith("new") else 0.7)
            text = rng.choice(said) if right else rng.choice(rng.choice(known))
            shown.append(SimulatedItem(f"{turn} {name}", text, said))
            photo[f"{turn} {name}"] = (text, hashlib.sha256(name.encode()).hexdigest())
        shares = taste.share(shown)
        for rater, caption, opinion in people.rate(shown, shares, RATINGS, turn):
            given[rater] = given.get(rater, 0) + 1
            slow = attack.seconds if rater in people.colluders() else 90
            moment = begin + pd.Timedelta(days=turn, seconds=slow * given[rater])
            number = len(rows) + 1
            rows.append(
                (number, caption, rater, opinion.stars, opinion.correction, moment, moment, photo[caption][0],
                 "1", photo[caption][1], None, " known " in caption, None)
            )  # fmt: skip
    return ratings_table(rows), people


def curated(ratings: pd.DataFrame, known: list[tuple[str, ...]], abuse: AbuseList, defences: bool) -> Curated:
    """What the pipeline makes of it."""
    seen = sorted(set(ratings["image_id"]))
    facts = pd.DataFrame({"sha256": seen, "width": 128, "height": 128, "good": True, "missing": False})
    shas = [hashlib.sha256(f"known {n}".encode()).hexdigest() for n in range(len(known))]
    images = pd.DataFrame({"image_id": [f"known {n}" for n in range(len(known))], "sha256": shas})
    captions = pd.DataFrame(
        [(f"known {n}", text) for n, said in enumerate(known) for text in said], columns=["image_id", "text"]
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
    given = arguments.parse_args()
    with open("conf/base/abuse.txt", encoding="utf-8") as file:  # noqa: PTH123
        abuse = AbuseList.parse(file.read())
    known = descriptions("sample", "val", ROUNDS * GOLD)
    print("| the colluders | defences | abuse used | praised used | honest used | colluders trusted |")
    print("|---|---|---:|---:|---:|---:|")
    for attack in ATTACKS:
        for defences in (True, False):
            found = []
            for seed in range(given.seeds):
                ratings, people = ratings_of(attack, seed, known)
                made = curated(ratings, known, abuse, defences)
                used = pd.concat([made.references, made.held_out])
                bad = set(people.colluders())
                new = ~ratings["image_id"].isin(
                    [hashlib.sha256(f"known {n}".encode()).hexdigest() for n in range(len(known))]
                )
                honest = ratings[new & ratings["correction"].notna() & ~ratings["rater"].isin(bad)]
                raters = made.judged.raters
                trusted = raters[raters["rater"].isin(bad) & (raters["weight"] >= 0.35)]
                kept = used["ratings"].isin(honest["rating_id"].astype(str)) & (
                    used["source"] == "correction"
                )
                found.append(
                    (
                        used["text"].isin(attack.abuse).sum(),
                        (used["text"] == people.praised).sum(),
                        kept.sum() / max(1, len(honest)),
                        len(trusted) / max(1, len(bad)),
                    )
                )
            abusive, praised, honestly, believed = np.array(found, float).mean(0)
            print(
                f"| {attack.name} | {'on' if defences else 'off'} | {abusive:.1f} | {praised:.1f} "
                f"| {100 * honestly:.0f} % | {100 * believed:.0f} % |",
                flush=True,
            )


if __name__ == "__main__":
    main()
