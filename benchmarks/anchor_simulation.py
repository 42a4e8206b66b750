"""How far what is served can walk downhill, one candidate after the other, with and without an anchor.

    python -m benchmarks.anchor_simulation                                  # sample scenes, 2,000 photos
    python -m benchmarks.anchor_simulation --photos 1000 --margin 0.03 --cider 0.55 --same 0.7 \\
        --captions data/01_raw/flickr8k/dataset_flickr8k.json

Models are simulated as in `benchmarks.gate_simulation`: each answers a photo with something that a person
said about it, or about the photo most like it, and how often it does the first decides its true CIDEr. Every
round brings a candidate to the gate, on the same frozen photos each time. The gate's first question alone is
asked: is its CIDEr no lower than that of the champion by more than the margin, and than that of the anchor,
the best so far by these photos? All trials of a round are one matrix product, with the gate's own resamples.

The rows of a table are ways in which candidates come:
*half*: each truly half a margin worse than what is served; *half, best of ten*: ten of these, of which the
best by the frozen photos is brought; *about half*: as much worse as chance says, half a margin in the mean, a
quarter its spread; *at the edge*: each 1.1 margins worse than the best that was served; *as they come*: as
good as what is served in the mean, half a margin the spread.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.gate_simulation import (
    OTHER_RIGHT,
    OTHER_WRONG,
    RIGHT,
    WRONG,
    Population,
    karpathy_captions,
    population,
    sample_captions,
)

Floats = NDArray[np.float64]
Step = Callable[[np.random.Generator, int], Floats]  # how much worse, in margins, than what it starts from


@dataclass(frozen=True)
class Way:
    """How candidates come: `step` in margins, from what is served or from the best; the best of `picks`."""

    name: str
    step: Step
    picks: int = 1
    from_best: bool = False


@dataclass(frozen=True)
class Rule:
    """How candidates are judged. `anchor` is the confidence of the interval against it; None: no anchor."""

    name: str
    anchor: float | None


@dataclass(frozen=True)
class World:
    """Photos with the scores of all possible answers, and the gate's margin."""

    scores: Floats  # [answers, photos]
    photos: int
    margin: float
    same: float
    resamples: int
    start: float
    """True CIDEr of the first champion."""

    def quality(self, cider: Floats) -> Floats:
        """How often a model is right that has this true CIDEr; no model is better than always right."""
        right, wrong = self.levels()
        quality: Floats = np.clip((cider - wrong) / (right - wrong), 0, 1)
        return quality

    def levels(self) -> tuple[float, float]:
        """True CIDEr of a model that is always right, and of one that never is."""
        means = self.scores.mean(1)
        return (means[RIGHT] + means[OTHER_RIGHT]) / 2, (means[WRONG] + means[OTHER_WRONG]) / 2


@dataclass(frozen=True)
class Outcome:
    """Of all trials of one way and one rule."""

    promoted: float
    below_anchor: float
    """Share of trials in which something was ever served that is truly over a margin below the anchor."""
    below_best: float
    """The same, below the truly best that was served."""
    end: float
    """True CIDEr of what is served at the end, less that of the first champion."""
    better_lost: float
    """Share of the candidates truly better than what is served that were refused."""
    optimism: float
    """By how much the frozen photos flatter what is served at the end, against the first champion."""


WAYS = (
    Way("half", lambda _, n: np.full(n, 0.5)),
    Way("half, best of ten", lambda _, n: np.full(n, 0.5), picks=10),
    Way("about half", lambda rng, n: rng.normal(0.5, 0.25, n)),
    Way("at the edge", lambda _, n: np.full(n, 1.1), from_best=True),
    Way("as they come", lambda rng, n: rng.normal(0, 0.5, n)),
    Way("as they come, best of ten", lambda rng, n: rng.normal(0, 0.5, n), picks=10),
)
RULES = (
    Rule("champion only", None),
    Rule("anchor at 95 %", 0.95),
    Rule("anchor at 99 %", 0.99),
)


def walk(world: World, way: Way, rule: Rule, rounds: int, trials: int, seed: int = 0) -> Outcome:
    """Plays all trials of some rounds at once."""
    rng = np.random.default_rng(seed)
    simulation = _Simulation(world, trials, rng)
    weights = np.random.default_rng(0).multinomial(
        world.photos, np.full(world.photos, 1 / world.photos), size=world.resamples
    )
    draws = (weights / world.photos).astype(np.float32)
    served_true = anchor_true = best_true = np.full(trials, world.start)
    first = served = anchor = simulation.measured_scores(served_true)
    fell_anchor, fell_best = np.zeros(trials, bool), np.zeros(trials, bool)
    promotions, better, lost = 0, 0, 0
    for _ in range(rounds):
        reference = best_true if way.from_best else served_true
        chosen, chosen_true = np.empty_like(served), np.empty(trials)
        best_mean = np.full(trials, -np.inf)
        for _ in range(way.picks):
            true = _possible(world, reference - world.margin * way.step(rng, trials))
            scores = simulation.measured_scores(true)
            ahead = scores.mean(1) > best_mean
            best_mean = np.where(ahead, scores.mean(1), best_mean)
            chosen[ahead], chosen_true = scores[ahead], np.where(ahead, true, chosen_true)
        passed = lowest(draws, chosen - served, 0.95) >= -world.margin
        if rule.anchor is not None:
            other = (anchor != served).any(1)
            held = lowest(draws, chosen - anchor, rule.anchor) >= -world.margin
            passed &= held | ~other
        ahead = chosen_true > served_true
        better, lost = better + int(ahead.sum()), lost + int((ahead & ~passed).sum())
        promotions += int(passed.sum())
        served = np.where(passed[:, None], chosen, served)
        served_true = np.where(passed, chosen_true, served_true)
        top = passed & (served.mean(1) > anchor.mean(1))
        anchor = np.where(top[:, None], served, anchor)
        anchor_true = np.where(top, served_true, anchor_true)
        best_true = np.maximum(best_true, served_true)
        fell_anchor |= served_true < anchor_true - 1.0001 * world.margin
        fell_best |= served_true < best_true - 1.0001 * world.margin
    measured = (served - first).mean(1)
    return Outcome(
        promotions / (rounds * trials),
        float(fell_anchor.mean()),
        float(fell_best.mean()),
        float((served_true - world.start).mean()),
        lost / better if better else float("nan"),
        float((measured - (served_true - world.start)).mean()),
    )


