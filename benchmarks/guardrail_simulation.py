"""How often the guardrails of truth and of kinds of photos refuse a candidate, on simulated models.

    python -m benchmarks.guardrail_simulation                               # sample scenes, 2,000 photos
    python -m benchmarks.guardrail_simulation --photos 1000 --cider 0.55 --same 0.7 \\
        --captions data/01_raw/flickr8k/dataset_flickr8k.json

Models are simulated as in `benchmarks.gate_simulation`. Captions of scenes are held against the facts of the
scenes, others against all references of their photo. Candidates are *equal* to the champion; or worse in
CIDEr by some points everywhere; or *fallen* on photos of one kind, where they answer rightly that much less
often, and so much better elsewhere that CIDEr is the same in the mean. Each trial draws the photos anew and
asks the guardrails alone, with their limits as they are by default.
"""

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.gate_simulation import (
    OTHER_RIGHT,
    OTHER_WRONG,
    RIGHT,
    WRONG,
    karpathy_captions,
    most_alike,
)
from captionloop.corpus.scenes.layout import Facts, compose
from captionloop.corpus.scenes.scene_captions import describe
from captionloop.corpus.scenes.world import DOMAINS
from captionloop.evaluation.hallucination import hallucination_counter
from captionloop.evaluation.subgroups import Subgroup, subgroups
from captionloop.registry.gate_decision import Guardrails
from captionloop.registry.guardrails import ERROR, surely_lost
from captionloop.scoring.cider import CiderD
from captionloop.tokenizer import word_tokens

RESAMPLES = 400
LOSSES = (0.03, 0.1, 0.22)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """Photos with the CIDEr and the untrue things of each possible answer, and the kinds they are of."""

    cider: Floats  # [answers, photos]
    untrue: Floats  # [answers, photos]
    kinds: Sequence[Subgroup]

    def draw(  # noqa: ANN201
        self, quality: Floats, luck: Floats, is_first_wording: NDArray[np.bool_], photos: NDArray[np.int64]
    ):
        """CIDEr and untrue things of a model on some photos, right as often as `quality` says of each."""
        right = luck < quality
        answers = np.where(
            right,
            np.where(is_first_wording, RIGHT, OTHER_RIGHT),
            np.where(is_first_wording, WRONG, OTHER_WRONG),
        )
        return self.cider[answers, photos], self.untrue[answers, photos]


@dataclass(frozen=True)
class Row:
    """Of all trials: mean differences, and shares that were refused by either guardrail."""

    cider: float
    rise: float
    invents: float
    collapses: float
    right_kind: float


def scenes(count: int) -> tuple[dict[str, list[str]], dict[str, Facts]]:
    """Captions and facts of sample scenes."""
    domain, captions, facts = DOMAINS["sample"], {}, {}
    for number in range(count):
        rng = random.Random(f"gate/{number}")
        facts[str(number)] = compose(domain, rng)
        captions[str(number)] = list(describe(domain, facts[str(number)], rng, 5))
    return captions, facts


def world_of(captions: dict[str, list[str]], facts: dict[str, Facts], photos: int, least: int) -> World:
    """The answers of a population, with what is untrue in each, and the kinds that there will be."""
    ids, alike, truth = list(captions), most_alike(captions), hallucination_counter(captions, facts)
    texts_by_wording = [[captions[of][which] for of in ids] for which in (0, 1)]
    texts_by_wording += [[captions[alike[of]][which] for of in ids] for which in (0, 1)]
    cider_scorer = CiderD({i: [word_tokens(text) for text in texts[2:]] for i, texts in captions.items()})
    cider = [cider_scorer.rewards(ids, [word_tokens(text) for text in texts]) for texts in texts_by_wording]
    untrue = [
        [truth.count(i, text) for i, text in zip(ids, texts, strict=True)] for texts in texts_by_wording
    ]
    share = round(least * len(ids) / photos)  # so that a sample of `photos` has about `least` of them
    kinds = subgroups(ids, captions, facts, share)
    return World(np.array(cider, float), np.array(untrue, float), kinds)


