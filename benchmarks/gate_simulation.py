"""How often the promotion gate errs, on pairs of models whose true difference is known.

    python -m benchmarks.gate_simulation                         # sample scenes, 200 photos
    python -m benchmarks.gate_simulation --photos 1000 --margin 0.03 --cider 0.55 \\
        --captions ../shared/data/flickr8k/dataset_flickr8k.json

A simulated model answers a photo either with something that a person said about it, or with something said
about the photo most like it. How often it does the first is its quality. So its true CIDEr is known, while
its scores scatter over photos as those of real captions do. The candidate repeats the champion's caption on a
share of the photos, as a retrained model does, and answers the others by itself, with the quality that gives
the wanted difference. Each trial draws photos anew and asks the gate, guardrails and all.
"""

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captionloop.corpus.scenes.layout import compose
from captionloop.corpus.scenes.scene_captions import describe
from captionloop.corpus.scenes.world import DOMAINS
from captionloop.registry.gate import GateParameters, decide
from captionloop.registry.scored_captions import ScoredCaptions
from captionloop.scoring.scores import Scores, score_systems
from captionloop.tokenizer import word_tokens

Chosen = NDArray[np.int64]  # which of the four answers a model gives to each photo
RIGHT, OTHER_RIGHT, WRONG, OTHER_WRONG = range(4)
DIFFERENCES = (-0.30, -0.22, -0.15, -0.10, -0.05, -0.03, -0.02, 0.0, 0.02, 0.03, 0.05, 0.10)


@dataclass(frozen=True)
class Population:
    """Photos with four possible answers each, two about it and two not, all scored against other
    references.
    """

    answers: list[dict[str, str]]
    scores: list[Scores]

    def cider(self, answer: int) -> float:
        """Mean over the population."""
        return float(self.scores[answer].cider().mean())

    def evidence(self, name: str, photos: Chosen, chosen: Chosen) -> ScoredCaptions:
        """What a model that gives the `chosen` answers is worth on some photos (drawn with replacement)."""
        ids = tuple(f"{place}" for place in range(len(photos)))
        per_image = {
            family: np.stack([one.per_image[family] for one in self.scores])[chosen, photos]
            for family in self.scores[0].per_image
        }
        keys = self.scores[0].image_ids
        captions = {
            image_id: self.answers[answer][keys[photo]]
            for image_id, photo, answer in zip(ids, photos, chosen, strict=True)
        }
        return ScoredCaptions(name, "simulated", captions, Scores(ids, per_image))


@dataclass(frozen=True)
class Setting:
    """What is simulated. `quality` is the champion's, `same` the share of captions the candidate repeats."""

    photos: int
    quality: float
    same: float
    parameters: GateParameters


@dataclass(frozen=True)
class Row:
    """What came of all trials with one true difference."""

    difference: float
    promoted: float
    held: float
    spread: float


def sample_captions(photos: int) -> dict[str, list[str]]:
    """Captions of sample scenes that nobody has to draw for this."""
    domain, found = DOMAINS["sample"], {}
    for number in range(photos):
        rng = random.Random(f"gate/{number}")
        found[str(number)] = list(describe(domain, compose(domain, rng), rng, 5))
    return found


def karpathy_captions(path: Path, split: str) -> dict[str, list[str]]:
    """Captions of one split of a Karpathy JSON file."""
    images = json.loads(path.read_text(encoding="utf-8"))["images"]
    return {
        image["filename"]: [sentence["raw"] for sentence in image["sentences"]][:5]
        for image in images
        if image["split"] == split and len(image["sentences"]) >= 5
    }


def population(captions: dict[str, list[str]]) -> Population:
    """Two captions of every photo become answers, the other three its references."""
    ids = list(captions)
    alike = most_alike(captions)
    references = {image_id: texts[2:] for image_id, texts in captions.items()}
    answers = [{image_id: captions[image_id][which] for image_id in ids} for which in (0, 1)]
    answers += [{image_id: captions[alike[image_id]][which] for image_id in ids} for which in (0, 1)]
    scored = score_systems({str(number): answer for number, answer in enumerate(answers)}, references)
    return Population(answers, [scored[str(number)] for number in range(4)])


def most_alike(captions: dict[str, list[str]]) -> dict[str, str]:
    """For every photo the other one whose captions share most words with its own (cosine of tf-idf)."""
    ids = list(captions)
    words = [set(word_tokens(" ".join(texts))) for texts in captions.values()]
    place = {word: number for number, word in enumerate(sorted(set().union(*words)))}
    bags = np.zeros((len(ids), len(place)), np.float32)
    for row, known in zip(bags, words, strict=True):
        row[[place[word] for word in known]] = 1
    bags *= np.log(len(ids) / bags.sum(0))
    bags /= np.maximum(np.linalg.norm(bags, axis=1, keepdims=True), 1e-9)
    likeness = bags @ bags.T
    np.fill_diagonal(likeness, -1)
    return {image_id: ids[other] for image_id, other in zip(ids, likeness.argmax(1), strict=True)}


