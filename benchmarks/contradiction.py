"""How often people contradict themselves, and how often chance does: to choose `feedback.contradiction`.

    python -m benchmarks.contradiction data/02_intermediate/flickr8k/captions.parquet

One caption of each photo is "served", and gets the stars that people would give it (`SimulatedQuality`, as in
`benchmarks.loop`); another one is the correction, of the same photo or of some other. Of those whose served
caption is praised, the shares whose likeness is not above a bound. Takes seconds: nothing is trained.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from captionloop.feedback.feedback_parameters import Contradiction
from captionloop.feedback.simulation import SimulatedItem, SimulatedQuality, stars_for
from captionloop.scoring.ngrams import Rarity

BOUNDS = (0.0, 0.02, 0.05, 0.1, 0.15)


def praised(photos: dict[str, list[str]], stars: int) -> list[str]:
    """The photos whose first caption gets so many stars of those who know the others."""
    shown = [SimulatedItem(photo, texts[0], texts[1:]) for photo, texts in photos.items()]
    shares = SimulatedQuality(photos).share(shown)
    return [photo for photo, share in zip(photos, shares, strict=True) if stars_for(share) >= stars]


def likenesses(
    photos: dict[str, list[str]], served: Sequence[str], rarity: Rarity, rng: random.Random
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of the served captions with a correction of the same photo, and with one of any photo."""
    everything = list(photos)
    own = [rarity.similarity(photos[one][0], rng.choice(photos[one][1:])) for one in served]
    other = [rarity.similarity(photos[one][0], rng.choice(photos[rng.choice(everything)])) for one in served]
    return np.array(own), np.array(other)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("captions", type=Path, help="a validated corpus's captions.parquet")
    arguments.add_argument("--photos", type=int, default=2000)
    arguments.add_argument("--stars", type=int, default=Contradiction().stars)
    given = arguments.parse_args()
    captions = pd.read_parquet(given.captions)
    described = {str(photo): list(texts) for photo, texts in captions.groupby("image_id")["text"]}
    photos = {photo: texts for photo, texts in described.items() if len(texts) > 2}
    rng = random.Random(0)
    chosen = dict(rng.sample(sorted(photos.items()), min(given.photos, len(photos))))
    served = praised(chosen, given.stars)
    own, other = likenesses(chosen, served, Rarity(described.values()), rng)
    print(f"{len(served)} of {len(chosen)} photos whose caption gets {given.stars} stars or more\n")
    print("| likeness at most | corrections of the same photo | of another |\n|---:|---:|---:|")
    for bound in BOUNDS:
        print(f"| {bound} | {100 * (own <= bound).mean():.1f} % | {100 * (other <= bound).mean():.1f} % |")


if __name__ == "__main__":
    main()