def simulate(
    world: World,
    level: float,
    lost: float,
    fallen: Subgroup | None,
    *,
    photos: int,
    same: float,
    trials: int,
    seed: int = 0,
) -> Row:
    """Plays all trials: the candidate has lost some CIDEr everywhere, or a share of it on one kind."""
    rng, limits = np.random.default_rng(seed), Guardrails()
    right = (world.cider[RIGHT].mean() + world.cider[OTHER_RIGHT].mean()) / 2
    wrong = (world.cider[WRONG].mean() + world.cider[OTHER_WRONG].mean()) / 2
    usual = (level - wrong) / (right - wrong)
    # The gate draws the same resamples each time, too: its seed is fixed, and the photos are others.
    weights = np.random.default_rng(0).multinomial(photos, np.full(photos, 1 / photos), size=RESAMPLES)
    draws = weights / photos
    found: list[tuple[float, ...]] = []
    for _ in range(trials):
        drawn = rng.integers(0, world.cider.shape[1], photos)
        luck, own = rng.random((2, photos))
        is_first_wording, other = rng.random((2, photos)) < 0.5
        follows = rng.random(photos) < same
        before = np.full(photos, usual)
        if fallen is None:
            after = np.full(photos, usual - lost / (right - wrong))
        else:
            there = fallen.member[drawn]
            drop = lost * level / (right - wrong)
            after = np.where(there, usual - drop, usual + drop * there.mean() / (1 - there.mean()))
        old, old_untrue = world.draw(before, luck, is_first_wording, drawn)
        new, new_untrue = world.draw(
            after, np.where(follows, luck, own), np.where(follows, is_first_wording, other), drawn
        )
        rises = new_untrue - old_untrue
        lowest = float(np.percentile(draws @ rises, 2.5))
        kinds = [(kind, kind.member[drawn]) for kind in world.kinds]
        kinds = [(kind, member) for kind, member in kinds if member.sum() >= limits.group_photos]
        worst = {
            kind.by + kind.name: surely_lost(new[member], old[member], ERROR / len(kinds))
            for kind, member in kinds
        }
        refused = {name for name, value in worst.items() if value > limits.group_drop}
        hit = fallen is not None and fallen.by + fallen.name in refused
        invents = lowest > limits.hallucinations
        found.append((float((new - old).mean()), float(rises.mean()), invents, bool(refused), hit))
    return Row(*np.array(found, float).mean(0))


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--captions", type=Path, help="Karpathy JSON; default: sample scenes")
    arguments.add_argument("--split", default="val")
    arguments.add_argument("--photos", type=int, default=2000)
    arguments.add_argument("--cider", type=float, default=3.2, help="of the champion, as a fraction")
    arguments.add_argument("--same", type=float, default=0.42)
    arguments.add_argument("--trials", type=int, default=400)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    captions, facts = (karpathy_captions(given.captions, given.split), {}) if given.captions else scenes(1500)
    world = world_of(captions, facts, given.photos, Guardrails().group_photos)
    asked = {"photos": given.photos, "same": given.same, "trials": given.trials, "seed": given.seed}
    sizes = sorted(world.kinds, key=lambda kind: int(kind.member.sum()))
    small, middle = sizes[0], sizes[len(sizes) // 2]
    ways: list[tuple[str, float, Subgroup | None]] = [
        ("equal", 0.0, None),
        *((f"worse by {100 * lost:g} points", lost, None) for lost in LOSSES if lost < given.cider / 4),
    ]
    for kind in (small, middle):
        share = kind.member.mean()
        ways += [
            (
                f"{kind.by} {kind.name} ({100 * share:.0f} % of photos) fallen by {100 * lost:.0f} %",
                lost,
                kind,
            )
            for lost in (0.25, 0.4)
        ]
    kinds = len(world.kinds)
    print(f"{given.photos} photos, {kinds} kinds, {given.trials} trials, seed {given.seed}\n")
    print(
        "| the candidate is | CIDEr x100 | untrue per caption | refused for these | refused for a kind "
        "| for that kind |\n|---|---:|---:|---:|---:|---:|"
    )
    for name, lost, kind in ways:
        row = simulate(world, given.cider, lost, kind, **asked)
        hit = f"{100 * row.right_kind:.1f} %" if kind else ""
        print(
            f"| {name} | {100 * row.cider:+.1f} | {row.rise:+.3f} | {100 * row.invents:.1f} % "
            f"| {100 * row.collapses:.1f} % | {hit} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