def quality_for(people: Population, setting: Setting, difference: float) -> float:
    """How often the candidate must be right, where it answers by itself, to differ by this much in CIDEr.

    Outside of 0 to 1 no candidate does.
    """
    champion = people.cider(WRONG) + setting.quality * (people.cider(RIGHT) - people.cider(WRONG))
    wanted = champion + difference / (1 - setting.same)
    return (wanted - people.cider(OTHER_WRONG)) / (people.cider(OTHER_RIGHT) - people.cider(OTHER_WRONG))


def trial(people: Population, setting: Setting, difference: float, seed: int) -> tuple[bool, bool, float]:
    """One pair of models on newly drawn photos: promoted? CIDEr held? spread of the difference per photo."""
    rng = np.random.default_rng(seed)
    photos = rng.integers(0, len(people.scores[0].image_ids), setting.photos)
    champion = np.where(rng.random(setting.photos) < setting.quality, RIGHT, WRONG)
    own = rng.random(setting.photos) < quality_for(people, setting, difference)
    repeats = rng.random(setting.photos) < setting.same
    candidate = np.where(repeats, champion, np.where(own, OTHER_RIGHT, OTHER_WRONG))
    new, old = (
        people.evidence(name, photos, chosen) for name, chosen in (("new", candidate), ("old", champion))
    )
    decision = decide(new, old, setting.parameters)
    return (
        decision.promoted,
        decision.checks[0].passed,
        float(np.std(new.scores.cider() - old.scores.cider())),
    )


def simulate(people: Population, setting: Setting, trials: int, workers: int) -> Iterator[Row]:
    """A row for every difference."""
    with Pool(workers) as pool:
        for difference in DIFFERENCES:
            if not 0 <= quality_for(people, setting, difference) <= 1:
                continue
            jobs = [(people, setting, difference, seed) for seed in range(trials)]
            found = pool.starmap(trial, jobs, chunksize=max(1, trials // (4 * workers)))
            promoted, held, spread = np.array(found, float).mean(0)
            yield Row(difference, promoted, held, spread)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--captions", type=Path, help="Karpathy JSON; default: sample scenes")
    arguments.add_argument("--split", default="val")
    arguments.add_argument("--photos", type=int, default=200)
    arguments.add_argument("--margin", type=float, default=0.22)
    arguments.add_argument("--cider", type=float, default=2.8, help="of the champion, as a fraction")
    arguments.add_argument("--same", type=float, default=0.7)
    arguments.add_argument("--trials", type=int, default=1000)
    arguments.add_argument("--resamples", type=int, default=500)
    arguments.add_argument("--workers", type=int, default=2)
    given = arguments.parse_args()
    captions = karpathy_captions(given.captions, given.split) if given.captions else sample_captions(1500)
    people = population(captions)
    parameters = GateParameters(margin=given.margin, resamples=given.resamples)
    print(
        f"An answer about the photo: CIDEr {100 * people.cider(RIGHT):.0f} and "
        f"{100 * people.cider(OTHER_RIGHT):.0f}; about the photo most like it: "
        f"{100 * people.cider(WRONG):.0f} and {100 * people.cider(OTHER_WRONG):.0f}"
    )
    quality = (given.cider - people.cider(WRONG)) / (people.cider(RIGHT) - people.cider(WRONG))
    if not 0 <= quality <= 1:
        arguments.error(
            f"--cider {given.cider}: a simulated model reaches {people.cider(WRONG):.2f} to "
            f"{people.cider(RIGHT):.2f}"
        )
    setting = Setting(given.photos, quality, given.same, parameters)
    print(
        f"{given.photos} photos, champion's CIDEr {100 * given.cider:.0f}, margin {100 * given.margin:.0f} "
        f"points, {100 * given.same:.0f} % of captions the same, {given.trials} trials\n"
    )
    print("| true difference (CIDEr x100) | promoted | CIDEr held, guardrails aside | spread per photo |")
    print("|---:|---:|---:|---:|")
    for row in simulate(people, setting, given.trials, given.workers):
        print(
            f"| {100 * row.difference:+.0f} | {100 * row.promoted:.1f} % | {100 * row.held:.1f} % "
            f"| {100 * row.spread:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
