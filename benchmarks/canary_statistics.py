"""How often a canary's ratings decide wrongly, and how many they take, while looked at after every rating.

    python -m benchmarks.canary_statistics --trials 2000

Stars from 1 to 5 are drawn by rounding a normal number, cut at the ends, so that their standard deviation is
about 1.1 and the means differ as told.
"""

import argparse
from collections import Counter
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from captionloop.registry.sequential import RatingComparison

MEAN, SPREAD = 3.4, 1.17
DIFFERENCES = (-0.3, 0.0, 0.15, 0.3, 0.5)


def stars(generator: np.random.Generator, count: int, difference: float) -> NDArray[np.float64]:
    """Ratings whose mean is higher by `difference` than without one."""
    # What is cut off at the ends is made up for: the slope of the mean of the stars, found on many.
    shift = difference / 0.875
    return np.clip(np.rint(generator.normal(MEAN + shift, SPREAD, count)), 1, 5)


def play(trials: int, difference: float, share: float, most: int) -> tuple[Counter[str], float]:
    """What was decided how often, and after how many ratings on average."""
    told: Counter[str] = Counter()
    taken = []
    for seed in range(trials):
        generator = np.random.default_rng(seed)
        comparison = RatingComparison(share=share, most=most)
        of_candidate = generator.random(most) < share
        candidate, champion = stars(generator, most, difference), stars(generator, most, 0.0)
        for number in range(most):
            chosen = bool(of_candidate[number])
            if comparison.add(float((candidate if chosen else champion)[number]), of_candidate=chosen) != (
                "not decided yet"
            ):
                break
        told[comparison.verdict] += 1
        taken.append(comparison.candidate.ratings + comparison.champion.ratings)
    return told, fmean(taken)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    trials = parser.parse_args().trials
    print("| share | at most | true difference | better | worse | ratings on average |")
    print("|---:|---:|---:|---:|---:|---:|")
    for share, most in ((0.5, 400), (0.2, 625), (0.1, 1111)):
        for difference in DIFFERENCES:
            told, taken = play(trials, difference, share, most)
            better, worse = (100 * told[each] / trials for each in ("better", "worse"))
            print(f"| {share} | {most} | {difference:+.2f} | {better:.1f} % | {worse:.1f} % | {taken:.0f} |")


if __name__ == "__main__":
    main()