def lowest(draws: NDArray[np.float32], differences: Floats, confidence: float) -> Floats:
    """The low end of the percentile interval of each row's mean, as `scoring.bootstrap` has it."""
    means = draws @ differences.T.astype(np.float32)  # [resamples, trials]
    ends: Floats = np.percentile(means, 50 * (1 - confidence), axis=0)
    return np.minimum(ends, differences.mean(1))


class _Simulation:
    """Models that are retrained from one origin: on a share of the photos they say what it makes them say."""

    def __init__(self, world: World, trials: int, rng: np.random.Generator) -> None:
        self._world, self._rng = world, rng
        shape = trials, world.photos
        self._photos = rng.integers(0, world.scores.shape[1], shape)
        self._luck, self._wording = rng.random(shape, np.float32), rng.random(shape, np.float32) < 0.5

    def measured_scores(self, cider: Floats) -> Floats:
        """Scores `[trials, photos]` of a new model in each trial, by its true CIDEr."""
        shape = self._photos.shape
        follows = self._rng.random(shape, np.float32) < np.sqrt(self._world.same)
        luck = np.where(follows, self._luck, self._rng.random(shape, np.float32))
        is_first_wording = np.where(follows, self._wording, self._rng.random(shape, np.float32) < 0.5)
        right = luck < self._world.quality(cider)[:, None]
        answers = np.where(
            right,
            np.where(is_first_wording, RIGHT, OTHER_RIGHT),
            np.where(is_first_wording, WRONG, OTHER_WRONG),
        )
        scores: Floats = self._world.scores[answers, self._photos]
        return scores


def _possible(world: World, cider: Floats) -> Floats:
    right, wrong = world.levels()
    return np.clip(cider, wrong, right)


def world_of(
    people: Population, photos: int, margin: float, cider: float, same: float, resamples: int
) -> World:
    """The photos of a population, under the gate's margin."""
    return World(np.stack([one.cider() for one in people.scores]), photos, margin, same, resamples, cider)


def spread(world: World, seed: int = 0) -> float:
    """Standard deviation per photo of the difference of two equally good models."""
    simulation, level = _Simulation(world, 20, np.random.default_rng(seed)), np.full(20, world.start)
    return float((simulation.measured_scores(level) - simulation.measured_scores(level)).std())


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--captions", type=Path, help="Karpathy JSON; default: sample scenes")
    arguments.add_argument("--split", default="val")
    arguments.add_argument("--photos", type=int, default=2000)
    arguments.add_argument("--margin", type=float, default=0.22)
    arguments.add_argument("--cider", type=float, default=3.2, help="of the first champion, as a fraction")
    arguments.add_argument("--same", type=float, default=0.26, help="photos on which two say the same")
    arguments.add_argument("--rounds", type=int, default=50)
    arguments.add_argument("--trials", type=int, default=200)
    arguments.add_argument("--resamples", type=int, default=1000)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    captions = karpathy_captions(given.captions, given.split) if given.captions else sample_captions(1500)
    world = world_of(
        population(captions), given.photos, given.margin, given.cider, given.same, given.resamples
    )
    right, wrong = world.levels()
    if not wrong <= given.cider <= right:
        arguments.error(f"--cider {given.cider}: a simulated model reaches {wrong:.2f} to {right:.2f}")
    print(
        f"{given.photos} photos, first champion's CIDEr {100 * given.cider:.0f}, margin "
        f"{100 * given.margin:.0f} points, spread per photo {100 * spread(world):.0f}, "
        f"{given.rounds} rounds, {given.trials} trials, seed {given.seed}\n"
    )
    print(
        "| candidates | judged by | promoted | ever over a margin below the anchor | ... below the best "
        "| served at the end | better ones lost | flattered by |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for way in WAYS:
        for rule in RULES:
            found = walk(world, way, rule, given.rounds, given.trials, given.seed)
            lost = "" if np.isnan(found.better_lost) else f"{100 * found.better_lost:.1f} %"
            print(
                f"| {way.name} | {rule.name} | {100 * found.promoted:.1f} % "
                f"| {100 * found.below_anchor:.1f} % "
                f"| {100 * found.below_best:.1f} % | {100 * found.end:+.1f} | {lost} "
                f"| {100 * found.optimism:+.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
