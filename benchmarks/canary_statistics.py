"""How often a canary's ratings decide wrongly, and how many they take, while looked at after every rating.

    python -m benchmarks.canary_statistics --trials 2000

Stars from 1 to 5 are drawn by rounding a normal number, cut at the ends, so that their standard deviation is
about 1.1 and the means differ as told.

The second table is of the whole judgement, `registry/canary_judgement.py`: stars, corrections and changed
words together, with people who give several ratings each, which are alike.
"""

import argparse
from collections import Counter
from datetime import UTC, datetime, timedelta
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from captionloop.registry.canary_judgement import (
    CanaryEvidence,
    CanaryRating,
    RatingComparison,
    assess_canary,
)
from captionloop.registry.model_version import ModelVersion
from captionloop.registry.trials import Plan, Trial, ratings_needed

MEAN, SPREAD = 3.4, 1.17
DIFFERENCES = (-0.3, 0.0, 0.15, 0.3, 0.5)


def stars(generator: np.random.Generator, count: int, difference: float) -> NDArray[np.float64]:
    """Ratings whose mean is higher by `difference` than without one."""
    # What is cut off at the ends is made up for: the slope of the mean of the stars, found on many.
    shift = difference / 0.875
    return np.clip(np.rint(generator.normal(MEAN + shift, SPREAD, count)), 1, 5)


def play(trials: int, difference: float, share: float, max_ratings: int) -> tuple[Counter[str], float]:
    """What was decided how often, and after how many ratings on average."""
    verdicts: Counter[str] = Counter()
    taken = []
    for seed in range(trials):
        generator = np.random.default_rng(seed)
        comparison = RatingComparison(share=share, max_ratings=max_ratings)
        of_candidate = generator.random(max_ratings) < share
        candidate, champion = stars(generator, max_ratings, difference), stars(generator, max_ratings, 0.0)
        for number in range(max_ratings):
            chosen = bool(of_candidate[number])
            if comparison.add(float((candidate if chosen else champion)[number]), of_candidate=chosen) != (
                "not decided yet"
            ):
                break
        verdicts[comparison.verdict] += 1
        taken.append(comparison.candidate.ratings + comparison.champion.ratings)
    return verdicts, fmean(taken)


BEGAN = datetime(2026, 11, 22, tzinfo=UTC)
WORDS = ["a", "brown", "dog", "and", "a", "small", "child", "play", "on", "the", "grass"]
CORRECTIONS = [" ".join(["other"] * changed + WORDS[changed:]) for changed in range(1, 8)]
CORRECTED = {1: 0.6, 2: 0.5, 3: 0.25, 4: 0.1, 5: 0.02}
"""How often ratings of so many stars come with a correction."""


def play_canary(
    trials: int,
    difference: float,
    *,
    share: float = 0.5,
    per_person: float = 3,
    alike: float = 0.3,
    max_ratings: int = 400,
) -> Counter[str]:
    """What was advised how often, where people give `per_person` ratings on average, correlated by `alike`.

    All ratings are there at once, and are played through one by one, as `assess_canary` does.
    """
    plan = Plan(
        role="canary", share=share, champion=4, began=BEGAN, most=ratings_needed(share, max_ratings), days=14
    )
    trial = Trial(ModelVersion("captioner", 5, "f", BEGAN, "", ""), plan, is_void=False)
    advice: Counter[str] = Counter()
    for seed in range(trials):
        ratings = rated(trial, np.random.default_rng(seed), difference, per_person, alike)
        advice[assess_canary(trial, CanaryEvidence(ratings, {}), BEGAN + timedelta(days=1)).advice] += 1
    return advice


def rated(
    trial: Trial, generator: np.random.Generator, difference: float, per_person: float, alike: float
) -> list[CanaryRating]:
    """Ratings by enough people, in any order."""
    people = 2 * trial.plan.most
    counts = generator.geometric(1 / per_person, people)
    who = generator.permutation(np.repeat(np.arange(people), counts))[: 6 * trial.plan.most]
    names = [f"person:{generator.integers(2**62):x}" for _ in range(people)]
    chosen = np.array([trial.answers(name) for name in names])
    likes = generator.normal(0, SPREAD * alike**0.5, people)[who]
    noise = generator.normal(0, SPREAD * (1 - alike) ** 0.5, len(who))
    shift = np.where(chosen[who], difference / 0.875, 0)
    given = np.clip(np.rint(MEAN + shift + likes + noise), 1, 5).astype(int)
    chance, words = generator.random(len(who)), generator.integers(len(CORRECTIONS), size=len(who))
    return [
        CanaryRating(
            names[person], "5" if chosen[person] else "4", int(stars), " ".join(WORDS),
            CORRECTIONS[word] if luck < CORRECTED[int(stars)] else None,
        )
        for person, stars, luck, word in zip(who, given, chance, words, strict=True)
    ]  # fmt: skip


def stars_alone(trials: int) -> None:
    """Prints how often ratings of independent people decide, and after how many."""
    print("| share | at most | true difference | better | worse | ratings on average |")
    print("|---:|---:|---:|---:|---:|---:|")
    for share, max_ratings in ((0.5, 400), (0.2, 625), (0.1, 1111)):
        for difference in DIFFERENCES:
            verdicts, taken = play(trials, difference, share, max_ratings)
            better, worse = (100 * verdicts[each] / trials for each in ("better", "worse"))
            row = f"{better:.1f} % | {worse:.1f} % | {taken:.0f}"
            print(f"| {share} | {max_ratings} | {difference:+.2f} | {row} |", flush=True)


def report_by_advice(trials: int) -> None:
    """Prints what the whole judgement comes to."""
    print("| share | ratings a person | correlation | true difference | promoted | rolled back | stopped |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    cases = ((0.5, 1, 0.0), (0.5, 3, 0.3), (0.5, 3, 0.5), (0.5, 10, 0.3), (0.1, 3, 0.3))
    for share, per_person, alike in cases:
        for difference in (0.0, 0.3, -0.3):
            advice = play_canary(trials, difference, share=share, per_person=per_person, alike=alike)
            row = (f"{100 * advice[each] / trials:.1f} %" for each in ("promote", "roll back", "stop"))
            print(f"| {share} | {per_person} | {alike} | {difference:+.1f} | {' | '.join(row)} |", flush=True)


TABLES = {"stars": stars_alone, "judged": report_by_advice}


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--table", choices=list(TABLES), help="only this one")
    chosen = parser.parse_args()
    for name, table in TABLES.items():
        if chosen.table in {None, name}:
            table(chosen.trials)
            print()


if __name__ == "__main__":
    main()
